// SPDX-License-Identifier: MIT
/**
 * Hazard 22: a space is cloned while others write to it. What a child has is of one moment, and
 * stays; nothing that was written is lost to the parent; a pinned page stays the parent's frame,
 * whoever writes when.
 */
#include "space_fixture.h"

#include <pthread.h>

#define AT (32 * PAGE)

enum { NR_WRITERS = 2, NR_PAGES = 24, NR_CLONES = 150, PINNED = 5 };

struct writer {
    struct mm_space *space;
    const bool *stop;
    unsigned number;
    uint64_t nr_written; /* so many times to each page */
    unsigned nr_wrong;
};

static uint64_t address(unsigned number, unsigned page)
{
    return AT + page * PAGE + number * 64;
}

/* Each has a word of its own in each page, and adds to it in ascending order of the pages. */
static void *write_pages(void *argument)
{
    struct writer *w = argument;

    while (!__atomic_load_n(w->stop, __ATOMIC_RELAXED)) {
        w->nr_written++;
        for (unsigned i = 0; i < NR_PAGES; i++) {
            if (mm_space_write(w->space, mm_vaddr(address(w->number, i)), &w->nr_written,
                               sizeof(w->nr_written), 0, NULL) != MM_OK) {
                w->nr_wrong++;
            }
        }
    }
    return NULL;
}

static void read_all(struct mm_space *s, uint64_t words[NR_WRITERS][NR_PAGES])
{
    for (unsigned n = 0; n < NR_WRITERS; n++) {
        for (unsigned i = 0; i < NR_PAGES; i++) {
            assert_int_equal(
                mm_space_read(s, &words[n][i], mm_vaddr(address(n, i)), sizeof(uint64_t), 0, NULL),
                MM_OK);
        }
    }
}

/* Of one moment: each writer had got to one page, and no further. */
static void is_of_one_moment(uint64_t words[NR_WRITERS][NR_PAGES])
{
    for (unsigned n = 0; n < NR_WRITERS; n++) {
        for (unsigned i = 1; i < NR_PAGES; i++) {
            assert_true(words[n][i] <= words[n][i - 1]);
        }
        assert_true(words[n][NR_PAGES - 1] + 1 >= words[n][0]);
    }
}

static void clone_once(struct mm_space *s, mm_pfn_t pinned)
{
    uint64_t first[NR_WRITERS][NR_PAGES];
    uint64_t again[NR_WRITERS][NR_PAGES];
    struct mm_space *child = clone_of(s);

    read_all(child, first);
    is_of_one_moment(first);
    assert_int_equal(frame_at(s, AT + PINNED * PAGE), pinned.raw);
    assert_int_not_equal(frame_at(child, AT + PINNED * PAGE), pinned.raw);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_int_equal(mm_space_check(child), MM_OK);
    read_all(child, again);
    assert_memory_equal(first, again, sizeof(first));
    assert_true(mm_space_put(child));
}

static void test_clone_under_writers(void **state)
{
    static const struct t_machine_config machine = {.threads = true};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);
    uint64_t words[NR_WRITERS][NR_PAGES];
    struct writer writer[NR_WRITERS];
    pthread_t thread[NR_WRITERS];
    bool stop = false;
    mm_pfn_t pinned;

    (void)state;
    assert_int_equal(map_at(s, AT, NR_PAGES * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    pinned = mm_pfn(frame_at(s, AT + PINNED * PAGE));
    mm_frame_pin(&f->m.frames, pinned);
    for (unsigned n = 0; n < NR_WRITERS; n++) {
        writer[n] = (struct writer){.space = s, .stop = &stop, .number = n};
        assert_int_equal(pthread_create(&thread[n], NULL, write_pages, &writer[n]), 0);
    }
    for (unsigned i = 0; i < NR_CLONES; i++) {
        clone_once(s, pinned);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (unsigned n = 0; n < NR_WRITERS; n++) {
        assert_int_equal(pthread_join(thread[n], NULL), 0);
        assert_int_equal(writer[n].nr_wrong, 0);
    }
    read_all(s, words);
    for (unsigned n = 0; n < NR_WRITERS; n++) {
        for (unsigned i = 0; i < NR_PAGES; i++) {
            assert_int_equal(words[n][i], writer[n].nr_written);
        }
    }
    assert_false(mm_frame_unpin(&f->m.frames, pinned));
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clone_under_writers),
    };

    return cmocka_run_group_tests_name("space_clone_threads", tests, NULL, NULL);
}
