#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Every C and C++ file is laid out as clang-format lays it out under .clang-format. With --fix: do
# so.

import argparse
import pathlib
import subprocess
import sys

from gate import Gate

TOPS = ("include", "src", "tests", "bench", "examples")
KINDS = {".c", ".h", ".cc"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--clang-format", default="clang-format")
    parser.add_argument("--fix", action="store_true")
    arguments = parser.parse_args()

    files = [path for top in TOPS for path in sorted((arguments.root / top).rglob("*"))
             if path.suffix in KINDS]
    if arguments.fix:
        sys.exit(subprocess.run([arguments.clang_format, "-i", *files]).returncode)

    gate = Gate("format")
    check = [arguments.clang_format, "--dry-run", "--Werror"]
    # All at once, since starting it takes longer than reading a file; one by one to say which.
    all_well = subprocess.run([*check, *files], capture_output=True).returncode == 0
    for path in files:
        gate.checked()
        if all_well:
            continue
        done = subprocess.run([*check, path], capture_output=True, text=True)
        if done.returncode != 0:
            first = done.stderr.splitlines()[:3]
            gate.breach(path.relative_to(arguments.root), "\n".join(first))
    if gate.breaches:
        print("tests/gates/format.py --fix . puts it right")
    gate.finish()


main()
