#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bench.sh [OPTION...] [ROOM...]: build the benchmarks optimised, run them, and report the figures
#
# ROOM is one of frame, paging, heap, space, dma, user; without one, all that have benchmarks. Prints the
# spread of each benchmark and of each figure beside its floor or peer, and writes
# build/figures/ROOM.json. bench/README.md says how to read and to add them.
#   --repetitions N  how often each is run, in random order (9)
#   --seconds S      least time of a repetition (0.1)
#   --only REGEX     run the benchmarks that match, show their figures, write no file
#   --strict         fail when a bound is not met
#   --help           this text

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

known_rooms=(frame paging heap space dma user)
rooms=()
report_arguments=()
only=0
while [ $# -gt 0 ]; do
    case $1 in
    frame | paging | heap | space | dma | user) rooms+=("$1") ;;
    --repetitions | --seconds | --only)
        report_arguments+=("$1" "$(option_value "$@")")
        [ "$1" != --only ] || only=1
        shift
        ;;
    --strict) report_arguments+=("$1") ;;
    --help | -h)
        show_help
        exit 0
        ;;
    *) die "unknown argument '$1'; rooms are ${known_rooms[*]}; --help says more" ;;
    esac
    shift
done

programs=()
targets=()
directory=$(binary_dir bench)/benchmarks
for room in "${rooms[@]:-${known_rooms[@]}}"; do
    if [ -e "$MM_ROOT/bench/bench_$room.cc" ]; then
        targets+=("bench_$room")
        programs+=("$directory/bench_$room")
    elif [ ${#rooms[@]} -gt 0 ]; then
        say "the room '$room' has no benchmarks: bench/bench_$room.cc does not exist"
    fi
done
[ ${#programs[@]} -gt 0 ] || die "there is no benchmark to run"

"$MM_ROOT/scripts/deps.sh" bench
configure bench
build bench "${targets[@]}"

say "measuring: ${targets[*]}"
python3 -B "$MM_ROOT/bench/report.py" "${programs[@]}" --figures "$MM_ROOT/bench/figures.json" \
    --directory "$MM_ROOT/build/figures" "${report_arguments[@]}"
[ "$only" = 1 ] || say "figures are in build/figures/"
