// SPDX-License-Identifier: MIT
/**
 * The topology of a machine with several memory nodes: reading the firmware's SRAT and SLIT, and
 * answering from them. References are to the ACPI Specification 6.5.
 *
 * Both tables begin with a header of 36 bytes (5.2.6); the SRAT is a chain of entries behind it, the
 * SLIT a matrix of bytes:
 *
 *     signature | length | revision | checksum | ...      | type | length | ... | type | length |
 *     0           4        8          9         36, SRAT: 48     49      ...
 *                                               36, SLIT: rows | 44: row 0 | row 1 | ...
 *
 * The SRAT is read twice. The first pass looks at every field that the second will use, and changes
 * nothing. The second can fail only because there is no room. It builds in the object's own storage,
 * of which nothing is in use before, and what it wrote into the object is cleared again.
 *
 * Entries come in any order, so each is put at its place among those before it:
 *
 *     ranges     |####|   |####|         sorted, disjoint
 *     next            .......            of it, what no earlier range covers
 *     ranges     |####|...|####|
 *
 * Ends are kept as last bytes where they are compared: the end of a range at 2^64 fits no word.
 */
#include "core/base/mem.h"
#include <mm/numa.h>

#define NUMA_MAGIC UINT32_C(0x6d6d6e75)
#define NO_ENTRY   UINT32_MAX
#define MEMORY_END (UINT64_C(1) << MM_PADDR_BITS_MAX)

/* 5.2.6: the fields of the header that matter. */
#define TABLE_LEN      4u
#define TABLE_REVISION 8u
/* 5.2.16, table "Static Resource Affinity Table Format": where the entries begin. */
#define SRAT_ENTRIES 48u
/* 5.2.17, table "SLIT Format". */
#define SLIT_ROWS   36u
#define SLIT_MATRIX 44u
/* More rows make a matrix that no table's length can tell. */
#define SLIT_ROWS_MAX 0xffffu

/* 5.2.16.1 to 5.2.16.3: what is read, and how long it is. */
enum entry_type {
    ENTRY_APIC = 0,
    ENTRY_MEMORY = 1,
    ENTRY_X2APIC = 2,
};

#define ENTRY_HEADER     2u
#define ENTRY_APIC_LEN   16u
#define ENTRY_MEMORY_LEN 40u
#define ENTRY_X2APIC_LEN 24u

/* Bit 0 of the flags of all three; bits 1 and 2 of those of memory. */
#define ENTRY_ENABLED     1u
#define ENTRY_HOTPLUG     2u
#define ENTRY_NONVOLATILE 4u

/* A table whose header has been checked. */
struct table {
    const uint8_t *data;
    uint32_t len;
    uint32_t revision;
};

struct entry {
    const uint8_t *data;
    uint32_t offset;
    uint32_t type;
    uint32_t len;
};

static uint32_t get32(const uint8_t *at)
{
    uint32_t v;

    memcpy(&v, at, sizeof(v));
    return v;
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t v;

    memcpy(&v, at, sizeof(v));
    return v;
}

static bool alive(const struct mm_numa *numa)
{
    return numa != NULL && numa->magic == NUMA_MAGIC;
}

static mm_status_t check(const struct mm_numa *numa)
{
    if (numa == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return numa->magic == NUMA_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

static void tell(struct mm_numa_error *error, uint32_t entry_type, uint32_t offset,
                 const char *what)
{
    if (error != NULL) {
        *error = (struct mm_numa_error){entry_type, offset, what};
    }
}

mm_status_t mm_numa_init(struct mm_numa *numa, struct mm_numa_range *ranges,
                         uint32_t ranges_capacity, struct mm_numa_cpu *cpus, uint32_t cpus_capacity)
{
    if (numa == NULL || ranges == NULL || cpus == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (ranges_capacity == 0 || cpus_capacity == 0) {
        return MM_ERR_INVALID_SIZE;
    }
    if (numa->magic == NUMA_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    memset(numa, 0, sizeof(*numa));
    numa->ranges = ranges;
    numa->cpus = cpus;
    numa->ranges_capacity = ranges_capacity;
    numa->cpus_capacity = cpus_capacity;
    numa->nr_nodes = 1;
    numa->magic = NUMA_MAGIC;
    return MM_OK;
}

/* --- both tables: the header -------------------------------------------------------------------*/

/* NULL if all is well, else what is wrong, and *at says where. `len` is at least `len_min`. */
static const char *check_table(struct table *t, const char *signature, size_t len, uint32_t len_min,
                               uint32_t *at)
{
    uint8_t sum = 0;

    *at = 0;
    if (memcmp(t->data, signature, 4) != 0) {
        return "the signature is another table's";
    }
    *at = TABLE_LEN;
    t->len = get32(t->data + TABLE_LEN);
    if (t->len > len) {
        return "the table is longer than the memory it was given in";
    }
    if (t->len < len_min) {
        return "the table is shorter than its header";
    }
    /* 5.2.6: a larger revision is compatible with the smaller ones; there is none before 1. */
    *at = TABLE_REVISION;
    t->revision = t->data[TABLE_REVISION];
    if (t->revision == 0) {
        return "the table has no revision";
    }
    *at = 0;
    for (uint32_t i = 0; i < t->len; i++) {
        sum = (uint8_t)(sum + t->data[i]);
    }
    return sum == 0 ? NULL : "the bytes do not add up to 0";
}

/* --- the SRAT, first pass: each entry ----------------------------------------------------------*/

/* The entry at an offset below the table's length, its length checked against what is left. */
static const char *entry_at(const struct table *t, uint32_t offset, struct entry *e)
{
    uint32_t left = t->len - offset;

    *e = (struct entry){.data = t->data + offset, .offset = offset, .type = NO_ENTRY};
    if (left < ENTRY_HEADER) {
        return "the table ends inside an entry's header";
    }
    e->type = e->data[0];
    e->len = e->data[1];
    if (e->len < ENTRY_HEADER) {
        return "the entry is shorter than its header";
    }
    if (e->len > left) {
        return "the entry runs past the end of the table";
    }
    return NULL;
}

/* What the type asks for; an entry may be longer, in a later revision. */
static uint32_t entry_len_min(uint32_t type)
{
    switch (type) {
    case ENTRY_APIC:
        return ENTRY_APIC_LEN;
    case ENTRY_MEMORY:
        return ENTRY_MEMORY_LEN;
    case ENTRY_X2APIC:
        return ENTRY_X2APIC_LEN;
    default:
        return ENTRY_HEADER;
    }
}

static bool entry_read(const struct entry *e)
{
    return e->type <= ENTRY_X2APIC;
}

static uint32_t entry_flags(const struct entry *e)
{
    return get32(e->data + (e->type == ENTRY_MEMORY ? 28 : e->type == ENTRY_APIC ? 4 : 12));
}

static struct mm_prange entry_memory(const struct entry *e)
{
    return mm_prange(mm_paddr(get64(e->data + 8)), get64(e->data + 16));
}

static const char *check_entry(const struct entry *e)
{
    if (e->len < entry_len_min(e->type)) {
        return "the entry is too short for its type";
    }
    if (e->type == ENTRY_MEMORY && (entry_flags(e) & ENTRY_ENABLED) != 0 &&
        !mm_prange_valid(entry_memory(e))) {
        return "the memory ends above 2^64";
    }
    return NULL;
}

static const char *check_entries(const struct table *t, struct entry *e)
{
    const char *wrong = NULL;

    for (uint32_t at = SRAT_ENTRIES; at < t->len && wrong == NULL; at += e->len) {
        wrong = entry_at(t, at, e);
        if (wrong == NULL) {
            wrong = check_entry(e);
        }
    }
    return wrong;
}

/* --- the SRAT, second pass: nodes, memory, processors ------------------------------------------*/

struct builder {
    struct mm_numa *numa;
    uint32_t revision;
    uint32_t nr_nodes; /* found so far; may be 0, unlike those of the object */
};

/* The domain lies in one piece but for a local APIC, whose upper 24 bits came with revision 2. */
static uint32_t entry_domain(const struct builder *b, const struct entry *e)
{
    uint32_t domain;

    if (e->type == ENTRY_APIC) {
        domain = (uint32_t)e->data[2] | (get32(e->data + 8) & UINT32_C(0xffffff00));
    } else {
        domain = get32(e->data + (e->type == ENTRY_MEMORY ? 2 : 4));
    }
    return b->revision == 1 ? domain & 0xff : domain;
}

static const char *find_node(struct builder *b, uint32_t domain, uint32_t *out)
{
    for (uint32_t node = 0; node < b->nr_nodes; node++) {
        if (b->numa->domains[node] == domain) {
            *out = node;
            return NULL;
        }
    }
    if (b->nr_nodes == MM_MAX_NODES) {
        return "there are more domains than MM_MAX_NODES";
    }
    *out = b->nr_nodes++;
    b->numa->domains[*out] = domain;
    return NULL;
}

/* Index of the first range that ends at `at` or above: it covers `at`, or is the next above. */
static uint32_t range_at(const struct mm_numa *numa, uint64_t at)
{
    uint32_t low = 0;
    uint32_t high = numa->nr_ranges;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (mm_prange_last(numa->ranges[middle].range).raw < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool insert_range(struct mm_numa *numa, uint32_t i, struct mm_numa_range r)
{
    if (numa->nr_ranges == numa->ranges_capacity) {
        return false;
    }
    memmove(&numa->ranges[i + 1], &numa->ranges[i],
            (size_t)(numa->nr_ranges - i) * sizeof(numa->ranges[0]));
    numa->ranges[i] = r;
    numa->nr_ranges++;
    return true;
}

/* Of a range that is not empty, add what no earlier one covers. */
static const char *add_memory(struct mm_numa *numa, struct mm_numa_range r)
{
    uint64_t last = mm_prange_last(r.range).raw;
    uint64_t at = r.range.start.raw;
    bool overlaps = false;

    for (;;) {
        uint32_t i = range_at(numa, at);
        const struct mm_numa_range *next = i < numa->nr_ranges ? &numa->ranges[i] : NULL;
        uint64_t end = last; /* last byte of this piece */

        if (next != NULL && next->range.start.raw <= at) {
            overlaps = overlaps || next->node != r.node;
            end = mm_prange_last(next->range).raw;
        } else {
            if (next != NULL && next->range.start.raw <= last) {
                end = next->range.start.raw - 1;
            }
            r.range = mm_prange(mm_paddr(at), end - at + 1);
            if (!insert_range(numa, i, r)) {
                return "there are more ranges of memory than the array has room for";
            }
        }
        if (end >= last) {
            numa->nr_overlaps += overlaps;
            return NULL;
        }
        at = end + 1;
    }
}

/* Neighbours that are alike become one. Only all 2^64 bytes stay two: no range can hold them. */
static void join_ranges(struct mm_numa *numa)
{
    uint32_t kept = 0;

    for (uint32_t i = 1; i < numa->nr_ranges; i++) {
        struct mm_numa_range *left = &numa->ranges[kept];
        const struct mm_numa_range *right = &numa->ranges[i];

        if (mm_prange_last(left->range).raw + 1 != right->range.start.raw ||
            left->node != right->node || left->flags != right->flags ||
            !mm_add(left->range.len, right->range.len, &left->range.len)) {
            numa->ranges[++kept] = *right;
        }
    }
    numa->nr_ranges = numa->nr_ranges == 0 ? 0 : kept + 1;
}

/* Index of the first processor whose number is `apic_id` or above. */
static uint32_t cpu_at(const struct mm_numa *numa, uint32_t apic_id)
{
    uint32_t low = 0;
    uint32_t high = numa->nr_cpus;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (numa->cpus[middle].apic_id < apic_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* A processor may be listed in both forms: it counts once. */
static const char *add_cpu(struct mm_numa *numa, uint32_t apic_id, uint32_t node)
{
    uint32_t i = cpu_at(numa, apic_id);

    if (i < numa->nr_cpus && numa->cpus[i].apic_id == apic_id) {
        numa->nr_twice += numa->cpus[i].node != node;
        return NULL;
    }
    if (numa->nr_cpus == numa->cpus_capacity) {
        return "there are more processors than the array has room for";
    }
    memmove(&numa->cpus[i + 1], &numa->cpus[i],
            (size_t)(numa->nr_cpus - i) * sizeof(numa->cpus[0]));
    numa->cpus[i] = (struct mm_numa_cpu){.apic_id = apic_id, .node = node};
    numa->nr_cpus++;
    return NULL;
}

/* NULL, or what there is no room for. */
static const char *take_entry(struct builder *b, const struct entry *e)
{
    struct mm_numa_range r = {.node = 0};
    const char *wrong;
    uint32_t flags;
    uint32_t node;

    if (!entry_read(e)) {
        b->numa->nr_skipped++;
        return NULL;
    }
    flags = entry_flags(e);
    if ((flags & ENTRY_ENABLED) == 0 || (e->type == ENTRY_MEMORY && entry_memory(e).len == 0)) {
        b->numa->nr_disabled++;
        return NULL;
    }
    wrong = find_node(b, entry_domain(b, e), &node);
    if (wrong != NULL) {
        return wrong;
    }
    if (e->type == ENTRY_MEMORY) {
        r.range = entry_memory(e);
        r.node = node;
        r.flags = ((flags & ENTRY_HOTPLUG) != 0 ? MM_NUMA_HOTPLUG : 0) |
                  ((flags & ENTRY_NONVOLATILE) != 0 ? MM_NUMA_NONVOLATILE : 0);
        return add_memory(b->numa, r);
    }
    return add_cpu(b->numa, e->type == ENTRY_APIC ? e->data[3] : get32(e->data + 8), node);
}

/* What the second pass counts in the object; all of it is 0 before. */
static void forget(struct mm_numa *numa)
{
    numa->nr_ranges = 0;
    numa->nr_cpus = 0;
    numa->nr_disabled = 0;
    numa->nr_skipped = 0;
    numa->nr_overlaps = 0;
    numa->nr_twice = 0;
    memset(numa->domains, 0, sizeof(numa->domains));
}

static const char *take_entries(struct mm_numa *numa, const struct table *t, struct entry *e)
{
    struct builder b = {.numa = numa, .revision = t->revision};
    const char *wrong = NULL;

    for (uint32_t at = SRAT_ENTRIES; at < t->len; at += e->len) {
        wrong = entry_at(t, at, e);
        if (wrong == NULL) {
            wrong = take_entry(&b, e);
        }
        if (wrong != NULL) {
            forget(numa);
            return wrong;
        }
    }
    join_ranges(numa);
    numa->nr_nodes = b.nr_nodes == 0 ? 1 : b.nr_nodes;
    numa->has_srat = 1;
    return NULL;
}

mm_status_t mm_numa_read_srat(struct mm_numa *numa, const void *data, size_t len,
                              struct mm_numa_error *error)
{
    struct table t = {.data = data};
    struct entry e = {.type = NO_ENTRY};
    mm_status_t status = check(numa);
    const char *wrong;

    if (status != MM_OK || data == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    if (numa->has_srat != 0) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (len < SRAT_ENTRIES) {
        return MM_ERR_INVALID_SIZE;
    }
    wrong = check_table(&t, "SRAT", len, SRAT_ENTRIES, &e.offset);
    if (wrong == NULL) {
        wrong = check_entries(&t, &e);
    }
    if (wrong != NULL) {
        tell(error, e.type, e.offset, wrong);
        return MM_ERR_CORRUPTED;
    }
    wrong = take_entries(numa, &t, &e);
    if (wrong != NULL) {
        tell(error, e.type, e.offset, wrong);
        return MM_ERR_LIMIT;
    }
    return MM_OK;
}

/* --- the SLIT ----------------------------------------------------------------------------------*/

/* Where the table tells the distance between two nodes; 0: it does not. */
static uint32_t cell_of(const struct mm_numa *numa, uint32_t rows, uint32_t from, uint32_t to)
{
    uint32_t row = numa->domains[from];
    uint32_t column = numa->domains[to];

    return row < rows && column < rows ? SLIT_MATRIX + row * rows + column : 0;
}

/* 5.2.17: the diagonal is 10; 0 to 9 have no meaning. */
static const char *check_matrix(const struct mm_numa *numa, const struct table *t, uint32_t rows,
                                uint32_t *at)
{
    for (uint32_t from = 0; from < numa->nr_nodes; from++) {
        for (uint32_t to = 0; to < numa->nr_nodes; to++) {
            *at = cell_of(numa, rows, from, to);
            if (*at != 0 && from == to && t->data[*at] != MM_NUMA_LOCAL) {
                return "a node's distance to itself is not 10";
            }
            if (*at != 0 && t->data[*at] < MM_NUMA_LOCAL) {
                return "a distance is below 10";
            }
        }
    }
    return NULL;
}

static uint8_t far(uint32_t from, uint32_t to)
{
    return from == to ? MM_NUMA_LOCAL : MM_NUMA_REMOTE;
}

static void take_matrix(struct mm_numa *numa, const struct table *t, uint32_t rows)
{
    uint32_t used = 0;

    for (uint32_t from = 0; from < numa->nr_nodes; from++) {
        used += numa->domains[from] < rows;
        for (uint32_t to = 0; to < numa->nr_nodes; to++) {
            uint32_t at = cell_of(numa, rows, from, to);

            numa->distances[from][to] = at != 0 ? t->data[at] : far(from, to);
        }
    }
    numa->nr_localities = rows;
    numa->nr_localities_ignored = rows - used;
    numa->has_slit = 1;
}

mm_status_t mm_numa_read_slit(struct mm_numa *numa, const void *data, size_t len,
                              struct mm_numa_error *error)
{
    struct table t = {.data = data};
    mm_status_t status = check(numa);
    const char *wrong;
    uint64_t rows = 0;
    uint32_t at;

    if (status != MM_OK || data == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    if (numa->has_srat == 0) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (numa->has_slit != 0) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (len < SLIT_MATRIX) {
        return MM_ERR_INVALID_SIZE;
    }
    wrong = check_table(&t, "SLIT", len, SLIT_MATRIX, &at);
    if (wrong == NULL) {
        at = SLIT_ROWS;
        rows = get64(t.data + SLIT_ROWS);
        if (rows > SLIT_ROWS_MAX || rows * rows > t.len - SLIT_MATRIX) {
            wrong = "the matrix runs past the end of the table";
        } else {
            wrong = check_matrix(numa, &t, (uint32_t)rows, &at);
        }
    }
    if (wrong != NULL) {
        tell(error, NO_ENTRY, at, wrong);
        return MM_ERR_CORRUPTED;
    }
    take_matrix(numa, &t, (uint32_t)rows);
    return MM_OK;
}

/* --- questions ---------------------------------------------------------------------------------*/

uint32_t mm_numa_node_of(const struct mm_numa *numa, mm_paddr_t paddr)
{
    uint32_t i;

    if (!alive(numa)) {
        return MM_NUMA_NO_NODE;
    }
    i = range_at(numa, paddr.raw);
    if (i == numa->nr_ranges || numa->ranges[i].range.start.raw > paddr.raw) {
        return MM_NUMA_NO_NODE;
    }
    return numa->ranges[i].node;
}

uint32_t mm_numa_node_near(const struct mm_numa *numa, mm_paddr_t paddr)
{
    uint32_t i;

    if (!alive(numa)) {
        return 0;
    }
    i = range_at(numa, paddr.raw);
    if (i < numa->nr_ranges && numa->ranges[i].range.start.raw <= paddr.raw) {
        return numa->ranges[i].node;
    }
    return i == 0 ? 0 : numa->ranges[i - 1].node;
}

uint32_t mm_numa_node_of_apic(const struct mm_numa *numa, uint32_t apic_id)
{
    uint32_t i;

    if (!alive(numa)) {
        return MM_NUMA_NO_NODE;
    }
    i = cpu_at(numa, apic_id);
    if (i == numa->nr_cpus || numa->cpus[i].apic_id != apic_id) {
        return MM_NUMA_NO_NODE;
    }
    return numa->cpus[i].node;
}

uint32_t mm_numa_node_of_domain(const struct mm_numa *numa, uint32_t domain)
{
    if (!alive(numa)) {
        return MM_NUMA_NO_NODE;
    }
    for (uint32_t node = 0; node < numa->nr_nodes; node++) {
        if (numa->domains[node] == domain) {
            return node;
        }
    }
    return MM_NUMA_NO_NODE;
}

mm_status_t mm_numa_domain_of(const struct mm_numa *numa, uint32_t node, uint32_t *out)
{
    mm_status_t status = check(numa);

    if (status != MM_OK || out == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    if (node >= numa->nr_nodes) {
        return MM_ERR_NODE_NOT_FOUND;
    }
    *out = numa->domains[node];
    return MM_OK;
}

uint32_t mm_numa_distance(const struct mm_numa *numa, uint32_t from, uint32_t to)
{
    if (!alive(numa) || from >= numa->nr_nodes || to >= numa->nr_nodes) {
        return MM_NUMA_UNREACHABLE;
    }
    return numa->has_slit != 0 ? numa->distances[from][to] : far(from, to);
}

mm_status_t mm_numa_next_range(const struct mm_numa *numa, mm_paddr_t from,
                               struct mm_numa_range *out)
{
    mm_status_t status = check(numa);
    struct mm_numa_range r = {.node = MM_NUMA_NO_NODE};
    uint64_t last = MEMORY_END - 1;
    uint32_t i;

    if (status != MM_OK || out == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    if (from.raw >= MEMORY_END) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    i = range_at(numa, from.raw);
    if (i < numa->nr_ranges) {
        struct mm_prange next = numa->ranges[i].range;
        uint64_t end = mm_prange_last(next).raw;

        if (next.start.raw > from.raw) {
            end = next.start.raw - 1;
        } else {
            r.node = numa->ranges[i].node;
            r.flags = numa->ranges[i].flags;
        }
        last = end < last ? end : last;
    }
    r.range = mm_prange(from, last - from.raw + 1);
    *out = r;
    return MM_OK;
}
