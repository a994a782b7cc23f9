// SPDX-License-Identifier: MIT
/**
 * SRAT and SLIT tables made by hand, and those of real machines (ACPI Specification 6.5, 5.2.16 and
 * 5.2.17), for the tests that read them.
 */
#ifndef T_NUMA_BLOB_H
#define T_NUMA_BLOB_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define NUMA_BLOB_MAX 98304u

struct numa_blob {
    uint8_t bytes[NUMA_BLOB_MAX];
    uint32_t len;
};

static inline void numa_set(struct numa_blob *b, uint32_t at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        b->bytes[at + i] = (uint8_t)(value >> (8 * i));
    }
}

/** Make length and checksum right. */
static inline void numa_end(struct numa_blob *b)
{
    unsigned sum = 0;

    numa_set(b, 4, b->len, 4);
    b->bytes[9] = 0;
    for (uint32_t i = 0; i < b->len; i++) {
        sum += b->bytes[i];
    }
    b->bytes[9] = (uint8_t)(256 - sum % 256);
}

static inline void numa_begin(struct numa_blob *b, const char *name, uint8_t revision, uint32_t len)
{
    memset(b->bytes, 0, sizeof(b->bytes));
    memcpy(b->bytes, name, 4);
    b->bytes[8] = revision;
    b->len = len;
}

static inline void numa_srat(struct numa_blob *b, uint8_t revision)
{
    numa_begin(b, "SRAT", revision, 48);
    b->bytes[36] = 1;
}

/** An entry of zeroes, at the offset that is returned. */
static inline uint32_t numa_entry(struct numa_blob *b, uint8_t type, uint8_t len)
{
    uint32_t at = b->len;

    assert(at + len <= NUMA_BLOB_MAX);
    b->bytes[at] = type;
    b->bytes[at + 1] = len;
    b->len += len;
    return at;
}

static inline uint32_t numa_apic(struct numa_blob *b, uint32_t domain, uint8_t id, uint32_t flags)
{
    uint32_t at = numa_entry(b, 0, 16);

    b->bytes[at + 2] = (uint8_t)domain;
    b->bytes[at + 3] = id;
    numa_set(b, at + 4, flags, 4);
    b->bytes[at + 8] = 0x5a; /* a local SAPIC's number: of no meaning here */
    numa_set(b, at + 9, domain >> 8, 3);
    return at;
}

static inline uint32_t numa_x2apic(struct numa_blob *b, uint32_t domain, uint32_t id,
                                   uint32_t flags)
{
    uint32_t at = numa_entry(b, 2, 24);

    numa_set(b, at + 4, domain, 4);
    numa_set(b, at + 8, id, 4);
    numa_set(b, at + 12, flags, 4);
    return at;
}

static inline uint32_t numa_memory(struct numa_blob *b, uint32_t domain, uint64_t start,
                                   uint64_t len, uint32_t flags)
{
    uint32_t at = numa_entry(b, 1, 40);

    numa_set(b, at + 2, domain, 4);
    numa_set(b, at + 8, start, 8);
    numa_set(b, at + 16, len, 8);
    numa_set(b, at + 28, flags, 4);
    return at;
}

/** A matrix of 10 and 20. */
static inline void numa_slit(struct numa_blob *b, uint32_t rows)
{
    numa_begin(b, "SLIT", 1, 44 + rows * rows);
    assert(b->len <= NUMA_BLOB_MAX);
    numa_set(b, 36, rows, 8);
    for (uint32_t i = 0; i < rows * rows; i++) {
        b->bytes[44 + i] = i / rows == i % rows ? 10 : 20;
    }
}

#define NUMA_ASROCK "Desktop_ASRock_K10_K10N78D_3E547E3B9CE5"
#define NUMA_MSI    "Desktop_MSI_MS_MS_7885_A386B4BDC94D"
#define NUMA_R820   "Server_Dell_PowerEdge_PowerEdge_R820_E5985CCBA349"
#define NUMA_H8QG6  "Server_Supermicro_H8_H8QG6_58E82626C3C5"

/** The table "SRAT" or "SLIT" of a machine. */
static inline void numa_load(struct numa_blob *b, const char *table, const char *machine)
{
    char path[512];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/acpi/%s-%s.dat", MM_TEST_DATA_DIR, table, machine);
    file = fopen(path, "rb");
    assert(file != NULL);
    memset(b->bytes, 0, sizeof(b->bytes));
    b->len = (uint32_t)fread(b->bytes, 1, NUMA_BLOB_MAX, file);
    (void)fclose(file);
    assert(b->len >= 44 && b->len < NUMA_BLOB_MAX);
}

#endif
