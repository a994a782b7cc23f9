// SPDX-License-Identifier: MIT
/**
 * Bad input to page tables as a product (paging_product.h): every call, every size of page, every
 * state of the range, in user and kernel roots that the hardware may walk or not. With good
 * arguments the answer is what the state asks for; with one thing wrong, what the contract lists;
 * with two, one of both. Whatever is refused has changed nothing: all tables and objects are byte
 * for byte as before, every frame is where it was, nothing was flushed. Hazards 7, 8, 16, 17.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "paging_product.h"

#define USER_BASE   (4 * P1G)
#define KERNEL_BASE (T_KERNEL_LOW + 2 * P1G)
#define PADDR       (16 * P1G)

/* --- the world -------------------------------------------------------------------------------- */

struct place {
    struct mm_pagetable *pt;
    uint64_t base;
    mm_prot_t always;
};

static struct product the_product;

static int setup(void **state)
{
    struct product *p = &the_product;

    memset(p, 0, sizeof(*p));
    p->m = t_paging_new();
    t_paging_start(p->m);
    assert_int_equal(mm_paging_init_user(&p->copy, &p->m->kernel), MM_OK);
    assert_int_equal(mm_gather_begin(&p->user, &p->m->user), MM_OK);
    assert_int_equal(mm_gather_begin(&p->kernel, &p->m->kernel), MM_OK);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct product *p = *state;

    assert_int_equal(mm_paging_destroy(&p->copy), MM_OK);
    t_paging_delete(p->m);
    return 0;
}

static struct place place_of(struct product *p, bool user)
{
    return (struct place){user ? &p->m->user : &p->m->kernel, user ? USER_BASE : KERNEL_BASE,
                          user ? MM_PROT_USER : 0};
}

static uint64_t state_of(const struct product *p)
{
    const struct t_cpu *cpu = p->m->cpu;
    uint64_t hash = t_state(p->m, &p->user);

    hash = t_hash_more(hash, &p->kernel, sizeof(p->kernel));
    hash = t_hash_more(hash, &p->copy, sizeof(p->copy));
    return t_hash_u64(hash, cpu->nr_invlpg + cpu->nr_invpcid + cpu->nr_cr3 + cpu->nr_cr4);
}

static void exchange(const struct place *at, uint64_t off, uint64_t len, struct mm_slot now)
{
    struct mm_gather gather;
    struct mm_slot seen;

    assert_int_equal(mm_gather_begin(&gather, at->pt), MM_OK);
    assert_int_equal(mm_paging_slot_get(at->pt, mm_vaddr(at->base + off), &seen), MM_OK);
    assert_int_equal(
        mm_paging_slot_cas(at->pt, mm_vaddr(at->base + off), len, &seen, &now, &gather), MM_OK);
    mm_gather_end(&gather);
}

static void build_leaves(const struct place *at, const struct run_of_slots *r)
{
    uint32_t flags = r->slot == P4K ? MM_PAGING_ONLY_4K : r->slot == P2M ? MM_PAGING_MAX_2M : 0;
    mm_prot_t prot = r->kind == RUN_FORBIDDEN ? MM_PROT_NONE : (mm_prot_t)MM_PROT_RW;

    assert_int_equal(mm_paging_map(at->pt, t_range(at->base + r->off, r->len),
                                   mm_paddr(PADDR + r->off), at->always | prot, MM_MEMTYPE_WB,
                                   flags),
                     MM_OK);
}

static void build(const struct place *at, const struct range_state *state)
{
    for (unsigned i = 0; i < state->nr; i++) {
        const struct run_of_slots *r = &state->runs[i];

        if (r->kind == RUN_LEAVES || r->kind == RUN_FORBIDDEN) {
            build_leaves(at, r);
            continue;
        }
        for (uint64_t off = r->off; off < r->off + r->len; off += r->slot) {
            exchange(at, off, r->slot, mm_slot_soft(2, off / P4K));
            if (r->kind == RUN_NOTHING) {
                exchange(at, off, r->slot, mm_slot_empty());
            }
        }
    }
}

/* Nothing at the place, and nothing in any gather. */
static void clear(struct product *p, const struct place *at)
{
    mm_gather_end(&p->user);
    mm_gather_end(&p->kernel);
    assert_int_equal(t_unmap(at->pt, at->base, 4 * P1G, MM_PAGING_SKIP_HOLES), MM_OK);
    if (at->pt->is_user != 0) {
        assert_int_equal(t_unmap(&p->copy, at->base, 4 * P1G, MM_PAGING_SKIP_HOLES), MM_OK);
    }
}

static struct arguments good(struct product *p, const struct place *at, uint64_t off, uint64_t len)
{
    return (struct arguments){
        .pt = at->pt,
        .at = at->base + off,
        .len = len,
        .slot = len,
        .payload = 5,
        .kind = MM_SLOT_LEAF,
        .soft_kind = 3,
        .software = 1,
        .clear = 2,
        .paddr = PADDR + off,
        .prot = MM_PROT_RW | at->always,
        .type = MM_MEMTYPE_WB,
        .gather = at->pt->is_user != 0 ? &p->user : &p->kernel,
        .to = &p->copy,
    };
}

/* --- good arguments, any state ---------------------------------------------------------------- */

/* What the slot asks for that one call is about, of `len` bytes. */
static mm_status_t wanted_of_slot(const struct call *call, const struct range_state *state,
                                  uint64_t off, uint64_t len)
{
    uint64_t slot = state_slot(state, off, true);

    if (len != P4K && len != P2M && len != P1G) {
        return MM_ERR_INVALID_SIZE;
    }
    if (off % len != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if ((call->takes & TAKES_SIZE) != 0) {
        return state_mapped(state, off, len, true) != 0 ? MM_ERR_ALREADY_MAPPED : MM_OK;
    }
    return slot > len                     ? MM_ERR_HUGE_PAGE
           : state_table(state, off, len) ? MM_ERR_ALREADY_MAPPED
                                          : MM_OK;
}

/* What the slot at a cursor asks for, whole in `len` bytes or not. */
static mm_status_t wanted_at_cursor(const struct call *call, const struct range_state *state,
                                    uint64_t off, uint64_t len)
{
    uint64_t slot = state_slot(state, off, true);

    if (slot == 0) {
        return MM_ERR_NOT_MAPPED;
    }
    if (off % slot != 0 || slot > len) {
        return MM_ERR_HUGE_PAGE;
    }
    return call->invoke == call_cursor_protect && state_slot(state, off, false) == 0
               ? MM_ERR_NOT_MAPPED
               : MM_OK;
}

/* What the state of the range asks for, in the order of the contracts. */
static mm_status_t wanted(const struct call *call, const struct range_state *state, uint64_t off,
                          uint64_t len, uint32_t flags)
{
    bool soft = call->invoke == call_map || call->invoke == call_guard ||
                call->invoke == call_unmap || call->invoke == call_take ||
                call->invoke == call_clone || call->invoke == call_cursor_next;
    uint64_t mapped = state_mapped(state, off, len, soft);
    uint64_t leaf = state_slot(state, off, false);

    if ((call->takes & NEVER_FAILS) != 0) {
        return MM_OK;
    }
    if ((call->takes & (TAKES_SLOT | TAKES_SIZE)) != 0) {
        return wanted_of_slot(call, state, off, len);
    }
    if (call->invoke == call_map || call->invoke == call_guard) {
        return mapped != 0 ? MM_ERR_ALREADY_MAPPED : MM_OK;
    }
    if (call->invoke == call_cursor_unmap || call->invoke == call_cursor_protect) {
        return wanted_at_cursor(call, state, off, len);
    }
    if (call->invoke == call_cursor_next) {
        return mapped == 0 ? MM_ERR_NOT_MAPPED : MM_OK;
    }
    if ((call->takes & LOOKS) != 0) {
        return leaf == 0 ? MM_ERR_NOT_MAPPED : MM_OK;
    }
    if (call->invoke == call_replace) {
        return leaf == 0 ? MM_ERR_NOT_MAPPED : leaf != P4K ? MM_ERR_HUGE_PAGE : MM_OK;
    }
    if ((call->takes & LEAVES_HOLES) == 0 && (flags & MM_PAGING_SKIP_HOLES) == 0 && mapped != len) {
        return MM_ERR_NOT_MAPPED;
    }
    return (flags & MM_PAGING_SPLIT) == 0 &&
                   (state_cuts(state, off, soft) || state_cuts(state, off + len, soft))
               ? MM_ERR_HUGE_PAGE
               : MM_OK;
}

static void say(const struct call *call, const struct range_state *state, const struct arguments *a)
{
    print_error("%s of %#llx, %#llx bytes, frame %#llx, prot %#x, type %u, flags %#x; %s; ",
                call->name, (unsigned long long)a->at, (unsigned long long)a->len,
                (unsigned long long)a->paddr, a->prot, a->type, a->flags, state->name);
}

/* One call: the status, and nothing else if it fails. */
static mm_status_t make(struct product *p, const struct call *call, const struct range_state *state,
                        const struct arguments *a, const char *what, mm_status_t one,
                        mm_status_t other)
{
    uint64_t before = state_of(p);
    uint64_t nr_used = p->m->nr_used;
    mm_status_t status = call->invoke(a);

    p->nr_calls++;
    if (status != one && status != other) {
        say(call, state, a);
        fail_msg("%s: %s, and not %s", what, mm_status_str(status), mm_status_str(one));
    }
    if (status != MM_OK) {
        p->nr_refused++;
        if (before != state_of(p) || nr_used != p->m->nr_used) {
            say(call, state, a);
            fail_msg("%s: %s, and something has changed", what, mm_status_str(status));
        }
    }
    return status;
}

/* Whether the call did what it does is for other tests; here, that all is sound. */
static void settle(struct product *p, const struct place *at, const struct range_state *state)
{
    assert_int_equal(mm_paging_check(at->pt), MM_OK);
    clear(p, at);
    build(at, state);
}

static void good_arguments(struct product *p, const struct place *at, const struct call *call,
                           const struct range_state *state)
{
    static const uint64_t sizes[] = {P4K, P2M, P1G};
    static const uint64_t flags[] = {0, MM_PAGING_SPLIT, MM_PAGING_SKIP_HOLES,
                                     MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES};
    bool edits = (call->takes & (TAKES_FLAGS | NEVER_FAILS)) == TAKES_FLAGS;

    for (unsigned i = 0; i < 3 * 4 * 3 * 4; i++) {
        uint64_t size = sizes[i % 3];
        const uint64_t offs[] = {0, P4K, P2M, size};
        const uint64_t lens[] = {size, 2 * size, size - P4K};
        uint64_t off = offs[i / 3 % 4];
        uint64_t len = lens[i / 12 % 3];
        struct arguments a = good(p, at, off, len);

        a.flags = (uint32_t)flags[i / 36];
        if (len == 0 || (!edits && a.flags != 0) || (a.flags & ~call->flags) != 0) {
            continue;
        }
        if (make(p, call, state, &a, "good arguments", wanted(call, state, off, len, a.flags),
                 wanted(call, state, off, len, a.flags)) == MM_OK) {
            settle(p, at, state);
        }
    }
}

/* --- bad arguments ---------------------------------------------------------------------------- */

static void one_fault(struct product *p, const struct place *at, const struct call *call,
                      const struct range_state *state)
{
    static const uint64_t sizes[] = {P4K, P2M, P1G};

    for (unsigned i = 0; i < 3 * NR_FAULTS; i++) {
        struct arguments a = good(p, at, 0, sizes[i % 3]);
        const char *name = "";
        mm_status_t status = fault_apply(p, call, i / 3, &a, &name);

        if (status != MM_OK) {
            (void)make(p, call, state, &a, name, status, status);
        }
    }
}

/* Of two things that are wrong either may be found first. */
static void two_faults(struct product *p, const struct place *at, const struct call *call,
                       const struct range_state *state)
{
    for (unsigned i = 0; i < NR_FAULTS; i++) {
        for (unsigned j = i + 1; j < NR_FAULTS; j++) {
            struct arguments a = good(p, at, 0, P2M);
            const char *name[2] = {"", ""};
            mm_status_t status[2];
            char both[96];

            if (j < NR_LISTED && faults[i].field == faults[j].field) {
                continue;
            }
            status[0] = fault_apply(p, call, i, &a, &name[0]);
            status[1] = fault_apply(p, call, j, &a, &name[1]);
            if (status[0] != MM_OK && status[1] != MM_OK) {
                (void)snprintf(both, sizeof(both), "%s; %s", name[0], name[1]);
                (void)make(p, call, state, &a, both, status[0], status[1]);
            }
        }
    }
}

/* A memory type that the CPU has not, over any state. */
static void no_such_type(struct product *p, const struct place *at, const struct call *call,
                         const struct range_state *state)
{
    struct arguments a = good(p, at, P1G, P2M);

    if ((call->takes & TAKES_TYPE) == 0) {
        return;
    }
    p->m->arch.enabled.pat = false;
    a.type = MM_MEMTYPE_WC;
    (void)make(p, call, state, &a, "no PAT", MM_ERR_UNSUPPORTED, MM_ERR_UNSUPPORTED);
    a.type = MM_MEMTYPE_WP;
    (void)make(p, call, state, &a, "no PAT", MM_ERR_UNSUPPORTED, MM_ERR_UNSUPPORTED);
    p->m->arch.enabled.pat = true;
}

/* Nor a protection key. */
static void no_such_key(struct product *p, const struct place *at, const struct call *call,
                        const struct range_state *state)
{
    struct arguments a = good(p, at, P1G, P2M);

    if ((call->takes & TAKES_KEY) == 0) {
        return;
    }
    p->m->arch.features.pku = false;
    a.key = 15;
    (void)make(p, call, state, &a, "no keys", MM_ERR_UNSUPPORTED, MM_ERR_UNSUPPORTED);
    p->m->arch.features.pku = true;
}

/* --- all of it -------------------------------------------------------------------------------- */

static void every_state(struct product *p, bool user)
{
    struct place at = place_of(p, user);

    for (unsigned s = 0; s < NR_STATES; s++) {
        build(&at, &range_states[s]);
        for (unsigned c = 0; c < NR_CALLS; c++) {
            if ((calls[c].takes & ONLY_USER) != 0 && !user) {
                continue;
            }
            one_fault(p, &at, &calls[c], &range_states[s]);
            no_such_type(p, &at, &calls[c], &range_states[s]);
            no_such_key(p, &at, &calls[c], &range_states[s]);
            if (s == 0 || s + 1 == NR_STATES) {
                two_faults(p, &at, &calls[c], &range_states[s]);
            }
            good_arguments(p, &at, &calls[c], &range_states[s]);
        }
        clear(p, &at);
    }
}

static void done(const struct product *p, const char *what)
{
    print_message("bad input, %s: %llu calls, %llu refused\n", what,
                  (unsigned long long)p->nr_calls, (unsigned long long)p->nr_refused);
    assert_true(p->nr_refused > 2000 && p->nr_refused < p->nr_calls);
}

static void test_user(void **state)
{
    every_state(*state, true);
    done(*state, "a user root");
}

static void test_user_in_use(void **state)
{
    struct product *p = *state;

    assert_int_equal(mm_paging_activate(&p->m->user), MM_OK);
    every_state(p, true);
    assert_int_equal(mm_paging_activate(&p->m->kernel), MM_OK);
    done(p, "a user root in use");
}

static void test_kernel(void **state)
{
    every_state(*state, false);
    done(*state, "the kernel's root");
}

/* Looking changes nothing, whatever the address: only those that are not canonical are refused. */
static bool see(void *ctx, const struct mm_mapping *mapping)
{
    (void)mapping;
    ++*(uint64_t *)ctx;
    return true;
}

static void test_looking(void **state)
{
    static const uint64_t odd[] = {0,
                                   1,
                                   P4K - 1,
                                   P4K,
                                   P4K + 1,
                                   USER_BASE,
                                   USER_BASE + P2M - 1,
                                   USER_BASE + P1G,
                                   HALF - 1,
                                   HALF,
                                   HALF + 1,
                                   (UINT64_C(1) << 56) - 1,
                                   UINT64_C(1) << 56,
                                   (UINT64_C(1) << 56) + 1,
                                   T_KERNEL_LOW - 1,
                                   T_KERNEL_LOW,
                                   UINT64_MAX - P4K + 1,
                                   UINT64_MAX - 1,
                                   UINT64_MAX};
    const unsigned nr = sizeof(odd) / sizeof(odd[0]);
    struct product *p = *state;
    struct place at = place_of(p, true);

    for (unsigned i = 0; i < NR_STATES * nr * nr; i++) {
        uint64_t start = odd[i % nr];
        uint64_t len = odd[i / nr % nr];
        bool canonical = start < HALF || start >= T_KERNEL_LOW;
        bool whole = canonical && len != 0 && start + (len - 1) >= start &&
                     (start >= T_KERNEL_LOW || len <= HALF - start);
        uint64_t before;
        struct mm_paging_cursor cursor;
        struct mm_mapping out;
        struct mm_slot slot;
        uint64_t nr_seen = 0;
        mm_status_t status;

        if (i % (nr * nr) == 0) {
            clear(p, &at);
            build(&at, &range_states[i / (nr * nr)]);
        }
        before = state_of(p);
        status = mm_paging_translate(at.pt, mm_vaddr(start), &out);
        assert_true(canonical ? status == MM_OK || status == MM_ERR_NOT_MAPPED
                              : status == MM_ERR_INVALID_ADDRESS);
        status = mm_paging_slot_get(at.pt, mm_vaddr(start), &slot);
        assert_int_equal(status, canonical ? MM_OK : MM_ERR_INVALID_ADDRESS);
        status = mm_paging_cursor_begin(&cursor, at.pt, t_range(start, len));
        assert_true((status == MM_OK) == (whole && (start | len) % P4K == 0));
        status = mm_paging_walk(at.pt, t_range(start, len), see, &nr_seen);
        assert_int_equal(status, whole      ? MM_OK
                                 : len == 0 ? MM_ERR_INVALID_SIZE
                                            : MM_ERR_INVALID_ADDRESS);
        assert_int_equal(mm_paging_dump(at.pt, t_range(start, len), 0), status);
        assert_true(whole || nr_seen == 0);
        assert_int_equal(before, state_of(p));
    }
    clear(p, &at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_user, setup, teardown),
        cmocka_unit_test_setup_teardown(test_user_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kernel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_looking, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_product", tests, NULL, NULL);
}
