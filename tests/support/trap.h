// SPDX-License-Identifier: MIT
/**
 * Catching what does not return: a panic, an illegal instruction, an access that faults.
 *
 *     struct t_trap_info info;
 *
 *     T_EXPECT_PANIC(mm_frame_free(frames, pfn, 0), &info);      // fails the test if none comes
 *     assert_string_equal(info.room, "frame");
 *     T_EXPECT_SEGV(*(volatile char *)ptr = 1, &info);
 *     assert_int_equal(info.address, (uintptr_t)ptr);
 *     T_CATCH(T_TRAP_ANY, stmt, &info);                          // whatever comes, or T_TRAP_NONE
 *
 * The statement is left by siglongjmp(): locals that it changes must be volatile, and what it was
 * working on stays as it stood at the moment of the trap. Do not `return` or `break` out of the
 * statement, and do not nest two catches in one thread.
 *
 * One handler for SIGSEGV, SIGBUS and SIGILL serves all of this and the simulated RAM. It asks, in
 * this order: the fixup (user copy resumes after a fault), the catch of this thread; then it
 * explains the address and hands the signal to the handler that was there before (cmocka's fails
 * the test). cmocka sets its own handlers before every test, so this one is set again by every
 * catch and by every t_ram call that makes or changes a RAM; t_trap_arm() does it by hand.
 */
#ifndef T_TRAP_H
#define T_TRAP_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

/* gcc warns of every local that lives across sigsetjmp(), also of those that the statement leaves
 * alone and that therefore keep their values (C17 7.13.2.1). The rule above is what counts. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

enum t_trap_kind {
    T_TRAP_NONE = 0,
    T_TRAP_PANIC = 1,
    T_TRAP_ILL = 2,
    T_TRAP_SEGV = 4, /**< SIGSEGV or SIGBUS */
    T_TRAP_ANY = 7,
};

struct t_trap_info {
    enum t_trap_kind kind;
    /** Fault: the address accessed (0 where the CPU tells none: non-canonical). Illegal
     * instruction: where it stands. Panic: what the hook was told. */
    uint64_t address;
    bool write;           /**< fault: it was a store */
    uint64_t error;       /**< fault: the hardware's error code, 0 where the host does not tell */
    uint64_t instruction; /**< fault: address of the instruction */
    char room[16];        /**< the rest is what a panic says; long text is cut */
    char what[96];
    char recorded[96];
    uint64_t recorded_value;
    char claimed[96];
    uint64_t claimed_value;
    uint64_t allocated_by; /**< return addresses, 0 where none is known */
    uint64_t freed_by;
    uint64_t caller;
};

/** What a catch keeps; private to the macros below. */
struct t_trap {
    sigjmp_buf env;
    unsigned kinds;
    struct t_trap_info info;
};

void t_trap_begin(struct t_trap *trap, unsigned kinds);
void t_trap_end(struct t_trap *trap, struct t_trap_info *info);

/** Make this room's signal handler the current one, and keep the one before it for what is not
 * ours. */
void t_trap_arm(void);

/**
 * The panic hook: caught if this thread catches panics, else printed and the test fails. Never
 * returns. `info` needs all its panic fields, no other.
 */
_Noreturn void t_trap_panic(const struct t_trap_info *info);

/**
 * Ask `fixup` first about every SIGSEGV and SIGBUS; true means that it changed the machine context
 * (a ucontext_t) and that execution goes on there. NULL: ask nobody. One for the process.
 */
typedef bool t_trap_fixup_fn(void *ctx, void *ucontext, uint64_t address, uint64_t error);
void t_trap_set_fixup(t_trap_fixup_fn *fixup, void *ctx);

/** Write to `line` what an address means; false: nothing is known. Set by the simulated RAM. */
typedef bool t_trap_explain_fn(uint64_t address, bool write, char *line, unsigned long size);
void t_trap_set_explainer(t_trap_explain_fn *explain);

/** Run `stmt`; `*out` says which of `kinds` came out of it, T_TRAP_NONE if it ended by itself. */
#define T_CATCH(kinds_, stmt, out)                                                                 \
    do {                                                                                           \
        struct t_trap t_trap_;                                                                     \
        t_trap_begin(&t_trap_, (kinds_));                                                          \
        if (sigsetjmp(t_trap_.env, 0) == 0) {                                                      \
            stmt;                                                                                  \
        }                                                                                          \
        t_trap_end(&t_trap_, (out));                                                               \
    } while (0)

/** As T_CATCH, and the test fails (cmocka) when it does not come. */
#define T_EXPECT_(kind_, stmt, out)                                                                \
    do {                                                                                           \
        T_CATCH((kind_), stmt, (out));                                                             \
        if ((out)->kind != (kind_)) {                                                              \
            fail_msg("%s expected, but this ended by itself: %s", #kind_, #stmt);                  \
        }                                                                                          \
    } while (0)

#define T_EXPECT_PANIC(stmt, out)  T_EXPECT_(T_TRAP_PANIC, stmt, out)
#define T_EXPECT_SIGILL(stmt, out) T_EXPECT_(T_TRAP_ILL, stmt, out)
#define T_EXPECT_SEGV(stmt, out)   T_EXPECT_(T_TRAP_SEGV, stmt, out)

#endif
