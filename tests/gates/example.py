#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# The examples in the documents compile and run. A block that begins with
#     ```c example=NAME
# is taken out, compiled with the warnings of the library, linked with libmm.a and run; it must exit
# with 0. A block without main() is followed by tests/examples/NAME.c, which calls it.

import argparse
import pathlib
import re
import subprocess

from gate import Gate

BLOCK = re.compile(r"^```c example=([\w-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The callers are host programs, and may use what the host has.
FLAGS = ("-std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef "
         "-Wstrict-prototypes -Werror").split()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--archive", required=True)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--directory", type=pathlib.Path, required=True, help="where to build")
    parser.add_argument("--require", action="append", default=[], help="an example that must exist")
    arguments = parser.parse_args()

    gate = Gate("example")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    seen = set()
    root = arguments.root
    for document in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        if not document.exists():
            continue
        text = document.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            name, code = found.groups()
            where = f"{document.name}: example {name}"
            if name in seen:
                gate.breach(where, "stands twice")
            seen.add(name)
            gate.checked()
            line = text.count("\n", 0, found.start()) + 2
            source = arguments.directory / f"{name}.c"
            caller = root / "tests" / "examples" / f"{name}.c"
            tail = ""
            if not re.search(r"\bmain\(", code):
                if not caller.exists():
                    gate.breach(where, f"has no main(), and {caller} does not exist")
                    continue
                tail = f'#line 1 "{caller}"\n' + caller.read_text(encoding="utf-8")
            source.write_text(f'#line {line} "{document}"\n{code}{tail}', encoding="utf-8")
            program = arguments.directory / name
            for command in (
                    [arguments.cc, *FLAGS, f"-I{root}/include", f"-I{root}/tests/examples", source,
                     arguments.archive, "-o", program],
                    [program]):
                done = subprocess.run(command, capture_output=True, text=True, timeout=60)
                print(done.stdout, end="")
                if done.returncode != 0:
                    gate.breach(where, f"{command[0]} ended with {done.returncode}\n{done.stderr}")
                    break
    for name in arguments.require:
        if name not in seen:
            gate.breach("README.md", f"has no block marked example={name}")
    gate.finish()


main()
