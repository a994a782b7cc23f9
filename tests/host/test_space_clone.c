// SPDX-License-Identifier: MIT
/**
 * Copies: who shares a frame, who gets a copy, and that nobody sees what another wrote.
 */
#include "space_fixture.h"

#include <pthread.h>

/* --- copies -------------------------------------------------------------------------------------
 */

static void test_clone(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *parent = new_space(f);
    struct mm_space *child;
    const uint64_t at = 32 * PAGE;
    uint64_t frame;

    (void)state;
    assert_int_equal(map_at(parent, at, 8 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, parent, at, 1));
    assert_true(store(f, parent, at + PAGE, 2));
    frame = frame_at(parent, at);
    child = clone_of(parent);
    assert_int_equal(mm_space_check(parent), MM_OK);
    assert_int_equal(mm_space_check(child), MM_OK);
    assert_int_equal(frame_at(child, at), frame);
    assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(frame)), 2);
    assert_int_equal(resident(child), 2 * PAGE);

    /* The child writes: a copy for it, and the parent keeps the frame. */
    assert_true(store(f, child, at, 10));
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(f->nr_faults, 1);
    assert_int_not_equal(frame_at(child, at), frame);
    assert_int_equal(loaded(f, parent, at), 1);
    assert_int_equal(loaded(f, child, at), 10);
    /* The parent writes: nobody shares it now, so nothing is copied. */
    assert_true(store(f, parent, at, 11));
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(frame_at(parent, at), frame);
    assert_int_equal(loaded(f, child, at), 10);
    /* Pages that nobody touched are each one's own. */
    assert_int_equal(loaded(f, child, at + 2 * PAGE), 0);
    assert_true(store(f, child, at + 2 * PAGE, 12));
    assert_int_equal(loaded(f, parent, at + 2 * PAGE), 0);
    put_last(f, parent);
    assert_int_equal(loaded(f, child, at + PAGE), 2);
    assert_true(store(f, child, at + PAGE, 13));
    put_last(f, child);
    fixture_stop(f);
}

/* Hazard 22: a stale translation of the parent is gone when the clone is there. */
static void test_clone_flushes(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *parent = new_space(f);
    struct mm_space *child;
    const uint64_t at = 32 * PAGE;

    (void)state;
    assert_int_equal(map_at(parent, at, PAGE, RW, 0), MM_OK);
    assert_true(store(f, parent, at, 1)); /* the CPU keeps a writable translation */
    child = clone_of(parent);
    assert_true(store(f, parent, at, 2)); /* the same CPU, still in the parent */
    assert_int_equal(f->nr_faults, 1);
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(loaded(f, child, at), 1);
    put_last(f, parent);
    put_last(f, child);
    fixture_stop(f);
}

/* Hazard 22: a copy is made while a CPU that only reads keeps the old translation: it is flushed.
 */
static void test_copy_flushes(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *parent = new_space(f);
    struct mm_space *child;
    const uint64_t at = 32 * PAGE;
    struct mm_fault fault = {.at = mm_vaddr(at),
                             .flags = MM_FAULT_USER | MM_FAULT_WRITE | MM_FAULT_PRESENT};
    enum mm_fault_result got = MM_FAULT_PENDING;

    (void)state;
    assert_int_equal(map_at(parent, at, PAGE, RW, 0), MM_OK);
    assert_true(store(f, parent, at, 1));
    child = clone_of(parent);
    assert_int_equal(loaded(f, child, at), 1); /* the CPU keeps a translation to the shared frame */
    /* Another thread of the child writes: its fault is handled here. */
    assert_int_equal(mm_space_fault(child, &fault, &got), MM_OK);
    assert_int_equal(got, MM_FAULT_COW);
    *(uint64_t *)t_machine_ptr(&f->m, frame_at(child, at) << 12) = 2;
    assert_int_equal(loaded(f, child, at), 2);
    assert_int_equal(f->nr_faults, 0);
    put_last(f, parent);
    put_last(f, child);
    fixture_stop(f);
}

/* Hazard 32: the kernel's own stores to a shared page fault, too, and make a copy (CR0.WP). */
static void test_kernel_store(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *parent = new_space(f);
    struct mm_space *child;
    const uint64_t at = 32 * PAGE;
    uint64_t *p = NULL;
    uint64_t paddr;

    (void)state;
    assert_int_equal(map_at(parent, at, PAGE, RW, 0), MM_OK);
    assert_true(store(f, parent, at, 1));
    child = clone_of(parent);
    assert_true(touch(f, child, at, T_MMU_WRITE | T_MMU_AC, &p));
    assert_int_equal(f->last, MM_FAULT_COW);
    *p = 2;
    assert_int_equal(loaded(f, parent, at), 1);
    assert_int_equal(loaded(f, child, at), 2);
    /* With SMAP and without AC the kernel reaches nothing: that fault is not the space's. */
    assert_int_equal(t_cpu_access(f->m.cpu, at, 0, &paddr), T_MMU_ERR_P);
    put_last(f, parent);
    put_last(f, child);
    fixture_stop(f);
}

/* Hazard 22: depth 4, a second clone of each, and everyone writes in every order. */
static void test_clone_depth(void **state)
{
    enum { NR = 8 };
    const uint64_t at = 48 * PAGE;
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "clone depth");
    for (unsigned round = 0; round < 40; round++) {
        struct fixture *f = fixture_start(NULL);
        struct mm_space *s[NR];
        uint64_t want[NR];
        unsigned order[NR];

        s[0] = new_space(f);
        assert_int_equal(map_at(s[0], at, 4 * PAGE, RW, 0), MM_OK);
        assert_true(store(f, s[0], at, 1000));
        want[0] = 1000;
        /* 0 makes 1 and 2; 1 makes 3 and 4; 3 makes 5 and 6; 5 makes 7: depth 4. */
        for (unsigned i = 1; i < NR; i++) {
            unsigned from = i <= 2 ? 0 : i <= 4 ? 1 : i <= 6 ? 3 : 5;

            s[i] = clone_of(s[from]);
            want[i] = want[from];
            if (t_prng_chance(&prng, 1, 4)) {
                want[from] = 2000 + i;
                assert_true(store(f, s[from], at, want[from]));
            }
        }
        for (unsigned i = 0; i < NR; i++) {
            order[i] = i;
        }
        t_prng_shuffle(&prng, order, NR, sizeof(order[0]));
        for (unsigned i = 0; i < NR; i++) {
            unsigned who = order[i];

            assert_true(store(f, s[who], at, 100 + who));
            want[who] = 100 + who;
            for (unsigned j = 0; j < NR; j++) {
                assert_int_equal(loaded(f, s[j], at), want[j]);
                assert_int_equal(mm_space_check(s[j]), MM_OK);
            }
        }
        t_prng_shuffle(&prng, order, NR, sizeof(order[0]));
        for (unsigned i = 0; i < NR; i++) {
            put_last(f, s[order[i]]);
        }
        fixture_stop(f);
    }
}

/* Hazard 23: what is read-only stays so through clone and protect; what is shared becomes writable
 * by a fault alone. */
static void test_clone_and_protect(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *parent = new_space(f);
    struct mm_space *child;
    const uint64_t at = 64 * PAGE;
    struct mm_mapping mapping;

    (void)state;
    assert_int_equal(map_at(parent, at, 8 * PAGE, RW, 0), MM_OK);
    for (uint64_t i = 0; i < 8; i++) {
        assert_true(store(f, parent, at + i * PAGE, i + 1));
    }
    assert_int_equal(protect(parent, at, 4 * PAGE, MM_PROT_READ), MM_OK);
    child = clone_of(parent);
    assert_false(store(f, parent, at, 50));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_ACCESS);
    assert_false(store(f, child, at, 50));
    assert_int_equal(loaded(f, child, at), 1);
    /* Every second page is the parent's alone again. */
    for (uint64_t i = 0; i < 8; i += 2) {
        assert_int_equal(unmap(child, at + i * PAGE, PAGE), MM_OK);
    }
    assert_int_equal(protect(parent, at, 8 * PAGE, RW), MM_OK);
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(
            mm_paging_translate(mm_space_table(parent), mm_vaddr(at + i * PAGE), &mapping), MM_OK);
        assert_int_equal(mapping.prot & MM_PROT_WRITE, i % 2 == 0 ? MM_PROT_WRITE : 0);
    }
    assert_int_equal(mm_space_check(parent), MM_OK);
    for (uint64_t i = 0; i < 8; i++) {
        assert_true(store(f, parent, at + i * PAGE, 60 + i));
        if (i % 2 == 1) {
            assert_int_equal(loaded(f, child, at + i * PAGE), i + 1);
        }
    }
    put_last(f, child);
    put_last(f, parent);
    fixture_stop(f);
}

/* Hazard 24: a frame that lives for ever is never written through a private mapping, nor freed. */
static void test_immortal(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    const uint64_t at = 64 * PAGE;
    mm_pfn_t frame;

    (void)state;
    assert_int_equal(map_at(s, at, PAGE, RW, 0), MM_OK);
    assert_int_equal(loaded(f, s, at), 0);
    frame = mm_pfn(frame_at(s, at));
    mm_frame_make_immortal(&f->m.frames, frame);
    child = clone_of(s);
    assert_true(store(f, child, at, 5));
    assert_true(store(f, s, at, 6));
    assert_int_not_equal(frame_at(s, at), frame.raw);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), MM_FRAME_REF_IMMORTAL);
    put_last(f, s);
    put_last(f, child);
    assert_true(mm_frame_allocated(&f->m.frames, frame));
    /* It is out for ever: the machine cannot be taken down with the usual balance. */
    assert_int_equal(t_machine_free_frames(&f->m), f->free_at_start - 1);
    assert_int_equal(mm_spaces_destroy(&f->spaces), MM_OK);
    t_ram_delete(f->m.ram);
    free(f->m.pool_buffer);
    free(f);
}

/* --- relatives on two CPUs ----------------------------------------------------------------------
 */

#define SHARED_AT    (32 * PAGE)
#define SHARED_PAGES 32u

struct relative {
    struct fixture *f;
    struct mm_space *space;
    pthread_barrier_t *start;
    uint64_t id;
    uint64_t nr_wrong;
};

/* Write to every shared page, as user code would after each fault; the frame is then its own. */
static void *write_all(void *argument)
{
    struct relative *r = argument;

    pthread_barrier_wait(r->start);
    for (uint64_t i = 0; i < SHARED_PAGES; i++) {
        struct mm_fault fault = {.at = mm_vaddr(SHARED_AT + i * PAGE),
                                 .flags = MM_FAULT_USER | MM_FAULT_PRESENT | MM_FAULT_WRITE};
        enum mm_fault_result result;
        uint64_t *page;

        if (mm_space_fault(r->space, &fault, &result) != MM_OK || result != MM_FAULT_COW) {
            r->nr_wrong++;
            continue;
        }
        page = t_machine_ptr(&r->f->m, frame_at(r->space, fault.at.raw) * PAGE);
        r->nr_wrong += page[0] != i + 1 ? 1 : 0;
        page[0] = r->id;
    }
    return NULL;
}

/* Who becomes the last sharer writes to the frame itself, and not before the other has copied it:
 * the thread sanitizer sees it if that is left to chance. */
static void test_relatives_write_at_once(void **state)
{
    struct fixture *f = fixture_start(NULL);
    pthread_barrier_t start;

    (void)state;
    assert_int_equal(pthread_barrier_init(&start, NULL, 2), 0);
    for (unsigned round = 0; round < 100; round++) {
        struct relative relatives[2];
        pthread_t threads[2];
        struct mm_space *parent = new_space(f);
        struct mm_space *child;

        assert_int_equal(map_at(parent, SHARED_AT, SHARED_PAGES * PAGE, RW, 0), MM_OK);
        for (uint64_t i = 0; i < SHARED_PAGES; i++) {
            assert_true(store(f, parent, SHARED_AT + i * PAGE, i + 1));
        }
        child = clone_of(parent);
        assert_int_equal(mm_paging_activate(&f->m.kernel), MM_OK);
        for (unsigned t = 0; t < 2; t++) {
            relatives[t] = (struct relative){f, t == 0 ? parent : child, &start, 4711 + t, 0};
            assert_int_equal(pthread_create(&threads[t], NULL, write_all, &relatives[t]), 0);
        }
        for (unsigned t = 0; t < 2; t++) {
            assert_int_equal(pthread_join(threads[t], NULL), 0);
            assert_int_equal(relatives[t].nr_wrong, 0);
        }
        for (uint64_t i = 0; i < SHARED_PAGES; i++) {
            assert_int_equal(loaded(f, parent, SHARED_AT + i * PAGE), 4711);
            assert_int_equal(loaded(f, child, SHARED_AT + i * PAGE), 4712);
        }
        put_last(f, child);
        put_last(f, parent);
    }
    pthread_barrier_destroy(&start);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clone),        cmocka_unit_test(test_clone_flushes),
        cmocka_unit_test(test_kernel_store), cmocka_unit_test(test_copy_flushes),
        cmocka_unit_test(test_clone_depth),  cmocka_unit_test(test_clone_and_protect),
        cmocka_unit_test(test_immortal),     cmocka_unit_test(test_relatives_write_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
