// SPDX-License-Identifier: MIT
//
// Programs of ring 3: one page that ring3_map() copies to the user. Position-independent, without
// stack and data; for the kernel they are constants. Each ends in UD2, with its results in registers;
// arguments as C has them. ring3.h says what each does.

    .section .rodata.ring3, "a"
    .code64

    .balign 16
    .globl ring3_programs
ring3_programs:

// rdi first, rsi end, rdx new seed, rcx rounds, r8 old seed, r9 step
    .globl ring3_walk
ring3_walk:
    xorl %eax, %eax // sum
    xorl %ebx, %ebx // words that are wrong
    xorl %r10d, %r10d // and the last of them
    movabsq $0x9e3779b97f4a7c15, %r11
1:
    movq %rdi, %r12
2:
    movq (%r12), %r13
    xorl %r14d, %r14d
    testq %r8, %r8
    jz 3f
    leaq (%r8, %r12), %r14
    imulq %r11, %r14
3:
    cmpq %r14, %r13
    je 4f
    incq %rbx
    movq %r12, %r10
4:
    rolq $1, %rax
    addq %r13, %rax
    testq %rdx, %rdx
    jz 5f
    leaq (%rdx, %r12), %r15
    imulq %r11, %r15
    movq %r15, (%r12)
5:
    addq %r9, %r12
    cmpq %rsi, %r12
    jb 2b
    testq %rdx, %rdx
    jz 6f
    movq %rdx, %r8
    incq %rdx
6:
    decq %rcx
    jnz 1b
    ud2

// rdi word of all, rsi own word, rdx turns
    .globl ring3_add
ring3_add:
    xorl %ebx, %ebx // numbers out of order
    movq $-1, %r8
1:
    movl $1, %eax
    lock xaddq %rax, (%rdi)
    cmpq %r8, %rax
    jg 2f
    incq %rbx
2:
    movq %rax, %r8
    incq (%rsi)
    decq %rdx
    jnz 1b
    ud2

// rdi first of one's own words, rsi end, rdx rounds, r8 what all of them hold
    .globl ring3_tick
ring3_tick:
    xorl %ebx, %ebx // words that are wrong
1:
    leaq 1(%r8), %r9
    movq %rdi, %r12
2:
    cmpq %r8, (%r12)
    je 3f
    incq %rbx
3:
    movq %r9, (%r12)
    addq $4096, %r12
    cmpq %rsi, %r12
    jb 2b
    movq %r9, %r8
    decq %rdx
    jnz 1b
    ud2

// rdi first page, rsi end, rdx pages to go, rcx page to begin with
    .globl ring3_rush
ring3_rush:
    xorl %ebx, %ebx
1:
    lock incq (%rcx)
    addq $4096, %rcx
    cmpq %rsi, %rcx
    cmoveq %rdi, %rcx
    decq %rdx
    jnz 1b
    ud2

// rdi first page, rsi end, rdx control, rcx own count, r8 value to store or 0, r9 turns
    .globl ring3_touch
ring3_touch:
    xorl %eax, %eax // accesses that succeeded
    xorl %ebx, %ebx // those that began when the word at rdx was 1
1:
    movq %rdi, %r12
2:
    movq (%rdx), %r10
    testq %r8, %r8
    jz 3f
    movq %r8, (%r12)
    jmp 4f
3:
    movq (%r12), %r11
4:
    incq %rax
    movq %rax, (%rcx)
    addq %r10, %rbx
    cmpq $100, %rbx // that will do
    ja 5f
    decq %r9
    jz 5f
    addq $4096, %r12
    cmpq %rsi, %r12
    jb 2b
    jmp 1b
5:
    ud2

    .globl ring3_load
ring3_load:
    movq (%rdi), %rax
    ud2
    .globl ring3_store
ring3_store:
    movq %rsi, (%rdi)
    ud2
    .globl ring3_jump
ring3_jump:
    movq %rsi, %rax
    jmp *%rdi

// What ring 3 must not do.
    .globl ring3_cli
ring3_cli:
    cli
    ud2
    .globl ring3_load_root
ring3_load_root:
    movq %rdi, %cr3
    ud2
    .globl ring3_sgdt
ring3_sgdt: // rdi: ten bytes
    sgdt (%rdi)
    ud2

    .globl ring3_programs_end
ring3_programs_end:

    .section .note.GNU-stack, "", @progbits
