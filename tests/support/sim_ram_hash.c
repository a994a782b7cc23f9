// SPDX-License-Identifier: MIT
/**
 * What simulated RAM holds: junk and hashes. Uses only the public side of sim_ram.h.
 *
 * A hash is the sum over the frames that are not all zero of a hash of address and contents: so it
 * does not depend on the order, and frames that were never written may be passed over. Which those
 * are, /proc/self/pagemap tells (Linux Documentation/admin-guide/mm/pagemap.rst: bit 63 present,
 * bit 62 swapped); without it every backed frame is read, for the same result.
 */
#define _GNU_SOURCE
#include "hash.h"
#include "sim_ram.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BATCH 512

static uint64_t hash_frame(const struct t_ram *ram, uint64_t paddr)
{
    static const unsigned char zero[T_RAM_FRAME];
    const void *frame = t_ram_ptr(ram, paddr);

    if (memcmp(frame, zero, sizeof(zero)) == 0) {
        return 0;
    }
    return t_hash_finish(t_hash_more(t_hash_u64(T_HASH_START, paddr), frame, sizeof(zero)));
}

/* Which of `nr` frames from `paddr` on were ever written; all of them where the host does not say.
 */
static void written(const struct t_ram *ram, int pagemap, uint64_t paddr, uint64_t nr,
                    uint64_t *flags)
{
    uint64_t page = (uint64_t)(uintptr_t)t_ram_ptr(ram, paddr) / T_RAM_FRAME;
    ssize_t want = (ssize_t)(nr * sizeof(*flags));

    if (pagemap < 0 ||
        pread(pagemap, flags, (size_t)want, (off_t)(page * sizeof(*flags))) != want) {
        memset(flags, 0xff, (size_t)want);
    }
}

uint64_t t_ram_hash(const struct t_ram *ram, uint64_t start, uint64_t len)
{
    uint64_t flags[BATCH];
    uint64_t sum = T_HASH_START;
    uint64_t at = start & ~(T_RAM_FRAME - 1);
    uint64_t end = (start + len + T_RAM_FRAME - 1) & ~(T_RAM_FRAME - 1);
    struct t_ram_range piece;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    while (len != 0 && t_ram_next_backed(ram, at, &piece) && piece.start < end) {
        uint64_t stop = piece.start + piece.len < end ? piece.start + piece.len : end;

        for (at = piece.start; at < stop;) {
            uint64_t nr = (stop - at) / T_RAM_FRAME < BATCH ? (stop - at) / T_RAM_FRAME : BATCH;

            written(ram, pagemap, at, nr, flags);
            for (uint64_t i = 0; i < nr; i++, at += T_RAM_FRAME) {
                sum += flags[i] >> 62 != 0 ? hash_frame(ram, at) : 0;
            }
        }
    }
    if (pagemap >= 0) {
        (void)close(pagemap);
    }
    return sum;
}

uint64_t t_ram_hash_all(const struct t_ram *ram)
{
    struct t_ram_range window = t_ram_window(ram);

    return t_ram_hash(ram, window.start, window.len);
}

void t_ram_junk(struct t_ram *ram, uint64_t start, uint64_t len, uint64_t salt)
{
    unsigned char *bytes = t_ram_ptr(ram, start);

    for (uint64_t i = 0; i < len; i++) {
        bytes[i] = (unsigned char)(t_hash_finish((start + i) / 8 + salt) >> (start + i) % 8 * 8);
    }
}
