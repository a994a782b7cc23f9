// SPDX-License-Identifier: MIT
/**
 * The kernel's memory: every object of libmm that it owns, in one struct, and the steps that bring
 * them up. Each step needs only the steps before it; a kernel that wants less stops earlier.
 */
#ifndef MINIKERNEL_MEMORY_H
#define MINIKERNEL_MEMORY_H

#include <mm/arch/x86_64.h>
#include <mm/boot/multiboot2.h>
#include <mm/dma.h>
#include <mm/frame.h>
#include <mm/heap.h>
#include <mm/kva.h>
#include <mm/numa.h>
#include <mm/paging.h>
#include <mm/space.h>
#include <mm/tlb.h>
#include <mm/user.h>

#include "acpi.h"
#include "options.h"

/** Entries of the boot map: what firmware says, and what the image, modules and metadata add. */
#define MEMORY_BOOT_ENTRIES MM_BOOTMAP_CAPACITY(256)

/** Ranges and processors that the ACPI tables of a machine may name. */
#define MEMORY_NUMA_RANGES MM_NUMA_CAPACITY(64)
#define MEMORY_NUMA_CPUS   256

struct memory {
    struct mm_physmap physmap;
    struct mm_boot_entry entries[MEMORY_BOOT_ENTRIES];
    struct mm_bootmap map;
    uint64_t usable_bytes; /**< of the map, before anything was taken */
    struct mm_multiboot2_info boot;
    struct acpi_processors processors; /**< none if the firmware does not tell */
    uint32_t nr_cpus;                  /**< that libmm must reckon with: at least 1 */
    struct mm_numa numa;               /**< one node if the firmware does not tell */
    struct mm_numa_range numa_ranges[MEMORY_NUMA_RANGES];
    struct mm_numa_cpu numa_cpus[MEMORY_NUMA_CPUS];
    uint32_t cpu_nodes[PERCPU_MAX];
    struct mm_x86_64 arch;
    struct mm_frames frames;
    uint64_t nr_reclaimed;         /**< frames that the boot loader had */
    struct mm_frame_window tables; /**< where page tables may come from */
    struct mm_tlb tlb;             /**< what all processors have cached: shootdown.c */
    struct mm_tlb_cpu tlb_cpus[PERCPU_MAX];
    mm_paddr_t boot_root; /**< the root that boot.S built */
    struct mm_pagetable kernel;
    struct mm_page_frames pages;
    struct mm_pool pool;
    struct mm_heap heap;
    struct mm_kva kva;
    struct mm_vrange stacks[PERCPU_MAX]; /**< of the processors, in `kva`: smp.c */
    struct mm_spaces spaces;
    struct mm_dma dma;
    struct mm_user user;
    struct mm_user user_now; /**< the same memory, where nothing may sleep */

    /** Told of each frame that page tables give back, before it is free; NULL: nobody. */
    void (*on_release)(struct memory *m, mm_pfn_t frame);

    _Atomic uint64_t nr_user_faults; /**< page faults in user copies, */
    _Atomic uint64_t
        nr_open_handlers; /**< those handled with user memory open: none, if all is well */

    _Atomic uint64_t nr_nofault_faults; /**< of accesses that must not sleep: nobody was asked */

    /** Called while a fault of a user copy is handled, before it is resolved; NULL: nobody. */
    void (*on_user_fault)(struct memory *m);

    struct mm_space *current[PERCPU_MAX];     /**< user space that is active there; NULL: none */
    enum mm_fault_result refused[PERCPU_MAX]; /**< the last fault of ring 3 that ended a program */
};

/** Where the kernel maps: see layout.h. */
#define MEMORY_NR_RANGES 5
extern const struct mm_vrange memory_ranges[MEMORY_NR_RANGES];

/** Read the boot information into `map` and `boot`; the command line into `options`. */
void memory_read_boot(struct memory *m, uint32_t boot_info, struct options *options);

/** Find out how many processors there are. */
void memory_find_processors(struct memory *m);

/** Switch on what the CPU has to protect memory. */
void memory_enable_cpu(struct memory *m);

/** Find out which memory and which processors are near each other. */
void memory_find_nodes(struct memory *m);

/** Frames: metadata comes out of the map. */
void memory_start_frames(struct memory *m);

/** Build the kernel's own root and switch to it: this processor sees no identity map after. */
void memory_start_paging(struct memory *m);

/**
 * Add what the boot loader and the firmware's boot services held, and the ACPI tables: nobody reads
 * them again, and every processor stands on the kernel's tables and stacks.
 */
void memory_reclaim(struct memory *m);

/** Heap over frames, the kernel virtual arena, the kernel's and users' spaces, DMA, user copy. */
void memory_start_rest(struct memory *m);

/** Each takes down what its like brought up; in reverse order. */
void memory_stop_rest(struct memory *m);
void memory_stop_paging(struct memory *m);
void memory_stop_frames(struct memory *m);

/** Print what the frame allocator says of itself. */
void memory_print_frames(struct memory *m);

/** Print a line for each node. */
void memory_print_nodes(struct memory *m);

/** Print a map of physical memory, and how fragmented it is. */
void memory_draw(struct memory *m);
/** Print the caches and the heap, as a table. */
void memory_show_heap(const struct memory *m);

/** The node of a processor; 0 where nobody tells. */
uint32_t memory_node_of_apic(const struct memory *m, uint32_t apic_id);

/** Frames that are free now. */
uint64_t memory_nr_free(struct memory *m);

/** Unmap a range of the kernel's root, flush, release what became free. */
mm_status_t memory_unmap(struct memory *m, struct mm_vrange range, uint32_t flags);

/** Run in this user space; NULL: in none. */
void memory_enter(struct memory *m, struct mm_space *space);

/** Resolve page faults of the current space, of the kernel's, and of user copies from here on. */
void memory_handle_faults(struct memory *m);

/** Whether an address is in a guard page of the kernel's, or in the red zone of a stack; false before
 * faults are handled. */
bool memory_is_guard(mm_vaddr_t at);

/** The ops that libmm calls: panic and log. */
struct mm_platform platform_ops(void);

/** A call that must not fail at this point: anything but MM_OK is the end. */
void must(mm_status_t status, const char *what);

#endif
