// SPDX-License-Identifier: MIT
//
// Figures of the frame allocator over 8 GiB that nobody touches: only the allocator's own state is
// read and written. The floor is an array stack without a lock or a check; both are called through
// a function pointer. bench/README.md tells how figures are made from these.
#include <mm/frame.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sys/mman.h>
#include <vector>

namespace
{

constexpr uint64_t GiB = UINT64_C(1) << 30;

// An allocator over memory from 4 GiB on, whose frames are numbers and nothing else.
class Machine
{
  public:
    explicit Machine(uint64_t bytes, uint32_t flags = 0)
    {
        uint64_t len = 0;

        check(mm_bootmap_init(&map_, entries_, MM_BOOTMAP_CAPACITY(2)));
        check(mm_bootmap_add(&map_, mm_prange(mm_paddr(4 * GiB), bytes), MM_BOOT_USABLE));
        config_.map = &map_;
        config_.nr_cpus = 2;
        config_.flags = flags;
        check(mm_frame_metadata_size(&config_, &len));
        metadata_len_ = len;
        metadata_ = mmap(nullptr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (metadata_ == MAP_FAILED) {
            abort();
        }
        config_.map = &map_;
        config_.nr_cpus = 2;
        config_.flags = flags;
        config_.metadata = metadata_;
        config_.metadata_len = len;
        init();
    }
    ~Machine()
    {
        munmap(metadata_, metadata_len_);
    }
    Machine(const Machine &) = delete;
    Machine &operator=(const Machine &) = delete;

    void init()
    {
        check(mm_frame_init(&frames, &config_));
    }
    // Down, with metadata zeroed for the next init.
    void reset()
    {
        check(mm_frame_destroy(&frames));
        memset(metadata_, 0, metadata_len_);
    }

    static void check(mm_status_t status)
    {
        if (status != MM_OK) {
            fprintf(stderr, "bench_frame: %s\n", mm_status_str(status));
            abort();
        }
    }

    alignas(64) mm_frames frames{};

  private:
    mm_boot_entry entries_[MM_BOOTMAP_CAPACITY(2)]{};
    mm_bootmap map_{};
    mm_frames_config config_{};
    void *metadata_ = nullptr;
    size_t metadata_len_ = 0;
};

// The floor: frame numbers on a stack, 4 bytes a frame.
struct Stack {
    std::vector<uint32_t> list;
    size_t nr;
    uint64_t first;
};

mm_status_t stack_pop(Stack *stack, uint32_t, mm_pfn_t *out)
{
    if (stack->nr == 0) {
        return MM_ERR_NO_MEMORY;
    }
    out->raw = stack->first + stack->list[--stack->nr];
    return MM_OK;
}

void stack_push(Stack *stack, mm_pfn_t frame, uint32_t)
{
    stack->list[stack->nr++] = static_cast<uint32_t>(frame.raw - stack->first);
}

Stack make_stack(uint64_t bytes)
{
    Stack stack;

    stack.nr = bytes / MM_PAGE_SIZE;
    stack.first = 4 * GiB / MM_PAGE_SIZE;
    for (uint64_t i = 0; i < stack.nr; i++) {
        stack.list.push_back(static_cast<uint32_t>(i));
    }
    return stack;
}

// Calls that the compiler cannot see through.
using AllocCall = mm_status_t (*)(mm_frames *, uint32_t, mm_pfn_t *);
using FreeCall = void (*)(mm_frames *, mm_pfn_t, uint32_t);
using PopCall = mm_status_t (*)(Stack *, uint32_t, mm_pfn_t *);
using PushCall = void (*)(Stack *, mm_pfn_t, uint32_t);

template <class Call> Call opaque(Call call)
{
    benchmark::DoNotOptimize(call);
    return call;
}

constexpr int PAIRS = 256;

template <class Allocator, class Alloc, class Free>
void hot_pair(benchmark::State &state, Allocator *allocator, Alloc alloc, Free give_back)
{
    mm_pfn_t frame{};

    for (auto _ : state) {
        for (int i = 0; i < PAIRS; i++) {
            if (alloc(allocator, 0, &frame) != MM_OK) {
                state.SkipWithError("no frame");
                return;
            }
            give_back(allocator, frame, 0);
        }
    }
    state.SetItemsProcessed(state.iterations() * PAIRS);
}

// Fill to some percent, then free a frame at random and allocate one, over and over.
template <class Allocator, class Alloc, class Free>
void churn(benchmark::State &state, Allocator *allocator, Alloc alloc, Free give_back)
{
    uint64_t nr = 8 * GiB / MM_PAGE_SIZE * static_cast<uint64_t>(state.range(0)) / 100;
    std::vector<mm_pfn_t> live(nr);
    std::mt19937_64 random(1);
    std::vector<uint32_t> victims(1 << 16);
    size_t at = 0;

    for (auto &frame : live) {
        Machine::check(alloc(allocator, 0, &frame));
    }
    for (auto &victim : victims) {
        victim = static_cast<uint32_t>(random() % nr);
    }
    for (auto _ : state) {
        for (int i = 0; i < PAIRS; i++) {
            mm_pfn_t &frame = live[victims[at++ % victims.size()]];

            // What the caller keeps is not what is measured.
            __builtin_prefetch(&live[victims[(at + 7) % victims.size()]], 1);
            give_back(allocator, frame, 0);
            if (alloc(allocator, 0, &frame) != MM_OK) {
                state.SkipWithError("no frame");
                return;
            }
        }
    }
    state.SetItemsProcessed(state.iterations() * PAIRS);
}

// Free a quarter of memory in random order.
template <class Allocator, class Alloc, class Free>
void random_free(benchmark::State &state, Allocator *allocator, Alloc alloc, Free give_back)
{
    std::vector<mm_pfn_t> live(GiB / MM_PAGE_SIZE * 2);
    std::mt19937_64 random(1);

    for (auto _ : state) {
        state.PauseTiming();
        for (auto &frame : live) {
            Machine::check(alloc(allocator, 0, &frame));
        }
        std::shuffle(live.begin(), live.end(), random);
        state.ResumeTiming();
        for (auto &frame : live) {
            give_back(allocator, frame, 0);
        }
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(live.size()));
}

void frame_hot_pair(benchmark::State &state)
{
    Machine machine(8 * GiB);

    hot_pair(state, &machine.frames, opaque<AllocCall>(mm_frame_alloc_on),
             opaque<FreeCall>(mm_frame_free));
}
BENCHMARK(frame_hot_pair);

void frame_hot_pair_floor(benchmark::State &state)
{
    Stack stack = make_stack(8 * GiB);

    hot_pair(state, &stack, opaque<PopCall>(stack_pop), opaque<PushCall>(stack_push));
}
BENCHMARK(frame_hot_pair_floor);

// The same for an allocator that keeps reference counts.
void frame_hot_pair_refcounts(benchmark::State &state)
{
    Machine machine(8 * GiB, MM_FRAMES_REFCOUNTS);

    hot_pair(state, &machine.frames, opaque<AllocCall>(mm_frame_alloc_on),
             opaque<FreeCall>(mm_frame_free));
}
BENCHMARK(frame_hot_pair_refcounts);

void frame_churn(benchmark::State &state)
{
    Machine machine(8 * GiB);

    churn(state, &machine.frames, opaque<AllocCall>(mm_frame_alloc_on),
          opaque<FreeCall>(mm_frame_free));
}
BENCHMARK(frame_churn)->Arg(50)->Arg(90)->Arg(99);

void frame_churn_floor(benchmark::State &state)
{
    Stack stack = make_stack(8 * GiB);

    churn(state, &stack, opaque<PopCall>(stack_pop), opaque<PushCall>(stack_push));
}
BENCHMARK(frame_churn_floor)->Arg(50)->Arg(90)->Arg(99);

void frame_random_free(benchmark::State &state)
{
    Machine machine(8 * GiB);

    random_free(state, &machine.frames, opaque<AllocCall>(mm_frame_alloc_on),
                opaque<FreeCall>(mm_frame_free));
}
BENCHMARK(frame_random_free);

void frame_random_free_floor(benchmark::State &state)
{
    Stack stack = make_stack(8 * GiB);

    random_free(state, &stack, opaque<PopCall>(stack_pop), opaque<PushCall>(stack_push));
}
BENCHMARK(frame_random_free_floor);

// A block of 2 MiB, and back.
void frame_order9(benchmark::State &state)
{
    Machine machine(8 * GiB);
    mm_frame_request request{};
    mm_pfn_t frame{};

    request.order = 9;
    for (auto _ : state) {
        for (int i = 0; i < PAIRS; i++) {
            if (mm_frame_alloc(&machine.frames, &request, &frame) != MM_OK) {
                state.SkipWithError("no block");
                return;
            }
            mm_frame_free(&machine.frames, frame, 9);
        }
    }
    state.SetItemsProcessed(state.iterations() * PAIRS);
}
BENCHMARK(frame_order9);

// One frame of each 2 MiB is in use: there is no block, and that must be known soon.
void frame_order9_failing(benchmark::State &state)
{
    Machine machine(8 * GiB);
    mm_frame_request request{};
    mm_pfn_t frame{};

    for (uint64_t at = 4 * GiB; at < 12 * GiB; at += MM_SIZE_2M) {
        Machine::check(mm_frame_alloc_at(&machine.frames, mm_pfn(at / MM_PAGE_SIZE + 77), 1));
    }
    request.order = 9;
    for (auto _ : state) {
        if (mm_frame_alloc(&machine.frames, &request, &frame) != MM_ERR_NO_MEMORY) {
            state.SkipWithError("a block");
            return;
        }
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_order9_failing);

// 512 frames at a time, fresh, and back; per frame.
void frame_bulk512(benchmark::State &state)
{
    Machine machine(8 * GiB);
    mm_pfn_t list[512];
    size_t done = 0;

    for (auto _ : state) {
        if (mm_frame_alloc_bulk(&machine.frames, 0, list, 512, &done) != MM_OK) {
            state.SkipWithError("no frames");
            return;
        }
        benchmark::DoNotOptimize(list);
        mm_frame_free_bulk(&machine.frames, list, 512);
    }
    state.SetItemsProcessed(state.iterations() * 512);
}
BENCHMARK(frame_bulk512);

void frame_bulk512_floor(benchmark::State &state)
{
    Stack stack = make_stack(8 * GiB);
    PopCall pop = opaque<PopCall>(stack_pop);
    PushCall push = opaque<PushCall>(stack_push);
    mm_pfn_t list[512];

    for (auto _ : state) {
        for (auto &frame : list) {
            Machine::check(pop(&stack, 0, &frame));
        }
        benchmark::DoNotOptimize(list);
        for (auto &frame : list) {
            push(&stack, frame, 0);
        }
    }
    state.SetItemsProcessed(state.iterations() * 512);
}
BENCHMARK(frame_bulk512_floor);

// Bring up an allocator of 1 TiB; its metadata has been touched before.
void frame_init_1tib(benchmark::State &state)
{
    Machine machine(1024 * GiB);

    for (auto _ : state) {
        state.PauseTiming();
        machine.reset();
        state.ResumeTiming();
        machine.init();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_init_1tib);

// Its floor: a memset of the same metadata.
void frame_init_1tib_floor(benchmark::State &state)
{
    Machine machine(1024 * GiB);
    mm_frame_stats stats{};

    Machine::check(mm_frame_get_stats(&machine.frames, &stats));
    std::vector<unsigned char> metadata(stats.metadata_bytes);
    for (auto _ : state) {
        memset(metadata.data(), 0xff, metadata.size());
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_init_1tib_floor);

// Bytes of allocation state a frame, of an allocator of 8 GiB with everything switched on.
void frame_metadata(benchmark::State &state)
{
    Machine machine(8 * GiB, MM_FRAMES_FLAGS_ALL);
    mm_frame_stats stats{};

    for (auto _ : state) {
        Machine::check(mm_frame_get_stats(&machine.frames, &stats));
    }
    state.counters["bytes_per_frame"] =
        static_cast<double>(stats.state_bytes) / static_cast<double>(stats.nr_frames);
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_metadata);

} // namespace
