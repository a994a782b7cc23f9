# SPDX-License-Identifier: MIT
#
# malloc over the library's heap, for LD_PRELOAD: real programs run on it unchanged, each beside
# itself on the system's malloc (preload.PROGRAM, by run.sh), and its own test does (preload.self).

find_program(MM_BASH bash REQUIRED)
set(mm_preload_dir "${CMAKE_CURRENT_LIST_DIR}")

add_library(mm_preload MODULE
    "${mm_preload_dir}/pages.c" "${mm_preload_dir}/preload.c" "${mm_preload_dir}/report.c"
    "${mm_preload_dir}/tier.c" "${mm_preload_dir}/trace.c")
set_target_properties(mm_preload PROPERTIES
    C_STANDARD 17 C_EXTENSIONS ON C_VISIBILITY_PRESET hidden
    LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
# The compiler must not make calls of malloc of what implements it.
target_compile_options(mm_preload PRIVATE
    -UNDEBUG -O2 -fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free
    ${MM_C_WARNINGS})
target_link_options(mm_preload PRIVATE -Wl,-z,defs)
target_link_libraries(mm_preload PRIVATE mm)

add_executable(test_preload
    "${mm_preload_dir}/test_preload.c" "${mm_preload_dir}/test_mistakes.c")
set_target_properties(test_preload PROPERTIES
    C_STANDARD 17 C_EXTENSIONS ON RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
# What it does to its objects must happen.
target_compile_options(test_preload PRIVATE -UNDEBUG -fno-builtin ${MM_C_WARNINGS})
target_link_libraries(test_preload PRIVATE
    mm_test_support ${CMOCKA_LIBRARIES} Threads::Threads ${CMAKE_DL_LIBS})
add_dependencies(test_preload mm_preload)

# Each in the default tier; one program in the others; the rest of them in a long run.
foreach(tier IN ITEMS "" .hardened .sampled)
    set(environment "LD_PRELOAD=$<TARGET_FILE:mm_preload>")
    set(tier_environment "")
    if(tier STREQUAL .hardened)
        set(tier_environment MM_PRELOAD_TIER=hardened)
    elseif(tier STREQUAL .sampled)
        set(tier_environment MM_PRELOAD_SAMPLE=1)
    endif()
    set(test "${MM_TEST_PREFIX}preload.self${tier}")
    add_test(NAME "${test}" COMMAND test_preload)
    set_tests_properties("${test}" PROPERTIES LABELS "${mm_host_label}" TIMEOUT 300
        ENVIRONMENT "${environment};${tier_environment}")
    foreach(program IN ITEMS python3 sqlite3 gcc git perl xz)
        set(test "${MM_TEST_PREFIX}preload.${program}${tier}")
        add_test(NAME "${test}" COMMAND "${MM_BASH}" "${mm_preload_dir}/run.sh" ${program}
            "$<TARGET_FILE:mm_preload>" "${PROJECT_BINARY_DIR}/tests/preload/${program}${tier}")
        set(labels ${mm_host_label})
        if(NOT tier STREQUAL "" AND NOT program STREQUAL "perl")
            list(APPEND labels long)
        endif()
        set_tests_properties("${test}" PROPERTIES LABELS "${labels}" TIMEOUT 300
            ENVIRONMENT "${tier_environment}")
    endforeach()
endforeach()

set(test "${MM_TEST_PREFIX}preload.trace")
add_test(NAME "${test}" COMMAND "${MM_BASH}" "${mm_preload_dir}/trace_test.sh"
    "$<TARGET_FILE:mm_preload>" "${PROJECT_BINARY_DIR}/tests/preload/trace")
set_tests_properties("${test}" PROPERTIES LABELS "${mm_host_label}" TIMEOUT 300)

# 64 MiB are all that there is: a program that can do without goes on.
set(test "${MM_TEST_PREFIX}preload.limit")
add_test(NAME "${test}" COMMAND "${Python3_EXECUTABLE}" -S -c "
kept = []
try:
    while True:
        kept.append(bytearray(1 << 20))
except MemoryError:
    nr = len(kept)
kept.clear()
big = bytearray(40 << 20)
print('between' if 30 < nr < 64 else nr, len(big))
")
set_tests_properties("${test}" PROPERTIES LABELS "${mm_host_label}" TIMEOUT 60
    ENVIRONMENT "LD_PRELOAD=$<TARGET_FILE:mm_preload>;MM_PRELOAD_LIMIT=64"
    PASS_REGULAR_EXPRESSION "^between 41943040")
