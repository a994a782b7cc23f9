// SPDX-License-Identifier: MIT
/**
 * Words of user memory, natively, with each set of routines: a fault at each byte, one access, and
 * exchanges that no thread sees half.
 */
#define _GNU_SOURCE
#include "user_rig.h"
#include "user_steps.h"

#include <pthread.h>
#include <sched.h>

#define LOCK_PREFIX 0xf0

static const uint64_t sizes[] = {1, 2, 4, 8};

/* A word of which the first `present` bytes are there: all of it, or nothing. */
static void check_word(const struct mm_user *user, uint64_t size, uint64_t present,
                       bool missing_low)
{
    uint8_t *at = missing_low ? machine.page - (size - present) : machine.high_guard - present;
    mm_vaddr_t va = mm_vaddr_of(at);
    bool there = present == size;
    mm_status_t want = there ? MM_OK : MM_ERR_FAULT;
    uint8_t word[8 + 2];
    uint8_t before[PAGE];

    for (unsigned i = 0; i < PAGE; i++) {
        machine.page[i] = (uint8_t)(i * 7 + 1);
    }
    memcpy(before, machine.page, PAGE);
    machine.nr_faults = machine.nr_strange = machine.nr_opened = 0;
    memset(word, CANARY, sizeof(word));
    assert_int_equal(mm_user_get(user, word + 1, va, size), want);
    assert_false(machine.ac);
    assert_true(there ? memcmp(word + 1, at, size) == 0 : all_are(word, CANARY, sizeof(word)));
    assert_int_equal(word[0], CANARY);
    assert_true(all_are(word + 1 + size, CANARY, 9 - size));
    assert_memory_equal(before, machine.page, PAGE);

    memset(word, 0x3c, sizeof(word));
    assert_int_equal(mm_user_put(user, va, word + 1, size), want);
    assert_false(machine.ac);
    if (there) {
        assert_true(all_are(at, 0x3c, size));
        memcpy(before + (at - machine.page), at, size);
    }
    assert_memory_equal(before, machine.page,
                        PAGE); /* no other byte, and none of a word that faulted */
    assert_int_equal(machine.nr_faults, there ? 0 : 2);
    assert_int_equal(machine.nr_strange, 0);
    assert_int_equal(machine.nr_opened, machine.smap ? 2 : 0);
}

static void check_words(const struct flavour *flavour)
{
    struct mm_user user = lower_half(flavour->ops);

    for (unsigned i = 0; i < 4; i++) {
        for (uint64_t present = 0; present <= sizes[i]; present++) {
            check_word(&user, sizes[i], present, false);
            check_word(&user, sizes[i], present, true);
        }
    }
}

static void test_words(void **state)
{
    (void)state;
    with_each(check_words);
}

static void check_exchanges(const struct flavour *flavour)
{
    struct mm_user user = lower_half(flavour->ops);
    volatile uint32_t *low = (volatile uint32_t *)(void *)(machine.page + PAGE - 8);
    volatile uint64_t *wide = (volatile uint64_t *)(void *)(machine.page + PAGE - 8);
    uint32_t found = 9;
    uint64_t found8 = 9;

    machine.nr_faults = machine.nr_strange = machine.nr_opened = 0;
    *wide = UINT64_C(0x8000000180000002);
    assert_int_equal(mm_user_cmpxchg_u32(&user, mm_vaddr_of((void *)low), 7, 8, &found), MM_OK);
    assert_int_equal(found, 0x80000002);
    assert_int_equal(*wide, UINT64_C(0x8000000180000002));
    assert_int_equal(mm_user_cmpxchg_u32(&user, mm_vaddr_of((void *)low), found, 8, &found), MM_OK);
    assert_int_equal(found, 0x80000002);
    assert_int_equal(*wide, UINT64_C(0x8000000100000008));
    assert_int_equal(mm_user_cmpxchg_u64(&user, mm_vaddr_of((void *)wide), 8, 1, &found8), MM_OK);
    assert_int_equal(found8, UINT64_C(0x8000000100000008)); /* all 64 bits are compared */
    assert_int_equal(*wide, UINT64_C(0x8000000100000008));
    assert_int_equal(mm_user_cmpxchg_u64(&user, mm_vaddr_of((void *)wide), found8,
                                         UINT64_C(0xffffffff00000000), &found8),
                     MM_OK);
    assert_int_equal(*wide, UINT64_C(0xffffffff00000000));
    assert_int_equal(machine.nr_opened, machine.smap ? 4 : 0);
    assert_false(machine.ac);
    /* Missing; read-only, even if nothing would be written; not aligned. */
    found = 9;
    found8 = 9;
    assert_int_equal(mm_user_cmpxchg_u32(&user, mm_vaddr_of(machine.high_guard), 0, 1, &found),
                     MM_ERR_FAULT);
    assert_int_equal(mm_user_cmpxchg_u64(&user, mm_vaddr_of(machine.high_guard), 0, 1, &found8),
                     MM_ERR_FAULT);
    /* Two processors that do not meet here would not tell: Intel SDM vol. 2A, 2.1.1. */
    assert_int_equal(machine.instruction[0], LOCK_PREFIX);
    assert_false(machine.ac);
    assert_int_equal(machine.nr_strange, 0);
    (void)mprotect(machine.page, PAGE, PROT_READ);
    assert_int_equal(mm_user_cmpxchg_u32(&user, mm_vaddr_of((void *)low), 5, 6, &found),
                     MM_ERR_FAULT);
    assert_int_equal(mm_user_cmpxchg_u64(&user, mm_vaddr_of((void *)wide), 5, 6, &found8),
                     MM_ERR_FAULT);
    (void)mprotect(machine.page, PAGE, PROT_READ | PROT_WRITE);
    assert_false(machine.ac);
    for (uint64_t off = 1; off < 8; off++) {
        mm_vaddr_t at = mm_vaddr_of(machine.page + 64 + off);

        assert_int_equal(mm_user_cmpxchg_u32(&user, at, 5, 6, &found),
                         off == 4 ? MM_OK : MM_ERR_NOT_ALIGNED);
        assert_int_equal(mm_user_cmpxchg_u64(&user, at, 5, 6, &found8), MM_ERR_NOT_ALIGNED);
    }
    assert_int_equal(found8, 9);
}

static void test_exchanges(void **state)
{
    (void)state;
    with_each(check_exchanges);
}

/* A word on a page that is not there yet: the kernel makes it, or says at once that it is not. */
static void test_lazy_words(void **state)
{
    (void)state;
    use_smap(false);
    for (size_t i = 0; i < NR_FLAVOURS; i += 2) {
        struct mm_user user = lower_half(flavours[i].ops);
        mm_vaddr_t lazy = mm_vaddr_of(machine.high_guard);
        mm_status_t want = flavours[i].nofault ? MM_ERR_FAULT : MM_OK;
        uint64_t word = 1;
        uint32_t word4 = 1;

        machine.lazy = machine.high_guard;
        for (unsigned k = 0; k < 4; k++) {
            machine.nr_resolved = 0;
            (void)mprotect(machine.high_guard, PAGE, PROT_NONE);
            assert_int_equal(k == 0   ? mm_user_get(&user, &word, lazy, 8)
                             : k == 1 ? mm_user_put(&user, mm_vaddr(lazy.raw - 1), &word, 4)
                             : k == 2 ? mm_user_cmpxchg_u32(&user, lazy, 1, 2, &word4)
                                      : mm_user_cmpxchg_u64(&user, lazy, 1, 2, &word),
                             want);
            assert_int_equal(machine.nr_resolved, want == MM_OK ? 1 : 0);
        }
        machine.lazy = NULL;
        (void)mprotect(machine.high_guard, PAGE, PROT_NONE);
    }
}

static uint64_t two_values[2] = {0, UINT64_MAX};
static unsigned turn;

static void flip_the_word(void)
{
    memcpy(machine.page, &two_values[++turn % 2], 8);
}

/* Hazard 33: whatever changes the word between any two instructions, it is one of the values. */
static void test_words_flip(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);

    (void)state;
    use_smap(false);
    steps_arm();
    for (unsigned i = 0; i < 200; i++) {
        uint64_t size = sizes[i % 4];
        uint64_t word = UINT64_C(0x5555555555555555);
        mm_status_t status;

        STEP_THROUGH(flip_the_word,
                     status = mm_user_get(&user, &word, mm_vaddr_of(machine.page), size));
        assert_int_equal(status, MM_OK);
        assert_true(steps.nr > 10);
        assert_true(memcmp(&word, &two_values[0], size) == 0 ||
                    memcmp(&word, &two_values[1], size) == 0);
    }
    steps_disarm();
}

#define NR_ADDED (MM_TEST_SANITIZED ? 20000u : 400000u)

/* User code: adds with a locked instruction of its own. */
static void *add_in_user(void *word)
{
    for (unsigned i = 0; i < NR_ADDED; i++) {
        (void)__atomic_fetch_add((uint32_t *)word, 1, __ATOMIC_SEQ_CST);
        if (i % 1024 == 0) {
            (void)sched_yield();
        }
    }
    return NULL;
}

/* The kernel adds as well, by exchanges; and nothing is lost. */
static void test_exchange_is_atomic(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    uint32_t *word = (uint32_t *)(void *)machine.page;
    pthread_t thread;
    uint32_t found;
    uint32_t expected;

    (void)state;
    use_smap(false);
    *word = 0;
    assert_int_equal(pthread_create(&thread, NULL, add_in_user, word), 0);
    for (unsigned i = 0; i < NR_ADDED; i++) {
        assert_int_equal(mm_user_get(&user, &found, mm_vaddr_of(word), sizeof(found)), MM_OK);
        do {
            expected = found;
            assert_int_equal(
                mm_user_cmpxchg_u32(&user, mm_vaddr_of(word), expected, expected + 1, &found),
                MM_OK);
        } while (found != expected);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(*word, 2 * NR_ADDED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_exchanges),
        cmocka_unit_test(test_lazy_words),
        cmocka_unit_test(test_words_flip),
        cmocka_unit_test(test_exchange_is_atomic),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
