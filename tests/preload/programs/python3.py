# SPDX-License-Identifier: MIT
#
# What a program in Python does with memory: large and small objects, strings, big numbers, regular
# expressions, documents, threads, processes. What it prints depends on nothing but itself and its
# argument, by which all is divided.

import array
import collections
import concurrent.futures
import hashlib
import json
import os
import random
import re
import sys
import threading
import zlib


PART = int(sys.argv[1]) if len(sys.argv) > 1 else 1


def digest(thing):
    return hashlib.sha256(repr(thing).encode()).hexdigest()[:16]


def documents(generator):
    rows = [{"id": i, "name": f"row {i}", "values": [generator.random() for _ in range(i % 7)],
             "nested": {"even": i % 2 == 0, "text": "x" * (i % 50)}} for i in range(3000 // PART)]
    text = json.dumps(rows)
    again = json.loads(text)
    assert again == rows
    return len(text), digest(again)


def words(generator):
    letters = "abcdefghij"
    text = " ".join("".join(generator.choices(letters, k=generator.randint(1, 9)))
                    for _ in range(15000 // PART))
    counts = collections.Counter(re.findall(r"\b[a-e]+\b", text))
    changed = re.sub(r"([a-c]+)([d-j])", lambda match: match.group(2) + match.group(1), text)
    return counts.most_common(5), digest(changed)


def numbers():
    product = 1
    for i in range(1, 1000 // PART):
        product *= i
    power = pow(7, 5001)
    return digest(product % (2 ** 61 - 1)), power.bit_length(), str(power % 10 ** 30)


def growing():
    bytes_ = bytearray()
    for i in range(2000 // PART):
        bytes_ += bytes([i % 256]) * (i % 1000)
    values = array.array("q")
    for i in range(30000 // PART):
        values.append(i * i)
    keys = {f"key {i}": i for i in range(20000 // PART)}
    for i in range(0, 20000 // PART, 3):
        del keys[f"key {i}"]
    return len(bytes_), sum(values) % 1000003, len(keys), zlib.crc32(bytes(bytes_))


def large():
    """Hundreds of MiB, of which little is touched, and far too much."""
    much = bytearray(300 * 1024 * 1024 // PART ** 2)
    much[::4 * 1024 * 1024] = b"a" * len(range(0, len(much), 4 * 1024 * 1024))
    found = much.count(b"a", 0, 64 * 1024 * 1024)
    del much
    try:
        bytearray(1 << 46)
    except MemoryError:
        return found, "no memory"
    return found, "memory"


def threads():
    """Objects made by one and dropped by another."""
    hand = collections.deque()
    sums = []
    lock = threading.Lock()

    def work(number):
        generator = random.Random(number)
        mine = []
        for i in range(1500 // PART):
            thing = [generator.randrange(1000) for _ in range(generator.randrange(30))]
            mine.append(sum(thing))
            hand.append(thing)
            if i % 3 == 0 and hand:
                try:
                    hand.popleft()
                except IndexError:
                    pass
        with lock:
            sums.append(sum(mine))

    team = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        packed = list(pool.map(lambda n: zlib.compress(bytes([n]) * 200000), range(16)))
    return sorted(sums), digest(packed)


def children():
    """Children of fork() go on with the heap that they were given."""
    answers = []
    for number in range(6):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, digest([str(i) * number for i in range(2000 // PART)]).encode())
            os._exit(0)
        os.close(writer)
        answers.append(os.read(reader, 100).decode())
        os.close(reader)
        assert os.waitpid(child, 0)[1] == 0
    return digest(answers)


def main():
    generator = random.Random(20)
    print("documents", documents(generator))
    print("words", words(generator))
    print("numbers", numbers())
    print("growing", growing())
    print("large", large())
    print("threads", threads())
    print("children", children())


main()
