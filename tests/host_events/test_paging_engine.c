// SPDX-License-Identifier: MIT
/**
 * The radix engine under the watcher (table_watch.h), case by case: the memory type's bit through
 * every split, a walker that sets accessed and dirty before every single access, every allocation
 * that can fail, and each way in which a root leaves the caches.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine_rig.h"

#define URW (MM_PROT_RW | MM_PROT_USER)
#define UR  (MM_PROT_READ | MM_PROT_USER)

#define AT    (3 * P1G) /* of user mappings */
#define PADDR (RIG_LEAVES * P4K)

/* --- calls under the watcher, and in the model ------------------------------------------------ */

static mm_status_t map_as(struct rig *r, struct mm_pagetable *pt, struct mm_vrange range,
                          uint64_t paddr, mm_prot_t prot, mm_memtype_t type)
{
    struct rig_edit e = {.r = r, .what = RIG_MAP, .paddr = paddr, .prot = prot, .type = type};
    mm_status_t status;

    rig_enter(r, pt, &e, range);
    status = mm_paging_map(pt, range, mm_paddr(paddr), prot, type, 0);
    rig_leave(r, pt, status);
    if (status == MM_OK) {
        assert_int_equal(
            t_mpages_map(&r->model, range.start.raw, paddr, range.len, prot, (uint16_t)type, 0),
            T_MPAGES_OK);
    }
    return status;
}

static mm_status_t unmap(struct rig *r, struct mm_pagetable *pt, struct mm_vrange range)
{
    struct rig_edit e = {.r = r, .what = RIG_UNMAP};
    struct mm_gather gather;
    mm_status_t status;

    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    rig_enter(r, pt, &e, range);
    status = mm_paging_unmap(pt, range, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES, &gather);
    rig_leave(r, pt, status);
    rig_gather_end(r, &gather);
    if (status == MM_OK) {
        assert_int_equal(
            t_mpages_unmap(&r->model, range.start.raw, range.len, T_MPAGES_SPLIT | T_MPAGES_HOLES),
            T_MPAGES_OK);
    }
    return status;
}

static mm_status_t protect(struct rig *r, struct mm_pagetable *pt, struct mm_vrange range,
                           mm_prot_t prot)
{
    struct rig_edit e = {.r = r, .what = RIG_PROTECT, .prot = prot};
    struct mm_gather gather;
    mm_status_t status;

    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    rig_enter(r, pt, &e, range);
    status = mm_paging_protect(pt, range, prot, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES, &gather);
    rig_leave(r, pt, status);
    rig_gather_end(r, &gather);
    if (status == MM_OK) {
        assert_int_equal(t_mpages_protect(&r->model, range.start.raw, range.len, prot,
                                          T_MPAGES_SPLIT | T_MPAGES_HOLES),
                         T_MPAGES_OK);
    }
    return status;
}

static mm_status_t clone(struct rig *r, struct mm_pagetable *from, struct mm_pagetable *to,
                         struct mm_vrange range)
{
    struct rig_edit narrow = {.r = r, .what = RIG_NARROW};
    struct rig_edit fill = {.r = r, .what = RIG_COPY};
    struct t_watch_edit edits[2] = {rig_allow(&narrow, from, range), rig_allow(&fill, to, range)};
    struct mm_gather gather;
    mm_status_t status;

    assert_int_equal(mm_gather_begin(&gather, from), MM_OK);
    t_watch_begin(r->watch, edits, 2);
    rig_watch(r, true);
    status = mm_paging_clone(from, to, range, NULL, NULL, &gather);
    rig_leave(r, from, status);
    if (status == MM_OK) {
        rig_seen(r, to, true);
    }
    for (uint64_t at = range.start.raw; status == MM_OK && at - range.start.raw < range.len;
         at += P4K) {
        rig_narrow_model(r, at);
    }
    rig_gather_end(r, &gather);
    return status;
}

/* A machine whose user root is in use, with a window of 2 GiB around AT. */
static struct rig *user_rig(const char *name)
{
    struct rig *r = rig_new(name, false, true, true);

    rig_start(r);
    t_mpages_add_window(&r->model, AT - P2M, 2 * P1G + 2 * P2M);
    rig_activate(r, &r->user);
    return r;
}

/* --- the memory type, in the raw entries ------------------------------------------------------ */

/* The entry that ends the walk to an address, and its level. */
static uint64_t raw_entry(const struct rig *r, uint64_t root, uint64_t at, unsigned *level)
{
    uint64_t entry = root;

    for (*level = r->watch->levels; *level > 0;) {
        (*level)--;
        entry = rig_table(r, (entry & UINT64_C(0x000ffffffffff000)) /
                                 4096)[(at >> (12 + 9 * *level)) & 511];
        if (!t_watch_is_table(entry, *level)) {
            break;
        }
    }
    return entry;
}

/* SDM vol. 3A, tables 4-15 to 4-20: the PAT's bit is bit 7 of a leaf of 4 KiB, and bit 12 of larger
 * ones, whose bit 7 says that they are leaves. */
static void check_type_bits(struct rig *r)
{
    uint64_t size = r->about[1];

    for (unsigned i = 0; i < 5; i++) {
        const uint64_t at[] = {AT, AT + P4K, AT + size / 2, AT + size - P2M, AT + size - P4K};
        unsigned level;
        uint64_t entry = raw_entry(r, r->user.root.raw, at[i], &level);
        uint64_t pat = level == 0 ? entry >> 7 & 1 : entry >> 12 & 1;
        uint64_t pcd_pwt = entry >> 3 & 3;

        if ((entry & 1) == 0) {
            if (at[i] != r->about[2]) { /* the page that an unmap takes */
                fail_msg("%#llx is absent", (unsigned long long)at[i]);
            }
            continue;
        }
        if (level > 0 && (entry & 0x80) == 0) {
            fail_msg("%#llx: the leaf of level %u is none", (unsigned long long)at[i], level);
        }
        if ((r->pat >> (8 * (pat * 4 + pcd_pwt)) & 7) != r->about[0]) {
            fail_msg("%#llx: entry %#llx of level %u has another type than %llu",
                     (unsigned long long)at[i], (unsigned long long)entry, level,
                     (unsigned long long)r->about[0]);
        }
    }
}

static void test_type_through_splits(void **state)
{
    struct rig *r = user_rig("type through splits");
    const uint64_t sizes[] = {P2M, P1G};

    (void)state;
    for (unsigned n = 0; n < 2u * 2u * 3u * MM_MEMTYPE_COUNT; n++) {
        mm_memtype_t type = (mm_memtype_t)(n % MM_MEMTYPE_COUNT);
        uint64_t size = sizes[n / MM_MEMTYPE_COUNT % 2];
        bool by_protect = n / MM_MEMTYPE_COUNT / 2 % 2 != 0;
        unsigned where = n / MM_MEMTYPE_COUNT / 4; /* the first page, one inside, the last */
        uint64_t cut = AT + (where == 0 ? 0 : where == 1 ? P4K : size - P4K);
        uint64_t mixed = r->watch->total_mixed;

        r->operation = n;
        assert_int_equal(map_as(r, &r->user, rig_range(AT, size), PADDR, URW, type), MM_OK);
        r->about[0] = rig_page(PADDR, URW, type).type;
        r->about[1] = size;
        r->about[2] = by_protect ? UINT64_MAX : cut;
        r->each = check_type_bits;
        if (by_protect) {
            assert_int_equal(protect(r, &r->user, rig_range(cut, P4K), UR), MM_OK);
        } else {
            assert_int_equal(unmap(r, &r->user, rig_range(cut, P4K)), MM_OK);
        }
        r->each = NULL;
        /* Two sizes were live once for each level that was split, and no longer are. */
        assert_int_equal(r->watch->total_mixed - mixed, size == P1G ? 2 : 1);
        assert_int_equal(unmap(r, &r->user, rig_range(AT, size)), MM_OK);
    }
    rig_delete(r, 0);
}

/* The large leaf goes out of the caches even if no page is any different after. */
static void test_split_that_changes_nothing(void **state)
{
    struct rig *r = user_rig("split that changes nothing");

    (void)state;
    assert_int_equal(map_as(r, &r->user, rig_range(AT, P1G), PADDR, URW, MM_MEMTYPE_WB), MM_OK);
    assert_int_equal(protect(r, &r->user, rig_range(AT + P2M + P4K, P4K), URW), MM_OK);
    assert_int_equal(r->watch->total_mixed, 2);
    rig_delete(r, 0);
}

/* --- a walker before every access ------------------------------------------------------------- */

#define SCENE rig_range(AT - P4K, P2M + 5 * P4K) /* a page, 2 MiB in one, four pages */

static void scene(struct rig *r)
{
    assert_int_equal(map_as(r, &r->user, SCENE, PADDR - P4K, URW, MM_MEMTYPE_WP), MM_OK);
}

static mm_status_t walked(struct rig *r, unsigned which)
{
    struct mm_pagetable copy = {0};
    mm_status_t status = MM_OK;

    switch (which) {
    case 0: /* less: 4 KiB and 2 MiB */
        return protect(r, &r->user, SCENE, UR);
    case 1: /* nothing */
        return protect(r, &r->user, SCENE, MM_PROT_USER);
    case 2: /* a leaf is split at one end */
        return protect(r, &r->user, rig_range(AT + P4K, P2M), UR);
    case 3: /* at both */
        return protect(r, &r->user, rig_range(AT + P4K, P4K), MM_PROT_USER);
    case 4:
        return unmap(r, &r->user, rig_range(AT + P4K, P2M));
    case 5:
        return unmap(r, &r->user, SCENE);
    case 6: /* one right for another */
        assert_int_equal(protect(r, &r->user, SCENE, UR), MM_OK);
        return protect(r, &r->user, SCENE, MM_PROT_RX | MM_PROT_USER);
    default:
        assert_int_equal(rig_init_user(r, &copy), MM_OK);
        status = clone(r, &r->user, &copy, SCENE);
        rig_destroy(r, &copy);
        return status;
    }
}

/* The nth access of the call to a leaf comes after the hardware has set both bits there, for each
 * n. rig_leave() asks translate for them; the watcher sees a store that loses them. */
static void test_walker_before_every_access(void **state)
{
    struct rig *r = user_rig("walker before every access");

    (void)state;
    for (unsigned which = 0; which < 8; which++) {
        uint64_t set = 0;

        for (uint64_t n = 1;; n++) {
            uint64_t before = r->watch->total_seen;

            r->watch->walker = T_WATCH_IDLE;
            scene(r);
            r->watch->walker = T_WATCH_NTH;
            r->watch->walker_nth = n;
            assert_int_equal(walked(r, which), MM_OK);
            r->watch->walker = T_WATCH_IDLE;
            r->operation++;
            assert_int_equal(unmap(r, &r->user, SCENE), MM_OK);
            if (r->watch->total_seen == before) {
                break; /* fewer than n accesses */
            }
            set++;
        }
        assert_true(set >= 3);
    }
    rig_delete(r, 0);
}

/* A copy-on-write break: from one frame to the other in one store. */
static void test_replace(void **state)
{
    struct rig *r = user_rig("replace");
    struct rig_edit e = {
        .r = r, .what = RIG_REPLACE, .paddr = PADDR + P1G, .prot = MM_PROT_RX | MM_PROT_USER};
    struct mm_gather gather;

    (void)state;
    assert_int_equal(map_as(r, &r->user, rig_range(AT, 3 * P4K), PADDR, URW, MM_MEMTYPE_WT), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, &r->user), MM_OK);
    rig_enter(r, &r->user, &e, rig_range(AT + P4K, P4K));
    assert_int_equal(mm_paging_replace(&r->user, mm_vaddr(AT + P4K), mm_paddr(e.paddr), e.prot,
                                       MM_PAGING_RELEASE, &gather),
                     MM_OK);
    rig_leave(r, &r->user, MM_OK);
    assert_int_equal(r->nr_released, 0);
    rig_gather_end(r, &gather);
    assert_int_equal(r->nr_released, 1);
    assert_int_equal(t_mpages_unmap(&r->model, AT + P4K, P4K, 0), T_MPAGES_OK);
    assert_int_equal(t_mpages_map(&r->model, AT + P4K, e.paddr, P4K, e.prot, MM_MEMTYPE_WT, 12),
                     T_MPAGES_OK);
    rig_delete(r, 0);
}

/* Bits that were set survive a page's being forbidden, split and allowed again. */
static void test_bits_of_a_forbidden_page(void **state)
{
    struct rig *r = user_rig("bits of a forbidden page");
    struct mm_mapping leaf;

    (void)state;
    r->watch->walker = T_WATCH_NTH;
    r->watch->walker_nth = 1;
    assert_int_equal(map_as(r, &r->user, rig_range(AT, P2M), PADDR, URW, MM_MEMTYPE_WC), MM_OK);
    assert_int_equal(protect(r, &r->user, rig_range(AT, P2M), MM_PROT_USER), MM_OK);
    r->watch->walker = T_WATCH_IDLE;
    assert_int_equal(protect(r, &r->user, rig_range(AT + P4K, P4K), URW), MM_OK);
    assert_int_equal(mm_paging_translate(&r->user, mm_vaddr(AT + P4K), &leaf), MM_OK);
    assert_true(leaf.accessed && leaf.dirty && leaf.page.len == P4K);
    assert_int_equal(leaf.type, MM_MEMTYPE_WC);
    assert_int_equal(mm_paging_translate(&r->user, mm_vaddr(AT), &leaf), MM_OK);
    assert_true(leaf.accessed && leaf.dirty && leaf.prot == MM_PROT_NONE);
    rig_delete(r, 0);
}

/* --- calls that fail store nothing ------------------------------------------------------------ */

static mm_status_t failing(struct rig *r, unsigned which, struct mm_pagetable *copy)
{
    switch (which) {
    case 0: /* across an entry of level 2 */
        return map_as(r, &r->user, rig_range(AT - P4K, P2M + 2 * P4K), PADDR + P4K, URW,
                      MM_MEMTYPE_WB);
    case 1: /* and across tables of 4 KiB leaves */
        return map_as(r, &r->user, rig_range(AT + P1G - P4K, 2 * P2M + 2 * P4K), PADDR, URW,
                      MM_MEMTYPE_WB);
    case 2: /* both ends of 1 GiB are split */
        return protect(r, &r->user, rig_range(AT + P4K, P1G - 2 * P4K), UR);
    case 3:
        return unmap(r, &r->user, rig_range(AT + P4K, P1G - 2 * P4K));
    case 4:
        return clone(r, &r->user, copy, rig_range(AT, P1G));
    default:
        return MM_OK;
    }
}

static void test_failing_calls_store_nothing(void **state)
{
    static const unsigned points[] = {6, 7, 3, 3, 3};

    (void)state;
    for (unsigned which = 0; which < 5; which++) {
        for (uint64_t n = 1;; n++) {
            struct rig *r = user_rig("failing calls");
            struct mm_pagetable copy = {0};
            uint64_t asked;
            mm_status_t status;

            r->operation = n;
            if (which >= 2) {
                assert_int_equal(map_as(r, &r->user, rig_range(AT, P1G), PADDR, URW, MM_MEMTYPE_WB),
                                 MM_OK);
            }
            if (which == 4) { /* leaves of all sizes */
                assert_int_equal(protect(r, &r->user, rig_range(AT + P2M, P4K), UR), MM_OK);
                assert_int_equal(rig_init_user(r, &copy), MM_OK);
            }
            t_inject_nth(&r->inject, n);
            status = failing(r, which, &copy);
            asked = r->inject.asked;
            t_inject_never(&r->inject);
            assert_int_equal(status, n > asked ? MM_OK : MM_ERR_NO_MEMORY);
            if (copy.magic != 0) {
                rig_destroy(r, &copy);
            }
            rig_delete(r, 0);
            if (status == MM_OK) {
                assert_int_equal(asked, points[which]);
                break;
            }
        }
    }
}

/* --- roots leave the caches ------------------------------------------------------------------- */

#define GLOBAL_RW (MM_PROT_RW | MM_PROT_GLOBAL)

static void map_global(struct rig *r)
{
    struct mm_vrange range = rig_range(RIG_KERNEL_TOP, P2M + 3 * P4K);

    t_mpages_add_window(&r->model, RIG_KERNEL_TOP, 2 * P2M);
    assert_int_equal(map_as(r, &r->kernel, range, PADDR, GLOBAL_RW, MM_MEMTYPE_WB), MM_OK);
}

/* A kernel root that is destroyed while the TLB holds its global translations, and its tables. */
static void test_kernel_root_destroyed(void **state)
{
    (void)state;
    for (unsigned invpcid = 0; invpcid < 2; invpcid++) {
        struct rig *r = rig_new("kernel root destroyed", false, true, invpcid != 0);

        rig_start(r);
        map_global(r);
        rig_activate(r, &r->kernel);
        rig_delete(r, 0); /* under another root, and all its leaves still there */
    }
}

/* Another kernel's root is activated, or the boot loader's loaded: nothing global stays behind. */
static void test_another_kernel_root(void **state)
{
    (void)state;
    for (unsigned invpcid = 0; invpcid < 2; invpcid++) {
        struct rig *r = rig_new("another kernel root", false, true, invpcid != 0);
        struct mm_pagetable other = {0};
        struct mm_vrange ranges[2];
        struct mm_paging_config config = rig_config(r, ranges);

        rig_start(r);
        map_global(r);
        t_watch_begin(r->watch, NULL, 0);
        assert_int_equal(mm_paging_init_kernel(&other, &config), MM_OK);
        t_watch_root(r->watch, other.root.raw / 4096, other.root.raw / 4096, false);
        rig_activate(r, &other);
        rig_activate(r, &r->kernel);
        assert_int_equal(mm_paging_load_root(other.backend, other.root), MM_OK);
        t_watch_settled(r->watch);
        rig_ok(r, "when a root was loaded");
        rig_activate(r, &r->kernel);
        rig_destroy(r, &other);
        rig_delete(r, 0);
    }
}

/* A user root is destroyed right after it was in use: leaving it dropped all. */
static void test_user_root_destroyed(void **state)
{
    struct rig *r = user_rig("user root destroyed");

    (void)state;
    assert_int_equal(map_as(r, &r->user, SCENE, PADDR - P4K, URW, MM_MEMTYPE_WB), MM_OK);
    assert_int_equal(mm_paging_destroy(&r->user), MM_ERR_BUSY);
    rig_activate(r, &r->kernel);
    rig_destroy(r, &r->user);
    rig_delete(r, 0);
}

/* Frames and tables go back after each kind of flush: page by page, the root loaded again, and
 * everything at once, in one piece and when the gather is full. */
static void test_released_after_the_flush(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 8; n++) {
        bool user = n % 2 != 0;
        bool many = n / 2 % 2 != 0;
        bool invpcid = n / 4 != 0;
        struct rig *r = rig_new("released after the flush", false, true, invpcid);
        struct mm_pagetable *pt = user ? &r->user : &r->kernel;
        uint64_t at = user ? AT : RIG_KERNEL_TOP + P1G;
        unsigned pages = many ? 3 * MM_GATHER_MAX_RUNS : 16;
        struct mm_vrange range = rig_range(at, pages * P4K);
        struct rig_edit e = {.r = r, .what = RIG_UNMAP};
        struct mm_gather gather;

        rig_start(r);
        t_mpages_add_window(&r->model, at, range.len);
        rig_activate(r, pt);
        for (unsigned i = 0; i < pages; i++) { /* no two frames follow each other */
            assert_int_equal(map_as(r, pt, rig_range(at + i * P4K, P4K), PADDR + 2 * i * P4K,
                                    user ? URW : GLOBAL_RW, MM_MEMTYPE_WB),
                             MM_OK);
        }
        assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
        rig_enter(r, pt, &e, range);
        assert_int_equal(mm_paging_unmap(pt, range, MM_PAGING_RELEASE, &gather), MM_OK);
        rig_leave(r, pt, MM_OK);
        rig_gather_end(r, &gather);
        assert_int_equal(r->nr_released, pages);
        assert_int_equal(t_mpages_unmap(&r->model, at, range.len, 0), T_MPAGES_OK);
        rig_delete(r, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_type_through_splits),
        cmocka_unit_test(test_split_that_changes_nothing),
        cmocka_unit_test(test_walker_before_every_access),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_bits_of_a_forbidden_page),
        cmocka_unit_test(test_failing_calls_store_nothing),
        cmocka_unit_test(test_kernel_root_destroyed),
        cmocka_unit_test(test_another_kernel_root),
        cmocka_unit_test(test_user_root_destroyed),
        cmocka_unit_test(test_released_after_the_flush),
    };

    return cmocka_run_group_tests_name("paging_engine", tests, NULL, NULL);
}
