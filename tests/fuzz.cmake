# SPDX-License-Identifier: MIT
#
# The fuzz targets of fuzz/: with libFuzzer in the build that has it (MM_BUILD_FUZZ), where each
# hunts for a while; and in every other build with a main() of their own, as a test that runs over
# the corpus.

set(MM_FUZZ_SECONDS 30 CACHE STRING "How long each fuzz target hunts")
set(mm_fuzz_corpus "${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus")

foreach(target IN ITEMS multiboot2 uefi e820 limine bootmap srat slit frame paging space heap)
    set(program fuzz_${target})
    add_executable(${program} fuzz/fuzz_${target}.c)
    set_target_properties(${program} PROPERTIES
        C_STANDARD 17 C_EXTENSIONS ON RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
    target_compile_options(${program} PRIVATE -UNDEBUG ${MM_C_WARNINGS} ${MM_SANITIZE_FLAGS})
    # The fixtures of the host tests say what a machine is; they ask whether checks are expensive.
    target_include_directories(${program} PRIVATE host fuzz)
    target_compile_definitions(${program} PRIVATE MM_TEST_SANITIZED=0)
    target_link_libraries(${program} PRIVATE mm_test_support mm ${CMOCKA_LIBRARIES})
    set(test "${MM_TEST_PREFIX}fuzz.${target}")
    if(MM_BUILD_FUZZ)
        # What the target chooses counts as coverage; what its loops compare is of no interest.
        target_compile_options(${program} PRIVATE
            -fsanitize-coverage=inline-8bit-counters,pc-table)
        target_link_options(${program} PRIVATE -fsanitize=fuzzer)
        add_test(NAME "${test}.hunt" COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/fuzz/hunt.sh"
            "$<TARGET_FILE:${program}>" "${mm_fuzz_corpus}/${target}" "${PROJECT_BINARY_DIR}/found/${target}"
            ${MM_FUZZ_SECONDS})
        math(EXPR mm_fuzz_timeout "${MM_FUZZ_SECONDS} + 120")
        set_tests_properties("${test}.hunt" PROPERTIES
            LABELS fuzz TIMEOUT ${mm_fuzz_timeout} COST ${MM_FUZZ_SECONDS})
    else()
        list(APPEND mm_host_programs "$<TARGET_FILE:${program}>")
        target_sources(${program} PRIVATE fuzz/replay.c)
        add_test(NAME "${test}" COMMAND ${program} "${mm_fuzz_corpus}/${target}")
        set_tests_properties("${test}" PROPERTIES LABELS ${mm_host_label} TIMEOUT 120)
    endif()
endforeach()
