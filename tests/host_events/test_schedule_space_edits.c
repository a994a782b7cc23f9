// SPDX-License-Identifier: MIT
/**
 * Calls that edit a space race with each other, with faults, with CPUs that come and leave, and
 * for what is counted: limits, groups, statistics. And the lock itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "space_scene.h"

/* ---- edits ------------------------------------------------------------------------------------- */

static void test_edits(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 4);
    SCRIPT(0, {UNMAP, 0, 0, 3, 0}, {LOAD, 0, 3, 0, 0});
    SCRIPT(1, {UNMAP, 0, 1, 2, 0}, {MAP, 0, 1, 2, 0}, {STORE, 0, 2, 0, 0});
    race("space.edits.unmap-unmap");
    prepare_for(2);
    warm(0, 0, 1);
    SCRIPT(0, {MAP_ANY, 0, 0, 3, 0}, {MAP, 0, FAR, 2, 0}, {STORE, 0, FAR + 1, 0, 0});
    SCRIPT(1, {MAP_ANY, 0, 0, 2, 0}, {MAP, 0, FAR + 1, 2, 0}, {STORE, 0, FAR + 1, 0, 0});
    race("space.edits.map-map");
    prepare_for(2);
    warm(0, 0, 4);
    SCRIPT(0, {PROTECT, 0, 0, 3, RO}, {LOAD, 0, 2, 0, 0}, {STORE, 0, 1, 0, 0});
    SCRIPT(1, {UNMAP, 0, 2, 1, 0}, {PROTECT, 0, 0, 2, RW}, {STORE, 0, 1, 0, 0});
    race("space.edits.protect-unmap");
}

static void test_moves(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, FAR, 0, 0}, {STORE, 0, FAR + 1, 0, 0},
           {STORE, 0, 1, 0, 0});
    SCRIPT(1, {REMAP, 0, 0, 2, FAR}, {LOAD, 0, FAR + 1, 0, 0}, {STORE, 0, FAR, 0, 0});
    race("space.edits.move-fault");
    prepare_for(3);
    warm(0, 0, 2);
    watch(1, 0, 2);
    on_cpu(0, (struct step){MAP, 0, FAR, 2, 0});
    on_cpu(0, (struct step){STORE, 0, FAR, 0, 0});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, FAR, 0, 0}, {LOAD, 0, 1, 0, 0});
    SCRIPT(1, {LOAD, 0, 0, 0, 0}, {LOAD, 0, FAR, 0, 0}, {STORE, 0, FAR + 1, 0, 0});
    SCRIPT(2, {REMAP, 0, 0, 2, FAR}, {MAP, 0, 0, 1, 0});
    race("space.edits.move-over");
    prepare_for(2);
    warm(0, 0, 4);
    SCRIPT(0, {REMAP, 0, 0, 2, FAR}, {STORE, 0, FAR, 0, 0});
    SCRIPT(1, {UNMAP, 0, 1, 2, 0}, {PROTECT, 0, FAR, 1, RO}, {LOAD, 0, FAR, 0, 0});
    race("space.edits.move-unmap");
}

/* ---- CPUs that come and leave ------------------------------------------------------------------ */

static void cpus_come_and_leave(const char *name, bool pcid, bool interrupted)
{
    prepare(&(struct scene){.nr_cpus = 3, .pcid = pcid});
    warm(0, 0, 3);
    watch(1, 0, 3);
    w->interrupted = interrupted;
    SCRIPT(0, {UNMAP, 0, 0, 2, 0}, {MAP, 0, 0, 1, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(1, {LOAD, 0, 1, 0, 0}, {LEAVE, 0, 0, 0, 0}, {ENTER, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0},
           {LOAD, 0, 1, 0, 0});
    SCRIPT(2, {ENTER, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0});
    race(name);
}

static void test_cpus(void **state)
{
    (void)state;
    cpus_come_and_leave("space.edits.enter-leave", true, false);
    cpus_come_and_leave("space.edits.enter-leave-flushed", false, true);
    /* The last reference goes, after the CPU has left that still remembers all of it. */
    prepare_for(3);
    warm(0, 0, 3);
    on_cpu(0, (struct step){CLONE, 0, 0, 0, 1});
    warm(1, 1, 3);
    on_cpu(0, (struct step){HOLD, 1, 0, 0, 0});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {UNMAP, 0, 1, 1, 0}, {LOAD, 0, 2, 0, 0});
    SCRIPT(1, {STORE, 1, 1, 0, 0}, {LEAVE, 0, 0, 0, 0}, {PUT, 1, 0, 0, 0}, {STORE, 0, 2, 0, 0});
    SCRIPT(2, {UNMAP, 1, 0, 1, 0}, {PUT, 1, 0, 0, 0}, {LOAD, 0, 0, 0, 0});
    race("space.edits.exit");
}

/* ---- what is counted --------------------------------------------------------------------------- */

static void test_limits(void **state)
{
    (void)state;
    prepare_for(2);
    w->limited = true;
    warm(0, 0, 1);
    SCRIPT(0, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0}, {STORE, 0, 3, 0, 0});
    SCRIPT(1, {LIMIT, 0, 0, 0, 2}, {STORE, 0, 3, 0, 0}, {LIMIT, 0, 0, 0, 3}, {LOAD, 0, 2, 0, 0});
    race("space.edits.limit-fault");
    prepare(&(struct scene){.nr_cpus = 2, .pcid = true, .group_pages = 3});
    create(1);
    on_cpu(0, (struct step){MAP, 1, 0, 4, 0});
    warm(0, 0, 1);
    SCRIPT(0, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0}, {UNMAP, 0, 0, 1, 0}, {STORE, 0, 3, 0, 0});
    SCRIPT(1, {STORE, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0}, {ADVISE, 1, 0, 1, MM_ADVICE_DONT_NEED},
           {LOAD, 1, 2, 0, 0});
    race("space.edits.group-faults");
    prepare(&(struct scene){.nr_cpus = 3, .pcid = true, .group_pages = 4});
    warm(0, 0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 2, 0, 0}, {STORE, 0, 3, 0, 0});
    SCRIPT(1, {STORE, 0, 2, 0, 0}, {ADVISE, 0, 0, 2, MM_ADVICE_DONT_NEED}, {STORE, 0, 1, 0, 0});
    SCRIPT(2, {CLONE, 0, 0, 0, 1}, {COUNT, 0, 0, 0, 0});
    race("space.edits.group-clone");
}

static void test_asking(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 1);
    SCRIPT(0, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0}, {STORE, 0, 2, 0, 0}, {STORE, 0, 3, 0, 0});
    SCRIPT(1, {COUNT, 0, 0, 0, 0}, {RESIDENT, 0, 0, 4, 0}, {CHECK, 0, 0, 0, 0},
           {COUNT, 0, 0, 0, 0});
    race("space.edits.count-fault");
    prepare_for(2);
    warm(0, 0, 2);
    on_cpu(0, (struct step){CLONE, 0, 0, 0, 1});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {UNMAP, 0, 0, 1, 0});
    SCRIPT(1, {CHECK, 1, 0, 0, 0}, {COUNT, 0, 0, 0, 0}, {STORE, 1, 0, 0, 0}, {CHECK, 0, 0, 0, 0});
    race("space.edits.check-break");
}

/* ---- the lock ---------------------------------------------------------------------------------- */

static void lock_against_sharers(const char *name, unsigned nr_cpus, bool wanders, bool plainly)
{
    prepare_for(nr_cpus);
    w->wanders = wanders;
    w->plainly = plainly;
    warm(0, 0, 1);
    SCRIPT(0, {ALONE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {ALONE, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0}, {ALONE, 0, 0, 0, 0});
    SCRIPT(2, {STORE, 0, 2, 0, 0}, {STORE, 0, 3, 0, 0});
    SCRIPT(3, {LOAD, 0, 3, 0, 0}, {STORE, 0, 1, 0, 0}, {COUNT, 0, 0, 0, 0});
    race(name);
}

static void test_lock(void **state)
{
    (void)state;
    lock_against_sharers("space.edits.alone", 4, false, false);
    lock_against_sharers("space.edits.alone-wandering", 3, true, false);
    lock_against_sharers("space.edits.alone-plainly", 2, false, true);
    /* Each side's store is seen late by the other, as late as its order allows. */
    prepare_for(2);
    w->delayed = true;
    warm(0, 0, 1);
    SCRIPT(0, {ALONE, 0, 0, 0, 0}, {ALONE, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0});
    race("space.edits.alone-late");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edits),  cmocka_unit_test(test_moves),  cmocka_unit_test(test_cpus),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_asking), cmocka_unit_test(test_lock),
    };

    return cmocka_run_group_tests_name("schedule_space_edits", tests, NULL, NULL);
}
