// SPDX-License-Identifier: MIT
//
// Figures of the frame allocator over 8 GiB that nobody touches: only the allocator's own state is
// read and written. Here are single frames and bring-up; frame_blocks.cc has blocks and runs,
// frame_threads.cc several CPUs. README.md tells how figures are made from these.
#include "frame_bench.h"

#include <memory>

namespace
{

using namespace frame_bench;

uint32_t cpu_zero(void *)
{
    return 0;
}

const mm_platform_ops PLATFORM = [] {
    mm_platform_ops ops{};

    ops.cpu_number = cpu_zero;
    return ops;
}();

// One frame, by a caller that knows the number of its CPU.
void frame_hot_pair(benchmark::State &state)
{
    Frames frames;

    measure_pairs(state, frames);
}
BENCHMARK(frame_hot_pair);

void frame_hot_pair_floor(benchmark::State &state)
{
    Floor floor;

    measure_pairs(state, floor);
}
BENCHMARK(frame_hot_pair_floor);

// The same by two exchanges and nothing else.
void frame_hot_pair_exchanges(benchmark::State &state)
{
    Exchanges exchanges;

    measure_pairs(state, exchanges);
}
BENCHMARK(frame_hot_pair_exchanges);

// One frame, where the platform's op is asked for that number.
void frame_hot_pair_ops(benchmark::State &state)
{
    MachineOptions options;

    options.ops = &PLATFORM;
    Requests requests(nullptr, options);
    measure_pairs(state, requests);
}
BENCHMARK(frame_hot_pair_ops);

// One frame of an allocator that keeps reference counts.
void frame_hot_pair_refcounts(benchmark::State &state)
{
    MachineOptions options;

    options.flags = MM_FRAMES_REFCOUNTS;
    Frames frames(options);
    measure_pairs(state, frames);
}
BENCHMARK(frame_hot_pair_refcounts);

// A frame is freed at random and one is allocated, with so many percent in use.
void frame_churn(benchmark::State &state)
{
    Frames frames;

    measure_churn(state, frames, static_cast<uint64_t>(state.range(0)));
}
BENCHMARK(frame_churn)->Arg(50)->Arg(90)->Arg(99);

void frame_churn_floor(benchmark::State &state)
{
    Floor floor;

    measure_churn(state, floor, static_cast<uint64_t>(state.range(0)));
}
BENCHMARK(frame_churn_floor)->Arg(50)->Arg(90)->Arg(99);

// Free a quarter of memory in random order.
template <class Allocator> void random_free(benchmark::State &state)
{
    Allocator allocator;
    std::vector<mm_pfn_t> live(NR_FRAMES / 4);
    Dice dice(1);

    for (auto _ : state) {
        state.PauseTiming();
        for (auto &frame : live) {
            if (!allocator.take(&frame)) {
                abort();
            }
        }
        dice.shuffle(live);
        state.ResumeTiming();
        for (auto &frame : live) {
            allocator.give(frame);
        }
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(live.size()));
}
BENCHMARK(random_free<Frames>)->Name("frame_random_free");
BENCHMARK(random_free<Floor>)->Name("frame_random_free_floor");

// The same by an exchange and nothing else.
void frame_random_free_exchanges(benchmark::State &state)
{
    std::vector<mm_pfn_t> live(NR_FRAMES / 4);
    Dice dice(1);

    for (auto _ : state) {
        state.PauseTiming();
        auto exchanges = std::make_unique<Exchanges>(live.size());
        for (uint64_t i = 0; i < live.size(); i++) {
            live[i].raw = i;
        }
        dice.shuffle(live);
        state.ResumeTiming();
        for (auto &frame : live) {
            exchanges->give(frame);
        }
        state.PauseTiming();
        exchanges.reset();
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(live.size()));
}
BENCHMARK(frame_random_free_exchanges);

constexpr size_t BULK = 512;

// Many frames at a time, and back; per frame.
void measure_bulk(benchmark::State &state, Frames &frames)
{
    const auto alloc = opaque(&mm_frame_alloc_bulk);
    const auto give_back = opaque(&mm_frame_free_bulk);
    mm_pfn_t list[BULK];
    size_t done = 0;

    for (auto _ : state) {
        if (alloc(&frames.machine.frames, 0, list, BULK, &done) != MM_OK) {
            state.SkipWithError("no memory");
            return;
        }
        give_back(&frames.machine.frames, list, BULK);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(BULK));
}

// The floor has no such call: it is called as often as there are frames.
void measure_bulk(benchmark::State &state, Floor &floor)
{
    mm_pfn_t list[BULK];

    for (auto _ : state) {
        for (auto &frame : list) {
            if (__builtin_expect(!floor.take(&frame), 0)) {
                state.SkipWithError("no memory");
                return;
            }
        }
        for (auto &frame : list) {
            floor.give(frame);
        }
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(BULK));
}

template <class Allocator> void bulk512(benchmark::State &state)
{
    Allocator allocator;

    measure_bulk(state, allocator);
}
BENCHMARK(bulk512<Frames>)->Name("frame_bulk512");
BENCHMARK(bulk512<Floor>)->Name("frame_bulk512_floor");

// The same with 90 % in use, where what is free is scattered.
template <class Allocator> void bulk512_90(benchmark::State &state)
{
    Allocator allocator;
    Churn<Allocator> churn(allocator, 90);

    measure_bulk(state, allocator);
}
BENCHMARK(bulk512_90<Frames>)->Name("frame_bulk512_90");
BENCHMARK(bulk512_90<Floor>)->Name("frame_bulk512_90_floor");

// A frame that is zeroed, of which there are 64 MiB to be had.
void frame_zeroed(benchmark::State &state)
{
    Memory memory(64 << 20);
    mm_frame_request request{};
    MachineOptions options;

    request.flags = MM_FRAME_ZERO;
    options.bytes = memory.len();
    options.memory = memory.at();
    Requests requests(&request, options);
    measure_pairs(state, requests);
}
BENCHMARK(frame_zeroed);

// Its floor: memset of a page.
void frame_zeroed_floor(benchmark::State &state)
{
    Memory memory(MM_PAGE_SIZE);

    for (auto _ : state) {
        memset(memory.at(), 0, memory.len());
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_zeroed_floor);

// Bring up an allocator of 1 TiB; its metadata has been touched before, and zeroing it between
// runs is not timed.
void frame_init_1tib(benchmark::State &state)
{
    MachineOptions options;

    options.bytes = 1024 * GiB;
    Machine machine(options);
    for (auto _ : state) {
        state.PauseTiming();
        machine.reset();
        state.ResumeTiming();
        machine.init();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_init_1tib);

// Its floor: a memset of as much.
void frame_init_1tib_floor(benchmark::State &state)
{
    MachineOptions options;
    mm_frame_stats stats{};

    options.bytes = 1024 * GiB;
    Machine machine(options);
    check(mm_frame_get_stats(&machine.frames, &stats));
    Memory memory(stats.metadata_bytes);
    for (auto _ : state) {
        memset(memory.at(), 0xff, memory.len());
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_init_1tib_floor);

// Bytes of allocation state a frame, of an allocator with everything switched on.
void frame_metadata(benchmark::State &state)
{
    MachineOptions options;
    mm_frame_stats stats{};

    options.flags = MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS;
    Machine machine(options);
    for (auto _ : state) {
        check(mm_frame_get_stats(&machine.frames, &stats));
    }
    state.counters["bytes_per_frame"] =
        static_cast<double>(stats.state_bytes) / static_cast<double>(stats.nr_frames);
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_metadata);

} // namespace
