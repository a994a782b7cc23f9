// SPDX-License-Identifier: MIT
//
// A boot map from a firmware that contradicts itself, and from random ones: normalised, asked, taken
// from and given back to.

#include "both.h"

#include <mm/bootmap.h>

#define ENTRIES MM_BOOTMAP_CAPACITY(24)
#define ROUNDS  200
#define SEED    UINT64_C(0x626f6f746d6170)

static struct mm_boot_entry entries[ENTRIES];
static struct mm_bootmap map;

static void begin(void)
{
    map = (struct mm_bootmap){0};
    BOTH_MUST(mm_bootmap_init(&map, entries, ENTRIES));
}

static void add(uint64_t start, uint64_t len, enum mm_boot_kind kind)
{
    BOTH_MUST(mm_bootmap_add(&map, mm_prange(mm_paddr(start), len), kind));
}

static bool is(uint32_t i, uint64_t start, uint64_t len, enum mm_boot_kind kind)
{
    return i < map.nr && map.entries[i].range.start.raw == start &&
           map.entries[i].range.len == len && map.entries[i].kind == (uint32_t)kind;
}

// Unsorted, overlapping, with an unaligned edge; memory above 4 GiB.
static void add_firmware(void)
{
    add(0x100000, 0x3f00000, MM_BOOT_USABLE);
    add(0, 0x9fc00, MM_BOOT_USABLE);
    add(0x9fc00, 0x400, MM_BOOT_RESERVED);
    add(0x200000, 0x4d000, MM_BOOT_KERNEL);
    add(0x3000000, 0x2000000, MM_BOOT_RESERVED);
    add(UINT64_C(1) << 32, 0x10000000, MM_BOOT_USABLE);
    add(0xfee00000, 0x1000, MM_BOOT_MMIO);
}

static void check_normalise(void)
{
    begin();
    add_firmware();
    BOTH_MUST(mm_bootmap_normalize(&map));
    BOTH_CHECK("a map is sorted, and what is least usable wins",
               map.nr == 8 && is(0, 0, 0x9fc00, MM_BOOT_USABLE) &&
                   is(1, 0x9fc00, 0x400, MM_BOOT_RESERVED) &&
                   is(2, 0x100000, 0x100000, MM_BOOT_USABLE) &&
                   is(3, 0x200000, 0x4d000, MM_BOOT_KERNEL) &&
                   is(4, 0x24d000, 0x2db3000, MM_BOOT_USABLE) &&
                   is(5, 0x3000000, 0x2000000, MM_BOOT_RESERVED) &&
                   is(6, 0xfee00000, 0x1000, MM_BOOT_MMIO) &&
                   is(7, UINT64_C(1) << 32, 0x10000000, MM_BOOT_USABLE));
    BOTH_CHECK("usable memory is counted in whole frames",
               mm_bootmap_usable_bytes(&map) == 0x9f000 + 0x100000 + 0x2db3000 + 0x10000000);
}

static void check_take(void)
{
    struct mm_prange taken;
    struct mm_prange none = {{1}, 2};
    uint64_t before = mm_bootmap_usable_bytes(&map);
    const struct mm_prange low = mm_prange(mm_paddr(0), UINT64_C(1) << 32);

    BOTH_MUST(mm_bootmap_take(&map, 5000, MM_SIZE_2M, low, &taken));
    BOTH_CHECK("memory is taken from the top, aligned",
               taken.start.raw == 0x2e00000 && taken.len == 2 * MM_PAGE_SIZE);
    BOTH_CHECK("what is taken is not usable", mm_bootmap_usable_bytes(&map) == before - taken.len);
    BOTH_CHECK("more than there is is refused",
               mm_bootmap_take(&map, UINT64_C(1) << 32, MM_PAGE_SIZE, low, &none) ==
                       MM_ERR_NO_MEMORY &&
                   none.start.raw == 1);
    BOTH_MUST(mm_bootmap_give(&map, taken));
    BOTH_CHECK("what is given back is usable again, once",
               mm_bootmap_usable_bytes(&map) == before &&
                   mm_bootmap_give(&map, taken) == MM_ERR_INVALID_ADDRESS);
}

static void check_largest(const struct both_world *world)
{
    void *base = NULL;
    uint64_t len = 0;

    begin();
    add(world->memory.start.raw, world->memory.len, MM_BOOT_USABLE);
    add(world->memory.start.raw + 100, 1, MM_BOOT_RESERVED);
    BOTH_MUST(mm_bootmap_largest_mapped(&map, &world->physmap, world->memory, &base, &len));
    BOTH_CHECK("the largest usable range is told by the address where it can be reached",
               base == (uint8_t *)mm_physmap_ptr(&world->physmap, world->memory.start) +
                           MM_PAGE_SIZE &&
                   len == world->memory.len - MM_PAGE_SIZE);
}

// Kind of a byte by all that was said of it: the highest; none: not covered.
static int kind_of(const struct mm_boot_entry *said, unsigned nr, uint64_t at)
{
    int kind = -1;
    for (unsigned i = 0; i < nr; i++) {
        if (mm_prange_contains(said[i].range, mm_paddr(at)) && (int)said[i].kind > kind) {
            kind = (int)said[i].kind;
        }
    }
    return kind;
}

static int kind_in_map(uint64_t at)
{
    return kind_of(map.entries, map.nr, at);
}

static bool random_round(uint64_t *random)
{
    struct mm_boot_entry said[16];
    unsigned nr = (unsigned)(both_random(random) % 16) + 1;

    begin();
    for (unsigned i = 0; i < nr; i++) {
        uint64_t start = both_random(random) % 256 * 1024;
        uint64_t len = (both_random(random) % 64 + 1) * 1024;
        said[i] = (struct mm_boot_entry){mm_prange(mm_paddr(start), len),
                                         (uint32_t)(both_random(random) % MM_BOOT_KIND_COUNT), 0};
        add(start, len, (enum mm_boot_kind)said[i].kind);
    }
    BOTH_MUST(mm_bootmap_normalize(&map));
    for (uint64_t at = 0; at < 320 * 1024; at += 512) {
        if (kind_in_map(at) != kind_of(said, nr, at)) {
            return false;
        }
    }
    return true;
}

void both_bootmap(const struct both_world *world)
{
    uint64_t random = SEED;
    bool good = true;

    check_normalise();
    check_take();
    check_largest(world);
    for (unsigned i = 0; i < ROUNDS && good; i++) {
        good = random_round(&random);
    }
    BOTH_CHECK("every byte of a random map has the kind that it must have", good);
}
