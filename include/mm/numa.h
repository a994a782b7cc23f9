// SPDX-License-Identifier: MIT
/**
 * Which memory and which processors are near each other: the firmware's SRAT and SLIT, made fit to
 * be believed (ACPI Specification 6.5, 5.2.16 and 5.2.17).
 *
 * The firmware numbers its proximity domains as it likes: 32 bits, with gaps, from any number on.
 * Here they are *nodes* 0 to nr_nodes - 1, in the order in which enabled entries of the SRAT name
 * them first. Before an SRAT was read, and if it enables nothing, there is one node, of domain 0: so
 * a kernel needs no second path for a machine without these tables.
 *
 *     mm_numa_init() ──> mm_numa_read_srat() ──> mm_numa_read_slit() ──> questions
 *                        each of the two once, and only if the firmware has it
 *
 * The data is distrusted: every length is checked against the bytes that are there, and nothing is
 * read past them. Tables may lie at any address.
 *
 * Storage is the caller's. There is no lock: one CPU fills the object at boot, and from then on it
 * does not change, so that questions may be asked anywhere at the same time. No op is called,
 * nothing is allocated.
 */
#ifndef MM_NUMA_H
#define MM_NUMA_H

#include <mm/addr.h>

MM_BEGIN_DECLS

/** Of memory that no range covers, of a processor or a domain that no entry names. */
#define MM_NUMA_NO_NODE UINT32_MAX

/** Distances (5.2.17): relative to that of a node to itself. */
#define MM_NUMA_LOCAL       10u
#define MM_NUMA_REMOTE      20u  /**< where no SLIT says otherwise */
#define MM_NUMA_UNREACHABLE 255u /**< no path from one to the other */

/** What an entry says of its memory (5.2.16.2, table "Flags - Memory Affinity Structure"). */
#define MM_NUMA_HOTPLUG     1u /**< may be added and removed while the machine runs */
#define MM_NUMA_NONVOLATILE 2u

struct mm_numa_range {
    struct mm_prange range; /**< not empty */
    uint32_t node;          /**< MM_NUMA_NO_NODE: a hole between ranges */
    uint32_t flags;         /**< MM_NUMA_HOTPLUG, MM_NUMA_NONVOLATILE */
};

struct mm_numa_cpu {
    uint32_t apic_id; /**< of the local APIC, or of the x2APIC: one number space */
    uint32_t node;
};

/** Fields may be read; after mm_numa_init() only the calls below write them. */
struct mm_numa {
    struct mm_numa_range *ranges; /**< sorted, disjoint; equal neighbours are one */
    struct mm_numa_cpu *cpus;     /**< sorted by apic_id, each once */
    uint32_t ranges_capacity;
    uint32_t cpus_capacity;
    uint32_t nr_ranges;
    uint32_t nr_cpus;
    uint32_t nr_nodes; /**< at least 1 */
    /* What was left out of the SRAT, in entries: */
    uint32_t nr_disabled; /**< not enabled, or memory of length 0 */
    uint32_t nr_skipped;  /**< of a type that is not read, such as GICC and generic initiators */
    uint32_t nr_overlaps; /**< memory that overlaps an earlier entry of another node */
    uint32_t nr_twice;    /**< processors that an earlier entry puts on another node */
    /* And of the SLIT: */
    uint32_t nr_localities;         /**< rows that it has; 0: none was read */
    uint32_t nr_localities_ignored; /**< rows of domains that the SRAT does not name */
    uint32_t magic;
    uint32_t has_srat;
    uint32_t has_slit;
    uint32_t domains[MM_MAX_NODES];                /**< of each node; those past nr_nodes are 0 */
    uint8_t distances[MM_MAX_NODES][MM_MAX_NODES]; /**< from, to; of the SLIT, if has_slit */
};

/**
 * Ranges of storage that `n` memory entries need at most, whatever they overlap. Where no entry
 * overlaps another, n are enough.
 */
#define MM_NUMA_CAPACITY(n) (2u * (n))

/** What of a table is wrong. */
struct mm_numa_error {
    uint32_t entry_type; /**< of the SRAT's entry; UINT32_MAX: not in an entry */
    uint32_t offset;     /**< from the start of the table */
    const char *what;    /**< one sentence, lives for ever */
};

/**
 * Make a topology of one node over two arrays.
 *
 * @param numa    zeroed storage
 * @param ranges  not read before it is written; one for each range of memory, see
 *                MM_NUMA_CAPACITY()
 * @param cpus    the same; one for each processor
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (a null pointer) | MM_ERR_INVALID_SIZE (a capacity is 0)
 *         | MM_ERR_ALREADY_INITIALIZED
 * Owner:  the caller keeps the three storages, and frees them by forgetting them.
 * Locks:  none; nobody else is in the object. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_numa_init(struct mm_numa *numa, struct mm_numa_range *ranges,
                         uint32_t ranges_capacity, struct mm_numa_cpu *cpus,
                         uint32_t cpus_capacity);

/**
 * Read the SRAT: nodes, memory and processors.
 *
 * Read are entries for local APICs, memory and x2APICs (types 0, 1, 2); others are counted in
 * nr_skipped. An entry that is not enabled has no other meaning than its length. In revision 1 a
 * domain has 8 bits, and the rest is reserved (5.2.16.1, 5.2.16.2): it is not looked at.
 *
 * Entries that contradict each other: where memory of two nodes overlaps the first in the table
 * wins, byte by byte, and so does the first entry of a processor. They are counted, and no error:
 * firmware writes a narrow entry before the wide window for hot-plug around it, and which node is
 * believed decides about speed, not about whether memory may be used: that says the boot map.
 *
 * @param data        the table, at any alignment
 * @param len         bytes that may be read at `data`; the table's own length must fit
 * @param[out] error  may be null; written only with MM_ERR_CORRUPTED and MM_ERR_LIMIT
 * @return MM_OK
 *         | MM_ERR_CORRUPTED (not an SRAT of revision 1 or later, its length exceeds `len`, its
 *         bytes do not add up to 0, an entry's length is wrong, enabled memory ends above 2^64)
 *         | MM_ERR_LIMIT (more domains than MM_MAX_NODES, or an array is too small)
 *         | MM_ERR_ALREADY_INITIALIZED (an SRAT was read) | MM_ERR_NOT_INITIALIZED
 *         | MM_ERR_INVALID_SIZE (len below 48) | MM_ERR_INVALID_ARGUMENT (null).
 *         On error `numa` is as it was. With MM_ERR_LIMIT something may have been written into its
 *         arrays, of which nothing is in use.
 * Locks:  none; nobody else is in the object.
 * Cost:   O(bytes), three times, and for each entry that is not in ascending order a move of those
 *         above it.
 */
MM_MUST_CHECK
mm_status_t mm_numa_read_srat(struct mm_numa *numa, const void *data, size_t len,
                              struct mm_numa_error *error);

/**
 * Read the SLIT: distances. Its rows and columns are domains; those that the SRAT does not name are
 * ignored, whatever they hold, and counted. Between nodes of which it has no row the distance stays
 * MM_NUMA_LOCAL or MM_NUMA_REMOTE.
 *
 * Between nodes, a value below 10 (reserved) and a diagonal that is not 10 are errors: a matrix that
 * contradicts its definition is worth less than none. 10 between two nodes is believed, 255 means
 * that there is no path, and the way back may be longer than the way there.
 *
 * @param data        the table, at any alignment
 * @param len         bytes that may be read at `data`; the table's own length must fit
 * @param[out] error  may be null; written only with MM_ERR_CORRUPTED
 * @return MM_OK
 *         | MM_ERR_CORRUPTED (not a SLIT of revision 1 or later, its length exceeds `len`, its bytes
 *         do not add up to 0, the matrix runs past its end, a distance is wrong)
 *         | MM_ERR_ALREADY_INITIALIZED (a SLIT was read)
 *         | MM_ERR_NOT_INITIALIZED (also: no SRAT was read)
 *         | MM_ERR_INVALID_SIZE (len below 44) | MM_ERR_INVALID_ARGUMENT (null).
 *         On error `numa` is as it was.
 * Locks:  none; nobody else is in the object.
 * Cost:   O(bytes), and O(nodes squared).
 */
MM_MUST_CHECK
mm_status_t mm_numa_read_slit(struct mm_numa *numa, const void *data, size_t len,
                              struct mm_numa_error *error);

/**
 * The node that the SRAT names for the byte at an address.
 *
 * @return MM_NUMA_NO_NODE if no range covers it, or `numa` is null or not initialised
 * Locks:  none; any context. Cost: O(log ranges).
 */
uint32_t mm_numa_node_of(const struct mm_numa *numa, mm_paddr_t paddr);

/**
 * The same, and an answer for every byte: where no range covers it, the node of the nearest range
 * below, and node 0 if there is none. So no memory is lost because firmware forgot it.
 *
 * @return below nr_nodes; 0 if `numa` is null or not initialised
 * Locks:  none; any context. Cost: O(log ranges).
 */
uint32_t mm_numa_node_near(const struct mm_numa *numa, mm_paddr_t paddr);

/**
 * The node of a processor, by the number of its local APIC or x2APIC.
 *
 * @return MM_NUMA_NO_NODE if no enabled entry names it, or `numa` is null or not initialised
 * Locks:  none; any context. Cost: O(log processors).
 */
uint32_t mm_numa_node_of_apic(const struct mm_numa *numa, uint32_t apic_id);

/**
 * The node of a proximity domain, e.g. of what a device's _PXM answers (6.2.15).
 *
 * @return MM_NUMA_NO_NODE if there is none, or `numa` is null or not initialised
 * Locks:  none; any context. Cost: O(nodes).
 */
uint32_t mm_numa_node_of_domain(const struct mm_numa *numa, uint32_t domain);

/**
 * The proximity domain of a node.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NODE_NOT_FOUND | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_numa_domain_of(const struct mm_numa *numa, uint32_t node, uint32_t *out);

/**
 * How far memory of node `to` is from processors of node `from`: MM_NUMA_LOCAL to 254, or
 * MM_NUMA_UNREACHABLE.
 *
 * @return MM_NUMA_UNREACHABLE also if there is no such node, or `numa` is null or not initialised
 * Locks:  none; any context. Cost: O(1).
 */
uint32_t mm_numa_distance(const struct mm_numa *numa, uint32_t from, uint32_t to);

/**
 * The address space from `from` on, as far as it is all of one node and one kind, or all of no node.
 * A walk sees each byte below 2^52 once:
 *
 *     struct mm_numa_range r;
 *     for (mm_paddr_t at = mm_paddr(0); mm_numa_next_range(numa, at, &r) == MM_OK;
 *          at = mm_paddr(r.range.start.raw + r.range.len)) { ... }
 *
 * For a hole, mm_numa_node_near(numa, r.range.start) is the node to put it on.
 *
 * @param[out] out  begins at `from`; untouched on error
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND (`from` is at or above 2^52) | MM_ERR_NOT_INITIALIZED
 *         | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(log ranges).
 */
MM_MUST_CHECK
mm_status_t mm_numa_next_range(const struct mm_numa *numa, mm_paddr_t from,
                               struct mm_numa_range *out);

MM_END_DECLS

#endif
