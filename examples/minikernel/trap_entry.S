// SPDX-License-Identifier: MIT
//
// Exception entry and exit, and the call that can be abandoned (trap_try). C takes over in
// trap_handle() as soon as the registers are saved.

    .section .text
    .code64

// One stub of 16 bytes a vector, so that C finds stub n at trap_stubs + 16 n. Vectors 8, 10 to 14,
// 17, 21, 29 and 30 push an error code (Intel SDM vol. 3A, 6.15; AMD APM vol. 2, 8.2); the others
// get a zero, and all frames look alike. Vectors from 32 on are interrupts.
#define WITH_ERROR_CODE 0x60227d00

    .balign 16
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if vector >= 32
    pushq $0
    .elseif ((WITH_ERROR_CODE >> vector) & 1) == 0
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

    .balign 16
trap_common:
    testb $3, 24(%rsp) // the code segment: from ring 3 the base of GS is the user's
    jz 1f
    swapgs
1:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    pushfq // user copy may have been interrupted with user memory open (EFLAGS.AC, SMAP): close it;
    andl $~(1 << 18), (%rsp) // iretq opens it again
    popfq
    movq %rsp, %rdi // aligned: the CPU aligned the stack, 22 words lie on it
    call trap_handle
trap_return:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp // vector, error code
    testb $3, 8(%rsp)
    jz 1f
    swapgs // interrupts are off on the way back
1:
    iretq

// void trap_enter_user(const struct trap_frame *regs, uint32_t *stack_out)
//
// What a C function keeps lies on the stack meanwhile. The stack pointer to come back with is stored
// where the CPU takes it from when something comes from ring 3: in the task state segment.
    .globl trap_enter_user
trap_enter_user:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rsi)
    movq %rdi, %rsp
    jmp trap_return

// trap_handle() makes the exception that ends the program return here.
    .globl trap_user_back
trap_user_back:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

// bool trap_try(void (*function)(void *), void *argument, struct trap_report *report)
//
// At the base of GS is the processor's record of the innermost call: the stack pointer to return with
// and the report to fill (struct percpu). The record of the call outside lies on the stack meanwhile.
    .globl trap_try
trap_try:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %gs:0
    pushq %gs:8
    subq $8, %rsp
    movq %rsp, %gs:0
    movq %rdx, %gs:8
    movq %rdi, %rax
    movq %rsi, %rdi
    call *%rax
    xorl %eax, %eax
    jmp 1f

// trap_handle() makes the exception return here, with the stack pointer of the record.
    .globl trap_resume
trap_resume:
    movl $1, %eax
1:
    addq $8, %rsp
    popq %gs:8
    popq %gs:0
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .section .note.GNU-stack, "", @progbits
