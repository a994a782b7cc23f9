// SPDX-License-Identifier: MIT
/**
 * What the files of the space room share: the space itself, and the steps that more than one of
 * them takes. Nothing here is for other rooms.
 */
#ifndef MMI_SPACE_INTERNAL_H
#define MMI_SPACE_INTERNAL_H

#include "region.h"

#include "core/base/atomic.h"
#include "core/base/lock.h"
#include "core/base/mem.h"
#include "core/base/report.h"

#include <mm/space.h>

#define MMI_SPACES_MAGIC UINT32_C(0x6d6d5370) /* "mmSp" */
#define MMI_SPACE_MAGIC  UINT32_C(0x6d6d7370) /* "mmsp" */
#define MMI_SPACE_DEAD   UINT32_C(0x6d6d7378) /* freed, and its memory not used again yet */

/** Rights that a region has; the rest of mm_prot_t is the library's. */
#define MMI_SPACE_PROT (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)

/** `c` = constant after it was made, `a` = atomic, `l` = under the lock. */
struct mm_space {
    uint32_t magic;                     /* c */
    uint32_t refs;                      /* a */
    uint32_t lock;                      /* a */
    uint32_t is_kernel;                 /* c */
    uint64_t id;                        /* c */
    struct mm_spaces *spaces;           /* c */
    struct mm_pagetable *table;         /* c: own_table, or the kernel's */
    struct mm_regions regions;          /* l */
    struct mm_pagetable own_table;      /* l */
    struct mm_gather gather;            /* l: here, because it is too large for a kernel's stack */
    uint64_t nr_faults[MM_FAULT_COUNT]; /* l */
};

static inline void mmi_space_lock(struct mm_space *space)
{
    mmi_lock(&space->lock, &space->spaces->platform);
}

static inline void mmi_space_unlock(struct mm_space *space)
{
    mmi_unlock(&space->lock);
}

/** What a leaf in a region of these rights gets: x86 has no leaf that is writable or executable and
 * not readable. */
static inline mm_prot_t mmi_space_leaf_prot(const struct mm_space *space, mm_prot_t prot)
{
    if ((prot & (MM_PROT_WRITE | MM_PROT_EXEC)) != 0) {
        prot |= MM_PROT_READ;
    }
    return prot | (space->is_kernel != 0 ? MM_PROT_GLOBAL : MM_PROT_USER);
}

/** A new space with no region, not yet counted or announced. NULL: no memory. */
struct mm_space *mmi_space_new(struct mm_spaces *spaces, bool is_kernel, mm_status_t *status);
/** Unmap everything and free all of it. Nobody else knows the space. */
void mmi_space_free(struct mm_space *space);

/** Fill a list with `nr` nodes, all or none. */
bool mmi_space_take_nodes(struct mm_space *space, struct mmi_region_list *nodes, uint64_t nr);
/** Give a list back to the cache. */
void mmi_space_give_nodes(struct mm_space *space, struct mmi_region_list *nodes);

/** Put a zeroed frame at a page that has none. Lock held. MM_OK, or what ran out. */
mm_status_t mmi_space_put_zeroed(struct mm_space *space, uint64_t at, mm_prot_t prot);

/** Begin the space's own gather. Lock held, or nobody else knows the space. */
struct mm_gather *mmi_space_gather(struct mm_space *space);

/** Unmap what is there and release the frames, after the flush. Lock held. */
void mmi_space_drop_pages(struct mm_space *space, uint64_t start, uint64_t len);

/** A page-table call that cannot fail on tables that are whole: if it did, they are not. */
void mmi_space_must(const struct mm_space *space, mm_status_t status, const char *what,
                    uint64_t at);

#endif
