// SPDX-License-Identifier: MIT
//
// Page tables: each operation by the page, beside the least that it can cost. Tables lie in
// simulated RAM; the source hands out zeroed frames from a stack. Leaves are numbers only.

#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <mm/arch/x86_64.h>
#include <mm/paging.h>
#include <mm/tlb.h>

#include "prng.h"
#include "sim_ram.h"

namespace
{

constexpr uint64_t k4K = 4096;
constexpr uint64_t k2M = k4K * 512;
constexpr uint64_t k1G = k2M * 512;
constexpr uint64_t kTables = 4096;
constexpr uint64_t kPages = 32768; // 128 MiB in 64 tables: 256 KiB, which stay in the L2
constexpr uint64_t kStart = k1G;

// A CPU that has everything and does nothing.
mm_x86_64_cpuid cpuid(void *, uint32_t leaf, uint32_t)
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

uint64_t read_msr(void *, uint32_t msr)
{
    return msr == 0x277 ? 0 : UINT64_C(1) << 11;
}

void write_msr(void *, uint32_t, uint64_t)
{
}

uint64_t read_cr(void *, unsigned)
{
    return 0;
}

void write_cr(void *, unsigned, uint64_t)
{
}

void invlpg(void *, uint64_t)
{
}

void invpcid(void *, uint64_t, uint64_t, uint64_t)
{
}

const mm_x86_64_cpu_ops kCpu = {cpuid, read_msr, write_msr, read_cr, write_cr, invlpg, invpcid};

class Machine
{
  public:
    Machine()
    {
        const struct mm_vrange ranges[] = {{{0xffff800000000000}, k1G}};
        struct mm_paging_config config = {};

        ram_ = t_ram_new(0, kTables * k4K);
        t_ram_back(ram_, 0, kTables * k4K);
        base_ = t_ram_base(ram_);
        physmap_ = mm_physmap_direct(base_);
        for (uint64_t frame = kTables; --frame > 0;) {
            std::memset(t_ram_ptr(ram_, frame * k4K), 0, k4K); // so that the host backs it
            free_.push_back(frame);
        }
        ok_ = mm_x86_64_init(&arch_, &kCpu, nullptr) == MM_OK;
        config.backend = mm_x86_64_backend(&arch_);
        config.physmap = &physmap_;
        config.source = {&kSource, this};
        config.kernel_ranges = ranges;
        config.nr_kernel_ranges = 1;
        config.user = {{0}, UINT64_C(1) << 47};
        ok_ = ok_ && mm_paging_init_kernel(&kernel_, &config) == MM_OK;
        ok_ = ok_ && mm_paging_init_user(&user_, &kernel_) == MM_OK;
    }

    ~Machine()
    {
        t_ram_delete(ram_);
    }

    bool ok() const
    {
        return ok_;
    }

    mm_pagetable *user()
    {
        return &user_;
    }

    // A root that the hardware may walk: every entry is changed in one step.
    void make_live()
    {
        ok_ = mm_paging_activate(&user_) == MM_OK && ok_;
    }

    bool fresh(mm_pagetable *pt)
    {
        return mm_paging_init_user(pt, &kernel_) == MM_OK;
    }

    bool map(uint64_t len, uint32_t flags, uint32_t prot)
    {
        return mm_paging_map(&user_, {{kStart}, len}, {k1G}, prot, MM_MEMTYPE_WB, flags) == MM_OK;
    }

    bool unmap(uint64_t len)
    {
        return unmap_at(kStart, len);
    }

    bool unmap_at(uint64_t at, uint64_t len)
    {
        mm_gather gather;

        if (mm_gather_begin(&gather, &user_) != MM_OK ||
            mm_paging_unmap(&user_, {{at}, len}, 0, &gather) != MM_OK) {
            return false;
        }
        mm_gather_end(&gather);
        return true;
    }

    uint64_t base() const
    {
        return base_;
    }

  private:
    static mm_status_t alloc(void *ctx, enum mm_frame_owner, bool zeroed, mm_pfn_t *out)
    {
        auto *machine = static_cast<Machine *>(ctx);

        if (machine->free_.empty()) {
            return MM_ERR_NO_MEMORY;
        }
        out->raw = machine->free_.back();
        machine->free_.pop_back();
        if (zeroed) {
            std::memset(reinterpret_cast<void *>(machine->base_ + out->raw * k4K), 0, k4K);
        }
        return MM_OK;
    }

    static void release(void *ctx, mm_pfn_t frame)
    {
        static_cast<Machine *>(ctx)->free_.push_back(frame.raw);
    }

    static constexpr mm_frame_source_ops kSource = {alloc, release};

    t_ram *ram_ = nullptr;
    uint64_t base_ = 0;
    mm_physmap physmap_ = {};
    std::vector<uint64_t> free_;
    mm_x86_64 arch_ = {};
    mm_pagetable kernel_ = {};
    mm_pagetable user_ = {};
    bool ok_ = false;
};

constexpr mm_frame_source_ops Machine::kSource;

constexpr uint32_t kRw = MM_PROT_RW | MM_PROT_USER;
constexpr uint32_t kRead = MM_PROT_READ | MM_PROT_USER;

void fail(benchmark::State &state)
{
    state.SkipWithError("a call failed");
}

// --- map: tables are allocated and zeroed each time ----------------------------------------------

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

// --- split: one page of a 2 MiB leaf is protected, in a table that is allocated and zeroed -------

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

void protect_pages(benchmark::State &state, bool live)
{
    auto machine = std::make_unique<Machine>();
    mm_gather gather;
    bool write = false;

    if (live) {
        machine->make_live();
    }
    if (!machine->ok() || !machine->map(kPages * k4K, MM_PAGING_ONLY_4K, kRw)) {
        fail(state);
        return;
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
    protect_pages(state, false);
}
BENCHMARK(paging_protect4k);

void paging_protect4k_live(benchmark::State &state)
{
    protect_pages(state, true);
}
BENCHMARK(paging_protect4k_live);

// --- clone --------------------------------------------------------------------------------------

void share(void *ctx, mm_pfn_t, uint64_t nr)
{
    *static_cast<uint64_t *>(ctx) += nr;
}

void clone_pages(benchmark::State &state, bool live)
{
    auto machine = std::make_unique<Machine>();
    uint64_t shared = 0;
    mm_gather gather;

    if (live) {
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

// As fork does it: the hardware walks the parent, every page loses the right to write.
void paging_clone_page(benchmark::State &state)
{
    clone_pages(state, true);
}
BENCHMARK(paging_clone_page);

void paging_clone_page_unused(benchmark::State &state)
{
    clone_pages(state, false);
}
BENCHMARK(paging_clone_page_unused);

// --- translate ----------------------------------------------------------------------------------
//
// Random addresses among 1 GiB of pages. Each address is known only when the one before it is
// translated, as for whoever looks at the memory behind it: so this is the time that one takes. The
// two that say "many" let the CPU work ahead.

constexpr size_t kAddresses = 65536;
constexpr uint64_t kSpread = 8 * kPages * k4K;

std::vector<uint64_t> random_addresses()
{
    std::vector<uint64_t> addresses(kAddresses);
    t_prng prng;

    t_prng_seed(&prng, 1);
    for (uint64_t &address : addresses) {
        address = kStart + t_prng_below(&prng, kSpread);
    }
    return addresses;
}

void translate_all(benchmark::State &state, bool one_by_one)
{
    auto machine = std::make_unique<Machine>();
    std::vector<uint64_t> addresses = random_addresses();
    mm_status_t (*volatile translate)(const mm_pagetable *, mm_vaddr_t, mm_mapping *) =
        mm_paging_translate;
    uint64_t mask = one_by_one ? 1 : 0;
    bool good = machine->ok() && machine->map(kSpread, MM_PAGING_ONLY_4K, kRw);

    for (auto _ : state) {
        uint64_t before = 0;

        for (uint64_t address : addresses) {
            mm_mapping leaf;

            // Bit 0 of the physical address of a page is 0.
            good = translate(machine->user(), {address + (before & mask)}, &leaf) == MM_OK && good;
            before = leaf.paddr.raw;
        }
        benchmark::DoNotOptimize(before);
    }
    if (!good) {
        fail(state);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kAddresses));
}

void paging_translate(benchmark::State &state)
{
    translate_all(state, true);
}
BENCHMARK(paging_translate);

void paging_translate_many(benchmark::State &state)
{
    translate_all(state, false);
}
BENCHMARK(paging_translate_many);

// Four loads, each from where the one before led, and nothing else.
uint64_t bare_walk(uint64_t base, uint64_t root, uint64_t address)
{
    for (int shift = 39; shift >= 12; shift -= 9) {
        root = reinterpret_cast<const uint64_t *>(
            base + (root & 0x000ffffffffff000))[(address >> shift) & 511];
    }
    return root & 0x000ffffffffff000;
}

void walk_all(benchmark::State &state, bool one_by_one)
{
    auto machine = std::make_unique<Machine>();
    std::vector<uint64_t> addresses = random_addresses();
    uint64_t (*volatile walk)(uint64_t, uint64_t, uint64_t) = bare_walk;
    uint64_t mask = one_by_one ? 1 : 0;
    bool good = machine->ok() && machine->map(kSpread, MM_PAGING_ONLY_4K, kRw);
    uint64_t root = mm_paging_root(machine->user()).raw;

    for (auto _ : state) {
        uint64_t before = 0;

        for (uint64_t address : addresses) {
            before = walk(machine->base(), root, address + (before & mask));
        }
        benchmark::DoNotOptimize(before);
    }
    if (!good) {
        fail(state);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kAddresses));
}

void paging_translate_floor(benchmark::State &state)
{
    walk_all(state, true);
}
BENCHMARK(paging_translate_floor);

void paging_translate_many_floor(benchmark::State &state)
{
    walk_all(state, false);
}
BENCHMARK(paging_translate_many_floor);

// --- translate, page after page: a cursor keeps the table ----------------------------------------

std::vector<uint64_t> ascending_addresses()
{
    std::vector<uint64_t> addresses;

    for (uint64_t page = 0; page < kPages; page++) {
        addresses.push_back(kStart + page * k4K + page % 512 * 8);
    }
    return addresses;
}

#if defined(MM_PAGING_CURSOR_MAGIC)
// One by one, as above, and through a function pointer on both sides.
mm_status_t cursor_translate(mm_paging_cursor *cursor, mm_vaddr_t at, mm_mapping *out)
{
    return mm_paging_cursor_translate(cursor, at, out);
}

void paging_translate_cursor(benchmark::State &state)
{
    auto machine = std::make_unique<Machine>();
    std::vector<uint64_t> addresses = ascending_addresses();
    mm_status_t (*volatile translate)(mm_paging_cursor *, mm_vaddr_t, mm_mapping *) =
        cursor_translate;
    mm_paging_cursor cursor = {};
    bool good = machine->ok() && machine->map(kPages * k4K, MM_PAGING_ONLY_4K, kRw) &&
                mm_paging_cursor_begin(&cursor, machine->user(), {{kStart}, kPages * k4K}) == MM_OK;

    for (auto _ : state) {
        uint64_t before = 0;

        for (uint64_t address : addresses) {
            mm_mapping leaf;

            good = translate(&cursor, {address + (before & 1)}, &leaf) == MM_OK && good;
            before = leaf.paddr.raw;
        }
        benchmark::DoNotOptimize(before);
    }
    if (!good) {
        fail(state);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPages));
}
#else
void paging_translate_cursor(benchmark::State &state)
{
    state.SkipWithError("not supported: cursors");
}
#endif
BENCHMARK(paging_translate_cursor);

void paging_translate_cursor_floor(benchmark::State &state)
{
    auto machine = std::make_unique<Machine>();
    std::vector<uint64_t> addresses = ascending_addresses();
    uint64_t (*volatile walk)(uint64_t, uint64_t, uint64_t) = bare_walk;
    bool good = machine->ok() && machine->map(kPages * k4K, MM_PAGING_ONLY_4K, kRw);
    uint64_t root = mm_paging_root(machine->user()).raw;

    for (auto _ : state) {
        uint64_t before = 0;

        for (uint64_t address : addresses) {
            before = walk(machine->base(), root, address + (before & 1));
        }
        benchmark::DoNotOptimize(before);
    }
    if (!good) {
        fail(state);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPages));
}
BENCHMARK(paging_translate_cursor_floor);

} // namespace
