// SPDX-License-Identifier: MIT
//
// Zeroing blocks with MM_FRAME_ZERO over real memory: like any other memory (memset), and past the
// caches through mm_x86_64_zero_past_cache(). From which size on the second is worth while is
// MM_FRAME_ZERO_PAST_CACHE of mm/config.h. With _use_, a byte of each line is written afterwards, as
// by a holder who uses all of the block at once.
#include <mm/arch/x86_64.h>
#include <mm/frame.h>

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

namespace
{

constexpr uint64_t kMemory = UINT64_C(256) << 20;

void memory_like_any(void *, void *at, uint64_t len)
{
    memset(at, 0, len);
}

// 256 MiB that has been touched; two blocks are never held at once.
class Memory
{
  public:
    Memory()
    {
        at_ = mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at_ == MAP_FAILED) {
            abort();
        }
        (void)madvise(at_, kMemory, MADV_HUGEPAGE);
        memset(at_, 1, kMemory);
    }
    ~Memory()
    {
        munmap(at_, kMemory);
    }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    // The next block of so many bytes: another one each time, so that caches do not help.
    char *next(uint64_t len)
    {
        used_ = used_ + len > kMemory ? 0 : used_;
        used_ += len;
        return static_cast<char *>(at_) + used_ - len;
    }

  private:
    void *at_ = nullptr;
    uint64_t used_ = 0;
};

// One item is a frame.
void zero(benchmark::State &state, void (*op)(void *, void *, uint64_t), uint64_t len, bool use)
{
    static Memory memory;

    for (auto _ : state) {
        char *at = memory.next(len);

        op(nullptr, at, len);
        for (uint64_t i = 0; use && i < len; i += 64) {
            at[i] = 1;
        }
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * (len / MM_PAGE_SIZE)));
}

#define OF_SIZE(name, len)                                                                         \
    BENCHMARK_CAPTURE(zero, name##_floor, memory_like_any, len, false)                             \
        ->Name("frame_zero_" #name "_floor");                                                      \
    BENCHMARK_CAPTURE(zero, name##_past_cache, mm_x86_64_zero_past_cache, len, false)              \
        ->Name("frame_zero_" #name "_past_cache");                                                 \
    BENCHMARK_CAPTURE(zero, name##_use_floor, memory_like_any, len, true)                          \
        ->Name("frame_zero_" #name "_use_floor");                                                  \
    BENCHMARK_CAPTURE(zero, name##_use_past_cache, mm_x86_64_zero_past_cache, len, true)           \
        ->Name("frame_zero_" #name "_use_past_cache")

OF_SIZE(4k, UINT64_C(4) << 10);
OF_SIZE(64k, UINT64_C(64) << 10);
OF_SIZE(512k, UINT64_C(512) << 10);
OF_SIZE(2m, UINT64_C(2) << 20);
OF_SIZE(32m, UINT64_C(32) << 20);

} // namespace
