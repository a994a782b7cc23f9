// SPDX-License-Identifier: MIT
//
// Between 4 and 5 levels of tables. CR4.LA57 may not change while the CPU is in long mode (Intel SDM
// vol. 3A, 4.1.2, 10.8.5), so paging goes off and on again, in 32-bit code whose linear address is
// its physical one. The descriptors are the laboratory's: lab.c.

#include "access.h"

#define KERNEL_BASE 0xffffffff80000000
#define PHYS(symbol) ((symbol) - KERNEL_BASE)
#define CODE_32 0x38

    .section .text
    .code64

// void lab_switch_levels(uint64_t cr4, uint64_t cr3): EFER stays. Both roots map this page at its
// physical address, and the image. Upper halves of registers are lost on the way (SDM vol. 1,
// 3.4.1.1).
    .globl lab_switch_levels
lab_switch_levels:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, stack_pointer(%rip)
    pushq $CODE_32
    movl $PHYS(without_paging), %eax
    pushq %rax
    lretq

    .globl lab_switch_low
lab_switch_low: // what must be mapped at its physical address
    .code32
without_paging:
    movl %cr0, %eax
    andl $~(1 << 31), %eax
    movl %eax, %cr0
    movl %edi, %cr4
    movl %esi, %cr3
    orl $(1 << 31), %eax
    movl %eax, %cr0
    ljmp $T_ACCESS_KERNEL_CODE, $PHYS(long_mode)

    .code64
long_mode:
    movq $high, %rax
    jmp *%rax
    .globl lab_switch_low_end
lab_switch_low_end:
high:
    movq stack_pointer(%rip), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .section .bss
    .balign 8
stack_pointer:
    .skip 8

    .section .note.GNU-stack, "", @progbits
