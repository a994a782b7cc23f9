// SPDX-License-Identifier: MIT
/**
 * Damaged multiboot2 information: every malformed tag is named, nothing is read past the end, and
 * a failing call leaves map and results as they were.
 *
 * The information lies right before a page that traps. Its start must be aligned by 8, so up to 7
 * bytes may lie between its end and that page; in builds with ASan it lies in a heap block of its
 * exact length instead.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mm/boot/multiboot2.h>

#include "multiboot2_blob.h"
#include "prng.h"

#include <stdio.h>
#include <sys/mman.h>

#define ENTRIES       64
#define KERNEL_OFFSET UINT64_C(0xffffffff80000000)
#define NO_TAG        UINT32_MAX

static uint8_t *guard; /* the page that traps */

static int set_up_guard(void **state)
{
    uint8_t *area =
        mmap(NULL, BLOB_MAX + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (area == MAP_FAILED) {
        return -1;
    }
    guard = area + BLOB_MAX;
    return mprotect(guard, 4096, PROT_NONE);
}

static int tear_down_guard(void **state)
{
    (void)state;
    return munmap(guard - BLOB_MAX, BLOB_MAX + 4096);
}

static void *place(const void *bytes, size_t len)
{
#if MM_TEST_SANITIZED
    void *at = malloc(len);
#else
    void *at = guard - (len + 7) / 8 * 8;
#endif

    assert_non_null(at);
    memcpy(at, bytes, len);
    return at;
}

static void displace(void *at)
{
#if MM_TEST_SANITIZED
    free(at);
#else
    (void)at;
#endif
}

/* Read `len` bytes as information, and check what holds whatever they are. */
static mm_status_t read_bytes(const void *bytes, size_t len, struct mm_multiboot2_error *error)
{
    static struct mm_boot_entry entries[ENTRIES];
    static struct mm_boot_entry entries_before[ENTRIES];
    static struct mm_multiboot2_info info;
    static struct mm_multiboot2_info info_before;
    const struct mm_multiboot2_error error_before = {1, 2, "untouched"};
    struct mm_bootmap map = {0};
    struct mm_bootmap map_before;
    void *at = place(bytes, len);
    mm_status_t status;

    memset(entries, 0x5a, sizeof(entries));
    memset(entries_before, 0x5a, sizeof(entries));
    memset(&info, 0xa5, sizeof(info));
    memset(&info_before, 0xa5, sizeof(info));
    assert_int_equal(mm_bootmap_init(&map, entries, ENTRIES), MM_OK);
    map_before = map;
    *error = error_before;
    status = mm_multiboot2_read(&map, at, len, mm_paddr(0x8000), KERNEL_OFFSET, &info, error);
    displace(at);
    if (status == MM_OK) {
        assert_true(info.self.len <= len);
        assert_true(info.cmdline_offset < len && info.loader_offset < len);
        assert_true(info.rsdp_len == 0 || info.rsdp_len == 20 || info.rsdp_len == 36);
        assert_int_equal(mm_bootmap_normalize(&map), MM_OK);
        for (uint32_t i = 0; i < map.nr; i++) {
            assert_true(map.entries[i].kind < MM_BOOT_KIND_COUNT);
            assert_true(mm_prange_valid(map.entries[i].range));
        }
    } else {
        assert_memory_equal(&map, &map_before, sizeof(map));
        assert_memory_equal(entries, entries_before, sizeof(entries));
        assert_memory_equal(&info, &info_before, sizeof(info));
    }
    if (status == MM_ERR_CORRUPTED) {
        assert_true(error->offset <= len + 7);
        assert_non_null(error->what);
        assert_string_not_equal(error->what, "untouched");
    } else {
        assert_int_equal(error->tag_type, error_before.tag_type);
        assert_int_equal(error->offset, error_before.offset);
        assert_ptr_equal(error->what, error_before.what);
    }
    return status;
}

/* Some of everything; the offsets of all tags but the end tag are noted. */
#define SAMPLE_TAGS 10

static void make_sample(struct blob *b, uint32_t offsets[SAMPLE_TAGS])
{
    blob_begin(b);
    offsets[0] = blob_string(b, 1, "console=serial");
    offsets[1] = blob_string(b, 2, "GRUB");
    offsets[2] = blob_module(b, 0x200000, 0x234567, "initrd");
    offsets[3] = blob_memory_map(b);
    blob_memory(b, 0, 0x9fc00, 1);
    blob_memory(b, 0x9fc00, 0x400, 2);
    blob_memory(b, 0x100000, 0x3fe00000, 1);
    blob_tag_end(b);
    offsets[4] = blob_framebuffer(b, 0xffe00000, 5120, 1280, 720);
    offsets[5] = blob_sections(b, 2, 64);
    blob_section64(b, 1, 6, KERNEL_OFFSET + 0x101000, 0x3210);
    blob_section64(b, 8, 3, KERNEL_OFFSET + 0x106000, 0x9000);
    blob_tag_end(b);
    offsets[6] = blob_rsdp(b, 14, 1);
    offsets[7] = blob_rsdp(b, 15, 2);
    offsets[8] = blob_efi_map(b);
    blob_efi(b, 7, 0x100000, 0x1000);
    blob_efi(b, 4, 0x200000, 0x100);
    blob_tag_end(b);
    offsets[9] = blob_tag(b, 99);
    blob_u32(b, 1);
    blob_tag_end(b);
    blob_end(b);
}

static void the_sample_is_good(void **state)
{
    struct mm_multiboot2_error error;
    uint32_t offsets[SAMPLE_TAGS];
    struct blob b;

    (void)state;
    make_sample(&b, offsets);
    assert_int_equal(read_bytes(b.bytes, b.len, &error), MM_OK);
}

/* --- the header and the chain of tags */

static void total_sizes(void **state)
{
    const uint32_t wrong[] = {0, 1, 8, 15, UINT32_MAX, UINT32_MAX - 7};
    struct mm_multiboot2_error error;
    uint32_t offsets[SAMPLE_TAGS];
    struct blob b;

    (void)state;
    make_sample(&b, offsets);
    for (size_t i = 0; i <= sizeof(wrong) / sizeof(wrong[0]); i++) {
        blob_set32(&b, 0, i == 6 ? b.len + 1 : wrong[i]);
        assert_int_equal(read_bytes(b.bytes, b.len, &error), MM_ERR_CORRUPTED);
        assert_int_equal(error.tag_type, NO_TAG);
        assert_int_equal(error.offset, 0);
    }
}

/* Information whose size is near 2^32 is refused before anything of it is read. */
static void a_total_size_that_is_absurd(void **state)
{
    static _Alignas(8) uint32_t data[4];
    struct mm_boot_entry entries[4];
    struct mm_bootmap map = {0};
    struct mm_multiboot2_info info;
    struct mm_multiboot2_error error = {0, 0, NULL};

    (void)state;
    data[0] = UINT32_MAX - 7;
    assert_int_equal(mm_bootmap_init(&map, entries, 4), MM_OK);
    assert_int_equal(mm_multiboot2_read(&map, data, SIZE_MAX, mm_paddr(0), 0, &info, &error),
                     MM_ERR_CORRUPTED);
    assert_int_equal(error.tag_type, NO_TAG);
    assert_non_null(error.what);
}

/* Cut anywhere, whether or not the total size admits it. */
static void every_truncation(void **state)
{
    struct mm_multiboot2_error error;
    uint32_t offsets[SAMPLE_TAGS];
    struct blob b;

    (void)state;
    make_sample(&b, offsets);
    for (uint32_t len = 0; len < b.len; len++) {
        mm_status_t expected = len < 16 ? MM_ERR_INVALID_SIZE : MM_ERR_CORRUPTED;
        struct blob cut = b;

        assert_int_equal(read_bytes(b.bytes, len, &error), expected);
        if (len >= 16) {
            assert_int_equal(error.tag_type, NO_TAG);
            blob_set32(&cut, 0, len);
            assert_int_equal(read_bytes(cut.bytes, len, &error), expected);
        }
    }
}

static void every_byte_damaged(void **state)
{
    unsigned nr_ok = 0;
    unsigned nr_corrupted = 0;
    unsigned nr_mapless = 0;
    struct mm_multiboot2_error error;
    uint32_t offsets[SAMPLE_TAGS];
    struct blob b;

    (void)state;
    make_sample(&b, offsets);
    for (uint32_t at = 0; at < b.len; at++) {
        const uint8_t good = b.bytes[at];

        for (unsigned value = 0; value < 256; value++) {
            mm_status_t status;

            if (MM_TEST_SANITIZED && value % 17 != at % 17 && value != 0xff && value != 0) {
                continue;
            }
            b.bytes[at] = (uint8_t)value;
            status = read_bytes(b.bytes, b.len, &error);
            nr_ok += status == MM_OK;
            nr_corrupted += status == MM_ERR_CORRUPTED;
            /* a longer tag may swallow both maps, and type 18 says not to believe the second */
            nr_mapless += status == MM_ERR_REGION_NOT_FOUND;
            assert_true(status == MM_OK || status == MM_ERR_CORRUPTED ||
                        status == MM_ERR_REGION_NOT_FOUND);
        }
        b.bytes[at] = good;
    }
    assert_true(nr_ok > 1000 && nr_corrupted > 1000 && nr_mapless < 100);
}

static void many_bytes_damaged(void **state)
{
    const unsigned rounds =
        (MM_TEST_SANITIZED ? 10000 : 100000) * (getenv("MM_TEST_FULL") != NULL ? 50 : 1);
    unsigned nr[MM_STATUS_COUNT] = {0};
    struct mm_multiboot2_error error;
    uint32_t offsets[SAMPLE_TAGS];
    struct t_prng prng;
    struct blob good;

    (void)state;
    make_sample(&good, offsets);
    t_prng_start(&prng, "multiboot2, damage");
    for (unsigned i = 0; i < rounds; i++) {
        struct blob b = good;
        unsigned changes = (unsigned)t_prng_range(&prng, 1, 6);

        for (unsigned c = 0; c < changes; c++) {
            uint32_t field =
                offsets[t_prng_below(&prng, SAMPLE_TAGS)] + 4 * (uint32_t)t_prng_below(&prng, 6);
            uint32_t value = (uint32_t)t_prng_magnitude(&prng, 32);

            /* mostly the first words of a tag, where sizes and counts are */
            if (t_prng_chance(&prng, 3, 4)) {
                blob_set32(&b, field, t_prng_chance(&prng, 1, 8) ? 0 - value : value);
            } else {
                b.bytes[t_prng_below(&prng, b.len)] ^= (uint8_t)(1u << t_prng_below(&prng, 8));
            }
        }
        nr[read_bytes(b.bytes, b.len, &error)]++;
    }
    assert_true(nr[MM_OK] > 0 && nr[MM_ERR_CORRUPTED] > 0 && nr[MM_ERR_REGION_NOT_FOUND] > 0);
    assert_int_equal(
        nr[MM_OK] + nr[MM_ERR_CORRUPTED] + nr[MM_ERR_REGION_NOT_FOUND] + nr[MM_ERR_LIMIT], rounds);
}

/* --- tag by tag: one 32-bit field of the sample set to what it must not be */

struct damage {
    const char *name;
    uint32_t tag; /* index in the sample */
    uint32_t at;  /* of the field, from the tag */
    uint32_t value;
    uint32_t type; /* of the tag that the error names */
};

static void fields_that_must_not_be(void **state)
{
    static const struct damage damages[] = {
        {"tag smaller than its header", 0, 4, 7, 1},
        {"tag of size 0", 9, 4, 0, 99},
        {"tag past the end", 9, 4, 100, 99},
        {"tag far past the end", 3, 4, UINT32_MAX, 6},
        {"command line without room", 0, 4, 8, 1},
        {"command line without terminator", 0, 4, 8 + 14, 1},
        {"loader name without terminator", 1, 4, 8 + 4, 2},
        {"module too short", 2, 4, 16, 3},
        {"module without terminator", 2, 4, 16 + 6, 3},
        {"module that ends before it starts", 2, 12, 0x1fffff, 3},
        {"memory map too short", 3, 4, 15, 6},
        {"memory map entry size 0", 3, 8, 0, 6},
        {"memory map entry size too small", 3, 8, 16, 6},
        {"memory map entry size misaligned", 3, 8, 36, 6},
        {"memory map ends inside an entry", 3, 4, 16 + 71, 6},
        {"memory map entries longer than all", 3, 8, 80, 6},
        {"memory map entries near 2^32", 3, 8, UINT32_MAX - 7, 6},
        {"framebuffer too short", 4, 4, 30, 8},
        {"framebuffer past 2^64", 4, 12, UINT32_MAX, 8},
        {"sections too short", 5, 4, 19, 9},
        {"one section too many", 5, 8, 3, 9},
        {"sections past 2^32", 5, 8, UINT32_C(1) << 26, 9},
        {"section header size 0", 5, 12, 0, 9},
        {"section header size between the classes", 5, 12, 63, 9},
        {"section headers larger than the tag", 5, 12, UINT32_MAX, 9},
        {"section past 2^64", 5, 20 + 36, 0x80000000, 9},
        {"old RSDP too short", 6, 4, 27, 14},
        {"new RSDP too short", 7, 4, 43, 15},
        {"EFI map too short", 8, 4, 15, 17},
        {"EFI descriptor size 0", 8, 8, 0, 17},
        {"EFI descriptor too small", 8, 8, 32, 17},
        {"EFI descriptor misaligned", 8, 8, 42, 17},
        {"EFI map ends inside a descriptor", 8, 8, 40, 17},
    };
    uint32_t offsets[SAMPLE_TAGS];
    struct blob good;

    (void)state;
    make_sample(&good, offsets);
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        const struct damage *d = &damages[i];
        struct mm_multiboot2_error error;
        struct blob b = good;

        blob_set32(&b, offsets[d->tag] + d->at, d->value);
        if (read_bytes(b.bytes, b.len, &error) != MM_ERR_CORRUPTED || error.tag_type != d->type ||
            error.offset != offsets[d->tag]) {
            fail_msg("%s: type %u at offset %u", d->name, error.tag_type, error.offset);
        }
    }
}

static void end_tags(void **state)
{
    const uint32_t sizes[] = {9, 16};
    struct mm_multiboot2_error error;
    uint32_t end;
    struct blob b;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        blob_begin(&b);
        (void)blob_memory_map(&b);
        blob_memory(&b, 0, 4096, 1);
        blob_tag_end(&b);
        blob_end(&b);
        end = b.tag;
        blob_u64(&b, 0);
        blob_set32(&b, 0, b.len);
        blob_set32(&b, end + 4, sizes[i]);
        assert_int_equal(read_bytes(b.bytes, b.len, &error), MM_ERR_CORRUPTED);
        assert_int_equal(error.tag_type, 0);
        assert_int_equal(error.offset, end);
    }
    /* no end tag: after the last tag, and where its pad runs past the end */
    blob_begin(&b);
    (void)blob_string(&b, 1, "1234567");
    blob_set32(&b, 0, b.len);
    assert_int_equal(read_bytes(b.bytes, b.len, &error), MM_ERR_CORRUPTED);
    assert_int_equal(error.tag_type, NO_TAG);
    assert_int_equal(error.offset, b.len);
    blob_begin(&b);
    (void)blob_string(&b, 1, "12345678");
    blob_set32(&b, 0, b.len);
    assert_int_equal(read_bytes(b.bytes, b.len, &error), MM_ERR_CORRUPTED);
    assert_int_equal(error.tag_type, NO_TAG);
    assert_int_equal(error.offset, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sample_is_good),          cmocka_unit_test(total_sizes),
        cmocka_unit_test(a_total_size_that_is_absurd), cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_byte_damaged),          cmocka_unit_test(many_bytes_damaged),
        cmocka_unit_test(fields_that_must_not_be),     cmocka_unit_test(end_tags),
    };

    return cmocka_run_group_tests(tests, set_up_guard, tear_down_guard);
}
