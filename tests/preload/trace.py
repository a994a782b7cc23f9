#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Makes a trace (tests/data/traces/README.md) of what the preloaded malloc recorded, FILE.PID:
#     trace.py RECORDED TRACE [--events N]
# Addresses become the lowest free numbers. At most N events are kept, the first ones.

import argparse
import gzip
import heapq
import struct

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


def main():
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
