// SPDX-License-Identifier: MIT
/**
 * The reference model of address spaces: for each space one record for each page of one window, and
 * for each frame that pages show one record with what it holds and who refers to it.
 *
 *     space ──> page[0 ... nr)          attributes as a region has them, and which frame is there
 *                  └──> frame           two words of contents, references, pins, the real number
 *
 * There is no tree, no table, no range and no lock in it. A region is the longest run of pages that
 * agree; a copy-on-write page is one whose frame another page names too; what is resident,
 * promised or charged is counted by going over all pages. It is written from the contracts
 * (mm/space.h, mm/space_map.h) and knows nothing of the library but constants of those headers.
 *
 * Pages are numbers within the window. All ranges are in it, the caller sees to that.
 */
#ifndef T_MODEL_SPACE_H
#define T_MODEL_SPACE_H

#include <mm/space_map.h>

#include <stdbool.h>
#include <stdint.h>

#define T_MS_SPACES 64u
#define T_MS_PAGES  1024u
#define T_MS_GROUPS 4u
#define T_MS_LARGE  512u /* pages of a leaf of 2 MiB */
#define T_MS_NONE   UINT32_MAX

struct t_ms_page {
    uint8_t used;
    uint8_t kind;
    uint8_t type;      /* of a device's */
    uint8_t committed; /* promised, where promises are counted */
    uint8_t given;     /* MM_ADVICE_FREE, and not written since: 1: it may be lost, 2: it will be */
    uint8_t large;     /* it came in a leaf of 2 MiB */
    uint16_t prot;
    uint32_t flags; /* of MM_SPACE_REGION_FLAGS */
    uint32_t tag;
    uint32_t claim; /* of a device's: pages of two claims are of two regions */
    uint32_t frame; /* 0: nothing is there */
    uint64_t paddr; /* of a device's */
};

struct t_ms_space {
    bool alive;
    bool has_base;
    uint32_t base;         /* page; regions go below it, then above */
    uint32_t gap;          /* pages below a stack */
    uint32_t max;          /* pages of a stack */
    uint32_t group;        /* T_MS_NONE: none */
    uint32_t depth;        /* of clones */
    uint64_t limit_mapped; /* pages; 0: none */
    uint64_t limit_resident;
    uint64_t brk_start; /* bytes from the window's start; UINT64_MAX: not told */
    uint64_t brk;
    struct t_ms_page pages[T_MS_PAGES];
};

struct t_ms_frame {
    uint64_t word[2]; /* first and last of the page */
    uint64_t number;  /* as the library has it */
    uint32_t refs;
    uint32_t pins;
    uint32_t held; /* of the references: the test's own */
    uint32_t next; /* of the free ones */
};

#define T_MS_ZERO 1u /* the frame of the zero page: not counted */

struct t_ms {
    uint64_t start; /* of the window: address */
    uint32_t nr;    /* pages of the window */
    uint32_t next_claim;
    bool counts_promises; /* MM_COMMIT_NEVER */
    uint64_t most_promised;
    uint64_t group_mapped[T_MS_GROUPS]; /* limits in pages; 0: none */
    uint64_t group_resident[T_MS_GROUPS];
    struct t_ms_frame *frames;
    uint32_t nr_frames; /* ever used */
    uint32_t max_frames;
    uint32_t free;       /* 0: none */
    uint32_t *by_number; /* frame that has this number now; 0: none */
    uint64_t max_number;
    struct t_ms_space spaces[T_MS_SPACES];
};

/** `max_number`: above all numbers of frames. */
void t_ms_init(struct t_ms *ms, uint64_t start, uint32_t nr, uint64_t max_number,
               uint64_t zero_number);
void t_ms_destroy(struct t_ms *ms);

/* --- frames ----------------------------------------------------------------------------------- */

/** A frame that comes into use, with one reference. 0: a frame of this number is in use already. */
uint32_t t_ms_frame_new(struct t_ms *ms, uint64_t number, uint64_t first, uint64_t last);
void t_ms_frame_get(struct t_ms *ms, uint32_t frame);
void t_ms_frame_put(struct t_ms *ms, uint32_t frame);
void t_ms_frame_unpin(struct t_ms *ms, uint32_t frame);

/* --- regions ---------------------------------------------------------------------------------- */

/** Do both pages belong to one region, if the second follows the first? */
bool t_ms_agree(const struct t_ms_page *a, const struct t_ms_page *b);
/** The first page at or above `from` that is used; `nr` of the window: none. */
uint32_t t_ms_next(const struct t_ms *ms, const struct t_ms_space *s, uint32_t from);
/** First and last page of the region of a used page. */
uint32_t t_ms_region_first(const struct t_ms_space *s, uint32_t page);
uint32_t t_ms_region_last(const struct t_ms *ms, const struct t_ms_space *s, uint32_t page);
/** The first page of a range that is not used; its end: none. */
uint32_t t_ms_hole(const struct t_ms_space *s, uint32_t page, uint32_t nr);
bool t_ms_all_free(const struct t_ms_space *s, uint32_t page, uint32_t nr);

/** What is at the ends of a range becomes the end of a device's region: only such regions remember
 * where they were cut. */
void t_ms_cut(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr);

/* --- counting --------------------------------------------------------------------------------- */

struct t_ms_sums {
    uint64_t mapped;
    uint64_t device;
    uint64_t resident;
    uint64_t committed;
    uint64_t regions;
};

void t_ms_sum(const struct t_ms *ms, const struct t_ms_space *s, struct t_ms_sums *out);
uint64_t t_ms_group_mapped(const struct t_ms *ms, uint32_t group);
uint64_t t_ms_group_resident(const struct t_ms *ms, uint32_t group);
uint64_t t_ms_promised(const struct t_ms *ms);

/** Whether so many more pages of each sort are allowed: MM_OK, MM_ERR_LIMIT, MM_ERR_NO_MEMORY. */
mm_status_t t_ms_allowed(const struct t_ms *ms, const struct t_ms_space *s, uint64_t mapped,
                         uint64_t resident, uint64_t committed);

/** Pages of a range that are used, there, promised. */
void t_ms_sum_range(const struct t_ms_space *s, uint32_t page, uint32_t nr, struct t_ms_sums *out);

/* --- places ----------------------------------------------------------------------------------- */

/** Free, and not in the gap of a stack above it; `stack`: nor is anything in its own. */
bool t_ms_fits(const struct t_ms *ms, const struct t_ms_space *s, uint32_t page, uint32_t nr,
               bool stack);
/** Where a region goes that is no stack: `align` in pages, the address is `residue` pages above a
 * multiple. False: nowhere. */
bool t_ms_place(const struct t_ms *ms, const struct t_ms_space *s, uint32_t nr, uint64_t align,
                uint64_t residue, uint32_t *out);
/** Whether there is any place for a stack together with its gap. */
bool t_ms_place_stack(const struct t_ms *ms, const struct t_ms_space *s, uint32_t nr);

/** The page where the stack begins that grows if this page is touched; T_MS_NONE: none does. */
uint32_t t_ms_grows(const struct t_ms *ms, const struct t_ms_space *s, uint32_t page);

/* --- what calls do ---------------------------------------------------------------------------- */

/** Whatever was there is not any more; frames lose a reference. */
void t_ms_unmap(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr);
/** Pages of a range are not there any more. */
void t_ms_drop(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr);
/** A free range has these attributes; nothing is there. Committed is made out. */
void t_ms_map(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr,
              const struct t_ms_page *attr);
/** MM_OK, or what comes first: a hole, a guard. `promises`: pages that would be promised anew. */
mm_status_t t_ms_may_protect(const struct t_ms *ms, const struct t_ms_space *s, uint32_t page,
                             uint32_t nr, uint32_t prot, uint64_t *promises);
void t_ms_protect(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr, uint32_t prot);
/** Flags of used pages change. */
void t_ms_flags(struct t_ms *ms, struct t_ms_space *s, uint32_t page, uint32_t nr, uint32_t set,
                uint32_t clear);
/** What was given up is only perhaps so any more. */
void t_ms_doubt(struct t_ms_space *s, uint32_t page, uint32_t nr);
/** A range moves to a free one. */
void t_ms_move(struct t_ms *ms, struct t_ms_space *s, uint32_t from, uint32_t nr, uint32_t to);
/** Pages that are pinned are left without a frame in the child: the caller makes a copy. */
void t_ms_clone(struct t_ms *ms, const struct t_ms_space *parent, struct t_ms_space *child);

/** Whether an access is allowed by the page's region: MM_PROT_READ, _WRITE or _EXEC. */
bool t_ms_allows(const struct t_ms_page *p, uint32_t need);

/** Whether a device's pages are in use with another type anywhere. */
bool t_ms_type_conflict(const struct t_ms *ms, uint64_t paddr, uint32_t nr, uint32_t type);

#endif
