// SPDX-License-Identifier: MIT
//
// The way from the boot loader to C: multiboot2 header, 32-bit entry, early page tables, long mode,
// jump to the higher half. Nothing here knows libmm; the tables built here live until kmain()
// switches to a root that libmm built.
//
// Early address space, all of it by 2 MiB pages, writable and executable:
//
//   0x0000000000000000  first 1 GiB   identity: the code that turns paging on stands there
//   0xffff800000000000  first 4 GiB   direct map: how C reads any physical address
//   0xffffffff80000000  first 1 GiB   image: where the linker put the kernel
//
// Everything is linked in the higher half, so before the jump a symbol's physical address is PHYS(symbol).

#define KERNEL_BASE 0xffffffff80000000
#define PHYS(symbol) ((symbol) - KERNEL_BASE)

#define MULTIBOOT2_MAGIC 0xe85250d6
#define MULTIBOOT2_BOOTLOADER_MAGIC 0x36d76289

#define PTE_TABLE 0x003 // present, writable
#define PTE_LARGE 0x083 // present, writable, page size

// Multiboot2 specification 1.6, section 3.1: 8-byte aligned, in the first 32 KiB of the file.
    .section .multiboot, "a"
    .balign 8
header:
    .long MULTIBOOT2_MAGIC
    .long 0 // i386, protected mode
    .long header_end - header
    .long -(MULTIBOOT2_MAGIC + 0 + (header_end - header))

    .balign 8 // information request: the memory map must be there
    .short 1
    .short 0
    .long 12
    .long 6

    .balign 8 // information request, optional: EFI memory map, ELF sections, ACPI RSDP (old, new)
    .short 1
    .short 1
    .long 24
    .long 17, 9, 14, 15

    .balign 8 // end
    .short 0
    .short 0
    .long 8
header_end:

    .section .text.boot, "ax"
    .code32
    .globl start
start:
    cli
    cld
    movl $PHYS(boot_stack_top), %esp
    cmpl $MULTIBOOT2_BOOTLOADER_MAGIC, %eax
    jne fail_loader
    movl %ebx, %ebp // physical address of the boot information; kept over cpuid

    // Intel SDM vol. 2A, CPUID: extended leaf 0x80000001, EDX bit 29 is long mode.
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb fail_long_mode
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc fail_long_mode

    // Three trees under one root that share no table, so that each can be taken down alone.
    movl $(PHYS(boot_identity_pdpt) + PTE_TABLE), PHYS(boot_root)
    movl $(PHYS(boot_direct_pdpt) + PTE_TABLE), PHYS(boot_root) + 256 * 8
    movl $(PHYS(boot_image_pdpt) + PTE_TABLE), PHYS(boot_root) + 511 * 8
    movl $(PHYS(boot_identity_pd) + PTE_TABLE), PHYS(boot_identity_pdpt)
    movl $(PHYS(boot_image_pd) + PTE_TABLE), PHYS(boot_image_pdpt) + 510 * 8
    movl $(PHYS(boot_direct_pd) + 0 * 4096 + PTE_TABLE), PHYS(boot_direct_pdpt) + 0 * 8
    movl $(PHYS(boot_direct_pd) + 1 * 4096 + PTE_TABLE), PHYS(boot_direct_pdpt) + 1 * 8
    movl $(PHYS(boot_direct_pd) + 2 * 4096 + PTE_TABLE), PHYS(boot_direct_pdpt) + 2 * 8
    movl $(PHYS(boot_direct_pd) + 3 * 4096 + PTE_TABLE), PHYS(boot_direct_pdpt) + 3 * 8

    movl $PHYS(boot_identity_pd), %edi
    movl $512, %ecx
    call fill_directory
    movl $PHYS(boot_image_pd), %edi
    movl $512, %ecx
    call fill_directory
    movl $PHYS(boot_direct_pd), %edi
    movl $2048, %ecx
    call fill_directory

    // Intel SDM vol. 3A, 10.8.5: PAE, then the root, then EFER.LME, then paging.
    movl %cr4, %eax
    orl $(1 << 5), %eax
    movl %eax, %cr4
    movl $PHYS(boot_root), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $(1 << 8), %eax
    wrmsr
    movl %cr0, %eax
    orl $(1 << 31), %eax
    movl %eax, %cr0

    lgdt PHYS(boot_gdt_pointer)
    ljmp $0x08, $PHYS(start64)

// Fill %ecx entries at %edi with consecutive 2 MiB pages from physical 0. The upper halves of the
// entries are zero already: .bss is.
fill_directory:
    movl $PTE_LARGE, %eax
1:
    movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b
    ret

fail_loader:
    movl $PHYS(message_loader), %esi
    jmp fail
fail_long_mode:
    movl $PHYS(message_long_mode), %esi
fail:
    movw $0x3f8, %dx // COM1: as the boot loader left it
1:
    lodsb
    testb %al, %al
    jz 2f
    outb %al, %dx
    jmp 1b
2:
    movw $0xf4, %dx // isa-debug-exit: see power.c
    movl $0x11, %eax
    outl %eax, %dx
3:
    hlt
    jmp 3b

    .code64
start64:
    movabsq $start_high, %rax
    jmp *%rax
start_high:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movabsq $boot_stack_top, %rsp
    movl %ebp, %edi // clears the upper half
    xorl %ebp, %ebp
    call kmain
    ud2

    .section .rodata.boot, "a"
message_loader:
    .asciz "minikernel: not started by a multiboot2 loader\n"
message_long_mode:
    .asciz "minikernel: this CPU has no long mode\n"

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff // 0x08: code, 64-bit, ring 0
    .quad 0x00cf92000000ffff // 0x10: data, ring 0
boot_gdt_end:
boot_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long PHYS(boot_gdt)

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_root:
    .skip 4096
boot_identity_pdpt:
    .skip 4096
boot_identity_pd:
    .skip 4096
boot_image_pdpt:
    .skip 4096
boot_image_pd:
    .skip 4096
boot_direct_pdpt:
    .skip 4096
boot_direct_pd:
    .skip 4 * 4096

// kmain() takes the page below the stack out of the map: an overflow then faults.
    .globl boot_stack_guard, boot_stack_bottom, boot_stack_top
boot_stack_guard:
    .skip 4096
boot_stack_bottom:
    .skip 32768
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
