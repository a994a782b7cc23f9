#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# record.sh LIBRARY DIRECTORY: record the traces of tests/data/traces again, into DIRECTORY
#
# Needs what the tests preload.* need. A trace depends on the versions of the programs, so another
# machine makes others.
#   --help  this text

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ "${1-}" = --help ] || [ $# -ne 2 ]; then
    sed -n '3,${/^#/!q;s/^# \{0,1\}//;p;}' "$0"
    exit 2
fi
library=$(realpath "$1")
mkdir -p "$2"
directory=$(realpath "$2")
root=$(cd "$here/../.." && pwd)
programs=$here/programs
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# record NAME EVENTS COMMAND...: the trace of the one process that COMMAND is.
record() {
    local name=$1 events=$2
    shift 2
    env LC_ALL=C MM_PRELOAD_TRACE="$scratch/$name" MM_PRELOAD_TRACE_EVENTS=4000000 \
        LD_PRELOAD="$library" "$@" >out </dev/null
    echo "$name: $("$here/trace.py" "$scratch/$name".* "$directory/$name.trc" --events "$events")"
    rm "$scratch/$name".*
}

record python3 250000 env PYTHONMALLOC=malloc python3 -B "$programs/python3.py" 64
record sqlite3 200000 sqlite3 -batch -init "$programs/sqlite3.sql" rows.db .quit
gcc -std=c17 -O2 -ffreestanding -mgeneral-regs-only -mcx16 -I"$root/include" -I"$root/src" \
    -E "$root/src/core/paging/paging.c" -o paging.i
record gcc 300000 "$(gcc -print-prog-name=cc1)" -quiet -O2 -mgeneral-regs-only -mcx16 paging.i -o paging.s
record perl 300000 perl "$programs/perl.pl" 4000
find "$root/src" -type f | sort | xargs cat >some
cat some some some some >all
record xz 300000 xz -T4 --block-size=256KiB -2 -k -c all
export HOME=$scratch GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org \
    GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
git init -q -b main tree
cp -r "$root/src" tree/
git -C tree add .
git -C tree commit -q -m one
find tree/src -name '*.c' -exec sed -i 's/struct/struct  /' {} +
git -C tree commit -q -a -m two
record git 300000 git -C tree log -p --stat
