// SPDX-License-Identifier: MIT
/**
 * The kernel virtual arena: one range of the kernel's addresses, from which ranges are taken that
 * are mapped as they are asked for: memory in pages from anywhere (vmalloc), devices (ioremap),
 * stacks with a red zone, pages for a heap.
 *
 *      guard   what was asked for   guard    guard   red zone     stack      guard
 *     ┌ ─ ─ ┬────────────────────┬ ─ ─ ┐    ┌ ─ ─ ┬ ─ ─ ─ ─ ┬─────────────┬ ─ ─ ┐
 *       no    frames, or a device   no         no mapping      frames         no
 *     └ ─ ─ ┴────────────────────┴ ─ ─ ┘    └ ─ ─ ┴ ─ ─ ─ ─ ┴─────────────┴ ─ ─ ┘
 *
 * Ranges lie in a balanced tree that finds room in O(log n); a table finds the range of an address
 * that is freed in one lookup, without a lock. So to free is possible in any context: the range is
 * claimed by one compare-and-exchange, which tells every double free, and put on a list. What is on
 * the list stays mapped, and belongs to nobody, until mm_kva_purge() unmaps all of it with one
 * flush, and only then gives frames and addresses back. Allocating purges by itself where it may:
 * when more than `purge_pages` pages wait, and before it fails.
 *
 * Two contexts. With MM_KVA_ATOMIC a call never waits: it does not purge, it answers MM_ERR_BUSY
 * where the lock is held, and for tables it may take the frames that were put aside for such calls.
 * Without it, a call takes the arena's lock and may flush other CPUs: not in an interrupt handler.
 *
 * The lock serialises what edits the kernel's root here. A kernel that edits that root elsewhere
 * too (another arena, the kernel's own space) gives ops that take the lock of the root. It is
 * taken inside of the arena's, and never held across the end of a gather.
 *
 * Misuse is only to free what one does not own: twice, by an address that is not the start, by the
 * wrong call, or what was never allocated. Each is a panic of room "kva" that names the address, the
 * range it lies in and what the caller claims.
 */
#ifndef MM_KVA_H
#define MM_KVA_H

#include <mm/cache.h>
#include <mm/paging.h>
#include <mm/tlb.h>

MM_BEGIN_DECLS

/** Flags of requests. */
#define MM_KVA_ATOMIC    (1u << 0) /**< never waits; frames and tables may come from the reserves */
#define MM_KVA_ZERO      (1u << 1) /**< memory only: contents are zero */
#define MM_KVA_NO_GUARDS (1u << 2) /**< no guard on either side */
#define MM_KVA_FLAGS_ALL 7u

/** Most pages of a guard on one side. */
#define MM_KVA_MAX_GUARD 4096u

/** Pages that wait for a purge before an allocation purges by itself: 16 MiB. */
#define MM_KVA_PURGE_PAGES 4096u

/** Tables that a page of the smallest size can need below a root entry, at most. */
#define MM_KVA_TABLES_PER_PAGE 3u

/** What a range is. */
enum mm_kva_kind {
    MM_KVA_MEMORY = 0,  /**< mm_kva_alloc() */
    MM_KVA_DEVICE = 1,  /**< mm_kva_map() */
    MM_KVA_STACK = 2,   /**< mm_kva_stack_alloc() */
    MM_KVA_PAGES = 3,   /**< by mm_page_source_kva() */
    MM_KVA_PERCPU = 4,  /**< percpu.h */
    MM_KVA_GUARDED = 5, /**< mm_kva_guards_alloc() */
};

#define MM_KVA_KINDS 6u

/** The lock of the kernel's root, for kernels that edit it elsewhere too. All three, or no ops. */
struct mm_kva_ops {
    void (*lock)(void *ctx);
    bool (*try_lock)(void *ctx); /**< false: it is held */
    void (*unlock)(void *ctx);
};

struct mm_kva_config {
    struct mm_pagetable *kernel;      /**< a kernel root */
    struct mm_frames *frames;         /**< what stands behind the frame source of `kernel` */
    const struct mm_physmap *physmap; /**< a direct map of all of `frames`; copied */
    struct mm_pool *pool;             /**< for what describes the ranges; not over this arena */
    struct mm_platform platform;      /**< panic, log, relax */
    struct mm_vrange range;           /**< in one of the kernel's ranges; nobody else maps in it */
    uint32_t guard_pages;             /**< on each side of a range; 0: 1 */
    uint32_t red_zone_pages;          /**< below a stack; 0: 1 */
    uint32_t nr_stacks;               /**< freed stacks that are kept for reuse */
    /** Frames put aside for page tables of MM_KVA_ATOMIC calls. MM_KVA_TABLES_PER_PAGE are enough
     * for one that maps less than 2 MiB, and 3 more where it crosses a multiple of 2 MiB. */
    uint32_t nr_reserve_tables;
    uint64_t purge_pages;         /**< 0: MM_KVA_PURGE_PAGES */
    const struct mm_kva_ops *ops; /**< NULL: only the arena edits the root */
    void *ctx;
};

/** Physical ranges that are mapped, by memory type: by the arena, and by spaces. `a` = atomic, `d` =
 * under `lock`. */
struct mm_kva_devices {
    uint32_t lock;                              /**< a */
    uint64_t nr_foreign;                        /**< d: by others than the arena */
    struct mm_ranges by_type[MM_MEMTYPE_COUNT]; /**< d */
};

struct mmi_kva_range;

/** An arena. Storage is the caller's; fields are the library's: `c` = constant after init, `l` =
 * under the lock, `p` = under the purge lock, `a` = atomic; `devices` has a lock of its own. */
struct mm_kva {
    uint32_t magic;               /**< c */
    uint32_t lock;                /**< a */
    uint32_t purge_lock;          /**< a */
    uint32_t guard_pages;         /**< c */
    uint32_t red_zone_pages;      /**< c */
    uint32_t max_stacks;          /**< c */
    uint32_t nr_stacks;           /**< l: kept */
    uint32_t max_reserve;         /**< c */
    uint32_t nr_reserve;          /**< l */
    uint32_t reserve_mark;        /**< l: what it was before the call that maps; 0: none does */
    struct mm_pagetable *kernel;  /**< c */
    struct mm_frames *frames;     /**< c */
    struct mm_pool *pool;         /**< c */
    struct mm_physmap physmap;    /**< c */
    struct mm_platform platform;  /**< c */
    const struct mm_kva_ops *ops; /**< c */
    void *ctx;                    /**< c */
    struct mm_ranges ranges;      /**< l: guards are part of a range */
    struct mm_kva_devices devices;
    struct mm_slab_table table;       /**< entries atomic: by page, the range that begins there */
    uint64_t table_pages;             /**< c */
    struct mmi_kva_range *lazy;       /**< a: freed, and still mapped */
    struct mmi_kva_range *stacks;     /**< l: kept for reuse */
    struct mm_frame_source spare;     /**< c: hands out the reserve */
    mm_pfn_t reserve;                 /**< l: first of a chain */
    uint64_t purge_pages;             /**< c */
    uint64_t stale_first;             /**< l: guarded pages that were closed since the last purge */
    uint64_t stale_last;              /**< a: last byte; 0: none */
    uint64_t nr_lazy_pages;           /**< a */
    uint64_t nr_ranges[MM_KVA_KINDS]; /**< a */
    uint64_t nr_pages[MM_KVA_KINDS];  /**< a */
    uint64_t nr_purges;               /**< a */
    uint64_t nr_flushes;              /**< a */
    uint64_t nr_failed;               /**< a */
    struct mm_cache nodes;            /**< ranges */
    struct mm_gather gather;          /**< p: what a purge unmaps */
    struct mm_gather unused;          /**< l: told of leaves that no CPU can have seen */
    uint64_t root_inline[MM_POOL_ROOT_INLINE];
};

/**
 * Make an arena.
 *
 * @param kva  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; `kernel` is a user or
 *         entry root; an op is missing; guards above MM_KVA_MAX_GUARD) | MM_ERR_NOT_INITIALIZED
 *         (kernel, frames, pool) | MM_ERR_UNSUPPORTED (physmap with ops) | MM_ERR_NOT_ALIGNED
 *         (range) | MM_ERR_INVALID_SIZE (range empty, or wraps) | MM_ERR_INVALID_ADDRESS (range: in
 *         none of the kernel's; the physmap does not reach all frames) | MM_ERR_NO_MEMORY (frames
 *         of the reserve; pages of the pool)
 * Owner:  the caller keeps `kva`; what it is configured with outlives it.
 * Locks:  none; one CPU. Sleeps: never.
 * Cost:   O(1), and one frame for each of the reserve; a range of more than 64 MiB costs 1 to 8
 *         pages of the pool.
 */
MM_MUST_CHECK
mm_status_t mm_kva_init(struct mm_kva *kva, const struct mm_kva_config *config);

/**
 * Take an arena down: cached stacks and what waited for a purge are given back, then the reserve
 * and the pages of the pool. The storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (a range is
 *         out, or a space maps a device: nothing but a purge was done, and cached stacks are given
 *         back)
 * Locks:  as mm_kva_purge(); nobody else uses the arena. Cost: as mm_kva_reclaim().
 */
MM_MUST_CHECK
mm_status_t mm_kva_destroy(struct mm_kva *kva);

/** What to allocate: all zero but `len` is readable and writable memory with the usual guards. */
struct mm_kva_request {
    uint64_t len;          /**< bytes; rounded up to pages */
    uint64_t align;        /**< bytes, a power of two from 4096; 0: 4096, or 2 MiB from 2 MiB on */
    mm_vaddr_t lowest;     /**< first byte that may be used, guards included */
    mm_vaddr_t highest;    /**< last; 0: no limit */
    uint32_t guard_before; /**< pages; 0: the arena's */
    uint32_t guard_after;
    mm_prot_t prot;       /**< 0: readable and writable, global. Else with READ, without USER */
    uint32_t flags;       /**< MM_KVA_... */
    uint32_t node;        /**< with MM_NODE_PREFERRED and MM_NODE_REQUIRED; otherwise 0 */
    uint32_t node_policy; /**< MM_NODE_ANY, MM_NODE_PREFERRED or MM_NODE_REQUIRED */
};

/**
 * Allocate memory that is contiguous in the arena: one run of frames, mapped with the largest
 * leaves, if there is one, else frames from anywhere, page by page. All is mapped, or nothing.
 *
 * @param[out] out  first byte; untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY (frames, tables, or pages of the pool)
 *         | MM_ERR_REGION_NOT_FOUND (no room in the arena where it may lie) | MM_ERR_BUSY
 *         (MM_KVA_ATOMIC: the lock is held) | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT
 *         (null; guards above MM_KVA_MAX_GUARD; node policy) | MM_ERR_INVALID_SIZE (length 0, or
 *         longer than the arena) | MM_ERR_NOT_ALIGNED (align) | MM_ERR_INVALID_ADDRESS (highest
 *         below lowest) | MM_ERR_INVALID_FLAGS (flags, prot) | MM_ERR_NODE_NOT_FOUND
 *         | MM_ERR_FAULT (as for mm_paging_map()) | what the source of the kernel's root answers
 * Owner:  the caller, until mm_kva_free(). Contents: unspecified unless MM_KVA_ZERO. Pages of the
 *         pool that were taken to describe a part of the arena stay, also where the call fails.
 *         Before it fails for want of something, a call without MM_KVA_ATOMIC has purged, and given
 *         kept stacks back.
 * Locks:  the arena's, and the root's; without MM_KVA_ATOMIC those of mm_kva_purge(). With it: any
 *         context. Sleeps: never.
 * Cost:   O(log n) for the addresses, and one step for each gap that is large enough and wrongly
 *         aligned; O(pages) for frames and leaves.
 */
MM_MUST_CHECK
mm_status_t mm_kva_alloc(struct mm_kva *kva, const struct mm_kva_request *request, mm_vaddr_t *out);

/**
 * Map physical memory: the registers of a device, tables of the firmware. `range` may begin and end
 * anywhere: whole pages are mapped, and the offset in the first is kept in what is returned.
 *
 * One physical page must not be mapped with two memory types (SDM vol. 3A, 12.12.4). So what is
 * mapped already, here or in a space that shares its devices with the arena, can be mapped again
 * only with the same type, and memory that `frames` manages, which the direct map shows as
 * write-back, only as that.
 *
 * @param prot      with READ, without USER
 * @param flags     MM_KVA_ATOMIC | MM_KVA_NO_GUARDS
 * @param[out] out  where the first byte is; untouched on error
 * @return MM_OK | MM_ERR_ALREADY_MAPPED (a page of it is mapped with another type)
 *         | MM_ERR_PERMISSION_DENIED (a page of it is managed memory, and `type` is not write-back)
 *         | MM_ERR_NO_MEMORY | MM_ERR_REGION_NOT_FOUND (no room in the arena) | MM_ERR_BUSY
 *         (MM_KVA_ATOMIC: a lock is held) | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT
 *         (null, type) | MM_ERR_INVALID_SIZE (length 0, longer than the arena, or wraps)
 *         | MM_ERR_INVALID_ADDRESS (beyond the CPU's) | MM_ERR_INVALID_FLAGS (flags, prot)
 *         | MM_ERR_UNSUPPORTED (a type that the CPU lacks) | MM_ERR_FAULT (as for mm_paging_map())
 *         | what the source of the kernel's root answers
 * Owner:  the mapping is the caller's, until mm_kva_free() of what was returned.
 * Locks:  as mm_kva_alloc(), and that of the devices.
 * Cost:   as mm_kva_alloc(), with the largest leaves; and O(log n) in the devices that are mapped.
 */
MM_MUST_CHECK
mm_status_t mm_kva_map(struct mm_kva *kva, struct mm_prange range, mm_prot_t prot,
                       mm_memtype_t type, uint32_t flags, mm_vaddr_t *out);

/**
 * Free what mm_kva_alloc() or mm_kva_map() returned. It stays mapped until the next purge: who uses
 * it meanwhile is not stopped, but harms nobody else. Panics at a double free, and at an address
 * that they did not return.
 *
 * Locks:  none; any context, any CPU, whatever the caller holds. Sleeps: never.
 * Cost:   O(1).
 */
void mm_kva_free(struct mm_kva *kva, mm_vaddr_t at);

/**
 * Unmap what was freed: one flush for all of it (and one more for each MM_GATHER_MAX_RUNS runs of
 * frames that do not follow each other), then frames, tables and addresses are given back.
 *
 * @return pages that were unmapped; 0 for a null or uninitialised arena
 * Locks:  the purge lock, the arena's and the root's; only the first across the flush. So no lock
 *         that is ever taken with interrupts off may be held, as for mm_gather_end(). Not in an
 *         interrupt handler. Sleeps: never.
 * Cost:   O(pages) and the flushes; with nothing to do, one exchange.
 */
uint64_t mm_kva_purge(struct mm_kva *kva);

/**
 * A shrinker: gives back the stacks that are kept for reuse, and purges.
 *
 * @return as mm_kva_purge()
 * Locks:  as mm_kva_purge(). Cost: as mm_kva_purge().
 */
uint64_t mm_kva_reclaim(struct mm_kva *kva);

/* --- stacks ----------------------------------------------------------------------------------- */

/**
 * Allocate a stack: memory with the red zone below it and a guard above. A stack of the same length
 * that was freed before is used again, if one is kept.
 *
 * @param len       bytes; rounded up to pages
 * @param flags     MM_KVA_ATOMIC
 * @param[out] out  the stack: it grows down from the end; untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_REGION_NOT_FOUND | MM_ERR_BUSY (MM_KVA_ATOMIC: the lock
 *         is held) | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_INVALID_SIZE
 *         (length 0, or longer than the arena) | MM_ERR_INVALID_FLAGS
 *         | MM_ERR_FAULT (as for mm_paging_map()) | what the source of the kernel's root answers
 * Owner:  the caller, until mm_kva_stack_free(). Contents: unspecified.
 * Locks:  as mm_kva_alloc().
 * Cost:   O(stacks kept) if one is used again, else as mm_kva_alloc().
 */
MM_MUST_CHECK
mm_status_t mm_kva_stack_alloc(struct mm_kva *kva, uint64_t len, uint32_t flags,
                               struct mm_vrange *out);

/**
 * Free a stack that nobody runs on. It is kept for reuse if there is room for it and the lock is
 * free at that moment, else it waits for a purge. Panics as mm_kva_free().
 *
 * @param at  the start of the range that mm_kva_stack_alloc() returned
 * Locks:  the arena's, if it is free; any context. Sleeps: never.
 * Cost:   O(1).
 */
void mm_kva_stack_free(struct mm_kva *kva, mm_vaddr_t at);

/* --- asking ----------------------------------------------------------------------------------- */

enum mm_kva_place_where {
    MM_KVA_INSIDE = 0,      /**< in what the owner asked for */
    MM_KVA_GUARD_BELOW = 1, /**< of a stack: it ran over */
    MM_KVA_GUARD_ABOVE = 2,
    MM_KVA_GUARD_BETWEEN = 3, /**< between the areas of two CPUs, or two guarded pages */
    MM_KVA_FREED = 4,         /**< in what was freed, and waits for a purge or for reuse */
};

/** What an address of the arena belongs to. */
struct mm_kva_place {
    enum mm_kva_kind kind;
    enum mm_kva_place_where where;
    struct mm_vrange range; /**< what its owner asked for, in whole pages, without guards */
};

/**
 * What an address belongs to: for the handler of a page fault, which learns that a stack ran over,
 * and which, or that somebody went beyond a buffer.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND (nothing is there, nor a guard) | MM_ERR_INVALID_ADDRESS
 *         (not in the arena) | MM_ERR_BUSY (the lock was held all the while that it tried: by the
 *         code that was interrupted, or for long by another CPU) | MM_ERR_NOT_INITIALIZED
 *         | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the arena's, for which it tries some thousand times; any context. Sleeps: never.
 * Cost:   O(log n).
 */
MM_MUST_CHECK
mm_status_t mm_kva_explain(struct mm_kva *kva, mm_vaddr_t at, struct mm_kva_place *out);

struct mm_kva_stats {
    uint64_t nr_ranges[MM_KVA_KINDS]; /**< that have an owner, or wait; stacks kept among them */
    uint64_t nr_pages[MM_KVA_KINDS];  /**< of those, without guards */
    uint64_t nr_lazy_pages;           /**< freed, waiting for a purge */
    uint64_t nr_stacks_kept;
    uint64_t nr_reserve_tables; /**< frames that are put aside now */
    uint64_t bytes_used;        /**< of addresses, guards included */
    uint64_t nr_purges;         /**< that found something, and flushes that they made */
    uint64_t nr_flushes;
    uint64_t nr_failed; /**< allocations that found no memory or no room */
};

/**
 * What the arena holds.
 *
 * @param[out] out  untouched on error; exact when no call is going on
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_kva_get_stats(const struct mm_kva *kva, struct mm_kva_stats *out);

/**
 * Compare tree, table, page table and counts: each page of a range is mapped, each page of a guard
 * is not, no physical page of a device has two types. Each contradiction is one line to the log op.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the arena's, the root's, that of the devices; no call on the arena is going on.
 * Cost:   O(pages), and O(log n) for each device that a space maps.
 */
MM_MUST_CHECK
mm_status_t mm_kva_check(struct mm_kva *kva);

/**
 * Print the arena through the log op: a line a range (addresses, size, kind, guards, for devices
 * the physical address and type), and a line of totals.
 *
 *     arena   0xffffc00000000000-0xffffc0003fffffff, 1 GiB
 *     0xffffc00000001000-0xffffc00000004fff  16 KiB       memory  guards 1+1
 *     0xffffc00000007000-0xffffc0000000afff  16 KiB       stack   guards 1+1, kept
 *     3 ranges, 40 KiB mapped, 16 KiB wait for a purge, 3 tables in reserve
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the arena's, across the calls of the log op; not in an interrupt handler.
 * Cost:   a line a range.
 */
MM_MUST_CHECK
mm_status_t mm_kva_dump(struct mm_kva *kva);

/* --- a page source ---------------------------------------------------------------------------- */

/**
 * A page source over the arena: runs of pages between guards, for large objects. Its alloc()
 * answers as mm_kva_alloc(), with MM_PAGES_ATOMIC as with MM_KVA_ATOMIC; its free() is as
 * mm_kva_free(), takes any part of a run, and panics at a page that is free or was not its own. A
 * part that was freed is unmapped by the next purge; its addresses come back with the last part.
 *
 * Its extend() maps more pages behind a run, and the guard moves behind them: MM_OK, and otherwise
 * nothing is changed: MM_ERR_REGION_NOT_FOUND (what is free behind it is too short, or a part at the
 * end was given back) | MM_ERR_INVALID_ARGUMENT (no run begins there; its first page or the last of
 * these is not there; no page) | MM_ERR_INVALID_SIZE (nothing more, or more than the arena) | what
 * else mm_kva_alloc() answers. It never purges: who cannot grow moves.
 *
 * @return all zero if `kva` is null or not initialised
 * Locks:  none; any context. Of its calls: as said; extend() takes the arena's and the root's.
 * Cost:   O(1); of its calls, as mm_kva_alloc() and O(pages).
 */
struct mm_page_source mm_page_source_kva(struct mm_kva *kva);

/* --- guarded pages, for the sampled objects of a heap ----------------------------------------- */

/**
 * A window of pages for sampled objects (heap_report.h), each between two that are never mapped. A
 * page that is closed keeps its frame, so that opening it again needs nothing.
 *
 * Its ops never wait. open() answers MM_ERR_BUSY where the lock is held. close() does nothing then;
 * else the page faults on this CPU at once, on the others as soon as they drop the translation: at
 * the next purge, if not before.
 *
 * @param nr_pages  1 to MM_HEAP_SAMPLES_MAX
 * @param[out] out  for the configuration of one heap; untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_REGION_NOT_FOUND (no room in the arena)
 *         | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_INVALID_SIZE (nr_pages;
 *         longer than the arena) | MM_ERR_FAULT (as for mm_paging_map()) | what the source of the
 *         kernel's root answers
 * Owner:  the caller, until mm_kva_guards_free().
 * Locks:  as mm_kva_alloc() without MM_KVA_ATOMIC. Sleeps: never.
 * Cost:   as mm_kva_alloc(); of its ops, one walk, and for close() one page flush.
 */
MM_MUST_CHECK
mm_status_t mm_kva_guards_alloc(struct mm_kva *kva, uint32_t nr_pages, struct mm_heap_guards *out);

/**
 * Free a window, once its heap is gone. Panics as mm_kva_free(); null is one that is no window.
 *
 * Locks:  none; any context. Sleeps: never. Cost: O(1).
 */
void mm_kva_guards_free(struct mm_kva *kva, const struct mm_heap_guards *guards);

MM_END_DECLS

#endif
