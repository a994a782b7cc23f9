// SPDX-License-Identifier: MIT
//
// A user of the installed adapter for C++: what `new` gives comes from its heap.

#include <mm/heap.h>

extern mm_heap *new_heap;

int main()
{
    alignas(4096) static char memory[1 << 18];
    static mm_heap_region region;
    mm_heap_stats stats;

    if (mm_heap_region_init(&region, memory, sizeof(memory)) != MM_OK) {
        return 1;
    }
    new_heap = &region.heap;
    int *number = new int(7);
    if (mm_heap_get_stats(new_heap, &stats) != MM_OK || stats.nr_objects != 1 || *number != 7) {
        return 1;
    }
    delete number;
    return mm_heap_region_destroy(&region) == MM_OK ? 0 : 1;
}
