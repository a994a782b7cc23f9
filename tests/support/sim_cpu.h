// SPDX-License-Identifier: MIT
/**
 * A simulated x86-64 CPU as an MMU sees one: control registers, a TLB that keeps what it has until
 * it is told to drop it, and loads and stores that walk page tables in simulated RAM.
 *
 * Written from Intel's manual (SDM vol. 3A, chapter 4), with nothing from the library but numbers
 * that the manual gives. A translation is kept as it was found: widened or narrowed tables are not
 * seen before the entry is dropped by INVLPG, a load of CR3 (global entries stay), a change of
 * CR4.PGE, or a fault at that page. One CPU; four levels.
 */
#ifndef T_SIM_CPU_H
#define T_SIM_CPU_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define T_CPU_TLB 1024

struct t_cpu_translation {
    uint64_t page;  /**< linear address of the 4 KiB page, plus 1; 0: unused */
    uint64_t paddr; /**< of that page */
    bool write;
    bool user;
    bool exec;
    bool global;
    bool dirty;
};

struct t_cpu {
    uint64_t ram_base; /**< host address of physical address 0 */
    uint64_t cr0, cr3, cr4;
    uint64_t efer, pat;
    bool has_nx;
    bool has_1g;
    uint64_t nr_invlpg;
    uint64_t nr_cr3_loads;
    struct t_cpu_translation tlb[T_CPU_TLB];
};

/** What an access is. */
#define T_CPU_WRITE 1u
#define T_CPU_EXEC  2u
#define T_CPU_USER  4u
#define T_CPU_AC    8u /**< EFLAGS.AC is set: SMAP is suspended */

/** A CPU after the boot loader: paging on, no extension enabled. */
void t_cpu_init(struct t_cpu *cpu, uint64_t ram_base);

/**
 * Translate for an access.
 *
 * @return true: `*paddr` is the byte; false: a page fault with `*error` as its code, and the TLB
 * has forgotten the page
 */
bool t_cpu_access(struct t_cpu *cpu, uint64_t vaddr, unsigned access, uint64_t *paddr,
                  uint64_t *error);

/** Drop everything, global entries too. */
void t_cpu_flush(struct t_cpu *cpu);

#ifdef __cplusplus
}
#endif

#endif
