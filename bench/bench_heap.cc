// SPDX-License-Identifier: MIT
//
// Figures of the heap over a fixed range of 1 GiB. The peer is Debian's mimalloc, which makes no
// check; both are called through a function pointer. bench/README.md tells how figures are made
// from these.
#include <mm/heap.h>

#include <benchmark/benchmark.h>
#include <mimalloc.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sys/mman.h>
#include <thread>
#include <vector>

namespace
{

constexpr uint64_t GiB = UINT64_C(1) << 30;

void check(mm_status_t status)
{
    if (status != MM_OK) {
        fprintf(stderr, "bench_heap: %s\n", mm_status_str(status));
        abort();
    }
}

// A heap of its own; all its memory goes with it.
class Ours
{
  public:
    Ours()
    {
        memory_ = mmap(nullptr, GiB, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory_ == MAP_FAILED) {
            abort();
        }
        check(mm_page_range_init(&range_, memory_, GiB));
        mm_pool_config config{};
        config.source = mm_page_source_range(&range_);
        config.nr_cpus = 2;
        check(mm_pool_init(&pool_, &config));
        check(mm_heap_init(&heap_, &pool_, nullptr));
        alloc_ = mm_heap_alloc_on;
        free_ = mm_heap_free_on;
    }
    ~Ours()
    {
        check(mm_heap_check(&heap_));
        check(mm_heap_destroy(&heap_));
        check(mm_pool_destroy(&pool_));
        check(mm_page_range_destroy(&range_));
        munmap(memory_, GiB);
    }
    Ours(const Ours &) = delete;
    Ours &operator=(const Ours &) = delete;

    void *alloc(size_t size, uint32_t cpu = 0)
    {
        return alloc_(&heap_, cpu, size);
    }
    void free(void *object, uint32_t cpu = 0)
    {
        free_(&heap_, cpu, object);
    }
    // Pages that are not free, metadata and all.
    uint64_t bytes_held() const
    {
        return (range_.nr_pages - range_.nr_bitmap_pages - range_.nr_free) * MM_PAGE_SIZE;
    }

  private:
    alignas(64) mm_heap heap_{};
    mm_pool pool_{};
    mm_page_range range_{};
    void *memory_ = nullptr;
    void *(*volatile alloc_)(mm_heap *, uint32_t, size_t) = nullptr;
    void (*volatile free_)(mm_heap *, uint32_t, void *) = nullptr;
};

class Mimalloc
{
  public:
    void *alloc(size_t size, uint32_t = 0)
    {
        return alloc_(size);
    }
    void free(void *object, uint32_t = 0)
    {
        free_(object);
    }

  private:
    void *(*volatile alloc_)(size_t) = mi_malloc;
    void (*volatile free_)(void *) = mi_free;
};

// One object of 64 bytes, allocated and freed.
template <class Heap> void hot64(benchmark::State &state)
{
    Heap heap;

    for (auto _ : state) {
        void *object = heap.alloc(64);

        benchmark::DoNotOptimize(object);
        if (object == nullptr) {
            state.SkipWithError("no memory");
            break;
        }
        heap.free(object);
    }
    state.SetItemsProcessed(state.iterations());
}

// Sizes from 16 to 4096 whose magnitudes are equally likely.
std::vector<uint32_t> sizes(size_t nr)
{
    std::mt19937_64 random(42);
    std::vector<uint32_t> out(nr);

    for (auto &size : out) {
        uint64_t top = UINT64_C(32) << (random() % 8);

        size = static_cast<uint32_t>(top / 2 + random() % (top / 2) + 1);
    }
    return out;
}

// Stacks of 64 objects of all sizes, freed in reverse.
template <class Heap> void lifo(benchmark::State &state)
{
    constexpr size_t DEPTH = 64;
    const auto size = sizes(1 << 14);
    Heap heap;
    void *stack[DEPTH];
    size_t at = 0;

    for (auto _ : state) {
        for (size_t i = 0; i < DEPTH; i++) {
            stack[i] = heap.alloc(size[at++ % size.size()]);
            if (stack[i] == nullptr) {
                abort();
            }
            *static_cast<volatile char *>(stack[i]) = 1;
        }
        for (size_t i = DEPTH; i-- > 0;) {
            heap.free(stack[i]);
        }
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(DEPTH));
}

// So many objects live; one of them, at random, is replaced.
template <class Heap> void live(benchmark::State &state, size_t nr)
{
    constexpr size_t STEPS = 1 << 16;
    const auto size = sizes(STEPS);
    std::mt19937_64 random(7);
    std::vector<uint32_t> which(STEPS);
    std::vector<void *> objects(nr);
    Heap heap;
    size_t at = 0;

    for (auto &w : which) {
        w = static_cast<uint32_t>(random() % nr);
    }
    for (size_t i = 0; i < nr; i++) {
        objects[i] = heap.alloc(size[i % STEPS]);
    }
    const auto replace = [&] {
        void *&object = objects[which[at % STEPS]];

        heap.free(object);
        object = heap.alloc(size[(at * 31) % STEPS]);
        if (object == nullptr) {
            abort();
        }
        *static_cast<volatile char *>(object) = 1;
        at++;
    };

    // Each object once, on average, and more: what is measured is the steady state, not first touch.
    for (size_t i = 0; i < 4 * nr; i++) {
        replace();
    }
    for (auto _ : state) {
        for (size_t i = 0; i < 256; i++) {
            replace();
        }
    }
    for (void *object : objects) {
        heap.free(object);
    }
    state.SetItemsProcessed(state.iterations() * 256);
}
template <class Heap> void live1k(benchmark::State &state)
{
    live<Heap>(state, 1000);
}
template <class Heap> void live100k(benchmark::State &state)
{
    live<Heap>(state, 100000);
}

// What 100,000 objects of all sizes cost in pages after a million replacements, and what is held
// when all are freed.
void memory(benchmark::State &state)
{
    const auto size = sizes(1 << 20);
    std::vector<std::pair<void *, uint32_t>> objects(100000);
    double ratio = 0;
    double left = 0;

    for (auto _ : state) {
        std::mt19937_64 random(11);
        Ours heap;
        uint64_t asked = 0;
        uint64_t peak_asked = 0;
        uint64_t peak_held = 0;

        for (size_t i = 0; i < 10 * objects.size(); i++) {
            auto &object = objects[i < objects.size() ? i : random() % objects.size()];

            if (i >= objects.size()) {
                heap.free(object.first);
                asked -= object.second;
            }
            object.second = size[i % size.size()];
            object.first = heap.alloc(object.second);
            asked += object.second;
            peak_asked = std::max(peak_asked, asked);
            peak_held = std::max(peak_held, heap.bytes_held());
        }
        for (auto &object : objects) {
            heap.free(object.first);
        }
        ratio = static_cast<double>(peak_held) / static_cast<double>(peak_asked);
        left = static_cast<double>(heap.bytes_held());
    }
    state.counters["held_to_asked"] = ratio;
    state.counters["bytes_left"] = left;
}

// One thread allocates, the other frees: a pair, by the clock.
template <class Heap> void remote(benchmark::State &state)
{
    constexpr size_t RING = 1024;
    Heap heap;
    std::vector<std::atomic<void *>> ring(RING);
    std::atomic<bool> stop{false};
    size_t at = 0;

    std::thread consumer([&] {
        for (size_t i = 0;; i = (i + 1) % RING) {
            void *object;

            while ((object = ring[i].exchange(nullptr, std::memory_order_acquire)) == nullptr) {
                if (stop.load()) {
                    return;
                }
            }
            heap.free(object, 1);
        }
    });
    for (auto _ : state) {
        void *object = heap.alloc(64, 0);

        while (ring[at].load(std::memory_order_relaxed) != nullptr) {
        }
        ring[at].store(object, std::memory_order_release);
        at = (at + 1) % RING;
    }
    for (auto &slot : ring) {
        while (slot.load() != nullptr) {
        }
    }
    stop.store(true);
    consumer.join();
    state.SetItemsProcessed(state.iterations());
}

BENCHMARK(hot64<Ours>)->Name("heap_hot64");
BENCHMARK(hot64<Mimalloc>)->Name("heap_hot64_mimalloc");
BENCHMARK(lifo<Ours>)->Name("heap_lifo");
BENCHMARK(lifo<Mimalloc>)->Name("heap_lifo_mimalloc");
BENCHMARK(live1k<Ours>)->Name("heap_live1k");
BENCHMARK(live1k<Mimalloc>)->Name("heap_live1k_mimalloc");
BENCHMARK(live100k<Ours>)->Name("heap_live100k");
BENCHMARK(live100k<Mimalloc>)->Name("heap_live100k_mimalloc");
BENCHMARK(remote<Ours>)->Name("heap_remote");
BENCHMARK(remote<Mimalloc>)->Name("heap_remote_mimalloc");
BENCHMARK(memory)->Name("heap_memory")->Unit(benchmark::kMillisecond);

} // namespace
