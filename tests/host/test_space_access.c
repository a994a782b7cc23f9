// SPDX-License-Identifier: MIT
/**
 * Memory of a space from outside: read, written and cleared through the tables.
 */
#include "space_fixture.h"

#define AT   (32 * PAGE)
#define P2M  UINT64_C(0x200000)
#define NONE MM_PROT_NONE

static const struct t_machine_config large = {.ram_len = 32 * P2M};

static mm_status_t peek(struct mm_space *s, uint64_t at, void *to, uint64_t len, uint32_t flags,
                        uint64_t left)
{
    uint64_t residue = 77;
    mm_status_t status = mm_space_read(s, to, mm_vaddr(at), len, flags, &residue);

    assert_int_equal(residue, left);
    return status;
}

static mm_status_t poke(struct mm_space *s, uint64_t at, const void *from, uint64_t len,
                        uint32_t flags, uint64_t left)
{
    uint64_t residue = 77;
    mm_status_t status = mm_space_write(s, mm_vaddr(at), from, len, flags, &residue);

    assert_int_equal(residue, left);
    return status;
}

static mm_status_t wipe(struct mm_space *s, uint64_t at, uint64_t len, uint32_t flags,
                        uint64_t left)
{
    uint64_t residue = 77;
    mm_status_t status = mm_space_clear(s, mm_vaddr(at), len, flags, &residue);

    assert_int_equal(residue, left);
    return status;
}

static void put_word(struct mm_space *s, uint64_t at, uint64_t value)
{
    assert_int_equal(poke(s, at, &value, sizeof(value), 0, 0), MM_OK);
}

static uint64_t word_at(struct mm_space *s, uint64_t at)
{
    uint64_t value = 0;

    assert_int_equal(peek(s, at, &value, sizeof(value), 0, 0), MM_OK);
    return value;
}

static struct mm_mapping leaf_at(struct mm_space *s, uint64_t at)
{
    struct mm_mapping leaf;

    assert_int_equal(mm_paging_translate(mm_space_table(s), mm_vaddr(at), &leaf), MM_OK);
    return leaf;
}

static void well(struct mm_space *s)
{
    assert_int_equal(mm_space_check(s), MM_OK);
}

/* --- what is moved ---------------------------------------------------------------------------- */

/* Every offset and length around page ends, against a flat copy. */
static void test_bytes(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint8_t flat[3 * PAGE];
    uint8_t got[3 * PAGE];

    (void)state;
    assert_int_equal(map_at(s, AT, 3 * PAGE, RW, 0), MM_OK);
    memset(flat, 0, sizeof(flat));
    for (unsigned i = 0; i < 400; i++) {
        uint64_t from = i % 2 == 0 ? PAGE - 3 + i % 7 : (i * 577) % sizeof(flat);
        uint64_t len = (i * 211) % (sizeof(flat) - from);

        if (i % 5 == 4) {
            memset(flat + from, 0, len);
            assert_int_equal(wipe(s, AT + from, len, 0, 0), MM_OK);
        } else {
            memset(flat + from, (int)i, len);
            assert_int_equal(poke(s, AT + from, flat + from, len, 0, 0), MM_OK);
        }
        memset(got, 0xee, sizeof(got));
        assert_int_equal(peek(s, AT + from, got + from, len, 0, 0), MM_OK);
        assert_memory_equal(got + from, flat + from, len);
        assert_true(from == 0 || got[from - 1] == 0xee);
        assert_int_equal(got[from + len], 0xee);
    }
    assert_int_equal(peek(s, AT, got, sizeof(got), 0, 0), MM_OK);
    assert_memory_equal(got, flat, sizeof(got));
    assert_int_equal(loaded(f, s, AT + PAGE), *(uint64_t *)(void *)(flat + PAGE));
    well(s);
    put_last(f, s);
    fixture_stop(f);
}

/* The residue may be left out; a length of 0 touches nothing, wherever it is. */
static void test_nothing_to_move(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t hash = state_hash(f, s);
    uint8_t byte = 5;

    (void)state;
    assert_int_equal(mm_space_read(s, &byte, mm_vaddr(UINT64_MAX), 0, 0, NULL), MM_OK);
    assert_int_equal(mm_space_write(s, mm_vaddr(0), &byte, 0, MM_SPACE_FORCE, NULL), MM_OK);
    assert_int_equal(mm_space_clear(s, mm_vaddr(0), 0, 0, NULL), MM_OK);
    assert_int_equal(wipe(s, T_USER_LEN, 0, 0, 0), MM_OK);
    assert_int_equal(mm_space_clear(s, mm_vaddr(AT), 1, 0, NULL), MM_ERR_FAULT);
    assert_int_equal(byte, 5);
    assert_true(state_hash(f, s) == hash);
    put_last(f, s);
    fixture_stop(f);
}

/* Who reads what was never touched gets zero, and takes no frame but the tables'. */
static void test_hole_reads_zero(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_stats stats;
    uint64_t free_before;

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(word_at(s, AT), 0);
    free_before = t_machine_free_frames(&f->m);
    for (uint64_t i = 1; i < 8; i++) {
        assert_int_equal(word_at(s, AT + i * PAGE), 0);
        assert_int_equal(frame_at(s, AT + i * PAGE), f->spaces.zero_page.raw);
    }
    assert_int_equal(t_machine_free_frames(&f->m), free_before);
    /* It was not the space's own code that faulted. */
    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    assert_int_equal(stats.nr_faults[MM_FAULT_MINOR], 0);
    /* And who writes leaves the zero page as it is. */
    put_word(s, AT + PAGE, 9);
    assert_int_equal(t_machine_free_frames(&f->m), free_before - 1);
    assert_int_equal(word_at(s, AT), 0);
    assert_int_equal(wipe(s, AT + 2 * PAGE, 1, 0, 0), MM_OK);
    assert_int_not_equal(frame_at(s, AT + 2 * PAGE), f->spaces.zero_page.raw);
    well(s);
    put_last(f, s);
    fixture_stop(f);
}

/* The hardware's bits are of the space's own accesses. */
static void test_no_bit_is_set(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    assert_false(leaf_at(s, AT).accessed);
    put_word(s, AT, 1);
    assert_int_equal(word_at(s, AT), 1);
    assert_false(leaf_at(s, AT).accessed);
    assert_false(leaf_at(s, AT).dirty);
    put_last(f, s);
    fixture_stop(f);
}

/* --- shared pages ----------------------------------------------------------------------------- */

static void test_copy_on_write(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    uint64_t frame;

    (void)state;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT, 1));
    child = clone_of(s);
    frame = frame_at(s, AT);
    put_word(child, AT, 2);
    assert_int_equal(frame_at(s, AT), frame);
    assert_int_not_equal(frame_at(child, AT), frame);
    assert_int_equal(loaded(f, s, AT), 1);
    assert_int_equal(word_at(child, AT), 2);
    /* Nobody else has it now: it is taken, not copied. */
    put_word(s, AT, 3);
    assert_int_equal(frame_at(s, AT), frame);
    assert_int_equal(word_at(child, AT), 2);
    assert_int_equal(loaded(f, s, AT), 3);
    /* Who reads shares on. */
    put_last(f, child);
    child = clone_of(s);
    assert_int_equal(word_at(child, AT), 3);
    assert_int_equal(frame_at(child, AT), frame);
    well(s);
    well(child);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

static void test_large_leaf(void **state)
{
    struct fixture *f = fixture_start(&large);
    struct mm_space *s = new_space(f);
    struct mm_space *child;

    (void)state;
    assert_int_equal(map_at(s, P2M, 2 * P2M, RW, MM_SPACE_HUGE | MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(leaf_at(s, P2M).page.len, P2M);
    put_word(s, 2 * P2M - 4, UINT64_C(0x0102030405060708)); /* from one leaf into the next */
    assert_int_equal(word_at(s, 2 * P2M - 4), UINT64_C(0x0102030405060708));
    assert_int_equal(leaf_at(s, 2 * P2M).page.len, P2M);
    child = clone_of(s);
    put_word(child, 2 * P2M - 4, 5);
    assert_int_equal(word_at(child, 2 * P2M - 4), 5);
    assert_int_equal(word_at(s, 2 * P2M - 4), UINT64_C(0x0102030405060708));
    put_word(s, P2M + 5 * PAGE, 7);
    assert_int_equal(word_at(child, P2M + 5 * PAGE), 0);
    well(s);
    well(child);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* --- what is forbidden ------------------------------------------------------------------------ */

static void test_rights(void **state)
{
    static const struct {
        mm_prot_t prot;
        mm_status_t read, write;
    } cases[] = {
        {NONE, MM_ERR_FAULT, MM_ERR_FAULT},
        {MM_PROT_READ, MM_OK, MM_ERR_FAULT},
        {RX, MM_OK, MM_ERR_FAULT},
        {MM_PROT_EXEC, MM_OK, MM_ERR_FAULT}, /* the hardware lets it read what it may execute */
        {MM_PROT_WRITE, MM_OK, MM_OK},
        {RW, MM_OK, MM_OK},
        {RWX, MM_OK, MM_OK},
    };
    struct fixture *f = fixture_start(NULL);

    (void)state;
    for (unsigned i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        mm_prot_t prot = cases[i / 2].prot;
        bool there = i % 2 != 0;
        struct mm_space *s = new_space(f);
        uint64_t word = 4;

        assert_int_equal(map_at(s, AT, PAGE, there ? RW : prot, 0), MM_OK);
        if (there) {
            put_word(s, AT, 6);
            assert_int_equal(protect(s, AT, PAGE, prot), MM_OK);
        }
        assert_int_equal(peek(s, AT, &word, 8, 0, cases[i / 2].read == MM_OK ? 0 : 8),
                         cases[i / 2].read);
        assert_int_equal(word, cases[i / 2].read != MM_OK ? 4 : there ? 6 : 0);
        assert_int_equal(poke(s, AT, &word, 8, 0, cases[i / 2].write == MM_OK ? 0 : 8),
                         cases[i / 2].write);
        assert_int_equal(wipe(s, AT, 8, 0, cases[i / 2].write == MM_OK ? 0 : 8),
                         cases[i / 2].write);
        well(s);
        /* A debugger may, and the region's rights stay what they are. */
        word = 8;
        assert_int_equal(poke(s, AT, &word, 8, MM_SPACE_FORCE, 0), MM_OK);
        word = 0;
        assert_int_equal(peek(s, AT, &word, 8, MM_SPACE_FORCE, 0), MM_OK);
        assert_int_equal(word, 8);
        assert_int_equal(leaf_at(s, AT).prot & MM_PROT_WRITE, prot & MM_PROT_WRITE);
        assert_int_equal(wipe(s, AT, 8, MM_SPACE_FORCE, 0), MM_OK);
        well(s);
        put_last(f, s);
    }
    fixture_stop(f);
}

static void test_forced_is_private(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    uint64_t word = 5;
    uint64_t frame;

    (void)state;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RW, 0), MM_OK);
    put_word(s, AT, 1);
    assert_int_equal(protect(s, AT, 2 * PAGE, RX), MM_OK);
    assert_int_equal(word_at(s, AT + PAGE), 0); /* the zero page */
    child = clone_of(s);
    frame = frame_at(s, AT);
    assert_int_equal(poke(child, AT, &word, 8, MM_SPACE_FORCE, 0), MM_OK);
    assert_int_equal(poke(child, AT + PAGE, &word, 8, MM_SPACE_FORCE, 0), MM_OK);
    assert_int_equal(word_at(s, AT), 1);
    assert_int_equal(word_at(s, AT + PAGE), 0);
    assert_int_equal(word_at(child, AT), 5);
    assert_int_equal(word_at(child, AT + PAGE), 5);
    /* The frame is its own now: in place. */
    assert_int_equal(poke(s, AT, &word, 8, MM_SPACE_FORCE, 0), MM_OK);
    assert_int_equal(frame_at(s, AT), frame);
    assert_false(store(f, s, AT, 2));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_ACCESS);
    well(s);
    well(child);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* What a device or somebody else looks at stays where it is, as for a store of the space's own. */
static void test_in_place(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t word = 5;
    mm_pfn_t frame;

    (void)state;
    assert_int_equal(map_at(s, AT, PAGE, RW, 0), MM_OK);
    put_word(s, AT, 1);
    frame = mm_pfn(frame_at(s, AT));
    mm_frame_pin(&f->m.frames, frame);
    mm_frame_get(&f->m.frames, frame);
    put_word(s, AT, 2);
    assert_int_equal(poke(s, AT, &word, 8, MM_SPACE_FORCE, 0), MM_OK);
    assert_int_equal(frame_at(s, AT), frame.raw);
    assert_false(mm_frame_put(&f->m.frames, frame));
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    put_last(f, s);
    fixture_stop(f);
}

static void test_guard(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint8_t bytes[2 * PAGE];
    uint64_t hash;

    (void)state;
    memset(bytes, 3, sizeof(bytes));
    assert_int_equal(map_at(s, AT, PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + PAGE, PAGE, NONE, MM_SPACE_GUARD), MM_OK);
    for (uint32_t flags = 0; flags <= MM_SPACE_FORCE; flags++) {
        assert_int_equal(poke(s, AT + PAGE - 5, bytes, 9, flags, 4), MM_ERR_FAULT);
        hash = state_hash(f, s);
        assert_int_equal(peek(s, AT + PAGE, bytes, 1, flags, 1), MM_ERR_FAULT);
        assert_int_equal(wipe(s, AT + 2 * PAGE - 1, 1, flags, 1), MM_ERR_FAULT);
        assert_int_equal(poke(s, AT + 2 * PAGE, bytes, 1, flags, 1), MM_ERR_FAULT);
        assert_true(state_hash(f, s) == hash);
    }
    assert_int_equal(peek(s, AT + PAGE - 1, bytes, PAGE, 0, PAGE - 1), MM_ERR_FAULT);
    assert_int_equal(bytes[1], 3); /* as it was */
    put_last(f, s);
    fixture_stop(f);
}

/* --- what runs out, and what is wrong --------------------------------------------------------- */

static void test_no_memory(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space_limits limits = {.resident_bytes = 2 * PAGE};
    struct mm_space *s = new_space(f);
    uint8_t bytes[4 * PAGE];

    (void)state;
    memset(bytes, 1, sizeof(bytes));
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    put_word(s, AT, 1);
    t_machine_leave_frames(&f->m, 2);
    assert_int_equal(poke(s, AT + 8, bytes, 4 * PAGE, 0, PAGE + 8), MM_ERR_NO_MEMORY);
    t_machine_leave_frames(&f->m, UINT64_MAX);
    assert_int_equal(unmap(s, AT, 8 * PAGE), MM_OK);
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    assert_int_equal(poke(s, AT + 1, bytes, 3 * PAGE, 0, PAGE + 1), MM_ERR_NO_MEMORY);
    assert_int_equal(peek(s, AT, bytes, 3 * PAGE, 0, PAGE), MM_ERR_NO_MEMORY);
    assert_int_equal(resident(s), 2 * PAGE);
    well(s);
    put_last(f, s);
    fixture_stop(f);
}

static void test_stack_grows(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, 1024 * PAGE, PAGE, RW, MM_SPACE_STACK), MM_OK);
    put_word(s, 1020 * PAGE, 4);
    assert_int_equal(word_at(s, 1020 * PAGE), 4);
    assert_int_equal(word_at(s, 1022 * PAGE), 0);
    well(s);
    put_last(f, s);
    fixture_stop(f);
}

static void test_bad_input(void **state)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     PAGE - 1,
                                     PAGE,
                                     PAGE + 1,
                                     USER_LAST - 1,
                                     USER_LAST,
                                     T_USER_LEN - 1,
                                     T_USER_LEN,
                                     T_USER_LEN + 1,
                                     T_ARENA,
                                     UINT64_C(1) << 56,
                                     UINT64_MAX - PAGE,
                                     UINT64_MAX};
    static const uint32_t flags[] = {0, MM_SPACE_FORCE, 2, UINT32_MAX};
    const unsigned nr = sizeof(edges) / sizeof(edges[0]);
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *kernel = mm_space_kernel(&f->spaces);
    uint64_t hash = state_hash(f, s);
    uint8_t byte = 5;

    (void)state;
    for (unsigned i = 0; i < nr * nr * 4; i++) {
        uint64_t at = edges[i % nr];
        uint64_t len = edges[i / nr % nr];
        uint32_t flag = flags[i / nr / nr];
        bool inside = at >= PAGE && at < USER_LAST && len <= USER_LAST - at;
        mm_status_t want = flag > 1   ? MM_ERR_INVALID_FLAGS
                           : len == 0 ? MM_OK
                           : inside   ? MM_ERR_FAULT
                                      : MM_ERR_INVALID_ADDRESS;
        uint64_t left = flag > 1 ? 77 : len;

        assert_int_equal(peek(s, at, &byte, len, flag, left), want);
        assert_int_equal(poke(s, at, &byte, len, flag, left), want);
        assert_int_equal(wipe(s, at, len, flag, left), want);
        want = flag > 1 ? want : MM_ERR_UNSUPPORTED;
        assert_int_equal(peek(kernel, at, &byte, len, flag, left), want);
        assert_int_equal(poke(kernel, at, &byte, len, flag, left), want);
        assert_int_equal(wipe(kernel, at, len, flag, left), want);
    }
    assert_int_equal(peek(NULL, AT, &byte, 1, 0, 77), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(peek(s, AT, NULL, 1, 0, 77), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(poke(NULL, AT, &byte, 1, 0, 77), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(poke(s, AT, NULL, 1, 0, 77), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(wipe(NULL, AT, 1, 0, 77), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(byte, 5);
    assert_true(state_hash(f, s) == hash);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),           cmocka_unit_test(test_nothing_to_move),
        cmocka_unit_test(test_hole_reads_zero), cmocka_unit_test(test_no_bit_is_set),
        cmocka_unit_test(test_copy_on_write),   cmocka_unit_test(test_large_leaf),
        cmocka_unit_test(test_rights),          cmocka_unit_test(test_forced_is_private),
        cmocka_unit_test(test_in_place),        cmocka_unit_test(test_guard),
        cmocka_unit_test(test_no_memory),       cmocka_unit_test(test_stack_grows),
        cmocka_unit_test(test_bad_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
