# SPDX-License-Identifier: MIT
#
# Boots of the minikernel: a small, a usual and a large memory, the plainest processor and the
# richest that QEMU has; and boots that must end in a report of failure, which say what is wrong.

if(NOT MM_BUILD_EXAMPLES)
    return()
endif()

# mm_add_boot(NAME SECONDS success|failure PATTERN QEMU-ARGUMENT...)
function(mm_add_boot name seconds expected pattern)
    set(test "${MM_TEST_PREFIX}qemu.${name}")
    add_test(
        NAME "${test}"
        COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/qemu/boot.sh" "${PROJECT_BINARY_DIR}/minikernel.iso"
                "${PROJECT_BINARY_DIR}/qemu/${name}.log" ${seconds} ${expected} "${pattern}"
                ${ARGN})
    # The script has a time limit of its own, which says more.
    math(EXPR outer "${seconds} + 30")
    set_tests_properties("${test}" PROPERTIES LABELS qemu TIMEOUT ${outer})
endfunction()

set(mm_all_passed "^minikernel: [1-9][0-9]* checks passed, 0 failed$")
foreach(memory IN ITEMS 64M 512M 6G)
    foreach(cpu IN ITEMS qemu64 max)
        mm_add_boot(${memory}.${cpu} 240 success "${mm_all_passed}" -m ${memory} -cpu ${cpu})
        # The kernel fills half of the memory: one machine of 6 GiB at a time.
        if(memory STREQUAL "6G")
            set_tests_properties("${MM_TEST_PREFIX}qemu.6G.${cpu}" PROPERTIES RESOURCE_LOCK memory)
        endif()
    endforeach()
endforeach()

# The minikernel's options (examples/minikernel/options.h) reach it through the firmware's tables.
function(mm_add_failing_boot name option pattern)
    mm_add_boot(${name} 60 failure "${pattern}" -m 64M -cpu max -smbios "type=1,version=${option}")
endfunction()

mm_add_failing_boot(no_map test=nomap "no memory map")
set(mm_too_little "too little memory: [0-9]+ KiB usable, .* needs [0-9]+ KiB")
mm_add_boot(8M.max 60 failure "${mm_too_little}" -m 8M -cpu max)
mm_add_failing_boot(less_than_metadata limit=8K "${mm_too_little}")
mm_add_failing_boot(less_than_kernel limit=1M "${mm_too_little}")
mm_add_failing_boot(failed_check test=fail "^minikernel: [1-9][0-9]* checks passed, 1 failed$")
mm_add_failing_boot(panic test=panic "^panic: ")
mm_add_failing_boot(corruption test=corrupt "^panic: ")
