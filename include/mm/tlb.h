// SPDX-License-Identifier: MIT
/**
 * What CPUs remember of page tables, and how they forget it: the gather, and shootdown.
 *
 *     unmap ──> gather: ranges, empty tables, frames ──> flush ──> source of frames
 *                                                          │
 *                            this CPU, and each other that has the page table loaded
 *
 * Unmapping only fills a gather. Ending it flushes the translations first, on every CPU that may
 * hold them, and releases tables and frames after; there is no other way from an unmapped page to
 * the allocator. So a frame is never reused while a stale translation of it can be used.
 *
 * A gather has room for MM_GATHER_MAX_RUNS runs of frames; when that is full it flushes, releases
 * and goes on. Empty tables chain through themselves (in a slot that the hardware sees as not
 * present) and need no room. Nothing is allocated, ever.
 *
 * It is used by one CPU, under the lock that serialises the page table, or ended after that lock is
 * dropped.
 *
 * Several CPUs. A kernel makes one struct mm_tlb for all its CPUs and names it in the configuration
 * of its root. Without one, the library flushes the CPU that it runs on, and that is all.
 *
 *     initiator                                    each other CPU
 *     ---------                                    --------------
 *     edit the tables                              switch in: set its bit in pt->cpus
 *     generation += 1, and a record of the range              read the generation
 *     read pt->cpus                                           load the root, flushed if it is of
 *     flush itself                                            an older generation
 *     interrupt those CPUs  ────────────────────>  mm_tlb_service(): flush what the records say,
 *     wait until each has seen the generation,                then say "seen"
 *     or has left
 *     release tables and frames
 *
 * A page table counts its flushes: its generation. It keeps a record of the last MM_TLB_RING, and
 * each CPU the generation that it has seen. There is no queue: nothing overflows, an interrupt that
 * comes twice or late does no harm, and a CPU that is far behind flushes everything once. Whoever
 * switches in sets its bit before it reads the generation, and an initiator counts before it reads
 * the bits: so one of the two sees the other (both accesses are sequentially consistent). A CPU
 * that is switching in has not seen anything yet, and is waited for.
 *
 * The kernel's root is every online CPU's, whatever root it has loaded. ASIDs (address-space
 * identifiers: PCIDs on x86-64): each CPU keeps the translations of the last MM_TLB_ASIDS roots
 * that it had loaded. What such a root flushed meanwhile, and what the kernel's root did, is found
 * out by generation when the root is loaded again, and then all of that ASID is dropped. An ASID is
 * never the name of a page table: it remembers the id of its page table, which is never used twice.
 *
 * The root register is the library's while a root of it is loaded. A trampoline that loads another
 * root on the way out (the pairs of roots of paging.h) puts back the value that it found, ASID
 * included: a root under an ASID that is not its own is not noticed, and is flushed under the wrong
 * name.
 *
 * Nobody waits for ever: who waits serves itself in each turn, and so does who spins with
 * interrupts off on any lock, if the kernel's relax op (and its own spin loops) call
 * mm_tlb_service(). The rule that is left: no lock that is ever taken with interrupts off is held
 * across the end of a gather, unless all who spin for it serve. The op may_wait lets a kernel check
 * that.
 *
 * Who calls what:
 *
 *     call               interrupts                   where
 *     mm_tlb_init        any                          once, before the kernel's root is made
 *     mm_tlb_online      off, or nobody interrupts    each CPU, before it activates a root
 *     mm_paging_activate, mm_paging_leave
 *                        off, or by interrupt_save    context switch, exit, idle
 *     mm_tlb_service     any                          the interrupt's handler; loops that spin
 *     mm_gather_end      any                          unmap, protect, clone, replace
 *     mm_tlb_offline     off                          a CPU that stops
 */
#ifndef MM_TLB_H
#define MM_TLB_H

#include <mm/paging.h>

MM_BEGIN_DECLS

/* --- gather ----------------------------------------------------------------------------------- */

struct mm_frame_run {
    mm_pfn_t first;
    uint64_t nr;
};

/** Storage is the caller's (some 700 bytes: not for a small stack). Fields are the library's. */
struct mm_gather {
    uint32_t magic; /* all fields belong to who began it */
    uint32_t nr_ranges;
    uint32_t nr_runs;
    struct mm_pagetable *pt;
    struct mm_platform platform; /**< that of `pt`, for when it is gone */
    mm_pfn_t tables;             /**< head of the chain of empty tables; 0: none */
    uint64_t nr_tables;
    struct mm_vrange ranges[MM_GATHER_MAX_RANGES];
    uint8_t shifts[MM_GATHER_MAX_RANGES]; /**< by range: log2 of the smallest leaf */
    struct mm_frame_run runs[MM_GATHER_MAX_RUNS];
};

/**
 * Begin a gather for a page table.
 *
 * @param gather  storage of any content
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED (pt)
 * Owner:  the caller keeps the storage, and the page table alive, until mm_gather_end(), which
 *         panics if it holds something of a page table that was destroyed.
 * Locks:  none; not preempted to another CPU until the end. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_gather_begin(struct mm_gather *gather, struct mm_pagetable *pt);

/**
 * Flush what was gathered, on every CPU that has the page table loaded, then release tables and
 * frames. The gather is empty after, and may be used again. One that is empty, NULL or was never
 * begun is left alone.
 *
 * Locks:  none that is ever taken with interrupts off may be held, unless all who spin for it call
 *         mm_tlb_service(). Interrupts on or off. Waits for other CPUs, if some have the page table
 *         loaded; serves this one meanwhile; tells the log once if one takes very long. Sleeps:
 *         never.
 * Cost:   one page flush for each leaf up to the threshold (MM_GATHER_FLUSH_PAGES, or flush_pages
 *         of the tlb), else one flush of everything; with other CPUs, one call of the op interrupt
 *         and the time of the slowest; one call of the source for each table and frame.
 */
void mm_gather_end(struct mm_gather *gather);

/**
 * Note that the translations of `range` are stale: for owners of page tables who edit them by other
 * means. A range that is empty or wraps, and a gather that was never begun, are left alone.
 *
 * Locks:  the owner's; not preempted to another CPU. It never flushes.
 * Cost:   O(MM_GATHER_MAX_RANGES).
 */
void mm_gather_add_range(struct mm_gather *gather, struct mm_vrange range);

/**
 * Hand over `nr` frames from `first`, to be released after the flush, whose ranges were added
 * before. A gather that is full flushes and releases now. One that was never begun is left alone.
 *
 * Owner:  the gather, and after the flush the source of the page table.
 * Locks:  the owner's, and what mm_gather_end() says of locks. Sleeps: never.
 * Cost:   O(1); when it is full, as mm_gather_end().
 */
void mm_gather_add_frames(struct mm_gather *gather, mm_pfn_t first, uint64_t nr);

/* --- several CPUs ----------------------------------------------------------------------------- */

/** Roots besides the kernel's whose translations a CPU keeps, if it has ASIDs. */
#define MM_TLB_ASIDS 8u

/** What a kernel supplies. The first argument of each is the `ctx` of the configuration. */
struct mm_tlb_ops {
    /**
     * The number of the CPU that runs, from 0: exact, not a hint. Called where the caller cannot be
     * moved to another. Required.
     */
    uint32_t (*this_cpu)(void *ctx);
    /**
     * Make each CPU of the set call mm_tlb_service(), soon: an interprocessor interrupt. Returns at
     * once. The CPU that runs is never in the set; one that has gone offline may be. One call more
     * than needed does no harm. Called with interrupts on or off, possibly with the caller's locks
     * held. Required.
     */
    void (*interrupt)(void *ctx, const struct mm_cpu_mask *cpus);
    /**
     * Asked before each wait for others. False: the caller holds a lock that is ever taken with
     * interrupts off, which others may spin for and not serve: a panic, before it is a deadlock.
     * NULL: it may.
     */
    bool (*may_wait)(void *ctx);
};

struct mm_tlb_config {
    struct mm_paging_backend backend; /**< of all roots */
    struct mm_tlb_cpu *cpus;          /**< `nr_cpus` of them, zeroed: the caller's, for good */
    uint32_t nr_cpus;                 /**< 1 to MM_MAX_CPUS; numbers are below */
    /** Leaves above which a flush drops all; 0: MM_GATHER_FLUSH_PAGES, which was measured. */
    uint32_t flush_pages;
    const struct mm_tlb_ops *ops;
    void *ctx;
    struct mm_platform platform; /**< panic, relax, interrupt_save */
    /** Where the generations of each root begin. Any value: a test begins near the end. */
    uint64_t first_generation;
};

struct mm_tlb_stats {
    uint64_t nr_shootdowns;  /**< flushes that waited for others */
    uint64_t nr_interrupts;  /**< CPUs that were interrupted for them */
    uint64_t nr_left;        /**< CPUs that were waited for, and left instead of flushing */
    uint64_t nr_served;      /**< flushes that CPUs made of what they had not seen, their own too */
    uint64_t nr_full;        /**< of these, by dropping all */
    uint64_t nr_pages;       /**< and pages that went one by one in the others */
    uint64_t nr_asid_hits;   /**< roots loaded that kept their translations */
    uint64_t nr_asid_misses; /**< and that did not */
};

/** What one CPU keeps in an ASID. Its own: nobody else reads it. */
struct mm_tlb_asid {
    uint64_t id;         /**< of the page table; 0: none */
    uint64_t gen;        /**< of that, when it was last loaded here */
    uint64_t kernel_gen; /**< of the kernel's root then */
};

/**
 * One CPU. Fields are the library's: `m` = written by this CPU only, read by all, atomic; `c` =
 * this CPU's own. The size keeps two CPUs out of each other's lines.
 */
struct mm_tlb_cpu {
    uintptr_t loaded;     /**< m: address of its page table; and 1: it is being loaded */
    uint64_t seen;        /**< m: generation of that page table, if it is not being loaded */
    uint64_t kernel_seen; /**< m: of the kernel's root */
    uint32_t current;     /**< c: index in `asids` of what is loaded */
    uint32_t next;        /**< c: index to be taken next for a page table that has none */
    struct mm_tlb_asid asids[MM_TLB_ASIDS + 1]; /**< c: the first is the kernel's root's */
    struct mm_tlb_stats stats;                  /**< m */
    uint8_t pad[MM_CACHE_LINE];
};

/** All CPUs of a kernel. Storage is the caller's: `c` = constant after init, `a` = atomic. */
struct mm_tlb {
    uint32_t magic;                   /**< c */
    uint32_t nr_cpus;                 /**< c */
    uint32_t flush_pages;             /**< c */
    uint32_t nr_asids;                /**< c: ASIDs in use of each CPU's; 1: it has none */
    struct mm_tlb_cpu *cpus;          /**< c */
    struct mm_paging_backend backend; /**< c */
    const struct mm_tlb_ops *ops;     /**< c */
    void *ctx;                        /**< c */
    struct mm_platform platform;      /**< c */
    uint64_t first_generation;        /**< c */
    struct mm_pagetable *kernel;      /**< a: NULL: none yet */
    uint64_t next_id;                 /**< a */
    struct mm_cpu_mask online;        /**< a */
};

/**
 * Make the object for all CPUs. It is named in struct mm_paging_config of the kernel's root.
 *
 * @param tlb  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; no backend, no CPUs,
 *         more than MM_MAX_CPUS, an op is missing)
 * Owner:  the caller keeps `tlb` and the array of CPUs; they outlive every root that uses them.
 * Locks:  none; one CPU, after the features were switched on (mm_x86_64_enable()). Cost: O(CPUs).
 */
MM_MUST_CHECK
mm_status_t mm_tlb_init(struct mm_tlb *tlb, const struct mm_tlb_config *config);

/**
 * Take it down. The storage is zeroed, that of the CPUs too.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (a CPU is
 *         online, or a kernel root uses it)
 * Locks:  none; nobody else uses it. Cost: O(CPUs).
 */
MM_MUST_CHECK
mm_status_t mm_tlb_destroy(struct mm_tlb *tlb);

/**
 * This CPU comes: from here on it is told of what the kernel's root flushes. It drops all that it
 * has cached. Its features are switched on before (mm_x86_64_enable()), ASIDs among them, as on all
 * other CPUs. Of a CPU that is online already: nothing happens.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_LIMIT (the op
 *         this_cpu names one that is not below nr_cpus)
 * Locks:  none; interrupts off, or nobody sends this CPU any. Sleeps: never.
 * Cost:   one flush of all.
 */
MM_MUST_CHECK
mm_status_t mm_tlb_online(struct mm_tlb *tlb);

/**
 * This CPU goes: nobody waits for it any more. It has the kernel's root loaded, or one that is no
 * page table of the library. What it holds of the kernel's addresses is not flushed from here on:
 * it stops, or runs on another root.
 *
 * @return MM_OK (also: it was not online) | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_LIMIT (as for mm_tlb_online()) | MM_ERR_BUSY (a user root is loaded)
 * Locks:  none; interrupts off. Sleeps: never. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_tlb_offline(struct mm_tlb *tlb);

/**
 * Flush what other CPUs have unmapped, on this one. To be called by the handler of the interrupt
 * that the op sends, and by every loop that spins with interrupts off. A tlb that is NULL or was
 * never made, and a CPU that is not online, are left alone.
 *
 * Locks:  none; any context, also in the midst of any call of the library. Interrupts off, or the
 *         platform's op interrupt_save, so that no handler loads another root in the midst. Not
 *         preempted to another CPU. Sleeps: never, and waits for nobody.
 * Cost:   with nothing to do some ten loads, and the ops this_cpu, interrupt_save and
 *         interrupt_restore; else a page flush for each leaf up to
 *         flush_pages, or a flush of everything.
 */
void mm_tlb_service(struct mm_tlb *tlb);

/**
 * What all CPUs did so far.
 *
 * @param[out] out  untouched on error. Counts of a CPU that counts just now may miss one.
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(CPUs).
 */
MM_MUST_CHECK
mm_status_t mm_tlb_get_stats(const struct mm_tlb *tlb, struct mm_tlb_stats *out);

/**
 * CPUs that have a user root loaded, or are loading it; of the kernel's root: that are online. A
 * moment later it may be otherwise.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED (also: the page table has no tlb)
 *         | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(CPUs / 64).
 */
MM_MUST_CHECK
mm_status_t mm_tlb_cpus(const struct mm_pagetable *pt, struct mm_cpu_mask *out);

MM_END_DECLS

#endif
