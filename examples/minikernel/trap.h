// SPDX-License-Identifier: MIT
/**
 * Exceptions: how the kernel receives them, and how a check provokes one and goes on. Interrupts: from
 * other processors only. Ring 3: how a program runs there, and comes back.
 */
#ifndef MINIKERNEL_TRAP_H
#define MINIKERNEL_TRAP_H

#include <stdbool.h>
#include <stdint.h>

#define TRAP_INVALID_OPCODE     6
#define TRAP_DOUBLE_FAULT       8
#define TRAP_GENERAL_PROTECTION 13
#define TRAP_PAGE_FAULT         14

/** Vectors of interrupts. The low four bits of the spurious one are ones (SDM vol. 3A, 11.9). */
#define TRAP_SHOOTDOWN 0xe0
#define TRAP_CALL      0xe1 // of the checks
#define TRAP_WAKE      0xe2 // of who sleeps: smp.c
#define TRAP_SPURIOUS  0xff

// Page-fault error code, Intel SDM vol. 3A, 4.7.
#define TRAP_PF_PRESENT  (1u << 0)
#define TRAP_PF_WRITE    (1u << 1)
#define TRAP_PF_USER     (1u << 2)
#define TRAP_PF_RESERVED (1u << 3)
#define TRAP_PF_FETCH    (1u << 4)

/** Registers as trap_entry.S pushes them, lowest address first. */
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
    uint64_t rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss; // from here on the CPU
};

/** What a caught exception was. */
struct trap_report {
    uint64_t vector;
    uint64_t error;
    uint64_t rip;
    uint64_t address; // CR2; means something for page faults
};

/** Where the innermost trap_try() of a processor comes back, layout known to trap_entry.S. */
struct trap_recovery {
    uint64_t rsp; /**< 0: nobody waits */
    struct trap_report *report;
};

/**
 * Call `function` and come back even if it faults.
 *
 * A fault inside abandons the call where it stands: the function must hold nothing that needs
 * release. Calls may nest; the innermost catches.
 *
 * @param[out] report  what happened; untouched when nothing did
 * @return true if an exception ended the call.
 */
bool trap_try(void (*function)(void *), void *argument, struct trap_report *report);

/** A program in ring 3. */
struct trap_user {
    struct trap_frame regs; /**< to begin with; in the end as the exception found them */
    uint64_t address;       /**< CR2 in the end; means something for page faults */
};

/**
 * Run in ring 3, with interrupts on, until an exception that the page-fault handler does not resolve.
 * There are no system calls: a program ends itself with an undefined instruction.
 *
 * What regs says of segments and flags does not matter. Interrupts are as before in the end.
 */
void trap_run_user(struct trap_user *user);

/** Whether an exception or interrupt came from ring 3. */
static inline bool trap_from_user(const struct trap_frame *frame)
{
    return (frame->cs & 3) != 0;
}

/** Fill the table; mask the legacy interrupt controllers. Interrupts are off but where a check wants them. */
void trap_init(void);

/** Make the table that of this processor. */
void trap_load(void);

/** Asked first on every page fault; returning true resumes at frame->rip. */
typedef bool (*trap_page_fault_fn)(struct trap_frame *frame, uint64_t address);

void trap_set_page_fault(trap_page_fault_fn handler);

/** Called for each interrupt of this vector, with interrupts off. */
void trap_set_interrupt(uint8_t vector, void (*handler)(void));

#endif
