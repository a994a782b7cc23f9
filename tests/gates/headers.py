#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Each public header compiles alone and twice over, as C and as C++, without a warning, and defines
# no macro without our prefix.

import argparse
import pathlib
import re
import subprocess

from gate import Gate

C_WARNINGS = ("-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef -Wstrict-prototypes "
              "-Wmissing-prototypes -Werror").split()
# No -Wshadow in C++: a value type and the function that makes one share a name (mm_prange).
CXX_WARNINGS = "-Wall -Wextra -Wpedantic -Wconversion -Wundef -Werror".split()
VARIANTS = (
    ("c", "-std=c11", C_WARNINGS),
    ("c", "-std=c17", C_WARNINGS + ["-ffreestanding"]),
    ("c++", "-std=c++11", CXX_WARNINGS),
    ("c++", "-std=c++20", CXX_WARNINGS),
)
STANDARD_HEADERS = "float iso646 limits stdalign stdarg stdbool stddef stdint".split()
PREFIX = re.compile(r"(MM|mm|MMI|mmi)_")


def macros(compiler, include, text):
    """The macros that a text leaves defined; that one does not compile is reported elsewhere."""
    done = subprocess.run([compiler, "-std=c11", "-ffreestanding", f"-I{include}",
                           "-E", "-dM", "-xc", "-"],
                          input=text, capture_output=True, text=True)
    return set(re.findall(r"^#define (\w+)", done.stdout, re.MULTILINE))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("include", type=pathlib.Path)
    parser.add_argument("--cc", action="append", required=True)
    parser.add_argument("--cxx", action="append", required=True)
    arguments = parser.parse_args()

    gate = Gate("headers")
    names = [path.relative_to(arguments.include).as_posix()
             for path in sorted(arguments.include.rglob("*.h"))]
    texts = {name: f"#include <{name}>\n#include <{name}>\n" for name in names}
    texts["all of them, last first"] = "".join(f"#include <{name}>\n" for name in reversed(names))
    for name, text in texts.items():
        for language, standard, warnings in VARIANTS:
            for compiler in arguments.cc if language == "c" else arguments.cxx:
                done = subprocess.run(
                    [compiler, standard, *warnings, f"-I{arguments.include}", "-fsyntax-only",
                     f"-x{language}", "-"],
                    input=text, capture_output=True, text=True)
                gate.checked()
                if done.returncode != 0:
                    gate.breach(name, f"{compiler} {standard}:\n{done.stderr}")

    compiler = arguments.cc[0]
    usual = macros(compiler, arguments.include,
                   "".join(f"#include <{name}.h>\n" for name in STANDARD_HEADERS))
    for name in names:
        for macro in macros(compiler, arguments.include, f"#include <{name}>\n") - usual:
            gate.checked()
            if not PREFIX.match(macro):
                gate.breach(name, f"defines the macro {macro}, without the prefix MM_")
    gate.finish()


main()
