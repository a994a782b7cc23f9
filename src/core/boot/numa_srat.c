// SPDX-License-Identifier: MIT
/**
 * Reading the SRAT into a topology. References are to the ACPI Specification 6.5, 5.2.16: a chain of
 * entries behind the header.
 *
 *     header | 1 | reserved | type | length | ...      | type | length | ...
 *     0        36             48     49
 *
 * It is read twice. The first pass looks at every field that the second will use, and changes
 * nothing. The second can fail only because there is no room. It builds in the object's own storage,
 * of which nothing is in use before, and what it wrote into the object is cleared again.
 *
 * Entries come in any order, so each is put at its place among those before it:
 *
 *     ranges     |####|   |####|         sorted, disjoint
 *     next          ..........           of it, what no earlier range covers
 *     ranges     |####|...|####|
 */
#include "core/boot/numa.h"

/* Table "Static Resource Affinity Table Format": where the entries begin. */
#define SRAT_ENTRIES 48u

/*
 * 5.2.16.1 to 5.2.16.3: what is read, and how long it is. By offset, behind type and length:
 *
 *     local APIC    2 domain 7..0 | 3 APIC ID | 4 flags | 8 - | 9 domain 31..8       | 16
 *     memory        2 domain | 8 base | 16 length | 28 flags                         | 40
 *     local x2APIC  4 domain | 8 x2APIC ID | 12 flags                                | 24
 */
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

struct entry {
    const uint8_t *data;
    uint32_t offset;
    uint32_t type;
    uint32_t len;
};

/* --- first pass: each entry ------------------------------------------------------------------- */

/* The entry at an offset below the table's length, its length checked against what is left. */
static const char *entry_at(const struct mmi_numa_table *t, uint32_t offset, struct entry *e)
{
    uint32_t left = t->len - offset;

    *e = (struct entry){.data = t->data + offset, .offset = offset, .type = MMI_NUMA_NO_ENTRY};
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
    return mmi_get32(e->data + (e->type == ENTRY_MEMORY ? 28 : e->type == ENTRY_APIC ? 4 : 12));
}

static struct mm_prange entry_memory(const struct entry *e)
{
    return mm_prange(mm_paddr(mmi_get64(e->data + 8)), mmi_get64(e->data + 16));
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

static const char *check_entries(const struct mmi_numa_table *t, struct entry *e)
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

/* --- second pass: nodes, memory, processors --------------------------------------------------- */

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
        domain = (uint32_t)e->data[2] | (mmi_get32(e->data + 8) & UINT32_C(0xffffff00));
    } else {
        domain = mmi_get32(e->data + (e->type == ENTRY_MEMORY ? 2 : 4));
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
        uint32_t i = mmi_numa_range_at(numa, at);
        const struct mm_numa_range *next = &numa->ranges[i];
        bool is_next = i < numa->nr_ranges;
        uint64_t end = last; /* last byte of this piece */

        if (is_next && next->range.start.raw <= at) {
            overlaps = overlaps || next->node != r.node;
            end = mm_prange_last(next->range).raw;
        } else {
            if (is_next && next->range.start.raw <= last) {
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

/* Neighbours that are alike become one, as long as a range can hold them. */
static void join_ranges(struct mm_numa *numa)
{
    uint32_t kept = 0;

    for (uint32_t i = 1; i < numa->nr_ranges; i++) {
        struct mm_numa_range *left = &numa->ranges[kept];
        const struct mm_numa_range *right = &numa->ranges[i];

        if (!mmi_numa_alike(left, right) ||
            !mm_add(left->range.len, right->range.len, &left->range.len)) {
            numa->ranges[++kept] = *right;
        }
    }
    numa->nr_ranges = numa->nr_ranges == 0 ? 0 : kept + 1;
}

/* A processor may be listed in both forms: it counts once. */
static const char *add_cpu(struct mm_numa *numa, uint32_t apic_id, uint32_t node)
{
    uint32_t i = mmi_numa_cpu_at(numa, apic_id);

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
    return add_cpu(b->numa, e->type == ENTRY_APIC ? e->data[3] : mmi_get32(e->data + 8), node);
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

static const char *take_entries(struct mm_numa *numa, const struct mmi_numa_table *t,
                                struct entry *e)
{
    struct builder b = {.numa = numa, .revision = t->revision};
    const char *wrong;

    for (uint32_t at = SRAT_ENTRIES; at < t->len; at += e->len) {
        (void)entry_at(t, at, e); /* the first pass has read it */
        wrong = take_entry(&b, e);
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
    struct mmi_numa_table t = {.data = data};
    struct entry e = {.type = MMI_NUMA_NO_ENTRY};
    mm_status_t status = mmi_numa_check(numa);
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
    wrong = mmi_numa_check_table(&t, "SRAT", len, SRAT_ENTRIES, &e.offset);
    if (wrong == NULL) {
        wrong = check_entries(&t, &e);
    }
    if (wrong != NULL) {
        mmi_numa_tell(error, e.type, e.offset, wrong);
        return MM_ERR_CORRUPTED;
    }
    wrong = take_entries(numa, &t, &e);
    if (wrong != NULL) {
        mmi_numa_tell(error, e.type, e.offset, wrong);
        return MM_ERR_LIMIT;
    }
    return MM_OK;
}
