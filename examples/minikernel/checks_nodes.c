// SPDX-License-Identifier: MIT
//
// Nodes: frames come from where each policy says, by the addresses that the firmware's table gives to
// a node. On a machine with one node the same checks run on that.

#include <stdatomic.h>
#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "log.h"
#include "percpu.h"
#include "smp.h"
#include "trade.h"

#define NR_TAKEN   64
#define NODE_STEPS 8000

static uint64_t bit(uint32_t node)
{
    return UINT64_C(1) << node;
}

static uint32_t node_of(const struct memory *m, mm_pfn_t frame)
{
    return mm_numa_node_near(&m->numa, mm_pfn_addr(frame));
}

static uint64_t nr_free_of(const struct memory *m, uint32_t node)
{
    struct mm_frame_stats s;
    must(mm_frame_get_stats_of(&m->frames, node, MM_ZONE_ALL, &s), "figures of a node");
    return s.nr_free;
}

// Nodes that have some memory free.
static uint64_t nodes_with_memory(const struct memory *m)
{
    uint64_t nodes = 0;
    for (uint32_t node = 0; node < m->numa.nr_nodes; node++) {
        nodes |= nr_free_of(m, node) > NR_TAKEN ? bit(node) : 0;
    }
    return nodes;
}

// Of some nodes those that are nearest to one.
static uint64_t nearest(const struct memory *m, uint32_t from, uint64_t nodes)
{
    uint64_t found = 0;
    uint32_t least = UINT32_MAX;

    for (uint32_t node = 0; node < m->numa.nr_nodes; node++) {
        uint32_t distance = mm_numa_distance(&m->numa, from, node);
        if ((nodes & bit(node)) == 0 || distance > least) {
            continue;
        }
        found = distance < least ? bit(node) : found | bit(node);
        least = distance;
    }
    return found;
}

// ---- figures --------------------------------------------------------------------------------------

static void add(struct mm_frame_stats *sum, const struct mm_frame_stats *s)
{
    sum->nr_frames += s->nr_frames;
    sum->nr_free += s->nr_free;
    sum->nr_allocated += s->nr_allocated;
    sum->nr_free_2m += s->nr_free_2m;
    for (unsigned i = 0; i < MM_OWNER_COUNT; i++) {
        sum->nr_by_owner[i] += s->nr_by_owner[i];
    }
}

static bool same(const struct mm_frame_stats *a, const struct mm_frame_stats *b)
{
    bool owners = true;
    for (unsigned i = 0; i < MM_OWNER_COUNT; i++) {
        owners = owners && a->nr_by_owner[i] == b->nr_by_owner[i];
    }
    return owners && a->nr_frames == b->nr_frames && a->nr_free == b->nr_free &&
           a->nr_allocated == b->nr_allocated && a->nr_free_2m == b->nr_free_2m;
}

static bool figures_add_up(const struct memory *m)
{
    struct mm_frame_stats all;
    struct mm_frame_stats by_node = {0};
    bool zones = true;

    must(mm_frame_get_stats(&m->frames, &all), "frame statistics");
    for (uint32_t node = 0; node < m->numa.nr_nodes; node++) {
        struct mm_frame_stats s;
        struct mm_frame_stats of_node;
        struct mm_frame_stats by_zone = {0};

        must(mm_frame_get_stats_of(&m->frames, node, MM_ZONE_ALL, &of_node), "figures of a node");
        for (uint32_t zone = 0; zone < MM_ZONE_COUNT; zone++) {
            must(mm_frame_get_stats_of(&m->frames, node, zone, &s), "figures of a zone");
            add(&by_zone, &s);
        }
        zones = zones && same(&by_zone, &of_node);
        add(&by_node, &of_node);
    }
    return zones && same(&by_node, &all);
}

// Each piece of memory belongs to the node that the firmware's table says, from end to end; all of
// them are all there is.
static bool pieces_are_true(const struct memory *m)
{
    struct mm_frame_stats s;
    struct mm_prange piece;
    uint32_t node;
    enum mm_zone zone;
    uint64_t nr = 0;
    mm_pfn_t at = mm_pfn(0);

    while (mm_frame_next_memory(&m->frames, at, &piece, &node, &zone) == MM_OK) {
        mm_pfn_t first = mm_pfn_of(piece.start);
        uint64_t nr_here = piece.len / MM_PAGE_SIZE;

        for (uint64_t i = 0; i < nr_here; i++) {
            if (node_of(m, mm_pfn(first.raw + i)) != node) {
                log_print("  frame 0x%lx is said to be on node %u\n", first.raw + i, node);
                return false;
            }
        }
        nr += nr_here;
        at = mm_pfn(first.raw + nr_here);
    }
    must(mm_frame_get_stats(&m->frames, &s), "frame statistics");
    return nr == s.nr_frames + s.nr_absent;
}

// ---- policies -------------------------------------------------------------------------------------

// So many frames, each from one of the nodes.
static bool all_from(struct memory *m, const struct mm_frame_request *request, uint64_t nodes)
{
    mm_pfn_t frames[NR_TAKEN];
    uint32_t nr = 0;
    bool good = true;

    for (; nr < NR_TAKEN && mm_frame_alloc(&m->frames, request, &frames[nr]) == MM_OK; nr++) {
        good = good && (nodes & bit(node_of(m, frames[nr]))) != 0;
    }
    good = good && nr == NR_TAKEN;
    while (nr > 0) {
        mm_frame_free(&m->frames, frames[--nr], 0);
    }
    return good;
}

static bool required(struct memory *m, uint64_t memory)
{
    bool good = true;
    for (uint32_t node = 0; node < m->numa.nr_nodes; node++) {
        struct mm_frame_request request = {.node_policy = MM_NODE_REQUIRED, .node = node};
        mm_pfn_t frame;
        good = good && ((memory & bit(node)) != 0
                            ? all_from(m, &request, bit(node))
                            : mm_frame_alloc(&m->frames, &request, &frame) == MM_ERR_NO_MEMORY);
    }
    return good;
}

static bool preferred(struct memory *m, uint64_t memory)
{
    bool good = true;
    for (uint32_t node = 0; node < m->numa.nr_nodes; node++) {
        struct mm_frame_request request = {.node_policy = MM_NODE_PREFERRED, .node = node};
        good = good && all_from(m, &request, nearest(m, node, memory));
    }
    return good;
}

static bool bound(struct memory *m, uint64_t memory)
{
    bool good = true;
    for (uint32_t node = 0; node < m->numa.nr_nodes; node++) {
        uint64_t others = m->numa.nr_nodes == 1 ? bit(node) : memory & ~bit(node);
        struct mm_frame_request request = {.node_policy = MM_NODE_BIND, .nodes = others};
        if (others != 0) {
            good = good && all_from(m, &request, nearest(m, m->cpu_nodes[0], others));
        }
    }
    return good;
}

// In turn: of frames that are a multiple of the nodes each node gives as many.
static bool interleaved(struct memory *m, uint64_t memory)
{
    struct mm_frame_request request = {.node_policy = MM_NODE_INTERLEAVE, .nodes = memory};
    mm_pfn_t frames[NR_TAKEN];
    uint32_t nr_of[MM_MAX_NODES] = {0};
    uint32_t nr_nodes = 0;
    uint32_t nr = 0;
    bool good = true;

    for (uint32_t node = 0; node < m->numa.nr_nodes; node++) {
        nr_nodes += (memory & bit(node)) != 0;
    }
    uint32_t each = NR_TAKEN / nr_nodes;
    for (; nr < each * nr_nodes && mm_frame_alloc(&m->frames, &request, &frames[nr]) == MM_OK;
         nr++) {
        nr_of[node_of(m, frames[nr])]++;
    }
    good = nr == each * nr_nodes;
    while (nr > 0) {
        mm_frame_free(&m->frames, frames[--nr], 0);
    }
    for (uint32_t node = 0; node < m->numa.nr_nodes; node++) {
        good = good && nr_of[node] == ((memory & bit(node)) != 0 ? each : 0);
    }
    return good;
}

static bool unknown_refused(struct memory *m)
{
    struct mm_frame_request request = {.node_policy = MM_NODE_REQUIRED, .node = m->numa.nr_nodes};
    struct mm_frame_stats s;
    mm_pfn_t frame;

    return mm_frame_alloc(&m->frames, &request, &frame) == MM_ERR_NODE_NOT_FOUND &&
           mm_frame_get_stats_of(&m->frames, m->numa.nr_nodes, MM_ZONE_ALL, &s) ==
               MM_ERR_NODE_NOT_FOUND;
}

void checks_nodes(struct memory *m)
{
    uint64_t memory = nodes_with_memory(m);

    check_theme("nodes");
    CHECK("figures of nodes and zones add up", figures_add_up(m));
    CHECK("memory is on the node that the firmware says", pieces_are_true(m));
    CHECK("frames come from the node nearest to the processor",
          all_from(m, NULL, nearest(m, m->cpu_nodes[0], memory)));
    CHECK("frames come from a node that is preferred, or the nearest to it", preferred(m, memory));
    CHECK("frames come from a node that is required, or not at all", required(m, memory));
    CHECK("frames come from the nearest of some nodes", bound(m, memory));
    CHECK("frames come from nodes in turn", interleaved(m, memory));
    CHECK("a node that does not exist is refused", unknown_refused(m));
}

// ---- all processors together ----------------------------------------------------------------------

struct crossing {
    struct memory *m;
    uint64_t memory; // nodes that have some
    atomic_uint nr_wrong;
};

static bool on_their_nodes(const struct memory *m)
{
    bool good = true;
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        good = good && memory_node_of_apic(m, percpus[cpu].apic_id) == m->cpu_nodes[cpu];
    }
    return good;
}

static void take_near(void *ctx, uint32_t cpu)
{
    struct crossing *c = ctx;
    if (!all_from(c->m, NULL, nearest(c->m, c->m->cpu_nodes[cpu], c->memory))) {
        atomic_fetch_add(&c->nr_wrong, 1);
    }
}

// A frame is the thing pfn << 8; its first word holds the mark.
static uint64_t *word_of(const struct trader *t, uint64_t thing)
{
    const struct crossing *c = t->trade->ctx;
    return mm_physmap_ptr(&c->m->physmap, mm_pfn_addr(mm_pfn(thing >> 8)));
}

// Policies and nodes by turns; `allowed` are the nodes that may answer.
static struct mm_frame_request next_request(const struct crossing *c, uint64_t turn,
                                            uint64_t *allowed)
{
    uint32_t node = (uint32_t)(turn / 5 % c->m->numa.nr_nodes);
    struct mm_frame_request request = {.node_policy = (uint32_t)(turn % 5)};

    *allowed = c->memory;
    if (request.node_policy == MM_NODE_REQUIRED && (c->memory & bit(node)) == 0) {
        request.node_policy = MM_NODE_PREFERRED;
    }
    if (request.node_policy == MM_NODE_REQUIRED || request.node_policy == MM_NODE_PREFERRED) {
        request.node = node;
        *allowed = nearest(c->m, node, c->memory);
    } else if (request.node_policy == MM_NODE_BIND) {
        request.nodes = c->memory & ~bit(node);
        request.nodes = request.nodes == 0 ? c->memory : request.nodes;
        *allowed = request.nodes;
    }
    return request;
}

static uint64_t take_frame(struct trader *t, uint64_t mark)
{
    const struct crossing *c = t->trade->ctx;
    uint64_t allowed;
    struct mm_frame_request request = next_request(c, mark >> 24, &allowed);
    mm_pfn_t frame;

    if (mm_frame_alloc(&c->m->frames, &request, &frame) != MM_OK) {
        return 0;
    }
    if ((allowed & bit(node_of(c->m, frame))) == 0) {
        trade_wrong(t, frame.raw << 8, allowed, bit(node_of(c->m, frame)));
    }
    *word_of(t, frame.raw << 8) = mark;
    return frame.raw << 8;
}

static uint64_t read_frame(struct trader *t, uint64_t thing)
{
    return *word_of(t, thing);
}

static void give_frame(struct trader *t, uint64_t thing)
{
    const struct crossing *c = t->trade->ctx;
    mm_frame_free(&c->m->frames, mm_pfn(thing >> 8), 0);
}

void checks_nodes_together(struct memory *m)
{
    static struct crossing c;
    const struct trade trade = {
        .name = "frames of nodes",
        .ctx = &c,
        .nr_steps = NODE_STEPS,
        .seed = UINT64_C(0x6e6f646573),
        .take = take_frame,
        .read = read_frame,
        .give = give_frame,
    };
    uint64_t before = memory_nr_free(m);

    c.m = m;
    c.memory = nodes_with_memory(m);
    CHECK("every processor is on the node that the firmware says", on_their_nodes(m));
    smp_run(take_near, &c);
    CHECK("every processor gets frames of the node nearest to it", atomic_load(&c.nr_wrong) == 0);

    struct trade_result result = trade_run(&trade);
    CHECK("frames by node are one processor's at a time",
          result.nr_wrong == 0 && result.nr_taken > 0 && result.nr_refused == 0);
    CHECK("frames by node are back, and figures of nodes add up",
          memory_nr_free(m) == before && figures_add_up(m) && mm_frame_check(&m->frames) == MM_OK);
}
