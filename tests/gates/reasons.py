#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# What a checker may not report has a reason that stands beside it: each check that .clang-tidy
# switches off, each line of .cppcheck, each NOLINT and cppcheck-suppress in the sources, each
# "GCC diagnostic ignored".

import argparse
import pathlib
import re

from gate import Gate

TOPS = ("include", "src", "examples")
# A suppression in the code names the check, and goes on with words.
INLINE = re.compile(r"NOLINT\w*|cppcheck-suppress\w*|diagnostic ignored")
REASONED = re.compile(r"(NOLINT\w*\([\w.,-]+\)|cppcheck-suppress\w*[ (][\w.\]\[,]+\)?):? +\w")
WORD = re.compile(r"^# ((?:[\w.-]+)(?:, [\w.-]+)*):", re.MULTILINE)


def check_tidy(gate, root):
    text = (root / ".clang-tidy").read_text(encoding="utf-8")
    head = "".join(line for line in text.splitlines(True) if line.startswith("#"))
    explained = {name for names in WORD.findall(head) for name in names.split(", ")}
    checks = re.search(r"^Checks: >\n((?: +.*\n)+)", text, re.MULTILINE).group(1)
    disabled = {name[1:] for name in re.findall(r"[^\s,]+", checks) if name.startswith("-")} - {"*"}
    for name in sorted(disabled):
        gate.checked()
        if name not in explained:
            gate.breach(".clang-tidy", f"switches {name} off, and does not say why")


def check_cppcheck(gate, root):
    before = ""
    for number, line in enumerate((root / ".cppcheck").read_text(encoding="utf-8").splitlines(), 1):
        gate.checked()
        if line.strip() and not line.startswith("//"):
            if not re.match(r"// *\w", before) or "SPDX" in before or "reason above it" in before:
                gate.breach(f".cppcheck:{number}", f"suppresses {line}, and does not say why")
        before = line


def check_sources(gate, root):
    for path in (path for top in TOPS for path in sorted((root / top).rglob("*.[ch]"))):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if not INLINE.search(line):
                continue
            gate.checked()
            above = lines[number - 2].strip() if number > 1 else ""
            pragma = "diagnostic ignored" in line and re.match(r"(//|/?\*).*\w", above)
            if not pragma and not REASONED.search(line):
                gate.breach(f"{path.relative_to(root)}:{number}",
                            "suppresses a report, and does not say which and why")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    root = parser.parse_args().root.resolve()

    gate = Gate("reasons")
    check_tidy(gate, root)
    check_cppcheck(gate, root)
    check_sources(gate, root)
    gate.finish()


main()
