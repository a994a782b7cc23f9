// SPDX-License-Identifier: MIT
/**
 * The watcher: frames and roots, stores and links. What a store means for addresses is judged in
 * table_watch_judge.c, what caches may hold in table_watch_cpu.c.
 */
#include "table_watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P       UINT64_C(1)
#define PS      (UINT64_C(1) << 7)
#define ADDRESS UINT64_C(0x000ffffffffff000)
#define ONES    UINT64_C(0x000ff80000000000) /* bits 43 to 51 */

void t_watch_wrong(struct t_watch *w, const char *format, ...)
{
    va_list args;

    if (w->nr_wrong++ == 0) {
        va_start(args, format);
        (void)vsnprintf(w->wrong, sizeof(w->wrong), format, args);
        va_end(args);
    }
}

struct t_watch *t_watch_new(uint64_t *ram, uint64_t nr_frames)
{
    struct t_watch *w = calloc(1, sizeof(*w));

    if (w != NULL) {
        w->ram = ram;
        w->nr_frames = nr_frames;
        w->tables = calloc(nr_frames, sizeof(*w->tables));
        w->cached = calloc(nr_frames, sizeof(*w->cached));
        w->levels = 4;
        w->paddr_bits = 46;
        w->page_1g = true;
        w->nxe = true;
        w->walker_random = 88172645463325252u;
    }
    if (w == NULL || w->tables == NULL || w->cached == NULL) {
        abort();
    }
    return w;
}

void t_watch_delete(struct t_watch *w)
{
    free(w->tables);
    free(w->cached);
    free(w->stale);
    free(w);
}

static uint64_t *slots_of(const struct t_watch *w, uint64_t frame)
{
    return w->ram + frame * 512;
}

/* --- entries --------------------------------------------------------------------------------- */

bool t_watch_is_table(uint64_t entry, unsigned level)
{
    return level != 0 && (entry & (P | PS)) == P;
}

uint32_t t_watch_child(uint64_t entry)
{
    return (uint32_t)((entry & ADDRESS) >> 12);
}

/** NULL, or what the hardware, or a reader of the L1TF paper, has against an entry. */
static const char *insane(const struct t_watch *w, uint64_t entry, unsigned level)
{
    bool large = level > 0 && (entry & PS) != 0;

    if ((entry & P) == 0) {
        return entry == 0 || (entry & ONES) == ONES
                   ? NULL
                   : "an entry that is not present names an address that memory may have";
    }
    if ((entry & ADDRESS & ~((UINT64_C(1) << w->paddr_bits) - 1)) != 0) {
        return "reserved bits: an address above MAXPHYADDR";
    }
    if ((entry & T_WATCH_NX) != 0 && !w->nxe) {
        return "reserved bit: NX without EFER.NXE";
    }
    if (large && (level > 2 || (level == 2 && !w->page_1g))) {
        return "reserved bit: a leaf where the CPU has none";
    }
    if (large && (entry & ADDRESS & ((UINT64_C(4096) << (9 * level)) - 1) & ~UINT64_C(0x1000))) {
        return "reserved bits: a large leaf that is not aligned";
    }
    if (t_watch_is_table(entry, level) &&
        ((entry & ADDRESS) >> 12 >= w->nr_frames || !w->tables[t_watch_child(entry)].held)) {
        return "an entry leads to a table that is none";
    }
    return NULL;
}

/* --- frames ---------------------------------------------------------------------------------- */

static void take(struct t_watch *w, uint64_t frame, bool written)
{
    struct t_watch_table *t = &w->tables[frame];

    memset(t, 0, sizeof(*t));
    t->held = true;
    memset(t->written, written ? 0xff : 0, sizeof(t->written));
    memcpy(t->shadow, slots_of(w, frame), sizeof(t->shadow));
}

void t_watch_handed(struct t_watch *w, uint64_t frame, bool zeroed)
{
    t_watch_settle(w);
    take(w, frame, zeroed);
}

void t_watch_foreign(struct t_watch *w, uint64_t frame)
{
    take(w, frame, true);
    w->tables[frame].foreign = true;
}

static struct t_watch_root *root_at(struct t_watch *w, uint64_t frame)
{
    for (unsigned i = 0; i < T_WATCH_ROOTS; i++) {
        if (w->roots[i].frame == frame && frame != 0) {
            return &w->roots[i];
        }
    }
    return NULL;
}

/* --- links ----------------------------------------------------------------------------------- */

static uint64_t span_of(unsigned level)
{
    return UINT64_C(4096) << (9 * level);
}

/** First address behind an entry; the upper half of the root is canonical. */
static uint64_t address_of(const struct t_watch *w, const struct t_watch_table *t, unsigned index)
{
    uint64_t at = t->base + index * span_of(t->level);

    if (t->level + 1u == w->levels && index >= 256) {
        at |= ~((span_of(t->level) << 9) - 1);
    }
    return at;
}

static void link_table(struct t_watch *w, uint32_t parent, unsigned index, uint32_t child);

/** A table hangs in a tree from now on: all of it must be fit to be walked. */
static void reach(struct t_watch *w, uint32_t frame)
{
    const struct t_watch_table *t = &w->tables[frame];

    for (unsigned i = 0; i < 512; i++) {
        uint64_t entry = t->shadow[i];
        const char *wrong = insane(w, entry, t->level);

        if ((t->written[i / 64] >> (i % 64) & 1) == 0) {
            wrong = "it was not written since the source handed the table out";
        }
        if (wrong != NULL) {
            t_watch_wrong(
                w, "table %#x of level %u is linked at %#llx, and its slot %u is %#llx: %s", frame,
                t->level, (unsigned long long)t->base, i, (unsigned long long)entry, wrong);
            return;
        }
        if (t_watch_is_table(entry, t->level)) {
            link_table(w, frame, i, t_watch_child(entry));
        }
    }
}

static void link_table(struct t_watch *w, uint32_t parent, unsigned index, uint32_t child)
{
    const struct t_watch_table *p = &w->tables[parent];
    struct t_watch_table *t = &w->tables[child];
    uint64_t base = address_of(w, p, index);

    if (t->cached) {
        t_watch_wrong(w, "table %#x is linked at %#llx while caches lead to it from elsewhere",
                      child, (unsigned long long)base);
    }
    if (t->links != 0) {
        /* A user root's copy of the kernel's entry is the one case. */
        bool copy = p->parent == parent && base >> 63 != 0 && t->base == base &&
                    w->roots[t->root].frame == w->roots[p->root].kin;

        if (!copy) {
            t_watch_wrong(w, "table %#x is linked at %#llx, and also at %#llx", child,
                          (unsigned long long)base, (unsigned long long)t->base);
            return;
        }
        t->links++;
        return;
    }
    t->links = 1;
    t->parent = parent;
    t->index = (uint16_t)index;
    t->root = p->root;
    t->level = (uint8_t)(p->level - 1);
    t->base = base;
    w->total_links++;
    reach(w, child);
}

static void unlink_table(struct t_watch *w, uint32_t child)
{
    struct t_watch_table *t = &w->tables[child];

    if (--t->links > 0) {
        return;
    }
    if (t_watch_visible(w, &w->roots[t->root], t->base, false)) {
        t_watch_table_gone(w, child);
    }
    for (unsigned i = 0; i < 512 && t->level > 0; i++) {
        if (t_watch_is_table(t->shadow[i], t->level)) {
            unlink_table(w, t_watch_child(t->shadow[i]));
        }
    }
}

/** All leaves behind a table: who may reach them. Its bound is the number of levels. */
static void audit_rights(struct t_watch *w, const struct t_watch_root *root, uint32_t frame,
                         unsigned level, uint64_t base, uint64_t rights)
{
    for (unsigned i = 0; i < 512; i++) {
        uint64_t entry = w->tables[frame].shadow[i];
        uint64_t at = base + i * span_of(level);
        bool upper = level + 1 == w->levels ? i >= 256 : base >> 63 != 0;
        uint64_t below = t_watch_below(rights, entry);
        bool user = (below & T_WATCH_US) != 0;

        if ((entry & P) == 0) {
            continue;
        }
        if (level + 1 == w->levels && upper) {
            at |= ~((span_of(level) << 9) - 1);
        }
        if (t_watch_is_table(entry, level)) {
            audit_rights(w, root, t_watch_child(entry), level - 1, at, below);
        } else if (upper ? user : root->user && !user) {
            t_watch_wrong(w, "%#llx from root %#llx: a leaf that is %s", (unsigned long long)at,
                          (unsigned long long)root->frame,
                          user ? "the kernel's, and open to the user" : "not the user's");
        }
    }
}

void t_watch_root(struct t_watch *w, uint64_t frame, uint64_t kin, bool user)
{
    struct t_watch_table *t = &w->tables[frame];
    unsigned i = 0;

    t_watch_settle(w);
    while (w->roots[i].frame != 0) {
        if (++i == T_WATCH_ROOTS) {
            abort();
        }
    }
    w->roots[i] = (struct t_watch_root){.frame = frame, .kin = kin, .user = user, .live = !user};
    t->links = 1;
    t->parent = (uint32_t)frame;
    t->root = i;
    t->level = (uint8_t)(w->levels - 1);
    if (w->nr_wrong == 0) {
        reach(w, (uint32_t)frame);
    }
    if (w->nr_wrong != 0) {
        return;
    }
    audit_rights(w, &w->roots[i], (uint32_t)frame, t->level, 0, T_WATCH_RW | T_WATCH_US);
}

void t_watch_live(struct t_watch *w, uint64_t frame, bool live)
{
    root_at(w, frame)->live = live;
}

static void root_back(struct t_watch *w, struct t_watch_root *root)
{
    const struct t_watch_table *t = &w->tables[root->frame];

    for (unsigned i = 0; i < 512; i++) {
        if (t_watch_is_table(t->shadow[i], t->level)) {
            struct t_watch_table *child = &w->tables[t_watch_child(t->shadow[i])];

            if (--child->links == 0 && child->held && !child->foreign) {
                t_watch_wrong(w, "root %#llx goes back, and still holds table %#x",
                              (unsigned long long)root->frame, t_watch_child(t->shadow[i]));
            }
        }
    }
    if (w->current == root->frame) {
        t_watch_wrong(w, "the root in use, %#llx, goes back", (unsigned long long)root->frame);
    }
    memset(root, 0, sizeof(*root));
}

void t_watch_back(struct t_watch *w, uint64_t frame)
{
    struct t_watch_root *root = root_at(w, frame);

    t_watch_settle(w);
    for (size_t i = 0; i < w->nr_stale; i++) {
        if (frame * 4096 - w->stale[i].paddr < w->stale[i].len) {
            t_watch_wrong(w, "frame %#llx goes back while the TLB may lead there from %#llx",
                          (unsigned long long)frame, (unsigned long long)w->stale[i].start);
        }
    }
    if (frame >= w->nr_frames || w->nr_wrong != 0) {
        return;
    }
    if (root != NULL) {
        root_back(w, root);
    } else if (w->tables[frame].links != 0) {
        t_watch_wrong(w, "table %#llx goes back while it is linked at %#llx",
                      (unsigned long long)frame, (unsigned long long)w->tables[frame].base);
    }
    if (!w->tables[frame].held || w->tables[frame].foreign) {
        t_watch_wrong(w, "frame %#llx goes back, and the source never handed it out",
                      (unsigned long long)frame);
    }
    if (w->tables[frame].cached) {
        t_watch_wrong(w, "table %#llx goes back while paging-structure caches may lead there",
                      (unsigned long long)frame);
        t_watch_drop_table(w, (uint32_t)frame);
    }
    w->tables[frame].held = false;
    w->tables[frame].links = 0;
}

/* --- stores ---------------------------------------------------------------------------------- */

/** A store to an entry of a linked table. */
static void entry_changed(struct t_watch *w, uint32_t frame, unsigned i, uint64_t old, uint64_t now)
{
    struct t_watch_table *t = &w->tables[frame];
    bool was_table = t_watch_is_table(old, t->level);
    bool is_table = t_watch_is_table(now, t->level);
    bool moved =
        was_table && is_table ? t_watch_child(old) != t_watch_child(now) : was_table || is_table;
    const char *wrong = insane(w, now, t->level);

    if (wrong != NULL) {
        t_watch_wrong(w, "%#llx is stored for %#llx, in table %#x of level %u: %s",
                      (unsigned long long)now, (unsigned long long)address_of(w, t, i), frame,
                      t->level, wrong);
        return;
    }
    if (is_table && moved) {
        if (w->roots[t->root].live && !w->release) {
            t_watch_wrong(w, "table %#x is linked at %#llx by a store that is no release",
                          t_watch_child(now), (unsigned long long)address_of(w, t, i));
        }
        if (address_of(w, t, i) >> 63 != 0 && (now & T_WATCH_US) != 0) {
            t_watch_wrong(w, "table %#x at %#llx is the kernel's, and open to the user",
                          t_watch_child(now), (unsigned long long)address_of(w, t, i));
        }
        link_table(w, frame, i, t_watch_child(now));
    }
    if (!is_table && (old & P) == 0 && (now & P) != 0 && w->roots[t->root].live && !w->release) {
        t_watch_wrong(w, "a leaf is put at %#llx by a store that is no release",
                      (unsigned long long)address_of(w, t, i));
    }
    if (w->nr_wrong == 0) {
        t_watch_judge_entry(w, t, i, old, now);
    }
    if (was_table && moved) {
        unlink_table(w, t_watch_child(old));
    }
}

static void slot_stored(struct t_watch *w, uint32_t frame, unsigned i)
{
    struct t_watch_table *t = &w->tables[frame];
    uint64_t old = t->shadow[i];
    uint64_t now = slots_of(w, frame)[i];

    w->total_stores++;
    if (w->nr_wrong != 0) {
        return; /* links that were wrong lead anywhere */
    }
    if (!t->held) {
        t_watch_wrong(w, "%#llx is stored in slot %u of frame %#x, which the source has",
                      (unsigned long long)now, i, frame);
        return;
    }
    t->written[i / 64] |= UINT64_C(1) << (i % 64);
    if (t->links != 0) {
        w->nr_stores++;
        entry_changed(w, frame, i, old, now);
    } else if ((now & P) == 0 && now != 0 && (now & ONES) != ONES) {
        t_watch_wrong(w, "%#llx in slot %u of table %#x, not present, names an address",
                      (unsigned long long)now, i, frame);
    } else if (t->cached && (now & P) != 0) {
        t_watch_wrong(w, "%#llx in slot %u of table %#x, to which caches of the hardware may lead",
                      (unsigned long long)now, i, frame);
    }
    t->shadow[i] = now;
}

void t_watch_settle(struct t_watch *w)
{
    if (w->pending) {
        w->pending = false;
        for (unsigned i = w->first; i < w->first + w->nr; i++) {
            slot_stored(w, w->frame, i);
        }
    }
}

/* --- the walker ------------------------------------------------------------------------------ */

static bool walker_wants(struct t_watch *w)
{
    w->walker_asked++;
    if (w->walker == T_WATCH_NTH) {
        return w->walker_asked == w->walker_nth;
    }
    w->walker_random ^= w->walker_random << 13;
    w->walker_random ^= w->walker_random >> 7;
    w->walker_random ^= w->walker_random << 17;
    return (w->walker_random & 7) == 0;
}

/** Set accessed, and dirty where writing is allowed, in the entry that is about to be accessed
 * (4.8). */
static void walker_sets(struct t_watch *w, uint32_t frame, unsigned i)
{
    struct t_watch_table *t = &w->tables[frame];
    uint64_t at = address_of(w, t, i);
    uint64_t entry = t->shadow[i];
    uint64_t set = 1u << 5;
    struct t_watch_page page;

    if (t->links == 0 || !w->roots[t->root].live || (entry & P) == 0 ||
        t_watch_is_table(entry, t->level) || !walker_wants(w)) {
        return;
    }
    page = t_watch_walk(w, w->roots[t->root].frame, at);
    if ((page.rights & T_WATCH_RW) != 0 && (w->walker == T_WATCH_NTH || w->walker_random & 8)) {
        set |= 1u << 6;
    }
    slots_of(w, frame)[i] |= set;
    t->shadow[i] |= set;
    w->total_seen++;
    if (w->nr_seen < T_WATCH_SEEN) {
        w->seen[w->nr_seen++] = (struct t_watch_seen){at, page.paddr, (set & (1u << 6)) != 0};
    }
}

/* --- events ---------------------------------------------------------------------------------- */

void t_watch_before(struct t_watch *w, const void *at, uint32_t size, bool store, bool release)
{
    uint64_t offset = (uint64_t)((uintptr_t)at - (uintptr_t)w->ram);
    uint32_t frame = (uint32_t)(offset / 4096);

    t_watch_settle(w);
    if (offset >= w->nr_frames * 4096 || size == 0) {
        return;
    }
    if (offset % 4096 + size > 4096 || offset % 8 != 0 || size % 8 != 0) {
        t_watch_wrong(w, "an access of %u bytes at %#llx of the RAM: no whole entries", size,
                      (unsigned long long)offset);
        return;
    }
    if (!w->tables[frame].held) {
        t_watch_wrong(w, "an access to frame %#x, which the source has", frame);
    }
    if (size <= 16 && w->walker != T_WATCH_IDLE) { /* an entry, or two in one step */
        for (uint64_t i = offset % 4096 / 8; i < (offset % 4096 + size) / 8; i++) {
            walker_sets(w, frame, (unsigned)i);
        }
    }
    if (store) {
        w->pending = true;
        w->release = release;
        w->frame = frame;
        w->first = (uint32_t)(offset % 4096 / 8);
        w->nr = size / 8;
    }
}

void t_watch_after(struct t_watch *w, bool stored)
{
    w->pending = w->pending && stored;
    t_watch_settle(w);
}

/* --- calls ----------------------------------------------------------------------------------- */

void t_watch_begin(struct t_watch *w, const struct t_watch_edit *edits, unsigned nr)
{
    t_watch_settle(w);
    w->nr_edits = nr;
    if (nr != 0) {
        memcpy(w->edits, edits, nr * sizeof(*edits));
    }
    w->nr_stores = 0;
    w->walker_asked = 0;
    w->nr_seen = 0;
}

static void audit_table(struct t_watch *w, uint32_t frame, uint16_t *links)
{
    const struct t_watch_table *t = &w->tables[frame];

    if (++links[frame] > 1) {
        return;
    }
    for (unsigned i = 0; i < 512; i++) {
        uint64_t entry = slots_of(w, frame)[i];

        if (t_watch_is_table(entry, t->level)) {
            audit_table(w, t_watch_child(entry), links);
        }
    }
}

void t_watch_audit(struct t_watch *w)
{
    uint16_t *links = calloc(w->nr_frames, sizeof(*links));

    t_watch_settle(w);
    for (uint64_t f = 0; f < w->nr_frames; f++) {
        if (w->tables[f].held && memcmp(w->tables[f].shadow, slots_of(w, f), 4096) != 0) {
            t_watch_wrong(w, "table %#llx has changed, and no store was seen",
                          (unsigned long long)f);
        }
    }
    for (unsigned i = 0; i < T_WATCH_ROOTS && links != NULL && w->nr_wrong == 0; i++) {
        if (w->roots[i].frame != 0) {
            audit_table(w, (uint32_t)w->roots[i].frame, links);
            audit_rights(w, &w->roots[i], (uint32_t)w->roots[i].frame, w->levels - 1, 0,
                         T_WATCH_RW | T_WATCH_US);
        }
    }
    for (uint64_t f = 0; f < w->nr_frames && links != NULL && w->nr_wrong == 0; f++) {
        if (links[f] != w->tables[f].links) {
            t_watch_wrong(w, "table %#llx is linked %u times, and %u links were seen",
                          (unsigned long long)f, links[f], w->tables[f].links);
        }
    }
    free(links);
}
