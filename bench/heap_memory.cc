// SPDX-License-Identifier: MIT
//
// Figures of the heap that are not means of time: the memory it takes, and its slowest calls. Each
// allocator is measured in a process of its own that has done nothing else.
#include "heap_bench.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstring>
#include <fstream>
#include <random>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

namespace heap_bench
{

namespace
{

// What a heap of the library goes by where peers go by their names; a tier's suffix follows.
constexpr char OURS[] = "ours";

bool for_a_moment()
{
    return getenv("MM_BENCH_MOMENT") != nullptr;
}

// Bytes of this process's memory that hold something and belong to no file.
uint64_t bytes_resident()
{
    std::ifstream rollup("/proc/self/smaps_rollup");
    std::string word;
    uint64_t kib = 0;

    while (rollup >> word) {
        if (word == "Anonymous:" && rollup >> kib) {
            return kib * 1024;
        }
    }
    fprintf(stderr, "bench_heap: no /proc/self/smaps_rollup\n");
    exit(1);
}

// How much memory a heap holds. The library says it page by page; of a peer it is what the process
// has grown by since `before`, asked now and then only, because it is slow.
uint64_t bytes_held(const Ours &heap, uint64_t)
{
    return heap.bytes_held();
}
uint64_t bytes_held(const Peer &, uint64_t before)
{
    const uint64_t now = bytes_resident();

    return now > before ? now - before : 0;
}
bool is_time_to_ask(const Ours &, size_t)
{
    return true;
}
bool is_time_to_ask(const Peer &, size_t step)
{
    return step % 10000 == 9999;
}

void *written(void *object, size_t size)
{
    if (object == nullptr) {
        abort();
    }
    return memset(object, 1, size);
}

// What 100,000 objects cost after a million replacements, and what is held when all are freed.
template <class Heap> void memory_child(Heap &heap)
{
    const size_t nr = for_a_moment() ? 5000 : 100000;
    const auto size = program_sizes(size_t{1} << 20);
    std::vector<std::pair<void *, uint32_t>> objects(nr);
    std::mt19937_64 random(11);
    const uint64_t before = bytes_resident();
    uint64_t asked = 0;
    uint64_t peak_asked = 0;
    uint64_t peak_held = 0;

    for (size_t i = 0; i < 11 * nr; i++) {
        auto &object = objects[i < nr ? i : random() % nr];

        if (i >= nr) {
            heap.free(object.first);
            asked -= object.second;
        }
        object.second = size[i % size.size()];
        object.first = written(heap.alloc(object.second), object.second);
        asked += object.second;
        peak_asked = std::max(peak_asked, asked);
        if (is_time_to_ask(heap, i)) {
            peak_held = std::max(peak_held, bytes_held(heap, before));
        }
    }
    peak_held = std::max(peak_held, bytes_held(heap, before));
    for (auto &object : objects) {
        heap.free(object.first);
    }
    printf("%.9g %.9g\n", static_cast<double>(peak_held) / static_cast<double>(peak_asked),
           static_cast<double>(bytes_held(heap, before)) / static_cast<double>(peak_held));
}

// Page-aligned blocks of 4 KiB.
template <class Heap> void aligned_child(Heap &heap)
{
    std::vector<void *> blocks(10000);
    const uint64_t before = bytes_resident();

    for (auto &block : blocks) {
        block = written(heap.alloc_aligned(4096, 4096), 4096);
        if (reinterpret_cast<uintptr_t>(block) % 4096 != 0) {
            abort();
        }
    }
    printf("%.9g 0\n", static_cast<double>(bytes_held(heap, before)) /
                           static_cast<double>(blocks.size() * 4096));
    for (void *block : blocks) {
        heap.free(block);
    }
}

// The fences keep what is measured between the two readings, and what is not out.
uint64_t clock_before()
{
    _mm_lfence();
    const uint64_t now = __rdtsc();
    _mm_lfence();
    return now;
}
uint64_t clock_after()
{
    unsigned cpu;
    const uint64_t now = __rdtscp(&cpu);

    _mm_lfence();
    return now;
}

// Cycles that a measurement of nothing takes, at least.
uint64_t clock_cost()
{
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < 100000; i++) {
        const uint64_t before = clock_before();

        least = std::min(least, clock_after() - before);
    }
    return least;
}

double clock_cycles_per_ns()
{
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    const uint64_t before = clock_before();

    while (Clock::now() - begin < std::chrono::milliseconds(50)) {
    }
    return static_cast<double>(clock_after() - before) /
           std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
}

// A step allocates for a slot that is empty, and frees what is in one that is not.
struct Step {
    uint32_t slot;
    uint32_t size;
};

// `nr` objects come, so many are replaced at random, and all go in random order.
std::vector<Step> make_steps(uint32_t nr, uint32_t nr_replaced)
{
    const auto size = program_sizes(size_t{nr} + nr_replaced);
    std::vector<uint32_t> order(nr);
    std::vector<Step> steps;
    std::mt19937_64 random(13);

    for (uint32_t i = 0; i < nr; i++) {
        steps.push_back({i, size[i]});
        order[i] = i;
    }
    for (uint32_t i = nr; i < nr + nr_replaced; i++) {
        const auto slot = static_cast<uint32_t>(random() % nr);

        steps.push_back({slot, 0});
        steps.push_back({slot, size[i]});
    }
    std::shuffle(order.begin(), order.end(), random);
    for (uint32_t slot : order) {
        steps.push_back({slot, 0});
    }
    return steps;
}

template <class Heap>
void replay(Heap &heap, const std::vector<Step> &steps, uint32_t nr, uint32_t *least)
{
    std::vector<void *> slots(nr);

    for (size_t i = 0; i < steps.size(); i++) {
        void *&slot = slots[steps[i].slot];
        void *object = slot;
        const uint32_t size = steps[i].size;
        uint64_t before;
        uint64_t after;

        if (object == nullptr) {
            before = clock_before();
            object = heap.alloc(size);
            after = clock_after();
            *static_cast<volatile char *>(object) = 1;
            slot = object;
        } else {
            before = clock_before();
            heap.free(object);
            after = clock_after();
            slot = nullptr;
        }
        least[i] = static_cast<uint32_t>(std::min<uint64_t>(least[i], after - before));
    }
}

// A process gets its memory, and its program, page by page as they are used; a kernel has them. So
// each replays the sequence once before it is measured. Then ours is a heap anew, over memory that
// was touched; a peer is what it has become, with nothing allocated.
template <class Make> auto make_warm(Make make, const std::vector<Step> &steps, uint32_t nr)
{
    std::vector<uint32_t> unused(steps.size());
    auto heap = make();

    replay(*heap, steps, nr, unused.data());
    if (std::is_same<decltype(heap), std::unique_ptr<Ours>>::value) {
        heap.reset();
        heap = make();
    }
    return heap;
}

// One sequence, replayed in five processes that have done nothing but that: of each step the least
// time, so that what the machine does meanwhile is not in it.
template <class Make> void latency_child(uint32_t nr, Make make)
{
    const auto steps = make_steps(nr, for_a_moment() ? nr : 400000);
    const size_t bytes = steps.size() * sizeof(uint32_t);
    auto *least = static_cast<uint32_t *>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));

    if (least == MAP_FAILED) {
        abort();
    }
    memset(least, 0xff, bytes);
    for (int i = 0; i < 5; i++) {
        const pid_t child = fork();
        int status = 1;

        if (child == 0) {
            const auto heap = make_warm(make, steps, nr);

            replay(*heap, steps, nr, least);
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            fprintf(stderr, "bench_heap: a replay failed\n");
            exit(1);
        }
    }
    std::sort(least, least + steps.size());
    const auto cost = static_cast<double>(clock_cost());
    const double rate = clock_cycles_per_ns();
    const auto ns = [&](size_t i) { return std::max(0.0, (least[i] - cost) / rate); };

    printf("%.9g %.9g\n", ns(steps.size() - 1 - steps.size() / 1000), ns(steps.size() - 1));
}

template <class Make> int run_child(const std::string &what, Make make)
{
    if (what == "latency1k" || what == "latency100k") {
        latency_child(what == "latency1k" ? 1000 : for_a_moment() ? 5000 : 100000, make);
        return 0;
    }
    const auto heap = make();

    if (what == "memory") {
        memory_child(*heap);
    } else if (what == "aligned") {
        aligned_child(*heap);
    } else {
        return 1;
    }
    return 0;
}

// Ask a process of its own, and show its two numbers as counters.
void ask_child(benchmark::State &state, const std::string &what, const char *first,
               const char *second)
{
    char self[4096];
    const ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    double numbers[2];

    if (len < 0) {
        abort();
    }
    self[len] = 0;
    for (auto _ : state) {
        FILE *child = popen(("'" + std::string(self) + "' " + CHILD_OPTION + what).c_str(), "r");
        const bool is_read =
            child != nullptr && fscanf(child, "%lf %lf", &numbers[0], &numbers[1]) == 2;

        if (child == nullptr || pclose(child) != 0 || !is_read) {
            state.SkipWithError("the process that measures failed");
            return;
        }
    }
    state.counters[first] = numbers[0];
    if (second != nullptr) {
        state.counters[second] = numbers[1];
    }
}

} // namespace

int child_main(const std::string &what)
{
    const std::string job = what.substr(0, what.find(':'));
    const std::string name = what.substr(what.find(':') + 1);

    for (const Tier &tier : tiers()) {
        if (name == std::string(OURS) + tier.suffix) {
            return run_child(job, [&] { return std::make_unique<Ours>(tier); });
        }
    }
    for (const PeerLibrary &peer : peers()) {
        if (name == peer.name) {
            return run_child(job, [&] {
                std::string why;
                const PeerCalls *calls = peer_calls(peer, &why);

                if (calls == nullptr) {
                    exit(1);
                }
                return std::make_unique<Peer>(*calls);
            });
        }
    }
    return 1;
}

void register_memory()
{
    const auto add = [](const std::string &suffix, const std::string &name,
                        const PeerLibrary *peer) {
        const auto ask = [=](const char *job, const char *workload, int repetitions,
                             const char *first, const char *second) {
            benchmark::RegisterBenchmark(
                (std::string("heap_") + workload + suffix).c_str(),
                [=](benchmark::State &state) {
                    std::string why;

                    if (peer != nullptr && peer_calls(*peer, &why) == nullptr) {
                        state.SkipWithError(("not supported: " + why).c_str());
                        return;
                    }
                    ask_child(state, std::string(job) + ":" + name, first, second);
                })
                ->Iterations(1)
                ->Repetitions(repetitions);
        };

        ask("memory", "memory", 1, "held_to_asked", "left_to_peak");
        ask("aligned", "aligned4k_memory", 1, "held_to_size", nullptr);
        ask("latency1k", "latency1k", 3, "p999_ns", "max_ns");
        ask("latency100k", "latency100k", 1, "p999_ns", "max_ns");
    };

    for (const Tier &tier : tiers()) {
        add(tier.suffix, std::string(OURS) + tier.suffix, nullptr);
    }
    for (const PeerLibrary &peer : peers()) {
        add(std::string("_") + peer.name, peer.name, &peer);
    }
}

} // namespace heap_bench
