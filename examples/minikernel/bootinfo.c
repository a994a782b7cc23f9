// SPDX-License-Identifier: MIT
//
// The first step: what the boot loader says of memory, as received and as normalised.

#include <stddef.h>

#include "layout.h"
#include "log.h"
#include "memory.h"
#include "panic.h"

#define TAG_MEMORY_MAP     6
#define TAG_EFI_MEMORY_MAP 17
#define TAG_UNKNOWN        0xffff

struct tag {
    uint32_t type;
    uint32_t size;
};

// The largest unit that tells a size exactly.
static void print_size(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;

    for (; bytes != 0 && bytes % 1024 == 0 && unit < 4; unit++) {
        bytes /= 1024;
    }
    log_print("%9lu %-3s", bytes, units[unit]);
}

static void print_entries(const struct mm_bootmap *map)
{
    for (uint32_t i = 0; i < map->nr; i++) {
        const struct mm_boot_entry *e = &map->entries[i];
        if (e->range.len != 0) {
            log_print("  0x%016lx-0x%016lx", e->range.start.raw, mm_prange_last(e->range).raw);
            print_size(e->range.len);
            log_print("  %s\n", mm_boot_kind_str((enum mm_boot_kind)e->kind));
        }
    }
}

static mm_status_t read(struct memory *m, uint32_t boot_info, struct mm_multiboot2_error *error)
{
    m->map = (struct mm_bootmap){0};
    must(mm_bootmap_init(&m->map, m->entries, MEMORY_BOOT_ENTRIES), "boot map");
    return mm_multiboot2_read(&m->map, mm_physmap_ptr(&m->physmap, mm_paddr(boot_info)),
                              LAYOUT_BOOT_MAPPED - boot_info, mm_paddr(boot_info),
                              LAYOUT_IMAGE_BASE, &m->boot, error);
}

// For test=nomap: memory-map tags become tags of no known type. The information was read before, so
// its tags are sound.
static void hide_map(struct memory *m, uint32_t boot_info)
{
    uint64_t at = boot_info + 8;
    for (;;) {
        struct tag *tag = mm_physmap_ptr(&m->physmap, mm_paddr(at));
        if (tag->type == 0) {
            return;
        }
        if (tag->type == TAG_MEMORY_MAP || tag->type == TAG_EFI_MEMORY_MAP) {
            tag->type = TAG_UNKNOWN;
        }
        at += (tag->size + 7u) & ~7u;
    }
}

static void stop_if_unread(mm_status_t status, const struct mm_multiboot2_error *error)
{
    if (status == MM_ERR_REGION_NOT_FOUND) {
        give_up("no memory map in the boot information");
    }
    if (status == MM_ERR_CORRUPTED) {
        give_up("malformed boot information: tag %u at offset %u: %s", error->tag_type,
                error->offset, error->what);
    }
    must(status, "boot information");
}

void memory_read_boot(struct memory *m, uint32_t boot_info, struct options *options)
{
    struct mm_multiboot2_error error = {0};

    m->physmap = mm_physmap_direct(LAYOUT_DIRECT_BASE);
    stop_if_unread(read(m, boot_info, &error), &error);

    const char *line = "";
    if (m->boot.cmdline_offset != 0) {
        line = mm_physmap_ptr(&m->physmap, mm_paddr(boot_info + m->boot.cmdline_offset));
    }
    options_parse(line, options);
    if (options->no_map) {
        hide_map(m, boot_info);
        stop_if_unread(read(m, boot_info, &error), &error);
    }
    if (options->limit != 0) {
        struct mm_prange beyond = mm_prange(mm_paddr(options->limit), 0 - options->limit);
        must(mm_bootmap_add(&m->map, beyond, MM_BOOT_RESERVED), "memory limit");
    }

    log_print("\nboot    map as received, %u entries\n", m->map.nr);
    print_entries(&m->map);
    must(mm_bootmap_normalize(&m->map), "boot map");
    m->usable_bytes = mm_bootmap_usable_bytes(&m->map);
    log_print("boot    map as normalised, %u entries, %lu KiB usable\n", m->map.nr,
              m->usable_bytes / 1024);
    print_entries(&m->map);
    log_print("\n");
}
