// SPDX-License-Identifier: MIT
//
// The other way to build a heap: a front of magazines (Bonwick and Adams, "Magazines and Vmem",
// USENIX 2001), stacks of free objects that belong to a CPU, over the library's caches.
// docs/decisions/0014-magazines.md tells what is concluded from it.
//
// It is built as well as it can be, and better than a library could: it covers the one range, so
// that a byte for each 16 of it says of what size the object is that begins there, if it is
// allocated. There is no lookup. The byte is taken by an exchange when the object is freed, so that
// a double free is told, however two of them race, and so is the inside of an object. In exchange
// the bytes are a sixteenth of the memory.
//
// A stack is no place for two: an interrupt handler that allocates while its CPU pops would be given
// the same object. So there is a variant that forbids interrupts meanwhile, by ops of the kernel: an
// indirect call before and one after. They do what a kernel's do on x86-64, less CLI and STI, which
// cannot be executed here: what is measured is the least that they cost.
#include "heap_workloads.h"

#include <cstring>

namespace heap_bench
{

namespace
{

constexpr uint32_t MAGAZINE = 64;
constexpr uint32_t NR_CLASSES = 32;
constexpr size_t MAX_SIZE = 8192;
constexpr uint8_t LARGE = NR_CLASSES + 1; // what the byte of an object of the heap is

// The classes of the library: steps of 16 to 128, then four a doubling.
constexpr uint32_t class_of(size_t size)
{
    const uint32_t units = size <= 16 ? 0 : static_cast<uint32_t>(size - 1) / 16;

    if (units < 8) {
        return units;
    }
    const uint32_t log2 = 31 - static_cast<uint32_t>(__builtin_clz(units));

    return (log2 - 3) * 4 + 8 + ((units >> (log2 - 2)) & 3);
}
constexpr uint64_t size_of(uint32_t number)
{
    if (number < 8) {
        return 16 * (number + UINT64_C(1));
    }
    return (UINT64_C(5) + number % 4) << ((number - 8) / 4 + 5);
}
static_assert(class_of(128) == 7 && class_of(129) == 8 && size_of(8) == 160, "the first doubling");
static_assert(class_of(MAX_SIZE) == NR_CLASSES - 1 && size_of(NR_CLASSES - 1) == MAX_SIZE, "last");

struct Magazine {
    uint32_t nr;
    void *objects[MAGAZINE];
};

struct InterruptOps {
    uintptr_t (*save)(void *ctx);
    void (*restore)(void *ctx, uintptr_t saved);
    void *ctx;
};

uintptr_t interrupt_save(void *)
{
    uintptr_t flags;

    asm volatile("pushfq\n\tpop %0" : "=r"(flags) : : "memory");
    return flags; // and here CLI
}
void interrupt_restore(void *, uintptr_t saved)
{
    if ((saved & 0x200) != 0) {
        asm volatile("" : : : "memory"); // and here STI
    }
}

struct Front {
    uint8_t *live;  // a byte for each 16 of the range: class + 1, or 0: no allocated object
    uint64_t begin; // of the range
    InterruptOps ops;
    mm_cache *caches;
    mm_heap *heap; // for what is larger
    alignas(128) Magazine magazines[NR_CPUS][NR_CLASSES];
};

uint8_t *live_byte(Front *front, const void *object)
{
    return &front->live[(reinterpret_cast<uintptr_t>(object) - front->begin) / 16];
}

[[gnu::noinline]] bool refill(Front *front, Magazine *magazine, uint32_t number, uint32_t cpu)
{
    magazine->nr = static_cast<uint32_t>(
        mm_cache_alloc_bulk(&front->caches[number], cpu, MAGAZINE / 2, magazine->objects));
    return magazine->nr != 0;
}

// The older half goes.
[[gnu::noinline]] void flush(Front *front, Magazine *magazine, uint32_t number)
{
    mm_cache_free_bulk(&front->caches[number], MAGAZINE / 2, magazine->objects);
    magazine->nr -= MAGAZINE / 2;
    memmove(magazine->objects, &magazine->objects[MAGAZINE / 2], magazine->nr * sizeof(void *));
}

[[gnu::noinline]] void *alloc_large(Front *front, uint32_t cpu, size_t size)
{
    void *object = mm_heap_alloc_on(front->heap, cpu, size);

    if (object != nullptr) {
        *live_byte(front, object) = LARGE;
    }
    return object;
}

template <bool WITH_OPS>
[[gnu::noinline, gnu::aligned(64)]] void *front_alloc(Front *front, uint32_t cpu, size_t size)
{
    uintptr_t saved = 0;
    void *object = nullptr;

    if (__builtin_expect(size > MAX_SIZE, 0)) {
        return alloc_large(front, cpu, size);
    }
    const uint32_t number = class_of(size);
    Magazine *magazine = &front->magazines[cpu][number];

    if (WITH_OPS) {
        saved = front->ops.save(front->ops.ctx);
    }
    if (__builtin_expect(magazine->nr != 0, 1) || refill(front, magazine, number, cpu)) {
        object = magazine->objects[--magazine->nr];
        // Nobody else has the object, so nobody else writes the byte.
        __atomic_store_n(live_byte(front, object), static_cast<uint8_t>(number + 1),
                         __ATOMIC_RELAXED);
    }
    if (WITH_OPS) {
        front->ops.restore(front->ops.ctx, saved);
    }
    return object;
}

template <bool WITH_OPS>
[[gnu::noinline, gnu::aligned(64)]] void front_free(Front *front, uint32_t cpu, void *object)
{
    const uint64_t offset = reinterpret_cast<uintptr_t>(object) - front->begin;
    uintptr_t saved = 0;

    if (object == nullptr) {
        return;
    }
    if (offset >= RANGE_BYTES || offset % 16 != 0) {
        abort();
    }
    const uint8_t was =
        __atomic_exchange_n(&front->live[offset / 16], uint8_t{0}, __ATOMIC_ACQ_REL);

    if (__builtin_expect(was == 0, 0)) {
        abort(); // a double free, or no object
    }
    if (__builtin_expect(was == LARGE, 0)) {
        mm_heap_free_on(front->heap, cpu, object);
        return;
    }
    const uint32_t number = was - 1u;
    Magazine *magazine = &front->magazines[cpu][number];

    if (WITH_OPS) {
        saved = front->ops.save(front->ops.ctx);
    }
    if (__builtin_expect(magazine->nr == MAGAZINE, 0)) {
        flush(front, magazine, number);
    }
    magazine->objects[magazine->nr++] = object;
    if (WITH_OPS) {
        front->ops.restore(front->ops.ctx, saved);
    }
}

template <bool WITH_OPS> class Magazines
{
  public:
    Magazines() : front_(std::make_unique<Front>()), caches_(NR_CLASSES)
    {
        check(mm_heap_init(&heap_, &pool_.pool, nullptr));
        for (uint32_t i = 0; i < NR_CLASSES; i++) {
            mm_cache_config config{};

            config.name = "magazines";
            config.size = size_of(i);
            check(mm_cache_init(&caches_[i], &pool_.pool, &config));
        }
        // Once a process, as the range itself; all bytes are 0 again when the heap goes.
        static const std::vector<uint8_t>::size_type nr_bytes = RANGE_BYTES / 16;
        static uint8_t *const live = static_cast<uint8_t *>(calloc(nr_bytes, 1));

        if (live == nullptr) {
            abort();
        }
        front_->live = live;
        front_->begin = reinterpret_cast<uintptr_t>(range_memory());
        front_->ops = {interrupt_save, interrupt_restore, nullptr};
        front_->caches = caches_.data();
        front_->heap = &heap_;
    }
    ~Magazines()
    {
        for (auto &cpu : front_->magazines) {
            for (uint32_t i = 0; i < NR_CLASSES; i++) {
                mm_cache_free_bulk(&caches_[i], cpu[i].nr, cpu[i].objects);
            }
        }
        for (auto &cache : caches_) {
            check(mm_cache_destroy(&cache));
        }
        check(mm_heap_destroy(&heap_));
    }
    Magazines(const Magazines &) = delete;
    Magazines &operator=(const Magazines &) = delete;

    void *alloc(size_t size, uint32_t cpu = 0)
    {
        return alloc_(front_.get(), cpu, size);
    }
    void free(void *object, uint32_t cpu = 0)
    {
        free_(front_.get(), cpu, object);
    }

  private:
    Pool pool_;
    alignas(64) mm_heap heap_{};
    std::unique_ptr<Front> front_;
    std::vector<mm_cache> caches_;
    void *(*const alloc_)(Front *, uint32_t, size_t) = opaque(&front_alloc<WITH_OPS>);
    void (*const free_)(Front *, uint32_t, void *) = opaque(&front_free<WITH_OPS>);
};

template <class Heap, class Workload> void run(benchmark::State &state)
{
    Heap heap;

    Workload()(state, heap);
}

template <class Heap> void register_front(const std::string &suffix)
{
    const auto add = [&](const char *workload, void (*body)(benchmark::State &)) {
        return benchmark::RegisterBenchmark(("heap_" + (workload + suffix)).c_str(), body);
    };

    add("hot64", run<Heap, Hot64>);
    add("lifo", run<Heap, Batches<true>>);
    add("fifo", run<Heap, Batches<false>>);
    add("live1k", run<Heap, Live<1000>>);
    add("live100k", run<Heap, Live<100000>>);
    add("remote", run<Heap, Remote>)->UseRealTime();
}

} // namespace

void register_magazines()
{
    register_front<Magazines<false>>("_magazines");
    register_front<Magazines<true>>("_magazines_ops");
}

} // namespace heap_bench
