// SPDX-License-Identifier: MIT
/**
 * The usual kernel, put together in one call: frames from a boot map, the kernel's own page tables,
 * a heap, address spaces and DMA over them.
 *
 *     boot map ──> frames ──> kernel root (direct map, image) ──> pages ──> heap
 *                     │              └──> spaces (user roots)
 *                     └──> dma
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
#include <mm/paging.h>
#include <mm/space.h>
#include <mm/user.h>

MM_BEGIN_DECLS

struct mm_system_config {
    struct mm_bootmap
        *map; /**< what the firmware says; the image and all that must stay is reserved in it */
    const struct mm_physmap
        *physmap;            /**< the direct map, as it is now and will be in the kernel's root */
    struct mm_prange mapped; /**< physical memory that is mapped there now */
    struct mm_platform platform;
    uint32_t nr_cpus; /**< 1 to 1024 */
    uint32_t nr_sections;
    struct mm_paging_backend backend;
    const struct mm_boot_section
        *sections; /**< the kernel's image, each with its protection; NULL with `nr_sections` 0 */
    const struct mm_vrange
        *kernel_ranges; /**< where the kernel maps: direct map, image, devices, arena */
    uint32_t nr_kernel_ranges;
    uint32_t zero;
    struct mm_vrange
        user; /**< where spaces map; length 0: no user spaces, and no `spaces`, `user` */
    const struct mm_user_ops *user_ops; /**< NULL: `user` is not initialised */
};

/** All of it. Storage is the caller's; each member is an object of its room. */
struct mm_system {
    uint32_t magic;
    uint32_t has_spaces;
    struct mm_frames frames;
    struct mm_pagetable
        kernel; /**< complete, not yet active: map devices, then mm_paging_activate() */
    struct mm_page_frames pages;
    struct mm_pool pool;
    struct mm_heap heap;
    struct mm_spaces spaces; /**< if the configuration has a user range */
    struct mm_dma dma;
    struct mm_user user; /**< if the configuration has user_ops */
};

/**
 * Bring everything up.
 *
 * The kernel's root holds the direct map of RAM and ACPI memory and the sections of the image. It
 * is not activated: the kernel first maps what else it needs to go on (a device, its stack if that
 * is elsewhere).
 *
 * @param system  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | what
 * mm_frame_init_from_map(), mm_paging_init_kernel(), mm_paging_map_direct(),
 * mm_paging_map_sections(), mm_page_frames_init(), mm_pool_init(), mm_heap_init(),
 * mm_spaces_init(), mm_dma_init() and mm_user_init() answer. On error everything is undone and
 * `system` is zeroed; the map is as it was but for its order. Locks: none; one CPU, at boot.
 */
MM_MUST_CHECK
mm_status_t mm_system_init(struct mm_system *system, const struct mm_system_config *config);

/**
 * Take everything down, in reverse. The root must not be the one in use.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (a space,
 * DMA region or heap object is alive, or the root is in use: nothing was taken down) Locks: none;
 * no other CPU is in any of the rooms.
 */
MM_MUST_CHECK
mm_status_t mm_system_destroy(struct mm_system *system);

/**
 * The check of every room, in order.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 */
MM_MUST_CHECK
mm_status_t mm_system_check(struct mm_system *system);

MM_END_DECLS

#endif
