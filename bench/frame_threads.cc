// SPDX-License-Identifier: MIT
//
// Figures of the frame allocator on two CPUs, each of them a thread that stays on a core. Times are
// of the clock on the wall.
#include "frame_bench.h"
#include "thread_bench.h"

#include <memory>

namespace
{

using namespace frame_bench;
using namespace thread_bench;

using FrameRing = Ring<mm_pfn_t>;

// Each thread allocates 64 frames under a CPU number of its own and frees them.
std::unique_ptr<Machine> shared;

void make_shared(const benchmark::State &)
{
    shared = std::make_unique<Machine>();
}

void drop_shared(const benchmark::State &)
{
    shared.reset();
}

void frame_scale(benchmark::State &state)
{
    const auto cpu = static_cast<uint32_t>(state.thread_index());
    const Pinned pinned(state.thread_index());
    const auto alloc = opaque(&mm_frame_alloc_on);
    const auto give_back = opaque(&mm_frame_free);
    mm_frames *frames = &shared->frames;
    mm_pfn_t list[64];

    for (auto _ : state) {
        for (auto &frame : list) {
            if (__builtin_expect(alloc(frames, cpu, &frame) != MM_OK, 0)) {
                abort();
            }
        }
        for (auto &frame : list) {
            give_back(frames, frame, 0);
        }
    }
    state.SetItemsProcessed(state.iterations() * 64);
}
BENCHMARK(frame_scale)
    ->Name("frame_scale_1cpu")
    ->Setup(make_shared)
    ->Teardown(drop_shared)
    ->UseRealTime();
BENCHMARK(frame_scale)
    ->Name("frame_scale_2cpu")
    ->Threads(2)
    ->Setup(make_shared)
    ->Teardown(drop_shared)
    ->UseRealTime();

// The peer of frames that one CPU allocates and another frees: what kernels usually do. Two
// magazines of 64 frames a CPU stand before a stack under a lock, which takes and gives magazines
// as a whole (Bonwick and Adams, "Magazines and Vmem", USENIX 2001).
constexpr uint32_t MAGAZINE = 64;

struct Magazine {
    uint32_t nr;
    uint32_t list[MAGAZINE];
};

struct alignas(128) MagazineCpu {
    Magazine *loaded;
    Magazine *previous;
    Magazine magazines[2];
};

struct MagazineAllocator {
    MagazineCpu cpus[2];
    alignas(128) std::atomic<bool> locked;
    alignas(128) uint32_t *list; // under the lock, as is nr
    uint64_t nr;
};

void magazines_lock(MagazineAllocator *allocator)
{
    Wait wait;

    while (allocator->locked.exchange(true, std::memory_order_acquire)) {
        while (allocator->locked.load(std::memory_order_relaxed)) {
            wait.turn();
        }
    }
}

void magazines_unlock(MagazineAllocator *allocator)
{
    allocator->locked.store(false, std::memory_order_release);
}

bool magazine_refill(MagazineAllocator *allocator, Magazine *magazine)
{
    magazines_lock(allocator);
    uint32_t nr = allocator->nr < MAGAZINE ? static_cast<uint32_t>(allocator->nr) : MAGAZINE;
    allocator->nr -= nr;
    memcpy(magazine->list, allocator->list + allocator->nr, nr * sizeof(uint32_t));
    magazines_unlock(allocator);
    magazine->nr = nr;
    return nr != 0;
}

void magazine_drain(MagazineAllocator *allocator, Magazine *magazine)
{
    magazines_lock(allocator);
    memcpy(allocator->list + allocator->nr, magazine->list, magazine->nr * sizeof(uint32_t));
    allocator->nr += magazine->nr;
    magazines_unlock(allocator);
    magazine->nr = 0;
}

// The rare cases end in a jump, so that the common ones save no register.
[[gnu::noinline]] mm_status_t magazine_alloc_empty(MagazineAllocator *allocator, uint32_t number,
                                                   mm_pfn_t *out)
{
    MagazineCpu *cpu = &allocator->cpus[number];

    if (cpu->previous->nr != 0) {
        std::swap(cpu->loaded, cpu->previous);
    } else if (!magazine_refill(allocator, cpu->loaded)) {
        return MM_ERR_NO_MEMORY;
    }
    out->raw = cpu->loaded->list[--cpu->loaded->nr];
    return MM_OK;
}

[[gnu::noinline]] void magazine_free_full(MagazineAllocator *allocator, mm_pfn_t frame,
                                          uint32_t number)
{
    MagazineCpu *cpu = &allocator->cpus[number];

    std::swap(cpu->loaded, cpu->previous);
    if (cpu->loaded->nr == MAGAZINE) {
        magazine_drain(allocator, cpu->loaded);
    }
    cpu->loaded->list[cpu->loaded->nr++] = static_cast<uint32_t>(frame.raw);
}

[[gnu::noinline, gnu::aligned(64)]] mm_status_t magazine_alloc(MagazineAllocator *allocator,
                                                               uint32_t number, mm_pfn_t *out)
{
    Magazine *loaded = allocator->cpus[number].loaded;

    if (__builtin_expect(loaded->nr == 0, 0)) {
        return magazine_alloc_empty(allocator, number, out);
    }
    out->raw = loaded->list[--loaded->nr];
    return MM_OK;
}

[[gnu::noinline, gnu::aligned(64)]] void magazine_free(MagazineAllocator *allocator, mm_pfn_t frame,
                                                       uint32_t number)
{
    Magazine *loaded = allocator->cpus[number].loaded;

    if (__builtin_expect(loaded->nr == MAGAZINE, 0)) {
        magazine_free_full(allocator, frame, number);
        return;
    }
    loaded->list[loaded->nr++] = static_cast<uint32_t>(frame.raw);
}

class Magazines
{
  public:
    Magazines() : list_(NR_FRAMES)
    {
        for (uint64_t i = 0; i < NR_FRAMES; i++) {
            list_[i] = static_cast<uint32_t>(FIRST + i);
        }
        for (auto &cpu : allocator_.cpus) {
            cpu.loaded = &cpu.magazines[0];
            cpu.previous = &cpu.magazines[1];
        }
        allocator_.list = list_.data();
        allocator_.nr = NR_FRAMES;
    }

    bool take(mm_pfn_t *out)
    {
        return alloc_(&allocator_, 0, out) == MM_OK;
    }
    void give(mm_pfn_t frame)
    {
        free_(&allocator_, frame, 1);
    }

  private:
    MagazineAllocator allocator_{};
    std::vector<uint32_t> list_;
    mm_status_t (*const alloc_)(MagazineAllocator *, uint32_t,
                                mm_pfn_t *) = opaque(&magazine_alloc);
    void (*const free_)(MagazineAllocator *, mm_pfn_t, uint32_t) = opaque(&magazine_free);
};

// One CPU allocates, another frees; per frame.
template <class Allocator> void remote_free(benchmark::State &state)
{
    auto allocator = std::make_unique<Allocator>();
    auto ring = std::make_unique<FrameRing>();
    bool failed = false;

    std::thread consumer([&] {
        const Pinned pinned(1);

        while (FrameRing::Batch *batch = ring->next()) {
            for (mm_pfn_t frame : batch->units) {
                allocator->give(frame);
            }
            ring->done();
        }
    });
    {
        const Pinned pinned(0);

        for (auto _ : state) {
            FrameRing::Batch &batch = ring->room();

            for (auto &frame : batch.units) {
                failed |= !allocator->take(&frame);
            }
            ring->put();
        }
    }
    ring->stop();
    consumer.join();
    if (failed) {
        state.SkipWithError("no memory");
        return;
    }
    state.SetItemsProcessed(state.iterations() * 64);
}
BENCHMARK(remote_free<Frames>)->Name("frame_remote_free")->UseRealTime();
BENCHMARK(remote_free<Magazines>)->Name("frame_remote_free_magazines")->UseRealTime();

} // namespace
