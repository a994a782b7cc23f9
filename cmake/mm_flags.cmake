# SPDX-License-Identifier: MIT
#
# Compiler flags, each once: those of the library, the warnings, and the sanitizers.
# What a flag is for stands beside it; who uses it is said in the CMakeLists.txt files.

# The library. The objects link into a kernel at -2 GiB, into host executables and into shared
# libraries.
set(MM_LIBRARY_FLAGS
    -ffreestanding          # no libc behind it
    -fPIC                   # with hidden visibility: relative addresses only, no GOT
    -fvisibility=hidden
    -mno-red-zone           # interrupts of a kernel use the stack that they find
    -mgeneral-regs-only     # vector and x87 registers belong to whom the kernel interrupted
    -mcx16                  # a line of frames is claimed two words at a time
    -fno-stack-protector    # needs a canary from the libc
    "-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=")
# Whatever the build type calls optimised (-O3 in Release), what is tested, measured and shipped
# is -O2.
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
    list(APPEND MM_LIBRARY_FLAGS -O2)
endif()

set(mm_common_warnings
    -Wall -Wextra -Wpedantic -Wconversion -Wundef)
if(MM_WERROR)
    list(APPEND mm_common_warnings -Werror)
endif()
set(mm_only_c_warnings
    -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes)
set(MM_C_WARNINGS
    "$<$<COMPILE_LANGUAGE:C>:${mm_common_warnings};${mm_only_c_warnings}>")
# No -Wshadow in C++: a value type and the function that makes one share a name (mm_prange).
set(MM_CXX_WARNINGS "$<$<COMPILE_LANGUAGE:CXX>:${mm_common_warnings}>")

# A kernel's stack is small: the compiler warns as it builds, the test "gate.stack" reads the .su
# files.
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
    set(MM_FRAME_LIMIT_FLAGS
        "$<$<COMPILE_LANGUAGE:C>:-Wframe-larger-than=512;-fstack-usage>")
endif()

set(MM_SANITIZE_FLAGS "")
if(MM_SANITIZE)
    set(MM_SANITIZE_FLAGS "-fsanitize=${MM_SANITIZE}" -fno-omit-frame-pointer)
    if(MM_SANITIZE MATCHES "undefined")
        list(APPEND MM_SANITIZE_FLAGS -fno-sanitize-recover=all)
    endif()
endif()

# Counters of the library alone: what the tests themselves run is not the question. Atomic, because
# tests run threads.
set(MM_COVERAGE_FLAGS "")
if(MM_COVERAGE STREQUAL "gcov")
    # What must be inlined is one function here: a branch is one, not one a copy.
    set(MM_COVERAGE_FLAGS --coverage -fprofile-update=atomic "-Dalways_inline=unused")
elseif(MM_COVERAGE STREQUAL "mcdc")
    set(MM_COVERAGE_FLAGS
        -fprofile-instr-generate -fcoverage-mapping -fcoverage-mcdc -fprofile-update=atomic)
elseif(MM_BUILD_FUZZ)
    set(MM_COVERAGE_FLAGS -fsanitize=fuzzer-no-link)
endif()
