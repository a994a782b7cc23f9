// SPDX-License-Identifier: MIT
/**
 * Random devices in several spaces, related by clones, and in an arena, against a model that is an
 * array of pages for each: which physical page with which type is where. Whether a page may be
 * mapped is what a look at all arrays says; and each space is checked after each call.
 *
 * Nodes and frames run out now and then: then nothing has changed, which the next calls find out.
 */
#include "space_devices.h"

#define NR_SPACES 4u
#define NR_PAGES  64u /* of each space, from AT on */
#define NR_MEMORY 40u /* physical ones, from BUFFER on */
#define NR_ARENA  4u
#define NR_OPS    (MM_TEST_SANITIZED ? 6000u : 60000u)

enum what { HOLE = 0, MEMORY, DEVICE };

struct page {
    enum what what;
    uint64_t paddr; /* a page's number */
    mm_memtype_t type;
    mm_prot_t prot;
};

struct in_arena {
    uint64_t at; /* 0: nothing */
    uint64_t paddr;
    uint64_t nr;
    mm_memtype_t type;
};

struct world {
    struct fixture *f;
    struct t_prng prng;
    struct mm_space *spaces[NR_SPACES]; /* NULL: none */
    struct page pages[NR_SPACES][NR_PAGES];
    struct in_arena arena[NR_ARENA];
    uint64_t nr_busy, nr_no_memory;
};

static uint64_t below(struct world *w, uint64_t n)
{
    return t_prng_below(&w->prng, n);
}

static mm_memtype_t random_type(struct world *w)
{
    static const mm_memtype_t types[] = {UC, UC, UC, WC, MM_MEMTYPE_WB};

    return types[below(w, 5)];
}

static void random_range(struct world *w, uint64_t limit, uint64_t *first, uint64_t *nr)
{
    *first = below(w, limit);
    *nr = 1 + below(w, 10);
    *nr = *nr > limit - *first ? limit - *first : *nr;
}

/* --- the model's answers ------------------------------------------------------------------------ */

static bool conflicts(const struct world *w, uint64_t paddr, uint64_t nr, mm_memtype_t type)
{
    for (unsigned s = 0; s < NR_SPACES; s++) {
        for (unsigned i = 0; i < NR_PAGES; i++) {
            const struct page *p = &w->pages[s][i];

            if (p->what == DEVICE && p->type != type && p->paddr - paddr < nr) {
                return true;
            }
        }
    }
    for (unsigned i = 0; i < NR_ARENA; i++) {
        const struct in_arena *a = &w->arena[i];

        if (a->at != 0 && a->type != type && a->paddr < paddr + nr && paddr < a->paddr + a->nr) {
            return true;
        }
    }
    return false;
}

static bool any(const struct page *pages, uint64_t first, uint64_t nr)
{
    for (uint64_t i = first; i < first + nr; i++) {
        if (pages[i].what != HOLE) {
            return true;
        }
    }
    return false;
}

static bool all(const struct page *pages, uint64_t first, uint64_t nr)
{
    for (uint64_t i = first; i < first + nr; i++) {
        if (pages[i].what == HOLE) {
            return false;
        }
    }
    return true;
}

static uint64_t address(uint64_t page)
{
    return AT + page * PAGE;
}

/* --- compared ----------------------------------------------------------------------------------- */

static void compare(struct world *w, unsigned who)
{
    struct mm_space *s = w->spaces[who];
    uint64_t nr_devices = 0;

    for (uint64_t i = 0; i < NR_PAGES; i++) {
        const struct page *p = &w->pages[who][i];
        struct mm_mapping leaf;
        mm_status_t status = mm_paging_translate(mm_space_table(s), mm_vaddr(address(i)), &leaf);

        if (p->what == HOLE) {
            assert_int_equal(status, MM_ERR_NOT_MAPPED);
        }
        if (p->what == DEVICE) {
            nr_devices++;
            assert_int_equal(status, MM_OK);
            assert_int_equal(leaf.paddr.raw + (address(i) - leaf.page.start.raw),
                             BUFFER + p->paddr * PAGE);
            assert_int_equal(leaf.type, p->type);
            assert_int_equal(leaf.prot & RWX & ~MM_PROT_EXEC, p->prot);
        }
    }
    assert_int_equal(device_bytes(s), nr_devices * PAGE);
    all_well(w->f, s);
}

/* --- operations --------------------------------------------------------------------------------- */

static void op_device(struct world *w, unsigned who)
{
    struct page *pages = w->pages[who];
    uint32_t flags = below(w, 3) == 0 ? MM_SPACE_REPLACE : 0;
    mm_memtype_t type = random_type(w);
    mm_status_t want = MM_OK;
    mm_status_t status;
    uint64_t paddr;
    uint64_t first;
    uint64_t nr;

    random_range(w, NR_PAGES, &first, &nr);
    paddr = below(w, NR_MEMORY - nr);
    if (flags == 0 && any(pages, first, nr)) {
        want = MM_ERR_ALREADY_MAPPED;
    } else if (conflicts(w, paddr, nr, type)) {
        want = MM_ERR_BUSY;
        w->nr_busy++;
    }
    status =
        map_device(w->spaces[who], address(first), nr * PAGE, BUFFER + paddr * PAGE, type, flags);
    if (status == MM_ERR_NO_MEMORY) {
        w->nr_no_memory++;
        return;
    }
    assert_int_equal(status, want);
    for (uint64_t i = 0; i < nr && status == MM_OK; i++) {
        pages[first + i] = (struct page){DEVICE, paddr + i, type, RW};
    }
}

static void op_memory(struct world *w, unsigned who)
{
    struct page *pages = w->pages[who];
    uint64_t first;
    uint64_t nr;
    mm_status_t status;

    random_range(w, NR_PAGES, &first, &nr);
    status = map_at(w->spaces[who], address(first), nr * PAGE, RW,
                    MM_SPACE_REPLACE | (below(w, 2) != 0 ? MM_SPACE_POPULATE : 0));
    assert_true(status == MM_OK || status == MM_ERR_NO_MEMORY);
    for (uint64_t i = 0; i < nr && status == MM_OK; i++) {
        pages[first + i] = (struct page){.what = MEMORY, .prot = RW};
    }
}

static void op_unmap(struct world *w, unsigned who)
{
    uint64_t first;
    uint64_t nr;
    mm_status_t status;

    random_range(w, NR_PAGES, &first, &nr);
    status = unmap(w->spaces[who], address(first), nr * PAGE);
    assert_true(status == MM_OK || status == MM_ERR_NO_MEMORY);
    if (status == MM_OK) {
        memset(&w->pages[who][first], 0, nr * sizeof(struct page));
    }
}

static void op_protect(struct world *w, unsigned who)
{
    static const mm_prot_t prots[] = {RW, MM_PROT_READ, MM_PROT_NONE};
    struct page *pages = w->pages[who];
    mm_prot_t prot = prots[below(w, 3)];
    uint64_t first;
    uint64_t nr;
    mm_status_t status;

    random_range(w, NR_PAGES, &first, &nr);
    status = protect(w->spaces[who], address(first), nr * PAGE, prot);
    if (status == MM_ERR_NO_MEMORY) {
        return;
    }
    assert_int_equal(status, all(pages, first, nr) ? MM_OK : MM_ERR_NOT_MAPPED);
    for (uint64_t i = 0; i < nr && status == MM_OK; i++) {
        pages[first + i].prot = prot;
    }
}

/* All of one region, to a place of its own or over what is there. */
static void op_remap(struct world *w, unsigned who)
{
    struct page *pages = w->pages[who];
    struct page moved[NR_PAGES];
    struct mm_region_info info;
    mm_vaddr_t out = {7};
    mm_status_t status;
    uint64_t first;
    uint64_t nr;
    uint64_t to;

    random_range(w, NR_PAGES, &first, &nr);
    if (mm_space_find(w->spaces[who], mm_vaddr(address(first)), &info) != MM_OK) {
        return;
    }
    if (info.range.start.raw + info.range.len < address(first + nr)) {
        nr = (info.range.start.raw + info.range.len - address(first)) / PAGE;
    }
    to = below(w, NR_PAGES - nr);
    if (to < first + nr && first < to + nr) {
        return; /* not over itself */
    }
    status =
        mm_space_remap(w->spaces[who], mm_vrange(mm_vaddr(address(first)), nr * PAGE), nr * PAGE,
                       MM_SPACE_REMAP_MOVE | MM_SPACE_REMAP_FIXED, mm_vaddr(address(to)), &out);
    assert_true(status == MM_OK || status == MM_ERR_NO_MEMORY);
    if (status == MM_OK) {
        assert_int_equal(out.raw, address(to));
        memcpy(moved, &pages[first], nr * sizeof(*pages));
        memset(&pages[first], 0, nr * sizeof(*pages));
        memcpy(&pages[to], moved, nr * sizeof(*pages));
    }
}

/* Instead of another space. */
static void op_clone(struct world *w, unsigned who)
{
    unsigned child = (who + 1) % NR_SPACES;
    struct mm_space *made = NULL;
    mm_status_t status = mm_space_clone(w->spaces[who], &made);

    assert_true(status == MM_OK || status == MM_ERR_NO_MEMORY);
    if (status == MM_OK) {
        if (w->spaces[child] != NULL) {
            put_last(w->f, w->spaces[child]);
        }
        w->spaces[child] = made;
        memcpy(w->pages[child], w->pages[who], sizeof(w->pages[who]));
        compare(w, child);
    }
}

static void op_make(struct world *w, unsigned who)
{
    w->spaces[who] = new_space(w->f);
    memset(w->pages[who], 0, sizeof(w->pages[who]));
}

static void op_put(struct world *w, unsigned who)
{
    put_last(w->f, w->spaces[who]);
    w->spaces[who] = NULL;
    memset(w->pages[who], 0, sizeof(w->pages[who]));
}

static void op_arena(struct world *w)
{
    struct in_arena *a = &w->arena[below(w, NR_ARENA)];
    mm_vaddr_t at = {0};
    mm_status_t status;
    bool busy;

    if (w->f->kva.magic == 0) {
        return;
    }
    if (a->at != 0) {
        mm_kva_free(&w->f->kva, mm_vaddr(a->at));
        a->at = 0;
        return;
    }
    random_range(w, NR_MEMORY, &a->paddr, &a->nr);
    a->type = random_type(w);
    busy = conflicts(w, a->paddr, a->nr, a->type);
    status = mm_kva_map(&w->f->kva, mm_prange(mm_paddr(BUFFER + a->paddr * PAGE), a->nr * PAGE),
                        MM_PROT_RW, a->type, 0, &at);
    assert_true(status == (busy ? MM_ERR_ALREADY_MAPPED : MM_OK) || status == MM_ERR_NO_MEMORY);
    a->at = status == MM_OK ? at.raw : 0;
}

/* --- all together -------------------------------------------------------------------------------- */

static void step(struct world *w)
{
    unsigned who = (unsigned)below(w, NR_SPACES);
    uint64_t k = below(w, 100);
    bool scarce = below(w, 8) == 0;

    if (w->spaces[who] == NULL) {
        op_make(w, who);
        return;
    }
    if (scarce) {
        t_machine_leave_frames(&w->f->m, below(w, 6));
    }
    if (k < 45) {
        op_device(w, who);
    } else if (k < 52) {
        op_memory(w, who);
    } else if (k < 70) {
        op_unmap(w, who);
    } else if (k < 85) {
        op_protect(w, who);
    } else if (k < 91) {
        op_remap(w, who);
    } else if (k < 93) {
        op_clone(w, who);
    } else if (k < 98) {
        op_arena(w);
    } else {
        op_put(w, who);
    }
    if (scarce) {
        t_machine_leave_frames(&w->f->m, UINT64_MAX);
    }
    if (w->spaces[who] != NULL) {
        compare(w, who);
    }
}

static void run(struct fixture *f, const char *name)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->f = f;
    t_prng_start(&w->prng, name);
    for (unsigned i = 0; i < NR_OPS; i++) {
        step(w);
    }
    for (unsigned i = 0; i < NR_SPACES; i++) {
        if (w->spaces[i] != NULL) {
            compare(w, i);
            op_put(w, i);
        }
    }
    for (unsigned i = 0; i < NR_ARENA; i++) {
        if (w->arena[i].at != 0) {
            mm_kva_free(&f->kva, mm_vaddr(w->arena[i].at));
        }
    }
    if (f->kva.magic != 0) {
        (void)mm_kva_purge(&f->kva);
    }
    for (unsigned type = 0; type < MM_MEMTYPE_COUNT; type++) {
        assert_int_equal(nr_claims(f, (mm_memtype_t)type), 0);
    }
    assert_true(w->nr_busy > NR_OPS / 50);
    assert_true(w->nr_no_memory != 0);
    free(w);
    fixture_stop(f);
}

static void test_spaces_alone(void **state)
{
    (void)state;
    run(fixture_start(NULL), "space_device_random alone");
}

static void test_with_an_arena(void **state)
{
    (void)state;
    run(fixture_start_with_arena(NULL), "space_device_random arena");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spaces_alone),
        cmocka_unit_test(test_with_an_arena),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
