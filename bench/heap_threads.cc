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
constexpr size_t CLIENT_OBJECTS = 1000;
constexpr size_t REPLACEMENTS_A_CLIENT = 4096;

struct Client {
    void *objects[CLIENT_OBJECTS];
};

template <class Heap> class Server
{
  public:
    explicit Server(Heap &heap) : heap(heap), clients_(NR_CPUS + 1)
    {
        std::mt19937_64 random(3);

        for (auto &client : clients_) {
            for (auto &object : client.objects) {
                object = heap.alloc(8 + random() % 993);
            }
        }
        waiting_.store(&clients_[NR_CPUS]);
    }
    ~Server()
    {
        for (auto &client : clients_) {
            for (void *object : client.objects) {
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
            for (size_t i = 0; i < REPLACEMENTS_A_CLIENT; i++) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                void *&object = client->objects[(random & UINT32_MAX) * CLIENT_OBJECTS >> 32];

                heap.free(object, cpu);
                object = heap.alloc(8 + ((random >> 32) * 993 >> 32), cpu);
                if (object == nullptr) {
                    abort();
                }
                *static_cast<volatile char *>(object) = 1;
            }
            client = waiting_.exchange(client, std::memory_order_acq_rel);
        }
        state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(REPLACEMENTS_A_CLIENT));
    }

  private:
    Heap &heap;
    std::vector<Client> clients_;
    alignas(128) std::atomic<Client *> waiting_{nullptr};
};

// The first thread makes what all use, and takes it down; none leaves the loop before all do.
struct Larson {
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
        Server<Heap> server(*heap);

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
    register_with_makers("larson_1cpu", Larson(), real_time);
    register_with_makers("larson_2cpu", Larson(), two_threads);
}

} // namespace heap_bench
