#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# The gates can fail: each is shown a small tree that keeps its rule, which it must pass, and then
# the same tree with one breach, which it must report. Without an argument all of them; else those
# that are named.

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from gate import Gate

GATES = pathlib.Path(__file__).resolve().parent
FLAGS = "-std=c17 -O2 -ffreestanding -fPIC -fvisibility=hidden -mno-red-zone -fstack-usage".split()

HEAD = "// SPDX-License-Identifier: MIT\n//\n// A file of the self-test.\n"
GOOD = {
    "CMakeLists.txt": "# SPDX-License-Identifier: MIT\n#\n# A build file.\n"
                      "project(mm VERSION 0.1.0)\n",
    "README.md": "Call `mm_one()` of `mm/addr.h`.\n\n```c example=first\n"
                 "#include <mm/addr.h>\nint main(void)\n{\n    return mm_one(1) - 1;\n}\n```\n",
    "docs/locking.md": "| `mm_one` | none |\n",
    "docs/testing/hazards.md":
        "<!-- SPDX-License-Identifier: MIT -->\n| hazard | what | tests | seeds |\n|---|---|---|---|\n"
        "| 1 | one | `host.one` | 1 |\n",
    "tests/seeded/good.patch": "# hazard: 1\n# test: host.one\n--- a/README.md\n+++ b/README.md\n"
                               "@@ -1,2 +1,2 @@\n-Call `mm_one()` of `mm/addr.h`.\n+Call it.\n \n",
    "tests/host/test_one.c": HEAD,
    "include/mm/addr.h": HEAD + "#ifndef MM_ADDR_H\n#define MM_ADDR_H\n#define MM_VERSION_MAJOR 0\n"
                         "#define MM_VERSION_MINOR 1\n#define MM_VERSION_PATCH 0\n"
                         "#ifdef __cplusplus\nextern \"C\" {\n#endif\nint mm_one(int);\n"
                         "#ifdef __cplusplus\n}\n#endif\n#endif\n",
    "include/mm/frame.h": HEAD + "#ifndef MM_FRAME_H\n#define MM_FRAME_H\n"
                          "#include <mm/addr.h>\n#endif\n",
    # How the tree is compiled.
    "build/flags.txt": "-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef "
                       "-Wstrict-prototypes -Wmissing-prototypes -Werror -mgeneral-regs-only -mcx16\n",
    # What stands in for gcovr: one branch of mm_one() is never taken, and explained.
    "build/gcovr.sh": "#!/bin/sh\ncat build/report.json\n",
    "build/report.json": json.dumps({"files": [{
        "file": "src/core/base/one.c", "functions": [{"lineno": 5, "name": "mm_one"}],
        "lines": [{"line_number": 7, "count": 9, "gcovr/noncode": False,
                   "branches": [{"count": 1}] * 19 + [{"count": 0}]}]}]}),
    "docs/testing/coverage.md": "| `src/core/base/one.c` | `mm_one` | 1 | a reason |\n",
    "src/core/base/one.c": HEAD + "#include <mm/addr.h>\nint mm_one(int x)\n{\n    return x;\n}\n",
    "src/core/frame/frame.c": HEAD + "#include <mm/frame.h>\nint mm_two(int);\n"
                              "int mm_two(int x)\n{\n    return mm_one(x);\n}\n",
    "src/arch/x86_64/native.c": HEAD + "void mm_stop(void);\nvoid mm_stop(void)\n{\n"
                                "    __asm__ volatile(\"hlt\");\n}\n",
    "src/arch/x86_64/user.S": HEAD + ".globl mm_user\nmm_user:\n stac\n clac\n ret\n"
                              ".section .note.GNU-stack,\"\",@progbits\n",
}

ONE = "src/core/base/one.c"


def read(name):
    """A file of this repository."""
    return (GATES.parent.parent / name).read_text(encoding="utf-8")


def function(body, extra=""):
    return GOOD[ONE] + f"{extra}\nint mm_new(int);\nint mm_new(int x)\n{{\n{body}\n}}\n"


# Gate, what is wrong, file, its text.
BREACHES = [
    ("archive", "an export without a prefix", ONE,
     GOOD[ONE] + "int one(int);\nint one(int x)\n{ return x; }\n"),
    ("archive", "a need of libc", ONE,
     function("return puts(\"\") + x;", "int puts(const char *);")),
    ("archive", "a need of libgcc", ONE,
     function("return (int)((unsigned __int128)-1 / (unsigned __int128)x);")),
    ("archive", "a GOT", ONE, function("return x + mm_far;", "extern int mm_far;")),
    ("archive", "state", ONE, function("return counter += x;", "static int counter;")),
    ("archive", "initialised state", ONE,
     function("return counter += x;", "static int counter = 3;")),
    ("archive", "a privileged instruction", ONE, function('__asm__ volatile("cli"); return x;')),
    ("archive", "a control register", ONE,
     function('unsigned long v; __asm__ volatile("mov %%cr3, %0" : "=r"(v)); return (int)v + x;')),
    ("archive", "STAC outside the user copy", ONE, function('__asm__ volatile("stac"); return x;')),
    ("archive", "a vector register", ONE,
     function('__asm__ volatile("pxor %xmm0, %xmm0"); return x;')),
    ("archive", "an x87 instruction", ONE, function('__asm__ volatile("fninit"); return x;')),
    ("archive", "an executable stack", "src/arch/x86_64/user.S",
     HEAD + ".globl mm_user\nmm_user:\n ret\n"),
    ("archive", "HLT in the user copy", "src/arch/x86_64/user.S",
     GOOD["src/arch/x86_64/user.S"].replace("stac", "hlt")),
    ("hosts", "a host program with native instructions", "host.c",
     "extern void mm_stop(void); int main(void) { mm_stop(); return 0; }\n"),
    ("stack", "a large frame", ONE,
     function("volatile char b[600]; b[x] = 1; return b[0];")),
    ("stack", "a frame of unknown size", ONE,
     function("volatile char b[x]; b[0] = 1; return b[0];")),
    ("floors", "an include of a higher floor", ONE, "#include <mm/frame.h>\n" + GOOD[ONE]),
    ("floors", "a header of the libc", ONE, "#include <string.h>\n" + GOOD[ONE]),
    ("floors", "a file without a floor", "src/core/attic/old.c", HEAD),
    ("floors", "a public header that includes a private one", "include/mm/frame.h",
     GOOD["include/mm/frame.h"] + "#include \"../../src/core/base/one.c\"\n"),
    ("floors", "a model that includes the library", "tests/support/model.c",
     HEAD + "#include \"../../src/core/base/one.c\"\n"),
    ("floors", "a test for kernels that includes the libc", "tests/both/one.c",
     HEAD + "#include <stdlib.h>\n"),
    ("floors", "a call to a higher floor", ONE,
     function("return mm_two(x);", "int mm_two(int);")),
    ("headers", "C that is no C++", "include/mm/frame.h",
     GOOD["include/mm/frame.h"].replace("#endif", "extern int mm_x(int class);\n#endif")),
    ("headers", "a header that needs another", "include/mm/frame.h",
     GOOD["include/mm/frame.h"].replace("#endif", "extern uint32_t mm_x;\n#endif")),
    ("headers", "a header that can't come twice", "include/mm/frame.h",
     HEAD + "struct mm_x { int y; };\n"),
    ("headers", "a macro without a prefix", "include/mm/frame.h",
     GOOD["include/mm/frame.h"].replace("#endif", "#define FRAME 1\n#endif")),
    ("tree", "a file without a licence", ONE, "int x;\n"),
    ("tree", "a file that says nothing", ONE, HEAD.split("\n", 1)[0] + "\nint x;\n"),
    ("tree", "something for later", ONE, GOOD[ONE] + "// TO" "DO: more\n"),
    ("tree", "a path of one machine", ONE, GOOD[ONE] + "// see /home" "/user/x\n"),
    ("tree", "white space", ONE, GOOD[ONE] + "// x \n"),
    ("seeds", "a fault that no longer applies", "tests/seeded/one.patch",
     "# hazard: 1\n# test: host.one\n--- a/" + ONE + "\n+++ b/" + ONE
     + "\n@@ -1,1 +1,1 @@\n-gone\n+wrong\n"),
    ("seeds", "a fault without a test", "tests/seeded/one.patch",
     GOOD["tests/seeded/good.patch"].replace("# test", "# tested")),
    ("seeds", "a fault whose test is gone", "tests/seeded/one.patch",
     GOOD["tests/seeded/good.patch"].replace("host.one", "host.gone")),
    ("seeds", "a hazard whose test is gone", "docs/testing/hazards.md",
     GOOD["docs/testing/hazards.md"].replace("host.one", "host.gone")),
    ("seeds", "a hazard with fewer faults than it says", "docs/testing/hazards.md",
     GOOD["docs/testing/hazards.md"].replace("| 1 |\n", "| 2 |\n")),
    ("docs", "a name that does not exist", "README.md", GOOD["README.md"] + "Then `mm_gone()`.\n"),
    ("docs", "a link to nowhere", "README.md", GOOD["README.md"] + "See [this](docs/gone.md).\n"),
    ("docs", "a header that does not exist", "README.md", GOOD["README.md"] + "See `mm/gone.h`.\n"),
    ("docs", "a call without a row on locks", "docs/locking.md", "| call | takes |\n"),
    ("docs", "a call with two rows on locks", "docs/locking.md", 2 * GOOD["docs/locking.md"]),
    ("docs", "two versions", "CMakeLists.txt", GOOD["CMakeLists.txt"].replace("0.1.0", "0.2.0")),
    ("example", "one that does not compile", "README.md",
     GOOD["README.md"].replace("mm_one(1)", "mm_gone(1)")),
    ("example", "one that fails", "README.md", GOOD["README.md"].replace("mm_one(1)", "mm_one(2)")),
    ("example", "none", "README.md", GOOD["README.md"].replace(" example=first", "")),
    ("format", "another layout", ONE, GOOD[ONE].replace("    return", "  return")),
    ("cppcheck", "a null dereference", ONE,
     function("int *p = 0; if (x) { p = &x; } return *p;")),
    ("floors", "a fuzz target that includes the library", "tests/fuzz/fuzz_one.c",
     HEAD + "#include \"../../src/core/base/one.c\"\n"),
    ("reasons", "a check switched off, and nobody says why", ".clang-tidy",
     read(".clang-tidy").replace(" misc-static-assert", " -misc-static-assert")),
    ("reasons", "a suppression without a reason", ".cppcheck", read(".cppcheck") + "nullPointer\n"),
    ("reasons", "a NOLINT without a reason", ONE, GOOD[ONE] + "// NOLINT\n"),
    ("reasons", "a suppression in the code without a reason", ONE,
     GOOD[ONE] + "// cppcheck-suppress nullPointer\n"),
    ("warnings", "a warning that is not asked for", "build/flags.txt",
     GOOD["build/flags.txt"].replace("-Wshadow ", "")),
    ("warnings", "a warning taken back", "build/flags.txt",
     GOOD["build/flags.txt"].strip() + " -Wno-undef\n"),
    ("warnings", "vector registers allowed", "build/flags.txt",
     GOOD["build/flags.txt"].replace("-mgeneral-regs-only", "")),
    ("coverage", "a branch that is neither taken nor explained", "docs/testing/coverage.md",
     "Nothing.\n"),
    ("coverage", "one branch more than explained", "build/report.json",
     GOOD["build/report.json"].replace('"count": 1}', '"count": 0}', 1)),
    ("coverage", "an explanation of what is taken", "build/report.json",
     GOOD["build/report.json"].replace('"count": 0}', '"count": 1}')),
    ("coverage", "a room with too few branches taken", "build/report.json",
     GOOD["build/report.json"].replace('"count": 1}', '"count": 0}', 9)),
    ("tidy", "an assignment for a condition", ONE, function("if (x = 1) { return 2; } return 3;")),
]


def write_tree(root, changed=None):
    files = dict(GOOD)
    if changed:
        files[changed[0]] = changed[1]
    for name in (".clang-format", ".clang-tidy", ".cppcheck"):
        files.setdefault(name, read(name))
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sources = [name for name in files if name.startswith("src/core") or name.startswith("src/arch")]
    (root / "src/sources.txt").write_text(
        "# SPDX-License-Identifier: MIT\n#\n# The sources.\n" + "\n".join(sources) + "\n",
        encoding="utf-8")
    (root / "build/gcovr.sh").chmod(0o755)
    (root / "build").mkdir(exist_ok=True)
    return sources


def compile_tree(root, sources):
    objects, commands = [], []
    for name in sources:
        path = root / "build/mm.dir" / (name + ".o")
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = FLAGS + (root / "build/flags.txt").read_text(encoding="utf-8").split()
        command = ["gcc", *flags, f"-I{root}/include", "-c", str(root / name), "-o", str(path)]
        # What is wrong on purpose may deserve a warning too.
        subprocess.run([flag for flag in command if not flag.startswith("-W")], check=True,
                       capture_output=True)
        objects.append(str(path))
        commands.append({"directory": str(root), "file": f"{root}/{name}", "arguments": command})
    (root / "build/objects.txt").write_text("\n".join(objects) + "\n", encoding="utf-8")
    (root / "build/compile_commands.json").write_text(json.dumps(commands), encoding="utf-8")
    subprocess.run(["ar", "rcs", root / "build/libmm.a", *objects], check=True)


def command_of(gate, root):
    build = root / "build"
    if gate == "hosts":
        subprocess.run(["gcc", root / "host.c", build / "libmm.a", "-o", build / "host"],
                       check=True)
        (build / "hosts.txt").write_text(f"{build}/host\n", encoding="utf-8")
        return ["archive.py", build / "libmm.a", build / "objects.txt",
                "--hosts", build / "hosts.txt"]
    return {
        "archive": ["archive.py", build / "libmm.a", build / "objects.txt"],
        "stack": ["stack.py", build / "objects.txt"],
        "floors": ["floors.py", root, "--objects", build / "objects.txt"],
        "headers": ["headers.py", root / "include", "--cc", "gcc", "--cxx", "g++"],
        "tree": ["tree.py", root],
        "docs": ["docs.py", root],
        "seeds": ["seeds.py", root],
        "example": ["example.py", root, "--archive", build / "libmm.a",
                    "--directory", build / "examples", "--require", "first"],
        "reasons": ["reasons.py", root],
        "warnings": ["warnings.py", root, build],
        "coverage": ["coverage.py", root, "coverage", "--gcovr", root / "build/gcovr.sh"],
        "format": ["format.py", root],
        "tidy": ["tidy.py", root, build, "src"],
        "cppcheck": ["cppcheck.py", root, build / "cppcheck"],
    }[gate]


def verdict(gate, changed=None):
    """How a gate ends over a tree: its status and what it printed."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory).resolve()
        sources = write_tree(root, changed)
        if gate in ("archive", "hosts", "stack", "floors", "example", "tidy",
                    "warnings"):
            compile_tree(root, sources)
        if gate == "hosts" and not changed:
            (root / "host.c").write_text("int main(void) { return 0; }\n", encoding="utf-8")
        command = command_of(gate, root)
        done = subprocess.run([sys.executable, "-B", GATES / command[0], *command[1:]],
                              capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        return done.returncode, done.stdout + done.stderr


def main():
    gate = Gate("selftest")
    wanted = sys.argv[1:] or [row[0] for row in BREACHES]
    for name in dict.fromkeys(wanted):
        status, output = verdict(name)
        gate.checked()
        if status != 0:
            gate.breach(name, f"fails on a tree that keeps the rule:\n{output}")
    for name, what, file, text in (row for row in BREACHES if row[0] in wanted):
        status, output = verdict(name, (file, text))
        gate.checked()
        if status == 0 or "Traceback" in output:
            gate.breach(name, f"did not report {what}:\n{output}")
    gate.finish()


main()
