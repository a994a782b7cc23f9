// SPDX-License-Identifier: MIT
/**
 * Random operations on several spaces, related by clones, against a model so flat that it is
 * plainly right: for each space an array of pages, each with its rights and the number that was
 * stored last. A clone copies the array. Memory is so scarce that calls fail now and then: those
 * must change nothing.
 *
 * Four CPUs run in the spaces, several in one at a time, and also while it is cloned or a page of
 * it is copied. They keep translations until they are told to drop them, look ahead and forget at
 * random. After each operation the sweep finds nothing in any cache that disagrees with the tables:
 * a stale right to write would store into the page that a clone shares. A frame that is freed is in
 * no cache at that moment (machine_mm.h).
 */
#include "space_fixture.h"

#define NR_SPACES 6u
#define NR_PAGES  600u /* from page 1: on both sides of 2 MiB, so several tables */
#define NR_FRAMES 240u /* too few for all of them at once */
#define NR_OPS    (MM_TEST_SANITIZED ? 10000u : 100000u)
#define NR_CPUS   4u
#define FULL      100u /* times as many in the long campaign */

struct page {
    uint64_t stamp; /* what was stored last; 0: nothing */
    uint32_t used;
    mm_prot_t prot;
    uint32_t flags;
    uint32_t tag;
};

struct world {
    struct fixture *f;
    struct t_prng prng;
    struct mm_space *spaces[NR_SPACES]; /* NULL: none */
    struct page pages[NR_SPACES][NR_PAGES];
    uint64_t next_stamp;
    uint64_t hot; /* the first of the pages that are touched most */
    uint64_t nr_no_memory;
    uint64_t nr_cow;
};

static uint64_t address(uint64_t page)
{
    return (page + 1) * PAGE;
}

static mm_prot_t random_prot(struct world *w)
{
    static const mm_prot_t prots[] = {RW, RW, RW, RW, MM_PROT_READ, RWX, RX, MM_PROT_NONE};

    return prots[t_prng_below(&w->prng, sizeof(prots) / sizeof(prots[0]))];
}

static void random_range(struct world *w, uint64_t *page, uint64_t *nr)
{
    *page = t_prng_below(&w->prng, NR_PAGES);
    *nr = 1 + t_prng_below(&w->prng, t_prng_chance(&w->prng, 1, 20) ? 200 : 16);
    if (*nr > NR_PAGES - *page) {
        *nr = NR_PAGES - *page;
    }
}

/* --- the model's answers ------------------------------------------------------------------------
 */

static bool model_free(const struct page *pages, uint64_t page, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++) {
        if (pages[page + i].used != 0) {
            return false;
        }
    }
    return true;
}

/* The lowest place of `nr` pages, NR_PAGES if it lies behind what the model knows. */
static uint64_t model_room(const struct page *pages, uint64_t nr)
{
    for (uint64_t page = 0; page + nr <= NR_PAGES; page++) {
        if (model_free(pages, page, nr)) {
            return page;
        }
    }
    return NR_PAGES;
}

static mm_status_t model_protectable(const struct page *pages, uint64_t page, uint64_t nr)
{
    for (uint64_t i = page; i < page + nr; i++) {
        if (pages[i].used == 0) {
            return MM_ERR_NOT_MAPPED;
        }
        if (pages[i].flags == MM_SPACE_GUARD) {
            return MM_ERR_PERMISSION_DENIED;
        }
    }
    return MM_OK;
}

static bool model_agrees(const struct page *a, const struct page *b)
{
    return a->used == b->used && a->prot == b->prot && a->flags == b->flags && a->tag == b->tag;
}

/* --- operations ---------------------------------------------------------------------------------
 */

static void op_map(struct world *w, unsigned who)
{
    struct mm_space_request r = {.prot = random_prot(w), .tag = t_prng_below(&w->prng, 2)};
    struct page *pages = w->pages[who];
    mm_status_t want = MM_OK;
    mm_status_t status;
    mm_vaddr_t at = {0};
    uint64_t page;
    uint64_t nr;

    random_range(w, &page, &nr);
    r.at = mm_vaddr(address(page));
    r.len = nr * PAGE - t_prng_below(&w->prng, PAGE);
    r.flags = t_prng_chance(&w->prng, 2, 3) ? MM_SPACE_FIXED : 0;
    if (t_prng_chance(&w->prng, 1, 10)) {
        r.flags |= MM_SPACE_GUARD;
        r.prot = MM_PROT_NONE;
    } else if (t_prng_chance(&w->prng, 1, 5)) {
        r.flags |= MM_SPACE_POPULATE;
    }
    if (!model_free(pages, page, nr)) {
        page = model_room(pages, nr);
        want = (r.flags & MM_SPACE_FIXED) != 0 ? MM_ERR_ALREADY_MAPPED : MM_OK;
    }
    status = mm_space_map(w->spaces[who], &r, &at);
    if (status == MM_ERR_NO_MEMORY) {
        w->nr_no_memory++;
        assert_true((r.flags & MM_SPACE_POPULATE) != 0 && want == MM_OK);
        return;
    }
    assert_int_equal(status, want);
    if (status != MM_OK) {
        return;
    }
    if (page == NR_PAGES) { /* behind the model: not kept */
        assert_true(at.raw >= address(NR_PAGES) - (nr - 1) * PAGE);
        assert_int_equal(unmap(w->spaces[who], at.raw, r.len), MM_OK);
        return;
    }
    assert_int_equal(at.raw, address(page));
    for (uint64_t i = page; i < page + nr; i++) {
        pages[i] = (struct page){
            .used = 1, .prot = r.prot, .flags = r.flags & MM_SPACE_GUARD, .tag = (uint32_t)r.tag};
    }
}

static void op_unmap(struct world *w, unsigned who)
{
    uint64_t page;
    uint64_t nr;

    random_range(w, &page, &nr);
    assert_int_equal(unmap(w->spaces[who], address(page), nr * PAGE), MM_OK);
    memset(&w->pages[who][page], 0, nr * sizeof(struct page));
}

static void op_protect(struct world *w, unsigned who)
{
    mm_prot_t prot = random_prot(w);
    struct page *pages = w->pages[who];
    mm_status_t want;
    uint64_t page;
    uint64_t nr;

    random_range(w, &page, &nr);
    want = model_protectable(pages, page, nr);
    assert_int_equal(protect(w->spaces[who], address(page), nr * PAGE, prot), want);
    for (uint64_t i = page; i < page + nr && want == MM_OK; i++) {
        pages[i].prot = prot;
    }
}

/* Mostly one of a few pages that stay the same for a while: what is cached is used again. */
static uint64_t choose_page(struct world *w, unsigned who)
{
    if (t_prng_chance(&w->prng, 1, 3)) {
        return t_prng_below(&w->prng, NR_PAGES);
    }
    for (unsigned i = 0; i < 8; i++) {
        if (w->pages[who][w->hot].stamp != 0 && !t_prng_chance(&w->prng, 1, 64)) {
            break;
        }
        w->hot = t_prng_below(&w->prng, NR_PAGES);
    }
    return (w->hot + t_prng_below(&w->prng, 4)) % NR_PAGES;
}

static void op_touch(struct world *w, unsigned who)
{
    unsigned cpu = (unsigned)t_prng_below(&w->prng, NR_CPUS);
    uint64_t n = choose_page(w, who);
    struct page *page = &w->pages[who][n];
    unsigned kind = (unsigned)t_prng_below(&w->prng, 3);
    unsigned access = T_MMU_USER | (kind == 0 ? T_MMU_WRITE : kind == 1 ? T_MMU_FETCH : 0);
    mm_prot_t need = kind == 0 ? MM_PROT_WRITE : kind == 1 ? MM_PROT_EXEC : MM_PROT_READ;
    bool allowed = page->used != 0 && (page->prot & need) != 0;
    uint64_t *p = NULL;
    bool done;

    /* Every now and then the CPU was elsewhere: it changes over. */
    if (runs(w->f, cpu, w->spaces[who]) || t_prng_chance(&w->prng, 1, 8)) {
        w->f->m.cpus.now = cpu;
    } else {
        run_in(w->f, w->spaces[who]);
    }
    done = touch(w->f, w->spaces[who], address(n), access, &p);

    if (!done && w->f->last == MM_FAULT_NO_MEMORY) {
        w->nr_no_memory++;
        assert_true(allowed);
        return;
    }
    assert_int_equal(done, allowed);
    if (!done) {
        assert_int_equal(w->f->last,
                         page->used != 0 ? MM_FAULT_SIGNAL_ACCESS : MM_FAULT_SIGNAL_MAP);
        return;
    }
    w->nr_cow += w->f->nr_faults != 0 && w->f->last == MM_FAULT_COW ? 1 : 0;
    assert_int_equal(*p, page->stamp);
    assert_int_equal(p[511], page->stamp);
    if (kind == 0) {
        page->stamp = w->next_stamp++;
        *p = page->stamp;
        p[511] = page->stamp;
    }
}

static void op_clone(struct world *w, unsigned who)
{
    unsigned to = (unsigned)t_prng_below(&w->prng, NR_SPACES);
    mm_status_t status;

    if (w->spaces[to] != NULL) {
        return;
    }
    status = mm_space_clone(w->spaces[who], &w->spaces[to]);
    if (status != MM_OK) {
        w->nr_no_memory++;
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        assert_null(w->spaces[to]);
        return;
    }
    memcpy(w->pages[to], w->pages[who], sizeof(w->pages[to]));
}

static void op_put(struct world *w, unsigned who)
{
    put_last(w->f, w->spaces[who]);
    w->spaces[who] = NULL;
    memset(w->pages[who], 0, sizeof(w->pages[who]));
}

/* --- looking ------------------------------------------------------------------------------------
 */

static void same_regions(struct world *w, unsigned who)
{
    const struct page *pages = w->pages[who];
    struct mm_region_info info;
    mm_vaddr_t at = {0};
    uint64_t n = 0;

    while (n < NR_PAGES) {
        uint64_t first = n;

        while (n < NR_PAGES && model_agrees(&pages[n], &pages[first])) {
            n++;
        }
        if (pages[first].used != 0) {
            assert_int_equal(mm_space_next(w->spaces[who], at, &info), MM_OK);
            assert_int_equal(info.range.start.raw, address(first));
            assert_int_equal(info.range.len, (n - first) * PAGE);
            assert_int_equal(info.prot, pages[first].prot);
            assert_int_equal(info.flags, pages[first].flags);
            assert_int_equal(info.tag, pages[first].tag);
            at = mm_vaddr(info.range.start.raw + info.range.len);
        }
    }
    assert_int_equal(mm_space_next(w->spaces[who], at, &info), MM_ERR_REGION_NOT_FOUND);
}

/* Every page that was ever stored to is there, rights or no rights, with what was stored. */
static void same_contents(struct world *w, unsigned who)
{
    for (uint64_t n = 0; n < NR_PAGES; n++) {
        const struct page *page = &w->pages[who][n];
        uint64_t frame = frame_at(w->spaces[who], address(n));

        assert_true(frame == 0 || page->used != 0);
        assert_true(frame != 0 || page->stamp == 0);
        if (frame != 0) {
            assert_int_equal(*(uint64_t *)t_machine_ptr(&w->f->m, frame << 12), page->stamp);
        }
    }
}

static void check_all(struct world *w)
{
    for (unsigned i = 0; i < NR_SPACES; i++) {
        if (w->spaces[i] != NULL) {
            same_regions(w, i);
            same_contents(w, i);
            assert_int_equal(mm_space_check(w->spaces[i]), MM_OK);
        }
    }
    assert_int_equal(mm_frame_check(&w->f->m.frames), MM_OK);
    T_LEGAL(t_machine_audit(&w->f->m, w->spaces, NR_SPACES, mm_space_kernel(&w->f->spaces), 0));
}

static void step(struct world *w)
{
    unsigned who = (unsigned)t_prng_below(&w->prng, NR_SPACES);

    if (w->spaces[who] == NULL) {
        if (t_prng_chance(&w->prng, 1, 20)) {
            mm_status_t status = mm_space_create(&w->f->spaces, &w->spaces[who]);

            assert_true(status == MM_OK || status == MM_ERR_NO_MEMORY);
        }
        return;
    }
    run_in(w->f, w->spaces[who]);
    switch (t_prng_below(&w->prng, 40)) {
    case 0:
        op_clone(w, who);
        break;
    case 1:
        if (t_prng_chance(&w->prng, 1, 2)) {
            op_put(w, who);
        }
        break;
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
        op_map(w, who);
        break;
    case 7:
        op_unmap(w, who);
        break;
    case 8:
    case 9:
    case 10:
        op_protect(w, who);
        break;
    case 11:
        same_regions(w, who);
        assert_int_equal(mm_space_check(w->spaces[who]), MM_OK);
        break;
    default:
        /* Many touches of one space in a row: translations stay in the TLB between edits. */
        for (unsigned i = 0; i < 8; i++) {
            op_touch(w, who);
        }
    }
}

static void test_random(void **state)
{
    struct t_machine_config machine = {.ram_len = UINT64_C(8) << 20, .nr_cpus = NR_CPUS};
    struct world *w = calloc(1, sizeof(*w));
    uint64_t nr_hits = 0;

    (void)state;
    assert_non_null(w);
    t_prng_start(&w->prng, "space");
    w->f = fixture_start(&machine);
    t_machine_leave_frames(&w->f->m, NR_FRAMES);
    t_cpus_noise(&w->f->m.cpus, t_prng_u64(&w->prng), 8);
    w->next_stamp = 1;
    w->spaces[0] = new_space(w->f);
    for (unsigned op = 0; op < NR_OPS * (getenv("MM_TEST_FULL") != NULL ? FULL : 1); op++) {
        step(w);
        nothing_stale(w->f);
        if (op % 1000 == 0) {
            check_all(w);
        }
    }
    check_all(w);
    for (unsigned i = 0; i < NR_SPACES; i++) {
        if (w->spaces[i] != NULL) {
            op_put(w, i);
        }
    }
    print_message("out of memory %llu times, copied or taken %llu times\n",
                  (unsigned long long)w->nr_no_memory, (unsigned long long)w->nr_cow);
    for (unsigned i = 0; i < NR_CPUS; i++) {
        nr_hits += w->f->m.cpus.cpu[i].nr_hits;
    }
    assert_true(nr_hits > NR_OPS / 50);
    assert_true(w->nr_cow > 50);
    assert_true(w->nr_no_memory > 10);
    t_machine_leave_frames(&w->f->m, UINT64_MAX);
    fixture_stop(w->f);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
