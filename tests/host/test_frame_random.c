// SPDX-License-Identifier: MIT
/**
 * A million random operations against the model of frames, which says of each answer whether it was
 * allowed, and of "no memory" whether it was true: for those nodes, and for who asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "core/frame/state.h"
#include "frame_rig.h"
#include "ledger_mm.h"
#include "model_frames.h"
#include "numa_blob.h"
#include "prng.h"

/* A million in four worlds. */
#define OPERATIONS (MM_TEST_SANITIZED ? 26000 : 260000)
#define LIVE_MAX   20000
#define NR_CPUS    4u
#define NODES_MAX  3u

struct piece {
    uint64_t start;
    uint64_t len;
    uint32_t node;
};

/* Odd edges, a hole inside of 2 MiB, lines that are whole, frame 0. */
static const struct piece machine[] = {{0, 636 * KIB, 0},
                                       {1 * MIB, 5 * MIB + 4096, 0},
                                       {7 * MIB, 1 * MIB, 0},
                                       {14 * MIB, 6 * MIB, 0},
                                       {4 * GIB, 4 * MIB, 0},
                                       {5 * GIB - 8192, 3 * MIB, 0},
                                       {0, 0, 0}};

/* Nodes that meet within 2 MiB, and one whose memory lies in two places. */
static const struct piece nodes[] = {{0, 636 * KIB, 0},
                                     {1 * MIB, 3 * MIB + 4096, 0},
                                     {4 * MIB + 4096, 4 * MIB, 1},
                                     {16 * MIB, 3 * MIB, 2},
                                     {19 * MIB, 3 * MIB, 0},
                                     {4 * GIB, 5 * MIB, 2},
                                     {5 * GIB - 8192, 3 * MIB, 1},
                                     {0, 0, 0}};

/* Who may have a frame, beside its node: kinds of the model are 4 * node + one of these. */
enum class { ANYBODY, NO_USER, ONLY_ATOMIC };

struct setting {
    const char *name;
    const struct piece *pieces;
    uint32_t nr_nodes;
    uint32_t flags;
    uint64_t nr_reserve;
    uint64_t nr_kernel;
};

struct run {
    uint64_t first;
    uint64_t nr;
};

struct world {
    struct rig rig;
    const struct setting *setting;
    struct mm_numa numa;
    struct mm_numa_range ranges[MM_NUMA_CAPACITY(16)];
    struct mm_numa_cpu cpus[NR_CPUS];
    struct t_mframes model;
    struct t_prng prng;
    struct run live[LIVE_MAX]; /* what is allocated, in pieces that may be freed as they are */
    size_t nr_live;
    bool counted;     /* with reference counts */
    uint64_t nr_none; /* how often there was no memory */
};

static uint64_t below(struct world *w, uint64_t n)
{
    return t_prng_below(&w->prng, n);
}

static void keep(struct world *w, uint64_t first, uint64_t nr)
{
    assert_true(w->nr_live < LIVE_MAX);
    w->live[w->nr_live++] = (struct run){first, nr};
}

static struct run pick(struct world *w)
{
    size_t i = (size_t)below(w, w->nr_live);
    struct run run = w->live[i];

    w->live[i] = w->live[--w->nr_live];
    return run;
}

/* Which nodes a request may get, a bit each. */
static uint64_t nodes_of(const struct world *w, const struct mm_frame_request *r)
{
    uint64_t all = (UINT64_C(1) << w->setting->nr_nodes) - 1;

    return r->node_policy == MM_NODE_REQUIRED ? UINT64_C(1) << r->node
           : r->nodes != 0                    ? r->nodes
                                              : all;
}

/* Kinds of frames that will do. */
static uint64_t kinds_of(const struct mm_frame_request *r, uint64_t node_mask)
{
    bool user = r->owner == MM_OWNER_ANONYMOUS || r->owner == MM_OWNER_OBJECT;
    bool atomic = (r->flags & MM_FRAME_ATOMIC) != 0 && !user;
    uint64_t classes = UINT64_C(1) << ANYBODY | (uint64_t)(user ? 0 : 1) << NO_USER |
                       (uint64_t)(atomic ? 1 : 0) << ONLY_ATOMIC;
    uint64_t kinds = 0;

    for (unsigned node = 0; node < NODES_MAX; node++) {
        kinds |= (node_mask >> node & 1) != 0 ? classes << (4 * node) : 0;
    }
    return kinds;
}

/* Who asks, for how long, and from which nodes. */
static struct mm_frame_request any_request(struct world *w)
{
    uint32_t nr_nodes = w->setting->nr_nodes;
    struct mm_frame_request r = {
        .flags = below(w, 8) == 0 ? MM_FRAME_ATOMIC : 0,
        .lifetime = (uint32_t)below(w, MM_LIFETIME_SHORT + 1),
        .owner = (uint32_t)below(w, MM_OWNER_COUNT),
        .tag = below(w, 4) == 0 ? MM_FRAME_TAG_MAX : below(w, 1000),
    };

    w->rig.cpu = (uint32_t)below(w, NR_CPUS);
    if (below(w, 3) == 0) {
        r.node_policy = (uint32_t)below(w, MM_NODE_INTERLEAVE + 1);
    }
    if (r.node_policy == MM_NODE_PREFERRED || r.node_policy == MM_NODE_REQUIRED) {
        r.node = (uint32_t)below(w, nr_nodes);
    } else if (r.node_policy == MM_NODE_BIND) {
        r.nodes = 1 + below(w, (UINT64_C(1) << nr_nodes) - 1);
    } else if (r.node_policy == MM_NODE_INTERLEAVE) {
        r.nodes = below(w, UINT64_C(1) << nr_nodes);
    }
    return r;
}

/* "No memory" must be the truth; frame 0 does not count. */
static void must_be_full(struct world *w, struct t_mframe_search search)
{
    search.low = search.low == 0 ? 1 : search.low;
    search.within = true;
    assert_true(t_mframes_find(&w->model, &search) == T_MFRAMES_NONE);
    w->nr_none++;
}

static const uint32_t cpu_nodes[NR_CPUS] = {0, 1, 2, 1};

/* If it was not the node that is preferred, that has nothing, but for memory of the ISA bus. Who
 * prefers the CPU's own is served from the line of the CPU's hint, which may be far away when memory
 * near by comes back. */
static void must_be_near(struct world *w, const struct mm_frame_request *r, uint64_t pfn,
                         struct t_mframe_search search)
{
    uint64_t near = kinds_of(r, UINT64_C(1) << r->node);

    if (r->node_policy == MM_NODE_PREFERRED && r->node != cpu_nodes[w->rig.cpu] &&
        !t_mframes_of_kinds(&w->model, pfn, 1, near)) {
        search.kinds = near;
        search.low = 16 * MIB / 4096;
        search.within = true;
        assert_true(t_mframes_find(&w->model, &search) == T_MFRAMES_NONE);
    }
}

static void do_alloc_order(struct world *w)
{
    struct mm_frame_request request = any_request(w);
    struct t_mframe_search search = {.kinds = kinds_of(&request, nodes_of(w, &request))};
    mm_pfn_t pfn = {77};
    mm_status_t status;

    request.order = (uint32_t)below(w, below(w, 4) == 0 ? 13 : 4);
    search.nr = UINT64_C(1) << request.order;
    search.align = search.nr;
    status = mm_frame_alloc(&w->rig.frames, &request, &pfn);
    if (status == MM_OK) {
        must_be_near(w, &request, pfn.raw, search);
        T_LEGAL(t_mframes_alloc(&w->model, pfn.raw, request.order));
        assert_true(t_mframes_of_kinds(&w->model, pfn.raw, search.nr, search.kinds));
        keep(w, pfn.raw, search.nr);
        return;
    }
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    assert_int_equal(pfn.raw, 77);
    must_be_full(w, search);
}

static void do_alloc_one(struct world *w)
{
    const struct mm_frame_request plain = {0};
    uint64_t kinds = kinds_of(&plain, UINT64_MAX);
    mm_pfn_t pfn = {77};
    mm_status_t status = mm_frame_alloc_on(&w->rig.frames, (uint32_t)below(w, NR_CPUS + 1), &pfn);

    if (status == MM_OK) {
        T_LEGAL(t_mframes_alloc(&w->model, pfn.raw, 0));
        assert_true(t_mframes_of_kinds(&w->model, pfn.raw, 1, kinds));
        keep(w, pfn.raw, 1);
        return;
    }
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    must_be_full(w, (struct t_mframe_search){.nr = 1, .kinds = kinds});
}

/* Limits for a run: alignment, a boundary, a window. */
static void limit(struct world *w, struct mm_frame_request *request, struct t_mframe_search *search)
{
    uint64_t boundary = UINT64_C(1) << below(w, 12);
    uint64_t low = t_prng_magnitude(&w->prng, 21);
    uint64_t end = low + t_prng_magnitude(&w->prng, 21);

    if (below(w, 2) == 0) {
        search->align = UINT64_C(1) << below(w, 8);
        request->align = search->align * 4096;
    }
    if (below(w, 2) == 0 && boundary >= search->nr) {
        search->boundary = boundary;
        request->boundary = boundary * 4096;
    }
    if (below(w, 2) == 0 && end > low) {
        search->low = low;
        search->limit = end;
        request->lowest.raw = low * 4096 - (low == 0 ? 0 : below(w, 4096));
        request->highest.raw = end * 4096 - 1 + below(w, 4096);
    }
}

static void do_alloc_run(struct world *w)
{
    struct mm_frame_request request = any_request(w);
    struct t_mframe_search search = {
        .nr = 1 + t_prng_magnitude(&w->prng, below(w, 4) == 0 ? 10 : 5),
        .kinds = kinds_of(&request, nodes_of(w, &request)),
    };
    mm_pfn_t pfn = {77};
    mm_status_t status;

    request.nr_frames = search.nr;
    if (below(w, 3) != 0) {
        limit(w, &request, &search);
    }
    status = mm_frame_alloc(&w->rig.frames, &request, &pfn);
    if (status == MM_OK) {
        T_LEGAL(t_mframes_alloc_run(&w->model, pfn.raw, search.nr));
        assert_true(t_mframes_of_kinds(&w->model, pfn.raw, search.nr, search.kinds));
        assert_true(pfn.raw >= search.low);
        assert_true(search.limit == 0 || pfn.raw + search.nr <= search.limit);
        assert_true(search.align == 0 || pfn.raw % search.align == 0);
        assert_true(search.boundary == 0 ||
                    pfn.raw / search.boundary == (pfn.raw + search.nr - 1) / search.boundary);
        keep(w, pfn.raw, search.nr);
        return;
    }
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    must_be_full(w, search);
}

static uint64_t any_frame(struct world *w)
{
    const struct t_mframe_span *span = &w->model.spans[below(w, w->model.nr_spans)];

    return span->first + below(w, span->nr + 4) - (span->first == 0 ? 0 : below(w, 3));
}

static void do_alloc_at(struct world *w)
{
    uint64_t first = any_frame(w);
    uint64_t nr = 1 + t_prng_magnitude(&w->prng, 8);
    mm_status_t status = mm_frame_alloc_at(&w->rig.frames, mm_pfn(first), nr);
    bool present = true;

    for (uint64_t i = 0; i < nr; i++) {
        present = present && t_mframes_state(&w->model, first + i) != T_MFRAME_ABSENT;
    }
    if (!present) {
        assert_int_equal(status, MM_ERR_INVALID_ADDRESS);
    } else if (t_mframes_all(&w->model, first, nr, T_MFRAME_FREE)) {
        assert_int_equal(status, MM_OK);
        T_LEGAL(t_mframes_alloc_run(&w->model, first, nr));
        keep(w, first, nr);
    } else {
        assert_int_equal(status, MM_ERR_BUSY);
    }
}

static void do_alloc_bulk(struct world *w)
{
    static mm_pfn_t list[1024];
    const struct mm_frame_request plain = {0};
    uint64_t kinds = kinds_of(&plain, UINT64_MAX);
    size_t count = (size_t)t_prng_magnitude(&w->prng, 10);
    size_t done = 77777;
    mm_status_t status =
        mm_frame_alloc_bulk(&w->rig.frames, (uint32_t)below(w, 4), list, count, &done);

    assert_true(done <= count);
    for (size_t i = 0; i < done; i++) {
        assert_int_not_equal(list[i].raw, 0);
        T_LEGAL(t_mframes_alloc(&w->model, list[i].raw, 0));
        assert_true(t_mframes_of_kinds(&w->model, list[i].raw, 1, kinds));
    }
    assert_int_equal(status, done == count ? MM_OK : MM_ERR_NO_MEMORY);
    if (status != MM_OK) {
        must_be_full(w, (struct t_mframe_search){.nr = 1, .kinds = kinds});
    }
    /* Back at once, in any order, but for some. */
    t_prng_shuffle(&w->prng, list, done, sizeof(list[0]));
    while (done > 0 && below(w, 4) != 0) {
        keep(w, list[--done].raw, 1);
    }
    for (size_t i = 0; i < done; i++) {
        T_LEGAL(t_mframes_free(&w->model, list[i].raw, 0));
    }
    mm_frame_free_bulk(&w->rig.frames, list, done);
}

/* Free a piece of what is live, whole or in parts. */
static void do_free(struct world *w)
{
    struct run run = pick(w);
    uint64_t nr = run.nr;

    if (nr > 1 && below(w, 3) == 0) {
        nr = 1 + below(w, nr);
        if (nr < run.nr) {
            keep(w, run.first + nr, run.nr - nr);
        }
    }
    if (nr == 1 && w->counted && below(w, 2) == 0) {
        T_LEGAL(t_mframes_put(&w->model, run.first));
        assert_true(mm_frame_put(&w->rig.frames, mm_pfn(run.first)));
        return;
    }
    T_LEGAL(t_mframes_free_run(&w->model, run.first, nr));
    if ((nr & (nr - 1)) == 0 && run.first % nr == 0) {
        mm_frame_free(&w->rig.frames, mm_pfn(run.first), (uint32_t)__builtin_ctzll(nr));
    } else {
        mm_frame_free_run(&w->rig.frames, mm_pfn(run.first), nr);
    }
}

/* References come and go, and are back to one. */
static void do_references(struct world *w)
{
    struct run run = w->live[below(w, w->nr_live)];
    uint64_t pfn = run.first + below(w, run.nr);
    uint64_t nr = below(w, 5);

    if (!w->counted) {
        return;
    }
    for (uint64_t i = 0; i < nr; i++) {
        T_LEGAL(t_mframes_get(&w->model, pfn));
        mm_frame_get(&w->rig.frames, mm_pfn(pfn));
        assert_int_equal(mm_frame_refs(&w->rig.frames, mm_pfn(pfn)),
                         t_mframes_refs(&w->model, pfn));
    }
    for (uint64_t i = 0; i < nr; i++) {
        T_LEGAL(t_mframes_put(&w->model, pfn));
        assert_false(mm_frame_put(&w->rig.frames, mm_pfn(pfn)));
    }
    assert_int_equal(mm_frame_refs(&w->rig.frames, mm_pfn(pfn)), 1);
}

/* A free that the model forbids panics, and changes nothing. */
static void do_misuse(struct world *w)
{
    uint64_t pfn = any_frame(w);
    uint32_t order = (uint32_t)below(w, 5);
    struct t_trap_info info;

    pfn &= ~((UINT64_C(1) << order) - 1);
    if (t_mframes_all(&w->model, pfn, UINT64_C(1) << order, T_MFRAME_USED)) {
        return;
    }
    T_EXPECT_PANIC(mm_frame_free(&w->rig.frames, mm_pfn(pfn), order), &info);
    assert_int_not_equal(t_mframes_state(&w->model, info.address / 4096), T_MFRAME_USED);
    assert_true(info.address / 4096 - pfn < UINT64_C(1) << order);
}

/* Each frame in use is of the model, with as many references. */
static void audit(struct world *w)
{
    uint64_t nr = 6 * GIB / 4096;
    struct t_ledger *ledger = t_ledger_open(&w->rig.frames, 0, nr);

    for (size_t i = 0; i < w->nr_live; i++) {
        for (uint64_t pfn = w->live[i].first; pfn < w->live[i].first + w->live[i].nr; pfn++) {
            uint32_t refs = t_mframes_refs(&w->model, pfn);

            for (uint32_t r = 0; r < refs && refs != T_MFRAMES_IMMORTAL; r++) {
                t_ledger_hold(ledger, pfn, 1);
            }
        }
    }
    T_LEGAL(t_ledger_close(ledger, 0));
}

/* Blocks of 2 MiB that are free as a whole, none over the edge of a node. */
static uint64_t count_free_2m(struct world *w)
{
    struct t_mframe_search search = {.nr = 512, .align = 512, .within = true};
    uint64_t nr = 0;

    for (; (search.low = t_mframes_find(&w->model, &search)) != T_MFRAMES_NONE; nr++) {
        search.low += 512;
    }
    return nr;
}

static void compare(struct world *w)
{
    struct mm_frame_stats stats = rig_stats(&w->rig);

    rig_check(&w->rig);
    assert_int_equal(stats.nr_free, t_mframes_count(&w->model, T_MFRAME_FREE));
    assert_int_equal(stats.nr_free_2m, count_free_2m(w));
    for (unsigned i = 0; i < 64; i++) {
        uint64_t pfn = any_frame(w);
        enum t_mframe_state state = t_mframes_state(&w->model, pfn);

        assert_int_equal(mm_frame_managed(&w->rig.frames, mm_pfn(pfn)), state != T_MFRAME_ABSENT);
        assert_int_equal(mm_frame_allocated(&w->rig.frames, mm_pfn(pfn)), state == T_MFRAME_USED);
    }
}

static void step(struct world *w, bool filling)
{
    uint64_t dice = below(w, 100);

    if (dice < 3) {
        do_misuse(w);
    } else if (dice < 10 && w->nr_live != 0) {
        do_references(w);
    } else if (dice < (filling ? 35u : 65u) && w->nr_live != 0) {
        do_free(w);
    } else if (dice < 75) {
        do_alloc_one(w);
    } else if (dice < 88) {
        do_alloc_order(w);
    } else if (dice < 95) {
        do_alloc_run(w);
    } else if (dice < 98) {
        do_alloc_bulk(w);
    } else {
        do_alloc_at(w);
    }
}

/* Tables that say what the pieces are; the far nodes are not equally far. */
static void make_numa(struct world *w)
{
    static const uint8_t distances[NODES_MAX * NODES_MAX] = {10, 20, 30, 20, 10, 20, 30, 20, 10};
    static struct numa_blob blob;
    struct mm_numa_error error;

    assert_int_equal(mm_numa_init(&w->numa, w->ranges, MM_NUMA_CAPACITY(16), w->cpus, NR_CPUS),
                     MM_OK);
    numa_srat(&blob, 3);
    for (uint32_t node = 0; node < w->setting->nr_nodes; node++) {
        (void)numa_apic(&blob, node, (uint8_t)node, 1);
    }
    for (const struct piece *p = w->setting->pieces; p->len != 0; p++) {
        (void)numa_memory(&blob, p->node, p->start, p->len, 1);
    }
    numa_end(&blob);
    assert_int_equal(mm_numa_read_srat(&w->numa, blob.bytes, blob.len, &error), MM_OK);
    assert_int_equal(w->numa.nr_nodes, w->setting->nr_nodes);
    numa_slit(&blob, NODES_MAX);
    memcpy(&blob.bytes[44], distances, sizeof(distances));
    numa_end(&blob);
    assert_int_equal(mm_numa_read_slit(&w->numa, blob.bytes, blob.len, &error), MM_OK);
}

/* The class of each frame, as the allocator has chosen its lines: as many as it was told to. */
static void learn_classes(struct world *w)
{
    uint64_t nr[ONLY_ATOMIC + 1] = {0};
    const struct mm_frames *f = &w->rig.frames;

    for (const struct piece *p = w->setting->pieces; p->len != 0; p++) {
        for (uint64_t pfn = p->start / 4096; pfn < (p->start + p->len) / 4096; pfn++) {
            uint64_t line = mmi_frame_slot(f, pfn) / MMI_LINE_FRAMES;
            enum class class = mmi_line_bit(f, line, MMI_RESERVE)  ? ONLY_ATOMIC
                               : mmi_line_bit(f, line, MMI_KERNEL) ? NO_USER
                                                                   : ANYBODY;

            t_mframes_set_kind(&w->model, pfn, 1, 4 * p->node + class);
            nr[class]++;
        }
    }
    assert_in_range(nr[ONLY_ATOMIC], w->setting->nr_reserve, w->setting->nr_reserve + 511);
    assert_in_range(nr[NO_USER], w->setting->nr_kernel, w->setting->nr_kernel + 511);
}

static void start_world(struct world *w, const struct setting *setting)
{
    uint64_t ranges[2 * 16] = {0};
    uint64_t len = 0;
    unsigned nr = 0;

    memset(w, 0, sizeof(*w));
    w->setting = setting;
    w->counted = (setting->flags & MM_FRAMES_REFCOUNTS) != 0;
    t_prng_start(&w->prng, setting->name);
    t_mframes_init(&w->model);
    for (const struct piece *p = setting->pieces; p->len != 0; p++) {
        ranges[nr++] = p->start;
        ranges[nr++] = p->len;
        T_LEGAL(t_mframes_add(&w->model, p->start / 4096, p->len / 4096, T_MFRAME_FREE));
    }
    rig_map(&w->rig, ranges);
    w->rig.config = (struct mm_frames_config){.map = &w->rig.map,
                                              .platform = rig_platform(&w->rig),
                                              .nr_cpus = NR_CPUS,
                                              .flags = setting->flags,
                                              .nr_reserve = setting->nr_reserve,
                                              .nr_kernel = setting->nr_kernel};
    if (setting->nr_nodes > 1) {
        make_numa(w);
        w->rig.config.numa = &w->numa;
        w->rig.config.cpu_nodes = cpu_nodes;
    }
    assert_int_equal(mm_frame_metadata_size(&w->rig.config, &len), MM_OK);
    w->rig.config.metadata = aligned_alloc(MM_CACHE_LINE, len);
    w->rig.config.metadata_len = len;
    assert_non_null(w->rig.config.metadata);
    memset(w->rig.config.metadata, 0, len);
    assert_int_equal(mm_frame_init(&w->rig.frames, &w->rig.config), MM_OK);
    learn_classes(w);
}

static void run_world(const struct setting *setting)
{
    static struct world w;
    bool filling = true;

    start_world(&w, setting);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        if (below(&w, 700) == 0) {
            filling = !filling;
        }
        step(&w, filling);
        if (i % 1000 == 0) {
            compare(&w);
            audit(&w);
        }
    }
    compare(&w);
    audit(&w);
    print_message("%u operations, %llu found no memory\n", (unsigned)OPERATIONS,
                  (unsigned long long)w.nr_none);
    assert_true(w.nr_none > OPERATIONS / 100);
    while (w.nr_live > 0) {
        do_free(&w);
    }
    compare(&w);
    assert_int_equal(rig_stats(&w.rig).nr_allocated, 0);
    rig_stop(&w.rig);
    t_mframes_destroy(&w.model);
}

static void bitmap_alone(void **state)
{
    static const struct setting setting = {"frame_random", machine, 1, 0, 0, 0};

    (void)state;
    run_world(&setting);
}

static void with_counts_and_owners(void **state)
{
    static const struct setting setting = {"frame_random_counted", machine, 1, RIG_RECORDS, 0, 0};

    (void)state;
    run_world(&setting);
}

static void on_nodes(void **state)
{
    static const struct setting setting = {"frame_random_nodes", nodes, 3,
                                           MM_FRAMES_REFCOUNTS,  0,     0};

    (void)state;
    run_world(&setting);
}

static void with_withheld_memory(void **state)
{
    static const struct setting setting = {
        "frame_random_withheld", nodes, 3, RIG_RECORDS, 700, 600};

    (void)state;
    run_world(&setting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bitmap_alone),
        cmocka_unit_test(with_counts_and_owners),
        cmocka_unit_test(on_nodes),
        cmocka_unit_test(with_withheld_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
