// SPDX-License-Identifier: MIT
/**
 * Regions as they are found, iterated and printed: the lines are those of /proc/PID/maps.
 */
#include "space_fixture.h"

#include <stdio.h>

#define AT (32 * PAGE)

/* --- one line --------------------------------------------------------------------------------- */

static const char *line_of(const struct mm_region_info *info)
{
    static char line[MM_REGION_LINE_MAX];
    size_t len = 0;

    memset(line, 'x', sizeof(line));
    assert_int_equal(mm_region_line(info, line, sizeof(line), &len), MM_OK);
    assert_int_equal(strlen(line), len);
    return line;
}

static struct mm_region_info info_of(uint64_t start, uint64_t len, mm_prot_t prot,
                                     enum mm_region_kind kind)
{
    return (struct mm_region_info){
        .range = mm_vrange(mm_vaddr(start), len), .prot = prot, .kind = kind};
}

static void test_lines(void **state)
{
    struct mm_region_info info = info_of(UINT64_C(0x7f1c00000000), 0x21000, RW, MM_REGION_HEAP);

    (void)state;
    assert_string_equal(line_of(&info), "7f1c00000000-7f1c00021000 rw-p 00000000 00:00 0 "
                                        "                         [heap]");
    info = info_of(PAGE, PAGE, MM_PROT_NONE, MM_REGION_ANONYMOUS);
    assert_string_equal(line_of(&info), "00001000-00002000 ---p 00000000 00:00 0 ");
    info.flags = MM_SPACE_GUARD;
    assert_string_equal(line_of(&info), "00001000-00002000 ---p 00000000 00:00 0 "
                                        "                                 [guard]");
    info = info_of(0x400000, 0x1000, RX, MM_REGION_CODE);
    assert_string_equal(line_of(&info), "00400000-00401000 r-xp 00000000 00:00 0 ");
    info = info_of(0x401000, 0x1000, MM_PROT_WRITE, MM_REGION_DATA);
    assert_string_equal(line_of(&info), "00401000-00402000 -w-p 00000000 00:00 0 ");
    info = info_of(UINT64_C(0x7ffffffde000), 0x21000, RWX, MM_REGION_STACK);
    assert_string_equal(line_of(&info), "7ffffffde000-7ffffffff000 rwxp 00000000 00:00 0 "
                                        "                         [stack]");
    info = info_of(0x400000, 0x1000, MM_PROT_READ, MM_REGION_FILE);
    info.offset = 0x3000;
    assert_string_equal(line_of(&info), "00400000-00401000 r--p 00003000 00:00 0 ");
    info.kind = MM_REGION_SHARED;
    assert_string_equal(line_of(&info), "00400000-00401000 r--s 00003000 00:00 0 ");
    /* The longest there is. */
    info = info_of(UINT64_MAX - PAGE, PAGE, RWX, MM_REGION_DEVICE);
    info.offset = UINT64_MAX;
    info.type = MM_MEMTYPE_UC_MINUS;
    assert_string_equal(line_of(&info), "ffffffffffffefff-ffffffffffffffff rwxs ffffffffffffffff "
                                        "00:00 0          [device UC-]");
}

static void test_device_lines(void **state)
{
    struct mm_region_info info = info_of(0x10000000, 0x1000, RW, MM_REGION_DEVICE);
    char want[MM_REGION_LINE_MAX];

    (void)state;
    info.offset = 0xfd000000;
    for (unsigned i = 0; i < MM_MEMTYPE_COUNT; i++) {
        info.type = (mm_memtype_t)i;
        (void)snprintf(want, sizeof(want), "%-73s[device %s]",
                       "10000000-10001000 rw-s fd000000 00:00 0", mm_memtype_str(info.type));
        assert_string_equal(line_of(&info), want);
    }
}

/* This host's own list: each line that a region can be is printed byte for byte the same. */
static void test_as_linux(void **state)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned nr = 0;

    (void)state;
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        uint64_t start, end, offset;
        char r, w, x, p;
        int end_of_inode = 0;
        struct mm_region_info info;

        line[strcspn(line, "\n")] = '\0';
        (void)sscanf(line, "%lx-%lx %c%c%c%c %lx 00:00 0%n", &start, &end, &r, &w, &x, &p, &offset,
                     &end_of_inode);
        if (end_of_inode == 0 || p != 'p' || offset != 0) {
            continue;
        }
        info = info_of(start, end - start, 0, MM_REGION_ANONYMOUS);
        info.kind = strstr(line, "[heap]") != NULL    ? MM_REGION_HEAP
                    : strstr(line, "[stack]") != NULL ? MM_REGION_STACK
                                                      : MM_REGION_ANONYMOUS;
        if (strchr(line, '[') != NULL && info.kind == MM_REGION_ANONYMOUS) {
            continue; /* [vdso] and its like */
        }
        info.prot |= r == 'r' ? MM_PROT_READ : 0u;
        info.prot |= w == 'w' ? MM_PROT_WRITE : 0u;
        info.prot |= x == 'x' ? MM_PROT_EXEC : 0u;
        assert_string_equal(line_of(&info), line);
        nr++;
    }
    assert_int_equal(fclose(maps), 0);
    assert_int_not_equal(nr, 0);
}

static void test_bad_lines(void **state)
{
    const struct mm_region_info good = info_of(AT, PAGE, RW, MM_REGION_HEAP);
    char line[MM_REGION_LINE_MAX];
    char before[MM_REGION_LINE_MAX];
    struct mm_region_info info;
    size_t len = 77;

    (void)state;
    memset(line, 'x', sizeof(line));
    memcpy(before, line, sizeof(line));
    assert_int_equal(mm_region_line(NULL, line, sizeof(line), &len), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_region_line(&good, NULL, sizeof(line), &len), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_region_line(&good, line, sizeof(line) - 1, &len), MM_ERR_LIMIT);
    assert_int_equal(mm_region_line(&good, line, 0, &len), MM_ERR_LIMIT);
    for (unsigned i = 0; i < 6; i++) {
        info = good;
        if (i < 2) {
            info.kind = (enum mm_region_kind)(i == 0 ? 8 : -1);
        } else if (i < 4) {
            info.prot = i == 2 ? MM_PROT_USER : UINT32_MAX;
        } else {
            info.type = (mm_memtype_t)(i == 4 ? MM_MEMTYPE_COUNT : -1);
        }
        assert_int_equal(mm_region_line(&info, line, sizeof(line), &len), MM_ERR_INVALID_ARGUMENT);
    }
    assert_int_equal(len, 77);
    assert_memory_equal(line, before, sizeof(line));
    assert_int_equal(mm_region_line(&good, line, SIZE_MAX, NULL), MM_OK);
    assert_string_equal(line, line_of(&good));
}

/* --- all of them ------------------------------------------------------------------------------ */

struct heard {
    char text[16][160];
    unsigned nr;
};

static void hear(void *ctx, const char *line, size_t len)
{
    struct heard *heard = ctx;

    assert_in_range(heard->nr, 0, 15);
    assert_in_range(len, 1, 159);
    memcpy(heard->text[heard->nr], line, len);
    heard->text[heard->nr++][len] = '\0';
}

static const struct mm_platform_ops hearing = {.panic = t_platform_panic, .log = hear};

static void map_kind(struct mm_space *s, uint64_t at, mm_prot_t prot, uint32_t flags,
                     enum mm_region_kind kind)
{
    struct mm_space_request request = {.at = mm_vaddr(at),
                                       .len = PAGE,
                                       .prot = prot,
                                       .flags = flags | MM_SPACE_FIXED,
                                       .kind = kind};
    mm_vaddr_t out;

    assert_int_equal(mm_space_map(s, &request, &out), MM_OK);
}

static void test_list(void **state)
{
    static const char *const want[] = {
        "00400000-00401000 r-xp 00000000 00:00 0 ",
        "00401000-00402000 rw-p 00000000 00:00 0 ",
        "00402000-00403000 rw-p 00000000 00:00 0 "
        "                                 [heap]",
        "7fffffffd000-7fffffffe000 ---p 00000000 00:00 0 "
        "                         [guard]",
        "7fffffffe000-7ffffffff000 rw-p 00000000 00:00 0 "
        "                         [stack]",
        "5 regions, 20 KiB mapped, 8 KiB resident, 0 B of devices",
    };
    struct heard heard = {.nr = 0};
    struct fixture *f = fixture_start(NULL);
    struct mm_platform kept = f->spaces.platform;
    struct mm_space *s = new_space(f);
    uint64_t hash;

    (void)state;
    map_kind(s, 0x400000, RX, 0, MM_REGION_CODE);
    map_kind(s, 0x401000, RW, MM_SPACE_POPULATE, MM_REGION_DATA);
    map_kind(s, 0x402000, RW, MM_SPACE_POPULATE, MM_REGION_HEAP);
    map_kind(s, USER_LAST - PAGE, RW, 0, MM_REGION_STACK);
    map_kind(s, USER_LAST - 2 * PAGE, MM_PROT_NONE, MM_SPACE_GUARD, MM_REGION_ANONYMOUS);
    hash = state_hash(f, s);
    f->spaces.platform = (struct mm_platform){&hearing, &heard};
    assert_int_equal(mm_space_list(s), MM_OK);
    assert_int_equal(heard.nr, sizeof(want) / sizeof(want[0]));
    for (unsigned i = 0; i < heard.nr; i++) {
        assert_string_equal(heard.text[i], want[i]);
    }
    assert_true(state_hash(f, s) == hash);
    assert_int_equal(unmap(s, 0x400000, USER_LAST - PAGE - 0x400000), MM_OK);
    heard.nr = 0;
    assert_int_equal(mm_space_list(s), MM_OK);
    assert_int_equal(heard.nr, 2);
    assert_string_equal(heard.text[1], "1 region, 4 KiB mapped, 0 B resident, 0 B of devices");
    assert_int_equal(mm_space_list(mm_space_kernel(&f->spaces)), MM_OK);
    assert_int_equal(heard.nr, 3);
    assert_string_equal(heard.text[2], "0 regions, 0 B mapped, 0 B resident, 0 B of devices");
    assert_int_equal(mm_space_list(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(heard.nr, 3);
    f->spaces.platform = kept;
    put_last(f, s);
    fixture_stop(f);
}

/* --- found ------------------------------------------------------------------------------------ */

static void test_found(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_request request = {.at = mm_vaddr(AT),
                                       .len = 2 * PAGE,
                                       .prot = RW,
                                       .flags = MM_SPACE_FIXED | MM_SPACE_WIRED | MM_SPACE_NO_HUGE,
                                       .tag = 5,
                                       .kind = MM_REGION_DATA};
    struct mm_region_info info;
    mm_vaddr_t out;

    (void)state;
    assert_int_equal(mm_space_map(s, &request, &out), MM_OK);
    map_kind(s, AT + 4 * PAGE, MM_PROT_READ, 0, MM_REGION_ANONYMOUS);
    for (uint64_t at = AT - 1; at <= AT + 2 * PAGE; at += PAGE / 2) {
        bool in = at >= AT && at < AT + 2 * PAGE;

        info.tag = 77;
        assert_int_equal(mm_space_find(s, mm_vaddr(at), &info),
                         in ? MM_OK : MM_ERR_REGION_NOT_FOUND);
        assert_int_equal(info.tag, in ? 5 : 77);
        assert_int_equal(mm_space_next(s, mm_vaddr(at), &info), MM_OK);
        assert_int_equal(info.tag, at < AT + 2 * PAGE ? 5 : 0);
    }
    assert_int_equal(mm_space_find(s, mm_vaddr(AT + 2 * PAGE - 1), &info), MM_OK);
    assert_int_equal(info.range.start.raw, AT);
    assert_int_equal(info.range.len, 2 * PAGE);
    assert_int_equal(info.prot, RW);
    assert_int_equal(info.flags, MM_SPACE_WIRED | MM_SPACE_NO_HUGE);
    assert_int_equal(info.kind, MM_REGION_DATA);
    assert_int_equal(info.type, MM_MEMTYPE_WB);
    assert_int_equal(info.offset, 0);
    assert_int_equal(mm_space_next(s, mm_vaddr(0), &info), MM_OK);
    assert_int_equal(info.range.start.raw, AT);
    info.tag = 77;
    assert_int_equal(mm_space_next(s, mm_vaddr(AT + 5 * PAGE), &info), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_space_next(s, mm_vaddr(UINT64_MAX), &info), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_space_find(s, mm_vaddr(UINT64_MAX), &info), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_space_find(NULL, mm_vaddr(AT), &info), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_next(NULL, mm_vaddr(AT), &info), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_find(s, mm_vaddr(AT), NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_next(s, mm_vaddr(AT), NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(info.tag, 77);
    put_last(f, s);
    fixture_stop(f);
}

/* What a kernel maps by itself, under the lock; what it answers is the answer. */
static mm_status_t map_by_hand(void *ctx, struct mm_pagetable *table)
{
    mm_status_t *status = ctx;

    if (*status == MM_OK) {
        *status = mm_paging_map(table, mm_vrange(mm_vaddr(AT), PAGE), mm_paddr(0xfee00000),
                                RW | MM_PROT_USER, MM_MEMTYPE_UC, 0);
    }
    return *status;
}

static mm_status_t unmap_by_hand(void *ctx, struct mm_pagetable *table)
{
    static struct mm_gather gather;

    (void)ctx;
    assert_int_equal(mm_gather_begin(&gather, table), MM_OK);
    assert_int_equal(mm_paging_unmap(table, mm_vrange(mm_vaddr(AT), PAGE), 0, &gather), MM_OK);
    mm_gather_end(&gather);
    return MM_OK;
}

static void test_with_table(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    mm_status_t answer = MM_OK;

    (void)state;
    assert_int_equal(mm_space_with_table(s, map_by_hand, &answer), MM_OK);
    assert_int_equal(frame_at(s, AT), 0xfee00);
    assert_int_equal(resident(s), PAGE);
    answer = MM_ERR_BUSY;
    assert_int_equal(mm_space_with_table(s, map_by_hand, &answer), MM_ERR_BUSY);
    assert_int_equal(mm_space_with_table(s, unmap_by_hand, NULL), MM_OK);
    assert_int_equal(frame_at(s, AT), 0);
    assert_int_equal(mm_space_with_table(NULL, map_by_hand, &answer), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_with_table(s, NULL, &answer), MM_ERR_INVALID_ARGUMENT);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),      cmocka_unit_test(test_device_lines),
        cmocka_unit_test(test_as_linux),   cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_list),       cmocka_unit_test(test_found),
        cmocka_unit_test(test_with_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
