// SPDX-License-Identifier: MIT
/**
 * Pages of a space that a device has pinned: who has the only reference writes in place, and what
 * is unmapped stays with the device until it lets go.
 */
#include "space_fixture.h"

#define AT (32 * PAGE)

static mm_pfn_t touched_and_pinned(struct fixture *f, struct mm_space *space)
{
    mm_pfn_t frame;

    assert_int_equal(map_at(space, AT, PAGE, RW, 0), MM_OK);
    assert_true(store(f, space, AT, 1));
    frame = mm_pfn(frame_at(space, AT));
    mm_frame_pin(&f->m.frames, frame);
    assert_int_equal(mm_space_check(space), MM_OK);
    return frame;
}

/* What the device sees. */
static uint64_t seen(struct fixture *f, mm_pfn_t frame)
{
    return *(const uint64_t *)t_machine_ptr(&f->m, mm_pfn_addr(frame).raw);
}

/* A pin is no other's reference: nothing is copied away from the device. */
static void test_written_in_place(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    mm_pfn_t frame = touched_and_pinned(f, s);

    (void)state;
    /* Forbidden and allowed again: writable at once, since the frame is nobody else's. */
    assert_int_equal(protect(s, AT, PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(protect(s, AT, PAGE, RW), MM_OK);
    f->nr_faults = 0;
    assert_true(store(f, s, AT, 2));
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(frame_at(s, AT), frame.raw);
    /* Shared when it is pinned, for a while. */
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    child = clone_of(s);
    mm_frame_pin(&f->m.frames, frame);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), 2);
    put_last(f, child);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), 1);
    assert_true(store(f, s, AT, 3));
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(frame_at(s, AT), frame.raw);
    assert_int_equal(seen(f, frame), 3);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    put_last(f, s);
    fixture_stop(f);
}

/* The last space goes, or unmaps the page: the device keeps what it sees. */
static void test_outlives_its_spaces(void **state)
{
    struct fixture *f = fixture_start(NULL);

    (void)state;
    for (unsigned by_unmap = 0; by_unmap < 2; by_unmap++) {
        struct mm_space *s = new_space(f);
        struct mm_space *child;
        mm_pfn_t frame = touched_and_pinned(f, s);

        child = clone_of(s); /* gets a copy of its own */
        assert_true(store(f, child, AT, 9));
        assert_int_not_equal(frame_at(child, AT), frame.raw);
        put_last(f, child);
        if (by_unmap != 0) {
            run_in(f, s);
            assert_int_equal(unmap(s, AT, PAGE), MM_OK);
        }
        put_last(f, s);
        assert_int_equal(mm_frame_refs(&f->m.frames, frame), 0);
        assert_int_equal(mm_frame_pins(&f->m.frames, frame), 1);
        assert_true(mm_frame_allocated(&f->m.frames, frame));
        assert_int_equal(seen(f, frame), 1);
        assert_true(mm_frame_unpin(&f->m.frames, frame));
    }
    fixture_stop(f);
}

/* A leaf has a reference of its own: a pin cannot stand for it. */
static void test_check_sees_a_lost_reference(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    mm_pfn_t frame = touched_and_pinned(f, s);

    (void)state;
    assert_false(mm_frame_put(&f->m.frames, frame));
    assert_int_equal(mm_space_check(s), MM_ERR_CORRUPTED);
    mm_frame_get(&f->m.frames, frame);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    put_last(f, s);
    fixture_stop(f);
}

/* --- clones ----------------------------------------------------------------------------------- */

static bool writable(struct mm_space *space, uint64_t at)
{
    struct mm_mapping leaf;

    assert_int_equal(mm_paging_translate(mm_space_table(space), mm_vaddr(at), &leaf), MM_OK);
    return (leaf.prot & MM_PROT_WRITE) != 0;
}

/* The child has a copy at once; the parent goes on with the device, and neither takes a fault. */
static void test_clone_copies(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    mm_pfn_t frame = touched_and_pinned(f, s);

    (void)state;
    child = clone_of(s);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_int_equal(mm_space_check(child), MM_OK);
    assert_int_equal(resident(child), PAGE);
    assert_int_equal(frame_at(s, AT), frame.raw);
    assert_int_not_equal(frame_at(child, AT), frame.raw);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), 1);
    assert_int_equal(mm_frame_pins(&f->m.frames, frame), 1);
    nothing_stale(f);

    assert_true(store(f, s, AT, 2));
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(seen(f, frame), 2);
    *(uint64_t *)t_machine_ptr(&f->m, mm_pfn_addr(frame).raw) = 3; /* the device writes */
    assert_int_equal(loaded(f, s, AT), 3);
    assert_int_equal(loaded(f, child, AT), 1);
    assert_true(store(f, child, AT, 4));
    assert_true(f->nr_faults <= 1 && f->last != MM_FAULT_COW);
    assert_int_equal(seen(f, frame), 3);
    put_last(f, child);
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    put_last(f, s);
    fixture_stop(f);
}

/* A frame that may not be written where it is: by its region, or because it is shared already. */
static void test_clone_keeps_rights(void **state)
{
    static const mm_prot_t prots[] = {MM_PROT_READ, MM_PROT_NONE, RX};
    struct fixture *f = fixture_start(NULL);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct mm_space *s = new_space(f);
        mm_pfn_t frame = touched_and_pinned(f, s);
        struct mm_space *sister = NULL;
        struct mm_space *child;
        uint64_t before;

        if (i < 3) {
            assert_int_equal(protect(s, AT, PAGE, prots[i]), MM_OK);
        } else {
            assert_false(mm_frame_unpin(&f->m.frames, frame));
            sister = clone_of(s);
            mm_frame_pin(&f->m.frames, frame);
        }
        before = mm_frame_refs(&f->m.frames, frame);
        child = clone_of(s);
        assert_false(writable(s, AT));
        assert_int_equal(mm_frame_refs(&f->m.frames, frame), before);
        assert_int_not_equal(frame_at(child, AT), frame.raw);
        assert_int_equal(writable(child, AT), i == 3);
        assert_int_equal(mm_space_check(s), MM_OK);
        assert_int_equal(mm_space_check(child), MM_OK);
        assert_int_equal(protect(child, AT, PAGE, MM_PROT_READ), MM_OK);
        assert_int_equal(loaded(f, child, AT), 1);
        if (sister != NULL) {
            put_last(f, sister);
        }
        put_last(f, child);
        assert_false(mm_frame_unpin(&f->m.frames, frame));
        put_last(f, s);
    }
    fixture_stop(f);
}

/* What the parent was, its leaves and their rights, it is after the clone, as far as it is pinned;
 * all the rest is shared. Pages of three tables, pinned at random, and at both ends. */
static void test_clone_of_many(void **state)
{
    enum { NR = 1200 };
    static const struct t_machine_config machine = {.ram_len = UINT64_C(32) << 20};
    struct fixture *f = fixture_start(&machine);
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "pinned clones");
    for (unsigned round = 0; round < 6; round++) {
        struct mm_space *s = new_space(f);
        struct mm_space *child;
        uint64_t frames[NR];
        bool pinned[NR];

        assert_int_equal(map_at(s, AT, NR * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
        for (uint64_t i = 0; i < NR; i++) {
            frames[i] = frame_at(s, AT + i * PAGE);
            *(uint64_t *)t_machine_ptr(&f->m, frames[i] * PAGE) = i;
            pinned[i] = i == 0 || i == NR - 1 || t_prng_chance(&prng, round, 6);
            if (pinned[i]) {
                mm_frame_pin(&f->m.frames, mm_pfn(frames[i]));
            }
        }
        child = clone_of(s);
        assert_int_equal(mm_space_check(s), MM_OK);
        assert_int_equal(mm_space_check(child), MM_OK);
        assert_int_equal(resident(child), NR * PAGE);
        for (uint64_t i = 0; i < NR; i++) {
            uint64_t at = AT + i * PAGE;

            assert_int_equal(frame_at(s, at), frames[i]);
            assert_int_equal(frame_at(child, at) == frames[i], !pinned[i]);
            assert_int_equal(writable(s, at), pinned[i]);
            assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(frames[i])), pinned[i] ? 1 : 2);
            assert_int_equal(*(uint64_t *)t_machine_ptr(&f->m, frame_at(child, at) * PAGE), i);
        }
        put_last(f, child);
        for (uint64_t i = 0; i < NR; i++) {
            if (pinned[i]) {
                assert_false(mm_frame_unpin(&f->m.frames, mm_pfn(frames[i])));
            }
        }
        put_last(f, s);
    }
    fixture_stop(f);
}

#define P2M       (UINT64_C(2) << 20)
#define LARGE     (16 * P2M)
#define NR_LARGE  3u
#define PIN_INDEX 77u /* in the second leaf */

static uint64_t leaf_len(struct mm_space *space, uint64_t at)
{
    struct mm_mapping leaf;

    assert_int_equal(mm_paging_translate(mm_space_table(space), mm_vaddr(at), &leaf), MM_OK);
    return leaf.page.len;
}

/* What a page begins with. */
static uint64_t *first_word(struct fixture *f, struct mm_space *space, uint64_t at)
{
    return t_machine_ptr(&f->m, frame_at(space, at) * PAGE);
}

/* One frame of each 2 MiB that are free: no large leaf is to be had. Its frames come back. */
static unsigned take_one_of_each(struct fixture *f, mm_pfn_t *held)
{
    const struct mm_frame_request request = {.order = 9};
    unsigned nr = 0;

    while (mm_frame_alloc(&f->m.frames, &request, &held[nr]) == MM_OK) {
        nr++;
    }
    for (unsigned i = 0; i < nr; i++) {
        for (uint64_t k = 1; k < 512; k++) {
            assert_true(mm_frame_put(&f->m.frames, mm_pfn(held[i].raw + k)));
        }
    }
    return nr;
}

/* A leaf of 2 MiB with a pinned page in it is copied whole, in one piece or in 512. */
static void test_clone_of_large(void **state)
{
    static const struct t_machine_config machine = {.ram_len = UINT64_C(24) << 20};
    struct fixture *f = fixture_start(&machine);

    (void)state;
    for (unsigned scarce = 0; scarce < 2; scarce++) {
        struct mm_space *s = new_space(f);
        struct mm_space *child;
        mm_pfn_t held[16];
        unsigned nr_held = 0;
        mm_pfn_t pinned;

        assert_int_equal(map_at(s, LARGE, NR_LARGE * P2M, RW, MM_SPACE_HUGE | MM_SPACE_POPULATE),
                         MM_OK);
        for (uint64_t i = 0; i < NR_LARGE * 512; i++) {
            *first_word(f, s, LARGE + i * PAGE) = i;
        }
        pinned = mm_pfn(frame_at(s, LARGE + P2M + PIN_INDEX * PAGE));
        mm_frame_pin(&f->m.frames, pinned);
        if (scarce != 0) {
            nr_held = take_one_of_each(f, held);
        }
        child = clone_of(s);
        while (nr_held != 0) {
            assert_true(mm_frame_put(&f->m.frames, held[--nr_held]));
        }
        assert_int_equal(mm_space_check(s), MM_OK);
        assert_int_equal(mm_space_check(child), MM_OK);
        nothing_stale(f);
        for (uint64_t i = 0; i < NR_LARGE * 512; i++) {
            uint64_t at = LARGE + i * PAGE;
            bool copied = i / 512 == 1;

            assert_int_equal(leaf_len(s, at), P2M);
            assert_int_equal(writable(s, at), copied);
            assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(frame_at(s, at))), copied ? 1 : 2);
            assert_int_equal(frame_at(child, at) == frame_at(s, at), !copied);
            assert_int_equal(*first_word(f, child, at), i);
            assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(frame_at(child, at))),
                             copied ? 1 : 2);
        }
        assert_int_equal(leaf_len(child, LARGE + P2M), scarce != 0 ? PAGE : P2M);
        assert_true(store(f, s, LARGE + P2M + PIN_INDEX * PAGE, 4711));
        assert_int_equal(seen(f, pinned), 4711);
        assert_int_equal(loaded(f, child, LARGE + P2M + PIN_INDEX * PAGE), 512 + PIN_INDEX);
        put_last(f, child);
        assert_false(mm_frame_unpin(&f->m.frames, pinned));
        put_last(f, s);
    }
    fixture_stop(f);
}

/* --- the moment of the copy ------------------------------------------------------------------- */

static struct fixture *writing;
static mm_pfn_t written; /* frame that another CPU writes as long as it has a translation */

/* Until this has been done, a CPU may write to what it has cached. */
static void invalidate(void *ctx, uint64_t at)
{
    if (at == AT && written.raw != 0) {
        (*(uint64_t *)t_machine_ptr(&writing->m, mm_pfn_addr(written).raw))++;
    }
    t_cpu_ops.invlpg(ctx, at);
}

/* The copy is of what the parent has when the clone is there: none of its writes is lost. */
static void test_copy_after_flush(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_x86_64_cpu_ops ops = t_cpu_ops;
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    mm_pfn_t frame = touched_and_pinned(f, s);

    (void)state;
    ops.invlpg = invalidate;
    f->m.arch.ops = &ops;
    writing = f;
    written = frame;
    child = clone_of(s);
    written.raw = 0;
    f->m.arch.ops = &t_cpu_ops;
    assert_true(seen(f, frame) > 1);
    /* It was flushed a second time when the right to write came back, or was not. */
    assert_true(loaded(f, child, AT) > 1);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, child);
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    put_last(f, s);
    fixture_stop(f);
}

/* The zero page is everybody's, whoever pins it. */
static void test_zero_page_is_shared(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    mm_pfn_t frame = touched_and_pinned(f, s);
    struct mm_space *child;

    (void)state;
    assert_int_equal(map_at(s, AT + PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(loaded(f, s, AT + PAGE), 0);
    assert_int_equal(frame_at(s, AT + PAGE), f->spaces.zero_page.raw);
    child = clone_of(s);
    assert_int_equal(frame_at(child, AT + PAGE), f->spaces.zero_page.raw);
    assert_false(writable(s, AT + PAGE));
    assert_int_equal(mm_space_check(child), MM_OK);
    put_last(f, child);
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    put_last(f, s);
    fixture_stop(f);
}

/* Pinned once too often, a frame is immortal, and counts no pin: the device goes on to use it. */
static void test_pinned_too_often(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    mm_pfn_t frame = touched_and_pinned(f, s);
    struct mm_space *child;

    (void)state;
    for (unsigned i = 0; i < MM_FRAME_PINS_MAX; i++) {
        mm_frame_pin(&f->m.frames, frame);
    }
    assert_int_equal(mm_frame_pins(&f->m.frames, frame), MM_FRAME_REF_IMMORTAL);
    assert_int_equal(mm_space_make_cow(s, mm_vrange(mm_vaddr(AT), PAGE)), MM_OK);
    assert_true(writable(s, AT));
    child = clone_of(s);
    assert_int_equal(frame_at(s, AT), frame.raw);
    assert_true(writable(s, AT));
    assert_int_not_equal(frame_at(child, AT), frame.raw);
    assert_true(store(f, s, AT, 2));
    assert_int_equal(seen(f, frame), 2);
    assert_int_equal(loaded(f, child, AT), 1);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_int_equal(mm_space_check(child), MM_OK);
    put_last(f, child);
    put_last(f, s);
    mm_frame_make_mortal(&f->m.frames, frame);
    assert_true(mm_frame_put(&f->m.frames, frame));
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_in_place),
        cmocka_unit_test(test_outlives_its_spaces),
        cmocka_unit_test(test_check_sees_a_lost_reference),
        cmocka_unit_test(test_clone_copies),
        cmocka_unit_test(test_clone_keeps_rights),
        cmocka_unit_test(test_clone_of_many),
        cmocka_unit_test(test_clone_of_large),
        cmocka_unit_test(test_copy_after_flush),
        cmocka_unit_test(test_zero_page_is_shared),
        cmocka_unit_test(test_pinned_too_often),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
