#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# The seeded faults keep up with the sources: each patch of tests/seeded/ says which hazard it stands
# for and which test must catch it, and applies to the tree as it is. That the tests do catch them is
# the business of scripts/seeded.sh, which takes long. The table of hazards in docs/testing names
# tests that exist, and no more faults than there are.

import argparse
import os
import pathlib
import re
import subprocess

from gate import Gate


def exists(root, test):
    """The program of a test that is one program; of others nothing is known here."""
    kind, _, name = test.partition(".")
    places = {"host": ("host/test_{}.c", "host/test_{}.cc", "host_events/test_{}.c",
                       "both/test_{}.c"),
              "fuzz": ("fuzz/fuzz_{}.c",)}.get(kind)
    return not places or any((root / "tests" / place.format(name)).exists() for place in places)


def hold_table(gate, root, counts):
    """Rows `| hazard | what | tests | seeds |` of docs/testing/hazards.md."""
    table = root / "docs" / "testing" / "hazards.md"
    rows = re.findall(r"^\| (\d+) \|[^|\n]*\|([^|\n]*)\| (\d+) \|$", table.read_text(encoding="utf-8"),
                      re.MULTILINE)

    if not rows:
        gate.breach(table.name, "has no rows")
    for hazard, tests, seeds in rows:
        gate.checked()
        for test in re.findall(r"`([^`]+)`", tests):
            if not exists(root, test):
                gate.breach(table.name, f"hazard {hazard}: there is no source of {test}")
        if counts.get(hazard, 0) < int(seeds):
            gate.breach(table.name, f"hazard {hazard}: {seeds} seeded faults are promised, and "
                        f"there are {counts.get(hazard, 0)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    root = parser.parse_args().root.resolve()

    gate = Gate("seeds")
    counts = {}
    for patch in sorted((root / "tests" / "seeded").glob("*.patch")):
        gate.checked()
        head = patch.read_text(encoding="utf-8").split("\n---", 1)[0]
        for key in ("hazard", "test"):
            if not re.search(rf"^# {key}: *\S", head, re.MULTILINE):
                gate.breach(patch.name, f"has no line '# {key}: ...'")
        for line in re.findall(r"^# hazard: *(.*)", head, re.MULTILINE):
            for hazard in re.findall(r"\d+", line):
                counts[hazard] = counts.get(hazard, 0) + 1
        for test in re.findall(r"^# test: *(\S+)", head, re.MULTILINE):
            if not exists(root, test):
                gate.breach(patch.name, f"there is no source of {test}")
        # A tree inside some other repository is still a tree of its own.
        done = subprocess.run(["git", "apply", "--check", patch], cwd=root, capture_output=True,
                              text=True, timeout=60,
                              env={**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)})
        if done.returncode != 0:
            gate.breach(patch.name, f"does not apply: {done.stderr.strip().splitlines()[0]}")
    hold_table(gate, root, counts)
    gate.finish()


main()
