// SPDX-License-Identifier: MIT
/**
 * What heaps and caches find out and how it is told: tiers of checking, reports of misuse, and the
 * calls that look at what is allocated. Included by cache.h and heap.h.
 *
 *     tier      what is told                                              what it costs
 *     fast      as checked, but the size of a sized free is not compared  nothing is had for less
 *     checked   double, foreign, inner and wild free, wrong size          the default
 *     hardened  also overflow, underflow and write after free, when the   16 bytes an object or more,
 *               object or its neighbour is freed, reused or checked; of   a pass over it on each side,
 *               a run of pages overflow alone, when it is freed,          and the records of
 *               resized or checked                                        MM_HEAP_CALLERS
 *     sampled   (beside any tier) one allocation in n, of up to 4 KiB,    a countdown; of the one,
 *               lies alone on a page between guards: what leaves the      the guards' ops
 *               page, or comes after the free, faults at once; what was
 *               written beside it in the page is told at the free
 *
 * A sampled object lies by turns at the beginning and at the end of its page, aligned as any of its
 * size. So one of 20 bytes ends 12 bytes in front of the guard: those do not fault, nor does, in the
 * one at the beginning, what lies between its end and the end of the page. Of these bytes writes are
 * told when the object is freed or checked, and reads never.
 *
 * With MM_HEAP_CALLERS, which hardened implies, a heap records the return addresses of who allocated
 * and who freed an object, and the size that was asked for: 16 bytes an object, in a page beside
 * each slab. So it is 4 KiB a slab, however few objects that has (224 at most). These pages count as
 * metadata (mm_pool_get_stats()), and stay until the heap or cache is destroyed. A run has its
 * record in its descriptor.
 *
 * A caller is who called the library. If that is a function of the kernel's own, a kmalloc() or an
 * adapter, then all callers lie in it; unless it passes its own caller on (mm_heap_alloc_from()), or
 * is compiled into those who call it, as `static inline` with `__attribute__((always_inline))` is.
 *
 * What is found goes to the report op as one struct mm_heap_report, and the call then does the least
 * that is safe: nothing, for a free that must not be. Without a report op it goes to the panic hook.
 * What mm_heap_check() and mm_cache_check() find of this goes to the report op too, if there is one,
 * and to the log op, as the lines that mm_heap_report_lines() writes. They never panic, but answer
 * MM_ERR_CORRUPTED; and they mend nothing, so that it is told again when the object is freed.
 */
#ifndef MM_HEAP_REPORT_H
#define MM_HEAP_REPORT_H

#include <mm/platform.h>

MM_BEGIN_DECLS

struct mm_cache;
struct mm_heap;
struct mm_pool;

enum mm_heap_tier {
    MM_HEAP_CHECKED = 0,
    MM_HEAP_FAST = 1,
    MM_HEAP_HARDENED = 2,
};

/** flag: record who allocated and who freed each object, and the size that was asked for */
#define MM_HEAP_CALLERS (1u << 0)

/** Objects that wait in a hardened heap before they are used again, if nothing else is said. */
#define MM_HEAP_QUARANTINE 512u
/** The most of them. */
#define MM_HEAP_QUARANTINE_MAX 65536u

/** What every byte of a freed object is in the hardened tier, until it is used again. */
#define MM_HEAP_POISON 0xdbu

/* --- reports ---------------------------------------------------------------------------------- */

enum mm_heap_misuse {
    MM_HEAP_DOUBLE_FREE = 1,      /**< of an object that is free */
    MM_HEAP_INNER_FREE = 2,       /**< of an address inside an object */
    MM_HEAP_FOREIGN_FREE = 3,     /**< of an object of another cache or heap of the pool */
    MM_HEAP_WILD_FREE = 4,        /**< of an address that holds no object that the pool knows */
    MM_HEAP_SIZE_MISMATCH = 5,    /**< a sized free names another size */
    MM_HEAP_OVERFLOW = 6,         /**< bytes behind the object were written */
    MM_HEAP_UNDERFLOW = 7,        /**< bytes in front of it were written */
    MM_HEAP_WRITE_AFTER_FREE = 8, /**< a freed object was written */
    MM_HEAP_USE_AFTER_FREE = 9,   /**< a freed object was accessed, and that faulted */
};

/**
 * One misuse: what, of which object, and who. Addresses of code are return addresses, 0: unknown.
 *
 * To name the owner of an object of another cache or heap of the pool, that one's storage is read.
 * So no cache or heap of a pool is destroyed while another one of it is told a misuse.
 */
struct mm_heap_report {
    enum mm_heap_misuse kind;
    const char *what;  /**< one sentence, for people: "double free of an object" */
    const char *name;  /**< of the heap or cache that found it */
    const char *owner; /**< of the one whose object it is; NULL: there is no object */
    uint64_t address;  /**< what was claimed, or the first broken byte, or what was accessed */
    uint64_t object;   /**< its first byte; 0: there is none */
    uint64_t size;     /**< bytes asked for, where that is recorded; else those it may use */
    uint64_t claimed;  /**< of a size mismatch: the size that the caller names; else 0 */
    int64_t offset;    /**< from the object to `address` */
    uint64_t allocated_by;
    uint64_t freed_by;
    uint64_t caller; /**< of the call that found it; 0: a fault, a check, or leaving quarantine */
};

/**
 * Hear of a misuse. Called in any context in which the heap is, with nothing held; it must not call
 * the heap or cache that speaks. If it returns, the call goes on: a free that must not be does
 * nothing; broken bytes are mended, and the object is freed, or handed out, all the same. (Of an
 * overflow that was found at the free of the next object the bytes before that one's fence are
 * mended when the object itself is freed or resized; it is not told again then.) A check mends
 * nothing, and answers MM_ERR_CORRUPTED when it is done.
 */
typedef void (*mm_heap_report_fn)(void *ctx, const struct mm_heap_report *report);

/** Print one line: `len` bytes at `line`, no newline, no terminator. */
typedef void (*mm_heap_line_fn)(void *ctx, const char *line, size_t len);

/**
 * Write a report as text, two to five lines:
 *
 *     heap objects: overflow of an object, 1 byte behind its end
 *       object 0xffff888000001040, 20 bytes, of objects; at 0xffff888000001054
 *       allocated by 0xffffffff80001234
 *       freed by 0xffffffff80005678
 *       found by 0xffffffff80009abc
 *
 * The last three stand there only if they are known; without an object the second has only the
 * address.
 *
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1), up to five calls of `line`.
 */
MM_MUST_CHECK
mm_status_t mm_heap_report_lines(const struct mm_heap_report *report, mm_heap_line_fn line,
                                 void *ctx);

/* --- guarded pages, for sampled objects ------------------------------------------------------- */

struct mm_heap_guard_ops {
    /**
     * Make a page of the window readable and writable; its content does not matter. MM_OK, or any
     * error: the object is then allocated as any other. Called in any context in which the heap is,
     * with nothing held. It must not call the heap that asks.
     */
    mm_status_t (*open)(void *ctx, void *page);
    /**
     * Make the page fault at every access until it is opened again, at once on this CPU and as soon
     * as can be on others. Best effort: where it does nothing, accesses after the free are not
     * told. Cannot fail.
     */
    void (*close)(void *ctx, void *page);
};

/**
 * A window of address space for sampled objects: pages 1, 3, 5, ... of it are opened and closed as
 * the heap asks, one object each; pages 0, 2, 4, ... and the last must fault at every access, for
 * ever. None is open at first. It belongs to one heap alone. Passed by value.
 */
struct mm_heap_guards {
    const struct mm_heap_guard_ops *ops;
    void *ctx;
    uint64_t base; /**< virtual address, page-aligned */
    uint64_t
        len; /**< bytes, an odd number of pages from 3 on; up to MM_HEAP_SAMPLES_MAX of them open */
};

/** The most sampled objects of a heap, live and lately freed; what the window has beyond is unused. */
#define MM_HEAP_SAMPLES_MAX 256u

/**
 * For a page-fault handler: whether the address belongs to the heap's guarded pages, and what that
 * says: the object that was overrun, underrun or used after its free, and who allocated and who
 * freed it. Of an access between two pages the object that lives is named; if both live or both are
 * freed, the nearer.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_INVALID_ADDRESS (not in the window, or no object ever lay there, or it is well:
 *         its page is open, also if that was closed when the access was made and is another's now;
 *         or others use its place again and again while it is looked at)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_heap_explain_fault(const struct mm_heap *heap, uint64_t address,
                                  struct mm_heap_report *out);

/* --- looking at what is allocated ------------------------------------------------------------- */

/** A live object. */
struct mm_heap_object {
    const void *object;
    uint64_t size;         /**< bytes asked for, where that is recorded; else `room` */
    uint64_t room;         /**< bytes that it takes */
    uint64_t allocated_by; /**< return address; 0: not recorded */
    uint64_t mark;         /**< the last mark before it was allocated; 0: none, or not recorded */
};

/** Told of each; false: enough. It may free the object that it is told of, and no other. */
typedef bool (*mm_heap_visit_fn)(void *ctx, const struct mm_heap_object *object);

/**
 * Visit every live object, in no order. Objects that others allocate or free meanwhile may be
 * visited or not.
 *
 * @return MM_OK (also if `visit` stopped it) | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT
 *         (null)
 * Locks:  none; any context; `visit` is called with nothing held. Cost: O(objects).
 */
MM_MUST_CHECK
mm_status_t mm_heap_walk(const struct mm_heap *heap, mm_heap_visit_fn visit, void *ctx);

/**
 * The same for a cache.
 *
 * @return as mm_heap_walk()
 * Locks:  none; any context; `visit` is called with nothing held. Cost: O(objects).
 */
MM_MUST_CHECK
mm_status_t mm_cache_walk(const struct mm_cache *cache, mm_heap_visit_fn visit, void *ctx);

/** What one caller has allocated that is live. */
struct mm_heap_caller {
    uint64_t allocated_by; /**< return address; 0: all for whom there was no room in the array */
    uint64_t nr_objects;
    uint64_t bytes; /**< asked for */
};

/**
 * Live objects by who allocated them, most bytes first.
 *
 * @param since         a mark: only what was allocated since; 0: everything
 * @param[out] callers  `nr` entries. If there are more callers than that, the first nr - 1 that were
 *                      met have their own and the last entry sums up the others
 * @param[out] out_nr   entries used; untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, nr 0) | MM_ERR_UNSUPPORTED
 *         (nothing is recorded: see MM_HEAP_CALLERS)
 * Locks:  none; any context. Cost: O(objects * callers).
 */
MM_MUST_CHECK
mm_status_t mm_heap_callers(const struct mm_heap *heap, uint64_t since,
                            struct mm_heap_caller *callers, uint32_t nr, uint32_t *out_nr);

/**
 * The same for a cache.
 *
 * @return as mm_heap_callers()
 * Locks:  none; any context. Cost: O(objects * callers).
 */
MM_MUST_CHECK
mm_status_t mm_cache_callers(const struct mm_cache *cache, uint64_t since,
                             struct mm_heap_caller *callers, uint32_t nr, uint32_t *out_nr);

/**
 * Set a mark: what is allocated from now on counts as since it. The last 65,535 marks are kept
 * apart; of an object that was allocated before those its mark is known modulo 65,536, so that it
 * counts as allocated later than it was. An object that mm_heap_realloc() moves counts as allocated
 * then, by who called that; one that stays where it is, when it was allocated.
 *
 * @return the mark, from 1; 0 if the heap is null, not initialised or records nothing
 * Locks:  none; any context. Cost: O(1).
 */
uint64_t mm_heap_mark(struct mm_heap *heap);

/**
 * The same for a cache.
 *
 * @return as mm_heap_mark()
 * Locks:  none; any context. Cost: O(1).
 */
uint64_t mm_cache_mark(struct mm_cache *cache);

/**
 * What was allocated since a mark and is live, one line an object, and a line of totals first:
 *
 *     heap objects: 2 objects of 96 bytes in all since mark 3
 *       0xffff888000001040, 64 bytes, allocated by 0xffffffff80001234
 *       0xffff888000001080, 32 bytes, allocated by 0xffffffff80001234
 *
 * @param since  a mark; 0: everything
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_UNSUPPORTED
 *         (nothing is recorded)
 * Locks:  none; any context; `line` is called with nothing held. Cost: O(objects).
 */
MM_MUST_CHECK
mm_status_t mm_heap_leaks(const struct mm_heap *heap, uint64_t since, mm_heap_line_fn line,
                          void *ctx);

/**
 * The same for a cache.
 *
 * @return as mm_heap_leaks()
 * Locks:  none; any context; `line` is called with nothing held. Cost: O(objects).
 */
MM_MUST_CHECK
mm_status_t mm_cache_leaks(const struct mm_cache *cache, uint64_t since, mm_heap_line_fn line,
                           void *ctx);

/**
 * All caches of a pool and all classes of its heaps that have slabs, a line each: objects that are
 * allocated, objects that the slabs hold, the share in use, bytes an object, objects a slab, slabs,
 * and KiB of pages; a line of titles first, one of totals last.
 *
 *     name                     active    total  use     size  a slab    slabs       KiB
 *     region                      120      128   93%      128      32        4        16
 *     objects 64                   64       64  100%       64      64        1         4
 *     objects runs                  1        1  100%        -       -        -        36
 *     3 kinds                     185      193   95%                          5        56
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context, but no cache or heap of the pool is destroyed meanwhile. Cost:
 *         O(slabs), and a call of `line` for each line.
 */
MM_MUST_CHECK
mm_status_t mm_pool_table(const struct mm_pool *pool, mm_heap_line_fn line, void *ctx);

/* --- internal --------------------------------------------------------------------------------- */

/** What a heap or cache knows that looks closer than the short ways do. Fields are the library's. */
struct mm_heap_watch {
    uint32_t nr_cpus; /**< the real number; 0: not watched, the short ways are taken */
    uint32_t flags;
    mm_heap_report_fn report;
    void *ctx;
    const char *name;
    struct mm_pool *pool;
    uint64_t canary;
    uint64_t random;   /**< atomic */
    uint64_t mark;     /**< atomic */
    uint64_t *waiting; /**< atomic entries: the quarantine, a ring */
    uint64_t nr_waiting;
    uint64_t nr_drains;    /**< atomic: how often all that waited were let go */
    uint64_t next_waiting; /**< atomic */
    struct mm_heap_guards guards;
    void *samples;
    uint32_t nr_samples;
    uint32_t sample_every;
    uint64_t sample_clock; /**< atomic */
};

MM_END_DECLS

#endif
