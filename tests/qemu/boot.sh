#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# boot.sh [--says FILE]... [--uefi CODE VARS] ISO LOG SECONDS success|failure PATTERN
#         [QEMU-ARGUMENT...]: one boot as a test
#
# Boots ISO, keeps what the serial console said in LOG, and passes if the kernel reported what was
# expected and a line of the log matches PATTERN. For success PATTERN must match the last line. Each
# line of FILE, but for comments, is one more pattern that a line of the log must match. With --uefi the
# machine has that firmware instead of a BIOS.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

says=()
uefi=()
while :; do
    case ${1-} in
    --says)
        says+=("$(option_value "$@")")
        shift 2
        ;;
    --uefi)
        [ $# -ge 3 ] || die "--uefi needs CODE and VARS"
        uefi=("$2" "$3")
        shift 3
        ;;
    *) break ;;
    esac
done
[ $# -ge 5 ] || die "needs at least five arguments"
iso=$1 log=$2 seconds=$3 expected=$4 pattern=$5
shift 5

case $expected in
success) wanted=$MM_QEMU_SUCCESS ;;
failure) wanted=$MM_QEMU_FAILURE ;;
*) die "'$expected' is neither success nor failure" ;;
esac

mkdir -p "$(dirname "$log")"
arguments=("$@")
if [ ${#uefi[@]} -gt 0 ]; then
    drives=$(uefi_arguments "${uefi[@]}" "$log.vars")
    mapfile -t -O "${#arguments[@]}" arguments <<<"$drives"
fi
status=0
boot_iso "$iso" "$seconds" ${arguments[@]+"${arguments[@]}"} >"$log.raw" || status=$?
# The console ends lines with CR LF; firmware and boot loader paint with escape sequences.
sed -e 's/\r//g' -e 's/\x1b\[[0-9;?=]*[A-Za-z]//g' -e 's/\x1bc//g' "$log.raw" >"$log"
rm -f "$log.raw" "$log.vars"

cat "$log"
echo "--- $(boot_verdict "$status")"
[ "$status" -eq "$wanted" ] || die "expected $expected"

if [ "$expected" = success ]; then
    tail -n 1 "$log" | grep -Eq "$pattern" || die "the last line does not match: $pattern"
else
    grep -Eq "$pattern" "$log" || die "no line matches: $pattern"
fi
for file in ${says[@]+"${says[@]}"}; do
    while IFS= read -r line; do
        case $line in
        '' | '#'*) ;;
        *) grep -Eq -e "$line" "$log" || die "no line matches: $line" ;;
        esac
    done <"$file"
done
