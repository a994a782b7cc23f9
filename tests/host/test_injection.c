// SPDX-License-Identifier: MIT
/**
 * Hazards 16, 24, 30, 34, 36: every point at which any public call can run out of something fails,
 * once and from then on, and nothing has changed. The list of calls is tests/calls/calls_*.c; it is
 * compared with the headers, so a call without a scenario fails here.
 */
#include "drive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_every_call_has_a_scenario(void **state)
{
    (void)state;
    assert_int_equal(t_drive_missing(), 0);
}

static void test_every_point_fails(void **state)
{
    (void)state;
    assert_int_equal(t_drive_injection(true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_has_a_scenario),
        cmocka_unit_test(test_every_point_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
