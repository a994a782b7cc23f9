// SPDX-License-Identifier: MIT
/**
 * Shootdown under schedules (hazard 20): against a CPU that switches in, against exit and destroy,
 * against a second initiator with interrupts off, against a third CPU that spins on the initiator's
 * lock with interrupts off; with PCIDs and without, with interrupts in the midst of everything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tlb_race.h"

static uint64_t nr_schedules;

#define RACE(name, interrupts) nr_schedules += race(name, interrupts)

/* The generation from which a variant starts: near both ends of the numbers, and elsewhere. */
static uint64_t generation(unsigned i)
{
    static const uint64_t first[] = {0, UINT64_MAX, INT64_MAX, INT64_MAX - 1};

    return first[i % 4];
}

/* CPU 1 comes into a root of which CPU 0 unmaps pages. It knew them, under the PCID of that root. */
static void test_against_switch_in(void **state)
{
    (void)state;
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        prepare(2, pcid != 0, generation(pcid));
        SCRIPT(0, {UNMAP, 0, 0, 1});
        SCRIPT(1, {ENTER, 0, 0, 0}, {LOAD, 0, 0, 0}, {LOAD, 0, 1, 0});
        RACE(pcid != 0 ? "tlb.switch-in" : "tlb.switch-in-no-pcid", 1);
        prepare(2, pcid != 0, generation(pcid + 1));
        begin_in(0, 0);
        begin_in(1, 1);
        SCRIPT(0, {UNMAP, 0, 0, 1}, {LOAD, 0, 1, 0}, {UNMAP, 0, 1, 1});
        SCRIPT(1, {ENTER, 0, 0, 0}, {LOAD, 0, 0, 0}, {ENTER, 1, 0, 0}, {LOAD, 1, 0, 0},
               {ENTER, 0, 0, 0}, {LOAD, 0, 1, 0});
        RACE(pcid != 0 ? "tlb.switch-twice" : "tlb.switch-twice-no-pcid", 1);
        /* From a root that has flushed more often. */
        prepare(2, pcid != 0, generation(pcid + 1));
        begin_in(0, 1);
        flush_alone(0, 1);
        SCRIPT(0, {ENTER, 0, 0, 0}, {LOAD, 0, 0, 0}, {LOAD, 0, 1, 0});
        SCRIPT(1, {UNMAP, 0, 0, 1});
        RACE(pcid != 0 ? "tlb.switch-older" : "tlb.switch-older-no-pcid", 0);
        /* The whole script of CPU 1 with interrupts off: it serves when it switches, and at the end
         * it is gone. */
        prepare(2, pcid != 0, generation(pcid + 2));
        SCRIPT(0, {UNMAP, 0, 0, 2});
        SCRIPT(1, {ENTER, 0, 0, 0}, {LOAD, 0, 0, 0}, {ENTER, KERNEL, 0, 0}, {ENTER, 0, 0, 0},
               {LOAD, 0, 1, 0});
        w->closed[1] = true;
        RACE(pcid != 0 ? "tlb.switch-closed" : "tlb.switch-closed-no-pcid", 0);
    }
}

/* CPU 1 leaves a root of which CPU 0 unmaps pages, and CPU 0 or a third destroys it. */
static void test_against_exit(void **state)
{
    (void)state;
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        prepare(2, pcid != 0, generation(pcid));
        begin_in(1, 0);
        SCRIPT(0, {UNMAP, 0, 0, 1}, {DESTROY, 0, 0, 0});
        SCRIPT(1, {LOAD, 0, 0, 0}, {ENTER, KERNEL, 0, 0}, {LOAD, KERNEL, 0, 0}, {ENTER, 1, 0, 0},
               {LOAD, 1, 0, 0});
        RACE(pcid != 0 ? "tlb.exit" : "tlb.exit-no-pcid", 1);
        prepare(3, pcid != 0, generation(pcid + 1));
        begin_in(0, 0);
        begin_in(1, 0);
        SCRIPT(0, {RELEASE, 0, 0, 2}, {ENTER, KERNEL, 0, 0});
        SCRIPT(1, {LOAD, 0, 0, 0}, {ENTER, 1, 0, 0}, {LOAD, 1, 0, 0});
        SCRIPT(2, {RELEASE, 0, 2, 2}, {LOAD, KERNEL, 0, 0});
        RACE(pcid != 0 ? "tlb.exit-of-two" : "tlb.exit-of-two-no-pcid", 0);
    }
}

/* Both have it loaded, both have interrupts off, each waits for the other. */
static void test_two_initiators(void **state)
{
    (void)state;
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        prepare(2, pcid != 0, generation(pcid));
        begin_in(0, 0);
        begin_in(1, 0);
        w->closed[0] = true;
        w->closed[1] = true;
        SCRIPT(0, {RELEASE, 0, 0, 1}, {LOAD, 0, 1, 0}, {LOAD, 0, 0, 0});
        SCRIPT(1, {RELEASE, 0, 1, 1}, {LOAD, 0, 0, 0}, {LOAD, 0, 1, 0});
        RACE(pcid != 0 ? "tlb.two-initiators" : "tlb.two-initiators-no-pcid", 0);
        /* One flushes the kernel's pages, one a user's. */
        prepare(2, pcid != 0, generation(pcid + 2));
        begin_in(0, 0);
        begin_in(1, 0);
        w->closed[0] = true;
        w->closed[1] = true;
        SCRIPT(0, {RELEASE, KERNEL, 0, 1}, {LOAD, 0, 1, 0}, {LOAD, KERNEL, 0, 0});
        SCRIPT(1, {RELEASE, 0, 1, 1}, {LOAD, KERNEL, 0, 0}, {LOAD, 0, 1, 0});
        RACE(pcid != 0 ? "tlb.two-roots" : "tlb.two-roots-no-pcid", 0);
    }
    /* CPU 0 is interrupted while it serves itself, and then stays. */
    prepare(2, true, generation(2));
    begin_in(0, 0);
    begin_in(1, 0);
    SCRIPT(0, {RELEASE, 0, 0, 1}, {STAY, 0, 0, 0});
    SCRIPT(1, {RELEASE, 0, 1, 1}, {LOAD, 0, 0, 0});
    RACE("tlb.interrupted-service", 1);
    prepare(3, true, generation(1));
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        begin_in(cpu, 0);
        w->closed[cpu] = true;
    }
    SCRIPT(0, {RELEASE, 0, 0, 1}, {LOAD, 0, 2, 0});
    SCRIPT(1, {RELEASE, 0, 1, 1}, {LOAD, 0, 0, 0});
    SCRIPT(2, {RELEASE, 0, 2, 1}, {LOAD, 0, 1, 0});
    RACE("tlb.three-initiators", 0);
}

/* CPU 0 ends its gather with its lock held. CPU 1 spins for that lock with interrupts off, CPU 2
 * uses the pages. */
static void test_against_a_spinner(void **state)
{
    (void)state;
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        prepare(3, pcid != 0, generation(pcid));
        for (unsigned cpu = 0; cpu < 3; cpu++) {
            begin_in(cpu, 0);
        }
        w->closed[1] = true;
        SCRIPT(0, {UNMAP, 0, 0, 1}, {LOAD, 0, 1, 0});
        SCRIPT(1, {UNMAP, 0, 1, 1}, {LOAD, 0, 0, 0});
        SCRIPT(2, {LOAD, 0, 0, 0}, {LOAD, 0, 1, 0});
        RACE(pcid != 0 ? "tlb.spinner" : "tlb.spinner-no-pcid", 0);
    }
}

/* The kernel's pages, which every PCID may hold. */
static void test_kernel_pages(void **state)
{
    (void)state;
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        prepare(2, pcid != 0, generation(pcid));
        begin_in(1, 0);
        SCRIPT(0, {UNMAP, KERNEL, 0, 1}, {LOAD, KERNEL, 1, 0});
        SCRIPT(1, {LOAD, KERNEL, 0, 0}, {ENTER, 1, 0, 0}, {LOAD, KERNEL, 0, 0}, {ENTER, 0, 0, 0},
               {LOAD, KERNEL, 0, 0});
        RACE(pcid != 0 ? "tlb.kernel" : "tlb.kernel-no-pcid", 1);
        prepare(2, pcid != 0, generation(pcid + 1));
        SCRIPT(0, {UNMAP, KERNEL, 0, 1}, {UNMAP, KERNEL, 1, 1});
        SCRIPT(1, {LOAD, KERNEL, 0, 0}, {GO, 0, 0, 0}, {COME, 0, 0, 0}, {LOAD, KERNEL, 0, 0},
               {LOAD, KERNEL, 1, 0});
        RACE(pcid != 0 ? "tlb.kernel-hotplug" : "tlb.kernel-hotplug-no-pcid", 0);
    }
}

/* A handler ends a gather of its own, in the midst of whatever its CPU does: of a gather's end, of
 * the service, of a wait. */
static void test_nested(void **state)
{
    (void)state;
    prepare(2, true, generation(1));
    begin_in(0, 0);
    begin_in(1, 0);
    w->nested = true;
    w->handler[0] = (struct step){RELEASE, 1, 0, 1};
    w->handler[1] = (struct step){RELEASE, KERNEL, 0, 1};
    SCRIPT(0, {RELEASE, 0, 0, 1}, {LOAD, 0, 1, 0});
    SCRIPT(1, {LOAD, 0, 0, 0}, {ENTER, 1, 0, 0}, {LOAD, 1, 0, 0}, {LOAD, KERNEL, 0, 0});
    RACE("tlb.nested", 2);
}

static void test_enough(void **state)
{
    (void)state;
    print_message("tlb: %llu schedules\n", (unsigned long long)nr_schedules);
    assert_true(nr_schedules >= 10000 || t_race_last()->nr_schedules <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_switch_in),
        cmocka_unit_test(test_against_exit),
        cmocka_unit_test(test_two_initiators),
        cmocka_unit_test(test_against_a_spinner),
        cmocka_unit_test(test_kernel_pages),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_enough),
    };

    return cmocka_run_group_tests_name("schedule_tlb", tests, NULL, NULL);
}
