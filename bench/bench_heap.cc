// SPDX-License-Identifier: MIT
//
// Figures of the heap over a fixed range of 1 GiB, beside mimalloc, jemalloc, tcmalloc and glibc:
// what one thread allocates and frees. bench/README.md tells how figures are made from these.
#include "heap_bench.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>

namespace heap_bench
{

namespace
{

// One object of 64 bytes, allocated and freed.
struct Hot64 {
    template <class Heap> void operator()(benchmark::State &state, Heap &heap) const
    {
        const Others others(heap, {64});

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
};

uint32_t cpu_number(void *ctx)
{
    return *static_cast<const volatile uint32_t *>(ctx);
}

// As Ours, but the CPU's number is asked from an op.
class OursByOp
{
  public:
    OursByOp()
    {
        check(mm_heap_init(&heap_, &pool_.pool, nullptr));
    }
    ~OursByOp()
    {
        check(mm_heap_destroy(&heap_));
    }
    OursByOp(const OursByOp &) = delete;
    OursByOp &operator=(const OursByOp &) = delete;

    void *alloc(size_t size)
    {
        return alloc_(&heap_, size);
    }
    void free(void *object)
    {
        free_(&heap_, object);
    }

  private:
    static mm_platform_ops make_ops()
    {
        mm_platform_ops ops{};

        ops.cpu_number = cpu_number;
        return ops;
    }

    uint32_t cpu_ = 1;
    mm_platform_ops ops_ = make_ops();
    Pool pool_{mm_platform{&ops_, &cpu_}};
    alignas(64) mm_heap heap_{};
    void *(*const alloc_)(mm_heap *, size_t) = opaque(&mm_heap_alloc);
    void (*const free_)(mm_heap *, void *) = opaque(&mm_heap_free);
};

void hot64_ops(benchmark::State &state)
{
    OursByOp heap;

    Hot64()(state, heap);
}

constexpr size_t BATCH = 64;

// Batches of 64 objects of all sizes, freed in reverse, or in order.
template <bool IS_LIFO> struct Batches {
    template <class Heap> void operator()(benchmark::State &state, Heap &heap) const
    {
        const auto size = spread_sizes(1 << 14);
        const Others others(heap, spread_sizes(256));
        void *batch[BATCH];
        size_t at = 0;

        for (auto _ : state) {
            for (size_t i = 0; i < BATCH; i++) {
                batch[i] = heap.alloc(size[at++ % size.size()]);
                if (batch[i] == nullptr) {
                    abort();
                }
                *static_cast<volatile char *>(batch[i]) = 1;
            }
            for (size_t i = 0; i < BATCH; i++) {
                heap.free(batch[IS_LIFO ? BATCH - 1 - i : i]);
            }
        }
        state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(BATCH));
    }
};

// Batches of 16, 64, 256, 1024 and 4096 objects of 64 bytes in turn, freed in reverse, or in order.
// A short batch comes as often as makes each length the same number of objects.
template <bool IS_LIFO> struct Lengths {
    template <class Heap> void operator()(benchmark::State &state, Heap &heap) const
    {
        constexpr size_t LONGEST = 4096;
        const Others others(heap, {64});
        std::vector<void *> batch(LONGEST);
        int64_t nr_objects = 0;

        for (auto _ : state) {
            for (size_t length = 16; length <= LONGEST; length *= 4) {
                for (size_t done = 0; done < LONGEST; done += length) {
                    for (size_t i = 0; i < length; i++) {
                        batch[i] = heap.alloc(64);
                        if (batch[i] == nullptr) {
                            abort();
                        }
                        *static_cast<volatile char *>(batch[i]) = 1;
                    }
                    for (size_t i = 0; i < length; i++) {
                        heap.free(batch[IS_LIFO ? length - 1 - i : i]);
                    }
                }
                nr_objects += LONGEST;
            }
        }
        state.SetItemsProcessed(nr_objects);
    }
};

// So many objects live; one of them, at random, is replaced.
template <size_t NR> struct Live {
    template <class Heap> void operator()(benchmark::State &state, Heap &heap) const
    {
        constexpr size_t STEPS = 1 << 16;
        const auto size = program_sizes(STEPS);
        std::mt19937_64 random(7);
        std::vector<uint32_t> which(STEPS);
        std::vector<void *> objects(NR);
        size_t at = 0;

        for (auto &w : which) {
            w = static_cast<uint32_t>(random() % NR);
        }
        for (size_t i = 0; i < NR; i++) {
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

        // Each object once, on average, and more: what is measured is the steady state, not first
        // touch.
        for (size_t i = 0; i < 4 * NR; i++) {
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
};

} // namespace

void register_hot()
{
    register_with_all("hot64", Hot64());
    benchmark::RegisterBenchmark("heap_hot64_ops", hot64_ops);
    register_with_all("lifo", Batches<true>());
    register_with_all("fifo", Batches<false>());
    register_with_all("lifo_lengths", Lengths<true>());
    register_with_all("fifo_lengths", Lengths<false>());
    register_with_all("live1k", Live<1000>());
    register_with_all("live100k", Live<100000>());
}

} // namespace heap_bench

int main(int argc, char **argv)
{
    using namespace heap_bench;

    prepare_for_peers(argv);
    if (argc == 2 && strncmp(argv[1], CHILD_OPTION, strlen(CHILD_OPTION)) == 0) {
        return child_main(argv[1] + strlen(CHILD_OPTION));
    }
    register_hot();
    register_threads();
    register_memory();
    register_realloc();
    register_traces();
    register_magazines();
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 1;
    }
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
