// SPDX-License-Identifier: MIT
/**
 * Per-CPU areas: copies of a template, each on pages of its own, with guards between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kva_rig.h"

#include <mm/percpu.h>

#define CPUS 5u

static struct rig rig;

/* The template lies anywhere, and is longer than a page. */
static struct {
    char before[100];
    char bytes[5000];
} template __attribute__((aligned(4096)));

static unsigned char *seen(uint64_t at)
{
    struct mm_mapping mapping;

    assert_int_equal(mm_paging_translate(&rig.m.kernel, mm_vaddr(at), &mapping), MM_OK);
    return t_machine_ptr(&rig.m, mapping.paddr.raw + (at - mapping.page.start.raw));
}

static uint64_t copy_at(const struct mm_percpu *areas, uint32_t cpu, const void *at)
{
    return (uint64_t)(uintptr_t)mm_percpu_ptr(areas, cpu, at);
}

static void test_copies(void **state)
{
    struct mm_percpu areas = {0};
    struct mm_percpu_config config = {
        .kva = &rig.kva, .start = template.bytes, .len = sizeof(template.bytes), .nr_cpus = CPUS};
    struct mm_kva_place place;

    (void)state;
    rig_start(&rig, 2);
    rig_scatter(&rig);
    for (unsigned i = 0; i < sizeof(template.bytes); i++) {
        template.bytes[i] = (char)(i * 7 + 1);
    }
    assert_int_equal(mm_percpu_init(&areas, &config), MM_OK);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    assert_int_equal(mm_percpu_init(&areas, &config), MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(rig_stats(&rig).nr_pages[MM_KVA_PERCPU], 2 * CPUS);
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        uint64_t first = copy_at(&areas, cpu, template.bytes);
        uint64_t page = mm_align_down(first, PAGE);

        assert_int_equal(first % PAGE, 100);
        rig_has_guards(&rig, page, 2 * PAGE);
        for (unsigned i = 0; i < sizeof(template.bytes); i++) {
            assert_int_equal(*seen(copy_at(&areas, cpu, &template.bytes[i])),
                             (unsigned char)template.bytes[i]);
        }
        assert_int_equal(*seen(first - 1), 0);
        assert_int_equal(*seen(first + sizeof(template.bytes)), 0);
        *seen(first) = (unsigned char)cpu;
        assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(first), &place), MM_OK);
        assert_int_equal(place.kind, MM_KVA_PERCPU);
        assert_int_equal(place.where, MM_KVA_INSIDE);
        assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(page + 2 * PAGE), &place), MM_OK);
        assert_int_equal(place.where, cpu == CPUS - 1 ? MM_KVA_GUARD_ABOVE : MM_KVA_GUARD_BETWEEN);
    }
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        assert_int_equal(*seen(copy_at(&areas, cpu, template.bytes)), cpu);
    }
    assert_int_equal(mm_kva_destroy(&rig.kva), MM_ERR_BUSY);
    assert_int_equal(mm_percpu_destroy(&areas), MM_OK);
    assert_int_equal(mm_percpu_destroy(&areas), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_kva_purge(&rig.kva), 2 * CPUS);
    rig_stop(&rig);
}

static void test_bad_input(void **state)
{
    struct mm_percpu areas = {0};
    const struct mm_percpu_config good = {
        .kva = &rig.kva, .start = template.bytes, .len = 10, .nr_cpus = 1};
    struct mm_percpu_config config;
    static const uint32_t nodes[] = {3};
    static struct mm_kva never;

    (void)state;
    rig_start(&rig, 1);
    assert_int_equal(mm_percpu_init(NULL, &good), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_percpu_init(&areas, NULL), MM_ERR_INVALID_ARGUMENT);
#define EXPECT(status, field, value)                                                               \
    do {                                                                                           \
        config = good;                                                                             \
        config.field = (value);                                                                    \
        assert_int_equal(mm_percpu_init(&areas, &config), status);                                 \
        assert_int_equal(areas.magic, 0);                                                          \
    } while (0)
    EXPECT(MM_ERR_INVALID_ARGUMENT, kva, NULL);
    EXPECT(MM_ERR_INVALID_ARGUMENT, start, NULL);
    EXPECT(MM_ERR_INVALID_ARGUMENT, nr_cpus, 0);
    EXPECT(MM_ERR_INVALID_ARGUMENT, nr_cpus, MM_MAX_CPUS + 1);
    EXPECT(MM_ERR_NOT_INITIALIZED, kva, &never);
    EXPECT(MM_ERR_INVALID_SIZE, len, 0);
    EXPECT(MM_ERR_INVALID_SIZE, len, UINT64_MAX);
    EXPECT(MM_ERR_INVALID_SIZE, len, T_ARENA_LEN + 1);
    EXPECT(MM_ERR_NODE_NOT_FOUND, cpu_nodes, nodes);
    EXPECT(MM_ERR_NO_MEMORY, len, 64 * MIB);
    assert_int_equal(mm_percpu_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    rig_stop(&rig);
}

/* All or nothing, however few frames there are. */
static void test_frames_run_out(void **state)
{
    struct mm_percpu areas = {0};
    const struct mm_percpu_config config = {
        .kva = &rig.kva, .start = template.bytes, .len = 10, .nr_cpus = CPUS};
    mm_status_t status = MM_ERR_NO_MEMORY;

    (void)state;
    rig_start(&rig, 1);
    for (uint64_t nr = 0; status != MM_OK; nr++) {
        t_machine_leave_frames(&rig.m, nr);
        status = mm_percpu_init(&areas, &config);
        if (status != MM_OK) {
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_int_equal(rig_free_frames(&rig), nr);
            assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
            assert_int_equal(mm_paging_check(&rig.m.kernel), MM_OK);
        }
        t_machine_leave_frames(&rig.m, UINT64_MAX);
        assert_true(nr < 20);
    }
    assert_int_equal(mm_percpu_destroy(&areas), MM_OK);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_frames_run_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
