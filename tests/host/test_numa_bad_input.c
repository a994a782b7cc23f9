// SPDX-License-Identifier: MIT
/**
 * Damaged SRAT and SLIT: what is wrong is named, nothing is read past the end, and a failing call
 * leaves the topology as it was. Whether a damaged table is still a good one is what the second
 * reader says (tests/support/model_numa.h).
 *
 * The bytes end right before a page that traps; in builds with ASan they lie in a heap block of
 * their exact length instead.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mm/numa.h>

#include "model_numa.h"
#include "numa_blob.h"
#include "prng.h"

#include <stdlib.h>
#include <sys/mman.h>

#define AREA     NUMA_BLOB_MAX
#define RANGES   128u
#define CPUS     256u
#define NO_ENTRY UINT32_MAX

static uint8_t *guard; /* the page that traps */
static struct numa_blob blob, srat;
static struct mm_numa numa, before;
static struct mm_numa_range ranges[RANGES];
static struct mm_numa_cpu cpus[CPUS];
static struct mm_numa_error error;
static struct t_mnuma model;
static bool with_slit; /* what is damaged is a SLIT, to be read after `srat` */

static int set_up_guard(void **state)
{
    uint8_t *area =
        mmap(NULL, AREA + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (area == MAP_FAILED) {
        return -1;
    }
    guard = area + AREA;
    return mprotect(guard, 4096, PROT_NONE);
}

static int tear_down_guard(void **state)
{
    (void)state;
    return munmap(guard - AREA, AREA + 4096);
}

static uint8_t *place(const uint8_t *bytes, size_t len)
{
#if MM_TEST_SANITIZED
    uint8_t *at = malloc(len == 0 ? 1 : len);
#else
    uint8_t *at = guard - len;
#endif

    assert_non_null(at);
    memcpy(at, bytes, len);
    return at;
}

static void displace(uint8_t *at)
{
#if MM_TEST_SANITIZED
    free(at);
#else
    (void)at;
#endif
}

/* A new topology, and `srat` in it if a SLIT is to be read. */
static void start(bool slit)
{
    static const struct mm_numa none;

    with_slit = slit;
    numa = none;
    assert_int_equal(mm_numa_init(&numa, ranges, RANGES, cpus, CPUS), MM_OK);
    if (slit) {
        assert_int_equal(mm_numa_read_srat(&numa, srat.bytes, srat.len, NULL), MM_OK);
        assert_true(t_mnuma_srat(&model, srat.bytes, srat.len));
    }
    before = numa;
}

/* Read bytes that are in place, and check what holds whatever they are. `compare`: with the model. */
static mm_status_t read_at(const uint8_t *at, size_t len, bool compare)
{
    static const struct mm_numa_error untouched = {1, 2, "untouched"};
    uint32_t header = with_slit ? 44 : 48;
    mm_status_t status;
    bool good;

    numa = before;
    error = untouched;
    status = with_slit ? mm_numa_read_slit(&numa, at, len, &error)
                       : mm_numa_read_srat(&numa, at, len, &error);
    if (status == MM_OK) {
        assert_ptr_equal(error.what, untouched.what);
    } else {
        assert_true(memcmp(&numa, &before, sizeof(numa)) == 0);
        if (status == MM_ERR_INVALID_SIZE) {
            assert_true(len < header);
            assert_ptr_equal(error.what, untouched.what);
            return status;
        }
        assert_ptr_not_equal(error.what, untouched.what);
        assert_non_null(error.what);
        assert_true(error.offset < len);
    }
    if (compare) {
        const char *wrong = NULL;

        good = with_slit ? t_mnuma_slit(&model, at, len) : t_mnuma_srat(&model, at, len);
        if (status == MM_OK) {
            assert_true(good);
            wrong = t_mnuma_compare(&model, &numa);
        }
        if (wrong != NULL) {
            fail_msg("%s", wrong);
        }
        if (status == MM_ERR_CORRUPTED) {
            assert_false(good);
        }
        if (status == MM_ERR_LIMIT) {
            assert_true(good && model.nr_domains > MM_MAX_NODES);
        }
        model.matrix = NULL;
        model.rows = 0;
    }
    return status;
}

static mm_status_t read_blob(void)
{
    uint8_t *at = place(blob.bytes, blob.len);
    mm_status_t status = read_at(at, blob.len, true);

    displace(at);
    return status;
}

/* --- real tables ------------------------------------------------------------------------------- */

struct real {
    const char *table, *machine;
};

static const struct real reals[] = {
    {"SRAT", NUMA_ASROCK}, {"SRAT", NUMA_MSI}, {"SRAT", NUMA_R820},
    {"SRAT", NUMA_H8QG6},  {"SLIT", NUMA_MSI}, {"SLIT", NUMA_R820},
};

#define NR_REALS (sizeof(reals) / sizeof(reals[0]))

static void load(const struct real *real)
{
    bool slit = strcmp(real->table, "SLIT") == 0;

    numa_load(&srat, "SRAT", real->machine);
    numa_load(&blob, real->table, real->machine);
    start(slit);
    assert_int_equal(read_blob(), MM_OK);
}

/* Cut anywhere: as it is, and with a length and a checksum that admit it. */
static void every_truncation(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_REALS; i++) {
        unsigned nr_ok = 0;
        unsigned nr_entries = 0;
        uint32_t whole;
        uint32_t least;

        load(&reals[i]);
        whole = blob.len;
        least = with_slit ? 44 : 48;
        for (uint32_t len = 0; len < whole; len++) {
            mm_status_t status;
            uint8_t *at = place(blob.bytes, len);

            assert_int_equal(read_at(at, len, true),
                             len < least ? MM_ERR_INVALID_SIZE : MM_ERR_CORRUPTED);
            if (len >= least) {
                assert_int_equal(error.entry_type, NO_ENTRY);
                assert_int_equal(error.offset, 4);
            }
            displace(at);
            if (len >= least) {
                struct numa_blob cut = blob;

                cut.len = len;
                numa_end(&cut);
                at = place(cut.bytes, len);
                status = read_at(at, len, true);
                displace(at);
                nr_ok += status == MM_OK;
                assert_true(status == MM_OK || status == MM_ERR_CORRUPTED);
            }
        }
        /* It is still a table when it ends after an entry; a matrix that is cut is none. */
        for (uint32_t at = 48; !with_slit && at < whole; at += blob.bytes[at + 1]) {
            nr_entries++;
        }
        assert_int_equal(nr_ok, nr_entries);
    }
}

/* Whether a byte is of the body of an entry that is not enabled: it says nothing. */
static bool is_dull(uint32_t byte)
{
    static const unsigned flags_at[] = {4, 28, 12};

    for (uint32_t at = 48; !with_slit && at < blob.len; at += blob.bytes[at + 1]) {
        if (byte >= at + 2 && byte < at + blob.bytes[at + 1]) {
            unsigned flags = flags_at[blob.bytes[at]];

            return blob.bytes[at + flags] % 2 == 0 && byte != at + flags;
        }
    }
    return false;
}

/* Whether to try a value: all of them, but under instruments; and where it says nothing, one bit. */
static bool is_tried(uint32_t byte, unsigned delta, bool dull)
{
    if (MM_TEST_SANITIZED) {
        return delta % 41 == byte % 41 || delta == 1 || delta == 255;
    }
    return !dull || getenv("MM_TEST_FULL") != NULL || (delta & (delta - 1)) == 0;
}

/* Of each byte every other value: the checksum left as it was, and made right. */
static void every_byte_damaged(void **state)
{
    (void)state;
    for (size_t i = 0; i < NR_REALS; i++) {
        unsigned nr[MM_STATUS_COUNT] = {0};
        uint8_t *at;

        load(&reals[i]);
        at = place(blob.bytes, blob.len);
        for (uint32_t byte = 0; byte < blob.len; byte++) {
            const uint8_t good = at[byte];
            const uint8_t sum = at[9];
            /* Where the length is, another number of bytes is summed up. */
            bool is_length = byte >= 4 && byte < 8;
            bool dull = is_dull(byte);

            for (unsigned delta = 1; delta < 256; delta++) {
                mm_status_t status;

                if (!is_tried(byte, delta, dull)) {
                    continue;
                }
                at[byte] = (uint8_t)(good + delta);
                status = read_at(at, blob.len, is_length);
                assert_true(is_length || status == MM_ERR_CORRUPTED);
                at[9] = (uint8_t)(at[9] - delta);
                status = byte == 9 ? MM_OK : read_at(at, blob.len, true);
                nr[status]++;
                assert_true(status == MM_OK || status == MM_ERR_CORRUPTED ||
                            status == MM_ERR_LIMIT);
                at[byte] = good;
                at[9] = sum;
            }
        }
        assert_memory_equal(at, blob.bytes, blob.len);
        displace(at);
        assert_true(nr[MM_OK] > 100 && nr[MM_ERR_CORRUPTED] > 100);
    }
}

static void many_bytes_damaged(void **state)
{
    const unsigned rounds =
        (MM_TEST_SANITIZED ? 2000 : 20000) * (getenv("MM_TEST_FULL") != NULL ? 50 : 1);
    unsigned nr[MM_STATUS_COUNT] = {0};
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "numa, damage");
    for (size_t i = 0; i < NR_REALS; i++) {
        struct numa_blob good;

        load(&reals[i]);
        good = blob;
        for (unsigned round = 0; round < rounds; round++) {
            unsigned changes = (unsigned)t_prng_range(&prng, 1, 6);

            while (changes-- > 0) {
                uint32_t at = (uint32_t)t_prng_range(&prng, 10, good.len - 1);

                /* mostly near the heads of entries, which are all multiples of 8 */
                at = t_prng_chance(&prng, 3, 4) ? at / 8 * 8 : at;
                at = at < 10 ? 10 : at;
                blob.bytes[at] ^= (uint8_t)(1u << t_prng_below(&prng, 8));
                if (t_prng_chance(&prng, 1, 4)) {
                    blob.bytes[at] = (uint8_t)t_prng_below(&prng, 48);
                }
            }
            numa_end(&blob);
            nr[read_blob()]++;
            memcpy(blob.bytes, good.bytes, good.len);
        }
    }
    assert_true(nr[MM_OK] > 100 && nr[MM_ERR_CORRUPTED] > 100);
    assert_int_equal(nr[MM_OK] + nr[MM_ERR_CORRUPTED] + nr[MM_ERR_LIMIT], rounds * NR_REALS);
}

/* --- one thing each ---------------------------------------------------------------------------- */

/* A processor, memory, an x2APIC, and memory that is disabled. */
#define AT_APIC   48u
#define AT_MEMORY 64u
#define AT_X2APIC 104u
#define AT_LAST   128u

static void make_sample(void)
{
    numa_srat(&blob, 3);
    (void)numa_apic(&blob, 1, 4, 1);
    (void)numa_memory(&blob, 2, 0x100000, 0x40000000, 1);
    (void)numa_x2apic(&blob, 2, 5, 1);
    (void)numa_memory(&blob, 3, UINT64_MAX, 2, 0);
    numa_end(&blob);
}

struct damage {
    const char *name;
    uint32_t at, bytes;
    uint64_t value;
    uint32_t type, offset; /* as the error tells */
};

static void fields_that_must_not_be(void **state)
{
    static const struct damage damages[] = {
        {"another signature", 3, 1, 't', NO_ENTRY, 0},
        {"revision 0", 8, 1, 0, NO_ENTRY, 8},
        {"length of the header less 1", 4, 4, 47, NO_ENTRY, 4},
        {"length 0", 4, 4, 0, NO_ENTRY, 4},
        {"length one too many", 4, 4, AT_LAST + 41, NO_ENTRY, 4},
        {"length near 2^32", 4, 4, UINT32_MAX, NO_ENTRY, 4},
        {"ends in an entry", 4, 4, AT_LAST + 39, 1, AT_LAST},
        {"ends after an entry's type", 4, 4, AT_LAST + 1, NO_ENTRY, AT_LAST},
        {"entry of length 0", AT_APIC + 1, 1, 0, 0, AT_APIC},
        {"entry of length 1", AT_MEMORY + 1, 1, 1, 1, AT_MEMORY},
        {"unknown entry of length 0", AT_X2APIC, 2, 0x00ff, 0xff, AT_X2APIC},
        {"unknown entry past the end", AT_LAST, 2, 0x2963, 0x63, AT_LAST},
        {"short APIC", AT_APIC + 1, 1, 15, 0, AT_APIC},
        {"short memory", AT_MEMORY + 1, 1, 39, 1, AT_MEMORY},
        {"short x2APIC", AT_X2APIC + 1, 1, 23, 2, AT_X2APIC},
        {"short memory, disabled", AT_LAST + 1, 1, 16, 1, AT_LAST},
        {"entry past the end", AT_LAST + 1, 1, 41, 1, AT_LAST},
        {"memory that wraps", AT_MEMORY + 16, 8, UINT64_MAX - 0xffffe, 1, AT_MEMORY},
        {"memory that wraps far", AT_MEMORY + 8, 8, UINT64_MAX, 1, AT_MEMORY},
        {"memory that wraps, enabled", AT_LAST + 28, 4, 1, 1, AT_LAST},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        const struct damage *d = &damages[i];
        uint32_t len;
        unsigned sum = 0;

        make_sample();
        start(false);
        assert_int_equal(read_blob(), MM_OK);
        numa_set(&blob, d->at, d->value, d->bytes);
        len = (uint32_t)blob.bytes[4] | (uint32_t)blob.bytes[5] << 8;
        blob.bytes[9] = 0;
        for (uint32_t byte = 0; byte < len && byte < blob.len; byte++) {
            sum += blob.bytes[byte];
        }
        blob.bytes[9] = (uint8_t)(256 - sum % 256);
        if (read_blob() != MM_ERR_CORRUPTED || error.entry_type != d->type ||
            error.offset != d->offset) {
            fail_msg("%s: type %u, offset %u, %s", d->name, error.entry_type, error.offset,
                     error.what);
        }
    }
    /* The last byte that there is is no wrap. */
    make_sample();
    numa_set(&blob, AT_MEMORY + 16, 0 - UINT64_C(0x100000), 8);
    numa_end(&blob);
    assert_int_equal(read_blob(), MM_OK);
}

static void bytes_behind_the_table(void **state)
{
    (void)state;
    make_sample();
    memset(blob.bytes + blob.len, 0xff, 64);
    blob.len += 64;
    start(false);
    assert_int_equal(read_blob(), MM_OK);
}

static void a_matrix_that_must_not_be(void **state)
{
    static const struct damage damages[] = {
        {"no revision", 8, 1, 0, 0, 8},
        {"another signature", 0, 1, 's', 0, 0},
        {"a row too many", 36, 8, 4, 0, 36},
        {"rows whose square is small in 32 bits", 36, 8, 0x10000, 0, 36},
        {"rows whose square is small in 64 bits", 36, 8, UINT64_C(1) << 32, 0, 36},
        {"rows near 2^64", 36, 8, UINT64_MAX, 0, 36},
        {"distance 9", 44 + 2, 1, 9, 0, 46},
        {"distance 0", 44 + 6, 1, 0, 0, 50},
        {"diagonal 9", 44, 1, 9, 0, 44},
        {"diagonal 11", 44 + 8, 1, 11, 0, 52},
        {"diagonal 255", 44 + 8, 1, 255, 0, 52},
    };

    (void)state;
    numa_srat(&srat, 3);
    (void)numa_apic(&srat, 2, 4, 1); /* nobody is in domain 1 */
    (void)numa_apic(&srat, 0, 5, 1);
    numa_end(&srat);
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        const struct damage *d = &damages[i];

        numa_slit(&blob, 3);
        numa_end(&blob);
        start(true);
        assert_int_equal(read_blob(), MM_OK);
        numa_set(&blob, d->at, d->value, d->bytes);
        numa_end(&blob);
        if (read_blob() != MM_ERR_CORRUPTED || error.entry_type != NO_ENTRY ||
            error.offset != d->offset) {
            fail_msg("%s: offset %u, %s", d->name, error.offset, error.what);
        }
    }
}

/* --- arguments --------------------------------------------------------------------------------- */

static void order_of_calls(void **state)
{
    struct mm_numa zero = {0};
    uint32_t domain = 77;
    struct mm_numa_range r;

    (void)state;
    make_sample();
    numa_slit(&srat, 2); /* a SLIT, here */
    numa_end(&srat);
    assert_int_equal(mm_numa_read_srat(&zero, blob.bytes, blob.len, NULL), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_numa_read_srat(NULL, blob.bytes, blob.len, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_numa_read_slit(&zero, srat.bytes, srat.len, NULL), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_numa_init(&zero, ranges, 0, cpus, 1), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_numa_init(&zero, ranges, 1, cpus, 0), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_numa_init(&zero, NULL, 1, cpus, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_numa_init(&zero, ranges, 1, NULL, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_numa_node_of(&zero, mm_paddr(0)), MM_NUMA_NO_NODE);
    assert_int_equal(mm_numa_node_near(NULL, mm_paddr(0)), 0);
    assert_int_equal(mm_numa_node_of_apic(&zero, 0), MM_NUMA_NO_NODE);
    assert_int_equal(mm_numa_node_of_domain(NULL, 0), MM_NUMA_NO_NODE);
    assert_int_equal(mm_numa_distance(&zero, 0, 0), MM_NUMA_UNREACHABLE);
    start(false);
    assert_int_equal(mm_numa_init(&numa, ranges, 1, cpus, 1), MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_numa_read_slit(&numa, srat.bytes, srat.len, &error),
                     MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_numa_read_srat(&numa, srat.bytes, srat.len, NULL), MM_ERR_CORRUPTED);
    assert_int_equal(mm_numa_read_srat(&numa, NULL, blob.len, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_numa_read_srat(&numa, blob.bytes, blob.len, NULL), MM_OK);
    assert_int_equal(mm_numa_read_srat(&numa, blob.bytes, blob.len, NULL),
                     MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_numa_read_slit(&numa, blob.bytes, blob.len, NULL), MM_ERR_CORRUPTED);
    assert_int_equal(mm_numa_read_slit(&numa, NULL, srat.len, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_numa_read_slit(&numa, srat.bytes, srat.len, NULL), MM_OK);
    assert_int_equal(mm_numa_read_slit(&numa, srat.bytes, srat.len, NULL),
                     MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_numa_domain_of(&numa, 2, &domain), MM_ERR_NODE_NOT_FOUND);
    assert_int_equal(mm_numa_domain_of(&numa, 1, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(domain, 77);
    assert_int_equal(mm_numa_next_range(&zero, mm_paddr(0), &r), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_numa_next_range(&numa, mm_paddr(0), NULL), MM_ERR_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation),       cmocka_unit_test(every_byte_damaged),
        cmocka_unit_test(many_bytes_damaged),     cmocka_unit_test(fields_that_must_not_be),
        cmocka_unit_test(bytes_behind_the_table), cmocka_unit_test(a_matrix_that_must_not_be),
        cmocka_unit_test(order_of_calls),
    };

    return cmocka_run_group_tests(tests, set_up_guard, tear_down_guard);
}
