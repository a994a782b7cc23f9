// SPDX-License-Identifier: MIT
//
// Figures of the heap with two threads, each on a core and with a CPU number of its own. Times are
// of the clock on the wall.
#include "heap_workloads.h"

namespace heap_bench
{

namespace
{

using namespace thread_bench;

// A server, as Larson and Krishnan saw it (ISMM 1998): each thread replaces objects at random among
// those of its client, and clients move from thread to thread, so that objects are freed where they
// were not allocated. Sizes are 8 to 1000, all equally likely.
struct Shape {
    size_t nr_objects;      // of a client
    size_t nr_replacements; // until it moves
};

// "larson 5 8 1000 5000 100 4141 THREADS", as mimalloc-bench runs it: 100 for each object, so that one
// free in 100 is of another thread's object.
constexpr Shape LARSON{5000, 500'000};

// Clients that move all the time: one free in four is of another thread's object.
constexpr Shape CLIENTS{1000, 4096};

using Client = std::vector<void *>;

template <class Heap> class Server
{
  public:
    Server(Heap &heap, Shape shape)
        : heap(heap), shape_(shape), clients_(NR_CPUS + 1, Client(shape.nr_objects))
    {
        std::mt19937_64 random(3);

        for (auto &client : clients_) {
            for (auto &object : client) {
                object = heap.alloc(8 + random() % 993);
            }
        }
        waiting_.store(&clients_[NR_CPUS]);
    }
    ~Server()
    {
        for (auto &client : clients_) {
            for (void *object : client) {
                heap.free(object);
            }
        }
    }
    Server(const Server &) = delete;
    Server &operator=(const Server &) = delete;

    void serve(benchmark::State &state)
    {
        const auto cpu = static_cast<uint32_t>(state.thread_index());
        const Pinned pinned(state.thread_index());
        Client *client = &clients_[cpu];
        uint64_t random = 88172645463325252 + cpu;

        for (auto _ : state) {
            void **objects = client->data();

            for (size_t i = 0; i < shape_.nr_replacements; i++) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                void *&object = objects[(random & UINT32_MAX) * shape_.nr_objects >> 32];

                heap.free(object, cpu);
                object = heap.alloc(8 + ((random >> 32) * 993 >> 32), cpu);
                if (object == nullptr) {
                    abort();
                }
                *static_cast<volatile char *>(object) = 1;
            }
            client = waiting_.exchange(client, std::memory_order_acq_rel);
        }
        state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(shape_.nr_replacements));
    }

  private:
    Heap &heap;
    const Shape shape_;
    std::vector<Client> clients_;
    alignas(128) std::atomic<Client *> waiting_{nullptr};
};

// The first thread makes what all use, and takes it down; none leaves the loop before all do.
struct Serve {
    Shape shape;

    template <class Make> void operator()(benchmark::State &state, Make make) const
    {
        using Heap = std::remove_reference_t<decltype(*make())>;
        static std::atomic<Server<Heap> *> shared{nullptr};
        Wait wait;

        if (state.thread_index() != 0) {
            while (shared.load(std::memory_order_acquire) == nullptr) {
                wait.turn();
            }
            shared.load()->serve(state);
            return;
        }
        const auto heap = make();
        Server<Heap> server(*heap, shape);

        shared.store(&server, std::memory_order_release);
        server.serve(state);
        shared.store(nullptr);
    }
};

} // namespace

void register_threads()
{
    const auto real_time = [](benchmark::internal::Benchmark *benchmark) {
        benchmark->UseRealTime();
    };
    const auto two_threads = [](benchmark::internal::Benchmark *benchmark) {
        benchmark->UseRealTime()->Threads(2);
    };

    register_with_all("remote", Remote(), real_time);
    register_with_makers("larson_1cpu", Serve{LARSON}, real_time);
    register_with_makers("larson_2cpu", Serve{LARSON}, two_threads);
    register_with_makers("clients_1cpu", Serve{CLIENTS}, real_time);
    register_with_makers("clients_2cpu", Serve{CLIENTS}, two_threads);
}

} // namespace heap_bench
