// SPDX-License-Identifier: MIT
/**
 * Two CPUs in one space, or in relatives that share frames, under every schedule of few switches
 * and many others. Each field of a space is under its lock: a call that does without shows here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "space_race.h"

/* ---- faults ------------------------------------------------------------------------------------ */

static void test_fault_against_fault(void **state)
{
    (void)state;
    prepare(4, 0);
    SCRIPT(0, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0});
    SCRIPT(1, {LOAD, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0});
    race("space.fault-fault", 2);
}

static void test_fault_against_unmap(void **state)
{
    (void)state;
    prepare(4, 1);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {STORE, 0, 3, 0, 0});
    SCRIPT(1, {UNMAP, 0, 0, 2, 0});
    race("space.fault-unmap", 2);
    prepare(4, 2);
    SCRIPT(0, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0});
    SCRIPT(1, {UNMAP, 0, 0, 4, 0}, {MAP, 0, 1, 1, 0});
    race("space.fault-unmap-map", 2);
}

static void test_fault_against_protect(void **state)
{
    (void)state;
    prepare(4, 1);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0});
    SCRIPT(1, {PROTECT, 0, 0, 2, RO}, {PROTECT, 0, 1, 1, RW});
    race("space.fault-protect", 2);
}

/* ---- regions ----------------------------------------------------------------------------------- */

static void test_map_and_unmap(void **state)
{
    (void)state;
    prepare(2, 1);
    SCRIPT(0, {MAP_ANY, 0, 0, 3, 0}, {ASK, 0, 0, 0, 0});
    SCRIPT(1, {MAP_ANY, 0, 0, 2, 0}, {UNMAP, 0, 1, 1, 0});
    race("space.map-map", 2);
    prepare(6, 3);
    SCRIPT(0, {UNMAP, 0, 2, 1, 0}, {PROTECT, 0, 0, 1, RO});
    SCRIPT(1, {PROTECT, 0, 1, 3, RO}, {UNMAP, 0, 5, 1, 0});
    race("space.unmap-protect", 2);
    prepare(6, 3);
    SCRIPT(0, {UNMAP, 0, 0, 6, 0}, {ASK, 0, 3, 0, 0});
    SCRIPT(1, {ASK, 0, 3, 0, 0}, {MAP, 0, 2, 2, 0}, {STORE, 0, 2, 0, 0});
    race("space.unmap-find", 2);
}

/* Readers, while the tree and the tables change; the switch may come within each of them. */
static void test_readers(void **state)
{
    (void)state;
    prepare(6, 3);
    SCRIPT(0, {UNMAP, 0, 1, 2, 0}, {PROTECT, 0, 4, 1, RO});
    SCRIPT(1, {ASK, 0, 2, 0, 0}, {ASK, 0, 4, 0, 0});
    race_of("space.readers-find", 2, true);
    prepare(6, 3);
    SCRIPT(0, {UNMAP, 0, 0, 5, 0}, {MAP, 0, 1, 2, 0});
    SCRIPT(1, {COUNT, 0, 0, 0, 0}, {COUNT, 0, 0, 0, 0});
    race_of("space.readers-count", 2, true);
    prepare(6, 3);
    SCRIPT(0, {UNMAP, 0, 1, 2, 0}, {STORE, 0, 4, 0, 0});
    SCRIPT(1, {CHECK, 0, 0, 0, 0});
    race_of("space.readers-check", 2, false);
    prepare(4, 1);
    SCRIPT(0, {STORE, 0, 2, 0, 0}, {UNMAP, 0, 0, 1, 0});
    SCRIPT(1, {LOOK, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0});
    race_of("space.readers-activate", 2, true);
}

/* ---- copies ------------------------------------------------------------------------------------ */

static void test_fault_against_clone(void **state)
{
    (void)state;
    prepare(3, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 2, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 1, 0, 0}, {STORE, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0});
    race("space.fault-clone", 2);
}

static void test_clone_against_put(void **state)
{
    (void)state;
    prepare(3, 2);
    do_step(0, &(struct step){.what = CLONE, .page = 1});
    SCRIPT(0, {CLONE, 0, 2, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 1, 0, 0, 0}, {PUT, 1, 0, 0, 0});
    race("space.clone-put", 2);
    prepare(3, 2);
    SCRIPT(0, {CLONE, 0, 1, 0, 0}, {PUT, 1, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 2, 0, 0}, {STORE, 0, 1, 0, 0}, {PUT, 2, 0, 0, 0});
    race("space.clone-clone", 2);
}

/* Two that share a frame write to it at once: each has its own at the end, and none is lost. */
static void test_sharers_write(void **state)
{
    (void)state;
    prepare(2, 2);
    do_step(0, &(struct step){.what = CLONE, .page = 1});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0}, {STORE, 0, 1, 0, 0});
    SCRIPT(1, {STORE, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0});
    race("space.sharers-write", 2);
    prepare(2, 2);
    do_step(0, &(struct step){.what = CLONE, .page = 1});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0});
    SCRIPT(1, {PUT, 1, 0, 0, 0});
    race("space.cow-put", 2);
    prepare(2, 2);
    do_step(0, &(struct step){.what = CLONE, .page = 1});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0});
    SCRIPT(1, {UNMAP, 1, 0, 2, 0}, {MAP, 1, 0, 1, 0}, {STORE, 1, 0, 0, 0});
    race("space.cow-unmap", 2);
    prepare(2, 2);
    do_step(0, &(struct step){.what = CLONE, .page = 1});
    do_step(0, &(struct step){.what = CLONE, .page = 2});
    SCRIPT(0, {STORE, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0});
    SCRIPT(2, {PROTECT, 2, 0, 2, RO}, {PROTECT, 2, 0, 2, RW}, {STORE, 2, 0, 0, 0});
    race("space.three-sharers", 3);
}

/* ---- handles ----------------------------------------------------------------------------------- */

static void test_references(void **state)
{
    (void)state;
    prepare(2, 1);
    do_step(0, &(struct step){.what = CLONE, .page = 1});
    do_step(0, &(struct step){.what = HOLD, .space = 1});
    SCRIPT(0, {HOLD, 1, 0, 0, 0}, {PUT, 1, 0, 0, 0}, {PUT, 1, 0, 0, 0});
    SCRIPT(1, {STORE, 1, 0, 0, 0}, {PUT, 1, 0, 0, 0});
    race("space.references", 2);
    prepare(2, 1);
    SCRIPT(0, {CREATE, 1, 0, 0, 0}, {PUT, 1, 0, 0, 0});
    SCRIPT(1, {CREATE, 2, 0, 0, 0}, {MAP, 2, 0, 1, 0}, {STORE, 2, 0, 0, 0});
    race("space.create-create", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault_against_fault),
        cmocka_unit_test(test_fault_against_unmap),
        cmocka_unit_test(test_fault_against_protect),
        cmocka_unit_test(test_map_and_unmap),
        cmocka_unit_test(test_readers),
        cmocka_unit_test(test_fault_against_clone),
        cmocka_unit_test(test_clone_against_put),
        cmocka_unit_test(test_sharers_write),
        cmocka_unit_test(test_references),
    };

    return cmocka_run_group_tests_name("schedule_space", tests, NULL, NULL);
}
