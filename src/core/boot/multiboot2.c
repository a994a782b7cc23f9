// SPDX-License-Identifier: MIT
/**
 * Multiboot2 information into a boot map. Only the reading of what the loader delivered lives
 * here; what becomes of overlapping ranges is the boot map's matter.
 *
 * The information is a header and a chain of tags (Multiboot2 Specification 2.0, section 3.6, which
 * the names of tags below refer to):
 *
 *     total size | reserved | type | size | body ... | pad to 8 | type | size | body ... | 0 | 8 |
 *     0                     8                                   16, 24, ...             end tag
 *
 * It is read twice. The first pass looks at every field that the second will use, and counts the
 * entries that the map must have room for; it changes nothing. The second pass cannot fail. Each
 * kind of tag has one function for each pass, side by side, so that what one relies on can be seen
 * in the other.
 *
 * Both memory maps are entries like those of other sources: entries.h reads them. The fields of
 * other tags are copied out byte by byte, too: ELF section headers are not aligned in their tag.
 */
#include "core/boot/entries.h"
#include <mm/boot/multiboot2.h>

enum tag_type {
    TAG_END = 0,
    TAG_CMDLINE = 1,
    TAG_LOADER = 2,
    TAG_MODULE = 3,
    TAG_MEMORY_MAP = 6,
    TAG_FRAMEBUFFER = 8,
    TAG_ELF_SECTIONS = 9,
    TAG_RSDP_OLD = 14,
    TAG_RSDP_NEW = 15,
    TAG_EFI_MEMORY_MAP = 17,
    TAG_EFI_BOOT_SERVICES = 18, /* not terminated */
};

#define TAG_ALIGN  8u
#define TAG_HEADER 8u  /* type, size */
#define INFO_MIN   16u /* header and end tag */
#define NO_TAG     UINT32_MAX

/* ELF section flags and types (System V ABI, "Sections"). */
#define SHF_WRITE     1u
#define SHF_ALLOC     2u
#define SHF_EXECINSTR 4u
#define SHF_TLS       0x400u
#define SHT_NOBITS    8u
#define SHDR32_SIZE   40u
#define SHDR64_SIZE   64u

struct reader {
    const uint8_t *data;
    uint32_t total;
    uint64_t kernel_offset;
    struct mm_bootmap *map;
    struct mm_multiboot2_info *out;
    /* What the first pass found. */
    uint32_t adds;     /* entries for the map, those of the EFI memory map aside */
    uint32_t efi_adds; /* entries for the map from the EFI memory map */
    bool has_map;
    bool has_efi_map;
    bool boot_services; /* still running, so the EFI memory map is not final */
};

struct tag {
    uint32_t type;
    uint32_t size; /* header included, pad not */
    uint32_t offset;
    const uint8_t *data; /* of the header */
};

/* The first pass counted, so there is room; and what is added is valid. */
static void add(struct reader *r, struct mm_prange range, enum mm_boot_kind kind)
{
    mm_status_t status = mm_bootmap_add(r->map, range, kind);

    (void)status;
}

/* --- strings: "Boot command line", "Boot loader name" ----------------------------------------- */

static const char *check_string(const struct tag *tag, uint32_t at)
{
    for (uint32_t i = at; i < tag->size; i++) {
        if (tag->data[i] == '\0') {
            return NULL;
        }
    }
    return "the string has no terminator";
}

/* --- "Modules" -------------------------------------------------------------------------------- */

static struct mm_prange module_range(const struct tag *tag)
{
    uint32_t start = mmi_get32(tag->data + 8);
    uint32_t end = mmi_get32(tag->data + 12);

    return mm_prange(mm_paddr(start), end - start);
}

static const char *check_module(struct reader *r, const struct tag *tag)
{
    if (tag->size < 17) {
        return "the module's tag is too short";
    }
    if (mmi_get32(tag->data + 12) < mmi_get32(tag->data + 8)) {
        return "the module ends before it starts";
    }
    r->adds += module_range(tag).len != 0;
    return check_string(tag, 16);
}

static void take_module(struct reader *r, const struct tag *tag)
{
    uint32_t i = r->out->nr_modules++;

    if (i < MM_MULTIBOOT2_MAX_MODULES) {
        r->out->modules[i].range = module_range(tag);
        r->out->modules[i].cmdline_offset = tag->offset + 16;
    }
    add(r, module_range(tag), MM_BOOT_MODULE);
}

/* --- "Memory map" and "EFI memory map" -------------------------------------------------------- */

/* The types are those of E820, up to 5; what comes after is not defined here, and is reserved. */
static struct mmi_memory memory_map_entry(const uint8_t *at)
{
    uint32_t type = mmi_get32(at + 16);

    return mmi_memory(mmi_get64(at), mmi_get64(at + 8), true, mmi_e820_kind(type <= 5 ? type : 0));
}

/* Both tags are laid out alike: size and version of an entry, then the entries. */
#define MEMORY_BEGIN 16u

static uint32_t memory_entry_size_min(const struct tag *tag)
{
    return tag->type == TAG_EFI_MEMORY_MAP ? 40 : 24;
}

static struct mmi_entries memory_entries(const struct tag *tag)
{
    uint32_t entry_size = mmi_get32(tag->data + 8);

    return (struct mmi_entries){
        .data = tag->data + MEMORY_BEGIN,
        .stride = entry_size,
        .nr = (tag->size - MEMORY_BEGIN) / entry_size,
        .read = tag->type == TAG_EFI_MEMORY_MAP ? mmi_uefi_entry : memory_map_entry,
    };
}

static const char *check_memory(uint32_t *adds, const struct tag *tag)
{
    struct mmi_entries entries;
    uint32_t entry_size;

    if (tag->size < MEMORY_BEGIN) {
        return "the memory map's tag is too short";
    }
    entry_size = mmi_get32(tag->data + 8);
    if (entry_size < memory_entry_size_min(tag) || entry_size % 8 != 0) {
        return "the memory map's entry size is wrong";
    }
    if ((tag->size - MEMORY_BEGIN) % entry_size != 0) {
        return "the memory map ends inside an entry";
    }
    entries = memory_entries(tag);
    *adds += (uint32_t)mmi_entries_count(&entries); /* fewer than the bytes of the tag */
    return NULL;
}

static void take_memory(struct reader *r, const struct tag *tag)
{
    struct mmi_entries entries = memory_entries(tag);
    struct mm_boot_report report = {0};

    mmi_entries_add(&entries, r->map, &report);
    r->out->nr_entries += (uint32_t)report.nr_entries;
    r->out->nr_ignored += (uint32_t)report.nr_ignored;
}

/* --- "Framebuffer info" ----------------------------------------------------------------------- */

static struct mm_prange framebuffer_range(const struct tag *tag)
{
    uint64_t pitch = mmi_get32(tag->data + 16);

    return mm_prange(mm_paddr(mmi_get64(tag->data + 8)), pitch * mmi_get32(tag->data + 24));
}

static const char *check_framebuffer(struct reader *r, const struct tag *tag)
{
    if (tag->size < 31) {
        return "the framebuffer's tag is too short";
    }
    if (!mm_prange_valid(framebuffer_range(tag))) {
        return "the framebuffer ends above 2^64";
    }
    r->adds += framebuffer_range(tag).len != 0;
    return NULL;
}

static void take_framebuffer(struct reader *r, const struct tag *tag)
{
    add(r, framebuffer_range(tag), MM_BOOT_FRAMEBUFFER);
    if (r->out->has_framebuffer != 0) {
        return;
    }
    r->out->has_framebuffer = 1;
    r->out->framebuffer = (struct mm_multiboot2_framebuffer){
        .range = framebuffer_range(tag),
        .pitch = mmi_get32(tag->data + 16),
        .width = mmi_get32(tag->data + 20),
        .height = mmi_get32(tag->data + 24),
        .bpp = tag->data[28],
        .type = tag->data[29],
    };
}

/* --- "ELF-Symbols": the kernel's section headers ---------------------------------------------- */

/*
 * The fields are 32 bits wide, as in the multiboot2.h that the specification carries and as every
 * loader writes them, not 16 as in its text: number of headers, size of one, index of names.
 */
#define SECTIONS_BEGIN 20u

/* A section header of either ELF class; false if the section occupies no memory of the kernel. */
static bool section(const struct reader *r, const uint8_t *at, uint32_t entry_size,
                    struct mm_boot_section *out)
{
    bool wide = entry_size >= SHDR64_SIZE;
    uint32_t type = mmi_get32(at + 4);
    uint64_t flags = wide ? mmi_get64(at + 8) : mmi_get32(at + 8);
    uint64_t start = wide ? mmi_get64(at + 16) : mmi_get32(at + 12);
    uint64_t len = wide ? mmi_get64(at + 32) : mmi_get32(at + 20);

    if ((flags & SHF_ALLOC) == 0 || len == 0) {
        return false;
    }
    if ((flags & SHF_TLS) != 0 && type == SHT_NOBITS) {
        return false; /* only a template's size: its addresses belong to what comes next */
    }
    *out = (struct mm_boot_section){
        .range = mm_vrange(mm_vaddr(start), len),
        .paddr = mm_paddr(start >= r->kernel_offset ? start - r->kernel_offset : start),
        .prot = MM_PROT_READ | ((flags & SHF_WRITE) != 0 ? MM_PROT_WRITE : 0) |
                ((flags & SHF_EXECINSTR) != 0 ? MM_PROT_EXEC : 0),
    };
    return true;
}

static const uint8_t *section_header(const struct tag *tag, uint32_t i, uint32_t entry_size)
{
    return tag->data + SECTIONS_BEGIN + (size_t)i * entry_size;
}

static const char *check_sections(struct reader *r, const struct tag *tag)
{
    uint32_t nr;
    uint32_t entry_size;

    if (tag->size < SECTIONS_BEGIN) {
        return "the section headers' tag is too short";
    }
    nr = mmi_get32(tag->data + 8);
    entry_size = mmi_get32(tag->data + 12);
    if (nr == 0) {
        return NULL;
    }
    if (entry_size != SHDR32_SIZE && entry_size < SHDR64_SIZE) {
        return "the section headers' size is wrong";
    }
    if (nr > (tag->size - SECTIONS_BEGIN) / entry_size) {
        return "the section headers run past their tag";
    }
    for (uint32_t i = 0; i < nr; i++) {
        struct mm_boot_section s;

        if (section(r, section_header(tag, i, entry_size), entry_size, &s)) {
            if (!mm_vrange_valid(s.range)) {
                return "a section ends above 2^64";
            }
            r->adds++;
        }
    }
    return NULL;
}

static void take_sections(struct reader *r, const struct tag *tag)
{
    uint32_t nr = mmi_get32(tag->data + 8);
    uint32_t entry_size = mmi_get32(tag->data + 12);

    for (uint32_t i = 0; i < nr; i++) {
        struct mm_boot_section s;

        if (!section(r, section_header(tag, i, entry_size), entry_size, &s)) {
            continue;
        }
        if (r->out->nr_sections < MM_MULTIBOOT2_MAX_SECTIONS) {
            r->out->sections[r->out->nr_sections] = s;
        }
        r->out->nr_sections++;
        add(r, mm_prange(s.paddr, s.range.len), MM_BOOT_KERNEL);
    }
}

/* --- "ACPI old RSDP", "ACPI new RSDP" --------------------------------------------------------- */

/* ACPI Specification 6.5, 5.2.5.3: 20 bytes in revision 0, 36 from revision 2 on. */
static uint32_t rsdp_size(const struct tag *tag)
{
    return tag->type == TAG_RSDP_OLD ? 20 : 36;
}

static void take_rsdp(struct mm_multiboot2_info *out, const struct tag *tag)
{
    if (rsdp_size(tag) > out->rsdp_len) {
        out->rsdp_len = rsdp_size(tag);
        memcpy(out->rsdp, tag->data + TAG_HEADER, out->rsdp_len);
    }
}

/* --- both passes ------------------------------------------------------------------------------ */

static const char *check_tag(struct reader *r, const struct tag *tag)
{
    switch (tag->type) {
    case TAG_END:
        return tag->size == TAG_HEADER ? NULL : "the end tag's size is wrong";
    case TAG_CMDLINE:
    case TAG_LOADER:
        return check_string(tag, TAG_HEADER);
    case TAG_MODULE:
        return check_module(r, tag);
    case TAG_MEMORY_MAP:
        r->has_map = true;
        return check_memory(&r->adds, tag);
    case TAG_FRAMEBUFFER:
        return check_framebuffer(r, tag);
    case TAG_ELF_SECTIONS:
        return check_sections(r, tag);
    case TAG_RSDP_OLD:
    case TAG_RSDP_NEW:
        return tag->size - TAG_HEADER >= rsdp_size(tag) ? NULL : "the RSDP's tag is too short";
    case TAG_EFI_MEMORY_MAP:
        r->has_efi_map = true;
        return check_memory(&r->efi_adds, tag);
    case TAG_EFI_BOOT_SERVICES:
        r->boot_services = true;
        return NULL;
    default:
        return NULL; /* of no interest here, or from a later specification */
    }
}

static void take_tag(struct reader *r, const struct tag *tag)
{
    struct mm_multiboot2_info *out = r->out;

    switch (tag->type) {
    case TAG_CMDLINE:
        out->cmdline_offset = out->cmdline_offset != 0 ? out->cmdline_offset : tag->offset + 8;
        break;
    case TAG_LOADER:
        out->loader_offset = out->loader_offset != 0 ? out->loader_offset : tag->offset + 8;
        break;
    case TAG_MODULE:
        take_module(r, tag);
        break;
    case TAG_MEMORY_MAP:
        take_memory(r, tag);
        break;
    case TAG_FRAMEBUFFER:
        take_framebuffer(r, tag);
        break;
    case TAG_ELF_SECTIONS:
        take_sections(r, tag);
        break;
    case TAG_RSDP_OLD:
    case TAG_RSDP_NEW:
        take_rsdp(out, tag);
        break;
    case TAG_EFI_MEMORY_MAP:
        if (!r->boot_services) {
            out->from_efi = 1;
            take_memory(r, tag);
        }
        break;
    default:
        break;
    }
}

/* The tag at an offset, its header checked against what is left. */
static const char *tag_at(const struct reader *r, uint32_t offset, struct tag *out)
{
    uint32_t left = offset < r->total ? r->total - offset : 0;

    *out = (struct tag){.type = NO_TAG, .offset = offset};
    if (left < TAG_HEADER) {
        return "the end tag is missing";
    }
    out->data = r->data + offset;
    out->type = mmi_get32(out->data);
    out->size = mmi_get32(out->data + 4);
    if (out->size < TAG_HEADER) {
        return "the tag is smaller than its header";
    }
    if (out->size > left) {
        return "the tag runs past the end";
    }
    return NULL;
}

/* Where the tag after this one begins; at most 7 above `total`, which is below 2^32 - 8. */
static uint32_t after(const struct tag *tag)
{
    return tag->offset + (uint32_t)mm_align_down((uint64_t)tag->size + (TAG_ALIGN - 1), TAG_ALIGN);
}

/* The first pass: NULL if all is well, else what is wrong with *tag. */
static const char *check_all(struct reader *r, size_t len, struct tag *tag)
{
    const char *wrong = NULL;

    *tag = (struct tag){.type = NO_TAG};
    r->total = mmi_get32(r->data);
    if (r->total > len) {
        return "the information is longer than the memory it was given in";
    }
    if (r->total < INFO_MIN) {
        return "the information is shorter than its header and end tag";
    }
    if (r->total > UINT32_MAX - TAG_ALIGN) {
        return "the information's size is absurd";
    }
    tag->offset = TAG_HEADER;
    do {
        wrong = tag_at(r, tag->offset, tag);
        if (wrong == NULL) {
            wrong = check_tag(r, tag);
        }
        if (wrong != NULL || tag->type == TAG_END) {
            break;
        }
        tag->offset = after(tag);
    } while (true);
    return wrong;
}

/* The second pass: the first has seen every tag up to the end tag. */
static void take_all(struct reader *r, mm_paddr_t paddr)
{
    uint32_t offset = TAG_HEADER;
    struct tag tag;

    *r->out = (struct mm_multiboot2_info){.self = mm_prange(paddr, r->total)};
    add(r, r->out->self, MM_BOOT_BOOTLOADER);
    while (tag_at(r, offset, &tag) == NULL && tag.type != TAG_END) {
        take_tag(r, &tag);
        offset = after(&tag);
    }
}

mm_status_t mm_multiboot2_read(struct mm_bootmap *map, const void *data, size_t len,
                               mm_paddr_t paddr, uint64_t kernel_offset,
                               struct mm_multiboot2_info *out, struct mm_multiboot2_error *error)
{
    struct reader r = {
        .data = data,
        .kernel_offset = kernel_offset,
        .map = map,
        .out = out,
        .adds = 1, /* the information itself */
    };
    const char *wrong;
    struct tag tag;

    if (map == NULL || data == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (mmi_map_check(map) != MM_OK) {
        return MM_ERR_NOT_INITIALIZED; /* it is not null */
    }
    if (!mm_is_aligned((uint64_t)(uintptr_t)data, TAG_ALIGN)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (len < INFO_MIN) {
        return MM_ERR_INVALID_SIZE;
    }
    wrong = check_all(&r, len, &tag);
    if (wrong != NULL) {
        if (error != NULL) {
            *error = (struct mm_multiboot2_error){tag.type, tag.offset, wrong};
        }
        return MM_ERR_CORRUPTED;
    }
    if (!mm_range_fits(paddr.raw, r.total)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    if (r.boot_services) {
        r.has_efi_map = false;
        r.efi_adds = 0;
    }
    if (!r.has_map && !r.has_efi_map) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    if (mm_bootmap_room(map) < r.adds + r.efi_adds) {
        return MM_ERR_LIMIT;
    }
    take_all(&r, paddr);
    return MM_OK;
}
