// SPDX-License-Identifier: MIT
//
// The loads and stores that reach user memory, and the table that says where to go on when one of
// them faults. Nothing else may touch user memory, and no range is checked here.
//
// How a fault is survived. The kernel's page-fault handler asks mm_x86_64_user_fixup() and changes
// nothing but the instruction pointer; all other registers are as the instruction left them. Bulk is
// moved eight bytes at a time. A string instruction that faults has moved whole elements, and its
// registers say how many (Intel SDM vol. 2B, REP: "the registers are preserved"). An access of eight
// bytes that faults has moved none of them, so from there on one byte at a time is tried until one
// faults: that is the exact residue, and nothing beyond it has been read or written.
//
// Each routine comes twice: without SMAP, and with STAC before the first access and CLAC after the
// last, on the way through the table too (SDM vol. 3A, 4.6.1: AC suspends SMAP). In between only the
// instructions below run. The direction flag is clear (System V ABI).

// An instruction that may fault, and where to go on. Distances from the entry itself: 32 bits that
// need no relocation when the image is moved.
.macro may_fault at, resume
    .pushsection .rodata, "a", @progbits
    .balign 4
    .long \at - .
    .long \resume - .
    .popsection
.endm

.macro user_open smap
    .if \smap
    stac
    .endif
.endm

.macro user_close smap
    .if \smap
    clac
    .endif
.endm

.macro routine name
    .globl \name
    .hidden \name
    .type \name, @function
    .balign 16
\name:
    .cfi_startproc
.endm

.macro routine_end name
    .cfi_endproc
    .size \name, . - \name
.endm

// uint64_t (void *to = rdi, const void *from = rsi, uint64_t len = rdx): bytes not copied.
// One body for both directions: the table tells which side is the user's. A string instruction
// touches both sides, so there the handler must know that the address is a user one.
.macro copy name, smap, user_side
    routine \name
    user_open \smap
    mov %rdx, %rcx
    shr $3, %rcx
    and $7, %edx
10: rep movsq                   // rcx: eights not copied
    mov %rdx, %rcx
20: test %rcx, %rcx
    jz 50f
30: movb (%rsi), %al
40: movb %al, (%rdi)
    inc %rsi
    inc %rdi
    dec %rcx
    jnz 30b
50: user_close \smap
    mov %rcx, %rax
    ret
60: lea (%rdx, %rcx, 8), %rcx   // what is left, in bytes: try them singly
    jmp 20b
    may_fault 10b, 60b
    .ifc \user_side, from
    may_fault 30b, 50b
    .else
    may_fault 40b, 50b
    .endif
    routine_end \name
.endm

// uint64_t (void *to = rdi, uint64_t len = rsi): bytes not cleared.
.macro clear name, smap
    routine \name
    user_open \smap
    xor %eax, %eax
    mov %rsi, %rcx
    shr $3, %rcx
    and $7, %esi
10: rep stosq
    mov %rsi, %rcx
20: test %rcx, %rcx
    jz 50f
30: movb %al, (%rdi)
    inc %rdi
    dec %rcx
    jnz 30b
50: user_close \smap
    mov %rcx, %rax
    ret
60: lea (%rsi, %rcx, 8), %rcx
    jmp 20b
    may_fault 10b, 60b
    may_fault 30b, 50b
    routine_end \name
.endm

// uint64_t (char *to = rdi, const char *from = rsi, uint64_t len = rdx): bytes before the
// terminator, len if there is none, UINT64_MAX for a fault. Each byte is fetched once: what is
// stored is what was looked at, whoever changes the memory meanwhile.
.macro string name, smap
    routine \name
    user_open \smap
    xor %eax, %eax
10: cmp %rdx, %rax
    je 30f
20: movb (%rsi, %rax), %cl
    movb %cl, (%rdi, %rax)
    test %cl, %cl
    jz 30f
    inc %rax
    jmp 10b
30: user_close \smap
    ret
40: user_close \smap
    mov $-1, %rax
    ret
    may_fault 20b, 40b
    routine_end \name
.endm

    .section .rodata, "a", @progbits
    .balign 4
    .globl mmi_x86_64_user_table
    .hidden mmi_x86_64_user_table
    .type mmi_x86_64_user_table, @object
mmi_x86_64_user_table:

    .text
    copy mmi_x86_64_copy_in, 0, from
    copy mmi_x86_64_copy_out, 0, to
    clear mmi_x86_64_clear, 0
    string mmi_x86_64_string_in, 0
    copy mmi_x86_64_copy_in_smap, 1, from
    copy mmi_x86_64_copy_out_smap, 1, to
    clear mmi_x86_64_clear_smap, 1
    string mmi_x86_64_string_in_smap, 1

    .section .rodata, "a", @progbits
    .globl mmi_x86_64_user_table_end
    .hidden mmi_x86_64_user_table_end
    .type mmi_x86_64_user_table_end, @object
mmi_x86_64_user_table_end:
    .size mmi_x86_64_user_table, . - mmi_x86_64_user_table

    .section .note.GNU-stack, "", @progbits
