// SPDX-License-Identifier: MIT
/**
 * The reference model of address spaces: see the header.
 */
#include "model_space.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE UINT64_C(4096)

void t_ms_init(struct t_ms *ms, uint64_t start, uint32_t nr, uint64_t max_number,
               uint64_t zero_number)
{
    memset(ms, 0, sizeof(*ms));
    ms->start = start;
    ms->nr = nr;
    ms->max_number = max_number;
    ms->max_frames = (uint32_t)max_number + 2;
    ms->frames = calloc(ms->max_frames, sizeof(*ms->frames));
    ms->by_number = calloc(max_number, sizeof(*ms->by_number));
    if (ms->frames == NULL || ms->by_number == NULL || nr > T_MS_PAGES ||
        zero_number >= max_number) {
        fprintf(stderr, "model_space: out of memory, or no such window\n");
        abort();
    }
    ms->nr_frames = 2; /* none, and the zero page */
    ms->frames[T_MS_ZERO].number = zero_number;
    ms->by_number[zero_number] = T_MS_ZERO;
}

void t_ms_destroy(struct t_ms *ms)
{
    free(ms->frames);
    free(ms->by_number);
}

/* --- frames ----------------------------------------------------------------------------------- */

uint32_t t_ms_frame_new(struct t_ms *ms, uint64_t number, uint64_t first, uint64_t last)
{
    uint32_t frame = ms->free;

    if (number >= ms->max_number || ms->by_number[number] != 0) {
        return 0;
    }
    if (frame != 0) {
        ms->free = ms->frames[frame].next;
    } else {
        frame = ms->nr_frames++;
    }
    ms->frames[frame] = (struct t_ms_frame){.word = {first, last}, .number = number, .refs = 1};
    ms->by_number[number] = frame;
    return frame;
}

void t_ms_frame_get(struct t_ms *ms, uint32_t frame)
{
    if (frame > T_MS_ZERO) {
        ms->frames[frame].refs++;
    }
}

static void gone(struct t_ms *ms, uint32_t frame)
{
    struct t_ms_frame *f = &ms->frames[frame];

    if (f->refs == 0 && f->pins == 0) {
        ms->by_number[f->number] = 0;
        f->next = ms->free;
        ms->free = frame;
    }
}

void t_ms_frame_put(struct t_ms *ms, uint32_t frame)
{
    if (frame > T_MS_ZERO) {
        ms->frames[frame].refs--;
        gone(ms, frame);
    }
}

void t_ms_frame_unpin(struct t_ms *ms, uint32_t frame)
{
    ms->frames[frame].pins--;
    gone(ms, frame);
}

/* --- regions ---------------------------------------------------------------------------------- */

bool t_ms_agree(const struct t_ms_page *a, const struct t_ms_page *b)
{
    return a->used != 0 && b->used != 0 && a->prot == b->prot && a->flags == b->flags &&
           a->kind == b->kind && a->tag == b->tag && a->committed == b->committed &&
           a->claim == b->claim;
}

uint32_t t_ms_next(const struct t_ms *ms, const struct t_ms_space *s, uint32_t from)
{
    while (from < ms->nr && s->pages[from].used == 0) {
        from++;
    }
    return from;
}

uint32_t t_ms_region_first(const struct t_ms_space *s, uint32_t page)
{
    while (page > 0 && t_ms_agree(&s->pages[page - 1], &s->pages[page])) {
        page--;
    }
    return page;
}

uint32_t t_ms_region_last(const struct t_ms *ms, const struct t_ms_space *s, uint32_t page)
{
    while (page + 1 < ms->nr && t_ms_agree(&s->pages[page], &s->pages[page + 1])) {
        page++;
    }
    return page;
}

uint32_t t_ms_hole(const struct t_ms_space *s, uint32_t page, uint32_t nr)
{
    uint32_t end = page + nr;

    while (page < end && s->pages[page].used != 0) {
        page++;
    }
    return page;
}

bool t_ms_all_free(const struct t_ms_space *s, uint32_t page, uint32_t nr)
{
    for (uint32_t i = page; i < page + nr; i++) {
        if (s->pages[i].used != 0) {
            return false;
        }
    }
    return true;
}

/** From this page on, a device's region that begins below is another one. */
static void cut_at(struct t_ms *ms, struct t_ms_space *s, uint32_t page)
{
    uint32_t claim;

    if (page == 0 || page >= ms->nr || s->pages[page].used == 0 || s->pages[page].claim == 0 ||
        s->pages[page - 1].claim != s->pages[page].claim) {
        return;
    }
    claim = s->pages[page].claim;
    ms->next_claim++;
    for (uint32_t i = page; i < ms->nr && s->pages[i].claim == claim; i++) {
        s->pages[i].claim = ms->next_claim;
    }
}

void t_ms_cut(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr)
{
    cut_at(ms, s, page);
    cut_at(ms, s, page + nr);
}

/* --- counting --------------------------------------------------------------------------------- */

void t_ms_sum_range(const struct t_ms_space *s, uint32_t page, uint32_t nr, struct t_ms_sums *out)
{
    memset(out, 0, sizeof(*out));
    for (uint32_t i = page; i < page + nr; i++) {
        const struct t_ms_page *p = &s->pages[i];

        out->mapped += p->used;
        out->device += p->used != 0 && p->kind == MM_REGION_DEVICE ? 1 : 0;
        out->resident += p->frame != 0 ? 1 : 0;
        out->committed += p->committed;
    }
}

void t_ms_sum(const struct t_ms *ms, const struct t_ms_space *s, struct t_ms_sums *out)
{
    t_ms_sum_range(s, 0, ms->nr, out);
    for (uint32_t i = 0; i < ms->nr; i++) {
        out->regions +=
            s->pages[i].used != 0 && (i == 0 || !t_ms_agree(&s->pages[i - 1], &s->pages[i])) ? 1
                                                                                             : 0;
    }
}

static uint64_t sum_of_group(const struct t_ms *ms, uint32_t group, bool resident)
{
    struct t_ms_sums sums;
    uint64_t sum = 0;

    for (unsigned i = 0; i < T_MS_SPACES; i++) {
        if (ms->spaces[i].alive && ms->spaces[i].group == group) {
            t_ms_sum_range(&ms->spaces[i], 0, ms->nr, &sums);
            sum += resident ? sums.resident : sums.mapped;
        }
    }
    return sum;
}

uint64_t t_ms_group_mapped(const struct t_ms *ms, uint32_t group)
{
    return sum_of_group(ms, group, false);
}

uint64_t t_ms_group_resident(const struct t_ms *ms, uint32_t group)
{
    return sum_of_group(ms, group, true);
}

uint64_t t_ms_promised(const struct t_ms *ms)
{
    struct t_ms_sums sums;
    uint64_t sum = 0;

    for (unsigned i = 0; i < T_MS_SPACES; i++) {
        if (ms->spaces[i].alive) {
            t_ms_sum_range(&ms->spaces[i], 0, ms->nr, &sums);
            sum += sums.committed;
        }
    }
    return sum;
}

static bool exceeds(uint64_t now, uint64_t more, uint64_t limit)
{
    return limit != 0 && more != 0 && now + more > limit;
}

mm_status_t t_ms_allowed(const struct t_ms *ms, const struct t_ms_space *s, uint64_t mapped,
                         uint64_t resident, uint64_t committed)
{
    struct t_ms_sums sums;

    if (s->limit_mapped != 0 || s->limit_resident != 0) {
        t_ms_sum_range(s, 0, ms->nr, &sums);
        if (exceeds(sums.mapped, mapped, s->limit_mapped) ||
            exceeds(sums.resident, resident, s->limit_resident)) {
            return MM_ERR_LIMIT;
        }
    }
    if (s->group != T_MS_NONE) {
        uint64_t limit = ms->group_mapped[s->group];

        if (limit != 0 && exceeds(t_ms_group_mapped(ms, s->group), mapped, limit)) {
            return MM_ERR_LIMIT;
        }
        limit = ms->group_resident[s->group];
        if (limit != 0 && exceeds(t_ms_group_resident(ms, s->group), resident, limit)) {
            return MM_ERR_LIMIT;
        }
    }
    return ms->counts_promises && committed != 0 &&
                   t_ms_promised(ms) + committed > ms->most_promised
               ? MM_ERR_NO_MEMORY
               : MM_OK;
}

/* --- places ----------------------------------------------------------------------------------- */

bool t_ms_fits(const struct t_ms *ms, const struct t_ms_space *s, uint32_t page, uint32_t nr,
               bool stack)
{
    uint32_t above;

    if (page + nr > ms->nr || !t_ms_all_free(s, page, nr)) {
        return false;
    }
    above = t_ms_next(ms, s, page + nr);
    if (above < ms->nr && (s->pages[above].flags & MM_SPACE_STACK) != 0 &&
        above - (page + nr) < s->gap) {
        return false;
    }
    for (uint32_t i = page; stack && i-- > 0 && page - i <= s->gap;) {
        if (s->pages[i].used != 0) {
            return (s->pages[i].flags & MM_SPACE_GUARD) != 0;
        }
    }
    return true;
}

bool t_ms_place(const struct t_ms *ms, const struct t_ms_space *s, uint32_t nr, uint64_t align,
                uint64_t residue, uint32_t *out)
{
    uint64_t first = ms->start / PAGE;

    for (uint32_t i = s->has_base ? s->base : 0; s->has_base && i-- > 0;) {
        if (i + nr <= s->base && (first + i - residue) % align == 0 &&
            t_ms_fits(ms, s, i, nr, false)) {
            *out = i;
            return true;
        }
    }
    for (uint32_t i = s->has_base ? s->base : 0; i + nr <= ms->nr; i++) {
        if ((first + i - residue) % align == 0 && t_ms_fits(ms, s, i, nr, false)) {
            *out = i;
            return true;
        }
    }
    for (uint32_t i = 0; s->has_base && i + nr <= ms->nr; i++) { /* across the base */
        if ((first + i - residue) % align == 0 && t_ms_fits(ms, s, i, nr, false)) {
            *out = i;
            return true;
        }
    }
    return false;
}

bool t_ms_place_stack(const struct t_ms *ms, const struct t_ms_space *s, uint32_t nr)
{
    uint32_t low;

    /* With its gap it is a place for anything; but not across the base. */
    return t_ms_place(ms, s, nr + s->gap, 1, 0, &low);
}

uint32_t t_ms_grows(const struct t_ms *ms, const struct t_ms_space *s, uint32_t page)
{
    uint32_t above = t_ms_next(ms, s, page);

    if (above == page || above >= ms->nr || (s->pages[above].flags & MM_SPACE_STACK) == 0 ||
        t_ms_region_last(ms, s, above) + 1 - page > s->max) {
        return T_MS_NONE;
    }
    for (uint32_t i = page; i-- > 0 && page - i <= s->gap;) {
        if (s->pages[i].used != 0) {
            return (s->pages[i].flags & MM_SPACE_GUARD) != 0 ? above : T_MS_NONE;
        }
    }
    return above;
}

/* --- what calls do ---------------------------------------------------------------------------- */

void t_ms_drop(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr)
{
    for (uint32_t i = page; i < page + nr; i++) {
        t_ms_frame_put(ms, s->pages[i].frame);
        s->pages[i].frame = 0;
        s->pages[i].given = 0;
        s->pages[i].large = 0;
    }
}

void t_ms_unmap(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr)
{
    t_ms_drop(ms, s, page, nr);
    t_ms_cut(ms, s, page, nr);
    memset(&s->pages[page], 0, nr * sizeof(s->pages[0]));
}

static bool promises(const struct t_ms *ms, const struct t_ms_page *p)
{
    return ms->counts_promises && p->kind != MM_REGION_DEVICE && (p->prot & MM_PROT_WRITE) != 0;
}

void t_ms_map(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr,
              const struct t_ms_page *attr)
{
    bool device = attr->kind == MM_REGION_DEVICE;

    ms->next_claim += device ? 1 : 0;
    for (uint32_t i = 0; i < nr; i++) {
        struct t_ms_page *p = &s->pages[page + i];

        *p = *attr;
        p->used = 1;
        p->committed = promises(ms, p) ? 1 : 0;
        p->claim = device ? ms->next_claim : 0;
        p->paddr = device ? attr->paddr + i * PAGE : 0;
    }
}

mm_status_t t_ms_may_protect(const struct t_ms *ms, const struct t_ms_space *s, uint32_t page,
                             uint32_t nr, uint32_t prot, uint64_t *out)
{
    *out = 0;
    for (uint32_t i = page; i < page + nr; i++) {
        const struct t_ms_page *p = &s->pages[i];

        if (p->used == 0) {
            return MM_ERR_NOT_MAPPED;
        }
        if ((p->flags & MM_SPACE_GUARD) != 0) {
            return MM_ERR_PERMISSION_DENIED;
        }
        *out += ms->counts_promises && (prot & MM_PROT_WRITE) != 0 && p->committed == 0 &&
                        p->kind != MM_REGION_DEVICE
                    ? 1
                    : 0;
    }
    return MM_OK;
}

/** Cut where the attributes of neighbours will differ. */
static void change(struct t_ms *ms, struct t_ms_space *s, uint32_t page, bool sets_prot,
                   uint32_t prot, uint32_t set, uint32_t clear)
{
    struct t_ms_page *p = &s->pages[page];
    uint32_t flags = (p->flags & ~clear) | set;

    if (p->used == 0) {
        return;
    }
    p->prot = sets_prot ? (uint16_t)prot : p->prot;
    p->flags = flags;
    p->committed = promises(ms, p) ? 1 : p->committed;
}

/** A device's region that changes in part is cut at the ends of the range. */
static void cut_changed(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr,
                        bool sets_prot, uint32_t prot, uint32_t set, uint32_t clear)
{
    const struct t_ms_page *low = &s->pages[page];
    const struct t_ms_page *high = &s->pages[page + nr - 1];

    if ((sets_prot && low->prot != prot) || ((low->flags & ~clear) | set) != low->flags) {
        cut_at(ms, s, page);
    }
    if ((sets_prot && high->prot != prot) || ((high->flags & ~clear) | set) != high->flags) {
        cut_at(ms, s, page + nr);
    }
}

void t_ms_protect(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr, uint32_t prot)
{
    cut_changed(ms, s, page, nr, true, prot, 0, 0);
    t_ms_doubt(s, page, nr);
    for (uint32_t i = page; i < page + nr; i++) {
        change(ms, s, i, true, prot, 0, 0);
    }
}

void t_ms_flags(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr, uint32_t set,
                uint32_t clear)
{
    if (nr == 0) {
        return;
    }
    cut_changed(ms, s, page, nr, false, 0, set, clear);
    for (uint32_t i = page; i < page + nr; i++) {
        change(ms, s, i, false, 0, set, clear);
    }
}

void t_ms_doubt(struct t_ms_space *s, uint32_t page, uint32_t nr)
{
    for (uint32_t i = page; i < page + nr; i++) {
        s->pages[i].given = s->pages[i].given != 0 ? 1 : 0;
    }
}

void t_ms_move(struct t_ms *ms, struct t_ms_space *s, uint32_t from, uint32_t nr, uint32_t to)
{
    t_ms_cut(ms, s, from, nr);
    t_ms_doubt(s, from, nr);
    memcpy(&s->pages[to], &s->pages[from], nr * sizeof(s->pages[0]));
    memset(&s->pages[from], 0, nr * sizeof(s->pages[0]));
}

void t_ms_clone(struct t_ms *ms, const struct t_ms_space *parent, struct t_ms_space *child)
{
    *child = *parent;
    child->depth++;
    for (uint32_t i = 0; i < ms->nr; i++) {
        struct t_ms_page *p = &child->pages[i];

        p->flags &= ~MM_SPACE_WIRED; /* POSIX: the child inherits no memory locks */
        if (p->frame > T_MS_ZERO && ms->frames[p->frame].pins != 0) {
            p->frame = 0;
        }
        t_ms_frame_get(ms, p->frame);
    }
    for (uint32_t i = 0; i < ms->nr; i++) { /* claims of its own, as many as the parent has */
        struct t_ms_page *p = &child->pages[i];

        if (p->claim != 0) {
            ms->next_claim +=
                i == 0 || parent->pages[i - 1].claim != parent->pages[i].claim ? 1 : 0;
            p->claim = ms->next_claim;
        }
    }
}

bool t_ms_allows(const struct t_ms_page *p, uint32_t need)
{
    uint32_t prot = p->prot;

    prot |= (prot & (MM_PROT_WRITE | MM_PROT_EXEC)) != 0 ? MM_PROT_READ : 0;
    return p->used != 0 && (p->flags & MM_SPACE_GUARD) == 0 && (prot & need) == need;
}

bool t_ms_type_conflict(const struct t_ms *ms, uint64_t paddr, uint32_t nr, uint32_t type)
{
    for (unsigned i = 0; i < T_MS_SPACES; i++) {
        const struct t_ms_space *s = &ms->spaces[i];

        for (uint32_t n = 0; n < ms->nr && s->alive; n++) {
            const struct t_ms_page *p = &s->pages[n];

            if (p->claim != 0 && p->type != type && p->paddr >= paddr &&
                p->paddr < paddr + nr * PAGE) {
                return true;
            }
        }
    }
    return false;
}
