// SPDX-License-Identifier: MIT
/**
 * Physical ranges in spaces: where they go, what they are made of, what they answer. Their claims
 * are in test_space_device_claims.c.
 */
#include "space_devices.h"

/* --- a device is there, and nobody's frames ----------------------------------------------------- */

static void test_there_at_once(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_region_info info;
    struct mm_space_stats stats;

    (void)state;
    assert_int_equal(map_device(s, AT, 3 * PAGE - 5, REGISTERS, UC, 0), MM_OK);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(reached(f, s, AT + i * PAGE + 8, T_MMU_WRITE), REGISTERS + i * PAGE + 8);
    }
    assert_int_equal(reached(f, s, AT + 3 * PAGE, 0), 0);
    assert_int_equal(mm_space_find(s, mm_vaddr(AT + PAGE), &info), MM_OK);
    assert_int_equal(info.range.start.raw, AT);
    assert_int_equal(info.range.len, 3 * PAGE);
    assert_int_equal(info.kind, MM_REGION_DEVICE);
    assert_int_equal(info.type, UC);
    assert_int_equal(info.offset, REGISTERS);
    assert_int_equal(info.prot, RW);
    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    assert_int_equal(stats.mapped_bytes, 3 * PAGE);
    assert_int_equal(stats.device_bytes, 3 * PAGE);
    assert_int_equal(stats.resident_bytes, 0);
    all_well(f, s);
    /* Only the rights can be missing: nothing is put there, and nothing is copied. */
    assert_int_equal(fault_at(s, AT, MM_FAULT_WRITE), MM_FAULT_MINOR);
    assert_int_equal(fault_at(s, AT, MM_FAULT_EXEC | MM_FAULT_PRESENT), MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(protect(s, AT + PAGE, PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(reached(f, s, AT + PAGE, T_MMU_WRITE), 0);
    assert_int_equal(reached(f, s, AT + PAGE, 0), REGISTERS + PAGE);
    assert_int_equal(fault_at(s, AT + PAGE, MM_FAULT_WRITE | MM_FAULT_PRESENT),
                     MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(reached(f, s, AT + 2 * PAGE, T_MMU_WRITE), REGISTERS + 2 * PAGE);
    all_well(f, s);
    /* Forbidden altogether, it is still there. */
    assert_int_equal(protect(s, AT, 3 * PAGE, MM_PROT_NONE), MM_OK);
    assert_int_equal(reached(f, s, AT, 0), 0);
    assert_int_equal(fault_at(s, AT, 0), MM_FAULT_SIGNAL_ACCESS);
    all_well(f, s);
    assert_int_equal(protect(s, AT, 3 * PAGE, RW), MM_OK);
    assert_int_equal(reached(f, s, AT + 2 * PAGE, T_MMU_WRITE), REGISTERS + 2 * PAGE);
    all_well(f, s);
    assert_int_equal(unmap(s, AT, 3 * PAGE), MM_OK);
    assert_int_equal(reached(f, s, AT, 0), 0);
    assert_int_equal(fault_at(s, AT, 0), MM_FAULT_SIGNAL_MAP);
    assert_int_equal(device_bytes(s), 0);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* Frames that the allocator manages may be mapped as a device, as what they are: write-back. They
 * stay whose they are, whatever becomes of the mapping. */
static void test_memory_of_others(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_request request = {.len = 2 * PAGE, .prot = RW};
    const struct mm_frame_request two = {.order = 1};
    mm_vaddr_t out = {7};
    mm_pfn_t frame;
    uint64_t before;
    uint64_t paddr;

    (void)state;
    assert_int_equal(mm_frame_alloc(&f->m.frames, &two, &frame), MM_OK);
    paddr = mm_pfn_addr(frame).raw;
    before = state_hash(f, s);
    for (int type = 0; type < (int)MM_MEMTYPE_COUNT; type++) {
        if (type != (int)WB) {
            assert_int_equal(
                mm_space_map_physical(s, &request, mm_paddr(paddr), (mm_memtype_t)type, &out),
                MM_ERR_PERMISSION_DENIED);
        }
    }
    /* One page of it is enough. */
    request.len = 64 * MM_SIZE_1G;
    assert_int_equal(mm_space_map_physical(s, &request, mm_paddr(0), UC, &out),
                     MM_ERR_PERMISSION_DENIED);
    assert_int_equal(out.raw, 7);
    assert_int_equal(state_hash(f, s), before);
    request.len = 2 * PAGE;
    assert_int_equal(mm_space_map_physical(s, &request, mm_paddr(paddr), WB, &out), MM_OK);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), 1);
    assert_int_equal(resident(s), 0);
    assert_int_equal(reached(f, s, out.raw + 16, T_MMU_WRITE), paddr + 16);
    all_well(f, s);
    /* Cut, replaced by memory, put: none of it is released. */
    assert_int_equal(unmap(s, out.raw, PAGE), MM_OK);
    assert_int_equal(map_at(s, out.raw + PAGE, PAGE, RW, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(device_bytes(s), 0);
    assert_int_equal(map_device(s, AT, 2 * PAGE, paddr, WB, 0), MM_OK);
    all_well(f, s);
    put_last(f, s);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), 1);
    mm_frame_free(&f->m.frames, frame, 1);
    fixture_stop(f);
}

/* Devices count where bytes of regions do, and not where pages do. */
static void test_limits(void **state)
{
    struct fixture *f = fixture_start(NULL);
    const struct mm_space_config config = {
        .limits = {.mapped_bytes = 6 * PAGE, .resident_bytes = PAGE}};
    struct mm_space *s = NULL;
    uint64_t before;

    (void)state;
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &s), MM_OK);
    assert_int_equal(map_device(s, AT, 4 * PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 8 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT + 8 * PAGE, 1));
    assert_int_equal(fault_at(s, AT + 9 * PAGE, MM_FAULT_WRITE), MM_FAULT_LIMIT);
    before = state_hash(f, s);
    assert_int_equal(map_device(s, AT + 16 * PAGE, PAGE, REGISTERS, UC, 0), MM_ERR_LIMIT);
    assert_int_equal(map_device(s, AT + 3 * PAGE, 2 * PAGE, REGISTERS, UC, MM_SPACE_REPLACE),
                     MM_ERR_LIMIT);
    assert_int_equal(state_hash(f, s), before);
    assert_int_equal(map_device(s, AT + 2 * PAGE, 2 * PAGE, REGISTERS, UC, MM_SPACE_REPLACE),
                     MM_OK);
    all_well(f, s);
    assert_int_equal(unmap(s, AT, 4 * PAGE), MM_OK);
    assert_int_equal(map_device(s, AT, 4 * PAGE, REGISTERS, WC, 0), MM_OK);
    assert_int_equal(unmap(s, AT + 8 * PAGE, PAGE), MM_OK);
    assert_int_equal(fault_at(s, AT + 9 * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* --- places --------------------------------------------------------------------------------------
 */

static uint64_t placed(struct mm_space *s, uint64_t hint, uint64_t len, uint64_t align,
                       uint64_t paddr)
{
    const struct mm_space_request request = {
        .at = mm_vaddr(hint), .len = len, .prot = RW, .align = align, .kind = MM_REGION_DEVICE};
    mm_vaddr_t out = {7};

    assert_int_equal(mm_space_map_physical(s, &request, mm_paddr(paddr), UC, &out), MM_OK);
    return out.raw;
}

static void test_places(void **state)
{
    const struct mm_space_config config = {.layout = {.mmap_base = UINT64_C(1) << 40}};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s[2] = {new_space(f), NULL};
    uint64_t at;

    (void)state;
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &s[1]), MM_OK);
    for (unsigned i = 0; i < 2; i++) {
        /* Small: anywhere. */
        at = placed(s[i], 0, PAGE, 0, REGISTERS);
        assert_int_equal(at, i == 0 ? PAGE : config.layout.mmap_base - PAGE);
        /* From 2 MiB, and 1 GiB, on: as the memory lies in a large page. */
        at = placed(s[i], 0, MM_SIZE_2M + 8 * PAGE, 0, BUFFER + 5 * PAGE);
        assert_int_equal(at & (MM_SIZE_2M - 1), 5 * PAGE);
        at = placed(s[i], 0, 2 * MM_SIZE_2M, 0, BUFFER + 5 * PAGE);
        assert_int_equal(at & (MM_SIZE_2M - 1), 5 * PAGE);
        assert_int_equal(leaf_size(s[i], at), PAGE);
        assert_int_equal(leaf_size(s[i], mm_align_down(at, MM_SIZE_2M) + MM_SIZE_2M), MM_SIZE_2M);
        at = placed(s[i], 0, 2 * MM_SIZE_1G, 0, BUFFER + 3 * MM_SIZE_2M);
        assert_int_equal(at & (MM_SIZE_1G - 1), 3 * MM_SIZE_2M);
        assert_int_equal(leaf_size(s[i], at), MM_SIZE_2M);
        assert_int_equal(leaf_size(s[i], mm_align_down(at, MM_SIZE_1G) + MM_SIZE_1G), MM_SIZE_1G);
        /* Who says an alignment, or where, has it so. */
        at = placed(s[i], 0, 4 * MM_SIZE_2M, 4 * MM_SIZE_2M, BUFFER + 5 * PAGE);
        assert_int_equal(at & (4 * MM_SIZE_2M - 1), 0);
        at = placed(s[i], LARGE_AT + 3 * PAGE, 2 * MM_SIZE_2M, 0, BUFFER);
        assert_int_equal(at, LARGE_AT + 3 * PAGE);
        assert_int_equal(leaf_size(s[i], at), PAGE);
        /* A hint that is taken is no reason to forget the rest. */
        at = placed(s[i], LARGE_AT + PAGE, 2 * MM_SIZE_2M, 0, BUFFER + 7 * PAGE);
        assert_int_equal(at & (MM_SIZE_2M - 1), 7 * PAGE);
        all_well(f, s[i]);
        put_last(f, s[i]);
    }
    fixture_stop(f);
}

/* A user range that is too small for large pages, and then too small. */
static void test_no_place(void **state)
{
    const struct t_machine_config machine = {.user_len = 3 * MM_SIZE_2M / 2};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);
    struct mm_space_request request = {.len = MM_SIZE_2M, .prot = RW};
    mm_vaddr_t out = {7};

    (void)state;
    /* 2 MiB as BUFFER lies: there is no such place, but another. */
    assert_int_equal(placed(s, 0, MM_SIZE_2M, 0, BUFFER) & (PAGE - 1), 0);
    assert_int_equal(mm_space_map_physical(s, &request, mm_paddr(BUFFER), UC, &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(out.raw, 7);
    assert_int_equal(nr_claims(f, UC), 1);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* --- large leaves that are cut ------------------------------------------------------------------- */

static void test_large_leaves_cut(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_device(s, LARGE_AT, 2 * MM_SIZE_1G, BUFFER, WC, 0), MM_OK);
    assert_int_equal(leaf_size(s, LARGE_AT), MM_SIZE_1G);
    assert_int_equal(unmap(s, LARGE_AT + 5 * PAGE, PAGE), MM_OK);
    assert_int_equal(leaf_size(s, LARGE_AT + 4 * PAGE), PAGE);
    assert_int_equal(leaf_size(s, LARGE_AT + 5 * PAGE), 0);
    assert_int_equal(leaf_size(s, LARGE_AT + MM_SIZE_2M), MM_SIZE_2M);
    assert_int_equal(leaf_size(s, LARGE_AT + MM_SIZE_1G), MM_SIZE_1G);
    assert_int_equal(reached(f, s, LARGE_AT + 6 * PAGE, T_MMU_WRITE), BUFFER + 6 * PAGE);
    all_well(f, s);
    assert_int_equal(
        protect(s, LARGE_AT + MM_SIZE_1G + MM_SIZE_2M, MM_SIZE_2M + PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(reached(f, s, LARGE_AT + MM_SIZE_1G + 2 * MM_SIZE_2M, T_MMU_WRITE), 0);
    assert_int_equal(reached(f, s, LARGE_AT + MM_SIZE_1G + 2 * MM_SIZE_2M + PAGE, T_MMU_WRITE),
                     BUFFER + MM_SIZE_1G + 2 * MM_SIZE_2M + PAGE);
    all_well(f, s);
    assert_int_equal(nr_regions(s), 4);
    assert_int_equal(map_at(s, LARGE_AT + MM_SIZE_1G - PAGE, 2 * PAGE, RW, MM_SPACE_REPLACE),
                     MM_OK);
    assert_true(store(f, s, LARGE_AT + MM_SIZE_1G, 1));
    assert_int_equal(device_bytes(s), 2 * MM_SIZE_1G - 3 * PAGE);
    assert_int_equal(resident(s), PAGE);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* Five levels: devices on both sides of what four reach, and over the boundary. */
static void test_five_levels(void **state)
{
    const struct t_machine_config machine = {.la57 = true, .user_len = UINT64_C(1) << 56};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);
    uint64_t border = UINT64_C(1) << 48;

    (void)state;
    assert_int_equal(map_device(s, border - 2 * PAGE, 4 * PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(reached(f, s, border - PAGE, T_MMU_WRITE), REGISTERS + PAGE);
    assert_int_equal(reached(f, s, border, T_MMU_WRITE), REGISTERS + 2 * PAGE);
    all_well(f, s);
    assert_int_equal(map_device(s, border - PAGE, 2 * PAGE, BUFFER, WC, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(reached(f, s, border, T_MMU_WRITE), BUFFER + PAGE);
    assert_int_equal(nr_regions(s), 3);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* --- instead of what is there ---------------------------------------------------------------------
 */

static void test_instead_of_memory(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t before;

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    before = state_hash(f, s);
    assert_int_equal(map_device(s, AT + 2 * PAGE, 4 * PAGE, REGISTERS, UC, 0),
                     MM_ERR_ALREADY_MAPPED);
    assert_int_equal(state_hash(f, s), before);
    assert_int_equal(map_device(s, AT + 2 * PAGE, 4 * PAGE, REGISTERS, UC, MM_SPACE_REPLACE),
                     MM_OK);
    assert_int_equal(resident(s), 4 * PAGE);
    assert_int_equal(reached(f, s, AT + 2 * PAGE, T_MMU_WRITE), REGISTERS);
    all_well(f, s);
    /* Over the ends of both, with a hole. */
    assert_int_equal(map_device(s, AT + 4 * PAGE, 8 * PAGE, BUFFER, WC, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(device_bytes(s), 10 * PAGE);
    assert_int_equal(resident(s), 2 * PAGE);
    assert_int_equal(reached(f, s, AT + 3 * PAGE, T_MMU_WRITE), REGISTERS + PAGE);
    assert_int_equal(reached(f, s, AT + 4 * PAGE, T_MMU_WRITE), BUFFER);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* A type that the CPU lacks, and other things that are wrong: what would be replaced stays. */
static void test_refused_before_it_replaces(void **state)
{
    const struct t_machine_config machine = {.no_pat = true};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);
    uint64_t before;

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(map_device(s, AT + 8 * PAGE, 2 * PAGE, REGISTERS, UC, 0), MM_OK);
    before = state_hash(f, s);
    assert_int_equal(map_device(s, AT + 2 * PAGE, 8 * PAGE, BUFFER, WC, MM_SPACE_REPLACE),
                     MM_ERR_UNSUPPORTED);
    assert_int_equal(
        map_device(s, AT + 2 * PAGE, 8 * PAGE, BUFFER, MM_MEMTYPE_WP, MM_SPACE_REPLACE),
        MM_ERR_UNSUPPORTED);
    assert_int_equal(map_device(s, AT + 16 * PAGE, PAGE, BUFFER, WC, 0), MM_ERR_UNSUPPORTED);
    assert_int_equal(
        map_device(s, AT + 2 * PAGE, 8 * PAGE, MM_PAGE_SIZE << 41, UC, MM_SPACE_REPLACE),
        MM_ERR_INVALID_ADDRESS);
    assert_int_equal(
        map_device(s, AT + 2 * PAGE, 8 * PAGE, REGISTERS, MM_MEMTYPE_WT, MM_SPACE_REPLACE),
        MM_ERR_BUSY);
    assert_int_equal(state_hash(f, s), before);
    assert_int_equal(map_device(s, AT + 16 * PAGE, PAGE, BUFFER, MM_MEMTYPE_WT, 0), MM_OK);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* --- bad input -----------------------------------------------------------------------------------
 */

static const struct {
    struct mm_space_request request;
    uint64_t paddr;
    int type;
    mm_status_t want;
} bad_devices[] = {
    {{.at = {AT}, .len = PAGE, .prot = RW, .kind = MM_REGION_CODE}, 0, 0, 0},
    {{.at = {AT}, .len = PAGE, .prot = RW, .kind = (enum mm_region_kind)8}, 0, 0, 0},
    {{.at = {AT}, .len = PAGE, .prot = RW}, 0, 6, MM_ERR_INVALID_ARGUMENT},
    {{.at = {AT}, .len = PAGE, .prot = RW}, 0, -1, MM_ERR_INVALID_ARGUMENT},
    {{.at = {AT}, .len = PAGE, .prot = RW}, 1, 0, MM_ERR_NOT_ALIGNED},
    {{.at = {AT}, .len = PAGE, .prot = RW}, UINT64_MAX, 0, MM_ERR_NOT_ALIGNED},
    {{.at = {AT}, .len = 2 * PAGE, .prot = RW}, -PAGE, 0, MM_ERR_INVALID_SIZE},
    {{.at = {AT}, .len = PAGE, .prot = RW}, -PAGE, 0, MM_ERR_INVALID_ADDRESS},
    {{.at = {AT}, .len = PAGE, .prot = RW}, UINT64_C(1) << 46, 0, MM_ERR_INVALID_ADDRESS},
    {{.at = {AT}, .len = PAGE + 1, .prot = RW},
     (UINT64_C(1) << 46) - PAGE,
     0,
     MM_ERR_INVALID_ADDRESS},
    {{.at = {AT}, .prot = RW}, 0, 0, MM_ERR_INVALID_SIZE},
    {{.at = {AT}, .len = UINT64_MAX, .prot = RW}, 0, 0, MM_ERR_INVALID_SIZE},
    {{.at = {AT + 1}, .len = PAGE, .prot = RW}, 0, 0, MM_ERR_NOT_ALIGNED},
    {{.at = {AT}, .len = PAGE, .prot = RW, .align = 3 * PAGE}, 0, 0, MM_ERR_NOT_ALIGNED},
    {{.at = {0}, .len = PAGE, .prot = RW, .flags = MM_SPACE_FIXED}, 0, 0, MM_ERR_INVALID_ADDRESS},
    {{.at = {AT}, .len = PAGE, .prot = RW | MM_PROT_USER}, 0, 0, MM_ERR_INVALID_FLAGS},
    {{.at = {AT}, .len = PAGE, .prot = RW, .flags = MM_SPACE_REPLACE}, 0, 0, MM_ERR_INVALID_FLAGS},
};

static void test_bad_input(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    const struct mm_space_request good = {.at = {AT}, .len = PAGE, .prot = RW};
    uint64_t before = state_hash(f, s);
    mm_vaddr_t out = {7};

    (void)state;
    for (unsigned i = 0; i < sizeof(bad_devices) / sizeof(bad_devices[0]); i++) {
        mm_status_t want =
            bad_devices[i].want == MM_OK ? MM_ERR_INVALID_ARGUMENT : bad_devices[i].want;

        assert_int_equal(mm_space_map_physical(s, &bad_devices[i].request,
                                               mm_paddr(bad_devices[i].paddr),
                                               (mm_memtype_t)bad_devices[i].type, &out),
                         want);
    }
    for (uint32_t flag = 1; flag != 0; flag <<= 1) {
        struct mm_space_request request = good;

        request.flags = flag;
        if (flag != MM_SPACE_FIXED) {
            assert_int_equal(mm_space_map_physical(s, &request, mm_paddr(REGISTERS), UC, &out),
                             MM_ERR_INVALID_FLAGS);
        }
    }
    assert_int_equal(mm_space_map_physical(NULL, &good, mm_paddr(0), UC, &out),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_map_physical(s, NULL, mm_paddr(0), UC, &out),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_map_physical(s, &good, mm_paddr(0), UC, NULL),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(
        mm_space_map_physical(mm_space_kernel(&f->spaces), &good, mm_paddr(REGISTERS), UC, &out),
        MM_ERR_UNSUPPORTED);
    assert_int_equal(out.raw, 7);
    assert_int_equal(state_hash(f, s), before);
    /* The last page that the CPU has. */
    assert_int_equal(map_device(s, AT, PAGE, (UINT64_C(1) << 46) - PAGE, UC, 0), MM_OK);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_at_once),
        cmocka_unit_test(test_memory_of_others),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_no_place),
        cmocka_unit_test(test_large_leaves_cut),
        cmocka_unit_test(test_five_levels),
        cmocka_unit_test(test_instead_of_memory),
        cmocka_unit_test(test_refused_before_it_replaces),
        cmocka_unit_test(test_bad_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
