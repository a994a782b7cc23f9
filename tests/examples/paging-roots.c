// SPDX-License-Identifier: MIT
// Makes the roots of the example over 256 KiB of the host's memory, for a CPU of seven functions,
// and counts the frames.
#include <mm/arch/x86_64.h>

#include <stdio.h>
#include <string.h>

#define NR_FRAMES 64u

static _Alignas(MM_PAGE_SIZE) unsigned char memory[NR_FRAMES * MM_PAGE_SIZE];
static uint64_t free_frames[NR_FRAMES];
static uint64_t nr_free;
static uint64_t registers[5];

static struct mm_x86_64_cpuid cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct mm_x86_64_cpuid r = {0, 0, 0, 0};

    (void)ctx, (void)leaf, (void)subleaf;
    return r;
}

static uint64_t read_any(void *ctx, uint32_t n)
{
    (void)ctx;
    return n < 5 ? registers[n] : 0;
}

static void write_any(void *ctx, uint32_t n, uint64_t value)
{
    (void)ctx;
    if (n < 5)
        registers[n] = value;
}

static void invlpg(void *ctx, uint64_t at)
{
    (void)ctx, (void)at;
}

static void invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    (void)ctx, (void)type, (void)pcid, (void)at;
}

static mm_status_t take(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    (void)ctx, (void)owner;
    if (nr_free == 0)
        return MM_ERR_NO_MEMORY;
    *out = mm_pfn(free_frames[--nr_free]);
    if (zeroed)
        memset(memory + out->raw * MM_PAGE_SIZE, 0, MM_PAGE_SIZE);
    return MM_OK;
}

static void give(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    free_frames[nr_free++] = frame.raw;
}

int main(void)
{
    static const struct mm_x86_64_cpu_ops cpu_ops = {cpuid,     read_any, write_any, read_any,
                                                     write_any, invlpg,   invpcid};
    static const struct mm_frame_source_ops source_ops = {take, give, NULL};
    static struct mm_x86_64 arch;
    static struct mm_pagetable kernel, user, child;
    struct mm_physmap physmap = mm_physmap_direct((uint64_t)(uintptr_t)memory);
    struct mm_frame_source source = {&source_ops, NULL};
    mm_status_t status = mm_x86_64_init(&arch, &cpu_ops, NULL);

    for (uint64_t frame = NR_FRAMES; --frame > 0;)
        give(NULL, mm_pfn(frame));
    if (status == MM_OK)
        status = mm_x86_64_enable(&arch);
    if (status == MM_OK)
        status = make_roots(&kernel, &user, mm_x86_64_backend(&arch), &physmap, source);
    if (status == MM_OK)
        status = mm_paging_init_user(&child, &kernel);
    if (status == MM_OK)
        status = use(&user, &child);
    printf("paging-roots: %s, %u frames out\n", mm_status_str(status),
           (unsigned)(NR_FRAMES - 1 - nr_free));
    if (status == MM_OK)
        status = mm_paging_destroy(&child);
    if (status == MM_OK)
        status = mm_paging_destroy(&user);
    if (status == MM_OK)
        status = mm_paging_destroy(&kernel);
    return status == MM_OK && nr_free == NR_FRAMES - 1 ? 0 : 1;
}
