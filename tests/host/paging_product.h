// SPDX-License-Identifier: MIT
/**
 * The product of bad input to page tables: what a range may hold, and what is wrong with the
 * arguments of the calls (paging_product_calls.h), one thing at a time. Include after <cmocka.h>.
 */
#ifndef PAGING_PRODUCT_H
#define PAGING_PRODUCT_H

#include "paging_product_calls.h"
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

enum run_kind {
    RUN_LEAVES,
    RUN_FORBIDDEN, /**< leaves that allow nothing: not present for the hardware */
    RUN_SOFT,      /**< soft slots */
    RUN_NOTHING,   /**< was a leaf, emptied as a slot: its table stands, and holds nothing else */
};

/** Slots of one size, one after the other. */
struct run_of_slots {
    uint64_t off; /**< from the state's base */
    uint64_t len;
    uint64_t slot;
    enum run_kind kind;
};

struct range_state {
    const char *name;
    unsigned nr;
    struct run_of_slots runs[6];
};

static const struct range_state range_states[] = {
    {"empty", 0, {{0}}},
    /* Tables of every level stand, and hold nothing in the slots in question. */
    {"tables", 2, {{P2M - P4K, P4K, P4K, RUN_LEAVES}, {P1G - P2M, P2M, P2M, RUN_LEAVES}}},
    {"empty table of pages", 1, {{0, P4K, P4K, RUN_NOTHING}}},
    {"empty table of 2 MiB", 1, {{0, P2M, P2M, RUN_NOTHING}}},
    {"a page", 1, {{0, P4K, P4K, RUN_LEAVES}}},
    {"2 MiB", 1, {{0, P2M, P2M, RUN_LEAVES}}},
    {"1 GiB", 1, {{0, P1G, P1G, RUN_LEAVES}}},
    {"2 MiB in pages", 1, {{0, P2M, P4K, RUN_LEAVES}}},
    {"forbidden page", 1, {{0, P4K, P4K, RUN_FORBIDDEN}}},
    {"forbidden 2 MiB", 1, {{0, P2M, P2M, RUN_FORBIDDEN}}},
    {"forbidden 1 GiB", 1, {{0, P1G, P1G, RUN_FORBIDDEN}}},
    {"soft page", 1, {{0, P4K, P4K, RUN_SOFT}}},
    {"soft 2 MiB", 1, {{0, P2M, P2M, RUN_SOFT}}},
    {"soft 1 GiB", 1, {{0, P1G, P1G, RUN_SOFT}}},
    {"soft pages", 1, {{0, P2M, P4K, RUN_SOFT}}},
    {"mixed",
     5,
     {{0, 2 * P4K, P4K, RUN_LEAVES},
      {2 * P4K, P4K, P4K, RUN_FORBIDDEN},
      {P2M, P2M, P2M, RUN_LEAVES},
      {2 * P2M, 3 * P4K, P4K, RUN_LEAVES},
      {3 * P2M, P2M, P2M, RUN_FORBIDDEN}}},
    {"mixed with soft",
     6,
     {{0, P4K, P4K, RUN_LEAVES},
      {P4K, P4K, P4K, RUN_SOFT},
      {2 * P4K, P4K, P4K, RUN_FORBIDDEN},
      {P2M, P2M, P2M, RUN_SOFT},
      {2 * P2M, P4K, P4K, RUN_NOTHING},
      {3 * P2M, P2M, P2M, RUN_LEAVES}}},
};

#define NR_STATES (sizeof(range_states) / sizeof(range_states[0]))

/** Whether slots of a run count: soft ones are holes for most calls. */
static inline bool run_counts(const struct run_of_slots *r, bool soft)
{
    return r->kind == RUN_SOFT ? soft : r->kind != RUN_NOTHING;
}

/** Bytes of [off, off + len) that hold something. */
static inline uint64_t state_mapped(const struct range_state *state, uint64_t off, uint64_t len,
                                    bool soft)
{
    uint64_t mapped = 0;

    for (unsigned i = 0; i < state->nr; i++) {
        const struct run_of_slots *r = &state->runs[i];
        uint64_t from = off > r->off ? off : r->off;
        uint64_t to = off + len < r->off + r->len ? off + len : r->off + r->len;

        mapped += to > from && run_counts(r, soft) ? to - from : 0;
    }
    return mapped;
}

/** The slot that holds a byte: its size; 0: none. */
static inline uint64_t state_slot(const struct range_state *state, uint64_t off, bool soft)
{
    for (unsigned i = 0; i < state->nr; i++) {
        const struct run_of_slots *r = &state->runs[i];

        if (off - r->off < r->len && run_counts(r, soft)) {
            return r->slot;
        }
    }
    return 0;
}

/** Whether a slot lies on both sides. */
static inline bool state_cuts(const struct range_state *state, uint64_t off, bool soft)
{
    uint64_t slot = state_slot(state, off, soft);

    return slot != 0 && off % slot != 0;
}

/** Whether a table stands in the place of a slot of `len` bytes, whatever it holds. */
static inline bool state_table(const struct range_state *state, uint64_t off, uint64_t len)
{
    for (unsigned i = 0; i < state->nr; i++) {
        const struct run_of_slots *r = &state->runs[i];

        if (r->slot < len && off < r->off + r->len && r->off < off + len) {
            return true;
        }
    }
    return false;
}

/* --- what is wrong ---------------------------------------------------------------------------- */

#define OF_USER     1u  /**< roots of users have it */
#define OF_KERNEL   2u  /**< and the kernel's */
#define OF_WRAP     4u  /**< it is a wrap: who looks is told that there is no such address */
#define OF_DECLARED 8u  /**< it is outside of what was declared: who looks does not mind */
#define OF_LAST     16u /**< the same, and a cursor's first slot is inside */

/** One thing that is wrong with arguments that are good else. */
struct fault {
    const char *name;
    unsigned takes; /**< calls that take all of this have it */
    unsigned of;    /**< OF_... */
    uint64_t field; /**< offset in struct arguments of what is set to... */
    uint64_t value; /**< this; or of what it is added to, if `add` */
    bool add;
    uint64_t len; /**< and the length, if it is not 0 */
    mm_status_t status;
};

#define F(field) offsetof(struct arguments, field)
#define F_AT     F(at)
#define F_LEN    F(len)
#define F_PADDR  F(paddr)

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
    {"length 2^64 - a page", R, 3 | OF_WRAP, F_LEN, UINT64_MAX - P4K + 1, false, 0,
     MM_ERR_INVALID_SIZE},
    {"over the end of everything", R, 3 | OF_WRAP, F_AT, UINT64_MAX - P4K + 1, false, 2 * P4K,
     MM_ERR_INVALID_SIZE},
    {"slot of 0", TAKES_SLOT, 3, F_LEN, 0, false, 0, MM_ERR_INVALID_SIZE},
    {"slot of two pages", TAKES_SLOT, 3, F_LEN, 2 * P4K, false, 0, MM_ERR_INVALID_SIZE},
    {"slot + 1", TAKES_SLOT, 3, F_LEN, 1, true, 0, MM_ERR_INVALID_SIZE},
    {"slot of 512 GiB", TAKES_SLOT, 3, F_LEN, 512 * P1G, false, 0, MM_ERR_INVALID_SIZE},
    {"slot of 2^64 - 1", TAKES_SLOT, 3, F_LEN, UINT64_MAX, false, 0, MM_ERR_INVALID_SIZE},
    {"start 2^47", 0, 3, F_AT, HALF, false, 0, MM_ERR_INVALID_ADDRESS},
    {"start 2^56", 0, 3, F_AT, UINT64_C(1) << 56, false, 0, MM_ERR_INVALID_ADDRESS},
    {"over the end of the user's", R, 1, F_AT, HALF - P4K, false, 2 * P4K, MM_ERR_INVALID_ADDRESS},
    {"the kernel's range", 0, 1 | OF_DECLARED, F_AT, T_KERNEL_LOW, false, 0,
     MM_ERR_INVALID_ADDRESS},
    {"the user's range", 0, 2 | OF_DECLARED, F_AT, 4 * P1G, false, 0, MM_ERR_INVALID_ADDRESS},
    {"a page below", 0, 2, F_AT, T_KERNEL_LOW - P4K, false, 0, MM_ERR_INVALID_ADDRESS},
    {"into the range", R, 2, F_AT, T_KERNEL_LOW - P4K, false, 2 * P4K, MM_ERR_INVALID_ADDRESS},
    {"out of the range", R, 2 | OF_LAST, F_AT, T_KERNEL_LOW + T_KERNEL_LOW_LEN - P4K, false,
     2 * P4K, MM_ERR_INVALID_ADDRESS},
    {"between two ranges", 0, 2 | OF_DECLARED, F_AT, T_KERNEL_LOW + T_KERNEL_LOW_LEN, false, 0,
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
    {"type 6", TAKES_TYPE, 3, F(type), MM_MEMTYPE_COUNT, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"type 2^32 - 1", TAKES_TYPE, 3, F(type), UINT32_MAX, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"not for the user", TAKES_PROT, 1, F(prot), MM_PROT_RW, false, 0, MM_ERR_INVALID_FLAGS},
    {"global for the user", TAKES_PROT, 1, F(prot), T_URW | MM_PROT_GLOBAL, false, 0,
     MM_ERR_INVALID_FLAGS},
    {"the kernel's for the user", TAKES_PROT, 2, F(prot), T_URW, false, 0, MM_ERR_INVALID_FLAGS},
    {"an unknown right", TAKES_PROT, 3, F(prot), MM_PROT_ALL + 1, true, 0, MM_ERR_INVALID_FLAGS},
    {"right 2^31", TAKES_PROT, 3, F(prot), UINT32_C(1) << 31, true, 0, MM_ERR_INVALID_FLAGS},
    {"kind 3", TAKES_SLOT, 3, F(kind), MM_SLOT_SOFT + 1, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"kind 2^32 - 1", TAKES_SLOT, 3, F(kind), UINT32_MAX, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"soft kind 10", TAKES_PAYLOAD, 3, F(soft_kind), MM_SOFT_KINDS, false, 0,
     MM_ERR_INVALID_ARGUMENT},
    {"soft kind 255", TAKES_PAYLOAD, 3, F(soft_kind), 255, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"payload 2^50", TAKES_PAYLOAD, 3, F(payload), UINT64_C(1) << MM_SOFT_PAYLOAD_BITS, false, 0,
     MM_ERR_INVALID_ARGUMENT},
    {"payload 2^64 - 1", TAKES_PAYLOAD, 3, F(payload), UINT64_MAX, false, 0,
     MM_ERR_INVALID_ARGUMENT},
    {"software bits of a slot", TAKES_SLOT | TAKES_TYPE, 3, F(software), MM_SOFTWARE_ALL + 1, false,
     0, MM_ERR_INVALID_ARGUMENT},
    {"bits to set", TAKES_SOFTWARE, 3, F(software), MM_SOFTWARE_ALL + 1, false, 0,
     MM_ERR_INVALID_ARGUMENT},
    {"bits to clear", TAKES_SOFTWARE, 3, F(clear), UINT32_C(1) << 31, false, 0,
     MM_ERR_INVALID_ARGUMENT},
    {"bits in both", TAKES_SOFTWARE, 3, F(clear), MM_SOFTWARE_ALL, false, 0,
     MM_ERR_INVALID_ARGUMENT},
    {"key 16", TAKES_KEY, 3, F(key), 16, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"key 255", TAKES_KEY, 3, F(key), 255, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"no cursor", TAKES_CURSOR, 3, F(odd), ODD_NULL, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"nothing seen", TAKES_SLOT, 3, F(odd), ODD_NULL, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"a cursor never begun", TAKES_CURSOR, 3, F(odd), ODD_NEVER, false, 0, MM_ERR_NOT_INITIALIZED},
    {"a cursor at the end", TAKES_CURSOR, 3 | OF_DECLARED, F(odd), ODD_END, false, 0,
     MM_ERR_INVALID_ADDRESS},
    {"no out", TAKES_OUT, 3, F(odd), ODD_NO_OUT, false, 0, MM_ERR_INVALID_ARGUMENT},
    {"place + 1", TAKES_PLACE | NEVER_FAILS, 3, F(place), 1, false, 0, MM_ERR_NOT_ALIGNED},
    {"place a page before the range", TAKES_PLACE, 3, F(place), UINT64_MAX - P4K + 1, false, 0,
     MM_ERR_INVALID_ADDRESS},
    {"place 2^63", TAKES_PLACE, 3, F(place), UINT64_C(1) << 63, false, 0, MM_ERR_INVALID_ADDRESS},
    {"place behind the range", TAKES_PLACE, 3, F(place), P4K, false, P4K, MM_ERR_INVALID_ADDRESS},
    {"leaf of 0", TAKES_SIZE, 3, F(slot), 0, false, 0, MM_ERR_INVALID_SIZE},
    {"leaf of two pages", TAKES_SIZE, 3, F(slot), 2 * P4K, false, 0, MM_ERR_INVALID_SIZE},
    {"leaf + 1", TAKES_SIZE, 3, F(slot), 1, true, 0, MM_ERR_INVALID_SIZE},
    {"leaf of 512 GiB", TAKES_SIZE, 3, F(slot), 512 * P1G, false, 0, MM_ERR_INVALID_SIZE},
    {"leaf of 2^64 - 1", TAKES_SIZE, 3, F(slot), UINT64_MAX, false, 0, MM_ERR_INVALID_SIZE},
    {"leaf beyond the range", TAKES_SIZE, 3, F(slot), P2M, false, P4K, MM_ERR_INVALID_SIZE},
};

#undef R
#undef A
#undef P

/* Besides: flags that are not the call's, gathers, page tables. */
#define NR_LISTED (sizeof(faults) / sizeof(faults[0]))
#define NR_FAULTS (NR_LISTED + 32u + 3u + 2u)

/** The first fields are 64 bits, up to `payload`; the others 32. */
static inline void fault_set(const struct fault *f, struct arguments *a)
{
    char *field = (char *)a + f->field;

    if (f->field <= F(payload)) {
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
    bool looks = (call->takes & (LOOKS | TAKES_CURSOR)) != 0;

    if (n < NR_LISTED) {
        const struct fault *f = &faults[n];

        *name = f->name;
        if ((call->takes & f->takes) != f->takes || (f->of & (user ? OF_USER : OF_KERNEL)) == 0 ||
            ((f->of & OF_DECLARED) != 0 && (call->takes & LOOKS) != 0) ||
            ((f->of & OF_LAST) != 0 && looks)) {
            return MM_OK;
        }
        fault_set(f, a);
        if ((call->takes & TAKES_SLOT) != 0 && f->status == MM_ERR_INVALID_ADDRESS && a->len != 0 &&
            ((a->at | a->paddr) % a->len) != 0) {
            return MM_ERR_NOT_ALIGNED; /* to a slot of this size */
        }
        return (f->of & OF_WRAP) != 0 && looks ? MM_ERR_INVALID_ADDRESS : f->status;
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
