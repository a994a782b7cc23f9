// SPDX-License-Identifier: MIT
/**
 * Memory objects: what regions show that is not private anonymous memory (files, shared memory).
 * Declared here so that regions have their place for it (object and offset, struct mmi_region); no
 * call of this version takes one.
 *
 * An object is an index of pages and a pager that fills them. Pager ops are the only ops of the
 * library that may sleep: they are called with no lock held. Who called takes its lock again and
 * checks the sequence number of what it saw before.
 */
#ifndef MM_OBJECT_H
#define MM_OBJECT_H

#include <mm/addr.h>
#include <mm/status.h>

MM_BEGIN_DECLS

struct mm_object;

/** Who fills the pages of an object, and takes them back. All offsets are bytes, page-aligned. */
struct mm_pager_ops {
    /**
     * Fill a page.
     *
     * @param[out] frame  with one reference for the object
     * @return MM_OK | MM_ERR_BUSY (it is on its way: wait for the object's page) | MM_ERR_NO_MEMORY
     *         | MM_ERR_IO | MM_ERR_INVALID_ADDRESS (at or behind the end)
     */
    mm_status_t (*get_page)(void *ctx, struct mm_object *object, uint64_t offset, mm_pfn_t *frame);
    /** Write pages back. MM_OK | MM_ERR_IO | MM_ERR_NO_MEMORY */
    mm_status_t (*write_back)(void *ctx, struct mm_object *object, uint64_t offset,
                              const mm_pfn_t *frames, uint64_t nr_frames);
    /** Bytes of the object now. */
    uint64_t (*size)(void *ctx, struct mm_object *object);
    /** The object ends here from now on. MM_OK | MM_ERR_IO | MM_ERR_NO_MEMORY */
    mm_status_t (*truncate)(void *ctx, struct mm_object *object, uint64_t size);
};

MM_END_DECLS

#endif
