# SPDX-License-Identifier: MIT
#
# Cross compiler for kernels: cmake -B build/elf --toolchain cmake/toolchain-x86_64-elf.cmake
# Finds x86_64-elf-gcc in PATH; MM_ELF_PREFIX says another prefix ("/opt/cross/bin/x86_64-elf-").
# There is no libc: only the library can be built, and compiler checks stop before linking.

set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR x86_64)

set(MM_ELF_PREFIX "x86_64-elf-" CACHE STRING "What the cross tools' names begin with")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES MM_ELF_PREFIX)

set(CMAKE_C_COMPILER "${MM_ELF_PREFIX}gcc")
set(CMAKE_ASM_COMPILER "${MM_ELF_PREFIX}gcc")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
