// SPDX-License-Identifier: MIT
/**
 * Bins of a page range; page_range.c has the drawing.
 */
#include "page_bins.h"

static uint64_t *fits_of(const struct mm_page_range *range, uint64_t w, unsigned bin)
{
    return &range->fits[w / MMI_PAGE_GROUP * MMI_PAGE_BINS + bin];
}

static uint64_t *top_of(const struct mm_page_range *range, uint64_t group, unsigned bin)
{
    return &range->tops[bin * range->nr_tops + group / 64];
}

static uint64_t in_top(uint64_t group)
{
    return UINT64_C(1) << (group % 64);
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
        return MMI_PAGE_WORD_BITS;
    }
    lengthen(of32, 5, &starts, &len);
    lengthen(of16, 4, &starts, &len);
    lengthen(of8, 3, &starts, &len);
    lengthen(of4, 2, &starts, &len);
    lengthen(of2, 1, &starts, &len);
    lengthen(word, 0, &starts, &len);
    return len;
}

/** The bins, as bits, of a word that another one follows: from the lowest on, so many. */
static uint64_t bins_of(uint64_t word, uint64_t next)
{
    unsigned longest = longest_in(word);
    unsigned above = mmi_ones_above(word);

    if (above != 0 && longest < MMI_PAGE_WORD_BITS) {
        unsigned across = above + mmi_ones_below(next);

        longest = across > longest ? across : longest;
    }
    return longest == 0 ? 0 : mmi_mask(0, mmi_page_bin(longest) + 1);
}

static void put_in(struct mm_page_range *range, uint64_t w, unsigned bin)
{
    uint64_t mask = UINT64_C(1) << (w % MMI_PAGE_GROUP);

    if ((mmi_load_seq(fits_of(range, w, bin)) & mask) == 0) {
        mmi_fetch_or_seq(fits_of(range, w, bin), mask);
        if ((mmi_load_seq(top_of(range, w / MMI_PAGE_GROUP, bin)) & in_top(w / MMI_PAGE_GROUP)) ==
            0) {
            mmi_fetch_or_seq(top_of(range, w / MMI_PAGE_GROUP, bin), in_top(w / MMI_PAGE_GROUP));
        }
    }
}

/** With the last word of a bin its group goes; whoever put another one in meanwhile, and saw the
 * group's bit, is not forgotten. */
static void take_out(struct mm_page_range *range, uint64_t w, unsigned bin)
{
    uint64_t mask = UINT64_C(1) << (w % MMI_PAGE_GROUP);

    if (mmi_fetch_and_seq(fits_of(range, w, bin), ~mask) == mask) {
        mmi_fetch_and_seq(top_of(range, w / MMI_PAGE_GROUP, bin), ~in_top(w / MMI_PAGE_GROUP));
        if (mmi_load_seq(fits_of(range, w, bin)) != 0) {
            mmi_fetch_or_seq(top_of(range, w / MMI_PAGE_GROUP, bin), in_top(w / MMI_PAGE_GROUP));
        }
    }
}

/** The bins that the word is in, as bits. */
static uint64_t bins_with(const struct mm_page_range *range, uint64_t w)
{
    const uint64_t *fits = fits_of(range, w, 0);
    unsigned bit = w % MMI_PAGE_GROUP;
    uint64_t bins = 0;

    for (unsigned bin = MMI_PAGE_BINS; bin != 0; bin -= 3) {
        bins = bins << 1 | (mmi_load_seq(&fits[bin - 1]) >> bit & 1);
        bins = bins << 1 | (mmi_load_seq(&fits[bin - 2]) >> bit & 1);
        bins = bins << 1 | (mmi_load_seq(&fits[bin - 3]) >> bit & 1);
    }
    return bins;
}

void mmi_page_bins_sort_word(struct mm_page_range *range, uint64_t w)
{
    uint64_t word = mmi_page_word(range, w);
    uint64_t next = mmi_page_word(range, w + 1);
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
    if (mmi_page_word(range, w) != word || mmi_page_word(range, w + 1) != next) {
        should = bins_of(mmi_page_word(range, w), mmi_page_word(range, w + 1));
        for (uint64_t more = should & ~bins_with(range, w); more != 0; more &= more - 1) {
            put_in(range, w, mmi_ctz(more));
        }
    }
    /* One less in the low half, one more in the high half. */
    mmi_fetch_add_seq(&range->unsettled, (UINT64_C(1) << 32) - 1);
}

/* That concerns the word before if a run of it goes on
 * as far as there. */
void mmi_page_bins_sort(struct mm_page_range *range, uint64_t first, uint64_t nr)
{
    uint64_t w = first / MMI_PAGE_WORD_BITS;
    uint64_t before = mmi_mask(0, (unsigned)(first % MMI_PAGE_WORD_BITS));

    if (w > 0 && (mmi_load_seq(&range->bitmap[w]) & before) == before &&
        mmi_load_seq(&range->bitmap[w - 1]) >> 63 != 0) {
        mmi_page_bins_sort_word(range, w - 1);
    }
    for (; w <= (first + nr - 1) / MMI_PAGE_WORD_BITS; w++) {
        mmi_page_bins_sort_word(range, w);
    }
}

bool mmi_page_bins_next(const struct mm_page_range *range, unsigned bin, uint64_t w, uint64_t *out)
{
    uint64_t group = w / MMI_PAGE_GROUP;
    uint64_t words;

    if (w >= range->nr_words) {
        return false;
    }
    words = mmi_load_seq(fits_of(range, w, bin)) & (UINT64_MAX << (w % MMI_PAGE_GROUP));
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
        words = mmi_load_seq(fits_of(range, group * MMI_PAGE_GROUP, bin));
    }
    *out = group * MMI_PAGE_GROUP + mmi_ctz(words);
    return true;
}

void mmi_page_bins_fill(struct mm_page_range *range, uint64_t first, uint64_t last)
{
    for (uint64_t g = first / MMI_PAGE_GROUP; g <= last / MMI_PAGE_GROUP; g++) {
        for (unsigned bin = 0; bin < MMI_PAGE_BINS; bin++) {
            *fits_of(range, g * MMI_PAGE_GROUP, bin) = mmi_page_mask(g, first, last - first + 1);
            *top_of(range, g, bin) |= in_top(g);
        }
    }
    mmi_page_bins_sort_word(range, first);
    mmi_page_bins_sort_word(range, last);
}
