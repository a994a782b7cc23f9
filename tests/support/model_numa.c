// SPDX-License-Identifier: MIT
/**
 * A second reader of SRAT and SLIT: see model_numa.h.
 */
#include "model_numa.h"

#include <mm/numa.h>

#include <stdlib.h>
#include <string.h>

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = bytes; i-- > 0;) {
        value = value << 8 | at[i];
    }
    return value;
}

static bool sums_to_zero(const uint8_t *bytes, size_t len)
{
    unsigned sum = 0;

    for (size_t i = 0; i < len; i++) {
        sum += bytes[i];
    }
    return sum % 256 == 0;
}

static bool header(const uint8_t *bytes, size_t len, const char *name, uint64_t least)
{
    uint64_t own;

    if (len < least || memcmp(bytes, name, 4) != 0) {
        return false;
    }
    own = get(bytes + 4, 4);
    return own >= least && own <= len && bytes[8] != 0 && sums_to_zero(bytes, own);
}

static void see_domain(struct t_mnuma *m, uint32_t domain)
{
    if (t_mnuma_node_of_domain(m, domain) == T_MNUMA_NONE) {
        m->domains[m->nr_domains++] = domain;
    }
}

static void keep_cpu(struct t_mnuma *m, uint64_t id, uint64_t domain)
{
    m->cpus[m->nr_cpus].id = (uint32_t)id;
    m->cpus[m->nr_cpus++].domain = (uint32_t)domain;
    see_domain(m, (uint32_t)domain);
}

static bool keep_memory(struct t_mnuma *m, const uint8_t *e, uint64_t domain)
{
    uint64_t start = get(e + 8, 8);
    uint64_t len = get(e + 16, 8);
    uint64_t flags = get(e + 28, 4);

    if (len == 0) {
        m->nr_disabled++;
        return true;
    }
    if (start + (len - 1) < start) {
        return false;
    }
    m->memory[m->nr_memory].start = start;
    m->memory[m->nr_memory].last = start + (len - 1);
    m->memory[m->nr_memory].domain = (uint32_t)domain;
    m->memory[m->nr_memory++].flags = (flags >> 1) % 4;
    see_domain(m, (uint32_t)domain);
    return true;
}

static bool keep_entry(struct t_mnuma *m, const uint8_t *e, uint64_t domain_mask)
{
    static const unsigned least[] = {16, 40, 24};
    static const unsigned flags_at[] = {4, 28, 12};

    if (e[0] > 2) {
        m->nr_skipped++;
        return true;
    }
    if (e[1] < least[e[0]]) {
        return false;
    }
    if (e[flags_at[e[0]]] % 2 == 0) {
        m->nr_disabled++;
    } else if (e[0] == 0) {
        keep_cpu(m, e[3], (e[2] | get(e + 9, 3) << 8) & domain_mask);
    } else if (e[0] == 2) {
        keep_cpu(m, get(e + 8, 4), get(e + 4, 4) & domain_mask);
    } else {
        return keep_memory(m, e, get(e + 2, 4) & domain_mask);
    }
    return true;
}

bool t_mnuma_srat(struct t_mnuma *m, const uint8_t *bytes, size_t len)
{
    uint64_t own;

    m->nr_memory = m->nr_cpus = m->nr_domains = m->nr_disabled = m->nr_skipped = 0;
    m->matrix = NULL;
    m->rows = 0;
    if (!header(bytes, len, "SRAT", 48)) {
        return false;
    }
    own = get(bytes + 4, 4);
    for (uint64_t at = 48; at < own; at += bytes[at + 1]) {
        if (own - at < 2 || bytes[at + 1] < 2 || bytes[at + 1] > own - at) {
            return false;
        }
        if (m->nr_memory + m->nr_cpus >= T_MNUMA_MAX) {
            abort();
        }
        if (!keep_entry(m, bytes + at, bytes[8] == 1 ? 0xff : UINT32_MAX)) {
            return false;
        }
    }
    if (m->nr_domains == 0) {
        see_domain(m, 0);
    }
    return true;
}

bool t_mnuma_slit(struct t_mnuma *m, const uint8_t *bytes, size_t len)
{
    uint64_t rows;

    if (!header(bytes, len, "SLIT", 44)) {
        return false;
    }
    rows = get(bytes + 36, 8);
    if (rows >= UINT64_C(1) << 32 || rows * rows > get(bytes + 4, 4) - 44) {
        return false;
    }
    for (uint64_t i = 0; i < rows * rows; i++) {
        bool known = t_mnuma_node_of_domain(m, (uint32_t)(i / rows)) != T_MNUMA_NONE &&
                     t_mnuma_node_of_domain(m, (uint32_t)(i % rows)) != T_MNUMA_NONE;
        uint8_t value = bytes[44 + i];

        if (known && (value < 10 || (i / rows == i % rows && value != 10))) {
            return false;
        }
    }
    m->matrix = bytes + 44;
    m->rows = rows;
    return true;
}

/* --- questions --------------------------------------------------------------------------------- */

uint32_t t_mnuma_node_of_domain(const struct t_mnuma *m, uint32_t domain)
{
    for (uint32_t i = 0; i < m->nr_domains; i++) {
        if (m->domains[i] == domain) {
            return i;
        }
    }
    return T_MNUMA_NONE;
}

uint32_t t_mnuma_entry(const struct t_mnuma *m, uint64_t at)
{
    for (uint32_t i = 0; i < m->nr_memory; i++) {
        if (m->memory[i].start <= at && at <= m->memory[i].last) {
            return i;
        }
    }
    return T_MNUMA_NONE;
}

uint32_t t_mnuma_node_of(const struct t_mnuma *m, uint64_t at)
{
    uint32_t entry = t_mnuma_entry(m, at);

    return entry == T_MNUMA_NONE ? T_MNUMA_NONE
                                 : t_mnuma_node_of_domain(m, m->memory[entry].domain);
}

uint32_t t_mnuma_node_near(const struct t_mnuma *m, uint64_t at)
{
    bool below = false;
    uint64_t nearest = 0;

    if (t_mnuma_entry(m, at) != T_MNUMA_NONE) {
        return t_mnuma_node_of(m, at);
    }
    for (uint32_t i = 0; i < m->nr_memory; i++) {
        if (m->memory[i].last < at && (!below || m->memory[i].last > nearest)) {
            below = true;
            nearest = m->memory[i].last;
        }
    }
    return below ? t_mnuma_node_of(m, nearest) : 0;
}

/* The first entry of a processor. */
static uint32_t first_cpu(const struct t_mnuma *m, uint32_t id)
{
    for (uint32_t i = 0; i < m->nr_cpus; i++) {
        if (m->cpus[i].id == id) {
            return i;
        }
    }
    return T_MNUMA_NONE;
}

uint32_t t_mnuma_node_of_apic(const struct t_mnuma *m, uint32_t id)
{
    uint32_t first = first_cpu(m, id);

    return first == T_MNUMA_NONE ? first : t_mnuma_node_of_domain(m, m->cpus[first].domain);
}

uint32_t t_mnuma_distance(const struct t_mnuma *m, uint32_t from, uint32_t to)
{
    if (from >= m->nr_domains || to >= m->nr_domains) {
        return 255;
    }
    if (m->domains[from] < m->rows && m->domains[to] < m->rows) {
        return m->matrix[m->domains[from] * m->rows + m->domains[to]];
    }
    return from == to ? 10 : 20;
}

/* --- beside the library ------------------------------------------------------------------------ */

static bool same_at(const struct t_mnuma *m, const struct mm_numa *numa, uint64_t at)
{
    return mm_numa_node_of(numa, mm_paddr(at)) == t_mnuma_node_of(m, at) &&
           mm_numa_node_near(numa, mm_paddr(at)) == t_mnuma_node_near(m, at);
}

static bool same_kind(const struct t_mnuma *m, uint64_t at, uint64_t other)
{
    uint32_t a = t_mnuma_entry(m, at);
    uint32_t b = t_mnuma_entry(m, other);

    if (a == T_MNUMA_NONE || b == T_MNUMA_NONE) {
        return a == b;
    }
    return m->memory[a].domain == m->memory[b].domain && m->memory[a].flags == m->memory[b].flags;
}

/* A piece is all of one kind if no edge inside of it parts two kinds. */
static bool one_kind(const struct t_mnuma *m, uint64_t start, uint64_t last)
{
    for (uint32_t i = 0; i < m->nr_memory; i++) {
        uint64_t edges[] = {m->memory[i].start, m->memory[i].last};

        for (unsigned e = 0; e < 2; e++) {
            if (edges[e] >= start && edges[e] <= last && !same_kind(m, start, edges[e])) {
                return false;
            }
        }
    }
    return same_kind(m, start, last);
}

static const char *compare_walk(const struct t_mnuma *m, const struct mm_numa *numa)
{
    const uint64_t end = UINT64_C(1) << 52;
    struct mm_numa_range r;
    uint64_t at = 0;

    while (mm_numa_next_range(numa, mm_paddr(at), &r) == MM_OK) {
        uint32_t entry = t_mnuma_entry(m, at);
        uint64_t last = at + r.range.len - 1;

        if (r.range.start.raw != at || r.range.len == 0 || last >= end) {
            return "a piece of the walk is out of place";
        }
        if (r.node != t_mnuma_node_of(m, at) ||
            r.flags != (entry == T_MNUMA_NONE ? 0 : m->memory[entry].flags)) {
            return "a piece has the wrong node or flags";
        }
        if (!one_kind(m, at, last)) {
            return "a piece is of two kinds";
        }
        if (last + 1 < end && same_kind(m, last, last + 1)) {
            return "a piece ends too early";
        }
        at = last + 1;
    }
    return at == end ? NULL : "the walk does not reach the end of memory";
}

static const char *compare_arrays(const struct t_mnuma *m, const struct mm_numa *numa)
{
    uint32_t known = 0;

    for (uint32_t i = 0; i < numa->nr_ranges; i++) {
        struct mm_numa_range r = numa->ranges[i];

        if (r.range.len == 0 || !mm_prange_valid(r.range) ||
            (i > 0 && mm_prange_last(numa->ranges[i - 1].range).raw >= r.range.start.raw)) {
            return "the ranges are not sorted and disjoint";
        }
    }
    for (uint32_t i = 1; i < numa->nr_cpus; i++) {
        if (numa->cpus[i - 1].apic_id >= numa->cpus[i].apic_id) {
            return "the processors are not sorted";
        }
    }
    /* As many as there are numbers, and each number is there: so there is no other. */
    for (uint32_t i = 0; i < m->nr_cpus; i++) {
        uint32_t first = first_cpu(m, m->cpus[i].id);

        known += first == i;
        if (mm_numa_node_of_apic(numa, m->cpus[i].id) !=
            t_mnuma_node_of_domain(m, m->cpus[first].domain)) {
            return "a processor is on another node";
        }
    }
    return known == numa->nr_cpus ? NULL : "the number of processors differs";
}

static const char *compare_nodes(const struct t_mnuma *m, const struct mm_numa *numa)
{
    uint32_t domain = 0;

    if (numa->nr_nodes != m->nr_domains) {
        return "the number of nodes differs";
    }
    for (uint32_t i = 0; i < m->nr_domains; i++) {
        if (mm_numa_domain_of(numa, i, &domain) != MM_OK || domain != m->domains[i] ||
            mm_numa_node_of_domain(numa, domain) != i) {
            return "a node has another domain";
        }
        for (uint32_t j = 0; j < m->nr_domains; j++) {
            if (mm_numa_distance(numa, i, j) != t_mnuma_distance(m, i, j)) {
                return "a distance differs";
            }
        }
    }
    return NULL;
}

const char *t_mnuma_compare(const struct t_mnuma *m, const struct mm_numa *numa)
{
    const char *wrong = compare_nodes(m, numa);

    if (wrong == NULL) {
        wrong = compare_arrays(m, numa);
    }
    if (wrong == NULL) {
        wrong = compare_walk(m, numa);
    }
    for (uint32_t i = 0; i < m->nr_memory && wrong == NULL; i++) {
        uint64_t start = m->memory[i].start;
        uint64_t last = m->memory[i].last;

        if (!same_at(m, numa, start) || !same_at(m, numa, last) || !same_at(m, numa, start - 1) ||
            !same_at(m, numa, last + 1)) {
            wrong = "memory is on another node";
        }
    }
    if (wrong == NULL &&
        (numa->nr_disabled != m->nr_disabled || numa->nr_skipped != m->nr_skipped)) {
        wrong = "what was left out is counted differently";
    }
    return wrong;
}
