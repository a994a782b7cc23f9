// SPDX-License-Identifier: MIT
/**
 * Spaces: their life, their regions, and what they say of themselves.
 */
#include "space_fixture.h"

/* --- life ------------------------------------------------------------------------------------- */

static void test_create_and_put(void **state)
{
    struct fixture *f = fixture_start(NULL);
    uint64_t before = t_machine_free_frames(&f->m);
    struct mm_space *a = new_space(f);
    struct mm_space *b = new_space(f);
    struct mm_space_stats stats;

    (void)state;
    assert_int_not_equal(mm_space_id(a), mm_space_id(b));
    assert_int_equal(t_machine_free_frames(&f->m), before - 2); /* two roots */
    assert_int_equal(mm_spaces_destroy(&f->spaces), MM_ERR_BUSY);
    mm_space_get(a);
    assert_int_equal(mm_space_get_stats(a, &stats), MM_OK);
    assert_int_equal(stats.refs, 2);
    assert_int_equal(stats.id, mm_space_id(a));
    assert_int_equal(stats.nr_regions, 0);
    assert_int_equal(stats.mapped_bytes, 0);
    assert_false(mm_space_put(a));
    assert_int_equal(mm_space_range(a).start.raw, PAGE);
    assert_int_equal(mm_space_range(a).len, T_USER_LEN - 2 * PAGE);
    assert_int_equal(mm_space_activate(a), MM_OK);
    assert_int_equal(f->m.cpu->mmu.cr3, mm_paging_root(mm_space_table(a)).raw);
    put_last(f, a);
    put_last(f, b);
    assert_int_equal(t_machine_free_frames(&f->m), before);
    fixture_stop(f);
}

/* Taking or dropping a reference that is not there is corruption. */
static void test_bad_references(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *a = new_space(f);
    struct t_trap_info info;

    (void)state;
    assert_true(mm_space_put(a));
    T_EXPECT_PANIC((void)mm_space_put(a), &info);
    assert_string_equal(info.room, "space");
    assert_int_equal(info.address, (uintptr_t)a);
    assert_int_equal(info.recorded_value, 0);
    T_EXPECT_PANIC(mm_space_get(a), &info);
    T_EXPECT_PANIC((void)mm_space_put(mm_space_kernel(&f->spaces)), &info);
    assert_string_equal(info.what, "last reference to the kernel's space dropped");
    mm_space_get(mm_space_kernel(&f->spaces));
    assert_int_equal(mm_spaces_destroy(&f->spaces), MM_ERR_BUSY);
    assert_false(mm_space_put(mm_space_kernel(&f->spaces)));
    fixture_stop(f);
}

/* The last put of a space that a CPU runs in would free the tables under it. */
static void test_put_while_active(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *a = new_space(f);
    struct t_trap_info info;

    (void)state;
    assert_int_equal(mm_space_activate(a), MM_OK);
    T_EXPECT_PANIC((void)mm_space_put(a), &info);
    assert_string_equal(info.room, "space");
    assert_string_equal(info.what, "freed while a CPU runs in it");
    assert_int_equal(info.address, (uintptr_t)a);
    assert_string_equal(info.claimed, "the last reference to it");
    /* The panic did not return in a kernel, and what it left behind is no state to go on from. */
    t_ram_delete(f->m.ram);
    free(f->m.pool_buffer);
    free(f);
}

static void test_init(void **state)
{
    static const struct mm_physmap_ops ops = {NULL, NULL};
    struct fixture *f = fixture_start(NULL);
    struct mm_physmap with_ops = {.ops = &ops};
    struct mm_spaces other = {0};
    struct mm_spaces zero = {0};
    struct mm_pagetable no_table = {0};
    struct mm_pagetable user_root = {0};
    struct mm_frames no_frames = {0};
    struct mm_pool no_pool = {0};
    struct mm_spaces_config config = fixture_config(f);

#define REFUSED(want, field, value)                                                                \
    do {                                                                                           \
        config = fixture_config(f);                                                                \
        config.field = (value);                                                                    \
        assert_int_equal(mm_spaces_init(&other, &config), (want));                                 \
        assert_memory_equal(&other, &zero, sizeof(other));                                         \
    } while (0)

    (void)state;
    assert_int_equal(mm_spaces_init(NULL, &config), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_spaces_init(&other, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_spaces_init(&f->spaces, &config), MM_ERR_ALREADY_INITIALIZED);
    REFUSED(MM_ERR_INVALID_ARGUMENT, frames, NULL);
    REFUSED(MM_ERR_INVALID_ARGUMENT, physmap, NULL);
    REFUSED(MM_ERR_INVALID_ARGUMENT, kernel, NULL);
    REFUSED(MM_ERR_INVALID_ARGUMENT, pool, NULL);
    REFUSED(MM_ERR_NOT_INITIALIZED, frames, &no_frames);
    REFUSED(MM_ERR_NOT_INITIALIZED, kernel, &no_table);
    REFUSED(MM_ERR_NOT_INITIALIZED, pool, &no_pool);
    assert_int_equal(mm_paging_init_user(&user_root, &f->m.kernel), MM_OK);
    REFUSED(MM_ERR_INVALID_ARGUMENT, kernel, &user_root);
    assert_int_equal(mm_paging_destroy(&user_root), MM_OK);
    REFUSED(MM_ERR_UNSUPPORTED, physmap, &with_ops);
    REFUSED(MM_ERR_NOT_ALIGNED, kernel_range, mm_vrange(mm_vaddr(T_ARENA + 1), PAGE));
    REFUSED(MM_ERR_NOT_ALIGNED, kernel_range, mm_vrange(mm_vaddr(T_ARENA), PAGE + 1));
    REFUSED(MM_ERR_INVALID_ADDRESS, kernel_range, mm_vrange(mm_vaddr(PAGE), PAGE));
    REFUSED(MM_ERR_INVALID_ADDRESS, kernel_range, mm_vrange(mm_vaddr(T_ARENA), T_ARENA_LEN + PAGE));
    REFUSED(MM_ERR_INVALID_ADDRESS, kernel_range, mm_vrange(mm_vaddr(0 - PAGE), 2 * PAGE));
#undef REFUSED
    fixture_stop(f);
}

/* Without a range there is no kernel space, and user spaces all the same. */
static void test_init_without_range(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces other = {0};
    struct mm_spaces zero = {0};
    struct mm_spaces_config config = fixture_config(f);
    struct mm_space *space = NULL;

    (void)state;
    config.kernel_range = mm_vrange(mm_vaddr(0), 0);
    assert_int_equal(mm_spaces_init(&other, &config), MM_OK);
    assert_null(mm_space_kernel(&other));
    assert_int_equal(mm_space_create(&other, &space), MM_OK);
    assert_true(mm_space_put(space));
    assert_int_equal(mm_spaces_destroy(&other), MM_OK);
    assert_memory_equal(&other, &zero, sizeof(other));
    assert_int_equal(mm_spaces_destroy(&other), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_spaces_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_null(mm_space_kernel(&other));
    assert_null(mm_space_kernel(NULL));
    assert_int_equal(mm_space_create(&other, &space), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_space_create(NULL, &space), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_create(&f->spaces, NULL), MM_ERR_INVALID_ARGUMENT);
    fixture_stop(f);
}

static void test_init_unsupported(void **state)
{
    struct t_machine m;
    struct mm_spaces spaces = {0};
    struct mm_space *space = NULL;
    struct mm_spaces_config config = {
        .frames = &m.frames, .physmap = &m.physmap, .kernel = &m.kernel, .pool = &m.pool};

    (void)state;
    t_machine_start(&m, &(struct t_machine_config){.no_counts = true});
    assert_int_equal(mm_spaces_init(&spaces, &config), MM_ERR_UNSUPPORTED);
    t_machine_stop(&m);

    /* Frames that the allocator cannot reach: it could not zero them. */
    t_machine_start(&m, NULL);
    m.frames.has_physmap = 0;
    assert_int_equal(mm_spaces_init(&spaces, &config), MM_ERR_UNSUPPORTED);
    m.frames.has_physmap = 1;
    t_machine_stop(&m);

    /* No user range, or one that holds nothing but its first and last page. */
    for (unsigned i = 0; i < 2; i++) {
        t_machine_start(&m, &(struct t_machine_config){.no_user = i == 0, .user_len = 3 * PAGE});
        assert_int_equal(mm_spaces_init(&spaces, &config), MM_OK);
        assert_int_equal(mm_space_create(&spaces, &space), MM_ERR_UNSUPPORTED);
        assert_null(space);
        assert_int_equal(mm_spaces_destroy(&spaces), MM_OK);
        t_machine_stop(&m);
    }
}

/* --- regions ---------------------------------------------------------------------------------- */

static void test_map_places(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_request r = {.len = 3 * PAGE - 5, .prot = RW};
    mm_vaddr_t at = {0};
    struct mm_region_info info;

    (void)state;
    /* Anywhere: the lowest page that is not page 0; the length is rounded up. */
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, PAGE);
    assert_int_equal(mm_space_find(s, mm_vaddr(3 * PAGE + 4095), &info), MM_OK);
    assert_int_equal(info.range.len, 3 * PAGE);
    /* A hint that is free is taken; one that is not, or lies outside, is not. */
    r.at = mm_vaddr(64 * PAGE);
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, 64 * PAGE);
    r.at = mm_vaddr(66 * PAGE);
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, 4 * PAGE);
    r.at = mm_vaddr(USER_LAST);
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, 7 * PAGE);
    r.at = mm_vaddr(UINT64_C(0xffff800000000000));
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, 10 * PAGE);
    assert_int_equal(nr_regions(s), 2); /* neighbours that agree are one */
    /* Alignment; a hint that is not a multiple is no place. */
    r.at = mm_vaddr(81 * PAGE);
    r.align = 16 * PAGE;
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, 16 * PAGE);
    r.at = mm_vaddr(0);
    r.align = UINT64_C(1) << 40;
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, UINT64_C(1) << 40);
    r.align = UINT64_C(1) << 62;
    at = mm_vaddr(1);
    assert_int_equal(mm_space_map(s, &r, &at), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(at.raw, 1);
    r.align = 0;
    r.len = T_USER_LEN;
    assert_int_equal(mm_space_map(s, &r, &at), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_merge_and_split(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_request r = {
        .at = mm_vaddr(20 * PAGE), .len = PAGE, .prot = RW, .flags = MM_SPACE_FIXED, .tag = 9};
    struct mm_region_info info;
    mm_vaddr_t at;

    (void)state;
    assert_int_equal(map_at(s, 10 * PAGE, 5 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, 16 * PAGE, 4 * PAGE, RW, 0), MM_OK);
    assert_int_equal(nr_regions(s), 2);
    assert_int_equal(map_at(s, 15 * PAGE, PAGE, RW, 0), MM_OK); /* joins both */
    assert_int_equal(nr_regions(s), 1);
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK); /* another tag: no merge */
    assert_int_equal(nr_regions(s), 2);
    assert_int_equal(map_at(s, 21 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, 22 * PAGE, PAGE, MM_PROT_NONE, 0), MM_OK);
    assert_int_equal(nr_regions(s), 4);

    assert_int_equal(unmap(s, 12 * PAGE, PAGE), MM_OK);
    assert_int_equal(nr_regions(s), 5);
    assert_int_equal(protect(s, 14 * PAGE, 3 * PAGE - 1, MM_PROT_READ), MM_OK);
    assert_int_equal(nr_regions(s), 7);
    assert_int_equal(mm_space_find(s, mm_vaddr(15 * PAGE), &info), MM_OK);
    assert_int_equal(info.range.start.raw, 14 * PAGE);
    assert_int_equal(info.range.len, 3 * PAGE);
    assert_int_equal(info.prot, MM_PROT_READ);
    assert_int_equal(protect(s, 14 * PAGE, 3 * PAGE, RW), MM_OK);
    assert_int_equal(nr_regions(s), 5);
    assert_int_equal(mm_space_find(s, mm_vaddr(12 * PAGE), &info), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_space_next(s, mm_vaddr(12 * PAGE), &info), MM_OK);
    assert_int_equal(info.range.start.raw, 13 * PAGE);
    assert_int_equal(mm_space_next(s, mm_vaddr(21 * PAGE), &info), MM_OK);
    assert_int_equal(info.flags, MM_SPACE_GUARD);
    assert_int_equal(mm_space_next(s, mm_vaddr(23 * PAGE), &info), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_space_check(s), MM_OK);
    /* Over everything, holes included. */
    assert_int_equal(unmap(s, PAGE, T_USER_LEN - 2 * PAGE), MM_OK);
    assert_int_equal(nr_regions(s), 0);
    put_last(f, s);
    fixture_stop(f);
}

static void test_protect_refused(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t before;

    (void)state;
    assert_int_equal(map_at(s, 10 * PAGE, 4 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, 14 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, 16 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, 20 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, 22 * PAGE, PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, 10 * PAGE, 1));
    before = state_hash(f, s);
    assert_int_equal(protect(s, 20 * PAGE, 3 * PAGE, MM_PROT_READ), MM_ERR_NOT_MAPPED);
    assert_int_equal(protect(s, 10 * PAGE, 5 * PAGE, MM_PROT_READ), MM_ERR_PERMISSION_DENIED);
    assert_int_equal(protect(s, 9 * PAGE, 2 * PAGE, MM_PROT_READ), MM_ERR_NOT_MAPPED);
    assert_int_equal(protect(s, 15 * PAGE, 2 * PAGE, MM_PROT_READ), MM_ERR_NOT_MAPPED);
    assert_int_equal(protect(s, 16 * PAGE, 2 * PAGE, MM_PROT_READ), MM_ERR_NOT_MAPPED);
    assert_int_equal(protect(s, 10 * PAGE, PAGE, MM_PROT_USER), MM_ERR_INVALID_FLAGS);
    assert_int_equal(protect(s, 10 * PAGE, PAGE, RW | MM_PROT_GLOBAL), MM_ERR_INVALID_FLAGS);
    assert_int_equal(protect(s, 10 * PAGE + 1, PAGE, RW), MM_ERR_NOT_ALIGNED);
    assert_int_equal(protect(s, 10 * PAGE, 0, RW), MM_ERR_INVALID_SIZE);
    assert_int_equal(protect(s, 0, PAGE, RW), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(protect(NULL, PAGE, PAGE, RW), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(state_hash(f, s), before);
    put_last(f, s);
    fixture_stop(f);
}

static void test_null(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_request r = {.len = PAGE};
    struct mm_fault fault = {.at = mm_vaddr(0)};
    enum mm_fault_result result = MM_FAULT_COW;
    struct mm_space_stats stats;
    struct mm_region_info info;
    struct mm_space *other = NULL;
    mm_vaddr_t at;

    (void)state;
    assert_int_equal(mm_space_map(NULL, &r, &at), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_map(s, NULL, &at), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_map(s, &r, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(unmap(NULL, PAGE, PAGE), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_find(NULL, mm_vaddr(0), &info), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_find(s, mm_vaddr(0), NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_next(NULL, mm_vaddr(0), &info), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_next(s, mm_vaddr(0), NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_fault(NULL, &fault, &result), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_fault(s, NULL, &result), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_fault(s, &fault, NULL), MM_ERR_INVALID_ARGUMENT);
    fault.flags = 128;
    assert_int_equal(mm_space_fault(s, &fault, &result), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(result, MM_FAULT_COW);
    assert_int_equal(mm_space_clone(NULL, &other), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_clone(s, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_clone(mm_space_kernel(&f->spaces), &other), MM_ERR_INVALID_ARGUMENT);
    assert_null(other);
    assert_int_equal(mm_space_get_stats(NULL, &stats), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_get_stats(s, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_check(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_activate(NULL), MM_ERR_INVALID_ARGUMENT);
    put_last(f, s);
    fixture_stop(f);
}

/* Hazard 21: awkward addresses and lengths over every range call. What must be answered is worked
 * out in 128 bits. */
static mm_status_t range_status(uint64_t at, uint64_t len, bool mapping)
{
    __uint128_t whole = ((__uint128_t)len + PAGE - 1) / PAGE * PAGE;

    if (at % PAGE != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (len == 0 || whole >> 64 != 0 || (!mapping && at + whole > (__uint128_t)1 << 64)) {
        return MM_ERR_INVALID_SIZE;
    }
    return at < PAGE || at + whole > USER_LAST ? MM_ERR_INVALID_ADDRESS : MM_OK;
}

static void test_boundaries(void **state)
{
    static const uint64_t awkward[] = {0,
                                       1,
                                       PAGE - 1,
                                       PAGE,
                                       PAGE + 1,
                                       2 * PAGE,
                                       (UINT64_C(1) << 47) - 3 * PAGE,
                                       (UINT64_C(1) << 47) - 2 * PAGE,
                                       (UINT64_C(1) << 47) - PAGE,
                                       (UINT64_C(1) << 47) - 1,
                                       UINT64_C(1) << 47,
                                       (UINT64_C(1) << 47) + 1,
                                       (UINT64_C(1) << 56) - 1,
                                       UINT64_C(1) << 56,
                                       (UINT64_C(1) << 56) + 1,
                                       UINT64_C(0xffff800000000000),
                                       0 - 2 * PAGE,
                                       0 - PAGE,
                                       1 - PAGE,
                                       UINT64_MAX};
    const size_t nr = sizeof(awkward) / sizeof(awkward[0]);
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    for (size_t i = 0; i < nr * nr; i++) {
        uint64_t at = awkward[i / nr];
        uint64_t len = awkward[i % nr];
        mm_status_t want = range_status(at, len, false);
        uint64_t empty = state_hash(f, s);

        assert_int_equal(unmap(s, at, len), want);
        assert_int_equal(protect(s, at, len, RW), want == MM_OK ? MM_ERR_NOT_MAPPED : want);
        assert_int_equal(state_hash(f, s), empty);
        want = range_status(at, len, true);
        assert_int_equal(map_at(s, at, len, RW, 0), want);
        if (want == MM_OK) {
            assert_int_equal(nr_regions(s), 1);
            assert_int_equal(map_at(s, at, len, RW, 0), MM_ERR_ALREADY_MAPPED);
            assert_int_equal(protect(s, at, len, MM_PROT_READ), MM_OK);
            assert_int_equal(mm_space_check(s), MM_OK);
            assert_int_equal(unmap(s, at, len), MM_OK);
        }
        assert_int_equal(state_hash(f, s), empty);
    }
    put_last(f, s);
    fixture_stop(f);
}

static void test_map_refused(void **state)
{
    static const struct {
        struct mm_space_request r;
        mm_status_t want;
    } cases[] = {
        {{.len = PAGE, .flags = 8}, MM_ERR_INVALID_FLAGS},
        {{.len = PAGE, .prot = MM_PROT_USER}, MM_ERR_INVALID_FLAGS},
        {{.len = PAGE, .prot = MM_PROT_GLOBAL}, MM_ERR_INVALID_FLAGS},
        {{.len = PAGE, .prot = 64}, MM_ERR_INVALID_FLAGS},
        {{.len = PAGE, .prot = MM_PROT_READ, .flags = MM_SPACE_GUARD}, MM_ERR_INVALID_FLAGS},
        {{.len = PAGE, .at = {1}}, MM_ERR_NOT_ALIGNED},
        {{.len = PAGE, .align = 2048}, MM_ERR_NOT_ALIGNED},
        {{.len = PAGE, .align = 3 * 4096}, MM_ERR_NOT_ALIGNED},
        {{.len = PAGE, .at = {3 * 4096}, .align = 8192, .flags = MM_SPACE_FIXED},
         MM_ERR_NOT_ALIGNED},
        {{.len = 0}, MM_ERR_INVALID_SIZE},
        {{.len = UINT64_MAX}, MM_ERR_INVALID_SIZE},
        {{.len = UINT64_C(1) << 47}, MM_ERR_REGION_NOT_FOUND},
        {{.len = UINT64_C(0xfffffffffffff000)}, MM_ERR_REGION_NOT_FOUND},
        {{.len = UINT64_C(1) << 40, .prot = RW, .flags = MM_SPACE_POPULATE}, MM_ERR_NO_MEMORY},
    };
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t before = state_hash(f, s);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mm_vaddr_t at = {3};

        assert_int_equal(mm_space_map(s, &cases[i].r, &at), cases[i].want);
        assert_int_equal(at.raw, 3);
        assert_int_equal(state_hash(f, s), before);
    }
    put_last(f, s);
    fixture_stop(f);
}

/* --- asking ----------------------------------------------------------------------------------- */

static void test_stats(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_stats stats;
    uint64_t value;

    (void)state;
    assert_int_equal(map_at(s, 16 * PAGE, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, UINT64_C(1) << 40, PAGE, MM_PROT_READ, 0), MM_OK);
    assert_true(store(f, s, 16 * PAGE, 1));
    assert_int_equal(loaded(f, s, UINT64_C(1) << 40), 0);
    assert_false(load(f, s, 8 * PAGE, &value));
    assert_false(store(f, s, UINT64_C(1) << 40, 1));
    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    assert_int_equal(stats.mapped_bytes, 9 * PAGE);
    assert_int_equal(stats.resident_bytes, 2 * PAGE);
    assert_int_equal(stats.nr_regions, 2);
    assert_int_equal(stats.nr_tables, 7); /* the root, and three for each place */
    assert_int_equal(stats.nr_faults[MM_FAULT_ZERO], 2);
    assert_int_equal(stats.nr_faults[MM_FAULT_SIGNAL_MAP], 1);
    assert_int_equal(stats.nr_faults[MM_FAULT_SIGNAL_ACCESS], 1);
    assert_int_equal(stats.refs, 1);
    put_last(f, s);
    fixture_stop(f);
}

/* The check finds what each room alone cannot see. */
static void test_check_finds(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_pagetable *pt = mm_space_table(s);
    struct mm_vrange page = mm_vrange(mm_vaddr(32 * PAGE), PAGE);
    struct mm_gather *gather = malloc(sizeof(*gather));
    mm_pfn_t frame;

    (void)state;
    assert_non_null(gather);
    assert_int_equal(map_at(s, 16 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, 16 * PAGE, 0));
    assert_int_equal(protect(s, 16 * PAGE, 2 * PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(mm_space_check(s), MM_OK);
    /* A page outside of all regions. */
    assert_int_equal(mm_frame_alloc(&f->m.frames, NULL, &frame), MM_OK);
    assert_int_equal(
        mm_paging_map(pt, page, mm_pfn_addr(frame), MM_PROT_READ | MM_PROT_USER, MM_MEMTYPE_WB, 0),
        MM_OK);
    assert_int_equal(mm_space_check(s), MM_ERR_CORRUPTED);
    assert_int_equal(mm_gather_begin(gather, pt), MM_OK);
    assert_int_equal(mm_paging_unmap(pt, page, 0, gather), MM_OK);
    mm_gather_end(gather);
    assert_int_equal(mm_space_check(s), MM_OK);
    mm_frame_free(&f->m.frames, frame, 0);
    /* A right that the region lacks. */
    page = mm_vrange(mm_vaddr(16 * PAGE), PAGE);
    assert_int_equal(mm_gather_begin(gather, pt), MM_OK);
    assert_int_equal(mm_paging_protect(pt, page, RW | MM_PROT_USER, 0, gather), MM_OK);
    mm_gather_end(gather);
    assert_int_equal(mm_space_check(s), MM_ERR_CORRUPTED);
    /* A shared frame that is writable. */
    assert_int_equal(protect(s, 16 * PAGE, 2 * PAGE, RW), MM_OK);
    assert_int_equal(mm_space_check(s), MM_OK);
    frame = mm_pfn(frame_at(s, 16 * PAGE));
    mm_frame_get(&f->m.frames, frame);
    assert_int_equal(mm_space_check(s), MM_ERR_CORRUPTED);
    assert_false(mm_frame_put(&f->m.frames, frame));
    assert_int_equal(mm_space_check(s), MM_OK);
    free(gather);
    put_last(f, s);
    fixture_stop(f);
}

/* No space has no table, no range, and no number that a space ever has; a reference to it traps. */
static void test_null_is_no_space(void **state)
{
    struct t_trap_info trap;

    (void)state;
    assert_null(mm_space_table(NULL));
    assert_int_equal(mm_space_range(NULL).len, 0);
    assert_true(mm_space_id(NULL) == UINT64_MAX);
    T_EXPECT_SIGILL(mm_space_get(NULL), &trap);
    T_EXPECT_SIGILL((void)mm_space_put(NULL), &trap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_and_put),
        cmocka_unit_test(test_bad_references),
        cmocka_unit_test(test_put_while_active),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_init_without_range),
        cmocka_unit_test(test_init_unsupported),
        cmocka_unit_test(test_map_places),
        cmocka_unit_test(test_merge_and_split),
        cmocka_unit_test(test_protect_refused),
        cmocka_unit_test(test_null),
        cmocka_unit_test(test_boundaries),
        cmocka_unit_test(test_map_refused),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_check_finds),
        cmocka_unit_test(test_null_is_no_space),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
