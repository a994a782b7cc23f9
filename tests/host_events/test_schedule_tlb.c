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

/* CPU 0 and 1 have the same root loaded. CPU 0 waits, with interrupts off, for CPU 2, which takes as
 * long as it likes. CPU 1 waits for CPU 0 alone: it need not wait for CPU 2 as well. */
static void test_waiter_serves(void **state)
{
    (void)state;
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        prepare(3, pcid != 0, generation(pcid));
        begin_in(0, 0);
        begin_in(1, 0);
        w->closed[0] = true;
        w->closed[2] = true;
        SCRIPT(0, {RELEASE, KERNEL, 0, 1}, {LOAD, 0, 1, 0});
        SCRIPT(1, {RELEASE, 0, 1, 1}, {LOAD, KERNEL, 0, 0});
        SCRIPT(2, {BUSY, 1, 0, 0}, {LOAD, KERNEL, 1, 0});
        RACE(pcid != 0 ? "tlb.waiter" : "tlb.waiter-no-pcid", 0);
    }
    /* Rings: each waits for each, with interrupts off, on the kernel's root and on two others. */
    prepare(3, true, generation(1));
    begin_in(0, 0);
    begin_in(1, 0);
    begin_in(2, 1);
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        w->closed[cpu] = true;
    }
    SCRIPT(0, {RELEASE, KERNEL, 0, 1}, {RELEASE, 0, 0, 1}, {LOAD, KERNEL, 1, 0});
    SCRIPT(1, {RELEASE, 0, 1, 1}, {RELEASE, KERNEL, 1, 1}, {LOAD, KERNEL, 0, 0});
    SCRIPT(2, {RELEASE, 1, 0, 1}, {RELEASE, KERNEL, 2, 1}, {LOAD, KERNEL, 0, 0});
    RACE("tlb.ring", 0);
    /* And with handlers that wait in the midst of a wait. */
    prepare(3, true, generation(2));
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        begin_in(cpu, 0);
        w->handler[cpu] = (struct step){FLUSH, cpu == 0 ? KERNEL : 0, 0, 0};
    }
    w->nested = true;
    SCRIPT(0, {RELEASE, 0, 3, 1}, {LOAD, 0, 1, 0});
    SCRIPT(1, {RELEASE, KERNEL, 1, 1}, {LOAD, 0, 2, 0});
    SCRIPT(2, {RELEASE, 1, 0, 1}, {LOAD, KERNEL, 0, 0});
    RACE("tlb.nested-ring", 2);
}

/* CPU 1 serves in a loop of its own, and then stays in user code. The interrupt of CPU 2, an NMI,
 * comes in the midst of that: the newer generation that it has served stays seen. */
static void test_service_in_service(void **state)
{
    (void)state;
    for (unsigned root = 0; root <= KERNEL; root += KERNEL) {
        prepare(3, true, generation(root));
        begin_in(1, 0);
        w->slow = true;
        w->drawn = 8;
        SCRIPT(0, {RELEASE, root, 0, 1});
        SCRIPT(1, {SERVE, 0, 0, 0}, {STAY, 0, 0, 0});
        SCRIPT(2, {RELEASE, root, 1, 1});
        RACE(root == 0 ? "tlb.service-in-service" : "tlb.service-in-service-kernel", 0);
    }
}

/* CPU 1 reads the record of CPU 0's flush. The others flush more than there are records. */
static void test_overwritten_record(void **state)
{
    (void)state;
    prepare(4, true, generation(0));
    begin_in(1, 0);
    w->drawn = 8;
    SCRIPT(0, {RELEASE, 0, 0, 1});
    SCRIPT(1, {STAY, 0, 0, 0});
    SCRIPT(2, {SPARSE, 0, 1, 7});
    SCRIPT(3, {SPARSE, 0, 2, 7});
    RACE("tlb.overwritten-record", 0);
}

/* "I write here, then read there": the bits and the generation, with stores that are seen late. */
static void test_late_stores(void **state)
{
    (void)state;
    prepare(2, true, generation(0));
    w->delayed = true;
    SCRIPT(0, {RELEASE, 0, 0, 1});
    SCRIPT(1, {ENTER, 0, 0, 0}, {LOAD, 0, 0, 0}, {LOAD, 0, 1, 0});
    RACE("tlb.late-generation", 0);
    prepare(2, true, generation(0));
    w->delayed = true;
    SCRIPT(0, {ENTER, 0, 0, 0}, {LOAD, 0, 0, 0}, {LOAD, 0, 1, 0});
    SCRIPT(1, {RELEASE, 0, 0, 1});
    RACE("tlb.late-switch-in", 0);
    prepare(2, true, generation(1));
    w->delayed = true;
    begin_in(0, 0);
    begin_in(1, 1);
    SCRIPT(0, {RELEASE, 0, 0, 1}, {LOAD, 0, 1, 0});
    SCRIPT(1, {ENTER, 0, 0, 0}, {LOAD, 0, 0, 0}, {ENTER, 1, 0, 0}, {ENTER, 0, 0, 0},
           {LOAD, 0, 1, 0});
    RACE("tlb.late-switch-twice", 1);
    prepare(2, true, generation(2));
    w->delayed = true;
    SCRIPT(0, {RELEASE, KERNEL, 0, 1}, {RELEASE, KERNEL, 1, 1});
    SCRIPT(1, {LOAD, KERNEL, 0, 0}, {GO, 0, 0, 0}, {COME, 0, 0, 0}, {LOAD, KERNEL, 0, 0},
           {LOAD, KERNEL, 1, 0});
    RACE("tlb.late-hotplug", 0);
    prepare(3, true, generation(3));
    w->delayed = true;
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        begin_in(cpu, 0);
        w->closed[cpu] = true;
    }
    SCRIPT(0, {RELEASE, 0, 0, 1}, {LOAD, 0, 2, 0});
    SCRIPT(1, {RELEASE, KERNEL, 1, 1}, {LOAD, 0, 0, 0});
    SCRIPT(2, {UNMAP, 0, 2, 1}, {LOAD, KERNEL, 1, 0});
    RACE("tlb.late-initiators", 0);
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
        cmocka_unit_test(test_waiter_serves),
        cmocka_unit_test(test_service_in_service),
        cmocka_unit_test(test_overwritten_record),
        cmocka_unit_test(test_late_stores),
        cmocka_unit_test(test_enough),
    };

    return cmocka_run_group_tests_name("schedule_tlb", tests, NULL, NULL);
}
