// SPDX-License-Identifier: MIT
/**
 * All of libmm that does not depend on the architecture. A backend is included on its own:
 * <mm/arch/x86_64.h>; so is the adapter of a boot protocol or a firmware: <mm/boot/multiboot2.h>,
 * <mm/boot/uefi.h>, <mm/boot/e820.h>, <mm/boot/limine.h>.
 */
#ifndef MM_MM_H
#define MM_MM_H

#include <mm/addr.h>
#include <mm/bootmap.h>
#include <mm/cache.h>
#include <mm/config.h>
#include <mm/dma.h>
#include <mm/event.h>
#include <mm/frame.h>
#include <mm/heap.h>
#include <mm/heap_report.h>
#include <mm/kva.h>
#include <mm/numa.h>
#include <mm/paging.h>
#include <mm/paging_audit.h>
#include <mm/paging_slots.h>
#include <mm/percpu.h>
#include <mm/physmap.h>
#include <mm/platform.h>
#include <mm/space.h>
#include <mm/status.h>
#include <mm/system.h>
#include <mm/tlb.h>
#include <mm/user.h>

#endif
