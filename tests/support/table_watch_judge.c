// SPDX-License-Identifier: MIT
/**
 * The watcher's judgement of one store: what it changes for each address, and whether the call may.
 *
 * The entry before and the entry after are laid over the same addresses and compared down to the
 * smaller of the two leaves. The tables below are read from the shadow: when a store is judged, all
 * stores before it are in there.
 */
#include "table_watch.h"

#include <stdio.h>
#include <string.h>

#define P         UINT64_C(1)
#define A         (UINT64_C(1) << 5)
#define D         (UINT64_C(1) << 6)
#define PS        (UINT64_C(1) << 7)
#define PAT_4K    (UINT64_C(1) << 7)
#define PAT_LARGE (UINT64_C(1) << 12)
#define G         (UINT64_C(1) << 8)
#define ADDRESS   UINT64_C(0x000ffffffffff000)

#define RIGHTS_ALL (T_WATCH_RW | T_WATCH_US)

/* --- entries --------------------------------------------------------------------------------- */

uint64_t t_watch_below(uint64_t rights, uint64_t entry)
{
    return (rights & entry & RIGHTS_ALL) | ((rights | entry) & T_WATCH_NX);
}

struct t_watch_page t_watch_leaf(const struct t_watch *w, uint64_t entry, unsigned level,
                                 uint64_t rights)
{
    struct t_watch_page page = {.shift = (uint8_t)(12 + 9 * level)};
    /* Bit 7 of 4 KiB leaves, bit 12 of larger ones (tables 4-15 to 4-20). */
    unsigned pat = (unsigned)(entry >> (level == 0 ? 7 : 12)) & 1;
    unsigned index = pat * 4 + ((unsigned)(entry >> 3) & 3);

    if ((entry & P) == 0) {
        return page;
    }
    page.present = true;
    page.paddr = entry & ADDRESS & ~((UINT64_C(1) << page.shift) - 1);
    page.rights = t_watch_below(rights, entry);
    page.type = (uint8_t)((w->pat >> (8 * index)) & 7);
    page.global = (entry & G) != 0;
    page.accessed = (entry & A) != 0;
    page.dirty = (entry & D) != 0;
    return page;
}

/** The part of a leaf, or of nothing, that slot `i` of a table in its place would hold. */
static uint64_t part_of(uint64_t entry, unsigned level, unsigned i)
{
    uint64_t part;

    if ((entry & P) == 0) {
        return 0;
    }
    part = i * (UINT64_C(4096) << (9 * (level - 1)));
    if (level > 1) {
        return entry + part;
    }
    return (entry & ~(PS | PAT_LARGE)) + part + ((entry & PAT_LARGE) != 0 ? PAT_4K : 0);
}

struct t_watch_page t_watch_walk(const struct t_watch *w, uint64_t root, uint64_t at)
{
    struct t_watch_page hole = {.present = false};
    uint64_t rights = RIGHTS_ALL;
    uint64_t frame = root;

    for (unsigned level = w->levels; level-- > 0;) {
        uint64_t entry = w->ram[frame * 512 + ((at >> (12 + 9 * level)) & 511)];

        if ((entry & P) == 0) {
            return hole;
        }
        if (!t_watch_is_table(entry, level)) {
            struct t_watch_page page = t_watch_leaf(w, entry, level, rights);

            page.paddr += at & ((UINT64_C(1) << page.shift) - 1) & ~UINT64_C(0xfff);
            return page;
        }
        rights = t_watch_below(rights, entry);
        frame = t_watch_child(entry);
        if (frame >= w->nr_frames) {
            return hole;
        }
    }
    return hole;
}

/* --- what a call may do ---------------------------------------------------------------------- */

static bool same(const struct t_watch_page *a, const struct t_watch_page *b)
{
    return a->present == b->present &&
           (!a->present || (a->paddr == b->paddr && a->rights == b->rights && a->type == b->type &&
                            a->global == b->global));
}

static bool loses(const struct t_watch_page *old, const struct t_watch_page *now)
{
    return (old->accessed && !now->accessed) || (old->dirty && !now->dirty);
}

static const char *describe(const struct t_watch_page *p, char text[80])
{
    if (!p->present) {
        return "nothing";
    }
    (void)snprintf(text, 80, "%#llx %s%s%s%s type %u%s%s", (unsigned long long)p->paddr,
                   (p->rights & T_WATCH_RW) != 0 ? "rw" : "r",
                   (p->rights & T_WATCH_NX) != 0 ? "" : "x",
                   (p->rights & T_WATCH_US) != 0 ? "u" : "", p->global ? "g" : "", p->type,
                   p->accessed ? " A" : "", p->dirty ? " D" : "");
    return text;
}

static const struct t_watch_edit *edit_for(const struct t_watch *w, uint64_t root, uint64_t at)
{
    for (unsigned i = 0; i < w->nr_edits; i++) {
        if (w->edits[i].root == root && at - w->edits[i].start < w->edits[i].len) {
            return &w->edits[i];
        }
    }
    return NULL;
}

static void complain(struct t_watch *w, const char *what, uint64_t at,
                     const struct t_watch_page *old, const struct t_watch_page *now,
                     const struct t_watch_page *expected)
{
    char text[3][80];

    t_watch_wrong(w, "%#llx: %s: %s became %s%s%s", (unsigned long long)at, what,
                  describe(old, text[0]), describe(now, text[1]), expected != NULL ? ", not " : "",
                  expected != NULL ? describe(expected, text[2]) : "");
}

/** One 4 KiB page has changed. */
static void judge_page(struct t_watch *w, uint64_t root, uint64_t at,
                       const struct t_watch_page *old, const struct t_watch_page *now)
{
    const struct t_watch_edit *edit = edit_for(w, root, at);
    struct t_watch_page before = {.present = false};
    struct t_watch_page after = {.present = false};

    if (edit == NULL) {
        complain(w, "outside of what the call may change", at, old, now, NULL);
        return;
    }
    edit->expect(edit->ctx, at, &before, &after);
    if (!same(now, &after)) {
        complain(w, now->present ? "a mixture" : "a moment without translation", at, old, now,
                 &after);
    } else if (!same(old, &before)) {
        complain(w, "it was not as before the call", at, old, now, &before);
    } else if (now->present && old->paddr == now->paddr && !edit->anew && loses(old, now)) {
        complain(w, "accessed or dirty is lost", at, old, now, NULL);
    }
}

static void at_page(struct t_watch_page *page, uint64_t offset)
{
    page->paddr += page->present ? offset : 0;
}

/** Both ends of what has changed, and each end of the call's ranges in it. */
static void judge_change(struct t_watch *w, uint64_t root, uint64_t at, unsigned shift,
                         const struct t_watch_page *old, const struct t_watch_page *now)
{
    uint64_t size = UINT64_C(1) << shift;
    uint64_t offsets[2 + 4 * T_WATCH_EDITS] = {0, size - 4096};
    unsigned nr = shift == 12 ? 1 : 2;

    for (unsigned i = 0; i < w->nr_edits && shift > 12; i++) {
        uint64_t first = w->edits[i].start - at;
        uint64_t end = first + w->edits[i].len;

        offsets[nr++] = first;
        offsets[nr++] = first - 4096;
        offsets[nr++] = end;
        offsets[nr++] = end - 4096;
    }
    for (unsigned i = 0; i < nr && w->nr_wrong == 0; i++) {
        struct t_watch_page o = *old;
        struct t_watch_page n = *now;

        if (offsets[i] < size) {
            at_page(&o, offsets[i]);
            at_page(&n, offsets[i]);
            judge_page(w, root, at + offsets[i], &o, &n);
            w->total_pages++;
        }
    }
}

/** Whether a TLB with the old translation would do something that the new one does not. */
static bool narrows(const struct t_watch_page *old, const struct t_watch_page *now)
{
    return old->present &&
           (!now->present || old->paddr != now->paddr || old->type != now->type ||
            old->global != now->global || (old->rights & ~now->rights & RIGHTS_ALL) != 0 ||
            (now->rights & ~old->rights & T_WATCH_NX) != 0);
}

static void judge_leaf(struct t_watch *w, const struct t_watch_table *t, uint64_t at,
                       const struct t_watch_page *old, const struct t_watch_page *now)
{
    const struct t_watch_root *root = &w->roots[t->root];
    const struct t_watch_edit *edit = edit_for(w, root->frame, at);
    bool user = (now->rights & T_WATCH_US) != 0;

    if (now->present && at >> 63 != 0 && user) {
        complain(w, "the kernel's, and open to the user", at, old, now, NULL);
    }
    if (now->present && at >> 63 == 0 && root->user && !user) {
        complain(w, "the kernel's, in the user's half", at, old, now, NULL);
    }
    if (same(old, now)) {
        if (loses(old, now) && (edit == NULL || !edit->anew)) {
            complain(w, "accessed or dirty is lost", at, old, now, NULL);
        }
        return;
    }
    judge_change(w, root->frame, at, old->shift, old, now);
    if (narrows(old, now) && t_watch_visible(w, root, at, old->global)) {
        t_watch_gone(w, at, old);
    }
    if (!old->present && t_watch_visible(w, root, at, true)) {
        t_watch_new_leaf(w, at, now->shift, edit != NULL && edit->fresh);
    }
}

/* --- one store ------------------------------------------------------------------------------- */

struct pair {
    uint64_t old, now;               /**< entries */
    uint64_t old_rights, now_rights; /**< of the tables above */
};

/** A leaf has become a table, which must agree with it, or a table a leaf. */
static void judge_size(struct t_watch *w, const struct t_watch_table *t, struct pair e,
                       unsigned level, uint64_t at)
{
    const struct t_watch_root *root = &w->roots[t->root];
    struct t_watch_page leaf = t_watch_leaf(w, e.old, level, e.old_rights);

    if (leaf.present && t_watch_is_table(e.now, level)) {
        w->total_mixed++;
        if (t_watch_visible(w, root, at, leaf.global)) {
            t_watch_gone(w, at, &leaf);
        }
    } else if (t_watch_is_table(e.old, level) && (e.now & P) != 0) {
        t_watch_wrong(w, "%#llx: a leaf takes the place of a table that may be in use",
                      (unsigned long long)at);
    }
}

static void judge_split(struct t_watch *w, const struct t_watch_table *t, uint64_t at,
                        unsigned level, struct pair e)
{
    struct t_watch_page old = t_watch_leaf(w, e.old, level, e.old_rights);
    struct t_watch_page now = t_watch_leaf(w, e.now, level, e.now_rights);

    if (!same(&old, &now)) {
        complain(w, "the leaves of a split disagree with the whole", at, &old, &now, NULL);
    } else {
        judge_leaf(w, t, at, &old, &now);
    }
}

/** Two tables, or a table and the leaf or hole in whose place it stands. Its bound is the number of
 * levels. */
static void judge_pair(struct t_watch *w, const struct t_watch_table *t, struct pair e,
                       unsigned level, uint64_t at, bool split)
{
    bool was = t_watch_is_table(e.old, level);
    bool is = t_watch_is_table(e.now, level);
    uint64_t size = UINT64_C(4096) << (9 * level);
    struct pair below = e;

    if (!was && !is) {
        struct t_watch_page old = t_watch_leaf(w, e.old, level, e.old_rights);
        struct t_watch_page now = t_watch_leaf(w, e.now, level, e.now_rights);

        if (split) {
            judge_split(w, t, at, level, e);
        } else if (old.present || now.present) {
            judge_leaf(w, t, at, &old, &now);
        }
        return;
    }
    if (!split && was != is) {
        judge_size(w, t, e, level, at);
    }
    split = split || (!was && (e.old & P) != 0);
    below.old_rights = was ? t_watch_below(e.old_rights, e.old) : e.old_rights;
    below.now_rights = is ? t_watch_below(e.now_rights, e.now) : e.now_rights;
    for (unsigned i = 0; i < 512 && w->nr_wrong == 0; i++) {
        below.old = was ? w->tables[t_watch_child(e.old)].shadow[i] : part_of(e.old, level, i);
        below.now = is ? w->tables[t_watch_child(e.now)].shadow[i] : part_of(e.now, level, i);
        if ((below.old | below.now) != 0) {
            judge_pair(w, t, below, level - 1, at + i * (size / 512), split);
        }
    }
}

void t_watch_judge_entry(struct t_watch *w, const struct t_watch_table *t, unsigned index,
                         uint64_t old, uint64_t now)
{
    uint64_t rights = RIGHTS_ALL;
    uint64_t at = t->base + index * (UINT64_C(4096) << (9 * t->level));
    struct pair e = {.old = old, .now = now};

    if (t->level + 1u == w->levels && index >= 256) {
        at |= ~((UINT64_C(4096) << (9 * w->levels)) - 1);
    }
    for (const struct t_watch_table *up = t; up->level + 1u != w->levels;) {
        const struct t_watch_table *parent = &w->tables[up->parent];

        rights = t_watch_below(rights, parent->shadow[up->index]);
        up = parent;
    }
    e.old_rights = rights;
    e.now_rights = rights;
    if (t_watch_is_table(old, t->level) && t_watch_is_table(now, t->level) &&
        t_watch_child(old) == t_watch_child(now) &&
        ((old ^ now) & (RIGHTS_ALL | T_WATCH_NX)) == 0) {
        return; /* the same table: only bits for software have changed */
    }
    judge_pair(w, t, e, t->level, at, false);
}

/* --- the end of a call ----------------------------------------------------------------------- */

static void expect_at(struct t_watch *w, const struct t_watch_edit *edit, uint64_t at)
{
    struct t_watch_page before = {.present = false};
    struct t_watch_page after = {.present = false};
    struct t_watch_page now = t_watch_walk(w, edit->root, at);

    edit->expect(edit->ctx, at, &before, &after);
    if (!same(&now, &after)) {
        complain(w, "when the call has ended", at, &before, &now, &after);
    }
}

void t_watch_end(struct t_watch *w, bool failed)
{
    t_watch_settle(w);
    if (failed && w->nr_stores != 0) {
        t_watch_wrong(w, "a call that failed stored %llu times to linked tables",
                      (unsigned long long)w->nr_stores);
    }
    for (unsigned i = 0; i < w->nr_edits && !failed; i++) {
        const struct t_watch_edit *edit = &w->edits[i];
        uint64_t pages = edit->len / 4096;

        for (uint64_t n = 0; n < 16 && n < pages; n++) {
            expect_at(w, edit, edit->start + pages / (pages < 16 ? pages : 16) * n * 4096);
        }
        expect_at(w, edit, edit->start + edit->len - 4096);
    }
    w->nr_edits = 0;
}
