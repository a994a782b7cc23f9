// SPDX-License-Identifier: MIT
/**
 * Faults of one space race with each other, and with what takes pages or rights away, on CPUs with
 * TLBs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "space_scene.h"

/* ---- two faults -------------------------------------------------------------------------------- */

static void test_one_page(void **state)
{
    (void)state;
    prepare_for(2);
    SCRIPT(0, {LOAD, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0}, {LOAD, 0, 3, 0, 0});
    SCRIPT(1, {LOAD, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0}, {STORE, 0, 3, 0, 0});
    race("space.faults.same-page");
    prepare_for(2);
    watch(0, 0, 2);
    watch(1, 0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    race("space.faults.zero-page-written");
    prepare_for(3);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {LOAD, 0, 0, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(2, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0});
    race("space.faults.three");
}

static void test_missing_tables(void **state)
{
    const struct step map = {MAP, 0, FAR, 4, 0};

    (void)state;
    prepare_for(2);
    on_cpu(0, map);
    SCRIPT(0, {STORE, 0, FAR, 0, 0}, {LOAD, 0, FAR + 2, 0, 0});
    SCRIPT(1, {STORE, 0, FAR + 1, 0, 0}, {STORE, 0, FAR + 2, 0, 0});
    race("space.faults.missing-table");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_page),
        cmocka_unit_test(test_missing_tables),
    };

    return cmocka_run_group_tests_name("schedule_space_faults", tests, NULL, NULL);
}
