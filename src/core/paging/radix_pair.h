// SPDX-License-Identifier: MIT
/**
 * The second root of a pair follows the first: a part of radix.h, which includes it.
 *
 * The engine walks and edits the root for user mode; the other has the same entries in the user
 * half, but that nothing there is executable. Only entries of the root are in both, so only what
 * links or unlinks a table there has to do with it:
 *
 *   - A table that goes leaves the other root first, before it can come to a gather, which may
 *     flush and free at any time. All unlinking is sweep_up()'s.
 *   - A table that comes is brought over at the end of the call. In between the kernel does not see
 *     a page that user mode may see, and the call that maps it is not over.
 *
 * Every store is one word, and no table is ever half written when it is stored.
 */
#ifndef MMI_PAGING_RADIX_PAIR_H
#define MMI_PAGING_RADIX_PAIR_H

#include "radix.h"

/** A table goes from the user half: the pair's other root loses it before it can be freed. */
RADIX_APART void pair_unlink(const struct mm_pagetable *pt, unsigned index)
{
    uint64_t *root = table_get(pt, mm_pfn_of(pt->kernel_root));

    mmi_store_release(&root[index], 0);
    table_put(pt, root);
}

/**
 * Tables may have been linked in [first, last]. Callers that share the owner's lock may do this at
 * once: entries only come then, and all bring the same.
 */
RADIX_APART void pair_bring(const struct mm_pagetable *pt, uint64_t first, uint64_t last)
{
    const codec_t *cx = codec_of(pt);
    unsigned end = slot_index(last, root_level(cx));
    uint64_t *root = table_get(pt, root_pfn(pt));
    uint64_t *other = table_get(pt, mm_pfn_of(pt->kernel_root));

    for (unsigned i = slot_index(first, root_level(cx)); i <= end; i++) {
        uint64_t now = codec_kernel_side(cx, mmi_load(&root[i]));

        if (!codec_same_table(now, mmi_load(&other[i]))) {
            mmi_store_release(&other[i], now);
        }
    }
    table_put(pt, other);
    table_put(pt, root);
}

/** The same, for any page table. */
static inline void pair_up(const struct mm_pagetable *pt, uint64_t first, uint64_t last)
{
    if (mmi_is_pair(pt)) {
        pair_bring(pt, first, last);
    }
}

#endif
