// SPDX-License-Identifier: MIT
/**
 * The arena against a list of what is out: random calls of every kind on several simulated CPUs
 * whose caches keep what they have seen, evict and fill at random. Each page is stamped through the
 * direct map when it is handed out, and holds its stamp when it is freed; a frame that comes back
 * while any CPU still reaches it stops the test at that moment (machine_mm.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kva_rig.h"

#define STEPS     (MM_TEST_SANITIZED ? 40000u : 240000u)
#define SLOTS     48u
#define NR_CPUS   4u
#define MAX_PAGES 1100u
#define DEVICES   UINT64_C(0xd0000000)
#define NR_DEVICE 24u /* pages that devices have */

struct slot {
    bool out;
    enum mm_kva_kind kind;
    mm_memtype_t type;
    uint64_t start; /* first page */
    uint64_t nr_pages;
    uint64_t offset, paddr; /* of a device */
    uint64_t before, after; /* guards, pages */
    uint64_t stamp;
    uint64_t nr_left;
    uint8_t gone[MAX_PAGES]; /* pages of a run that were given back */
};

struct world {
    struct rig rig;
    struct t_prng prng;
    struct slot slots[SLOTS];
    uint64_t next_stamp;
    uint64_t nr_done[MM_KVA_KINDS]; /* taken */
    uint64_t nr_refused, nr_aliases, nr_parts, nr_explained, nr_purged, nr_reused, nr_grown;
};

static struct world w;

static uint64_t *page_of(uint64_t at)
{
    struct mm_mapping mapping;

    assert_int_equal(mm_paging_translate(&w.rig.m.kernel, mm_vaddr(at), &mapping), MM_OK);
    assert_int_equal(mapping.prot & MM_PROT_RW, MM_PROT_RW);
    return t_machine_ptr(&w.rig.m, mapping.paddr.raw + (at - mapping.page.start.raw));
}

/* --- the model -------------------------------------------------------------------------------- */

static bool overlaps_another(const struct slot *s)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *o = &w.slots[i];

        if (o != s && o->out &&
            mm_range_overlaps(
                o->start - o->before * PAGE, (o->before + o->nr_pages + o->after) * PAGE,
                s->start - s->before * PAGE, (s->before + s->nr_pages + s->after) * PAGE)) {
            return true;
        }
    }
    return false;
}

static void took(struct slot *s)
{
    assert_true(mm_is_aligned(s->start, PAGE));
    assert_true(mm_range_covers(T_ARENA, T_ARENA_LEN, s->start - s->before * PAGE,
                                (s->before + s->nr_pages + s->after) * PAGE));
    assert_false(overlaps_another(s));
    s->out = true;
    s->stamp = ++w.next_stamp << 16;
    s->nr_left = s->nr_pages;
    memset(s->gone, 0, s->nr_pages < MAX_PAGES ? s->nr_pages : MAX_PAGES);
    w.nr_done[s->kind]++;
    for (uint64_t i = 0; s->kind != MM_KVA_DEVICE && i < s->nr_pages; i++) {
        *page_of(s->start + i * PAGE) = s->stamp + i;
    }
}

static void stamps_hold(const struct slot *s, uint64_t first, uint64_t nr)
{
    for (uint64_t i = first; s->kind != MM_KVA_DEVICE && i < first + nr; i++) {
        assert_int_equal(*page_of(s->start + i * PAGE), s->stamp + i);
    }
}

static uint64_t random_pages(void)
{
    return t_prng_chance(&w.prng, 1, 200) ? t_prng_range(&w.prng, 500, MAX_PAGES)
                                          : t_prng_range(&w.prng, 1, 9);
}

static uint32_t random_atomic(void)
{
    return t_prng_chance(&w.prng, 1, 4) ? MM_KVA_ATOMIC : 0;
}

/* Memory is short now and then: then a call may answer so, and nothing else. */
static bool refused(mm_status_t status)
{
    if (status == MM_OK) {
        return false;
    }
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    assert_int_not_equal(w.rig.m.nr_held, 0);
    w.nr_refused++;
    return true;
}

/* --- taking ----------------------------------------------------------------------------------- */

static void take_memory(struct slot *s)
{
    struct mm_kva_request request = {.flags = random_atomic()};
    mm_vaddr_t at;

    s->kind = MM_KVA_MEMORY;
    s->nr_pages = random_pages();
    s->before = t_prng_chance(&w.prng, 1, 4) ? t_prng_range(&w.prng, 1, 5) : 1;
    s->after = t_prng_chance(&w.prng, 1, 4) ? t_prng_range(&w.prng, 1, 5) : 1;
    request.len = s->nr_pages * PAGE - t_prng_below(&w.prng, PAGE);
    request.guard_before = (uint32_t)s->before;
    request.guard_after = (uint32_t)s->after;
    request.align = t_prng_chance(&w.prng, 1, 4) ? PAGE << t_prng_below(&w.prng, 8) : 0;
    if (t_prng_chance(&w.prng, 1, 4)) {
        request.flags |= MM_KVA_NO_GUARDS;
        s->before = s->after = 0;
    }
    if (t_prng_chance(&w.prng, 1, 8)) {
        request.lowest.raw = T_ARENA + t_prng_below(&w.prng, T_ARENA_LEN / 2);
        request.highest.raw = request.lowest.raw + T_ARENA_LEN / 4;
    }
    if (refused(mm_kva_alloc(&w.rig.kva, &request, &at))) {
        return;
    }
    s->start = at.raw;
    took(s);
    assert_true(request.align == 0 || mm_is_aligned(at.raw, request.align));
    if (request.highest.raw != 0) {
        assert_true(s->start - s->before * PAGE >= request.lowest.raw);
        assert_true(s->start + (s->nr_pages + s->after) * PAGE - 1 <= request.highest.raw);
    }
}

/* Whether the model forbids it; of what waits for a purge it knows nothing. */
static bool is_alias(uint64_t paddr, uint64_t nr_pages, mm_memtype_t type)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *o = &w.slots[i];

        if (o->out && o->kind == MM_KVA_DEVICE && o->type != type &&
            mm_range_overlaps(o->paddr, o->nr_pages * PAGE, paddr, nr_pages * PAGE)) {
            return true;
        }
    }
    return false;
}

static void take_device(struct slot *s)
{
    static const mm_memtype_t types[] = {MM_MEMTYPE_UC, MM_MEMTYPE_UC, MM_MEMTYPE_WC};
    uint64_t from = t_prng_below(&w.prng, NR_DEVICE * PAGE);
    uint64_t len = t_prng_range(&w.prng, 1, 3 * PAGE);
    mm_vaddr_t at;
    mm_status_t status;

    s->kind = MM_KVA_DEVICE;
    s->type = types[t_prng_below(&w.prng, 3)];
    s->offset = from % PAGE;
    s->paddr = DEVICES + from - s->offset;
    s->nr_pages = (s->offset + len + PAGE - 1) / PAGE;
    s->before = s->after = 1;
    status = mm_kva_map(&w.rig.kva, mm_prange(mm_paddr(DEVICES + from), len), MM_PROT_RW, s->type,
                        0, &at);
    if (status == MM_ERR_ALREADY_MAPPED) {
        assert_true(is_alias(s->paddr, s->nr_pages, s->type));
        w.nr_aliases++;
        return;
    }
    if (refused(status)) {
        return;
    }
    assert_false(is_alias(s->paddr, s->nr_pages, s->type));
    assert_int_equal(at.raw % PAGE, s->offset);
    s->start = at.raw - s->offset;
    took(s);
}

static void take_stack(struct slot *s)
{
    uint64_t kept = rig_stats(&w.rig).nr_stacks_kept;
    struct mm_vrange stack;

    s->kind = MM_KVA_STACK;
    s->nr_pages = 4;
    s->before = 2;
    s->after = 1;
    if (refused(mm_kva_stack_alloc(&w.rig.kva, 4 * PAGE, random_atomic(), &stack))) {
        return;
    }
    w.nr_reused += rig_stats(&w.rig).nr_stacks_kept < kept ? 1 : 0;
    s->start = stack.start.raw;
    took(s);
}

static void take_pages(struct slot *s)
{
    struct mm_page_source source = mm_page_source_kva(&w.rig.kva);
    void *pages = NULL;

    s->kind = MM_KVA_PAGES;
    s->nr_pages = random_pages();
    s->before = s->after = 1;
    if (refused(source.ops->alloc(source.ctx, s->nr_pages, 1, random_atomic() ? MM_PAGES_ATOMIC : 0,
                                  &pages))) {
        return;
    }
    s->start = (uint64_t)(uintptr_t)pages;
    took(s);
}

/* --- giving back ------------------------------------------------------------------------------ */

/* A part of a run of pages, at random: one that is out, as far as it is. */
static void give_part(struct slot *s)
{
    struct mm_page_source source = mm_page_source_kva(&w.rig.kva);
    uint64_t first = t_prng_below(&w.prng, s->nr_pages);
    uint64_t most = t_prng_chance(&w.prng, 1, 2) ? s->nr_pages : t_prng_range(&w.prng, 1, 4);
    uint64_t nr = 0;

    while (s->gone[first] != 0) {
        first = (first + 1) % s->nr_pages;
    }
    while (nr < most && first + nr < s->nr_pages && s->gone[first + nr] == 0) {
        s->gone[first + nr++] = 1;
    }
    stamps_hold(s, first, nr);
    source.ops->free(source.ctx, (void *)(uintptr_t)(s->start + first * PAGE), nr);
    s->nr_left -= nr;
    s->out = s->nr_left != 0;
    w.nr_parts += s->out ? 1 : 0;
}

/* A run gets longer where it lies, if it can: what waits for a purge the model does not know. */
static void grow(struct slot *s)
{
    struct mm_page_source source = mm_page_source_kva(&w.rig.kva);
    bool ends = s->gone[0] == 0 && s->gone[s->nr_pages - 1] == 0;
    uint64_t more = random_pages();
    uint64_t was = s->nr_pages;
    mm_status_t status;

    if (was + more > MAX_PAGES) {
        return;
    }
    status = source.ops->extend(source.ctx, (void *)(uintptr_t)s->start, was, more,
                                random_atomic() ? MM_PAGES_ATOMIC : 0);
    if (!ends) {
        assert_int_equal(status, MM_ERR_INVALID_ARGUMENT);
        return;
    }
    if (status == MM_ERR_REGION_NOT_FOUND || refused(status)) {
        return;
    }
    s->nr_pages += more;
    s->nr_left += more;
    assert_false(overlaps_another(s));
    assert_true(mm_range_covers(T_ARENA, T_ARENA_LEN, s->start, (s->nr_pages + 1) * PAGE));
    for (uint64_t i = was; i < s->nr_pages; i++) {
        s->gone[i] = 0;
        *page_of(s->start + i * PAGE) = s->stamp + i;
    }
    w.nr_grown++;
}

static void give(struct slot *s)
{
    if (s->kind == MM_KVA_PAGES) {
        give_part(s);
        return;
    }
    stamps_hold(s, 0, s->nr_pages);
    if (s->kind == MM_KVA_STACK) {
        mm_kva_stack_free(&w.rig.kva, mm_vaddr(s->start));
    } else {
        mm_kva_free(&w.rig.kva, mm_vaddr(s->start + (s->kind == MM_KVA_DEVICE ? s->offset : 0)));
    }
    s->out = false;
}

/* --- looking ---------------------------------------------------------------------------------- */

/* Any CPU, any page of a slot or its guards, also of one that was freed. */
static void touch(struct slot *s)
{
    uint64_t page = t_prng_below(&w.prng, s->before + s->nr_pages + s->after);
    bool inside = page >= s->before && page < s->before + s->nr_pages;
    uint64_t at = s->start + (page - s->before) * PAGE + 8;
    uint32_t what = rig_touch(&w.rig, (unsigned)t_prng_below(&w.prng, NR_CPUS), at);

    if (s->out && inside && s->kind != MM_KVA_DEVICE &&
        (s->kind != MM_KVA_PAGES || s->gone[page - s->before] == 0)) {
        assert_int_equal(what, T_CPU_DONE);
    } else if (s->out && !inside) {
        assert_int_not_equal(what, T_CPU_DONE);
    }
}

static void explain(struct slot *s)
{
    uint64_t page = t_prng_below(&w.prng, s->before + s->nr_pages + s->after);
    struct mm_kva_place place;
    enum mm_kva_place_where where;

    if (!s->out) {
        return;
    }
    assert_int_equal(
        mm_kva_explain(&w.rig.kva, mm_vaddr(s->start + (page - s->before) * PAGE), &place), MM_OK);
    where = page < s->before                                            ? MM_KVA_GUARD_BELOW
            : page - s->before >= s->nr_pages                           ? MM_KVA_GUARD_ABOVE
            : s->kind == MM_KVA_PAGES && s->gone[page - s->before] != 0 ? MM_KVA_FREED
                                                                        : MM_KVA_INSIDE;
    assert_int_equal(place.kind, s->kind);
    assert_int_equal(place.where, where);
    assert_int_equal(place.range.start.raw, s->start);
    assert_int_equal(place.range.len, s->nr_pages * PAGE);
    w.nr_explained++;
}

/* What all CPUs have cached leads nowhere that is free; counts agree with the model. */
static void look(void)
{
    uint64_t nr_out = 0;
    uint64_t nr_ranges = 0;

    for (unsigned i = 0; i < SLOTS; i++) {
        nr_out += w.slots[i].out ? 1 : 0;
    }
    for (unsigned i = 0; i < MM_KVA_KINDS; i++) {
        nr_ranges += rig_stats(&w.rig).nr_ranges[i];
    }
    assert_true(nr_ranges >= nr_out);
    T_LEGAL(t_cpus_sweep(&w.rig.m.cpus, T_SWEEP_SAFE));
    assert_int_equal(mm_kva_check(&w.rig.kva), MM_OK);
}

static void step(unsigned n)
{
    struct slot *s = &w.slots[t_prng_below(&w.prng, SLOTS)];
    uint64_t what = t_prng_below(&w.prng, 100);

    w.rig.m.cpus.now = (unsigned)t_prng_below(&w.prng, NR_CPUS);
    if (what < 30) {
        touch(s);
    } else if (what < 40) {
        explain(s);
    } else if (what < 42) {
        w.nr_purged += mm_kva_purge(&w.rig.kva);
    } else if (s->out && s->kind == MM_KVA_PAGES && what < 55) {
        grow(s);
    } else if (s->out) {
        give(s);
    } else if (what < 64) {
        take_memory(s);
    } else if (what < 76) {
        take_stack(s);
    } else if (what < 88) {
        take_pages(s);
    } else {
        take_device(s);
    }
    if (n % 20000 == 15000) {
        t_machine_leave_frames(&w.rig.m, t_prng_below(&w.prng, 64));
    } else if (n % 20000 == 17000) {
        t_machine_leave_frames(&w.rig.m, UINT64_MAX);
    }
    if (n % 512 == 0) {
        look();
    }
}

static void test_random(void **state)
{
    const struct t_machine_config machine = {
        .ram_len = 16 * MIB, .pool_len = 8 * MIB, .nr_cpus = NR_CPUS};

    (void)state;
    memset(&w, 0, sizeof(w));
    rig_machine(&w.rig, &machine);
    w.rig.config.red_zone_pages = 2;
    w.rig.config.nr_stacks = 3;
    w.rig.config.nr_reserve_tables = 6;
    w.rig.config.purge_pages = 300;
    rig_up(&w.rig);
    t_prng_start(&w.prng, "kva");
    t_cpus_noise(&w.rig.m.cpus, t_prng_u64(&w.prng), 16);
    for (unsigned n = 0; n < STEPS; n++) {
        step(n);
    }
    t_machine_leave_frames(&w.rig.m, UINT64_MAX);
    for (unsigned i = 0; i < SLOTS; i++) {
        while (w.slots[i].out) {
            give(&w.slots[i]);
        }
    }
    for (unsigned i = 0; i < MM_KVA_KINDS; i++) {
        assert_true(i == MM_KVA_PERCPU || i == MM_KVA_GUARDED || w.nr_done[i] > STEPS / 200);
    }
    assert_true(w.nr_aliases > STEPS / 2000 && w.nr_parts > STEPS / 2000);
    assert_true(w.nr_refused > 0 && w.nr_purged > 0 && w.nr_reused > STEPS / 2000);
    assert_true(w.nr_explained > STEPS / 200 && w.nr_grown > STEPS / 2000);
    rig_stop(&w.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
