// SPDX-License-Identifier: MIT
/**
 * What the files of the kernel virtual arena share: ranges, their states, and the steps that more
 * than one of them takes.
 *
 * The table has an entry a page: the address of the range whose first page it is (of a run of a
 * page source: each of its pages), and in bit 0 whether it was freed. That bit is the truth:
 *
 *     0 ──alloc──> range ──free, by one CAS──> range | 1 ──purge──> 0
 *                    ^                            │
 *                    └──── a kept stack, reused ──┘
 *
 * Whoever frees and wins the exchange counts the pages in `nr_pending` of the range, and if there
 * was nothing pending pushes it on the list. Only a purge takes ranges off, all at once, and it
 * takes no more pages of a range than were pending: so a range dies only after all who freed parts
 * of it are done with it.
 */
#ifndef MMI_HEAP_KVA_H
#define MMI_HEAP_KVA_H

#include "device.h"
#include "slab.h"

#include "core/base/atomic.h"
#include "core/base/lock.h"
#include "core/base/mem.h"
#include "core/base/range.h"
#include "core/base/report.h"

#include <mm/kva.h>

#define MMI_KVA_MAGIC UINT32_C(0x6d6d4b76) /* "mmKv" */

#define MMI_KVA_FREED UINT64_C(1)

/** `c` = constant once it is in the table, `l` = under the lock, `p` = under the purge lock. */
struct mmi_kva_range {
    struct mmi_range whole;     /* l: with guards; first, so that it is the range */
    uint64_t start;             /* c: without guards */
    uint64_t len;               /* c; of a run of pages `l`, because it can grow */
    uint64_t offset;            /* c: of a device's first byte in its page */
    uint64_t paddr;             /* c: of a device, page-aligned */
    uint64_t part;              /* c: bytes of each mapped part, and from one to the next; 0: one */
    uint64_t stride;            /* c */
    enum mm_kva_kind kind;      /* c */
    mm_memtype_t type;          /* c */
    struct mmi_kva_range *next; /* on the list of freed ones, or of kept stacks */
    struct mmi_kva_range *twin; /* c: of a device, its node by physical address, whose twin it is */
    uint64_t nr_pending;        /* a: pages freed, not yet taken by a purge */
    uint64_t nr_left;           /* l: pages that are mapped */
    uint64_t scan;              /* p: how far the purge has come */
};

/** What a range is to be. */
struct mmi_kva_spec {
    struct mm_kva_request request; /* checked, and without zeroes that mean something else */
    enum mm_kva_kind kind;
    mm_memtype_t type;
    uint64_t paddr;  /* of a device */
    uint64_t offset; /* of a device */
    uint64_t part;   /* as in the range; request.len spans all parts */
    uint64_t stride;
    uint32_t (*node_of)(void *ctx, uint64_t part); /* NULL: the request's */
    void *node_ctx;
};

/** Runs of frames that nobody sees, chained through themselves. */
struct mmi_kva_frames {
    mm_pfn_t first;
    mm_pfn_t last;
    uint64_t nr_runs;
};

static inline bool mmi_is_kva(const struct mm_kva *kva)
{
    return kva != NULL && kva->magic == MMI_KVA_MAGIC;
}

/** MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED */
static inline mm_status_t mmi_kva_check_arena(const struct mm_kva *kva)
{
    if (kva == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return kva->magic == MMI_KVA_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

static inline struct mmi_kva_range *mmi_kva_of_whole(struct mmi_range *whole)
{
    return (struct mmi_kva_range *)(void *)whole;
}

static inline struct mmi_kva_range *mmi_kva_of_entry(uint64_t entry)
{
    return (struct mmi_kva_range *)(uintptr_t)(entry & ~MMI_KVA_FREED);
}

static inline uint64_t mmi_kva_entry(const struct mmi_kva_range *range)
{
    return (uint64_t)(uintptr_t)range;
}

/** Pages that have frames, or a device's. */
static inline uint64_t mmi_kva_pages(const struct mmi_kva_range *range)
{
    uint64_t parts = range->part == 0 ? 1 : (range->len - range->part) / range->stride + 1;

    return parts * ((range->part == 0 ? range->len : range->part) >> MM_PAGE_SHIFT);
}

/* --- locks: kva.c ----------------------------------------------------------------------------- */

/** The arena's lock and the root's. False: `atomic`, and one of them is held. */
bool mmi_kva_enter(struct mm_kva *kva, bool atomic);
void mmi_kva_leave(struct mm_kva *kva);

/** Fill the reserve up, as far as there are frames. Under the lock. */
void mmi_kva_refill(struct mm_kva *kva);

/** Take what a spec asks for. The range is in the table, and its owner's. */
mm_status_t mmi_kva_take(struct mm_kva *kva, const struct mmi_kva_spec *spec,
                         struct mmi_kva_range **out);

/** Whether the table has the entries that such a range needs from `at` on. */
bool mmi_kva_has_entries(const struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t at);
/** Make them. Not under the lock, because it calls the page source of the pool. They stay, for the
 * next that lies there. */
bool mmi_kva_make_entries(struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t at);
/** Say in the entries of these pages whose they are. Under the lock. */
void mmi_kva_set_entries(struct mm_kva *kva, const struct mmi_kva_range *range, uint64_t at,
                         uint64_t len);

/** Map what a spec asks for. All or nothing; under the lock. */
mm_status_t mmi_kva_map_at(struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t at,
                           const struct mmi_kva_frames *frames);

/** Give the node back of a range that is in no tree, and its twin. */
void mmi_kva_free_node(struct mm_kva *kva, struct mmi_kva_range *range);

/** What the caller asks for, checked and completed. */
mm_status_t mmi_kva_complete(const struct mm_kva *kva, const struct mm_kva_request *request,
                             struct mm_kva_request *out);

/* --- frames of a range: kva_frames.c ---------------------------------------------------------- */

mm_status_t mmi_kva_collect(struct mm_kva *kva, const struct mmi_kva_spec *spec,
                            struct mmi_kva_frames *out);
void mmi_kva_drop(struct mm_kva *kva, struct mmi_kva_frames *frames);

/** Map a range on the frames. All or nothing; under the lock. */
mm_status_t mmi_kva_map_frames(struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t at,
                               const struct mmi_kva_frames *frames);

/* --- freeing: kva_free.c ---------------------------------------------------------------------- */

/** The range at whose start `at` is, claimed for the caller; panics if it is not of these kinds. */
struct mmi_kva_range *mmi_kva_claim(struct mm_kva *kva, uint64_t at, uint32_t kinds,
                                    const char *claimed);

/** A claimed range, or so many pages of it, waits for the purge. */
void mmi_kva_push(struct mm_kva *kva, struct mmi_kva_range *range, uint64_t nr_pages);

/** A free that is wrong: tell what is known of the address. */
_Noreturn void mmi_kva_wrong(struct mm_kva *kva, uint64_t at, const char *what,
                             const char *claimed);

/** The range, guards included, that holds an address; NULL: none. Under the lock. */
struct mmi_kva_range *mmi_kva_find(const struct mm_kva *kva, uint64_t at);

/** Whether the range was freed. */
bool mmi_kva_is_freed(const struct mm_kva *kva, const struct mmi_kva_range *range);

const char *mmi_kva_kind_str(enum mm_kva_kind kind);

/** Try for the arena's lock alone, for a while. */
bool mmi_kva_enter_for_a_while(struct mm_kva *kva);

#endif
