// SPDX-License-Identifier: MIT
/**
 * Random operations on page tables under the watcher (table_watch.h): map, unmap, protect, replace
 * and clone, on roots of 48 and 57 bits, the kernel's, a user's and an adopted one, in use and not.
 * Every store of the library to a table is judged as it is made, a walker sets accessed and dirty
 * before every eighth access to a leaf or so, a tenth of the calls run out of frames at a random
 * point, and gathers span up to three calls; half of the streams map each table through ops. The
 * model answers what each page is before and after.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "check.h"
#include "engine_rig.h"
#include "model_pages_mm.h"

#define NR_OPERATIONS 200000u

struct window {
    uint64_t start;
    uint64_t len;
};

struct run {
    struct rig *r;
    struct mm_pagetable *pt;
    struct window windows[4];
    unsigned nr_windows;
    bool user;
    bool adopted;
    unsigned failed; /* calls that ran out of frames */
};

/* --- choosing -------------------------------------------------------------------------------- */

static mm_prot_t random_prot(struct run *run)
{
    mm_prot_t prot = (mm_prot_t)t_prng_below(&run->r->prng, 8);

    if (run->user) {
        return prot | MM_PROT_USER;
    }
    return prot | (t_prng_chance(&run->r->prng, 1, 2) ? MM_PROT_GLOBAL : 0);
}

static uint32_t random_flags(struct run *run)
{
    return t_prng_chance(&run->r->prng, 1, 2) ? MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES
                                              : (uint32_t)t_prng_below(&run->r->prng, 4);
}

/* A range in one window: mostly short, often whole large leaves, now and then a gigabyte or all. */
static struct mm_vrange random_range(struct run *run)
{
    struct t_prng *prng = &run->r->prng;
    const struct window *w = &run->windows[t_prng_below(prng, run->nr_windows)];
    uint64_t pages = w->len / P4K;
    uint64_t first = t_prng_below(prng, pages);
    uint64_t nr = 1 + t_prng_magnitude(prng, 10);
    uint64_t dice = t_prng_below(prng, 400);

    if (dice == 0) {
        return rig_range(w->start, w->len);
    }
    if (dice < 5 && pages >= 0x40000) {
        first = (0 - w->start / P4K) % 0x40000;
        nr = 0x40000;
    } else if (dice < 120) {
        first = first / 512 * 512;
        nr = 512 * (1 + t_prng_below(prng, 3));
    } else if (dice < 130) {
        first = pages - (nr < pages ? nr : pages);
    }
    if (nr > pages - first) {
        nr = pages - first;
    }
    return rig_range(w->start + first * P4K, nr * P4K);
}

/* Congruent to the address at some large size, mostly. */
static uint64_t random_paddr(struct run *run, uint64_t at)
{
    struct t_prng *prng = &run->r->prng;
    uint64_t paddr = RIG_LEAVES * P4K + t_prng_below(prng, 64) * P1G;

    switch (t_prng_below(prng, 4)) {
    case 0:
        return paddr + t_prng_below(prng, 512) * P4K;
    case 1:
        return paddr + at % P2M;
    default:
        return paddr + at % P1G;
    }
}

/* --- operations ------------------------------------------------------------------------------ */

/* After each call: what the library answers is what the model answers, but for a lack of frames,
 * which must be one of the injector's. */
static void agree(struct run *run, struct mm_vrange range, mm_status_t status,
                  enum t_mpages_status expected)
{
    if (status != t_mpages_status_mm(expected)) {
        fail_msg("%s, operation %llu, %#llx + %#llx: status %s, and the model says %s\n"
                 "replay: MM_TEST_SEED=%#llx",
                 run->r->name, (unsigned long long)run->r->operation,
                 (unsigned long long)range.start.raw, (unsigned long long)range.len,
                 mm_status_str(status), mm_status_str(t_mpages_status_mm(expected)),
                 (unsigned long long)t_seed());
    }
}

static bool ran_out(struct run *run, mm_status_t status)
{
    bool out = status == MM_ERR_NO_MEMORY;

    assert_true(out == (run->r->inject.fired != 0));
    run->failed += out ? 1 : 0;
    t_inject_never(&run->r->inject);
    return out;
}

static void op_map(struct run *run, struct mm_vrange range)
{
    static const struct {
        uint32_t flags;
        unsigned largest;
    } sizes[] = {{0, 0}, {0, 0}, {MM_PAGING_MAX_2M, 21}, {MM_PAGING_ONLY_4K, 12}};
    struct rig *r = run->r;
    struct rig_edit e = {.r = r,
                         .what = RIG_MAP,
                         .paddr = random_paddr(run, range.start.raw),
                         .prot = random_prot(run),
                         .type = (mm_memtype_t)t_prng_below(&r->prng, MM_MEMTYPE_COUNT)};
    uint64_t size = t_prng_below(&r->prng, 4);
    mm_status_t status;

    if (size == 3 && range.len > 32 * P2M) {
        size = 0; /* no thousands of tables */
    }
    if (run->adopted && range.start.raw < run->windows[0].start + P2M) {
        size = 3; /* the foreign table stays, and holds 4 KiB leaves only */
    }
    rig_enter(r, run->pt, &e, range);
    status = mm_paging_map(run->pt, range, mm_paddr(e.paddr), e.prot, e.type, sizes[size].flags);
    rig_leave(r, run->pt, status);
    if (!ran_out(run, status)) {
        agree(run, range, status,
              t_mpages_map(&r->model, range.start.raw, e.paddr, range.len, e.prot, (uint16_t)e.type,
                           sizes[size].largest));
    }
}

static void op_unmap(struct run *run, struct mm_vrange range, struct mm_gather *gather)
{
    struct rig *r = run->r;
    struct rig_edit e = {.r = r, .what = RIG_UNMAP};
    uint32_t flags = random_flags(run);
    bool release = range.len <= P2M && t_prng_chance(&r->prng, 1, 2);
    mm_status_t status;

    rig_enter(r, run->pt, &e, range);
    status = mm_paging_unmap(run->pt, range, flags | (release ? MM_PAGING_RELEASE : 0), gather);
    rig_leave(r, run->pt, status);
    if (!ran_out(run, status)) {
        agree(run, range, status,
              t_mpages_unmap(&r->model, range.start.raw, range.len, t_mpages_flags_mm(flags)));
    }
}

static void op_protect(struct run *run, struct mm_vrange range, struct mm_gather *gather)
{
    struct rig *r = run->r;
    struct rig_edit e = {.r = r, .what = RIG_PROTECT, .prot = random_prot(run)};
    uint32_t flags = random_flags(run);
    mm_status_t status;

    rig_enter(r, run->pt, &e, range);
    status = mm_paging_protect(run->pt, range, e.prot, flags, gather);
    rig_leave(r, run->pt, status);
    if (!ran_out(run, status)) {
        agree(run, range, status,
              t_mpages_protect(&r->model, range.start.raw, range.len, e.prot,
                               t_mpages_flags_mm(flags)));
    }
}

static void op_replace(struct run *run, struct mm_vrange range, struct mm_gather *gather)
{
    struct rig *r = run->r;
    uint64_t at = range.start.raw;
    struct rig_edit e = {
        .r = r, .what = RIG_REPLACE, .paddr = random_paddr(run, at), .prot = random_prot(run)};
    const struct t_mpage *page = t_mpages_at(&r->model, at);
    uint16_t type = page != NULL ? page->type : 0;
    mm_status_t status;

    rig_enter(r, run->pt, &e, rig_range(at, P4K));
    status = mm_paging_replace(run->pt, mm_vaddr(at), mm_paddr(e.paddr), e.prot, 0, gather);
    rig_leave(r, run->pt, status);
    t_inject_never(&r->inject);
    agree(run, range, status,
          page == NULL       ? T_MPAGES_NOT_MAPPED
          : page->leaf != 12 ? T_MPAGES_HUGE
                             : T_MPAGES_OK);
    if (status == MM_OK) {
        assert_int_equal(t_mpages_unmap(&r->model, at, P4K, 0), T_MPAGES_OK);
        assert_int_equal(t_mpages_map(&r->model, at, e.paddr, P4K, e.prot, type, 12), T_MPAGES_OK);
    }
}

/* --- clone: of all windows, into a root that is new ------------------------------------------- */

static mm_status_t clone_window(struct run *run, struct mm_pagetable *copy, const struct window *w,
                                struct mm_gather *gather)
{
    struct rig *r = run->r;
    struct mm_vrange range = rig_range(w->start, w->len);
    struct rig_edit narrow = {.r = r, .what = RIG_NARROW};
    struct rig_edit fill = {.r = r, .what = RIG_COPY};
    struct t_watch_edit edits[2] = {rig_allow(&narrow, run->pt, range),
                                    rig_allow(&fill, copy, range)};
    mm_status_t status;

    t_watch_begin(r->watch, edits, 2);
    rig_watch(r, true);
    status = mm_paging_clone(run->pt, copy, range, NULL, NULL, gather);
    rig_leave(r, run->pt, status);
    if (status == MM_OK) {
        rig_seen(r, copy, true); /* dirty, which is set while writing is still allowed */
    }
    return status;
}

static void narrow_model(struct run *run, const struct window *w)
{
    for (uint64_t i = 0; i < w->len / P4K; i++) {
        rig_narrow_model(run->r, w->start + i * P4K);
    }
}

static void op_clone(struct run *run, struct mm_gather *gather)
{
    struct rig *r = run->r;
    struct mm_pagetable copy = {0};
    uint64_t cr3 = r->cr3;
    mm_status_t status = rig_init_user(r, &copy);

    if (ran_out(run, status)) {
        return;
    }
    if (t_prng_chance(&r->prng, 1, 2)) {
        rig_activate(r, &copy);
    }
    if (t_prng_chance(&r->prng, 1, 4)) {
        t_inject_nth(&r->inject, 1 + t_prng_below(&r->prng, 8));
    }
    for (unsigned i = 0; i < run->nr_windows && status == MM_OK; i++) {
        status = clone_window(run, &copy, &run->windows[i], gather);
        if (!ran_out(run, status)) {
            assert_int_equal(status, MM_OK);
            narrow_model(run, &run->windows[i]);
        }
    }
    rig_gather_end(r, gather);
    assert_int_equal(mm_paging_check(&copy), MM_OK);
    rig_write_cr(r, 3, cr3);
    rig_destroy(r, &copy);
}

/* --- the stream ------------------------------------------------------------------------------- */

/* Unmap whatever is in a range. */
static void clear(struct run *run, struct mm_vrange range)
{
    struct rig *r = run->r;
    struct rig_edit e = {.r = r, .what = RIG_UNMAP};
    struct mm_gather gather;

    assert_int_equal(mm_gather_begin(&gather, run->pt), MM_OK);
    rig_enter(r, run->pt, &e, range);
    assert_int_equal(
        mm_paging_unmap(run->pt, range, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES, &gather), MM_OK);
    rig_leave(r, run->pt, MM_OK);
    rig_gather_end(r, &gather);
    assert_int_equal(
        t_mpages_unmap(&r->model, range.start.raw, range.len, T_MPAGES_SPLIT | T_MPAGES_HOLES),
        T_MPAGES_OK);
}

static void one_operation(struct run *run, struct mm_gather *gather)
{
    struct rig *r = run->r;
    struct mm_vrange range = random_range(run);

    if (gather->nr_ranges == 0 && t_prng_chance(&r->prng, 1, 4)) {
        clear(run, range); /* or nothing large would ever fit */
    }
    if (t_prng_chance(&r->prng, 1, 10)) {
        t_inject_from(&r->inject, 1 + t_prng_below(&r->prng, 6));
    }
    switch (t_prng_below(&r->prng, 20)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
        if (gather->nr_ranges == 0) { /* what was unmapped is not flushed before */
            op_map(run, range);
        }
        break;
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
    case 13:
        op_unmap(run, range, gather);
        break;
    case 14:
    case 15:
    case 16:
    case 17:
        op_protect(run, range, gather);
        break;
    case 18:
        op_replace(run, range, gather);
        break;
    default:
        if (run->user && t_prng_chance(&r->prng, 1, 20)) {
            op_clone(run, gather);
        }
        break;
    }
    t_inject_never(&r->inject);
}

/* Everything in the model and in the tables, walked by the watcher. */
static void compare_all(struct run *run)
{
    struct rig *r = run->r;

    t_watch_audit(r->watch);
    rig_ok(r, "in the audit");
    assert_int_equal(mm_paging_check(run->pt), MM_OK);
    for (unsigned i = 0; i < run->nr_windows; i++) {
        for (uint64_t n = 0; n < run->windows[i].len; n += P4K) {
            uint64_t at = run->windows[i].start + n;
            const struct t_mpage *p = t_mpages_at(&r->model, at);
            struct t_watch_page is = t_watch_walk(r->watch, run->pt->root.raw / 4096, at);
            struct t_watch_page must = rig_page(p != NULL ? p->paddr : 0, p != NULL ? p->prot : 0,
                                                p != NULL ? p->type : 0);

            if (is.present != must.present ||
                (is.present && (is.paddr != must.paddr || is.rights != must.rights ||
                                is.type != must.type || is.shift != p->leaf))) {
                fail_msg("%s, operation %llu: %#llx is not as in the model", r->name,
                         (unsigned long long)r->operation, (unsigned long long)at);
            }
        }
    }
}

static void unmap_all(struct run *run)
{
    for (unsigned i = 0; i < run->nr_windows; i++) {
        clear(run, rig_range(run->windows[i].start, run->windows[i].len));
    }
}

static void operate(struct run *run, unsigned nr)
{
    struct rig *r = run->r;
    bool active = true;

    while (r->operation < nr) {
        unsigned calls = t_prng_chance(&r->prng, 1, 4) ? 3 : 1;
        struct mm_gather gather;

        assert_int_equal(mm_gather_begin(&gather, run->pt), MM_OK);
        for (; calls > 0; calls--) {
            r->operation++;
            one_operation(run, &gather);
        }
        rig_gather_end(r, &gather);
        if (t_prng_chance(&r->prng, 1, 3000)) {
            compare_all(run);
        }
        if (run->user && t_prng_chance(&r->prng, 1, 500)) {
            /* Between in use and not: both variants of access to entries. */
            active = !active;
            rig_activate(r, active ? run->pt : &r->kernel);
            run->pt->active = active ? 1 : 0;
            t_watch_live(r->watch, run->pt->root.raw / 4096, active);
        }
        if (!run->user && t_prng_chance(&r->prng, 1, 200)) {
            /* The kernel's half is seen through either root. */
            rig_activate(r, t_prng_chance(&r->prng, 1, 2) ? &r->user : &r->kernel);
        }
        if (t_prng_chance(&r->prng, 1, 500)) {
            unmap_all(run);
        }
    }
    compare_all(run);
    assert_true(run->failed > 0);
    unmap_all(run);
    rig_totals(r);
}

static void add_window(struct run *run, uint64_t start, uint64_t len)
{
    t_mpages_add_window(&run->r->model, start, len);
    run->windows[run->nr_windows++] = (struct window){start, len};
}

static void add_windows(struct run *run)
{
    uint64_t half = rig_half(run->r);

    if (run->user) { /* a corner, around 1 GiB, across entries of the root, the top of the half */
        add_window(run, 0, 8 * P2M);
        add_window(run, 3 * P1G - 2 * P2M, P1G + 4 * P2M);
        add_window(run, (half >> 1) - 4 * P2M, 8 * P2M);
        add_window(run, half - 4 * P2M, 4 * P2M);
    } else {
        add_window(run, -half, 8 * P2M);
        add_window(run, -half + 7 * P1G - 2 * P2M, P1G + 4 * P2M);
        add_window(run, RIG_KERNEL_TOP, 4 * P2M);
        add_window(run, 0 - 8 * P2M, 8 * P2M);
    }
}

static unsigned share(unsigned part)
{
    return NR_OPERATIONS / part * (getenv("MM_TEST_FULL") != NULL ? 10 : 1);
}

static void run_random(const char *name, bool user, bool la57, bool page_1g)
{
    struct run run = {.r = rig_new(name, la57, page_1g, page_1g), .user = user};

    if (user == la57) { /* half of the streams */
        rig_use_ops(run.r);
    }
    rig_start(run.r);
    run.pt = user ? &run.r->user : &run.r->kernel;
    add_windows(&run);
    rig_activate(run.r, run.pt);
    operate(&run, share(5));
    rig_delete(run.r, 0);
}

static void test_user_48(void **state)
{
    (void)state;
    run_random("user 48", true, false, true);
}

static void test_user_57(void **state)
{
    (void)state;
    run_random("user 57", true, true, false);
}

static void test_kernel_48(void **state)
{
    (void)state;
    run_random("kernel 48", false, false, false);
}

static void test_kernel_57(void **state)
{
    (void)state;
    run_random("kernel 57", false, true, true);
}

/* --- an adopted root -------------------------------------------------------------------------- */

static uint32_t foreign_table(struct rig *r)
{
    uint32_t frame = r->stack[--r->nr_stack];

    memset(rig_table(r, frame), 0, 4096);
    return frame;
}

/* What a boot loader may have left: 2 MiB as 4 KiB leaves, and 2 MiB in one, at the first window.
 * One entry carries the bit that the library marks its own tables with. */
static uint32_t foreign_root(struct rig *r)
{
    uint32_t frames[4];
    uint64_t paddr = RIG_LEAVES * P4K;

    for (unsigned i = 0; i < 4; i++) {
        frames[i] = foreign_table(r);
    }
    rig_table(r, frames[0])[256] = frames[1] * P4K | 0x23;
    rig_table(r, frames[1])[0] = frames[2] * P4K | 0x223;
    rig_table(r, frames[2])[0] = frames[3] * P4K | 0x27;
    rig_table(r, frames[2])[1] = (paddr + P2M) | 0xe3;
    for (unsigned i = 0; i < 512; i++) {
        rig_table(r, frames[3])[i] = (paddr + i * P4K) | 0x63;
    }
    for (unsigned i = 0; i < 4; i++) {
        t_watch_foreign(r->watch, frames[i]);
    }
    t_watch_root(r->watch, frames[0], frames[0], false);
    return frames[0];
}

static void test_adopted(void **state)
{
    struct run run = {.r = rig_new("adopted", false, true, true), .adopted = true};
    struct rig *r = run.r;
    struct mm_vrange ranges[2];
    struct mm_paging_config config = rig_config(r, ranges);
    uint32_t root = foreign_root(r);
    mm_prot_t all = MM_PROT_RW | MM_PROT_EXEC;

    (void)state;
    rig_write_cr(r, 3, root * P4K);
    for (uint64_t n = 1;; n++) { /* out of frames at each point, then not at all */
        mm_status_t status;

        t_inject_nth(&r->inject, n);
        t_watch_begin(r->watch, NULL, 0);
        rig_watch(r, true);
        status = mm_paging_adopt(&r->kernel, &config, mm_paddr(root * P4K));
        rig_watch(r, false);
        t_watch_end(r->watch, status != MM_OK);
        rig_ok(r, "in adopt");
        if (status == MM_OK) {
            break;
        }
        assert_int_equal(status, MM_ERR_NO_MEMORY);
    }
    t_inject_never(&r->inject);
    run.pt = &r->kernel;
    add_windows(&run);
    assert_int_equal(
        t_mpages_map(&r->model, run.windows[0].start, RIG_LEAVES * P4K, P2M, all, 0, 12),
        T_MPAGES_OK);
    assert_int_equal(t_mpages_map(&r->model, run.windows[0].start + P2M, RIG_LEAVES * P4K + P2M,
                                  P2M, all, 0, 21),
                     T_MPAGES_OK);
    assert_int_equal(rig_init_user(r, &r->user), MM_OK);
    operate(&run, share(5));
    rig_delete(r, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_user_48),   cmocka_unit_test(test_user_57),
        cmocka_unit_test(test_kernel_48), cmocka_unit_test(test_kernel_57),
        cmocka_unit_test(test_adopted),
    };

    return cmocka_run_group_tests_name("paging_engine_random", tests, NULL, NULL);
}
