// SPDX-License-Identifier: MIT
/**
 * A use at each moment of a call that tells what was used, or changes leaves that go on: before every single access of the
 * library to the tables, and before all of them, another CPU writes to a page of the range or reads
 * it, by all that it has cached. What it was let do, the call has told, or the leaf still says.
 * Hazard 15.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "events.h"
#include "t_paging.h"

#define AT    (64 * P1G)
#define PAGE  (AT + 77 * P4K) /* the one that is used */
#define PADDR (5 * P1G)       /* the source counts it as a leaf's */
#define EACH  0u              /* as the access: all of them */

enum operation {
    TAKE_TABLE,
    TAKE_PART,
    TAKE_LARGE,
    TAKE_SPLIT,
    TAKE_BESIDE,
    TAKE_RELEASE,
    HARVEST_DIRTY,
    HARVEST_ACCESSED,
    HARVEST_BOTH,
    HARVEST_LARGE,
    PROTECT,
    LABEL,
    CLONE,
    NR_OPERATIONS
};

enum use {
    WRITE,       /* the way to the table is cached, the page is not */
    WRITE_CLEAN, /* through an entry of the TLB that was loaded by a read */
    READ,
    NR_USES
};

struct user {
    struct t_paging *m;
    enum use use;
    uint64_t nr;  /* accesses of the library so far */
    uint64_t nth; /* the one before which the CPU uses the page */
    bool used;
    bool refused;
    /* What the call told of the page. */
    unsigned nr_told;
    bool accessed;
    bool dirty;
};

static void before(void *ctx, const struct t_event *event)
{
    struct user *u = ctx;

    (void)event;
    if (++u->nr == u->nth || u->nth == EACH) {
        uint32_t answer =
            t_cpu_access(&u->m->cpus.cpu[1], PAGE,
                         T_MMU_USER | (u->use == READ ? 0u : (unsigned)T_MMU_WRITE), NULL);

        u->used |= answer == T_CPU_DONE;
        u->refused |= answer != T_CPU_DONE;
    }
}

static void taken(void *ctx, const struct mm_mapping *was)
{
    struct user *u = ctx;

    if (PAGE - was->page.start.raw < was->page.len) {
        u->nr_told++;
        u->accessed = was->accessed;
        u->dirty = was->dirty;
        assert_int_equal(was->paddr.raw, PADDR + (was->page.start.raw - AT));
    }
}

static bool harvested(void *ctx, const struct mm_mapping *was)
{
    taken(ctx, was);
    return true;
}

static bool is_large(enum operation what)
{
    return what == TAKE_LARGE || what == TAKE_SPLIT || what == TAKE_BESIDE || what == HARVEST_LARGE;
}

static mm_status_t clone_all(struct user *u, struct mm_gather *gather)
{
    struct mm_pagetable copy = {0};
    mm_status_t status = mm_paging_init_user(&copy, &u->m->kernel);

    if (status == MM_OK) {
        status = mm_paging_clone(&u->m->user, &copy, t_range(AT, P2M), NULL, NULL, gather);
        assert_int_equal(mm_paging_destroy(&copy), MM_OK);
    }
    return status;
}

static mm_status_t operate(struct user *u, enum operation what, struct mm_gather *gather)
{
    struct mm_pagetable *pt = &u->m->user;
    struct mm_vrange all = t_range(AT, P2M);

    switch (what) {
    case TAKE_TABLE:
    case TAKE_LARGE:
        return mm_paging_take(pt, all, 0, taken, u, gather);
    case TAKE_PART:
        return mm_paging_take(pt, t_range(PAGE - P4K, 3 * P4K), 0, taken, u, gather);
    case TAKE_SPLIT:
        return mm_paging_take(pt, t_range(PAGE, P4K), MM_PAGING_SPLIT, taken, u, gather);
    case TAKE_BESIDE:
        return mm_paging_take(pt, t_range(PAGE + P4K, P4K), MM_PAGING_SPLIT, taken, u, gather);
    case TAKE_RELEASE:
        return mm_paging_take(pt, all, MM_PAGING_RELEASE | MM_PAGING_SKIP_HOLES, taken, u, gather);
    case HARVEST_DIRTY:
        return mm_paging_harvest(pt, all, MM_PAGING_DIRTY, harvested, u, gather);
    case HARVEST_ACCESSED:
        return mm_paging_harvest(pt, all, MM_PAGING_ACCESSED, harvested, u, gather);
    case PROTECT:
        return mm_paging_protect(pt, all, MM_PROT_READ | MM_PROT_USER, 0, gather);
    case LABEL:
        return mm_paging_set_software(pt, all, 2, 0, 0);
    case CLONE:
        return clone_all(u, gather);
    case HARVEST_BOTH:
    case HARVEST_LARGE:
    case NR_OPERATIONS:
        break;
    }
    return mm_paging_harvest(pt, all, MM_PAGING_ACCESSED | MM_PAGING_DIRTY, harvested, u, gather);
}

/* What the page was used for is told by now, or by its leaf. */
static void judge(const struct user *u, enum operation what)
{
    struct mm_mapping leaf;
    bool there = mm_paging_translate(&u->m->user, mm_vaddr(PAGE), &leaf) == MM_OK;
    bool accessed = u->accessed || (there && leaf.accessed);
    bool dirty = u->dirty || (there && leaf.dirty);

    assert_int_equal(there, what == TAKE_BESIDE || what >= HARVEST_DIRTY);
    assert_int_equal(u->nr_told, what == TAKE_BESIDE || what >= PROTECT ? 0 : 1);
    if (u->used && (!accessed || (u->use != READ && !dirty))) {
        fail_msg("operation %u, use %u: what was done before access %llu is forgotten",
                 (unsigned)what, (unsigned)u->use, (unsigned long long)u->nth);
    }
    if (u->use == READ) {
        assert_false(dirty);
    }
}

/* Once with the use before access `nth`; false: there are fewer. */
static bool once(struct user *u, enum operation what, uint64_t nth)
{
    static const struct t_events_hooks hooks = {.before = before};
    struct t_paging *m = u->m;
    struct mm_gather gather;

    assert_int_equal(mm_paging_map(&m->user, t_range(AT, P2M), mm_paddr(PADDR), T_URW,
                                   MM_MEMTYPE_WB, is_large(what) ? 0 : MM_PAGING_ONLY_4K),
                     MM_OK);
    assert_int_equal(
        t_cpu_access(&m->cpus.cpu[1], u->use == WRITE_CLEAN ? PAGE : AT, T_MMU_USER, NULL),
        T_CPU_DONE);
    if (!is_large(what)) {
        /* In its neighbour the hardware will set nothing more. */
        assert_int_equal(t_cpu_access(&m->cpus.cpu[1], PAGE - P4K, T_MMU_USER | T_MMU_WRITE, NULL),
                         T_CPU_DONE);
    }
    u->nth = nth;
    u->nr = 0;
    u->nr_told = 0;
    u->used = u->refused = u->accessed = u->dirty = false;
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    t_events_watch(&hooks, u);
    t_events_only((uintptr_t)t_table(m, 0), T_TABLES * UINT64_C(4096));
    assert_int_equal(operate(u, what, &gather), MM_OK);
    mm_gather_end(&gather);
    t_events_watch(NULL, NULL);
    judge(u, what);
    t_nothing_stale(m);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    assert_int_equal(t_unmap(&m->user, AT, P2M, MM_PAGING_SKIP_HOLES), MM_OK);
    return u->nr >= nth;
}

static void test_a_use_at_each_moment(void **state)
{
    struct t_paging *m = t_paging_new_cpus(2);

    (void)state;
    t_paging_start(m);
    for (m->cpus.now = 2; m->cpus.now-- > 0;) {
        assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    }
    m->cpus.now = 0;
    for (unsigned i = 0; i < NR_OPERATIONS * NR_USES; i++) {
        enum operation what = (enum operation)(i / NR_USES);
        struct user u = {.m = m, .use = (enum use)(i % NR_USES)};
        unsigned nr_used = 0;
        unsigned nr_refused = 0;

        assert_true(once(&u, what, EACH) && u.used);
        for (uint64_t nth = 1; once(&u, what, nth); nth++) {
            nr_used += u.used ? 1 : 0;
            nr_refused += u.refused ? 1 : 0;
        }
        assert_true(nr_used > 3);
        /* A read through the entry of a large leaf goes on until the flush. */
        if (!is_large(what) || u.use != READ) {
            assert_int_equal(nr_refused > 0,
                             (what < HARVEST_DIRTY && what != TAKE_BESIDE) ||
                                 (u.use != READ && (what == PROTECT || what == CLONE)));
        }
    }
    t_paging_delete(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_use_at_each_moment),
    };

    return cmocka_run_group_tests_name("paging used", tests, NULL, NULL);
}
