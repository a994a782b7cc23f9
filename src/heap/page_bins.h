// SPDX-License-Identifier: MIT
/**
 * The bins of a page range: in which words of its bitmap a run of at least so many free pages
 * begins. page_range.c has the drawing, and says who brings them up to date when.
 */
#ifndef MMI_HEAP_PAGE_BINS_H
#define MMI_HEAP_PAGE_BINS_H

#include "slab.h"

/** Pages of a word of the bitmap. */
#define MMI_PAGE_WORD_BITS UINT64_C(64)

/** Runs of exactly so many pages and more: 1 to 16, 32, 64. */
#define MMI_PAGE_BINS 18u

/** Words of a group, groups of a word of `tops`. */
#define MMI_PAGE_GROUP 64u

/** Bits of word `w` among [first, first + nr). */
static inline uint64_t mmi_page_mask(uint64_t w, uint64_t first, uint64_t nr)
{
    uint64_t low = w * MMI_PAGE_WORD_BITS < first ? first - w * MMI_PAGE_WORD_BITS : 0;
    uint64_t end = first + nr - w * MMI_PAGE_WORD_BITS;

    return mmi_mask((unsigned)low,
                    (unsigned)((end > MMI_PAGE_WORD_BITS ? MMI_PAGE_WORD_BITS : end) - low));
}

/** Set bits from bit 0 on. */
static inline unsigned mmi_ones_below(uint64_t word)
{
    return word == UINT64_MAX ? MMI_PAGE_WORD_BITS : mmi_ctz(~word);
}

/** Set bits from bit 63 down. */
static inline unsigned mmi_ones_above(uint64_t word)
{
    return word == UINT64_MAX ? MMI_PAGE_WORD_BITS : 63 - mmi_log2(~word);
}

/** A word of the bitmap, or 0 behind the last. */
static inline uint64_t mmi_page_word(const struct mm_page_range *range, uint64_t w)
{
    return w < range->nr_words ? mmi_load_seq(&range->bitmap[w]) : 0;
}

/** The bin of the longest runs that are not longer than `nr` pages (1 or more). */
static inline unsigned mmi_page_bin(uint64_t nr)
{
    return nr <= 16 ? (unsigned)nr - 1 : nr < 32 ? 15 : nr < MMI_PAGE_WORD_BITS ? 16 : 17;
}

/** Whether a word of that bin has such a run, wherever it is aligned. */
static inline bool mmi_page_bin_is_exact(uint64_t nr)
{
    return nr <= 16 || nr == 32 || nr == MMI_PAGE_WORD_BITS;
}

/** The word has changed: bring its bins up to date. */
void mmi_page_bins_sort_word(struct mm_page_range *range, uint64_t w);
/** The bits [first, first + nr) have changed. */
void mmi_page_bins_sort(struct mm_page_range *range, uint64_t first, uint64_t nr);
/** The first word of the bin from `w` on; false: there is none. */
bool mmi_page_bins_next(const struct mm_page_range *range, unsigned bin, uint64_t w, uint64_t *out);
/** Words [first, last] are free as a whole, but for those at the ends, which are sorted. Nobody else
 * is there. */
void mmi_page_bins_fill(struct mm_page_range *range, uint64_t first, uint64_t last);

#endif
