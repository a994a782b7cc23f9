// SPDX-License-Identifier: MIT
/**
 * What an architecture implements to serve paging.h. Only backends include this.
 *
 * The calls of paging.h check what is common to all architectures (null, flags, alignment,
 * wrapping, declared ranges) and pass on; a backend checks what is its own (canonical addresses,
 * physical address width, types).
 */
#ifndef MM_PAGING_OPS_H
#define MM_PAGING_OPS_H

#include <mm/paging_slots.h>
#include <mm/tlb.h>

MM_BEGIN_DECLS

/** What the walk of the audit tells of. */
enum mm_paging_entry {
    MM_PAGING_ENTRY_LEAF = 0,         /**< present; the mapping is what is effective */
    MM_PAGING_ENTRY_NAMES_MEMORY = 1, /**< not present; `paddr` is what it names */
    MM_PAGING_ENTRY_UNSEEN =
        2, /**< leads to a table, at `paddr`, that the physmap does not reach */
};

/** `entry`: as it stands in the table. False ends the walk. */
typedef bool (*mm_paging_entry_fn)(void *ctx, const struct mm_mapping *mapping, uint64_t entry,
                                   enum mm_paging_entry what);

/** Called for a leaf or soft slot; false ends the walk. */
typedef bool (*mm_paging_slot_fn)(void *ctx, const struct mm_slot *slot);

struct mmi_page;

struct mm_paging_ops {
    /** Bits of a virtual address now, and of a physical one. */
    unsigned (*vaddr_bits)(void *ctx);
    unsigned (*paddr_bits)(void *ctx);
    /** Whether the CPU has this type, which is a known one. */
    bool (*has_type)(void *ctx, mm_memtype_t type);
    /** Allocate the root, and the tables that the declared kernel ranges need. */
    mm_status_t (*init_kernel)(struct mm_pagetable *pt);
    /** Allocate the root, and copy the kernel's root entries. */
    mm_status_t (*init_user)(struct mm_pagetable *pt, const struct mm_pagetable *kernel);
    mm_status_t (*adopt)(struct mm_pagetable *pt);
    void (*destroy)(struct mm_pagetable *pt);
    mm_status_t (*map)(struct mm_pagetable *pt, struct mm_vrange range, mm_paddr_t paddr,
                       mm_prot_t prot, mm_memtype_t type, uint32_t flags);
    /** The same for one page of write-back memory in a user root, and no flags: what faults ask
     * for. `bits` is what init_user set in `page_bits` for the protection, and not 0. */
    mm_status_t (*map_page)(struct mm_pagetable *pt, mm_vaddr_t at, uint64_t bits, mm_paddr_t paddr,
                            mm_prot_t prot);
    /** One page of write-back memory at a time, for who may share the owner's lock with others that
     * do the same; `at` is aligned and declared, and nothing is flushed or counted. The library's
     * own page.h says what each does. */
    void (*page_look)(const struct mm_pagetable *pt, uint64_t at, struct mmi_page *out);
    mm_status_t (*page_fill)(struct mm_pagetable *pt, uint64_t at, mm_paddr_t paddr,
                             mm_prot_t prot);
    mm_status_t (*page_swap)(struct mm_pagetable *pt, uint64_t at, struct mmi_page *seen,
                             mm_paddr_t paddr, mm_prot_t prot);
    mm_status_t (*guard)(struct mm_pagetable *pt, struct mm_vrange range);
    mm_status_t (*unmap)(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                         struct mm_gather *gather);
    mm_status_t (*protect)(struct mm_pagetable *pt, struct mm_vrange range, mm_prot_t prot,
                           uint32_t flags, struct mm_gather *gather);
    /** `type` is known; whether the CPU has it is the backend's to say. */
    mm_status_t (*set_type)(struct mm_pagetable *pt, struct mm_vrange range, mm_memtype_t type,
                            uint32_t flags);
    /** Merge the tables that `range` touches and that lie in `within`, into leaves of at most what
     * MM_PAGING_ONLY_4K and MM_PAGING_MAX_2M of `flags` allow; returns the number of larger leaves
     * made. */
    uint64_t (*merge)(struct mm_pagetable *pt, struct mm_vrange range, struct mm_vrange within,
                      uint32_t flags);
    void (*reclaim)(struct mm_pagetable *pt, struct mm_vrange range, struct mm_gather *gather);
    mm_status_t (*translate)(const struct mm_pagetable *pt, mm_vaddr_t at, struct mm_mapping *out);
    mm_status_t (*walk)(const struct mm_pagetable *pt, struct mm_vrange range,
                        mm_paging_visit_fn visit, void *ctx);
    /** As walk, and of soft slots too. */
    void (*list)(const struct mm_pagetable *pt, struct mm_vrange range, mm_paging_slot_fn visit,
                 void *ctx);
    mm_status_t (*clone)(struct mm_pagetable *from, struct mm_pagetable *to, struct mm_vrange range,
                         mm_paging_share_fn share, void *ctx, struct mm_gather *gather);
    mm_status_t (*replace)(struct mm_pagetable *pt, mm_vaddr_t at, mm_paddr_t paddr, mm_prot_t prot,
                           uint32_t flags, struct mm_gather *gather);
    /** `len` is the size of a leaf, `at` aligned to it, `now` of a kind and values that exist. */
    mm_status_t (*slot_get)(const struct mm_pagetable *pt, mm_vaddr_t at, struct mm_slot *out);
    mm_status_t (*slot_cas)(struct mm_pagetable *pt, mm_vaddr_t at, uint64_t len,
                            struct mm_slot *seen, const struct mm_slot *now,
                            struct mm_gather *gather);
    mm_status_t (*set_software)(struct mm_pagetable *pt, struct mm_vrange range, uint32_t set,
                                uint32_t clear, uint32_t flags);
    mm_status_t (*set_key)(struct mm_pagetable *pt, struct mm_vrange range, uint32_t key,
                           uint32_t flags, struct mm_gather *gather);
    mm_status_t (*harvest)(struct mm_pagetable *pt, struct mm_vrange range, uint32_t what,
                           mm_paging_visit_fn fn, void *ctx, struct mm_gather *gather);
    mm_status_t (*take)(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                        mm_paging_taken_fn fn, void *ctx, struct mm_gather *gather);
    /** `at` is in the range of the cursor; edits: the place is declared, and not the end. */
    mm_status_t (*cursor_find)(struct mm_paging_cursor *cursor, mm_vaddr_t at,
                               struct mm_mapping *out);
    mm_status_t (*cursor_next)(struct mm_paging_cursor *cursor, struct mm_slot *out);
    mm_status_t (*cursor_map)(struct mm_paging_cursor *cursor, mm_paddr_t paddr, uint64_t len,
                              mm_prot_t prot, mm_memtype_t type);
    mm_status_t (*cursor_unmap)(struct mm_paging_cursor *cursor, uint32_t flags,
                                struct mm_gather *gather);
    mm_status_t (*cursor_protect)(struct mm_paging_cursor *cursor, mm_prot_t prot,
                                  struct mm_gather *gather);
    mm_status_t (*check)(const struct mm_pagetable *pt);
    /** Tell of every entry of the whole root, declared or not, but those that allow nothing, and
     * those of the root that `beside` (NULL: none) has as well. */
    void (*view)(const struct mm_pagetable *pt, const struct mm_pagetable *beside,
                 mm_paging_entry_fn tell, void *ctx);
    /** Switch this CPU to the page table's root. */
    void (*activate)(struct mm_pagetable *pt);
    /** The root that this CPU walks; and walk another, dropping every translation. */
    mm_paddr_t (*current_root)(void *ctx);
    void (*load_root)(void *ctx, mm_paddr_t root);
    /** Drop translations of the ranges on this CPU (nr_ranges 0: of everything, for a kernel root
     * what is global too); shifts: by range, log2 of the smallest leaf that went. */
    void (*flush)(struct mm_pagetable *pt, const struct mm_vrange *ranges, const uint8_t *shifts,
                  uint32_t nr_ranges);
    /**
     * The rest serves the shootdown (tlb.h), which decides what this CPU must forget. ASIDs are
     * names under which translations are kept while another root is loaded (PCIDs); how many there
     * are: 0 is always one.
     */
    uint32_t (*nr_asids)(void *ctx);
    /** Walk this root under this ASID; `keep`: what is cached under it is still good. */
    void (*load)(void *ctx, mm_paddr_t root, uint32_t asid, bool keep);
    /** Drop the leaves of at least 1 << shift bytes that hold a byte of `first` to `last`: what is
     * cached under the ASID in use, tables on the way to anywhere too, and what is global. */
    void (*flush_pages)(void *ctx, uint64_t first, uint64_t last, unsigned shift);
    /** Drop all under the ASID in use that is not global; and all there is, under any ASID. */
    void (*flush_asid)(void *ctx);
    void (*flush_everything)(void *ctx);
    /** The table after one that unmap has chained to a gather. */
    mm_pfn_t (*chain_next)(const struct mm_pagetable *pt, mm_pfn_t table);
};

MM_END_DECLS

#endif
