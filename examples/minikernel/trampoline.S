// SPDX-License-Identifier: MIT
//
// What another processor executes first: from real mode to C, in one page below 1 MiB. smp.c copies
// the code there, fills in the data at its end, and sends the page's number as the start-up vector
// (Intel SDM vol. 3A, 9.4.4). The page's address is not known here, so everything is relative to its
// start, which real mode has in %cs.
//
//     16 bits   %cs = page / 16       lgdt, CR0.PE
//     32 bits   %ebx = page           PAE, the root, EFER.LME, CR0.PG: the page must be mapped where
//                                     it lies, so the root is the one of boot.S
//     64 bits   a stack of its own    jump to C in the higher half

#define AT(label) ((label) - trampoline_start)

    .section .rodata.trampoline, "a"
    .globl trampoline_start, trampoline_data, trampoline_end
    .balign 16
    .code16
trampoline_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    xorl %ebx, %ebx
    movw %ax, %bx
    shll $4, %ebx
    lgdtl AT(data_gdt_pointer)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl *AT(data_jump_32)

    .code32
trampoline_32:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss

    // As in boot.S: Intel SDM vol. 3A, 10.8.5. INIT leaves caching as it was, which after power-up is
    // off (CR0.CD and CR0.NW: 12.5.3).
    movl %cr4, %eax
    orl $(1 << 5), %eax
    movl %eax, %cr4
    movl AT(data_root)(%ebx), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $(1 << 8), %eax
    wrmsr
    movl %cr0, %eax
    andl $~(3 << 29), %eax
    orl $(1 << 31), %eax
    movl %eax, %cr0
    ljmp *AT(data_jump_64)(%ebx)

    .code64
trampoline_64:
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movl %ebx, %ebx // the upper half is not defined after the change of mode
    movq AT(data_stack)(%rbx), %rsp
    movl AT(data_number)(%rbx), %edi
    xorl %ebp, %ebp
    call *AT(data_entry)(%rbx)
    ud2

    .balign 8
trampoline_gdt:
    .quad 0
    .quad 0x00af9a000000ffff // 0x08: code, 64-bit, ring 0
    .quad 0x00cf92000000ffff // 0x10: data, ring 0
    .quad 0x00cf9a000000ffff // 0x18: code, 32-bit, ring 0
trampoline_gdt_end:

// struct trampoline_data in smp.c: offsets from the start of the page, to which it adds the page.
    .balign 8
trampoline_data:
data_stack:
    .quad 0
data_entry:
    .quad 0
data_root:
    .long 0
data_number:
    .long 0
data_jump_32:
    .long AT(trampoline_32)
    .long 0x18
data_jump_64:
    .long AT(trampoline_64)
    .long 0x08
data_gdt_pointer:
    .short trampoline_gdt_end - trampoline_gdt - 1
    .long AT(trampoline_gdt)
    .short 0
trampoline_end:

    .section .note.GNU-stack, "", @progbits
