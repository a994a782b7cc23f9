// SPDX-License-Identifier: MIT
//
// Figures of DMA regions: a region of 64 KiB below 4 GiB, allocated and freed, beside the block of
// frames that it consists of.
#include "machine_mm.h"

#include <mm/dma.h>

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace
{

constexpr int64_t Batch = 256;

void check(mm_status_t status)
{
    if (status != MM_OK) {
        fprintf(stderr, "bench_dma: %s\n", mm_status_str(status));
        abort();
    }
}

class World
{
  public:
    World()
    {
        mm_dma_config config{};

        t_machine_start(machine.get(), nullptr);
        config.frames = &machine->frames;
        config.physmap = &machine->physmap;
        check(mm_dma_init(&dma, &config));
    }
    ~World()
    {
        check(mm_dma_destroy(&dma));
        t_machine_stop(machine.get());
    }
    World(const World &) = delete;
    World &operator=(const World &) = delete;

    std::unique_ptr<t_machine> machine{new t_machine};
    mm_dma dma{};
};

void dma_alloc_64k(benchmark::State &state)
{
    World world;
    mm_dma_constraints constraints{};
    mm_dma_region region{};

    constraints.highest = mm_paddr(UINT32_MAX);
    constraints.align = 65536;
    for (auto _ : state) {
        for (int64_t i = 0; i < Batch; i++) {
            check(mm_dma_alloc(&world.dma, 65536, &constraints, 0, &region));
            benchmark::DoNotOptimize(region.addr);
            check(mm_dma_free(&world.dma, &region));
        }
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * Batch);
}
BENCHMARK(dma_alloc_64k);

void dma_alloc_64k_floor(benchmark::State &state)
{
    World world;
    mm_frame_request request{};
    mm_pfn_t first;

    request.order = 4;
    for (auto _ : state) {
        for (int64_t i = 0; i < Batch; i++) {
            check(mm_frame_alloc(&world.machine->frames, &request, &first));
            benchmark::DoNotOptimize(first);
            mm_frame_free(&world.machine->frames, first, 4);
        }
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * Batch);
}
BENCHMARK(dma_alloc_64k_floor);

} // namespace
