// SPDX-License-Identifier: MIT
//
// Faults of one and of two threads in one space, each on a core and with a CPU number of its own,
// each in a table of its own. Times are of the clock on the wall, from the moment when all may begin
// to the moment when all are done.
#include "space_bench.h"
#include "thread_bench.h"

namespace
{

using namespace space_bench;
using namespace thread_bench;

// Runs a piece of work on threads that wait for it without sleeping.
class Team
{
  public:
    explicit Team(World &world, unsigned nr) : world_(world), nr_(nr)
    {
        if (nr > 1) {
            other_ = std::thread([this] { serve(); });
        }
    }
    ~Team()
    {
        stopped_ = true;
        turn_.fetch_add(1, std::memory_order_release);
        if (other_.joinable()) {
            other_.join();
        }
    }
    Team(const Team &) = delete;
    Team &operator=(const Team &) = delete;

    // All fault their pages in; false if one of them could not.
    bool run()
    {
        const uint64_t turn = turn_.fetch_add(1, std::memory_order_acq_rel) + 1;
        Wait wait;
        bool good = work(0);

        while (nr_ > 1 && done_.load(std::memory_order_acquire) != turn) {
            wait.turn();
        }
        return good && !failed_.load(std::memory_order_relaxed);
    }
    uint64_t nr() const
    {
        return nr_;
    }

  private:
    bool work(uint64_t number)
    {
        return world_.fault_all(Base + number * Batch * Page, Batch);
    }
    void serve()
    {
        const Pinned pinned(1);
        uint64_t turn = 0;

        cpu_number = 1;
        check(mm_space_activate(world_.space));
        for (;;) {
            Wait wait;

            while (turn_.load(std::memory_order_acquire) == turn) {
                wait.turn();
            }
            turn++;
            if (stopped_) {
                return;
            }
            if (!work(1)) {
                failed_.store(true, std::memory_order_relaxed);
            }
            done_.store(turn, std::memory_order_release);
        }
    }

    World &world_;
    const unsigned nr_;
    bool stopped_ = false; // seen with the turn
    alignas(128) std::atomic<uint64_t> turn_{0};
    alignas(128) std::atomic<uint64_t> done_{0};
    std::atomic<bool> failed_{false};
    std::thread other_;
};

void fault_scale(benchmark::State &state, unsigned nr_threads, bool bare)
{
    World world;
    Team team(world, nr_threads);
    const Pinned pinned(0); // after the other thread began, which would have only this core
    const uint64_t nr_pages = team.nr() * Batch;

    world.map_written(Base + 2 * Batch * Page, 1, 1); // keeps the tables above
    measure(
        state, nr_pages, [&] { world.map(Base, nr_pages, 0); },
        [&] {
            without_bytes = bare;
            const bool good = team.run();
            without_bytes = false;
            return good;
        },
        [&] { world.unmap(Base, nr_pages); });
}
BENCHMARK_CAPTURE(fault_scale, 1cpu, 1, false)->Name("space_fault_1cpu")->UseManualTime();
BENCHMARK_CAPTURE(fault_scale, 2cpu, 2, false)->Name("space_fault_2cpu")->UseManualTime();
BENCHMARK_CAPTURE(fault_scale, 1cpu_bare, 1, true)->Name("space_fault_1cpu_bare")->UseManualTime();
BENCHMARK_CAPTURE(fault_scale, 2cpu_bare, 2, true)->Name("space_fault_2cpu_bare")->UseManualTime();

} // namespace
