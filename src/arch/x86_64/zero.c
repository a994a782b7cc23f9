// SPDX-License-Identifier: MIT
/**
 * Zeroing past the caches. It needs no privilege and no vector register, so it runs in a host
 * process too.
 *
 * MOVNTI writes a general register with a non-temporal hint: the line is not read first, and does
 * not push others out of the caches (SDM vol. 1, 10.4.6.2; vol. 2B, MOVNTI; APM vol. 3, chapter 3,
 * MOVNTI). All CPUs of 64 bits have it (CPUID 1:EDX[26], SSE2). Eight in a row fill one line of 64
 * bytes, which then leaves the write-combining buffer as one. Such stores are weakly ordered: SFENCE
 * puts them before every store that comes later (SDM vol. 2B, SFENCE; APM vol. 1, 3.9.2).
 */
#include <mm/arch/x86_64.h>

void mm_x86_64_zero_past_cache(void *ctx, void *at, uint64_t len)
{
    char *to = at;
    char *end = to + len;

    (void)ctx;
    for (; to < end; to += 64) {
        __asm__ volatile("movnti %[zero], 0(%[to])\n\t"
                         "movnti %[zero], 8(%[to])\n\t"
                         "movnti %[zero], 16(%[to])\n\t"
                         "movnti %[zero], 24(%[to])\n\t"
                         "movnti %[zero], 32(%[to])\n\t"
                         "movnti %[zero], 40(%[to])\n\t"
                         "movnti %[zero], 48(%[to])\n\t"
                         "movnti %[zero], 56(%[to])"
                         :
                         : [zero] "r"(UINT64_C(0)), [to] "r"(to)
                         : "memory");
    }
    __asm__ volatile("sfence" : : : "memory");
}
