# SPDX-License-Identifier: MIT
#
# Boots of the minikernel. The machine matrix is each of a small, a usual and a large memory, the
# plainest processor and the richest that QEMU has, BIOS and UEFI, one processor and four. Beside it
# stand boots of a processor without anything, and boots that must end in a report of failure, which
# say what is wrong.

if(NOT MM_BUILD_EXAMPLES)
    return()
endif()

# mm_add_boot(NAME SECONDS success|failure PATTERN [UEFI] [SAYS FILE...] ARGUMENTS QEMU-ARGUMENT...)
# SAYS: files of qemu/ with more patterns, without the ending.
function(mm_add_boot name seconds expected pattern)
    cmake_parse_arguments(PARSE_ARGV 4 boot "UEFI" "" "SAYS;ARGUMENTS")
    set(says)
    set(uefi)
    if(boot_UEFI)
        set(uefi --uefi "${MINIKERNEL_OVMF_CODE}" "${MINIKERNEL_OVMF_VARS}")
    endif()
    foreach(file IN LISTS boot_SAYS)
        list(APPEND says --says "${CMAKE_CURRENT_SOURCE_DIR}/qemu/${file}.patterns")
    endforeach()
    set(test "${MM_TEST_PREFIX}qemu.${name}")
    add_test(
        NAME "${test}"
        COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/qemu/boot.sh" ${says} ${uefi}
                "${PROJECT_BINARY_DIR}/minikernel.iso" "${PROJECT_BINARY_DIR}/qemu/${name}.log"
                ${seconds} ${expected} "${pattern}" ${boot_ARGUMENTS})
    # The script has a time limit of its own, which says more.
    math(EXPR outer "${seconds} + 30")
    set_tests_properties("${test}" PROPERTIES LABELS qemu TIMEOUT ${outer})
endfunction()

# The last line of a run that went well.
set(mm_all_passed "^minikernel: [1-9][0-9]* checks passed, 0 failed$")
foreach(memory IN ITEMS 64M 512M 6G)
    foreach(cpu IN ITEMS qemu64 max)
        foreach(firmware IN ITEMS bios uefi)
            foreach(cpus IN ITEMS 1 4)
                # 64M.max, 64M.max.4cpus, 64M.max.uefi, 64M.max.uefi.4cpus
                set(name ${memory}.${cpu})
                set(uefi)
                if(firmware STREQUAL "uefi")
                    string(APPEND name .uefi)
                    set(uefi UEFI)
                endif()
                if(cpus GREATER 1)
                    string(APPEND name .${cpus}cpus)
                endif()
                mm_add_boot(${name} 400 success "${mm_all_passed}" ${uefi}
                    SAYS log ${cpu} ${cpus}cpus ${firmware} ARGUMENTS -m ${memory} -cpu ${cpu} -smp ${cpus})
                # The kernel fills half of the memory: one machine of 6 GiB at a time, so not last, and
                # four of the eight in a usual run: each processor, firmware and number of them.
                if(memory STREQUAL "6G")
                    set_tests_properties("${MM_TEST_PREFIX}qemu.${name}" PROPERTIES RESOURCE_LOCK memory COST 60)
                    if((firmware STREQUAL "uefi" AND cpus EQUAL 1) OR (firmware STREQUAL "bios" AND cpus EQUAL 4))
                        set_tests_properties("${MM_TEST_PREFIX}qemu.${name}" PROPERTIES LABELS "qemu;long")
                    endif()
                endif()
            endforeach()
        endforeach()
    endforeach()
endforeach()
# A processor without anything that may be missing.
mm_add_boot(64M.plain 120 success "${mm_all_passed}" SAYS plain
    ARGUMENTS -m 64M -cpu qemu64,-nx,-pge,-pat)
mm_add_boot(64M.plain.4cpus 120 success "${mm_all_passed}" SAYS plain 4cpus
    ARGUMENTS -m 64M -cpu qemu64,-nx,-pge,-pat -smp 4)
# No table of processors; and more processors than the kernel has room for.
mm_add_boot(64M.no_acpi 120 success "${mm_all_passed}" SAYS no_acpi
    ARGUMENTS -m 64M -cpu max -smp 4 -no-acpi)
mm_add_boot(64M.14cpus 240 success "${mm_all_passed}" SAYS 14cpus shootdown
    ARGUMENTS -m 64M -cpu max -smp 14 -smbios type=1,version=stress=4800)
# Twelve threads that wait for each other: nothing beside them. First of all: what wants two processors
# is put off until both are free at once, which in the midst of others is never.
set_tests_properties("${MM_TEST_PREFIX}qemu.64M.14cpus" PROPERTIES PROCESSORS 2 COST 2000)
# Unmapping on several processors, a part of each boot above, for longer. The time limit is the check
# that nobody waits for ever.
mm_add_boot(shootdown 200 success "${mm_all_passed}" SAYS 4cpus shootdown
    ARGUMENTS -m 64M -cpu max -smp 4 -smbios type=1,version=stress=8000)
set_tests_properties("${MM_TEST_PREFIX}qemu.shootdown" PROPERTIES PROCESSORS 2 COST 1900)
function(mm_add_long_shootdown name cpu cpus)
    mm_add_boot(shootdown.${name} 1800 success "${mm_all_passed}" SAYS shootdown
        ARGUMENTS -m 64M -cpu ${cpu} -smp ${cpus} -smbios type=1,version=stress=100000)
    set_tests_properties("${MM_TEST_PREFIX}qemu.shootdown.${name}" PROPERTIES
        LABELS "qemu;long" PROCESSORS 2)
endfunction()
mm_add_long_shootdown(2cpus max 2)
mm_add_long_shootdown(4cpus max 4)
mm_add_long_shootdown(12cpus max 12)
mm_add_long_shootdown(plain qemu64,-nx,-pge,-pat 4)
# Several nodes: two of two processors each; one without memory and one without processors.
set(mm_two_nodes -m 512M -smp 4
    -object memory-backend-ram,id=m0,size=256M -object memory-backend-ram,id=m1,size=256M
    -numa node,nodeid=0,memdev=m0,cpus=0-1 -numa node,nodeid=1,memdev=m1,cpus=2-3
    -numa dist,src=0,dst=1,val=21)
set(mm_sparse_nodes -m 512M -smp 4
    -object memory-backend-ram,id=m0,size=256M -object memory-backend-ram,id=m1,size=256M
    -numa node,nodeid=0,memdev=m0,cpus=0-1 -numa node,nodeid=1,memdev=m1
    -numa node,nodeid=2,cpus=2-3 -numa dist,src=0,dst=1,val=21 -numa dist,src=0,dst=2,val=17
    -numa dist,src=1,dst=2,val=30)
mm_add_boot(numa 240 success "${mm_all_passed}" SAYS log max 4cpus bios numa
    ARGUMENTS -cpu max ${mm_two_nodes})
mm_add_boot(numa.uefi 300 success "${mm_all_passed}" UEFI SAYS log max 4cpus uefi numa
    ARGUMENTS -cpu max ${mm_two_nodes})
mm_add_boot(numa.sparse 240 success "${mm_all_passed}" SAYS log max 4cpus bios sparse
    ARGUMENTS -cpu max ${mm_sparse_nodes})
# The whole permission truth table: docs/testing/truth-table.md. What boots above is a part of it.
foreach(cpu IN ITEMS max qemu64)
    mm_add_boot(truth.${cpu} 400 success "${mm_all_passed}" SAYS truth truth_${cpu}
        ARGUMENTS -m 64M -cpu ${cpu} -smbios type=1,version=truth=all)
endforeach()
function(mm_add_long_truth name cpu word)
    mm_add_boot(truth.${name} 1200 success "${mm_all_passed}" SAYS truth
        ARGUMENTS -m 64M -cpu ${cpu} -smbios type=1,version=${word}=all)
    set_tests_properties("${MM_TEST_PREFIX}qemu.truth.${name}" PROPERTIES LABELS "qemu;long")
endfunction()
mm_add_long_truth(5_levels max truth5)
mm_add_long_truth(52_bits max,phys-bits=52 truth)
mm_add_long_truth(36_bits max,phys-bits=36,-pdpe1gb truth)
mm_add_long_truth(no_smap max,-smap truth)
mm_add_long_truth(no_smep max,-smep truth)
mm_add_long_truth(no_nx max,-nx truth)
mm_add_long_truth(plain qemu64,-nx,-pge,-pat truth)

# The minikernel's options (examples/minikernel/options.h) reach it through the firmware's tables.
function(mm_add_failing_boot name option pattern)
    mm_add_boot(${name} 60 failure "${pattern}"
        ARGUMENTS -m 64M -cpu max ${ARGN} -smbios "type=1,version=${option}")
endfunction()

mm_add_failing_boot(no_map test=nomap "no memory map")
set(mm_too_little "too little memory: [0-9]+ KiB usable, .* needs [0-9]+ KiB")
mm_add_boot(8M.max 60 failure "${mm_too_little}" ARGUMENTS -m 8M -cpu max)
mm_add_failing_boot(less_than_metadata limit=8K "${mm_too_little}")
mm_add_failing_boot(less_than_kernel limit=1M "${mm_too_little}")
mm_add_failing_boot(failed_check test=fail "^minikernel: [1-9][0-9]* checks passed, 1 failed$")
mm_add_failing_boot(panic test=panic "^panic: ")
mm_add_failing_boot(overflow test=overflow "^  guard page at 0x[0-9a-f]+: a stack ran over$")
mm_add_failing_boot(corruption test=corrupt "^panic: ")
# A wait under a lock for which others may only spin, before it is a deadlock.
mm_add_failing_boot(deaf test=deaf "^panic: paging: a flush must wait for other CPUs" -smp 4)
mm_add_failing_boot(panic_on_1 test=panic-on-1 "^  on processor 1$" -smp 4)
