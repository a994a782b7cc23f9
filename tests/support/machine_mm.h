// SPDX-License-Identifier: MIT
/**
 * A small machine with the library's lower rooms brought up on it: simulated RAM as the direct map,
 * simulated CPUs, frames, the kernel's root, a pool for objects. For tests of the rooms above.
 *
 *     physical   0 ... 1 MiB   nothing
 *                1 MiB ...     RAM, all usable, full of junk
 *     virtual    lower half    user
 *                base + x      direct map (the host's addresses: no table is needed for it)
 *                T_ARENA       a kernel range for the kernel's own space
 *
 * Frames can be made scarce, and pages of the pool can be made to fail; both are undone. Objects of
 * the pool lie in a buffer of their own, so the count of free frames tells of frames and tables
 * alone.
 */
#ifndef T_MACHINE_MM_H
#define T_MACHINE_MM_H

#include "inject.h"
#include "sim_cpu_mm.h"
#include "sim_ram.h"

#include <mm/bootmap.h>
#include <mm/cache.h>
#include <mm/frame.h>
#include <mm/paging.h>
#include <mm/space.h>
#include <mm/tlb.h>

MM_BEGIN_DECLS

#define T_ARENA     UINT64_C(0xffffc00000000000)
#define T_ARENA_LEN (UINT64_C(1) << 30)
#define T_USER_LEN  (UINT64_C(1) << 47)

struct t_machine {
    struct t_ram *ram;
    struct t_cpus cpus;
    struct t_cpu *cpu; /**< the first */
    struct mm_boot_entry entries[16];
    struct mm_bootmap map;
    struct mm_physmap physmap;
    struct mm_platform platform;
    struct mm_frames frames;
    struct mm_x86_64 arch;
    struct mm_pagetable kernel;
    void *pool_buffer;
    struct mm_page_range pool_range;
    struct t_inject pool_inject; /**< asked whenever the pool wants pages */
    struct mm_pool pool;
    mm_pfn_t *held; /**< frames taken to make them scarce */
    uint64_t nr_held;
    struct mm_tlb tlb; /**< of all CPUs, if the machine has one */
    struct mm_tlb_cpu tlb_cpu[T_CPUS_MAX];
    uint64_t nr_off; /**< interrupt_save without interrupt_restore */
};

struct t_machine_config {
    uint64_t ram_len;  /**< bytes, 4 MiB at least; 0: 8 MiB */
    uint64_t pool_len; /**< bytes; 0: 4 MiB */
    uint64_t user_len; /**< of the user range from 0; 0: the lower half */
    unsigned nr_cpus;  /**< 0: one; with more, what invalidates is broadcast */
    bool no_nx;        /**< the CPU cannot forbid execution */
    bool la57;         /**< five levels: then user_len may be 2^56 */
    bool no_pat;       /**< the CPU has no table of memory types */
    bool no_counts;    /**< frames without reference counts */
    bool no_user;      /**< no user range at all */
    bool owners;       /**< frames know whose they are */
    bool tlb;          /**< flushes are the library's own: each CPU is online and interrupted */
    bool threads;      /**< used by several at once: the simulated CPUs are not told of frames */
};

/** NULL config: the defaults. Ends the test if something does not come up. */
void t_machine_start(struct t_machine *m, const struct t_machine_config *config);

/** Take everything down, and fail the test if a frame, a table or a page of the pool is out. */
void t_machine_stop(struct t_machine *m);

/** Frames that are free. */
uint64_t t_machine_free_frames(const struct t_machine *m);

/** Take frames until `nr` are left; UINT64_MAX: give them all back. */
void t_machine_leave_frames(struct t_machine *m, uint64_t nr);

/**
 * The ledger of frames: tables, pages of these spaces (NULLs are passed over) and of the kernel's,
 * and `nr_others` frames that the test holds, each with one reference.
 *
 * @return NULL, or what is wrong
 */
const char *t_machine_audit(const struct t_machine *m, struct mm_space *const *spaces,
                            unsigned nr_spaces, struct mm_space *kernel_space, uint64_t nr_others);

/** The host's pointer to physical memory. */
void *t_machine_ptr(const struct t_machine *m, uint64_t paddr);

MM_END_DECLS

#endif
