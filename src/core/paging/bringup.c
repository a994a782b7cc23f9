// SPDX-License-Identifier: MIT
/**
 * A kernel's first mappings: its image, section by section, and the direct map.
 *
 * Both are sequences of pieces. A sequence can be walked again from its start, so what was mapped
 * before a piece that fails is found once more and unmapped. That cannot fail: the pieces are whole
 * mappings, so nothing is split. The gather for it is too large for a kernel's stack and lies in a
 * frame of the source, taken before anything is mapped and given back at the end.
 */
#include "core/base/report.h"
#include "internal.h"

struct piece {
    struct mm_vrange range;
    mm_paddr_t paddr;
    mm_prot_t prot;
};

/** A sequence of pieces; `next` is false at its end. */
struct pieces {
    bool (*next)(struct pieces *p, struct piece *out);
    const struct mm_boot_section *sections;
    uint32_t nr_sections;
    uint32_t section; /**< where it stands: section and virtual address in it ... */
    uint64_t at;
    struct mm_bootmap *map; /**< ... or the next physical address */
    const struct mm_physmap *physmap;
};

/* --- all of a sequence, or nothing ------------------------------------------------------------ */

_Noreturn static void undo_failed(const struct mm_pagetable *pt, const struct piece *piece,
                                  mm_status_t status)
{
    struct mm_panic_info info = {
        .room = "paging",
        .what = "what was just mapped cannot be unmapped",
        .address = piece->range.start.raw,
        .recorded = "bytes mapped",
        .recorded_value = piece->range.len,
        .claimed = mm_status_str(status),
        .claimed_value = (uint64_t)status,
    };

    mmi_panic(&pt->platform, &info);
}

static void undo(struct mm_pagetable *pt, struct pieces p, uint64_t nr, struct mm_gather *gather)
{
    struct piece piece;

    for (; nr > 0 && p.next(&p, &piece); nr--) {
        mm_status_t status = mm_paging_unmap(pt, piece.range, 0, gather);

        if (status != MM_OK) {
            undo_failed(pt, &piece, status);
        }
    }
    mm_gather_end(gather);
}

static mm_status_t map_all(struct mm_pagetable *pt, struct pieces start, struct mm_gather *gather)
{
    struct pieces p = start;
    struct piece piece;

    for (uint64_t nr = 0; p.next(&p, &piece); nr++) {
        mm_status_t status =
            mm_paging_map(pt, piece.range, piece.paddr, piece.prot, MM_MEMTYPE_WB, 0);

        if (status != MM_OK) {
            undo(pt, start, nr, gather);
            return status;
        }
    }
    return MM_OK;
}

static mm_status_t map_pieces(struct mm_pagetable *pt, struct pieces start)
{
    mm_pfn_t frame;
    struct mm_gather *gather;
    mm_status_t status = pt->source.ops->alloc(pt->source.ctx, MM_OWNER_KERNEL, false, &frame);

    if (status != MM_OK) {
        return status;
    }
    if (pt->physmap.ops == NULL &&
        !mm_physmap_covers(&pt->physmap, mm_prange(mm_pfn_addr(frame), MM_PAGE_SIZE))) {
        pt->source.ops->free(pt->source.ctx, frame);
        return MM_ERR_FAULT;
    }
    gather = mm_physmap_get(&pt->physmap, frame);
    status =
        pt->physmap.ops != NULL && gather == NULL ? MM_ERR_NO_MEMORY : mm_gather_begin(gather, pt);
    if (status == MM_OK) {
        status = map_all(pt, start, gather);
        gather->magic = 0;
    }
    if (gather != NULL) {
        mm_physmap_put(&pt->physmap, gather);
    }
    pt->source.ops->free(pt->source.ctx, frame);
    return status;
}

_Static_assert(sizeof(struct mm_gather) <= MM_PAGE_SIZE, "a gather fits into a frame");

/* --- the image -------------------------------------------------------------------------------- */

/** First and last byte of the pages that a section, which is not empty, touches. */
static uint64_t pages_first(const struct mm_boot_section *s)
{
    return mm_align_down(s->range.start.raw, MM_PAGE_SIZE);
}

static uint64_t pages_last(const struct mm_boot_section *s)
{
    return mm_vrange_last(s->range).raw | MM_PAGE_MASK;
}

static bool share_a_page(const struct mm_boot_section *a, const struct mm_boot_section *b)
{
    return a->range.len != 0 && b->range.len != 0 && pages_first(a) <= pages_last(b) &&
           pages_first(b) <= pages_last(a);
}

static mm_status_t check_section(const struct mm_boot_section *s)
{
    if (s->range.len == 0) {
        return MM_OK; /* takes no page */
    }
    if (!mm_vrange_valid(s->range) || !mm_range_fits(s->paddr.raw, s->range.len)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (mm_vaddr_offset(s->range.start) != mm_paddr_offset(s->paddr)) {
        return MM_ERR_NOT_ALIGNED;
    }
    return (s->prot & MM_PROT_WRITE) != 0 && (s->prot & MM_PROT_EXEC) != 0
               ? MM_ERR_PERMISSION_DENIED
               : MM_OK;
}

static mm_status_t check_sections(const struct mm_boot_section *sections, uint32_t nr)
{
    for (uint32_t i = 0; i < nr; i++) {
        mm_status_t status = check_section(&sections[i]);

        if (status != MM_OK) {
            return status;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (!share_a_page(&sections[i], &sections[j])) {
                continue;
            }
            if (sections[i].prot != sections[j].prot) {
                return MM_ERR_PERMISSION_DENIED;
            }
            if (sections[i].paddr.raw - sections[i].range.start.raw !=
                sections[j].paddr.raw - sections[j].range.start.raw) {
                return MM_ERR_ALREADY_MAPPED;
            }
        }
    }
    return MM_OK;
}

/** Whether a section before this one has the page at `at`; `last`: the last byte up to which that,
 * or its contrary, holds. */
static bool had_before(const struct pieces *p, uint64_t at, uint64_t *last)
{
    for (uint32_t j = 0; j < p->section; j++) {
        const struct mm_boot_section *s = &p->sections[j];

        if (s->range.len == 0) {
            continue;
        }
        if (pages_first(s) <= at && at <= pages_last(s)) {
            *last = pages_last(s);
            return true;
        }
        if (pages_first(s) > at && pages_first(s) - 1 < *last) {
            *last = pages_first(s) - 1;
        }
    }
    return false;
}

/** The pages of each section in turn, without those that a section before it has. */
static bool next_of_image(struct pieces *p, struct piece *out)
{
    while (p->section < p->nr_sections) {
        const struct mm_boot_section *s = &p->sections[p->section];
        uint64_t first = s->range.len == 0 ? 0 : pages_first(s) + p->at;
        uint64_t last = s->range.len == 0 ? 0 : pages_last(s);
        uint64_t end = last;
        bool had;

        if (s->range.len == 0) {
            p->section++;
            continue;
        }
        had = had_before(p, first, &end);
        out->range = mm_vrange(mm_vaddr(first), end - first + 1);
        out->paddr = mm_paddr(mm_align_down(s->paddr.raw, MM_PAGE_SIZE) + p->at);
        out->prot = s->prot | MM_PROT_GLOBAL;
        if (end >= last) {
            p->section++;
            p->at = 0;
        } else {
            p->at += out->range.len;
        }
        if (!had) {
            return true;
        }
    }
    return false;
}

mm_status_t mm_paging_map_sections(struct mm_pagetable *pt, const struct mm_boot_section *sections,
                                   uint32_t nr_sections)
{
    struct pieces pieces = {
        .next = next_of_image, .sections = sections, .nr_sections = nr_sections};
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK && (sections == NULL || nr_sections == 0)) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK) {
        status = check_sections(sections, nr_sections);
    }
    return status != MM_OK ? status : map_pieces(pt, pieces);
}

/* --- the direct map --------------------------------------------------------------------------- */

/** Whether the image forbids writing to the frame at `at`; *last: the last byte, at most what it
 * was, up to which that, or its contrary, holds. */
static bool read_only(const struct pieces *p, uint64_t at, uint64_t *last)
{
    uint64_t until = 0;

    for (uint32_t i = 0; i < p->nr_sections; i++) {
        const struct mm_boot_section *s = &p->sections[i];
        uint64_t first = mm_align_down(s->paddr.raw, MM_PAGE_SIZE);
        uint64_t end = (s->paddr.raw + (s->range.len - 1)) | MM_PAGE_MASK;

        if (s->range.len == 0 || (s->prot & MM_PROT_WRITE) != 0) {
            continue;
        }
        if (first <= at && at <= end) {
            until = end > until ? end : until;
        } else if (first > at && first - 1 < *last) {
            *last = first - 1;
        }
    }
    if (until != 0 && until < *last) {
        *last = until;
    }
    return until != 0;
}

/** Each range of RAM and ACPI memory, as far as the physmap reaches, cut where the image's sections
 * begin and end to be read-only. */
static bool next_of_memory(struct pieces *p, struct piece *out)
{
    struct mm_prange r;
    uint64_t low = p->physmap->len == 0 ? 0 : p->physmap->first.raw;
    uint64_t last = p->physmap->len == 0 ? UINT64_MAX : low + (p->physmap->len - 1);

    while (mm_bootmap_next_frames(p->map, MM_BOOT_KINDS_RAM, MM_BOOT_KINDS_ACPI, mm_paddr(p->at),
                                  &r) == MM_OK) {
        uint64_t r_last = mm_prange_last(r).raw;
        bool fixed;

        p->at = r_last + 1; /* memory ends at 2^52 */
        if (r.start.raw < low) {
            r.start.raw = low;
        }
        if (r_last > last) {
            r_last = last;
        }
        if (r.start.raw >= r_last) {
            continue;
        }
        fixed = read_only(p, r.start.raw, &r_last);
        if (r_last < last && r_last + 1 < p->at) {
            p->at = r_last + 1; /* the rest of it comes next */
        }
        out->range = mm_vrange(mm_vaddr(p->physmap->base + r.start.raw), r_last - r.start.raw + 1);
        out->paddr = r.start;
        out->prot = (fixed ? MM_PROT_READ : MM_PROT_RW) | MM_PROT_GLOBAL;
        return true;
    }
    return false;
}

mm_status_t mm_paging_map_direct(struct mm_pagetable *pt, struct mm_bootmap *map,
                                 const struct mm_physmap *physmap,
                                 const struct mm_boot_section *sections, uint32_t nr_sections)
{
    struct pieces pieces = {.next = next_of_memory,
                            .map = map,
                            .physmap = physmap,
                            .sections = sections,
                            .nr_sections = nr_sections};
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK &&
        (map == NULL || physmap == NULL || (sections == NULL && nr_sections != 0))) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK && physmap->ops != NULL) {
        status = MM_ERR_UNSUPPORTED;
    }
    if (status == MM_OK &&
        ((physmap->base | physmap->first.raw | physmap->len) & MM_PAGE_MASK) != 0) {
        status = MM_ERR_NOT_ALIGNED;
    }
    if (status == MM_OK && !mm_range_fits(physmap->first.raw, physmap->len)) {
        status = MM_ERR_INVALID_SIZE;
    }
    if (status == MM_OK) {
        status = check_sections(sections, nr_sections);
    }
    if (status == MM_OK) {
        status = mm_bootmap_normalize(map);
    }
    return status != MM_OK ? status : map_pieces(pt, pieces);
}
