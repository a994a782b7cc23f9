// SPDX-License-Identifier: MIT
/**
 * A page source over one fixed range: a bitmap in its first pages, changed in place.
 *
 *     base                                                          base + nr_pages * 4096
 *      │ bitmap │                 pages that are handed out               │
 *
 * Bit b of the bitmap is the page b - first_bit, where first_bit makes the first bit of every word
 * a page whose number is a multiple of 64: so the alignment of a bit in its word is the alignment
 * of its page, up to 64 pages. Bits that stand for no page, or for the bitmap's own, are 0.
 *
 * A run of up to 64 pages is taken from within one word, by one compare-and-exchange; if its length
 * is a power of two, at a multiple of its length, so that runs of one length leave whole runs
 * behind. Only if no word has one are unaligned runs, and at last those across words, looked for;
 * these are claimed word by word, and put back if somebody was faster. Hints say, for each length,
 * below which word there was none; freeing lowers them, and a search that finds nothing above goes
 * over what is below: so a hint that is wrong costs time only.
 */
#include "slab.h"

#include "core/base/mem.h"
#include "core/base/report.h"

#define MAGIC     UINT32_C(0x6d6d5072) /* "mmPr" */
#define WORD_BITS UINT64_C(64)

static bool is_range(const struct mm_page_range *range)
{
    return range != NULL && range->magic == MAGIC;
}

/** Bits of word `w` among [first, first + nr). */
static uint64_t mask_of(uint64_t w, uint64_t first, uint64_t nr)
{
    uint64_t low = w * WORD_BITS < first ? first - w * WORD_BITS : 0;
    uint64_t end = first + nr - w * WORD_BITS;

    return mmi_mask((unsigned)low, (unsigned)((end > WORD_BITS ? WORD_BITS : end) - low));
}

/** The page of a bit, as an address. */
static uint64_t address_of(const struct mm_page_range *range, uint64_t bit)
{
    return range->base + (bit - range->first_bit) * MM_PAGE_SIZE;
}

/* --- claiming --------------------------------------------------------------------------------- */

static void put_bits(struct mm_page_range *range, uint64_t first, uint64_t nr)
{
    for (uint64_t w = first / WORD_BITS; w <= (first + nr - 1) / WORD_BITS; w++) {
        uint64_t mask = mask_of(w, first, nr);

        if ((mmi_fetch_or(&range->bitmap[w], mask) & mask) != 0) {
            struct mm_platform none = {NULL, NULL};
            struct mm_panic_info info = {.room = "heap",
                                         .what = "double free of a page of a range",
                                         .address = address_of(range, first),
                                         .recorded = "free",
                                         .claimed = "allocated"};

            mmi_panic(&none, &info);
        }
    }
}

static bool claim(struct mm_page_range *range, uint64_t first, uint64_t nr)
{
    for (uint64_t w = first / WORD_BITS; w <= (first + nr - 1) / WORD_BITS; w++) {
        uint64_t mask = mask_of(w, first, nr);
        uint64_t seen = mmi_load(&range->bitmap[w]);

        do {
            if ((seen & mask) != mask) {
                if (w * WORD_BITS > first) {
                    put_bits(range, first, w * WORD_BITS - first);
                }
                return false;
            }
        } while (!mmi_cas(&range->bitmap[w], &seen, seen & ~mask));
    }
    return true;
}

/** Bits of a word at which `nr` set bits begin (1 to 64), at multiples of `step` bits. */
static uint64_t starts(uint64_t word, uint64_t nr, uint64_t step)
{
    uint64_t have = 1;

    while (have < nr && word != 0) {
        uint64_t more = nr - have < have ? nr - have : have;

        word &= word >> more;
        have += more;
    }
    return step >= WORD_BITS ? word & 1 : word & (UINT64_MAX / ((UINT64_C(1) << step) - 1));
}

/** A run within one of the words [from, end). */
static bool take_in_words(struct mm_page_range *range, uint64_t from, uint64_t end, uint64_t nr,
                          uint64_t step, uint64_t *out)
{
    for (uint64_t w = from; w < end; w++) {
        uint64_t seen = mmi_load(&range->bitmap[w]);
        uint64_t at;

        while ((at = starts(seen, nr, step)) != 0) {
            unsigned bit = mmi_ctz(at);

            if (mmi_cas(&range->bitmap[w], &seen, seen & ~mmi_mask(bit, (unsigned)nr))) {
                *out = w * WORD_BITS + bit;
                return true;
            }
        }
    }
    return false;
}

static bool take_short(struct mm_page_range *range, uint64_t nr, uint64_t align, uint64_t *out)
{
    unsigned order = mmi_log2_up(nr);
    uint64_t step = mm_is_pow2(nr) && nr > align ? nr : align;
    uint64_t *hint = order < MM_PAGE_RANGE_HINTS ? &range->hints[order] : NULL;
    uint64_t from = hint != NULL ? mmi_load(hint) : 0;

    if (take_in_words(range, from, range->nr_words, nr, step, out) ||
        take_in_words(range, 0, from, nr, step, out)) {
        if (hint != NULL && *out / WORD_BITS != from) {
            mmi_store(hint, *out / WORD_BITS);
        }
        return true;
    }
    return step != align && take_in_words(range, 0, range->nr_words, nr, align, out);
}

/** The first bit from `bit` on that is `set`, or `end`. */
static uint64_t find_bit(const struct mm_page_range *range, uint64_t bit, uint64_t end, bool set)
{
    while (bit < end) {
        uint64_t word = mmi_load(&range->bitmap[bit / WORD_BITS]);

        word = (set ? word : ~word) >> (bit % WORD_BITS);
        if (word != 0) {
            bit += mmi_ctz(word);
            return bit < end ? bit : end;
        }
        bit = (bit / WORD_BITS + 1) * WORD_BITS;
    }
    return end;
}

/** A run of any length and alignment, across words. */
static bool take_long(struct mm_page_range *range, uint64_t nr, uint64_t align, uint64_t *out)
{
    uint64_t end = range->first_bit + range->nr_pages;
    uint64_t page0 = (range->base >> MM_PAGE_SHIFT) - range->first_bit;
    uint64_t bit = 0;

    for (;;) {
        uint64_t stop;

        bit = find_bit(range, bit, end, true);
        bit = mm_align_down(page0 + bit + align - 1, align) - page0;
        if (bit >= end || end - bit < nr) {
            return false;
        }
        stop = find_bit(range, bit, bit + nr, false);
        if (stop < bit + nr) {
            bit = stop + 1;
        } else if (claim(range, bit, nr)) {
            *out = bit;
            return true;
        }
    }
}

/* --- the source ------------------------------------------------------------------------------- */

static mm_status_t range_alloc(void *ctx, uint64_t nr_pages, uint64_t align, uint32_t flags,
                               void **out)
{
    struct mm_page_range *range = ctx;
    uint64_t bit = 0;

    (void)flags; /* nothing is set aside here */
    if (nr_pages == 0 || !mm_is_pow2(align)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (nr_pages > range->nr_pages || align > UINT64_MAX / MM_PAGE_SIZE) {
        return MM_ERR_NO_MEMORY;
    }
    if ((nr_pages > WORD_BITS || align > WORD_BITS || !take_short(range, nr_pages, align, &bit)) &&
        !(nr_pages > 1 && take_long(range, nr_pages, align, &bit)) &&
        !(nr_pages == 1 && align > WORD_BITS && take_long(range, nr_pages, align, &bit))) {
        return MM_ERR_NO_MEMORY;
    }
    mmi_fetch_sub(&range->nr_free, nr_pages);
    *out = (void *)(uintptr_t)address_of(range, bit);
    return MM_OK;
}

static void range_free(void *ctx, void *pages, uint64_t nr_pages)
{
    struct mm_page_range *range = ctx;
    uint64_t address = (uint64_t)(uintptr_t)pages;
    uint64_t own = range->base + range->nr_bitmap_pages * MM_PAGE_SIZE;
    uint64_t len = (range->nr_pages - range->nr_bitmap_pages) * MM_PAGE_SIZE;
    uint64_t first;

    if (nr_pages == 0 || nr_pages > range->nr_pages || !mm_is_aligned(address, MM_PAGE_SIZE) ||
        !mm_range_covers(own, len, address, nr_pages * MM_PAGE_SIZE)) {
        struct mm_platform none = {NULL, NULL};
        struct mm_panic_info info = {.room = "heap",
                                     .what = "free of pages that are not of this range",
                                     .address = address,
                                     .recorded = "pages of the range",
                                     .recorded_value = range->nr_pages,
                                     .claimed = "pages",
                                     .claimed_value = nr_pages};

        mmi_panic(&none, &info);
    }
    first = ((address - range->base) >> MM_PAGE_SHIFT) + range->first_bit;
    put_bits(range, first, nr_pages);
    mmi_fetch_add(&range->nr_free, nr_pages);
    for (unsigned i = 0; i < MM_PAGE_RANGE_HINTS; i++) {
        if (first / WORD_BITS < mmi_load(&range->hints[i])) {
            mmi_store(&range->hints[i], first / WORD_BITS);
        }
    }
}

static const struct mm_page_source_ops range_ops = {.alloc = range_alloc, .free = range_free};

/* --- init and destroy ------------------------------------------------------------------------- */

mm_status_t mm_page_range_init(struct mm_page_range *range, void *base, uint64_t len)
{
    uint64_t first = (uint64_t)(uintptr_t)base;
    uint64_t start;
    uint64_t nr_pages;

    if (range == NULL || base == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (is_range(range)) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (!mm_range_fits(first, len) || !mm_align_up(first, MM_PAGE_SIZE, &start) ||
        start - first > len || len - (start - first) < 2 * MM_PAGE_SIZE) {
        return MM_ERR_INVALID_SIZE;
    }
    nr_pages = (len - (start - first)) >> MM_PAGE_SHIFT;
    memset(range, 0, sizeof(*range));
    range->base = start;
    range->nr_pages = nr_pages;
    range->bitmap = (uint64_t *)(uintptr_t)start;
    range->first_bit = (start >> MM_PAGE_SHIFT) % WORD_BITS;
    range->nr_words = (range->first_bit + nr_pages + WORD_BITS - 1) / WORD_BITS;
    range->nr_bitmap_pages = (range->nr_words * 8 + MM_PAGE_MASK) >> MM_PAGE_SHIFT;
    range->nr_free = nr_pages - range->nr_bitmap_pages;
    memset(range->bitmap, 0, range->nr_words * 8);
    put_bits(range, range->first_bit + range->nr_bitmap_pages, range->nr_free);
    range->magic = MAGIC;
    return MM_OK;
}

mm_status_t mm_page_range_destroy(struct mm_page_range *range)
{
    if (range == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!is_range(range)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (mmi_load(&range->nr_free) != range->nr_pages - range->nr_bitmap_pages) {
        return MM_ERR_BUSY;
    }
    memset(range, 0, sizeof(*range));
    return MM_OK;
}

struct mm_page_source mm_page_source_range(struct mm_page_range *range)
{
    struct mm_page_source none = {NULL, NULL, 0, 0};

    return is_range(range) ? (struct mm_page_source){&range_ops, range, range->base,
                                                     range->nr_pages * MM_PAGE_SIZE}
                           : none;
}
