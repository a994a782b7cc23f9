// SPDX-License-Identifier: MIT
/**
 * The reference model of an address space's regions: one record for each page of one window.
 *
 * There is no list, no tree, no splitting and no merging in it. A region is what a reader would
 * call one: the longest run of pages that agree, where neighbours agree when all attributes are
 * equal and, for pages of an object, the offsets go on. An operation answers with NULL, or with a
 * sentence that says what is wrong (and then the model is unchanged). Addresses are bytes; ranges
 * are whole pages.
 */
#ifndef T_MODEL_REGIONS_H
#define T_MODEL_REGIONS_H

#include <stdbool.h>
#include <stdint.h>

#define T_MREGIONS_PAGE UINT64_C(4096)

struct t_mregion_attr {
    uint64_t prot;   /**< the test's own encoding */
    uint64_t flags;  /**< likewise; regions that must not merge get different flags */
    uint64_t object; /**< 0: private anonymous memory */
    uint64_t offset; /**< of the first byte in the object; ignored, and 0, without one */
};

struct t_mregion {
    uint64_t start;
    uint64_t len;
    struct t_mregion_attr attr;
};

struct t_mregion_page {
    struct t_mregion_attr attr; /* offset: of this page */
    uint64_t used;
};

struct t_mregions {
    uint64_t start;
    uint64_t nr;
    struct t_mregion_page *pages;
};

/** Where to look for room. */
struct t_mregion_search {
    uint64_t len;
    uint64_t align;   /**< bytes; 0: a page */
    uint64_t residue; /**< the start is this much above a multiple of it; of whole pages */
    uint64_t low;     /**< no byte below */
    uint64_t last;    /**< no byte above this one; 0: the window's end */
};

/** What changes in each page. */
struct t_mregion_change {
    bool sets_prot;
    uint64_t prot;
    uint64_t set; /**< flags */
    uint64_t clear;
};

/** One window of whole pages, not empty; it may end at 2^64. */
void t_mregions_init(struct t_mregions *model, uint64_t start, uint64_t len);
void t_mregions_destroy(struct t_mregions *model);

/** All of the range must be unused. */
const char *t_mregions_insert(struct t_mregions *model, uint64_t start, uint64_t len,
                              const struct t_mregion_attr *attr);

/** The range becomes unused; what was unused stays so. */
const char *t_mregions_remove(struct t_mregions *model, uint64_t start, uint64_t len);

/** All of the range must be in use. */
const char *t_mregions_protect(struct t_mregions *model, uint64_t start, uint64_t len,
                               uint64_t prot);

/** What is in use of the range changes. */
const char *t_mregions_change(struct t_mregions *model, uint64_t start, uint64_t len,
                              const struct t_mregion_change *change);

/** How many pages of the range are in use. */
uint64_t t_mregions_used(const struct t_mregions *model, uint64_t start, uint64_t len);

/** The region that holds this address; false: none does. */
bool t_mregions_find(const struct t_mregions *model, uint64_t address, struct t_mregion *out);

/** The lowest region that begins at or above `from`. Its successor begins at or above start + len.
 */
bool t_mregions_next(const struct t_mregions *model, uint64_t from, struct t_mregion *out);

/** How many regions there are. */
uint64_t t_mregions_count(const struct t_mregions *model);

/** Lowest and highest place with room; false: there is none, and "no room" is the truth. */
bool t_mregions_gap_lowest(const struct t_mregions *model, const struct t_mregion_search *search,
                           uint64_t *start);
bool t_mregions_gap_highest(const struct t_mregions *model, const struct t_mregion_search *search,
                            uint64_t *start);

/** Is this place one that the search allows? NULL: yes. */
const char *t_mregions_gap_fits(const struct t_mregions *model,
                                const struct t_mregion_search *search, uint64_t start);

/** A hash of all pages. */
uint64_t t_mregions_hash(const struct t_mregions *model);

/** Make `to` (not initialised) an equal model. */
void t_mregions_copy(struct t_mregions *to, const struct t_mregions *from);

#endif
