// SPDX-License-Identifier: MIT
//
// User copy over memory that is partly missing, partly forbidden, or not the user's at all.

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "cpu.h"
#include "layout.h"
#include "probe.h"

#define STRADDLE  64u // bytes on each side of the edge
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

// ---- words, structures, slices --------------------------------------------------------------------

// A word of which the first `good` bytes are there: all of it, or nothing.
static bool word_residue(struct memory *m, uint64_t good, uint64_t size)
{
    uint8_t bytes[8];
    uint8_t word[8];
    mm_vaddr_t at = mm_vaddr(missing.raw - good);
    mm_status_t want = good < size ? MM_ERR_FAULT : MM_OK;
    uint64_t there = good < size ? good : size;

    pattern(bytes, sizeof(bytes), 0x21);
    must(mm_user_copy_out(&m->user, at, bytes, there, NULL), "user memory");
    for (uint64_t i = 0; i < sizeof(word); i++) {
        word[i] = UNTOUCHED;
    }
    bool got = noted(mm_user_get(&m->user, word, at, size)) == want &&
               (want == MM_OK ? is_pattern(word, size, 0x21) : is_all(word, size, UNTOUCHED)) &&
               is_all(word + size, 8 - size, UNTOUCHED);
    pattern(word, sizeof(word), 0x61);
    return got && noted(mm_user_put(&m->user, at, word, size)) == want &&
           mm_user_copy_in(&m->user, bytes, at, there, NULL) == MM_OK &&
           is_pattern(bytes, there, want == MM_OK ? 0x61 : 0x21);
}

static bool words_at_each_byte(struct memory *m)
{
    for (uint64_t size = 1; size <= 8; size *= 2) {
        for (uint64_t good = 0; good <= size; good++) {
            if (!word_residue(m, good, size)) {
                return false;
            }
        }
    }
    return true;
}

static bool exchanges(struct memory *m)
{
    uint64_t word = 5;
    uint64_t found = 0;
    uint32_t found4 = 0;

    return mm_user_put(&m->user, base, &word, sizeof(word)) == MM_OK &&
           noted(mm_user_cmpxchg_u64(&m->user, base, 4, 9, &found)) == MM_OK && found == 5 &&
           noted(mm_user_cmpxchg_u64(&m->user, base, 5, 6, &found)) == MM_OK && found == 5 &&
           noted(mm_user_cmpxchg_u32(&m->user, base, 6, 7, &found4)) == MM_OK && found4 == 6 &&
           mm_user_get(&m->user, &word, base, sizeof(word)) == MM_OK && word == 7 &&
           noted(mm_user_cmpxchg_u32(&m->user, missing, 0, 1, &found4)) == MM_ERR_FAULT &&
           noted(mm_user_cmpxchg_u64(&m->user, missing, 0, 1, &found)) == MM_ERR_FAULT &&
           noted(mm_user_cmpxchg_u32(&m->user, code, 0, 1, &found4)) == MM_ERR_FAULT &&
           found == 5 && found4 == 6;
}

static bool words_refused(struct memory *m, uint64_t address)
{
    uint64_t word = 0;
    uint32_t word4 = 0;

    return mm_user_get(&m->user, &word, mm_vaddr(address), 8) == MM_ERR_INVALID_ADDRESS &&
           mm_user_put(&m->user, mm_vaddr(address), &word, 8) == MM_ERR_INVALID_ADDRESS &&
           mm_user_cmpxchg_u32(&m->user, mm_vaddr(address), 0, 1, &word4) ==
               MM_ERR_INVALID_ADDRESS &&
           mm_user_cmpxchg_u64(&m->user, mm_vaddr(address), 0, 1, &word) == MM_ERR_INVALID_ADDRESS;
}

static void check_words(struct memory *m)
{
    CHECK("a word across a missing page is fetched or stored whole, or not at all",
          words_at_each_byte(m));
    CHECK("a word is exchanged if it is what was expected, where it may be written", exchanges(m));
    CHECK("words of what is not the user's are refused",
          words_refused(m, LAYOUT_DIRECT_BASE) && words_refused(m, LAYOUT_IMAGE_BASE) &&
              words_refused(m, UINT64_C(1) << 47) && words_refused(m, LAYOUT_USER_LEN) &&
              words_refused(m, UINT64_MAX - 7));
}

struct request {
    uint32_t size;
    uint32_t kind;
    uint64_t value;
};

static mm_status_t only_kind_3(void *ctx, const void *structure)
{
    const struct request *request = structure;

    (void)ctx;
    return request->kind == 3 ? MM_OK : MM_ERR_PERMISSION_DENIED;
}

static void check_struct(struct memory *m)
{
    static const struct mm_user_struct kind = {
        .size = sizeof(struct request), .least = 8, .check = only_kind_3};
    struct request request = {.size = 8, .kind = 3, .value = 99};
    struct request got = {0};
    mm_vaddr_t at = mm_vaddr(missing.raw - 8);

    must(mm_user_copy_out(&m->user, at, &request, 8, NULL), "a structure");
    bool shorter = mm_user_sized_struct_in(&m->user, &kind, NULL, &got, at) == MM_OK &&
                   got.size == 8 && got.kind == 3 && got.value == 0;
    request.size = 9;
    must(mm_user_put(&m->user, at, &request.size, 4), "a structure");
    bool missing_part = mm_user_sized_struct_in(&m->user, &kind, NULL, &got, at) == MM_ERR_FAULT;
    bool bad =
        mm_user_put(&m->user, MM_USER_FIELD(at, struct request, kind), &request.size, 4) == MM_OK &&
        mm_user_struct_in(&m->user, &kind, NULL, &got, at, 8) == MM_ERR_PERMISSION_DENIED &&
        is_all((const uint8_t *)&got, sizeof(got), 0);
    CHECK("a structure is fetched in its version, and handed out only if it is good",
          shorter && missing_part && bad);
}

static void check_slice(struct memory *m)
{
    struct mm_user_slice slice;
    uint8_t bytes[STRADDLE];
    uint64_t residue = 0;
    uint32_t word = 0x11223344;
    uint32_t back = 0;

    must(mm_user_slice_open(&m->user, mm_vaddr(missing.raw - STRADDLE), UINT64_C(2) * STRADDLE,
                            MM_USER_RIGHTS_ALL, &slice),
         "a slice");
    bool good =
        mm_user_slice_clear(&slice, 0, STRADDLE, NULL) == MM_OK &&
        mm_user_slice_put(&slice, 5, &word, 4) == MM_OK &&
        mm_user_slice_get(&slice, &back, 5, 4) == MM_OK && back == word &&
        noted(mm_user_slice_copy_in(&slice, bytes, 3, STRADDLE, &residue)) == MM_ERR_FAULT &&
        residue == 3 && bytes[2] == 0x44 &&
        mm_user_slice_get(&slice, &back, STRADDLE - 2, 4) == MM_ERR_FAULT &&
        mm_user_slice_get(&slice, &back, 2 * STRADDLE - 2, 4) == MM_ERR_INVALID_SIZE;
    must(mm_user_slice_close(&slice), "a slice");
    CHECK("a slice is read and written within its bounds, until it is closed",
          good && mm_user_slice_get(&slice, &back, 5, 4) == MM_ERR_NOT_INITIALIZED);
}

// ---- accesses that must not sleep, and those from within a fault ------------------------------------

static uint64_t resident(struct mm_space *space)
{
    struct mm_space_stats s;
    must(mm_space_get_stats(space, &s), "statistics of a space");
    return s.resident_bytes;
}

// A page that nobody has touched is not made for who cannot wait for it.
static void check_nofault(struct memory *m, struct mm_space *space)
{
    uint64_t faults = m->nr_user_faults;
    uint64_t now = m->nr_nofault_faults;
    struct mm_space_request request = {.at = mm_vaddr(base.raw + MM_PAGE_SIZE),
                                       .len = MM_PAGE_SIZE,
                                       .prot = MM_PROT_RW,
                                       .flags = MM_SPACE_FIXED};
    mm_vaddr_t where;
    uint64_t before;
    uint64_t word = 1;
    uint32_t word4 = 1;
    uint8_t bytes[16] = {0};
    uint64_t residue = 0;
    mm_vaddr_t edge = mm_vaddr(base.raw + MM_PAGE_SIZE - 8);

    // The first page is there; the second is new, and nobody has touched it.
    must(mm_user_put(&m->user, base, &word, sizeof(word)), "user memory");
    must(mm_space_unmap(space, mm_vrange(request.at, MM_PAGE_SIZE)), "a lazy page");
    must(mm_space_map(space, &request, &where), "a lazy page");
    before = resident(space);
    bool none =
        noted(mm_user_copy_in(&m->user_now, bytes, edge, 16, &residue)) == MM_ERR_FAULT &&
        residue == 8 &&
        noted(mm_user_copy_out(&m->user_now, edge, bytes, 16, &residue)) == MM_ERR_FAULT &&
        residue == 8 && noted(mm_user_clear(&m->user_now, edge, 16, &residue)) == MM_ERR_FAULT &&
        residue == 8 &&
        noted(mm_user_get(&m->user_now, &word, mm_vaddr(edge.raw + 8), 8)) == MM_ERR_FAULT &&
        noted(mm_user_put(&m->user_now, mm_vaddr(edge.raw + 4), &word, 8)) == MM_ERR_FAULT &&
        noted(mm_user_cmpxchg_u32(&m->user_now, mm_vaddr(edge.raw + 8), 0, 1, &word4)) ==
            MM_ERR_FAULT &&
        resident(space) == before && m->nr_user_faults == faults && m->nr_nofault_faults >= now + 6;
    bool then = mm_user_get(&m->user, &word, mm_vaddr(edge.raw + 8), 8) == MM_OK && word == 0 &&
                mm_user_get(&m->user_now, &word, mm_vaddr(edge.raw + 8), 8) == MM_OK;
    CHECK("an access that must not sleep finds a lazy page missing, and one that is there", none);
    CHECK("what could not be reached without sleeping is reached with it", then);
}

// What the fault handler found when it looked at user memory itself.
static struct {
    uint64_t nr;
    uint64_t nr_good;
    uint64_t nr_open; // afterwards
} within;

static void look_from_within(struct memory *m)
{
    uint64_t word = 0;

    within.nr++;
    within.nr_good += mm_user_get(&m->user_now, &word, base, sizeof(word)) == MM_OK && word == 77 &&
                      mm_user_get(&m->user_now, &word, missing, 1) == MM_ERR_FAULT;
    within.nr_open += (cpu_rflags() & CPU_RFLAGS_AC) != 0;
}

// Copies that fault, whose handler makes accesses that fault: the outer one goes on, open as it was.
static void check_nested(struct memory *m)
{
    uint64_t word = 77;
    uint64_t residue = 0;
    uint8_t bytes[STRADDLE] = {0};

    must(mm_user_put(&m->user, base, &word, sizeof(word)), "user memory");
    m->on_user_fault = look_from_within;
    bool good =
        noted(mm_user_copy_in(&m->user, bytes, mm_vaddr(missing.raw - 20), STRADDLE, &residue)) ==
            MM_ERR_FAULT &&
        residue == STRADDLE - 20 &&
        noted(mm_user_copy_out(&m->user, mm_vaddr(missing.raw - 20), bytes, STRADDLE, &residue)) ==
            MM_ERR_FAULT &&
        residue == STRADDLE - 20 && noted(mm_user_get(&m->user, &word, missing, 8)) == MM_ERR_FAULT;
    m->on_user_fault = NULL;
    CHECK("a fault handler may look at user memory, and the copy that faulted goes on",
          good && within.nr >= 5 && within.nr_good == within.nr && within.nr_open == 0);
}

// The kernel's stores break copy-on-write as the user's do (CR0.WP); those that must not sleep leave
// it alone.
static void check_cow(struct memory *m, struct mm_space *space)
{
    struct mm_space *child;
    uint64_t word = 41;
    uint64_t found = 0;
    uint64_t was = 0;
    mm_vaddr_t second = mm_vaddr(base.raw + MM_PAGE_SIZE);

    must(mm_user_put(&m->user, base, &word, 8), "user memory");
    must(mm_user_put(&m->user, second, &word, 8), "user memory");
    must(mm_space_clone(space, &child), "a clone");
    word = 42;
    bool kept = noted(mm_user_put(&m->user_now, base, &word, 8)) == MM_ERR_FAULT &&
                noted(mm_user_cmpxchg_u64(&m->user_now, base, 41, 42, &found)) == MM_ERR_FAULT &&
                mm_user_get(&m->user_now, &was, base, 8) == MM_OK && was == 41;
    bool broken = mm_user_put(&m->user, base, &word, 8) == MM_OK &&
                  mm_user_cmpxchg_u64(&m->user, second, 41, 43, &found) == MM_OK && found == 41;
    memory_enter(m, child);
    bool apart = mm_user_get(&m->user, &was, base, 8) == MM_OK && was == 41 &&
                 mm_user_get(&m->user, &was, second, 8) == MM_OK && was == 41;
    memory_enter(m, space);
    broken = broken && mm_user_get(&m->user, &was, base, 8) == MM_OK && was == 42 &&
             mm_user_get(&m->user, &was, second, 8) == MM_OK && was == 43;
    (void)mm_space_put(child);
    CHECK("a store of the kernel's that must not sleep finds a shared page read-only", kept);
    CHECK("words that the kernel stores or exchanges do not reach a clone", broken && apart);
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
    check_words(m);
    check_struct(m);
    check_slice(m);
    check_nofault(m, space);
    check_nested(m);
    check_cow(m, space);
    check_closed(m);
    check_supervisor(m);
    CHECK("the user's space is well formed", mm_space_check(space) == MM_OK);
    memory_enter(m, NULL);
    (void)mm_space_put(space);
}
