// SPDX-License-Identifier: MIT
//
// Figures of the heap: objects that grow.
#include "heap_bench.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace heap_bench
{

namespace
{

// Eight vectors and strings are built side by side, so that none grows undisturbed at the end of
// memory. Each has a final size of 64 bytes to 64 KiB, all magnitudes equally likely, and one of
// three manners to get there: vectors that double, vectors that grow by a half, and strings to
// which 1 to 64 bytes are appended and which are always as large as they need to be. (Strings end
// at 4 KiB.) One that is finished is freed, and another begun. An item is a call of realloc, after
// which the new last byte is written.
struct Grow {
    size_t size;
    size_t final_size;
    uint32_t manner;
    void *object;
};

struct Realloc {
    template <class Heap> void operator()(benchmark::State &state, Heap &heap) const
    {
        constexpr size_t STEPS = 1 << 14;
        std::mt19937_64 random(5);
        std::uniform_real_distribution<double> magnitude(std::log(64.0), std::log(65536.0));
        std::vector<uint32_t> final_sizes(STEPS);
        std::vector<uint8_t> pieces(STEPS);
        Grow growing[8] = {};
        size_t nr_begun = 0;
        size_t nr_steps = 0;
        int64_t nr_calls = 0;

        for (auto &size : final_sizes) {
            size = static_cast<uint32_t>(std::exp(magnitude(random)));
        }
        for (auto &piece : pieces) {
            piece = static_cast<uint8_t>(1 + random() % 64);
        }
        const auto step = [&](Grow &grow) {
            if (grow.object == nullptr) {
                grow.manner = static_cast<uint32_t>(nr_begun % 3);
                grow.final_size = final_sizes[nr_begun++ % STEPS];
                if (grow.manner == 2) {
                    grow.final_size = std::min<size_t>(grow.final_size, 4096);
                }
                grow.size = 24;
                grow.object = heap.alloc(grow.size);
            } else if (grow.size >= grow.final_size) {
                heap.free(grow.object);
                grow.object = nullptr;
                return;
            } else {
                grow.size = grow.manner == 0   ? 2 * grow.size
                            : grow.manner == 1 ? grow.size + grow.size / 2
                                               : grow.size + pieces[nr_steps % STEPS];
                grow.object = heap.realloc(grow.object, grow.size);
                nr_calls++;
            }
            if (grow.object == nullptr) {
                abort();
            }
            static_cast<volatile char *>(grow.object)[grow.size - 1] = 1;
        };

        for (auto _ : state) {
            for (size_t i = 0; i < 256; i++) {
                step(growing[nr_steps++ % 8]);
            }
        }
        for (auto &grow : growing) {
            heap.free(grow.object);
        }
        state.SetItemsProcessed(nr_calls);
    }
};

} // namespace

void register_realloc()
{
    register_with_all("realloc", Realloc());
}

} // namespace heap_bench
