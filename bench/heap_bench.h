// SPDX-License-Identifier: MIT
//
// What the benchmarks of the heap share: the library's tiers and the peers behind one interface,
// each called through a function pointer; the sizes that are asked for; and the one place where a
// workload meets every allocator.
//
// A workload is a function object (state, heap) that is a template over the heap: alloc(size, cpu),
// alloc_aligned(align, size), alloc_zeroed(size), realloc(object, size), free(object, cpu).
#ifndef HEAP_BENCH_H
#define HEAP_BENCH_H

#include <mm/heap.h>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace heap_bench
{

constexpr uint64_t RANGE_BYTES = UINT64_C(1) << 30;
constexpr uint32_t NR_CPUS = 2;

inline void check(mm_status_t status)
{
    if (status != MM_OK) {
        fprintf(stderr, "bench_heap: %s\n", mm_status_str(status));
        abort();
    }
}

// A call that the compiler cannot see through.
template <class Call> Call opaque(Call call)
{
    asm volatile("" : "+r"(call));
    return call;
}

// RANGE_BYTES of memory, aligned to 2 MiB, mapped once: as with the peers, pages that an earlier
// benchmark touched stay touched.
void *range_memory();

// A configuration of the library. `suffix` is what its benchmarks' names end in.
struct Tier {
    const char *suffix;
    void (*configure)(mm_heap_config *config);
};

// The default comes first: its suffix is empty. A tier is added here and nowhere else.
const std::vector<Tier> &tiers();

// A pool over the range, with nothing above it.
class Pool
{
  public:
    explicit Pool(const mm_platform &platform = {})
    {
        check(mm_page_range_init(&range_, range_memory(), RANGE_BYTES));
        mm_pool_config config{};
        config.source = mm_page_source_range(&range_);
        config.nr_cpus = NR_CPUS;
        config.platform = platform;
        check(mm_pool_init(&pool, &config));
    }
    ~Pool()
    {
        check(mm_pool_destroy(&pool));
        check(mm_page_range_destroy(&range_));
    }
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    // Pages that are not free: objects, the library's metadata, the range's own bitmap.
    uint64_t bytes_held() const
    {
        return (range_.nr_pages - range_.nr_free) * MM_PAGE_SIZE;
    }

    mm_pool pool{};

  private:
    mm_page_range range_{};
};

// A heap of the library; its caller knows the CPU's number.
class Ours
{
  public:
    explicit Ours(const Tier &tier)
    {
        mm_heap_config config{};

        tier.configure(&config);
        check(mm_heap_init(&heap_, &pool_.pool, &config));
    }
    ~Ours()
    {
        check(mm_heap_check(&heap_));
        check(mm_heap_destroy(&heap_));
    }
    Ours(const Ours &) = delete;
    Ours &operator=(const Ours &) = delete;

    void *alloc(size_t size, uint32_t cpu = 0)
    {
        return alloc_(&heap_, cpu, size);
    }
    void *alloc_aligned(size_t align, size_t size)
    {
        return alloc_aligned_(&heap_, align, size);
    }
    void *alloc_zeroed(size_t size)
    {
        return alloc_zeroed_(&heap_, size);
    }
    void *realloc(void *object, size_t size)
    {
        return realloc_(&heap_, object, size);
    }
    void free(void *object, uint32_t cpu = 0)
    {
        free_(&heap_, cpu, object);
    }
    uint64_t bytes_held() const
    {
        return pool_.bytes_held();
    }

  private:
    Pool pool_;
    alignas(64) mm_heap heap_{};
    void *(*const alloc_)(mm_heap *, uint32_t, size_t) = opaque(&mm_heap_alloc_on);
    void *(*const alloc_aligned_)(mm_heap *, size_t, size_t) = opaque(&mm_heap_alloc_aligned);
    void *(*const alloc_zeroed_)(mm_heap *, size_t) = opaque(&mm_heap_alloc_zeroed);
    void *(*const realloc_)(mm_heap *, void *, size_t) = opaque(&mm_heap_realloc);
    void (*const free_)(mm_heap *, uint32_t, void *) = opaque(&mm_heap_free_on);
};

// What a peer is called and where it is. The library is loaded when first asked for.
struct PeerLibrary {
    const char *name;    // what its benchmarks' names end in
    const char *file;    // null: the C library, which is there
    const char *prefix;  // of its calls' names
    const char *version; // of its symbols, or null
};

struct PeerCalls {
    void *(*alloc)(size_t);
    void *(*alloc_aligned)(size_t, size_t);
    void *(*alloc_zeroed)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
};

// mimalloc, jemalloc, tcmalloc, glibc, and the checked builds of those that have one.
const std::vector<PeerLibrary> &peers();
// Null, and why, if this system has it not.
const PeerCalls *peer_calls(const PeerLibrary &peer, std::string *why);

// If the process was not started so that peers can be loaded, start it anew.
void prepare_for_peers(char **argv);

class Peer
{
  public:
    explicit Peer(const PeerCalls &calls)
        : alloc_(opaque(calls.alloc)), alloc_aligned_(opaque(calls.alloc_aligned)),
          alloc_zeroed_(opaque(calls.alloc_zeroed)), realloc_(opaque(calls.realloc)),
          free_(opaque(calls.free))
    {
    }

    void *alloc(size_t size, uint32_t = 0)
    {
        return alloc_(size);
    }
    void *alloc_aligned(size_t align, size_t size)
    {
        return alloc_aligned_(align, size);
    }
    void *alloc_zeroed(size_t size)
    {
        return alloc_zeroed_(1, size);
    }
    void *realloc(void *object, size_t size)
    {
        return realloc_(object, size);
    }
    void free(void *object, uint32_t = 0)
    {
        free_(object);
    }

  private:
    void *(*const alloc_)(size_t);
    void *(*const alloc_aligned_)(size_t, size_t);
    void *(*const alloc_zeroed_)(size_t, size_t);
    void *(*const realloc_)(void *, size_t);
    void (*const free_)(void *);
};

// Sizes from 16 to 4096 whose magnitudes are equally likely.
std::vector<uint32_t> spread_sizes(size_t nr);
// What programs ask for: log-normal from 16 to 2048 with a median of 128 and a sigma of 1; 15 in
// 1000 are of 4 to 64 KiB instead, all magnitudes equally likely.
std::vector<uint32_t> program_sizes(size_t nr);

// Objects that live while others are allocated and freed, as in any heap that is in use: what is
// measured is not what an allocator does when the last object of a size goes.
template <class Heap> class Others
{
  public:
    Others(Heap &heap, const std::vector<uint32_t> &sizes) : heap_(heap)
    {
        for (uint32_t size : sizes) {
            objects_.push_back(heap.alloc(size));
        }
    }
    ~Others()
    {
        for (void *object : objects_) {
            heap_.free(object);
        }
    }
    Others(const Others &) = delete;
    Others &operator=(const Others &) = delete;

  private:
    Heap &heap_;
    std::vector<void *> objects_;
};

using Setup = std::function<void(benchmark::internal::Benchmark *)>;

// Register heap_<workload> with each tier, and heap_<workload>_<peer> with each peer. The workload
// is given the state and a function that makes the heap: std::unique_ptr of Ours or of Peer.
template <class Workload>
void register_with_makers(const std::string &workload, Workload run, const Setup &setup = {})
{
    const auto add = [&](const std::string &suffix, std::function<void(benchmark::State &)> body) {
        auto *benchmark =
            benchmark::RegisterBenchmark(("heap_" + workload + suffix).c_str(), std::move(body));

        if (setup) {
            setup(benchmark);
        }
    };

    for (const Tier &tier : tiers()) {
        add(tier.suffix, [tier, run](benchmark::State &state) {
            run(state, [&] { return std::make_unique<Ours>(tier); });
        });
    }
    for (const PeerLibrary &peer : peers()) {
        add(std::string("_") + peer.name, [peer, run](benchmark::State &state) {
            std::string why;
            const PeerCalls *calls = peer_calls(peer, &why);

            if (calls == nullptr) {
                state.SkipWithError(("not supported: " + why).c_str());
                return;
            }
            run(state, [&] { return std::make_unique<Peer>(*calls); });
        });
    }
}

// The same for a workload that is given the heap itself.
template <class Workload>
void register_with_all(const std::string &workload, Workload run, const Setup &setup = {})
{
    register_with_makers(
        workload,
        [run](benchmark::State &state, auto make) {
            const auto heap = make();

            run(state, *heap);
        },
        setup);
}

// Of one process that does one thing and prints numbers, with nothing loaded that it does not need:
// what the program is started with to be that process, and what it does then.
constexpr char CHILD_OPTION[] = "--child=";
int child_main(const std::string &what);

void register_hot();
void register_threads();
void register_memory();
void register_realloc();
void register_traces();
void register_magazines();

} // namespace heap_bench

#endif
