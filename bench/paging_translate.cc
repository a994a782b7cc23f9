// SPDX-License-Identifier: MIT
//
// Page tables: translation, beside the bare loads that it is made of.

#include <mm/paging_slots.h>

#include "paging_bench.h"

namespace
{

using namespace paging_bench;

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

// The compiler forgets what it knows of a value, which stays in its register.
inline uint64_t opaque(uint64_t value)
{
    asm volatile("" : "+r"(value));
    return value;
}

// What is written where it is used: the cursor's call is inline, and so is the walk beside it. Each
// address waits for the answer before it, as above.
template <typename Translate> void cursor_all(benchmark::State &state, Translate translate)
{
    auto machine = std::make_unique<Machine>();
    std::vector<uint64_t> addresses = ascending_addresses();
    mm_paging_cursor cursor = {};
    bool good = machine->ok() && machine->map(kPages * k4K, MM_PAGING_ONLY_4K, kRw) &&
                mm_paging_cursor_begin(&cursor, machine->user(), {{kStart}, kPages * k4K}) == MM_OK;

    for (auto _ : state) {
        uint64_t before = 0;

        for (uint64_t address : addresses) {
            mm_mapping leaf;

            good = translate(&cursor, {address + (before & 1)}, &leaf) == MM_OK && good;
            before = opaque(leaf.paddr.raw);
        }
    }
    if (!good) {
        fail(state);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPages));
}

template <typename Walk> void cursor_floor(benchmark::State &state, Walk walk)
{
    auto machine = std::make_unique<Machine>();
    std::vector<uint64_t> addresses = ascending_addresses();
    bool good = machine->ok() && machine->map(kPages * k4K, MM_PAGING_ONLY_4K, kRw);
    uint64_t root = mm_paging_root(machine->user()).raw;

    for (auto _ : state) {
        uint64_t before = 0;

        for (uint64_t address : addresses) {
            before = opaque(walk(machine->base(), root, address + (before & 1)));
        }
    }
    if (!good) {
        fail(state);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPages));
}

void paging_translate_cursor(benchmark::State &state)
{
    cursor_all(state, [](mm_paging_cursor *cursor, mm_vaddr_t at, mm_mapping *out) {
        return mm_paging_cursor_translate(cursor, at, out);
    });
}
BENCHMARK(paging_translate_cursor);

void paging_translate_cursor_floor(benchmark::State &state)
{
    cursor_floor(state, [](uint64_t base, uint64_t root, uint64_t address) {
        return bare_walk(base, root, address);
    });
}
BENCHMARK(paging_translate_cursor_floor);

// The same behind a pointer on both sides. The answer then comes back through memory, which takes
// about as long as the load of the slot.
mm_status_t cursor_translate(mm_paging_cursor *cursor, mm_vaddr_t at, mm_mapping *out)
{
    return mm_paging_cursor_translate(cursor, at, out);
}

void paging_translate_cursor_called(benchmark::State &state)
{
    mm_status_t (*volatile translate)(mm_paging_cursor *, mm_vaddr_t, mm_mapping *) =
        cursor_translate;

    cursor_all(state, [&](mm_paging_cursor *cursor, mm_vaddr_t at, mm_mapping *out) {
        return translate(cursor, at, out);
    });
}
BENCHMARK(paging_translate_cursor_called);

void paging_translate_cursor_called_floor(benchmark::State &state)
{
    uint64_t (*volatile walk)(uint64_t, uint64_t, uint64_t) = bare_walk;

    cursor_floor(state, [&](uint64_t base, uint64_t root, uint64_t address) {
        return walk(base, root, address);
    });
}
BENCHMARK(paging_translate_cursor_called_floor);

} // namespace
