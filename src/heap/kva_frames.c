// SPDX-License-Identifier: MIT
/**
 * The frames of a range: collected before anything else is done, then mapped in a step that fails
 * as a whole or not at all.
 *
 * Frames that nobody sees yet hold their own list: the first two words of each run are the next run
 * and this one's length.
 *
 * One run is mapped by one call. Several are in two steps: first all of the range is mapped with
 * leaves that allow nothing, which takes the tables, and is all or nothing; then each leaf gets its
 * frame, which cannot fail. A leaf that allows nothing is not present for the hardware, and no CPU
 * caches what is not present (SDM vol. 3A, 4.10.2.3): so nothing has to be flushed, here or where
 * the first step fails, and a call with MM_KVA_ATOMIC waits for nobody.
 */
#include "kva.h"

#include "core/base/bits.h"

#include <mm/paging_slots.h>

/** What lies in the first frame of a run while nobody sees it. */
struct run {
    uint64_t next; /* frame; 0: the last */
    uint64_t nr;
};

static struct run *run_of(const struct mm_kva *kva, mm_pfn_t first)
{
    return mm_physmap_ptr(&kva->physmap, mm_pfn_addr(first));
}

static void append(struct mm_kva *kva, struct mmi_kva_frames *frames, mm_pfn_t first, uint64_t nr,
                   bool zero)
{
    struct run *run = run_of(kva, first);

    if (zero) {
        memset(run, 0, nr * MM_PAGE_SIZE);
    }
    *run = (struct run){.next = 0, .nr = nr};
    if (frames->nr_runs == 0) {
        frames->first = first;
    } else {
        run_of(kva, frames->last)->next = first.raw;
    }
    frames->last = first;
    frames->nr_runs++;
}

void mmi_kva_drop(struct mm_kva *kva, struct mmi_kva_frames *frames)
{
    mm_pfn_t first = frames->first;

    for (; frames->nr_runs > 0; frames->nr_runs--) {
        struct run run = *run_of(kva, first);

        mm_frame_free_run(kva->frames, first, run.nr);
        first = mm_pfn(run.next);
    }
}

/** One run if there is one, else in pieces, each as long as there are any. */
static mm_status_t collect(struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t nr,
                           uint32_t node, uint32_t policy, struct mmi_kva_frames *out)
{
    const struct mm_kva_request *asked = &spec->request;
    struct mm_frame_request request = {
        .flags = (asked->flags & MM_KVA_ATOMIC) != 0 ? MM_FRAME_ATOMIC : 0,
        .node = node,
        .node_policy = policy,
        .lifetime = MM_LIFETIME_KERNEL,
        .owner = spec->kind == MM_KVA_PAGES ? MM_OWNER_HEAP : MM_OWNER_KERNEL};
    uint64_t piece = nr;

    while (nr > 0) {
        mm_pfn_t first;
        mm_status_t status;

        piece = piece < nr ? piece : nr;
        request.nr_frames = piece;
        request.align = piece >= MM_SIZE_2M / MM_PAGE_SIZE ? MM_SIZE_2M : MM_PAGE_SIZE;
        status = mm_frame_alloc(kva->frames, &request, &first);
        if (status == MM_OK) {
            append(kva, out, first, piece, (asked->flags & MM_KVA_ZERO) != 0);
            nr -= piece;
        } else if (status != MM_ERR_NO_MEMORY || piece == 1) {
            return status;
        } else {
            piece = UINT64_C(1) << mmi_log2(piece - 1); /* the next smaller power of two */
        }
    }
    return MM_OK;
}

mm_status_t mmi_kva_collect(struct mm_kva *kva, const struct mmi_kva_spec *spec,
                            struct mmi_kva_frames *out)
{
    const struct mm_kva_request *asked = &spec->request;
    uint64_t nr = (spec->part == 0 ? asked->len : spec->part) >> MM_PAGE_SHIFT;
    mm_status_t status = MM_OK;
    uint64_t at = 0;

    *out = (struct mmi_kva_frames){{0}, {0}, 0};
    if (nr > kva->frames->nr_frames) {
        return MM_ERR_NO_MEMORY; /* or all memory would be taken, only to be given back */
    }
    do {
        if (spec->node_of == NULL) {
            status = collect(kva, spec, nr, asked->node, asked->node_policy, out);
        } else {
            status = collect(kva, spec, nr, spec->node_of(spec->node_ctx, at / spec->stride),
                             MM_NODE_PREFERRED, out);
        }
        at += spec->stride;
    } while (status == MM_OK && spec->part != 0 && at < asked->len);
    if (status != MM_OK) {
        mmi_kva_drop(kva, out);
    }
    return status;
}

/* --- mapping ---------------------------------------------------------------------------------- */

/** What was prepared cannot fail: if it does, the tables are not what they were. */
static void must(struct mm_kva *kva, mm_status_t status, uint64_t at)
{
    if (status != MM_OK) {
        mmi_panic(&kva->platform, &(struct mm_panic_info){.room = "kva",
                                                          .what = "a page that was prepared is not "
                                                                  "there any more",
                                                          .address = at,
                                                          .recorded = mm_status_str(status),
                                                          .recorded_value = (uint64_t)status,
                                                          .claimed = "a leaf that allows nothing",
                                                          .claimed_value = 0});
    }
}

/** The pages between two parts: guards that the page table knows as such. */
static uint64_t put_guards(struct mm_kva *kva, uint64_t at, uint64_t end)
{
    const struct mm_slot guard = mm_slot_soft(MM_SOFT_GUARD, 0);

    for (; at < end; at += MM_PAGE_SIZE) {
        struct mm_slot seen;

        must(kva, mm_paging_slot_get(kva->kernel, mm_vaddr(at), &seen), at);
        must(kva,
             mm_paging_slot_cas(kva->kernel, mm_vaddr(at), MM_PAGE_SIZE, &seen, &guard,
                                &kva->unused),
             at);
    }
    return at;
}

static void put_frames(struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t start,
                       const struct mmi_kva_frames *frames)
{
    mm_pfn_t first = frames->first;
    uint64_t at = start;
    uint64_t end = start + spec->request.len;

    for (uint64_t left = frames->nr_runs; left > 0; left--) {
        struct run run = *run_of(kva, first);

        if ((spec->request.flags & MM_KVA_ZERO) != 0) {
            *run_of(kva, first) = (struct run){0, 0};
        }
        for (uint64_t i = 0; i < run.nr; i++) {
            must(kva,
                 mm_paging_replace(kva->kernel, mm_vaddr(at), mm_pfn_addr(mm_pfn(first.raw + i)),
                                   spec->request.prot, 0, &kva->unused),
                 at);
            at += MM_PAGE_SIZE;
            if (spec->part != 0 && at < end && (at - start) % spec->stride == spec->part) {
                at = put_guards(kva, at, at + (spec->stride - spec->part));
            }
        }
        first = mm_pfn(run.next);
    }
}

mm_status_t mmi_kva_map_frames(struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t at,
                               const struct mmi_kva_frames *frames)
{
    struct mm_vrange range = mm_vrange(mm_vaddr(at), spec->request.len);
    mm_status_t status;

    if (frames->nr_runs == 1 && spec->part == 0) {
        /* Parts of a run of pages are unmapped one by one: no leaf of it is ever to be split. */
        status = mm_paging_map(kva->kernel, range, mm_pfn_addr(frames->first), spec->request.prot,
                               MM_MEMTYPE_WB, spec->kind == MM_KVA_PAGES ? MM_PAGING_ONLY_4K : 0);
        if (status == MM_OK && (spec->request.flags & MM_KVA_ZERO) != 0) {
            *run_of(kva, frames->first) = (struct run){0, 0};
        }
        return status;
    }
    status = mm_paging_map(kva->kernel, range, mm_paddr(0), MM_PROT_NONE, MM_MEMTYPE_WB,
                           MM_PAGING_ONLY_4K);
    if (status == MM_OK) {
        must(kva, mm_gather_begin(&kva->unused, kva->kernel), at);
        put_frames(kva, spec, at, frames);
        /* Nothing was present: what was told to `unused` is forgotten, not flushed. */
    }
    return status;
}
