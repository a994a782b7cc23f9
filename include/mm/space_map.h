// SPDX-License-Identifier: MIT
/**
 * Regions of an address space: what mmap, munmap, mprotect, mremap, madvise, mincore, mlock and brk
 * of a Unix need. The spaces themselves, faults and fork are in space.h.
 *
 * A region is a range of pages with one protection, one set of flags and one backing. Regions do
 * not overlap; neighbours that agree in everything are one; every call takes ranges that cross
 * regions, and cut them. Holes are treated as POSIX and Linux do, and each call says how.
 *
 * All or nothing: a call that fails has changed nothing, unless its contract names what it has done
 * by then (Linux applies some calls to a prefix). Limits and commit charge are asked first.
 *
 *     asks                 fails with
 *     limits of the space  MM_ERR_LIMIT
 *     limits of its group  MM_ERR_LIMIT
 *     commit charge        MM_ERR_NO_MEMORY
 *
 * Ranges: the start is page-aligned, the length is rounded up to pages, and all of it lies in
 * mm_space_range(). Addresses of a request are page-aligned.
 *
 * Locking: every call here takes the space's lock, exclusively, but those that say otherwise; that
 * of the devices (kva.h; the manager's own, without an arena) for moments where a device is mapped,
 * cut, moved or given up. None sleeps. No lock that is ever taken with interrupts off is held,
 * because most end a gather (tlb.h).
 */
#ifndef MM_SPACE_MAP_H
#define MM_SPACE_MAP_H

#include <mm/addr.h>
#include <mm/status.h>

MM_BEGIN_DECLS

struct mm_space;

/* --- what a region is ------------------------------------------------------------------------- */

/** What a region is for: told by who maps it, kept, and printed. Regions of two kinds never merge. */
enum mm_region_kind {
    MM_REGION_ANONYMOUS = 0,
    MM_REGION_CODE = 1,
    MM_REGION_DATA = 2,
    MM_REGION_STACK = 3,
    MM_REGION_HEAP = 4,   /**< what mm_space_brk() makes */
    MM_REGION_FILE = 5,   /**< backed by an object (object.h): not made by this version */
    MM_REGION_SHARED = 6, /**< backed by an object, and shared: not made by this version */
    MM_REGION_DEVICE = 7, /**< physical memory that is not the frame allocator's business */
};

#define MM_REGION_KINDS 8u

/* Flags of a request. */

/** Exactly at `at`; without REPLACE nothing may be there. */
#define MM_SPACE_FIXED    1u
#define MM_SPACE_POPULATE 2u /**< put every page there now; implied in the kernel's space */
/** No access and no page, ever: faults are MM_FAULT_SIGNAL_ACCESS; prot must be MM_PROT_NONE. */
#define MM_SPACE_GUARD   4u
#define MM_SPACE_REPLACE 8u /**< with FIXED: regions that are there are unmapped, in one step */
/** Grows down by itself when what is below is touched, up to the layout's stack_max bytes, and
 * never nearer to the region below than the layout's stack_gap. The kind is told separately. */
#define MM_SPACE_STACK 16u
/** Leaves of 2 MiB where alignment, length and memory allow it; else 4 KiB. */
#define MM_SPACE_HUGE    32u
#define MM_SPACE_NO_HUGE 64u /**< never 2 MiB */
/** As mm_space_wire(): populated, and never given up by advice. */
#define MM_SPACE_WIRED     128u
#define MM_SPACE_FLAGS_ALL 255u

/** Flags that a region keeps. */
#define MM_SPACE_REGION_FLAGS                                                                      \
    (MM_SPACE_GUARD | MM_SPACE_STACK | MM_SPACE_HUGE | MM_SPACE_NO_HUGE | MM_SPACE_WIRED)

struct mm_space_request {
    mm_vaddr_t at; /**< page-aligned; where to map, or to look first; 0 without FIXED: anywhere */
    uint64_t len;  /**< bytes; rounded up to pages */
    /**
     * READ, WRITE, EXEC in any combination, or NONE; USER and GLOBAL are the library's business.
     * What may be written or executed may be read.
     */
    mm_prot_t prot;
    uint32_t flags; /**< MM_SPACE_... */
    uint64_t align; /**< bytes, a power of two >= 4096: the address is a multiple; 0: 4096 */
    uint64_t tag;   /**< kept with the region; regions with different tags do not merge */
    enum mm_region_kind kind; /**< ANONYMOUS, CODE, DATA, STACK or HEAP; DEVICE is implied where it
                                   is right */
};

/** A region as it is reported. */
struct mm_region_info {
    struct mm_vrange range;
    mm_prot_t prot; /**< READ, WRITE, EXEC */
    uint32_t flags; /**< of MM_SPACE_REGION_FLAGS */
    uint64_t tag;
    enum mm_region_kind kind;
    mm_memtype_t type; /**< of a device's; else MM_MEMTYPE_WB */
    uint64_t offset;   /**< of a device's: physical address of its first byte; else 0 */
};

/* --- map -------------------------------------------------------------------------------------- */

/**
 * Map private anonymous memory, all of it or none, POPULATE included.
 *
 * Without FIXED the hint `at` is taken if the range is free there and no stack's gap; else the
 * layout decides (struct mm_space_layout): the highest place below its mmap_base, then the lowest
 * above, then one across it; without mmap_base the lowest. With HUGE and at least 2 MiB, places that are multiples of
 * 2 MiB are tried first. POPULATE and WIRED have no effect on pages without READ, WRITE or EXEC.
 *
 * @param[out] out  first address; untouched on error
 * @return MM_OK | MM_ERR_ALREADY_MAPPED (FIXED without REPLACE; in the kernel's space also if
 *         somebody else mapped a page there) | MM_ERR_REGION_NOT_FOUND (no gap is large enough)
 *         | MM_ERR_INVALID_SIZE (len 0, or it rounds past 2^64) | MM_ERR_INVALID_ADDRESS (FIXED:
 *         outside the space's layout, e.g. page 0 of a user space) | MM_ERR_NOT_ALIGNED (at, align)
 *         | MM_ERR_INVALID_FLAGS (flags, prot; REPLACE without FIXED; HUGE with NO_HUGE; GUARD with
 *         another than FIXED, REPLACE and POPULATE, which has no effect) | MM_ERR_INVALID_ARGUMENT (null; kind)
 *         | MM_ERR_UNSUPPORTED (the kernel's space: all but FIXED, POPULATE and GUARD) | MM_ERR_LIMIT
 *         | MM_ERR_NO_MEMORY; where pages are put there at once, or REPLACE cuts a large leaf, also
 *         MM_ERR_FAULT (a frame that cannot be a table, or cannot be zeroed)
 *         | MM_ERR_PERMISSION_DENIED (as for
 *         mm_paging_map()) | what the source of the kernel's root answers
 * Owner:  the space, until mm_space_unmap(). Contents: zero.
 * Locks:  the space's, and where REPLACE meets devices theirs for moments. Sleeps: never.
 * Cost:   O(log regions), and a step more for each gap that is large enough and wrongly aligned or
 *         too near to a stack; with POPULATE a frame and a store for each page; with REPLACE that
 *         of mm_space_unmap().
 */
MM_MUST_CHECK
mm_status_t mm_space_map(struct mm_space *space, const struct mm_space_request *request,
                         mm_vaddr_t *out);

/**
 * Map physical memory: registers of a device, a frame buffer, memory that the kernel shares by
 * itself. The region is there at once, with the largest leaves, and is never counted, copied or
 * released: a clone has it too, at the same memory.
 *
 * No two memory types of one physical page are in use at once (SDM vol. 3A, 12.12.4), in all spaces
 * of the manager and in the arena that its configuration names. Memory of the frame allocator is
 * write-back, because the direct map shows it so.
 *
 * @param request  flags: FIXED, REPLACE. Without `align`, and at least 2 MiB long, a place that is
 *                 not given lies in a large page as `paddr` does, if there is one
 * @param paddr    page-aligned
 * @return as mm_space_map(), and MM_ERR_NOT_ALIGNED (paddr) | MM_ERR_INVALID_SIZE (paddr and len
 *         wrap) | MM_ERR_INVALID_ADDRESS (paddr: beyond the CPU's) | MM_ERR_INVALID_FLAGS (flags)
 *         | MM_ERR_INVALID_ARGUMENT (kind other than ANONYMOUS and DEVICE; type)
 *         | MM_ERR_UNSUPPORTED (a type that the CPU lacks; the kernel's space) | MM_ERR_BUSY (a page
 *         of it is mapped with another type, be it in what would be replaced)
 *         | MM_ERR_PERMISSION_DENIED (a page of it is the frame allocator's, and `type` is not
 *         write-back) | MM_ERR_ALREADY_MAPPED (also if somebody mapped a page there without a
 *         region)
 * Owner:  the memory stays whose it is; it outlives the region.
 * Locks:  the space's, and the devices' for moments; if the arena has claimed it with another type
 *         also as mm_kva_purge(). Sleeps: never.
 * Cost:   as mm_space_map(), a store a leaf, and O(log n) in the devices that are mapped.
 */
MM_MUST_CHECK
mm_status_t mm_space_map_physical(struct mm_space *space, const struct mm_space_request *request,
                                  mm_paddr_t paddr, mm_memtype_t type, mm_vaddr_t *out);

/**
 * Remove all regions, and parts of regions, in the range; holes are passed over. Frames are
 * released after the flush.
 *
 * @return MM_OK | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE (0, or wraps) | MM_ERR_INVALID_ADDRESS
 *         (outside the space's range) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NO_MEMORY (a region
 *         or a large leaf must be split and there is no node or no table) | MM_ERR_FAULT (a frame
 *         that cannot be a table)
 * Locks:  the space's, and with devices theirs for moments. Sleeps: never.
 * Cost:   O(log regions + regions removed + touched pages), one flush.
 */
MM_MUST_CHECK
mm_status_t mm_space_unmap(struct mm_space *space, struct mm_vrange range);

/**
 * Give every page of the range this protection. Pages shared by copy-on-write stay read-only until
 * they are written; wired ones that get a right are put there, as long as there is memory. Where Linux changes what lies below a hole before it fails, this changes
 * nothing.
 *
 * @return as mm_space_unmap(), and MM_ERR_NOT_MAPPED (a hole in the range)
 *         | MM_ERR_PERMISSION_DENIED (a guard region; if there are both a hole and a guard, what
 *         comes first) | MM_ERR_INVALID_FLAGS (prot) | MM_ERR_NO_MEMORY (also: the commit charge)
 * Locks:  the space's, and with devices theirs for moments. Sleeps: never.
 * Cost:   O(log regions + regions and touched pages in the range), one flush.
 */
MM_MUST_CHECK
mm_status_t mm_space_protect(struct mm_space *space, struct mm_vrange range, mm_prot_t prot);

/* Flags of mm_space_remap(). */
#define MM_SPACE_REMAP_MOVE      1u /**< it may move, if it cannot grow where it is */
#define MM_SPACE_REMAP_FIXED     2u /**< it moves to `to`, and what is there is unmapped; with MOVE */
#define MM_SPACE_REMAP_FLAGS_ALL 3u

/**
 * Grow, shrink or move a mapping, pages and all (mremap). Pages move by their slots: no byte is
 * copied, and what the tables say of them stays (accessed, dirty, copy-on-write).
 *
 * Smaller: the rest is unmapped. Larger: in place if what follows is free (and not a stack's gap),
 * else with MOVE to a place that mm_space_map() would find, else MM_ERR_NO_MEMORY. What is new is
 * zero when it is touched; a wired region is populated there.
 *
 * @param old      what is mapped now; larger or moved: all of it in one region
 * @param new_len  bytes, rounded up to pages
 * @param flags    MM_SPACE_REMAP_...
 * @param to       with FIXED: where to, page-aligned, not overlapping `old`; else ignored
 * @param[out] out where it is now; untouched on error
 * @return MM_OK | MM_ERR_NOT_MAPPED (`old` begins in a hole, or reaches into one)
 *         | MM_ERR_NO_MEMORY (also: it cannot grow and may not move) | MM_ERR_REGION_NOT_FOUND (no
 *         gap is large enough) | MM_ERR_LIMIT | MM_ERR_PERMISSION_DENIED (`old` lies in several
 *         regions; a device's would grow) | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE (a length is 0
 *         or wraps) | MM_ERR_INVALID_ADDRESS (outside the space's range; FIXED: outside its layout,
 *         or the ranges overlap) | MM_ERR_INVALID_FLAGS | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_UNSUPPORTED (the kernel's space) | MM_ERR_FAULT (as for mm_space_map()) | where a
 *         wired region grows, what the source of the kernel's root answers
 * Locks:  the space's, and with devices theirs for moments. Sleeps: never.
 * Cost:   O(log regions); moved: two exchanges a touched page, a table for each 2 MiB, one flush.
 */
MM_MUST_CHECK
mm_status_t mm_space_remap(struct mm_space *space, struct mm_vrange old, uint64_t new_len,
                           uint32_t flags, mm_vaddr_t to, mm_vaddr_t *out);

/**
 * Make private pages of the range copy-on-write: the next write to each faults, and copies it if
 * its frame has another reference then. For whoever shares frames by mm_frame_get(), e.g. to write
 * a consistent picture of them elsewhere: references are taken before this call, inside of
 * mm_space_with_table(). Holes, devices and pages that nobody touched are passed
 * over; pinned pages stay writable, and so does a leaf of 2 MiB with a pinned page in it.
 *
 * @return as mm_space_unmap(), and MM_ERR_UNSUPPORTED (the kernel's space)
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions + touched pages), one flush.
 */
MM_MUST_CHECK
mm_status_t mm_space_make_cow(struct mm_space *space, struct mm_vrange range);

/* --- advice ----------------------------------------------------------------------------------- */

enum mm_space_advice {
    /** The pages are released; the next touch finds zero. Not of wired regions. */
    MM_ADVICE_DONT_NEED = 0,
    /** Pages that are not there are put there, as a read fault would, as long as there is memory:
     * no error is told for one that cannot be. */
    MM_ADVICE_WILL_NEED = 1,
    /** The contents may be lost from now on, until they are written again: mm_space_reclaim()
     * takes such pages. Not of wired regions. */
    MM_ADVICE_FREE = 2,
    MM_ADVICE_HUGE = 3,           /**< as MM_SPACE_HUGE from now on */
    MM_ADVICE_NO_HUGE = 4,        /**< as MM_SPACE_NO_HUGE; leaves of 2 MiB that are there stay */
    MM_ADVICE_POPULATE_READ = 5,  /**< every page as after a read, or an error */
    MM_ADVICE_POPULATE_WRITE = 6, /**< every page as after a write: private and writable */
};

#define MM_ADVICE_COUNT 7u

/**
 * madvise(): applied to every region of the range, also behind a hole; a hole is told at the end.
 *
 * POPULATE_READ and POPULATE_WRITE end at the first page that cannot be had, a hole too; the pages
 * before it are there (as on Linux). All other advice is all or nothing, but for holes. FREE is for
 * pages that are the space's alone and not pinned, and for large leaves that lie in the range whole;
 * others keep their contents. Guards, and for WILL_NEED what may not be read, are passed over.
 *
 * @return MM_OK | MM_ERR_NOT_MAPPED (a hole, and all else was done) | MM_ERR_PERMISSION_DENIED (a
 *         wired region for DONT_NEED and FREE, a device's region for any but WILL_NEED, a guard or
 *         a region that forbids the access for POPULATE: nothing was done but as said above)
 *         | MM_ERR_INVALID_ARGUMENT (null, advice) | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE
 *         | MM_ERR_INVALID_ADDRESS | MM_ERR_NO_MEMORY | MM_ERR_LIMIT (POPULATE: resident)
 *         | MM_ERR_UNSUPPORTED (the kernel's space) | MM_ERR_FAULT (as for mm_space_unmap())
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions + regions and touched pages in the range), one flush; POPULATE and
 *         WILL_NEED a fault for each page.
 */
MM_MUST_CHECK
mm_status_t mm_space_advise(struct mm_space *space, struct mm_vrange range,
                            enum mm_space_advice advice);

/**
 * Take pages that MM_ADVICE_FREE gave up and nobody has written since: for who is short of memory.
 *
 * @param nr_pages  at most so many; UINT64_MAX: all
 * @param[out] out  pages of 4 KiB that were released; untouched on error
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_UNSUPPORTED (the kernel's space)
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(touched pages of the space), one flush; O(1) if no page was given up.
 */
MM_MUST_CHECK
mm_status_t mm_space_reclaim(struct mm_space *space, uint64_t nr_pages, uint64_t *out);

/** In the bytes of mm_space_resident(). */
#define MM_SPACE_RESIDENT 1u /**< a page is there */

/**
 * mincore(): for each page of the range whether it is there now.
 *
 * @param[out] out  a byte a page, MM_SPACE_RESIDENT or 0; untouched on error
 * @return MM_OK | MM_ERR_NOT_MAPPED (a hole) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_ALIGNED
 *         | MM_ERR_INVALID_SIZE | MM_ERR_INVALID_ADDRESS
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions + pages).
 */
MM_MUST_CHECK
mm_status_t mm_space_resident(struct mm_space *space, struct mm_vrange range, uint8_t *out);

/**
 * mlock(): every page of the range is there when this returns, as after a write if its region may
 * be written, and stays, also when a wired region grows; advice does not take it. Guards, devices
 * and pages without READ, WRITE or EXEC are passed over.
 *
 * @return MM_OK | MM_ERR_NOT_MAPPED (a hole: what lies below it was wired, as on Linux)
 *         | MM_ERR_NO_MEMORY, MM_ERR_LIMIT (a page cannot be had: the regions are wired and the
 *         pages before it are there, as on Linux) | MM_ERR_NO_MEMORY, MM_ERR_FAULT (as for
 *         mm_space_unmap(), a region must be split: nothing was done)
 *         | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE | MM_ERR_INVALID_ADDRESS
 *         | MM_ERR_UNSUPPORTED (the kernel's space)
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions), and a fault for each page.
 */
MM_MUST_CHECK
mm_status_t mm_space_wire(struct mm_space *space, struct mm_vrange range);

/**
 * munlock(): regions of the range are wired no more.
 *
 * @return MM_OK | MM_ERR_NOT_MAPPED (a hole: what lies below it was done)
 *         | MM_ERR_NO_MEMORY, MM_ERR_FAULT (as for mm_space_unmap(): nothing was done)
 *         | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE | MM_ERR_INVALID_ADDRESS
 *         | MM_ERR_UNSUPPORTED (the kernel's space)
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions + regions in the range).
 */
MM_MUST_CHECK
mm_status_t mm_space_unwire(struct mm_space *space, struct mm_vrange range);

/* --- the break -------------------------------------------------------------------------------- */

/**
 * Where the heap that brk() grows begins: the loader says it once, behind the program's data. A
 * clone has the same heap.
 *
 * @param start  any byte; the first page of the heap is the next page boundary
 * @return MM_OK | MM_ERR_INVALID_ADDRESS (outside the space's range) | MM_ERR_BUSY (the break is
 *         not at its start) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_UNSUPPORTED (the kernel's
 *         space)
 * Locks:  the space's. Sleeps: never. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_space_set_brk_start(struct mm_space *space, mm_vaddr_t start);

/**
 * brk(): move the break, the first byte behind the heap. Pages between are a region of kind
 * MM_REGION_HEAP, readable and writable; wired, if the heap is at its end. Below the old break
 * everything goes that is above the new one, whoever mapped it (as on Linux).
 *
 * @param at        the new break, any byte; 0 asks
 * @param[out] out  the break now: `at`, or, as a Unix's brk() tells its failure, the old one, which
 *                  is untouched. Untouched on MM_ERR_INVALID_ARGUMENT, MM_ERR_UNSUPPORTED and
 *                  MM_ERR_REGION_NOT_FOUND
 * @return MM_OK | MM_ERR_INVALID_ADDRESS (below the start, or outside the space's range)
 *         | MM_ERR_ALREADY_MAPPED (something is in the way, or a stack's gap; or outside of the
 *         layout) | MM_ERR_LIMIT
 *         | MM_ERR_NO_MEMORY | MM_ERR_REGION_NOT_FOUND (no start was told)
 *         | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_UNSUPPORTED (the kernel's space)
 *         | MM_ERR_FAULT (as for mm_space_map()) | where a wired heap grows, what the source of the
 *         kernel's root answers
 * Locks:  the space's, and with devices theirs for moments. Sleeps: never.
 * Cost:   as mm_space_map(), mm_space_unmap().
 */
MM_MUST_CHECK
mm_status_t mm_space_brk(struct mm_space *space, mm_vaddr_t at, mm_vaddr_t *out);

/**
 * sbrk(): move the break by so many bytes.
 *
 * @param[out] out  the break before: where the new memory begins; untouched on error
 * @return as mm_space_brk()
 * Locks:  the space's, and with devices theirs for moments. Sleeps: never. Cost: as mm_space_brk().
 */
MM_MUST_CHECK
mm_status_t mm_space_sbrk(struct mm_space *space, int64_t by, mm_vaddr_t *out);

/* --- asking ----------------------------------------------------------------------------------- */

/**
 * The region that contains an address.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the space's, shared. Sleeps: never.
 * Cost:   O(log regions).
 */
MM_MUST_CHECK
mm_status_t mm_space_find(struct mm_space *space, mm_vaddr_t at, struct mm_region_info *out);

/**
 * The first region that ends above an address: iteration, as with mm_bootmap_next().
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND (no more) | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the space's, shared. Sleeps: never.
 * Cost:   O(log regions).
 */
MM_MUST_CHECK
mm_status_t mm_space_next(struct mm_space *space, mm_vaddr_t from, struct mm_region_info *out);

/** Room for the line of any region, and the terminator. */
#define MM_REGION_LINE_MAX 128u

/**
 * The line of a region as /proc/PID/maps has it:
 *
 *     7f1c00000000-7f1c00021000 rw-p 00000000 00:00 0                          [heap]
 *
 * without newline, with a terminator. What is shared is `s`, and devices are. Names are [stack],
 * [heap], [guard] and [device WC], with the memory type; other regions have none.
 *
 * @param[out] line  at least MM_REGION_LINE_MAX bytes
 * @param size       bytes at `line`
 * @param[out] len   without the terminator; may be null
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null; kind, type or prot of no region)
 *         | MM_ERR_LIMIT (size is below MM_REGION_LINE_MAX)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_region_line(const struct mm_region_info *region, char *line, size_t size,
                           size_t *len);

/**
 * Print all regions through the log op, as mm_region_line(), and a line of totals.
 *
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the space's, shared, for each line anew, and for the totals as mm_space_get_stats(): it
 *         is a picture of several moments. Sleeps: never.
 * Cost:   O(regions log regions).
 */
MM_MUST_CHECK
mm_status_t mm_space_list(struct mm_space *space);

MM_END_DECLS

#endif
