// SPDX-License-Identifier: MIT
//
// What the benchmarks of spaces share: frames in real memory, page tables that a CPU which does
// nothing is told to walk, and one space in them. What a real CPU takes for the exception and for
// the flush is in no figure.
#ifndef SPACE_BENCH_H
#define SPACE_BENCH_H

#include <mm/arch/x86_64.h>
#include <mm/bootmap.h>
#include <mm/cache.h>
#include <mm/frame.h>
#include <mm/paging.h>
#include <mm/space.h>

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <sys/resource.h>

namespace space_bench
{

// The library calls the memset and the memcpy of whoever links it, and the linker sends its calls
// to bench_space.cc. Set: those of a whole page do nothing.
extern bool without_bytes;

constexpr uint64_t Page = MM_PAGE_SIZE;
constexpr uint64_t MiB = UINT64_C(1) << 20;
constexpr uint64_t Base = UINT64_C(1) << 32;
constexpr uint64_t Batch = 512; // pages of one table
constexpr mm_prot_t Rw = MM_PROT_READ | MM_PROT_WRITE;

inline void check(mm_status_t status)
{
    if (status != MM_OK) {
        fprintf(stderr, "bench_space: %s\n", mm_status_str(status));
        abort();
    }
}

// The CPU that a thread is: its number and its root register.
inline thread_local uint32_t cpu_number;
inline thread_local uint64_t root_register;

// A CPU that has NX, PAT, global and 1 GiB pages, and does nothing.
inline mm_x86_64_cpuid cpuid(void *, uint32_t leaf, uint32_t)
{
    switch (leaf) {
    case 0:
        return {7, 0, 0, 0};
    case 1:
        return {0, 0, 0, (1u << 13) | (1u << 16)};
    case 0x80000000:
        return {0x80000008, 0, 0, 0};
    case 0x80000001:
        return {0, 0, 0, (1u << 20) | (1u << 26)};
    case 0x80000008:
        return {46, 0, 0, 0};
    default:
        return {0, 0, 0, 0};
    }
}

inline uint64_t read_msr(void *, uint32_t msr)
{
    return msr == 0x277 ? 0 : UINT64_C(1) << 11; // EFER.NXE
}

inline void write_msr(void *, uint32_t, uint64_t)
{
}

inline uint64_t read_cr(void *, unsigned cr)
{
    return cr == 3 ? root_register : 0;
}

inline void write_cr(void *, unsigned cr, uint64_t value)
{
    if (cr == 3) {
        root_register = value;
    }
}

inline void invlpg(void *, uint64_t)
{
}

inline void invpcid(void *, uint64_t, uint64_t, uint64_t)
{
}

inline constexpr mm_x86_64_cpu_ops Cpu = {cpuid,    read_msr, write_msr, read_cr,
                                          write_cr, invlpg,   invpcid};

inline void on_panic(void *, const mm_panic_info *info)
{
    fprintf(stderr, "bench_space: %s: %s\n", info->room, info->what);
    abort();
}

inline uint32_t which_cpu(void *)
{
    return cpu_number;
}

inline mm_platform_ops platform_ops()
{
    mm_platform_ops ops{};

    ops.panic = on_panic;
    ops.cpu_number = which_cpu;
    return ops;
}

// Memory that the host backs with large pages, as a direct map is.
class Memory
{
  public:
    explicit Memory(uint64_t len) : len_(len)
    {
        at_ = mmap(nullptr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at_ == MAP_FAILED) {
            abort();
        }
        (void)madvise(at_, len, MADV_HUGEPAGE);
        memset(at_, 0, len);
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
    void *at_;
    uint64_t len_;
};

// `live`: the CPU of the thread that makes it runs in the space, so that leaves are changed in one step.
class World
{
  public:
    explicit World(bool live = true) : live_(live)
    {
        mm_spaces_config config{};

        start_frames();
        start_tables();
        start_pool();
        config.frames = &frames_;
        config.physmap = &physmap_;
        config.kernel = &kernel_;
        config.pool = &pool_;
        config.platform = platform_;
        check(mm_spaces_init(&spaces_, &config));
        check(mm_space_create(&spaces_, &space));
        if (live) {
            check(mm_space_activate(space));
        }
    }
    ~World()
    {
        root_register = 0; // of a root that somebody else made
        mm_space_put(space);
        check(mm_spaces_destroy(&spaces_));
        check(mm_pool_destroy(&pool_));
        check(mm_page_range_destroy(&pool_range_));
        check(mm_paging_destroy(&kernel_));
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
    // Give pages that are nobody else's back the right to write.
    void make_writable(uint64_t at, uint64_t nr_pages)
    {
        check(mm_space_protect(space, mm_vrange(mm_vaddr(at), nr_pages * Page), Rw));
    }
    // A write by the user; false if it got a signal, or there was no memory.
    bool fault(uint64_t at)
    {
        mm_fault what{mm_vaddr(at), MM_FAULT_USER | MM_FAULT_WRITE};
        mm_fault_result got = MM_FAULT_CORRUPT;

        check(mm_space_fault(space, &what, &got));
        return mm_fault_resolved(got);
    }
    bool fault_all(uint64_t at, uint64_t nr_pages)
    {
        bool good = true;

        for (uint64_t i = 0; i < nr_pages; i++) {
            good = fault(at + i * Page) && good;
        }
        return good;
    }
    // What the CPU does when the process writes to pages: it sets accessed and dirty in each leaf.
    void written(uint64_t at, uint64_t nr_pages)
    {
        for (uint64_t i = 0; i < nr_pages; i++) {
            uint64_t table = mm_paging_root(mm_space_table(space)).raw;
            uint64_t *slot = nullptr;

            for (unsigned shift = 39; shift >= 12; shift -= 9) {
                slot = static_cast<uint64_t *>(ptr(table & UINT64_C(0x000ffffffffff000))) +
                       (((at + i * Page) >> shift) & 511);
                table = *slot;
            }
            if (live_) {
                *slot |= 0x60;
            }
        }
    }
    // Map pages, and write to each.
    void map_written(uint64_t at, uint64_t nr_pages, uint64_t tag)
    {
        map(at, nr_pages, tag);
        if (!fault_all(at, nr_pages)) {
            abort();
        }
        written(at, nr_pages);
    }

    // A frame for the benchmark itself, and its memory.
    void *take()
    {
        mm_pfn_t frame;

        check(mm_frame_alloc(&frames_, nullptr, &frame));
        return ptr(mm_pfn_addr(frame).raw);
    }

    mm_space *space = nullptr;

  private:
    void *ptr(uint64_t paddr) const
    {
        return mm_physmap_ptr(&physmap_, mm_paddr(paddr));
    }
    void start_frames()
    {
        mm_frames_config config{};

        physmap_ = mm_physmap_direct(reinterpret_cast<uintptr_t>(memory_.at()) - MiB);
        check(mm_bootmap_init(&map_, entries_, 16));
        check(mm_bootmap_add(&map_, mm_prange(mm_paddr(MiB), memory_.len()), MM_BOOT_USABLE));
        config.map = &map_;
        config.physmap = &physmap_;
        config.platform = platform_;
        config.nr_cpus = 2;
        config.flags = MM_FRAMES_REFCOUNTS;
        check(
            mm_frame_init_from_map(&frames_, &config, mm_prange(mm_paddr(0), MiB + memory_.len())));
    }
    void start_tables()
    {
        const struct mm_vrange ranges[] = {{{0xffff800000000000}, 1024 * MiB}};
        mm_paging_config config{};

        check(mm_x86_64_init(&arch_, &Cpu, nullptr));
        config.backend = mm_x86_64_backend(&arch_);
        config.physmap = &physmap_;
        config.source = mm_frame_source_of(&frames_);
        config.platform = platform_;
        config.kernel_ranges = ranges;
        config.nr_kernel_ranges = 1;
        config.user = mm_vrange(mm_vaddr(0), UINT64_C(1) << 47);
        check(mm_paging_init_kernel(&kernel_, &config));
    }
    void start_pool()
    {
        mm_pool_config config{};

        check(mm_page_range_init(&pool_range_, pool_memory_.at(), pool_memory_.len()));
        config.source = mm_page_source_range(&pool_range_);
        config.platform = platform_;
        config.nr_cpus = 2;
        check(mm_pool_init(&pool_, &config));
    }

    const bool live_;
    const mm_platform_ops ops_ = platform_ops();
    const mm_platform platform_{&ops_, nullptr};
    Memory memory_{64 * MiB};
    Memory pool_memory_{64 * MiB};
    mm_boot_entry entries_[16]{};
    mm_bootmap map_{};
    mm_physmap physmap_{};
    alignas(64) mm_frames frames_{};
    mm_x86_64 arch_{};
    mm_pagetable kernel_{};
    alignas(64) mm_page_range pool_range_{};
    alignas(64) mm_pool pool_{};
    alignas(64) mm_spaces spaces_{};
};

// Times a part of each turn, by the clock on the wall: the clock of a thread takes twenty times as
// long to read, as long as a few pages. So a turn in which a thread lost its core does not count; it is
// taken to be as long as the one before it. The benchmark has UseManualTime().
class Clock
{
  public:
    void start()
    {
        switches_ = switches();
        start_ = std::chrono::steady_clock::now();
    }
    void stop(benchmark::State &state)
    {
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start_;

        if (last_ == 0 || switches() == switches_) {
            last_ = took.count();
        }
        state.SetIterationTime(last_);
    }

  private:
    static long switches()
    {
        rusage usage{};

        getrusage(RUSAGE_SELF, &usage);
        return usage.ru_nvcsw + usage.ru_nivcsw;
    }

    std::chrono::steady_clock::time_point start_;
    double last_ = 0;
    long switches_ = 0;
};

// One turn: prepare, which is not timed; work, which is; restore, which is not.
template <class Prepare, class Work, class Restore>
void measure(benchmark::State &state, uint64_t nr_items, Prepare prepare, Work work,
             Restore restore)
{
    Clock clock;

    for (auto _ : state) {
        prepare();
        clock.start();
        const bool good = work();
        clock.stop(state);
        restore();
        if (!good) {
            state.SkipWithError("a call failed");
            break;
        }
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(nr_items));
}

} // namespace space_bench

#endif
