// SPDX-License-Identifier: MIT
/**
 * Address spaces: what a process, or the kernel itself, sees of memory.
 *
 * A space is a root of page tables and a tree of *regions* (space_map.h); a region is a range of
 * pages with one protection. Mapping makes a region and no pages; the first touch faults, and
 * mm_space_fault() puts a frame there: the shared zero page for a read, a zeroed one for a write. A
 * clone shares all frames with its parent, read-only in both, until one of them writes. For private
 * memory the page tables are the truth: what is not in them has not been touched.
 *
 *     space ──> regions (tree by address: who may do what where)
 *       └─────> page table (which frame is where now)
 *
 * Spaces are reference-counted handles, made by a *manager* (struct mm_spaces), which knows where
 * frames, tables and nodes come from. The last put of a space returns every frame, table and root.
 *
 * What a space may hold is mm_space_range(): for a user space the user range of the kernel's root,
 * but for page 0 (so that null faults) and the last page (a SYSCALL that ends there would return to
 * an address that is not canonical, and SYSRET faults on it in ring 0 on Intel: SDM vol. 2B).
 * The kernel's own space has no lazy pages: its regions are populated when they are mapped, because
 * a kernel that faults in its own fault handler has no way out.
 *
 * Locking: each space has one lock that is shared or exclusive and spins. Faults of pages that are
 * there or missing share it, so that threads of one space fault in parallel, and so do find, next,
 * list, read, write and clear; what edits regions or tables has it alone. Get, put, range and id
 * take none; clone holds the parent's, and the child is nobody else's yet. What meets a device takes
 * the lock of the devices for moments, the arena's or the manager's own. The kernel's root is edited
 * under the kernel space's lock alone as long as that space exists. Calls may be made on any CPU,
 * not from interrupt handlers that may interrupt a call on the same space. None sleeps.
 * docs/decisions/0016-space-locks.md says where this goes.
 */
#ifndef MM_SPACE_H
#define MM_SPACE_H

#include <mm/cache.h>
#include <mm/kva.h>
#include <mm/paging.h>
#include <mm/space_map.h>
#include <mm/tlb.h>

MM_BEGIN_DECLS

/* --- the manager ------------------------------------------------------------------------------ */

/**
 * Commit charge: whether memory may be promised that is not there. What counts is private memory
 * that may be written, from when it is mapped or made writable, to when it is unmapped.
 */
enum mm_commit {
    MM_COMMIT_HEURISTIC = 0, /**< a call that asks for more than all frames is refused */
    MM_COMMIT_ALWAYS = 1,    /**< nothing is refused */
    MM_COMMIT_NEVER = 2,     /**< not more than commit_pages in all */
};

struct mm_spaces_config {
    struct mm_frames *frames;         /**< user frames; needs MM_FRAMES_REFCOUNTS */
    const struct mm_physmap *physmap; /**< copied: a direct map of all that `frames` manages */
    struct mm_pagetable *kernel; /**< the kernel's root, with a user range; outlives the manager */
    struct mm_pool *pool;        /**< spaces and what their regions need; outlives the manager */
    struct mm_platform platform;
    /**
     * Where the kernel's own space maps: page-aligned, inside one declared kernel range, and used
     * by nobody else. Length 0: there is no kernel space.
     */
    struct mm_vrange kernel_range;
    /** Whose device mappings must agree with the spaces' in memory type; NULL: only spaces map
     * devices. Outlives the manager. */
    struct mm_kva *kva;
    enum mm_commit commit; /**< how much memory may be promised */
    /** With MM_COMMIT_NEVER: pages that may be promised in all spaces together; 0: as many as
     * `frames` has. */
    uint64_t commit_pages;
};

/** Makes spaces. Storage is the caller's; fields are the library's: `c` = constant after init, `a` =
 * atomic. */
struct mm_spaces {
    uint32_t magic;                    /**< c */
    uint32_t nr_spaces;                /**< a: user spaces alive */
    struct mm_frames *frames;          /**< c */
    struct mm_physmap physmap;         /**< c */
    struct mm_pagetable *kernel_table; /**< c */
    struct mm_platform platform;       /**< c */
    struct mm_cache space_cache;       /**< a */
    struct mm_cache region_cache;      /**< a */
    struct mm_cache bucket_cache;      /**< a */
    struct mm_cache claim_cache;       /**< a */
    struct mm_space *kernel_space;     /**< c */
    struct mm_vrange user_range; /**< c: what a user space may hold; length 0: no user spaces */
    uint64_t next_id;            /**< a */
    mm_pfn_t zero_page;          /**< c: immortal; 0: none, because there are no user spaces */
    struct mm_kva *kva;          /**< c */
    struct mm_kva_devices
        own_devices;       /**< without kva: what spaces have mapped; `d`: its own lock */
    enum mm_commit commit; /**< c */
    uint64_t commit_pages; /**< c */
    uint64_t nr_committed; /**< a: pages promised */
};

/**
 * Make a manager, and the kernel's own space if there is a range for it.
 *
 * @param spaces  zeroed storage
 * @param config  the source of the kernel's root must take its frames from `frames`, and give them
 *                back there
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; a user root as
 *         `kernel`; a physmap that exceeds 2^64; commit) | MM_ERR_NOT_INITIALIZED (frames, kernel,
 *         pool, kva)
 *         | MM_ERR_UNSUPPORTED (frames without counts or without a physmap; physmap with ops)
 *         | MM_ERR_NOT_ALIGNED (kernel_range) | MM_ERR_INVALID_ADDRESS (kernel_range: not in one
 *         kernel range; physmap: does not reach all frames) | MM_ERR_NO_MEMORY
 * Owner:  frames, kernel, pool and kva outlive the manager.
 * Locks:  none; one CPU. Sleeps: never.
 * Cost:   O(1).
 */
MM_MUST_CHECK
mm_status_t mm_spaces_init(struct mm_spaces *spaces, const struct mm_spaces_config *config);

/**
 * Take the manager down, the kernel's space included: all of its regions are unmapped.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (a user
 *         space is alive, or a reference to the kernel's: nothing was done)
 * Locks:  none; no other CPU uses the manager; as mm_gather_end(). Sleeps: never.
 * Cost:   O(regions and pages of the kernel's space).
 */
MM_MUST_CHECK
mm_status_t mm_spaces_destroy(struct mm_spaces *spaces);

struct mm_spaces_stats {
    uint32_t nr_spaces;      /**< user spaces alive */
    uint32_t nr_kernel_refs; /**< references to the kernel's space that are not the manager's own */
    uint32_t nr_caches;      /**< object caches that the manager has in its pool */
    uint64_t nr_committed;   /**< pages promised, counted with MM_COMMIT_NEVER; else 0 */
    uint64_t commit_pages;   /**< how many may be; UINT64_MAX: any number */
};

/**
 * Counts of what is alive.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_spaces_get_stats(const struct mm_spaces *spaces, struct mm_spaces_stats *out);

/**
 * Check what spaces share: that the caches of spaces and of their nodes are well formed; that as many
 * spaces are allocated as are counted, and as many claims of devices as there are; that the zero
 * page is immortal and zero; that no more is promised than may be; and without an arena that no page
 * of a device has two memory types (with one, mm_kva_check() tells). While no user space is alive,
 * also that every region, bucket and promise is the kernel space's: none was lost. What is found
 * first is told the log op. What is in a space is for mm_space_check().
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the devices', without an arena while their ranges are compared; no other CPU is in the
 *         manager or in one of its spaces, or contradictions are told that are none. Sleeps: never.
 * Cost:   O(slabs), and without an arena O(n log n) of n ranges of devices.
 */
MM_MUST_CHECK
mm_status_t mm_spaces_check(struct mm_spaces *spaces);

/* --- limits ----------------------------------------------------------------------------------- */

/** What may be used at most. 0: any amount. */
struct mm_space_limits {
    uint64_t mapped_bytes;   /**< in regions */
    uint64_t resident_bytes; /**< in pages that are there, but a device's */
};

/**
 * Spaces that have limits together: a job, a container, a user. Storage is the caller's; fields are
 * the library's: `c` = constant after init, `a` = atomic.
 */
struct mm_space_group {
    uint32_t magic;                /**< c */
    uint32_t nr_spaces;            /**< a */
    struct mm_space_limits limits; /**< a: each field */
    uint64_t mapped_bytes;         /**< a */
    uint64_t resident_bytes;       /**< a */
};

struct mm_space_group_stats {
    struct mm_space_limits limits;
    uint64_t mapped_bytes;
    uint64_t resident_bytes;
    uint32_t nr_spaces;
};

/**
 * Make a group.
 *
 * @param group   zeroed storage
 * @param limits  copied; NULL: none
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Owner:  the caller keeps the storage until mm_space_group_destroy().
 * Locks:  none; one CPU. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_space_group_init(struct mm_space_group *group, const struct mm_space_limits *limits);

/**
 * Take a group down; the storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (a space is
 *         in it)
 * Locks:  none; nobody makes a space in it meanwhile. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_space_group_destroy(struct mm_space_group *group);

/**
 * Give a group other limits. Nothing is taken away: what exceeds them stays, and more is refused.
 *
 * @param limits  NULL: none
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_space_group_set_limits(struct mm_space_group *group,
                                      const struct mm_space_limits *limits);

/**
 * What a group uses.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_space_group_get_stats(const struct mm_space_group *group,
                                     struct mm_space_group_stats *out);

/* --- spaces ----------------------------------------------------------------------------------- */

/**
 * How a user space is laid out. All zero: from end to end of what a space may hold, lowest places
 * first.
 *
 *     lowest        brk      <── mmap_base         stack       top
 *       |  program  | heap ──>      |    free        |<─gap─[ stack ]|
 */
struct mm_space_layout {
    uint64_t lowest; /**< no region begins below; page-aligned; 0: the space's first address */
    /** Regions without a place of their own go below it, from high to low, and above it only when
     * there is no room below; page-aligned; 0: from `lowest` up. */
    uint64_t mmap_base;
    uint64_t top;       /**< no region ends above; page-aligned; 0: the space's end */
    uint64_t stack_gap; /**< bytes that stay free below a stack; page-aligned; 0: 1 MiB */
    uint64_t stack_max; /**< bytes that a stack may grow to; page-aligned; 0: 8 MiB */
    /** Where mmap_base goes down, by a random number of pages below 2^random_bits: the random op;
     * at most 40. */
    uint32_t random_bits;
};

struct mm_space_config {
    struct mm_space_layout layout;
    struct mm_space_limits limits;
    struct mm_space_group *group; /**< NULL: in none; outlives the space */
};

/**
 * A user space with no region and a reference count of 1.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_UNSUPPORTED (the kernel's root has no user range, or one of less than four
 *         pages) | MM_ERR_FAULT (a frame that cannot be a root) | what the source of the kernel's
 *         root answers
 * Owner:  the caller, of one reference: mm_space_put().
 * Locks:  none. Sleeps: never.
 * Cost:   one frame for the root.
 */
MM_MUST_CHECK
mm_status_t mm_space_create(struct mm_spaces *spaces, struct mm_space **out);

/**
 * A user space with a layout, limits and a group. A clone has the same.
 *
 * @param config    NULL: as mm_space_create()
 * @param[out] out  untouched on error
 * @return as mm_space_create(), and MM_ERR_NOT_ALIGNED (layout) | MM_ERR_INVALID_ADDRESS (layout:
 *         outside of the user range, or lowest, mmap_base and top not in this order, or less than
 *         2^random_bits pages between lowest and mmap_base) | MM_ERR_INVALID_ARGUMENT (random_bits
 *         above 40, or without mmap_base) | MM_ERR_NOT_INITIALIZED (group)
 * Owner:  the caller, of one reference: mm_space_put(). The group outlives the space.
 * Locks:  none. Sleeps: never.
 * Cost:   one frame for the root.
 */
MM_MUST_CHECK
mm_status_t mm_space_create_with(struct mm_spaces *spaces, const struct mm_space_config *config,
                                 struct mm_space **out);

/**
 * The layout as it is: what was 0 is filled in, and mmap_base is where the random number put it.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_UNSUPPORTED (the kernel's space)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_space_get_layout(const struct mm_space *space, struct mm_space_layout *out);

/**
 * Give a space other limits. Nothing is taken away: what exceeds them stays, and more is refused.
 *
 * @param limits  NULL: none
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_UNSUPPORTED (the kernel's space)
 * Locks:  the space's. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_space_set_limits(struct mm_space *space, const struct mm_space_limits *limits);

/**
 * The kernel's own space. Lives as long as the manager, which holds a reference.
 *
 * @return NULL if there is none, or the manager is null or not initialised
 * Owner:  the manager; mm_space_get() for a reference of one's own.
 * Locks:  none; any context. Cost: O(1).
 */
struct mm_space *mm_space_kernel(struct mm_spaces *spaces);

/**
 * One more reference; the count saturates, and then the space lives for ever. Panics if the space
 * has none; null is an illegal instruction.
 *
 * Locks:  none; any context. Cost: O(1).
 */
void mm_space_get(struct mm_space *space);

/**
 * One reference less; the last one unmaps everything and returns every frame, table and root.
 * The space must then not be active on any CPU. Panics if the space has no reference, if it is
 * active on this CPU, or with a tlb on any, or if the reference to the kernel's space is the
 * manager's; null is an illegal instruction.
 *
 * @return true if this was the last
 * Locks:  none, the space's not held; the last one those of devices for moments, and as
 *         mm_gather_end(). Sleeps: never.
 * Cost:   O(1); the last one O(regions + touched pages).
 */
bool mm_space_put(struct mm_space *space);

/**
 * Make it the space that this CPU runs in. To leave it for none: mm_paging_leave() of the kernel's
 * root.
 *
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED (this CPU is not online in
 *         the tlb of the kernel's root)
 * Owner:  the caller keeps a reference as long as the space is active.
 * Locks:  the space's; none if the kernel's root has a tlb, and then as mm_paging_activate().
 * Cost:   one load of the root register.
 */
MM_MUST_CHECK
mm_status_t mm_space_activate(struct mm_space *space);

/**
 * The space's page table, to look at while nobody faults in the space; mm_space_with_table() to look
 * at any time, and to edit it.
 *
 * @return NULL for no space
 * Owner:  the space.
 * Locks:  the space's, for a moment: what faults put there is counted in the table. Cost: O(1).
 */
struct mm_pagetable *mm_space_table(struct mm_space *space);

/**
 * Do something with the space's page table under its lock. Kernels that map something by themselves
 * do it outside of mm_space_range(): what lies in it is taken for a page of a region.
 * mm_space_check() tells of it, a clone shares it and an unmap releases it as a frame. Who pins a
 * frame of the space, or takes a reference to it, does so here.
 *
 * @param change  called once, with the space's lock held; must not call back into the space
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null) | what `change` answers
 * Locks:  the space's. Sleeps: if `change` does. Cost: that of `change`.
 */
MM_MUST_CHECK
mm_status_t mm_space_with_table(struct mm_space *space,
                                mm_status_t (*change)(void *ctx, struct mm_pagetable *table),
                                void *ctx);

/**
 * What the space may hold; regions lie in it.
 *
 * @return an empty range for no space
 * Locks:  none; any context. Cost: O(1).
 */
struct mm_vrange mm_space_range(const struct mm_space *space);

/**
 * A number that no other space of this manager ever has; the kernel's space has 0.
 *
 * @return UINT64_MAX for no space
 * Locks:  none; any context. Cost: O(1).
 */
uint64_t mm_space_id(const struct mm_space *space);

/* --- faults ----------------------------------------------------------------------------------- */

/** What became of a fault. */
enum mm_fault_result {
    MM_FAULT_MINOR = 0,   /**< nothing was to do: a stale or spurious fault; go on */
    MM_FAULT_ZERO = 1,    /**< a zeroed frame was put there, or the zero page to read; go on */
    MM_FAULT_COW = 2,     /**< a private copy was made, or the last sharer took the frame; go on */
    MM_FAULT_PENDING = 3, /**< a pager works on it (not in this version) */
    MM_FAULT_SIGNAL_MAP = 4,    /**< no region there: a Unix would send SIGSEGV, SEGV_MAPERR */
    MM_FAULT_SIGNAL_ACCESS = 5, /**< the region forbids it: SIGSEGV, SEGV_ACCERR */
    MM_FAULT_SIGNAL_BUS = 6, /**< a device's page is missing, or an object ends before it: SIGBUS */
    MM_FAULT_NO_MEMORY = 7,  /**< no frame: reclaim or kill, then retry */
    MM_FAULT_CORRUPT = 8,    /**< a reserved bit was set in a table */
    MM_FAULT_HUGE = 9,       /**< 2 MiB of zeroed frames were put there; go on */
    MM_FAULT_LIMIT = 10,     /**< a limit of the space or its group: kill, or raise it and retry */
};

#define MM_FAULT_COUNT 11

/** Whether the access can succeed now: the kernel goes on as if nothing had been. */
static inline bool mm_fault_resolved(enum mm_fault_result result)
{
    return result <= MM_FAULT_COW || result == MM_FAULT_HUGE;
}

/**
 * Handle a page fault. Progress is guaranteed: a fault answered "go on" does not come again for the
 * same reason.
 *
 * Faults of different pages run in parallel, and of one page too. A fault below a stack that may
 * grow (MM_SPACE_STACK) grows it first.
 *
 * One sort of fault is not for this call, because no table tells of it: with SMAP, an access of the
 * kernel to user memory while EFLAGS.AC is clear. The kernel's handler knows (mode, AC), and treats
 * it as a fault of the kernel. An instruction fetch by the kernel from a user page is
 * MM_FAULT_SIGNAL_ACCESS here, with SMEP or without.
 *
 * @param[out] out  what became of it; untouched on error
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null, unknown flags)
 * Locks:  the space's, shared; exclusively where a stack may grow, or a leaf of 2 MiB is made or
 *         split.
 *         Where a shared page is broken off, it waits for other CPUs as mm_gather_end() does.
 *         Interrupts as the caller likes. Sleeps: never.
 * Cost:   O(log regions), one walk, and the zeroing or copying of a page.
 */
MM_MUST_CHECK
mm_status_t mm_space_fault(struct mm_space *space, const struct mm_fault *fault,
                           enum mm_fault_result *out);

/* --- clone ------------------------------------------------------------------------------------ */

/**
 * A copy-on-write copy of a user space: what fork() needs; a child of vfork() shares its parent's
 * handle instead: mm_space_get(). One flush of the parent, and one more where pinned pages were
 * copied. On error the parent is as it was, its page table included.
 *
 * The child has the parent's layout, limits, group, break and devices. A page that is pinned
 * (mm_frame_pin(): a device reads or writes it) stays the parent's, with its rights, and the child
 * has a copy of it at once, of the whole leaf if it lies in one of 2 MiB. Who pins while the space
 * may be cloned does so under its lock (mm_space_with_table()). No region of the child is wired.
 *
 * @param[out] out  the child, reference count 1; untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY (also: the commit charge) | MM_ERR_LIMIT (the group's; the
 *         space's own are not asked)
 *         | MM_ERR_INVALID_ARGUMENT (null, or the kernel's space)
 *         | MM_ERR_FAULT (a frame that cannot be a table) | what the source of the kernel's root
 *         answers
 * Owner:  the caller, of one reference to the child.
 * Locks:  the parent's, and with devices theirs for moments; as mm_gather_end(). Sleeps: never.
 * Cost:   O(regions + touched pages), and a copy of each pinned page.
 */
MM_MUST_CHECK
mm_status_t mm_space_clone(struct mm_space *space, struct mm_space **out);

/* --- from outside ----------------------------------------------------------------------------- */

/** read, write, clear: also where the region forbids it, as a debugger does; a page that is written
 * so becomes private. Not in guards. */
#define MM_SPACE_FORCE 1u

/**
 * Read memory of a user space that need not be the active one, as its own code would: through its
 * tables and the direct map. Pages that are not there are faulted in (a missing one reads as zero),
 * and no access goes to a frame that the space has given up.
 *
 * Each page is read while the space cannot change; between pages it can.
 *
 * @param[out] to       bytes that were not read are as they were
 * @param flags         MM_SPACE_FORCE
 * @param[out] residue  bytes not read, always the last ones: 0 on MM_OK, `len` on
 *                      MM_ERR_INVALID_ADDRESS; untouched on MM_ERR_INVALID_ARGUMENT and _FLAGS; may
 *                      be null
 * @return MM_OK (also for len 0) | MM_ERR_FAULT (no region, or one that forbids it)
 *         | MM_ERR_NO_MEMORY (no frame, or a limit) | MM_ERR_INVALID_ADDRESS (not wholly in the
 *         space's range) | MM_ERR_INVALID_FLAGS | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_UNSUPPORTED (the kernel's space; memory of a device that the direct map does not
 *         reach as write-back memory)
 * Locks:  the space's, shared, as mm_space_fault(); exclusively for a leaf that is not writable,
 *         e.g. because a relative has it too, but the zero page. Sleeps: never.
 * Cost:   O(len), and for each page O(log regions) and a walk.
 */
MM_MUST_CHECK
mm_status_t mm_space_read(struct mm_space *space, void *to, mm_vaddr_t from, uint64_t len,
                          uint32_t flags, uint64_t *residue);

/**
 * Write memory of a user space, as mm_space_read(). Copy-on-write is broken as by a write of the
 * space's own code: no other space sees it.
 *
 * @param[out] residue  bytes not written, as for mm_space_read()
 * @return as mm_space_read()
 * Locks:  as mm_space_read(); exclusively also while a page of the space is given up
 *         (MM_ADVICE_FREE). Sleeps: never. Cost: as mm_space_read().
 */
MM_MUST_CHECK
mm_status_t mm_space_write(struct mm_space *space, mm_vaddr_t to, const void *from, uint64_t len,
                           uint32_t flags, uint64_t *residue);

/**
 * Zero memory of a user space, as mm_space_write().
 *
 * @param[out] residue  bytes not cleared, as for mm_space_read()
 * @return as mm_space_read()
 * Locks:  as mm_space_write(). Sleeps: never. Cost: as mm_space_read().
 */
MM_MUST_CHECK
mm_status_t mm_space_clear(struct mm_space *space, mm_vaddr_t to, uint64_t len, uint32_t flags,
                           uint64_t *residue);

/* --- asking ----------------------------------------------------------------------------------- */

struct mm_space_stats {
    uint64_t id;
    uint64_t mapped_bytes;   /**< in regions */
    uint64_t resident_bytes; /**< in pages that are there, but a device's */
    uint64_t nr_regions;
    uint64_t nr_tables; /**< of the page table; for the kernel's space, of the kernel's root */
    uint64_t nr_faults[MM_FAULT_COUNT]; /**< by enum mm_fault_result */
    uint64_t device_bytes;              /**< in regions of devices; not in resident_bytes */
    uint64_t committed_bytes;           /**< promised, counted with MM_COMMIT_NEVER; else 0 */
    uint64_t nr_reused;                 /**< of the MM_FAULT_COW: the frame was taken, not copied */
    uint64_t nr_zero_page;              /**< of the MM_FAULT_ZERO: with the zero page */
    uint64_t nr_stack_growths;
    uint32_t refs;
};

/**
 * Sizes and counts, of one moment.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the space's. Cost: O(1); for the kernel's space O(regions).
 */
MM_MUST_CHECK
mm_status_t mm_space_get_stats(struct mm_space *space, struct mm_space_stats *out);

/**
 * Walk tree and tables: order, balance, gaps, no page outside a region, no right that its region
 * lacks, every frame allocated and counted, every device claimed and mapped as its region says, and
 * charges and promises as regions and pages are. Each contradiction is one line to the log op.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the space's, and with devices theirs for moments. Sleeps: never.
 * Cost:   O(regions + slots of all tables).
 */
MM_MUST_CHECK
mm_status_t mm_space_check(struct mm_space *space);

MM_END_DECLS

#endif
