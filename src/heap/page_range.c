// SPDX-License-Identifier: MIT
/**
 * A page source over one fixed range: a bitmap in its first pages, changed in place, and over it
 * bins of runs by exact length.
 *
 *     base                                                                 base + nr_pages * 4096
 *      │ bitmap, fits, tops │             pages that are handed out              │
 *
 * Bit b of the bitmap is the page b - first_bit, where first_bit makes the first bit of every word
 * a page whose number is a multiple of 64: so the alignment of a bit in its word is the alignment
 * of its page, up to 64 pages. Bits that stand for no page, or for the bitmap's own, are 0.
 *
 * The bitmap is the truth. A bin holds the words in which a run of at least so many free pages
 * begins: 1 to 16, 32 and 64 pages. It goes on into the next word, if it does. A bin has two levels,
 * so that the lowest word is found by three loads in a range of 16 GiB:
 *
 *     tops   a bit is a group that has a word in the bin
 *     fits   a bit is a word (64 pages); a group is 64 words (16 MiB)
 *
 * A run is taken from the lowest word of its bin, by compare-and-exchange; within it the hole that
 * it fills comes first, then, if its length is a power of two, a multiple of its length, so that
 * runs of one length leave whole runs behind. What lies in several words is claimed word by word,
 * and put back if somebody was faster.
 *
 * Who changes bits brings the bins of the word up to date, and those of the word before if its run
 * goes on into this one. Bins may name too much, which costs time, and never too little, but for a
 * moment. Who frees sets bits, then looks at the bins. Who takes a word out of a bin takes it out,
 * then looks at the bits again, and puts it back if it belongs there after all. All four are
 * sequentially consistent, so one of the two sees the other. In the moment between, a run may be
 * free and in no bin: so it is counted (`unsettled`), and who found nothing meanwhile goes over the
 * words themselves before the answer is no.
 */
#include "page_bins.h"

#include "core/base/mem.h"
#include "core/base/report.h"

#define MAGIC UINT32_C(0x6d6d5072) /* "mmPr" */

static bool is_range(const struct mm_page_range *range)
{
    return range != NULL && range->magic == MAGIC;
}

/** The page of a bit, as an address. */
static uint64_t address_of(const struct mm_page_range *range, uint64_t bit)
{
    return range->base + (bit - range->first_bit) * MM_PAGE_SIZE;
}

/* --- claiming --------------------------------------------------------------------------------- */

static void put_bits(struct mm_page_range *range, uint64_t first, uint64_t nr)
{
    for (uint64_t w = first / MMI_PAGE_WORD_BITS; w <= (first + nr - 1) / MMI_PAGE_WORD_BITS; w++) {
        uint64_t mask = mmi_page_mask(w, first, nr);

        if ((mmi_fetch_or_seq(&range->bitmap[w], mask) & mask) != 0) {
            struct mm_platform none = {NULL, NULL};
            struct mm_panic_info info = {.room = "heap",
                                         .what = "double free of a page of a range",
                                         .address = address_of(range, first),
                                         .recorded = "free",
                                         .claimed = "allocated"};

            mmi_panic(&none, &info);
        }
    }
    mmi_fetch_add_seq(&range->nr_given, UINT64_C(1));
    mmi_page_bins_sort(range, first, nr);
}

/** Exactly these. False: one is not free, and all is as it was. */
static bool claim(struct mm_page_range *range, uint64_t first, uint64_t nr)
{
    for (uint64_t w = first / MMI_PAGE_WORD_BITS; w <= (first + nr - 1) / MMI_PAGE_WORD_BITS; w++) {
        uint64_t mask = mmi_page_mask(w, first, nr);
        uint64_t seen = mmi_load_seq(&range->bitmap[w]);

        do {
            if ((seen & mask) != mask) {
                if (w * MMI_PAGE_WORD_BITS > first) {
                    put_bits(range, first, w * MMI_PAGE_WORD_BITS - first);
                }
                return false;
            }
        } while (!mmi_cas_seq(&range->bitmap[w], &seen, seen & ~mask));
    }
    mmi_page_bins_sort(range, first, nr);
    return true;
}

/* --- taking ----------------------------------------------------------------------------------- */

/** Bits of a word at which `nr` set bits begin (1 to 64). */
static uint64_t starts(uint64_t word, uint64_t nr)
{
    uint64_t have = 1;

    while (have < nr && word != 0) {
        uint64_t more = nr - have < have ? nr - have : have;

        word &= word >> more;
        have += more;
    }
    return word;
}

/** Which of the runs that begin `at` is taken: a hole of just `nr`, or an aligned one, or the first.
 */
static unsigned choose(uint64_t nr, uint64_t at)
{
    uint64_t longer = at & (at >> 1); /* where nr + 1 begin */
    uint64_t holes = at & ~(longer | longer << 1);

    if (holes == 0 && mm_is_pow2(nr)) {
        holes = nr >= MMI_PAGE_WORD_BITS ? at : at & (UINT64_MAX / ((UINT64_C(1) << nr) - 1));
    }
    return mmi_ctz(holes != 0 ? holes : at);
}

/** A run of up to 64 pages, unaligned, that begins in this word. */
static bool take_short(struct mm_page_range *range, uint64_t w, uint64_t nr, uint64_t *out)
{
    uint64_t seen = mmi_load_seq(&range->bitmap[w]);

    for (;;) {
        uint64_t at = starts(seen, nr);
        unsigned above;

        if (at != 0) {
            unsigned bit = choose(nr, at);

            if (mmi_cas_seq(&range->bitmap[w], &seen, seen & ~mmi_mask(bit, (unsigned)nr))) {
                *out = w * MMI_PAGE_WORD_BITS + bit;
                mmi_page_bins_sort(range, *out, nr);
                return true;
            }
            continue;
        }
        above = mmi_ones_above(seen);
        if (above == 0 || above + mmi_ones_below(mmi_page_word(range, w + 1)) < nr) {
            return false;
        }
        if (claim(range, (w + 1) * MMI_PAGE_WORD_BITS - above, nr)) {
            *out = (w + 1) * MMI_PAGE_WORD_BITS - above;
            return true;
        }
        seen = mmi_load_seq(&range->bitmap[w]);
    }
}

/** The first bit from `bit` on that is `set`, or `end`. */
static uint64_t find_bit(const struct mm_page_range *range, uint64_t bit, uint64_t end, bool set)
{
    while (bit < end) {
        uint64_t word = mmi_load_seq(&range->bitmap[bit / MMI_PAGE_WORD_BITS]);

        word = (set ? word : ~word) >> (bit % MMI_PAGE_WORD_BITS);
        if (word != 0) {
            bit += mmi_ctz(word);
            return bit < end ? bit : end;
        }
        bit = (bit / MMI_PAGE_WORD_BITS + 1) * MMI_PAGE_WORD_BITS;
    }
    return end;
}

/** A run of any length and alignment that begins in the word of `*bit`, there or behind; else `*bit`
 * is where the next one may begin. */
static bool take_any(struct mm_page_range *range, uint64_t nr, uint64_t align, uint64_t *bit)
{
    uint64_t end = range->first_bit + range->nr_pages;
    uint64_t page0 = (range->base >> MM_PAGE_SHIFT) - range->first_bit;
    uint64_t word_end = (*bit / MMI_PAGE_WORD_BITS + 1) * MMI_PAGE_WORD_BITS;

    while (*bit < word_end) {
        uint64_t stop;

        *bit = find_bit(range, *bit, word_end < end ? word_end : end, true);
        *bit = mm_align_down(page0 + *bit + align - 1, align) - page0;
        if (*bit >= word_end) {
            break;
        }
        if (*bit >= end || end - *bit < nr) {
            *bit = range->nr_words * MMI_PAGE_WORD_BITS;
            break;
        }
        stop = find_bit(range, *bit, *bit + nr, false);
        if (stop < *bit + nr) {
            *bit = stop + 1;
        } else if (claim(range, *bit, nr)) {
            return true;
        }
    }
    return false;
}

/** A run from the words of its bin, or from any. */
static bool take(struct mm_page_range *range, uint64_t nr, uint64_t align, bool any, uint64_t *out)
{
    unsigned bin = mmi_page_bin(nr);
    uint64_t bit = 0;

    for (;;) {
        uint64_t w = bit / MMI_PAGE_WORD_BITS;

        if (any ? w >= range->nr_words : !mmi_page_bins_next(range, bin, w, &w)) {
            return false;
        }
        bit = bit > w * MMI_PAGE_WORD_BITS ? bit : w * MMI_PAGE_WORD_BITS;
        if (align == 1 && mmi_page_bin_is_exact(nr)) {
            if (take_short(range, w, nr, out)) {
                return true;
            }
            mmi_page_bins_sort_word(range, w); /* it was named, and has none */
            bit = (w + 1) * MMI_PAGE_WORD_BITS;
        } else if (take_any(range, nr, align, &bit)) {
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
    uint64_t before;
    uint64_t given;

    (void)flags; /* nothing is set aside here */
    if (nr_pages == 0 || !mm_is_pow2(align)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (nr_pages > range->nr_pages || align > UINT64_MAX / MM_PAGE_SIZE) {
        return MM_ERR_NO_MEMORY;
    }
    do {
        given = mmi_load_seq(&range->nr_given);
        before = mmi_load_seq(&range->unsettled);
        if (take(range, nr_pages, align, false, &bit)) {
            break;
        }
        if ((uint32_t)before == 0 && mmi_load_seq(&range->unsettled) == before &&
            mmi_load_seq(&range->nr_given) == given) {
            return MM_ERR_NO_MEMORY;
        }
        if (take(range, nr_pages, align, true, &bit)) {
            break;
        }
        /* What was given back behind this pass, while others took what lay ahead, was there. */
        if (mmi_load_seq(&range->nr_given) == given) {
            return MM_ERR_NO_MEMORY;
        }
    } while (true);
    mmi_fetch_sub(&range->nr_free, nr_pages);
    *out = (void *)(uintptr_t)address_of(range, bit);
    return MM_OK;
}

/** Whether these are pages that the range hands out. */
static bool has_pages(const struct mm_page_range *range, uint64_t address, uint64_t nr_pages)
{
    uint64_t own = range->base + range->nr_bitmap_pages * MM_PAGE_SIZE;
    uint64_t len = (range->nr_pages - range->nr_bitmap_pages) * MM_PAGE_SIZE;

    return nr_pages != 0 && nr_pages <= range->nr_pages && mm_is_aligned(address, MM_PAGE_SIZE) &&
           mm_range_covers(own, len, address, nr_pages * MM_PAGE_SIZE);
}

static uint64_t bit_of(const struct mm_page_range *range, uint64_t address)
{
    return ((address - range->base) >> MM_PAGE_SHIFT) + range->first_bit;
}

static void range_free(void *ctx, void *pages, uint64_t nr_pages)
{
    struct mm_page_range *range = ctx;
    uint64_t address = (uint64_t)(uintptr_t)pages;

    if (!has_pages(range, address, nr_pages)) {
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
    put_bits(range, bit_of(range, address), nr_pages);
    mmi_fetch_add(&range->nr_free, nr_pages);
}

static mm_status_t range_extend(void *ctx, void *pages, uint64_t nr_pages, uint64_t more,
                                uint32_t flags)
{
    struct mm_page_range *range = ctx;
    uint64_t address = (uint64_t)(uintptr_t)pages;

    (void)flags;
    if (!has_pages(range, address, nr_pages) || more == 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (more > range->nr_pages || !has_pages(range, address, nr_pages + more) ||
        !claim(range, bit_of(range, address) + nr_pages, more)) {
        return MM_ERR_NO_MEMORY;
    }
    mmi_fetch_sub(&range->nr_free, more);
    return MM_OK;
}

static const struct mm_page_source_ops range_ops = {
    .alloc = range_alloc, .free = range_free, .extend = range_extend};

/* --- init and destroy ------------------------------------------------------------------------- */

/** All is free; nobody else is there. */
static void fill(struct mm_page_range *range, uint64_t first, uint64_t nr)
{
    uint64_t word = first / MMI_PAGE_WORD_BITS;
    uint64_t last = (first + nr - 1) / MMI_PAGE_WORD_BITS;

    for (uint64_t w = word; w <= last; w++) {
        range->bitmap[w] = mmi_page_mask(w, first, nr);
    }
    mmi_page_bins_fill(range, word, last);
}

mm_status_t mm_page_range_init(struct mm_page_range *range, void *base, uint64_t len)
{
    uint64_t first = (uint64_t)(uintptr_t)base;
    uint64_t start;
    uint64_t nr_pages;
    uint64_t nr_meta; /* words */

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
    range->first_bit = (start >> MM_PAGE_SHIFT) % MMI_PAGE_WORD_BITS;
    range->nr_words = (range->first_bit + nr_pages + MMI_PAGE_WORD_BITS - 1) / MMI_PAGE_WORD_BITS;
    range->nr_groups = (range->nr_words + MMI_PAGE_GROUP - 1) / MMI_PAGE_GROUP;
    range->nr_tops = (range->nr_groups + 63) / 64;
    nr_meta = range->nr_words + (range->nr_groups + range->nr_tops) * MMI_PAGE_BINS;
    range->fits = range->bitmap + range->nr_words;
    range->tops = range->fits + range->nr_groups * MMI_PAGE_BINS;
    range->nr_bitmap_pages = (nr_meta * 8 + MM_PAGE_MASK) >> MM_PAGE_SHIFT;
    range->nr_free = nr_pages - range->nr_bitmap_pages;
    memset(range->bitmap, 0, nr_meta * 8);
    fill(range, range->first_bit + range->nr_bitmap_pages, range->nr_free);
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
