// SPDX-License-Identifier: MIT
/**
 * Claims of the physical ranges in spaces: no page has two memory types, in all spaces and the
 * arena; and what is claimed is what is mapped, whatever is cut, replaced or given up.
 */
#include "space_devices.h"
#include "space_nodes.h"

static struct fixture *start(bool arena)
{
    return arena ? fixture_start_with_arena(NULL) : fixture_start(NULL);
}

/* --- types conflict ------------------------------------------------------------------------------ */

static void test_between_spaces(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct fixture *f = start(i == 1);
        struct mm_space *a = new_space(f);
        struct mm_space *b = new_space(f);
        uint64_t before;

        assert_int_equal(map_device(a, AT, 4 * PAGE, REGISTERS, UC, 0), MM_OK);
        before = state_hash(f, b);
        for (int type = 0; type < (int)MM_MEMTYPE_COUNT; type++) {
            if (type != (int)UC) {
                assert_int_equal(
                    map_device(b, AT, PAGE, REGISTERS + 3 * PAGE, (mm_memtype_t)type, 0),
                    MM_ERR_BUSY);
                assert_int_equal(
                    map_device(b, AT, 3 * PAGE, REGISTERS - 2 * PAGE, (mm_memtype_t)type, 0),
                    MM_ERR_BUSY);
                assert_int_equal(
                    map_device(a, AT + 8 * PAGE, PAGE, REGISTERS, (mm_memtype_t)type, 0),
                    MM_ERR_BUSY);
            }
        }
        assert_int_equal(state_hash(f, b), before);
        assert_int_equal(map_device(b, AT, 2 * PAGE, REGISTERS - 2 * PAGE, WC, 0), MM_OK);
        assert_int_equal(map_device(b, AT + 2 * PAGE, 4 * PAGE, REGISTERS, UC, 0), MM_OK);
        assert_int_equal(map_device(b, AT + 6 * PAGE, 2 * PAGE, REGISTERS + 4 * PAGE, WC, 0),
                         MM_OK);
        all_well(f, a);
        all_well(f, b);
        /* Two have it: the last one's claim counts. */
        put_last(f, a);
        assert_false(could_map(f, REGISTERS, 4 * PAGE, WC));
        assert_int_equal(unmap(b, AT + 2 * PAGE, 4 * PAGE), MM_OK);
        assert_true(could_map(f, REGISTERS, 4 * PAGE, WC));
        put_last(f, b);
        assert_true(could_map(f, REGISTERS - 2 * PAGE, 8 * PAGE, UC));
        fixture_stop(f);
    }
}

/* Managers that name no arena know nothing of one, and nothing of each other. */
static void test_between_space_and_arena(void **state)
{
    struct fixture *f = start(true);
    struct mm_space *s = new_space(f);
    struct mm_prange range = mm_prange(mm_paddr(REGISTERS), 2 * PAGE);
    mm_vaddr_t at;
    uint64_t before;

    (void)state;
    /* The space was first. */
    assert_int_equal(map_device(s, AT, 4 * PAGE, REGISTERS, WC, 0), MM_OK);
    assert_int_equal(mm_kva_map(&f->kva, range, MM_PROT_RW, UC, 0, &at), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(mm_kva_map(&f->kva, range, MM_PROT_RW, WC, 0, &at), MM_OK);
    all_well(f, s);
    assert_int_equal(mm_kva_destroy(&f->kva), MM_ERR_BUSY);
    assert_int_equal(unmap(s, AT, 4 * PAGE), MM_OK);
    /* The arena has it still. */
    before = state_hash(f, s);
    assert_int_equal(map_device(s, AT, 4 * PAGE, REGISTERS, UC, 0), MM_ERR_BUSY);
    assert_int_equal(state_hash(f, s), before);
    assert_int_equal(map_device(s, AT, PAGE, REGISTERS + 2 * PAGE, UC, 0), MM_OK);
    all_well(f, s);
    /* Freed there: claimed until a purge, which whoever meets it makes. */
    mm_kva_free(&f->kva, at);
    assert_int_equal(nr_claims(f, WC), 1);
    assert_int_equal(map_device(s, AT + 4 * PAGE, 3 * PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(nr_claims(f, WC), 0);
    all_well(f, s);
    /* The other way round: what a space gives up is free at once. */
    assert_int_equal(unmap(s, AT, 8 * PAGE), MM_OK);
    assert_int_equal(mm_kva_map(&f->kva, range, MM_PROT_RW, WC, 0, &at), MM_OK);
    mm_kva_free(&f->kva, at);
    put_last(f, s);
    fixture_stop(f);
}

/* --- what is cut -----------------------------------------------------------------------------------
 */

static void test_what_goes_is_free(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct fixture *f = start(i == 1);
        struct mm_space *s = new_space(f);
        struct mm_space *other = new_space(f);

        assert_int_equal(map_device(s, AT, 8 * PAGE, REGISTERS, UC, 0), MM_OK);
        /* The middle, an end, a beginning, and the rest. */
        assert_int_equal(unmap(s, AT + 3 * PAGE, 2 * PAGE), MM_OK);
        assert_int_equal(nr_claims(f, UC), 2);
        assert_int_equal(device_bytes(s), 6 * PAGE);
        all_well(f, s);
        assert_true(could_map(f, REGISTERS + 3 * PAGE, 2 * PAGE, WC));
        assert_false(could_map(f, REGISTERS + 2 * PAGE, PAGE, WC));
        assert_false(could_map(f, REGISTERS + 5 * PAGE, PAGE, WC));
        assert_int_equal(map_device(other, AT, 2 * PAGE, REGISTERS + 3 * PAGE, WC, 0), MM_OK);
        assert_int_equal(unmap(s, AT + 7 * PAGE, 4 * PAGE), MM_OK);
        assert_int_equal(unmap(s, AT - 2 * PAGE, 3 * PAGE), MM_OK);
        all_well(f, s);
        assert_true(could_map(f, REGISTERS, PAGE, WC));
        assert_true(could_map(f, REGISTERS + 7 * PAGE, PAGE, WC));
        assert_false(could_map(f, REGISTERS + PAGE, 2 * PAGE, WC));
        assert_false(could_map(f, REGISTERS + 5 * PAGE, 2 * PAGE, WC));
        /* Both pieces cut at once. */
        assert_int_equal(unmap(s, AT + 2 * PAGE, 4 * PAGE), MM_OK);
        all_well(f, s);
        assert_int_equal(nr_claims(f, UC), 2);
        assert_int_equal(device_bytes(s), 2 * PAGE);
        assert_true(could_map(f, REGISTERS + 2 * PAGE, 4 * PAGE, WC));
        assert_int_equal(unmap(s, AT, 8 * PAGE), MM_OK);
        assert_int_equal(nr_claims(f, UC), 0);
        assert_int_equal(device_bytes(s), 0);
        all_well(f, s);
        put_last(f, other);
        put_last(f, s);
        fixture_stop(f);
    }
}

/* Pieces keep their claims when only rights change; they are never one again. */
static void test_protected_pieces(void **state)
{
    struct fixture *f = start(true);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_device(s, AT, 8 * PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(map_device(s, AT + 8 * PAGE, 8 * PAGE, REGISTERS + 8 * PAGE, UC, 0), MM_OK);
    assert_int_equal(nr_regions(s), 2);
    assert_int_equal(protect(s, AT + 3 * PAGE, 2 * PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(nr_regions(s), 4);
    assert_int_equal(nr_claims(f, UC), 4);
    all_well(f, s);
    /* Across two devices, with a piece of the first between: four pieces at once. */
    assert_int_equal(protect(s, AT + 2 * PAGE, 8 * PAGE, MM_PROT_NONE), MM_OK);
    assert_int_equal(nr_regions(s), 6);
    assert_int_equal(nr_claims(f, UC), 6);
    all_well(f, s);
    assert_int_equal(protect(s, AT, 16 * PAGE, RW), MM_OK);
    assert_int_equal(nr_claims(f, UC), nr_regions(s));
    assert_int_equal(device_bytes(s), 16 * PAGE);
    assert_false(could_map(f, REGISTERS + 4 * PAGE, PAGE, WC));
    all_well(f, s);
    assert_int_equal(reached(f, s, AT + 12 * PAGE, T_MMU_WRITE), REGISTERS + 12 * PAGE);
    assert_int_equal(unmap(s, AT + PAGE, 14 * PAGE), MM_OK);
    assert_int_equal(nr_claims(f, UC), 2);
    all_well(f, s);
    assert_true(could_map(f, REGISTERS + PAGE, 14 * PAGE, WC));
    put_last(f, s);
    assert_int_equal(nr_claims(f, UC), 0);
    fixture_stop(f);
}

/* Memory, and another device, in the place of a device's parts. */
static void test_replaced_parts(void **state)
{
    struct fixture *f = start(true);
    struct mm_space *s = new_space(f);
    uint64_t before;

    (void)state;
    assert_int_equal(map_device(s, AT, 8 * PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 2 * PAGE, 2 * PAGE, RW, MM_SPACE_REPLACE | MM_SPACE_POPULATE),
                     MM_OK);
    assert_int_equal(device_bytes(s), 6 * PAGE);
    assert_int_equal(resident(s), 2 * PAGE);
    all_well(f, s);
    assert_true(could_map(f, REGISTERS + 2 * PAGE, 2 * PAGE, WC));
    /* The same memory with another type, where it is itself what is replaced: not in one step. */
    before = state_hash(f, s);
    assert_int_equal(
        map_device(s, AT + 4 * PAGE, 4 * PAGE, REGISTERS + 4 * PAGE, WC, MM_SPACE_REPLACE),
        MM_ERR_BUSY);
    assert_int_equal(state_hash(f, s), before);
    /* With the same type it is. */
    assert_int_equal(
        map_device(s, AT + 3 * PAGE, 3 * PAGE, REGISTERS + 5 * PAGE, UC, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(device_bytes(s), 7 * PAGE);
    assert_int_equal(resident(s), PAGE);
    assert_int_equal(reached(f, s, AT + 3 * PAGE, T_MMU_WRITE), REGISTERS + 5 * PAGE);
    all_well(f, s);
    assert_true(could_map(f, REGISTERS + 2 * PAGE, 3 * PAGE, WC));
    assert_false(could_map(f, REGISTERS + 5 * PAGE, PAGE, WC));
    /* A device wholly replaced by a device; a guard over all of it. */
    assert_int_equal(map_device(s, AT, 2 * PAGE, BUFFER, WC, MM_SPACE_REPLACE), MM_OK);
    all_well(f, s);
    assert_true(could_map(f, REGISTERS, 2 * PAGE, WC));
    assert_int_equal(map_at(s, AT, 8 * PAGE, MM_PROT_NONE, MM_SPACE_REPLACE | MM_SPACE_GUARD),
                     MM_OK);
    assert_int_equal(device_bytes(s), 0);
    assert_int_equal(nr_claims(f, UC) + nr_claims(f, WC), 0);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* --- what is moved and what is copied --------------------------------------------------------------
 */

static mm_status_t move(struct mm_space *s, uint64_t from, uint64_t len, uint64_t to)
{
    mm_vaddr_t out;

    return mm_space_remap(s, mm_vrange(mm_vaddr(from), len), len,
                          MM_SPACE_REMAP_MOVE | MM_SPACE_REMAP_FIXED, mm_vaddr(to), &out);
}

static void test_moved(void **state)
{
    struct fixture *f = start(true);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_device(s, AT, 8 * PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(move(s, AT, 8 * PAGE, AT + 32 * PAGE), MM_OK);
    assert_int_equal(nr_claims(f, UC), 1);
    all_well(f, s);
    /* The middle: three pieces, a claim each. */
    assert_int_equal(move(s, AT + 34 * PAGE, 2 * PAGE, AT), MM_OK);
    assert_int_equal(nr_claims(f, UC), 3);
    assert_int_equal(device_bytes(s), 8 * PAGE);
    assert_int_equal(reached(f, s, AT + PAGE, T_MMU_WRITE), REGISTERS + 3 * PAGE);
    assert_int_equal(reached(f, s, AT + 34 * PAGE, 0), 0);
    all_well(f, s);
    /* Over a piece of itself. */
    assert_int_equal(move(s, AT + 36 * PAGE, 2 * PAGE, AT + PAGE), MM_OK);
    assert_int_equal(device_bytes(s), 7 * PAGE);
    assert_true(could_map(f, REGISTERS + 3 * PAGE, PAGE, WC));
    assert_false(could_map(f, REGISTERS + 2 * PAGE, PAGE, WC));
    assert_false(could_map(f, REGISTERS + 5 * PAGE, PAGE, WC));
    all_well(f, s);
    assert_int_equal(unmap(s, AT, 64 * PAGE), MM_OK);
    assert_int_equal(nr_claims(f, UC), 0);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

static void test_child_keeps_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct fixture *f = start(i == 1);
        struct mm_space *s = new_space(f);
        struct mm_space *child;

        assert_int_equal(map_device(s, AT, 8 * PAGE, REGISTERS, UC, 0), MM_OK);
        assert_int_equal(protect(s, AT + 2 * PAGE, PAGE, MM_PROT_READ), MM_OK);
        child = clone_of(s);
        assert_int_equal(nr_claims(f, UC), 6);
        assert_int_equal(device_bytes(child), 8 * PAGE);
        all_well(f, s);
        all_well(f, child);
        /* In both, at once, and written without a fault. */
        assert_int_equal(reached(f, s, AT, T_MMU_WRITE), REGISTERS);
        assert_int_equal(reached(f, child, AT, T_MMU_WRITE), REGISTERS);
        assert_int_equal(reached(f, child, AT + 2 * PAGE, T_MMU_WRITE), 0);
        assert_int_equal(fault_at(child, AT + 2 * PAGE, MM_FAULT_WRITE | MM_FAULT_PRESENT),
                         MM_FAULT_SIGNAL_ACCESS);
        put_last(f, s);
        assert_false(could_map(f, REGISTERS + 7 * PAGE, PAGE, WC));
        assert_int_equal(unmap(child, AT + 4 * PAGE, 4 * PAGE), MM_OK);
        assert_true(could_map(f, REGISTERS + 4 * PAGE, 4 * PAGE, WC));
        assert_false(could_map(f, REGISTERS + 3 * PAGE, PAGE, WC));
        all_well(f, child);
        put_last(f, child);
        assert_true(could_map(f, REGISTERS, 8 * PAGE, WC));
        fixture_stop(f);
    }
}

/* --- nothing to be had -----------------------------------------------------------------------------
 */

/* Calls that need nodes or tables, with k of them for each k until they succeed. */
struct victim {
    mm_status_t (*call)(struct mm_space *s);
    bool huge; /* what is there: 2 MiB and 1 GiB leaves, else pages */
};

static mm_status_t do_map(struct mm_space *s)
{
    return map_device(s, (UINT64_C(1) << 45) - PAGE, 2 * PAGE, REGISTERS, UC, 0);
}

static mm_status_t do_replace(struct mm_space *s)
{
    return map_device(s, LARGE_AT + 3 * PAGE, MM_SIZE_1G, UINT64_C(1) << 40, UC, MM_SPACE_REPLACE);
}

static mm_status_t do_unmap(struct mm_space *s)
{
    return unmap(s, LARGE_AT + 3 * PAGE, PAGE);
}

static mm_status_t do_protect(struct mm_space *s)
{
    return protect(s, LARGE_AT + 3 * PAGE, 2 * MM_SIZE_1G, MM_PROT_READ);
}

static mm_status_t do_map_memory(struct mm_space *s)
{
    return map_at(s, LARGE_AT + MM_SIZE_2M + PAGE, 2 * PAGE, RW,
                  MM_SPACE_REPLACE | MM_SPACE_POPULATE);
}

static mm_status_t do_move(struct mm_space *s)
{
    return move(s, LARGE_AT + 3 * PAGE, 2 * PAGE, LARGE_AT + 4 * MM_SIZE_1G);
}

static const struct victim victims[] = {
    {do_move, true},    {do_move, false},   {do_map, true},
    {do_map, false},    {do_unmap, true},   {do_unmap, false},
    {do_protect, true}, {do_replace, true}, {do_map_memory, true}};

/* Two devices that touch, of large leaves or of small ones. */
static struct mm_space *prepared(struct fixture *f, bool huge)
{
    struct mm_space *s = new_space(f);
    uint64_t len = huge ? MM_SIZE_1G : 16 * PAGE;

    assert_int_equal(map_device(s, LARGE_AT, len, BUFFER, WC, 0), MM_OK);
    assert_int_equal(map_device(s, LARGE_AT + len, huge ? MM_SIZE_1G + MM_SIZE_2M : PAGE,
                                BUFFER + 4 * MM_SIZE_1G, WC, 0),
                     MM_OK);
    return s;
}

static void run_out(struct fixture *f, const struct victim *v, bool of_frames)
{
    static struct nodes_taken taken[NR_NODE_KINDS];
    struct mm_space *s = prepared(f, v->huge);
    mm_status_t status = MM_ERR_NO_MEMORY;

    for (unsigned k = 0; status != MM_OK; k++) {
        uint64_t before;

        if (of_frames) {
            assert_in_range(k, 0, 40 + (v->call == do_replace ? 520 : 0));
            t_machine_leave_frames(&f->m, k);
        } else {
            /* Ranges of devices make no spaces. */
            assert_in_range(k, 0, (NR_NODE_KINDS - 1) * NODES_STEPS - 1);
            nodes_leave(f, taken, NODES_STEPS + k);
        }
        before = state_hash(f, s);
        status = v->call(s);
        if (status != MM_OK) {
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_int_equal(state_hash(f, s), before);
        }
        if (of_frames) {
            t_machine_leave_frames(&f->m, UINT64_MAX);
        } else {
            nodes_return(f, taken);
        }
        all_well(f, s);
    }
    put_last(f, s);
    assert_int_equal(nr_claims(f, WC) + nr_claims(f, UC), 0);
}

static void test_nothing_to_be_had(void **state)
{
    struct fixture *f = fixture_start(NULL);

    (void)state;
    for (unsigned i = 0; i < sizeof(victims) / sizeof(victims[0]); i++) {
        run_out(f, &victims[i], true);
        run_out(f, &victims[i], false);
    }
    fixture_stop(f);
}

/* --- CPUs ------------------------------------------------------------------------------------------
 */

/* Nobody else can map it before every CPU has forgotten it: the claim goes after the flush. */
static void test_after_the_flush(void **state)
{
    const struct t_machine_config machine = {.nr_cpus = 4};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_device(s, AT, 8 * PAGE, REGISTERS, UC, 0), MM_OK);
    for (f->m.cpus.now = f->m.cpus.nr; f->m.cpus.now-- > 0;) {
        assert_int_equal(reached(f, s, AT + 4 * PAGE, T_MMU_WRITE), REGISTERS + 4 * PAGE);
    }
    f->m.cpus.now = 0;
    assert_int_equal(unmap(s, AT + 4 * PAGE, PAGE), MM_OK);
    all_well(f, s);
    for (f->m.cpus.now = f->m.cpus.nr; f->m.cpus.now-- > 0;) {
        assert_int_equal(reached(f, s, AT + 4 * PAGE, 0), 0);
        assert_int_equal(reached(f, s, AT + 5 * PAGE, 0), REGISTERS + 5 * PAGE);
    }
    f->m.cpus.now = 0;
    assert_int_equal(map_device(s, AT + 5 * PAGE, PAGE, BUFFER, WC, MM_SPACE_REPLACE), MM_OK);
    for (f->m.cpus.now = f->m.cpus.nr; f->m.cpus.now-- > 0;) {
        assert_int_equal(reached(f, s, AT + 5 * PAGE, 0), BUFFER);
    }
    f->m.cpus.now = 0;
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_between_spaces),    cmocka_unit_test(test_between_space_and_arena),
        cmocka_unit_test(test_what_goes_is_free), cmocka_unit_test(test_protected_pieces),
        cmocka_unit_test(test_replaced_parts),    cmocka_unit_test(test_moved),
        cmocka_unit_test(test_child_keeps_it),    cmocka_unit_test(test_nothing_to_be_had),
        cmocka_unit_test(test_after_the_flush),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
