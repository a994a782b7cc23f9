// SPDX-License-Identifier: MIT
//
// The peers, all in this one process. Each is loaded by name into a scope of its own, so that none
// takes over malloc from the program or from another, and is called through pointers. All keep
// their threads' state in static TLS, of which the loader sets little aside for libraries that come
// later; a process that has too little starts itself anew and asks for more.
#include "heap_bench.h"

#include <cmath>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <random>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

namespace heap_bench
{

namespace
{

// The second is read by libc_malloc_debug alone: each free and realloc searches its arena.
constexpr char TUNABLES[] = "glibc.rtld.optional_static_tls=16384:glibc.malloc.check=3";

// Guards of sampled objects. A kernel writes a slot of its page table and flushes one page; here it
// takes a system call each.
mm_status_t open_page(void *, void *page)
{
    return mprotect(page, MM_PAGE_SIZE, PROT_READ | PROT_WRITE) == 0 ? MM_OK : MM_ERR_NO_MEMORY;
}
void close_page(void *, void *page)
{
    mprotect(page, MM_PAGE_SIZE, PROT_NONE);
}

mm_heap_guards guards()
{
    constexpr uint64_t PAGES = 2 * MM_HEAP_SAMPLES_MAX + 1;
    static constexpr mm_heap_guard_ops OPS = {open_page, close_page};
    static void *const window =
        mmap(nullptr, PAGES * MM_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (window == MAP_FAILED) {
        abort();
    }
    return {&OPS, nullptr, reinterpret_cast<uint64_t>(window), PAGES * MM_PAGE_SIZE};
}

template <class Call> bool find(void *library, const PeerLibrary &peer, const char *name, Call *out)
{
    const std::string symbol = std::string(peer.prefix) + name;
    void *found = peer.version != nullptr ? dlvsym(library, symbol.c_str(), peer.version)
                                          : dlsym(library, symbol.c_str());

    *out = reinterpret_cast<Call>(found);
    return found != nullptr;
}

bool load(const PeerLibrary &peer, PeerCalls *out, std::string *why)
{
    void *library =
        dlopen(peer.file, RTLD_NOW | (peer.file != nullptr ? RTLD_LOCAL | RTLD_DEEPBIND : 0));

    if (library == nullptr) {
        *why = dlerror();
        return false;
    }
    // memalign has the arguments of aligned_alloc, and all of them have it.
    if (!find(library, peer, "malloc", &out->alloc) ||
        !find(library, peer, "memalign", &out->alloc_aligned) ||
        !find(library, peer, "calloc", &out->alloc_zeroed) ||
        !find(library, peer, "realloc", &out->realloc) ||
        !find(library, peer, "free", &out->free)) {
        *why = std::string(peer.name) + " lacks a call";
        return false;
    }
    return true;
}

} // namespace

const std::vector<Tier> &tiers()
{
    static const std::vector<Tier> all = {
        {"", [](mm_heap_config *) {}},
        {"_fast", [](mm_heap_config *config) { config->tier = MM_HEAP_FAST; }},
        {"_callers", [](mm_heap_config *config) { config->flags = MM_HEAP_CALLERS; }},
        {"_hardened", [](mm_heap_config *config) { config->tier = MM_HEAP_HARDENED; }},
        {"_sampled",
         [](mm_heap_config *config) {
             config->sample_every = 1000;
             config->guards = guards();
         }},
    };

    return all;
}

const std::vector<PeerLibrary> &peers()
{
    static const std::vector<PeerLibrary> all = {
        {"mimalloc", "libmimalloc.so.2", "mi_", nullptr},
        {"jemalloc", "libjemalloc.so.2", "", nullptr},
        {"tcmalloc", "libtcmalloc_minimal.so.4", "", nullptr},
        {"glibc", nullptr, "", nullptr},
        {"tcmalloc_checked", "libtcmalloc_minimal_debug.so.4", "", nullptr},
        {"glibc_checked", "libc_malloc_debug.so.0", "", "GLIBC_2.2.5"},
    };

    return all;
}

const PeerCalls *peer_calls(const PeerLibrary &peer, std::string *why)
{
    struct Loaded {
        bool is_good;
        PeerCalls calls;
        std::string why;
    };
    static std::mutex mutex;
    static std::map<std::string, Loaded> all;
    const std::lock_guard<std::mutex> locked(mutex);
    auto found = all.find(peer.name);

    if (found == all.end()) {
        Loaded loaded{};

        loaded.is_good = load(peer, &loaded.calls, &loaded.why);
        found = all.emplace(peer.name, loaded).first;
    }
    *why = found->second.why;
    return found->second.is_good ? &found->second.calls : nullptr;
}

void prepare_for_peers(char **argv)
{
    const char *tunables = getenv("GLIBC_TUNABLES");

    if (tunables == nullptr || strcmp(tunables, TUNABLES) != 0) {
        setenv("GLIBC_TUNABLES", TUNABLES, 1);
        execv("/proc/self/exe", argv);
        perror("bench_heap: cannot start itself anew");
        exit(1);
    }
    // glibc leaves its locks out until a process has had a second thread: a kernel cannot.
    std::thread([] {}).join();
}

void *range_memory()
{
    static void *const memory = [] {
        constexpr uint64_t ALIGN = UINT64_C(2) << 20;
        void *at = mmap(nullptr, RANGE_BYTES + ALIGN, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (at == MAP_FAILED) {
            abort();
        }
        return reinterpret_cast<void *>((reinterpret_cast<uintptr_t>(at) + ALIGN - 1) &
                                        ~(ALIGN - 1));
    }();

    return memory;
}

std::vector<uint32_t> spread_sizes(size_t nr)
{
    std::mt19937_64 random(42);
    std::vector<uint32_t> out(nr);

    for (auto &size : out) {
        uint64_t top = UINT64_C(32) << (random() % 8);

        size = static_cast<uint32_t>(top / 2 + random() % (top / 2) + 1);
    }
    return out;
}

std::vector<uint32_t> program_sizes(size_t nr)
{
    std::mt19937_64 random(43);
    std::normal_distribution<double> normal(std::log(128.0), 1.0);
    std::uniform_real_distribution<double> large(std::log(4096.0), std::log(65536.0));
    std::vector<uint32_t> out(nr);

    for (auto &size : out) {
        if (random() % 1000 < 15) {
            size = static_cast<uint32_t>(std::exp(large(random)));
            continue;
        }
        double drawn;

        do {
            drawn = std::exp(normal(random));
        } while (drawn < 16 || drawn > 2048);
        size = static_cast<uint32_t>(drawn);
    }
    return out;
}

} // namespace heap_bench
