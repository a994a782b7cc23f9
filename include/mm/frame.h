// SPDX-License-Identifier: MIT
/**
 * The frame allocator: blocks of 2^order frames (order 0 to 18, 4 KiB to 1 GiB), runs of any
 * length, reference counts, owners.
 *
 * State is a bitmap, one bit a frame, 1 = free, with summaries over it. A CPU keeps a *hint* to one
 * cache line of it (512 frames, 2 MiB) and allocates there in place by compare-and-exchange;
 * freeing sets the bit back, and the old value of the bit tells every double free. Nothing is kept
 * in private caches: what the bitmap says is the truth, so MM_ERR_NO_MEMORY is one too (but for
 * frames that another CPU is claiming or freeing at that moment). High memory is used first, so
 * that memory below 4 GiB and below 16 MiB lasts for devices.
 *
 * Context: every call but init and destroy is safe on any CPU, in any context, interrupts on or
 * off, and takes no lock. A wrong CPU number costs time, never correctness. Frame 0 is never handed
 * out unless asked for by mm_frame_alloc_at().
 *
 * Order is the caller's: a block of order 3 may be freed as eight frames, four frames and two
 * blocks of order 1. Misuse is only to free what is free, reserved, foreign, or referenced by
 * others: a panic that names the frame, what is on record and what the caller claims. A null
 * allocator manages no frame: who asks is told so, and who frees into it meets an illegal
 * instruction, since it has no panic hook.
 */
#ifndef MM_FRAME_H
#define MM_FRAME_H

#include <mm/bootmap.h>
#include <mm/physmap.h>
#include <mm/platform.h>

MM_BEGIN_DECLS

#define MM_FRAME_MAX_ORDER 18u

/** Request flags. */
#define MM_FRAME_ZERO      1u /**< contents are zero */
#define MM_FRAME_ATOMIC    2u /**< may use the reserve; not served yet */
#define MM_FRAME_FLAGS_ALL 3u

/** Who a frame belongs to. */
enum mm_frame_owner {
    MM_OWNER_NONE = 0, /**< not said */
    MM_OWNER_KERNEL = 1,
    MM_OWNER_PAGE_TABLE = 2,
    MM_OWNER_HEAP = 3,
    MM_OWNER_ANONYMOUS = 4, /**< user memory of a space */
    MM_OWNER_OBJECT = 5,    /**< memory of an object */
    MM_OWNER_DMA = 6,
};

#define MM_OWNER_COUNT 7

/** Node policies; 0 is "any node". */
enum mm_node_policy {
    MM_NODE_ANY = 0,
    MM_NODE_PREFERRED = 1,
    MM_NODE_REQUIRED = 2,
};

/** How long a block will live; blocks of 2 MiB stay whole when lifetimes are not mixed. */
enum mm_lifetime {
    MM_LIFETIME_ANY = 0,
    MM_LIFETIME_KERNEL = 1,
    MM_LIFETIME_MOVABLE = 2,
    MM_LIFETIME_SHORT = 3,
};

/**
 * What to allocate. All zero: one frame from anywhere. A field that is set and that this version
 * does not serve is MM_ERR_UNSUPPORTED, never ignored; the notes say which those are.
 */
struct mm_frame_request {
    uint32_t order;     /**< log2 of the frames, 0 to 18; must be 0 if nr_frames is set */
    uint32_t flags;     /**< MM_FRAME_... */
    uint64_t nr_frames; /**< a run of exactly so many frames; 0: 2^order */
    uint64_t align;     /**< bytes, a power of two >= 4096; 0: the block's own size, a run's 4096 */
    mm_paddr_t lowest;  /**< first byte that may be used */
    mm_paddr_t highest; /**< last byte that may be used; 0: no limit */
    uint64_t boundary;  /**< bytes, a power of two: no multiple of it lies inside; 0: none */
    uint32_t node;      /**< with a node policy; otherwise 0 */
    uint32_t node_policy; /**< enum mm_node_policy; not served yet: must be MM_NODE_ANY */
    uint32_t lifetime;    /**< enum mm_lifetime; not served yet: must be MM_LIFETIME_ANY */
    uint32_t owner;       /**< enum mm_frame_owner; recorded with MM_FRAMES_OWNERS */
    uint64_t tag;         /**< the caller's word for its owner record; not served yet: must be 0 */
};

/** A snapshot; each figure is exact when no other CPU is in the allocator. */
struct mm_frame_stats {
    uint64_t nr_frames;    /**< managed */
    uint64_t nr_free;      /**< frame 0 counts, if it is free */
    uint64_t nr_allocated; /**< nr_frames - nr_free */
    /** Frames between the lowest and the highest managed one that are not managed: holes,
     * firmware, metadata. */
    uint64_t nr_reserved;
    uint64_t nr_free_2m;     /**< whole aligned blocks of 512 free frames */
    uint64_t nr_failed;      /**< requests answered MM_ERR_NO_MEMORY */
    uint64_t metadata_bytes; /**< all arrays */
    uint64_t state_bytes;    /**< of those, allocation state (bitmap, summaries, spans, hints) */
    uint64_t nr_by_owner[MM_OWNER_COUNT]; /**< allocated, by owner; MM_FRAMES_OWNERS, else all 0 */
    uint32_t nr_spans;                    /**< usable ranges */
    uint32_t nr_cpus;
};

/** Features that cost metadata. */
#define MM_FRAMES_REFCOUNTS 1u /**< 4 bytes a frame: needed by spaces (copy-on-write) */
#define MM_FRAMES_OWNERS    2u /**< 1 byte a frame: who holds it, for statistics and panics */
#define MM_FRAMES_FLAGS_ALL 3u

struct mm_frames_config {
    struct mm_bootmap *map; /**< usable ranges become free frames; normalised if need be */
    const struct mm_physmap *physmap; /**< copied; only needed for MM_FRAME_ZERO; NULL: none */
    struct mm_platform platform;
    uint32_t nr_cpus; /**< CPU numbers are below this; 1 to MM_MAX_CPUS */
    uint32_t flags;   /**< MM_FRAMES_... */
    void *metadata;   /**< zeroed, MM_CACHE_LINE aligned, mm_frame_metadata_size() bytes */
    uint64_t metadata_len;
};

struct mm_frame_span; /* internal: one run of memory and its place in the arrays */

/**
 * The allocator. Storage is the caller's; fields are the library's. All but the last four are
 * constant from init to destroy, so every CPU keeps them in its cache.
 */
struct mm_frames {
    uint32_t magic;
    uint32_t flags;
    uint32_t nr_cpus;
    uint32_t nr_spans;
    uint64_t main_first; /**< the longest span, which is asked first: its lowest frame, */
    uint64_t main_nr;    /**< its frames, */
    uint64_t main_bias;  /**< frame number minus index in the arrays, */
    uint64_t main_rows;  /**< and where the row of frame 0 would be in `rows`: an address */
    uint64_t *rows;      /**< the bitmap: 64 frames a word */
    uint64_t *has_free;  /**< summary: lines that may hold a free frame */

    void *cpus;                        /**< hints, one cache line a CPU */
    const struct mm_frame_span *spans; /**< sorted by address */
    uint32_t *refs;                    /**< references beyond the first; NULL: no counts */
    uint8_t *owners;                   /**< NULL: no owners */
    uint64_t *has_line;                /**< summary: words of has_free that may not be 0 */
    uint64_t *whole;                   /**< summary: lines of which all 512 may be free */
    uint64_t *reserved;                /**< lines that a CPU keeps a hint to */
    uint64_t nr_lines;                 /**< lines that are searched */
    uint64_t zones[4];                 /**< first line at 0, 16 MiB, 4 GiB, and the end */
    uint64_t nr_frames;
    uint64_t metadata_len;   /**< bytes in use */
    struct mm_prange carved; /**< memory that mm_frame_init_from_map() took; length 0: none */
    uint64_t state_len;
    struct mm_physmap physmap;
    struct mm_platform platform;
    uint32_t has_physmap;

    uint64_t away[MM_CACHE_LINE / 8]; /**< keeps what follows off the line of what is constant */
    uint64_t nr_failed;               /**< atomic */
    uint64_t seekers; /**< atomic: CPUs that look at all rows, because they found nothing */
    /** Atomic: summaries of whole lines and claims that are being corrected now (low half), and
     * that ever were (high half). */
    uint64_t unsettled;
};

/**
 * Bytes of metadata for a map.
 *
 * @param[out] out  bytes; untouched on error
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null, nr_cpus) | MM_ERR_INVALID_FLAGS
 *         | MM_ERR_NOT_INITIALIZED (map) | MM_ERR_NO_MEMORY (the map holds no usable frame)
 *         | MM_ERR_LIMIT (more usable ranges than MM_FRAME_MAX_SPANS)
 * Locks:  none; nobody else uses the map, which is normalised. Cost: O(entries).
 */
MM_MUST_CHECK
mm_status_t mm_frame_metadata_size(struct mm_bootmap *map, uint32_t nr_cpus, uint32_t flags,
                                   uint64_t *out);

/**
 * Bring an allocator up over metadata that the caller hands in.
 *
 * @param frames  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; nr_cpus; a physmap
 *         that exceeds 2^64 or lacks an op; metadata that is not zeroed where it is looked at)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_INVALID_SIZE (metadata too small) | MM_ERR_NOT_ALIGNED
 *         (metadata) | MM_ERR_NOT_INITIALIZED (map) | MM_ERR_NO_MEMORY (no usable frame)
 *         | MM_ERR_LIMIT (more usable ranges than MM_FRAME_MAX_SPANS)
 * Owner:  the caller keeps the metadata alive until mm_frame_destroy(). If it lies in memory of the
 *         map, the map must say so (mm_bootmap_take()), or it would be handed out.
 * Locks:  none; one CPU.
 * Cost:   O(frames / 64) stores: 2 ms for 1 TiB. Counts and owners are not touched.
 */
MM_MUST_CHECK
mm_status_t mm_frame_init(struct mm_frames *frames, const struct mm_frames_config *config);

/**
 * The same, with the metadata carved from the map itself. On error the map is as it was but for its
 * order.
 *
 * @param frames  zeroed storage
 * @param config  metadata and metadata_len are 0; physmap is needed and must be a direct map
 * @param mapped  physical memory that is mapped and may be written now, e.g. the first 4 GiB; what
 *                the physmap does not reach is not used
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; nr_cpus; no physmap,
 *         or one that exceeds 2^64 or lacks an op; metadata is given) | MM_ERR_INVALID_FLAGS
 *         | MM_ERR_UNSUPPORTED (physmap with ops) | MM_ERR_NOT_ALIGNED (the direct map's base)
 *         | MM_ERR_INVALID_SIZE (`mapped` exceeds 2^64)
 *         | MM_ERR_NOT_INITIALIZED (map) | MM_ERR_NO_MEMORY (no usable range inside `mapped` is
 *         large enough, or nothing would be left) | MM_ERR_LIMIT (more usable ranges than
 *         MM_FRAME_MAX_SPANS, or no room in the map for an entry)
 * Owner:  the allocator, until mm_frame_destroy_to_map(); in the map it is MM_BOOT_METADATA.
 * Locks:  none; one CPU.
 * Cost:   as mm_frame_init(), and O(metadata) to zero it.
 */
MM_MUST_CHECK
mm_status_t mm_frame_init_from_map(struct mm_frames *frames, const struct mm_frames_config *config,
                                   struct mm_prange mapped);

/**
 * Take the allocator down. The storage is zeroed and may be initialised again. Frames that are
 * allocated stay with who holds them.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Owner:  metadata is the caller's again, unchanged.
 * Locks:  none; no other CPU is in the allocator. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_frame_destroy(struct mm_frames *frames);

/**
 * Take down an allocator that mm_frame_init_from_map() made, and make the memory of its metadata
 * usable in the map again. On error nothing was done.
 *
 * @param map  the one that it was made from, or another that says the same of that memory
 * @return MM_OK | MM_ERR_NOT_INITIALIZED (frames, map) | MM_ERR_INVALID_ARGUMENT (null, or the
 *         metadata was not carved from a map) | MM_ERR_INVALID_ADDRESS (not all of it is
 *         MM_BOOT_METADATA in the map) | MM_ERR_LIMIT (no room in the map for an entry)
 * Locks:  none; no other CPU is in the allocator or uses the map. Cost: as mm_bootmap_give().
 */
MM_MUST_CHECK
mm_status_t mm_frame_destroy_to_map(struct mm_frames *frames, struct mm_bootmap *map);

/**
 * Allocate contiguous frames as the request asks.
 *
 * @param request   NULL or all zero: one frame from anywhere
 * @param[out] out  first frame; untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; order,
 *         owner, policy or lifetime unknown; order with nr_frames; node without a policy)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_INVALID_SIZE (nr_frames above 2^40, which no machine has)
 *         | MM_ERR_INVALID_ADDRESS (highest below lowest) | MM_ERR_NOT_ALIGNED (align, boundary: no
 *         power of two from 4096; a boundary smaller than the block) | MM_ERR_UNSUPPORTED (a field
 *         not served; MM_FRAME_ATOMIC; MM_FRAME_ZERO without a physmap) | MM_ERR_FAULT
 *         (MM_FRAME_ZERO, and the physmap's op could not map; the frames are free again)
 * Owner:  the caller, until mm_frame_free(), with a reference count of 1. Contents: unspecified
 *         unless MM_FRAME_ZERO, which takes only frames that a direct map reaches.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   order 0: O(1) within the CPU's line, else a search of the summaries, which skips 4096
 *         lines a step where there is nothing. Order 9 and above: O(lines / 64). Runs, windows and
 *         failures: up to O(frames / 64).
 */
MM_MUST_CHECK
mm_status_t mm_frame_alloc(struct mm_frames *frames, const struct mm_frame_request *request,
                           mm_pfn_t *out);

/**
 * One frame, for a caller that knows its CPU's number: the hot path. No op is called, but for the
 * event that memory is exhausted.
 *
 * @param frames    initialised; neither it nor `out` is checked
 * @param cpu       taken modulo nr_cpus
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY
 * Owner:  the caller, until mm_frame_free(), with a reference count of 1. Contents: unspecified.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(1) within the CPU's line, else as mm_frame_alloc().
 */
MM_MUST_CHECK
mm_status_t mm_frame_alloc_on(struct mm_frames *frames, uint32_t cpu, mm_pfn_t *out);

/**
 * Allocate exactly this run of frames. Its owner is MM_OWNER_NONE. Frame 0 is to be had only here.
 *
 * @return MM_OK | MM_ERR_BUSY (one of them is allocated) | MM_ERR_INVALID_ADDRESS (one is not
 *         managed) | MM_ERR_INVALID_SIZE (nr_frames 0, or frames above 2^40)
 *         | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Owner:  the caller, until mm_frame_free(). Contents: unspecified.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(nr_frames / 64 + spans).
 */
MM_MUST_CHECK
mm_status_t mm_frame_alloc_at(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames);

/**
 * Allocate single frames into an array: whole rows of 64 at a time.
 *
 * @param cpu           taken modulo nr_cpus
 * @param[out] out      as many of its entries as `nr_done` says are written
 * @param[out] nr_done  how many of out[] were filled: all on MM_OK; on MM_ERR_NO_MEMORY those that
 *                      there were; untouched on other errors
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED
 * Owner:  the caller, of each frame that was filled in. Contents: unspecified.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(count / 64) exchanges on fresh memory.
 */
MM_MUST_CHECK
mm_status_t mm_frame_alloc_bulk(struct mm_frames *frames, uint32_t cpu, mm_pfn_t *out, size_t count,
                                size_t *nr_done);

/**
 * Free the block of 2^order frames at `first`: any aligned part of what was allocated. Panics if
 * one of them is free, reserved or foreign, or if its reference count is above 1; then nothing has
 * been freed, unless another CPU frees the same frames at the same moment.
 *
 * @param order  0 to 18; `first` is a multiple of 2^order, else panic
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(1) up to order 6, O(2^order / 64) above; with counts or owners O(2^order).
 */
void mm_frame_free(struct mm_frames *frames, mm_pfn_t first, uint32_t order);

/**
 * Free a run of any length and alignment. Panics as mm_frame_free().
 *
 * @param nr_frames  0: nothing happens
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(nr_frames / 64); with counts or owners O(nr_frames).
 */
void mm_frame_free_run(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames);

/**
 * Free single frames from an array, in any order; neighbours in the array that lie in one row of 64
 * are freed together. Panics as mm_frame_free(), and if a frame is in it twice; those before it may
 * have been freed then. A list that is null, but for `count` 0, is a panic too.
 *
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(count), and one exchange for neighbours of one row.
 */
void mm_frame_free_bulk(struct mm_frames *frames, const mm_pfn_t *list, size_t count);

/* --- reference counts: MM_FRAMES_REFCOUNTS ---------------------------------------------------- */

/** A count that has reached this value stays there for ever: the frame is never freed. */
#define MM_FRAME_REF_IMMORTAL UINT32_MAX

/**
 * Add a reference to an allocated frame; the count saturates at MM_FRAME_REF_IMMORTAL. Panics if
 * the frame is free or not managed, or if there are no counts.
 *
 * Locks:  none; any context. Cost: O(1), one atomic.
 */
void mm_frame_get(struct mm_frames *frames, mm_pfn_t frame);

/**
 * Drop a reference, and free the frame with the last one. Panics as mm_frame_free(). A count that
 * has reached MM_FRAME_REF_IMMORTAL stays.
 *
 * @return true if the frame was freed
 * Locks:  none; any context. Cost: O(1).
 */
bool mm_frame_put(struct mm_frames *frames, mm_pfn_t frame);

/**
 * The count now.
 *
 * @return 0 for a free or foreign frame; 1 for an allocated one if there are no counts
 * Locks:  none; any context. Cost: O(log spans).
 */
uint32_t mm_frame_refs(const struct mm_frames *frames, mm_pfn_t frame);

/**
 * Make a frame immortal (the zero page). Panics as mm_frame_get().
 *
 * Locks:  none; any context. Cost: O(log spans).
 */
void mm_frame_make_immortal(struct mm_frames *frames, mm_pfn_t frame);

/* --- asking ----------------------------------------------------------------------------------- */

/**
 * Whether the frame is managed by this allocator, free or not.
 *
 * Locks:  none; any context. Cost: O(log spans).
 */
bool mm_frame_managed(const struct mm_frames *frames, mm_pfn_t frame);

/**
 * Whether the frame is managed and allocated.
 *
 * Locks:  none; any context. Cost: O(log spans).
 */
bool mm_frame_allocated(const struct mm_frames *frames, mm_pfn_t frame);

/**
 * Count what is free, and report.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(frames / 64); with owners O(frames).
 */
MM_MUST_CHECK
mm_status_t mm_frame_get_stats(const struct mm_frames *frames, struct mm_frame_stats *out);

/**
 * Walk all state and compare: bitmap, summaries, hints, counts, spans. Each contradiction is one
 * line to the log op.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; no other CPU is in the allocator. Cost: O(frames).
 */
MM_MUST_CHECK
mm_status_t mm_frame_check(const struct mm_frames *frames);

/* --- frames through an ops-struct: what rooms above ask for ----------------------------------- */

/**
 * Where page tables and user pages come from. A kernel that has its own frame allocator gives its
 * own table and takes only the rooms above.
 */
struct mm_frame_source_ops {
    /** One frame, zeroed if `zeroed`. MM_OK, or any error: passed on to the caller as it is. */
    mm_status_t (*alloc)(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out);
    /** Give back one frame that alloc() returned. Cannot fail. */
    void (*free)(void *ctx, mm_pfn_t frame);
};

struct mm_frame_source {
    const struct mm_frame_source_ops *ops;
    void *ctx;
};

/**
 * The source over a frame allocator, which must outlive it. Its alloc() answers as mm_frame_alloc()
 * for one frame; free() is mm_frame_put().
 *
 * Locks:  none; any context. Cost: O(1).
 */
struct mm_frame_source mm_frame_source_of(struct mm_frames *frames);

/**
 * Part of an allocator's memory. Storage is the caller's, and the fields may be changed between
 * calls: a kernel takes frames only from what its boot loader mapped until its own direct map is
 * active, then lifts the limit.
 */
struct mm_frame_window {
    struct mm_frames *frames;
    mm_paddr_t lowest;  /**< first byte that may be used */
    mm_paddr_t highest; /**< last byte that may be used; 0: no limit */
};

/**
 * The source over a window, which must outlive it. Its alloc() answers as mm_frame_alloc(); free()
 * takes any frame of the allocator, and is mm_frame_put().
 *
 * Locks:  none; any context; the window is not changed meanwhile. Cost: O(1).
 */
struct mm_frame_source mm_frame_source_within(struct mm_frame_window *window);

MM_END_DECLS

#endif
