#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# What libmm.a may contain, read from its objects.
#
# - It defines names that begin with mm_ or mmi_ alone, and needs memcpy, memmove, memset and memcmp
#   alone.
# - It links at any address without a GOT.
# - It has no state: no object has bytes in a writable section (tables of constants lie in
#   .data.rel.ro).
# - It has no vector or x87 instruction, and privileged ones only where the host never links them.
# - It asks for no executable stack.

import argparse
import os
import re
import tempfile

from gate import Gate, read_list, run, source_of

EXPORTS = re.compile(r"mmi?_\w+$")
NEEDS = {"memcpy", "memmove", "memset", "memcmp"}

# Intel SDM volume 3A, section 5.9, "Privileged instructions", and those that need an I/O
# privilege level, or that fault (#UD) outside ring 0: STAC and CLAC, volume 2.
PRIVILEGED = re.compile(
    r"(cli|sti|hlt|lgdt|lidt|lldt|ltr|lmsw|clts|invd|wbinvd|wbnoinvd|invlpga?|invlpgb|tlbsync"
    r"|invpcid|rdmsr|wrmsr|wrmsrns|rdpmc|swapgs|iret[wlq]?|sysret[lq]?|sysexit[lq]?|rsm|xsetbv"
    r"|xsaves\w*|xrstors\w*|monitor|mwait|in[bwl]?|out[bwl]?|ins[bwl]|outs[bwl]|vm\w+|stac|clac)$")
CONTROL_REGISTER = re.compile(r"%[cd]r\d")
VECTOR_REGISTER = re.compile(r"%([xyz]?mm\d|st\b|k[0-7]\b)")

# Where which privileged instructions may stand: the source, and what it may use (None: anything).
NATIVE = [
    (re.compile(r"src/arch/x86_64/native\w*\.[cS]$"), None),
    # The copy for CPUs with SMAP opens and closes user memory around its own loads and stores; an
    # indirect call there would open it for the callee too. The host calls the copy without SMAP.
    (re.compile(r"src/arch/x86_64/user\w*\.S$"), {"stac", "clac"}),
]

PREFIXES = {"lock", "rep", "repz", "repnz", "repe", "repne", "bnd", "notrack", "data16", "cs", "ds",
            "es", "ss", "fs", "gs", "addr32", "rex.W", "xacquire", "xrelease"}
INSTRUCTION = re.compile(r"\s+[0-9a-f]+:\t(.+)$")


def may_use(source, mnemonic):
    for where, which in NATIVE:
        if where.match(source):
            return which is None or mnemonic in which
    return False


def check_instructions(gate, objdump, path, source):
    for line in run(objdump, "-d", "--no-show-raw-insn", path).splitlines():
        found = INSTRUCTION.match(line)
        if not found:
            continue
        words = found.group(1).split("#")[0].split()
        while len(words) > 1 and words[0] in PREFIXES:
            words.pop(0)
        mnemonic, operands = words[0], " ".join(words[1:])
        operands = re.sub(r"<.*>", "", operands)
        gate.checked()
        privileged = PRIVILEGED.match(mnemonic) or CONTROL_REGISTER.search(operands)
        if privileged and not may_use(source, mnemonic):
            gate.breach(source, f"privileged instruction: {' '.join(words)}")
        if VECTOR_REGISTER.search(operands) or mnemonic.startswith("f"):
            gate.breach(source, f"vector or x87 instruction: {' '.join(words)}")


def check_sections(gate, readelf, path, source):
    has_stack_note = False
    for line in run(readelf, "-SW", path).splitlines():
        found = re.match(r"\s*\[\s*\d+\] (\S+)\s+(\S+)\s+\S+ \S+ (\S+) \S+\s+(\S*)\s", line)
        if not found:
            continue
        name, size, flags = found.group(1), int(found.group(3), 16), found.group(4)
        gate.checked()
        if name == ".note.GNU-stack":
            has_stack_note = True
            if "X" in flags:
                gate.breach(source, "asks for an executable stack")
        writable = "W" in flags and "A" in flags and not name.startswith(".data.rel.ro")
        if writable and size > 0:
            gate.breach(source, f"state of its own: {size} bytes in {name}")
        if writable and "X" in flags:
            gate.breach(source, f"writable and executable: {name}")
    if not has_stack_note:
        gate.breach(source, "no .note.GNU-stack section, so the linker assumes an executable stack")


def check_relocations(gate, readelf, path, source):
    for line in run(readelf, "-rW", path).splitlines():
        found = re.search(r"(R_X86_64_\w+)\s+\S*\s*(\S*)", line)
        if not found:
            continue
        gate.checked()
        if "GOT" in found.group(1):
            gate.breach(source, f"{found.group(1)} of {found.group(2)}: declare it hidden")


def check_names(gate, arguments):
    with tempfile.TemporaryDirectory() as directory:
        merged = os.path.join(directory, "merged.o")
        run(arguments.ld, "-r", "--whole-archive", arguments.archive, "-o", merged)
        for line in run(arguments.nm, "-g", "-P", merged).splitlines():
            name, kind = line.split()[:2]
            gate.checked()
            if kind in "Uwv":
                if name not in NEEDS:
                    gate.breach(arguments.archive, f"needs {name}, which is not one of the four")
            elif not EXPORTS.match(name):
                gate.breach(arguments.archive, f"defines {name}, without the prefix mm_ or mmi_")


def check_hosts(gate, arguments, objects):
    """No host program holds an object that only a kernel may run."""
    native = set()
    for path in objects:
        if NATIVE[0][0].match(source_of(path)):
            names = run(arguments.nm, "-g", "-P", "--defined-only", path)
            native.update(line.split()[0] for line in names.splitlines())
    for program in read_list(arguments.hosts):
        for line in run(arguments.nm, "-P", "--defined-only", program).splitlines():
            gate.checked()
            if line.split()[0] in native:
                gate.breach(program, f"links {line.split()[0]}, which only a kernel may run")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("archive")
    parser.add_argument("objects", help="file that lists the objects of the archive")
    parser.add_argument("--hosts", help="file that lists the host programs that link it")
    for tool in ("ld", "nm", "objdump", "readelf"):
        parser.add_argument(f"--{tool}", default=tool)
    arguments = parser.parse_args()

    gate = Gate("archive")
    objects = read_list(arguments.objects)
    check_names(gate, arguments)
    for path in objects:
        source = source_of(path)
        check_instructions(gate, arguments.objdump, path, source)
        check_sections(gate, arguments.readelf, path, source)
        check_relocations(gate, arguments.readelf, path, source)
    if arguments.hosts:
        check_hosts(gate, arguments, objects)
    gate.finish()


main()
