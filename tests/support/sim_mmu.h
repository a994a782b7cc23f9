// SPDX-License-Identifier: MIT
/**
 * Address translation of an x86-64 CPU, as the manual writes it (Intel SDM vol. 3A, chapter 4) and
 * with nothing from the library: one walk, one decision, one error code. It has no cache and no
 * state, changes memory only in t_mmu_mark(), and needs no libc: the simulated CPUs are built on
 * it, and the minikernel holds it against the CPU that it runs on.
 *
 *     t_mmu_walk()   tables -> the leaf with the rights of all levels, or where the walk ended
 *     t_mmu_allows() rights, registers, access -> may it?
 *     t_mmu_error()  what the CPU pushes if not
 *     t_mmu_mark()   accessed on the path, dirty on the leaf
 *
 * Not modelled, because no entry that the library writes may depend on it: protection keys, shadow
 * stacks, extended page tables, 32-bit paging.
 */
#ifndef T_SIM_MMU_H
#define T_SIM_MMU_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bits of an entry: SDM vol. 3A, 4.5.4, tables 4-14 to 4-20. */
#define T_MMU_P       UINT64_C(1)
#define T_MMU_RW      UINT64_C(2)
#define T_MMU_US      UINT64_C(4)
#define T_MMU_PWT     UINT64_C(8)
#define T_MMU_PCD     UINT64_C(0x10)
#define T_MMU_A       UINT64_C(0x20)
#define T_MMU_D       UINT64_C(0x40)
#define T_MMU_PS      UINT64_C(0x80) /* where a large leaf may be; PAT in a 4 KiB leaf */
#define T_MMU_G       UINT64_C(0x100)
#define T_MMU_PAT     UINT64_C(0x1000) /* of a large leaf */
#define T_MMU_ADDRESS UINT64_C(0x000ffffffffff000)
#define T_MMU_NX      (UINT64_C(1) << 63)

/* Bits of registers: SDM vol. 3A, 2.5, and 2.2.1 (EFER). */
#define T_MMU_CR0_PG    (UINT64_C(1) << 31)
#define T_MMU_CR0_WP    (UINT64_C(1) << 16)
#define T_MMU_CR4_PAE   (UINT64_C(1) << 5)
#define T_MMU_CR4_PGE   (UINT64_C(1) << 7)
#define T_MMU_CR4_UMIP  (UINT64_C(1) << 11)
#define T_MMU_CR4_LA57  (UINT64_C(1) << 12)
#define T_MMU_CR4_PCIDE (UINT64_C(1) << 17)
#define T_MMU_CR4_SMEP  (UINT64_C(1) << 20)
#define T_MMU_CR4_SMAP  (UINT64_C(1) << 21)
#define T_MMU_EFER_NXE  (UINT64_C(1) << 11)

/* The error code: SDM vol. 3A, 4.7, figure 4-12. */
#define T_MMU_ERR_P    1u
#define T_MMU_ERR_W    2u
#define T_MMU_ERR_U    4u
#define T_MMU_ERR_RSVD 8u
#define T_MMU_ERR_I    16u

/** What an access is; 0 is a load by the supervisor. */
#define T_MMU_WRITE 1u
#define T_MMU_FETCH 2u
#define T_MMU_USER  4u /**< CPL is 3 */
#define T_MMU_AC    8u /**< explicit, with EFLAGS.AC set: SMAP is suspended */

/** Rights that all levels of a walk leave (4.6.1). */
#define T_MMU_MAY_WRITE 1u
#define T_MMU_MAY_USER  2u /**< user mode may; to the supervisor it is a user-mode address */
#define T_MMU_MAY_EXEC  4u
#define T_MMU_MAY_ALL   7u

#define T_MMU_LEVELS 5

/** What decides a translation. */
struct t_mmu {
    uint64_t cr0, cr3, cr4, efer, pat;
    uint32_t paddr_bits; /**< MAXPHYADDR, at most 52 */
    bool has_1g;
    void *ctx;
    /** Where the entry at a physical address lies; NULL: no memory there. */
    uint64_t *(*entry)(void *ctx, uint64_t paddr);
};

enum t_mmu_end {
    T_MMU_LEAF,
    T_MMU_ABSENT,   /**< an entry is not present */
    T_MMU_RESERVED, /**< a reserved bit is set in a present entry */
    T_MMU_NOWHERE,  /**< the table is not in memory: hardware would read whatever answers there */
    T_MMU_NONCANONICAL, /**< no walk at all: a general-protection fault */
};

/** One entry that a walk has used. */
struct t_mmu_step {
    uint64_t paddr; /**< of the entry */
    uint64_t entry; /**< as it was read */
};

struct t_mmu_walk {
    enum t_mmu_end end;
    unsigned first;  /**< level where the walk began: 4 or 3, less out of a cache */
    unsigned last;   /**< level of the last entry that was read; 0 holds 4 KiB leaves */
    unsigned rights; /**< T_MMU_MAY_..., of the entries read up to a good one */
    /** By level, from `first` down to `last`. */
    struct t_mmu_step step[T_MMU_LEVELS];
    /* Of a leaf: */
    uint64_t start; /**< linear address of its first byte */
    uint64_t size;
    uint64_t paddr; /**< physical address of its first byte */
    bool global;    /**< and CR4.PGE is set */
    bool dirty;
    uint8_t type; /**< encoding of the PAT entry that it selects (table 12-10) */
};

/** Bits of a linear address: 48 or 57. */
unsigned t_mmu_vaddr_bits(const struct t_mmu *mmu);

bool t_mmu_canonical(const struct t_mmu *mmu, uint64_t at);

/** Bytes that an entry of a level covers. */
uint64_t t_mmu_span(unsigned level);

/** The reserved bits that are set in a present entry of a level; 0: none. */
uint64_t t_mmu_reserved(const struct t_mmu *mmu, uint64_t entry, unsigned level);

/** The rights (T_MMU_MAY_...) that one present entry gives; those of a walk are the AND of all. */
unsigned t_mmu_rights(uint64_t entry);

/** Walk from CR3. Nothing is changed. */
void t_mmu_walk(const struct t_mmu *mmu, uint64_t at, struct t_mmu_walk *walk);

/** Walk on from a table of `level`, to which entries with `rights` led: what a CPU does that has
 * them in a paging-structure cache (4.10.3). `at` is canonical. */
void t_mmu_walk_from(const struct t_mmu *mmu, uint64_t at, unsigned level, uint64_t table,
                     unsigned rights, struct t_mmu_walk *walk);

/** Whether a translation with these rights serves the access now (4.6.1). */
bool t_mmu_allows(const struct t_mmu *mmu, unsigned rights, unsigned access);

/** The error code, for a walk that ended without a leaf or a leaf that does not allow (4.7). */
uint32_t t_mmu_error(const struct t_mmu *mmu, enum t_mmu_end end, unsigned access);

/**
 * What the hardware writes when it uses a translation (4.8): accessed in each entry of the walk,
 * and dirty in the leaf for a store, each by one locked operation.
 *
 * @return false if an entry is not any more what the walk read, accessed and dirty aside; then
 *         those before it may have been marked, and the CPU walks again
 */
bool t_mmu_mark(const struct t_mmu *mmu, const struct t_mmu_walk *walk, bool store);

#ifdef __cplusplus
}
#endif

#endif
