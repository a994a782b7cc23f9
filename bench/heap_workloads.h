// SPDX-License-Identifier: MIT
//
// Workloads that more than one file asks allocators to do. heap_bench.h says what a heap is here.
#ifndef HEAP_WORKLOADS_H
#define HEAP_WORKLOADS_H

#include "heap_bench.h"
#include "thread_bench.h"

#include <memory>
#include <random>

namespace heap_bench
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

// One thread allocates, the other frees, 64 bytes each; batches of 64 go through a ring.
struct Remote {
    template <class Heap> void operator()(benchmark::State &state, Heap &heap) const
    {
        using thread_bench::Pinned;
        using ObjectRing = thread_bench::Ring<void *>;
        auto ring = std::make_unique<ObjectRing>();
        bool failed = false;

        std::thread consumer([&] {
            const Pinned pinned(1);

            while (ObjectRing::Batch *batch = ring->next()) {
                for (void *object : batch->units) {
                    heap.free(object, 1);
                }
                ring->done();
            }
        });
        {
            const Pinned pinned(0);

            for (auto _ : state) {
                ObjectRing::Batch &batch = ring->room();

                for (auto &object : batch.units) {
                    object = heap.alloc(64, 0);
                    failed |= object == nullptr;
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
};

} // namespace heap_bench

#endif
