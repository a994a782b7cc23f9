#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Turns runs of the benchmark programs into figures: runs bench_<room>, prints the table, writes
# ROOM.json. README.md says what a benchmark and a figure look like.

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

KINDS = {
    "ratio": {"name", "kind", "of", "over"},
    "counter": {"name", "kind", "of", "counter"},
    "ns": {"name", "kind", "of"},
    "ns_less": {"name", "kind", "of", "less"},
    "ms": {"name", "kind", "of"},
}
OPTIONAL = {"bound", "at_least", "scale_by", "scale_ns"}
# The fields that name benchmarks.
NAMES = ("of", "over", "less", "scale_by")
# How a benchmark's error begins if it measures what this version of the library does not serve.
NOT_SUPPORTED = "not supported"
# What an entry has that is no counter of its benchmark.
NO_COUNTERS = {"name", "family_index", "per_family_instance_index", "run_name", "run_type",
               "repetitions", "repetition_index", "threads", "iterations", "real_time", "cpu_time",
               "time_unit", "items_per_second", "label"}
# Below so many seconds nobody looks at the figures: benchmarks that are long by themselves are short.
A_MOMENT = 0.01
NS_PER = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


def fail(text):
    sys.exit(f"report.py: {text}")


def load_figures(path):
    """The declared figures, each checked."""
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    names = set()
    for figure in figures:
        name = figure.get("name", "?")
        wanted = KINDS.get(figure.get("kind"))
        if wanted is None:
            fail(f"{name}: the kind must be one of {', '.join(KINDS)}")
        if not wanted <= figure.keys() <= wanted | OPTIONAL:
            fail(f"{name}: a {figure['kind']} has {', '.join(sorted(wanted))}; "
                 f"optional are {', '.join(sorted(OPTIONAL))}")
        if "bound" in figure and "at_least" in figure:
            fail(f"{name}: bound and at_least exclude each other")
        if ("scale_by" in figure) != ("scale_ns" in figure):
            fail(f"{name}: scale_by and scale_ns belong together")
        if name in names:
            fail(f"{name} is declared twice")
        names.add(name)
    return figures


def run_program(program, repetitions, seconds, only):
    """
    The repetitions of each benchmark, name to a list of JSON entries in the order of time; and of
    each that could not be measured, name to the reason.
    """
    environment = dict(os.environ)
    if seconds < A_MOMENT:
        environment["MM_BENCH_MOMENT"] = "1"
    done = subprocess.run(
        [program, "--benchmark_format=json", f"--benchmark_repetitions={repetitions}",
         f"--benchmark_min_time={seconds}", "--benchmark_enable_random_interleaving=true",
         f"--benchmark_filter={only or '.'}"],
        stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode != 0:
        fail(f"{program} ended with status {done.returncode}")
    runs, unmeasured = {}, {}
    for entry in json.loads(done.stdout)["benchmarks"]:
        if entry["run_type"] != "iteration":
            continue
        if entry.get("error_occurred"):
            unmeasured[entry["run_name"]] = entry.get("error_message", "failed")
        runs.setdefault(entry["run_name"], []).append(entry)
    for entries in runs.values():
        entries.sort(key=lambda entry: entry["repetition_index"])
    return {name: runs[name] for name in runs if name not in unmeasured}, unmeasured


def counters_of(entries):
    """What the benchmark measured other than time, name to values."""
    names = entries[0].keys() - NO_COUNTERS
    return {name: [entry[name] for entry in entries] for name in sorted(names)}


def item_ns(entry):
    """Nanoseconds of CPU time for one item, or for one iteration where no items are counted."""
    if "items_per_second" in entry:
        return 1e9 / entry["items_per_second"]
    return entry["cpu_time"] * NS_PER[entry["time_unit"]]


def name_of(names, figure, key):
    """The benchmark that a figure names, with or without arguments after its name."""
    wanted = figure[key]
    matches = [name for name in names if name == wanted or name.startswith(wanted + "/")]
    if len(matches) != 1:
        fail(f"{figure['name']}: {len(matches)} benchmarks are called {wanted}")
    return matches[0]


def find(runs, figure, key):
    return runs[name_of(runs, figure, key)]


def all_there(names, figure):
    """Whether all benchmarks that the figure needs were asked for."""
    wanted = [figure[key] for key in NAMES if key in figure]
    return all(any(name == one or name.startswith(one + "/") for name in names) for one in wanted)


def why_missing(runs, unmeasured, figure):
    """Why the figure cannot be computed; None if it can."""
    for key in NAMES:
        if key in figure:
            name = name_of([*runs, *unmeasured], figure, key)
            if name in unmeasured:
                return f"{name}: {unmeasured[name]}"
    return None


def values_of(runs, figure):
    """
    One value a repetition. A ratio or a difference is taken within one: the machine drifts alike for
    both.
    """
    entries = find(runs, figure, "of")
    if figure["kind"] == "ratio":
        return [item_ns(a) / item_ns(b) for a, b in zip(entries, find(runs, figure, "over"))]
    if figure["kind"] == "ns_less":
        return [item_ns(a) - item_ns(b) for a, b in zip(entries, find(runs, figure, "less"))]
    if figure["kind"] == "counter":
        if figure["counter"] not in entries[0]:
            fail(f"{figure['name']}: {figure['of']} has no counter {figure['counter']}")
        return [entry[figure["counter"]] for entry in entries]
    unit = NS_PER[figure["kind"]]
    return [item_ns(entry) / unit for entry in entries]


def bound_of(runs, figure):
    """
    The bound on this machine, as text, and the test of a value. A bound on a time grows with the
    floor that it was stated beside.
    """
    if "at_least" in figure:
        least = figure["at_least"]
        return f">= {number(least)}", lambda value: value >= least
    if "bound" not in figure:
        return "-", None
    bound = figure["bound"]
    if "scale_by" in figure:
        here = statistics.median(item_ns(entry) for entry in find(runs, figure, "scale_by"))
        bound *= here / figure["scale_ns"]
    return f"<= {number(bound)}", lambda value: value <= bound


def number(value):
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def print_table(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [cell.ljust(width) if i == 0 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


def spread(values):
    return [number(min(values)), number(statistics.median(values)), number(max(values))]


def figure_row(runs, figure):
    """The figure's median, whether its bound is missed, and its row of the table."""
    values = values_of(runs, figure)
    value = statistics.median(values)
    bound, is_met = bound_of(runs, figure)
    missed = is_met is not None and not is_met(value)
    met = "-" if is_met is None else "NO" if missed else "yes"
    beside = next((key for key in ("over", "less") if key in figure), "scale_by")
    beside_ns = "-"
    if beside in figure:
        beside_ns = number(statistics.median(map(item_ns, find(runs, figure, beside))))
    of_minima = "-"
    if figure["kind"] == "ratio":
        of_minima = number(min(map(item_ns, find(runs, figure, "of"))) /
                           min(map(item_ns, find(runs, figure, "over"))))
    elif figure["kind"] == "ns_less":
        of_minima = number(min(map(item_ns, find(runs, figure, "of"))) -
                           min(map(item_ns, find(runs, figure, "less"))))
    row = [figure["name"], *spread(values), of_minima, figure.get(beside, "-"), beside_ns, bound, met]
    return value, missed, row


def report_room(room, runs, unmeasured, figures, directory, is_partial):
    """Print the room's tables, write its figures; the number of bounds that are not met."""
    print(f"\n{room}: ns an item")
    print_table(["benchmark", "min", "median", "max"],
                [[name, *spread([item_ns(entry) for entry in entries])]
                 for name, entries in sorted(runs.items()) if not counters_of(entries)])
    counters = [[f"{name.split('/')[0]}: {counter}", *spread(values)]
                for name, entries in sorted(runs.items())
                for counter, values in counters_of(entries).items()]
    if counters:
        print(f"\n{room}: counters")
        print_table(["benchmark", "min", "median", "max"], counters)

    rows, missing, result, nr_missed = [], [], {}, 0
    for figure in figures:
        if is_partial and not all_there([*runs, *unmeasured], figure):
            continue
        reason = why_missing(runs, unmeasured, figure)
        if reason is not None:
            missing.append([figure["name"], reason])
            nr_missed += "bound" in figure or "at_least" in figure
            continue
        value, missed, row = figure_row(runs, figure)
        result[figure["name"]] = round(value, 6)
        nr_missed += missed
        rows.append(row)
    if rows:
        print(f"\n{room}: figures")
        print_table(["figure", "min", "median", "max", "of minima", "beside", "its ns", "bound", "met"], rows)
    if missing:
        print(f"\n{room}: missing figures")
        for name, reason in missing:
            print(f"{name}: {reason}")
    if directory and not is_partial:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{room}.json"
        path.write_text(json.dumps(result, indent=4, sort_keys=True) + "\n", encoding="utf-8")
    return nr_missed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=pathlib.Path, nargs="+", help="bench_<room>")
    parser.add_argument("--figures", type=pathlib.Path, required=True, help="figures.json")
    parser.add_argument("--directory", type=pathlib.Path, help="where ROOM.json goes")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="of a repetition")
    parser.add_argument("--only", metavar="REGEX",
                        help="run these benchmarks only, show their figures, write no file")
    parser.add_argument("--strict", action="store_true", help="fail when a bound is not met")
    arguments = parser.parse_args()

    declared = load_figures(arguments.figures)
    nr_missed, failures = 0, []
    for program in arguments.programs:
        room = program.name.removeprefix("bench_")
        figures = [figure for figure in declared if figure["name"].split(".")[0] == room]
        runs, unmeasured = run_program(program, arguments.repetitions, arguments.seconds,
                                       arguments.only)
        if not runs and not unmeasured:
            fail(f"{program} has no benchmark")
        nr_missed += report_room(room, runs, unmeasured, figures, arguments.directory,
                                 arguments.only is not None)
        failures += [f"{name}: {reason}" for name, reason in sorted(unmeasured.items())
                     if not reason.startswith(NOT_SUPPORTED)]
    if nr_missed:
        print(f"\n{nr_missed} bounds not met")
    if failures:
        fail("these failed:\n" + "\n".join(failures))
    sys.exit(1 if nr_missed and arguments.strict else 0)


main()
