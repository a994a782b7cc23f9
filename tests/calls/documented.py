#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# documented.py INCLUDE [OUTPUT]: what the public headers say that each call can answer
#
# Reads include/mm/**/*.h and writes one row for each public function: name, header, what it
# returns, and the set of statuses of its @return. Tests compare their list of calls with
# it, so that a call without a test, or an answer that no contract names, fails.
#
# What is read of @return: every status that stands outside parentheses, up to the first sentence
# that ends ("." and a space), and the words
#     as mm_f()                         all that mm_f() answers
#     what mm_f() ... and mm_g() answer   the same, of several
#     what the source ... answers       any status: that of the op is passed on
#     what the check ... answers        the same, of a callback that judges
# Words in parentheses explain and add nothing.
#
# A static inline function is a public call if it answers a status or stores through a pointer.
# The others are arithmetic on values, or accessors of the direct map that check nothing by contract
# (mm_physmap_get(), mm_physmap_put()): they have no status and no state, and are tested by value.

import pathlib
import re
import sys

COMMENT = re.compile(r"/\*\*(.*?)\*/\s*", re.S)
PROTOTYPE = re.compile(
    r"^(?:MM_MUST_CHECK\s+)?(static inline )?((?:const )?(?:struct |enum )?\w+ \*{0,2})"
    r"(mm_\w+)\(([^;{]*?)\)\s*[;{]", re.S | re.M)
STATUS = re.compile(r"MM_(?:OK|ERR_\w+)")


def statuses(header):
    """The names of enum mm_status, in order."""
    found = re.findall(r"^\s+(MM_OK|MM_ERR_\w+) = (\d+)", header.read_text(), re.M)
    assert [int(n) for _, n in found] == list(range(len(found)))
    return [name for name, _ in found]


def without_explanations(text):
    """Drop what stands in parentheses after a space: those of f() have none before them."""
    out, depth, at = [], 0, 0
    while at < len(text):
        if depth == 0 and text.startswith(" (", at):
            depth, at = 1, at + 2
            continue
        if depth > 0:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
        else:
            out.append(text[at])
        at += 1
    if depth != 0:
        raise ValueError("parentheses do not match")
    return "".join(out)


def contract(comment):
    """The words of @return, on one line."""
    lines = [re.sub(r"^\s*\* ?", "", line) for line in comment.split("\n")]
    words = []
    for line in lines:
        if line.startswith("@return"):
            words = [line[len("@return"):]]
        elif words:
            if re.match(r"\s*$|@|[A-Z]\w+:\s", line):
                break
            words.append(line.strip())
    return re.sub(r"\s+", " ", " ".join(words)).strip()


class Call:
    def __init__(self, name, header, returns, words):
        self.name, self.header, self.returns, self.words = name, header, returns, words
        text = without_explanations(" " + words)
        text = re.split(r"\. |\.$", text)[0]
        self.own = set(STATUS.findall(text))
        self.source = re.search(r"what the (?:source|check)\b[^|;]*?\banswers", text) is not None
        self.others = []
        for clause in re.findall(r"(?:\bas|\bwhat) (?!the source)((?:mm_\w+\(\)(?:, | and )?)+)",
                                 text):
            self.others += re.findall(r"mm_\w+", clause)


def read(include):
    calls = {}
    for header in sorted(include.glob("mm/**/*.h")):
        text = header.read_text()
        comments = {m.end(): m.group(1) for m in COMMENT.finditer(text)}
        plain = re.sub(r"/\*.*?\*/|^\s*#(?:[^\n]*\\\n)*[^\n]*$",
                       lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.S | re.M)
        for m in PROTOTYPE.finditer(plain):
            inline, returns, name, parameters = m.groups()
            if returns.strip() == "return":
                continue # a call inside a function's body
            parameters = re.sub(r"\s+", " ", parameters.strip())
            returns = returns.strip()
            stores = re.search(r"(?<!const )(?<!volatile )\b(?:uint64_t|void \*) ?\*\w*out", parameters)
            if inline and returns != "mm_status_t" and not stores:
                continue
            at = m.start()
            words = contract(comments[at]) if at in comments else ""
            call = Call(name, str(header.relative_to(include)), returns, words)
            if returns == "mm_status_t" and not call.own and not call.others:
                raise ValueError(f"{header.name}: {name}() has no readable @return")
            calls[name] = call
    return calls


def resolve(calls, name, seen=()):
    call = calls[name]
    own, source = set(call.own), call.source
    for other in call.others:
        if other not in calls:
            raise ValueError(f"{name}: @return names {other}(), which no header declares")
        if other not in seen:
            more, too = resolve(calls, other, seen + (name,))
            own |= more
            source = source or too
    return own, source


def main():
    include = pathlib.Path(sys.argv[1])
    order = statuses(include / "mm" / "status.h")
    calls = read(include)
    rows = []
    for name in sorted(calls):
        call = calls[name]
        own, source = resolve(calls, name) if call.returns == "mm_status_t" else (set(), False)
        unknown = own - set(order)
        if unknown:
            raise ValueError(f"{name}: @return names {unknown.pop()}")
        bits = " | ".join(f"T_BIT({s})" for s in order if s in own) or "0"
        rows.append(f'    {{"{name}", "{call.header}", "{call.returns}", '
                    f'{"true" if source else "false"},\n     {bits}}},\n')
    text = ("// SPDX-License-Identifier: MIT\n"
            "/** Written by tests/calls/documented.py from the public headers. */\n"
            "static const struct t_documented t_documented[] = {\n" + "".join(rows) + "};\n")
    if len(sys.argv) > 2:
        pathlib.Path(sys.argv[2]).write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"documented.py: {error}")
