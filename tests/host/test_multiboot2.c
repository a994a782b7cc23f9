// SPDX-License-Identifier: MIT
/**
 * What the multiboot2 reader makes of good information, and each status that it documents. Damaged
 * information is in test_multiboot2_bad_input.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mm/boot/multiboot2.h>

#include "multiboot2_blob.h"

#define ENTRIES       256
#define SELF          UINT64_C(0x9000)
#define KERNEL_OFFSET UINT64_C(0xffffffff80000000)

struct fixture {
    struct blob blob;
    struct mm_bootmap map;
    struct mm_boot_entry entries[ENTRIES];
    struct mm_multiboot2_info info;
    struct mm_multiboot2_error error;
};

static int set_up(void **state)
{
    struct fixture *f = aligned_alloc(16, (sizeof(*f) + 15) / 16 * 16);

    *state = f;
    if (f == NULL) {
        return -1;
    }
    memset(f, 0, sizeof(*f));
    blob_begin(&f->blob);
    return (int)mm_bootmap_init(&f->map, f->entries, ENTRIES);
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

static mm_status_t read_blob(struct fixture *f)
{
    return mm_multiboot2_read(&f->map, f->blob.bytes, f->blob.len, mm_paddr(SELF), KERNEL_OFFSET,
                              &f->info, &f->error);
}

/* A memory map of one entry, for tests of other tags. */
static void one_gigabyte(struct fixture *f)
{
    (void)blob_memory_map(&f->blob);
    blob_memory(&f->blob, 0, UINT64_C(1) << 30, 1);
    blob_tag_end(&f->blob);
}

static void assert_range(struct mm_prange r, uint64_t start, uint64_t len)
{
    assert_int_equal(r.start.raw, start);
    assert_int_equal(r.len, len);
}

/* Entry i as it was added. */
static void assert_added(const struct fixture *f, uint32_t i, uint64_t start, uint64_t len,
                         enum mm_boot_kind kind)
{
    assert_true(i < f->map.nr);
    assert_range(f->entries[i].range, start, len);
    assert_int_equal(f->entries[i].kind, kind);
}

static void assert_section(const struct mm_boot_section *s, uint64_t start, uint64_t len,
                           uint64_t paddr, mm_prot_t prot)
{
    assert_int_equal(s->range.start.raw, start);
    assert_int_equal(s->range.len, len);
    assert_int_equal(s->paddr.raw, paddr);
    assert_int_equal(s->prot, prot);
}

static void a_whole_sample(void **state)
{
    struct fixture *f = *state;
    struct blob *b = &f->blob;
    uint32_t cmdline = blob_string(b, 1, "root=ram quiet");
    uint32_t loader = blob_string(b, 2, "GRUB 2.06");
    uint32_t module;
    uint8_t rsdp[36];

    (void)blob_string(b, 1, "a second one is not read");
    module = blob_module(b, 0x200000, 0x234567, "initrd");
    (void)blob_tag(b, 4); /* basic memory information: not of interest */
    blob_u32(b, 640);
    blob_u32(b, 1 << 20);
    blob_tag_end(b);
    (void)blob_memory_map(b);
    blob_memory(b, 0, 0x9fc00, 1);
    blob_memory(b, 0x9fc00, 0x400, 2);
    blob_memory(b, 0x100000, 0x3fe00000, 1);
    blob_memory(b, 0x3ff00000, 0x1000, 3);
    blob_memory(b, 0x3ff01000, 0x1000, 4);
    blob_memory(b, 0x3ff02000, 0x1000, 5);
    blob_memory(b, 0x3ff03000, 0x1000, 6);
    blob_memory(b, 0x3ff04000, 0, 1);
    blob_memory(b, 0x3ff05000, 0x1000, 0);
    blob_tag_end(b);
    (void)blob_framebuffer(b, 0xfd000000, 5120, 1280, 720);
    (void)blob_sections(b, 4, 64);
    blob_section64(b, 0, 0, 0, 0);
    blob_section64(b, 1, 6, KERNEL_OFFSET + 0x101000, 0x3210);
    blob_section64(b, 1, 2, KERNEL_OFFSET + 0x105000, 0x800);
    blob_section64(b, 8, 3, KERNEL_OFFSET + 0x106000, 0x9000);
    blob_tag_end(b);
    (void)blob_rsdp(b, 14, 100);
    (void)blob_rsdp(b, 15, 7);
    (void)blob_tag(b, 4711); /* from a later specification */
    blob_tag_end(b);
    blob_end(b);

    assert_int_equal(read_blob(f), MM_OK);
    assert_range(f->info.self, SELF, b->len);
    assert_int_equal(f->info.nr_entries, 9);
    assert_int_equal(f->info.nr_ignored, 0);
    assert_int_equal(f->info.from_efi, 0);
    assert_int_equal(f->info.cmdline_offset, cmdline + 8);
    assert_string_equal((char *)b->bytes + f->info.cmdline_offset, "root=ram quiet");
    assert_int_equal(f->info.loader_offset, loader + 8);
    assert_string_equal((char *)b->bytes + f->info.loader_offset, "GRUB 2.06");
    assert_int_equal(f->info.nr_modules, 1);
    assert_range(f->info.modules[0].range, 0x200000, 0x34567);
    assert_int_equal(f->info.modules[0].cmdline_offset, module + 16);
    assert_int_equal(f->info.has_framebuffer, 1);
    assert_range(f->info.framebuffer.range, 0xfd000000, 5120 * 720);
    assert_int_equal(f->info.framebuffer.pitch, 5120);
    assert_int_equal(f->info.framebuffer.width, 1280);
    assert_int_equal(f->info.framebuffer.height, 720);
    assert_int_equal(f->info.framebuffer.bpp, 32);
    assert_int_equal(f->info.framebuffer.type, 1);
    assert_int_equal(f->info.nr_sections, 3);
    assert_section(&f->info.sections[0], KERNEL_OFFSET + 0x101000, 0x3210, 0x101000, MM_PROT_RX);
    assert_section(&f->info.sections[1], KERNEL_OFFSET + 0x105000, 0x800, 0x105000, MM_PROT_READ);
    assert_section(&f->info.sections[2], KERNEL_OFFSET + 0x106000, 0x9000, 0x106000, MM_PROT_RW);
    assert_int_equal(f->info.rsdp_len, 36);
    for (uint8_t i = 0; i < 36; i++) {
        rsdp[i] = (uint8_t)(7 + i);
    }
    assert_memory_equal(f->info.rsdp, rsdp, 36);

    assert_int_equal(f->map.nr, 14);
    assert_added(f, 0, SELF, b->len, MM_BOOT_BOOTLOADER);
    assert_added(f, 1, 0x200000, 0x34567, MM_BOOT_MODULE);
    assert_added(f, 2, 0, 0x9fc00, MM_BOOT_USABLE);
    assert_added(f, 3, 0x9fc00, 0x400, MM_BOOT_RESERVED);
    assert_added(f, 4, 0x100000, 0x3fe00000, MM_BOOT_USABLE);
    assert_added(f, 5, 0x3ff00000, 0x1000, MM_BOOT_ACPI_RECLAIM);
    assert_added(f, 6, 0x3ff01000, 0x1000, MM_BOOT_ACPI_NVS);
    assert_added(f, 7, 0x3ff02000, 0x1000, MM_BOOT_BAD);
    assert_added(f, 8, 0x3ff03000, 0x1000, MM_BOOT_RESERVED);
    assert_added(f, 9, 0x3ff05000, 0x1000, MM_BOOT_RESERVED);
    assert_added(f, 10, 0xfd000000, 5120 * 720, MM_BOOT_FRAMEBUFFER);
    assert_added(f, 11, 0x101000, 0x3210, MM_BOOT_KERNEL);
    assert_added(f, 12, 0x105000, 0x800, MM_BOOT_KERNEL);
    assert_added(f, 13, 0x106000, 0x9000, MM_BOOT_KERNEL);
    assert_int_equal(f->map.normalized, 0);
}

static void nothing_but_a_memory_map(void **state)
{
    struct fixture *f = *state;
    struct mm_multiboot2_info expected = {.self = {{SELF}, 56}, .nr_entries = 1};

    one_gigabyte(f);
    blob_end(&f->blob);
    memset(&f->info, 0xaa, sizeof(f->info));
    memset(&f->error, 0xaa, sizeof(f->error));
    assert_int_equal(read_blob(f), MM_OK);
    assert_memory_equal(&f->info, &expected, sizeof(expected));
    assert_int_equal(f->error.offset, 0xaaaaaaaa);
    assert_int_equal(f->map.nr, 2);
    assert_int_equal(mm_bootmap_usable_bytes(&f->map), (UINT64_C(1) << 30) - 0x1000);
}

/* What lies behind the end tag, or behind the total size, is nobody's business. */
static void the_end_tag_ends(void **state)
{
    struct fixture *f = *state;

    one_gigabyte(f);
    blob_end(&f->blob);
    blob_u32(&f->blob, 6);
    blob_u32(&f->blob, 3);
    assert_int_equal(read_blob(f), MM_OK);
    blob_set32(&f->blob, 0, f->blob.len);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.self.len, f->blob.len);
}

static void two_memory_maps_both_count(void **state)
{
    struct fixture *f = *state;

    one_gigabyte(f);
    (void)blob_tag(&f->blob, 6); /* entries may be longer than this reader knows */
    blob_u32(&f->blob, 32);
    blob_u32(&f->blob, 1);
    blob_memory(&f->blob, 0x100000, 0x1000, 2);
    blob_u64(&f->blob, UINT64_MAX);
    blob_memory(&f->blob, 0x200000, 0x1000, 2);
    blob_u64(&f->blob, UINT64_MAX);
    blob_tag_end(&f->blob);
    (void)blob_memory_map(&f->blob); /* and there may be none at all */
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.nr_entries, 3);
    assert_added(f, 2, 0x100000, 0x1000, MM_BOOT_RESERVED);
    assert_added(f, 3, 0x200000, 0x1000, MM_BOOT_RESERVED);
}

static void entries_that_wrap(void **state)
{
    struct fixture *f = *state;

    (void)blob_memory_map(&f->blob);
    blob_memory(&f->blob, UINT64_MAX - 9, 11, 1);
    blob_memory(&f->blob, UINT64_MAX - 9, 11, 2);
    blob_memory(&f->blob, UINT64_MAX - 9, 10, 1);
    blob_memory(&f->blob, 2, UINT64_MAX, 99);
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.nr_entries, 4);
    assert_int_equal(f->info.nr_ignored, 1);
    assert_int_equal(f->map.nr, 4);
    assert_added(f, 1, UINT64_MAX - 9, 10, MM_BOOT_RESERVED);
    assert_added(f, 2, UINT64_MAX - 9, 10, MM_BOOT_USABLE);
    assert_added(f, 3, 2, UINT64_MAX - 1, MM_BOOT_RESERVED);
}

/* --- the EFI memory map */

static void efi_types(void **state)
{
    static const enum mm_boot_kind kinds[] = {
        MM_BOOT_RESERVED,   MM_BOOT_BOOTLOADER,   MM_BOOT_BOOTLOADER, MM_BOOT_BOOTLOADER,
        MM_BOOT_BOOTLOADER, MM_BOOT_RUNTIME,      MM_BOOT_RUNTIME,    MM_BOOT_USABLE,
        MM_BOOT_BAD,        MM_BOOT_ACPI_RECLAIM, MM_BOOT_ACPI_NVS,   MM_BOOT_MMIO,
        MM_BOOT_MMIO,       MM_BOOT_RESERVED,     MM_BOOT_PERSISTENT, MM_BOOT_RESERVED,
        MM_BOOT_RESERVED};
    struct fixture *f = *state;

    (void)blob_efi_map(&f->blob); /* no other memory map is needed */
    for (uint32_t i = 0; i < 17; i++) {
        blob_efi(&f->blob, i, UINT64_C(0x100000) * (i + 1), i + 1);
    }
    blob_efi(&f->blob, 0x80000000u, 0x100, 1);
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.from_efi, 1);
    assert_int_equal(f->info.nr_entries, 18);
    assert_int_equal(f->map.nr, 19);
    for (uint32_t i = 0; i < 17; i++) {
        assert_added(f, i + 1, UINT64_C(0x100000) * (i + 1), MM_PAGE_SIZE * (i + 1), kinds[i]);
    }
    assert_added(f, 18, 0x100, 0x1000, MM_BOOT_RESERVED);
}

/* Attributes count as they do in a map that the firmware itself returned (UEFI Specification 2.10,
 * 7.2.3), and the kind that is not usable wins over what the other map says. */
static void efi_attributes(void **state)
{
    static const struct {
        uint32_t type;
        uint64_t attributes;
        enum mm_boot_kind kind;
    } descriptors[] = {
        {7, 0, MM_BOOT_USABLE},
        {7, UINT64_C(1) << 15 | 15, MM_BOOT_PERSISTENT},                /* NV */
        {7, UINT64_C(1) << 18 | 15, MM_BOOT_RESERVED},                  /* SP */
        {7, UINT64_C(1) << 63 | 15, MM_BOOT_RUNTIME},                   /* RUNTIME */
        {7, UINT64_C(1) << 15 | UINT64_C(1) << 18, MM_BOOT_RESERVED},   /* the least usable */
        {7, UINT64_C(1) << 15 | UINT64_C(1) << 63, MM_BOOT_PERSISTENT}, /* the same */
        {7, ~(UINT64_C(0x8000000000048000)), MM_BOOT_USABLE},           /* all others */
        {2, UINT64_C(1) << 18, MM_BOOT_RESERVED},                       /* loader data */
        {4, UINT64_C(1) << 15, MM_BOOT_PERSISTENT},                     /* boot services data */
        {9, UINT64_C(1) << 18, MM_BOOT_RESERVED},                       /* ACPI reclaim */
        {8, UINT64_C(1) << 15, MM_BOOT_BAD},                            /* unusable: it stays so */
    };
    const uint32_t nr = sizeof(descriptors) / sizeof(descriptors[0]);
    struct fixture *f = *state;

    one_gigabyte(f);
    (void)blob_efi_map(&f->blob);
    for (uint32_t i = 0; i < nr; i++) {
        blob_efi_with(&f->blob, descriptors[i].type, UINT64_C(0x100000) * (i + 1), 0x100,
                      descriptors[i].attributes);
    }
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.nr_entries, nr + 1);
    for (uint32_t i = 0; i < nr; i++) {
        assert_added(f, i + 2, UINT64_C(0x100000) * (i + 1), 0x100000, descriptors[i].kind);
    }
    /* two of them are usable beside the rest of what the other map says, but for the information */
    assert_int_equal(mm_bootmap_usable_bytes(&f->map),
                     (UINT64_C(1) << 30) - 0x1000 - UINT64_C(0x100000) * (nr - 2));
}

static void efi_beside_the_other(void **state)
{
    struct fixture *f = *state;

    one_gigabyte(f);
    (void)blob_efi_map(&f->blob);
    blob_efi(&f->blob, 7, 0, 0x200);
    blob_efi(&f->blob, 4, 0x200000, 0x100);
    blob_efi(&f->blob, 6, 0x300000, 0x100);
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.from_efi, 1);
    assert_int_equal(f->info.nr_entries, 4);
    assert_int_equal(mm_bootmap_usable_bytes(&f->map), (UINT64_C(1) << 30) - 0x200000 - 0x1000);
    assert_int_equal(mm_bootmap_reclaim(&f->map, MM_BOOT_BOOTLOADER), MM_OK);
    assert_int_equal(mm_bootmap_usable_bytes(&f->map), (UINT64_C(1) << 30) - 0x100000);
}

/* While boot services run, their memory map may change: it is not believed, wherever the tag is. */
static void efi_before_boot_services_end(void **state)
{
    struct fixture *f = *state;

    for (int first = 0; first < 2; first++) {
        f->map.magic = 0;
        assert_int_equal(mm_bootmap_init(&f->map, f->entries, ENTRIES), MM_OK);
        blob_begin(&f->blob);
        if (first) {
            (void)blob_tag(&f->blob, 18);
            blob_tag_end(&f->blob);
        }
        one_gigabyte(f);
        (void)blob_efi_map(&f->blob);
        blob_efi(&f->blob, 6, 0x300000, 0x100);
        blob_tag_end(&f->blob);
        if (!first) {
            (void)blob_tag(&f->blob, 18);
            blob_tag_end(&f->blob);
        }
        blob_end(&f->blob);
        assert_int_equal(read_blob(f), MM_OK);
        assert_int_equal(f->info.from_efi, 0);
        assert_int_equal(f->info.nr_entries, 1);
        assert_int_equal(f->map.nr, 2);
    }
}

static void efi_lengths_that_are_none(void **state)
{
    struct fixture *f = *state;

    (void)blob_efi_map(&f->blob);
    blob_efi(&f->blob, 7, 0, UINT64_C(1) << 52); /* 2^64 bytes */
    blob_efi(&f->blob, 7, 0, UINT64_MAX);
    blob_efi(&f->blob, 7, 0x1000, (UINT64_C(1) << 52) - 1); /* ends at 2^64: in order */
    blob_efi(&f->blob, 7, 0x2000, (UINT64_C(1) << 52) - 1);
    blob_efi(&f->blob, 0, 0, UINT64_C(1) << 52);
    blob_efi(&f->blob, 0, 0x5000, UINT64_C(1) << 60);
    blob_efi(&f->blob, 0, 0, 0);
    blob_efi(&f->blob, 4, 0x7000, UINT64_C(1) << 52); /* never to be reclaimed */
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.nr_entries, 8);
    assert_int_equal(f->info.nr_ignored, 3);
    assert_int_equal(f->map.nr, 5);
    assert_added(f, 1, 0x1000, 0 - UINT64_C(0x1000), MM_BOOT_USABLE);
    assert_added(f, 2, 0, UINT64_MAX, MM_BOOT_RESERVED);
    assert_added(f, 3, 0x5000, 0 - UINT64_C(0x5000), MM_BOOT_RESERVED);
    assert_added(f, 4, 0x7000, 0 - UINT64_C(0x7000), MM_BOOT_RESERVED);
}

/* --- modules, sections, framebuffer, RSDP */

static void modules_beyond_the_array(void **state)
{
    struct fixture *f = *state;

    one_gigabyte(f);
    for (uint32_t i = 0; i < MM_MULTIBOOT2_MAX_MODULES + 3; i++) {
        (void)blob_module(&f->blob, 0x100000 * i, 0x100000 * i + i, "m");
    }
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.nr_modules, MM_MULTIBOOT2_MAX_MODULES + 3);
    assert_range(f->info.modules[0].range, 0, 0); /* empty, and still a module */
    assert_range(f->info.modules[15].range, 0xf00000, 15);
    assert_int_equal(f->map.nr, 2 + MM_MULTIBOOT2_MAX_MODULES + 2);
    assert_added(f, 19, 0x1200000, 18, MM_BOOT_MODULE);
}

static void sections_beyond_the_array(void **state)
{
    const uint32_t nr = MM_MULTIBOOT2_MAX_SECTIONS + 2;
    struct fixture *f = *state;

    one_gigabyte(f);
    (void)blob_sections(&f->blob, nr, 64);
    for (uint32_t i = 0; i < nr; i++) {
        blob_section64(&f->blob, 1, 2, KERNEL_OFFSET + 0x1000 * (uint64_t)i, i + 1);
    }
    blob_tag_end(&f->blob);
    (void)blob_sections(&f->blob, 0, 0); /* a kernel may have none */
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.nr_sections, nr);
    assert_section(&f->info.sections[31], KERNEL_OFFSET + 0x1f000, 32, 0x1f000, MM_PROT_READ);
    assert_int_equal(f->map.nr, 2 + nr);
    assert_added(f, 1 + nr, 0x1000 * (nr - 1), nr, MM_BOOT_KERNEL);
}

static void sections_that_count(void **state)
{
    struct fixture *f = *state;

    one_gigabyte(f);
    (void)blob_sections(&f->blob, 8, 72); /* longer headers than this reader knows */
    for (uint32_t i = 0; i < 8; i++) {
        static const struct {
            uint32_t type;
            uint64_t flags, addr, len;
        } s[8] = {
            {1, 6, 0x100000, 0x10},                /* linked low: boot code */
            {1, 2, KERNEL_OFFSET, 0x20},           /* the first that is not */
            {1, 2, KERNEL_OFFSET - 1, 0x10},       /* the last that is */
            {1, 2, KERNEL_OFFSET + 0x3000, 0},     /* empty */
            {1, 1, KERNEL_OFFSET + 0x4000, 0x10},  /* no memory: debug information */
            {8, 0x403, KERNEL_OFFSET + 0x5000, 1}, /* size of thread-local zeroes */
            {1, 0x403, KERNEL_OFFSET + 0x6000, 1}, /* thread-local data: the template */
            {1, 7, UINT64_MAX - 0xf, 0x10},        /* the last bytes of all */
        };

        blob_section64(&f->blob, s[i].type, s[i].flags, s[i].addr, s[i].len);
        blob_u64(&f->blob, UINT64_MAX);
    }
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.nr_sections, 5);
    assert_section(&f->info.sections[0], 0x100000, 0x10, 0x100000, MM_PROT_RX);
    assert_section(&f->info.sections[1], KERNEL_OFFSET, 0x20, 0, MM_PROT_READ);
    assert_section(&f->info.sections[2], KERNEL_OFFSET - 1, 0x10, KERNEL_OFFSET - 1, MM_PROT_READ);
    assert_section(&f->info.sections[3], KERNEL_OFFSET + 0x6000, 1, 0x6000, MM_PROT_RW);
    assert_section(&f->info.sections[4], UINT64_MAX - 0xf, 0x10, 0x7ffffff0,
                   MM_PROT_RW | MM_PROT_EXEC);
    assert_int_equal(f->map.nr, 7);
}

static void sections_of_a_32_bit_file(void **state)
{
    struct fixture *f = *state;

    one_gigabyte(f);
    (void)blob_sections(&f->blob, 3, 40);
    blob_section32(&f->blob, 1, 6, 0x100000, 0x1234);
    blob_section32(&f->blob, 8, 3, 0x102000, 0x5000);
    blob_section32(&f->blob, 1, 0, 0x200000, 0x5000);
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.nr_sections, 2);
    assert_section(&f->info.sections[0], 0x100000, 0x1234, 0x100000, MM_PROT_RX);
    assert_section(&f->info.sections[1], 0x102000, 0x5000, 0x102000, MM_PROT_RW);
}

static void framebuffers(void **state)
{
    struct fixture *f = *state;

    one_gigabyte(f);
    (void)blob_framebuffer(&f->blob, 0xb8000, 160, 80, 0); /* empty: nothing to reserve */
    (void)blob_framebuffer(&f->blob, UINT64_MAX - 159, 160, 80, 1);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_range(f->info.framebuffer.range, 0xb8000, 0);
    assert_int_equal(f->map.nr, 3);
    assert_added(f, 2, UINT64_MAX - 159, 160, MM_BOOT_FRAMEBUFFER);
}

static void the_newer_rsdp_is_kept(void **state)
{
    struct fixture *f = *state;

    one_gigabyte(f);
    (void)blob_rsdp(&f->blob, 14, 50);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.rsdp_len, 20);
    assert_int_equal(f->info.rsdp[0], 50);
    assert_int_equal(f->info.rsdp[19], 69);
    assert_int_equal(f->info.rsdp[20], 0);

    blob_begin(&f->blob);
    (void)blob_rsdp(&f->blob, 15, 90);
    one_gigabyte(f);
    (void)blob_rsdp(&f->blob, 14, 50);
    blob_end(&f->blob);
    assert_int_equal(read_blob(f), MM_OK);
    assert_int_equal(f->info.rsdp_len, 36);
    assert_int_equal(f->info.rsdp[0], 90);
    assert_int_equal(f->info.rsdp[35], 125);
}

/* --- statuses */

static void arguments_are_checked(void **state)
{
    struct fixture *f = *state;
    const struct blob *b = &f->blob;
    struct mm_bootmap none = {0};
    struct fixture *before = malloc(sizeof(*before));
    mm_paddr_t at = mm_paddr(SELF);

    assert_non_null(before);
    one_gigabyte(f);
    blob_end(&f->blob);
    memcpy(before, f, sizeof(*f));
    assert_int_equal(mm_multiboot2_read(NULL, b->bytes, b->len, at, 0, &f->info, &f->error),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_multiboot2_read(&f->map, NULL, b->len, at, 0, &f->info, &f->error),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_multiboot2_read(&f->map, b->bytes, b->len, at, 0, NULL, &f->error),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_multiboot2_read(&none, b->bytes, b->len, at, 0, &f->info, &f->error),
                     MM_ERR_NOT_INITIALIZED);
    assert_int_equal(
        mm_multiboot2_read(&f->map, b->bytes + 4, b->len - 4, at, 0, &f->info, &f->error),
        MM_ERR_NOT_ALIGNED);
    for (size_t len = 0; len < 16; len++) {
        assert_int_equal(mm_multiboot2_read(&f->map, b->bytes, len, at, 0, &f->info, &f->error),
                         MM_ERR_INVALID_SIZE);
    }
    assert_int_equal(mm_multiboot2_read(&f->map, b->bytes, b->len, mm_paddr(UINT64_MAX - 54), 0,
                                        &f->info, &f->error),
                     MM_ERR_INVALID_ADDRESS);
    assert_memory_equal(f, before, sizeof(*f));
    free(before);
    /* the error is optional; the last bytes of all are a place like any other */
    assert_int_equal(
        mm_multiboot2_read(&f->map, b->bytes, b->len, mm_paddr(UINT64_MAX - 55), 0, &f->info, NULL),
        MM_OK);
    blob_set32(&f->blob, 0, 8);
    assert_int_equal(mm_multiboot2_read(&f->map, b->bytes, b->len, at, 0, &f->info, NULL),
                     MM_ERR_CORRUPTED);
}

static void no_memory_map(void **state)
{
    struct fixture *f = *state;
    struct fixture *before = malloc(sizeof(*before));

    assert_non_null(before);
    (void)blob_module(&f->blob, 0x1000, 0x2000, "m");
    blob_end(&f->blob);
    memcpy(before, f, sizeof(*f));
    assert_int_equal(read_blob(f), MM_ERR_REGION_NOT_FOUND);
    assert_memory_equal(f, before, sizeof(*f));

    blob_begin(&f->blob); /* one that is not to be believed is none */
    (void)blob_efi_map(&f->blob);
    blob_efi(&f->blob, 7, 0, 0x1000);
    blob_tag_end(&f->blob);
    (void)blob_tag(&f->blob, 18);
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    memcpy(before, f, sizeof(*f));
    assert_int_equal(read_blob(f), MM_ERR_REGION_NOT_FOUND);
    assert_memory_equal(f, before, sizeof(*f));
    free(before);
}

/* All entries fit, or none is added: an array for n adds takes n. */
static void the_map_has_room_for_all_or_none(void **state)
{
    struct fixture *f = *state;
    const uint32_t adds = 1 + 1 + 1 + 2 + 1 + 2;

    (void)blob_module(&f->blob, 0x1000, 0x2000, "m");
    (void)blob_module(&f->blob, 0x1000, 0x1000, "empty");
    one_gigabyte(f);
    (void)blob_framebuffer(&f->blob, 0xb8000, 160, 80, 25);
    (void)blob_sections(&f->blob, 3, 64);
    blob_section64(&f->blob, 1, 6, KERNEL_OFFSET, 5);
    blob_section64(&f->blob, 1, 2, KERNEL_OFFSET, 0);
    blob_section64(&f->blob, 1, 2, KERNEL_OFFSET, 5);
    blob_tag_end(&f->blob);
    (void)blob_efi_map(&f->blob);
    blob_efi(&f->blob, 7, 0x5000, 1);
    blob_efi(&f->blob, 7, 0x5000, 0);
    blob_efi(&f->blob, 7, 0x9000, 1);
    blob_tag_end(&f->blob);
    blob_end(&f->blob);
    for (uint32_t capacity = 1; capacity < 2 * adds + 2; capacity++) {
        struct fixture before;

        f->map = (struct mm_bootmap){0};
        memset(f->entries, 0x5a, sizeof(f->entries));
        assert_int_equal(mm_bootmap_init(&f->map, f->entries, capacity), MM_OK);
        memcpy(&before, f, sizeof(before));
        if (mm_bootmap_room(&f->map) >= adds) {
            assert_int_equal(read_blob(f), MM_OK);
            assert_int_equal(f->map.nr, adds);
            assert_true(capacity >= 2 * adds - 1);
        } else {
            assert_int_equal(read_blob(f), MM_ERR_LIMIT);
            assert_memory_equal(f, &before, sizeof(before));
            assert_true(capacity < 2 * adds - 1);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_sample),
        TEST(nothing_but_a_memory_map),
        TEST(the_end_tag_ends),
        TEST(two_memory_maps_both_count),
        TEST(entries_that_wrap),
        TEST(efi_types),
        TEST(efi_attributes),
        TEST(efi_beside_the_other),
        TEST(efi_before_boot_services_end),
        TEST(efi_lengths_that_are_none),
        TEST(modules_beyond_the_array),
        TEST(sections_beyond_the_array),
        TEST(sections_that_count),
        TEST(sections_of_a_32_bit_file),
        TEST(framebuffers),
        TEST(the_newer_rsdp_is_kept),
        TEST(arguments_are_checked),
        TEST(no_memory_map),
        TEST(the_map_has_room_for_all_or_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
