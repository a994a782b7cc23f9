#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# run.sh PROGRAM LIBRARY DIRECTORY: a real program on the preloaded malloc, unchanged
#
# Runs programs/PROGRAM.sh twice below DIRECTORY, on the system's malloc and on LIBRARY, and compares
# what it printed, its status, and the files that it left in out/. Then it asks the statistics
# whether each program that the script is about (its line "# on: NAME CALLS") did run on LIBRARY,
# with at least so many allocations, and whether every heap was sound at the end.
#   --help  this text

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ "${1-}" = --help ] || [ $# -ne 3 ]; then
    sed -n '3,${/^#/!q;s/^# \{0,1\}//;p;}' "$0"
    exit 2
fi
program=$1
library=$(realpath "$2")
directory=$3
script=$here/programs/$program.sh

fail() {
    printf 'preload.%s: %s\n' "$program" "$*" >&2
    exit 1
}

[ -r "$script" ] || fail "there is no $script"
[ -r "$library" ] || fail "there is no $library"
root=$(cd "$here/../.." && pwd)

# once NAME [VARIABLE=VALUE...]: what the script prints goes to NAME.txt, its status to its end.
once() {
    local name=$1 status=0
    shift
    mkdir -p "$directory/$name/out"
    (
        cd "$directory/$name"
        env LC_ALL=C MM_SOURCE="$root" MM_PROGRAMS="$here/programs" "$@" bash "$script"
    ) >"$directory/$name.txt" 2>&1 </dev/null || status=$?
    echo "status $status" >>"$directory/$name.txt"
    return "$status"
}

rm -rf "$directory"
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
stats=$directory/stats
once system || {
    cat "$directory/system.txt"
    fail "it does not run on the system's malloc"
}
once preload LD_PRELOAD="$library" MM_PRELOAD_STATS="$stats" || {
    tail -n 50 "$directory/preload.txt"
    fail "it does not run on $library"
}
diff -u "$directory/system.txt" "$directory/preload.txt" | head -n 50 || true
cmp "$directory/system.txt" "$directory/preload.txt" || fail "it prints something else"
diff -rq "$directory/system/out" "$directory/preload/out" || fail "it leaves other files"

[ -s "$stats" ] || fail "nothing ran on $library"
! grep -v ', sound$' "$stats" || fail "a heap is not sound"
# Several of one name count together.
while read -r name calls; do
    ran=$(awk -v name="$name" -F': ' \
        '$1 ~ "^(" name ")$" { n++; sum += $2 } END { print n + 0, sum + 0 }' "$stats")
    echo "$name: ${ran% *} processes, ${ran#* } allocations"
    [ "${ran#* }" -ge "$calls" ] || fail "$name made ${ran#* } allocations, not $calls"
done < <(sed -n 's/^# on: //p' "$script")
echo "$(wc -l <"$stats") processes; most pages: $(awk '{
    for (i = 2; i <= NF; i++)
        if ($i == "pages" && $(i + 1) == "at" && $(i - 1) > most) { most = $(i - 1); line = $0 }
} END { print line }' "$stats")"
