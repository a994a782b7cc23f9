# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the scripts share: progress lines, options, configuring and building, booting in QEMU.
# Sourced, never run. Nothing here installs anything: that is deps.sh.

set -euo pipefail

MM_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
MM_JOBS=${MM_JOBS:-$(nproc)}

# What the minikernel writes to isa-debug-exit, as QEMU's exit status: (value << 1) | 1.
MM_QEMU_SUCCESS=33
MM_QEMU_FAILURE=35
# What timeout(1) reports.
MM_TIMED_OUT=124

say() {
    printf '\n==> %s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Show the comment at the head of the calling script, from its third line on.
show_help() {
    sed -n '3,${/^#/!q;s/^# \{0,1\}//;p;}' "$0"
}

# option_value OPTION [VALUE]: the value, or an error that names the option.
option_value() {
    if [ $# -lt 2 ] || [ -z "$2" ]; then
        die "$1 needs a value; --help says more"
    fi
    printf '%s\n' "$2"
}

# option_number OPTION [VALUE]: the same for a whole number above 0.
option_number() {
    local value
    value=$(option_value "$@") || exit 1
    case $value in
    *[!0-9]* | 0*) die "$1 needs a whole number above 0, not '$value'; --help says more" ;;
    esac
    printf '%s\n' "$value"
}

# configure PRESET [CMAKE-ARGUMENT...]
configure() {
    local preset=$1
    shift
    say "configuring ($preset)"
    (cd "$MM_ROOT" && cmake --preset "$preset" --no-warn-unused-cli "$@" \
        >"$(log_file "configure-$preset")") ||
        die "configuring $preset failed; see also build/logs/configure-$preset.log"
}

# build PRESET [TARGET...]
build() {
    local preset=$1
    shift
    say "building ($preset)"
    (cd "$MM_ROOT" && cmake --build --preset "$preset" --parallel "$MM_JOBS" ${1+--target "$@"}) ||
        die "building $preset failed"
}

# binary_dir PRESET: where CMakePresets.json puts it.
binary_dir() {
    case $1 in
    dev) printf '%s\n' "$MM_ROOT/build" ;;
    *) printf '%s\n' "$MM_ROOT/build/$1" ;;
    esac
}

# cache_value PRESET NAME: what CMake remembers in that build directory.
cache_value() {
    sed -n "s/^$2:[A-Z]*=//p" "$(binary_dir "$1")/CMakeCache.txt"
}

log_file() {
    mkdir -p "$MM_ROOT/build/logs"
    printf '%s\n' "$MM_ROOT/build/logs/$1.log"
}

# boot_iso ISO SECONDS [QEMU-ARGUMENT...]: boots with the serial console on standard output and
# returns QEMU's status, or $MM_TIMED_OUT. -no-reboot turns a triple fault into an exit; its
# status 0 is not the one of success.
boot_iso() {
    local iso=$1 seconds=$2
    shift 2
    [ -r "$iso" ] || die "$iso is missing; scripts/demo.sh builds it"
    timeout --foreground --kill-after=5 "$seconds" \
        qemu-system-x86_64 -accel tcg -display none -monitor none -serial stdio -nic none \
        -no-reboot \
        -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
        -drive "if=ide,media=cdrom,readonly=on,format=raw,file=$iso" -boot d "$@" </dev/null
}

# uefi_arguments CODE VARS COPY: prints, one a line, the arguments by which QEMU starts UEFI instead of
# a BIOS. The firmware writes its variables, so each boot has a COPY of VARS; the caller removes it.
uefi_arguments() {
    if [ ! -r "$1" ] || [ ! -r "$2" ]; then
        die "no UEFI for QEMU: '$1' or '$2' is missing (Debian package ovmf)"
    fi
    cp "$2" "$3"
    printf '%s\n' -drive "if=pflash,format=raw,unit=0,readonly=on,file=$1" \
        -drive "if=pflash,format=raw,unit=1,file=$3"
}

# boot_verdict STATUS: says in words what the status of boot_iso means.
boot_verdict() {
    case $1 in
    "$MM_QEMU_SUCCESS") echo "the kernel reported success" ;;
    "$MM_QEMU_FAILURE") echo "the kernel reported failure" ;;
    "$MM_TIMED_OUT" | 137) echo "the time limit was reached" ;;
    0) echo "the machine was reset or switched off without a report (a triple fault?)" ;;
    *) echo "QEMU failed with status $1" ;;
    esac
}
