// SPDX-License-Identifier: MIT
/**
 * The watcher over page tables (table_watch.h) itself: tables built by hand, and one thing done
 * wrong at a time, which it must say. No library here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "table_watch.h"

#define FRAMES 16u

#define AT    UINT64_C(0x40200000) /* slot 0 of the root, 1, 1, 0 */
#define UPPER UINT64_C(0xffff800000000000)
#define LEAF  UINT64_C(0x100067)       /* frame 0x100: present, writable, user, accessed, dirty */
#define LARGE UINT64_C(0x2000000000e7) /* of 2 MiB */
#define PTR   UINT64_C(0x27)
#define ONES  UINT64_C(0x000ff80000000000)
#define PAT   UINT64_C(0x0000010500070406) /* WB, WT, UC-, UC, WP, WC */

/* Frames 1 to 4 are a user root's path to AT, 5 and 6 are handed out and hang nowhere. */
struct scene {
    uint64_t *ram;
    struct t_watch *w;
};

static struct t_watch_page before;
static struct t_watch_page after;

static void expect(void *ctx, uint64_t at, struct t_watch_page *old, struct t_watch_page *now)
{
    (void)ctx;
    *old = before;
    *now = after;
    old->paddr += at - AT;
    now->paddr += at - AT;
}

static struct scene scene_new(void)
{
    struct scene s;

    s.ram = aligned_alloc(4096, FRAMES * 4096);
    assert_non_null(s.ram);
    memset(s.ram, 0, FRAMES * 4096);
    s.w = t_watch_new(s.ram, FRAMES);
    s.w->pat = PAT;
    for (unsigned f = 1; f < 7; f++) {
        t_watch_handed(s.w, f, true);
    }
    s.ram[1 * 512 + 0] = 2 * 4096 | PTR;
    s.ram[2 * 512 + 1] = 3 * 4096 | PTR;
    s.ram[3 * 512 + 1] = 4 * 4096 | PTR;
    s.ram[4 * 512 + 0] = LEAF;
    for (unsigned f = 1; f < 5; f++) {
        t_watch_before(s.w, &s.ram[f * 512], 4096, true, false);
    }
    t_watch_root(s.w, 1, 9, true);
    t_watch_live(s.w, 1, true);
    t_watch_cr3(s.w, 4096);
    assert_int_equal(s.w->nr_wrong, 0);
    before = t_watch_walk(s.w, 1, AT);
    assert_true(before.present && before.paddr == 0x100000 && before.type == 6);
    memset(&after, 0, sizeof(after));
    return s;
}

static void scene_delete(struct scene *s)
{
    t_watch_delete(s->w);
    free(s->ram);
}

static void store_as(struct scene *s, unsigned frame, unsigned slot, uint64_t value, bool release)
{
    t_watch_before(s->w, &s->ram[frame * 512 + slot], 8, true, release);
    s->ram[frame * 512 + slot] = value;
    t_watch_settle(s->w);
}

static void store(struct scene *s, unsigned frame, unsigned slot, uint64_t value)
{
    store_as(s, frame, slot, value, true);
}

static void begin(struct scene *s, uint64_t len)
{
    struct t_watch_edit edit = {.root = 1, .start = AT, .len = len, .expect = expect};

    t_watch_begin(s->w, &edit, 1);
}

/* It has said this, and the scene is over. */
static void must_say(struct scene *s, const char *words)
{
    if (s->w->nr_wrong == 0 || strstr(s->w->wrong, words) == NULL) {
        fail_msg("'%s' expected, and it said '%s'", words, s->w->wrong);
    }
    scene_delete(s);
}

static void must_be_silent(struct scene *s)
{
    if (s->w->nr_wrong != 0) {
        fail_msg("it said '%s'", s->w->wrong);
    }
    scene_delete(s);
}

/* --- links ------------------------------------------------------------------------------------ */

static void test_links(void **state)
{
    struct scene s = scene_new();

    (void)state;
    t_watch_handed(s.w, 7, false);
    s.ram[7 * 512] = LEAF;
    t_watch_before(s.w, &s.ram[7 * 512], 8, true, false); /* one slot, and 511 were never written */
    store(&s, 3, 2, 7 * 4096 | PTR);
    must_say(&s, "not written since the source handed");

    s = scene_new();
    store_as(&s, 3, 2, 5 * 4096 | PTR, false);
    must_say(&s, "no release");

    s = scene_new();
    begin(&s, 2 * 4096);
    store_as(&s, 4, 1, LEAF + 4096, false);
    must_say(&s, "a leaf is put");

    s = scene_new();
    store(&s, 3, 2, 4 * 4096 | PTR);
    must_say(&s, "and also at");

    s = scene_new();
    store(&s, 3, 2, 8 * 4096 | PTR);
    must_say(&s, "a table that is none");

    s = scene_new();
    store(&s, 5, 3, UINT64_C(1) << 46 | PTR); /* above MAXPHYADDR */
    store(&s, 3, 2, 5 * 4096 | PTR);
    must_say(&s, "reserved bits");

    s = scene_new();
    store(&s, 3, 2, 5 * 4096 | PTR);
    must_be_silent(&s);
}

static void test_frames_go_back(void **state)
{
    struct scene s = scene_new();

    (void)state;
    t_watch_back(s.w, 4);
    must_say(&s, "while it is linked");

    s = scene_new();
    begin(&s, 4096);
    store(&s, 3, 1, 0);
    t_watch_back(s.w, 4);
    must_say(&s, "paging-structure caches may lead");

    s = scene_new();
    begin(&s, 4096);
    store(&s, 3, 1, 0);
    t_watch_back(s.w, 0x100);
    must_say(&s, "while the TLB may lead there");

    s = scene_new();
    begin(&s, 4096);
    store(&s, 3, 1, 0);
    store(&s, 4, 7, LEAF);
    must_say(&s, "to which caches of the hardware may lead");

    s = scene_new();
    begin(&s, 4096);
    store(&s, 3, 1, 0);
    t_watch_invlpg(s.w, AT + 4096); /* all tables go, and no translation */
    t_watch_back(s.w, 4);
    assert_int_equal(s.w->nr_wrong, 0);
    t_watch_settled(s.w);
    must_say(&s, "is in the TLB when all was flushed");

    s = scene_new();
    begin(&s, 4096);
    store(&s, 3, 1, 0);
    t_watch_invlpg(s.w, AT);
    t_watch_settled(s.w);
    t_watch_back(s.w, 4);
    t_watch_back(s.w, 0x100);
    assert_int_equal(s.w->nr_wrong, 0);
    store(&s, 4, 0, 0);
    must_say(&s, "which the source has");
}

/* --- what addresses see ----------------------------------------------------------------------- */

static void test_translations(void **state)
{
    struct scene s = scene_new();

    (void)state;
    after = before;
    after.rights &= ~T_WATCH_RW;
    begin(&s, 4096);
    store(&s, 4, 0, 0);
    must_say(&s, "a moment without translation");

    s = scene_new();
    after = before;
    after.rights &= ~T_WATCH_RW;
    begin(&s, 4096);
    store(&s, 4, 0, LEAF & ~T_WATCH_RW & ~T_WATCH_US);
    must_say(&s, "user's half");

    s = scene_new();
    after = before;
    after.rights &= ~T_WATCH_RW;
    begin(&s, 4096);
    store(&s, 4, 0, (LEAF & ~T_WATCH_RW) | 0x10); /* another type */
    must_say(&s, "a mixture");

    s = scene_new();
    after = before;
    after.rights &= ~T_WATCH_RW;
    begin(&s, 4096);
    store(&s, 4, 0, LEAF & ~T_WATCH_RW & ~UINT64_C(0x40));
    must_say(&s, "accessed or dirty is lost");

    s = scene_new();
    after = before;
    after.rights &= ~T_WATCH_RW;
    begin(&s, 4096);
    store(&s, 4, 0, LEAF & ~T_WATCH_RW);
    store(&s, 4, 0, LEAF);
    must_say(&s, "a mixture"); /* back again */
}

/* What the call may change, and must have changed when it has ended. */
static void test_edits(void **state)
{
    struct scene s = scene_new();

    (void)state;
    begin(&s, 4096);
    store(&s, 4, 1, LEAF);
    must_say(&s, "outside of what the call may change");

    s = scene_new();
    after = before;
    begin(&s, 4096);
    store(&s, 4, 0, LEAF & ~T_WATCH_RW);
    must_say(&s, "a mixture");

    s = scene_new();
    begin(&s, 4096);
    store(&s, 4, 0, LEAF);
    t_watch_end(s.w, true);
    must_say(&s, "a call that failed stored 1 times");

    s = scene_new();
    after = before;
    after.rights &= ~T_WATCH_RW;
    begin(&s, 4096);
    t_watch_end(s.w, false);
    must_say(&s, "when the call has ended");

    s = scene_new();
    after = before;
    after.rights &= ~T_WATCH_RW;
    begin(&s, 4096);
    store(&s, 4, 0, LEAF & ~T_WATCH_RW);
    t_watch_end(s.w, false);
    must_be_silent(&s);
}

/* --- splits ----------------------------------------------------------------------------------- */

/* The 2 MiB after AT as one leaf of type WC, and table 5 filled with its parts. */
static struct scene split_scene(uint64_t flaw)
{
    struct scene s = scene_new();
    uint64_t large = LARGE | 0x1000; /* PAT 1, PCD 0, PWT 0 */

    before = (struct t_watch_page){.present = false};
    after = t_watch_leaf(s.w, large, 1, T_WATCH_RW | T_WATCH_US);
    after.paddr -= 0x200000; /* expect() counts from AT */
    begin(&s, 0x400000);
    store(&s, 3, 2, large);
    assert_int_equal(s.w->nr_wrong, 0);
    t_watch_begin(s.w, NULL, 0);
    for (unsigned i = 0; i < 512; i++) {
        store(&s, 5, i, ((LARGE & ~UINT64_C(0xe7)) + i * 4096) | 0xe7); /* bit 7: PAT now */
    }
    store(&s, 5, 300, s.ram[5 * 512 + 300] ^ flaw);
    store(&s, 3, 2, 5 * 4096 | PTR);
    return s;
}

/* Without the right to write from one moment to the next, whole: INVLPG finds all of it. */
static void test_large_leaf_flushed(void **state)
{
    struct scene s = split_scene(0);
    struct t_watch_edit edit = {.root = 1, .start = AT, .len = 0x600000, .expect = expect};

    (void)state;
    t_watch_flush(s.w);
    before = (struct t_watch_page){.present = false};
    after = t_watch_leaf(s.w, LARGE, 1, T_WATCH_RW | T_WATCH_US);
    after.paddr -= 0x400000;
    t_watch_begin(s.w, &edit, 1);
    store(&s, 3, 3, LARGE);
    before = after;
    after.rights &= ~T_WATCH_RW;
    store(&s, 3, 3, LARGE & ~T_WATCH_RW);
    assert_int_equal(s.w->nr_stale, 1);
    t_watch_invlpg(s.w, AT + 0x400000 + 77 * 4096);
    t_watch_settled(s.w);
    must_be_silent(&s);
}

static void test_splits(void **state)
{
    static const uint64_t flaws[] = {0x80, 0x1000, 0x2, 0x8};
    struct scene s = split_scene(0);

    (void)state;
    assert_int_equal(s.w->total_mixed, 1);
    assert_int_equal(s.w->nr_wrong, 0);
    t_watch_settled(s.w);
    must_say(&s, "is in the TLB when all was flushed");

    s = split_scene(0);
    t_watch_invlpg(s.w, AT + 0x200000 + 77 * 4096); /* one piece of what the TLB may hold */
    assert_int_equal(s.w->nr_stale, 2);
    t_watch_settled(s.w);
    must_say(&s, "is in the TLB when all was flushed");

    s = split_scene(0);
    t_watch_flush(s.w);
    t_watch_settled(s.w);
    must_be_silent(&s);

    for (unsigned i = 0; i < 4; i++) {
        s = split_scene(flaws[i]);
        must_say(&s, "disagree with the whole");
    }
    s = split_scene(0x40);
    must_say(&s, "accessed or dirty is lost");
    s = split_scene(1);
    must_say(&s, "names an address");
}

/* --- entries that are not present, and the kernel's ------------------------------------------- */

static void test_entries(void **state)
{
    struct scene s = scene_new();

    (void)state;
    store(&s, 6, 0, 0x100000);
    must_say(&s, "names an address");

    s = scene_new();
    begin(&s, 4096);
    store(&s, 4, 0, 0x100000);
    must_say(&s, "names an address that memory may have");

    s = scene_new();
    begin(&s, 4096);
    store(&s, 4, 0, ONES | 0x1fe0);
    must_be_silent(&s);

    s = scene_new();
    store(&s, 4, 511, 0);
    s.ram[4 * 512 + 9] = LEAF; /* no event */
    t_watch_audit(s.w);
    must_say(&s, "no store was seen");
}

/* Frames 9 to 12 are a kernel's root and its path to UPPER; the user root copies its entry. */
static struct scene kernel_scene(void)
{
    struct scene s = scene_new();
    struct t_watch_edit edit = {.root = 1, .start = UPPER, .len = 4096, .expect = expect};

    for (unsigned f = 9; f < 13; f++) {
        t_watch_handed(s.w, f, true);
    }
    store(&s, 9, 256, 10 * 4096 | 0x23);
    store(&s, 10, 0, 11 * 4096 | 0x27);
    store(&s, 11, 0, 12 * 4096 | 0x27);
    store(&s, 12, 0, 0x100163); /* global */
    t_watch_root(s.w, 9, 9, false);
    before = (struct t_watch_page){.present = false};
    after = t_watch_walk(s.w, 9, UPPER);
    after.paddr -= UPPER - AT; /* expect() counts from AT */
    t_watch_begin(s.w, &edit, 1);
    store(&s, 1, 256, s.ram[9 * 512 + 256]);
    assert_int_equal(s.w->nr_wrong, 0);
    return s;
}

static void test_kernel(void **state)
{
    struct scene s = kernel_scene();
    struct t_watch_edit edit = {.root = 9, .start = UPPER, .len = 4096, .expect = expect};

    (void)state;
    t_watch_audit(s.w);
    must_be_silent(&s);

    s = kernel_scene();
    store(&s, 9, 256, 10 * 4096 | 0x27); /* user, on the whole path but the leaf */
    t_watch_begin(s.w, &edit, 1);
    store(&s, 12, 0, 0x100167);
    must_say(&s, "open to the user");

    s = kernel_scene(); /* a page of the kernel's is stale, and the user root is loaded again */
    before = t_watch_walk(s.w, 9, UPPER);
    before.paddr -= UPPER - AT;
    memset(&after, 0, sizeof(after));
    t_watch_begin(s.w, &edit, 1);
    store(&s, 12, 0, 0);
    t_watch_cr3(s.w, 4096);
    t_watch_settled(s.w);
    must_say(&s, ", global) is in the TLB");

    s = kernel_scene();
    t_watch_handed(s.w, 8, true);
    t_watch_root(s.w, 8, 8, false);
    t_watch_cr3(s.w, 8 * 4096);
    t_watch_settled(s.w);
    must_say(&s, "under another root");
}

/* --- the walker ------------------------------------------------------------------------------- */

static void test_walker(void **state)
{
    struct scene s = scene_new();
    struct t_watch_page page;

    (void)state;
    after = before;
    before.accessed = false;
    begin(&s, 4096);
    s.ram[4 * 512] = LEAF & ~UINT64_C(0x60);
    s.w->tables[4].shadow[0] = s.ram[4 * 512];
    s.w->walker = T_WATCH_NTH;
    s.w->walker_nth = 2;
    t_watch_before(s.w, &s.ram[4 * 512], 8, false, false);
    page = t_watch_walk(s.w, 1, AT);
    assert_false(page.accessed);
    t_watch_before(s.w, &s.ram[4 * 512], 8, false, false);
    page = t_watch_walk(s.w, 1, AT);
    assert_true(page.accessed && page.dirty);
    assert_int_equal(s.w->nr_seen, 1);
    store(&s, 4, 0, LEAF & ~UINT64_C(0x60)); /* what was there when it was loaded */
    must_say(&s, "accessed or dirty is lost");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_links),        cmocka_unit_test(test_frames_go_back),
        cmocka_unit_test(test_translations), cmocka_unit_test(test_edits),
        cmocka_unit_test(test_splits),       cmocka_unit_test(test_large_leaf_flushed),
        cmocka_unit_test(test_entries),      cmocka_unit_test(test_kernel),
        cmocka_unit_test(test_walker),
    };

    return cmocka_run_group_tests_name("table_watch", tests, NULL, NULL);
}
