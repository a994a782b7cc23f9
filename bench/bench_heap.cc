// SPDX-License-Identifier: MIT
//
// Figures of the heap over a fixed range of 1 GiB, beside mimalloc, jemalloc, tcmalloc and glibc:
// what one thread allocates and frees. bench/README.md tells how figures are made from these.
#include "heap_workloads.h"

#include <cstring>

namespace heap_bench
{

namespace
{

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
