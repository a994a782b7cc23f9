// SPDX-License-Identifier: MIT
/**
 * Random calls against a flat model: a few pages, some missing, some read-only, some lazy, whose
 * bytes and rights the model has in arrays. It says what every call answers, how many bytes it
 * leaves, and what every byte is then.
 */
#define _GNU_SOURCE
#include "prng.h"
#include "user_rig.h"

#include <stdlib.h>

#define NR_PAGES 6u
#define SPACE    (NR_PAGES * PAGE)

enum page_kind { MISSING, READ_ONLY, WRITABLE, LAZY };

static struct {
    uint8_t *base; /* user memory; one missing page on each side */
    enum page_kind kinds[NR_PAGES];
    uint8_t bytes[SPACE]; /* what is there, by the model */
    struct t_prng prng;
    const struct flavour *flavour;
    struct mm_user user;
    uint64_t nr_ok, nr_fault;
} m;

static bool on_random_fault(void *ctx, void *ucontext, uint64_t address, uint64_t error)
{
    ucontext_t *context = ucontext;
    uint64_t rip = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    uint64_t page = (address - mm_vaddr_of(m.base).raw) / PAGE;
    uint64_t resume = 0;

    (void)ctx;
    (void)error;
    if (mm_x86_64_user_fixup_nofault(rip, &resume)) {
        context->uc_mcontext.gregs[REG_RIP] = (greg_t)resume;
        return true;
    }
    if (!mm_x86_64_user_fixup(rip, &resume)) {
        return false;
    }
    if (page < NR_PAGES && m.kinds[page] == LAZY) {
        (void)mprotect(m.base + page * PAGE, PAGE, PROT_READ | PROT_WRITE);
        m.kinds[page] = WRITABLE;
    } else {
        context->uc_mcontext.gregs[REG_RIP] = (greg_t)resume;
    }
    return true;
}

/* Bytes of which one in 40 or so is a terminator. */
static void random_bytes(uint8_t *to, uint64_t len)
{
    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t word = t_prng_u64(&m.prng);

        memcpy(to + i, &word, len - i < 8 ? len - i : 8);
        if (t_prng_chance(&m.prng, 1, 5)) {
            to[i] = 0;
        }
    }
}

static void change_page(void)
{
    unsigned page = (unsigned)t_prng_below(&m.prng, NR_PAGES);
    enum page_kind kind = (enum page_kind)t_prng_below(&m.prng, 4);
    uint8_t *at = m.base + page * PAGE;

    (void)mprotect(at, PAGE, PROT_READ | PROT_WRITE);
    random_bytes(at, PAGE);
    memcpy(m.bytes + page * PAGE, at, PAGE);
    m.kinds[page] = kind;
    (void)mprotect(at, PAGE,
                   kind == WRITABLE    ? PROT_READ | PROT_WRITE
                   : kind == READ_ONLY ? PROT_READ
                                       : PROT_NONE);
}

/* How many of these bytes can be reached, from the first on. */
static uint64_t reach(uint64_t at, uint64_t len, bool write)
{
    for (uint64_t i = 0; i < len; i++) {
        uint64_t page = (at + i) / PAGE;
        enum page_kind kind = page < NR_PAGES ? m.kinds[page] : MISSING;

        if (kind == MISSING || (kind == READ_ONLY && write) ||
            (kind == LAZY && m.flavour->nofault)) {
            return i;
        }
    }
    return len;
}

static mm_status_t status_of(uint64_t got, uint64_t len)
{
    m.nr_ok += got == len ? 1 : 0;
    m.nr_fault += got == len ? 0 : 1;
    return got == len ? MM_OK : MM_ERR_FAULT;
}

static uint64_t random_len(void)
{
    uint64_t dice = t_prng_below(&m.prng, 8);

    return dice < 4   ? t_prng_below(&m.prng, 70)
           : dice < 6 ? t_prng_below(&m.prng, 700)
                      : t_prng_below(&m.prng, 3 * PAGE);
}

/* Near the edge of a page more often than not. */
static uint64_t random_at(uint64_t len)
{
    uint64_t edge = (1 + t_prng_below(&m.prng, NR_PAGES)) * PAGE;
    uint64_t back = t_prng_below(&m.prng, len + 16);

    return t_prng_chance(&m.prng, 3, 4) && back <= edge ? edge - back
                                                        : t_prng_below(&m.prng, SPACE);
}

static uint8_t kernel[3 * PAGE + 64];
static uint8_t expected[3 * PAGE + 64];

static void op_copy(unsigned op, uint64_t at, uint64_t len)
{
    mm_vaddr_t va = mm_vaddr(mm_vaddr_of(m.base).raw + at);
    uint64_t got = reach(at, len, op != 0);
    mm_status_t want = status_of(got, len);
    uint64_t residue = 1;
    struct mm_user_slice slice;
    bool sliced = t_prng_chance(&m.prng, 1, 3);
    uint64_t offset = t_prng_below(&m.prng, 100);

    random_bytes(kernel, len + 64);
    memcpy(expected, kernel, len + 64);
    assert_int_equal(
        mm_user_slice_open(&m.user, mm_vaddr(va.raw - offset), offset + len, 3, &slice), MM_OK);
    switch (op) {
    case 0:
        memcpy(expected + 32, m.bytes + (got == 0 ? 0 : at), got);
        assert_int_equal(sliced ? mm_user_slice_copy_in(&slice, kernel + 32, offset, len, &residue)
                                : mm_user_copy_in(&m.user, kernel + 32, va, len, &residue),
                         want);
        break;
    case 1:
        memcpy(m.bytes + (got == 0 ? 0 : at), kernel + 32, got);
        assert_int_equal(sliced ? mm_user_slice_copy_out(&slice, offset, kernel + 32, len, &residue)
                                : mm_user_copy_out(&m.user, va, kernel + 32, len, &residue),
                         want);
        break;
    default:
        memset(m.bytes + (got == 0 ? 0 : at), 0, got);
        assert_int_equal(sliced ? mm_user_slice_clear(&slice, offset, len, &residue)
                                : mm_user_clear(&m.user, va, len, &residue),
                         want);
        break;
    }
    assert_int_equal(residue, len - got);
    assert_memory_equal(kernel, expected, len + 64);
}

static void op_string(uint64_t at, uint64_t size)
{
    mm_vaddr_t va = mm_vaddr(mm_vaddr_of(m.base).raw + at);
    uint64_t there = reach(at, size, false);
    uint64_t end = 0;
    uint64_t len = UINT64_MAX;
    mm_status_t want;

    if (size == 0) {
        return;
    }
    while (end < there && m.bytes[at + end] != 0) {
        end++;
    }
    want = end < there ? MM_OK : there == size ? MM_ERR_LIMIT : MM_ERR_FAULT;
    memset(kernel, CANARY, size + 64);
    assert_int_equal(mm_user_string_in(&m.user, (char *)kernel + 32, va, size, &len), want);
    if (want == MM_OK) {
        assert_int_equal(len, end);
        assert_memory_equal(kernel + 32, m.bytes + at, end + 1);
        assert_true(all_are(kernel + 32 + end + 1, CANARY, size - end - 1 + 32));
    } else {
        assert_int_equal(len, UINT64_MAX);
        assert_true(all_are(kernel + 32 + size, CANARY, 32));
    }
    assert_true(all_are(kernel, CANARY, 32));
}

static void op_word(unsigned op, uint64_t at)
{
    uint64_t size = UINT64_C(1) << t_prng_below(&m.prng, 4);
    mm_vaddr_t va = mm_vaddr(mm_vaddr_of(m.base).raw + at);
    mm_status_t want = status_of(reach(at, size, op != 0), size);
    uint64_t word = t_prng_u64(&m.prng);
    uint64_t before = word;

    if (op == 0) {
        assert_int_equal(mm_user_get(&m.user, &word, va, size), want);
        assert_memory_equal(&word, want == MM_OK ? (void *)(m.bytes + at) : (void *)&before, size);
        assert_true(size == 8 || word >> (8 * size) == before >> (8 * size));
    } else {
        assert_int_equal(mm_user_put(&m.user, va, &word, size), want);
        if (want == MM_OK) {
            memcpy(m.bytes + at, &word, size);
        }
    }
}

static void op_exchange(uint64_t at)
{
    mm_vaddr_t va = mm_vaddr(mm_vaddr_of(m.base).raw + (at & ~UINT64_C(7)));
    uint64_t desired = t_prng_u64(&m.prng);
    uint64_t there = 0;
    uint64_t found = 3;
    uint32_t found4 = 3;
    mm_status_t want;

    at &= ~UINT64_C(7);
    want = status_of(reach(at, 8, true), 8);
    if (want == MM_OK) {
        memcpy(&there, m.bytes + at, 8);
    }
    there ^= t_prng_chance(&m.prng, 1, 2) ? 0 : UINT64_C(1) << t_prng_below(&m.prng, 64);
    if (t_prng_chance(&m.prng, 1, 2)) {
        assert_int_equal(mm_user_cmpxchg_u64(&m.user, va, there, desired, &found), want);
        assert_true(want == MM_OK ? memcmp(&found, m.bytes + at, 8) == 0 : found == 3);
        if (want == MM_OK && found == there) {
            memcpy(m.bytes + at, &desired, 8);
        }
    } else {
        assert_int_equal(
            mm_user_cmpxchg_u32(&m.user, va, (uint32_t)there, (uint32_t)desired, &found4), want);
        assert_true(want == MM_OK ? memcmp(&found4, m.bytes + at, 4) == 0 : found4 == 3);
        if (want == MM_OK && found4 == (uint32_t)there) {
            memcpy(m.bytes + at, &desired, 4);
        }
    }
}

static void op_struct(uint64_t at)
{
    const struct mm_user_struct kind = {.size = 1 + t_prng_below(&m.prng, 100), .least = 1};
    uint64_t size = 1 + t_prng_below(&m.prng, 200);
    uint64_t len = size < kind.size ? size : kind.size;
    mm_vaddr_t va = mm_vaddr(mm_vaddr_of(m.base).raw + at);
    bool there = reach(at, size, false) == size;
    bool fits = true;
    mm_status_t answer;

    for (uint64_t i = len; there && i < size; i++) {
        fits = fits && m.bytes[at + i] == 0;
    }
    memset(kernel, CANARY, sizeof(kernel));
    answer = mm_user_struct_in(&m.user, &kind, NULL, kernel, va, size);
    assert_true(all_are(kernel + kind.size, CANARY, 32));
    if (there && fits) {
        assert_int_equal(answer, MM_OK);
        assert_memory_equal(kernel, m.bytes + at, len);
        assert_true(all_are(kernel + len, 0, kind.size - len));
    } else {
        /* What is missing and what does not fit may both be so: it sees one of them first. */
        assert_true(answer == MM_ERR_FAULT ? !there
                                           : answer == MM_ERR_UNSUPPORTED && size > kind.size);
        assert_true(all_are(kernel, 0, kind.size));
    }
}

static void check_memory(void)
{
    for (unsigned page = 0; page < NR_PAGES; page++) {
        uint8_t *at = m.base + page * PAGE;
        bool hidden = m.kinds[page] == MISSING || m.kinds[page] == LAZY;

        if (hidden) {
            (void)mprotect(at, PAGE, PROT_READ);
        }
        assert_memory_equal(at, m.bytes + page * PAGE, PAGE);
        if (hidden) {
            (void)mprotect(at, PAGE, PROT_NONE);
        }
    }
}

static void run(const struct flavour *flavour, uint64_t nr_ops)
{
    m.flavour = flavour;
    m.user = lower_half(flavour->ops);
    m.nr_ok = m.nr_fault = 0;
    for (unsigned i = 0; i < 4 * NR_PAGES; i++) {
        change_page();
    }
    for (uint64_t i = 0; i < nr_ops; i++) {
        unsigned op = (unsigned)t_prng_below(&m.prng, 8);
        uint64_t len = op < 4 ? random_len() : 8;
        uint64_t at = random_at(len);

        if (op < 3) {
            op_copy(op, at, len);
        } else if (op == 3) {
            op_string(at, len);
        } else if (op < 6) {
            op_word(op - 4, at);
        } else if (op == 6) {
            op_exchange(at);
        } else {
            op_struct(at);
        }
        assert_false(machine.ac);
        if (t_prng_chance(&m.prng, 1, 4)) {
            change_page();
        }
        if (i % 64 == 0) {
            check_memory();
        }
    }
    check_memory();
    assert_true(m.nr_ok > nr_ops / 10 && m.nr_fault > nr_ops / 10);
}

static void test_random(void **state)
{
    uint64_t nr_ops = MM_TEST_SANITIZED ? 5000 : 50000;

    (void)state;
    nr_ops *= getenv("MM_TEST_FULL") != NULL ? 20 : 1;
    t_prng_start(&m.prng, "user random");
    for (size_t i = 0; i < NR_FLAVOURS; i++) {
        use_smap(flavours[i].smap);
        /* Each instruction that opens or closes is a signal here. */
        run(&flavours[i], flavours[i].smap ? nr_ops / 5 : nr_ops);
    }
    use_smap(false);
}

static int start(void **state)
{
    uint8_t *base;

    (void)state;
    memset(&machine, 0, sizeof(machine));
    base =
        mmap(NULL, (size_t)SPACE + (size_t)4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return -1;
    }
    m.base = base + PAGE;
    t_trap_set_fixup(on_random_fault, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    t_trap_set_fixup(NULL, NULL);
    return munmap(m.base - PAGE, (size_t)SPACE + (size_t)4 * PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

    return cmocka_run_group_tests(tests, start, stop);
}
