// SPDX-License-Identifier: MIT
//
// The same of the system that this runs on, for comparison: with exceptions, system calls and
// flushes, which the figures of the library do not have. Pages of 4 KiB. Nothing is judged.
#include "space_bench.h"

#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

namespace
{

using namespace space_bench;

volatile char *map_pages(uint64_t nr_pages)
{
    void *at =
        mmap(nullptr, nr_pages * Page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED) {
        abort();
    }
    (void)madvise(at, nr_pages * Page, MADV_NOHUGEPAGE);
    return static_cast<volatile char *>(at);
}

void unmap_pages(volatile char *at, uint64_t nr_pages)
{
    munmap(const_cast<char *>(at), nr_pages * Page);
}

bool touch(volatile char *at, uint64_t nr_pages)
{
    for (uint64_t i = 0; i < nr_pages; i++) {
        at[i * Page] = 1;
    }
    return true;
}

// A child that does nothing until it is killed.
pid_t fork_child()
{
    const pid_t child = fork();

    if (child == 0) {
        for (;;) {
            pause();
        }
    }
    return child;
}

void end_child(pid_t child)
{
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
    }
}

void space_linux_map_unmap(benchmark::State &state)
{
    for (auto _ : state) {
        unmap_pages(map_pages(1), 1);
    }
}
BENCHMARK(space_linux_map_unmap);

void space_linux_fault_zero(benchmark::State &state)
{
    volatile char *at = nullptr;

    measure(
        state, Batch, [&] { at = map_pages(Batch); }, [&] { return touch(at, Batch); },
        [&] { unmap_pages(at, Batch); });
}
BENCHMARK(space_linux_fault_zero)->UseManualTime();

void space_linux_munmap_page(benchmark::State &state)
{
    volatile char *at = nullptr;

    measure(
        state, Batch,
        [&] {
            at = map_pages(Batch);
            touch(at, Batch);
        },
        [&] {
            unmap_pages(at, Batch);
            return true;
        },
        [] {});
}
BENCHMARK(space_linux_munmap_page)->UseManualTime();

// The parent's call, and with it what the rest of this process takes.
void space_linux_fork_page(benchmark::State &state)
{
    constexpr uint64_t NrPages = 16384;
    volatile char *at = map_pages(NrPages);
    pid_t child = -1;

    measure(
        state, NrPages, [&] { touch(at, NrPages); },
        [&] {
            child = fork_child();
            return child > 0;
        },
        [&] { end_child(child); });
    unmap_pages(at, NrPages);
}
BENCHMARK(space_linux_fork_page)->UseManualTime();

void space_linux_fault_cow(benchmark::State &state)
{
    volatile char *at = map_pages(Batch);
    pid_t child = -1;

    measure(
        state, Batch,
        [&] {
            touch(at, Batch);
            child = fork_child();
        },
        [&] { return child > 0 && touch(at, Batch); }, [&] { end_child(child); });
    unmap_pages(at, Batch);
}
BENCHMARK(space_linux_fault_cow)->UseManualTime();

} // namespace
