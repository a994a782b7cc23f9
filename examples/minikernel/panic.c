// SPDX-License-Identifier: MIT
//
// Panic: says what happened and where, then ends the run as a failure.

#include "panic.h"

#include <stdarg.h>
#include <stdbool.h>

#include <mm/arch/x86_64.h>

#include "log.h"
#include "memory.h"
#include "percpu.h"
#include "power.h"
#include "trap.h"

// Intel SDM vol. 3A, table 6-1; AMD APM vol. 2, table 8-1 for 28 to 30.
static const char *const names[32] = {
    "divide error",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection",
    "page fault",
    "reserved",
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization",
    "control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security",
    "reserved",
};

_Noreturn void give_up(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_begin(); // for good: what others have to say would hide the reason
    log_print("minikernel: stopped: ");
    log_vprint(format, args);
    log_print("\n");
    va_end(args);
    power_exit(false);
}

_Noreturn void panic(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_begin();
    log_print("panic: ");
    log_vprint(format, args);
    log_print("\n  on processor %u\n", percpu_self()->number);
    va_end(args);
    power_exit(false);
}

static void print_page_fault(uint64_t error, uint64_t address)
{
    log_print("  %s %s at 0x%lx: %s%s\n", error & TRAP_PF_USER ? "user" : "kernel",
              error & TRAP_PF_FETCH   ? "fetch"
              : error & TRAP_PF_WRITE ? "write"
                                      : "read",
              address, error & TRAP_PF_PRESENT ? "permission denied" : "not present",
              error & TRAP_PF_RESERVED ? ", reserved bit set in an entry" : "");
}

_Noreturn void panic_trap(const struct trap_frame *f, uint64_t address)
{
    log_begin();
    log_print("panic: exception %lu (%s), error code 0x%lx\n", f->vector, names[f->vector % 32],
              f->error);
    log_print("  on processor %u\n", percpu_self()->number);
    if (f->vector == TRAP_PAGE_FAULT) {
        print_page_fault(f->error, address);
    }
    if ((f->vector == TRAP_PAGE_FAULT || f->vector == TRAP_DOUBLE_FAULT) &&
        memory_is_guard(mm_vaddr(address))) {
        log_print("  guard page at 0x%lx: a stack ran over\n", address & ~MM_PAGE_MASK);
    }
    log_print("  rip %016lx cs  %04lx rflags %08lx\n", f->rip, f->cs, f->rflags);
    log_print("  rsp %016lx ss  %04lx\n", f->rsp, f->ss);
    log_print("  rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
    log_print("  rsi %016lx rdi %016lx rbp %016lx r8  %016lx\n", f->rsi, f->rdi, f->rbp, f->r8);
    log_print("  r9  %016lx r10 %016lx r11 %016lx r12 %016lx\n", f->r9, f->r10, f->r11, f->r12);
    log_print("  r13 %016lx r14 %016lx r15 %016lx\n", f->r13, f->r14, f->r15);
    log_print("  cr2 %016lx cr0 %016lx cr3 %016lx cr4 %016lx\n", address,
              mm_x86_64_native_ops.read_cr(NULL, 0), mm_x86_64_native_ops.read_cr(NULL, 3),
              mm_x86_64_native_ops.read_cr(NULL, 4));
    power_exit(false);
}
