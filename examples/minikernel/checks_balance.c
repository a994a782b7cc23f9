// SPDX-License-Identifier: MIT
//
// The ledger at the end. With all rooms above taken down, what is out is the kernel's page tables
// and nothing else; with those gone, every frame is free; with the allocator gone, every byte that
// was usable is so again.

#include "check.h"
#include "checks.h"

static bool owned_by_tables_alone(const struct mm_frame_stats *frames, uint64_t nr_tables)
{
    for (unsigned owner = 0; owner < MM_OWNER_COUNT; owner++) {
        if (frames->nr_by_owner[owner] != (owner == MM_OWNER_PAGE_TABLE ? nr_tables : 0)) {
            return false;
        }
    }
    return frames->nr_allocated == nr_tables;
}

void checks_balance(struct memory *m)
{
    struct mm_frame_stats frames = {0};
    struct mm_paging_stats tables = {0};

    check_theme("what is taken comes back");
    must(mm_frame_get_stats(&m->frames, &frames), "frame statistics");
    must(mm_paging_get_stats(&m->kernel, &tables), "page-table statistics");
    CHECK("all state agrees with itself",
          mm_frame_check(&m->frames) == MM_OK && mm_paging_check(&m->kernel) == MM_OK);
    if (!CHECK("the kernel's page tables alone are out",
               owned_by_tables_alone(&frames, tables.nr_tables))) {
        return;
    }

    memory_stop_paging(m);
    must(mm_frame_get_stats(&m->frames, &frames), "frame statistics");
    memory_print_frames(m);
    CHECK("every frame is back", frames.nr_allocated == 0 && frames.nr_free == frames.nr_frames &&
                                     mm_frame_check(&m->frames) == MM_OK);

    memory_stop_frames(m);
    CHECK("the boot map is as usable as it was",
          mm_bootmap_usable_bytes(&m->map) == m->usable_bytes);
}
