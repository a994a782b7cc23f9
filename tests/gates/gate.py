# SPDX-License-Identifier: MIT
#
# What the gates share. A gate is a program that checks a rule of the house on the code itself: it
# prints each breach with its place, says how much it looked at, and fails on a breach or on nothing
# to look at.

import posixpath
import subprocess
import sys


class Gate:
    """Collects the breaches of one rule, and ends the program with the verdict."""

    def __init__(self, name):
        self.name = name
        self.breaches = []
        self.nr_checked = 0

    def checked(self, nr=1):
        self.nr_checked += nr

    def breach(self, where, what):
        self.breaches.append(f"{where}: {what}")

    def finish(self):
        for breach in self.breaches:
            print(breach)
        print(f"{self.name}: {self.nr_checked} checked, {len(self.breaches)} breaches")
        if self.nr_checked == 0:
            print(f"{self.name}: nothing was checked, which is a failure")
        sys.exit(1 if self.breaches or self.nr_checked == 0 else 0)


def run(*command, **options):
    """The output of a tool; a tool that fails ends the gate."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        print(done.stdout, done.stderr, sep="")
        sys.exit(f"failed with status {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def source_of(object_path):
    """The source, from the root of the repository, of an object of the target mm."""
    path = str(object_path)
    _, found, tail = path.rpartition("mm.dir/")
    if not found:
        sys.exit(f"{path}: not an object of the target mm")
    for suffix in (".o", ".obj"):
        if tail.endswith(suffix):
            return posixpath.normpath(tail[: -len(suffix)])
    sys.exit(f"{path}: not an object")


def read_list(path):
    """The lines of a file that CMake generated: one path a line."""
    with open(path, encoding="utf-8") as lines:
        return [line.strip() for line in lines if line.strip()]
