// SPDX-License-Identifier: MIT
/**
 * One access as a CPU makes it: in user or supervisor mode, with its exception caught. For what runs
 * in ring 0 with descriptors and an interrupt table of its own, which this file's vectors are for.
 * Position-independent and without data, so that it can be mapped anywhere and at two places.
 *
 *     t_access() --> t_access_load, _store or _fetch --> exception --> t_access_vectors --> return
 *
 * All gates must use an interrupt stack (IST), and that of T_ACCESS_END must be open to user mode:
 * it is the breakpoint that each access ends in if nothing has stopped it before.
 */
#ifndef T_ACCESS_H
#define T_ACCESS_H

#define T_ACCESS_KERNEL_CODE 0x08
#define T_ACCESS_KERNEL_DATA 0x10
#define T_ACCESS_USER_DATA   0x18
#define T_ACCESS_USER_CODE   0x20
#define T_ACCESS_TSS         0x28

#define T_ACCESS_END    3    /* vector */
#define T_ACCESS_OPCODE 0xcc /* of the breakpoint: what a page must hold to be fetched from */
#define T_ACCESS_STORED 0x5a /* what a store stores */

/* As T_MMU_USER and T_MMU_AC of sim_mmu.h. */
#define T_ACCESS_USER 4
#define T_ACCESS_AC   8

/** Bytes from one vector's entry to the next. */
#define T_ACCESS_VECTOR_SIZE 16

#ifndef __ASSEMBLER__

#include <stdint.h>

/** What ended an access. */
struct t_access_result {
    uint64_t vector;
    uint64_t error;
    uint64_t address; /**< CR2 */
    uint64_t rip;
    uint64_t value; /**< rax: what a load has loaded, in its low byte */
};

/**
 * Run code at an address until an exception ends it.
 *
 * @param code    where one of the accesses below is mapped for the mode in question
 * @param at      address to load, store or fetch
 * @param access  T_ACCESS_USER or T_ACCESS_AC or neither; other bits are ignored
 */
void t_access(uint64_t code, uint64_t at, uint64_t access, struct t_access_result *out);

extern const char t_access_load[];
extern const char t_access_store[];
extern const char t_access_fetch[];
extern const char t_access_code_end[]; /**< of these three; they share a page */

/** Entries of the 32 vectors. */
extern const char t_access_vectors[];

#endif

#endif
