// SPDX-License-Identifier: MIT
// Calls the example of docs/getting-started.md over 64 MiB of the host's memory and a CPU that
// remembers its registers.
#include "host_cpu.h"

#include <stdio.h>
#include <sys/mman.h>

#define LEN (UINT64_C(64) << 20)

int main(void)
{
    static const struct mm_x86_64_cpu_ops ops = {cpuid,    read_msr, write_msr, read_cr,
                                                 write_cr, invlpg,   invpcid};
    static struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(8)];
    static struct mm_bootmap map;
    static struct mm_x86_64 x86;
    static struct cpu cpu;
    uint64_t seen = 0;
    mm_status_t status;
    void *memory = mmap((void *)MEMORY, LEN, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (memory != (void *)MEMORY)
        return 2;
    status = mm_bootmap_init(&map, entries, MM_BOOTMAP_CAPACITY(8));
    if (status == MM_OK)
        status = mm_bootmap_add(&map, mm_prange(mm_paddr(0), LEN), MM_BOOT_USABLE);
    if (status == MM_OK)
        status = mm_x86_64_init(&x86, &ops, &cpu);
    if (status == MM_OK)
        status = mm_x86_64_enable(&x86);
    if (status == MM_OK)
        status = start_on_host(&map, LEN, mm_x86_64_backend(&x86), (struct mm_platform){0});
    if (status == MM_OK)
        status = try_space(&seen);
    if (status == MM_OK)
        status = mm_system_destroy(&host);
    printf("host-spaces: %s, %llu\n", mm_status_str(status), (unsigned long long)seen);
    return status == MM_OK && seen == 42 ? 0 : 1;
}
