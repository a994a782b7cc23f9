// SPDX-License-Identifier: MIT
/**
 * The watcher's worst case of a CPU: a TLB that has cached whatever it could, and keeps it until
 * an instruction drops it. Only what no longer is in the tables is kept.
 */
#include "table_watch.h"

#include <stdio.h>
#include <stdlib.h>

/** SDM vol. 3A, 4.10.2: non-global translations belong to the root in use, global ones outlive it.
 */
bool t_watch_visible(const struct t_watch *w, const struct t_watch_root *root, uint64_t at,
                     bool global)
{
    const struct t_watch_root *now = NULL;

    for (unsigned i = 0; i < T_WATCH_ROOTS; i++) {
        if (w->roots[i].frame != 0 && w->roots[i].frame == w->current) {
            now = &w->roots[i];
        }
    }
    if (now != NULL && (now == root || ((at >> 63) != 0 && now->kin == root->kin))) {
        return true;
    }
    return global && root->residue;
}

static void add_stale(struct t_watch *w, struct t_watch_stale stale)
{
    if (w->nr_stale == w->room_stale) {
        w->room_stale = w->room_stale * 2 + 64;
        w->stale = realloc(w->stale, w->room_stale * sizeof(*w->stale));
        if (w->stale == NULL) {
            abort();
        }
    }
    w->stale[w->nr_stale++] = stale;
}

/** A leaf is no more, or not what it was. */
void t_watch_gone(struct t_watch *w, uint64_t at, const struct t_watch_page *page)
{
    uint64_t size = UINT64_C(1) << page->shift;
    struct t_watch_stale *last = w->nr_stale > 0 ? &w->stale[w->nr_stale - 1] : NULL;

    if (last != NULL && last->start + last->len == at && last->shift == page->shift &&
        last->paddr + last->len == page->paddr && last->global == page->global) {
        last->len += size;
        return;
    }
    add_stale(w, (struct t_watch_stale){at, size, page->paddr, page->shift, page->global});
}

/** A leaf appears where none was. What the TLB may still hold is due to earlier calls of the same
 * gather, which may leave another size beside it; a call that maps anew finds nothing. */
void t_watch_new_leaf(struct t_watch *w, uint64_t at, unsigned shift, bool fresh)
{
    uint64_t size = UINT64_C(1) << shift;

    for (size_t i = 0; i < w->nr_stale; i++) {
        const struct t_watch_stale *s = &w->stale[i];

        if (at - s->start >= s->len && s->start - at >= size) {
            continue;
        }
        w->total_mixed += s->shift != shift ? 1 : 0;
        if (fresh) {
            t_watch_wrong(w, "%#llx is mapped while the TLB may hold what was there before",
                          (unsigned long long)at);
            return;
        }
    }
}

/** A table was unlinked: the paging-structure caches may lead to it (4.10.3). */
void t_watch_table_gone(struct t_watch *w, uint32_t frame)
{
    if (!w->tables[frame].cached) {
        w->tables[frame].cached = true;
        w->cached[w->nr_cached++] = frame;
    }
}

void t_watch_drop_table(struct t_watch *w, uint32_t frame)
{
    for (size_t i = 0; i < w->nr_cached; i++) {
        if (w->cached[i] == frame) {
            w->cached[i] = w->cached[--w->nr_cached];
        }
    }
    w->tables[frame].cached = false;
}

/** INVLPG, MOV to CR3 and all larger operations drop all paging-structure caches of the root in
 * use (4.10.4.1). */
static void drop_tables(struct t_watch *w)
{
    for (size_t i = 0; i < w->nr_cached; i++) {
        w->tables[w->cached[i]].cached = false;
    }
    w->nr_cached = 0;
    w->total_flushes++;
}

static void drop_stale(struct t_watch *w, bool global)
{
    size_t kept = 0;

    for (size_t i = 0; i < w->nr_stale; i++) {
        if (w->stale[i].global && !global) {
            w->stale[kept++] = w->stale[i];
        }
    }
    w->nr_stale = kept;
}

static const struct t_watch_root *root_of(const struct t_watch *w, uint64_t frame)
{
    for (unsigned i = 0; i < T_WATCH_ROOTS; i++) {
        if (w->roots[i].frame == frame && frame != 0) {
            return &w->roots[i];
        }
    }
    return NULL;
}

void t_watch_cr3(struct t_watch *w, uint64_t value)
{
    uint64_t frame = (value & UINT64_C(0x000ffffffffff000)) >> 12;
    const struct t_watch_root *old = root_of(w, w->current);
    const struct t_watch_root *now = root_of(w, frame);

    t_watch_settle(w);
    drop_tables(w);
    drop_stale(w, false);
    for (unsigned i = 0; i < T_WATCH_ROOTS && old != NULL; i++) {
        if (w->roots[i].frame != 0 && w->roots[i].frame == old->kin &&
            (now == NULL || now->kin != old->kin)) {
            w->roots[i].residue = true;
        }
    }
    w->current = frame;
}

void t_watch_flush(struct t_watch *w)
{
    const struct t_watch_root *now = root_of(w, w->current);

    t_watch_settle(w);
    drop_tables(w);
    drop_stale(w, true);
    for (unsigned i = 0; i < T_WATCH_ROOTS; i++) {
        if (now == NULL || w->roots[i].frame != now->kin) {
            w->roots[i].residue = false;
        }
    }
}

/** What INVLPG drops around an address, out of a leaf of this size that is no more: all of it, in
 * whatever pieces (4.10.2.3, 4.10.4.1), but not if the tables map the address by smaller leaves: the
 * manual says so of a page that they map, and every kernel for x86 relies on it for one that is
 * gone. */
static uint64_t dropped_size(const struct t_watch *w, uint64_t at, unsigned shift)
{
    struct t_watch_page page = {.present = false};

    if (root_of(w, w->current) != NULL) {
        page = t_watch_walk(w, w->current, at);
    }
    return !page.present || page.shift == shift ? UINT64_C(1) << shift : 4096;
}

void t_watch_invlpg(struct t_watch *w, uint64_t at)
{
    size_t nr = w->nr_stale;

    t_watch_settle(w);
    drop_tables(w);
    for (size_t i = 0; i < nr; i++) {
        struct t_watch_stale s = w->stale[i];
        uint64_t offset = at - s.start;
        uint64_t size;
        uint64_t lead;
        uint64_t end;

        if (offset >= s.len) {
            continue;
        }
        /* What is left of the run, before and behind. */
        size = dropped_size(w, at, s.shift);
        lead = at & (size - 1);
        end = offset + size - lead;
        w->stale[i].len = offset > lead ? offset - lead : 0;
        if (end < s.len) {
            s.start += end;
            s.paddr += end;
            s.len -= end;
            add_stale(w, s);
        }
    }
    for (size_t i = 0; i < w->nr_stale;) {
        if (w->stale[i].len == 0) {
            w->stale[i] = w->stale[--w->nr_stale];
        } else {
            i++;
        }
    }
}

static bool has_global(const struct t_watch *w, uint32_t frame, unsigned level)
{
    for (unsigned i = level + 1 == w->levels ? 256 : 0; i < 512; i++) {
        uint64_t entry = w->tables[frame].shadow[i];

        if (t_watch_is_table(entry, level) ? has_global(w, t_watch_child(entry), level - 1)
                                           : (entry & 1) != 0 && (entry & 0x100) != 0) {
            return true;
        }
    }
    return false;
}

void t_watch_settled(struct t_watch *w)
{
    const struct t_watch_root *now = root_of(w, w->current);

    t_watch_settle(w);
    if (w->nr_stale != 0) {
        t_watch_wrong(w, "%#llx (%llu bytes%s) is in the TLB when all was flushed",
                      (unsigned long long)w->stale[0].start, (unsigned long long)w->stale[0].len,
                      w->stale[0].global ? ", global" : "");
    }
    if (w->nr_cached != 0) {
        t_watch_wrong(w, "the paging-structure caches lead to table %#x when all was flushed",
                      w->cached[0]);
    }
    for (unsigned i = 0; i < T_WATCH_ROOTS && w->nr_wrong == 0; i++) {
        const struct t_watch_root *r = &w->roots[i];

        if (r->frame != 0 && r->residue && now != NULL && now->kin != r->frame &&
            has_global(w, (uint32_t)r->frame, w->levels - 1)) {
            t_watch_wrong(w, "global translations of root %#llx are in the TLB under another root",
                          (unsigned long long)r->frame);
        }
    }
}
