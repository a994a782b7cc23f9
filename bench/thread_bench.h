// SPDX-License-Identifier: MIT
//
// What benchmarks with two threads share: to stay on a core, to wait, and to pass things on.
#ifndef THREAD_BENCH_H
#define THREAD_BENCH_H

#include <atomic>
#include <cstdint>
#include <sched.h>
#include <thread>

namespace thread_bench
{

// Keeps the thread that makes it on one core, until it goes. A machine that has no such core, or
// does not let us, gives what figures it can.
class Pinned
{
  public:
    explicit Pinned(int cpu)
    {
        cpu_set_t one;

        CPU_ZERO(&before_);
        known_ = sched_getaffinity(0, sizeof before_, &before_) == 0;
        CPU_ZERO(&one);
        for (int i = 0, nth = 0; known_ && i < CPU_SETSIZE; i++) {
            if (CPU_ISSET(i, &before_) && nth++ == cpu) {
                CPU_SET(i, &one);
            }
        }
        if (CPU_COUNT(&one) == 1) {
            sched_setaffinity(0, sizeof one, &one);
        }
    }
    ~Pinned()
    {
        if (known_) {
            sched_setaffinity(0, sizeof before_, &before_);
        }
    }
    Pinned(const Pinned &) = delete;
    Pinned &operator=(const Pinned &) = delete;

  private:
    cpu_set_t before_;
    bool known_ = false;
};

// A turn of a wait for another thread, which may want our core.
class Wait
{
  public:
    void turn()
    {
        if (++nr_turns_ % 4096 == 0) {
            std::this_thread::yield();
        } else {
            __builtin_ia32_pause();
        }
    }

  private:
    uint32_t nr_turns_ = 0;
};

// Batches of 64 from one thread to one other.
template <class Unit> class Ring
{
  public:
    struct alignas(64) Batch {
        Unit units[64];
    };

    // The batch to be filled next, once there is room; then put() passes it on.
    Batch &room()
    {
        Wait wait;

        while (head_ - tail_.load(std::memory_order_acquire) == SLOTS) {
            wait.turn();
        }
        return batches_[head_ % SLOTS];
    }
    void put()
    {
        shown_.store(++head_, std::memory_order_release);
    }
    // The batch to be emptied next, or null once `stop` was called and all are; then done().
    Batch *next()
    {
        const uint64_t tail = tail_.load(std::memory_order_relaxed);
        Wait wait;

        while (shown_.load(std::memory_order_acquire) == tail) {
            if (stopped_.load(std::memory_order_acquire) &&
                shown_.load(std::memory_order_acquire) == tail) {
                return nullptr;
            }
            wait.turn();
        }
        return &batches_[tail % SLOTS];
    }
    void done()
    {
        tail_.store(tail_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
    void stop()
    {
        stopped_.store(true, std::memory_order_release);
    }

  private:
    static constexpr uint64_t SLOTS = 64;

    Batch batches_[SLOTS];
    alignas(128) uint64_t head_ = 0; // the producer's own
    alignas(128) std::atomic<uint64_t> shown_{0};
    std::atomic<bool> stopped_{false};
    alignas(128) std::atomic<uint64_t> tail_{0};
};

} // namespace thread_bench

#endif
