// SPDX-License-Identifier: MIT
/**
 * The usual kernel, put together in one call: frames from a boot map, the kernel's own page tables,
 * a heap, the kernel virtual arena, address spaces and DMA over them.
 *
 *     boot map ──> frames ──> kernel root (direct map, image) ──> pages ──> pool ──> heap
 *                     │              │                                       │        ^ large
 *                     │              ├──> arena <── describes its ranges ────┘        │ objects
 *                     │              │      ├──> large pool ──────────────────────────┘
 *                     │              │      └──> per-CPU areas
 *                     │              └──> spaces (user roots)
 *                     └──> dma
 *
 * The spaces know the arena: a device that is mapped in both has one memory type.
 *
 * This room holds no logic: it calls the others in the order in which a kernel would, and undoes
 * them in reverse. A kernel that wants another order, or only some of the rooms, calls them itself;
 * each field of struct mm_system is an object of its room, and may be used with that room's calls.
 */
#ifndef MM_SYSTEM_H
#define MM_SYSTEM_H

#include <mm/bootmap.h>
#include <mm/cache.h>
#include <mm/dma.h>
#include <mm/frame.h>
#include <mm/heap.h>
#include <mm/kva.h>
#include <mm/paging.h>
#include <mm/percpu.h>
#include <mm/space.h>
#include <mm/tlb.h>
#include <mm/user.h>

MM_BEGIN_DECLS

/** What the kernel needs from the start and is no RAM: a serial port, an interrupt controller. */
struct mm_system_device {
    struct mm_vrange range; /**< page-aligned, in one of the kernel's ranges */
    mm_paddr_t paddr;
    mm_memtype_t type; /**< usually MM_MEMTYPE_UC */
};

/** The kernel virtual arena, and what is made over it. All zero: there is none. */
struct mm_system_arena {
    /**
     * In one kernel range, and nothing else is mapped there: neither what the system maps, nor
     * `kernel_space`. Length 0: there is no arena, and then nothing over it either.
     */
    struct mm_vrange range;
    /** Objects of the heap of so many bytes and more lie here, between guards; above
     * MM_HEAP_MAX_SLAB_SIZE. 0: all come from the direct map. */
    uint64_t large_size;
    const void *percpu;  /**< template of the per-CPU areas; NULL: there are none */
    uint64_t percpu_len; /**< bytes; 0 without `percpu` */

    /* As in struct mm_kva_config, and all zero is good. But with a kernel space both edit the
     * kernel's root: the ops take a lock of the kernel's own, which it also takes around each call
     * on mm_space_kernel(). */
    uint64_t purge_pages;
    const struct mm_kva_ops *ops;
    void *ops_ctx;
    uint32_t guard_pages;
    uint32_t red_zone_pages;
    uint32_t nr_stacks;
    uint32_t nr_reserve_tables;
};

struct mm_system_config {
    /** What the firmware says; the image and all that must stay is reserved in it. */
    struct mm_bootmap *map;
    /** The direct map, as it is now and as it will be in the kernel's root. */
    const struct mm_physmap *physmap;
    /** Physical memory that is mapped there now. */
    struct mm_prange mapped;
    struct mm_platform platform;
    struct mm_paging_backend backend;
    /** For more than one CPU: made by mm_tlb_init() before, with the same backend. This CPU comes
     * online in it here, each other one by itself. NULL: one CPU. */
    struct mm_tlb *tlb;
    /** The kernel's image, each section with its protection; may be NULL. */
    const struct mm_boot_section *sections;
    /** Mapped readable and writable; may be NULL. */
    const struct mm_system_device *devices;
    /** Where the kernel maps: direct map, image, devices, its own space. */
    const struct mm_vrange *kernel_ranges;
    uint32_t nr_sections;
    uint32_t nr_devices;
    uint32_t nr_kernel_ranges;
    uint32_t nr_cpus; /**< 1 to MM_MAX_CPUS */
    /** Where user spaces map; length 0: there are none. */
    struct mm_vrange user;
    /**
     * Where the kernel's own space maps; in one kernel range, used by nobody else. Length 0: it has
     * none. With neither this nor `user`, `spaces` is not initialised.
     */
    struct mm_vrange kernel_space;
    /** As in struct mm_spaces_config: how much memory may be promised. */
    enum mm_commit commit;
    uint64_t commit_pages;
    struct mm_system_arena arena;
    /**
     * What `heap` checks, records, samples, reports and sets aside. All zero: the default tier, no
     * records, no reserve, and a misuse is a panic. `large` and `large_size` stay 0: the large pool
     * is made here, for the arena's large_size. The window of the guards lies in one of the kernel ranges, and is nobody else's.
     */
    struct mm_heap_config heap;
    const struct mm_user_ops *user_ops; /**< NULL: `user` is not initialised */

    /* As in struct mm_frames_config; all zero: one node, nothing withheld, no op. */
    const struct mm_numa *numa;
    const uint32_t *cpu_nodes;
    uint32_t later_kinds;
    uint32_t zero; /**< always 0 */
    uint64_t nr_reserve;
    uint64_t nr_kernel;
    const struct mm_frame_ops *frame_ops;
    void *frame_ops_ctx;
};

/** All of it. Storage is the caller's; each member is an object of its room. */
struct mm_system {
    uint32_t magic;
    uint32_t active;        /**< the kernel's root has been activated */
    mm_paddr_t root_before; /**< what this CPU walked before the kernel's root */
    struct mm_bootmap *map;
    struct mm_frames frames;
    struct mm_frame_window window; /**< of tables: `mapped`, until the kernel's root is active */
    struct mm_pagetable kernel;
    struct mm_page_frames pages;
    struct mm_pool pool;
    struct mm_kva kva;       /**< if the configuration has a range for it */
    struct mm_percpu percpu; /**< if it has a template */
    struct mm_pool large;    /**< over the arena, if it has a large_size */
    struct mm_heap heap;
    struct mm_spaces spaces; /**< if the configuration has a range for them */
    struct mm_dma dma;
    struct mm_user user; /**< if the configuration has user_ops */
};

/**
 * Bring everything up, and switch to the kernel's own root.
 *
 * That root holds the direct map of RAM and ACPI memory, the sections of the image, each with its
 * own protection, and the devices. Whatever else was mapped, an identity map for instance, is gone:
 * the code that calls, its stack and `system` must be in it.
 *
 * @param system  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; a template or a
 *         large_size without an arena; the heap's large or large_size) | MM_ERR_ALREADY_MAPPED (the
 *         arena, or the window of samples: something is mapped there, or it overlaps kernel_space,
 *         user or the other) | what mm_frame_init_from_map(), mm_paging_init_kernel(),
 *         mm_paging_map_direct(), mm_paging_map_sections(), mm_paging_map(), mm_page_frames_init(),
 *         mm_pool_init(), mm_kva_init(), mm_percpu_init(), mm_heap_init(), mm_paging_walk(),
 *         mm_spaces_init(), mm_user_init(), mm_dma_init() and mm_tlb_online() answer. On error
 *         everything is undone, the root before is walked again, and `system` is zeroed.
 * Locks:  none; one CPU, at boot.
 * Cost:   that of its calls; the direct map with the largest leaves dominates.
 */
MM_MUST_CHECK
mm_status_t mm_system_init(struct mm_system *system, const struct mm_system_config *config);

/**
 * Take everything down, in reverse, and walk the root again that was walked before. The storage is
 * zeroed, and the map is as it was before mm_system_init(). Frames that others allocated from
 * `frames` stay with them.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (a space,
 *         a DMA region, a heap object, a cache of a pool, a page of `pages` or a range of the arena
 *         is alive, or another CPU is online: nothing was done, but that the arena may have been
 *         reclaimed)
 * Locks:  with an arena as mm_kva_destroy(), and so not in an interrupt handler; else none. No
 *         other CPU is in any of the rooms. The root before still exists, and holds the code that
 *         runs, its stack, `system`, and the direct map of all memory. (If the boot loader's maps
 *         less, load one that maps all: tables may lie anywhere.)
 * Cost:   O(tables + slabs).
 */
MM_MUST_CHECK
mm_status_t mm_system_destroy(struct mm_system *system);

/**
 * The checks of the frames, the kernel's page table, the arena, the heap, the kernel's space and what
 * spaces share, in order. A user space is checked by who holds a reference to it.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the arena's and its root's, with the devices'; then the kernel space's; then the devices'.
 *         No other CPU is in any room.
 * Cost:   O(frames + tables + slabs).
 */
MM_MUST_CHECK
mm_status_t mm_system_check(struct mm_system *system);

MM_END_DECLS

#endif
