// SPDX-License-Identifier: MIT
// Calls the example of docs/spaces.md over 64 MiB of the host's memory and a CPU that
// remembers its registers.
#include "host_cpu.h"

#include <mm/mm.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MEMORY UINT64_C(0x600000000000)
#define LEN    (UINT64_C(64) << 20)

static struct mm_system host;

static mm_status_t start(struct mm_paging_backend backend)
{
    static struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(8)];
    static struct mm_bootmap map;
    struct mm_physmap physmap = mm_physmap_direct(MEMORY);
    struct mm_vrange range = mm_vrange(mm_vaddr(MEMORY), UINT64_C(512) << 30);
    struct mm_system_config config = {
        .map = &map,
        .physmap = &physmap,
        .mapped = mm_prange(mm_paddr(0), LEN),
        .nr_cpus = 1,
        .backend = backend,
        .kernel_ranges = &range,
        .nr_kernel_ranges = 1,
        .user = mm_vrange(mm_vaddr(2u << 20), (UINT64_C(64) << 40) - (2u << 20))};
    mm_status_t status = mm_bootmap_init(&map, entries, MM_BOOTMAP_CAPACITY(8));

    if (status == MM_OK)
        status = mm_bootmap_add(&map, mm_prange(mm_paddr(0), LEN), MM_BOOT_USABLE);
    return status == MM_OK ? mm_system_init(&host, &config) : status;
}

int main(void)
{
    static const struct mm_x86_64_cpu_ops ops = {cpuid,    read_msr, write_msr, read_cr,
                                                 write_cr, invlpg,   invpcid};
    static const struct segment segments[] = {
        {{0x400000}, 0x1000, "code", 4, MM_PROT_RX, MM_REGION_CODE},
        {{0x401000}, 0x3000, "data", 4, MM_PROT_RW, MM_REGION_DATA},
    };
    static struct mm_x86_64 x86;
    static struct mm_space_group group;
    struct mm_space *space;
    static struct cpu cpu;
    char code[5] = "";
    mm_status_t status;
    void *memory = mmap((void *)MEMORY, LEN, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (memory != (void *)MEMORY)
        return 2;
    status = mm_x86_64_init(&x86, &ops, &cpu);
    if (status == MM_OK)
        status = mm_x86_64_enable(&x86);
    if (status == MM_OK)
        status = start(mm_x86_64_backend(&x86));
    if (status == MM_OK)
        status = make_group(&group);
    if (status == MM_OK)
        status = make_process(&host.spaces, &group, segments, 2, UINT64_C(32) << 40, &space);
    if (status == MM_OK)
        status = mm_space_activate(space);
    if (status == MM_OK)
        status = mm_space_read(space, code, mm_vaddr(0x400000), 4, 0, NULL);
    if (status == MM_OK)
        status = end_process(&host.kernel, space);
    if (status == MM_OK)
        status = mm_space_group_destroy(&group);
    if (status == MM_OK)
        status = mm_system_destroy(&host);
    printf("process: %s, %s\n", mm_status_str(status), code);
    return status == MM_OK && strcmp(code, "code") == 0 ? 0 : 1;
}
