// SPDX-License-Identifier: MIT
/**
 * Zeroing frames, knowing that they are zero, and poison.
 */
#include "state.h"

#include "core/base/mem.h"

bool mmi_frames_zero(struct mm_frames *f, uint64_t pfn, uint64_t nr)
{
    const struct mm_physmap *m = &f->physmap;

    if (m->ops == NULL) {
        memset(mm_physmap_ptr(m, mm_pfn_addr(mm_pfn(pfn))), 0, (size_t)(nr << MM_PAGE_SHIFT));
        return true;
    }
    for (uint64_t i = 0; i < nr; i++) {
        void *page = mm_physmap_get(m, mm_pfn(pfn + i));

        if (page == NULL) {
            return false;
        }
        memset(page, 0, MM_PAGE_SIZE);
        mm_physmap_put(m, page);
    }
    return true;
}

void mmi_poison_verify(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr)
{
    (void)f, (void)pfn, (void)slot, (void)nr;
}

void mmi_poison_fill(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr)
{
    (void)f, (void)pfn, (void)slot, (void)nr;
}
