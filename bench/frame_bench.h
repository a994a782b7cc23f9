// SPDX-License-Identifier: MIT
//
// What the benchmarks of the frame allocator share: the library and the floor behind one interface,
// both called through a function pointer, and memory in the state that long use leaves.
//
// An allocator here is a class with take() and give(), whose unit is a frame or a block. Benchmarks
// are templates over it, so that the library and the floor run in the same loop.
#ifndef FRAME_BENCH_H
#define FRAME_BENCH_H

#include <mm/frame.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <utility>
#include <vector>

namespace frame_bench
{

constexpr uint64_t GiB = UINT64_C(1) << 30;
constexpr uint64_t MEMORY = 8 * GiB;
constexpr uint64_t FIRST = 4 * GiB / MM_PAGE_SIZE; // the lowest frame
constexpr uint64_t NR_FRAMES = MEMORY / MM_PAGE_SIZE;
constexpr uint64_t NR_BLOCKS = NR_FRAMES / 512; // of 2 MiB
constexpr int PAIRS = 256;                      // in one turn of a benchmark's loop

inline void check(mm_status_t status)
{
    if (status != MM_OK) {
        fprintf(stderr, "bench_frame: %s\n", mm_status_str(status));
        abort();
    }
}

// A call that the compiler cannot see through.
template <class Call> Call opaque(Call call)
{
    asm volatile("" : "+r"(call));
    return call;
}

// Zeroed memory, all of it touched.
class Memory
{
  public:
    explicit Memory(uint64_t len) : len_(len)
    {
        at_ = mmap(nullptr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                   -1, 0);
        if (at_ == MAP_FAILED) {
            abort();
        }
    }
    ~Memory()
    {
        munmap(at_, len_);
    }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    void *at() const
    {
        return at_;
    }
    uint64_t len() const
    {
        return len_;
    }

  private:
    void *at_ = nullptr;
    uint64_t len_;
};

// What a benchmark may want other than 8 GiB and nothing else.
struct MachineOptions {
    uint64_t bytes = MEMORY;
    uint32_t flags = 0;
    const mm_platform_ops *ops = nullptr;
    void *memory = nullptr; // what is behind the frames; nobody else touches them
};

// An allocator over memory from 4 GiB on, whose frames are numbers and nothing else.
class Machine
{
  public:
    explicit Machine(const MachineOptions &options = {}) : metadata_(describe(options))
    {
        config_.map = &map_;
        config_.nr_cpus = 2;
        config_.flags = options.flags;
        config_.platform.ops = options.ops;
        config_.metadata = metadata_.at();
        config_.metadata_len = metadata_.len();
        if (options.memory != nullptr) {
            physmap_ = mm_physmap_direct(reinterpret_cast<uintptr_t>(options.memory) - 4 * GiB);
            config_.physmap = &physmap_;
        }
        init();
    }

    void init()
    {
        check(mm_frame_init(&frames, &config_));
    }
    // Down, with metadata zeroed for the next init.
    void reset()
    {
        check(mm_frame_destroy(&frames));
        memset(metadata_.at(), 0, metadata_.len());
    }

    alignas(64) mm_frames frames{};

  private:
    uint64_t describe(const MachineOptions &options)
    {
        uint64_t len = 0;

        check(mm_bootmap_init(&map_, entries_, MM_BOOTMAP_CAPACITY(2)));
        check(mm_bootmap_add(&map_, mm_prange(mm_paddr(4 * GiB), options.bytes), MM_BOOT_USABLE));
        config_.map = &map_;
        config_.nr_cpus = 2;
        config_.flags = options.flags;
        check(mm_frame_metadata_size(&config_, &len));
        return len;
    }

    mm_boot_entry entries_[MM_BOOTMAP_CAPACITY(2)]{};
    mm_bootmap map_{};
    mm_physmap physmap_{};
    mm_frames_config config_{};
    Memory metadata_;
};

// Single frames of the library, by a caller that knows its CPU's number.
class Frames
{
  public:
    explicit Frames(const MachineOptions &options = {}) : machine(options)
    {
    }

    bool take(mm_pfn_t *out)
    {
        return alloc_(&machine.frames, 0, out) == MM_OK;
    }
    void give(mm_pfn_t frame)
    {
        free_(&machine.frames, frame, 0);
    }

    static constexpr uint64_t UNIT = 1;
    Machine machine;

  private:
    mm_status_t (*const alloc_)(mm_frames *, uint32_t, mm_pfn_t *) = opaque(&mm_frame_alloc_on);
    void (*const free_)(mm_frames *, mm_pfn_t, uint32_t) = opaque(&mm_frame_free);
};

// Whatever a request asks for; null: a frame.
class Requests
{
  public:
    explicit Requests(const mm_frame_request *request, const MachineOptions &options = {})
        : machine(options), request_(request)
    {
    }

    mm_status_t ask(const mm_frame_request *request, mm_pfn_t *out)
    {
        return alloc_(&machine.frames, request, out);
    }
    bool take(mm_pfn_t *out)
    {
        return ask(request_, out) == MM_OK;
    }
    void give(mm_pfn_t first)
    {
        free_(&machine.frames, first, request_ != nullptr ? request_->order : 0);
    }
    void give_run(mm_pfn_t first, uint64_t nr_frames)
    {
        free_run_(&machine.frames, first, nr_frames);
    }

    Machine machine;

  private:
    mm_status_t (*const alloc_)(mm_frames *, const mm_frame_request *,
                                mm_pfn_t *) = opaque(&mm_frame_alloc);
    void (*const free_)(mm_frames *, mm_pfn_t, uint32_t) = opaque(&mm_frame_free);
    void (*const free_run_)(mm_frames *, mm_pfn_t, uint64_t) = opaque(&mm_frame_free_run);
    const mm_frame_request *const request_;
};

// The floor: frame numbers on a stack, 4 bytes a frame, no lock, no check but for "empty". Its
// functions begin a cache line, so that the floor does not change with what is linked beside it.
struct Stack {
    uint32_t *list;
    uint64_t nr;
};

[[gnu::noinline, gnu::aligned(64)]] inline mm_status_t stack_pop(Stack *stack, uint32_t,
                                                                 mm_pfn_t *out)
{
    uint64_t nr = stack->nr;

    if (__builtin_expect(nr == 0, 0)) {
        return MM_ERR_NO_MEMORY;
    }
    stack->nr = nr - 1;
    out->raw = stack->list[nr - 1];
    return MM_OK;
}

[[gnu::noinline, gnu::aligned(64)]] inline void stack_push(Stack *stack, mm_pfn_t frame, uint32_t)
{
    stack->list[stack->nr++] = static_cast<uint32_t>(frame.raw);
}

class Floor
{
  public:
    Floor() : list_(NR_FRAMES)
    {
        for (uint64_t i = 0; i < NR_FRAMES; i++) {
            list_[i] = static_cast<uint32_t>(FIRST + i);
        }
        stack_.list = list_.data();
        stack_.nr = NR_FRAMES;
    }

    bool take(mm_pfn_t *out)
    {
        return pop_(&stack_, 0, out) == MM_OK;
    }
    void give(mm_pfn_t frame)
    {
        push_(&stack_, frame, 0);
    }

    static constexpr uint64_t UNIT = 1;

  private:
    std::vector<uint32_t> list_;
    alignas(64) Stack stack_{};
    mm_status_t (*const pop_)(Stack *, uint32_t, mm_pfn_t *) = opaque(&stack_pop);
    void (*const push_)(Stack *, mm_pfn_t, uint32_t) = opaque(&stack_push);
};

// What no allocator can go below that changes the bits of frames where they are, by whomever: one
// compare-and-exchange of a row to take a frame, and one to give it back, and nothing else. No
// search, no check, no summary: when the row at hand is used up, it fails.
struct Rows {
    uint64_t *rows;
    uint64_t row;
};

[[gnu::noinline, gnu::aligned(64)]] inline mm_status_t rows_take(Rows *rows, uint32_t,
                                                                 mm_pfn_t *out)
{
    uint64_t *row = &rows->rows[rows->row];
    uint64_t old = __atomic_load_n(row, __ATOMIC_RELAXED);
    uint64_t frame = rows->row * 64 + static_cast<uint64_t>(__builtin_ctzll(old));

    if (!__atomic_compare_exchange_n(row, &old, old & (old - 1), false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        return MM_ERR_NO_MEMORY;
    }
    out->raw = frame;
    return MM_OK;
}

[[gnu::noinline, gnu::aligned(64)]] inline void rows_give(Rows *rows, mm_pfn_t frame, uint32_t)
{
    uint64_t *row = &rows->rows[frame.raw / 64];
    uint64_t bit = UINT64_C(1) << (frame.raw % 64);
    uint64_t old = __atomic_load_n(row, __ATOMIC_RELAXED);

    if (!__atomic_compare_exchange_n(row, &old, old | bit, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
        abort();
    }
}

class Exchanges
{
  public:
    // All frames free, or the first so many taken.
    explicit Exchanges(uint64_t nr_taken = 0) : list_(NR_FRAMES / 64, UINT64_MAX)
    {
        std::fill_n(list_.begin(), nr_taken / 64, 0);
        rows_.rows = list_.data();
        rows_.row = nr_taken / 64;
    }

    bool take(mm_pfn_t *out)
    {
        return take_(&rows_, 0, out) == MM_OK;
    }
    void give(mm_pfn_t frame)
    {
        give_(&rows_, frame, 0);
    }

  private:
    std::vector<uint64_t> list_;
    alignas(64) Rows rows_{};
    mm_status_t (*const take_)(Rows *, uint32_t, mm_pfn_t *) = opaque(&rows_take);
    void (*const give_)(Rows *, mm_pfn_t, uint32_t) = opaque(&rows_give);
};

// Random numbers below some number that cost next to nothing: the high bits of Knuth's linear
// congruential generator (TAOCP 2, 3.3.4).
class Dice
{
  public:
    explicit Dice(uint64_t seed) : state_(seed)
    {
    }

    uint32_t below(uint64_t nr)
    {
        state_ = state_ * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return static_cast<uint32_t>(((state_ >> 32) * nr) >> 32);
    }
    template <class Value> void shuffle(std::vector<Value> &values)
    {
        for (size_t i = values.size(); i > 1; i--) {
            std::swap(values[i - 1], values[below(i)]);
        }
    }

  private:
    uint64_t state_;
};

// Memory that has long been in use: filled to some percent, then units are freed at random and
// others allocated until what is free lies anywhere.
//
// A victim is drawn some steps ahead and its slot prefetched, past the caches: what the caller
// keeps is not what is measured.
template <class Allocator> class Churn
{
  public:
    Churn(Allocator &allocator, uint64_t percent)
        : allocator_(allocator), live_(NR_FRAMES / Allocator::UNIT * percent / 100)
    {
        for (auto &unit : live_) {
            mm_pfn_t first{};

            if (!allocator.take(&first)) {
                failed_ = true;
                return;
            }
            unit = static_cast<uint32_t>(first.raw);
        }
        for (auto &slot : ahead_) {
            slot = dice_.below(live_.size());
        }
        warm_up();
    }

    // Free a unit at random, and allocate one.
    bool step()
    {
        uint32_t &slot = ahead_[at_++ % AHEAD];
        uint32_t &unit = live_[slot];
        mm_pfn_t first = {unit};

        slot = dice_.below(live_.size());
        __builtin_prefetch(&live_[slot], 1, 0);
        allocator_.give(first);
        if (__builtin_expect(!allocator_.take(&first), 0)) {
            failed_ = true;
            return false;
        }
        unit = static_cast<uint32_t>(first.raw);
        return true;
    }
    // Whether memory ran out: what is measured then is not what it should be.
    bool failed() const
    {
        return failed_;
    }
    const std::vector<uint32_t> &live() const
    {
        return live_;
    }

  private:
    static constexpr size_t AHEAD = 64;

    // Twice as many steps as there are units; an allocator that is slow at it gets half a second.
    void warm_up()
    {
        using namespace std::chrono;
        const auto end = steady_clock::now() + milliseconds(500);

        for (uint64_t done = 0; done < 2 * live_.size(); done++) {
            if (!step() || (done % PAIRS == 0 && steady_clock::now() > end)) {
                return;
            }
        }
    }

    Allocator &allocator_;
    std::vector<uint32_t> live_;
    Dice dice_{1};
    uint32_t ahead_[AHEAD]{};
    size_t at_ = 0;
    bool failed_ = false;
};

// A benchmark of steps of such memory.
template <class Allocator>
void measure_churn(benchmark::State &state, Allocator &allocator, uint64_t percent)
{
    Churn<Allocator> churn(allocator, percent);

    for (auto _ : state) {
        for (int i = 0; i < PAIRS; i++) {
            churn.step();
        }
    }
    if (churn.failed()) {
        state.SkipWithError("no memory");
        return;
    }
    state.SetItemsProcessed(state.iterations() * PAIRS);
}

// A unit, and back, over and over.
template <class Allocator> void measure_pairs(benchmark::State &state, Allocator &allocator)
{
    mm_pfn_t first{};

    for (auto _ : state) {
        for (int i = 0; i < PAIRS; i++) {
            if (__builtin_expect(!allocator.take(&first), 0)) {
                state.SkipWithError("no memory");
                return;
            }
            allocator.give(first);
        }
    }
    state.SetItemsProcessed(state.iterations() * PAIRS);
}

// A request that no memory is left for.
inline void measure_failing(benchmark::State &state, Requests &requests,
                            const mm_frame_request *request)
{
    mm_pfn_t first{};

    for (auto _ : state) {
        if (requests.ask(request, &first) != MM_ERR_NO_MEMORY) {
            state.SkipWithError("the request did not fail");
            return;
        }
    }
    state.SetItemsProcessed(state.iterations());
}

} // namespace frame_bench

#endif
