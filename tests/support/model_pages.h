// SPDX-License-Identifier: MIT
/**
 * The reference model of a page table: one entry for each 4 KiB page of a few windows, flat.
 *
 * There are no levels in it. A leaf of 2 MiB or 1 GiB is 512 or 262,144 entries that say so, and a
 * split writes a smaller size into them. An operation answers with what the engine's status must
 * be; one that fails leaves the model unchanged. Keep the windows small (4 GiB is 24 MiB of model).
 */
#ifndef T_MODEL_PAGES_H
#define T_MODEL_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#define T_MPAGES_WINDOWS 8

enum t_mpages_status {
    T_MPAGES_OK = 0,
    T_MPAGES_INVALID,        /**< not aligned, empty, wraps, or outside of the windows */
    T_MPAGES_ALREADY_MAPPED, /**< a page of the range is mapped */
    T_MPAGES_NOT_MAPPED,     /**< a page of the range is not mapped, and holes are not allowed */
    T_MPAGES_HUGE,           /**< part of a large leaf, and splitting is not allowed */
};

enum t_mpages_flags {
    T_MPAGES_SPLIT = 1, /**< a leaf that is cut by the range's ends is split */
    T_MPAGES_HOLES = 2, /**< pages that are not mapped are passed over */
};

/** In `leaf`, beside the size: a soft slot. What may be mapped sees it, and what unmaps; for all else
 * it is a hole. */
#define T_MPAGES_SOFT 128u

/** One 4 KiB page. */
struct t_mpage {
    uint64_t paddr; /**< of this page, also inside of a larger leaf; of a soft slot its payload */
    uint32_t prot;  /**< the test's own encoding */
    uint16_t type;  /**< memory type, likewise; of a soft slot its kind */
    uint8_t leaf;   /**< log2 of the leaf's size: 12, 21, 30; T_MPAGES_SOFT; 0: nothing */
    uint8_t marks;  /**< the test's own; what is mapped anew has none. There is no padding. */
};

struct t_mpages_window {
    uint64_t first; /**< page number */
    uint64_t nr;
    struct t_mpage *pages;
};

struct t_mpages {
    struct t_mpages_window windows[T_MPAGES_WINDOWS];
    unsigned nr_windows;
    unsigned largest; /**< log2 of the largest leaf that the CPU allows */
};

/** `largest`: 12, 21 or 30. */
void t_mpages_init(struct t_mpages *model, unsigned largest);
void t_mpages_destroy(struct t_mpages *model);

/** Declare a window of whole pages; it may end at 2^64 and may not overlap another. */
void t_mpages_add_window(struct t_mpages *model, uint64_t start, uint64_t len);

/**
 * Map a run of frames with the largest leaves that alignment and length allow, at each place.
 * `largest` (0: the CPU's) restricts the size.
 */
enum t_mpages_status t_mpages_map(struct t_mpages *model, uint64_t start, uint64_t paddr,
                                  uint64_t len, uint32_t prot, uint16_t type, unsigned largest);

enum t_mpages_status t_mpages_unmap(struct t_mpages *model, uint64_t start, uint64_t len,
                                    unsigned flags);

enum t_mpages_status t_mpages_protect(struct t_mpages *model, uint64_t start, uint64_t len,
                                      uint32_t prot, unsigned flags);

/** Give mapped pages another type; status and splits as for t_mpages_protect(). */
enum t_mpages_status t_mpages_set_type(struct t_mpages *model, uint64_t start, uint64_t len,
                                       uint16_t type, unsigned flags);

/** Change a page that is mapped in what is the test's own. */
typedef void (*t_mpages_change_fn)(struct t_mpage *page, const void *arg);

/** Change all pages that are mapped; status and splits as for t_mpages_protect(). */
enum t_mpages_status t_mpages_change(struct t_mpages *model, uint64_t start, uint64_t len,
                                     t_mpages_change_fn change, const void *arg, unsigned flags);

/** Put a soft slot of 1 << size bytes where nothing is. */
enum t_mpages_status t_mpages_put_soft(struct t_mpages *model, uint64_t start, unsigned size,
                                       uint16_t kind, uint64_t payload);

/** Whether two pages are alike in what a larger leaf has once. */
typedef bool (*t_mpages_alike_fn)(const struct t_mpage *a, const struct t_mpage *b);

/**
 * Wherever a larger leaf of at most 1 << largest bytes (0: what the CPU allows) could stand that
 * touches the range, and 512 of the next size stand there that are alike and follow each other in
 * memory: make it one.
 *
 * @return how many were made
 */
uint64_t t_mpages_merge(struct t_mpages *model, uint64_t start, uint64_t len, unsigned largest,
                        t_mpages_alike_fn alike);

/** The page of an address; NULL when it is outside of the windows or not mapped. */
const struct t_mpage *t_mpages_at(const struct t_mpages *model, uint64_t vaddr);

/** The same of what may be mapped or soft. */
const struct t_mpage *t_mpages_slot_at(const struct t_mpages *model, uint64_t vaddr);

/** Physical address of a byte; false: not mapped. */
bool t_mpages_translate(const struct t_mpages *model, uint64_t vaddr, uint64_t *paddr);

/** How many 4 KiB pages are mapped by leaves of this size (log2; 0: by any). */
uint64_t t_mpages_count(const struct t_mpages *model, unsigned leaf);

/** The same of all sizes, 4 KiB, 2 MiB and 1 GiB, at once; and of soft slots. */
void t_mpages_tally(const struct t_mpages *model, uint64_t leaves[3], uint64_t soft[3]);

/** How many pages are mapped to this frame (a physical address of 4 KiB). */
uint64_t t_mpages_count_frame(const struct t_mpages *model, uint64_t paddr);

/** Does a leaf that holds `vaddr` begin before it? Then cutting here splits. */
bool t_mpages_cuts(const struct t_mpages *model, uint64_t vaddr);

/** A hash of all windows. */
uint64_t t_mpages_hash(const struct t_mpages *model);

/** Make `to` (initialised, no windows) an equal model. */
void t_mpages_copy(struct t_mpages *to, const struct t_mpages *from);

#endif
