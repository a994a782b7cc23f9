// SPDX-License-Identifier: MIT
/**
 * What an access to a page must come to, by the protection that the library was asked for: the
 * words of paging.h and of SDM vol. 3A, 4.6.1 and 4.7, with no entry of any table in it. And ways
 * in which the library comes to a leaf. Include after t_paging.h and truth.h.
 */
#ifndef TRUTH_BUILT_H
#define TRUTH_BUILT_H

#include "t_paging.h"
#include "truth.h"

/** How a page came to be what it is. */
enum built {
    BUILT_MAPPED,    /**< map */
    BUILT_PROTECTED, /**< map with another protection, then protect */
    BUILT_SPLIT,     /**< part of a larger leaf of another protection: protect with a split */
    BUILT_REPLACED,  /**< 4 KiB: another frame and protection before */
    NR_BUILT
};

static const char *const built_names[NR_BUILT] = {"mapped", "protected", "split", "replaced"};

/** A page to be built and looked at. */
struct built_page {
    enum built how;
    struct mm_vrange range; /**< of one leaf */
    uint64_t paddr;
    mm_prot_t prot;
    mm_memtype_t type;
};

/** What the protection lets through; NXE is part of `regs` if the library has no-execute. */
static inline struct t_truth_outcome built_wanted(mm_prot_t prot, unsigned regs, unsigned access)
{
    bool any = (prot & (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)) != 0;
    bool store = (access & T_MMU_WRITE) != 0;
    bool fetch = (access & T_MMU_FETCH) != 0;
    bool by_user = (access & T_MMU_USER) != 0;
    bool of_user = (prot & MM_PROT_USER) != 0;
    bool may_exec = (prot & MM_PROT_EXEC) != 0 || (regs & T_TRUTH_NXE) == 0;
    bool may_write = (prot & MM_PROT_WRITE) != 0 || (!by_user && (regs & T_TRUTH_WP) == 0);
    bool ok = any && (!store || may_write) && (!fetch || may_exec) && (of_user || !by_user);
    bool tells_fetch = (regs & (T_TRUTH_NXE | T_TRUTH_SMEP)) != 0;
    struct t_truth_outcome out = {.fault = false};

    if (of_user && !by_user) { /* the supervisor in the user's pages */
        ok = ok && (fetch ? (regs & T_TRUTH_SMEP) == 0
                          : (regs & T_TRUTH_SMAP) == 0 || (access & T_MMU_AC) != 0);
    }
    if (!ok) {
        out.fault = true;
        out.error = (any ? T_MMU_ERR_P : 0) | (store ? T_MMU_ERR_W : 0) |
                    (by_user ? T_MMU_ERR_U : 0) | (fetch && tells_fetch ? T_MMU_ERR_I : 0);
    }
    return out;
}

/** Another protection for the same root: all bits of the first three turned. */
static inline mm_prot_t built_other(mm_prot_t prot)
{
    return prot ^ (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC);
}

static inline uint32_t built_flags(uint64_t len)
{
    return len == P4K ? MM_PAGING_ONLY_4K : len == P2M ? MM_PAGING_MAX_2M : 0;
}

static inline mm_status_t built_replace(struct mm_pagetable *pt, const struct built_page *p)
{
    struct mm_gather gather;
    mm_status_t status = mm_paging_map(pt, p->range, mm_paddr(p->paddr ^ P4K), built_other(p->prot),
                                       p->type, MM_PAGING_ONLY_4K);

    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    if (status == MM_OK) {
        status = mm_paging_replace(pt, p->range.start, mm_paddr(p->paddr), p->prot, 0, &gather);
    }
    mm_gather_end(&gather);
    return status;
}

/** One leaf within a leaf of the next size; all around it stays of the other protection. */
static inline mm_status_t built_split(struct mm_pagetable *pt, const struct built_page *p)
{
    uint64_t size = p->range.len * 512;
    uint64_t into = p->range.start.raw % size;
    mm_status_t status =
        mm_paging_map(pt, t_range(p->range.start.raw - into, size), mm_paddr(p->paddr - into),
                      built_other(p->prot), p->type, built_flags(size));

    return status != MM_OK
               ? status
               : t_protect(pt, p->range.start.raw, p->range.len, p->prot, MM_PAGING_SPLIT);
}

/** What map answers decides; all else must succeed. */
static inline mm_status_t built_build(struct mm_pagetable *pt, const struct built_page *p)
{
    mm_status_t status;

    switch (p->how) {
    case BUILT_REPLACED:
        return built_replace(pt, p);
    case BUILT_SPLIT:
        return built_split(pt, p);
    case BUILT_PROTECTED:
        status = mm_paging_map(pt, p->range, mm_paddr(p->paddr), built_other(p->prot), p->type,
                               built_flags(p->range.len));
        return status != MM_OK ? status
                               : t_protect(pt, p->range.start.raw, p->range.len, p->prot, 0);
    default:
        return mm_paging_map(pt, p->range, mm_paddr(p->paddr), p->prot, p->type,
                             built_flags(p->range.len));
    }
}

/** Whether the page can be built in this way: some need a larger leaf, or a 4 KiB one. */
static inline bool built_possible(enum built how, uint64_t len, bool has_1g)
{
    switch (how) {
    case BUILT_REPLACED:
        return len == P4K;
    case BUILT_SPLIT:
        return len == P4K || (len == P2M && has_1g);
    default:
        return len != P1G || has_1g;
    }
}

#endif
