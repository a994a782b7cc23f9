# SPDX-License-Identifier: MIT
#
# The gates: rules of the house that a program checks on the code itself. What each checks is said
# at the head of its script in gates/; what they share is in gates/gate.py.

# mm_add_gate(NAME SECONDS LABELS COMMAND...)
function(mm_add_gate name seconds labels)
    set(test "${MM_TEST_PREFIX}gate.${name}")
    add_test(NAME "${test}" COMMAND ${ARGN} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
    set_tests_properties("${test}" PROPERTIES LABELS "${labels}" TIMEOUT ${seconds})
endfunction()

# -B: no byte code beside the sources.
set(mm_python "${Python3_EXECUTABLE}" -B)
set(mm_gates "${CMAKE_CURRENT_SOURCE_DIR}/gates")

# ---- of the objects: each plain build ------------------------------------------------------------

file(GENERATE OUTPUT "${PROJECT_BINARY_DIR}/tests/mm_objects.txt"
    CONTENT "$<JOIN:$<TARGET_OBJECTS:mm>,\n>\n")
set(mm_objects "${PROJECT_BINARY_DIR}/tests/mm_objects.txt")

mm_add_gate(archive 120 gate ${mm_python} "${mm_gates}/archive.py"
    "$<TARGET_FILE:mm>" "${mm_objects}" --hosts "${PROJECT_BINARY_DIR}/tests/host_programs.txt"
    --ld "${CMAKE_LINKER}" --nm "${CMAKE_NM}"
    --objdump "${CMAKE_OBJDUMP}" --readelf "${CMAKE_READELF}")
mm_add_gate(warnings 30 gate ${mm_python} "${mm_gates}/warnings.py"
    "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}")
mm_add_gate(stack 30 gate ${mm_python} "${mm_gates}/stack.py" "${mm_objects}")

# ---- of the sources: one build -------------------------------------------------------------------

if(NOT MM_TEST_PREFIX STREQUAL "")
    return()
endif()

set(mm_consume "${CMAKE_CURRENT_SOURCE_DIR}/consume/consume.sh")
set(mm_scratch "${PROJECT_BINARY_DIR}/tests")

mm_add_gate(floors 30 "gate;source" ${mm_python} "${mm_gates}/floors.py" "${PROJECT_SOURCE_DIR}"
    --objects "${mm_objects}" --nm "${CMAKE_NM}")
mm_add_gate(headers 120 "gate;source" ${mm_python} "${mm_gates}/headers.py"
    "${PROJECT_SOURCE_DIR}/include" --cc gcc --cc clang --cxx g++ --cxx clang++)
mm_add_gate(tree 30 "gate;source" ${mm_python} "${mm_gates}/tree.py" "${PROJECT_SOURCE_DIR}")
mm_add_gate(docs 30 "gate;source" ${mm_python} "${mm_gates}/docs.py" "${PROJECT_SOURCE_DIR}")
mm_add_gate(reasons 30 "gate;source" ${mm_python} "${mm_gates}/reasons.py" "${PROJECT_SOURCE_DIR}")
mm_add_gate(seeds 60 "gate;source" ${mm_python} "${mm_gates}/seeds.py" "${PROJECT_SOURCE_DIR}")
mm_add_gate(example 60 "gate;source" ${mm_python} "${mm_gates}/example.py" "${PROJECT_SOURCE_DIR}"
    --archive "$<TARGET_FILE:mm>" --cc "${CMAKE_C_COMPILER}" --directory "${mm_scratch}/examples"
    --require first-steps)
mm_add_gate(format 60 "gate;source" ${mm_python} "${mm_gates}/format.py" "${PROJECT_SOURCE_DIR}")
mm_add_gate(tidy 600 "gate;source" ${mm_python} "${mm_gates}/tidy.py" "${PROJECT_SOURCE_DIR}"
    "${PROJECT_BINARY_DIR}" src)
set_tests_properties("${MM_TEST_PREFIX}gate.tidy" PROPERTIES COST 100)
mm_add_gate(cppcheck 300 "gate;source" ${mm_python} "${mm_gates}/cppcheck.py"
    "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}/tests/cppcheck")
mm_add_gate(selftest 120 "gate;source" ${mm_python} "${mm_gates}/selftest.py")

foreach(way IN ITEMS find_package pkg_config make add_subdirectory alone sources cross)
    mm_add_gate(consume.${way} 300 "gate;source"
        "${mm_consume}" ${way} "${mm_scratch}/consume/${way}" "${PROJECT_BINARY_DIR}")
    # An installation writes its manifest into the build directory.
    set_tests_properties("gate.consume.${way}" PROPERTIES RESOURCE_LOCK installation)
endforeach()
