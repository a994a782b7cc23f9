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
# They keep all processors busy: first, so that none is kept free for them later.
set_tests_properties(seeded.sample seeded.all PROPERTIES
    PROCESSORS ${mm_nr_processors} RESOURCE_LOCK seeded COST 1000
    ENVIRONMENT "MM_SKIP_DEPS=1;MM_JOBS=${mm_nr_processors}")
