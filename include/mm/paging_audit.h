// SPDX-License-Identifier: MIT
/**
 * The audit of page tables: what a kernel believes of its mappings, looked for in all of them at
 * once.
 *
 * Each leaf may be right, and two together wrong: text that is read-only where it is linked, and
 * writable through the direct map, is not protected. So the audit looks at frames, through all
 * roots: one kernel root, and as many user roots as there are. It judges by what the hardware
 * enforces: rights of all levels together, no-execute as far as the CPU has it.
 *
 *     roots --walk--> runs of leaves --sort--> by frame --sweep--> findings: kind, frames, parties
 *
 * A run is as many leaves as follow each other in both memories and agree in rights and type, so a
 * direct map is a few runs. They lie in memory that the caller lends.
 */
#ifndef MM_PAGING_AUDIT_H
#define MM_PAGING_AUDIT_H

#include <mm/paging.h>

MM_BEGIN_DECLS

/** A leaf that is writable and executable, for one and the same: kernel or user. */
#define MM_AUDIT_WRITE_EXEC 1u
/** What the kernel executes is writable through another leaf; or, for a user, what he executes. */
#define MM_AUDIT_ALIAS_EXEC 2u
/** A leaf outside the user range that user mode reaches; one in it, in a user root, that it does
 * not; and a leaf of the kernel in the root that user mode runs on, where there are two. */
#define MM_AUDIT_USER_REACH 4u
/** One frame under two memory types (SDM vol. 3A, 12.12.4: its behaviour is undefined). */
#define MM_AUDIT_TYPES 8u
/** An entry that is not present and yet names memory (L1TF). */
#define MM_AUDIT_NOT_PRESENT 16u
/** A table that the physmap does not reach: what hangs from it was not seen. */
#define MM_AUDIT_UNSEEN 32u
/** All that should never be found. */
#define MM_AUDIT_USUAL 63u
/** What a user executes is writable for the kernel: every direct map makes it so. */
#define MM_AUDIT_USER_CODE 64u
#define MM_AUDIT_ALL       127u

/** One side of a finding. */
struct mm_audit_party {
    const struct mm_pagetable *pt; /**< NULL: there is no second side */
    mm_vaddr_t at;                 /**< where it maps the first of the frames */
    mm_prot_t prot;                /**< what is effective */
    mm_memtype_t type;
};

struct mm_audit_finding {
    uint32_t kind;           /**< one of MM_AUDIT_... */
    struct mm_prange frames; /**< what both sides map; of NOT_PRESENT and UNSEEN the frame named */
    struct mm_audit_party one, other;
    uint64_t entry; /**< of NOT_PRESENT and UNSEEN: what stands in the table */
};

/** Told of each finding; false: enough, no more is looked for. It must not change a page table. */
typedef bool (*mm_paging_audit_fn)(void *ctx, const struct mm_audit_finding *finding);

struct mm_paging_audit {
    const struct mm_pagetable *const *roots; /**< the kernel's first, then users' beside it */
    uint32_t nr_roots;                       /**< at least 1 */
    uint32_t kinds;                          /**< MM_AUDIT_...; 0: MM_AUDIT_USUAL */
    void *memory;                            /**< 8-byte aligned, of any content */
    uint64_t len;                            /**< bytes of it: mm_paging_audit_memory_size() */
    mm_paging_audit_fn report;               /**< NULL: nobody is told but the log */
    void *ctx;
};

/**
 * How much memory the audit needs: 32 bytes for each run of leaves as the tables are now.
 *
 * @param audit     `memory`, `len`, `report` are not looked at
 * @param[out] out  bytes; untouched on error
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null; no root, or one of them null; the first is a user
 *         or entry root, or another is no user root; different backends) | MM_ERR_INVALID_FLAGS (kinds)
 *         | MM_ERR_NOT_INITIALIZED (a root)
 * Locks:  the owners' of all roots. Sleeps: never.
 * Cost:   as mm_paging_walk() over everything; tables of the kernel's are walked once.
 */
MM_MUST_CHECK
mm_status_t mm_paging_audit_memory_size(const struct mm_paging_audit *audit, uint64_t *out);

/**
 * Look for contradictions. Each finding is reported, and is a line to the log op of the first root.
 * Every frame that is in contradiction is in a finding, and each leaf that has a part in one beside
 * a leaf before it; not every pair is named, so there are at most 11 findings a run, and one an
 * entry that is no leaf.
 *
 * Entries that user roots have as the kernel's root has them are looked at once, there. Entries of
 * an adopted root that were never declared are looked at as well: the hardware walks them.
 *
 * @param[out] nr_findings  0: all is well. Untouched on error
 * @return MM_OK (whatever was found) | MM_ERR_INVALID_ARGUMENT (as for
 *         mm_paging_audit_memory_size(); no memory) | MM_ERR_INVALID_FLAGS (kinds)
 *         | MM_ERR_NOT_ALIGNED (memory) | MM_ERR_NO_MEMORY (the memory is too small)
 *         | MM_ERR_NOT_INITIALIZED (a root)
 * Owner:  the memory stays the caller's; its content is of no use after.
 * Locks:  the owners' of all roots. Sleeps: never.
 * Cost:   two walks over everything, and O(n log n) for n runs.
 */
MM_MUST_CHECK
mm_status_t mm_paging_audit(const struct mm_paging_audit *audit, uint64_t *nr_findings);

MM_END_DECLS

#endif
