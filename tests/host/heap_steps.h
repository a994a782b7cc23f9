// SPDX-License-Identifier: MIT
/**
 * Single steps: while the trap flag of the CPU is set, SIGTRAP comes after every instruction (Intel
 * SDM vol. 3B, 18.3.1.4). The kernel clears the flag for the handler and sets it again after it.
 * Only the switch lives here; what the handler does is for each test to say.
 */
#ifndef HEAP_STEPS_H
#define HEAP_STEPS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__SANITIZE_THREAD__)
#define SIGNALS_ARE_LATE 1 /* the thread sanitizer hands signals over when it likes */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIGNALS_ARE_LATE 1
#endif
#endif
#ifndef SIGNALS_ARE_LATE
#define SIGNALS_ARE_LATE 0
#endif

/** The handler looks: is it the library that was interrupted, or the test around it? */
static volatile bool stepping;

#define TRAP_FLAG UINT64_C(0x100)

/** `flag`: TRAP_FLAG, or 0. */
static inline void load_trap_flag(uint64_t flag)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\t"
                     "orq %0, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp" ::"r"(flag)
                     : "memory", "cc");
}

static inline void set_trap_flag(bool on)
{
    if (on) {
        stepping = true;
        load_trap_flag(TRAP_FLAG);
    } else {
        load_trap_flag(0);
        stepping = false;
    }
}

#define STEPPED(statement)                                                                         \
    do {                                                                                           \
        set_trap_flag(true);                                                                       \
        statement;                                                                                 \
        set_trap_flag(false);                                                                      \
    } while (0)

#endif
