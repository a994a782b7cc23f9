// SPDX-License-Identifier: MIT
/**
 * The configurations that the world is made with.
 */
#include "world.h"

struct mm_paging_config t_world_paging_config(void)
{
    static const struct mm_vrange ranges[] = {{{T_ARENA}, T_ARENA_LEN}, {{T_TOP}, T_TOP_LEN}};
    struct mm_paging_config config = {.backend = t_w.backend,
                                      .physmap = &t_w.physmap,
                                      .source = t_world_source(),
                                      .platform = t_world_platform(),
                                      .kernel_ranges = ranges,
                                      .nr_kernel_ranges = 2,
                                      .user = mm_vrange(mm_vaddr(0), T_USER_LEN),
                                      .tlb = t_w.use_tlb};

    return config;
}

/* `cpus`: which of the arrays. */
struct mm_tlb_config t_world_tlb_config(unsigned cpus)
{
    struct mm_tlb_config config = {.backend = t_w.backend,
                                   .cpus = t_w.tlb_cpus[cpus],
                                   .nr_cpus = 2,
                                   .ops = &t_world_tlb_ops,
                                   .platform = t_world_platform()};

    return config;
}

struct mm_spaces_config t_world_spaces_config(void)
{
    struct mm_spaces_config config = {.frames = &t_w.frames,
                                      .physmap = &t_w.physmap,
                                      .kernel = &t_w.kernel,
                                      .pool = &t_w.pool,
                                      .platform = t_world_platform()};

    return config;
}

struct mm_pool_config t_world_pool_config(void)
{
    struct mm_page_source range = mm_page_source_range(&t_w.range);
    struct mm_pool_config config = {
        .source = {&t_world_page_ops, &t_w.range, range.base, range.len},
        .platform = t_world_platform(),
        .nr_cpus = 2};

    return config;
}

struct mm_system_config t_world_system_config(void)
{
    struct mm_system_config config = {.map = &t_w.sys_map,
                                      .physmap = &t_w.physmap,
                                      .mapped = mm_prange(mm_paddr(0), T_RAM_END),
                                      .platform = t_world_platform(),
                                      .backend = t_w.backend,
                                      .tlb = t_w.use_tlb,
                                      .sections = t_w.sections,
                                      .devices = &t_w.device,
                                      .kernel_ranges = t_w.sys_ranges,
                                      .nr_sections = 2,
                                      .nr_devices = 1,
                                      .nr_kernel_ranges = 3,
                                      .nr_cpus = 1,
                                      .user = mm_vrange(mm_vaddr(0), UINT64_C(1) << 45),
                                      .kernel_space =
                                          mm_vrange(mm_vaddr(T_ARENA), UINT64_C(1) << 28),
                                      .user_ops = &t_world_user_ops};

    return config;
}

struct mm_kva_config t_world_kva_config(void)
{
    struct mm_kva_config config = {.kernel = &t_w.kernel,
                                   .frames = &t_w.frames,
                                   .physmap = &t_w.physmap,
                                   .pool = &t_w.pool,
                                   .platform = t_world_platform(),
                                   .range = mm_vrange(mm_vaddr(T_KVA), T_KVA_LEN),
                                   .nr_stacks = 1,
                                   .nr_reserve_tables = 1};

    return config;
}

struct mm_percpu_config t_world_percpu_config(void)
{
    struct mm_percpu_config config = {
        .kva = &t_w.kva, .start = t_w.sections, .len = sizeof(t_w.sections), .nr_cpus = 2};

    return config;
}
