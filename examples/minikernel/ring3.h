// SPDX-License-Identifier: MIT
/**
 * Programs that run in ring 3, without system calls: they load, store and end.
 *
 * Each is entered with up to six arguments and ends by an undefined instruction, with its results in
 * registers: rax, and in rbx what went wrong, 0 if all is well. A page fault that the space does not
 * resolve ends it as well.
 */
#ifndef MINIKERNEL_RING3_H
#define MINIKERNEL_RING3_H

#include "memory.h"
#include "trap.h"

/** Where the programs are in each space: one page that can be read and executed. */
#define RING3_CODE UINT64_C(0x0000600000000000)

/**
 * Words in [rdi, rsi), r9 bytes apart, rcx times: each must hold what the seed r8 gives (0: zero), and
 * gets what the seed rdx gives, which grows by one each time (0: nothing is stored). rax: a sum of
 * what was found; rbx: words that were wrong, r10 the last of them.
 */
extern const char ring3_walk[];
/** Adds 1 to the word at rdi, which others do too, and to one's own at rsi, rdx times. */
extern const char ring3_add[];
/** One word a page in [rdi, rsi), rdx times: each must hold r8, and gets one more. */
extern const char ring3_tick[];
/** Adds 1 to the first word of rdx pages in [rdi, rsi), from rcx on and round. */
extern const char ring3_rush[];
/**
 * Accesses the pages in [rdi, rsi) in turn, r9 times: stores r8, or loads if that is 0. rax: accesses
 * that succeeded, also stored at rcx after each; rbx: those begun while the word at rdx was 1; after
 * many of these it ends.
 */
extern const char ring3_touch[];
extern const char ring3_load[];  /**< of rdi */
extern const char ring3_store[]; /**< of rsi at rdi */
extern const char ring3_jump[];  /**< to rdi, with rax from rsi */
extern const char ring3_cli[];
extern const char ring3_load_root[];
extern const char ring3_sgdt[]; /**< to rdi */

/** What the walk stores at an address. */
uint64_t ring3_value(uint64_t seed, uint64_t at);

/** Put the programs into a space, which is active here. */
void ring3_map(struct memory *m, struct mm_space *space);

/** Run one in the space that is active here: rdi, rsi, rdx, rcx, r8, r9, as many as it takes. */
#define RING3_RUN(program, user, ...) ring3_run((program), (user), (const uint64_t[6]){__VA_ARGS__})

void ring3_run(const char *program, struct trap_user *user, const uint64_t *args);

/** Whether the program came to its end. */
bool ring3_ended(const struct trap_user *user);

/** Whether it came to its end and found nothing wrong. */
bool ring3_good(const struct trap_user *user);

/** Whether a page fault ended it here, at this address, with this answer of the space. */
bool ring3_refused(const struct memory *m, const struct trap_user *user, uint64_t at,
                   enum mm_fault_result result);

#endif
