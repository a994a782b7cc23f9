// SPDX-License-Identifier: MIT
//
// From the root pointer that the boot loader hands over to the processors. References are to the
// ACPI specification 6.5. Firmware is distrusted: nothing is read outside a table's length, no
// length is believed before it is compared, and a table whose bytes do not add up is not read.
//
//     RSDP ──> XSDT, or RSDT ──> MADT ──> one entry a processor
//                           ──> SRAT, SLIT: for libmm to read
//
// Tables lie at any address, so fields are copied out rather than pointed at.

#include "acpi.h"

#include <stdbool.h>
#include <stddef.h>

#include "layout.h"

// 5.2.5.3: the root pointer. Length and 64-bit address are there from revision 2 on.
#define RSDP_LEN_1    20
#define RSDP_REVISION 15
#define RSDP_RSDT     16
#define RSDP_LEN_2    36
#define RSDP_XSDT     24

// 5.2.6: what every table begins with.
#define HEADER_LEN       36
#define HEADER_TABLE_LEN 4
#define TABLE_LEN_MAX    (1u << 20)

// 5.2.12: the MADT's entries begin behind two more fields; 5.2.12.2 and 5.2.12.12: two of their types.
#define MADT_ENTRIES        44
#define ENTRY_LOCAL_APIC    0
#define ENTRY_LOCAL_X2APIC  9
#define FLAG_ENABLED        1u
#define FLAG_ONLINE_CAPABLE 2u

// Interrupts reach only identifiers of 8 bits, and the last means all, unless the APIC is switched to
// another mode (Intel SDM vol. 3A, 11.6.1).
#define APIC_ID_MAX 254

void *memcpy(void *restrict to, const void *restrict from, size_t len);
int memcmp(const void *left, const void *right, size_t len);

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static bool adds_up(const uint8_t *at, uint32_t len)
{
    uint8_t sum = 0;
    for (uint32_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + at[i]);
    }
    return sum == 0;
}

// The table at a physical address, if it lies where memory can be read, and is whole.
static bool read_table(const struct mm_physmap *physmap, uint64_t address, struct acpi_table *out)
{
    const struct mm_prange mapped = mm_prange(mm_paddr(0), LAYOUT_BOOT_MAPPED);

    if (address == 0 || !mm_prange_covers(mapped, mm_prange(mm_paddr(address), HEADER_LEN))) {
        return false;
    }
    out->at = mm_physmap_ptr(physmap, mm_paddr(address));
    out->len = get32(out->at + HEADER_TABLE_LEN);
    return out->len >= HEADER_LEN && out->len <= TABLE_LEN_MAX &&
           mm_prange_covers(mapped, mm_prange(mm_paddr(address), out->len)) &&
           adds_up(out->at, out->len);
}

// The root table, and the bytes of an address in it.
static bool read_root(const struct mm_multiboot2_info *boot, const struct mm_physmap *physmap,
                      struct acpi_table *out, uint32_t *width)
{
    const uint8_t *rsdp = boot->rsdp;

    if (boot->rsdp_len < RSDP_LEN_1 || memcmp(rsdp, "RSD PTR ", 8) != 0 ||
        !adds_up(rsdp, RSDP_LEN_1)) {
        return false;
    }
    bool newer = boot->rsdp_len >= RSDP_LEN_2 && rsdp[RSDP_REVISION] >= 2 &&
                 adds_up(rsdp, RSDP_LEN_2) && get64(rsdp + RSDP_XSDT) != 0;
    *width = newer ? 8 : 4;
    return read_table(physmap, newer ? get64(rsdp + RSDP_XSDT) : get32(rsdp + RSDP_RSDT), out) &&
           memcmp(out->at, newer ? "XSDT" : "RSDT", 4) == 0;
}

const char *acpi_find_table(const struct mm_multiboot2_info *boot, const struct mm_physmap *physmap,
                            const char *signature, struct acpi_table *out)
{
    struct acpi_table root;
    struct acpi_table table;
    uint32_t width;

    if (boot->rsdp_len == 0) {
        return "the boot information has no ACPI root pointer";
    }
    if (!read_root(boot, physmap, &root, &width)) {
        return "the ACPI root table is malformed or out of reach";
    }
    for (uint32_t at = HEADER_LEN; root.len - at >= width; at += width) {
        uint64_t address = width == 8 ? get64(root.at + at) : get32(root.at + at);
        if (read_table(physmap, address, &table) && memcmp(table.at, signature, 4) == 0) {
            *out = table;
            return NULL;
        }
    }
    return "the firmware has no such ACPI table";
}

// Firmware may list a processor in both forms: it counts once.
static void add_processor(struct acpi_processors *p, uint32_t apic_id, uint32_t flags)
{
    if ((flags & FLAG_ENABLED) == 0) {
        p->nr_dormant += (flags & FLAG_ONLINE_CAPABLE) != 0;
        return;
    }
    for (uint32_t i = 0; i < p->nr; i++) {
        if (p->apic_ids[i] == apic_id) {
            return;
        }
    }
    p->nr_listed++;
    if (p->nr < PERCPU_MAX && apic_id <= APIC_ID_MAX) {
        p->apic_ids[p->nr++] = apic_id;
    }
}

static bool read_madt(const struct acpi_table *madt, struct acpi_processors *p)
{
    uint32_t len;

    for (uint32_t at = MADT_ENTRIES; at < madt->len; at += len) {
        const uint8_t *entry = madt->at + at;
        if (madt->len - at < 2 || entry[1] < 2 || entry[1] > madt->len - at) {
            return false;
        }
        len = entry[1];
        if (entry[0] == ENTRY_LOCAL_APIC && len >= 8) {
            add_processor(p, entry[3], get32(entry + 4));
        } else if (entry[0] == ENTRY_LOCAL_X2APIC && len >= 16) {
            add_processor(p, get32(entry + 4), get32(entry + 8));
        }
    }
    return p->nr > 0;
}

const char *acpi_find_processors(const struct mm_multiboot2_info *boot,
                                 const struct mm_physmap *physmap, struct acpi_processors *out)
{
    struct acpi_table madt = {0};
    const char *why_not = acpi_find_table(boot, physmap, "APIC", &madt);

    *out = (struct acpi_processors){0};
    if (why_not != NULL) {
        return why_not;
    }
    if (!read_madt(&madt, out)) {
        *out = (struct acpi_processors){0};
        return "the ACPI table of processors (MADT) is malformed";
    }
    return NULL;
}
