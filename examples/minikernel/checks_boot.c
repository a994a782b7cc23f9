// SPDX-License-Identifier: MIT
//
// Does the map that frames are made from keep what must be kept?

#include <stddef.h>

#include "check.h"
#include "checks.h"

static bool sorted_and_disjoint(const struct mm_bootmap *map)
{
    for (uint32_t i = 0; i + 1 < map->nr; i++) {
        if (mm_prange_last(map->entries[i].range).raw >= map->entries[i + 1].range.start.raw) {
            return false;
        }
    }
    return map->nr > 0;
}

// Whether no usable byte and no managed frame lies in a range.
static bool kept(const struct memory *m, struct mm_prange range)
{
    for (uint32_t i = 0; i < m->map.nr; i++) {
        const struct mm_boot_entry *e = &m->map.entries[i];
        if (e->kind == MM_BOOT_USABLE && mm_prange_overlaps(e->range, range)) {
            return false;
        }
    }
    for (uint64_t at = range.start.raw; at < range.start.raw + range.len; at += MM_PAGE_SIZE) {
        if (mm_frame_managed(&m->frames, mm_pfn_of(mm_paddr(at)))) {
            return false;
        }
    }
    return range.len > 0;
}

static bool image_kept(const struct memory *m)
{
    for (uint32_t i = 0; i < m->boot.nr_sections; i++) {
        const struct mm_boot_section *s = &m->boot.sections[i];
        if (!kept(m, mm_prange(s->paddr, s->range.len))) {
            return false;
        }
    }
    return m->boot.nr_sections > 0;
}

// Whole frames of a kind.
static uint64_t nr_frames_of(struct memory *m, enum mm_boot_kind kind)
{
    struct mm_prange r = {0};
    uint64_t nr = 0;
    for (mm_paddr_t at = mm_paddr(0); mm_bootmap_next(&m->map, kind, at, &r) == MM_OK;
         at = mm_paddr(r.start.raw + r.len)) {
        nr += r.len / MM_PAGE_SIZE;
    }
    return nr;
}

void checks_boot(struct memory *m)
{
    struct mm_frame_stats s = {0};

    check_theme("boot map");
    CHECK("the normalised map is sorted and disjoint", sorted_and_disjoint(&m->map));
    CHECK("the image is not for allocation", image_kept(m));
    CHECK("the boot information is not for allocation", kept(m, m->boot.self));
    CHECK("all usable memory is managed, and nothing else",
          mm_frame_get_stats(&m->frames, &s) == MM_OK &&
              s.nr_frames == mm_bootmap_usable_bytes(&m->map) / MM_PAGE_SIZE);
    CHECK("memory of the boot loader waits to be added",
          s.nr_absent ==
              nr_frames_of(m, MM_BOOT_BOOTLOADER) + nr_frames_of(m, MM_BOOT_ACPI_RECLAIM));
}

void checks_reclaimed(struct memory *m)
{
    struct mm_frame_stats s = {0};

    check_theme("memory of the boot loader");
    CHECK("all of it is managed now",
          mm_frame_get_stats(&m->frames, &s) == MM_OK && s.nr_absent == 0 &&
              s.nr_frames == mm_bootmap_usable_bytes(&m->map) / MM_PAGE_SIZE + m->nr_reclaimed &&
              m->nr_reclaimed ==
                  nr_frames_of(m, MM_BOOT_BOOTLOADER) + nr_frames_of(m, MM_BOOT_ACPI_RECLAIM));
    CHECK("the image is still not for allocation", image_kept(m));
    CHECK("the frame allocator's state agrees with itself", mm_frame_check(&m->frames) == MM_OK);
}
