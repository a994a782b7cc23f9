// SPDX-License-Identifier: MIT
/**
 * Hazards 2, 7, 21, 33, 34: the boundary values of the house over each argument of each public
 * call. A documented status, the same bytes everywhere, no op called. And each status that a header
 * names is answered at least once, by this or by an injected failure.
 */
#include "drive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_bad_arguments_change_nothing(void **state)
{
    (void)state;
    assert_int_equal(t_drive_bad_input(true), 0);
}

static void test_every_documented_status_is_answered(void **state)
{
    (void)state;
    assert_int_equal(t_drive_injection(false), 0);
    assert_int_equal(t_drive_unanswered(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_arguments_change_nothing),
        cmocka_unit_test(test_every_documented_status_is_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
