// SPDX-License-Identifier: MIT
//
// Figures of spaces: what a region costs among many, what a fault costs beside the zeroing or the
// copying that it cannot avoid, what a clone costs a page. On simulated RAM, with a simulated CPU:
// what a real one takes for the exception and the flush is not in them.
#include "machine_mm.h"

#include <mm/space.h>

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace
{

constexpr uint64_t Page = 4096;
constexpr uint64_t MiB = UINT64_C(1) << 20;
constexpr uint64_t Base = UINT64_C(1) << 32;
constexpr uint64_t Batch = 512;
constexpr mm_prot_t Rw = MM_PROT_READ | MM_PROT_WRITE;

void check(mm_status_t status)
{
    if (status != MM_OK) {
        fprintf(stderr, "bench_space: %s\n", mm_status_str(status));
        abort();
    }
}

class World
{
  public:
    World()
    {
        t_machine_config machine{};
        mm_spaces_config config{};

        machine.ram_len = 64 * MiB;
        machine.pool_len = 64 * MiB;
        t_machine_start(machine_.get(), &machine);
        config.frames = &machine_->frames;
        config.physmap = &machine_->physmap;
        config.kernel = &machine_->kernel;
        config.pool = &machine_->pool;
        check(mm_spaces_init(&spaces_, &config));
        check(mm_space_create(&spaces_, &space));
    }
    ~World()
    {
        mm_space_put(space);
        check(mm_spaces_destroy(&spaces_));
        t_machine_stop(machine_.get());
    }
    World(const World &) = delete;
    World &operator=(const World &) = delete;

    void map(uint64_t at, uint64_t nr_pages, uint64_t tag)
    {
        mm_space_request request{};
        mm_vaddr_t out;

        request.at = mm_vaddr(at);
        request.len = nr_pages * Page;
        request.prot = Rw;
        request.flags = MM_SPACE_FIXED;
        request.tag = tag;
        check(mm_space_map(space, &request, &out));
    }
    void unmap(uint64_t at, uint64_t nr_pages)
    {
        check(mm_space_unmap(space, mm_vrange(mm_vaddr(at), nr_pages * Page)));
    }
    // A write fault; false if it was not answered as expected.
    bool fault(uint64_t at, mm_fault_result want)
    {
        mm_fault what{mm_vaddr(at), MM_FAULT_USER | MM_FAULT_WRITE};
        mm_fault_result got;

        check(mm_space_fault(space, &what, &got));
        return got == want;
    }

    mm_space *space = nullptr;

  private:
    std::unique_ptr<t_machine> machine_{new t_machine};
    mm_spaces spaces_{};
};

// Map and unmap an untouched page in the gaps between so many regions.
void map_unmap(benchmark::State &state, uint64_t nr_regions)
{
    World world;
    uint64_t at = 0;

    for (uint64_t i = 0; i < nr_regions; i++) {
        world.map(Base + 4 * i * Page, 1, 1);
    }
    for (auto _ : state) {
        for (uint64_t i = 0; i < Batch; i++) {
            at = (at + 7919) % nr_regions;
            world.map(Base + (4 * at + 2) * Page, 1, 2);
            world.unmap(Base + (4 * at + 2) * Page, 1);
        }
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * Batch));
}

void space_map_unmap_100(benchmark::State &state)
{
    map_unmap(state, 100);
}
BENCHMARK(space_map_unmap_100);

void space_map_unmap_100k(benchmark::State &state)
{
    map_unmap(state, 100000);
}
BENCHMARK(space_map_unmap_100k);

// First writes to a lazy region.
void space_fault_zero(benchmark::State &state)
{
    World world;

    for (auto _ : state) {
        bool good = true;

        state.PauseTiming();
        world.map(Base, Batch, 0);
        state.ResumeTiming();
        for (uint64_t i = 0; i < Batch; i++) {
            good = world.fault(Base + i * Page, MM_FAULT_ZERO) && good;
        }
        state.PauseTiming();
        world.unmap(Base, Batch);
        state.ResumeTiming();
        if (!good) {
            state.SkipWithError("a fault was answered otherwise");
        }
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * Batch));
}
BENCHMARK(space_fault_zero);

void space_zero_floor(benchmark::State &state)
{
    std::vector<char> pages(Batch * Page);

    for (auto _ : state) {
        for (uint64_t i = 0; i < Batch; i++) {
            memset(&pages[i * Page], 0, Page);
            benchmark::ClobberMemory();
        }
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * Batch));
}
BENCHMARK(space_zero_floor);

// First writes after a clone: each makes a copy.
void space_fault_cow(benchmark::State &state)
{
    World world;
    mm_space *child;

    world.map(Base, Batch, 0);
    for (uint64_t i = 0; i < Batch; i++) {
        world.fault(Base + i * Page, MM_FAULT_ZERO);
    }
    for (auto _ : state) {
        bool good = true;

        state.PauseTiming();
        check(mm_space_clone(world.space, &child));
        state.ResumeTiming();
        for (uint64_t i = 0; i < Batch; i++) {
            good = world.fault(Base + i * Page, MM_FAULT_COW) && good;
        }
        state.PauseTiming();
        mm_space_put(child);
        state.ResumeTiming();
        if (!good) {
            state.SkipWithError("a fault was answered otherwise");
        }
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * Batch));
}
BENCHMARK(space_fault_cow);

void space_copy_floor(benchmark::State &state)
{
    std::vector<char> from(Batch * Page, 1);
    std::vector<char> to(Batch * Page);

    for (auto _ : state) {
        for (uint64_t i = 0; i < Batch; i++) {
            memcpy(&to[i * Page], &from[i * Page], Page);
            benchmark::ClobberMemory();
        }
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * Batch));
}
BENCHMARK(space_copy_floor);

// A clone of 2048 touched pages; the child is put outside of the clock.
void space_clone(benchmark::State &state)
{
    constexpr uint64_t NrPages = 2048;
    World world;
    mm_space *child;

    world.map(Base, NrPages, 0);
    for (uint64_t i = 0; i < NrPages; i++) {
        world.fault(Base + i * Page, MM_FAULT_ZERO);
    }
    for (auto _ : state) {
        check(mm_space_clone(world.space, &child));
        state.PauseTiming();
        mm_space_put(child);
        state.ResumeTiming();
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * NrPages));
}
BENCHMARK(space_clone);

} // namespace
