// SPDX-License-Identifier: MIT
/**
 * Memory of a space from outside, where a test must look or reach inside: the lock that is held,
 * pages that were given up, devices. The header of the room is included from the sources.
 */
#include "space_fixture.h"

#include <mm/paging_slots.h>

#include "core/space/internal.h"

#include <signal.h>
#include <sys/mman.h>

#define AT  (32 * PAGE)
#define P2M UINT64_C(0x200000)

static const struct t_machine_config large = {.ram_len = 32 * P2M};

static void put_word(struct mm_space *s, uint64_t at, uint64_t value)
{
    assert_int_equal(mm_space_write(s, mm_vaddr(at), &value, sizeof(value), 0, NULL), MM_OK);
}

static uint64_t word_at(struct mm_space *s, uint64_t at)
{
    uint64_t value = 0;

    assert_int_equal(mm_space_read(s, &value, mm_vaddr(at), sizeof(value), 0, NULL), MM_OK);
    return value;
}

static struct mm_mapping leaf_at(struct mm_space *s, uint64_t at)
{
    struct mm_mapping leaf;

    assert_int_equal(mm_paging_translate(mm_space_table(s), mm_vaddr(at), &leaf), MM_OK);
    return leaf;
}

/* --- the lock --------------------------------------------------------------------------------- */

/* The bytes are moved while the lock is held: fork comes before them or after them. */
static struct mm_space *watched;
static void *forbidden;
static unsigned nr_held, nr_loose;

static void on_touch(int signal)
{
    bool held = watched->lock.writer != 0;

    (void)signal;
    for (unsigned i = 0; i < MMI_SPACE_SLOTS; i++) {
        held |= (watched->lock.slots[i].word & MMI_SPACE_HOLDERS) != 0;
    }
    nr_held += held ? 1 : 0;
    nr_loose += held ? 0 : 1;
    (void)!mprotect(forbidden, PAGE, PROT_READ | PROT_WRITE);
}

static void forbid(struct fixture *f, struct mm_space *s)
{
    forbidden = t_machine_ptr(&f->m, frame_at(s, AT) * PAGE);
    assert_int_equal(mprotect(forbidden, PAGE, PROT_NONE), 0);
}

static void test_moved_under_the_lock(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct sigaction action = {.sa_handler = on_touch};
    struct sigaction before;
    uint64_t value = 3;

    (void)state;
    assert_int_equal(map_at(s, AT, PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    watched = s;
    nr_held = nr_loose = 0;
    assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
    forbid(f, s);
    assert_int_equal(mm_space_write(s, mm_vaddr(AT), &value, 8, 0, NULL), MM_OK);
    forbid(f, s);
    assert_int_equal(mm_space_read(s, &value, mm_vaddr(AT), 8, 0, NULL), MM_OK);
    forbid(f, s);
    assert_int_equal(mm_space_clear(s, mm_vaddr(AT), 8, 0, NULL), MM_OK);
    s->nr_given_up = 1;
    forbid(f, s);
    assert_int_equal(mm_space_write(s, mm_vaddr(AT), &value, 8, 0, NULL), MM_OK);
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
    assert_int_equal(nr_held, 4);
    assert_int_equal(nr_loose, 0);
    assert_int_equal(word_at(s, AT), 3);
    put_last(f, s);
    fixture_stop(f);
}

/* --- pages that were given up, and devices ---------------------------------------------------- */

static void give_up(struct mm_space *s, uint64_t at, uint64_t len)
{
    assert_int_equal(mm_paging_set_software(mm_space_table(s), mm_vrange(mm_vaddr(at), len),
                                            MMI_SOFTWARE_GIVEN_UP, 0, 0),
                     MM_OK);
    s->nr_given_up = 1;
}

static bool is_given_up(struct mm_space *s, uint64_t at)
{
    return (leaf_at(s, at).software & MMI_SOFTWARE_GIVEN_UP) != 0;
}

/* What is written is kept; what is read is not. */
static void test_given_up(void **state)
{
    struct fixture *f = fixture_start(&large);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 4 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(map_at(s, P2M, 2 * P2M, RW, MM_SPACE_HUGE | MM_SPACE_POPULATE), MM_OK);
    give_up(s, AT, 4 * PAGE);
    give_up(s, P2M, 2 * P2M);
    assert_int_equal(word_at(s, AT + PAGE), 0);
    assert_true(is_given_up(s, AT + PAGE));
    put_word(s, AT + PAGE - 4, 3);
    assert_false(is_given_up(s, AT));
    assert_false(is_given_up(s, AT + PAGE));
    assert_int_equal(mm_space_clear(s, mm_vaddr(AT + 2 * PAGE), 1, MM_SPACE_FORCE, NULL), MM_OK);
    assert_false(is_given_up(s, AT + 2 * PAGE));
    assert_true(is_given_up(s, AT + 3 * PAGE));
    put_word(s, P2M + 7 * PAGE, 3);
    assert_false(is_given_up(s, P2M));
    assert_true(is_given_up(s, 2 * P2M));
    assert_int_equal(leaf_at(s, P2M).page.len, P2M);
    s->nr_given_up = 0;
    put_last(f, s);
    fixture_stop(f);
}

/* A region of a device, with its leaf, over a frame that the test holds. */
static mm_status_t of_device(struct fixture *f, mm_memtype_t type, mm_prot_t prot, uint32_t flags,
                             bool write)
{
    struct mm_space *s = new_space(f);
    struct mmi_region *node = mm_cache_alloc(&f->spaces.region_cache);
    struct mm_frame_request request = {.flags = MM_FRAME_ZERO};
    struct mmi_region_list nodes = {NULL, 0};
    struct mmi_bucket *bucket = mm_cache_alloc(&f->spaces.bucket_cache);
    struct mmi_region_attr attr = {.object = 1,
                                   .prot = (uint16_t)prot,
                                   .flags = MM_REGION_DEVICE << MMI_REGION_KIND_SHIFT |
                                            (uint32_t)type << MMI_REGION_TYPE_SHIFT};
    struct mm_vrange page = mm_vrange(mm_vaddr(AT), PAGE);
    struct mm_gather gather;
    uint64_t word = 7;
    mm_status_t status;
    mm_pfn_t frame;

    assert_int_equal(mm_frame_alloc(&f->m.frames, &request, &frame), MM_OK);
    mmi_region_push(&nodes, node);
    mmi_regions_push_bucket(&s->regions, bucket);
    mmi_regions_insert(&s->regions, mmi_regions_spot(&s->regions, AT), AT, PAGE, &attr, &nodes);
    assert_int_equal(mm_paging_map(s->table, page, mm_pfn_addr(frame), prot | MM_PROT_USER, type,
                                   MM_PAGING_ONLY_4K),
                     MM_OK);
    status = write ? mm_space_write(s, mm_vaddr(AT), &word, 8, flags, NULL)
                   : mm_space_read(s, &word, mm_vaddr(AT), 8, flags, NULL);
    assert_int_equal(word, write || status != MM_OK ? 7 : 0);
    word = *(uint64_t *)t_machine_ptr(&f->m, frame.raw * PAGE);
    assert_int_equal(word, write && status == MM_OK ? 7 : 0);
    assert_int_equal(frame_at(s, AT), frame.raw);
    assert_int_equal(mm_gather_begin(&gather, s->table), MM_OK);
    assert_int_equal(mm_paging_unmap(s->table, page, 0, &gather), MM_OK);
    mm_gather_end(&gather);
    assert_true(mm_frame_put(&f->m.frames, frame));
    mmi_regions_remove(&s->regions, mmi_regions_find(&s->regions, AT), AT, PAGE, &nodes);
    mm_cache_free(&f->spaces.region_cache, mmi_region_pop(&nodes));
    put_last(f, s);
    return status;
}

static void test_device(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_physmap kept = f->spaces.physmap;

    (void)state;
    for (unsigned write = 0; write < 2; write++) {
        assert_int_equal(of_device(f, MM_MEMTYPE_WB, RW, 0, write != 0), MM_OK);
        assert_int_equal(of_device(f, MM_MEMTYPE_WB, RW, MM_SPACE_FORCE, write != 0), MM_OK);
        assert_int_equal(of_device(f, MM_MEMTYPE_UC, RW, 0, write != 0), MM_ERR_UNSUPPORTED);
        assert_int_equal(of_device(f, MM_MEMTYPE_WC, RW, 1, write != 0), MM_ERR_UNSUPPORTED);
        f->spaces.physmap.len = PAGE;
        assert_int_equal(of_device(f, MM_MEMTYPE_WB, RW, 0, write != 0), MM_ERR_UNSUPPORTED);
        f->spaces.physmap = kept;
    }
    assert_int_equal(of_device(f, MM_MEMTYPE_WB, MM_PROT_READ, 0, true), MM_ERR_FAULT);
    assert_int_equal(of_device(f, MM_MEMTYPE_UC, MM_PROT_READ, 0, true), MM_ERR_FAULT);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moved_under_the_lock),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
