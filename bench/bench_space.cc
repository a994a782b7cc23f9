// SPDX-License-Identifier: MIT
//
// Figures of spaces: what a region costs among many, what a fault costs beside the zeroing or the
// copying that it cannot avoid, what clone and unmap cost a page.
#include "space_bench.h"

#include "core/base/region.h"

#include <vector>

namespace
{

using namespace space_bench;

void nothing()
{
}

// ---- regions ------------------------------------------------------------------------------------

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
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(Batch));
}
BENCHMARK_CAPTURE(map_unmap, 100, 100)->Name("space_map_unmap_100");
BENCHMARK_CAPTURE(map_unmap, 100k, 100000)->Name("space_map_unmap_100k");

void space_region(benchmark::State &state)
{
    for (auto _ : state) {
    }
    state.counters["bytes"] = sizeof(mmi_region);
}
BENCHMARK(space_region);

// ---- faults -------------------------------------------------------------------------------------

// First writes to the pages of one table; the table is made by the first, those above it are there.
void fault_zero(benchmark::State &state, bool live)
{
    World world(live);

    world.map_written(Base + Batch * Page, 1, 1);
    measure(
        state, Batch, [&] { world.map(Base, Batch, 0); },
        [&] { return world.fault_all(Base, Batch); }, [&] { world.unmap(Base, Batch); });
}
BENCHMARK_CAPTURE(fault_zero, live, true)->Name("space_fault_zero")->UseManualTime();
BENCHMARK_CAPTURE(fault_zero, unused, false)->Name("space_fault_zero_unused")->UseManualTime();

// Faults of pages that are there: all of the call but the frame and the leaf.
void space_fault_minor(benchmark::State &state)
{
    World world;

    world.map_written(Base, Batch, 0);
    measure(
        state, Batch, nothing, [&] { return world.fault_all(Base, Batch); }, nothing);
}
BENCHMARK(space_fault_minor)->UseManualTime();

std::vector<void *> take_frames(World &world)
{
    std::vector<void *> frames(Batch);

    for (auto &frame : frames) {
        frame = world.take();
    }
    return frames;
}

// The zeroing that the fault does: the same function, as many frames of the same memory.
void space_zero_floor(benchmark::State &state)
{
    World world;
    const auto frames = take_frames(world);

    measure(
        state, Batch, nothing,
        [&] {
            for (void *frame : frames) {
                memset(frame, 0, Page);
                benchmark::ClobberMemory();
            }
            return true;
        },
        nothing);
}
BENCHMARK(space_zero_floor)->UseManualTime();

// Writes after a clone: each makes a copy. The frames that were shared go with the child, and are
// copied to the next time.
void fault_cow(benchmark::State &state, bool live)
{
    World world(live);
    mm_space *child = nullptr;

    world.map_written(Base, Batch, 0);
    measure(
        state, Batch, [&] { check(mm_space_clone(world.space, &child)); },
        [&] { return world.fault_all(Base, Batch); },
        [&] {
            mm_space_put(child);
            world.written(Base, Batch);
        });
}
BENCHMARK_CAPTURE(fault_cow, live, true)->Name("space_fault_cow")->UseManualTime();
BENCHMARK_CAPTURE(fault_cow, unused, false)->Name("space_fault_cow_unused")->UseManualTime();

// Writes when the child has gone: the last sharer takes the frame.
void space_fault_reuse(benchmark::State &state)
{
    World world;
    mm_space *child = nullptr;

    world.map_written(Base, Batch, 0);
    measure(
        state, Batch,
        [&] {
            check(mm_space_clone(world.space, &child));
            mm_space_put(child);
        },
        [&] { return world.fault_all(Base, Batch); }, [&] { world.written(Base, Batch); });
}
BENCHMARK(space_fault_reuse)->UseManualTime();

// The copying that the fault does: the same function, as many frames of the same memory, to and fro.
void space_copy_floor(benchmark::State &state)
{
    World world;
    auto from = take_frames(world);
    auto to = take_frames(world);

    measure(
        state, Batch, nothing,
        [&] {
            for (uint64_t i = 0; i < Batch; i++) {
                memcpy(to[i], from[i], Page);
                benchmark::ClobberMemory();
            }
            return true;
        },
        [&] { from.swap(to); });
}
BENCHMARK(space_copy_floor)->UseManualTime();

// ---- clone --------------------------------------------------------------------------------------

// The parent's call only. `again`: the pages are shared already, and read-only.
void clone(benchmark::State &state, bool live, bool again)
{
    constexpr uint64_t NrPages = 4096;
    World world(live);
    mm_space *other = nullptr;
    mm_space *child = nullptr;

    world.map_written(Base, NrPages, 0);
    if (again) {
        check(mm_space_clone(world.space, &other));
    }
    measure(
        state, NrPages, nothing,
        [&] {
            check(mm_space_clone(world.space, &child));
            return true;
        },
        [&] {
            mm_space_put(child);
            if (!again) {
                world.make_writable(Base, NrPages);
                world.written(Base, NrPages);
            }
        });
    if (again) {
        mm_space_put(other);
    }
}
BENCHMARK_CAPTURE(clone, live, true, false)->Name("space_fork_page")->UseManualTime();
BENCHMARK_CAPTURE(clone, again, true, true)->Name("space_fork_page_again")->UseManualTime();
BENCHMARK_CAPTURE(clone, unused, false, false)->Name("space_fork_page_unused")->UseManualTime();

// The last put of a child that has written nothing, a page.
void space_exit_page(benchmark::State &state)
{
    constexpr uint64_t NrPages = 4096;
    World world;
    mm_space *child = nullptr;

    world.map_written(Base, NrPages, 0);
    measure(
        state, NrPages, [&] { check(mm_space_clone(world.space, &child)); },
        [&] { return mm_space_put(child); }, nothing);
}
BENCHMARK(space_exit_page)->UseManualTime();

// ---- unmap --------------------------------------------------------------------------------------

// All of so many written pages at once, that are in regions of so many.
void unmap(benchmark::State &state, bool live, uint64_t nr_pages, uint64_t of_region)
{
    World world(live);

    world.map_written(Base - 512 * Batch * Page, 1, 1); // so that the space is never empty
    measure(
        state, nr_pages,
        [&] {
            for (uint64_t i = 0; i < nr_pages; i += of_region) {
                world.map_written(Base + i * Page, of_region, i);
            }
        },
        [&] {
            world.unmap(Base, nr_pages);
            return true;
        },
        nothing);
}
BENCHMARK_CAPTURE(unmap, live, true, Batch, Batch)->Name("space_munmap_page")->UseManualTime();
BENCHMARK_CAPTURE(unmap, unused, false, Batch, Batch)
    ->Name("space_munmap_page_unused")
    ->UseManualTime();
BENCHMARK_CAPTURE(unmap, 4096, true, 8 * Batch, 8 * Batch)
    ->Name("space_munmap_page_of_4096")
    ->UseManualTime();
BENCHMARK_CAPTURE(unmap, regions16, true, Batch, 16)
    ->Name("space_munmap_page_regions_of_16")
    ->UseManualTime();

} // namespace
