#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# deps.sh [demo|test|bench|coverage|mcdc]...: install the Debian packages that the other scripts need
#
# Without an argument: demo, test and bench. What is installed already is not touched; when nothing is
# missing, neither root nor network is needed. Otherwise apt-get runs, as root or through sudo. On
# a system without apt it prints what is needed and fails; MM_SKIP_DEPS=1 in the environment skips
# the check for those who have installed the same tools in another way.
#   --list     print the packages of the sets, one a line, and do nothing
#   --help     this text

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# libc6-dev and the likes are named because recommended packages are not installed.
declare -A packages_of=(
    [demo]="gcc binutils libc6-dev make cmake ninja-build
        qemu-system-x86 grub-common grub-pc-bin grub-efi-amd64-bin ovmf xorriso mtools"
    [test]="gcc g++ binutils libc6-dev make cmake ninja-build
        qemu-system-x86 grub-common grub-pc-bin grub-efi-amd64-bin ovmf xorriso mtools
        python3 pkg-config libcmocka-dev libbenchmark-dev zlib1g-dev
        libmimalloc2.0 libjemalloc2 libtcmalloc-minimal4
        clang libclang-rt-dev llvm clang-format clang-tidy cppcheck
        git perl sqlite3 xz-utils"
    [bench]="gcc g++ binutils libc6-dev make cmake ninja-build
        python3 libcmocka-dev libbenchmark-dev zlib1g-dev
        libmimalloc2.0 libjemalloc2 libtcmalloc-minimal4"
    [coverage]="gcovr"
    [mcdc]="clang-19 libclang-rt-19-dev llvm-19"
)

sets=()
list=0
for argument in "$@"; do
    case $argument in
    demo | test | bench | coverage | mcdc) sets+=("$argument") ;;
    --list) list=1 ;;
    --help | -h)
        show_help
        exit 0
        ;;
    *) die "unknown argument '$argument'; --help says more" ;;
    esac
done
[ ${#sets[@]} -gt 0 ] || sets=(demo test bench)

mapfile -t packages < <(
    for set in "${sets[@]}"; do
        # shellcheck disable=SC2086 # one word a package
        printf '%s\n' ${packages_of[$set]}
    done | sort -u
)

if [ "$list" = 1 ]; then
    printf '%s\n' "${packages[@]}"
    exit 0
fi

if [ "${MM_SKIP_DEPS:-0}" = 1 ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    {
        echo "This system has no apt. Please install what these Debian packages contain:"
        printf '  %s\n' "${packages[@]}"
        echo "then run again with MM_SKIP_DEPS=1 in the environment."
    } >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    # shellcheck disable=SC2016 # the format is dpkg-query's own
    state=$(dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null || true)
    grep -qx installed <<<"$state" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

say "installing: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        die "root is needed, and there is no sudo. As root: apt-get install ${missing[*]}"
    as_root=(sudo)
fi
apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@"
}
apt_get update || die "apt-get update failed"
apt_get install --no-install-recommends "${missing[@]}" || die "apt-get install failed"
