// SPDX-License-Identifier: MIT
//
// User copy over memory that is partly missing, partly forbidden, or not the user's at all.

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "cpu.h"
#include "layout.h"
#include "probe.h"

#define STRADDLE  64 // bytes on each side of the edge
#define UNTOUCHED 0xee

// Two pages of memory, a missing page, one page of code.
static const mm_vaddr_t base = {UINT64_C(0x0000500000000000)};
static const mm_vaddr_t missing = {UINT64_C(0x0000500000002000)};
static const mm_vaddr_t code = {UINT64_C(0x0000500000003000)};

// Whether user memory was ever open after a user copy (EFLAGS.AC, which SMAP minds).
static bool left_open;

static mm_status_t noted(mm_status_t status)
{
    left_open = left_open || (cpu_rflags() & CPU_RFLAGS_AC) != 0;
    return status;
}

static struct mm_space *new_space(struct memory *m)
{
    struct mm_space_request request = {
        .at = base, .len = 4 * MM_PAGE_SIZE, .prot = MM_PROT_RW, .flags = MM_SPACE_FIXED};
    const uint8_t instruction = 0xc3; // ret
    struct mm_space *space;
    mm_vaddr_t where;

    must(mm_space_create(&m->spaces, &space), "a space");
    must(mm_space_map(space, &request, &where), "a region");
    memory_enter(m, space);
    must(mm_user_copy_out(&m->user, code, &instruction, 1, NULL), "user code");
    must(mm_space_protect(space, mm_vrange(code, MM_PAGE_SIZE), MM_PROT_RX), "user code");
    must(mm_space_unmap(space, mm_vrange(missing, MM_PAGE_SIZE)), "a hole");
    return space;
}

static void pattern(uint8_t *bytes, uint64_t len, uint8_t first)
{
    for (uint64_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(first + i);
    }
}

static bool is_pattern(const uint8_t *bytes, uint64_t len, uint8_t first)
{
    for (uint64_t i = 0; i < len; i++) {
        if (bytes[i] != (uint8_t)(first + i)) {
            return false;
        }
    }
    return true;
}

static bool is_all(const uint8_t *bytes, uint64_t len, uint8_t value)
{
    for (uint64_t i = 0; i < len; i++) {
        if (bytes[i] != value) {
            return false;
        }
    }
    return true;
}

// Copies whose first `good` bytes are there and whose other bytes are on the missing page.
static bool out_residue(struct memory *m, uint64_t good, uint64_t bad)
{
    uint8_t bytes[2 * STRADDLE];
    uint8_t back[STRADDLE];
    uint64_t residue = 0;
    mm_vaddr_t to = mm_vaddr(missing.raw - good);

    pattern(bytes, good + bad, (uint8_t)(good + 1));
    return noted(mm_user_copy_out(&m->user, to, bytes, good + bad, &residue)) == MM_ERR_FAULT &&
           residue == bad && mm_user_copy_in(&m->user, back, to, good, NULL) == MM_OK &&
           is_pattern(back, good, (uint8_t)(good + 1));
}

static bool in_residue(struct memory *m, uint64_t good, uint64_t bad)
{
    uint8_t bytes[2 * STRADDLE];
    uint64_t residue = 0;
    mm_vaddr_t from = mm_vaddr(missing.raw - good);

    pattern(bytes, good, 7);
    if (mm_user_copy_out(&m->user, from, bytes, good, NULL) != MM_OK) {
        return false;
    }
    for (uint64_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = UNTOUCHED;
    }
    return noted(mm_user_copy_in(&m->user, bytes, from, good + bad, &residue)) == MM_ERR_FAULT &&
           residue == bad && is_pattern(bytes, good, 7) &&
           is_all(bytes + good, sizeof(bytes) - good, UNTOUCHED);
}

static bool clear_residue(struct memory *m, uint64_t good, uint64_t bad)
{
    uint8_t bytes[STRADDLE];
    uint64_t residue = 0;
    mm_vaddr_t to = mm_vaddr(missing.raw - good);

    pattern(bytes, good, 9);
    return mm_user_copy_out(&m->user, to, bytes, good, NULL) == MM_OK &&
           noted(mm_user_clear(&m->user, to, good + bad, &residue)) == MM_ERR_FAULT &&
           residue == bad && mm_user_copy_in(&m->user, bytes, to, good, NULL) == MM_OK &&
           is_all(bytes, good, 0);
}

// The fault falls on each byte once, and each length of what is missing follows it.
static bool at_each_byte(struct memory *m, bool (*residue)(struct memory *, uint64_t, uint64_t))
{
    for (uint64_t good = 0; good < STRADDLE; good++) {
        if (!residue(m, good, 1) || !residue(m, good, STRADDLE - good)) {
            return false;
        }
    }
    return true;
}

static void check_residue(struct memory *m)
{
    CHECK("a copy out across a missing page tells the exact residue", at_each_byte(m, out_residue));
    CHECK("a copy in across a missing page tells the exact residue", at_each_byte(m, in_residue));
    CHECK("a clear across a missing page tells the exact residue", at_each_byte(m, clear_residue));
}

static void check_string(struct memory *m)
{
    static const char text[] = "eleven more";
    char buffer[32];
    uint64_t len = 0;
    mm_vaddr_t from = mm_vaddr(missing.raw - sizeof(text));

    must(mm_user_copy_out(&m->user, from, text, sizeof(text), NULL), "a string");
    bool whole = noted(mm_user_string_in(&m->user, buffer, from, sizeof(buffer), &len)) == MM_OK &&
                 len == 11;
    bool cut = noted(mm_user_string_in(&m->user, buffer, from, 11, &len)) == MM_ERR_LIMIT;
    must(mm_user_copy_out(&m->user, mm_vaddr(missing.raw - 1), "!", 1, NULL), "a string");
    bool open =
        noted(mm_user_string_in(&m->user, buffer, from, sizeof(buffer), &len)) == MM_ERR_FAULT;
    CHECK("a user string ends at its terminator, its limit, or the missing page",
          whole && cut && open && len == 11);
}

static bool refused(struct memory *m, uint64_t address, uint64_t len)
{
    uint8_t bytes[16] = {0};
    uint64_t residue = 0;

    return mm_user_copy_in(&m->user, bytes, mm_vaddr(address), len, &residue) ==
               MM_ERR_INVALID_ADDRESS &&
           residue == len &&
           mm_user_copy_out(&m->user, mm_vaddr(address), bytes, len, &residue) ==
               MM_ERR_INVALID_ADDRESS &&
           residue == len && is_all(bytes, sizeof(bytes), 0);
}

static void check_range(struct memory *m)
{
    CHECK("user copy refuses what is not the user's",
          refused(m, LAYOUT_DIRECT_BASE, 16) && refused(m, LAYOUT_IMAGE_BASE, 1) &&
              refused(m, UINT64_C(1) << 47, 16) && refused(m, LAYOUT_USER_LEN, 1) &&
              refused(m, LAYOUT_USER_LEN - 8, 16) && refused(m, UINT64_MAX - 7, 16) &&
              refused(m, base.raw, UINT64_MAX));
    uint8_t byte = 0;
    uint64_t residue = 0;
    CHECK("user copy does not write where the user may not",
          mm_user_copy_out(&m->user, code, &byte, 1, &residue) == MM_ERR_FAULT && residue == 1 &&
              mm_user_copy_in(&m->user, &byte, code, 1, NULL) == MM_OK && byte == 0xc3);
}

// Each page faults in the middle of the copy, and the copy goes on.
static void check_across(struct memory *m)
{
    static uint8_t bytes[2 * MM_PAGE_SIZE];
    static uint8_t back[2 * MM_PAGE_SIZE];
    uint64_t faults = m->nr_user_faults;

    pattern(bytes, sizeof(bytes), 3);
    CHECK("a copy goes on after each fault that is resolved",
          mm_user_copy_out(&m->user, base, bytes, sizeof(bytes), NULL) == MM_OK &&
              m->nr_user_faults == faults + 2 &&
              mm_user_copy_in(&m->user, back, base, sizeof(back), NULL) == MM_OK &&
              is_pattern(back, sizeof(back), 3));
}

static void check_closed(struct memory *m)
{
    static const char after[] = "user memory is closed after faults";
    static const char during[] = "user memory is closed while a fault is handled";

    if (m->arch.enabled.smap) {
        CHECK(after, !left_open);
        CHECK(during, m->nr_user_faults > 0 && m->nr_open_handlers == 0);
    } else {
        check_skip(after, "the CPU has no SMAP");
        check_skip(during, "the CPU has no SMAP");
    }
}

// The code page is present and the user's: what stops the kernel is SMAP and SMEP alone.
static void check_supervisor(struct memory *m)
{
    static const char smap[] = "a stray load from user memory faults";
    static const char smep[] = "an execute of user memory faults";
    struct trap_report r;

    if (m->arch.enabled.smap) {
        CHECK(smap, probe_load(code, &r) && probe_is(&r, code, TRAP_PF_PRESENT));
    } else {
        check_skip(smap, "the CPU has no SMAP");
    }
    if (m->arch.enabled.smep) {
        CHECK(smep, probe_call(code, &r) && probe_is(&r, code, TRAP_PF_PRESENT | TRAP_PF_FETCH));
    } else {
        check_skip(smep, "the CPU has no SMEP");
    }
}

void checks_user(struct memory *m)
{
    struct mm_space *space = new_space(m);

    check_theme("user copy");
    check_across(m);
    check_residue(m);
    check_string(m);
    check_range(m);
    check_closed(m);
    check_supervisor(m);
    CHECK("the user's space is well formed", mm_space_check(space) == MM_OK);
    memory_enter(m, NULL);
    (void)mm_space_put(space);
}
