// SPDX-License-Identifier: MIT
//
// Figures of user copy: what it costs to reach memory that is there and not trusted, beside what
// trusts it. Memory of this process stands for the user's: no fault comes. Without SMAP: STAC and
// CLAC may not be executed here, and cost a kernel what they cost.
#include <mm/arch/x86_64.h>
#include <mm/user.h>

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace
{

constexpr uint64_t Page = 4096;
constexpr uint64_t Batch = 64;

// What is copied lies so far apart, on both sides, and is in the first-level cache.
constexpr uint64_t Stride = 72;

alignas(4096) char user_side[2 * Page];
alignas(4096) char kernel_side[2 * Page];

mm_user lower_half()
{
    mm_user user{};

    if (mm_user_init(&user, &mm_x86_64_user_ops, mm_vrange(mm_vaddr(0), UINT64_C(1) << 47)) !=
        MM_OK) {
        fprintf(stderr, "bench_user: no user half\n");
        abort();
    }
    std::memset(user_side, 'x', sizeof(user_side));
    std::memset(kernel_side, 'k', sizeof(kernel_side));
    return user;
}

// The call through a pointer, as the peer is called.
template <typename Function> Function *unknown(Function *function)
{
    Function *volatile pointer = function;

    return pointer;
}

char *user_at(uint64_t i)
{
    return user_side + i * Stride % Page;
}

char *kernel_at(uint64_t i)
{
    return kernel_side + i * Stride % Page;
}

// `each(i)` must answer true; what takes longer than a few words is not batched as often.
template <typename Each> void measure(benchmark::State &state, Each each)
{
    for (auto _ : state) {
        for (uint64_t i = 0; i < Batch; i++) {
            if (!each(i)) {
                state.SkipWithError("a call failed");
                return;
            }
        }
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * Batch));
}

// ---- copies -------------------------------------------------------------------------------------

void copy_in(benchmark::State &state, uint64_t len)
{
    mm_user user = lower_half();
    auto call = unknown(mm_user_copy_in);

    measure(state, [&](uint64_t i) {
        uint64_t residue;
        return call(&user, kernel_at(i), mm_vaddr_of(user_at(i)), len, &residue) == MM_OK;
    });
}

void copy_out(benchmark::State &state, uint64_t len)
{
    mm_user user = lower_half();
    auto call = unknown(mm_user_copy_out);

    measure(state, [&](uint64_t i) {
        uint64_t residue;
        return call(&user, mm_vaddr_of(user_at(i)), kernel_at(i), len, &residue) == MM_OK;
    });
}

void memcpy_of(benchmark::State &state, uint64_t len)
{
    (void)lower_half();
    auto call = unknown(
        static_cast<void *(*)(void *__restrict, const void *__restrict, size_t)>(std::memcpy));

    measure(state, [&](uint64_t i) { return call(kernel_at(i), user_at(i), len) == kernel_at(i); });
}

void clear(benchmark::State &state, uint64_t len)
{
    mm_user user = lower_half();
    auto call = unknown(mm_user_clear);

    measure(state, [&](uint64_t i) {
        uint64_t residue;
        return call(&user, mm_vaddr_of(user_at(i)), len, &residue) == MM_OK;
    });
}

void memset_of(benchmark::State &state, uint64_t len)
{
    (void)lower_half();
    auto call = unknown(static_cast<void *(*)(void *, int, size_t)>(std::memset));

    measure(state, [&](uint64_t i) { return call(user_at(i), 0, len) == user_at(i); });
}

#define LENGTHS(name, function)                                                                    \
    BENCHMARK_CAPTURE(function, 8, 8)->Name("user_" name "_8");                                    \
    BENCHMARK_CAPTURE(function, 64, 64)->Name("user_" name "_64");                                 \
    BENCHMARK_CAPTURE(function, 256, 256)->Name("user_" name "_256");                              \
    BENCHMARK_CAPTURE(function, 4k, Page)->Name("user_" name "_4k")

LENGTHS("copy_in", copy_in);
LENGTHS("copy_out", copy_out);
LENGTHS("copy_memcpy", memcpy_of);
LENGTHS("clear", clear);
LENGTHS("clear_memset", memset_of);

// ---- words --------------------------------------------------------------------------------------

void user_get(benchmark::State &state)
{
    mm_user user = lower_half();
    auto call = unknown(mm_user_get);

    measure(state, [&](uint64_t i) {
        uint64_t word;
        bool good = call(&user, &word, mm_vaddr_of(user_at(i)), sizeof(word)) == MM_OK;
        benchmark::DoNotOptimize(word);
        return good;
    });
}
BENCHMARK(user_get);

void user_slice_get(benchmark::State &state)
{
    mm_user user = lower_half();
    mm_user_slice slice{};
    auto call = unknown(mm_user_slice_get);

    if (mm_user_slice_open(&user, mm_vaddr_of(user_side), sizeof(user_side), MM_USER_READ,
                           &slice) != MM_OK) {
        state.SkipWithError("no slice");
        return;
    }
    measure(state, [&](uint64_t i) {
        uint64_t word;
        bool good = call(&slice, &word, i * Stride % Page, sizeof(word)) == MM_OK;
        benchmark::DoNotOptimize(word);
        return good;
    });
}
BENCHMARK(user_slice_get);

__attribute__((noinline)) int load(uint64_t *to, const void *from)
{
    __builtin_memcpy(to, from, sizeof(*to));
    return 0;
}

// A load in a function of its own.
void user_get_floor(benchmark::State &state)
{
    (void)lower_half();
    auto call = unknown(load);

    measure(state, [&](uint64_t i) {
        uint64_t word;
        bool good = call(&word, user_at(i)) == 0;
        benchmark::DoNotOptimize(word);
        return good;
    });
}
BENCHMARK(user_get_floor);

void user_put(benchmark::State &state)
{
    mm_user user = lower_half();
    auto call = unknown(mm_user_put);

    measure(state, [&](uint64_t i) {
        return call(&user, mm_vaddr_of(user_at(i)), &i, sizeof(i)) == MM_OK;
    });
}
BENCHMARK(user_put);

__attribute__((noinline)) int store(void *to, const uint64_t *from)
{
    __builtin_memcpy(to, from, sizeof(*from));
    return 0;
}

void user_put_floor(benchmark::State &state)
{
    (void)lower_half();
    auto call = unknown(store);

    measure(state, [&](uint64_t i) { return call(user_at(i), &i) == 0; });
}
BENCHMARK(user_put_floor);

void user_cmpxchg(benchmark::State &state)
{
    mm_user user = lower_half();
    auto call = unknown(mm_user_cmpxchg_u32);

    measure(state, [&](uint64_t i) {
        uint32_t found;
        return call(&user, mm_vaddr_of(user_at(i)), 1, 2, &found) == MM_OK;
    });
}
BENCHMARK(user_cmpxchg);

__attribute__((noinline)) int exchange(uint32_t *at, uint32_t expected, uint32_t desired)
{
    (void)__atomic_compare_exchange_n(at, &expected, desired, false, __ATOMIC_SEQ_CST,
                                      __ATOMIC_SEQ_CST);
    return 0;
}

void user_cmpxchg_floor(benchmark::State &state)
{
    (void)lower_half();
    auto call = unknown(exchange);

    measure(state,
            [&](uint64_t i) { return call(reinterpret_cast<uint32_t *>(user_at(i)), 1, 2) == 0; });
}
BENCHMARK(user_cmpxchg_floor);

// ---- strings and structures ---------------------------------------------------------------------

// Strings that begin where `user_at()` says, of this length; one at a time is laid down.
void lay_down(uint64_t i, uint64_t len)
{
    user_at(i)[len] = 0;
}

void take_up(uint64_t i, uint64_t len)
{
    user_at(i)[len] = 'x';
}

void string_in(benchmark::State &state, uint64_t len)
{
    mm_user user = lower_half();
    auto call = unknown(mm_user_string_in);

    measure(state, [&](uint64_t i) {
        uint64_t found;
        lay_down(i, len);
        bool good = call(&user, kernel_at(i), mm_vaddr_of(user_at(i)), Page, &found) == MM_OK &&
                    found == len;
        take_up(i, len);
        return good;
    });
}

void string_peer(benchmark::State &state, uint64_t len)
{
    (void)lower_half();
    auto measure_it = unknown(static_cast<size_t (*)(const char *)>(std::strlen));
    auto copy = unknown(
        static_cast<void *(*)(void *__restrict, const void *__restrict, size_t)>(std::memcpy));

    measure(state, [&](uint64_t i) {
        lay_down(i, len);
        size_t found = measure_it(user_at(i));
        (void)copy(kernel_at(i), user_at(i), found + 1);
        take_up(i, len);
        return found == len;
    });
}

BENCHMARK_CAPTURE(string_in, 7, 7)->Name("user_string_7");
BENCHMARK_CAPTURE(string_in, 40, 40)->Name("user_string_40");
BENCHMARK_CAPTURE(string_in, 1000, 1000)->Name("user_string_1000");
BENCHMARK_CAPTURE(string_peer, 7, 7)->Name("user_string_7_libc");
BENCHMARK_CAPTURE(string_peer, 40, 40)->Name("user_string_40_libc");
BENCHMARK_CAPTURE(string_peer, 1000, 1000)->Name("user_string_1000_libc");

mm_status_t always_good(void *, const void *)
{
    return MM_OK;
}

// 88 bytes, as the arguments of Linux's clone3().
void user_struct(benchmark::State &state)
{
    static const mm_user_struct kind = {88, 64, 0, always_good};
    mm_user user = lower_half();
    auto call = unknown(mm_user_struct_in);

    measure(state, [&](uint64_t i) {
        return call(&user, &kind, nullptr, kernel_at(i), mm_vaddr_of(user_at(i)), 88) == MM_OK;
    });
}
BENCHMARK(user_struct);

void user_struct_memcpy(benchmark::State &state)
{
    memcpy_of(state, 88);
}
BENCHMARK(user_struct_memcpy);

} // namespace
