#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# cppcheck finds nothing in the library, under the suppressions of .cppcheck, each with its reason.

import argparse
import os
import pathlib
import subprocess

from gate import Gate


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("directory", type=pathlib.Path, help="where cppcheck keeps its work")
    parser.add_argument("--cppcheck", default="cppcheck")
    arguments = parser.parse_args()
    root = arguments.root

    arguments.directory.mkdir(parents=True, exist_ok=True)
    lines = (root / "src/sources.txt").read_text(encoding="utf-8").splitlines()
    sources = [line.strip() for line in lines if line.strip().endswith(".c")]
    done = subprocess.run(
        [arguments.cppcheck, "--quiet", "--std=c11", "--platform=unix64", "--language=c",
         f"-j{os.cpu_count()}",
         "--enable=warning,performance,portability", "--inline-suppr",
         f"--suppressions-list={root / '.cppcheck'}", f"--cppcheck-build-dir={arguments.directory}",
         "--template={file}:{line}: {severity}: {message} [{id}]", "--error-exitcode=2",
         "-Iinclude", "-Isrc", "-D__x86_64__=1", "-D__GNUC__=12", *sources],
        capture_output=True, text=True, cwd=root)

    gate = Gate("cppcheck")
    gate.checked(len(sources))
    if done.returncode != 0:
        gate.breach("cppcheck", f"status {done.returncode}\n{done.stdout}{done.stderr}")
    gate.finish()


main()
