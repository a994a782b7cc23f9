#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# clang-tidy, under the .clang-tidy of the root, finds nothing in the C files of the compile
# commands that lie in the directories given. One process a processor.

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess

from gate import Gate


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path, help="where compile_commands.json lies")
    parser.add_argument("tops", nargs="+")
    parser.add_argument("--clang-tidy", default="clang-tidy")
    arguments = parser.parse_args()
    root = arguments.root.resolve()

    commands = json.loads((arguments.build / "compile_commands.json").read_text(encoding="utf-8"))
    tops = [root / top for top in arguments.tops]
    files = sorted({command["file"] for command in commands
                    if command["file"].endswith(".c")
                    and any(pathlib.Path(command["file"]).is_relative_to(top) for top in tops)})

    def tidy(path):
        return path, subprocess.run(
            [arguments.clang_tidy, "--quiet", "-p", arguments.build, "--warnings-as-errors=*",
             path],
            capture_output=True, text=True)

    gate = Gate("tidy")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, done in pool.map(tidy, files):
            gate.checked()
            if done.returncode != 0:
                # Without the path that the analyzer took; clang-tidy on the file shows that.
                found = [line for line in done.stdout.splitlines() if " error: " in line]
                gate.breach(pathlib.Path(path).relative_to(root),
                            "\n".join(["", *found]) if found else done.stdout + done.stderr)
    gate.finish()


main()
