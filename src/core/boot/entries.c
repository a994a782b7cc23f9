// SPDX-License-Identifier: MIT
/**
 * Entries of a memory map into a boot map, whoever wrote them. What an entry must not be is decided
 * here, once for all sources; <mm/boot/report.h> has the table.
 */
#include "core/boot/entries.h"

struct mmi_memory mmi_memory(uint64_t start, uint64_t len, bool len_fits, enum mm_boot_kind kind)
{
    struct mmi_memory m = {mm_prange(mm_paddr(start), len), kind, MMI_TAKEN};

    if (len_fits && mm_prange_valid(m.range)) {
        m.fate = len != 0 ? MMI_TAKEN : MMI_EMPTY;
        return m;
    }
    if (kind == MM_BOOT_USABLE) {
        m.fate = MMI_IGNORED;
        m.range.len = 0;
        return m;
    }
    /* A length that is wrong must not come to be believed when the memory is reclaimed. */
    m.kind = mmi_may_be_usable(kind) ? MM_BOOT_RESERVED : kind;
    m.range.len = start == 0 ? UINT64_MAX : UINT64_MAX - start + 1;
    m.fate = MMI_CUT;
    return m;
}

mm_status_t mmi_map_check(struct mm_bootmap *map)
{
    /* Adding nothing does nothing but look at the map. */
    return mm_bootmap_add(map, mm_prange(mm_paddr(0), 0), MM_BOOT_USABLE);
}

mm_status_t mmi_entries_cut(struct mmi_entries *entries, size_t len, size_t min,
                            struct mm_boot_error *error)
{
    if (len == 0 || entries->stride < min) {
        return MM_ERR_INVALID_SIZE;
    }
    entries->nr = len / entries->stride;
    if (len % entries->stride == 0) {
        return MM_OK;
    }
    if (error != NULL) {
        *error = (struct mm_boot_error){entries->nr, "the map ends inside the entry"};
    }
    return MM_ERR_CORRUPTED;
}

uint64_t mmi_entries_count(const struct mmi_entries *entries)
{
    uint64_t adds = 0;

    for (uint64_t i = 0; i < entries->nr; i++) {
        adds += entries->read(entries->data + i * entries->stride).range.len != 0;
    }
    return adds;
}

void mmi_entries_add(const struct mmi_entries *entries, struct mm_bootmap *map,
                     struct mm_boot_report *report)
{
    for (uint64_t i = 0; i < entries->nr; i++) {
        struct mmi_memory m = entries->read(entries->data + i * entries->stride);
        mm_status_t status = mm_bootmap_add(map, m.range, m.kind);

        (void)status; /* there is room, and the range is valid */
        report->nr_entries++;
        report->nr_empty += m.fate == MMI_EMPTY;
        report->nr_ignored += m.fate == MMI_IGNORED;
        report->nr_cut += m.fate == MMI_CUT;
    }
}

mm_status_t mmi_entries_read(const struct mmi_entries *entries, struct mm_bootmap *map,
                             struct mm_boot_report *out)
{
    struct mm_boot_report report = {0};

    if (mm_bootmap_room(map) < mmi_entries_count(entries)) {
        return MM_ERR_LIMIT;
    }
    mmi_entries_add(entries, map, &report);
    if (out != NULL) {
        *out = report;
    }
    return MM_OK;
}
