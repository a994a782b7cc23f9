// SPDX-License-Identifier: MIT
/**
 * Simulated physical memory: what a kernel reaches through its direct map, as host memory.
 *
 *      lowest                                                     highest
 *   guard |  frames  |   nothing here   |  frames  |  nothing here  | guard
 *         ^ backed: readable, writable, zero      ^ unbacked: every access traps
 *
 * A RAM reserves address space for [lowest, highest) and nothing more; ranges in it are backed
 * later, and cost host memory only once written. An access to a frame that is not backed raises
 * SIGSEGV; the handler of trap.h prints the physical address and the test fails.
 *
 * The byte at physical address p is at host address t_ram_base() + p, modulo 2^64: that sum is all
 * that a direct map is. The base is aligned to 1 GiB, so an address and its alias are equally
 * aligned. It may be "negative" when `lowest` is large. Only [lowest, highest), plus 1 MiB of guard
 * on each side, belongs to the RAM; a frame beyond that may be claimed to an allocator that never
 * touches it (up to 2^52), but its alias is not this RAM's.
 *
 * The window may be as large as the host's address space has room for: usually 64 TiB, and about
 * 256 GiB under the thread sanitizer; see t_ram_max_span(). Addresses are plain numbers, any count
 * of instances lives side by side (up to T_RAM_MAX at a time), and threads may use them at once as
 * long as each is changed by one thread at a time.
 */
#ifndef T_SIM_RAM_H
#define T_SIM_RAM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define T_RAM_MAX   4096
#define T_RAM_FRAME UINT64_C(4096)

struct t_ram;

struct t_ram_range {
    uint64_t start;
    uint64_t len;
};

/**
 * Reserve a window; nothing is backed yet. Both ends are multiples of 4096.
 *
 * @return NULL when the host has no room for it (a line on the standard error says so): the test
 *         skips or takes a smaller span. Ends the process when the arguments make no sense.
 */
struct t_ram *t_ram_new(uint64_t lowest, uint64_t highest);

/** The same for a list of ranges in any order: the window spans them, and all of them are backed.
 */
struct t_ram *t_ram_new_ranges(const struct t_ram_range *ranges, unsigned nr);

/** Unmap all of it. NULL is allowed. */
void t_ram_delete(struct t_ram *ram);

/** Length of the largest window that t_ram_new() can give now. */
uint64_t t_ram_max_span(void);

/** Make frames accessible; new ones are zero, those already backed stay as they are. */
void t_ram_back(struct t_ram *ram, uint64_t start, uint64_t len);

/** Take frames away with what they hold: from now on they trap. */
void t_ram_unback(struct t_ram *ram, uint64_t start, uint64_t len);

/** Every byte of the range is backed. */
bool t_ram_is_backed(const struct t_ram *ram, uint64_t start, uint64_t len);

/** Bytes that are backed in all. */
uint64_t t_ram_backed_bytes(const struct t_ram *ram);

/**
 * The part of the first backed range that lies at or above `from`; false when none does. Walks all
 * of them: for (at = 0; t_ram_next_backed(ram, at, &r); at = r.start + r.len).
 */
bool t_ram_next_backed(const struct t_ram *ram, uint64_t from, struct t_ram_range *out);

/** The whole window. */
struct t_ram_range t_ram_window(const struct t_ram *ram);

/** The direct map's base. */
uint64_t t_ram_base(const struct t_ram *ram);

/** Where a physical address lies in the host, backed or not. */
void *t_ram_ptr(const struct t_ram *ram, uint64_t paddr);

/** The physical address of a host pointer; UINT64_MAX when it is not in the window. */
uint64_t t_ram_paddr(const struct t_ram *ram, const volatile void *ptr);

/** Fill a backed range with junk that depends on its addresses and `salt`: real RAM is not zero. */
void t_ram_junk(struct t_ram *ram, uint64_t start, uint64_t len, uint64_t salt);

/**
 * A hash of what the backed frames of a range hold, and where. The range is widened to whole
 * frames. A frame that is all zero counts as one that was never written, and costs nothing.
 */
uint64_t t_ram_hash(const struct t_ram *ram, uint64_t start, uint64_t len);

/** t_ram_hash() of the whole window. */
uint64_t t_ram_hash_all(const struct t_ram *ram);

#ifdef __cplusplus
}
#endif

#endif
