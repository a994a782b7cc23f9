#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# consume.sh WAY DIRECTORY [BUILD]: one way in which others use libmm, tried in DIRECTORY
#
#   find_package      CMake over an installation of BUILD, moved after it was made
#   pkg_config        pkg-config over an installation of BUILD, moved after it was made
#   make              a plain Makefile over an installation of BUILD
#   add_subdirectory  CMake over the sources, also as part of a shared library
#   alone             CMake on the sources, without an option: a C compiler is all that is there
#   sources           a kernel's own Makefile over src/sources.txt
#   cross             the toolchain file for x86_64-elf-gcc (a stand-in when there is none)

set -euo pipefail

way=$1 directory=$2 build=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

fail() {
    echo "consume.sh: $*" >&2
    exit 1
}

# Only one core: ctest runs the ways side by side. Where what is tried is the way and not the code, the
# build is not optimised, which is half of the work; "alone" and "sources" have what others get.
build_with_cmake() {
    local source=$1
    shift
    cmake -S "$source" -B "$directory/build" -G Ninja "$@"
    cmake --build "$directory/build" -j 1
}

# An installation whose prefix is not the one that it was made for.
install_and_move() {
    cmake --install "$build" --prefix "$directory/first"
    mv "$directory/first" "$directory/prefix"
    archive=$(find "$directory/prefix" -name libmm.a)
    [ -f "$archive" ] || fail "the installation has no libmm.a"
    libdir=$(dirname "$archive")
    adapters=$directory/prefix/share/mm/adapters
    diff -r "$root/examples/adapters" "$adapters" || fail "the installation has other adapters"
    if grep -rIl -e "$directory/first" -e "$root" "$directory/prefix"; then
        fail "these files name the place where they were made"
    fi
}

rm -rf "$directory"
mkdir -p "$directory"
cd "$directory"

case $way in
find_package)
    install_and_move
    build_with_cmake "$here/find_package" -DCMAKE_PREFIX_PATH="$directory/prefix"
    "$directory/build/consumer"
    "$directory/build/consumer_cxx"
    "$directory/build/consumer_new"
    # Before 1.0 another minor version is another interface.
    mkdir later
    cat >later/CMakeLists.txt <<'EOT'
cmake_minimum_required(VERSION 3.22)
project(later C)
find_package(mm 0.2 REQUIRED)
EOT
    if cmake -S later -B later/build -G Ninja -DCMAKE_PREFIX_PATH="$directory/prefix" \
        >later/log 2>&1; then
        fail "find_package(mm 0.2) accepted another version"
    fi
    ;;
pkg_config)
    install_and_move
    export PKG_CONFIG_PATH="$libdir/pkgconfig"
    pkg-config --print-errors --exists 'mm >= 0.1.0'
    for pie in -pie -no-pie; do
        # shellcheck disable=SC2046 # flags are words
        cc -std=c11 -Wall -Wextra -Wpedantic -Werror -f${pie#-} $pie "$here/main.c" \
            $(pkg-config --cflags --libs mm) -o "consumer$pie"
        "./consumer$pie"
    done
    # As a kernel compiles it.
    [ "$(pkg-config --variable=adapters mm)" -ef "$adapters" ] || fail "mm.pc names other adapters"
    # shellcheck disable=SC2046
    cc -std=c17 -Wall -Wextra -Wpedantic -Werror -ffreestanding -fno-builtin \
        $(pkg-config --cflags mm) -c "$(pkg-config --variable=adapters mm)/malloc.c" -o malloc.o
    ;;
make)
    install_and_move
    make -f "$here/make/Makefile" PREFIX="$directory/prefix" \
        LIBDIR="${libdir#"$directory/prefix/"}" SOURCE="$here/main.c"
    ./consumer
    ;;
add_subdirectory)
    # With an option of config.h, which the program must then see as the archive does.
    build_with_cmake "$here/add_subdirectory" -DMM_SOURCE_DIR="$root" -DCMAKE_BUILD_TYPE=Debug \
        -DMM_CONFIG_DEFINITIONS=MM_GATHER_MAX_RUNS=64
    "$directory/build/consumer"
    exported=$(nm -D --defined-only "$directory/build/libplugin.so" | grep ' mm' || true)
    [ -z "$exported" ] || fail "the shared library exports: $exported"
    ;;
alone)
    CXX=$directory/no-such-compiler build_with_cmake "$root"
    [ -f "$directory/build/libmm.a" ] || fail "no libmm.a was built"
    ;;
sources)
    make -f "$here/sources/Makefile" MM="$root" -j 1
    undefined=$(nm -u kernel.o | awk '{print $2}' | grep -vxE 'mem(cpy|move|set|cmp)' || true)
    [ -z "$undefined" ] || fail "the kernel would have to supply: $undefined"
    ;;
cross)
    tools=$directory/tools
    mkdir "$tools"
    if ! command -v x86_64-elf-gcc >/dev/null; then
        for tool in gcc ar ranlib ld nm objcopy objdump strip; do
            ln -s "$(command -v "$tool")" "$tools/x86_64-elf-$tool"
        done
        export PATH="$tools:$PATH"
    fi
    build_with_cmake "$root" --toolchain "$root/cmake/toolchain-x86_64-elf.cmake" \
        -DCMAKE_BUILD_TYPE=Debug
    [ -f "$directory/build/libmm.a" ] || fail "no libmm.a was built"
    grep -q '^MM_BUILD_TESTS:BOOL=OFF' "$directory/build/CMakeCache.txt" ||
        fail "tests are on in a cross build"
    grep -q 'CMAKE_C_COMPILER.*x86_64-elf-gcc' "$directory/build/CMakeCache.txt" ||
        grep -rq 'x86_64-elf-gcc' "$directory/build/CMakeFiles" || fail "another compiler was used"
    ;;
*)
    fail "unknown way '$way'"
    ;;
esac
