// SPDX-License-Identifier: MIT
/**
 * What the targets for the memory maps of firmware share. Any bytes are a map: it is read, and what
 * was added must be, entry by entry, what the second reader (model_firmware.h) makes of the same
 * bytes; the oracle of usable frames is then asked about all of it. What is refused changes nothing.
 *
 * The bytes lie in a buffer of their exact size, so that the address sanitizer sees every byte too
 * far.
 */
#ifndef FUZZ_FIRMWARE_H
#define FUZZ_FIRMWARE_H

#include "fuzz.h"

#include "model_bootmap.h"
#include "model_firmware.h"

#define FZ_ENTRIES 512u
#define FZ_MAX     4096u

struct fz_map {
    struct mm_bootmap map, before;
    struct mm_boot_entry entries[FZ_ENTRIES];
    struct mm_boot_report report, report_before;
    struct mm_boot_error error;
};

static struct fz_map fz_map;

/** An empty map, with room for all that an input can hold or (`little`) for four entries. */
static inline void fz_map_begin(bool little)
{
    fz_map.map = (struct mm_bootmap){0};
    FZ_EQUAL(mm_bootmap_init(&fz_map.map, fz_map.entries, little ? 8 : FZ_ENTRIES), MM_OK);
    fz_map.before = fz_map.map;
    memset(&fz_map.report, 0xa5, sizeof(fz_map.report));
    fz_map.report_before = fz_map.report;
    fz_map.error = (struct mm_boot_error){77, NULL};
}

/** It was refused. */
static inline void fz_map_refused(mm_status_t status, uint64_t entry)
{
    FZ_EQUAL(memcmp(&fz_map.map, &fz_map.before, sizeof(fz_map.map)), 0);
    FZ_EQUAL(memcmp(&fz_map.report, &fz_map.report_before, sizeof(fz_map.report)), 0);
    if (status == MM_ERR_CORRUPTED) {
        FZ_EQUAL(fz_map.error.entry, entry);
        FZ_TRUE(fz_map.error.what != NULL && fz_map.error.what[0] != 0);
    } else {
        FZ_EQUAL(fz_map.error.entry, 77);
    }
}

/* No frame may be usable but those that the oracle knows, now and after all was reclaimed. */
static inline void fz_map_oracle(const struct t_memory *list, size_t nr)
{
    struct mm_prange found = {{0}, 0};
    struct t_mboot model;
    size_t i = 0;

    t_mboot_init(&model, list, nr, UINT64_C(1) << 52, MM_PAGE_SIZE);
    for (mm_paddr_t at = {0}; mm_bootmap_next(&fz_map.map, MM_BOOT_USABLE, at, &found) == MM_OK;
         at = mm_paddr(found.start.raw + found.len)) {
        FZ_TRUE(i < model.nr);
        FZ_EQUAL(found.start.raw, model.runs[i].first * MM_PAGE_SIZE);
        FZ_EQUAL(found.len, model.runs[i].nr * MM_PAGE_SIZE);
        i++;
    }
    FZ_EQUAL(i, model.nr);
    t_mboot_destroy(&model);
}

/** `nr` entries were read: entry i is what the second reader makes of at(ctx, i). */
static inline void fz_map_same(size_t nr, struct t_fw_memory (*model)(const uint8_t *at),
                               const uint8_t *(*at)(const void *ctx, size_t i), const void *ctx)
{
    static struct t_memory list[FZ_ENTRIES];
    static struct mm_boot_entry entries[FZ_ENTRIES];
    struct mm_boot_report report = {0};
    struct mm_bootmap expected = {0};

    FZ_TRUE(nr <= FZ_ENTRIES / 2);
    FZ_EQUAL(mm_bootmap_init(&expected, entries, FZ_ENTRIES), MM_OK);
    for (size_t i = 0; i < nr; i++) {
        struct t_fw_memory m = model(at(ctx, i));

        t_fw_add(&expected, &report, m);
        list[i] =
            (struct t_memory){.start = m.start, .len = m.len, .usable = m.kind == MM_BOOT_USABLE};
    }
    FZ_EQUAL(memcmp(&report, &fz_map.report, sizeof(report)), 0);
    FZ_EQUAL(fz_map.map.nr, expected.nr);
    FZ_EQUAL(memcmp(fz_map.entries, entries, expected.nr * sizeof(entries[0])), 0);
    fz_op("normalize");
    fz_map_oracle(list, nr);
    fz_op("reclaim");
    FZ_EQUAL(mm_bootmap_reclaim(&fz_map.map, MM_BOOT_BOOTLOADER), MM_OK);
    FZ_EQUAL(mm_bootmap_reclaim(&fz_map.map, MM_BOOT_ACPI_RECLAIM), MM_OK);
    for (size_t i = 0; i < nr; i++) {
        enum mm_boot_kind kind = model(at(ctx, i)).kind;

        list[i].usable =
            kind == MM_BOOT_USABLE || kind == MM_BOOT_BOOTLOADER || kind == MM_BOOT_ACPI_RECLAIM;
    }
    fz_map_oracle(list, nr);
}

/** Entries one a stride. */
struct fz_array {
    const uint8_t *data;
    size_t stride;
};

static inline const uint8_t *fz_array_at(const void *ctx, size_t i)
{
    const struct fz_array *array = ctx;

    return array->data + i * array->stride;
}

/** What is left of the input, in a buffer of its exact size; the caller frees it. */
static inline uint8_t *fz_rest(size_t *len)
{
    uint8_t *copy;

    *len = fz.left > FZ_MAX ? FZ_MAX : fz.left;
    copy = malloc(*len == 0 ? 1 : *len);
    FZ_TRUE(copy != NULL);
    memcpy(copy, fz.at, *len);
    return copy;
}

#endif
