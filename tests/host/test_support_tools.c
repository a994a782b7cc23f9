// SPDX-License-Identifier: MIT
/**
 * The tests of the tests' small tools: random numbers, hash, failure injector, data files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "e820_file.h"
#include "hash.h"
#include "inject.h"
#include "prng.h"

#include <stdlib.h>
#include <string.h>

/* --- numbers --------------------------------------------------------------------------------- */

static void prng_is_the_published_one(void **state)
{
    struct t_prng prng = {{1, 2, 3, 4}};

    (void)state;
    assert_int_equal(t_prng_u64(&prng), 11520);
    assert_int_equal(t_prng_u64(&prng), 0);
    assert_int_equal(t_prng_u64(&prng), 1509978240);
    assert_int_equal(t_prng_u64(&prng), UINT64_C(1215971899390074240));
    t_prng_seed(&prng, 0);
    assert_int_equal(prng.s[0], UINT64_C(0xe220a8397b1dcdaf));
}

static void prng_draws_fairly_and_repeats(void **state)
{
    struct t_prng a;
    struct t_prng b;
    struct t_prng c;
    unsigned seen[10] = {0};
    uint8_t order[100];
    bool there[100] = {false};
    unsigned moved = 0;

    (void)state;
    t_prng_start(&a, "one");
    t_prng_start(&b, "one");
    t_prng_start(&c, "other");
    assert_int_not_equal(t_prng_u64(&a), t_prng_u64(&c));
    (void)t_prng_u64(&b);
    for (int i = 0; i < 10000; i++) {
        uint64_t x = t_prng_range(&a, 5, 14);

        assert_int_equal(x, t_prng_range(&b, 5, 14));
        assert_in_range(x, 5, 14);
        seen[x - 5]++;
        assert_true(t_prng_below(&a, 1) == 0 && t_prng_below(&b, 1) == 0);
    }
    for (int i = 0; i < 10; i++) {
        assert_in_range(seen[i], 800, 1200); /* six sigma */
    }
    assert_true(t_prng_range(&a, UINT64_MAX, UINT64_MAX) == UINT64_MAX);
    (void)t_prng_range(&a, 0, UINT64_MAX);
    for (uint8_t i = 0; i < 100; i++) {
        order[i] = i;
    }
    t_prng_shuffle(&a, order, 100, 1);
    for (uint8_t i = 0; i < 100; i++) {
        assert_false(there[order[i]]);
        there[order[i]] = true;
        moved += order[i] != i ? 1 : 0;
    }
    assert_true(moved > 50);
}

static void hash_sees_every_bit_and_the_length(void **state)
{
    uint8_t bytes[64] = {0};
    uint64_t seen[64 * 8 + 1];
    size_t nr = 0;

    (void)state;
    seen[nr++] = t_hash(bytes, sizeof(bytes));
    for (unsigned bit = 0; bit < 8 * sizeof(bytes); bit++) {
        bytes[bit / 8] = (uint8_t)(1u << bit % 8);
        seen[nr++] = t_hash(bytes, sizeof(bytes));
        bytes[bit / 8] = 0;
    }
    for (size_t i = 0; i < nr; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(seen[i], seen[j]);
        }
    }
    for (size_t len = 0; len < sizeof(bytes); len++) {
        assert_int_not_equal(t_hash(bytes, len), t_hash(bytes, len + 1));
    }
}

static void inject_fails_what_it_was_told(void **state)
{
    struct t_inject inject = {0};
    char got[8] = "";

    (void)state;
    assert_false(t_inject_fails(&inject));
    t_inject_nth(&inject, 3);
    for (int i = 0; i < 6; i++) {
        got[i] = t_inject_fails(&inject) ? 'x' : '.';
    }
    assert_string_equal(got, "..x...");
    assert_int_equal(inject.fired, 1);
    assert_int_equal(inject.asked, 6);
    t_inject_from(&inject, 3);
    for (int i = 0; i < 6; i++) {
        got[i] = t_inject_fails(&inject) ? 'x' : '.';
    }
    assert_string_equal(got, "..xxxx");
    t_inject_never(&inject);
    assert_false(t_inject_fails(&inject));
}

/* --- data ------------------------------------------------------------------------------------ */

static void e820_lines_are_parsed(void **state)
{
    struct t_memory e;

    (void)state;
    assert_int_equal(t_e820_parse("0000000000001000-000000000009ffff usable\n", &e), 1);
    assert_true(e.start == 0x1000 && e.len == 0x9f000 && e.usable);
    assert_int_equal(t_e820_parse("fffffffffffff000-ffffffffffffffff ACPI data", &e), 1);
    assert_true(e.start == 0 - UINT64_C(4096) && e.len == 4096 && !e.usable);
    assert_string_equal(e.type, "ACPI data");
    assert_int_equal(t_e820_parse("0000000000000000-0000000000000000 System RAM", &e), 1);
    assert_true(e.len == 1 && e.usable);
    assert_int_equal(t_e820_parse("0000000000000000-0000000000000fff usable but not", &e), 1);
    assert_false(e.usable);
    assert_int_equal(t_e820_parse("# a comment", &e), 0);
    assert_int_equal(t_e820_parse("", &e), 0);
    assert_int_equal(t_e820_parse("0000000000001000-0000000000000fff usable", &e), -1);
    assert_int_equal(t_e820_parse("0000000000000000-ffffffffffffffff usable", &e), -1);
    assert_int_equal(t_e820_parse("0000000000001000-00000000000gffff usable", &e), -1);
    assert_int_equal(t_e820_parse("1000-9ffff usable", &e), -1);
    assert_int_equal(t_e820_parse("0000000000001000-000000000009ffff ", &e), -1);
}

static void data_files_are_all_there(void **state)
{
    static const char *const tables[] = {
        "acpi/SRAT-Server_Dell_PowerEdge_PowerEdge_R820_E5985CCBA349.dat",
        "acpi/SLIT-Server_Dell_PowerEdge_PowerEdge_R820_E5985CCBA349.dat"};
    static struct t_e820_files files;
    static struct t_e820_map map;

    (void)state;
    t_e820_list(&files);
    assert_int_equal(files.nr, 46);
    for (size_t i = 0; i < files.nr; i++) {
        struct t_mboot frames;

        t_e820_read(files.name[i], &map);
        t_mboot_init(&frames, map.entries, map.nr, 0, 4096);
        assert_true(t_mboot_count(&frames) > 1024); /* no machine here has less than 4 MiB */
        t_mboot_destroy(&frames);
    }
    for (size_t i = 0; i < 2; i++) {
        size_t len;
        uint8_t *bytes = t_data_read(tables[i], &len);
        uint8_t sum = 0;

        for (size_t at = 0; at < len; at++) {
            sum = (uint8_t)(sum + bytes[at]);
        }
        assert_int_equal(sum, 0); /* ACPI 6.5, 5.2.6: all bytes of a table add up to zero */
        assert_memory_equal(bytes, i == 0 ? "SRAT" : "SLIT", 4);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prng_is_the_published_one),
        cmocka_unit_test(prng_draws_fairly_and_repeats),
        cmocka_unit_test(hash_sees_every_bit_and_the_length),
        cmocka_unit_test(inject_fails_what_it_was_told),
        cmocka_unit_test(e820_lines_are_parsed),
        cmocka_unit_test(data_files_are_all_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
