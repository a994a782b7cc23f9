# SPDX-License-Identifier: MIT
#
# The one list of the tests that run in two worlds: tests/both/NAME.c defines both_NAME().

set(MM_BOTH base bootmap frame heap paging)
set(MM_BOTH_DIR "${CMAKE_CURRENT_LIST_DIR}")

# mm_add_both(TARGET): adds the tests to a program, and the list for its table.
function(mm_add_both target)
    set(list "// SPDX-License-Identifier: MIT\n// Made from tests/both/both.cmake.\n")
    foreach(name IN LISTS MM_BOTH)
        target_sources(${target} PRIVATE "${MM_BOTH_DIR}/${name}.c")
        string(APPEND list "BOTH_TEST(${name})\n")
    endforeach()
    file(GENERATE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/both/both_list.h" CONTENT "${list}")
    target_include_directories(${target} PRIVATE
        "${MM_BOTH_DIR}" "${CMAKE_CURRENT_BINARY_DIR}/both")
endfunction()
