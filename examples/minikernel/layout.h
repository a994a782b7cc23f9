// SPDX-License-Identifier: MIT
/**
 * Where things are in the upper half of the address space. Every line but the last is one root
 * entry; they are declared to libmm at the start, and nothing of the kernel lies elsewhere.
 *
 *     0xffff800000000000  direct map   physical address p is at 0xffff800000000000 + p
 *     0xffffc00000000000  arena        regions of the kernel's own space
 *     0xffffd00000000000  windows      device registers, and what the checks map page by page
 *     0xffffe00000000000  kva          libmm's kernel virtual arena: stacks, per-CPU areas, memory, devices
 *     0xffffffff80000000  image        the kernel as the linker placed it
 */
#ifndef MINIKERNEL_LAYOUT_H
#define MINIKERNEL_LAYOUT_H

#include <mm/addr.h>

#define LAYOUT_DIRECT_BASE  UINT64_C(0xffff800000000000)
#define LAYOUT_ARENA_BASE   UINT64_C(0xffffc00000000000)
#define LAYOUT_WINDOWS_BASE UINT64_C(0xffffd00000000000)
#define LAYOUT_KVA_BASE     UINT64_C(0xffffe00000000000)
#define LAYOUT_ENTRY_LEN    (UINT64_C(1) << 39)

#define LAYOUT_IMAGE_BASE UINT64_C(0xffffffff80000000)
#define LAYOUT_IMAGE_LEN  (UINT64_C(1) << 31)

/** One page of the windows for the local APIC; the checks use what lies behind. */
#define LAYOUT_APIC   LAYOUT_WINDOWS_BASE
#define LAYOUT_WINDOW (LAYOUT_WINDOWS_BASE + MM_SIZE_1G)

/**
 * User memory: the lower half without its last page. A system call instruction there would make the
 * return address non-canonical, and SYSRET would fault in ring 0 with the user's stack (Intel).
 */
#define LAYOUT_USER_LEN ((UINT64_C(1) << 47) - MM_PAGE_SIZE)

/** What boot.S maps of physical memory: all that can be reached before libmm's root is active. */
#define LAYOUT_BOOT_MAPPED (UINT64_C(4) << 30)

#endif
