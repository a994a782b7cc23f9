// SPDX-License-Identifier: MIT
/**
 * Multiboot2 information of any bytes. The reader may refuse it, and then nothing has changed; what
 * it accepts is read a second time by a plain walk along the tags, written from the specification
 * (2.0, section 3.6), and no frame may be usable that an entry, a module, a section, the
 * framebuffer or the information itself says is not. It lies in a buffer of its exact size, so that
 * the address sanitizer sees every byte too far.
 *
 * Input: a byte of choices (1: the total size is made right; 2: little room in the map; 4: the
 * kernel is linked high; 8: an end tag is added), then the information.
 */
#include "fuzz.h"

#include "model_bootmap.h"

#include <mm/boot/multiboot2.h>

#define ENTRIES  512u
#define SELF     UINT64_C(0x9000)
#define HIGH     UINT64_C(0xffffffff80000000)
#define MAX_DATA 4096u

static struct mm_bootmap map;
static struct mm_boot_entry entries[ENTRIES];

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

/* --- the second reader: memory and what it must not be used for -------------------------------- */

struct memory {
    struct t_memory list[2 * ENTRIES];
    size_t nr;
    bool ended; /* boot services have */
    uint64_t kernel_offset;
};

static void note(struct memory *m, uint64_t start, uint64_t len, bool usable)
{
    uint64_t room = 0 - start; /* to 2^64; 0: all of it */

    if (len == 0 || (usable && room != 0 && len > room)) {
        return; /* usable memory that wraps is not believed */
    }
    FZ_TRUE(m->nr < 2 * ENTRIES);
    m->list[m->nr].start = start;
    m->list[m->nr].len = room != 0 && len > room ? room : len;
    m->list[m->nr].usable = usable;
    m->nr++;
}

static void note_entries(struct memory *m, const uint8_t *tag, uint32_t size, bool efi)
{
    uint32_t step = (uint32_t)get(tag + 8, 4);

    for (uint32_t at = 16; at < size; at += step) {
        if (!efi) {
            note(m, get(tag + at, 8), get(tag + at + 8, 8), get(tag + at + 16, 4) == 1);
        } else {
            uint64_t pages = get(tag + at + 24, 8);
            /* EFI_MEMORY_RUNTIME, EFI_MEMORY_SP, EFI_MEMORY_NV */
            bool usable = get(tag + at, 4) == 7 &&
                          (get(tag + at + 32, 8) & UINT64_C(0x8000000000048000)) == 0;

            /* A length that fits no word reaches to 2^64, or is not believed. */
            note(m, get(tag + at + 8, 8), pages >> 52 != 0 ? UINT64_MAX : pages << 12,
                 usable && pages >> 52 == 0);
            if (usable && pages >> 52 != 0) {
                m->nr--;
            }
        }
    }
}

static void note_sections(struct memory *m, const uint8_t *tag)
{
    uint64_t nr = get(tag + 8, 4);
    uint64_t size = get(tag + 12, 4);

    for (uint64_t i = 0; i < nr; i++) {
        const uint8_t *at = tag + 20 + i * size;
        bool wide = size >= 64;
        uint64_t flags = wide ? get(at + 8, 8) : get(at + 8, 4);
        uint64_t start = wide ? get(at + 16, 8) : get(at + 12, 4);
        uint64_t len = wide ? get(at + 32, 8) : get(at + 20, 4);

        if ((flags & 2) != 0 && !((flags & 0x400) != 0 && get(at + 4, 4) == 8)) {
            note(m, start >= m->kernel_offset ? start - m->kernel_offset : start, len, false);
        }
    }
}

static void second_reader(struct memory *m, const uint8_t *data)
{
    uint32_t total = (uint32_t)get(data, 4);

    note(m, SELF, total, false);
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t at = 8; at < total; at += ((uint32_t)get(data + at + 4, 4) + 7) / 8 * 8) {
            const uint8_t *tag = data + at;
            uint32_t size = (uint32_t)get(tag + 4, 4);
            uint64_t type = get(tag, 4);

            if (type == 0) {
                break;
            }
            if (pass == 0) {
                m->ended = m->ended && type != 18;
            } else if (type == 6 || (type == 17 && m->ended)) {
                note_entries(m, tag, size, type == 17);
            } else if (type == 3) {
                note(m, get(tag + 8, 4), get(tag + 12, 4) - get(tag + 8, 4), false);
            } else if (type == 8) {
                note(m, get(tag + 8, 8), get(tag + 16, 4) * get(tag + 24, 4), false);
            } else if (type == 9) {
                note_sections(m, tag);
            }
        }
    }
}

/* --- comparing --------------------------------------------------------------------------------- */

static void same_memory(const uint8_t *data, uint64_t kernel_offset)
{
    static struct memory m;
    struct mm_prange found = {{0}, 0};
    struct t_mboot model;
    size_t i = 0;

    m = (struct memory){.ended = true, .kernel_offset = kernel_offset};
    second_reader(&m, data);
    t_mboot_init(&model, m.list, m.nr, UINT64_C(1) << 52, MM_PAGE_SIZE);
    for (mm_paddr_t at = {0}; mm_bootmap_next(&map, MM_BOOT_USABLE, at, &found) == MM_OK;
         at = mm_paddr(found.start.raw + found.len)) {
        FZ_TRUE(i < model.nr);
        FZ_EQUAL(found.start.raw, model.runs[i].first * MM_PAGE_SIZE);
        FZ_EQUAL(found.len, model.runs[i].nr * MM_PAGE_SIZE);
        i++;
    }
    FZ_EQUAL(i, model.nr);
    t_mboot_destroy(&model);
}

static void check_string(const uint8_t *data, uint32_t total, uint32_t offset)
{
    FZ_TRUE(offset < total && memchr(data + offset, 0, total - offset) != NULL);
}

static void check_info(const struct mm_multiboot2_info *info, const uint8_t *data)
{
    uint32_t total = (uint32_t)get(data, 4);

    FZ_EQUAL(info->self.start.raw, SELF);
    FZ_EQUAL(info->self.len, total);
    if (info->cmdline_offset != 0) {
        check_string(data, total, info->cmdline_offset);
    }
    if (info->loader_offset != 0) {
        check_string(data, total, info->loader_offset);
    }
    for (uint32_t i = 0; i < info->nr_modules && i < MM_MULTIBOOT2_MAX_MODULES; i++) {
        check_string(data, total, info->modules[i].cmdline_offset);
    }
    FZ_TRUE(info->rsdp_len == 0 || info->rsdp_len == 20 || info->rsdp_len == 36);
}

static void check_error(const struct mm_multiboot2_error *error, size_t len)
{
    FZ_TRUE(error->what != NULL && error->what[0] != 0);
    FZ_TRUE(error->tag_type == UINT32_MAX || (error->offset % 8 == 0 && error->offset < len));
}

/* --- one input --------------------------------------------------------------------------------- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

static void read_it(const uint8_t *data, size_t len, unsigned how)
{
    struct mm_multiboot2_info info;
    struct mm_multiboot2_info untouched;
    struct mm_multiboot2_error error = {77, 77, NULL};
    uint64_t kernel_offset = (how & 4) != 0 ? HIGH : 0;
    struct mm_bootmap before;
    mm_status_t status;

    map = (struct mm_bootmap){0};
    FZ_EQUAL(mm_bootmap_init(&map, entries, (how & 2) != 0 ? 8 : ENTRIES), MM_OK);
    before = map;
    memset(&info, 0xa5, sizeof(info));
    untouched = info;
    fz_op("read");
    status = mm_multiboot2_read(&map, data, len, mm_paddr(SELF), kernel_offset, &info, &error);
    if (status == MM_OK) {
        check_info(&info, data);
        same_memory(data, kernel_offset);
        return;
    }
    FZ_TRUE(status == MM_ERR_CORRUPTED || status == MM_ERR_REGION_NOT_FOUND ||
            (status == MM_ERR_LIMIT && (how & 2) != 0) ||
            (status == MM_ERR_INVALID_SIZE && len < 16));
    FZ_EQUAL(memcmp(&map, &before, sizeof(map)), 0);
    FZ_EQUAL(memcmp(&info, &untouched, sizeof(info)), 0);
    if (status == MM_ERR_CORRUPTED) {
        check_error(&error, len);
    } else {
        FZ_EQUAL(error.tag_type, 77);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t end_tag[8] = {0, 0, 0, 0, 8, 0, 0, 0};
    unsigned how;
    uint8_t *copy;
    size_t len;

    fz_begin(data, size);
    how = fz_u8();
    len = fz.left > MAX_DATA ? MAX_DATA : fz.left;
    copy = calloc(1, len + 16);
    FZ_TRUE(copy != NULL);
    memcpy(copy, fz.at, len);
    if ((how & 8) != 0) {
        len = (len + 7) / 8 * 8;
        memcpy(copy + len, end_tag, sizeof(end_tag));
        len += sizeof(end_tag);
    }
    if ((how & 1) != 0 && len >= 4) {
        for (unsigned i = 0; i < 4; i++) {
            copy[i] = (uint8_t)(len >> (8 * i));
        }
    }
    copy = realloc(copy, len == 0 ? 1 : len); /* of its exact size */
    FZ_TRUE(copy != NULL);
    read_it(copy, len, how);
    free(copy);
    return 0;
}
