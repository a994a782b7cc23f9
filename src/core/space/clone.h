// SPDX-License-Identifier: MIT
/**
 * What the two halves of a clone share: what is copied on write (clone.c), and what is copied at
 * once (clone_pinned.c).
 */
#ifndef MMI_SPACE_CLONE_H
#define MMI_SPACE_CLONE_H

#include "internal.h"

/**
 * A page of the parent, or a part of a leaf, that the child gets a copy of at once. It lies in the
 * frame that the copy will be in, and is overwritten by it.
 */
struct mmi_clone_copy {
    uint64_t next; /* frame of the next one, in ascending order of `at`; 0: none */
    uint64_t at;
    uint64_t len;
    uint64_t old;      /* frame of the parent */
    uint64_t leaf_len; /* of the parent's leaf, if it begins here; else 0 */
    mm_prot_t prot;    /* what a leaf of the region gets */
    uint32_t writable; /* the parent's leaf is */
};

/** A clone on its way. */
struct mmi_clone {
    struct mm_space *parent;
    struct mm_space *child;
    struct mmi_space_nodes nodes;  /* for regions and claims of the child */
    struct mmi_space_spare tables; /* for the child */
    uint64_t nr_tables_more;       /* that the child needs, and the parent has not */
    uint64_t first_copy;           /* frame; 0: none */
    uint64_t last_copy;
    mm_status_t status; /* of what was had so far */
};

/** The next range of a space with no region of a device in it, from `*at` on, which moves behind it.
 * False: there is none. */
bool mmi_clone_between_devices(const struct mm_space *space, uint64_t *at, uint64_t *start,
                               uint64_t *len);

/** The copy that is described in a frame. */
static inline struct mmi_clone_copy *mmi_clone_copy_at(const struct mmi_clone *clone,
                                                       uint64_t frame)
{
    return mm_physmap_ptr(&clone->parent->spaces->physmap, mm_pfn_addr(mm_pfn(frame)));
}

/* --- clone_pinned.c: the parent's lock held alone --------------------------------------------- */

/** Look for pinned pages, and have a frame for a copy of each: all or none. */
mm_status_t mmi_clone_find_pinned(struct mmi_clone *clone);

/** Give back the frames of copies that were not made. */
void mmi_clone_drop_copies(struct mmi_clone *clone);

/** Make the copies, and let the parent write again. Its CPUs have been flushed. */
void mmi_clone_make_copies(struct mmi_clone *clone);

#endif
