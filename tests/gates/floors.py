#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# The floors of the house: a room may include only itself and rooms on lower floors; what is not in
# the table is a breach, so that a new file finds its floor before it finds its users. With objects,
# the same is checked of the names that they refer to. The test support, what runs in both worlds,
# the fuzz targets, the list of calls, the tests that hear every access and the examples know public
# headers alone: a model that shares code with what it judges proves nothing.

import argparse
import pathlib
import re

from gate import Gate, read_list, run, source_of

# Room: floor, public headers (below include/mm), directories and files of its sources (below src).
ROOMS = {
    "base": (0, "addr.h status.h config.h platform.h event.h", "core/base/"),
    "boot": (1, "bootmap.h boot/ numa.h", "core/boot/"),
    "frame": (2, "frame.h physmap.h", "core/frame/"),
    "paging": (3, "paging.h paging_audit.h paging_ops.h paging_slots.h tlb.h", "core/paging/"),
    "arch": (4, "arch/x86_64.h user_ops.h", "arch/x86_64/"),
    "heap": (5, "cache.h heap.h heap_report.h kva.h percpu.h", "heap/"),
    "space": (6, "object.h space.h space_map.h", "core/space/"),
    "dma": (6, "dma.h", "dma/"),
    "user": (7, "user.h", "core/user/"),
    "system": (8, "system.h mm.h", "core/system.c"),
}

# Headers that a freestanding C implementation has (C17, section 4, paragraph 6).
FREESTANDING = {"float.h", "iso646.h", "limits.h", "stdalign.h", "stdarg.h", "stdatomic.h",
                "stdbool.h", "stddef.h", "stdint.h", "stdnoreturn.h"}

OUTSIDERS = ("tests/support", "tests/both", "tests/fuzz", "tests/calls", "tests/host_events",
             "examples")
# One points at single words of the library's own structures; one claims devices as spaces do.
INSIDERS = {"tests/host_events/test_overtaken.c", "tests/host_events/test_schedule_kva.c"}
# Compiled for a kernel as well: no header of a C library.
NO_LIBC = "tests/both/"

INCLUDE = re.compile(r"\s*#\s*include\s*([<\"])([^>\"]+)[>\"]")


def room_of(path):
    """The room of a file, given from the root of the repository; None when the table has none."""
    for prefix, column in (("include/mm/", 1), ("src/", 2)):
        if not path.startswith(prefix):
            continue
        tail = path[len(prefix):]
        for room, row in ROOMS.items():
            for entry in row[column].split():
                if tail == entry or entry.endswith("/") and tail.startswith(entry):
                    return room
    return None


def resolve(root, includer, name):
    """The file that an #include means, from the root of the repository; None if not ours."""
    for base in (includer.parent, root / "include", root / "src"):
        path = (base / name).resolve()
        if path.is_file() and path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return None


def may_use(user, used):
    return user == used or ROOMS[used][0] < ROOMS[user][0]


def describe(room):
    return f"{room} (floor {ROOMS[room][0]})"


def check_includes(gate, root):
    files = [path for top in ("include", "src") for path in sorted((root / top).rglob("*"))
             if path.suffix in (".h", ".c", ".S", ".inc")]
    for path in files:
        here = path.relative_to(root).as_posix()
        room = room_of(here)
        if room is None:
            gate.breach(here, "has no floor: add it to the table in tests/gates/floors.py")
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = INCLUDE.match(line)
            if not found:
                continue
            gate.checked()
            where, name = f"{here}:{number}", found.group(2)
            target = resolve(root, path, name)
            if target is None:
                if name not in FREESTANDING:
                    gate.breach(where, f"includes {name}, which no freestanding compiler must have")
                continue
            target_room = room_of(target)
            if target_room is None:
                gate.breach(where, f"includes {target}, which has no floor")
            elif not may_use(room, target_room):
                gate.breach(where, f"{describe(room)} includes {target} of {describe(target_room)}")
            if here.startswith("include/") and not target.startswith("include/"):
                gate.breach(where, f"a public header includes {target}, which is not installed")


def check_outsiders(gate, root):
    for path in (path for top in OUTSIDERS for path in sorted((root / top).rglob("*.[chS]"))):
        here = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = INCLUDE.match(line)
            target = found and resolve(root, path, found.group(2))
            if target:
                gate.checked()
                if target.startswith("src/") and here not in INSIDERS:
                    gate.breach(f"{here}:{number}", f"includes {target}, which is not public")
            elif found and here.startswith(NO_LIBC) and found.group(1) == "<" and \
                    found.group(2) not in FREESTANDING:
                gate.breach(f"{here}:{number}", f"includes {found.group(2)}, which no kernel has")


def check_names(gate, nm, objects):
    home = {}
    needs = []
    for path in objects:
        source = source_of(path)
        for line in run(nm, "-g", "-P", path).splitlines():
            name, kind = line.split()[:2]
            if kind == "U":
                needs.append((source, name))
            else:
                home[name] = source
    for source, name in needs:
        if name not in home:
            continue
        gate.checked()
        user, used = room_of(source), room_of(home[name])
        if user and used and not may_use(user, used):
            gate.breach(source, f"{describe(user)} uses {name} of {describe(used)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--objects", help="file that lists the objects of the library")
    parser.add_argument("--nm", default="nm")
    arguments = parser.parse_args()

    gate = Gate("floors")
    check_includes(gate, arguments.root.resolve())
    check_outsiders(gate, arguments.root.resolve())
    if arguments.objects:
        check_names(gate, arguments.nm, read_list(arguments.objects))
    gate.finish()


main()
