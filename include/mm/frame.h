// SPDX-License-Identifier: MIT
/**
 * The frame allocator: blocks of 2^order frames (order 0 to 18, 4 KiB to 1 GiB), runs of any
 * length, nodes and zones, reference counts, pins, owners, pressure.
 *
 * State is a bitmap, one bit a frame, 1 = free, with summaries over it. A CPU keeps a *hint* to one
 * cache line of it (512 frames, 2 MiB) and allocates there in place by compare-and-exchange;
 * freeing sets the bit back, and the old value of the bit tells every double free. Nothing is kept
 * in private caches: what the bitmap says is the truth, so MM_ERR_NO_MEMORY is one too (but for
 * frames that another CPU is claiming or freeing at that moment).
 *
 * Memory is used from the nearest node to the farthest, and in a node from high to low; memory
 * below 16 MiB comes last of all nodes, so that it lasts for devices.
 *
 * Some memory may be withheld (see struct mm_frames_config): a *reserve* that only MM_FRAME_ATOMIC
 * gets, and a part that user memory (MM_OWNER_ANONYMOUS, MM_OWNER_OBJECT) never gets. It consists
 * of whole lines, so it costs no counter; frames that are freed there are withheld again.
 *
 * Context: every call is safe on any CPU, in any context, interrupts on or off, and takes no lock,
 * but for those that say that no other CPU is in the allocator: init, destroy, mm_frame_check() and
 * mm_frame_add_records(). A wrong CPU number costs time, never correctness. Frame 0 is never handed
 * out unless asked for by mm_frame_alloc_at().
 *
 * Cost: a frame is found in the arrays in O(1) in the longest range of memory, and in O(log spans)
 * in the others. Where a call that is given a frame says O(1), that comes on top.
 *
 * Order is the caller's: a block of order 3 may be freed as eight frames, four frames and two
 * blocks of order 1. Misuse is only to free what is free, reserved, foreign, or held by others: a
 * panic that names the frame, what is on record and what the caller claims. *Foreign* is what lies
 * outside of all memory, *reserved* what lies inside and is not managed, or absent. A null
 * allocator manages no frame: who asks is told so, and who frees into it meets an illegal
 * instruction, since it has no panic hook.
 */
#ifndef MM_FRAME_H
#define MM_FRAME_H

#include <mm/bootmap.h>
#include <mm/numa.h>
#include <mm/physmap.h>
#include <mm/platform.h>

MM_BEGIN_DECLS

#define MM_FRAME_MAX_ORDER 18u

/** Request flags. */
#define MM_FRAME_ZERO      1u /**< contents are zero */
#define MM_FRAME_ATOMIC    2u /**< may use the reserve; no use for user memory, which never may */
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

/** Node policies. Whichever it is, of several nodes the nearest comes first. */
enum mm_node_policy {
    MM_NODE_ANY = 0,        /**< any node, from the CPU's own on: "local" */
    MM_NODE_PREFERRED = 1,  /**< any node, from `node` on */
    MM_NODE_REQUIRED = 2,   /**< only `node` */
    MM_NODE_BIND = 3,       /**< only those of `nodes` */
    MM_NODE_INTERLEAVE = 4, /**< those of `nodes` in turn, by this CPU; if one is full, the next */
};

/** What part of a node's memory a frame lies in. */
enum mm_zone {
    MM_ZONE_DMA = 0,    /**< below 16 MiB: what devices of the ISA bus reach */
    MM_ZONE_DMA32 = 1,  /**< below 4 GiB: what devices with 32 address bits reach */
    MM_ZONE_NORMAL = 2, /**< the rest */
};

#define MM_ZONE_COUNT 3

/** In place of a node or zone: all of them together. */
#define MM_NODE_ALL UINT32_MAX
#define MM_ZONE_ALL UINT32_MAX

/** How long a block will live; blocks of 2 MiB stay whole when lifetimes are not mixed. */
enum mm_lifetime {
    MM_LIFETIME_ANY = 0,
    MM_LIFETIME_KERNEL = 1,
    MM_LIFETIME_MOVABLE = 2,
    MM_LIFETIME_SHORT = 3,
};

/** What to allocate. All zero: one frame from anywhere, from the CPU's own node if it has any. */
struct mm_frame_request {
    uint32_t order;     /**< log2 of the frames, 0 to 18; must be 0 if nr_frames is set */
    uint32_t flags;     /**< MM_FRAME_... */
    uint64_t nr_frames; /**< a run of exactly so many frames; 0: 2^order */
    uint64_t align;     /**< bytes, a power of two >= 4096; 0: the block's own size, a run's 4096 */
    mm_paddr_t lowest;  /**< first byte that may be used */
    mm_paddr_t highest; /**< last byte that may be used; 0: no limit */
    uint64_t boundary;  /**< bytes, a power of two: no multiple of it lies inside; 0: none */
    uint32_t node;      /**< with MM_NODE_PREFERRED and MM_NODE_REQUIRED; otherwise 0 */
    uint32_t node_policy; /**< enum mm_node_policy */
    uint64_t nodes;       /**< with MM_NODE_BIND and MM_NODE_INTERLEAVE (0: all): bit n is node n */
    uint32_t lifetime;    /**< enum mm_lifetime */
    uint32_t owner;       /**< enum mm_frame_owner; recorded with MM_FRAMES_OWNERS */
    uint64_t tag; /**< recorded with MM_FRAMES_OWNERS: MM_FRAME_TAG_MAX at most, see below */
};

/** Why requests were answered MM_ERR_NO_MEMORY: the first of these that holds. */
enum mm_frame_cause {
    /** There was none where it was to lie: addresses, boundary, alignment, nodes. */
    MM_FAILED_CONSTRAINED = 0,
    MM_FAILED_WITHHELD = 1,   /**< memory is withheld from this caller */
    MM_FAILED_FRAGMENTED = 2, /**< more than one frame was asked for */
    MM_FAILED_EXHAUSTED = 3,  /**< one frame, and there is none at all */
};

#define MM_FAILED_COUNT 4

/** A snapshot; each figure is exact when no other CPU is in the allocator. */
struct mm_frame_stats {
    uint64_t nr_frames;    /**< managed */
    uint64_t nr_free;      /**< frame 0 counts, if it is free */
    uint64_t nr_allocated; /**< nr_frames - nr_free */
    /** Frames between the lowest and the highest managed one that are not managed: holes,
     * firmware, metadata. */
    uint64_t nr_reserved;
    uint64_t nr_free_2m;  /**< whole aligned blocks of 512 free frames */
    uint64_t nr_absent;   /**< of those reserved: may be added, or were removed */
    uint64_t nr_withheld; /**< of those free: reserve, and what users do not get */
    /** The most that was ever found allocated: by each call for these figures, and in a zone with
     * watermarks each time that it is counted. */
    uint64_t nr_peak;
    uint64_t nr_failed; /**< requests answered MM_ERR_NO_MEMORY; of all nodes and zones */
    uint64_t nr_failed_by[MM_FAILED_COUNT]; /**< the same by enum mm_frame_cause */
    uint64_t metadata_bytes;                /**< all arrays; of all nodes and zones */
    uint64_t state_bytes; /**< of those, allocation state (bitmap, summaries, spans, hints) */
    uint64_t nr_by_owner[MM_OWNER_COUNT]; /**< allocated, by owner; MM_FRAMES_OWNERS, else all 0 */
    uint32_t nr_spans;                    /**< usable ranges; of all nodes and zones */
    uint32_t nr_cpus;
    uint32_t nr_nodes;
    uint32_t zero; /**< always 0 */
};

/** Features that cost metadata or time. */
#define MM_FRAMES_REFCOUNTS 1u /**< 4 bytes a frame: needed by spaces (copy-on-write) */
#define MM_FRAMES_OWNERS    2u /**< 8 bytes a frame: who holds it, for statistics and panics */
/** For finding faults, 1/8 byte a frame: what is freed is filled with MM_FRAME_POISON, and who gets
 * it next looks whether that is still there; if not, it panics. Needs a physmap. */
#define MM_FRAMES_POISON 4u
/** Blocks that mm_frame_prezero() has zeroed are known to be zero when they are asked for with
 * MM_FRAME_ZERO; each free takes a few nanoseconds more. Needs a physmap. */
#define MM_FRAMES_KNOWN_ZERO 8u
#define MM_FRAMES_FLAGS_ALL  15u

/** What a freed frame is filled with, as 8-byte words, under MM_FRAMES_POISON. */
#define MM_FRAME_POISON UINT64_C(0x6d6d667265656421)

/** How short a zone is of free memory; see mm_frame_set_watermarks(). */
enum mm_pressure {
    MM_PRESSURE_NONE = 0,
    MM_PRESSURE_LOW = 1, /**< below `low`, and not yet at `high` again: reclaim */
    MM_PRESSURE_MIN = 2, /**< below `min`: reclaim now */
};

/** What a kernel may give the allocator to call; each may be NULL. */
struct mm_frame_ops {
    /**
     * The pressure on a zone has changed. Called from within the call that noticed, in whatever
     * context that was, with no lock held; it may call the allocator, and is not called again for
     * the same zone before it has returned. Meanwhile mm_frame_check() finds that the zone is being
     * counted; within mm_frame_add() or mm_frame_remove() the other of the two is MM_ERR_BUSY.
     */
    void (*pressure)(void *ctx, uint32_t node, enum mm_zone zone, enum mm_pressure level,
                     uint64_t nr_free);
    /** Zero `len` bytes, a multiple of 4096, past the caches: for MM_FRAME_ZERO and
     * mm_frame_prezero() from MM_FRAME_ZERO_PAST_CACHE bytes on; with a physmap's ops a page at a
     * time. All of it is done when it returns, for every CPU. Default: like any other memory. On
     * x86-64: mm_x86_64_zero_past_cache(). */
    void (*zero)(void *ctx, void *at, uint64_t len);
};

struct mm_frames_config {
    struct mm_bootmap *map; /**< usable ranges become free frames; normalised if need be */
    /** Copied; needed for MM_FRAME_ZERO, MM_FRAMES_POISON, MM_FRAMES_KNOWN_ZERO and
     * mm_frame_init_from_map(). NULL: none. */
    const struct mm_physmap *physmap;
    struct mm_platform platform;
    uint32_t nr_cpus; /**< CPU numbers are below this; 1 to MM_MAX_CPUS */
    uint32_t flags;   /**< MM_FRAMES_... */
    void *metadata;   /**< zeroed, MM_CACHE_LINE aligned, mm_frame_metadata_size() bytes */
    uint64_t metadata_len;

    const struct mm_numa *numa; /**< only read at init; NULL: one node, 0 */
    const uint32_t *cpu_nodes;  /**< node of each CPU, `nr_cpus` of them, copied; NULL: node 0 */
    /** MM_BOOT_BIT()s of kinds that may be added by mm_frame_add() later: they get metadata, and
     * are not free yet. Neither MM_BOOT_USABLE nor MM_BOOT_METADATA. */
    uint32_t later_kinds;
    uint32_t zero; /**< always 0 */
    /** Frames that only MM_FRAME_ATOMIC gets, rounded up to whole lines of 512 (less where a range
     * ends). */
    uint64_t nr_reserve;
    /** Frames beside those that user memory never gets, rounded up in the same way. */
    uint64_t nr_kernel;
    const struct mm_frame_ops *ops; /**< copied; NULL: none */
    void *ops_ctx;
};

struct mm_frame_span;  /* internal: one run of memory and its place in the arrays */
struct mmi_frame_area; /* internal: lines of one node and zone */
struct mmi_frame_zone; /* internal: figures and watermarks of one node and zone */

/**
 * The allocator. Storage is the caller's; fields are the library's. All but the last ones are
 * constant from init to destroy (`flags` nearly so), so every CPU keeps them in its cache.
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
    uint64_t *closed;    /**< bit n: all frames of row n are free, and its word is 0 */
    uint64_t *groups;    /**< summaries, 32 words for 64 lines */

    void *cpus;                         /**< hints, two cache lines a CPU */
    const struct mm_frame_span *spans;  /**< sorted by address */
    uint32_t *refs;                     /**< references beyond the first, pins; NULL: no counts */
    uint64_t *tags;                     /**< owners; NULL: none */
    uint64_t *poisoned;                 /**< frames that hold poison; NULL: none */
    uint64_t *tops;                     /**< summaries over `groups`, by class */
    uint64_t top_words;                 /**< words of one class */
    uint64_t nr_lines;                  /**< lines that are searched */
    const struct mmi_frame_area *areas; /**< sorted by line */
    const uint16_t *order;              /**< areas from near to far, `nr_areas` of them a node */
    struct mmi_frame_zone *zones;       /**< of each node, and of all: each zone, and all */
    uint32_t nr_areas;
    uint32_t nr_nodes;
    uint64_t nr_frames;
    uint64_t nr_withheld;    /**< frames of lines that are withheld from some */
    uint64_t metadata_len;   /**< bytes in use */
    struct mm_prange carved; /**< memory that mm_frame_init_from_map() took; length 0: none */
    uint64_t state_len;
    struct mm_physmap physmap;
    struct mm_platform platform;
    struct mm_frame_ops ops;
    void *ops_ctx;
    uint32_t has_physmap;
    uint32_t physmap_reaches; /**< ... every frame */
    uint32_t zero;
    uint32_t watched; /**< atomic: zones that have watermarks */

    uint64_t away[MM_CACHE_LINE / 8]; /**< keeps what follows off the line of what is constant */
    uint64_t nr_failed_by[MM_FAILED_COUNT]; /**< atomic */
    /** Atomic: summaries that are being corrected now (low half), and that ever were (high). */
    uint64_t unsettled;
    /** Atomic; bit n: a CPU of node n may have a hint to memory of another node, or below 16 MiB. */
    uint64_t strayed;
    uint64_t fresh;    /**< atomic: a line in which frames were freed lately; a hint for runs */
    uint64_t changing; /**< atomic: a call that adds or removes memory is in progress */
    uint64_t nr_pins;  /**< atomic: of all frames; top bit: some are lost */
};

/**
 * Bytes of metadata for a configuration, of which the map, `numa`, `cpu_nodes`, `later_kinds`,
 * `nr_cpus` and `flags` are read.
 *
 * @param[out] out  bytes; untouched on error
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null, nr_cpus, later_kinds, a node of cpu_nodes)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_NOT_INITIALIZED (map, numa) | MM_ERR_NO_MEMORY (the map
 *         holds no usable frame) | MM_ERR_LIMIT (more ranges than MM_FRAME_MAX_SPANS; a range that
 *         nodes cut up counts once a piece)
 * Locks:  none; nobody else uses the map, which is normalised. Cost: O(entries).
 */
MM_MUST_CHECK
mm_status_t mm_frame_metadata_size(const struct mm_frames_config *config, uint64_t *out);

/**
 * Bring an allocator up over metadata that the caller hands in.
 *
 * @param frames  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; nr_cpus; later_kinds;
 *         a node of cpu_nodes; a physmap that exceeds 2^64, lacks an op, or is needed by a flag and
 *         missing; metadata that is not zeroed where it is looked at)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_INVALID_SIZE (metadata too small; as much is withheld as
 *         there is) | MM_ERR_NOT_ALIGNED (metadata) | MM_ERR_NOT_INITIALIZED (map, numa)
 *         | MM_ERR_NO_MEMORY (no usable frame) | MM_ERR_LIMIT (more ranges than
 *         MM_FRAME_MAX_SPANS)
 * Owner:  the caller keeps the metadata alive until mm_frame_destroy(). If it lies in memory of the
 *         map, the map must say so (mm_bootmap_take()), or it would be handed out.
 * Locks:  none; one CPU.
 * Cost:   O(frames / 64) stores: 2 ms for 1 TiB. Counts and owners are not touched. And
 *         O(nodes * (nodes + ranges)) for the order of nodes.
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
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; nr_cpus; later_kinds;
 *         a node of cpu_nodes; no physmap, or one that exceeds 2^64 or lacks an op; metadata is
 *         given) | MM_ERR_INVALID_FLAGS
 *         | MM_ERR_UNSUPPORTED (physmap with ops) | MM_ERR_NOT_ALIGNED (the direct map's base)
 *         | MM_ERR_INVALID_SIZE (`mapped` exceeds 2^64; as much is withheld as there is)
 *         | MM_ERR_NOT_INITIALIZED (map, numa) | MM_ERR_NO_MEMORY (no usable range inside `mapped` is
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
 *         owner, policy or lifetime unknown; order with nr_frames; node or nodes without a policy
 *         that reads them; MM_NODE_BIND to no node; tag above MM_FRAME_TAG_MAX)
 *         | MM_ERR_NODE_NOT_FOUND (node, or one of nodes)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_INVALID_SIZE (nr_frames above 2^40, which no machine has)
 *         | MM_ERR_INVALID_ADDRESS (highest below lowest) | MM_ERR_NOT_ALIGNED (align, boundary: no
 *         power of two from 4096; a boundary smaller than the block) | MM_ERR_UNSUPPORTED
 *         (MM_FRAME_ZERO without a physmap) | MM_ERR_FAULT
 *         (MM_FRAME_ZERO, and the physmap's op could not map; the frames are free again)
 * Owner:  the caller, until mm_frame_free(), with a reference count of 1. Contents: unspecified
 *         unless MM_FRAME_ZERO, which takes only frames that a direct map reaches.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   order 0: O(1) within the CPU's line, else a search of the summaries, which skips 4096
 *         lines a step where there is nothing. Orders 1 to 9 and runs of 2, 4, 8, ... 256 frames:
 *         the same; a line that was searched in vain for a size is passed over until a frame is
 *         freed in it, so that a request that fails again reads summaries only. Runs of other
 *         lengths below 1023 look into each line that may hold, or touch, one of the next smaller
 *         of those lengths. Above: O(lines / 64), and a look at each line that may be whole.
 *         With alignment beyond the size, limits of address or a boundary: O(lines that have free
 *         frames there). A search that finds nothing while others correct summaries is made again,
 *         up to 16 times, and then reads the bitmap: O(frames / 64).
 */
MM_MUST_CHECK
mm_status_t mm_frame_alloc(struct mm_frames *frames, const struct mm_frame_request *request,
                           mm_pfn_t *out);

/**
 * One frame, for a caller that knows its CPU's number: the hot path, as mm_frame_alloc() with a
 * request that is all zero. No op is called, but for the event that memory is exhausted and the
 * news of pressure.
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
 * Allocate exactly this run of frames, withheld or not. Its owner is MM_OWNER_NONE. Frame 0 is to be
 * had only here.
 *
 * @return MM_OK | MM_ERR_BUSY (one of them is allocated) | MM_ERR_INVALID_ADDRESS (one is not
 *         managed, or absent) | MM_ERR_INVALID_SIZE (nr_frames 0, or frames above 2^40)
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
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_INVALID_ARGUMENT (null; `out` may be, for `count` 0)
 *         | MM_ERR_NOT_INITIALIZED
 * Owner:  the caller, of each frame that was filled in. Contents: unspecified.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(count / 64) exchanges on fresh memory, O(count) on scattered frames; and as
 *         mm_frame_alloc() for each line beyond the CPU's.
 */
MM_MUST_CHECK
mm_status_t mm_frame_alloc_bulk(struct mm_frames *frames, uint32_t cpu, mm_pfn_t *out, size_t count,
                                size_t *nr_done);

/**
 * Free the block of 2^order frames at `first`: any aligned part of what was allocated. Panics if
 * one of them is free, reserved or foreign, has more than one reference or any pin, or is immortal;
 * then nothing has been freed, unless another CPU frees the same frames at the same moment.
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

/**
 * Free a run, and say whose it was: a free by someone who is not the recorded owner is found before
 * anything is freed. Panics as mm_frame_free_run(), and if the record of one of the frames is of
 * another kind, or has another tag, than `owner` and `tag` say; the panic names both. Without
 * MM_FRAMES_OWNERS only the kind and tag that the panics name come from here.
 *
 * @param nr_frames   0: nothing happens
 * @param owner, tag  what the request or mm_frame_set_owner() recorded
 * Locks:  none; any context. Sleeps: never.
 * Cost:   as mm_frame_free_run().
 */
void mm_frame_free_owned(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames,
                         enum mm_frame_owner owner, uint64_t tag);

/* --- reference counts: MM_FRAMES_REFCOUNTS ---------------------------------------------------- */

/** A count that has reached this value stays there for ever: the frame is never freed. */
#define MM_FRAME_REF_IMMORTAL UINT32_MAX

/** References and pins of one frame together; one more makes it immortal. */
#define MM_FRAME_REFS_MAX UINT32_C(0x3fffff)
/** Pins of one frame; one more makes it immortal. */
#define MM_FRAME_PINS_MAX UINT32_C(1023)

/**
 * Add a reference to an allocated frame. Beyond MM_FRAME_REFS_MAX the frame becomes immortal: it is
 * lost, and never freed too early. Panics if the frame is free or not managed, or if there are no
 * counts.
 *
 * Locks:  none; any context. Cost: O(1), one atomic.
 */
void mm_frame_get(struct mm_frames *frames, mm_pfn_t frame);

/**
 * Drop a reference, and free the frame with the last one if there are no pins; without counts, free
 * it. Panics if the frame is free, reserved or foreign, and if only pins are left. A frame that is
 * immortal stays.
 *
 * @return true if the frame was freed
 * Locks:  none; any context. Cost: O(1).
 */
bool mm_frame_put(struct mm_frames *frames, mm_pfn_t frame);

/**
 * Drop one reference to each frame of an array, in any order, and free those of which it was the
 * last; a frame may be in it as often as it has references. Frames that are freed and neighbours in
 * the array are freed together. Panics as mm_frame_put(); those before may be done then. A list that
 * is null, but for `count` 0, is a panic too.
 *
 * @return how many frames were freed
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(count).
 */
size_t mm_frame_put_bulk(struct mm_frames *frames, const mm_pfn_t *list, size_t count);

/**
 * Drop a reference to each frame of a run; those whose last it was are freed together. Panics as
 * mm_frame_put(); frames before may be done then. A run of length 0 does nothing.
 *
 * @return how many frames were freed
 * Owner:  nobody of those that were freed.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   a load a frame and an atomic a row of 64; an atomic a frame that others hold.
 */
uint64_t mm_frame_put_run(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames);

/**
 * The references now, without pins.
 *
 * @return 0 for a free or foreign frame; 1 for an allocated one if there are no counts;
 *         MM_FRAME_REF_IMMORTAL for an immortal one
 * Locks:  none; any context. Cost: O(log spans).
 */
uint32_t mm_frame_refs(const struct mm_frames *frames, mm_pfn_t frame);

/**
 * Make a frame immortal (the zero page). Panics as mm_frame_get().
 *
 * Locks:  none; any context. Cost: O(1), one atomic.
 */
void mm_frame_make_immortal(struct mm_frames *frames, mm_pfn_t frame);

/**
 * The inverse, for who made a frame immortal and can be sure that nobody else refers to it any
 * more: it has one reference, the caller's, and may be freed. Panics as mm_frame_get(), and if the
 * frame is not immortal.
 *
 * Locks:  none; any context. Cost: O(1), one atomic.
 */
void mm_frame_make_mortal(struct mm_frames *frames, mm_pfn_t frame);

/**
 * Pin an allocated frame: a device or a borrowed pointer uses it, so it must neither move nor be
 * copied away from. A pin keeps the frame as a reference does, and is counted apart. Beyond
 * MM_FRAME_PINS_MAX the frame becomes immortal. Panics as mm_frame_get().
 *
 * Locks:  none; any context. Cost: O(1), one atomic.
 */
void mm_frame_pin(struct mm_frames *frames, mm_pfn_t frame);

/**
 * Drop a pin, and free the frame if neither pins nor references are left. Panics if the frame has
 * no pin, is free or not managed, or if there are no counts. A frame that is immortal stays.
 *
 * @return true if the frame was freed
 * Locks:  none; any context. Cost: O(1).
 */
bool mm_frame_unpin(struct mm_frames *frames, mm_pfn_t frame);

/**
 * The pins now.
 *
 * @return 0 for a free or foreign frame, or if there are no counts; MM_FRAME_REF_IMMORTAL for an
 *         immortal one
 * Locks:  none; any context. Cost: O(log spans).
 */
uint32_t mm_frame_pins(const struct mm_frames *frames, mm_pfn_t frame);

/* --- owners: MM_FRAMES_OWNERS ----------------------------------------------------------------- */

/*
 * A record is one word: bits 60 to 63 the kind, bits 0 to 59 the tag. What the tag of a kind means:
 *
 *   MM_OWNER_ANONYMOUS  59..44 number of the space    43..0 page in it (address / 4096)
 *   MM_OWNER_OBJECT     59..32 number of the object   31..0 index in it
 *   any other           the caller's own word
 *
 * A number 0 means that the frame has several mappings, or that its number did not fit: whoever
 * looks for its mappings has to search for them.
 */
#define MM_FRAME_TAG_MAX ((UINT64_C(1) << 60) - 1)

/** Tag of a frame that is mapped by one space only; if `space` or `page` do not fit: 0. */
static inline uint64_t mm_frame_tag_anonymous(uint64_t space, uint64_t page)
{
    return space >> 16 != 0 || page >> 44 != 0 ? 0 : space << 44 | page;
}

/** Tag of a frame of an object; if `object` or `index` do not fit: 0. */
static inline uint64_t mm_frame_tag_object(uint64_t object, uint64_t index)
{
    return object >> 28 != 0 || index >> 32 != 0 ? 0 : object << 32 | index;
}

/** What is on record about a frame. */
struct mm_frame_record {
    enum mm_frame_owner owner;
    uint32_t zero;
    uint64_t tag;    /**< as recorded */
    uint64_t number; /**< of the space or object, else 0 */
    uint64_t index;  /**< page in the space, index in the object; else 0 */
};

/**
 * Whose a frame is.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_UNSUPPORTED (no
 *         owners are kept) | MM_ERR_INVALID_ADDRESS (not managed, absent, or
 *         free)
 * Locks:  none; any context. Cost: O(log spans).
 */
MM_MUST_CHECK
mm_status_t mm_frame_owner(const struct mm_frames *frames, mm_pfn_t frame,
                           struct mm_frame_record *out);

/**
 * Record another owner, of frames that the caller holds: one that was exclusive is shared from now
 * on, or the other way round. All or none.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, owner unknown, tag above
 *         MM_FRAME_TAG_MAX) | MM_ERR_UNSUPPORTED (no owners are kept) | MM_ERR_INVALID_SIZE
 *         (nr_frames 0, or frames above 2^40) | MM_ERR_INVALID_ADDRESS (one is not managed, absent,
 *         or free)
 * Locks:  none; any context. Cost: O(nr_frames).
 */
MM_MUST_CHECK
mm_status_t mm_frame_set_owner(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames,
                               enum mm_frame_owner owner, uint64_t tag);

/* --- more and less memory --------------------------------------------------------------------- */

/**
 * Free memory that was absent: of a kind in `later_kinds`, once the boot loader's data has been read
 * and its tables are left, or removed by mm_frame_remove(). All or nothing.
 *
 * @param range  page-aligned; what of it is absent is added. It cuts no line of 512 absent frames
 *               in two.
 * @param[out] nr_added  frames; may be NULL; untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_ALIGNED (it
 *         is not page-aligned, or cuts a line) | MM_ERR_INVALID_SIZE (length 0, or wraps)
 *         | MM_ERR_INVALID_ADDRESS (nothing in it is absent) | MM_ERR_BUSY (another CPU adds or
 *         removes)
 * Locks:  none; any context, while others allocate and free. Sleeps: never.
 * Cost:   O(frames / 64).
 */
MM_MUST_CHECK
mm_status_t mm_frame_add(struct mm_frames *frames, struct mm_prange range, uint64_t *nr_added);

/**
 * Take free memory away: it is absent then, and may be unplugged. All or nothing. While memory is
 * absent, each free takes a few nanoseconds more.
 *
 * @param range  page-aligned; holds all managed frames of each line of 512 frames that it touches
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_ALIGNED (it
 *         is not page-aligned, or cuts a line) | MM_ERR_INVALID_SIZE (length 0, or wraps)
 *         | MM_ERR_INVALID_ADDRESS (a frame of it is not managed, or absent, or frame 0) | MM_ERR_BUSY
 *         (a frame is allocated, or another CPU adds or removes)
 * Locks:  none; any context, while others allocate and free. Sleeps: never.
 * Cost:   O(frames / 64).
 */
MM_MUST_CHECK
mm_status_t mm_frame_remove(struct mm_frames *frames, struct mm_prange range);

/**
 * Bytes of metadata for records that mm_frame_add_records() adds.
 *
 * @param flags     MM_FRAMES_REFCOUNTS, MM_FRAMES_OWNERS or both
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_INVALID_FLAGS
 *         (others, or none) | MM_ERR_ALREADY_INITIALIZED (there are such records)
 * Locks:  none. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_frame_records_size(const struct mm_frames *frames, uint32_t flags, uint64_t *out);

/**
 * Add reference counts or owners to an allocator that was brought up without them, because little
 * memory was mapped then: 0.14 bytes a frame are enough to start with, and records come when there
 * is a direct map. Frames that are allocated have one reference and no owner.
 *
 * @param metadata  zeroed, MM_CACHE_LINE aligned, mm_frame_records_size() bytes; memory of the
 *                  allocator itself (a run that it handed out) will do
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; not zeroed where it is
 *         looked at) | MM_ERR_INVALID_FLAGS | MM_ERR_ALREADY_INITIALIZED (there are such records)
 *         | MM_ERR_INVALID_SIZE (too small) | MM_ERR_NOT_ALIGNED (metadata)
 * Owner:  the caller keeps the metadata alive until mm_frame_destroy().
 * Locks:  none; no other CPU is in the allocator. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_frame_add_records(struct mm_frames *frames, uint32_t flags, void *metadata,
                                 uint64_t len);

/* --- pressure --------------------------------------------------------------------------------- */

/** Free frames of a zone; min <= low <= high, all 0 for none. */
struct mm_frame_watermarks {
    uint64_t min;
    uint64_t low;
    uint64_t high;
};

/**
 * Set the watermarks of a zone, if it has any frames; the pressure op is told when the level
 * changes, as explained in enum mm_pressure, first perhaps from within this call. There is no
 * counter on the way of a frame: a zone is counted when its lines change hands. Free frames in a
 * line that a CPU keeps a hint to do not count. A level is noticed late by up to 1/256 of the zone,
 * and by 512 frames for each hint (a CPU has two for each lifetime that it asks for); while there is
 * pressure, each free takes a few nanoseconds more.
 *
 * @param node, zone  of one, or MM_NODE_ALL and MM_ZONE_ALL for each
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, zone, not in order)
 *         | MM_ERR_NODE_NOT_FOUND
 * Locks:  none; any context; not for the same zone from two CPUs at once.
 * Cost:   O(frames of the zone / 64).
 */
MM_MUST_CHECK
mm_status_t mm_frame_set_watermarks(struct mm_frames *frames, uint32_t node, uint32_t zone,
                                    const struct mm_frame_watermarks *watermarks);

/**
 * The level that was noticed last; of several zones the highest.
 *
 * @param node, zone  of one, or MM_NODE_ALL and MM_ZONE_ALL for each
 * @return MM_PRESSURE_NONE for a zone that does not exist, or has no watermarks
 * Locks:  none; any context.
 * Cost:   O(zones that are asked for).
 */
enum mm_pressure mm_frame_pressure(const struct mm_frames *frames, uint32_t node, uint32_t zone);

/**
 * Zero free blocks of 2 MiB ahead of time, for who has time: an idle CPU. MM_FRAME_ZERO of order 9
 * and above finds them done, as long as nobody has used frames of theirs.
 *
 * @param nr_blocks         how many at most
 * @param[out] nr_done      blocks that were zeroed; less if there are no more; untouched on error:
 *                          those that were done before it stay zeroed
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_UNSUPPORTED
 *         (without MM_FRAMES_KNOWN_ZERO) | MM_ERR_FAULT (the physmap's op could not map)
 * Locks:  none; any context; a block is allocated while it is zeroed. Sleeps: never.
 * Cost:   O(nr_blocks * 2 MiB + lines / 64).
 */
MM_MUST_CHECK
mm_status_t mm_frame_prezero(struct mm_frames *frames, uint64_t nr_blocks, uint64_t *nr_done);

/* --- asking ----------------------------------------------------------------------------------- */

/**
 * Whether the frame is managed by this allocator and present, free or not.
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
 * The same of one node, one zone, or one zone of one node.
 *
 * @param node, zone  or MM_NODE_ALL, MM_ZONE_ALL
 * @param[out] out    untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, zone)
 *         | MM_ERR_NODE_NOT_FOUND
 * Locks:  none; any context. Cost: O(its frames / 64); with owners O(its frames).
 */
MM_MUST_CHECK
mm_status_t mm_frame_get_stats_of(const struct mm_frames *frames, uint32_t node, uint32_t zone,
                                  struct mm_frame_stats *out);

/**
 * How fragmented free memory is for blocks of an order, as "unusable free space index" (M. Gorman
 * and A. Whitcroft, "The What, The Why and the Where To of Anti-Fragmentation", Ottawa Linux
 * Symposium 2006): the part of free memory that lies in no free aligned block of 2^order frames,
 *
 *     (free frames - 2^order * free blocks) / free frames
 *
 * in thousandths: 0, all of it can be had in such blocks; 1000, none of it can.
 * A block lies in one range of the map and one node, as do those that are handed out.
 *
 * @param[out] out  0 to 1000, rounded down; 0 if nothing is free; untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, order)
 * Locks:  none; any context. Cost: O(frames / 64).
 */
MM_MUST_CHECK
mm_status_t mm_frame_fragmentation(const struct mm_frames *frames, uint32_t order, uint32_t *out);

/** One character a block, as mm_frame_draw() fills them in. */
#define MM_FRAME_DRAW_FREE   '.' /**< all its managed frames are free */
#define MM_FRAME_DRAW_FULL   '#' /**< none is */
#define MM_FRAME_DRAW_ABSENT ' ' /**< no frame of it is managed, or all that are are absent */
/* Between them '1' to '9': so many tenths of its managed frames are allocated, at least one and at
 * most nine. */

/**
 * Draw memory: one character a block of 2^order frames, from `first` on. Holes of whole blocks are
 * drawn too, so that a character's place tells its address; mm_frame_next_memory() skips them.
 *
 * @param first  a multiple of 2^order
 * @param out    `len` characters, no terminating 0
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, order)
 *         | MM_ERR_NOT_ALIGNED (first) | MM_ERR_INVALID_SIZE (blocks beyond 2^52 bytes)
 * Locks:  none; any context. Cost: O(len * (2^order / 64 + spans)).
 */
MM_MUST_CHECK
mm_status_t mm_frame_draw(const struct mm_frames *frames, mm_pfn_t first, uint32_t order, char *out,
                          size_t len);

/**
 * The next piece of managed memory: of one node and one zone, present or absent as a whole or in
 * parts.
 *
 * @param from      where to look: the part of a piece from there on is returned
 * @param[out] out, out_node, out_zone  untouched on error; each may be NULL
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND (no more) | MM_ERR_NOT_INITIALIZED
 *         | MM_ERR_INVALID_ARGUMENT (null frames)
 * Locks:  none; any context. Cost: O(log spans + ranges of the map in it).
 */
MM_MUST_CHECK
mm_status_t mm_frame_next_memory(const struct mm_frames *frames, mm_pfn_t from,
                                 struct mm_prange *out, uint32_t *out_node, enum mm_zone *out_zone);

/**
 * Walk all state and compare: spans, areas, bitmap, summaries, hints, counts, owners, zones. Each
 * contradiction is one line to the log op; where spans or areas are wrong, the rest is not read.
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
    /** Give back a run of such frames at once; NULL: one by one. */
    void (*free_run)(void *ctx, mm_pfn_t first, uint64_t nr_frames);
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
