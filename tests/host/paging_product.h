// SPDX-License-Identifier: MIT
/**
 * The product of bad input to page tables: what a range may hold, the calls that take ranges, and
 * what is wrong with their arguments, one thing at a time. Include after <cmocka.h>.
 */
#ifndef PAGING_PRODUCT_H
#define PAGING_PRODUCT_H

#include "t_paging.h"

#define HALF (UINT64_C(1) << 47)
#define TOP  (UINT64_C(1) << 46) /* the first address that the CPU has not */

struct product {
    struct t_paging *m;
    struct mm_pagetable copy; /* where clone goes */
    struct mm_gather user;    /* begun for the user root */
    struct mm_gather kernel;
    struct mm_gather none; /* never begun */
    uint64_t nr_calls;
    uint64_t nr_refused;
};

/* --- what a range holds ----------------------------------------------------------------------- */

/** Leaves of one size, one after the other. */
struct run_of_leaves {
    uint64_t off; /**< from the state's base */
    uint64_t len;
    uint64_t leaf;
    bool forbidden; /**< a page that allows nothing: not present, for the hardware */
};

struct range_state {
    const char *name;
    unsigned nr;
    struct run_of_leaves runs[5];
};

static const struct range_state range_states[] = {
    {"empty", 0, {{0}}},
    /* Tables of every level stand, and hold nothing in the slots in question. */
    {"tables", 2, {{P2M - P4K, P4K, P4K, false}, {P1G - P2M, P2M, P2M, false}}},
    {"a page", 1, {{0, P4K, P4K, false}}},
    {"2 MiB", 1, {{0, P2M, P2M, false}}},
    {"1 GiB", 1, {{0, P1G, P1G, false}}},
    {"2 MiB in pages", 1, {{0, P2M, P4K, false}}},
    {"forbidden page", 1, {{0, P4K, P4K, true}}},
    {"forbidden 2 MiB", 1, {{0, P2M, P2M, true}}},
    {"forbidden 1 GiB", 1, {{0, P1G, P1G, true}}},
    {"mixed",
     5,
     {{0, 2 * P4K, P4K, false},
      {2 * P4K, P4K, P4K, true},
      {P2M, P2M, P2M, false},
      {2 * P2M, 3 * P4K, P4K, false},
      {3 * P2M, P2M, P2M, true}}},
};

#define NR_STATES (sizeof(range_states) / sizeof(range_states[0]))

/** Bytes of [off, off + len) that are mapped. */
static inline uint64_t state_mapped(const struct range_state *state, uint64_t off, uint64_t len)
{
    uint64_t mapped = 0;

    for (unsigned i = 0; i < state->nr; i++) {
        const struct run_of_leaves *r = &state->runs[i];
        uint64_t from = off > r->off ? off : r->off;
        uint64_t to = off + len < r->off + r->len ? off + len : r->off + r->len;

        mapped += to > from ? to - from : 0;
    }
    return mapped;
}

/** The leaf that holds a byte: its size; 0: none. */
static inline uint64_t state_leaf(const struct range_state *state, uint64_t off)
{
    for (unsigned i = 0; i < state->nr; i++) {
        if (off - state->runs[i].off < state->runs[i].len) {
            return state->runs[i].leaf;
        }
    }
    return 0;
}

/** Whether a leaf lies on both sides. */
static inline bool state_cuts(const struct range_state *state, uint64_t off)
{
    uint64_t leaf = state_leaf(state, off);

    return leaf != 0 && off % leaf != 0;
}

/* --- calls ------------------------------------------------------------------------------------ */

struct arguments {
    struct mm_pagetable *pt;
    uint64_t at;
    uint64_t len;
    uint64_t paddr;
    mm_prot_t prot;
    uint32_t type;
    uint32_t flags;
    struct mm_gather *gather;
    struct mm_pagetable *to;
};

/** What a call takes, and how it reads it. */
#define TAKES_RANGE   1u
#define TAKES_ALIGNED 2u /**< a range of whole pages; without: any */
#define TAKES_PADDR   4u
#define TAKES_PROT    8u
#define TAKES_TYPE    16u
#define TAKES_FLAGS   32u
#define TAKES_GATHER  64u
#define TAKES_PAGE    128u /**< an address, no length */
#define TAKES_LENGTH  256u /**< of physical memory too: as long as the range */
#define ONLY_USER     512u
#define LEAVES_HOLES  1024u /**< no range is too full or too empty */
#define NEVER_FAILS   2048u /**< with good arguments */
#define TAKES_SLOT    4096u /**< a length that is a leaf's; without a leaf to go, a gather or none */

struct call {
    const char *name;
    mm_status_t (*invoke)(const struct arguments *a);
    unsigned takes;
    uint32_t flags; /**< allowed ones */
};

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
    mm_status_t status =
        mm_paging_take(a->pt, t_range(a->at, a->len), a->flags, taken, &bytes, a->gather);

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
    return mm_paging_set_software(a->pt, t_range(a->at, a->len), 1, 2, a->flags);
}

static inline mm_status_t call_key(const struct arguments *a)
{
    return mm_paging_set_key(a->pt, t_range(a->at, a->len), 0, a->flags, a->gather);
}

static inline mm_status_t call_harvest(const struct arguments *a)
{
    return mm_paging_harvest(a->pt, t_range(a->at, a->len), a->flags | MM_PAGING_DIRTY, NULL, NULL,
                             a->gather);
}

/* What is there, whatever it is, becomes a leaf. */
static inline mm_status_t call_slot(const struct arguments *a)
{
    struct mm_slot now = mm_slot_leaf(mm_paddr(a->paddr), a->prot, (mm_memtype_t)a->type);
    struct mm_slot seen;

    if (mm_paging_slot_get(a->pt, mm_vaddr(a->at), &seen) != MM_OK) {
        seen = mm_slot_empty();
    }
    return mm_paging_slot_cas(a->pt, mm_vaddr(a->at), a->len, &seen, &now, a->gather);
}

#define EDITS (TAKES_RANGE | TAKES_ALIGNED | TAKES_FLAGS | TAKES_GATHER)

static const struct call calls[] = {
    {"map", call_map,
     TAKES_RANGE | TAKES_ALIGNED | TAKES_PADDR | TAKES_LENGTH | TAKES_PROT | TAKES_TYPE |
         TAKES_FLAGS,
     MM_PAGING_ONLY_4K | MM_PAGING_MAX_2M | MM_PAGING_MERGE},
    {"guard", call_guard, TAKES_RANGE | TAKES_ALIGNED, 0},
    {"unmap", call_unmap, EDITS, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE},
    {"take", call_take, EDITS, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE},
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
    {"set_software", call_software, TAKES_RANGE | TAKES_ALIGNED | TAKES_FLAGS,
     MM_PAGING_SKIP_HOLES},
    {"set_key", call_key, EDITS, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES},
    {"harvest", call_harvest, EDITS | NEVER_FAILS, MM_PAGING_ACCESSED | MM_PAGING_DIRTY},
    {"slot_cas", call_slot,
     TAKES_PAGE | TAKES_ALIGNED | TAKES_PADDR | TAKES_PROT | TAKES_TYPE | TAKES_GATHER | TAKES_SLOT,
     0},
};

#define NR_CALLS (sizeof(calls) / sizeof(calls[0]))

/* --- what is wrong ---------------------------------------------------------------------------- */

/** One thing that is wrong with arguments that are good else. */
struct fault {
    const char *name;
    unsigned takes; /**< calls that take all of this have it */
    unsigned of;    /**< 1: user roots, 2: kernel roots, 3: both */
    uint64_t field; /**< offset in struct arguments of what is set to... */
    uint64_t value; /**< this; or of what it is added to, if `add` */
    bool add;
    uint64_t len; /**< and the length, if it is not 0 */
    mm_status_t status;
};

#define F_AT    offsetof(struct arguments, at)
#define F_LEN   offsetof(struct arguments, len)
#define F_PADDR offsetof(struct arguments, paddr)

#define R TAKES_RANGE
#define A TAKES_ALIGNED
#define P TAKES_PADDR

static const struct fault faults[] = {
    {"start + 1", A, 3, F_AT, 1, true, 0, MM_ERR_NOT_ALIGNED},
    {"start - 1", A, 3, F_AT, UINT64_MAX, true, 0, MM_ERR_NOT_ALIGNED},
    {"start + half a page", A, 3, F_AT, P4K / 2, true, 0, MM_ERR_NOT_ALIGNED},
    {"start 2^47 - 1", A, 3, F_AT, HALF - 1, false, 0, MM_ERR_NOT_ALIGNED},
    {"start 2^47 + 1", A, 3, F_AT, HALF + 1, false, 0, MM_ERR_NOT_ALIGNED},
    {"start 2^56 - 1", A, 3, F_AT, (UINT64_C(1) << 56) - 1, false, 0, MM_ERR_NOT_ALIGNED},
    {"start 2^56 + 1", A, 3, F_AT, (UINT64_C(1) << 56) + 1, false, 0, MM_ERR_NOT_ALIGNED},
    {"start 2^64 - 1", A, 3, F_AT, UINT64_MAX, false, 0, MM_ERR_NOT_ALIGNED},
    {"length 1", R | A, 3, F_LEN, 1, false, 0, MM_ERR_NOT_ALIGNED},
    {"length + 1", R | A, 3, F_LEN, 1, true, 0, MM_ERR_NOT_ALIGNED},
    {"length - 1", R | A, 3, F_LEN, UINT64_MAX, true, 0, MM_ERR_NOT_ALIGNED},
    {"length 2^64 - 1", R | A, 3, F_LEN, UINT64_MAX, false, 0, MM_ERR_NOT_ALIGNED},
    {"length 0", R, 3, F_LEN, 0, false, 0, MM_ERR_INVALID_SIZE},
    {"length 2^64 - a page", R, 3, F_LEN, UINT64_MAX - P4K + 1, false, 0, MM_ERR_INVALID_SIZE},
    {"over the end of everything", R, 3, F_AT, UINT64_MAX - P4K + 1, false, 2 * P4K,
     MM_ERR_INVALID_SIZE},
    {"slot of 0", TAKES_SLOT, 3, F_LEN, 0, false, 0, MM_ERR_INVALID_SIZE},
    {"slot of two pages", TAKES_SLOT, 3, F_LEN, 2 * P4K, false, 0, MM_ERR_INVALID_SIZE},
    {"slot + 1", TAKES_SLOT, 3, F_LEN, 1, true, 0, MM_ERR_INVALID_SIZE},
    {"slot of 512 GiB", TAKES_SLOT, 3, F_LEN, 512 * P1G, false, 0, MM_ERR_INVALID_SIZE},
    {"slot of 2^64 - 1", TAKES_SLOT, 3, F_LEN, UINT64_MAX, false, 0, MM_ERR_INVALID_SIZE},
    {"start 2^47", 0, 3, F_AT, HALF, false, 0, MM_ERR_INVALID_ADDRESS},
    {"start 2^56", 0, 3, F_AT, UINT64_C(1) << 56, false, 0, MM_ERR_INVALID_ADDRESS},
    {"over the end of the user's", R, 1, F_AT, HALF - P4K, false, 2 * P4K, MM_ERR_INVALID_ADDRESS},
    {"the kernel's range", 0, 1, F_AT, T_KERNEL_LOW, false, 0, MM_ERR_INVALID_ADDRESS},
    {"the user's range", 0, 2, F_AT, 4 * P1G, false, 0, MM_ERR_INVALID_ADDRESS},
    {"a page below", 0, 2, F_AT, T_KERNEL_LOW - P4K, false, 0, MM_ERR_INVALID_ADDRESS},
    {"into the range", R, 2, F_AT, T_KERNEL_LOW - P4K, false, 2 * P4K, MM_ERR_INVALID_ADDRESS},
    {"out of the range", R, 2, F_AT, T_KERNEL_LOW + T_KERNEL_LOW_LEN - P4K, false, 2 * P4K,
     MM_ERR_INVALID_ADDRESS},
    {"between two ranges", 0, 2, F_AT, T_KERNEL_LOW + T_KERNEL_LOW_LEN, false, 0,
     MM_ERR_INVALID_ADDRESS},
    {"frame + 1", P, 3, F_PADDR, 1, true, 0, MM_ERR_NOT_ALIGNED},
    {"frame - 1", P, 3, F_PADDR, UINT64_MAX, true, 0, MM_ERR_NOT_ALIGNED},
    {"frame 2^64 - 1", P, 3, F_PADDR, UINT64_MAX, false, 0, MM_ERR_NOT_ALIGNED},
    {"first frame that is not", P, 3, F_PADDR, TOP, false, 0, MM_ERR_INVALID_ADDRESS},
    {"frame 2^51", P, 3, F_PADDR, UINT64_C(1) << 51, false, 0, MM_ERR_INVALID_ADDRESS},
    {"frame 2^52", P, 3, F_PADDR, UINT64_C(1) << 52, false, 0, MM_ERR_INVALID_ADDRESS},
    {"frame 2^63", P, 3, F_PADDR, UINT64_C(1) << 63, false, 0, MM_ERR_INVALID_ADDRESS},
    {"over the last frame", P | TAKES_LENGTH, 3, F_PADDR, TOP - P4K, false, 2 * P4K,
     MM_ERR_INVALID_ADDRESS},
    {"frames wrap", P | TAKES_LENGTH, 3, F_PADDR, UINT64_MAX - P4K + 1, false, 2 * P4K,
     MM_ERR_INVALID_SIZE},
    {"type 6", TAKES_TYPE, 3, offsetof(struct arguments, type), MM_MEMTYPE_COUNT, false, 0,
     MM_ERR_INVALID_ARGUMENT},
    {"type 2^32 - 1", TAKES_TYPE, 3, offsetof(struct arguments, type), UINT32_MAX, false, 0,
     MM_ERR_INVALID_ARGUMENT},
    {"not for the user", TAKES_PROT, 1, offsetof(struct arguments, prot), MM_PROT_RW, false, 0,
     MM_ERR_INVALID_FLAGS},
    {"global for the user", TAKES_PROT, 1, offsetof(struct arguments, prot), T_URW | MM_PROT_GLOBAL,
     false, 0, MM_ERR_INVALID_FLAGS},
    {"the kernel's for the user", TAKES_PROT, 2, offsetof(struct arguments, prot), T_URW, false, 0,
     MM_ERR_INVALID_FLAGS},
    {"an unknown right", TAKES_PROT, 3, offsetof(struct arguments, prot), MM_PROT_ALL + 1, true, 0,
     MM_ERR_INVALID_FLAGS},
    {"right 2^31", TAKES_PROT, 3, offsetof(struct arguments, prot), UINT32_C(1) << 31, true, 0,
     MM_ERR_INVALID_FLAGS},
};

#undef R
#undef A
#undef P

/* Besides: flags that are not the call's, gathers, page tables. */
#define NR_LISTED (sizeof(faults) / sizeof(faults[0]))
#define NR_FAULTS (NR_LISTED + 32u + 3u + 2u)

/** Field sizes: `prot`, `type` and `flags` are 32 bits, `at`, `len` and `paddr` 64. */
static inline void fault_set(const struct fault *f, struct arguments *a)
{
    char *field = (char *)a + f->field;

    if (f->field == F_AT || f->field == F_LEN || f->field == F_PADDR) {
        uint64_t *wide = (uint64_t *)(void *)field;

        *wide = f->add ? *wide + f->value : f->value;
    } else {
        uint32_t *narrow = (uint32_t *)(void *)field;

        *narrow = f->add ? *narrow + (uint32_t)f->value : (uint32_t)f->value;
    }
    a->len = f->len != 0 ? f->len : a->len;
}

/** Make one thing wrong: what the answer must be; MM_OK: this call cannot have it. */
static inline mm_status_t fault_apply(struct product *p, const struct call *call, unsigned n,
                                      struct arguments *a, const char **name)
{
    static struct mm_pagetable none;
    bool user = a->pt != NULL && a->pt->is_user != 0;

    if (n < NR_LISTED) {
        const struct fault *f = &faults[n];

        *name = f->name;
        if ((call->takes & f->takes) != f->takes || (f->of & (user ? 1u : 2u)) == 0) {
            return MM_OK;
        }
        fault_set(f, a);
        if ((call->takes & TAKES_SLOT) != 0 && f->status == MM_ERR_INVALID_ADDRESS && a->len != 0 &&
            ((a->at | a->paddr) % a->len) != 0) {
            return MM_ERR_NOT_ALIGNED; /* to a slot of this size */
        }
        return f->status;
    }
    n -= (unsigned)NR_LISTED;
    if (n < 32) {
        *name = "a flag";
        if ((call->takes & TAKES_FLAGS) == 0 || (call->flags >> n & 1) != 0) {
            return MM_OK;
        }
        a->flags |= UINT32_C(1) << n;
        return MM_ERR_INVALID_FLAGS;
    }
    n -= 32;
    if (n < 3) {
        struct mm_gather *bad[] = {NULL, user ? &p->kernel : &p->user, &p->none};

        *name = "gather";
        a->gather = bad[n];
        if ((call->takes & TAKES_GATHER) == 0 || (n == 0 && (call->takes & TAKES_SLOT) != 0)) {
            return MM_OK;
        }
        return MM_ERR_INVALID_ARGUMENT;
    }
    *name = "page table";
    a->pt = n == 3 ? NULL : &none;
    return n == 3 ? MM_ERR_INVALID_ARGUMENT : MM_ERR_NOT_INITIALIZED;
}

#endif
