#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# demo.sh [OPTION...]: build libmm and the minikernel, and boot it in QEMU
#
# Installs what is missing (deps.sh), builds build/libmm.a and build/minikernel.iso, and boots it
# with the serial console on the terminal. Exits 0 only if the kernel reports success.
#   --memory SIZE    memory of the machine, as QEMU takes it: 64M, 512M, 6G (512M); with less than
#                    16M the kernel says what is missing, with less than 8M GRUB itself may not start
#   --cpu MODEL      processor, as QEMU takes it: max, qemu64 (max)
#   --smp N          number of processors (1; with --numa 4)
#   --numa           a machine of two nodes: half of the memory and of the processors each, at distance
#                    21; memory in M or G then, and both even
#   --firmware NAME  bios or uefi (bios)
#   --gdb            wait for a debugger (Debian package gdb), and print the line to type; no time limit
#   --timeout SECS   time limit of the boot (300)
#   --help           this text

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

memory=512M
cpu=max
smp=
numa=0
firmware=bios
gdb=0
seconds=300
while [ $# -gt 0 ]; do
    case $1 in
    --memory)
        memory=$(option_value "$@")
        shift
        ;;
    --cpu)
        cpu=$(option_value "$@")
        shift
        ;;
    --smp)
        smp=$(option_number "$@")
        shift
        ;;
    --firmware)
        firmware=$(option_value "$@")
        shift
        ;;
    --timeout)
        seconds=$(option_number "$@")
        shift
        ;;
    --numa) numa=1 ;;
    --gdb) gdb=1 ;;
    --help | -h)
        show_help
        exit 0
        ;;
    *) die "unknown argument '$1'; --help says more" ;;
    esac
    shift
done

case $firmware in
bios | uefi) ;;
*) die "--firmware is bios or uefi, not '$firmware'; --help says more" ;;
esac

if [ -z "$smp" ]; then
    smp=1
    [ "$numa" = 0 ] || smp=4
fi
nodes=()
if [ "$numa" = 1 ]; then
    [[ $memory =~ ^([0-9]+)([MmGg])$ ]] || die "with --numa --memory is in M or G, not '$memory'"
    half=$((BASH_REMATCH[1]))
    [[ ${BASH_REMATCH[2]} == [Mm] ]] || half=$((half * 1024))
    if [ $((half % 2)) != 0 ] || [ $((smp % 2)) != 0 ]; then
        die "with --numa --memory and --smp are even"
    fi
    half=$((half / 2))
    nodes=(-object "memory-backend-ram,id=m0,size=${half}M"
        -object "memory-backend-ram,id=m1,size=${half}M"
        -numa "node,nodeid=0,memdev=m0,cpus=0-$((smp / 2 - 1))"
        -numa "node,nodeid=1,memdev=m1,cpus=$((smp / 2))-$((smp - 1))"
        -numa "dist,src=0,dst=1,val=21")
fi

"$MM_ROOT/scripts/deps.sh" demo

# Tests and benchmarks need more packages than the demo: a build directory made here leaves them
# out, another keeps them.
if [ -e "$MM_ROOT/build/CMakeCache.txt" ]; then
    configure dev -DMM_BUILD_TESTS="$(cache_value dev MM_BUILD_TESTS)" \
        -DMM_BUILD_BENCH="$(cache_value dev MM_BUILD_BENCH)"
else
    configure dev -DMM_BUILD_TESTS=OFF -DMM_BUILD_BENCH=OFF
fi
build dev minikernel_iso

arguments=(-m "$memory" -cpu "$cpu" -smp "$smp" ${nodes[@]+"${nodes[@]}"})
if [ "$firmware" = uefi ]; then
    variables=$(mktemp)
    trap 'rm -f "$variables"' EXIT
    drives=$(uefi_arguments "$(cache_value dev MINIKERNEL_OVMF_CODE)" \
        "$(cache_value dev MINIKERNEL_OVMF_VARS)" "$variables")
    mapfile -t -O "${#arguments[@]}" arguments <<<"$drives"
fi
if [ "$gdb" = 1 ]; then
    seconds=0
    arguments+=(-gdb tcp::1234 -S)
    say "waiting for a debugger; in another terminal type:"
    echo "gdb -ex 'target remote localhost:1234' '$MM_ROOT/build/minikernel.elf'"
fi

say "booting with $memory of memory, $smp x $cpu, $firmware"
status=0
boot_iso "$MM_ROOT/build/minikernel.iso" "$seconds" "${arguments[@]}" || status=$?
say "$(boot_verdict "$status")"
[ "$status" -eq "$MM_QEMU_SUCCESS" ]
