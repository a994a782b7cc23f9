// SPDX-License-Identifier: MIT
/**
 * The stream of operations on spaces: map, unmap, protect, devices' memory.
 * Include after space_stream.h.
 */
#ifndef SPACE_STREAM_EDIT_H
#define SPACE_STREAM_EDIT_H

#include "space_stream_advise.h"

/* --- map -------------------------------------------------------------------------------------- */

struct st_map {
    struct mm_space_request request;
    uint32_t page; /* asked for */
    uint32_t nr;
    uint32_t place; /* where it goes; T_MS_NONE: anywhere that is legal */
    bool populates;
    bool commits;
};

static inline void st_choose_flags(struct stream *s, struct st_map *map)
{
    struct mm_space_request *r = &map->request;

    r->flags = st_below(s, 3) != 0 ? MM_SPACE_FIXED : 0;
    r->flags |= r->flags != 0 && st_below(s, 3) == 1 ? MM_SPACE_REPLACE : 0;
    r->flags |= st_once_in(s, 6) ? MM_SPACE_POPULATE : 0;
    r->kind = (enum mm_region_kind)(st_once_in(s, 6) ? st_below(s, 5) : 0);
    switch (st_below(s, 24)) {
    case 1:
    case 2:
        r->flags = (r->flags & (MM_SPACE_FIXED | MM_SPACE_REPLACE)) | MM_SPACE_GUARD;
        r->prot = MM_PROT_NONE;
        break;
    case 3:
    case 4:
        r->flags |= MM_SPACE_STACK;
        r->kind = MM_REGION_STACK;
        break;
    case 5:
    case 6:
    case 7:
        r->flags |= MM_SPACE_HUGE;
        map->nr = st_below(s, 3) != 0 ? T_MS_LARGE + (uint32_t)st_below(s, 40) : map->nr;
        break;
    case 8:
        r->flags |= MM_SPACE_NO_HUGE;
        break;
    case 9:
        r->flags |= MM_SPACE_WIRED;
        break;
    default:
        break;
    }
}

static inline void st_choose_map(struct stream *s, struct st_map *map)
{
    struct mm_space_request *r = &map->request;

    *map = (struct st_map){0};
    st_range(s, &map->page, &map->nr);
    r->prot = st_prot(s);
    r->tag = st_once_in(s, 4) ? 1 + st_below(s, 2) : 0;
    st_choose_flags(s, map);
    if ((r->flags & MM_SPACE_FIXED) == 0 && st_once_in(s, 8)) {
        r->align = PAGE << st_below(s, 9);
    }
    if (map->nr > s->ms.nr - map->page) { /* it has become longer */
        map->page = s->ms.nr > map->nr ? s->ms.nr - map->nr : 0;
        map->nr = s->ms.nr > map->nr ? map->nr : s->ms.nr;
    }
    if ((r->flags & MM_SPACE_HUGE) != 0 && st_once_in(s, 2)) { /* around a leaf of 2 MiB */
        uint32_t first = (uint32_t)(-(s->ms.start / PAGE) % T_MS_LARGE);

        map->page = first + T_MS_LARGE <= s->ms.nr ? first : map->page;
        map->nr = first + T_MS_LARGE <= s->ms.nr ? T_MS_LARGE : map->nr;
        map->nr += map->page + map->nr < s->ms.nr ? 1 : 0;
    }
    r->at = mm_vaddr(st_address(s, map->page));
    if ((r->flags & MM_SPACE_FIXED) == 0 && ((r->flags & MM_SPACE_HUGE) != 0 || st_once_in(s, 3))) {
        r->at = mm_vaddr(0);
    }
    r->len = map->nr * PAGE - st_below(s, 2) * (PAGE / 2);
    map->populates = (r->flags & (MM_SPACE_POPULATE | MM_SPACE_WIRED)) != 0 &&
                     r->prot != MM_PROT_NONE && (r->flags & MM_SPACE_GUARD) == 0;
    map->commits = s->ms.counts_promises && (r->prot & MM_PROT_WRITE) != 0;
}

/* Where a region goes without FIXED. */
static inline mm_status_t st_want_place(struct stream *s, unsigned i, struct st_map *map)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    const struct mm_space_request *r = &map->request;
    uint64_t align = r->align == 0 ? 1 : r->align / PAGE;
    bool stack = (r->flags & MM_SPACE_STACK) != 0;

    if (r->at.raw != 0 && r->at.raw / PAGE % align == 0 &&
        t_ms_fits(&s->ms, m, map->page, map->nr, stack)) {
        map->place = map->page;
        return MM_OK;
    }
    if (stack) { /* its own gap counts too: somewhere */
        map->place = T_MS_NONE;
        return MM_OK;
    }
    if ((r->flags & MM_SPACE_HUGE) != 0 && map->nr >= T_MS_LARGE && align < T_MS_LARGE &&
        t_ms_place(&s->ms, m, map->nr, T_MS_LARGE, 0, &map->place)) {
        return MM_OK;
    }
    return t_ms_place(&s->ms, m, map->nr, align, 0, &map->place) ? MM_OK : MM_ERR_REGION_NOT_FOUND;
}

/*
 * What limits and promises say of a range that replaces what is there: *must is what they say if
 * that were gone before; *may what they say if it is still counted, as it may be.
 */
static inline void st_want_charge(struct stream *s, unsigned i, uint32_t page, uint32_t nr,
                                  const struct st_map *map, mm_status_t *must, mm_status_t *may)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    struct t_ms_sums was = {0};
    uint64_t resident = map->populates ? nr : 0;
    uint64_t committed = map->commits ? nr : 0;

    if (page != T_MS_NONE) {
        t_ms_sum_range(m, page, nr, &was);
    }
    *may = t_ms_allowed(&s->ms, m, nr - was.mapped, resident, committed);
    *must = t_ms_allowed(&s->ms, m, nr - was.mapped,
                         resident > was.resident ? resident - was.resident : 0,
                         committed > was.committed ? committed - was.committed : 0);
}

static inline void st_mapped(struct stream *s, unsigned i, uint32_t page, uint32_t nr,
                             const struct st_map *map)
{
    const struct mm_space_request *r = &map->request;
    const struct t_ms_page attr = {.kind = (uint8_t)r->kind,
                                   .prot = (uint16_t)r->prot,
                                   .flags = r->flags & MM_SPACE_REGION_FLAGS,
                                   .tag = (uint32_t)r->tag};
    struct t_ms_space *m = &s->ms.spaces[i];

    t_ms_unmap(&s->ms, m, page, nr);
    t_ms_map(&s->ms, m, page, nr, &attr);
    if (map->populates) {
        st_learn_range(s, i, page, nr,
                       (r->flags & MM_SPACE_WIRED) == 0 || (r->prot & MM_PROT_WRITE) == 0);
    }
}

/* A stack that goes anywhere: a legal place, or there was none with its gap. */
static inline bool st_stack_placed(struct stream *s, unsigned i, struct st_map *map,
                                   mm_status_t status, uint64_t at)
{
    const struct t_ms_space *m = &s->ms.spaces[i];

    if (status == MM_ERR_REGION_NOT_FOUND) {
        ST_TRUE(s, map->request.align != 0 || !t_ms_place_stack(&s->ms, m, map->nr));
        return false;
    }
    if (status == MM_OK) {
        ST_TRUE(s, at >= s->ms.start && at < st_address(s, s->ms.nr));
        map->place = (uint32_t)((at - s->ms.start) / PAGE);
        ST_TRUE(s, t_ms_fits(&s->ms, m, map->place, map->nr, true));
        ST_TRUE(s, map->request.align == 0 || at % map->request.align == 0);
    }
    return true;
}

static inline void st_op_map(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    mm_status_t want = MM_OK;
    mm_status_t may = MM_OK;
    mm_status_t status;
    mm_vaddr_t at = {7};
    struct st_map map;

    st_choose_map(s, &map);
    st_say(s, "map: space %u page %u +%u prot %x flags %x kind %u tag %u align %#llx hint %d", i,
           map.page, map.nr, map.request.prot, map.request.flags, map.request.kind,
           (unsigned)map.request.tag, (unsigned long long)map.request.align,
           map.request.at.raw != 0);
    if ((map.request.flags & MM_SPACE_FIXED) == 0) {
        want = st_want_place(s, i, &map);
    } else {
        map.place = map.page;
        want = (map.request.flags & MM_SPACE_REPLACE) == 0 && !t_ms_all_free(m, map.page, map.nr)
                   ? MM_ERR_ALREADY_MAPPED
                   : MM_OK;
    }
    if (want == MM_OK) {
        st_want_charge(s, i, map.place, map.nr, &map, &want, &may);
    }
    st_call_in(s, i);
    status = mm_space_map(s->space[i], &map.request, &at);
    if (status != MM_OK) {
        ST_EQUAL(s, at.raw, 7);
    }
    if (map.place == T_MS_NONE && !st_stack_placed(s, i, &map, status, at.raw)) {
        return;
    }
    if (want == MM_OK && may != MM_OK && status == may) {
        return;
    }
    if (status == MM_OK && want != MM_OK) {
        st_fail(s, __FILE__, __LINE__, "mapped at page %lld, base %u, lowest of all free: %d",
                (long long)((at.raw - s->ms.start) / PAGE), m->base, m->has_base);
    }
    if (!st_expect(s, status, want, (map.populates ? map.nr : 0) + 16)) {
        return;
    }
    ST_EQUAL(s, at.raw, st_address(s, map.place));
    st_mapped(s, i, map.place, map.nr, &map);
    st_same_ends(s, i, map.place, map.nr);
}

/* --- unmap, protect --------------------------------------------------------------------------- */

static inline void st_op_unmap(struct stream *s, unsigned i)
{
    mm_status_t status;
    uint32_t page;
    uint32_t nr;

    st_used_range(s, i, &page, &nr);
    st_call_in(s, i);
    st_say(s, "unmap: space %u page %u +%u", i, page, nr);
    status = mm_space_unmap(s->space[i], st_vrange(s, page, nr));
    if (st_expect(s, status, MM_OK, 8)) {
        t_ms_unmap(&s->ms, &s->ms.spaces[i], page, nr);
    }
    st_same_ends(s, i, page, nr);
}

static inline void st_op_protect(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    mm_prot_t prot = st_prot(s);
    uint64_t promises;
    mm_status_t want;
    mm_status_t status;
    uint32_t page;
    uint32_t nr;

    st_used_range(s, i, &page, &nr);
    st_call_in(s, i);
    st_say(s, "protect: space %u page %u +%u prot %x", i, page, nr, prot);
    want = t_ms_may_protect(&s->ms, m, page, nr, prot, &promises);
    if (want == MM_OK) {
        want = t_ms_allowed(&s->ms, m, 0, 0, promises);
    }
    status = mm_space_protect(s->space[i], st_vrange(s, page, nr), prot);
    if (st_expect(s, status, want, 8)) {
        t_ms_protect(&s->ms, m, page, nr, prot);
        for (uint32_t n = page; n < page + nr; n++) {
            if ((m->pages[n].flags & MM_SPACE_WIRED) != 0) {
                st_faulted_some(s, i, n, n + 1, true);
            }
        }
    }
    st_same_ends(s, i, page, nr);
}

/* --- devices ---------------------------------------------------------------------------------- */

static inline void st_op_physical(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    uint32_t first = (uint32_t)st_below(s, ST_DEVICE_PAGES);
    uint64_t paddr = ST_DEVICE + first * PAGE;
    mm_memtype_t type = st_once_in(s, 8) ? MM_MEMTYPE_WC : MM_MEMTYPE_UC;
    struct st_map map = {0};
    mm_status_t want;
    mm_status_t may = MM_OK;
    mm_status_t status;
    mm_vaddr_t at = {7};
    struct t_ms_page attr = {.kind = MM_REGION_DEVICE, .type = (uint8_t)type, .paddr = paddr};

    st_range(s, &map.page, &map.nr);
    map.nr = map.nr > ST_DEVICE_PAGES - first ? ST_DEVICE_PAGES - first : map.nr;
    map.request = (struct mm_space_request){.at = mm_vaddr(st_address(s, map.page)),
                                            .len = map.nr * PAGE,
                                            .prot = st_below(s, 3) != 0 ? RW : MM_PROT_READ,
                                            .tag = st_below(s, 2)};
    map.request.flags = st_below(s, 2) != 0 ? MM_SPACE_FIXED : 0;
    map.request.flags |= map.request.flags != 0 && st_below(s, 2) != 0 ? MM_SPACE_REPLACE : 0;
    attr.prot = (uint16_t)map.request.prot;
    attr.tag = (uint32_t)map.request.tag;
    st_say(s, "map_physical: space %u page %u +%u of %u type %u flags %x", i, map.page, map.nr,
           first, (unsigned)type, map.request.flags);
    map.place = map.page;
    want = (map.request.flags & MM_SPACE_FIXED) == 0 ? st_want_place(s, i, &map)
           : (map.request.flags & MM_SPACE_REPLACE) == 0 && !t_ms_all_free(m, map.page, map.nr)
               ? MM_ERR_ALREADY_MAPPED
               : MM_OK;
    if (want == MM_OK) {
        st_want_charge(s, i, map.place, map.nr, &map, &want, &may);
        /* What is replaced may be the only other mapping, and counts or not. */
        may = t_ms_type_conflict(&s->ms, paddr, map.nr, (uint32_t)type) ? MM_ERR_BUSY : may;
    }
    st_call_in(s, i);
    status = mm_space_map_physical(s->space[i], &map.request, mm_paddr(paddr), type, &at);
    if (may == MM_ERR_BUSY) {
        ST_TRUE(s, status == MM_ERR_BUSY || status == want || status == MM_ERR_NO_MEMORY);
        ST_TRUE(s, status != MM_OK || (map.request.flags & MM_SPACE_REPLACE) != 0);
        want = status == MM_OK ? MM_OK : want;
        if (status != MM_OK) {
            return;
        }
    }
    if (!st_expect(s, status, want, 16)) {
        return;
    }
    ST_EQUAL(s, at.raw, st_address(s, map.place));
    t_ms_unmap(&s->ms, m, map.place, map.nr);
    t_ms_map(&s->ms, m, map.place, map.nr, &attr);
    ST_TRUE(s, !t_ms_type_conflict(&s->ms, paddr, map.nr, (uint32_t)type));
    s->nr_device++;
    st_same_ends(s, i, map.place, map.nr);
}

#endif
