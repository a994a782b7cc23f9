// SPDX-License-Identifier: MIT
//
// Storage is in the image, so that it is mapped in the boot loader's root and in the kernel's alike.

#include "percpu.h"

#include <stddef.h>

#include <mm/arch/x86_64.h>

#define MSR_GS_BASE 0xc0000101 // Intel SDM vol. 3A, 3.4.4

#define STACK_SIZE 16384

struct stack {
    uint8_t guard[MM_PAGE_SIZE];
    uint8_t bytes[STACK_SIZE];
};

// Known to trap_entry.S.
_Static_assert(offsetof(struct percpu, recovery.rsp) == 0,
               "gs:0 is the stack pointer to return to");
_Static_assert(offsetof(struct percpu, recovery.report) == 8, "gs:8 is the report to fill");
_Static_assert(offsetof(struct percpu, self) == 16, "gs:16 is the structure itself");

struct percpu percpus[PERCPU_MAX];

// The first processor has the stack of boot.S.
static _Alignas(MM_PAGE_SIZE) struct stack stacks[PERCPU_MAX - 1];

extern const char boot_stack_guard[];
extern const char boot_stack_top[];

void percpu_enter(uint32_t number)
{
    struct percpu *self = &percpus[number];

    self->self = self;
    self->number = number;
    gdt_load(&self->gdt); // loading a selector clears the base of GS: that comes after
    mm_x86_64_native_ops.write_msr(NULL, MSR_GS_BASE, (uintptr_t)self);
    trap_load();
}

struct percpu *percpu_self(void)
{
    struct percpu *self;
    __asm__ volatile("movq %%gs:16, %0" : "=r"(self));
    return self;
}

mm_vaddr_t percpu_stack_guard(uint32_t number)
{
    return number == 0 ? mm_vaddr_of(boot_stack_guard) : mm_vaddr_of(stacks[number - 1].guard);
}

mm_vaddr_t percpu_stack_top(uint32_t number)
{
    return number == 0 ? mm_vaddr_of(boot_stack_top)
                       : mm_vaddr_of(stacks[number - 1].bytes + STACK_SIZE);
}
