// SPDX-License-Identifier: MIT
/**
 * The product of bad input to page tables: the calls that take a range or an address, and what each
 * takes. Included by paging_product.h.
 */
#ifndef PAGING_PRODUCT_CALLS_H
#define PAGING_PRODUCT_CALLS_H

#include "t_paging.h"

/** What is wrong with an object that a call is handed. */
enum odd {
    ODD_NOTHING,
    ODD_NULL,   /**< no cursor; no `out`, `seen` or `now` of a slot */
    ODD_NEVER,  /**< a cursor that was never begun */
    ODD_END,    /**< a cursor at the end of its range */
    ODD_NO_OUT, /**< nothing to write to, or nobody to tell */
};

struct arguments {
    struct mm_pagetable *pt;
    uint64_t at;
    uint64_t len;
    uint64_t paddr;
    uint64_t slot;  /**< bytes of a cursor's leaf */
    uint64_t place; /**< in the cursor's range: bytes from its start */
    uint64_t payload;
    mm_prot_t prot;
    uint32_t type;
    uint32_t flags;
    uint32_t kind;      /**< enum mm_slot_kind */
    uint32_t soft_kind; /**< of a soft slot */
    uint32_t software;  /**< bits to set, or of a slot */
    uint32_t clear;
    uint32_t key;
    uint32_t odd; /**< enum odd */
    struct mm_gather *gather;
    struct mm_pagetable *to;
};

/** What a call takes, and how it reads it. */
#define TAKES_RANGE    1u
#define TAKES_ALIGNED  2u /**< a range of whole pages; without: any */
#define TAKES_PADDR    4u
#define TAKES_PROT     8u
#define TAKES_TYPE     16u
#define TAKES_FLAGS    32u
#define TAKES_GATHER   64u
#define TAKES_PAGE     128u /**< an address, no length */
#define TAKES_LENGTH   256u /**< of physical memory too: as long as the range */
#define ONLY_USER      512u
#define LEAVES_HOLES   1024u    /**< no range is too full or too empty */
#define NEVER_FAILS    2048u    /**< with good arguments */
#define TAKES_SLOT     4096u    /**< a length that is a leaf's; with `seen`, and a gather or none */
#define TAKES_SOFTWARE 8192u    /**< bits to set and to clear */
#define TAKES_KEY      16384u   /**< a protection key */
#define TAKES_CURSOR   32768u   /**< a cursor, begun for the range */
#define TAKES_PLACE    65536u   /**< an address in the cursor's range */
#define TAKES_OUT      131072u  /**< something to write to, or somebody to tell */
#define TAKES_PAYLOAD  262144u  /**< a soft kind and a payload */
#define TAKES_SIZE     524288u  /**< the size of a cursor's leaf */
#define LOOKS          1048576u /**< anywhere that is canonical; wrapping is no address */

struct call {
    const char *name;
    mm_status_t (*invoke)(const struct arguments *a);
    unsigned takes;
    uint32_t flags; /**< allowed ones */
};

/* --- ranges ----------------------------------------------------------------------------------- */

static inline mm_status_t call_map(const struct arguments *a)
{
    return mm_paging_map(a->pt, t_range(a->at, a->len), mm_paddr(a->paddr), a->prot,
                         (mm_memtype_t)a->type, a->flags);
}

static inline mm_status_t call_guard(const struct arguments *a)
{
    return mm_paging_guard(a->pt, t_range(a->at, a->len));
}

static inline mm_status_t call_unmap(const struct arguments *a)
{
    return mm_paging_unmap(a->pt, t_range(a->at, a->len), a->flags, a->gather);
}

static inline void taken(void *ctx, const struct mm_mapping *was)
{
    uint64_t *bytes = ctx;

    *bytes += was->page.len;
}

static inline mm_status_t call_take(const struct arguments *a)
{
    uint64_t bytes = 0;
    mm_status_t status = mm_paging_take(a->pt, t_range(a->at, a->len), a->flags,
                                        a->odd == ODD_NO_OUT ? NULL : taken, &bytes, a->gather);

    assert_true(status == MM_OK ? bytes <= a->len : bytes == 0);
    return status;
}

static inline mm_status_t call_protect(const struct arguments *a)
{
    return mm_paging_protect(a->pt, t_range(a->at, a->len), a->prot, a->flags, a->gather);
}

static inline mm_status_t call_clone(const struct arguments *a)
{
    return mm_paging_clone(a->pt, a->to, t_range(a->at, a->len), NULL, NULL, a->gather);
}

static inline mm_status_t call_replace(const struct arguments *a)
{
    return mm_paging_replace(a->pt, mm_vaddr(a->at), mm_paddr(a->paddr), a->prot, a->flags,
                             a->gather);
}

static inline mm_status_t call_set_type(const struct arguments *a)
{
    return mm_paging_set_type(a->pt, t_range(a->at, a->len), (mm_memtype_t)a->type, a->flags);
}

static inline mm_status_t call_merge(const struct arguments *a)
{
    uint64_t nr_merged = UINT64_MAX;
    mm_status_t status = mm_paging_merge(a->pt, t_range(a->at, a->len), &nr_merged);

    assert_true((status == MM_OK) == (nr_merged != UINT64_MAX));
    return status;
}

static inline mm_status_t call_reclaim(const struct arguments *a)
{
    return mm_paging_reclaim(a->pt, t_range(a->at, a->len), a->gather);
}

static inline mm_status_t call_software(const struct arguments *a)
{
    return mm_paging_set_software(a->pt, t_range(a->at, a->len), a->software, a->clear, a->flags);
}

static inline mm_status_t call_key(const struct arguments *a)
{
    return mm_paging_set_key(a->pt, t_range(a->at, a->len), a->key, a->flags, a->gather);
}

static inline mm_status_t call_harvest(const struct arguments *a)
{
    return mm_paging_harvest(a->pt, t_range(a->at, a->len), a->flags | MM_PAGING_DIRTY, NULL, NULL,
                             a->gather);
}

static inline bool visit(void *ctx, const struct mm_mapping *mapping)
{
    (void)mapping;
    ++*(uint64_t *)ctx;
    return true;
}

static inline mm_status_t call_walk(const struct arguments *a)
{
    uint64_t nr = 0;
    mm_status_t status =
        mm_paging_walk(a->pt, t_range(a->at, a->len), (a->odd == ODD_NO_OUT) ? NULL : visit, &nr);

    assert_true(status == MM_OK || nr == 0);
    return status;
}

static inline mm_status_t call_translate(const struct arguments *a)
{
    struct mm_mapping out;

    return mm_paging_translate(a->pt, mm_vaddr(a->at), a->odd == ODD_NO_OUT ? NULL : &out);
}

/* --- slots ------------------------------------------------------------------------------------ */

static inline mm_status_t call_slot_get(const struct arguments *a)
{
    struct mm_slot out;

    return mm_paging_slot_get(a->pt, mm_vaddr(a->at), a->odd == ODD_NO_OUT ? NULL : &out);
}

/* What is there, whatever it is, becomes what is told; what was seen is written if it changed. */
static inline mm_status_t exchange_for(const struct arguments *a, struct mm_slot now)
{
    struct mm_slot seen = mm_slot_empty();
    struct mm_slot before;
    mm_status_t status;

    if (mm_paging_slot_get(a->pt, mm_vaddr(a->at), &seen) != MM_OK) {
        seen = mm_slot_empty();
    }
    before = seen;
    now.kind = (enum mm_slot_kind)a->kind;
    status = mm_paging_slot_cas(a->pt, mm_vaddr(a->at), a->len, a->odd == ODD_NULL ? NULL : &seen,
                                a->odd == ODD_NO_OUT ? NULL : &now, a->gather);
    assert_memory_equal(&before, &seen, sizeof(seen));
    return status;
}

static inline mm_status_t call_slot_leaf(const struct arguments *a)
{
    struct mm_slot now = mm_slot_leaf(mm_paddr(a->paddr), a->prot, (mm_memtype_t)a->type);

    now.software = (uint8_t)(a->software & 255u);
    now.key = (uint8_t)(a->key & 255u);
    return exchange_for(a, now);
}

static inline mm_status_t call_slot_soft(const struct arguments *a)
{
    struct arguments soft = *a;

    soft.kind = a->kind == MM_SLOT_LEAF ? MM_SLOT_SOFT : a->kind;
    return exchange_for(&soft, mm_slot_soft((uint8_t)(a->soft_kind & 255u), a->payload));
}

static inline mm_status_t call_slot_empty(const struct arguments *a)
{
    struct arguments empty = *a;

    empty.kind = a->kind == MM_SLOT_LEAF ? MM_SLOT_EMPTY : a->kind;
    return exchange_for(&empty, mm_slot_empty());
}

/* --- cursors ---------------------------------------------------------------------------------- */

/** A cursor at the start of the range, or one that is odd. */
static inline mm_status_t begin(const struct arguments *a, struct mm_paging_cursor *c)
{
    struct mm_slot slot;
    mm_status_t status;

    memset(c, 0, sizeof(*c));
    status = mm_paging_cursor_begin(c, a->pt, t_range(a->at, a->len));
    if (a->odd == ODD_NEVER) {
        memset(c, 0, sizeof(*c));
        return MM_OK;
    }
    while (status == MM_OK && a->odd == ODD_END && mm_paging_cursor_next(c, &slot) == MM_OK) {
    }
    return status;
}

/** An edit by a cursor that fails leaves it as it was. */
static inline mm_status_t by_cursor(const struct arguments *a,
                                    mm_status_t (*edit)(const struct arguments *a,
                                                        struct mm_paging_cursor *c))
{
    struct mm_paging_cursor c;
    struct mm_paging_cursor before;
    mm_status_t status = begin(a, &c);

    if (status != MM_OK) {
        return status;
    }
    before = c;
    status = edit(a, a->odd == ODD_NULL ? NULL : &c);
    assert_true(status == MM_OK || memcmp(&before, &c, sizeof(c)) == 0);
    return status;
}

static inline mm_status_t cursor_map(const struct arguments *a, struct mm_paging_cursor *c)
{
    return mm_paging_cursor_map(c, mm_paddr(a->paddr), a->slot, a->prot, (mm_memtype_t)a->type);
}

static inline mm_status_t cursor_unmap(const struct arguments *a, struct mm_paging_cursor *c)
{
    return mm_paging_cursor_unmap(c, a->flags, a->gather);
}

static inline mm_status_t cursor_protect(const struct arguments *a, struct mm_paging_cursor *c)
{
    return mm_paging_cursor_protect(c, a->prot, a->gather);
}

static inline mm_status_t cursor_seek(const struct arguments *a, struct mm_paging_cursor *c)
{
    return mm_paging_cursor_seek(c, mm_vaddr(a->at + a->place));
}

static inline mm_status_t call_cursor_map(const struct arguments *a)
{
    return by_cursor(a, cursor_map);
}

static inline mm_status_t call_cursor_unmap(const struct arguments *a)
{
    return by_cursor(a, cursor_unmap);
}

static inline mm_status_t call_cursor_protect(const struct arguments *a)
{
    return by_cursor(a, cursor_protect);
}

static inline mm_status_t call_cursor_seek(const struct arguments *a)
{
    return by_cursor(a, cursor_seek);
}

static inline mm_status_t call_cursor_begin(const struct arguments *a)
{
    struct mm_paging_cursor c;

    return mm_paging_cursor_begin(a->odd == ODD_NULL ? NULL : &c, a->pt, t_range(a->at, a->len));
}

static inline mm_status_t call_cursor_next(const struct arguments *a)
{
    struct mm_paging_cursor c;
    struct mm_slot out;
    mm_status_t status = begin(a, &c);

    return status != MM_OK ? status
                           : mm_paging_cursor_next(a->odd == ODD_NULL ? NULL : &c,
                                                   a->odd == ODD_NO_OUT ? NULL : &out);
}

static inline mm_status_t call_cursor_translate(const struct arguments *a)
{
    struct mm_paging_cursor c;
    struct mm_mapping out;
    mm_status_t status = begin(a, &c);

    return status != MM_OK ? status
                           : mm_paging_cursor_translate(a->odd == ODD_NULL ? NULL : &c,
                                                        mm_vaddr(a->at + a->place),
                                                        a->odd == ODD_NO_OUT ? NULL : &out);
}

/* --- all -------------------------------------------------------------------------------------- */

#define EDITS   (TAKES_RANGE | TAKES_ALIGNED | TAKES_FLAGS | TAKES_GATHER)
#define SLOTS   (TAKES_PAGE | TAKES_ALIGNED | TAKES_GATHER | TAKES_SLOT | TAKES_OUT)
#define CURSORS (TAKES_RANGE | TAKES_ALIGNED | TAKES_CURSOR)

static const struct call calls[] = {
    {"map", call_map,
     TAKES_RANGE | TAKES_ALIGNED | TAKES_PADDR | TAKES_LENGTH | TAKES_PROT | TAKES_TYPE |
         TAKES_FLAGS,
     MM_PAGING_ONLY_4K | MM_PAGING_MAX_2M | MM_PAGING_MERGE},
    {"guard", call_guard, TAKES_RANGE | TAKES_ALIGNED, 0},
    {"unmap", call_unmap, EDITS, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE},
    {"take", call_take, EDITS | TAKES_OUT,
     MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE},
    {"protect", call_protect, EDITS | TAKES_PROT,
     MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_MERGE},
    {"clone", call_clone, TAKES_RANGE | TAKES_ALIGNED | TAKES_GATHER | ONLY_USER | LEAVES_HOLES, 0},
    {"replace", call_replace,
     TAKES_PAGE | TAKES_ALIGNED | TAKES_PADDR | TAKES_PROT | TAKES_FLAGS | TAKES_GATHER,
     MM_PAGING_RELEASE},
    {"set_type", call_set_type, TAKES_RANGE | TAKES_ALIGNED | TAKES_TYPE | TAKES_FLAGS,
     MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES},
    {"merge", call_merge, TAKES_RANGE | TAKES_ALIGNED | NEVER_FAILS, 0},
    {"reclaim", call_reclaim, TAKES_RANGE | TAKES_GATHER | NEVER_FAILS, 0},
    {"set_software", call_software, TAKES_RANGE | TAKES_ALIGNED | TAKES_FLAGS | TAKES_SOFTWARE,
     MM_PAGING_SKIP_HOLES},
    {"set_key", call_key, EDITS | TAKES_KEY, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES},
    {"harvest", call_harvest, EDITS | NEVER_FAILS, MM_PAGING_ACCESSED | MM_PAGING_DIRTY},
    {"walk", call_walk, TAKES_RANGE | TAKES_OUT | LOOKS | NEVER_FAILS, 0},
    {"translate", call_translate, TAKES_PAGE | TAKES_OUT | LOOKS, 0},
    {"slot_get", call_slot_get, TAKES_PAGE | TAKES_OUT | LOOKS | NEVER_FAILS, 0},
    {"slot_cas to a leaf", call_slot_leaf,
     SLOTS | TAKES_PADDR | TAKES_PROT | TAKES_TYPE | TAKES_KEY, 0},
    {"slot_cas to soft", call_slot_soft, SLOTS | TAKES_PAYLOAD, 0},
    {"slot_cas to empty", call_slot_empty, SLOTS, 0},
    {"cursor_begin", call_cursor_begin, TAKES_RANGE | TAKES_ALIGNED | LOOKS | NEVER_FAILS, 0},
    {"cursor_seek", call_cursor_seek, CURSORS | TAKES_PLACE | LOOKS | NEVER_FAILS, 0},
    {"cursor_next", call_cursor_next, CURSORS | TAKES_OUT | LOOKS, 0},
    {"cursor_translate", call_cursor_translate, CURSORS | TAKES_PLACE | TAKES_OUT | LOOKS, 0},
    {"cursor_map", call_cursor_map, CURSORS | TAKES_PADDR | TAKES_PROT | TAKES_TYPE | TAKES_SIZE,
     0},
    {"cursor_unmap", call_cursor_unmap, CURSORS | TAKES_FLAGS | TAKES_GATHER, MM_PAGING_RELEASE},
    {"cursor_protect", call_cursor_protect, CURSORS | TAKES_PROT | TAKES_GATHER, 0},
};

#define NR_CALLS (sizeof(calls) / sizeof(calls[0]))

#endif
