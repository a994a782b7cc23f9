// SPDX-License-Identifier: MIT
/**
 * The layout of the metadata, and the pieces of memory it is made for. Internal to the room.
 */
#ifndef MMI_FRAME_LAYOUT_H
#define MMI_FRAME_LAYOUT_H

#include "state.h"

/* First frames of the zones. */
#define MMI_PFN_16M (UINT64_C(16) << (20 - MM_PAGE_SHIFT))
#define MMI_PFN_4G  (UINT64_C(4) << (30 - MM_PAGE_SHIFT))

struct mmi_layout {
    uint64_t nr_ranges; /* ranges of the map that are used now or later */
    uint64_t nr_spans;  /* the same, cut up by nodes, and frame 0 apart */
    uint64_t nr_usable; /* frames that are free at first */
    uint64_t nr_lines;
    uint64_t nr_frames;
    uint64_t nr_areas;
    uint64_t nr_nodes;
    uint64_t cpus, areas, order, zones, rows, closed, groups, tops, poisoned, refs,
        tags; /* offsets */
    uint64_t top_words;
    uint64_t state_len;
    uint64_t len;
};

/* What walks over the map: range after range of frames that are used now or later, cut where the
 * node changes, with frame 0 as a piece of its own. */
struct mmi_survey {
    const struct mm_frames_config *config;
    mm_paddr_t at;
    struct mm_prange range; /* what is left of the range, in bytes */
    uint32_t later;         /* of that */
    uint32_t nr_ranges;
};

/* The zone of a frame. */
uint32_t mmi_zone_of(uint64_t pfn);
/* The next piece, as a span without a place; the survey begins with nothing but its `config`. */
bool mmi_next_span(struct mmi_survey *s, struct mm_frame_span *out);
/* Where everything goes, once it has been counted. */
void mmi_lay_out(struct mmi_layout *l, uint32_t nr_cpus, uint32_t flags);
/* Check a configuration and lay it out. */
mm_status_t mmi_plan(const struct mm_frames_config *config, struct mmi_layout *l);

#endif
