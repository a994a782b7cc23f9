# SPDX-License-Identifier: MIT
#
# Faults put into the library on purpose (seeded/): a sample that changes from day to day, and all.
# scripts/seeded.sh makes copies of the tree and builds of its own; one such run at a time.

if(NOT MM_TEST_PREFIX STREQUAL "")
    return()
endif()

include(ProcessorCount)
ProcessorCount(mm_nr_processors)

set(MM_SEEDED_SAMPLE 8 CACHE STRING "How many seeded faults a usual run tries")
# The tests pass without a fault: the run that the sample is part of shows it.
add_test(NAME seeded.sample COMMAND
    "${PROJECT_SOURCE_DIR}/scripts/seeded.sh" --trust --sample ${MM_SEEDED_SAMPLE})
add_test(NAME seeded.all COMMAND "${PROJECT_SOURCE_DIR}/scripts/seeded.sh")
set_tests_properties(seeded.sample PROPERTIES LABELS "seeded;sample" TIMEOUT 900)
set_tests_properties(seeded.all PROPERTIES LABELS "seeded;long" TIMEOUT 7200)
# All of them keep all processors busy. The sample has one worker: so the library is built once, and
# who waits for one fault's test does not keep a second processor waiting. First, being the longest.
set_tests_properties(seeded.sample seeded.all PROPERTIES RESOURCE_LOCK seeded COST 1000)
set_tests_properties(seeded.sample PROPERTIES ENVIRONMENT "MM_SKIP_DEPS=1;MM_JOBS=1")
set_tests_properties(seeded.all PROPERTIES
    PROCESSORS ${mm_nr_processors} ENVIRONMENT "MM_SKIP_DEPS=1;MM_JOBS=${mm_nr_processors}")
