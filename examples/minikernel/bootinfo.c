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

static void print_map(const struct mm_bootmap *map, const char *how)
{
    log_print("boot map, %u entries %s:\n", map->nr, how);
    for (uint32_t i = 0; i < map->nr; i++) {
        const struct mm_boot_entry *e = &map->entries[i];
        if (e->range.len != 0) {
            log_print("  %016lx-%016lx %s\n", e->range.start.raw, mm_prange_last(e->range).raw,
                      mm_boot_kind_str((enum mm_boot_kind)e->kind));
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

    print_map(&m->map, "as received");
    must(mm_bootmap_normalize(&m->map), "boot map");
    print_map(&m->map, "as normalised");
    log_print("usable: %lu KiB\n", mm_bootmap_usable_bytes(&m->map) / 1024);
}
