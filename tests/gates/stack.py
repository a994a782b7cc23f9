#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# No function of the library takes more than 512 bytes of stack, and none an amount that is known
# only as it runs. Read from what -fstack-usage wrote beside each object.

import argparse
import os
import re

from gate import Gate, read_list, source_of

LIMIT = 512


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("objects", help="file that lists the objects of the library")
    arguments = parser.parse_args()

    gate = Gate("stack")
    largest = (0, "none")
    for path in read_list(arguments.objects):
        source = source_of(path)
        if not source.endswith(".c"):
            continue
        usage = re.sub(r"\.o(bj)?$", ".su", path)
        if not os.path.exists(usage):
            gate.breach(source, f"{usage} is missing: built without -fstack-usage?")
            continue
        with open(usage, encoding="utf-8") as lines:
            for line in lines:
                place, size, kind = line.rstrip("\n").rsplit("\t", 2)
                function = place.rsplit(":", 1)[-1]
                gate.checked()
                largest = max(largest, (int(size), f"{function} in {source}"))
                if int(size) > LIMIT:
                    gate.breach(source, f"{function} takes {size} bytes, more than {LIMIT}")
                if kind not in ("static", "dynamic,bounded"):
                    gate.breach(source, f"{function} takes a {kind} amount of stack")
    print(f"largest frame: {largest[0]} bytes, {largest[1]}")
    gate.finish()


main()
