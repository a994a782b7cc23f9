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

/* --- bins ------------------------------------------------------------------------------------- */

/** Runs of exactly so many pages and more: 1 to 16, 32, 64. */
#define NR_BINS 18u

/** Words of a group, groups of a word of `tops`. */
#define GROUP 64u

/** The bin of the longest runs that are not longer than `nr` pages (1 or more). */
static unsigned bin_of(uint64_t nr)
{
    return nr <= 16 ? (unsigned)nr - 1 : nr < 32 ? 15 : nr < WORD_BITS ? 16 : 17;
}

/** Whether a word of that bin has such a run, wherever it is aligned. */
static bool bin_is_exact(uint64_t nr)
{
    return nr <= 16 || nr == 32 || nr == WORD_BITS;
}

static uint64_t *fits_of(const struct mm_page_range *range, uint64_t w, unsigned bin)
{
    return &range->fits[w / GROUP * NR_BINS + bin];
}

static uint64_t *top_of(const struct mm_page_range *range, uint64_t group, unsigned bin)
{
    return &range->tops[bin * range->nr_tops + group / 64];
}

static uint64_t in_top(uint64_t group)
{
    return UINT64_C(1) << (group % 64);
}

/** Set bits from bit 0 on. */
static unsigned ones_below(uint64_t word)
{
    return word == UINT64_MAX ? WORD_BITS : mmi_ctz(~word);
}

/** Set bits from bit 63 down. */
static unsigned ones_above(uint64_t word)
{
    return word == UINT64_MAX ? WORD_BITS : 63 - mmi_log2(~word);
}

/**
 * If runs of 2^bits begin at `runs`, and of `*starts` some go on so: take those, and add to the
 * length. Which way it goes is not to be foretold, so there are no branches.
 */
MMI_INLINE void lengthen(uint64_t runs, unsigned bits, uint64_t *starts, unsigned *len)
{
    uint64_t longer = *starts & (runs >> *len);

    *starts = longer != 0 ? longer : *starts;
    *len += (unsigned)(longer != 0) << bits;
}

/** The longest run of set bits of a word. */
static unsigned longest_in(uint64_t word)
{
    uint64_t of2 = word & word >> 1;
    uint64_t of4 = of2 & of2 >> 2;
    uint64_t of8 = of4 & of4 >> 4;
    uint64_t of16 = of8 & of8 >> 8;
    uint64_t of32 = of16 & of16 >> 16;
    uint64_t starts = UINT64_MAX;
    unsigned len = 0;

    if (word == UINT64_MAX) {
        return WORD_BITS;
    }
    lengthen(of32, 5, &starts, &len);
    lengthen(of16, 4, &starts, &len);
    lengthen(of8, 3, &starts, &len);
    lengthen(of4, 2, &starts, &len);
    lengthen(of2, 1, &starts, &len);
    lengthen(word, 0, &starts, &len);
    return len;
}

static uint64_t word_at(const struct mm_page_range *range, uint64_t w)
{
    return w < range->nr_words ? mmi_load_seq(&range->bitmap[w]) : 0;
}

/** The bins, as bits, of a word that another one follows: from the lowest on, so many. */
static uint64_t bins_of(uint64_t word, uint64_t next)
{
    unsigned longest = longest_in(word);
    unsigned above = ones_above(word);

    if (above != 0 && longest < WORD_BITS) {
        unsigned across = above + ones_below(next);

        longest = across > longest ? across : longest;
    }
    return longest == 0 ? 0 : mmi_mask(0, bin_of(longest) + 1);
}

static void put_in(struct mm_page_range *range, uint64_t w, unsigned bin)
{
    uint64_t mask = UINT64_C(1) << (w % GROUP);

    if ((mmi_load_seq(fits_of(range, w, bin)) & mask) == 0) {
        mmi_fetch_or_seq(fits_of(range, w, bin), mask);
        if ((mmi_load_seq(top_of(range, w / GROUP, bin)) & in_top(w / GROUP)) == 0) {
            mmi_fetch_or_seq(top_of(range, w / GROUP, bin), in_top(w / GROUP));
        }
    }
}

/** With the last word of a bin its group goes; whoever put another one in meanwhile, and saw the
 * group's bit, is not forgotten. */
static void take_out(struct mm_page_range *range, uint64_t w, unsigned bin)
{
    uint64_t mask = UINT64_C(1) << (w % GROUP);

    if (mmi_fetch_and_seq(fits_of(range, w, bin), ~mask) == mask) {
        mmi_fetch_and_seq(top_of(range, w / GROUP, bin), ~in_top(w / GROUP));
        if (mmi_load_seq(fits_of(range, w, bin)) != 0) {
            mmi_fetch_or_seq(top_of(range, w / GROUP, bin), in_top(w / GROUP));
        }
    }
}

/** The bins that the word is in, as bits. */
static uint64_t bins_with(const struct mm_page_range *range, uint64_t w)
{
    const uint64_t *fits = fits_of(range, w, 0);
    unsigned bit = w % GROUP;
    uint64_t bins = 0;

    for (unsigned bin = NR_BINS; bin != 0; bin -= 3) {
        bins = bins << 1 | (mmi_load_seq(&fits[bin - 1]) >> bit & 1);
        bins = bins << 1 | (mmi_load_seq(&fits[bin - 2]) >> bit & 1);
        bins = bins << 1 | (mmi_load_seq(&fits[bin - 3]) >> bit & 1);
    }
    return bins;
}

/** The word has changed: bring its bins up to date. */
static void sort_word(struct mm_page_range *range, uint64_t w)
{
    uint64_t word = word_at(range, w);
    uint64_t next = word_at(range, w + 1);
    uint64_t should = bins_of(word, next);
    uint64_t is = bins_with(range, w);

    for (uint64_t more = should & ~is; more != 0; more &= more - 1) {
        put_in(range, w, mmi_ctz(more));
    }
    if ((is & ~should) == 0) {
        return;
    }
    mmi_fetch_add_seq(&range->unsettled, UINT64_C(1));
    for (uint64_t less = is & ~should; less != 0; less &= less - 1) {
        take_out(range, w, mmi_ctz(less));
    }
    if (word_at(range, w) != word || word_at(range, w + 1) != next) {
        should = bins_of(word_at(range, w), word_at(range, w + 1));
        for (uint64_t more = should & ~bins_with(range, w); more != 0; more &= more - 1) {
            put_in(range, w, mmi_ctz(more));
        }
    }
    /* One less in the low half, one more in the high half. */
    mmi_fetch_add_seq(&range->unsettled, (UINT64_C(1) << 32) - 1);
}

/** The bits [first, first + nr) have changed. That concerns the word before if a run of it goes on
 * as far as there. */
static void sort_bits(struct mm_page_range *range, uint64_t first, uint64_t nr)
{
    uint64_t w = first / WORD_BITS;
    uint64_t before = mmi_mask(0, (unsigned)(first % WORD_BITS));

    if (w > 0 && (mmi_load_seq(&range->bitmap[w]) & before) == before &&
        mmi_load_seq(&range->bitmap[w - 1]) >> 63 != 0) {
        sort_word(range, w - 1);
    }
    for (; w <= (first + nr - 1) / WORD_BITS; w++) {
        sort_word(range, w);
    }
}

/** The first word of the bin from `w` on; false: there is none. */
static bool next_word(const struct mm_page_range *range, unsigned bin, uint64_t w, uint64_t *out)
{
    uint64_t group = w / GROUP;
    uint64_t words;

    if (w >= range->nr_words) {
        return false;
    }
    words = mmi_load_seq(fits_of(range, w, bin)) & (UINT64_MAX << (w % GROUP));
    while (words == 0) {
        uint64_t groups = 0;

        group++;
        while (group < range->nr_groups) {
            groups = mmi_load_seq(top_of(range, group, bin)) & (UINT64_MAX << (group % 64));
            if (groups != 0) {
                break;
            }
            group = (group / 64 + 1) * 64;
        }
        if (groups == 0) {
            return false;
        }
        group = group / 64 * 64 + mmi_ctz(groups);
        words = mmi_load_seq(fits_of(range, group * GROUP, bin));
    }
    *out = group * GROUP + mmi_ctz(words);
    return true;
}

/* --- claiming --------------------------------------------------------------------------------- */

static void put_bits(struct mm_page_range *range, uint64_t first, uint64_t nr)
{
    for (uint64_t w = first / WORD_BITS; w <= (first + nr - 1) / WORD_BITS; w++) {
        uint64_t mask = mask_of(w, first, nr);

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
    sort_bits(range, first, nr);
}

/** Exactly these. False: one is not free, and all is as it was. */
static bool claim(struct mm_page_range *range, uint64_t first, uint64_t nr)
{
    for (uint64_t w = first / WORD_BITS; w <= (first + nr - 1) / WORD_BITS; w++) {
        uint64_t mask = mask_of(w, first, nr);
        uint64_t seen = mmi_load_seq(&range->bitmap[w]);

        do {
            if ((seen & mask) != mask) {
                if (w * WORD_BITS > first) {
                    put_bits(range, first, w * WORD_BITS - first);
                }
                return false;
            }
        } while (!mmi_cas_seq(&range->bitmap[w], &seen, seen & ~mask));
    }
    sort_bits(range, first, nr);
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
        holes = nr >= WORD_BITS ? at : at & (UINT64_MAX / ((UINT64_C(1) << nr) - 1));
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
                *out = w * WORD_BITS + bit;
                sort_bits(range, *out, nr);
                return true;
            }
            continue;
        }
        above = ones_above(seen);
        if (above == 0 || above + ones_below(word_at(range, w + 1)) < nr) {
            return false;
        }
        if (claim(range, (w + 1) * WORD_BITS - above, nr)) {
            *out = (w + 1) * WORD_BITS - above;
            return true;
        }
        seen = mmi_load_seq(&range->bitmap[w]);
    }
}

/** The first bit from `bit` on that is `set`, or `end`. */
static uint64_t find_bit(const struct mm_page_range *range, uint64_t bit, uint64_t end, bool set)
{
    while (bit < end) {
        uint64_t word = mmi_load_seq(&range->bitmap[bit / WORD_BITS]);

        word = (set ? word : ~word) >> (bit % WORD_BITS);
        if (word != 0) {
            bit += mmi_ctz(word);
            return bit < end ? bit : end;
        }
        bit = (bit / WORD_BITS + 1) * WORD_BITS;
    }
    return end;
}

/** A run of any length and alignment that begins in the word of `*bit`, there or behind; else `*bit`
 * is where the next one may begin. */
static bool take_any(struct mm_page_range *range, uint64_t nr, uint64_t align, uint64_t *bit)
{
    uint64_t end = range->first_bit + range->nr_pages;
    uint64_t page0 = (range->base >> MM_PAGE_SHIFT) - range->first_bit;
    uint64_t word_end = (*bit / WORD_BITS + 1) * WORD_BITS;

    while (*bit < word_end) {
        uint64_t stop;

        *bit = find_bit(range, *bit, word_end < end ? word_end : end, true);
        *bit = mm_align_down(page0 + *bit + align - 1, align) - page0;
        if (*bit >= word_end) {
            break;
        }
        if (*bit >= end || end - *bit < nr) {
            *bit = range->nr_words * WORD_BITS;
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
    unsigned bin = bin_of(nr);
    uint64_t bit = 0;

    for (;;) {
        uint64_t w = bit / WORD_BITS;

        if (any ? w >= range->nr_words : !next_word(range, bin, w, &w)) {
            return false;
        }
        bit = bit > w * WORD_BITS ? bit : w * WORD_BITS;
        if (align == 1 && bin_is_exact(nr)) {
            if (take_short(range, w, nr, out)) {
                return true;
            }
            sort_word(range, w); /* it was named, and has none */
            bit = (w + 1) * WORD_BITS;
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

    (void)flags; /* nothing is set aside here */
    if (nr_pages == 0 || !mm_is_pow2(align)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (nr_pages > range->nr_pages || align > UINT64_MAX / MM_PAGE_SIZE) {
        return MM_ERR_NO_MEMORY;
    }
    before = mmi_load_seq(&range->unsettled);
    if (!take(range, nr_pages, align, false, &bit) &&
        (((uint32_t)before == 0 && mmi_load_seq(&range->unsettled) == before) ||
         !take(range, nr_pages, align, true, &bit))) {
        return MM_ERR_NO_MEMORY;
    }
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
    uint64_t word = first / WORD_BITS;
    uint64_t last = (first + nr - 1) / WORD_BITS;

    for (uint64_t w = word; w <= last; w++) {
        range->bitmap[w] = mask_of(w, first, nr);
    }
    /* Words in between are whole; those at the ends are sorted. */
    for (uint64_t g = word / GROUP; g <= last / GROUP; g++) {
        for (unsigned bin = 0; bin < NR_BINS; bin++) {
            *fits_of(range, g * GROUP, bin) = mask_of(g, word, last - word + 1);
            *top_of(range, g, bin) |= in_top(g);
        }
    }
    sort_word(range, word);
    sort_word(range, last);
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
    range->first_bit = (start >> MM_PAGE_SHIFT) % WORD_BITS;
    range->nr_words = (range->first_bit + nr_pages + WORD_BITS - 1) / WORD_BITS;
    range->nr_groups = (range->nr_words + GROUP - 1) / GROUP;
    range->nr_tops = (range->nr_groups + 63) / 64;
    nr_meta = range->nr_words + (range->nr_groups + range->nr_tops) * NR_BINS;
    range->fits = range->bitmap + range->nr_words;
    range->tops = range->fits + range->nr_groups * NR_BINS;
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
