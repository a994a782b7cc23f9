// SPDX-License-Identifier: MIT
// Calls the README's example over 64 MiB of the host's memory and a CPU that remembers its
// registers.
#include "host_cpu.h"

#include <stdio.h>
#include <sys/mman.h>

/* The direct map: an address that the lower half has room around, so that the example's 1 TiB fits.
 */
#define DIRECT_MAP UINT64_C(0x600000000000)
#define MEMORY     (UINT64_C(64) << 20)

int main(void)
{
    static const struct mm_x86_64_cpu_ops ops = {cpuid,    read_msr, write_msr, read_cr,
                                                 write_cr, invlpg,   invpcid};
    static struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(8)];
    static struct mm_bootmap map;
    static struct mm_x86_64 x86;
    static struct cpu cpu;
    /* Two sections, as an image at -2 GiB has them. */
    static const struct mm_boot_section image[] = {
        {{{0xffffffff80200000}, 0x3000}, {0x200000}, MM_PROT_RX, 0},
        {{{0xffffffff80203000}, 0x2000}, {0x203000}, MM_PROT_RW, 0},
    };
    struct mm_mapping found;
    mm_status_t status;
    void *memory = mmap((void *)DIRECT_MAP, MEMORY, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (memory != (void *)DIRECT_MAP)
        return 2;
    status = mm_bootmap_init(&map, entries, MM_BOOTMAP_CAPACITY(8));
    if (status == MM_OK)
        status = mm_bootmap_add(&map, mm_prange(mm_paddr(0), MEMORY), MM_BOOT_USABLE);
    if (status == MM_OK)
        status = mm_bootmap_add(&map, mm_prange(mm_paddr(0x200000), 0x5000), MM_BOOT_KERNEL);
    if (status == MM_OK)
        status = mm_x86_64_init(&x86, &ops, &cpu);
    if (status == MM_OK)
        status = mm_x86_64_enable(&x86);
    if (status == MM_OK)
        status = start_memory(&map, DIRECT_MAP, mm_x86_64_backend(&x86), (struct mm_platform){0},
                              image, 2);
    if (status == MM_OK)
        status = mm_paging_translate(&mm.kernel, mm_vaddr(0xffffffffc0000000), &found);
    if (status == MM_OK && found.prot != MM_PROT_RW)
        status = MM_ERR_PERMISSION_DENIED;
    /* The code that called must be in the root that it switched to. */
    if (status == MM_OK)
        status = mm_paging_translate(&mm.kernel, image[0].range.start, &found);
    if (status == MM_OK && (found.prot & (MM_PROT_WRITE | MM_PROT_EXEC)) != MM_PROT_EXEC)
        status = MM_ERR_PERMISSION_DENIED;
    if (status == MM_OK)
        status = mm_system_check(&mm);
    printf("first-steps: %s\n", mm_status_str(status));
    return status == MM_OK ? 0 : 1;
}
