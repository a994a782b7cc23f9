#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# What the host tests run of the library, after they ran in a build that counts: lines and branches
# of each room (gcovr), and every branch that no test took; or conditions (llvm-cov, MC/DC).
#
# A branch that stays is explained in docs/testing/coverage.md, one row a function:
#     | `src/core/base/lock.h` | `mmi_lock` | 3 | why |
# The number is how many; "0-3" where chance decides. More than that, fewer, or a function without a
# row is a breach: so a new branch that nobody tests shows, and so does a row that has gone stale.

import argparse
import json
import pathlib
import re
import subprocess

from gate import Gate

ROOMS = [
    ("base", r"src/core/base/|include/mm/(addr|config|event|mm|platform|status)\.h"),
    ("boot", r"src/core/boot/|include/mm/(bootmap\.h|boot/)"),
    ("frame", r"src/core/frame/|include/mm/(frame|physmap)\.h"),
    ("paging", r"src/core/paging/|include/mm/(paging|paging_ops|tlb)\.h"),
    ("arch", r"src/arch/|include/mm/arch/"),
    ("heap", r"src/heap/|include/mm/(cache|heap)\.h"),
    ("space", r"src/core/space/|include/mm/space\.h"),
    ("dma", r"src/dma/|include/mm/dma\.h"),
    ("user", r"src/core/user/|include/mm/(user|user_ops)\.h"),
    ("system", r"src/core/system\.c|include/mm/system\.h"),
]
LEAST = 90.0  # percent of branches, of each room
LIST = "docs/testing/coverage.md"
ROW = re.compile(r"^\| `([\w./]+)` \| `([\w*]+)` \| (\d+)(?:-(\d+))? \| (\S.*) \|$", re.MULTILINE)


def room_of(path):
    for room, pattern in ROOMS:
        if re.match(pattern, path):
            return room
    return "other"


def percent(covered, total):
    return 100.0 * covered / total if total else 100.0


def explained(root):
    """{(file, function): [least, most, is in the report]}"""
    path = root / LIST
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {(file, function): [int(least), int(most or least), False]
            for file, function, least, most, _ in ROW.findall(text)}


def measured(root, gcovr, build):
    done = subprocess.run(
        [gcovr, "--root", str(root), "--filter", "src/", "--filter", "include/",
         "--object-directory", str(build), str(build), "--json"],
        check=True, capture_output=True, text=True, cwd=root)
    return json.loads(done.stdout)["files"]


def function_at(functions, number):
    before = [one for one in functions if one["lineno"] <= number]
    return max(before, key=lambda one: one["lineno"])["name"] if before else "?"


def survey(root, files, known):
    """Sums of each room, and the branches that were not taken: (file, function, line, how many)."""
    rooms = {room: [0, 0, 0, 0] for room, _ in ROOMS}
    missed = []
    for file in sorted(files, key=lambda one: one["file"]):
        name = file["file"]
        if (name, "*") in known:  # a whole file that no host test may run
            known[(name, "*")][2] = True
            continue
        sums = rooms.setdefault(room_of(name), [0, 0, 0, 0])
        for line in file["lines"]:
            if line["gcovr/noncode"]:
                continue
            untaken = sum(branch["count"] == 0 for branch in line["branches"])
            sums[0] += 1
            sums[1] += line["count"] > 0
            sums[2] += len(line["branches"])
            sums[3] += len(line["branches"]) - untaken
            if untaken:
                function = function_at(file["functions"], line["line_number"])
                missed.append((name, function, line["line_number"], untaken))
    return rooms, missed


def print_rooms(gate, rooms):
    print(f"{'room':8} {'lines':>6} {'run':>6} {'%':>6}   {'branches':>8} {'taken':>6} {'%':>6}")
    total = [sum(column) for column in zip(*rooms.values())]
    for room, sums in [*rooms.items(), ("all", total)]:
        gate.checked()
        print(f"{room:8} {sums[0]:6} {sums[1]:6} {percent(sums[1], sums[0]):6.1f}   "
              f"{sums[2]:8} {sums[3]:6} {percent(sums[3], sums[2]):6.1f}")
        if percent(sums[3], sums[2]) < LEAST:
            gate.breach(room, f"less than {LEAST} % of its branches are taken")


def print_missed(root, missed):
    print("\nbranches that no test takes:")
    for name, function, number, untaken in missed:
        text = (root / name).read_text(encoding="utf-8").splitlines()[number - 1].strip()
        print(f"{name}:{number}: {function}: {untaken} of `{text}`")


def compare(gate, missed, known):
    sums = {}
    for name, function, _, untaken in missed:
        sums[(name, function)] = sums.get((name, function), 0) + untaken
    for key, untaken in sorted(sums.items()):
        gate.checked()
        row = known.get(key)
        if row is None:
            gate.breach(key[0], f"{untaken} branches of {key[1]} are not taken, nor explained")
            continue
        row[2] = True
        if not row[0] <= untaken <= row[1]:
            gate.breach(key[0], f"{untaken} branches of {key[1]} are not taken; "
                                f"explained are {row[0]} to {row[1]}")
    for key, row in known.items():
        if not row[2] and row[0] > 0:
            gate.breach(LIST, f"explains branches of {key[1]} in {key[0]}, which are all taken")


def report_branches(gate, root, arguments):
    known = explained(root)
    files = measured(root, arguments.gcovr, root / "build/coverage")
    rooms, missed = survey(root, files, known)
    print_missed(root, missed)
    print()
    print_rooms(gate, rooms)
    compare(gate, missed, known)


def report_mcdc(gate, root, arguments):
    build = root / "build/mcdc"
    profiles = sorted((build / "profiles").glob("*.profraw"))
    merged = build / "profiles/merged.profdata"
    listing = build / "profiles/list.txt"
    listing.write_text("\n".join(map(str, profiles)) + "\n", encoding="utf-8")
    subprocess.run([f"llvm-profdata-{arguments.llvm}", "merge", "-sparse", "-f", str(listing),
                    "-o", str(merged)], check=True)
    programs = (build / "tests/host_programs.txt").read_text(encoding="utf-8").split()
    objects = [option for program in programs if pathlib.Path(program).exists()
               for option in ("-object", program)]
    done = subprocess.run(
        [f"llvm-cov-{arguments.llvm}", "export", "-summary-only", "-format=text",
         f"-instr-profile={merged}", *objects[1:]],
        check=True, capture_output=True, text=True)
    rooms = {room: [0] * 6 for room, _ in ROOMS}
    for file in json.loads(done.stdout)["data"][0]["files"]:
        name = pathlib.Path(file["filename"]).resolve()
        if not name.is_relative_to(root) or "/tests/" in str(name):
            continue
        sums = rooms.setdefault(room_of(name.relative_to(root).as_posix()), [0] * 6)
        for i, kind in enumerate(("lines", "branches", "mcdc")):
            sums[2 * i] += file["summary"].get(kind, {}).get("count", 0)
            sums[2 * i + 1] += file["summary"].get(kind, {}).get("covered", 0)
    print(f"{'room':8} {'lines':>6} {'%':>6}   {'branches':>8} {'%':>6}   "
          f"{'conditions (MC/DC)':>18} {'%':>6}")
    total = [sum(column) for column in zip(*rooms.values())]
    for room, sums in [*rooms.items(), ("all", total)]:
        gate.checked()
        print(f"{room:8} {sums[0]:6} {percent(sums[1], sums[0]):6.1f}   {sums[2]:8} "
              f"{percent(sums[3], sums[2]):6.1f}   {sums[4]:18} {percent(sums[5], sums[4]):6.1f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("what", choices=["coverage", "mcdc"])
    parser.add_argument("--gcovr", default="gcovr")
    parser.add_argument("--llvm", default="19", help="version of llvm-cov")
    arguments = parser.parse_args()

    gate = Gate("coverage")
    if arguments.what == "coverage":
        report_branches(gate, arguments.root.resolve(), arguments)
    else:
        report_mcdc(gate, arguments.root.resolve(), arguments)
    gate.finish()


main()
