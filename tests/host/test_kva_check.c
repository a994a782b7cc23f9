// SPDX-License-Identifier: MIT
/**
 * The arena's check, which names each contradiction, and the arena as text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kva_rig.h"

#include "heap/kva.h"

static struct rig rig;

struct listener {
    char text[4096];
    size_t len;
};

static void hear(void *ctx, const char *line, size_t len)
{
    struct listener *l = ctx;

    assert_true(l->len + len + 2 < sizeof(l->text));
    memcpy(l->text + l->len, line, len);
    l->len += len;
    l->text[l->len++] = '\n';
    l->text[l->len] = 0;
}

static void listen(struct listener *l)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic, .log = hear};

    memset(l, 0, sizeof(*l));
    rig.kva.platform = (struct mm_platform){&ops, l};
}

/* One field gets a value for the time of a check. */
#define NAMES(sentence, field, value)                                                              \
    do {                                                                                           \
        __typeof__(field) kept_ = (field);                                                         \
        struct listener l_;                                                                        \
        listen(&l_);                                                                               \
        (field) = (value);                                                                         \
        assert_int_equal(mm_kva_check(&rig.kva), MM_ERR_CORRUPTED);                                \
        (field) = kept_;                                                                           \
        if (strstr(l_.text, sentence) == NULL) {                                                   \
            fail_msg("the check says %s", l_.text);                                                \
        }                                                                                          \
        assert_int_equal(mm_kva_check(&rig.kva), MM_OK);                                           \
    } while (0)

/** One claim gets the place of another, and of each type the tree is still in order. */
static void two_types(struct mmi_avl *claim, const struct mmi_avl *other)
{
    struct mmi_avl kept = *claim;
    struct listener l;

    listen(&l);
    claim->start = other->start;
    claim->value = other->value;
    assert_int_equal(mm_kva_check(&rig.kva), MM_ERR_CORRUPTED);
    *claim = kept;
    assert_non_null(strstr(l.text, "a page of a device has two types"));
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
}

/** What is recorded of two devices, beside a range of memory. */
static void damage_devices(struct mmi_kva_range *range, struct mmi_kva_range *device,
                           const struct mmi_kva_range *other)
{
    const struct mm_ranges none = {0};

    NAMES("a device is not mapped as recorded", device->paddr, device->paddr + PAGE);
    NAMES("a device is not mapped as recorded", device->type, MM_MEMTYPE_WC);
    NAMES("a device is not listed as recorded", device->twin->twin, range);
    NAMES("range knows its end wrongly", device->twin->whole.node.value, device->paddr);
    two_types(&device->twin->whole.node, &other->twin->whole.node);
    NAMES("devices are not all listed", rig.kva.devices.by_type[MM_MEMTYPE_UC], none);
    NAMES("devices of others counted wrongly", rig.kva.devices.nr_foreign, 1);
    NAMES("devices are not all listed", device->twin->whole.tag, 1);
}

static void test_check(void **state)
{
    struct mmi_kva_range *range;
    struct mmi_kva_range *device;
    struct mmi_kva_range *other;
    struct mm_vrange stack;
    struct mm_page_source source;
    void *pages = NULL;
    mm_vaddr_t at;
    mm_vaddr_t registers;
    mm_vaddr_t frame_buffer;

    (void)state;
    rig_machine(&rig, NULL);
    rig.config.nr_stacks = 1;
    rig.config.nr_reserve_tables = 2;
    rig_up(&rig);
    source = mm_page_source_kva(&rig.kva);
    at = rig_alloc(&rig, 2 * PAGE);
    assert_int_equal(mm_kva_map(&rig.kva, mm_prange(mm_paddr(0xfee00000), 16), MM_PROT_RW,
                                MM_MEMTYPE_UC, 0, &registers),
                     MM_OK);
    assert_int_equal(mm_kva_map(&rig.kva, mm_prange(mm_paddr(0xe0000000), 16), MM_PROT_RW,
                                MM_MEMTYPE_WC, 0, &frame_buffer),
                     MM_OK);
    assert_int_equal(source.ops->alloc(source.ctx, 2, 1, 0, &pages), MM_OK);
    assert_int_equal(mm_kva_stack_alloc(&rig.kva, PAGE, 0, &stack), MM_OK);
    mm_kva_stack_free(&rig.kva, stack.start);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    range = mmi_kva_find(&rig.kva, at.raw);
    device = mmi_kva_find(&rig.kva, registers.raw);
    other = mmi_kva_find(&rig.kva, frame_buffer.raw);
    NAMES("a range makes no sense", range->start, range->start - 2 * PAGE);
    NAMES("a range has other pages than it counts", range->nr_left, 1);
    NAMES("a guard is mapped", range->len, PAGE);
    NAMES("the table does not know a range", *mmi_table_look(&rig.kva.table, at.raw), 0);
    NAMES("freed pages counted wrongly", *mmi_table_look(&rig.kva.table, at.raw),
          mmi_kva_entry(range) | MMI_KVA_FREED);
    NAMES("a page is another range's",
          *mmi_table_look(&rig.kva.table, (uint64_t)(uintptr_t)pages + PAGE), mmi_kva_entry(range));
    NAMES("pages of a run counted wrongly",
          *mmi_table_look(&rig.kva.table, (uint64_t)(uintptr_t)pages + PAGE), 0);
    damage_devices(range, device, other);
    NAMES("kept stacks counted wrongly", rig.kva.nr_stacks, 2);
    NAMES("a frame of the reserve is free", rig.kva.nr_reserve, 3);
    NAMES("ranges of a kind counted wrongly", rig.kva.nr_ranges[MM_KVA_DEVICE], 3);
    NAMES("ranges of a kind counted wrongly", rig.kva.nr_pages[MM_KVA_MEMORY], 1);
    NAMES("tree has more nodes than are counted", rig.kva.ranges.nr, rig.kva.ranges.nr - 1);
    NAMES("ranges counted wrongly", rig.kva.ranges.nr, rig.kva.ranges.nr + 1);
    rig.kva.platform = rig.m.platform;
    mm_kva_free(&rig.kva, at);
    mm_kva_free(&rig.kva, registers);
    mm_kva_free(&rig.kva, frame_buffer);
    source.ops->free(source.ctx, pages, 2);
    rig_stop(&rig);
}

static void test_dump(void **state)
{
    struct listener l;
    struct mm_page_source source;
    struct mm_vrange stack;
    void *pages = NULL;
    mm_vaddr_t at;
    mm_vaddr_t freed;
    mm_vaddr_t registers;

    (void)state;
    rig_machine(&rig, NULL);
    rig.config.nr_stacks = 1;
    rig.config.nr_reserve_tables = 1;
    rig_up(&rig);
    source = mm_page_source_kva(&rig.kva);
    at = rig_alloc(&rig, 2 * PAGE);
    freed = rig_alloc(&rig, PAGE);
    mm_kva_free(&rig.kva, freed);
    assert_int_equal(mm_kva_map(&rig.kva, mm_prange(mm_paddr(0xfee00000), 16), MM_PROT_RW,
                                MM_MEMTYPE_UC, 0, &registers),
                     MM_OK);
    assert_int_equal(source.ops->alloc(source.ctx, 2, 1, 0, &pages), MM_OK);
    source.ops->free(source.ctx, pages, 1);
    assert_int_equal(mm_kva_stack_alloc(&rig.kva, PAGE, 0, &stack), MM_OK);
    mm_kva_stack_free(&rig.kva, stack.start);
    listen(&l);
    assert_int_equal(mm_kva_dump(&rig.kva), MM_OK);
    rig.kva.platform = rig.m.platform;
    assert_string_equal(
        l.text,
        "arena   0xffffc00000000000-0xffffc0003fffffff, 1 GiB\n"
        "0xffffc00000001000-0xffffc00000002fff  8 KiB        memory  guards 1+1\n"
        "0xffffc00000005000-0xffffc00000005fff  4 KiB        memory  guards 1+1, freed\n"
        "0xffffc00000008000-0xffffc00000008fff  4 KiB        device -> 0xfee00000 UC  guards 1+1\n"
        "0xffffc0000000b000-0xffffc0000000cfff  8 KiB        pages  guards 1+1, in part freed\n"
        "0xffffc0000000f000-0xffffc0000000ffff  4 KiB        stack  guards 1+1, kept\n"
        "5 ranges, 28 KiB mapped, 8 KiB wait for a purge, 1 table in reserve\n");
    mm_kva_free(&rig.kva, at);
    mm_kva_free(&rig.kva, registers);
    source.ops->free(source.ctx, (char *)pages + PAGE, 1);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_dump),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
