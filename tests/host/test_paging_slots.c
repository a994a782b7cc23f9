// SPDX-License-Identifier: MIT
/**
 * Slots against a flat model: get and compare-and-exchange of every kind, soft slots under every
 * other call, software bits and keys through protect, split and clone. Hazards 15, 16, 17, 19.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "slots_rig.h"

static int setup(void **state)
{
    *state = s_new("paging slots");
    return 0;
}

static int teardown(void **state)
{
    s_delete(*state);
    return 0;
}

/* --- exchange --------------------------------------------------------------------------------- */

/** Exchange what is seen at a page, in a gather of its own. */
static mm_status_t cas(struct slots_rig *r, unsigned page, uint64_t len, struct mm_slot *seen,
                       const struct mm_slot *now)
{
    struct mm_gather gather;
    mm_status_t status;

    assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
    status = mm_paging_slot_cas(r->pt, mm_vaddr(s_at(page)), len, seen, now,
                                seen->kind == MM_SLOT_LEAF ? &gather : NULL);
    mm_gather_end(&gather);
    return status;
}

/** What the model says to an exchange of what is there now. */
static mm_status_t cas_status(const struct slots_rig *r, unsigned page, bool large,
                              const struct mm_slot *now)
{
    const struct s_page *p = &r->pages[page];

    if (large && (r->left[page / 512] || (!p->large && !s_region_empty(r, page / 512)))) {
        return MM_ERR_ALREADY_MAPPED;
    }
    if (!large && p->large) {
        return MM_ERR_HUGE_PAGE;
    }
    return now->kind == MM_SLOT_LEAF && p->slot.kind == MM_SLOT_LEAF && now->type != p->slot.type
               ? MM_ERR_UNSUPPORTED
               : MM_OK;
}

static void random_cas(struct slots_rig *r)
{
    bool large = t_prng_chance(&r->prng, 1, 4);
    unsigned page = (unsigned)t_prng_below(&r->prng, S_PAGES) & (large ? ~511u : ~0u);
    struct mm_slot now = s_draw_slot(r, large);
    mm_status_t expected = cas_status(r, page, large, &now);
    struct mm_slot seen;

    assert_int_equal(mm_paging_slot_get(r->pt, mm_vaddr(s_at(page)), &seen), MM_OK);
    assert_int_equal(cas(r, page, large ? P2M : P4K, &seen, &now), expected);
    if (expected == MM_OK) {
        bool was = r->pages[page].slot.kind != MM_SLOT_EMPTY;

        s_set(r, page, large, &now);
        if (!large && was && now.kind == MM_SLOT_EMPTY) {
            r->left[page / 512] |= s_region_empty(r, page / 512);
        } else if (now.kind != MM_SLOT_EMPTY) {
            r->left[page / 512] = false;
        }
    }
}

/* --- the other calls over it ------------------------------------------------------------------ */

static void random_unmap(struct slots_rig *r)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 4);
    unsigned first;
    unsigned end;
    mm_status_t expected;

    s_draw_range(r, &first, &end);
    flags |= t_prng_chance(&r->prng, 1, 2) ? MM_PAGING_SKIP_HOLES : 0;
    expected = s_edit(r, first, end, flags, false);
    assert_int_equal(t_unmap(r->pt, s_at(first), (end - first) * P4K, flags), expected);
    if (expected == MM_OK) {
        s_unmap(r, first, end);
    }
}

static void random_protect(struct slots_rig *r)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 2) | MM_PAGING_SKIP_HOLES;
    mm_prot_t prot = s_draw_prot(r);
    unsigned first;
    unsigned end;
    mm_status_t expected;

    s_draw_range(r, &first, &end);
    expected = s_edit(r, first, end, flags, true);
    assert_int_equal(t_protect(r->pt, s_at(first), (end - first) * P4K, prot, flags), expected);
    if (expected == MM_OK) {
        s_split(r, first, true);
        s_split(r, end, true);
        for (unsigned p = first; p < end; p++) {
            r->pages[p].slot.prot =
                r->pages[p].slot.kind == MM_SLOT_LEAF ? prot : r->pages[p].slot.prot;
        }
    }
}

static void random_label(struct slots_rig *r)
{
    bool is_key = t_prng_chance(&r->prng, 1, 2);
    uint32_t flags = is_key && t_prng_chance(&r->prng, 1, 2) ? (uint32_t)MM_PAGING_SPLIT : 0u;
    uint32_t set = (uint32_t)t_prng_below(&r->prng, 8);
    uint32_t clear = (uint32_t)t_prng_below(&r->prng, 8) & ~set;
    uint32_t key = (uint32_t)t_prng_below(&r->prng, 16);
    struct mm_gather gather;
    mm_status_t expected;
    unsigned first;
    unsigned end;

    s_draw_range(r, &first, &end);
    flags |= t_prng_chance(&r->prng, 3, 4) ? MM_PAGING_SKIP_HOLES : 0;
    expected = s_edit(r, first, end, flags, true);
    assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
    if (is_key) {
        assert_int_equal(mm_paging_set_key(r->pt, t_range(s_at(first), (end - first) * P4K), key,
                                           flags, &gather),
                         expected);
    } else {
        assert_int_equal(mm_paging_set_software(r->pt, t_range(s_at(first), (end - first) * P4K),
                                                set, clear, flags),
                         expected);
    }
    mm_gather_end(&gather);
    if (expected != MM_OK) {
        return;
    }
    s_split(r, first, true);
    s_split(r, end, true);
    for (unsigned p = first; p < end; p++) {
        struct mm_slot *slot = &r->pages[p].slot;

        if (slot->kind == MM_SLOT_LEAF) {
            slot->key = is_key ? (uint8_t)key : slot->key;
            slot->software = is_key ? slot->software : (uint8_t)((slot->software & ~clear) | set);
        }
    }
}

static void random_map(struct slots_rig *r)
{
    unsigned page = (unsigned)t_prng_below(&r->prng, S_PAGES);
    mm_prot_t prot = s_draw_prot(r);
    struct mm_slot leaf = mm_slot_leaf(mm_paddr(P1G + page * P4K), prot, MM_MEMTYPE_WC);
    bool free = r->pages[page].slot.kind == MM_SLOT_EMPTY;

    assert_int_equal(mm_paging_map(r->pt, t_range(s_at(page), P4K), leaf.paddr, prot, leaf.type, 0),
                     free ? MM_OK : MM_ERR_ALREADY_MAPPED);
    if (free) {
        s_set(r, page, false, &leaf);
        r->left[page / 512] = false;
    }
}

/* Guards where nothing is, of 2 MiB where no table is. */
static void random_guard(struct slots_rig *r)
{
    struct mm_slot guard = mm_slot_soft(MM_SOFT_GUARD, 0);
    bool free = true;
    unsigned first;
    unsigned end;

    s_draw_range(r, &first, &end);
    for (unsigned p = first; p < end; p++) {
        free = free && r->pages[p].slot.kind == MM_SLOT_EMPTY;
    }
    assert_int_equal(mm_paging_guard(r->pt, t_range(s_at(first), (end - first) * P4K)),
                     free ? MM_OK : MM_ERR_ALREADY_MAPPED);
    for (unsigned p = first; p < end && free;) {
        bool large = p % 512 == 0 && end - p >= 512 && !r->left[p / 512];

        s_set(r, p, large, &guard);
        p += large ? 512 : 1;
        if (large || p % 512 == 0 || p == end) {
            r->left[(p - 1) / 512] = false;
        }
    }
}

static void count_shared(void *ctx, mm_pfn_t first, uint64_t nr)
{
    uint64_t *shared = ctx;

    (void)first;
    *shared += nr;
}

/* The copy has all slots as they are, but for the right to write; frames of soft slots are none. */
static void random_clone(struct slots_rig *r)
{
    struct mm_pagetable child = {0};
    struct mm_pagetable *parent = r->pt;
    struct mm_gather gather;
    uint64_t shared = 0;
    uint64_t leaves = 0;

    assert_int_equal(mm_paging_init_user(&child, &r->m->kernel), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
    assert_int_equal(
        mm_paging_clone(r->pt, &child, t_range(S_START, S_LEN), count_shared, &shared, &gather),
        MM_OK);
    mm_gather_end(&gather);
    for (unsigned p = 0; p < S_PAGES; p++) {
        struct mm_slot *slot = &r->pages[p].slot;

        leaves += slot->kind == MM_SLOT_LEAF ? 1 : 0;
        if ((slot->prot & MM_PROT_WRITE) != 0) {
            slot->prot &= ~MM_PROT_WRITE;
        }
    }
    assert_int_equal(shared, leaves);
    r->pt = &child;
    s_check(r);
    r->pt = parent;
    assert_int_equal(mm_paging_destroy(&child), MM_OK);
}

static void test_random(void **state)
{
    struct slots_rig *r = *state;

    for (unsigned n = 0; n < 6000; n++) {
        switch (t_prng_below(&r->prng, 16)) {
        case 0:
            random_unmap(r);
            break;
        case 1:
            random_protect(r);
            break;
        case 2:
            random_label(r);
            break;
        case 3:
            random_map(r);
            break;
        case 4:
            s_touch(r, (unsigned)t_prng_below(&r->prng, S_PAGES), t_prng_chance(&r->prng, 1, 2));
            break;
        case 5:
            if (n % 16 == 0) {
                random_clone(r);
            }
            break;
        case 6:
            random_guard(r);
            break;
        default:
            random_cas(r);
            break;
        }
        t_nothing_stale(r->m);
        if (n % 8 == 0) {
            s_check(r);
        }
    }
    s_check(r);
}

/* --- one thing at a time ---------------------------------------------------------------------- */

/* Everything that a leaf says comes back after it allowed nothing, at every size and key. */
static void test_kept(void **state)
{
    static const uint64_t sizes[] = {P4K, P2M, P1G};
    struct slots_rig *r = *state;

    for (unsigned i = 0; i < 3 * 16; i++) {
        uint64_t size = sizes[i / 16];
        uint64_t at = 64 * P1G;
        struct mm_slot empty = mm_slot_empty();
        struct mm_slot leaf =
            mm_slot_leaf(mm_paddr((UINT64_C(1) << 39) + 3 * P1G), T_URW, MM_MEMTYPE_WP);
        struct mm_slot got;
        struct mm_slot back;

        leaf.key = (uint8_t)(i % 16);
        leaf.software = (uint8_t)((i * 5) % 8);
        leaf.accessed = i % 2 != 0;
        leaf.dirty = i % 3 != 0;
        assert_int_equal(mm_paging_slot_cas(r->pt, mm_vaddr(at), size, &empty, &leaf, NULL), MM_OK);
        assert_int_equal(mm_paging_slot_get(r->pt, mm_vaddr(at), &got), MM_OK);
        assert_int_equal(t_protect(r->pt, at, size, MM_PROT_USER, 0), MM_OK);
        assert_int_equal(mm_paging_slot_get(r->pt, mm_vaddr(at), &back), MM_OK);
        assert_int_equal(back.raw & 1, 0);
        assert_int_equal(back.kind, MM_SLOT_LEAF);
        assert_int_equal(back.prot, MM_PROT_NONE);
        assert_int_equal(back.key, leaf.key);
        assert_int_equal(back.software, leaf.software);
        assert_int_equal(back.paddr.raw, leaf.paddr.raw);
        assert_int_equal(t_protect(r->pt, at, size, T_URW, 0), MM_OK);
        assert_int_equal(mm_paging_slot_get(r->pt, mm_vaddr(at), &back), MM_OK);
        assert_int_equal(back.raw, got.raw);
        assert_int_equal(mm_paging_check(r->pt), MM_OK);
        assert_int_equal(t_unmap(r->pt, at, size, 0), MM_OK);
    }
}

/* Who saw something else is told what is there, and nothing changed; also where the hardware alone
 * changed it. */
static void test_busy(void **state)
{
    struct slots_rig *r = *state;
    struct mm_slot leaf = mm_slot_leaf(mm_paddr(P1G), T_URW, MM_MEMTYPE_WB);
    struct mm_slot soft = mm_slot_soft(9, (UINT64_C(1) << 50) - 1);
    struct mm_slot seen = mm_slot_empty();
    uint64_t before;

    assert_int_equal(cas(r, 0, P4K, &seen, &leaf), MM_OK);
    s_set(r, 0, false, &leaf);
    before = t_state(r->m, NULL);
    assert_int_equal(cas(r, 0, P4K, &seen, &soft), MM_ERR_BUSY);
    s_same(r, 0, &seen);
    assert_int_equal(t_state(r->m, NULL), before);
    s_touch(r, 0, true);
    assert_int_equal(cas(r, 0, P4K, &seen, &soft), MM_ERR_BUSY);
    assert_true(seen.accessed && seen.dirty);
    assert_int_equal(cas(r, 0, P4K, &seen, &soft), MM_OK);
    s_set(r, 0, false, &soft);
    t_nothing_stale(r->m);
    s_check(r);
    seen = mm_slot_empty(); /* a hole is seen where a large one is by now */
    assert_int_equal(cas(r, 512, P2M, &seen, &soft), MM_OK);
    seen = mm_slot_empty();
    assert_int_equal(cas(r, 513, P4K, &seen, &leaf), MM_ERR_BUSY);
    assert_int_equal(seen.page.len, P2M);
    assert_int_equal(cas(r, 513, P4K, &seen, &leaf), MM_ERR_HUGE_PAGE);
    s_set(r, 512, true, &soft);
    s_check(r);
}

/* An exchange from nothing to nothing makes no table. */
static void test_nothing_to_nothing(void **state)
{
    struct slots_rig *r = *state;
    struct mm_slot seen = mm_slot_empty();
    struct mm_slot now = mm_slot_empty();
    uint64_t before = t_state(r->m, NULL);

    assert_int_equal(cas(r, 7, P4K, &seen, &now), MM_OK);
    assert_int_equal(t_state(r->m, NULL), before);
}

/* Every bad argument is answered, and changes nothing: neither tables nor what was seen. */
static void test_bad(void **state)
{
    struct slots_rig *r = *state;
    struct mm_slot leaf = mm_slot_leaf(mm_paddr(P1G), T_URW, MM_MEMTYPE_WB);
    struct mm_slot seen = mm_slot_empty();
    struct mm_slot held;
    struct mm_slot bad;
    struct mm_gather other;
    uint64_t before;

#define BAD(field, value, status)                                                                  \
    do {                                                                                           \
        bad = leaf;                                                                                \
        bad.field = value;                                                                         \
        assert_int_equal(cas(r, 1, P4K, &seen, &bad), status);                                     \
        assert_int_equal(t_state(r->m, NULL), before);                                             \
        assert_int_equal(seen.kind, MM_SLOT_EMPTY);                                                \
    } while (0)
    assert_int_equal(cas(r, 0, P4K, &seen, &leaf), MM_OK);
    before = t_state(r->m, NULL);
    BAD(kind, (enum mm_slot_kind)3, MM_ERR_INVALID_ARGUMENT);
    BAD(paddr.raw, P1G + 1, MM_ERR_NOT_ALIGNED);
    BAD(paddr.raw, UINT64_C(1) << 52, MM_ERR_INVALID_ADDRESS);
    BAD(prot, MM_PROT_RW, MM_ERR_INVALID_FLAGS);
    BAD(prot, T_URW | MM_PROT_GLOBAL, MM_ERR_INVALID_FLAGS);
    BAD(type, MM_MEMTYPE_COUNT, MM_ERR_INVALID_ARGUMENT);
    BAD(software, 8, MM_ERR_INVALID_ARGUMENT);
    BAD(key, 16, MM_ERR_INVALID_ARGUMENT);
    r->m->arch.features.pku = false;
    r->m->arch.enabled.pat = false;
    before = t_state(r->m, NULL);
    BAD(key, 1, MM_ERR_UNSUPPORTED);
    BAD(type, MM_MEMTYPE_WC, MM_ERR_UNSUPPORTED);
    r->m->arch.features.pku = true;
    r->m->arch.enabled.pat = true;
    before = t_state(r->m, NULL);
    bad = mm_slot_soft(MM_SOFT_GUARD, 1);
    assert_int_equal(cas(r, 1, P4K, &seen, &bad), MM_ERR_INVALID_ARGUMENT);
    bad = mm_slot_soft(MM_SOFT_GUARD + 1, 0);
    assert_int_equal(cas(r, 1, P4K, &seen, &bad), MM_ERR_INVALID_ARGUMENT);
    bad = mm_slot_soft(0, UINT64_C(1) << 50);
    assert_int_equal(cas(r, 1, P4K, &seen, &bad), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(cas(r, 1, P2M, &seen, &leaf), MM_ERR_NOT_ALIGNED);
    assert_int_equal(cas(r, 1, 2 * P4K, &seen, &leaf), MM_ERR_INVALID_SIZE);
    assert_int_equal(cas(r, 1, 0, &seen, &leaf), MM_ERR_INVALID_SIZE);
    assert_int_equal(cas(r, 0, P2M, &seen, &leaf), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(
        mm_paging_slot_cas(r->pt, mm_vaddr(UINT64_MAX - 4095), P4K, &seen, &leaf, NULL),
        MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_gather_begin(&other, &r->m->kernel), MM_OK);
    assert_int_equal(mm_paging_slot_cas(r->pt, mm_vaddr(s_at(1)), P4K, &seen, &leaf, &other),
                     MM_ERR_INVALID_ARGUMENT);
    /* A leaf that was seen needs a gather, and cannot change its type. */
    assert_int_equal(mm_paging_slot_get(r->pt, mm_vaddr(s_at(0)), &held), MM_OK);
    assert_int_equal(mm_paging_slot_cas(r->pt, mm_vaddr(s_at(0)), P4K, &held, &leaf, NULL),
                     MM_ERR_INVALID_ARGUMENT);
    held.kind = MM_SLOT_EMPTY;
    assert_int_equal(mm_paging_slot_cas(r->pt, mm_vaddr(s_at(0)), P4K, &held, &leaf, NULL),
                     MM_ERR_INVALID_ARGUMENT);
    held.kind = MM_SLOT_LEAF;
    bad = leaf;
    bad.type = MM_MEMTYPE_UC;
    assert_int_equal(cas(r, 0, P4K, &held, &bad), MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_paging_slot_get(r->pt, mm_vaddr(UINT64_C(1) << 47), &held),
                     MM_ERR_INVALID_ADDRESS);
    r->m->arch.features.page_1g = false;
    before = t_state(r->m, NULL);
    seen = mm_slot_empty();
    assert_int_equal(mm_paging_slot_cas(r->pt, mm_vaddr(64 * P1G), P1G, &seen, &leaf, NULL),
                     MM_ERR_UNSUPPORTED);
    assert_int_equal(t_state(r->m, NULL), before);
    r->m->arch.features.page_1g = true;
    /* The others. */
    before = t_state(r->m, NULL);
    assert_int_equal(mm_paging_set_software(r->pt, t_range(S_START, P4K), 8, 0, 0),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_set_software(r->pt, t_range(S_START, P4K), 1, 1, 0),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_set_software(r->pt, t_range(S_START, P4K), 1, 0, MM_PAGING_SPLIT),
                     MM_ERR_INVALID_FLAGS);
    r->m->arch.features.pku = false;
    before = t_state(r->m, NULL);
    assert_int_equal(mm_gather_begin(&other, r->pt), MM_OK);
    assert_int_equal(mm_paging_set_key(r->pt, t_range(S_START, P4K), 1, 0, &other),
                     MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_paging_set_key(r->pt, t_range(S_START, P4K), 16, 0, &other),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_set_key(r->pt, t_range(S_START, P4K), 0, 0, &other), MM_OK);
    assert_int_equal(t_state(r->m, NULL), before);
    r->m->arch.features.pku = true;
}

/* Without memory at each point: no trace, and no frame lost. */
static void test_injection(void **state)
{
    struct slots_rig *r = *state;
    struct mm_slot leaf = mm_slot_leaf(mm_paddr(P1G), T_URW, MM_MEMTYPE_WB);
    uint64_t before = t_state(r->m, NULL);
    unsigned nr;

    for (nr = 1;; nr++) {
        struct mm_slot seen = mm_slot_empty();
        mm_status_t status;

        t_inject_nth(&r->m->inject, nr);
        status = cas(r, 0, P4K, &seen, &leaf);
        t_inject_never(&r->m->inject);
        if (status == MM_OK) {
            break;
        }
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        assert_int_equal(t_state(r->m, NULL), before);
    }
    assert_int_equal(nr, 4); /* three tables */
}

/* Soft slots of a root that is adopted are well formed, or it is not taken. */
static void test_adopted(void **state)
{
    static const struct {
        uint64_t raw;
        mm_status_t status;
    } entries[] = {
        {UINT64_C(0x000ff80000000000), MM_OK},            /* kind 0, payload 0 */
        {UINT64_C(0xfffff80000000012), MM_OK},            /* kind 9 */
        {UINT64_C(0x000ff80000000014), MM_OK},            /* kind 10: a guard */
        {UINT64_C(0x000ff80000000016), MM_OK},            /* kind 11: a leaf, frame 0 */
        {UINT64_C(0x000ff8000000001c), MM_OK},            /* kind 14: one with a high key */
        {UINT64_C(0x000ff8000000001e), MM_ERR_CORRUPTED}, /* kind 15: a chain */
        {UINT64_C(0x0007f80000000000), MM_ERR_CORRUPTED}, /* may name memory */
        {UINT64_C(0x000ffc0000000016) | UINT64_C(0x7e000000000), MM_ERR_CORRUPTED}, /* a frame */
        {2, MM_ERR_CORRUPTED},
    };
    struct slots_rig *r = *state;
    struct mm_paging_config config = t_config(r->m);
    uint64_t *table = t_table(r->m, T_TABLES - 2);
    uint64_t *root = t_table(r->m, T_TABLES - 3);

    for (unsigned i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        struct mm_pagetable pt = {0};
        struct mm_paging_stats stats;
        bool leaf = ((entries[i].raw >> 1) & 15) > MM_SOFT_GUARD;

        memset(root, 0, P4K);
        memset(table, 0, P4K);
        root[256] = ((T_TABLES - 2) * P4K) | 3;
        table[3] = entries[i].raw;
        assert_int_equal(mm_paging_adopt(&pt, &config, mm_paddr((T_TABLES - 3) * P4K)),
                         entries[i].status);
        if (entries[i].status == MM_OK) {
            assert_int_equal(mm_paging_get_stats(&pt, &stats), MM_OK);
            assert_int_equal(stats.nr_soft, leaf ? 0 : 1);
            assert_int_equal(mm_paging_check(&pt), MM_OK);
            assert_int_equal(mm_paging_destroy(&pt), MM_OK);
        }
    }
    t_fill_junk(r->m, T_TABLES - 2);
    t_fill_junk(r->m, T_TABLES - 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_to_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
        cmocka_unit_test_setup_teardown(test_injection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_adopted, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_slots", tests, NULL, NULL);
}
