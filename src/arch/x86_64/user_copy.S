// SPDX-License-Identifier: MIT
//
// The loads and stores that reach user memory, and the table that says where to go on when one of
// them faults. Nothing else may touch user memory, and no range is checked here.
//
// How a fault is survived. The kernel's page-fault handler asks mm_x86_64_user_fixup() and changes
// nothing but the instruction pointer; all other registers are as the instruction left them. What is
// short is moved by loads and stores of eight bytes, what is long by a string instruction. One that
// faults has moved whole elements, and its registers say how many (Intel SDM vol. 2B, REP: "the
// registers are preserved"). An access of eight bytes that faults has moved none of them. So at each
// instruction that may fault the pointers say what was moved, and from there on one byte at a time is
// tried until one faults: that is the exact residue, nothing beyond it has been read or written, and
// nothing was written twice.
//
// Each routine comes four times: without SMAP, and with STAC before the first access and CLAC after
// the last, on the way through the table too (SDM vol. 3A, 4.6.1: AC suspends SMAP); and both once
// more for accesses whose faults nobody resolves. Those are told from the others by where they
// stand, so that no state says which kind is running. Between STAC and CLAC only the instructions
// below run. The direction flag is clear (System V ABI).
//
// A branch that was mispredicted may bring a kernel address here before the check of the range is
// done. Bit 63 of what is a user address is clear; where it is not, all bits are set before the
// access, which then tells nothing of what is in the kernel's half.

// From so many bytes on the string instructions are faster, on a Zen 3.
.set LONG, 512

// MM_ERR_FAULT of mm/status.h, whose numbers are stable.
.set FAULT, 16

// An instruction that may fault, and where to go on. Distances from the entry itself: 32 bits that
// need no relocation when the image is moved. Entries are in the order of the instructions.
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

.macro user_half_only address, scratch
    mov \address, \scratch
    sar $63, \scratch
    or \scratch, \address
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

// Eight bytes further, on both sides or on one.
.macro advance nr, sides:vararg
    .irp side, \sides
    add $\nr, \side
    .endr
.endm

// uint64_t (void *to = rdi, const void *from = rsi, uint64_t len = rdx): bytes not copied.
// r8 is the end of the source, so that r8 - rsi is what is left. A string instruction touches both
// sides, so there the handler must know that the address is a user one.
.macro copy_in name, smap
    routine \name
    user_half_only %rsi, %rax
    user_open \smap
    lea (%rsi, %rdx), %r8
    mov %rdx, %rcx
    cmp $LONG, %rdx
    jae 30f
    sub $32, %rcx
    jb 20f
    .balign 16
10: mov (%rsi), %rax
11: mov 8(%rsi), %r9
12: mov 16(%rsi), %r10
13: mov 24(%rsi), %r11
    mov %rax, (%rdi)
    mov %r9, 8(%rdi)
    mov %r10, 16(%rdi)
    mov %r11, 24(%rdi)
    advance 32, %rsi, %rdi
    sub $32, %rcx
    jae 10b
20: test $16, %dl
    jz 23f
21: mov (%rsi), %rax
22: mov 8(%rsi), %r9
    mov %rax, (%rdi)
    mov %r9, 8(%rdi)
    advance 16, %rsi, %rdi
23: test $8, %dl
    jz 25f
24: mov (%rsi), %rax
    mov %rax, (%rdi)
    advance 8, %rsi, %rdi
25: test $4, %dl
    jz 27f
26: mov (%rsi), %eax
    mov %eax, (%rdi)
    advance 4, %rsi, %rdi
27: test $2, %dl
    jz 29f
28: movzwl (%rsi), %eax
    movw %ax, (%rdi)
    advance 2, %rsi, %rdi
29: xor %ecx, %ecx
    test $1, %dl
    jz 50f
    inc %ecx
    jmp 41f
30: shr $3, %rcx
31: rep movsq
    jmp 25b
40: mov %r8, %rcx // a fault: what is left, byte by byte
    sub %rsi, %rcx
    jz 50f
41: movzbl (%rsi), %eax
    movb %al, (%rdi)
    advance 1, %rsi, %rdi
    dec %rcx
    jnz 41b
50: user_close \smap
    mov %rcx, %rax
    ret
    may_fault 10b, 40b
    may_fault 11b, 40b
    may_fault 12b, 40b
    may_fault 13b, 40b
    may_fault 21b, 40b
    may_fault 22b, 40b
    may_fault 24b, 40b
    may_fault 26b, 40b
    may_fault 28b, 40b
    may_fault 31b, 40b
    may_fault 41b, 50b
    routine_end \name
.endm

// uint64_t (void *to = rdi, const void *from = rsi, uint64_t len = rdx): bytes not copied. As
// copy_in, and where a later store of several faults, those before it count.
.macro copy_out name, smap
    routine \name
    user_half_only %rdi, %rax
    user_open \smap
    lea (%rsi, %rdx), %r8
    mov %rdx, %rcx
    cmp $LONG, %rdx
    jae 30f
    sub $32, %rcx
    jb 20f
    .balign 16
9:  mov (%rsi), %rax
    mov 8(%rsi), %r9
    mov 16(%rsi), %r10
    mov 24(%rsi), %r11
10: mov %rax, (%rdi)
11: mov %r9, 8(%rdi)
12: mov %r10, 16(%rdi)
13: mov %r11, 24(%rdi)
    advance 32, %rsi, %rdi
    sub $32, %rcx
    jae 9b
20: test $16, %dl
    jz 23f
    mov (%rsi), %rax
    mov 8(%rsi), %r9
21: mov %rax, (%rdi)
22: mov %r9, 8(%rdi)
    advance 16, %rsi, %rdi
23: test $8, %dl
    jz 25f
    mov (%rsi), %rax
24: mov %rax, (%rdi)
    advance 8, %rsi, %rdi
25: test $4, %dl
    jz 27f
    mov (%rsi), %eax
26: mov %eax, (%rdi)
    advance 4, %rsi, %rdi
27: test $2, %dl
    jz 29f
    movzwl (%rsi), %eax
28: movw %ax, (%rdi)
    advance 2, %rsi, %rdi
29: xor %ecx, %ecx
    test $1, %dl
    jz 50f
    inc %ecx
    jmp 44f
30: shr $3, %rcx
31: rep movsq
    jmp 25b
43: advance 8, %rsi, %rdi
42: advance 8, %rsi, %rdi
41: advance 8, %rsi, %rdi
40: mov %r8, %rcx // a fault: what is left, byte by byte
    sub %rsi, %rcx
    jz 50f
44: movzbl (%rsi), %eax
45: movb %al, (%rdi)
    advance 1, %rsi, %rdi
    dec %rcx
    jnz 44b
50: user_close \smap
    mov %rcx, %rax
    ret
    may_fault 10b, 40b
    may_fault 11b, 41b
    may_fault 12b, 42b
    may_fault 13b, 43b
    may_fault 21b, 40b
    may_fault 22b, 41b
    may_fault 24b, 40b
    may_fault 26b, 40b
    may_fault 28b, 40b
    may_fault 31b, 40b
    may_fault 45b, 50b
    routine_end \name
.endm

// uint64_t (void *to = rdi, uint64_t len = rsi): bytes not cleared. r8 is the end.
.macro clear name, smap
    routine \name
    user_half_only %rdi, %rax
    user_open \smap
    lea (%rdi, %rsi), %r8
    mov %rsi, %rcx
    xor %eax, %eax
    cmp $LONG, %rsi
    jae 30f
    sub $32, %rcx
    jb 20f
    .balign 16
10: mov %rax, (%rdi)
11: mov %rax, 8(%rdi)
12: mov %rax, 16(%rdi)
13: mov %rax, 24(%rdi)
    advance 32, %rdi
    sub $32, %rcx
    jae 10b
20: test $16, %sil
    jz 23f
21: mov %rax, (%rdi)
22: mov %rax, 8(%rdi)
    advance 16, %rdi
23: test $8, %sil
    jz 25f
24: mov %rax, (%rdi)
    advance 8, %rdi
25: test $4, %sil
    jz 27f
26: mov %eax, (%rdi)
    advance 4, %rdi
27: test $2, %sil
    jz 29f
28: movw %ax, (%rdi)
    advance 2, %rdi
29: xor %ecx, %ecx
    test $1, %sil
    jz 50f
    inc %ecx
    jmp 44f
30: shr $3, %rcx
31: rep stosq
    jmp 25b
43: advance 8, %rdi
42: advance 8, %rdi
41: advance 8, %rdi
40: mov %r8, %rcx // a fault: what is left, byte by byte
    sub %rdi, %rcx
    jz 50f
44: movb %al, (%rdi)
    advance 1, %rdi
    dec %rcx
    jnz 44b
50: user_close \smap
    mov %rcx, %rax
    ret
    may_fault 10b, 40b
    may_fault 11b, 41b
    may_fault 12b, 42b
    may_fault 13b, 43b
    may_fault 21b, 40b
    may_fault 22b, 41b
    may_fault 24b, 40b
    may_fault 26b, 40b
    may_fault 28b, 40b
    may_fault 31b, 40b
    may_fault 44b, 50b
    routine_end \name
.endm

// uint64_t (char *to = rdi, const char *from = rsi, uint64_t len = rdx): bytes before the
// terminator, len if there is none, UINT64_MAX for a fault. Each byte is fetched once: what is
// stored is what was looked at, whoever changes the memory meanwhile. Eight bytes are fetched at a
// time, none of them on a page behind that of the terminator, nor beyond len; so if one of eight
// faults, all do. Nothing is stored behind the terminator.
.macro string name, smap
    routine \name
    user_half_only %rsi, %rax
    user_open \smap
    mov %rsi, %r8 // the beginning
    mov $-0x0101010101010101, %r10
    mov $0x8080808080808080, %r11
10: mov %esi, %ecx // page by page. rcx: what there is of this one, rdx: what comes behind
    or $-4096, %rcx
    neg %rcx
    cmp %rdx, %rcx
    cmova %rdx, %rcx
    sub %rcx, %rdx
    sub $8, %rcx
    jb 30f
20: mov (%rsi), %rax
    lea (%rax, %r10), %r9 // x - 01...01: without a bit of 80...80, no byte is 0, nor above 80
    test %r11, %r9
    jnz 35f
21: mov %rax, (%rdi)
    advance 8, %rsi, %rdi
    sub $8, %rcx
    jae 20b
30: add $8, %rcx
    jz 32f
31: movzbl (%rsi), %eax
    movb %al, (%rdi)
    test %al, %al
    jz 50f
    advance 1, %rsi, %rdi
    dec %rcx
    jnz 31b
32: test %rdx, %rdx
    jnz 10b
    jmp 50f
35: not %rax // the lowest bit of (x - 01...01) & ~x & 80...80 is in the first byte that is 0
    and %rax, %r9
    not %rax
    and %r11, %r9
    jz 21b
    bsf %r9, %rcx // the terminator is among these eight: bits before its end
    lea 1(%rcx), %edx
    shr $3, %ecx
    add %rcx, %rsi
    shr $3, %edx // bytes to store
    test $8, %dl
    jz 41f
    mov %rax, (%rdi)
    jmp 50f
41: test $4, %dl
    jz 42f
    movl %eax, (%rdi)
    shr $32, %rax
    advance 4, %rdi
42: test $2, %dl
    jz 43f
    movw %ax, (%rdi)
    shr $16, %rax
    advance 2, %rdi
43: test $1, %dl
    jz 50f
    movb %al, (%rdi)
50: user_close \smap
    mov %rsi, %rax
    sub %r8, %rax
    ret
60: user_close \smap
    mov $-1, %rax
    ret
    may_fault 20b, 60b
    may_fault 31b, 60b
    routine_end \name
.endm

// The end of what accesses one word at 10: MM_OK, or with nothing stored MM_ERR_FAULT.
.macro word_end smap
    xor %eax, %eax
    ret
60: user_close \smap
    mov $FAULT, %eax
    ret
    may_fault 10b, 60b
.endm

// mm_status_t (void *to = rdi, const void *from = rsi): one load.
.macro get name, smap, load, wide, narrow
    routine \name
    user_half_only %rsi, %rax
    user_open \smap
10: \load (%rsi), \wide
    user_close \smap
    mov \narrow, (%rdi)
    word_end \smap
    routine_end \name
.endm

// mm_status_t (void *to = rdi, const void *from = rsi): one store.
.macro put name, smap, load, wide, narrow
    routine \name
    user_half_only %rdi, %rax
    \load (%rsi), \wide
    user_open \smap
10: mov \narrow, (%rdi)
    user_close \smap
    word_end \smap
    routine_end \name
.endm

// mm_status_t (void *at = rdi, uint64_t expected = rsi, uint64_t desired = rdx, void *found = rcx).
// A locked instruction writes in any case: what was found, if it was not what was expected.
.macro exchange name, smap, expected, accumulator, desired
    routine \name
    user_half_only %rdi, %rax
    mov \expected, \accumulator
    user_open \smap
10: lock cmpxchg \desired, (%rdi)
    user_close \smap
    mov \accumulator, (%rcx)
    word_end \smap
    routine_end \name
.endm

.macro all_routines suffix, smap
    copy_in mmi_x86_64_copy_in\suffix, \smap
    copy_out mmi_x86_64_copy_out\suffix, \smap
    clear mmi_x86_64_clear\suffix, \smap
    string mmi_x86_64_string_in\suffix, \smap
    get mmi_x86_64_get_1\suffix, \smap, movzbl, %eax, %al
    get mmi_x86_64_get_2\suffix, \smap, movzwl, %eax, %ax
    get mmi_x86_64_get_4\suffix, \smap, mov, %eax, %eax
    get mmi_x86_64_get_8\suffix, \smap, mov, %rax, %rax
    put mmi_x86_64_put_1\suffix, \smap, movzbl, %eax, %al
    put mmi_x86_64_put_2\suffix, \smap, movzwl, %eax, %ax
    put mmi_x86_64_put_4\suffix, \smap, mov, %eax, %eax
    put mmi_x86_64_put_8\suffix, \smap, mov, %rax, %rax
    exchange mmi_x86_64_cmpxchg_4\suffix, \smap, %esi, %eax, %edx
    exchange mmi_x86_64_cmpxchg_8\suffix, \smap, %rsi, %rax, %rdx
.endm

.macro table_label name
    .pushsection .rodata, "a", @progbits
    .balign 4
    .globl \name
    .hidden \name
    .type \name, @object
    .size \name, 0
\name:
    .popsection
.endm

    .text
    table_label mmi_x86_64_user_table
    all_routines , 0
    all_routines _smap, 1
    table_label mmi_x86_64_user_table_nofault
    all_routines _nofault, 0
    all_routines _nofault_smap, 1
    table_label mmi_x86_64_user_table_end

    .section .note.GNU-stack, "", @progbits
