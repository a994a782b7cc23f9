// SPDX-License-Identifier: MIT
//
// What the benchmarks of page tables share. Tables lie in simulated RAM; the source hands out frames
// from a stack, zeroed if it is asked to. Leaves are numbers only.

#ifndef PAGING_BENCH_H
#define PAGING_BENCH_H

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

namespace paging_bench
{

constexpr uint64_t k4K = 4096;
constexpr uint64_t k2M = k4K * 512;
constexpr uint64_t k1G = k2M * 512;
constexpr uint64_t kTables = 4096;
constexpr uint64_t kPages = 32768; // 128 MiB in 64 tables: 256 KiB, which stay in the L2
constexpr uint64_t kStart = k1G;

// A CPU that has everything and does nothing.
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
    return msr == 0x277 ? 0 : UINT64_C(1) << 11;
}

inline void write_msr(void *, uint32_t, uint64_t)
{
}

inline uint64_t read_cr(void *, unsigned)
{
    return 0;
}

inline void write_cr(void *, unsigned, uint64_t)
{
}

inline void invlpg(void *, uint64_t)
{
}

inline void invpcid(void *, uint64_t, uint64_t, uint64_t)
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

    // What the CPU does when a process writes to its pages: it sets accessed and dirty.
    void write_to(uint64_t nr_pages)
    {
        for (uint64_t page = 0; page < nr_pages; page++) {
            uint64_t at = kStart + page * k4K;
            uint64_t table = mm_paging_root(&user_).raw;
            uint64_t *slot = nullptr;

            for (int shift = 39; shift >= 12; shift -= 9) {
                slot = reinterpret_cast<uint64_t *>(base_ + (table & 0x000ffffffffff000)) +
                       ((at >> shift) & 511);
                table = *slot;
            }
            *slot |= 0x60;
        }
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

    static constexpr mm_frame_source_ops kSource = {alloc, release, nullptr};

    t_ram *ram_ = nullptr;
    uint64_t base_ = 0;
    mm_physmap physmap_ = {};
    std::vector<uint64_t> free_;
    mm_x86_64 arch_ = {};
    mm_pagetable kernel_ = {};
    mm_pagetable user_ = {};
    bool ok_ = false;
};

constexpr uint32_t kRw = MM_PROT_RW | MM_PROT_USER;
constexpr uint32_t kRead = MM_PROT_READ | MM_PROT_USER;

inline void fail(benchmark::State &state)
{
    state.SkipWithError("a call failed");
}

} // namespace paging_bench

#endif
