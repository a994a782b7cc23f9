// SPDX-License-Identifier: MIT
/**
 * The boot memory map: what the firmware says of physical memory, made fit to be believed.
 *
 * Entries are added in any order, at byte granularity, and may overlap, repeat and be unaligned.
 * Normalising sorts them and resolves every overlap in favour of the kind that is *least* usable,
 * so that a byte counts as usable only if every entry that covers it says so. Bytes that no entry
 * covers are in no result. Neighbours of one kind merge.
 *
 * Iteration over usable memory then yields whole frames: edges are rounded inwards.
 *
 *   as received      usable ################....  reserved   ####
 *   normalised       usable #########  reserved ####  usable ###
 *
 * Storage is the caller's, an array of entries of any size. Normalising n entries can yield 2n - 1,
 * in place, so an array of MM_BOOTMAP_CAPACITY(n) entries takes n adds; adding, not normalising, is
 * what reports that the array is full, so normalising cannot fail. What counts is the number of
 * addresses at which a range begins or ends: b of them part at most b - 1 ranges. An add counts two
 * until normalising has counted exactly, so that normalising can make room, never take it.
 *
 * A map has no lock: it is used by one CPU at boot. No op is called, nothing is allocated.
 */
#ifndef MM_BOOTMAP_H
#define MM_BOOTMAP_H

#include <mm/addr.h>

MM_BEGIN_DECLS

struct mm_physmap;

/** Ordered: where two entries overlap, the higher kind wins. Usable is the lowest. */
enum mm_boot_kind {
    MM_BOOT_USABLE = 0,
    MM_BOOT_BOOTLOADER = 1,   /**< boot loader or boot services data: usable when not needed */
    MM_BOOT_ACPI_RECLAIM = 2, /**< ACPI tables: usable once they have been read */
    MM_BOOT_METADATA = 3,     /**< taken by mm_bootmap_take(): the library's own arrays */
    MM_BOOT_KERNEL = 4,       /**< the kernel's image */
    MM_BOOT_MODULE = 5,       /**< a file that the boot loader put beside it */
    MM_BOOT_RUNTIME = 6,      /**< UEFI runtime code and data */
    MM_BOOT_ACPI_NVS = 7,     /**< kept by firmware across sleep */
    MM_BOOT_PERSISTENT = 8,   /**< non-volatile memory: not RAM for this purpose */
    MM_BOOT_FRAMEBUFFER = 9,
    MM_BOOT_RESERVED = 10,
    MM_BOOT_MMIO = 11,
    MM_BOOT_BAD = 12, /**< defective */
};

#define MM_BOOT_KIND_COUNT 13

/** One kind in a set of kinds. */
#define MM_BOOT_BIT(kind) (UINT32_C(1) << (kind))

/** Ordinary memory, whatever lies in it: what a direct map holds... */
#define MM_BOOT_KINDS_RAM                                                                          \
    (MM_BOOT_BIT(MM_BOOT_USABLE) | MM_BOOT_BIT(MM_BOOT_BOOTLOADER) |                               \
     MM_BOOT_BIT(MM_BOOT_METADATA) | MM_BOOT_BIT(MM_BOOT_KERNEL) | MM_BOOT_BIT(MM_BOOT_MODULE))
/** ... and what it holds too, so that tables can be read: firmware does not align them. */
#define MM_BOOT_KINDS_ACPI (MM_BOOT_BIT(MM_BOOT_ACPI_RECLAIM) | MM_BOOT_BIT(MM_BOOT_ACPI_NVS))

struct mm_boot_entry {
    struct mm_prange range;
    uint32_t kind; /**< enum mm_boot_kind */
    uint32_t zero; /**< always 0 */
};

/** A piece of the kernel's image: where it is linked, where it lies, what it may do. */
struct mm_boot_section {
    struct mm_vrange range; /**< linked address */
    mm_paddr_t paddr;       /**< where its first byte lies */
    mm_prot_t prot;         /**< read, and write or execute as the image's sections say */
    uint32_t zero;
};

struct mm_bootmap {
    struct mm_boot_entry *entries;
    uint32_t nr;         /**< entries in use; sorted and disjoint if `normalized` */
    uint32_t capacity;   /**< entries in the array */
    uint32_t boundaries; /**< addresses where a range begins or ends, at most; <= capacity + 1 */
    uint32_t normalized; /**< 1 after mm_bootmap_normalize() until the next add */
    uint32_t magic;
    uint32_t zero; /**< always 0 */
};

/** Entries of storage that take `n` adds, whatever they overlap and whenever the map is asked. */
#define MM_BOOTMAP_CAPACITY(n) (2u * (n))

/**
 * Make an empty map over an array.
 *
 * @param map      zeroed storage
 * @param entries  the array; not read before it is written
 * @param capacity entries in it
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (a null pointer) | MM_ERR_INVALID_SIZE (capacity 0 or
 *         above 2^31) | MM_ERR_ALREADY_INITIALIZED
 * Owner:  the caller keeps both storages, and frees them by forgetting them.
 * Cost:   O(1).
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_init(struct mm_bootmap *map, struct mm_boot_entry *entries,
                            uint32_t capacity);

/**
 * Add what one source says of a range. To reserve memory is to add it with a kind that is not
 * usable.
 *
 * @param range  bytes, of any alignment; of length 0: nothing happens
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null map, unknown kind)
 *         | MM_ERR_INVALID_SIZE (start + len exceeds 2^64) | MM_ERR_LIMIT (the array is full;
 *         normalising makes room if ranges were added that meet or repeat others)
 * Cost:   O(1).
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_add(struct mm_bootmap *map, struct mm_prange range, enum mm_boot_kind kind);

/**
 * How many adds of ranges that are not empty are sure to fit: all or nothing for who adds several.
 *
 * @return 0 for a map that is null or not initialised
 * Cost:   O(1).
 */
uint32_t mm_bootmap_room(const struct mm_bootmap *map);

/**
 * Sort, resolve overlaps, merge. Idempotent; all queries below do it first when it is due, which is
 * why they take a map that is not const. Afterwards the entries may be read from the array: sorted,
 * disjoint, not empty, byte for byte. Neighbours of one kind are one entry; only a range of all
 * 2^64 bytes is kept as two, since no range can hold it.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Cost:   O(n log n), in place; O(1) when it is not due.
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_normalize(struct mm_bootmap *map);

/**
 * The next range of whole frames of one kind at or above an address.
 *
 * @param from      where to look; frames that begin below are not returned
 * @param[out] out  page-aligned, not empty; untouched on error
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND (no more) | MM_ERR_NOT_INITIALIZED
 *         | MM_ERR_INVALID_ARGUMENT (null, unknown kind)
 * Cost:   O(log n), and one step for each entry of another kind that is passed over.
 *
 *     struct mm_prange r;
 *     for (mm_paddr_t at = mm_paddr(0); mm_bootmap_next(map, MM_BOOT_USABLE, at, &r) == MM_OK;
 *          at = mm_paddr(r.start.raw + r.len)) { ... }
 *
 * Memory ends at 2^52 at the latest: frames above that are never returned, so `at` cannot wrap.
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_next(struct mm_bootmap *map, enum mm_boot_kind kind, mm_paddr_t from,
                            struct mm_prange *out);

/**
 * The next range of frames that a set of kinds makes up, neighbours of different kinds joined: what
 * a direct map walks. A frame is in it if all its bytes are of kinds in `whole` or `touched`, or if
 * any byte is of a kind in `touched`: edges of the first are rounded inwards, of the second
 * outwards.
 *
 * @param whole, touched  MM_BOOT_BIT()s; e.g. MM_BOOT_KINDS_RAM and MM_BOOT_KINDS_ACPI
 * @param from            as for mm_bootmap_next()
 * @param[out] out        page-aligned, not empty, as long as can be; untouched on error
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND (no more) | MM_ERR_NOT_INITIALIZED
 *         | MM_ERR_INVALID_ARGUMENT (null, no kind, an unknown kind)
 * Cost:   O(log n), and one step for each entry that is passed over or joined.
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_next_frames(struct mm_bootmap *map, uint32_t whole, uint32_t touched,
                                   mm_paddr_t from, struct mm_prange *out);

/**
 * The largest range of whole usable frames inside `within`; of several, the lowest.
 *
 * @param within    e.g. what is mapped; {0, UINT64_MAX} for anywhere
 * @param[out] out  page-aligned, not empty; untouched on error
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND | MM_ERR_INVALID_SIZE (`within` exceeds 2^64)
 *         | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Cost:   O(n).
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_largest(struct mm_bootmap *map, struct mm_prange within,
                               struct mm_prange *out);

/**
 * The same through the direct map: how a small kernel finds its heap. The range is *not* taken: a
 * kernel that also runs a frame allocator takes it with mm_bootmap_add() or mm_bootmap_take().
 * Frame 0 is left out, so that the base is no null pointer under an identity map; so is what lies
 * past the end of virtual memory. A direct map that begins at virtual 0 with another frame was asked
 * for: the base is then a null pointer, with MM_OK.
 *
 * @param[out] out_base, out_len  where it can be reached, and bytes; untouched on error
 * @return as mm_bootmap_largest(), and MM_ERR_UNSUPPORTED if `physmap` is not a direct map,
 *         MM_ERR_INVALID_ARGUMENT also if what it reaches exceeds 2^64
 * Cost:   O(n).
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_largest_mapped(struct mm_bootmap *map, const struct mm_physmap *physmap,
                                      struct mm_prange within, void **out_base, uint64_t *out_len);

/**
 * Take usable memory out of the map: the first fit from the top of `within` downwards, so that low
 * memory lasts. The range is added to the map as MM_BOOT_METADATA. Frame 0 is never taken.
 *
 * @param len    bytes; rounded up to whole frames
 * @param align  a power of two, at least 4096
 * @param[out] out  page-aligned, `len` rounded up; untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_LIMIT (there is memory, and no room for the entry)
 *         | MM_ERR_INVALID_SIZE (len 0, or `within` exceeds 2^64) | MM_ERR_NOT_ALIGNED (align)
 *         | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Cost:   O(n log n).
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_take(struct mm_bootmap *map, uint64_t len, uint64_t align,
                            struct mm_prange within, struct mm_prange *out);

/**
 * Give back what mm_bootmap_take() took, or part of it: it is usable again.
 *
 * @param range  page-aligned
 * @return MM_OK | MM_ERR_INVALID_ADDRESS (not all of it is MM_BOOT_METADATA) | MM_ERR_NOT_ALIGNED
 *         | MM_ERR_INVALID_SIZE (length 0, or wraps) | MM_ERR_NOT_INITIALIZED
 *         | MM_ERR_LIMIT (a part is given back, and there is no room for an entry of the rest)
 *         | MM_ERR_INVALID_ARGUMENT (null)
 * Cost:   O(n log n).
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_give(struct mm_bootmap *map, struct mm_prange range);

/**
 * Make all of one kind usable: of MM_BOOT_BOOTLOADER once the loader's data has been read and its
 * page tables and stack are left, of MM_BOOT_ACPI_RECLAIM once the tables have been read.
 *
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null, or any other kind) | MM_ERR_NOT_INITIALIZED
 * Cost:   O(n log n).
 */
MM_MUST_CHECK
mm_status_t mm_bootmap_reclaim(struct mm_bootmap *map, enum mm_boot_kind kind);

/**
 * Bytes of whole usable frames; 0 for a map that is null or not initialised.
 * Cost:   O(n).
 */
uint64_t mm_bootmap_usable_bytes(struct mm_bootmap *map);

/** "usable", "reserved", ...; "?" for no kind. */
const char *mm_boot_kind_str(enum mm_boot_kind kind);

MM_END_DECLS

#endif
