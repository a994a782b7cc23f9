#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# hunt.sh PROGRAM CORPUS PLACE SECONDS: run a fuzz target for a while, and say how to replay
#
# Begins with the corpus, which it does not change; what is new is gathered below PLACE/new, inputs
# that fail are kept as PLACE/crash-* (or oom-*, timeout-*). MM_TEST_SEED in the environment is the
# seed; else it is drawn, and printed.

set -euo pipefail

program=$1
corpus=$2
place=$3
seconds=$4
seed=${MM_TEST_SEED:-$(($(date +%s%N) % 4294967295 + 1))}

mkdir -p "$place/new"
log=$place/log
printf 'seed %s: MM_TEST_SEED=%s %s %s %s %s %s\n' "$seed" "$seed" "$0" "$@"
# Each crash prints the operation, what was expected and what was seen; the log has all of it.
if ! "$program" -seed="$((seed & 0x7fffffff))" -max_total_time="$seconds" -max_len=2048 -timeout=20 \
    -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$place/" \
    "$place/new" "$corpus" >"$log" 2>&1; then
    tail -n 60 "$log"
    echo "found in $(basename "$program"), seed $seed; replay:"
    for input in "$place"/crash-* "$place"/oom-* "$place"/timeout-* "$place"/leak-*; do
        [ ! -e "$input" ] || echo "  FUZZ_TRACE=1 $program $input"
    done
    echo "once it is mended: copy the input into $corpus"
    exit 1
fi
grep -E ' cov: [0-9]+' "$log" | tail -n 1
grep -E '^stat::(number_of_executed_units|average_exec_per_sec|new_units_added|peak_rss_mb)' "$log"
