// SPDX-License-Identifier: MIT
/**
 * The checks of a space and of the manager: each contradiction in a tree, between tree and tables, and
 * in what spaces share is made, and the check must name it. All of it is internal, so the header is
 * included from the sources.
 */
#define _GNU_SOURCE /* memmem() */
#include "space_devices.h"

#include "core/space/internal.h"

#define P2M UINT64_C(0x200000)

struct listener {
    const char *sentence; /**< what is to be said */
    bool named;
};

static void listen(void *ctx, const char *line, size_t len)
{
    struct listener *l = ctx;

    l->named |= memmem(line, len, l->sentence, strlen(l->sentence)) != NULL;
}

/* The check of a space, or of the manager if that is NULL, says this. What is below logs to `below`. */
static void is_named(struct mm_spaces *spaces, struct mm_space *s, struct mm_platform *below,
                     const char *sentence)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic, .log = listen};
    struct listener l = {.sentence = sentence};
    struct mm_platform kept = spaces->platform;
    struct mm_platform kept_below = *below;

    spaces->platform = *below = (struct mm_platform){&ops, &l};
    assert_int_equal(s != NULL ? mm_space_check(s) : mm_spaces_check(spaces), MM_ERR_CORRUPTED);
    spaces->platform = kept;
    *below = kept_below;
    if (!l.named) {
        fail_msg("the check did not say: %s", sentence);
    }
}

static void names(struct mm_space *s, const char *sentence)
{
    is_named(s->spaces, s, &s->table->platform, sentence);
}

static void names_shared(struct fixture *f, const char *sentence)
{
    is_named(&f->spaces, NULL, &f->m.pool.platform, sentence);
}

/* One field gets a value for the time of a check. */
#define MEANWHILE(field, value, named, check)                                                      \
    do {                                                                                           \
        __typeof__(field) kept_ = (field);                                                         \
        (field) = (value);                                                                         \
        named;                                                                                     \
        (field) = kept_;                                                                           \
        assert_int_equal(check, MM_OK);                                                            \
    } while (0)

#define NAMES(s, sentence, field, value)                                                           \
    MEANWHILE(field, value, names((s), (sentence)), mm_space_check(s))
#define NAMES_SHARED(f, sentence, field, value)                                                    \
    MEANWHILE(field, value, names_shared((f), (sentence)), mm_spaces_check(&(f)->spaces))

/* --- the tree --------------------------------------------------------------------------------- */

/* Seven buckets full of regions, two pages each: a full tree of three levels. */
#define NR (7 * (uint64_t)MMI_BUCKET_MAX)

/* In order, so that buckets are full. */
static struct mm_space *seven_buckets(struct fixture *f)
{
    struct mm_space *s = new_space(f);

    for (uint64_t i = 0; i < NR; i++) {
        assert_int_equal(map_at(s, (16 + 3 * i) * PAGE, 2 * PAGE, MM_PROT_READ, 0), MM_OK);
    }
    assert_int_equal(s->regions.nr_buckets, 7);
    assert_int_equal(s->regions.root->height[MMI_LEFT], 2);
    assert_int_equal(s->regions.root->height[MMI_RIGHT], 2);
    return s;
}

static void test_tree(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = seven_buckets(f);
    struct mmi_avl *root = s->regions.root;
    struct mmi_avl *first = mmi_avl_first(root);
    struct mmi_avl *second = mmi_avl_next(first);
    /* Of which the first is a child too, so that the way on from there is the same. */
    struct mmi_avl stranger = {.parent = second, .child = {NULL, first}};
    struct mmi_bucket *bucket = mmi_bucket_of(first);
    struct mmi_region *low = bucket->region[0];
    struct mmi_region *high = bucket->region[1];

    (void)state;
    assert_ptr_equal(root->child[MMI_LEFT], second);
    NAMES(s, "tree out of balance", root->height[MMI_RIGHT], 4);
    NAMES(s, "tree out of balance", root->height[MMI_RIGHT], 0);
    NAMES(s, "node knows its subtree wrongly", root->max[MMI_LEFT], root->max[MMI_LEFT] + PAGE);
    NAMES(s, "node knows its subtree wrongly", root->max[MMI_RIGHT], root->max[MMI_RIGHT] + PAGE);
    NAMES(s, "node knows its subtree wrongly", root->height[MMI_LEFT], 3);
    NAMES(s, "left child has another parent", first->parent, &stranger);
    NAMES(s, "right child has another parent", root->child[MMI_RIGHT]->child[MMI_RIGHT]->parent,
          root);
    NAMES(s, "bucket has no region, or too many", bucket->nr, 0);
    NAMES(s, "bucket has no region, or too many", bucket->nr, MMI_BUCKET_MAX + 1);
    NAMES(s, "bucket knows its regions wrongly", first->start, first->start - PAGE);
    NAMES(s, "a bucket does not have the region that it tells of", bucket->start[1],
          bucket->start[1] + PAGE);
    NAMES(s, "a bucket does not have the region that it tells of", bucket->region[1], low);
    NAMES(s, "a bucket does not have the region that it tells of", high->bucket,
          mmi_bucket_of(second));
    NAMES(s, "region not of whole pages", low->len, low->len - 1);
    NAMES(s, "region not of whole pages", low->len, 0);
    NAMES(s, "region out of order, or outside of the window", low->start, 0);
    NAMES(s, "region out of order, or outside of the window", high->start, low->start);
    NAMES(s, "region knows its gap wrongly", bucket->gap[1], 2 * PAGE);
    NAMES(s, "regions counted wrongly", s->regions.nr, NR - 1);
    NAMES(s, "regions counted wrongly", s->regions.bytes, PAGE);
    NAMES(s, "tree has more nodes than are counted", s->regions.nr_buckets, 6);
    NAMES(s, "regions counted wrongly", s->regions.nr_buckets, 8);
    NAMES(s, "root has a parent", root->parent, first);
    NAMES(s, "left child has another parent", root->child[MMI_LEFT], root);
    NAMES(s, "buckets to spare counted wrongly", s->regions.nr_spare, 2);
    put_last(f, s);
    fixture_stop(f);
}

static void test_neighbours(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mmi_region *low;

    (void)state;
    assert_int_equal(map_at(s, 16 * PAGE, PAGE, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(map_at(s, 17 * PAGE, PAGE, RW, 0), MM_OK);
    low = mmi_regions_first(&s->regions);
    NAMES(s, "equal neighbours are not one region", low->attr.prot, RW);
    put_last(f, s);
    fixture_stop(f);
}

/* --- tree and tables -------------------------------------------------------------------------- */

/* A leaf that no call on the space has put there, for the time of a check. */
static void names_leaf(struct fixture *f, struct mm_space *s, struct mm_vrange page, mm_prot_t prot,
                       const char *sentence)
{
    struct mm_frame_request request = {.nr_frames = page.len / PAGE, .align = page.len};
    struct mm_gather *gather = calloc(1, sizeof(*gather));
    mm_pfn_t frame;

    assert_non_null(gather);
    assert_int_equal(mm_frame_alloc(&f->m.frames, &request, &frame), MM_OK);
    assert_int_equal(
        mm_paging_map(s->table, page, mm_pfn_addr(frame), prot | MM_PROT_USER, MM_MEMTYPE_WB, 0),
        MM_OK);
    names(s, sentence);
    assert_int_equal(mm_gather_begin(gather, s->table), MM_OK);
    assert_int_equal(mm_paging_unmap(s->table, page, 0, gather), MM_OK);
    mm_gather_end(gather);
    mm_frame_free_run(&f->m.frames, frame, request.nr_frames);
    free(gather);
    assert_int_equal(mm_space_check(s), MM_OK);
}

static void test_leaves(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_vrange outside = mm_vrange(mm_vaddr(32 * PAGE), PAGE);

    (void)state;
    assert_int_equal(map_at(s, 16 * PAGE, PAGE, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(map_at(s, 18 * PAGE, PAGE, MM_PROT_NONE, 0), MM_OK);
    assert_int_equal(map_at(s, 20 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, P2M, P2M / 2, RW, 0), MM_OK);

    names_leaf(f, s, mm_vrange(mm_vaddr(P2M), P2M), RW, "leaf sticks out of its region");
    names_leaf(f, s, outside, MM_PROT_READ, "page outside of all regions, or in a guard");
    names_leaf(f, s, outside, RX, "page outside of all regions, or in a guard");
    names_leaf(f, s, mm_vrange(mm_vaddr(20 * PAGE), PAGE), MM_PROT_READ,
               "page outside of all regions, or in a guard");
    names_leaf(f, s, mm_vrange(mm_vaddr(16 * PAGE), PAGE), RW,
               "leaf writable, and its region is not");
    names_leaf(f, s, mm_vrange(mm_vaddr(18 * PAGE), PAGE), MM_PROT_READ,
               "leaf readable, and its region is not");
    put_last(f, s);
    fixture_stop(f);
}

/* A leaf that is executable is wrong where another shows that the CPU can forbid it. */
static void test_exec(void **state)
{
    static const struct t_machine_config without_nx = {.no_nx = true};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, 16 * PAGE, 2 * PAGE, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(loaded(f, s, 16 * PAGE), 0);
    names_leaf(f, s, mm_vrange(mm_vaddr(17 * PAGE), PAGE), RX,
               "leaf executable, and its region is not");
    put_last(f, s);
    fixture_stop(f);

    f = fixture_start(&without_nx);
    s = new_space(f);
    assert_int_equal(map_at(s, 16 * PAGE, 2 * PAGE, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(loaded(f, s, 16 * PAGE), 0);
    assert_int_equal(loaded(f, s, 17 * PAGE), 0);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_frames(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    mm_pfn_t frame;

    (void)state;
    assert_int_equal(map_at(s, 16 * PAGE, PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, 16 * PAGE, 5));
    frame = mm_pfn(frame_at(s, 16 * PAGE));
    mm_frame_get(&f->m.frames, frame);
    names(s, "leaf writable, and its frame shared");
    assert_false(mm_frame_put(&f->m.frames, frame));
    assert_int_equal(mm_space_check(s), MM_OK);
    /* Freed under the space, and taken again. */
    assert_true(mm_frame_put(&f->m.frames, frame));
    names(s, "leaf with a frame that is not allocated");
    assert_int_equal(mm_frame_alloc_at(&f->m.frames, frame, 1), MM_OK);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* Tables that contradict themselves are not looked at further. */
static void test_tables(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, 16 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(loaded(f, s, 16 * PAGE), 0);
    assert_int_equal(mm_space_check(s), MM_OK); /* the table has counted the leaf */
    NAMES(s, "leaves mapped are not those counted", s->table->nr_leaves[0], 2);
    NAMES(s, "page table cannot be walked", s->regions.window.len, UINT64_C(1) << 60);
    put_last(f, s);
    fixture_stop(f);
}

/* Large leaves are looked at frame by frame; the zero page is never written. */
static void test_frames_of_large_leaves(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    mm_pfn_t frame;

    (void)state;
    assert_int_equal(map_at(s, P2M, P2M, RW, MM_SPACE_HUGE | MM_SPACE_POPULATE), MM_OK);
    frame = mm_pfn(frame_at(s, P2M) + 511);
    mm_frame_get(&f->m.frames, frame);
    names(s, "leaf writable, and its frame shared");
    assert_false(mm_frame_put(&f->m.frames, frame));
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_zero_page(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_vrange page = mm_vrange(mm_vaddr(16 * PAGE), PAGE);
    struct mm_gather *gather = calloc(1, sizeof(*gather));

    (void)state;
    assert_non_null(gather);
    assert_int_equal(map_at(s, 16 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(loaded(f, s, 16 * PAGE), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(mm_gather_begin(gather, s->table), MM_OK);
        assert_int_equal(mm_paging_protect(s->table, page,
                                           (i == 0 ? RW : MM_PROT_READ) | MM_PROT_USER, 0, gather),
                         MM_OK);
        mm_gather_end(gather);
        if (i == 0) {
            names(s, "zero page writable");
        }
    }
    free(gather);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* --- flags and counts ------------------------------------------------------------------------- */

static void test_regions(void **state)
{
    struct fixture *f = fixture_start_promising(NULL, MM_COMMIT_NEVER, 100);
    struct mm_space *s = new_space(f);
    struct mmi_region *rw;
    struct mmi_region *guard;

    (void)state;
    assert_int_equal(map_at(s, 16 * PAGE, 2 * PAGE, RW, MM_SPACE_HUGE), MM_OK);
    assert_int_equal(map_at(s, 20 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    rw = mmi_regions_first(&s->regions);
    guard = mmi_region_next(rw);
    assert_int_equal(mm_space_check(s), MM_OK);
    NAMES(s, "guard that allows something", guard->attr.prot, MM_PROT_READ);
    NAMES(s, "region for large leaves, and against them", rw->attr.flags,
          rw->attr.flags | MM_SPACE_NO_HUGE);
    NAMES(s, "region promises not what it allows", rw->attr.flags,
          rw->attr.flags & ~(uint32_t)MMI_REGION_COMMITTED);
    NAMES(s, "region promises not what it allows", f->spaces.commit, MM_COMMIT_ALWAYS);
    NAMES(s, "pages promised are counted wrongly", s->nr_committed, 3);
    put_last(f, s);
    fixture_stop(f);
}

static void test_given_up(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mmi_region *region;

    (void)state;
    assert_int_equal(map_at(s, 16 * PAGE, PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, 16 * PAGE, 1));
    assert_int_equal(mm_space_advise(s, mm_vrange(mm_vaddr(16 * PAGE), PAGE), MM_ADVICE_FREE),
                     MM_OK);
    region = mmi_regions_first(&s->regions);
    assert_int_equal(mm_space_check(s), MM_OK);
    NAMES(s, "page given up, and none is counted", s->nr_given_up, 0);
    NAMES(s, "page given up, and its region is wired", region->attr.flags,
          region->attr.flags | MM_SPACE_WIRED);
    put_last(f, s);
    fixture_stop(f);
}

static void test_charges(void **state)
{
    const struct mm_space_limits limits = {.resident_bytes = 64 * PAGE};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mmi_region *region;

    (void)state;
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    assert_int_equal(map_at(s, 16 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, 16 * PAGE, 1));
    region = mmi_regions_first(&s->regions);
    assert_int_equal(region->len, 2 * PAGE);
    /* What was wrong is put right by the unlock at the end. */
    NAMES(s, "pages charged are not those that are there", s->nr_resident, 2);
    NAMES(s, "bytes charged are not those of the regions", s->charged_bytes, PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* --- the manager ------------------------------------------------------------------------------ */

/* What lies in a cache and in no space is for a moment nobody's. */
static void names_lost(struct fixture *f, struct mm_cache *cache, const char *sentence)
{
    void *lost = mm_cache_alloc(cache);

    assert_non_null(lost);
    names_shared(f, sentence);
    mm_cache_free(cache, lost);
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
}

static void test_manager(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *kernel = mm_space_kernel(&f->spaces);
    uint64_t *zero = mm_physmap_ptr(&f->spaces.physmap, mm_pfn_addr(f->spaces.zero_page));
    struct mm_space *s;

    (void)state;
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
    names_lost(f, &f->spaces.space_cache, "spaces allocated are not those counted");
    names_lost(f, &f->spaces.region_cache, "regions allocated are not those of the kernel's space");
    names_lost(f, &f->spaces.bucket_cache, "buckets allocated are not those of the kernel's space");
    names_lost(f, &f->spaces.claim_cache, "claims of devices counted wrongly");
    NAMES_SHARED(f, "spaces allocated are not those counted", f->spaces.nr_spaces, 1);
    NAMES_SHARED(f, "regions allocated are not those of the kernel's space", kernel->regions.nr,
                 kernel->regions.nr + 1);
    NAMES_SHARED(f, "buckets allocated are not those of the kernel's space",
                 kernel->regions.nr_spare, kernel->regions.nr_spare + 1);
    NAMES_SHARED(f, "slabs", f->spaces.region_cache.objects.nr_slabs, 77);
    NAMES_SHARED(f, "a cache is none any more", f->spaces.bucket_cache.magic, 0);
    NAMES_SHARED(f, "zero page missing", f->spaces.zero_page, mm_pfn(0));
    NAMES_SHARED(f, "zero page mortal", f->spaces.zero_page, mm_pfn(f->spaces.zero_page.raw + 1));
    NAMES_SHARED(f, "zero page not zero", zero[511], 1);
    NAMES_SHARED(f, "pages promised are not those of the kernel's space", f->spaces.nr_committed,
                 1);

    s = new_space(f);
    assert_int_equal(map_at(s, 16 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
    NAMES_SHARED(f, "spaces allocated are not those counted", f->spaces.nr_spaces, 0);
    names_lost(f, &f->spaces.claim_cache, "claims of devices counted wrongly");
    NAMES_SHARED(f, "more is promised than may be", f->spaces.nr_committed, 1);
    put_last(f, s);
    fixture_stop(f);
}

/* All that may be promised is, and that is no contradiction; one page more is. */
static void test_promises(void **state)
{
    struct fixture *f = fixture_machine(NULL);
    struct mm_spaces_config config = fixture_config(f);
    struct mm_space *s;

    (void)state;
    config.commit = MM_COMMIT_NEVER;
    config.commit_pages = 3;
    config.kernel_range.len = 0;
    assert_int_equal(mm_spaces_init(&f->spaces, &config), MM_OK);
    names_lost(f, &f->spaces.region_cache, "regions allocated are not those of the kernel's space");
    s = new_space(f);
    assert_int_equal(map_at(s, 16 * PAGE, 3 * PAGE, RW, 0), MM_OK);
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
    NAMES_SHARED(f, "more is promised than may be", f->spaces.nr_committed, 4);
    put_last(f, s);
    fixture_stop(f);
}

static void test_claims(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mmi_range *registers;
    struct mmi_range *buffer;

    (void)state;
    assert_int_equal(map_device(s, AT, PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(map_device(s, AT + PAGE, PAGE, BUFFER, WC, 0), MM_OK);
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
    registers = mmi_ranges_first(&f->spaces.own_devices.by_type[UC]);
    buffer = mmi_ranges_first(&f->spaces.own_devices.by_type[WC]);
    NAMES_SHARED(f, "range knows its end wrongly", registers->node.value, REGISTERS);
    NAMES_SHARED(f, "left child has another parent", registers->node.child[MMI_LEFT],
                 &registers->node);
    NAMES_SHARED(f, "claims of devices counted wrongly", f->spaces.own_devices.nr_foreign, 1);
    names_lost(f, &f->spaces.claim_cache, "claims of devices counted wrongly");
    /* Each tree is in order by itself. */
    registers->node.start = buffer->node.start;
    registers->node.value = buffer->node.value;
    names_shared(f, "a page of a device has two types");
    registers->node.start = REGISTERS;
    registers->node.value = REGISTERS + PAGE - 1;
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* Two managers share an arena, and so the claims in it. */
static void test_claims_in_an_arena(void **state)
{
    struct fixture *f = fixture_start_with_arena(NULL);
    struct mm_spaces_config config = fixture_config(f);
    struct mm_spaces *other = calloc(1, sizeof(*other));
    struct mm_space *theirs;
    struct mm_space *s;

    (void)state;
    assert_non_null(other);
    config.kva = &f->kva;
    config.kernel_range.len = 0;
    assert_int_equal(mm_spaces_init(other, &config), MM_OK);
    assert_int_equal(mm_space_create(other, &theirs), MM_OK);
    assert_int_equal(map_device(theirs, AT, PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
    assert_int_equal(mm_spaces_check(other), MM_OK);
    names_lost(f, &f->spaces.claim_cache, "claims of devices are allocated, and no space has one");
    s = new_space(f);
    assert_int_equal(map_device(s, AT, PAGE, BUFFER, UC, 0), MM_OK);
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
    NAMES_SHARED(f, "claims of devices that the arena lacks", f->kva.devices.nr_foreign, 0);
    put_last(f, s);
    assert_true(mm_space_put(theirs));
    assert_int_equal(mm_spaces_destroy(other), MM_OK);
    free(other);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manager),
        cmocka_unit_test(test_promises),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_claims_in_an_arena),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_leaves),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_frames_of_large_leaves),
        cmocka_unit_test(test_zero_page),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_charges),
    };

    return cmocka_run_group_tests_name("space_check", tests, NULL, NULL);
}
