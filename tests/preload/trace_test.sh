#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# trace_test.sh LIBRARY DIRECTORY: what the recorder writes is what was done
#
# A program with threads and children is recorded, and counted at the same time. The trace must keep
# its rules, and have as many events as were counted, but for the few after the count was taken. Those
# in tests/data/traces must keep their rules as well.
#   --help  this text

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ "${1-}" = --help ] || [ $# -ne 2 ]; then
    sed -n '3,${/^#/!q;s/^# \{0,1\}//;p;}' "$0"
    exit 2
fi
library=$(realpath "$1")
directory=$2
rm -rf "$directory"
mkdir -p "$directory"

# What python3 starts first, if it is a script, may be recorded too: the number stays the same.
(
    echo "$BASHPID" >"$directory/pid"
    exec env PYTHONMALLOC=malloc MM_PRELOAD_TRACE="$directory/record" \
        MM_PRELOAD_TRACE_EVENTS=4000000 MM_PRELOAD_STATS="$directory/stats" LD_PRELOAD="$library" \
        python3 -S -B "$here/programs/python3.py" 32
) >"$directory/out"
record=$directory/record.$(cat "$directory/pid")
python3 -B "$here/trace.py" "$record" "$directory/made.trc" --events 4000000
made=$(python3 -B "$here/trace.py" --read "$directory/made.trc")
counted=$(grep '^python3' "$directory/stats" | sort -t' ' -k2 -n | tail -n 1)
echo "recorded: $made"
echo "counted:  $counted"
read -r made_allocated _ made_freed _ made_resized _ <<<"$made"
read -r _ allocated _ freed _ resized _ <<<"$counted"
near() {
    if [ "$2" -lt "$1" ] || [ "$2" -gt $(($1 + 200)) ]; then
        echo "$3: $1 were counted, $2 recorded" >&2
        exit 1
    fi
}
[ "$allocated" -gt 100000 ] || {
    echo "the program made $allocated allocations" >&2
    exit 1
}
near "$allocated" "$made_allocated" allocated
near "$freed" "$made_freed" freed
near "$resized" "$made_resized" resized
rm -f "$directory"/record.*

for trace in "$here"/../data/traces/*.trc; do
    echo "$(basename "$trace"): $(python3 -B "$here/trace.py" --read "$trace")"
done
