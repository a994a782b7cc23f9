#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Makes a trace (tests/data/traces/README.md) of what the preloaded malloc recorded, FILE.PID:
#     trace.py RECORDED TRACE [--events N]
# Addresses become the lowest free numbers. At most N events are kept, the first ones. Or reads one,
# checks that it keeps its rules, and counts:
#     trace.py --read TRACE

import argparse
import gzip
import heapq
import pathlib
import struct
import sys

EVENT = struct.Struct("<IIQQQ")
ALLOC, ALIGNED, ZEROED, FREE, REALLOC_BEGIN, REALLOC_END = range(1, 7)
OP_ALLOC, OP_ALIGNED, OP_REALLOC, OP_FREE, OP_ZEROED = range(5)


def varint(number):
    made = bytearray()
    while number >= 128:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return made


class Ids:
    """Numbers of the objects that live."""

    def __init__(self):
        self.at = {}
        self.free = []
        self.nr = 0

    def new(self, address):
        if self.free:
            number = heapq.heappop(self.free)
        else:
            number = self.nr
            self.nr += 1
        self.at[address] = number
        return number

    def drop(self, address):
        """None: it was allocated before the recording began."""
        return self.at.pop(address, None)

    def release(self, number):
        heapq.heappush(self.free, number)


def convert(events, most):
    ids = Ids()
    moving = {}  # thread: number and old address of the object that it resizes
    out = bytearray()
    nr_events = 0

    def emit(op, number, *operands):
        nonlocal nr_events
        out.extend(varint(number << 3 | op))
        for operand in operands:
            out.extend(varint(operand))
        nr_events += 1

    for op, thread, address, size, align in events:
        if op == 0 or nr_events >= most:
            break
        if op in (ALLOC, ALIGNED, ZEROED):
            if address in ids.at:
                raise SystemExit(f"{address:#x} is given twice")
            number = ids.new(address)
            if op == ALIGNED:
                emit(OP_ALIGNED, number, align.bit_length() - 1, size)
            else:
                emit(OP_ZEROED if op == ZEROED else OP_ALLOC, number, size)
        elif op == FREE:
            number = ids.drop(address)
            if number is not None:
                emit(OP_FREE, number)
                ids.release(number)
        elif op == REALLOC_BEGIN:
            moving[thread] = ids.drop(address), address
        elif op == REALLOC_END:
            number, old = moving.pop(thread)
            if address == 0:  # it failed
                if number is not None:
                    ids.at[old] = number
            elif number is not None:
                ids.at[address] = number
                emit(OP_REALLOC, number, size)
    return b"MMTRACE1" + varint(ids.nr) + varint(nr_events) + out, ids, nr_events


def read(data):
    """Counts of the events of a trace, by op; it keeps its rules, or this raises."""
    at = 8

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    if data[:8] != b"MMTRACE1":
        raise SystemExit("it is no trace")
    nr_ids = number()
    nr_events = number()
    live = set()
    counts = [0] * 5
    for _ in range(nr_events):
        head = number()
        number_, op = head >> 3, head & 7
        if op == OP_ALIGNED and number() > 40:
            raise SystemExit("an alignment that no machine has")
        if op != OP_FREE:
            number()
        if number_ >= nr_ids or (number_ in live) != (op in (OP_FREE, OP_REALLOC)):
            raise SystemExit(f"op {op} of object {number_}")
        counts[op] += 1
        if op == OP_FREE:
            live.remove(number_)
        else:
            live.add(number_)
    if at != len(data):
        raise SystemExit("it goes on behind its last event")
    return counts, len(live)


def main():
    if sys.argv[1:2] == ["--read"]:
        counts, live = read(gzip.decompress(pathlib.Path(sys.argv[2]).read_bytes()))
        print(f"{counts[OP_ALLOC] + counts[OP_ALIGNED] + counts[OP_ZEROED]} allocated, "
              f"{counts[OP_FREE]} freed, {counts[OP_REALLOC]} resized, {live} live")
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("recorded")
    parser.add_argument("trace")
    parser.add_argument("--events", type=int, default=1000000)
    arguments = parser.parse_args()

    with open(arguments.recorded, "rb") as file:
        data = file.read()
    data = data[:len(data) // EVENT.size * EVENT.size]
    trace, ids, nr_events = convert(EVENT.iter_unpack(data), arguments.events)
    with open(arguments.trace, "wb") as file:
        # Neither name nor time: the same recording gives the same file.
        with gzip.GzipFile("", "wb", 9, file, 0) as packed:
            packed.write(trace)
    print(f"{nr_events} events, {ids.nr} ids, {len(ids.at)} live at the end")


main()
