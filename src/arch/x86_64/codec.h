// SPDX-License-Identifier: MIT
/**
 * What an entry of an x86-64 page table means: the codec that core/paging/radix.h walks with.
 * Only bits live here; no walking, no privileged instruction.
 *
 *   63 62   59 58  52 51                    12 11  9  8   7   6   5   4   3   2   1   0
 *   NX   key   unused  physical address      software G  PS   D   A  PCD PWT US  RW   P
 *                                          PAT above 4 KiB: bit 12; at 4 KiB: bit 7
 *
 * (SDM vol. 3A, 4.5.4, tables 4-14 to 4-20.) Bits 9 to 11 are the kernel's in leaves; in an entry
 * that leads to a table, bit 9 says that the table is ours. The key is ignored without CR4.PKE
 * (4.6.2).
 *
 * An entry without P belongs to us. Ours have address bits 43 to 51 set, so that a CPU that
 * speculates past P (L1TF) finds an address that no memory has; 4 bits of kind and 50 of payload
 * are left:
 *
 *   63       52 51      43 42                   5 4    1  0
 *   payload high   ones        payload low         kind   0
 *
 * Kinds 0 to MM_SOFT_KINDS - 1 are the kernel's, MM_SOFT_GUARD is a guard page. Kinds 11 to 14 are
 * a leaf that allows nothing: it keeps all but its protection, which are 52 bits, two of them in
 * the kind:
 *
 *   51    48 47      45 44 43 42  40 39               0
 *     key     software   D  A  type   page frame number
 */
#ifndef MMI_X86_64_CODEC_H
#define MMI_X86_64_CODEC_H

#include "core/base/bits.h"
#include <mm/arch/x86_64.h>

/* --- geometry --------------------------------------------------------------------------------- */

#define CODEC_SHIFT       12u
#define CODEC_BITS        9u
#define CODEC_MAX_LEVELS  5u
#define CODEC_LEAF_LEVELS 3u /* levels 0, 1, 2: 4 KiB, 2 MiB, 1 GiB */

typedef struct mm_x86_64 codec_t;

static inline const codec_t *codec_of(const struct mm_pagetable *pt)
{
    return pt->backend.ctx;
}

static inline unsigned codec_levels(const codec_t *cx)
{
    return cx->features.vaddr_bits == 57 ? 5 : 4;
}

/** The highest level that may hold leaves. */
static inline unsigned codec_max_leaf(const codec_t *cx)
{
    return cx->features.page_1g ? 2 : 1;
}

/** Whether bits 63 to 47 (56) are alike. */
static inline bool codec_canonical(const codec_t *cx, uint64_t at)
{
    unsigned unused = codec_levels(cx) == 5 ? 7 : 16;

    return (uint64_t)((int64_t)(at << unused) >> unused) == at;
}

/* --- bits ------------------------------------------------------------------------------------- */

#define ENTRY_P         (UINT64_C(1) << 0)
#define ENTRY_RW        (UINT64_C(1) << 1)
#define ENTRY_US        (UINT64_C(1) << 2)
#define ENTRY_PWT       (UINT64_C(1) << 3)
#define ENTRY_PCD       (UINT64_C(1) << 4)
#define ENTRY_A         (UINT64_C(1) << 5)
#define ENTRY_D         (UINT64_C(1) << 6)
#define ENTRY_PS        (UINT64_C(1) << 7) /* above level 0: a leaf */
#define ENTRY_PAT_4K    (UINT64_C(1) << 7) /* at level 0 */
#define ENTRY_G         (UINT64_C(1) << 8)
#define ENTRY_OWNED     (UINT64_C(1) << 9)  /* software: the table below is ours to free */
#define ENTRY_PAT_LARGE (UINT64_C(1) << 12) /* in leaves above level 0 */
#define ENTRY_ADDRESS   UINT64_C(0x000ffffffffff000)
#define ENTRY_NX        (UINT64_C(1) << 63)

/* In leaves of all sizes: what the kernel says of a page, and its protection key. */
#define ENTRY_SOFTWARE_SHIFT 9
#define ENTRY_SOFTWARE       ((uint64_t)MM_SOFTWARE_ALL << ENTRY_SOFTWARE_SHIFT)
#define ENTRY_KEY_SHIFT      59
#define ENTRY_KEY            (UINT64_C(15) << ENTRY_KEY_SHIFT)

/** What addresses are left with: the lowest bit of the mask, and those above, name no memory, also
 * where CPUID still counts them (APM vol. 2, 7.10.1). */
static inline unsigned codec_paddr_bits(const codec_t *cx)
{
    uint64_t mask = cx->encryption_mask & ENTRY_ADDRESS;
    unsigned bits = cx->features.paddr_bits;

    return mask != 0 && mmi_ctz(mask) < bits ? mmi_ctz(mask) : bits;
}

/** What protection is made of; NX is kept inverted in rights. */
#define ENTRY_PROT (ENTRY_RW | ENTRY_US | ENTRY_G | ENTRY_NX)

#define SOFT_ONES         UINT64_C(0x000ff80000000000)
#define SOFT_KIND_SHIFT   1
#define SOFT_LOW_SHIFT    5
#define SOFT_LOW_BITS     38
#define SOFT_HIGH_SHIFT   52
#define SOFT_PAYLOAD_BITS 50
#define SOFT_FORBIDDEN    UINT64_C(11) /* to 14: a leaf that allows nothing */
#define SOFT_FORBIDDENS   UINT64_C(4)
#define SOFT_CHAIN        UINT64_C(15) /* slot 0 of a table that is in no tree: the next one */

/* What a leaf that allows nothing keeps. */
#define KEPT_PFN_BITS       40
#define KEPT_TYPE_SHIFT     40
#define KEPT_A              (UINT64_C(1) << 43)
#define KEPT_D              (UINT64_C(1) << 44)
#define KEPT_SOFTWARE_SHIFT 45
#define KEPT_SOFTWARE       ((uint64_t)MM_SOFTWARE_ALL << KEPT_SOFTWARE_SHIFT)
#define KEPT_KEY_SHIFT      48
#define KEPT_KEY            (UINT64_C(15) << KEPT_KEY_SHIFT)

static inline uint64_t soft_make(uint64_t kind, uint64_t payload)
{
    uint64_t low = payload & mmi_mask(0, SOFT_LOW_BITS);

    return SOFT_ONES | (kind << SOFT_KIND_SHIFT) | (low << SOFT_LOW_SHIFT) |
           ((payload >> SOFT_LOW_BITS) << SOFT_HIGH_SHIFT);
}

static inline uint64_t soft_kind(uint64_t slot)
{
    return (slot >> SOFT_KIND_SHIFT) & 15;
}

static inline uint64_t soft_payload(uint64_t slot)
{
    return ((slot >> SOFT_LOW_SHIFT) & mmi_mask(0, SOFT_LOW_BITS)) |
           ((slot >> SOFT_HIGH_SHIFT) << SOFT_LOW_BITS);
}

_Static_assert(SOFT_PAYLOAD_BITS == MM_SOFT_PAYLOAD_BITS && MM_SOFT_GUARD == MM_SOFT_KINDS &&
                   SOFT_FORBIDDEN == MM_SOFT_GUARD + 1 &&
                   SOFT_FORBIDDEN + SOFT_FORBIDDENS <= SOFT_CHAIN,
               "what the kernel was told");

/** A leaf that allows nothing, of 52 bits. */
static inline uint64_t kept_make(uint64_t kept)
{
    return soft_make(SOFT_FORBIDDEN + (kept >> SOFT_PAYLOAD_BITS),
                     kept & mmi_mask(0, SOFT_PAYLOAD_BITS));
}

static inline uint64_t kept_of(uint64_t slot)
{
    return soft_payload(slot) | ((soft_kind(slot) - SOFT_FORBIDDEN) << SOFT_PAYLOAD_BITS);
}

/* --- slots ------------------------------------------------------------------------------------ */

/** Whether a slot, which leads to no table, is soft: not empty, and the kernel's or a guard. */
static inline bool codec_is_soft(uint64_t slot)
{
    return (slot & ENTRY_P) == 0 && slot != 0 && soft_kind(slot) < SOFT_FORBIDDEN;
}

/** Whether a slot, which leads to no table, is a leaf. */
static inline bool codec_is_leaf(uint64_t slot)
{
    return (slot & ENTRY_P) != 0 || (slot != 0 && soft_kind(slot) >= SOFT_FORBIDDEN);
}

static inline uint64_t codec_soft(unsigned kind, uint64_t payload)
{
    return soft_make(kind, payload);
}

static inline unsigned codec_soft_kind(uint64_t slot)
{
    return (unsigned)soft_kind(slot);
}

static inline uint64_t codec_soft_payload(uint64_t slot)
{
    return soft_payload(slot);
}

/* --- tables ----------------------------------------------------------------------------------- */

/** An entry that leads to user tables, for the root that the kernel runs on: nothing there is
 * executed, so that a way out that forgot to switch roots faults at once. */
static inline uint64_t codec_kernel_side(const codec_t *cx, uint64_t slot)
{
    return slot != 0 && cx->enabled.nx ? slot | ENTRY_NX : slot;
}

/** Whether a slot points to a table. PS where no leaf may be is a reserved bit: no table. */
static inline bool codec_is_table(uint64_t slot, unsigned level)
{
    return level != 0 && (slot & (ENTRY_P | ENTRY_PS)) == ENTRY_P;
}

/** Widest rights: leaves decide. A is set now, so that no walk has to write it. */
static inline uint64_t codec_table(const codec_t *cx, mm_pfn_t table, bool user)
{
    return (table.raw << CODEC_SHIFT) | cx->encryption_mask | ENTRY_P | ENTRY_RW | ENTRY_A |
           ENTRY_OWNED | (user ? ENTRY_US : 0);
}

/** Whether a slot of a user root, all of whose tables for the user are ours, points to one. It then
 * is what codec_table() made, and nothing else: radix_check() holds it against that. */
static inline bool codec_is_user_table(uint64_t slot)
{
    return (uint8_t)slot == (ENTRY_P | ENTRY_RW | ENTRY_US | ENTRY_A);
}

/** What of a slot that points to a table is its physical address, which is in place. */
static inline uint64_t codec_table_mask(const codec_t *cx)
{
    return ENTRY_ADDRESS & ~cx->encryption_mask;
}

static inline mm_pfn_t codec_table_pfn(const codec_t *cx, uint64_t slot)
{
    return mm_pfn((slot & codec_table_mask(cx)) >> CODEC_SHIFT);
}

static inline bool codec_is_owned(uint64_t slot)
{
    return (slot & ENTRY_OWNED) != 0;
}

static inline uint64_t codec_disown(uint64_t slot)
{
    return slot & ~ENTRY_OWNED;
}

/** The next of a chain of tables that hang in no tree. */
static inline uint64_t codec_chain(mm_pfn_t next)
{
    return soft_make(SOFT_CHAIN, next.raw);
}

static inline mm_pfn_t codec_chain_pfn(uint64_t slot)
{
    return mm_pfn(soft_payload(slot));
}

/** Whether a slot holds codec_chain(): also the place of a table while it is merged. */
static inline bool codec_is_chained(uint64_t slot)
{
    return (slot & ENTRY_P) == 0 && slot != 0 && soft_kind(slot) == SOFT_CHAIN;
}

/* --- rights along a path: RW and US AND, NX ORs (SDM vol. 3A, 4.6.1) -------------------------- */

static inline uint64_t codec_rights_all(void)
{
    return UINT64_MAX;
}

static inline uint64_t codec_rights_below(uint64_t rights, uint64_t slot)
{
    return rights & (slot ^ ENTRY_NX);
}

/** Whether the tables on the path leave a leaf with these bits all that it allows. */
static inline bool codec_rights_allow(uint64_t rights, uint64_t bits)
{
    return (bits & ENTRY_P) == 0 ||
           ((bits ^ ENTRY_NX) & ~rights & (ENTRY_RW | ENTRY_US | ENTRY_NX)) == 0;
}

/* --- memory types: index = PAT, PCD, PWT (SDM vol. 3A, 12.12; the table is in cpu.c) ---------- */

/** Whether this CPU has the type: WC and WP need the library's PAT. */
static inline bool codec_has_type(const codec_t *cx, mm_memtype_t type)
{
    return (type != MM_MEMTYPE_WC && type != MM_MEMTYPE_WP) || cx->enabled.pat;
}

static inline uint64_t type_bits(mm_memtype_t type, unsigned level)
{
    /* A nibble for each type: WB 0, WT 1, WC 5, UC- 2, UC 3, WP 4. */
    unsigned index = (0x432510u >> (4 * (unsigned)type)) & 7;

    return ((index & 1) != 0 ? ENTRY_PWT : 0) | ((index & 2) != 0 ? ENTRY_PCD : 0) |
           ((index & 4) == 0 ? 0
            : level == 0     ? ENTRY_PAT_4K
                             : ENTRY_PAT_LARGE);
}

static inline mm_memtype_t type_of(const codec_t *cx, uint64_t slot, unsigned level)
{
    uint64_t pat = slot & (level == 0 ? ENTRY_PAT_4K : ENTRY_PAT_LARGE);
    unsigned index = (unsigned)((slot >> 3) & 3);

    /* Without our table the upper four repeat the lower (the power-on default). */
    if (pat != 0 && cx->enabled.pat && index < 2) {
        index += 4;
    }
    /* A nibble for each index: WB, WT, UC-, UC, WP, WC. */
    return (mm_memtype_t)((0x254310u >> (4 * index)) & 7);
}

static inline bool type_is_memory(mm_memtype_t type)
{
    return type == MM_MEMTYPE_WB || type == MM_MEMTYPE_WT || type == MM_MEMTYPE_WP;
}

/* --- leaves ----------------------------------------------------------------------------------- */

/** Protection as bits of an entry; without ENTRY_P: nothing is allowed. */
static inline uint64_t codec_prot(const codec_t *cx, mm_prot_t prot)
{
    if ((prot & (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)) == 0) {
        return 0;
    }
    return ENTRY_P | ((prot & MM_PROT_WRITE) != 0 ? ENTRY_RW : 0) |
           ((prot & MM_PROT_USER) != 0 ? ENTRY_US : 0) |
           ((prot & MM_PROT_GLOBAL) != 0 && cx->enabled.global_pages ? ENTRY_G : 0) |
           ((uint64_t)((prot & MM_PROT_EXEC) == 0) & (uint64_t)cx->enabled.nx) << 63;
}

static inline uint64_t codec_leaf(const codec_t *cx, unsigned level, mm_paddr_t paddr,
                                  uint64_t bits, mm_memtype_t type)
{
    if ((bits & ENTRY_P) == 0) {
        return kept_make((paddr.raw >> CODEC_SHIFT) | ((uint64_t)type << KEPT_TYPE_SHIFT));
    }
    return paddr.raw | (type_is_memory(type) ? cx->encryption_mask : 0) | bits |
           (level == 0 ? 0 : ENTRY_PS) | type_bits(type, level);
}

/** What to add to a leaf for its right neighbour; 0: codec_next() tells. */
static inline uint64_t codec_step(uint64_t slot, unsigned level)
{
    return (slot & ENTRY_P) == 0 ? 0 : UINT64_C(1) << (CODEC_SHIFT + CODEC_BITS * level);
}

/** The right neighbour of a leaf that allows nothing, or of a soft slot, which says the same. */
static inline uint64_t codec_next(uint64_t slot, unsigned level)
{
    if (codec_is_soft(slot)) {
        return slot;
    }
    return kept_make(kept_of(slot) + (UINT64_C(1) << (CODEC_BITS * level)));
}

static inline mm_paddr_t codec_paddr(const codec_t *cx, uint64_t slot, unsigned level)
{
    uint64_t size = UINT64_C(1) << (CODEC_SHIFT + CODEC_BITS * level);

    if ((slot & ENTRY_P) == 0) {
        return mm_paddr((kept_of(slot) & mmi_mask(0, KEPT_PFN_BITS)) << CODEC_SHIFT);
    }
    return mm_paddr(slot & ENTRY_ADDRESS & ~cx->encryption_mask & ~(size - 1));
}

/** What of a leaf of level 0 that allows something is its physical address, which is in place. */
static inline uint64_t codec_page_mask(const codec_t *cx)
{
    return ENTRY_ADDRESS & ~cx->encryption_mask;
}

static inline mm_memtype_t codec_type(const codec_t *cx, uint64_t slot, unsigned level)
{
    return (slot & ENTRY_P) == 0 ? (mm_memtype_t)((kept_of(slot) >> KEPT_TYPE_SHIFT) & 7)
                                 : type_of(cx, slot, level);
}

static inline bool codec_is_global(uint64_t slot)
{
    return (slot & (ENTRY_P | ENTRY_G)) == (ENTRY_P | ENTRY_G);
}

/** Whether a leaf allows anything, or bits of codec_prot() do. */
static inline bool codec_is_present(uint64_t slot)
{
    return (slot & ENTRY_P) != 0;
}

/** A leaf that allows something under another protection that does. */
static inline uint64_t codec_reprotect_present(uint64_t slot, uint64_t bits)
{
    return (slot & ~ENTRY_PROT) | bits;
}

/** Whether that changes a leaf, given the bits that all leaves have and those that any has. */
static inline bool codec_reprotect_changes(uint64_t every, uint64_t any, uint64_t bits)
{
    return (((every ^ bits) | (any ^ bits)) & ENTRY_PROT) != 0;
}

/* Accessed, dirty, software bits and key, as both forms of a leaf carry them. */

static inline bool codec_accessed(uint64_t slot)
{
    return (slot & ENTRY_P) != 0 ? (slot & ENTRY_A) != 0 : (kept_of(slot) & KEPT_A) != 0;
}

static inline bool codec_dirty(uint64_t slot)
{
    return (slot & ENTRY_P) != 0 ? (slot & ENTRY_D) != 0 : (kept_of(slot) & KEPT_D) != 0;
}

static inline unsigned codec_software(uint64_t slot)
{
    return (unsigned)((slot & ENTRY_P) != 0 ? slot >> ENTRY_SOFTWARE_SHIFT
                                            : kept_of(slot) >> KEPT_SOFTWARE_SHIFT) &
           MM_SOFTWARE_ALL;
}

static inline unsigned codec_key(uint64_t slot)
{
    return (unsigned)((slot & ENTRY_P) != 0 ? slot >> ENTRY_KEY_SHIFT
                                            : kept_of(slot) >> KEPT_KEY_SHIFT) &
           15;
}

/** Whether this CPU has protection keys (SDM vol. 3A, 4.6.2). */
static inline bool codec_has_keys(const codec_t *cx)
{
    return cx->features.pku;
}

/** The bits of a leaf that is present that say accessed and dirty: what a harvest clears. */
static inline uint64_t codec_used_bits(bool accessed, bool dirty)
{
    return (accessed ? ENTRY_A : 0) | (dirty ? ENTRY_D : 0);
}

/** The same leaf with these bits. */
static inline uint64_t codec_set_used(uint64_t slot, bool accessed, bool dirty)
{
    if ((slot & ENTRY_P) != 0) {
        return (slot & ~(ENTRY_A | ENTRY_D)) | codec_used_bits(accessed, dirty);
    }
    return kept_make((kept_of(slot) & ~(KEPT_A | KEPT_D)) | (accessed ? KEPT_A : 0) |
                     (dirty ? KEPT_D : 0));
}

static inline uint64_t codec_set_software(uint64_t slot, unsigned software)
{
    if ((slot & ENTRY_P) != 0) {
        return (slot & ~ENTRY_SOFTWARE) | ((uint64_t)software << ENTRY_SOFTWARE_SHIFT);
    }
    return kept_make((kept_of(slot) & ~KEPT_SOFTWARE) |
                     ((uint64_t)software << KEPT_SOFTWARE_SHIFT));
}

static inline uint64_t codec_set_key(uint64_t slot, unsigned key)
{
    if ((slot & ENTRY_P) != 0) {
        return (slot & ~ENTRY_KEY) | ((uint64_t)key << ENTRY_KEY_SHIFT);
    }
    return kept_make((kept_of(slot) & ~KEPT_KEY) | ((uint64_t)key << KEPT_KEY_SHIFT));
}

/** The same leaf under another protection; all else stays. */
static inline uint64_t codec_reprotect(const codec_t *cx, uint64_t slot, unsigned level,
                                       uint64_t bits)
{
    uint64_t now;

    if (codec_is_present(slot & bits)) {
        return codec_reprotect_present(slot, bits);
    }
    now = codec_leaf(cx, level, codec_paddr(cx, slot, level), bits, codec_type(cx, slot, level));
    now = codec_set_used(now, codec_accessed(slot), codec_dirty(slot));
    return codec_set_key(codec_set_software(now, codec_software(slot)), codec_key(slot));
}

/** For leaves that allow something: whether writing is allowed; and the leaf without that. */
static inline bool codec_is_writable(uint64_t slot)
{
    return (slot & ENTRY_RW) != 0;
}

static inline uint64_t codec_without_write(uint64_t slot)
{
    return slot & ~ENTRY_RW;
}

/** Any leaf without the right to write. */
static inline uint64_t codec_write_protect(uint64_t slot)
{
    return codec_is_present(slot) ? codec_without_write(slot) : slot;
}

/** The first of the 512 leaves that a leaf of `level` (not 0) splits into. */
static inline uint64_t codec_split(uint64_t slot, unsigned level)
{
    if ((slot & ENTRY_P) == 0 || level != 1) {
        return slot;
    }
    return (slot & ~(ENTRY_PS | ENTRY_PAT_LARGE)) |
           ((slot & ENTRY_PAT_LARGE) != 0 ? ENTRY_PAT_4K : 0);
}

/** The bits of a leaf that say accessed and dirty. */
static inline uint64_t codec_used(uint64_t slot)
{
    return (slot & ENTRY_P) != 0 ? ENTRY_A | ENTRY_D : soft_make(0, KEPT_A | KEPT_D) & ~SOFT_ONES;
}

/** Whether the hardware has set all that it ever sets in a leaf that allows something: nothing that
 * is written over it is lost (SDM vol. 3A, 4.8: the bits are sticky, the CPU clears none). */
static inline bool codec_is_settled(uint64_t slot)
{
    return (slot & (ENTRY_A | ENTRY_D)) == (ENTRY_A | ENTRY_D);
}

/** The leaf of `level` (not 0) that 512 leaves are, by their first: codec_split() undoes it. */
static inline uint64_t codec_join(uint64_t slot, unsigned level)
{
    if ((slot & ENTRY_P) == 0 || level != 1) {
        return slot;
    }
    return (slot & ~ENTRY_PAT_4K) | ENTRY_PS | ((slot & ENTRY_PAT_4K) != 0 ? ENTRY_PAT_LARGE : 0);
}

/* --- another type: by way of a form that is not present --------------------------------------- */

/** The same leaf with another memory type. */
static inline uint64_t codec_retype(const codec_t *cx, uint64_t slot, unsigned level,
                                    mm_memtype_t type)
{
    uint64_t bits = slot & ~(ENTRY_ADDRESS | ENTRY_PWT | ENTRY_PCD | ENTRY_PAT_4K);
    uint64_t types = UINT64_C(7) << KEPT_TYPE_SHIFT;

    if ((slot & ENTRY_P) != 0) {
        return codec_leaf(cx, level, codec_paddr(cx, slot, level), bits, type);
    }
    return soft_make(soft_kind(slot),
                     (soft_payload(slot) & ~types) | ((uint64_t)type << KEPT_TYPE_SHIFT));
}

/*
 * A leaf while its type changes: not present; 44 to 51 are ones, and 43 is zero, which no soft slot
 * has. Of the frame's address bits 12 to 42 are where they were, but inverted: CPUs that look no
 * further than bit 43 (L1TF) find an address of 4 TiB and more in place of any frame below. Nine
 * bits of it lie where the type and bits without meaning were. All else is in place, so that a bit
 * which the hardware sets at the last moment is none that was moved.
 *
 *   63 62 59  57      52 51   44 43 42            12  11..8   7   6  5   4 3    2  1   0
 *   NX key    address    ones    0  ~address 12-42    kept   ad.  D  A  addr.  US RW   0
 *             46-51                                           45        43,44
 */
#define BROKEN_ONES (SOFT_ONES & (SOFT_ONES << 1))
#define BROKEN_KEPT                                                                                \
    (ENTRY_RW | ENTRY_US | ENTRY_A | ENTRY_D | mmi_mask(8, 4) | mmi_mask(59, 4) | ENTRY_NX)

static inline uint64_t codec_break(const codec_t *cx, uint64_t slot, unsigned level)
{
    uint64_t paddr = codec_paddr(cx, slot, level).raw;
    uint64_t high = paddr >> 43;

    return (slot & BROKEN_KEPT) | BROKEN_ONES | (~paddr & mmi_mask(12, 31)) | ((high & 3) << 3) |
           (((high >> 2) & 1) << 7) | ((high >> 3) << 52);
}

static inline bool codec_is_broken(uint64_t slot)
{
    return (slot & (SOFT_ONES | ENTRY_P)) == BROKEN_ONES;
}

static inline uint64_t codec_mend(const codec_t *cx, uint64_t slot, unsigned level,
                                  mm_memtype_t type)
{
    uint64_t high =
        ((slot >> 3) & 3) | (((slot >> 7) & 1) << 2) | (((slot >> 52) & mmi_mask(0, 6)) << 3);

    return codec_leaf(cx, level, mm_paddr((~slot & mmi_mask(12, 31)) | (high << 43)),
                      ENTRY_P | (slot & BROKEN_KEPT), type);
}

/* --- decode ----------------------------------------------------------------------------------- */

/** Protection of a present leaf from its effective rights; most bits are where they belong. */
static inline mm_prot_t codec_prot_of(uint64_t slot, uint64_t effective)
{
    _Static_assert(MM_PROT_READ == ENTRY_P && MM_PROT_WRITE == ENTRY_RW &&
                       MM_PROT_USER == ENTRY_US << 1 && MM_PROT_GLOBAL == ENTRY_G >> 4 &&
                       MM_PROT_EXEC == 1u << 2,
                   "the shifts below");
    return (mm_prot_t)((effective & (ENTRY_P | ENTRY_RW)) | ((effective & ENTRY_US) << 1) |
                       ((slot & ENTRY_G) >> 4) | ((effective >> 63) << 2));
}

/** What a leaf says; `page` is the caller's. */
static inline __attribute__((always_inline)) void codec_decode(const codec_t *cx, uint64_t slot,
                                                               unsigned level, uint64_t rights,
                                                               struct mm_mapping *out)
{
    out->paddr = codec_paddr(cx, slot, level);
    out->type = codec_type(cx, slot, level);
    out->kind = MM_SLOT_LEAF;
    out->prot = (slot & ENTRY_P) == 0 ? MM_PROT_NONE
                                      : codec_prot_of(slot, codec_rights_below(rights, slot));
    out->accessed = codec_accessed(slot);
    out->dirty = codec_dirty(slot);
    out->software = (uint8_t)codec_software(slot);
    out->key = (uint8_t)codec_key(slot);
}

/* --- for checks ------------------------------------------------------------------------------- */

static inline const char *absent_malformed(const codec_t *cx, uint64_t slot, unsigned level)
{
    if ((slot & SOFT_ONES) != SOFT_ONES) {
        return "an entry that is not present may name memory";
    }
    if (soft_kind(slot) >= SOFT_FORBIDDEN + SOFT_FORBIDDENS) {
        return "an entry of a kind that belongs in no tree";
    }
    if (codec_is_soft(slot)) {
        return NULL;
    }
    if (codec_paddr(cx, slot, level).raw >> codec_paddr_bits(cx) != 0 ||
        (kept_of(slot) & mmi_mask(0, CODEC_BITS * level)) != 0 ||
        codec_type(cx, slot, level) >= MM_MEMTYPE_COUNT) {
        return "a leaf that allows nothing, of a frame or type that it could not have";
    }
    return NULL;
}

/** What is wrong with a slot that is not empty; NULL: nothing. */
static inline const char *codec_malformed(const codec_t *cx, uint64_t slot, unsigned level)
{
    uint64_t beyond = ENTRY_ADDRESS & ~mmi_mask(0, codec_paddr_bits(cx)) & ~cx->encryption_mask;
    uint64_t low = mmi_mask(13, CODEC_BITS * level > 1 ? CODEC_BITS * level - 1 : 0);

    if ((slot & ENTRY_P) == 0) {
        return absent_malformed(cx, slot, level);
    }
    if ((slot & beyond) != 0) {
        return "a physical address that this CPU has not";
    }
    if ((slot & ENTRY_NX) != 0 && !cx->enabled.nx) {
        return "NX is set and not enabled";
    }
    if (level > codec_max_leaf(cx) && (slot & ENTRY_PS) != 0) {
        return "a leaf of a size that this CPU has not";
    }
    if (level != 0 && (slot & ENTRY_PS) != 0 && (slot & low) != 0) {
        return "a large leaf with reserved bits";
    }
    return NULL;
}

/* --- for audits ------------------------------------------------------------------------------- */

/** Whether a slot that is not empty is one that is not present and yet names memory, which a CPU
 * may read ahead of the fault (L1TF, INTEL-SA-00161). */
static inline bool codec_names_memory(uint64_t slot)
{
    return (slot & ENTRY_P) == 0 && (slot & SOFT_ONES) != SOFT_ONES;
}

static inline mm_paddr_t codec_named(const codec_t *cx, uint64_t slot)
{
    return mm_paddr(slot & ENTRY_ADDRESS & ~cx->encryption_mask);
}

/** Whether two entries lead to the same table with the same rights. */
static inline bool codec_same_table(uint64_t a, uint64_t b)
{
    return ((a ^ b) & (ENTRY_P | ENTRY_PS | ENTRY_RW | ENTRY_US | ENTRY_NX | ENTRY_ADDRESS)) == 0;
}

#endif
