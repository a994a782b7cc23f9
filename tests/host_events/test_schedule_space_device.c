// SPDX-License-Identifier: MIT
/**
 * Two CPUs in spaces that map one device, under every schedule of few switches and many others: at
 * no moment do two tables have a page of it with two memory types.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "space_race.h"

#define DEVICE UINT64_C(0xfed00000) /* not RAM */
#define NR     4u                   /* pages of it, from page 0 of the scripts on */
#define UC     MM_MEMTYPE_UC
#define WC     MM_MEMTYPE_WC

/* What the hardware would find at a page, without a lock: the bits of the leaf that are its memory
 * type (SDM vol. 3A, 4.9.2: PWT, PCD, PAT); -1: the page is not there. */
static int type_in(unsigned space, unsigned page)
{
    uint64_t at = USER + page * PAGE;
    uint64_t table;

    if (w->puts[space] == 0) {
        return -1;
    }
    table = mm_paging_root(mm_space_table(w->of[space])).raw;
    for (unsigned shift = 39;; shift -= 9) {
        uint64_t entry = ram_at(table)[(at >> shift) & 511];

        if ((entry & 1) == 0 || shift == 12) {
            return (entry & 1) == 0 ? -1 : (int)(entry & 0x98);
        }
        table = entry & UINT64_C(0x000ffffffffff000);
    }
}

/* Pages of the device lie at the same addresses in all spaces, so that each is easily found. */
static void look_at_types(unsigned first, unsigned nr)
{
    for (unsigned page = first; page < first + nr; page++) {
        int seen = -1;

        for (unsigned i = 0; i < SPACES; i++) {
            int type = type_in(i, page);

            if (type != -1 && seen != -1 && type != seen) {
                t_schedule_fail("page %u of the device has two types", page);
            }
            seen = type != -1 ? type : seen;
        }
    }
}

static mm_status_t map_it(unsigned space, unsigned first, unsigned nr, mm_memtype_t type,
                          uint32_t flags)
{
    const struct mm_space_request request = {.at = mm_vaddr(USER + first * PAGE),
                                             .len = nr * PAGE,
                                             .prot = RW,
                                             .flags = MM_SPACE_FIXED | flags};
    mm_vaddr_t at;
    mm_status_t status =
        mm_space_map_physical(w->of[space], &request, mm_paddr(DEVICE + first * PAGE), type, &at);

    if (status == MM_OK) {
        look_at_types(first, nr);
    } else if (status != MM_ERR_BUSY) {
        t_schedule_fail("a device: %s", mm_status_str(status));
    }
    return status;
}

/* Each space gives back what it has; then nobody has claimed anything. */
static const char *finish(void *ctx)
{
    for (unsigned i = 0; i < SPACES; i++) {
        if (w->puts[i] != 0 && mm_space_check(w->of[i]) != MM_OK) {
            return "the check of a space";
        }
        look_at_types(0, NR);
    }
    for (unsigned i = 0; i < SPACES; i++) {
        if (w->puts[i] != 0 &&
            mm_space_unmap(w->of[i], mm_vrange(mm_vaddr(USER), NR * PAGE)) != MM_OK) {
            return "a device cannot be unmapped";
        }
    }
    for (unsigned type = 0; type < MM_MEMTYPE_COUNT; type++) {
        if (w->spaces.own_devices.by_type[type].nr != 0) {
            return "a claim is out";
        }
    }
    return space_race_finish(ctx);
}

/* Space 0 has the device, if `there`; space 1 has nothing. */
static void begin(bool there)
{
    prepare(1, 0);
    do_step(0, &(struct step){.what = UNMAP, .nr = 1});
    do_step(0, &(struct step){.what = CREATE, .space = 1});
    if (there) {
        assert_int_equal(map_it(0, 0, NR, UC, 0), MM_OK);
    }
}

static void race_in(const char *name, void (*run)(void *ctx, unsigned cpu))
{
    const struct t_race race = {.name = name,
                                .nr_cpus = 2,
                                .start = space_race_start,
                                .run = run,
                                .finish = finish,
                                .sparse = true,
                                .ordered = true};
    const struct t_race_plan plan = {
        .nr_random = 200, .nr_pct = 200, .nr_search = 800, .preemptions = 2};

    w->at_start = malloc(sizeof(*w));
    assert_non_null(w->at_start);
    memcpy(w->at_start, w, sizeof(*w));
    T_LEGAL(t_race_explore(&race, &plan));
    free(w->at_start);
    free(w);
}

/* Two want it with two types: one has it. */
static void claim_both(void *ctx, unsigned cpu)
{
    (void)ctx;
    for (unsigned i = 0; i < 2; i++) {
        if (map_it(cpu, cpu + i, 2, cpu == 0 ? UC : WC, 0) == MM_OK) {
            do_step(cpu, &(struct step){.what = UNMAP, .space = cpu, .page = cpu + i, .nr = 2});
        }
    }
}

static void test_claim_against_claim(void **state)
{
    (void)state;
    begin(false);
    race_in("space.device-claim-claim", claim_both);
}

/* What stays is never to be had with another type; what goes is when it is gone. */
static void cut(void *ctx, unsigned cpu)
{
    (void)ctx;
    if (cpu == 0) {
        do_step(cpu, &(struct step){.what = UNMAP, .page = 1, .nr = 2});
        do_step(cpu, &(struct step){.what = PROTECT, .nr = 1, .prot = RO});
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (map_it(1, 3 * i, 1, WC, 0) == MM_OK) {
            t_schedule_fail("page %u, which space 0 has, was mapped with another type", 3 * i);
        }
        (void)map_it(1, 1 + i, 1, WC, 0);
    }
}

static void test_cut_against_claim(void **state)
{
    (void)state;
    begin(true);
    race_in("space.device-cut-claim", cut);
}

static void replace(void *ctx, unsigned cpu)
{
    (void)ctx;
    if (cpu == 0) {
        (void)map_it(0, 1, 2, UC, MM_SPACE_REPLACE);
        do_step(cpu, &(struct step){.what = PROTECT, .page = 1, .nr = 2, .prot = RO});
    } else if (map_it(1, 0, NR, WC, 0) == MM_OK || map_it(1, 2, 1, WC, 0) == MM_OK) {
        t_schedule_fail("what is replaced by itself was mapped with another type");
    }
}

static void test_replace_against_claim(void **state)
{
    (void)state;
    begin(true);
    race_in("space.device-replace-claim", replace);
}

/* The child has it before the parent gives it up. */
static void inherit(void *ctx, unsigned cpu)
{
    (void)ctx;
    if (cpu == 0) {
        do_step(cpu, &(struct step){.what = CLONE, .page = 2});
        do_step(cpu, &(struct step){.what = PUT, .space = 0});
    } else if (map_it(1, 0, 1, WC, 0) == MM_OK || map_it(1, 3, 1, WC, 0) == MM_OK) {
        t_schedule_fail("what the child has was mapped with another type");
    }
}

static void test_clone_against_claim(void **state)
{
    (void)state;
    begin(true);
    race_in("space.device-clone-claim", inherit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claim_against_claim),
        cmocka_unit_test(test_cut_against_claim),
        cmocka_unit_test(test_replace_against_claim),
        cmocka_unit_test(test_clone_against_claim),
    };

    return cmocka_run_group_tests_name("schedule_space_device", tests, NULL, NULL);
}
