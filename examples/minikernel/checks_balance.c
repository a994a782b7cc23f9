// SPDX-License-Identifier: MIT
//
// The ledger at the end: with all rooms above taken down, what is still allocated is the kernel's
// own page tables and nothing else.

#include "check.h"
#include "checks.h"

void checks_balance(struct memory *m)
{
    struct mm_frame_stats frames = {0};
    struct mm_paging_stats tables = {0};

    must(mm_frame_get_stats(&m->frames, &frames), "frame statistics");
    must(mm_paging_get_stats(&m->kernel, &tables), "page-table statistics");
    memory_print_frames(m);
    CHECK("every frame is back", frames.nr_allocated == tables.nr_tables &&
                                     frames.nr_free + frames.nr_allocated == frames.nr_frames);
    CHECK("all state agrees with itself",
          mm_frame_check(&m->frames) == MM_OK && mm_paging_check(&m->kernel) == MM_OK);
}
