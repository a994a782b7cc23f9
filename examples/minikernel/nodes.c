// SPDX-License-Identifier: MIT
//
// Which memory is near which processor, as the ACPI tables tell it; and what became of it: a table of
// nodes, and a map of physical memory.

#include <stddef.h>

#include "log.h"
#include "memory.h"

// ---- what the firmware says -----------------------------------------------------------------------

static void print_malformed(const char *table, mm_status_t status,
                            const struct mm_numa_error *error)
{
    log_print("numa    the %s is not believed: %s", table, mm_status_str(status));
    if (error->what != NULL) {
        log_print(" (at offset %u: %s)", error->offset, error->what);
    }
    log_print("\n");
}

static bool read_srat(struct memory *m)
{
    struct mm_numa_error error = {0};
    struct acpi_table table;
    const char *why_not = acpi_find_table(&m->boot, &m->physmap, "SRAT", &table);

    if (why_not != NULL) {
        log_print("numa    no table of nodes (SRAT): %s\n", why_not);
        return false;
    }
    mm_status_t status = mm_numa_read_srat(&m->numa, table.at, table.len, &error);
    if (status != MM_OK) {
        print_malformed("SRAT", status, &error);
    }
    return status == MM_OK;
}

static void read_slit(struct memory *m)
{
    struct mm_numa_error error = {0};
    struct acpi_table table;

    if (acpi_find_table(&m->boot, &m->physmap, "SLIT", &table) != NULL) {
        return; // distances stay what they are where nobody tells
    }
    mm_status_t status = mm_numa_read_slit(&m->numa, table.at, table.len, &error);
    if (status != MM_OK) {
        print_malformed("SLIT", status, &error);
    }
}

uint32_t memory_node_of_apic(const struct memory *m, uint32_t apic_id)
{
    uint32_t node = mm_numa_node_of_apic(&m->numa, apic_id);
    return node == MM_NUMA_NO_NODE ? 0 : node;
}

// Numbers of processors are those that smp.c will give: this one is 0, the others follow in the order
// of their table. The local APIC's registers are not mapped yet, but CPUID knows its first identifier
// (Intel SDM vol. 2A, CPUID, leaf 1, EBX bits 31 to 24).
static void place_processors(struct memory *m)
{
    uint32_t self = m->arch.ops->cpuid(m->arch.ctx, 1, 0).ebx >> 24;
    uint32_t nr = 0;

    m->cpu_nodes[nr++] = memory_node_of_apic(m, self);
    for (uint32_t i = 0; i < m->processors.nr && nr < m->nr_cpus; i++) {
        if (m->processors.apic_ids[i] != self) {
            m->cpu_nodes[nr++] = memory_node_of_apic(m, m->processors.apic_ids[i]);
        }
    }
}

void memory_find_nodes(struct memory *m)
{
    must(mm_numa_init(&m->numa, m->numa_ranges, MEMORY_NUMA_RANGES, m->numa_cpus, MEMORY_NUMA_CPUS),
         "topology");
    if (read_srat(m)) {
        read_slit(m);
    }
    place_processors(m);
}

// ---- a table of nodes -----------------------------------------------------------------------------

static void print_node(struct memory *m, uint32_t node)
{
    struct mm_frame_stats s;
    uint32_t domain = 0;
    uint32_t nr = 0;

    must(mm_frame_get_stats_of(&m->frames, node, MM_ZONE_ALL, &s), "figures of a node");
    must(mm_numa_domain_of(&m->numa, node, &domain), "domain of a node");
    log_print("  %4u %8u %10lu KiB  ", node, domain,
              (s.nr_frames + s.nr_absent) * MM_PAGE_SIZE / 1024);
    for (uint32_t to = 0; to < m->numa.nr_nodes; to++) {
        log_print(" %3u", mm_numa_distance(&m->numa, node, to));
    }
    log_print("  processors");
    for (uint32_t cpu = 0; cpu < m->nr_cpus; cpu++) {
        if (m->cpu_nodes[cpu] == node) {
            log_print(" %u", cpu);
            nr++;
        }
    }
    log_print("%s\n", nr == 0 ? " none" : "");
}

void memory_print_nodes(struct memory *m)
{
    log_print("numa    %u %s\n  node   domain         memory   distances, processors\n",
              m->numa.nr_nodes, m->numa.nr_nodes == 1 ? "node" : "nodes");
    for (uint32_t node = 0; node < m->numa.nr_nodes; node++) {
        print_node(m, node);
    }
}

// ---- a map of memory ------------------------------------------------------------------------------

#define MAP_WIDTH      64
#define MAP_BLOCKS_MAX 1536 // then a character stands for more than 2 MiB

struct map_line {
    uint64_t first; // frame of the first character
    uint32_t order;
    uint32_t node;
    enum mm_zone zone;
    uint32_t len;
    char text[MAP_WIDTH + 1];
};

static void end_line(struct map_line *line)
{
    static const char *const zones[MM_ZONE_COUNT] = {"DMA", "DMA32", "normal"};

    line->text[line->len] = '\0';
    if (line->len != 0) {
        log_print("  0x%012lx  node %u %-6s  |%s|\n", mm_pfn_addr(mm_pfn(line->first)).raw,
                  line->node, zones[line->zone], line->text);
    }
    line->len = 0;
}

// Blocks [from, to) follow on the line if they lie behind it, of the same node and zone.
static void draw_blocks(struct memory *m, struct map_line *line, uint64_t from, uint64_t to,
                        uint32_t node, enum mm_zone zone)
{
    if (line->node != node || line->zone != zone ||
        line->first + ((uint64_t)line->len << line->order) != from) {
        end_line(line);
    }
    while (from < to) {
        uint64_t nr = (to - from) >> line->order;
        uint64_t room = MAP_WIDTH - line->len;

        nr = nr < room ? nr : room;
        if (line->len == 0) {
            line->first = from;
            line->node = node;
            line->zone = zone;
        }
        must(mm_frame_draw(&m->frames, mm_pfn(from), line->order, line->text + line->len,
                           (size_t)nr),
             "a drawing of memory");
        line->len += (uint32_t)nr;
        from += nr << line->order;
        if (line->len == MAP_WIDTH) {
            end_line(line);
        }
    }
}

static uint32_t order_of_map(struct memory *m)
{
    struct mm_frame_stats s;
    uint32_t order = 9;

    must(mm_frame_get_stats(&m->frames, &s), "frame statistics");
    while ((s.nr_frames + s.nr_absent) >> order > MAP_BLOCKS_MAX && order < MM_FRAME_MAX_ORDER) {
        order++;
    }
    return order;
}

void memory_draw(struct memory *m)
{
    struct map_line line = {.order = order_of_map(m)};
    uint64_t size = UINT64_C(1) << line.order;
    uint64_t drawn = 0; // no block below
    uint64_t at = 0;
    struct mm_prange piece;
    uint32_t node;
    enum mm_zone zone;

    log_print("map     a character is %lu MiB: %c free, 1 to 9 tenths in use, %c all in use, blank "
              "nothing there\n",
              size * MM_PAGE_SIZE >> 20, MM_FRAME_DRAW_FREE, MM_FRAME_DRAW_FULL);
    for (; mm_frame_next_memory(&m->frames, mm_pfn(at), &piece, &node, &zone) == MM_OK;) {
        uint64_t from = mm_align_down(mm_pfn_of(piece.start).raw, size);

        at = mm_pfn_of(piece.start).raw + piece.len / MM_PAGE_SIZE;
        from = from < drawn ? drawn : from;
        drawn = (at + size - 1) & ~(size - 1);
        draw_blocks(m, &line, from, drawn, node, zone);
    }
    end_line(&line);

    static const uint32_t orders[] = {0, 4, 9};
    uint32_t index[3] = {0};
    for (unsigned i = 0; i < 3; i++) {
        must(mm_frame_fragmentation(&m->frames, orders[i], &index[i]), "fragmentation");
    }
    log_print(
        "frame   of 1000 free frames %u lie in no block of 4 KiB, %u in none of 64 KiB, %u in "
        "none of 2 MiB\n",
        index[0], index[1], index[2]);
}
