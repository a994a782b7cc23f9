// SPDX-License-Identifier: MIT
/**
 * Devices in the arena: where they are mapped, and that no physical page has two memory types.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kva_rig.h"
#include "prng.h"

static struct rig rig;

#define DEVICE UINT64_C(0xfed00000)

static mm_status_t map_device(uint64_t paddr, uint64_t len, mm_memtype_t type, mm_vaddr_t *out)
{
    return mm_kva_map(&rig.kva, mm_prange(mm_paddr(paddr), len), MM_PROT_RW | MM_PROT_GLOBAL, type,
                      0, out);
}

static void test_device(void **state)
{
    struct t_trap_info info;
    struct mm_mapping mapping;
    mm_vaddr_t at;
    mm_vaddr_t frame_buffer;

    (void)state;
    rig_start(&rig, 1);
    /* The last byte of one page and the first of the next. */
    assert_int_equal(map_device(DEVICE + PAGE - 1, 2, MM_MEMTYPE_UC, &at), MM_OK);
    assert_int_equal(at.raw % PAGE, PAGE - 1);
    assert_int_equal(mm_paging_translate(&rig.m.kernel, at, &mapping), MM_OK);
    assert_int_equal(mapping.paddr.raw, DEVICE);
    assert_int_equal(mapping.type, MM_MEMTYPE_UC);
    assert_int_equal(mm_paging_translate(&rig.m.kernel, mm_vaddr(at.raw + 1), &mapping), MM_OK);
    assert_int_equal(mapping.paddr.raw, DEVICE + PAGE);
    assert_int_equal(rig_stats(&rig).nr_pages[MM_KVA_DEVICE], 2);
    assert_int_equal(mm_paging_translate(&rig.m.kernel, mm_vaddr(at.raw - PAGE), &mapping),
                     MM_ERR_NOT_MAPPED);
    assert_int_equal(mm_paging_translate(&rig.m.kernel, mm_vaddr(at.raw + 1 + PAGE), &mapping),
                     MM_ERR_NOT_MAPPED);
    /* Lies in large pages as it does in memory, wherever it begins. */
    assert_int_equal(
        map_device(UINT64_C(0x100000000) - PAGE, 4 * MIB + PAGE, MM_MEMTYPE_WC, &frame_buffer),
        MM_OK);
    assert_int_equal(
        mm_paging_translate(&rig.m.kernel, mm_vaddr(frame_buffer.raw + PAGE), &mapping), MM_OK);
    assert_int_equal(mapping.page.len, 2 * MIB);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    /* What was returned is what is freed, to the byte. */
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, mm_vaddr(at.raw - 1)), &info);
    rig_told(&info, "a free of what is not the start of a range", "in a device's range");
    mm_kva_free(&rig.kva, at);
    mm_kva_free(&rig.kva, frame_buffer);
    rig_stop(&rig);
}

static void test_no_page_has_two_types(void **state)
{
    struct mm_kva_request request = {.len = 1};
    mm_vaddr_t a;
    mm_vaddr_t b;
    mm_vaddr_t c;

    (void)state;
    rig_start(&rig, 1);
    assert_int_equal(map_device(DEVICE + PAGE, 2 * PAGE, MM_MEMTYPE_UC, &a), MM_OK);
    assert_int_equal(map_device(DEVICE + 2 * PAGE + 4, 4, MM_MEMTYPE_WC, &b),
                     MM_ERR_ALREADY_MAPPED);
    assert_int_equal(map_device(DEVICE, 4 * PAGE, MM_MEMTYPE_WT, &b), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(map_device(DEVICE + 2 * PAGE + 4, 4, MM_MEMTYPE_UC, &b), MM_OK);
    assert_int_equal(map_device(DEVICE + 3 * PAGE, PAGE, MM_MEMTYPE_WC, &c), MM_OK);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    /* A mapping that waits for a purge still is one. */
    mm_kva_free(&rig.kva, c);
    assert_int_equal(mm_kva_map(&rig.kva, mm_prange(mm_paddr(DEVICE + 3 * PAGE), 1), MM_PROT_RW,
                                MM_MEMTYPE_UC, MM_KVA_ATOMIC, &c),
                     MM_ERR_ALREADY_MAPPED);
    assert_int_equal(map_device(DEVICE + 3 * PAGE, PAGE, MM_MEMTYPE_UC, &c), MM_OK);
    assert_int_equal(rig_stats(&rig).nr_purges, 1);
    mm_kva_free(&rig.kva, a);
    mm_kva_free(&rig.kva, b);
    mm_kva_free(&rig.kva, c);
    /* RAM is 1 MiB to 33 MiB, and the direct map's. */
    assert_int_equal(map_device(MIB - PAGE, PAGE, MM_MEMTYPE_UC, &a), MM_OK);
    assert_int_equal(map_device(MIB - PAGE, PAGE + 1, MM_MEMTYPE_UC, &b), MM_ERR_PERMISSION_DENIED);
    assert_int_equal(map_device(16 * MIB + 1, 1, MM_MEMTYPE_WC, &b), MM_ERR_PERMISSION_DENIED);
    assert_int_equal(map_device(33 * MIB, 1, MM_MEMTYPE_WC, &b), MM_OK);
    assert_int_equal(map_device(2 * MIB, PAGE, MM_MEMTYPE_WB, &c), MM_OK);
    mm_kva_free(&rig.kva, a);
    mm_kva_free(&rig.kva, b);
    mm_kva_free(&rig.kva, c);
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &a), MM_OK);
    mm_kva_free(&rig.kva, a);
    rig_stop(&rig);
}

/* Devices at random, that overlap and wait for purges, against a list of them. */

#define NR_DEVICES 64
#define NR_OPS     (MM_TEST_SANITIZED ? 4000 : 40000)

struct device {
    uint64_t first; /* page, from DEVICE on */
    uint64_t nr;    /* 0: there is none */
    mm_memtype_t type;
    mm_vaddr_t at;
    bool freed;
};

static struct device devices[NR_DEVICES];

/* What the arena has to answer. */
static bool clashes(const struct device *d)
{
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        const struct device *other = &devices[i];

        if (other->nr != 0 && other->type != d->type &&
            mm_range_overlaps(other->first, other->nr, d->first, d->nr)) {
            return true;
        }
    }
    return false;
}

static void purged(void)
{
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        devices[i].nr = devices[i].freed ? 0 : devices[i].nr;
    }
}

static void test_random_devices(void **state)
{
    struct t_prng prng;
    uint64_t nr_refused = 0;
    uint64_t nr_mapped = 0;

    (void)state;
    t_prng_start(&prng, "kva devices");
    memset(devices, 0, sizeof(devices));
    rig_start(&rig, 1);
    for (unsigned op = 0; op < NR_OPS; op++) {
        struct device *d = &devices[t_prng_below(&prng, NR_DEVICES)];

        if (d->nr == 0) {
            struct device new = {.first = t_prng_below(&prng, 1000),
                                 .nr = 1 + t_prng_below(&prng, t_prng_below(&prng, 8) ? 4 : 60),
                                 .type = (mm_memtype_t)t_prng_below(&prng, MM_MEMTYPE_COUNT)};
            mm_status_t status =
                mm_kva_map(&rig.kva, mm_prange(mm_paddr(DEVICE + new.first *PAGE), new.nr *PAGE),
                           MM_PROT_RW, new.type, MM_KVA_ATOMIC, &new.at);

            assert_int_equal(status, clashes(&new) ? MM_ERR_ALREADY_MAPPED : MM_OK);
            if (status == MM_OK) {
                *d = new;
                nr_mapped++;
            } else {
                nr_refused++;
            }
        } else if (!d->freed) {
            mm_kva_free(&rig.kva, d->at);
            d->freed = true;
        } else if (t_prng_below(&prng, 4) == 0) {
            (void)mm_kva_purge(&rig.kva);
            purged();
        }
        if (op % 64 == 0) {
            assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
        }
    }
    assert_true(nr_refused > NR_OPS / 100 && nr_mapped > NR_OPS / 100);
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (devices[i].nr != 0 && !devices[i].freed) {
            mm_kva_free(&rig.kva, devices[i].at);
        }
    }
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_no_page_has_two_types),
        cmocka_unit_test(test_random_devices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
