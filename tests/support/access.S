// SPDX-License-Identifier: MIT
//
// An access and its way back. Between t_access() and its return one register is not touched: r15 is
// the stack to return with. So no memory is needed, and nothing is left behind by an access that has
// been stopped.

#include "access.h"

    .section .text
    .code64

    .globl t_access
    .type t_access, @function
t_access:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rcx
    movq %rsp, %r15
    movl $T_ACCESS_STORED, %eax
    testl $T_ACCESS_USER, %edx
    jnz 1f
    pushq $2 // RFLAGS: the bit that is always set (SDM vol. 1, 3.4.3)
    andl $T_ACCESS_AC, %edx
    shll $15, %edx // to bit 18
    orl %edx, (%rsp)
    popfq
    jmp *%rdi
1:
    pushq $(T_ACCESS_USER_DATA | 3)
    pushq $0 // no stack: nothing is pushed there
    pushq $2
    pushq $(T_ACCESS_USER_CODE | 3)
    pushq %rdi
    iretq
    .size t_access, . - t_access

    .balign 64 // in one page
    .globl t_access_load
t_access_load:
    movb (%rsi), %al
    int3
    .globl t_access_store
t_access_store:
    movb %al, (%rsi)
    int3
    .globl t_access_fetch
t_access_fetch:
    jmp *%rsi
    .globl t_access_code_end
t_access_code_end:

// Vectors 8, 10 to 14, 17, 21, 29 and 30 push an error code (SDM vol. 3A, 6.15; AMD APM vol. 2, 8.2).
#define WITH_ERROR_CODE 0x60227d00

    .balign T_ACCESS_VECTOR_SIZE
    .globl t_access_vectors
t_access_vectors:
    .set vector, 0
    .rept 32
    .balign T_ACCESS_VECTOR_SIZE
    .if ((WITH_ERROR_CODE >> vector) & 1) == 0
    pushq $0
    .endif
    pushq $vector
    jmp caught
    .set vector, vector + 1
    .endr

caught:
    movq %rax, %rbx
    popq %rax // vector
    popq %rcx // error code
    popq %rdx // rip
    movq %cr2, %rsi
    movq %r15, %rsp
    popq %rdi // the result
    movq %rax, 0(%rdi)
    movq %rcx, 8(%rdi)
    movq %rsi, 16(%rdi)
    movq %rdx, 24(%rdi)
    movq %rbx, 32(%rdi)
    pushq $2 // without AC
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .section .note.GNU-stack, "", @progbits
