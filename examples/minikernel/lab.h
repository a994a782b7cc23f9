// SPDX-License-Identifier: MIT
/**
 * A laboratory for page-table entries: a root, descriptors and an interrupt table of their own, in
 * which any entry may be tried without the kernel's memory depending on it. Control registers may
 * be anything there: no entry that the kernel needs has a bit that they forbid.
 *
 *     0x0000008000000000  code    the accesses (access.h), open to user mode
 *     0x0000010000000000  window  the page under test, through tables that the checks write;
 *     0x0001000000000000          with 5 levels there
 *     upper half          as boot.S mapped it: image and direct map, all of it supervisor's
 */
#ifndef MINIKERNEL_LAB_H
#define MINIKERNEL_LAB_H

#include "access.h"
#include "memory.h"
#include "truth.h"

#define LAB_NR_FRAMES 12u

struct lab {
    struct memory *memory;
    unsigned levels;
    mm_pfn_t frames[LAB_NR_FRAMES];
    struct t_truth_site site;     /**< tables and page of the window */
    uint64_t window;              /**< linear address of the page under test */
    volatile uint8_t *page;       /**< and the kernel's own view of it */
    uint64_t *slot[T_MMU_LEVELS]; /**< the entry of each level that leads to it */
    struct t_mmu mmu;             /**< the simulated MMU on the same tables */
};

/** Build it with 4 or 5 levels, which the CPU must have. Nothing is switched yet. */
void lab_init(struct lab *lab, struct memory *m, unsigned levels);

/** Go there and come back: registers, root, descriptors and interrupt table are as before. */
void lab_enter(struct lab *lab);
void lab_leave(struct lab *lab);

/** The CPU's registers, and those of the simulated MMU: T_TRUTH_.... Drops all translations. */
void lab_set_regs(struct lab *lab, unsigned regs);

/** One access to the window; T_MMU_.... The window's translations are dropped first. */
void lab_access(struct lab *lab, unsigned access, struct t_access_result *out);

/** Give the frames back. */
void lab_destroy(struct lab *lab);

#endif
