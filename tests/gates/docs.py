#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# What the documents promise exists: every name of the library that they mention is in a header or
# in a build file, every file that they link to or mention lies there, the version is one, and each public
# call has its row in docs/locking.md.

import argparse
import pathlib
import re

from gate import Gate

NAME = re.compile(r"(?<![\w-])(?:mm|MM|mmi)_\w+\b(?!\*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
# "bench/bench_<room>.cc" and "tests/host/test_*.c" speak of a family.
MENTION = re.compile(
    r"`((?:scripts|docs|include|src|tests|bench|examples|cmake)/[\w./-]*\w|mm/[\w/]+\.h)"
    r"(?![\w<*])[^`]*`")
WHERE_NAMES_LIVE = ("include/**/*.h", "tests/support/**/*.h", "bench/*.h", "**/CMakeLists.txt",
                    "cmake/*", "CMakePresets.json", "scripts/*.sh", "bench/figures.json",
                    "tests/preload/*.c", "tests/host/*_random.[ch]")


def documents(root):
    found = [root / "README.md", *sorted((root / "docs").rglob("*.md")),
             *sorted(root.glob("*/**/README.md"))]
    return [path for path in dict.fromkeys(found)
            if "build" not in path.relative_to(root).parts and "decisions" not in path.parts]


def known_names(root):
    names = set()
    for pattern in WHERE_NAMES_LIVE:
        for path in root.glob(pattern):
            if path.is_file() and "build" not in path.relative_to(root).parts:
                names.update(re.findall(r"\b(?:mm|MM|mmi)_\w+", path.read_text(encoding="utf-8")))
    # What is shared inside of the library is in no public header.
    for path in (root / "src").rglob("*.[ch]"):
        names.update(re.findall(r"\bmmi_\w+", path.read_text(encoding="utf-8")))
    return names


def check_document(gate, root, path, names):
    here = path.relative_to(root).as_posix()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{here}:{number}"
        for name in NAME.findall(line):
            gate.checked()
            # "mm_<room>_check" and "mm_frame_*" speak of a family: its beginning must exist.
            if name.endswith("_"):
                if not any(known.startswith(name) for known in names):
                    gate.breach(where, f"no name begins with {name}")
            elif name not in names:
                gate.breach(where, f"{name} is in no header")
        for target in LINK.findall(line):
            gate.checked()
            if not re.match(r"\w+:", target) and not (path.parent / target).exists():
                gate.breach(where, f"links to {target}, which does not exist")
        for mention in MENTION.findall(line):
            gate.checked()
            file = root / "include" / mention if mention.startswith("mm/") else root / mention
            if not file.exists():
                gate.breach(where, f"mentions {mention}, which does not exist")


def check_version(gate, root):
    project = (root / "CMakeLists.txt").read_text(encoding="utf-8")
    wanted = re.search(r"\bVERSION (\d+)\.(\d+)\.(\d+)", project).groups()
    headers = "\n".join(path.read_text(encoding="utf-8")
                        for path in (root / "include").rglob("*.h"))
    for part, number in zip(("MAJOR", "MINOR", "PATCH"), wanted):
        gate.checked()
        found = re.search(rf"#define MM_VERSION_{part}\s+(\d+)", headers)
        if not found:
            gate.breach("include/mm", f"no header defines MM_VERSION_{part}")
        elif found.group(1) != number:
            gate.breach("include/mm",
                        f"MM_VERSION_{part} is {found.group(1)}, in CMakeLists.txt {number}")


def public_calls(root):
    """Functions that the headers declare, without those defined inline there."""
    calls = set()
    for path in (root / "include").rglob("*.h"):
        text = path.read_text(encoding="utf-8")
        for gone in (r"/\*.*?\*/", r"^#.*?(?<!\\)$", r"static inline[^{;]*\{.*?^\}"):
            text = re.sub(gone, "", text, flags=re.DOTALL | re.MULTILINE)
        calls.update(re.findall(r"^(?!typedef)[\w *]*?\b(mm_\w+)\([^{;]*\);", text, re.MULTILINE))
    return calls


def check_locking(gate, root):
    """docs/locking.md has one row for each public call, and none for anything else."""
    table = (root / "docs/locking.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(mm_\w+)` \|", table, re.MULTILINE)
    for call in sorted(public_calls(root)):
        gate.checked()
        if rows.count(call) != 1:
            gate.breach("docs/locking.md", f"{call} has {rows.count(call)} rows")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    root = parser.parse_args().root.resolve()

    gate = Gate("docs")
    names = known_names(root)
    for path in documents(root):
        if path.exists():
            check_document(gate, root, path, names)
        else:
            gate.breach(path.name, "does not exist")
    check_version(gate, root)
    check_locking(gate, root)
    gate.finish()


main()
