#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Every C file of ours is compiled with the warnings of the house, as errors, and the library for a
# machine without an operating system: read from the compile commands of a build.

import argparse
import json
import pathlib
import shlex

from gate import Gate

WARNINGS = ("-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef -Wstrict-prototypes "
            "-Wmissing-prototypes -Werror").split()
LIBRARY = ("-ffreestanding -fPIC -fvisibility=hidden -mno-red-zone -mgeneral-regs-only "
           "-mcx16").split()
# What would take a warning back.
FORBIDDEN = ("-w", "-Wno-", "-fpermissive")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path, help="where compile_commands.json lies")
    arguments = parser.parse_args()
    root = arguments.root.resolve()

    gate = Gate("warnings")
    commands = json.loads((arguments.build / "compile_commands.json").read_text(encoding="utf-8"))
    for command in commands:
        path = pathlib.Path(command["file"])
        if path.suffix != ".c" or not path.is_relative_to(root):
            continue
        name = path.relative_to(root).as_posix()
        flags = command.get("arguments") or shlex.split(command["command"])
        wanted = WARNINGS + (LIBRARY if name.startswith("src/") else [])
        gate.checked()
        for flag in wanted:
            if flag not in flags:
                gate.breach(name, f"is compiled without {flag}")
        for flag in flags:
            if flag == "-w" or flag.startswith(FORBIDDEN[1:]):
                gate.breach(name, f"is compiled with {flag}")
    gate.finish()


main()
