// SPDX-License-Identifier: MIT
/**
 * Translation by the manual: see the header. Section numbers are of the SDM, volume 3A.
 */
#include "sim_mmu.h"

#include <stddef.h>

unsigned t_mmu_vaddr_bits(const struct t_mmu *mmu)
{
    return (mmu->cr4 & T_MMU_CR4_LA57) != 0 ? 57 : 48;
}

/* Vol. 1, 3.3.7.1: all bits above the highest that is translated repeat it. */
bool t_mmu_canonical(const struct t_mmu *mmu, uint64_t at)
{
    uint64_t high = at >> (t_mmu_vaddr_bits(mmu) - 1);

    return high == 0 || high == UINT64_MAX >> (t_mmu_vaddr_bits(mmu) - 1);
}

uint64_t t_mmu_span(unsigned level)
{
    return UINT64_C(1) << (12 + 9 * level);
}

/* 4.5.4: a PDPTE and a PDE map a page if bit 7 is set; in higher entries that bit is reserved. */
static bool is_leaf(uint64_t entry, unsigned level)
{
    return level == 0 || ((entry & T_MMU_PS) != 0 && (level == 1 || level == 2));
}

/* 4.5.4, tables 4-14 to 4-20. What only AMD reserves (G in a PML4E) is ignored, as Intel does. */
uint64_t t_mmu_reserved(const struct t_mmu *mmu, uint64_t entry, unsigned level)
{
    uint64_t reserved = T_MMU_ADDRESS & ~((UINT64_C(1) << mmu->paddr_bits) - 1);

    if ((mmu->efer & T_MMU_EFER_NXE) == 0) {
        reserved |= T_MMU_NX;
    }
    if (level >= 3 || (level == 2 && !mmu->has_1g)) {
        reserved |= T_MMU_PS;
    } else if (level != 0 && is_leaf(entry, level)) {
        /* Below the address of a large page only bit 12 means something: PAT. */
        reserved |= (t_mmu_span(level) - 1) & T_MMU_ADDRESS & ~T_MMU_PAT;
    }
    return entry & reserved;
}

/* 4.6.1: a right is there if the entries of all levels give it. */
unsigned t_mmu_rights(uint64_t entry)
{
    return ((entry & T_MMU_RW) != 0 ? T_MMU_MAY_WRITE : 0) |
           ((entry & T_MMU_US) != 0 ? T_MMU_MAY_USER : 0) |
           ((entry & T_MMU_NX) == 0 ? T_MMU_MAY_EXEC : 0);
}

/* 4.9.2: PAT, PCD and PWT of the leaf choose one byte of the PAT. */
static uint8_t type_of(const struct t_mmu *mmu, uint64_t entry, unsigned level)
{
    uint64_t pat = entry & (level == 0 ? T_MMU_PS : T_MMU_PAT);
    unsigned index = ((entry & T_MMU_PWT) != 0 ? 1u : 0) | ((entry & T_MMU_PCD) != 0 ? 2u : 0) |
                     (pat != 0 ? 4u : 0);

    return (uint8_t)((mmu->pat >> (8 * index)) & 7);
}

static void found_leaf(const struct t_mmu *mmu, uint64_t at, uint64_t entry, unsigned level,
                       struct t_mmu_walk *walk)
{
    walk->end = T_MMU_LEAF;
    walk->size = t_mmu_span(level);
    walk->start = at & ~(walk->size - 1);
    walk->paddr = entry & T_MMU_ADDRESS & ~(walk->size - 1);
    walk->global = (entry & T_MMU_G) != 0 && (mmu->cr4 & T_MMU_CR4_PGE) != 0;
    walk->dirty = (entry & T_MMU_D) != 0;
    walk->type = type_of(mmu, entry, level);
}

void t_mmu_walk_from(const struct t_mmu *mmu, uint64_t at, unsigned level, uint64_t table,
                     unsigned rights, struct t_mmu_walk *walk)
{
    walk->first = level;
    walk->rights = rights;
    for (;; level--) {
        uint64_t paddr = table + ((at >> (12 + 9 * level)) & 511) * 8;
        const uint64_t *slot = mmu->entry(mmu->ctx, paddr);
        uint64_t entry;

        walk->last = level;
        if (slot == NULL) {
            walk->end = T_MMU_NOWHERE;
            return;
        }
        entry = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
        walk->step[level].paddr = paddr;
        walk->step[level].entry = entry;
        if ((entry & T_MMU_P) == 0) {
            walk->end = T_MMU_ABSENT;
            return;
        }
        if (t_mmu_reserved(mmu, entry, level) != 0) {
            walk->end = T_MMU_RESERVED;
            return;
        }
        walk->rights &= t_mmu_rights(entry);
        if (is_leaf(entry, level)) {
            found_leaf(mmu, at, entry, level, walk);
            return;
        }
        table = entry & T_MMU_ADDRESS;
    }
}

void t_mmu_walk(const struct t_mmu *mmu, uint64_t at, struct t_mmu_walk *walk)
{
    unsigned root_level = (mmu->cr4 & T_MMU_CR4_LA57) != 0 ? 4 : 3;

    if (!t_mmu_canonical(mmu, at)) {
        walk->end = T_MMU_NONCANONICAL;
        walk->first = walk->last = root_level;
        walk->rights = 0;
        return;
    }
    t_mmu_walk_from(mmu, at, root_level, mmu->cr3 & T_MMU_ADDRESS, T_MMU_MAY_ALL, walk);
}

bool t_mmu_allows(const struct t_mmu *mmu, unsigned rights, unsigned access)
{
    bool user_page = (rights & T_MMU_MAY_USER) != 0;

    if ((access & T_MMU_USER) != 0) {
        return user_page && ((access & T_MMU_WRITE) == 0 || (rights & T_MMU_MAY_WRITE) != 0) &&
               ((access & T_MMU_FETCH) == 0 || (rights & T_MMU_MAY_EXEC) != 0);
    }
    if ((access & T_MMU_FETCH) != 0) {
        return (rights & T_MMU_MAY_EXEC) != 0 && (!user_page || (mmu->cr4 & T_MMU_CR4_SMEP) == 0);
    }
    if (user_page && (mmu->cr4 & T_MMU_CR4_SMAP) != 0 && (access & T_MMU_AC) == 0) {
        return false;
    }
    return (access & T_MMU_WRITE) == 0 || (rights & T_MMU_MAY_WRITE) != 0 ||
           (mmu->cr0 & T_MMU_CR0_WP) == 0;
}

uint32_t t_mmu_error(const struct t_mmu *mmu, enum t_mmu_end end, unsigned access)
{
    bool tells_fetch =
        (mmu->efer & T_MMU_EFER_NXE) != 0 || (mmu->cr4 & T_MMU_CR4_SMEP) != 0; /* and PAE is on */

    return (end == T_MMU_ABSENT ? 0 : T_MMU_ERR_P) | (end == T_MMU_RESERVED ? T_MMU_ERR_RSVD : 0) |
           ((access & T_MMU_WRITE) != 0 ? T_MMU_ERR_W : 0) |
           ((access & T_MMU_USER) != 0 ? T_MMU_ERR_U : 0) |
           ((access & T_MMU_FETCH) != 0 && tells_fetch ? T_MMU_ERR_I : 0);
}

bool t_mmu_mark(const struct t_mmu *mmu, const struct t_mmu_walk *walk, bool store)
{
    for (unsigned level = walk->first + 1; level-- > walk->last;) {
        const struct t_mmu_step *step = &walk->step[level];
        bool leaf = level == walk->last && walk->end == T_MMU_LEAF;
        uint64_t marks = T_MMU_A | (leaf && store ? T_MMU_D : 0);
        uint64_t marked = leaf ? T_MMU_A | T_MMU_D : T_MMU_A;
        uint64_t *slot;
        uint64_t now;

        if (walk->end != T_MMU_LEAF && level == walk->last) {
            break; /* the entry that ended the walk was not used */
        }
        slot = mmu->entry(mmu->ctx, step->paddr);
        now = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
        do {
            if (((now ^ step->entry) & ~marked) != 0) {
                return false;
            }
            if ((now & marks) == marks) {
                break;
            }
        } while (!__atomic_compare_exchange_n(slot, &now, now | marks, false, __ATOMIC_ACQ_REL,
                                              __ATOMIC_ACQUIRE));
    }
    return true;
}
