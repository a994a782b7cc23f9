// SPDX-License-Identifier: MIT
/**
 * Claims of physical ranges that the arena and others share: no page has two memory types, whoever
 * maps it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kva_rig.h"
#include "prng.h"

#include "heap/kva.h"

static struct rig rig;

#define DEVICE UINT64_C(0xfed00000)

static mm_status_t map_device(uint64_t paddr, uint64_t nr, mm_memtype_t type, uint32_t flags,
                              mm_vaddr_t *out)
{
    return mm_kva_map(&rig.kva, mm_prange(mm_paddr(paddr), nr * PAGE), MM_PROT_RW, type, flags,
                      out);
}

/* As a space does. */
static mm_status_t claim(struct mmi_range *node, uint64_t paddr, uint64_t nr, mm_memtype_t type)
{
    *node = (struct mmi_range){.node = {.start = paddr}, .len = nr * PAGE, .tag = 7};
    return mmi_device_claim(mmi_devices_of(&rig.kva), node, type);
}

static void test_the_arena_sees_a_claim(void **state)
{
    struct mmi_range node;
    mm_vaddr_t at;
    mm_vaddr_t behind;

    (void)state;
    rig_start(&rig, 1);
    assert_int_equal(claim(&node, DEVICE + PAGE, 2, MM_MEMTYPE_WC), MM_OK);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    assert_int_equal(map_device(DEVICE, 2, MM_MEMTYPE_UC, 0, &at), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(map_device(DEVICE + 2 * PAGE, 1, MM_MEMTYPE_UC, MM_KVA_ATOMIC, &at),
                     MM_ERR_ALREADY_MAPPED);
    assert_int_equal(map_device(DEVICE + 3 * PAGE, 1, MM_MEMTYPE_UC, 0, &behind), MM_OK);
    assert_int_equal(map_device(DEVICE, 3, MM_MEMTYPE_WC, 0, &at), MM_OK);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    /* The arena's mapping outlives the claim that was before it. */
    mmi_device_release(mmi_devices_of(&rig.kva), &node, MM_MEMTYPE_WC);
    assert_int_equal(claim(&node, DEVICE + 2 * PAGE, 1, MM_MEMTYPE_UC), MM_ERR_ALREADY_MAPPED);
    mm_kva_free(&rig.kva, at);
    mm_kva_free(&rig.kva, behind);
    (void)mm_kva_purge(&rig.kva);
    /* An arena that others have claims in is not taken down. */
    assert_int_equal(claim(&node, DEVICE + 2 * PAGE, 1, MM_MEMTYPE_UC), MM_OK);
    assert_int_equal(mm_kva_destroy(&rig.kva), MM_ERR_BUSY);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    mmi_device_release(mmi_devices_of(&rig.kva), &node, MM_MEMTYPE_UC);
    assert_int_equal(map_device(DEVICE, 4, MM_MEMTYPE_WT, 0, &at), MM_OK);
    mm_kva_free(&rig.kva, at);
    rig_stop(&rig);
}

static void test_a_claim_sees_the_arena(void **state)
{
    struct mmi_range node;
    mm_vaddr_t at;

    (void)state;
    rig_start(&rig, 2);
    assert_int_equal(mmi_device_settle(&rig.kva, DEVICE, 4 * PAGE, MM_MEMTYPE_UC), MM_OK);
    assert_int_equal(map_device(DEVICE + PAGE, 2, MM_MEMTYPE_WC, 0, &at), MM_OK);
    assert_true(
        mmi_device_conflicts(mmi_devices_of(&rig.kva), DEVICE + 2 * PAGE, PAGE, MM_MEMTYPE_UC));
    assert_false(
        mmi_device_conflicts(mmi_devices_of(&rig.kva), DEVICE + 2 * PAGE, PAGE, MM_MEMTYPE_WC));
    assert_false(mmi_device_conflicts(mmi_devices_of(&rig.kva), DEVICE, PAGE, MM_MEMTYPE_UC));
    assert_false(
        mmi_device_conflicts(mmi_devices_of(&rig.kva), DEVICE + 3 * PAGE, PAGE, MM_MEMTYPE_UC));
    assert_int_equal(claim(&node, DEVICE, 4, MM_MEMTYPE_UC), MM_ERR_ALREADY_MAPPED);
    /* What is in use stays in use. */
    assert_int_equal(mmi_device_settle(&rig.kva, DEVICE, 4 * PAGE, MM_MEMTYPE_UC),
                     MM_ERR_ALREADY_MAPPED);
    /* What was freed is in use until a purge, which is made for who asks. */
    mm_kva_free(&rig.kva, at);
    assert_int_equal(claim(&node, DEVICE, 4, MM_MEMTYPE_UC), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(mmi_device_settle(&rig.kva, DEVICE, 4 * PAGE, MM_MEMTYPE_WC), MM_OK);
    assert_int_equal(rig_stats(&rig).nr_purges, 0);
    assert_int_equal(mmi_device_settle(&rig.kva, DEVICE, 4 * PAGE, MM_MEMTYPE_UC), MM_OK);
    assert_int_equal(rig_stats(&rig).nr_purges, 1);
    assert_int_equal(claim(&node, DEVICE, 4, MM_MEMTYPE_UC), MM_OK);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    mmi_device_release(mmi_devices_of(&rig.kva), &node, MM_MEMTYPE_UC);
    /* RAM is 1 MiB to 33 MiB, and the direct map's. */
    assert_int_equal(claim(&node, MIB - PAGE, 2, MM_MEMTYPE_UC), MM_ERR_PERMISSION_DENIED);
    assert_int_equal(claim(&node, 16 * MIB, 1, MM_MEMTYPE_WC), MM_ERR_PERMISSION_DENIED);
    assert_int_equal(mmi_device_try_claim(mmi_devices_of(&rig.kva), &node, MM_MEMTYPE_WC),
                     MM_ERR_PERMISSION_DENIED);
    assert_int_equal(claim(&node, MIB - PAGE, 2, MM_MEMTYPE_WB), MM_OK);
    mmi_device_release(mmi_devices_of(&rig.kva), &node, MM_MEMTYPE_WB);
    rig_stop(&rig);
}

/* What fails leaves no claim, whatever it fails for. */
static void test_what_fails_claims_nothing(void **state)
{
    static const uint32_t flags[2] = {0, MM_KVA_ATOMIC};
    mm_vaddr_t at;

    (void)state;
    rig_start(&rig, 1);
    for (unsigned i = 0; i < 2; i++) {
        /* There is no room for guards; nor tables, when all frames are out. */
        assert_int_equal(map_device(4096 * MIB, T_ARENA_LEN / PAGE, MM_MEMTYPE_UC, flags[i], &at),
                         MM_ERR_REGION_NOT_FOUND);
        assert_false(
            mmi_device_conflicts(mmi_devices_of(&rig.kva), 4096 * MIB, T_ARENA_LEN, MM_MEMTYPE_WC));
        assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
        t_machine_leave_frames(&rig.m, 0);
        assert_int_equal(map_device(DEVICE, 1, MM_MEMTYPE_UC, flags[i], &at), MM_ERR_NO_MEMORY);
        assert_false(mmi_device_conflicts(mmi_devices_of(&rig.kva), DEVICE, PAGE, MM_MEMTYPE_WC));
        assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
        t_machine_leave_frames(&rig.m, UINT64_MAX);
    }
    /* A handler that interrupts who has the lock is told so. */
    rig.kva.devices.lock = 1;
    assert_int_equal(map_device(DEVICE, 1, MM_MEMTYPE_UC, MM_KVA_ATOMIC, &at), MM_ERR_BUSY);
    assert_int_equal(rig.kva.devices.lock, 1);
    rig.kva.devices.lock = 0;
    assert_false(mmi_device_conflicts(mmi_devices_of(&rig.kva), DEVICE, PAGE, MM_MEMTYPE_WC));
    assert_int_equal(map_device(DEVICE, 1, MM_MEMTYPE_UC, MM_KVA_ATOMIC, &at), MM_OK);
    mm_kva_free(&rig.kva, at);
    rig_stop(&rig);
}

/* Claims at random, some the arena's, against a list of them. */

#define NR_CLAIMS 48
#define NR_OPS    (MM_TEST_SANITIZED ? 3000 : 30000)

enum state { NONE, CLAIMED, MAPPED, FREED };

static struct entry {
    struct mmi_range node;
    uint64_t first; /* page, from DEVICE on */
    uint64_t nr;
    mm_vaddr_t at;
    enum state state;
    mm_memtype_t type;
} entries[NR_CLAIMS];

/* Whether another type is there; `used`: in a claim that a purge does not end. */
static bool clashes(const struct entry *e, bool used)
{
    for (unsigned i = 0; i < NR_CLAIMS; i++) {
        const struct entry *other = &entries[i];

        if (other->state != NONE && (!used || other->state != FREED) && other->type != e->type &&
            mm_range_overlaps(other->first, other->nr, e->first, e->nr)) {
            return true;
        }
    }
    return false;
}

static void purged(void)
{
    for (unsigned i = 0; i < NR_CLAIMS; i++) {
        entries[i].state = entries[i].state == FREED ? NONE : entries[i].state;
    }
}

/* To map waits for a purge where that helps; a claim says what is, until it is settled. */
static void begin(struct entry *e, bool foreign, bool settle)
{
    uint64_t paddr = DEVICE + e->first * PAGE;
    mm_status_t status;

    if (foreign && settle) {
        bool waits = clashes(e, false);

        assert_int_equal(mmi_device_settle(&rig.kva, paddr, e->nr * PAGE, e->type),
                         clashes(e, true) ? MM_ERR_ALREADY_MAPPED : MM_OK);
        if (waits) {
            purged();
        }
    }
    if (foreign) {
        status = claim(&e->node, paddr, e->nr, e->type);
    } else {
        status = map_device(paddr, e->nr, e->type, MM_KVA_ATOMIC, &e->at);
    }
    assert_int_equal(status, clashes(e, false) ? MM_ERR_ALREADY_MAPPED : MM_OK);
    if (status == MM_OK) {
        e->state = foreign ? CLAIMED : MAPPED;
    }
}

static void end(struct entry *e)
{
    if (e->state == CLAIMED) {
        assert_true(mmi_device_has(mmi_devices_of(&rig.kva), &e->node, e->type));
        assert_false(mmi_device_has(mmi_devices_of(&rig.kva), &e->node,
                                    e->type == MM_MEMTYPE_UC ? MM_MEMTYPE_WC : MM_MEMTYPE_UC));
        mmi_device_release(mmi_devices_of(&rig.kva), &e->node, e->type);
        assert_false(mmi_device_has(mmi_devices_of(&rig.kva), &e->node, e->type));
        e->state = NONE;
    } else {
        mm_kva_free(&rig.kva, e->at);
        e->state = FREED;
    }
}

static void test_random_claims(void **state)
{
    struct t_prng prng;
    uint64_t nr_begun = 0;

    (void)state;
    t_prng_start(&prng, "kva claims");
    memset(entries, 0, sizeof(entries));
    rig_start(&rig, 1);
    for (unsigned op = 0; op < NR_OPS; op++) {
        struct entry *e = &entries[t_prng_below(&prng, NR_CLAIMS)];

        if (e->state == NONE) {
            e->first = t_prng_below(&prng, 100);
            e->nr = 1 + t_prng_below(&prng, 8);
            e->type = (mm_memtype_t)t_prng_below(&prng, MM_MEMTYPE_COUNT);
            begin(e, t_prng_chance(&prng, 1, 2), t_prng_chance(&prng, 1, 4));
            nr_begun += e->state != NONE ? 1 : 0;
        } else if (e->state != FREED) {
            end(e);
        } else if (t_prng_chance(&prng, 1, 16)) {
            (void)mm_kva_purge(&rig.kva);
            purged();
        }
        if (op % 64 == 0) {
            assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
        }
    }
    assert_true(nr_begun > NR_OPS / 20);
    for (unsigned i = 0; i < NR_CLAIMS; i++) {
        if (entries[i].state == CLAIMED || entries[i].state == MAPPED) {
            end(&entries[i]);
        }
    }
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_arena_sees_a_claim),
        cmocka_unit_test(test_a_claim_sees_the_arena),
        cmocka_unit_test(test_what_fails_claims_nothing),
        cmocka_unit_test(test_random_claims),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
