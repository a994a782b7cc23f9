// SPDX-License-Identifier: MIT
/**
 * Typed addresses, frame and page numbers, ranges, page sizes, protection and memory types.
 *
 * A physical address, a virtual address, a frame number and a page number are four types that the
 * compiler does not mix; each is a struct of one 64-bit field and costs no instruction.
 *
 * Ranges are half-open, kept as start and length in bytes. So the range that ends at 2^64 is
 * {start, 2^64 - start}, the empty range is any start with length 0, and only the range of all 2^64
 * bytes has no representation (no address space holds it: physical addresses have at most 52 bits,
 * and virtual ones at most 57). Code compares with the last byte, which always fits, never with the
 * end.
 */
#ifndef MM_ADDR_H
#define MM_ADDR_H

#include <mm/config.h>
#include <mm/status.h>

MM_BEGIN_DECLS

typedef struct mm_paddr {
    uint64_t raw;
} mm_paddr_t; /**< physical address, bytes */
typedef struct mm_vaddr {
    uint64_t raw;
} mm_vaddr_t; /**< virtual address, bytes */
typedef struct mm_pfn {
    uint64_t raw;
} mm_pfn_t; /**< frame number: physical address / 4096 */
typedef struct mm_vpn {
    uint64_t raw;
} mm_vpn_t; /**< page number: virtual address / 4096 */

#define MM_PAGE_SHIFT 12
#define MM_PAGE_SIZE  (UINT64_C(1) << MM_PAGE_SHIFT)
#define MM_PAGE_MASK  (MM_PAGE_SIZE - 1)

/** Leaf sizes in bytes. */
#define MM_SIZE_4K (UINT64_C(1) << 12)
#define MM_SIZE_2M (UINT64_C(1) << 21)
#define MM_SIZE_1G (UINT64_C(1) << 30)

/** The same as allocation orders (a block of order n is 2^n frames). */
#define MM_ORDER_4K 0u
#define MM_ORDER_2M 9u
#define MM_ORDER_1G 18u

/** Physical addresses have at most this many bits (Intel SDM vol. 3A, 4.1.4: MAXPHYADDR <= 52). */
#define MM_PADDR_BITS_MAX 52

struct mm_prange {
    mm_paddr_t start;
    uint64_t len; /**< bytes */
};

struct mm_vrange {
    mm_vaddr_t start;
    uint64_t len; /**< bytes */
};

/* --- making and taking apart ------------------------------------------------------------------ */

static inline mm_paddr_t mm_paddr(uint64_t raw)
{
    mm_paddr_t a = {raw};
    return a;
}

static inline mm_vaddr_t mm_vaddr(uint64_t raw)
{
    mm_vaddr_t a = {raw};
    return a;
}

static inline mm_pfn_t mm_pfn(uint64_t raw)
{
    mm_pfn_t n = {raw};
    return n;
}

static inline mm_vpn_t mm_vpn(uint64_t raw)
{
    mm_vpn_t n = {raw};
    return n;
}

/** The frame that holds the byte at `a`. */
static inline mm_pfn_t mm_pfn_of(mm_paddr_t a)
{
    return mm_pfn(a.raw >> MM_PAGE_SHIFT);
}

/** The page that holds the byte at `a`. */
static inline mm_vpn_t mm_vpn_of(mm_vaddr_t a)
{
    return mm_vpn(a.raw >> MM_PAGE_SHIFT);
}

/** First byte of a frame. A frame number above 2^52 - 1 loses its high bits. */
static inline mm_paddr_t mm_pfn_addr(mm_pfn_t n)
{
    return mm_paddr(n.raw << MM_PAGE_SHIFT);
}

/** First byte of a page. A page number above 2^52 - 1 loses its high bits. */
static inline mm_vaddr_t mm_vpn_addr(mm_vpn_t n)
{
    return mm_vaddr(n.raw << MM_PAGE_SHIFT);
}

/** Bytes from the start of its frame. */
static inline uint64_t mm_paddr_offset(mm_paddr_t a)
{
    return a.raw & MM_PAGE_MASK;
}

/** Bytes from the start of its page. */
static inline uint64_t mm_vaddr_offset(mm_vaddr_t a)
{
    return a.raw & MM_PAGE_MASK;
}

static inline struct mm_prange mm_prange(mm_paddr_t start, uint64_t len)
{
    struct mm_prange r = {start, len};
    return r;
}

static inline struct mm_vrange mm_vrange(mm_vaddr_t start, uint64_t len)
{
    struct mm_vrange r = {start, len};
    return r;
}

/** The virtual address of what a pointer points to. */
static inline mm_vaddr_t mm_vaddr_of(const volatile void *p)
{
    return mm_vaddr((uint64_t)(uintptr_t)p);
}

/**
 * The pointer to a virtual address, if a pointer can hold it.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_INVALID_ADDRESS (does not fit a pointer of this CPU)
 */
MM_MUST_CHECK
static inline mm_status_t mm_vaddr_to_ptr(mm_vaddr_t a, void **out)
{
    if ((uint64_t)(uintptr_t)a.raw != a.raw) {
        return MM_ERR_INVALID_ADDRESS;
    }
    *out = (void *)(uintptr_t)a.raw;
    return MM_OK;
}

/* --- checked arithmetic: true means that the result fits and was stored ----------------------- */

static inline bool mm_add(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;

    if (__builtin_add_overflow(a, b, &r)) {
        return false;
    }
    *out = r;
    return true;
}

static inline bool mm_sub(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;

    if (__builtin_sub_overflow(a, b, &r)) {
        return false;
    }
    *out = r;
    return true;
}

static inline bool mm_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;

    if (__builtin_mul_overflow(a, b, &r)) {
        return false;
    }
    *out = r;
    return true;
}

static inline bool mm_is_pow2(uint64_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

/** `align` is a power of two in all of the four below. */
static inline bool mm_is_aligned(uint64_t x, uint64_t align)
{
    return (x & (align - 1)) == 0;
}

static inline uint64_t mm_align_down(uint64_t x, uint64_t align)
{
    return x & ~(align - 1);
}

/** Checked: x up to the next multiple; false, and `*out` untouched, when that is 2^64. */
static inline bool mm_align_up(uint64_t x, uint64_t align, uint64_t *out)
{
    uint64_t r;

    if (!mm_add(x, align - 1, &r)) {
        return false;
    }
    *out = mm_align_down(r, align);
    return true;
}

/* --- ranges ----------------------------------------------------------------------------------- */

/** Whether start + len is at most 2^64. */
static inline bool mm_range_fits(uint64_t start, uint64_t len)
{
    return len == 0 || len - 1 <= UINT64_MAX - start;
}

static inline bool mm_prange_valid(struct mm_prange r)
{
    return mm_range_fits(r.start.raw, r.len);
}

static inline bool mm_vrange_valid(struct mm_vrange r)
{
    return mm_range_fits(r.start.raw, r.len);
}

/** Last byte of a valid range that is not empty. */
static inline mm_paddr_t mm_prange_last(struct mm_prange r)
{
    return mm_paddr(r.start.raw + (r.len - 1));
}

/** Last byte of a valid range that is not empty. */
static inline mm_vaddr_t mm_vrange_last(struct mm_vrange r)
{
    return mm_vaddr(r.start.raw + (r.len - 1));
}

static inline bool mm_prange_contains(struct mm_prange r, mm_paddr_t a)
{
    return a.raw >= r.start.raw && a.raw - r.start.raw < r.len;
}

static inline bool mm_vrange_contains(struct mm_vrange r, mm_vaddr_t a)
{
    return a.raw >= r.start.raw && a.raw - r.start.raw < r.len;
}

/** Whether valid `inner` lies in valid `outer`. An empty range does if its start does, or is where
 * `outer` ends. */
static inline bool mm_range_covers(uint64_t outer, uint64_t outer_len, uint64_t inner,
                                   uint64_t inner_len)
{
    return inner >= outer && inner - outer <= outer_len && inner_len <= outer_len - (inner - outer);
}

static inline bool mm_prange_covers(struct mm_prange outer, struct mm_prange inner)
{
    return mm_range_covers(outer.start.raw, outer.len, inner.start.raw, inner.len);
}

static inline bool mm_vrange_covers(struct mm_vrange outer, struct mm_vrange inner)
{
    return mm_range_covers(outer.start.raw, outer.len, inner.start.raw, inner.len);
}

/** Whether two valid ranges share a byte. */
static inline bool mm_range_overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a_len != 0 && b_len != 0 && (a >= b ? a - b < b_len : b - a < a_len);
}

static inline bool mm_prange_overlaps(struct mm_prange a, struct mm_prange b)
{
    return mm_range_overlaps(a.start.raw, a.len, b.start.raw, b.len);
}

static inline bool mm_vrange_overlaps(struct mm_vrange a, struct mm_vrange b)
{
    return mm_range_overlaps(a.start.raw, a.len, b.start.raw, b.len);
}

/** The head of a balanced tree of ranges: internal, and here only because public objects embed it. Of
 * ranges that may overlap, `window` does not count. */
struct mm_ranges {
    struct mmi_avl *root;
    struct mm_vrange window; /**< all of them lie in it */
    uint64_t nr;
    uint64_t bytes; /**< of all of them */
};

/* --- canonical addresses ---------------------------------------------------------------------- */

/**
 * Whether bits 63 down to `bits` - 1 of the address are all equal, as a CPU with `bits` bits of
 * linear address demands (Intel SDM vol. 1, 3.3.7.1: 48, or 57 with LA57).
 *
 * @param bits 1 to 64
 */
static inline bool mm_vaddr_canonical(mm_vaddr_t a, unsigned bits)
{
    uint64_t high = a.raw >> (bits - 1);

    return high == 0 || high == UINT64_MAX >> (bits - 1);
}

/** Whether a valid range is canonical throughout, which no range across the hole is. */
static inline bool mm_vrange_canonical(struct mm_vrange r, unsigned bits)
{
    mm_vaddr_t last = r.len == 0 ? r.start : mm_vrange_last(r);

    return mm_vaddr_canonical(r.start, bits) && mm_vaddr_canonical(last, bits) &&
           (r.start.raw >> 63) == (last.raw >> 63);
}

/* --- protection and memory type --------------------------------------------------------------- */

/** What a mapping allows: a combination of the bits below. */
typedef uint32_t mm_prot_t;

#define MM_PROT_NONE   0u
#define MM_PROT_READ   1u /**< x86 has no mapping that is writable or executable and not readable */
#define MM_PROT_WRITE  2u
#define MM_PROT_EXEC   4u
#define MM_PROT_USER   8u  /**< reachable from user mode */
#define MM_PROT_GLOBAL 16u /**< the same in every space: survives a change of root in the TLB */
#define MM_PROT_ALL    31u

#define MM_PROT_RW (MM_PROT_READ | MM_PROT_WRITE)
#define MM_PROT_RX (MM_PROT_READ | MM_PROT_EXEC)

/** How accesses are cached and ordered (Intel SDM vol. 3A, 12.3: methods of caching). */
typedef enum mm_memtype {
    MM_MEMTYPE_WB = 0,       /**< write-back: ordinary memory */
    MM_MEMTYPE_WT = 1,       /**< write-through */
    MM_MEMTYPE_WC = 2,       /**< write-combining: framebuffers */
    MM_MEMTYPE_UC_MINUS = 3, /**< uncached, unless an MTRR says write-combining */
    MM_MEMTYPE_UC = 4,       /**< uncached: device registers */
    MM_MEMTYPE_WP = 5,       /**< write-protected: reads cached, writes not */
} mm_memtype_t;

#define MM_MEMTYPE_COUNT 6

/** "WB", "WT", "WC", "UC-", "UC", "WP"; "?" for anything else. */
const char *mm_memtype_str(mm_memtype_t type);

MM_END_DECLS

#endif
