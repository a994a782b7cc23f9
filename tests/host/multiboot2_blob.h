// SPDX-License-Identifier: MIT
/**
 * Makes multiboot2 information, good or bad, byte by byte; written from the specification (section
 * 3.6), not from the reader. For the tests of the reader only.
 */
#ifndef MULTIBOOT2_BLOB_H
#define MULTIBOOT2_BLOB_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOB_MAX 16384

struct blob {
    _Alignas(8) uint8_t bytes[BLOB_MAX];
    uint32_t len;
    uint32_t tag; /* offset of the tag that is being made */
};

static inline void blob_put(struct blob *b, const void *bytes, uint32_t len)
{
    if (len > BLOB_MAX - b->len) {
        abort();
    }
    memcpy(b->bytes + b->len, bytes, len);
    b->len += len;
}

static inline void blob_u8(struct blob *b, uint8_t v)
{
    blob_put(b, &v, 1);
}

static inline void blob_u32(struct blob *b, uint32_t v)
{
    blob_put(b, &v, 4);
}

static inline void blob_u64(struct blob *b, uint64_t v)
{
    blob_put(b, &v, 8);
}

static inline void blob_set32(struct blob *b, uint32_t at, uint32_t v)
{
    memcpy(b->bytes + at, &v, 4);
}

static inline void blob_begin(struct blob *b)
{
    memset(b, 0, sizeof(*b));
    b->len = 8; /* total size and reserved */
}

/* Returns the tag's offset. */
static inline uint32_t blob_tag(struct blob *b, uint32_t type)
{
    while (b->len % 8 != 0) {
        blob_u8(b, 0xcc); /* the pad's bytes mean nothing */
    }
    b->tag = b->len;
    blob_u32(b, type);
    blob_u32(b, 0);
    return b->tag;
}

static inline void blob_tag_end(struct blob *b)
{
    blob_set32(b, b->tag + 4, b->len - b->tag);
}

static inline void blob_end(struct blob *b)
{
    (void)blob_tag(b, 0);
    blob_tag_end(b);
    blob_set32(b, 0, b->len);
}

static inline uint32_t blob_string(struct blob *b, uint32_t type, const char *s)
{
    uint32_t at = blob_tag(b, type);

    blob_put(b, s, (uint32_t)strlen(s) + 1);
    blob_tag_end(b);
    return at;
}

static inline uint32_t blob_module(struct blob *b, uint32_t start, uint32_t end, const char *s)
{
    uint32_t at = blob_tag(b, 3);

    blob_u32(b, start);
    blob_u32(b, end);
    blob_put(b, s, (uint32_t)strlen(s) + 1);
    blob_tag_end(b);
    return at;
}

/* Begins a memory map; entries follow, then blob_tag_end(). */
static inline uint32_t blob_memory_map(struct blob *b)
{
    uint32_t at = blob_tag(b, 6);

    blob_u32(b, 24);
    blob_u32(b, 0);
    return at;
}

static inline void blob_memory(struct blob *b, uint64_t start, uint64_t len, uint32_t type)
{
    blob_u64(b, start);
    blob_u64(b, len);
    blob_u32(b, type);
    blob_u32(b, 0);
}

/* Begins an EFI memory map of descriptors of 48 bytes, as firmware makes them. */
static inline uint32_t blob_efi_map(struct blob *b)
{
    uint32_t at = blob_tag(b, 17);

    blob_u32(b, 48);
    blob_u32(b, 1);
    return at;
}

static inline void blob_efi_with(struct blob *b, uint32_t type, uint64_t start, uint64_t pages,
                                 uint64_t attributes)
{
    blob_u32(b, type);
    blob_u32(b, 0xcccccccc);
    blob_u64(b, start);
    blob_u64(b, 0);
    blob_u64(b, pages);
    blob_u64(b, attributes);
    blob_u64(b, UINT64_C(0xcccccccccccccccc));
}

/* With the attributes of ordinary memory: every way of caching. */
static inline void blob_efi(struct blob *b, uint32_t type, uint64_t start, uint64_t pages)
{
    blob_efi_with(b, type, start, pages, 15);
}

static inline uint32_t blob_framebuffer(struct blob *b, uint64_t addr, uint32_t pitch,
                                        uint32_t width, uint32_t height)
{
    uint32_t at = blob_tag(b, 8);

    blob_u64(b, addr);
    blob_u32(b, pitch);
    blob_u32(b, width);
    blob_u32(b, height);
    blob_u8(b, 32);
    blob_u8(b, 1);
    blob_u8(b, 0);
    blob_put(b, "\x10\x08\x08\x08\x00\x08", 6);
    blob_tag_end(b);
    return at;
}

/* Begins section headers; blob_section64() or 32, as many as said. */
static inline uint32_t blob_sections(struct blob *b, uint32_t nr, uint32_t entry_size)
{
    uint32_t at = blob_tag(b, 9);

    blob_u32(b, nr);
    blob_u32(b, entry_size);
    blob_u32(b, 0);
    return at;
}

static inline void blob_section64(struct blob *b, uint32_t type, uint64_t flags, uint64_t addr,
                                  uint64_t len)
{
    blob_u32(b, 1);
    blob_u32(b, type);
    blob_u64(b, flags);
    blob_u64(b, addr);
    blob_u64(b, 0x1000); /* where it lies in the file */
    blob_u64(b, len);
    blob_u64(b, 0);
    blob_u64(b, 16);
    blob_u64(b, 0);
}

static inline void blob_section32(struct blob *b, uint32_t type, uint32_t flags, uint32_t addr,
                                  uint32_t len)
{
    const uint32_t header[10] = {1, type, flags, addr, 0x1000, len, 0, 0, 16, 0};

    blob_put(b, header, sizeof(header));
}

static inline uint32_t blob_rsdp(struct blob *b, uint32_t type, uint8_t fill)
{
    uint32_t at = blob_tag(b, type);

    for (uint32_t i = 0; i < (type == 14 ? 20u : 36u); i++) {
        blob_u8(b, (uint8_t)(fill + i));
    }
    blob_tag_end(b);
    return at;
}

#endif
