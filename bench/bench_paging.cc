// SPDX-License-Identifier: MIT
//
// Page tables: each operation by the page, beside the least that it can cost.

#include "paging_bench.h"

#include <utility>

namespace
{

using namespace paging_bench;

// --- map: tables are allocated each time; one that is written whole is not zeroed before ---------

void map_pages(benchmark::State &state, uint64_t len, uint32_t flags, uint64_t pages)
{
    auto machine = std::make_unique<Machine>();

    if (!machine->ok()) {
        fail(state);
        return;
    }
    for (auto _ : state) {
        bool good = machine->map(len, flags, kRw);

        state.PauseTiming();
        if (!good || !machine->unmap(len)) {
            fail(state);
            return;
        }
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(pages));
}

void paging_map4k(benchmark::State &state)
{
    map_pages(state, kPages * k4K, MM_PAGING_ONLY_4K, kPages);
}
BENCHMARK(paging_map4k);

// As much memory as the leaves take, and as well aligned.
struct alignas(4096) Flat {
    uint64_t slots[kPages] = {};
};

// The loop below is as fast as its alignment allows.
#if defined(__GNUC__) && !defined(__clang__)
#define ALIGNED_LOOPS __attribute__((noinline, optimize("align-loops=64")))
#else
#define ALIGNED_LOOPS __attribute__((noinline))
#endif

// The least: one store of 8 bytes for each page, in the loop that a compiler makes of it.
ALIGNED_LOOPS void store_all(uint64_t *slots)
{
    uint64_t entry = k1G | 0x67;

    for (uint64_t i = 0; i < kPages; i++) {
        *const_cast<volatile uint64_t *>(&slots[i]) = entry;
        entry += k4K;
    }
}

// Unrolled, some CPUs make two stores a cycle: to be seen beside, not a floor.
ALIGNED_LOOPS void store_all_unrolled(uint64_t *slots)
{
    uint64_t entry = k1G | 0x67;

#pragma GCC unroll 8
    for (uint64_t i = 0; i < kPages; i++) {
        *const_cast<volatile uint64_t *>(&slots[i]) = entry;
        entry += k4K;
    }
}

void stores(benchmark::State &state, void (*store)(uint64_t *))
{
    auto flat = std::make_unique<Flat>();

    for (auto _ : state) {
        store(flat->slots);
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPages));
}

void paging_map4k_floor(benchmark::State &state)
{
    stores(state, store_all);
}
BENCHMARK(paging_map4k_floor);

void paging_stores_unrolled(benchmark::State &state)
{
    stores(state, store_all_unrolled);
}
BENCHMARK(paging_stores_unrolled);

void paging_map2m(benchmark::State &state)
{
    map_pages(state, 64 * k1G, MM_PAGING_MAX_2M, 64 * 512);
}
BENCHMARK(paging_map2m);

// --- one page, from the root, into tables that exist ---------------------------------------------

constexpr uint64_t kSingleTables = 8;              // which stay in the L1
constexpr uint64_t kSingles = kSingleTables * 511; // the first page of each stays mapped

// All pages but those, in ascending order or at random.
std::vector<uint32_t> single_pages(bool at_random)
{
    std::vector<uint32_t> pages;
    t_prng prng;

    t_prng_seed(&prng, 2);
    for (uint32_t page = 0; page < kSingleTables * 512; page++) {
        if (page % 512 != 0) {
            pages.push_back(page);
        }
    }
    for (uint64_t i = pages.size(); at_random && i > 1; i--) {
        std::swap(pages[i - 1], pages[t_prng_below(&prng, i)]);
    }
    return pages;
}

void map_single(benchmark::State &state, bool at_random)
{
    auto machine = std::make_unique<Machine>();
    std::vector<uint32_t> pages = single_pages(at_random);
    int wrong = machine->ok() ? 0 : 1;

    for (uint64_t table = 0; table < kSingleTables; table++) {
        wrong |= mm_paging_map(machine->user(), {{kStart + table * k2M}, k4K}, {k1G}, kRw,
                               MM_MEMTYPE_WB, 0);
    }
    for (auto _ : state) {
        for (uint64_t page : pages) {
            wrong |= mm_paging_map(machine->user(), {{kStart + page * k4K}, k4K}, {page * k4K}, kRw,
                                   MM_MEMTYPE_WB, 0);
        }
        state.PauseTiming();
        for (uint64_t table = 0; table < kSingleTables; table++) {
            wrong |= machine->unmap_at(kStart + table * k2M + k4K, k2M - k4K) ? 0 : 1;
        }
        if (wrong != 0) {
            fail(state);
            return;
        }
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kSingles));
}

void paging_map_single(benchmark::State &state)
{
    map_single(state, false);
}
BENCHMARK(paging_map_single);

void paging_map_single_random(benchmark::State &state)
{
    map_single(state, true);
}
BENCHMARK(paging_map_single_random);

// What a fault and a discard do: with gather and flush, its table stays.
void paging_map_unmap_single(benchmark::State &state)
{
    auto machine = std::make_unique<Machine>();
    mm_gather gather;
    bool good = machine->ok() && machine->map(k4K, 0, kRw);

    for (auto _ : state) {
        good = good && mm_paging_map(machine->user(), {{kStart + k4K}, k4K}, {k1G}, kRw,
                                     MM_MEMTYPE_WB, 0) == MM_OK;
        good = good && mm_gather_begin(&gather, machine->user()) == MM_OK;
        good = good && mm_paging_unmap(machine->user(), {{kStart + k4K}, k4K}, 0, &gather) == MM_OK;
        mm_gather_end(&gather);
    }
    if (!good) {
        fail(state);
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(paging_map_unmap_single);

// --- split: one page of a 2 MiB leaf is protected, in a table that is allocated, not zeroed ------

constexpr uint64_t kSplits = 64;

void paging_split(benchmark::State &state)
{
    auto machine = std::make_unique<Machine>();
    mm_gather gather;
    bool good = machine->ok();

    machine->make_live();
    for (auto _ : state) {
        state.PauseTiming();
        good = good && machine->map(kSplits * k2M, MM_PAGING_MAX_2M, kRw);
        state.ResumeTiming();
        for (uint64_t leaf = 0; leaf < kSplits; leaf++) {
            struct mm_vrange page = {{kStart + leaf * k2M + 17 * k4K}, k4K};

            good =
                good && mm_gather_begin(&gather, machine->user()) == MM_OK &&
                mm_paging_protect(machine->user(), page, kRead, MM_PAGING_SPLIT, &gather) == MM_OK;
            mm_gather_end(&gather);
        }
        state.PauseTiming();
        if (!good || !machine->unmap(kSplits * k2M)) {
            fail(state);
            return;
        }
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kSplits));
}
BENCHMARK(paging_split);

// --- unmap and protect ---------------------------------------------------------------------------

void unmap_pages(benchmark::State &state, bool live)
{
    auto machine = std::make_unique<Machine>();

    if (live) {
        machine->make_live();
    }
    if (!machine->ok()) {
        fail(state);
        return;
    }
    for (auto _ : state) {
        state.PauseTiming();
        bool good = machine->map(kPages * k4K, MM_PAGING_ONLY_4K, kRw);
        state.ResumeTiming();
        if (!good || !machine->unmap(kPages * k4K)) {
            fail(state);
            return;
        }
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPages));
}

void paging_unmap4k(benchmark::State &state)
{
    unmap_pages(state, false);
}
BENCHMARK(paging_unmap4k);

void paging_unmap4k_live(benchmark::State &state)
{
    unmap_pages(state, true);
}
BENCHMARK(paging_unmap4k_live);

// One exchange a page is what keeps accessed and dirty bits.
void paging_exchange_floor(benchmark::State &state)
{
    auto flat = std::make_unique<Flat>();
    uint64_t seen = 0;

    for (auto _ : state) {
#pragma GCC unroll 8
        for (uint64_t i = 0; i < kPages; i++) {
            seen |= __atomic_exchange_n(&flat->slots[i], k1G | 0x67, __ATOMIC_ACQ_REL);
        }
        benchmark::DoNotOptimize(seen);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPages));
}
BENCHMARK(paging_exchange_floor);

// Who walks a root, and what it has done with the pages.
enum class Use { kNone, kLive, kWritten };

void protect_pages(benchmark::State &state, Use use)
{
    auto machine = std::make_unique<Machine>();
    mm_gather gather;
    bool write = false;

    if (use != Use::kNone) {
        machine->make_live();
    }
    if (!machine->ok() || !machine->map(kPages * k4K, MM_PAGING_ONLY_4K, kRw)) {
        fail(state);
        return;
    }
    if (use == Use::kWritten) {
        machine->write_to(kPages);
    }
    for (auto _ : state) {
        if (mm_gather_begin(&gather, machine->user()) != MM_OK ||
            mm_paging_protect(machine->user(), {{kStart}, kPages * k4K}, write ? kRw : kRead, 0,
                              &gather) != MM_OK) {
            fail(state);
            return;
        }
        mm_gather_end(&gather);
        write = !write;
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPages));
}

void paging_protect4k(benchmark::State &state)
{
    protect_pages(state, Use::kNone);
}
BENCHMARK(paging_protect4k);

void paging_protect4k_live(benchmark::State &state)
{
    protect_pages(state, Use::kLive);
}
BENCHMARK(paging_protect4k_live);

void paging_protect4k_written(benchmark::State &state)
{
    protect_pages(state, Use::kWritten);
}
BENCHMARK(paging_protect4k_written);

// --- clone --------------------------------------------------------------------------------------

void share(void *ctx, mm_pfn_t, uint64_t nr)
{
    *static_cast<uint64_t *>(ctx) += nr;
}

void clone_pages(benchmark::State &state, Use use)
{
    auto machine = std::make_unique<Machine>();
    uint64_t shared = 0;
    mm_gather gather;

    if (use != Use::kNone) {
        machine->make_live();
    }
    if (!machine->ok()) {
        fail(state);
        return;
    }
    for (auto _ : state) {
        mm_pagetable copy = {};

        state.PauseTiming();
        bool good = machine->map(kPages * k4K, MM_PAGING_ONLY_4K, kRw) && machine->fresh(&copy) &&
                    mm_gather_begin(&gather, machine->user()) == MM_OK;
        if (good && use == Use::kWritten) {
            machine->write_to(kPages);
        }
        state.ResumeTiming();
        good = good && mm_paging_clone(machine->user(), &copy, {{kStart}, kPages * k4K}, share,
                                       &shared, &gather) == MM_OK;
        mm_gather_end(&gather);
        state.PauseTiming();
        good = good && machine->unmap(kPages * k4K) && mm_paging_destroy(&copy) == MM_OK;
        state.ResumeTiming();
        if (!good) {
            fail(state);
            return;
        }
    }
    benchmark::DoNotOptimize(shared);
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPages));
}

// As fork does it: the hardware walks the parent, which has written to its pages, and each loses the
// right to write.
void paging_clone_page(benchmark::State &state)
{
    clone_pages(state, Use::kWritten);
}
BENCHMARK(paging_clone_page);

// The hardware may set accessed and dirty at any moment.
void paging_clone_page_unwritten(benchmark::State &state)
{
    clone_pages(state, Use::kLive);
}
BENCHMARK(paging_clone_page_unwritten);

void paging_clone_page_unused(benchmark::State &state)
{
    clone_pages(state, Use::kNone);
}
BENCHMARK(paging_clone_page_unused);

} // namespace
