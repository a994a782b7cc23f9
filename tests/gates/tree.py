#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Rules on the text of every file of ours: a licence line at its head and a word on what lives in
# it, nothing left to be done later, no path of a single machine, no line that ends in spaces.

import argparse
import pathlib
import re

from gate import Gate

TOPS = ("include", "src", "tests", "bench", "examples", "scripts", "cmake", "docs", ".ci")
# A comment can be written into these.
COMMENTED = {".c", ".h", ".cc", ".S", ".ld", ".py", ".sh", ".cmake", ".txt", ".cfg", ".in", ".mk"}
COMMENTED_NAMES = {"CMakeLists.txt", "Makefile", "run"}
# Facts about machines, and bytes for the fuzz targets, taken as they are.
DATA = ("tests/data/", "tests/fuzz/corpus/")

LICENCE = "SPDX-License-Identifier: MIT"
COMMENT = re.compile(r"\s*(//|#|/?\*|<!--)\s*\w")
# Spelled in two halves, so that this file does not report itself.
LATER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.}])/(home|root|work|Users)/\w")


def check_head(gate, name, lines):
    head = lines[1:] if lines and lines[0].startswith("#!") else lines
    gate.checked()
    if not head or LICENCE not in head[0]:
        gate.breach(name, f"does not begin with {LICENCE}")
    elif not any(COMMENT.match(line) for line in head[1:5]):
        gate.breach(name, "does not say at its head what lives in it")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    root = parser.parse_args().root.resolve()

    gate = Gate("tree")
    files = [path for path in root.iterdir() if path.is_file() and path.name != ".git"]
    files += [path for top in TOPS for path in (root / top).rglob("*") if path.is_file()]
    for path in sorted(files):
        name = path.relative_to(root).as_posix()
        if name.startswith(DATA) or "__pycache__" in name or path.suffix in (".swp", ".patch"):
            continue
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError:
            gate.breach(name, "is not UTF-8 text")
            continue
        if lines[-1] != "":
            gate.breach(name, "has no newline at its end")
        if path.suffix in COMMENTED or path.name in COMMENTED_NAMES:
            check_head(gate, name, lines)
        for number, line in enumerate(lines, 1):
            where = f"{name}:{number}"
            if LATER.search(line):
                gate.breach(where, "something is left for later")
            if MACHINE_PATH.search(line):
                gate.breach(where, "names a path of a single machine")
            if line != line.rstrip():
                gate.breach(where, "ends in white space")
    gate.finish()


main()
