// SPDX-License-Identifier: MIT
/**
 * The x86-64 backend: CPU features, the instructions that only a kernel may execute, page-fault
 * codes, and the page-table backend. References are to the Intel Software Developer's Manual (SDM)
 * and AMD's manual (APM).
 */
#ifndef MM_ARCH_X86_64_H
#define MM_ARCH_X86_64_H

#include <mm/paging.h>
#include <mm/tlb.h>
#include <mm/user_ops.h>

MM_BEGIN_DECLS

/** Registers that CPUID returns. */
struct mm_x86_64_cpuid {
    uint32_t eax, ebx, ecx, edx;
};

/**
 * Privileged instructions. A kernel passes &mm_x86_64_native_ops, which lives in an object of its
 * own, so a host test that passes a simulated CPU never links it. All are required.
 */
struct mm_x86_64_cpu_ops {
    struct mm_x86_64_cpuid (*cpuid)(void *ctx, uint32_t leaf, uint32_t subleaf);
    uint64_t (*read_msr)(void *ctx, uint32_t msr);
    void (*write_msr)(void *ctx, uint32_t msr, uint64_t value);
    uint64_t (*read_cr)(void *ctx, unsigned cr); /**< cr is 0, 3 or 4 */
    void (*write_cr)(void *ctx, unsigned cr, uint64_t value);
    void (*invlpg)(void *ctx, uint64_t vaddr);
    void (*invpcid)(void *ctx, uint64_t type, uint64_t pcid, uint64_t vaddr);
};

extern const struct mm_x86_64_cpu_ops mm_x86_64_native_ops;

/** What this CPU can do, read once. */
struct mm_x86_64_features {
    /** MAXPHYADDR: CPUID 80000008H:EAX[7:0]; 36 if that leaf is absent or tells less than 32; at
     * most 52. */
    uint8_t paddr_bits;
    uint8_t vaddr_bits; /**< 57 if CR4.LA57 is set now, else 48 */
    bool nx;            /**< CPUID 80000001H:EDX[20] */
    bool page_1g;       /**< CPUID 80000001H:EDX[26] */
    bool global_pages;  /**< CPUID 1:EDX[13] */
    bool pat;           /**< CPUID 1:EDX[16] */
    bool pcid;          /**< CPUID 1:ECX[17] */
    bool invpcid;       /**< CPUID 7.0:EBX[10] */
    bool smep;          /**< CPUID 7.0:EBX[7] */
    bool smap;          /**< CPUID 7.0:EBX[20] */
    bool umip;          /**< CPUID 7.0:ECX[2] */
    bool la57;          /**< CPUID 7.0:ECX[16] */
    bool pku;           /**< CPUID 7.0:ECX[3] */
};

/** What mm_x86_64_enable() has switched on; also set if it was on when looked at. */
struct mm_x86_64_enabled {
    bool nx;            /**< EFER.NXE: without it bit 63 of an entry is reserved */
    bool write_protect; /**< CR0.WP */
    bool global_pages;  /**< CR4.PGE */
    bool pcid;          /**< CR4.PCIDE, and CR4.PGE */
    bool pat;           /**< the PAT MSR holds the library's table: WC and WP are available */
    bool smep;
    bool smap;
    bool umip;
};

/** The backend's instance. Storage is the caller's; one for all CPUs of a kind. */
struct mm_x86_64 {
    uint32_t magic;
    const struct mm_x86_64_cpu_ops *ops;
    void *ctx;
    struct mm_x86_64_features features;
    struct mm_x86_64_enabled enabled;
    /** SME, SEV: bits that every entry of encrypted memory carries (APM vol. 2, 7.10); 0: none, as
     * mm_x86_64_init() leaves it. The one field that the caller writes, between that call and the
     * first page table, and never after. Physical addresses end below the lowest of its bits. A
     * page of an adopted root that lacks it (memory that is shared with the host) keeps lacking it
     * under another protection; it gets it by MM_PROT_NONE and back, and by another memory type. */
    uint64_t encryption_mask;
};

/**
 * Detect features and read what is switched on now. Changes no register.
 *
 * @param arch  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, or an op is missing)
 * Owner:  `ops` and `ctx` outlive the instance.
 * Locks:  none; one CPU. Cost: about ten CPUIDs and four reads of registers.
 */
MM_MUST_CHECK
mm_status_t mm_x86_64_init(struct mm_x86_64 *arch, const struct mm_x86_64_cpu_ops *ops, void *ctx);

/**
 * Switch on, on this CPU, what it has of: NX, CR0.WP, global pages, the PAT table, SMEP, SMAP,
 * UMIP, PCIDs (with global pages only; bits 11:0 of CR3 are cleared for that). To be called on each
 * CPU, and before page tables are built (an entry carries NX only if EFER.NXE is set).
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; one CPU at a time, not preempted to another.
 * Cost:   a few reads and writes of registers; a few flushes of everything.
 */
MM_MUST_CHECK
mm_status_t mm_x86_64_enable(struct mm_x86_64 *arch);

/**
 * The page-table backend over this instance, which must outlive it.
 *
 * @return all zero if `arch` is null or not initialised
 * Locks:  none; any context. Cost: O(1).
 */
struct mm_paging_backend mm_x86_64_backend(struct mm_x86_64 *arch);

/**
 * Make sense of a page fault (SDM vol. 3A, 4.7: page-fault exceptions).
 *
 * @param error_code  what the CPU pushed
 * @param cr2         the linear address
 * @return the address, and MM_FAULT_... of all that it tells
 * Locks:  none; any context. Cost: O(1).
 */
struct mm_fault mm_x86_64_fault(uint64_t error_code, uint64_t cr2);

/**
 * Zero memory past the caches: for the `zero` op of struct mm_frame_ops. Worth while for blocks
 * that the caches would not hold until they are used. It uses general registers and MOVNTI alone
 * (SDM vol. 2B), and ends with SFENCE, so that whoever is told of the memory afterwards sees
 * zeroes. It needs no privilege.
 *
 * @param ctx  not used
 * @param at   aligned to 64 bytes
 * @param len  bytes, a multiple of 64; 0: nothing happens
 * Locks:  none; any context. Cost: O(len).
 */
void mm_x86_64_zero_past_cache(void *ctx, void *at, uint64_t len);

/** Accesses to user memory, without SMAP (they also run in a host process) and with it. */
extern const struct mm_user_ops mm_x86_64_user_ops;
extern const struct mm_user_ops mm_x86_64_user_smap_ops;

/**
 * The same accesses for where nothing may sleep: a page that is not there, or not writable yet, is
 * not fetched, it ends the access with MM_ERR_FAULT. A `struct mm_user` over one of these may be
 * used in any context: with a space's lock held, in an interrupt handler, with the scheduler locked.
 * Who gets MM_ERR_FAULT from it tries again with the others, where it may sleep. The kernel's
 * page-fault handler must ask mm_x86_64_user_fixup_nofault() before anything else.
 */
extern const struct mm_user_ops mm_x86_64_user_nofault_ops;
extern const struct mm_user_ops mm_x86_64_user_nofault_smap_ops;

/**
 * Where to go on after a kernel-mode fault in mm_x86_64_user_ops or mm_x86_64_user_smap_ops, when
 * the space could not resolve it.
 *
 * @param rip          instruction that faulted
 * @param[out] resume  where to continue; untouched if the answer is false
 * @return false if it is not one of theirs, and so a fault of the kernel itself, or one for
 *         mm_x86_64_user_fixup_nofault(); false if `resume` is null
 * Locks:  none; any context. Cost: O(log entries), of which there are about a hundred.
 */
bool mm_x86_64_user_fixup(uint64_t rip, uint64_t *resume);

/**
 * Where to go on after a kernel-mode fault in mm_x86_64_user_nofault_ops or
 * mm_x86_64_user_nofault_smap_ops: at once, without asking the space, without a lock, without
 * interrupts on. No instruction is found by this and by mm_x86_64_user_fixup().
 *
 * @param rip          instruction that faulted
 * @param[out] resume  where to continue; untouched if the answer is false
 * @return false if it is not one of theirs; false if `resume` is null
 * Locks:  none; any context. Cost: as mm_x86_64_user_fixup().
 */
bool mm_x86_64_user_fixup_nofault(uint64_t rip, uint64_t *resume);

MM_END_DECLS

#endif
