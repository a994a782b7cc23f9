// SPDX-License-Identifier: MIT
//
// Figures of blocks and runs of the frame allocator, of requests that fail, and of blocks that
// stay whole. The memory and the calls are those of bench_frame.cc.
#include "frame_bench.h"

namespace
{

using namespace frame_bench;

mm_frame_request of_order(uint32_t order)
{
    mm_frame_request request{};

    request.order = order;
    return request;
}

mm_frame_request of_run(uint64_t nr_frames)
{
    mm_frame_request request{};

    request.nr_frames = nr_frames;
    return request;
}

// Every frame allocated.
void fill(Machine &machine)
{
    std::vector<mm_pfn_t> list(NR_FRAMES);
    size_t done = 0;

    check(mm_frame_alloc_bulk(&machine.frames, 0, list.data(), list.size(), &done));
}

// One frame of each so many allocated: that at `offset`.
void hold_each(Machine &machine, uint64_t each, uint64_t offset)
{
    for (uint64_t i = offset; i < NR_FRAMES; i += each) {
        check(mm_frame_alloc_at(&machine.frames, mm_pfn(FIRST + i), 1));
    }
}

// A block of 2 MiB, and back, after long use: memory is filled to 90 % with single frames, which
// are freed and allocated at random for a while. Then every frame of a random quarter of the 2 MiB
// blocks is freed, so that there are whole blocks.
void frame_order9(benchmark::State &state)
{
    const mm_frame_request request = of_order(9);
    Frames frames;
    Churn<Frames> churn(frames, 90);
    std::vector<uint8_t> chosen(NR_BLOCKS);
    Dice dice(2);

    for (uint64_t i = 0; i < NR_BLOCKS / 4; i++) {
        chosen[i] = 1;
    }
    dice.shuffle(chosen);
    for (uint32_t frame : churn.live()) {
        if (chosen[(frame - FIRST) / 512] != 0) {
            frames.give(mm_pfn(frame));
        }
    }

    const auto alloc = opaque(&mm_frame_alloc);
    const auto give_back = opaque(&mm_frame_free);
    mm_pfn_t first{};

    for (auto _ : state) {
        for (int i = 0; i < PAIRS; i++) {
            if (alloc(&frames.machine.frames, &request, &first) != MM_OK) {
                state.SkipWithError("no memory");
                return;
            }
            give_back(&frames.machine.frames, first, 9);
        }
    }
    state.SetItemsProcessed(state.iterations() * PAIRS);
}
BENCHMARK(frame_order9);

// One frame of each 2 MiB is in use: there is no block, and that must be known soon.
void frame_order9_failing(benchmark::State &state)
{
    const mm_frame_request request = of_order(9);
    Requests requests(&request);

    hold_each(requests.machine, 512, 77);
    measure_failing(state, requests, &request);
}
BENCHMARK(frame_order9_failing);

// A block of 1 GiB, and back.
void frame_order18(benchmark::State &state)
{
    const mm_frame_request request = of_order(18);
    Requests requests(&request);
    mm_pfn_t first{};

    for (auto _ : state) {
        if (!requests.take(&first)) {
            state.SkipWithError("no memory");
            return;
        }
        requests.give(first);
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_order18);

// Memory is full: there is no frame.
void frame_order0_failing(benchmark::State &state)
{
    const mm_frame_request request{};
    Requests requests(&request);

    fill(requests.machine);
    measure_failing(state, requests, &request);
}
BENCHMARK(frame_order0_failing);

// Every second frame is allocated: there are no two.
void frame_order1_failing(benchmark::State &state)
{
    const mm_frame_request request = of_order(1);
    Requests requests(&request);

    hold_each(requests.machine, 2, 1);
    measure_failing(state, requests, &request);
}
BENCHMARK(frame_order1_failing);

// One frame of each 16 is allocated: 15 are the most there are in a row.
void frame_run16_failing(benchmark::State &state)
{
    const mm_frame_request request = of_run(16);
    Requests requests(&request);

    hold_each(requests.machine, 16, 5);
    measure_failing(state, requests, &request);
}
BENCHMARK(frame_run16_failing);

// Runs of 16 frames, and blocks of as many, which differ in what they are aligned to.
class Runs16 : public Requests
{
  public:
    Runs16() : Requests(&REQUEST)
    {
    }

    void give(mm_pfn_t first)
    {
        give_run(first, UNIT);
    }

    static constexpr uint64_t UNIT = 16;

  private:
    static const mm_frame_request REQUEST;
};
const mm_frame_request Runs16::REQUEST = of_run(UNIT);

class Blocks16 : public Requests
{
  public:
    Blocks16() : Requests(&REQUEST)
    {
    }

    static constexpr uint64_t UNIT = 16;

  private:
    static const mm_frame_request REQUEST;
};
const mm_frame_request Blocks16::REQUEST = of_order(4);

// One of them is freed at random and one allocated, with 90 % in use and no other size.
template <class Allocator> void churn90(benchmark::State &state)
{
    Allocator allocator;

    measure_churn(state, allocator, 90);
}
BENCHMARK(churn90<Runs16>)->Name("frame_run16_churn90");
BENCHMARK(churn90<Blocks16>)->Name("frame_order4_churn90");

// Of memory filled to 95 % with frames for the kernel (one in 20) and movable ones, in random
// order, the movable ones are freed: the part of the 2 MiB blocks that could be whole and is.
void measure_whole(benchmark::State &state, bool hinted)
{
    static uint64_t seed = 0;
    std::vector<mm_pfn_t> movable;
    double part = 0;

    movable.reserve(NR_FRAMES);
    for (auto _ : state) {
        Requests requests(nullptr);
        mm_frame_request request{};
        mm_frame_stats stats{};
        Dice dice(++seed);
        uint64_t nr_kernel = 0;

        movable.clear();
        for (uint64_t i = 0; i < NR_FRAMES * 95 / 100; i++) {
            const bool is_kernel = dice.below(20) == 0;
            mm_pfn_t frame{};

            if (hinted) {
                request.lifetime = is_kernel ? MM_LIFETIME_KERNEL : MM_LIFETIME_MOVABLE;
            }
            mm_status_t status = requests.ask(&request, &frame);
            if (status != MM_OK) {
                state.SkipWithError(status == MM_ERR_UNSUPPORTED ? "not supported: lifetime"
                                                                 : "no memory");
                return;
            }
            if (is_kernel) {
                nr_kernel++;
            } else {
                movable.push_back(frame);
            }
        }
        for (mm_pfn_t frame : movable) {
            requests.give(frame);
        }
        check(mm_frame_get_stats(&requests.machine.frames, &stats));
        part = static_cast<double>(stats.nr_free_2m) /
               static_cast<double>(NR_BLOCKS - (nr_kernel + 511) / 512);
    }
    state.counters["part_whole"] = part;
}

void frame_whole_2m_hinted(benchmark::State &state)
{
    measure_whole(state, true);
}
BENCHMARK(frame_whole_2m_hinted)->Iterations(1)->Unit(benchmark::kMillisecond);

void frame_whole_2m_mixed(benchmark::State &state)
{
    measure_whole(state, false);
}
BENCHMARK(frame_whole_2m_mixed)->Iterations(1)->Unit(benchmark::kMillisecond);

} // namespace
