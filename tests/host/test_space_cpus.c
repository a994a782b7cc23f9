// SPDX-License-Identifier: MIT
/**
 * Spaces that several CPUs are in at once: what one of them changes, all of them see, and nothing
 * that was taken away is reached through what another has cached (hazards 13, 22). And the kernel's
 * own accesses to user memory, through the same MMU: user copy with SMAP, copy-on-write by a kernel
 * store, and what CR0.WP is for (hazards 31, 32).
 */
#include "space_fixture.h"

#include <mm/user.h>

#define AT (32 * PAGE)

static struct fixture *fixture; /* for the user-copy routines, which have no context */
static struct mm_space *current;

static int start(void **state)
{
    static const struct t_machine_config machine = {.nr_cpus = 3};

    fixture = fixture_start(&machine);
    *state = fixture;
    return 0;
}

static int stop(void **state)
{
    fixture_stop(*state);
    return 0;
}

/* After a call that was left half-way nothing can be taken down, only thrown away. */
static int abandon(void **state)
{
    struct fixture *f = *state;

    t_ram_delete(f->m.ram);
    free(f->m.pool_buffer);
    free(f->m.held);
    free(f);
    return 0;
}

/* All CPUs in the space, each with the page cached as it is used. */
static void all_use(struct fixture *f, struct mm_space *space, uint64_t at, unsigned access)
{
    uint64_t *p;

    for (unsigned i = f->m.cpus.nr; i-- > 0;) {
        f->m.cpus.now = i;
        assert_true(touch(f, space, at, access, &p));
    }
}

/* A clone takes the right to write from every CPU: none stores into the page that is shared. */
static void test_clone_narrows_every_cpu(void **state)
{
    struct fixture *f = *state;
    struct mm_space *parent = new_space(f);
    struct mm_space *child;

    assert_int_equal(map_at(parent, AT, PAGE, RW, 0), MM_OK);
    assert_true(store(f, parent, AT, 1));
    all_use(f, parent, AT, T_MMU_USER | T_MMU_WRITE);
    child = clone_of(parent);
    nothing_stale(f);
    for (unsigned i = f->m.cpus.nr; i-- > 0;) {
        uint64_t paddr = 0;

        assert_int_equal(t_cpu_access(&f->m.cpus.cpu[i], AT, T_MMU_USER | T_MMU_WRITE, &paddr),
                         T_MMU_ERR_P | T_MMU_ERR_W | T_MMU_ERR_U);
    }
    assert_true(store(f, parent, AT, 2));
    nothing_stale(f);
    f->m.cpus.now = 1;
    assert_int_equal(loaded(f, parent, AT), 2);
    f->m.cpus.now = 2;
    assert_int_equal(loaded(f, child, AT), 1);
    put_last(f, child);
    put_last(f, parent);
}

/* When one CPU's store gets a copy, the others read the copy, not the page before it. */
static void test_copy_is_seen_by_every_cpu(void **state)
{
    struct fixture *f = *state;
    struct mm_space *parent = new_space(f);
    struct mm_space *child;
    uint64_t old;

    assert_int_equal(map_at(parent, AT, PAGE, RW, 0), MM_OK);
    assert_true(store(f, parent, AT, 1));
    child = clone_of(parent);
    old = frame_at(parent, AT);
    all_use(f, parent, AT, T_MMU_USER);
    assert_true(store(f, parent, AT, 2));
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_not_equal(frame_at(parent, AT), old);
    assert_null(t_cpus_holds(&f->m.cpus, old << 12, PAGE));
    for (unsigned i = 0; i < f->m.cpus.nr; i++) {
        f->m.cpus.now = i;
        assert_int_equal(loaded(f, parent, AT), 2);
    }
    f->m.cpus.now = 1;
    assert_int_equal(loaded(f, child, AT), 1);
    nothing_stale(f);
    put_last(f, parent);
    put_last(f, child);
}

/* Pages that are taken away, with the tables that led to them, and given to another space. */
static void test_reuse_after_unmap(void **state)
{
    struct fixture *f = *state;
    struct mm_space *a = new_space(f);
    struct mm_space *b = new_space(f);

    for (unsigned round = 0; round < 8; round++) {
        assert_int_equal(map_at(a, AT, 40 * PAGE, RW, 0), MM_OK);
        for (uint64_t n = 0; n < 40; n += 3) {
            assert_true(store(f, a, AT + n * PAGE, n));
            all_use(f, a, AT + n * PAGE, T_MMU_USER | T_MMU_WRITE);
        }
        run_in(f, a);
        assert_int_equal(unmap(a, AT, round % 2 == 0 ? PAGE : 40 * PAGE), MM_OK);
        nothing_stale(f);
        f->m.cpus.now = 1;
        assert_int_equal(map_at(b, AT, 40 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
        f->m.cpus.now = 2;
        assert_false(touch(f, a, AT, T_MMU_USER, &(uint64_t *){NULL}));
        assert_int_equal(unmap(a, AT, 40 * PAGE), MM_OK);
        f->m.cpus.now = 1;
        assert_int_equal(loaded(f, b, AT + 3 * PAGE), 0);
        assert_int_equal(unmap(b, AT, 40 * PAGE), MM_OK);
        nothing_stale(f);
    }
    put_last(f, a);
    put_last(f, b);
}

/* The same without the interrupt: the simulator sees what a kernel that forgets it would do. */
static void test_no_broadcast_is_seen(void **state)
{
    struct fixture *f = *state;
    struct mm_space *s = new_space(f);
    struct t_trap_info info;
    const char *wrong;

    f->m.arch.ops = &t_cpu_ops;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT, 1));
    assert_true(store(f, s, AT + PAGE, 1));
    all_use(f, s, AT, T_MMU_USER | T_MMU_WRITE);
    assert_int_equal(protect(s, AT, PAGE, MM_PROT_READ), MM_OK);
    wrong = t_cpus_sweep(&f->m.cpus, T_SWEEP_SAFE);
    assert_non_null(wrong);
    assert_non_null(strstr(wrong, "CPU 1, PCID 0"));
    assert_non_null(strstr(wrong, "gives a right that is gone"));
    for (unsigned i = 0; i < f->m.cpus.nr; i++) {
        t_cpu_drop_all(&f->m.cpus.cpu[i]);
    }
    all_use(f, s, AT + PAGE, T_MMU_USER);
    T_EXPECT_PANIC(assert_int_equal(unmap(s, AT + PAGE, PAGE), MM_OK), &info);
    assert_string_equal(info.room, "cpu");
}

/* --- user copy through the MMU --------------------------------------------------------------- */

/* One access by the kernel with EFLAGS.AC set, as between STAC and CLAC; faults go to the space. */
static unsigned char *user_byte(uint64_t at, unsigned access)
{
    struct t_cpu *cpu = &fixture->m.cpus.cpu[fixture->m.cpus.now];
    enum mm_fault_result result;
    uint64_t paddr = 0;
    uint32_t error;

    while ((error = t_cpu_access(cpu, at, access | T_MMU_AC, &paddr)) != T_CPU_DONE) {
        struct mm_fault fault = mm_x86_64_fault(error, at);

        assert_int_equal(error & T_MMU_ERR_U, 0);
        assert_int_equal(mm_space_fault(current, &fault, &result), MM_OK);
        if (result > MM_FAULT_COW) {
            return NULL;
        }
    }
    return t_machine_ptr(&fixture->m, paddr);
}

static uint64_t sim_copy_in(void *to, uint64_t from, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++) {
        const unsigned char *p = user_byte(from + i, 0);

        if (p == NULL) {
            return len - i;
        }
        ((unsigned char *)to)[i] = *p;
    }
    return 0;
}

static uint64_t sim_copy_out(uint64_t to, const void *from, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++) {
        unsigned char *p = user_byte(to + i, T_MMU_WRITE);

        if (p == NULL) {
            return len - i;
        }
        *p = ((const unsigned char *)from)[i];
    }
    return 0;
}

static uint64_t sim_clear(uint64_t to, uint64_t len)
{
    static const unsigned char zero;

    for (uint64_t i = 0; i < len; i++) {
        if (sim_copy_out(to + i, &zero, 1) != 0) {
            return len - i;
        }
    }
    return 0;
}

static uint64_t sim_string_in(char *to, uint64_t from, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++) {
        if (sim_copy_in(to + i, from + i, 1) != 0) {
            return UINT64_MAX;
        }
        if (to[i] == 0) {
            return i;
        }
    }
    return len;
}

/* Words, by one access to each page that they are on; the simulated CPUs take turns. */
#define SIM_WORD(type)                                                                             \
    static mm_status_t sim_get_##type(void *to, uint64_t from)                                     \
    {                                                                                              \
        type value;                                                                                \
                                                                                                   \
        if (sim_copy_in(&value, from, sizeof(value)) != 0) {                                       \
            return MM_ERR_FAULT;                                                                   \
        }                                                                                          \
        memcpy(to, &value, sizeof(value));                                                         \
        return MM_OK;                                                                              \
    }                                                                                              \
                                                                                                   \
    static mm_status_t sim_put_##type(uint64_t to, const void *from)                               \
    {                                                                                              \
        bool there = user_byte(to, T_MMU_WRITE) != NULL &&                                         \
                     user_byte(to + sizeof(type) - 1, T_MMU_WRITE) != NULL;                        \
                                                                                                   \
        return there && sim_copy_out(to, from, sizeof(type)) == 0 ? MM_OK : MM_ERR_FAULT;          \
    }
#define SIM_EXCHANGE(type)                                                                         \
    static mm_status_t sim_cmpxchg_##type(uint64_t at, uint64_t expected, uint64_t desired,        \
                                          void *found)                                             \
    {                                                                                              \
        type there;                                                                                \
        type next = (type)desired;                                                                 \
                                                                                                   \
        if (user_byte(at, T_MMU_WRITE) == NULL || sim_get_##type(&there, at) != MM_OK) {           \
            return MM_ERR_FAULT;                                                                   \
        }                                                                                          \
        memcpy(found, &there, sizeof(there));                                                      \
        return there == (type)expected ? sim_put_##type(at, &next) : MM_OK;                        \
    }
SIM_WORD(uint8_t)
SIM_WORD(uint16_t)
SIM_WORD(uint32_t)
SIM_WORD(uint64_t)
SIM_EXCHANGE(uint32_t)
SIM_EXCHANGE(uint64_t)

static const struct mm_user_ops sim_user_ops = {
    .copy_in = sim_copy_in,
    .copy_out = sim_copy_out,
    .clear = sim_clear,
    .string_in = sim_string_in,
    .get = {sim_get_uint8_t, sim_get_uint16_t, sim_get_uint32_t, sim_get_uint64_t},
    .put = {sim_put_uint8_t, sim_put_uint16_t, sim_put_uint32_t, sim_put_uint64_t},
    .cmpxchg = {sim_cmpxchg_uint32_t, sim_cmpxchg_uint64_t},
};

/* A store by the kernel breaks copy-on-write as the user's own does, on each CPU; lazy memory comes
 * as it is needed; and at each edge the residue is exact. */
static void test_user_copy_through_the_mmu(void **state)
{
    struct fixture *f = *state;
    struct mm_space *parent = new_space(f);
    struct mm_space *child;
    static const struct mm_user_struct kind = {.size = 32, .least = 8};
    struct mm_user user;
    struct mm_user_slice slice;
    unsigned char buffer[64];
    uint64_t residue = 7;
    uint64_t len = 0;
    uint64_t word = 1;

    assert_int_equal(mm_user_init(&user, &sim_user_ops, mm_space_range(parent)), MM_OK);
    assert_int_equal(map_at(parent, AT, 2 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(parent, AT + 2 * PAGE, PAGE, MM_PROT_READ, 0), MM_OK);
    all_use(f, parent, AT, T_MMU_USER | T_MMU_WRITE);
    current = parent;
    f->m.cpus.now = 1;
    assert_int_equal(mm_user_copy_out(&user, mm_vaddr(AT + PAGE - 3), "hello", 6, &residue), MM_OK);
    assert_int_equal(residue, 0);
    child = clone_of(parent);
    nothing_stale(f);
    f->m.cpus.now = 2; /* a CPU that has stored there before */
    assert_int_equal(mm_user_copy_out(&user, mm_vaddr(AT + PAGE - 3), "HELLO", 6, NULL), MM_OK);
    nothing_stale(f);
    assert_int_equal(mm_user_string_in(&user, (char *)buffer, mm_vaddr(AT + PAGE - 3), 64, &len),
                     MM_OK);
    assert_int_equal(len, 5);
    assert_string_equal((char *)buffer, "HELLO");
    /* Words as well; an exchange that is not made stores nothing, and the clone keeps what it has. */
    assert_int_equal(mm_user_get(&user, &word, mm_vaddr(AT + 8), sizeof(word)), MM_OK);
    assert_int_equal(word, 0);
    f->m.cpus.now = 0;
    word = 5;
    assert_int_equal(mm_user_put(&user, mm_vaddr(AT + PAGE - 4), &word, sizeof(word)), MM_OK);
    assert_int_equal(mm_user_cmpxchg_u64(&user, mm_vaddr(AT + 16), 1, 7, &word), MM_OK);
    assert_int_equal(word, 0);
    assert_int_equal(mm_user_cmpxchg_u64(&user, mm_vaddr(AT + 16), 0, 7, &word), MM_OK);
    assert_int_equal(mm_user_put(&user, mm_vaddr(AT + 2 * PAGE - 4), &word, sizeof(word)),
                     MM_ERR_FAULT);
    nothing_stale(f);
    /* A structure on a lazy page and a shared one, and a slice over both; then a page that forbids. */
    assert_int_equal(
        mm_user_slice_open(&user, mm_vaddr(AT + PAGE - 32), 2 * PAGE, MM_USER_RIGHTS_ALL, &slice),
        MM_OK);
    assert_int_equal(mm_user_slice_clear(&slice, 0, 40, NULL), MM_OK);
    word = 48;
    assert_int_equal(mm_user_slice_put(&slice, 16, &word, sizeof(word)), MM_OK);
    assert_int_equal(mm_user_sized_struct_in(&user, &kind, NULL, buffer, mm_vaddr(AT + PAGE - 16)),
                     MM_OK);
    assert_int_equal(buffer[0], 48);
    assert_int_equal(mm_user_slice_copy_out(&slice, PAGE + 20, buffer, 32, &residue), MM_ERR_FAULT);
    assert_int_equal(residue, 20);
    assert_int_equal(mm_user_slice_get(&slice, &word, PAGE + 28, sizeof(word)), MM_OK);
    assert_int_equal(mm_user_slice_put(&slice, PAGE + 28, &word, sizeof(word)), MM_ERR_FAULT);
    assert_int_equal(mm_user_slice_close(&slice), MM_OK);
    nothing_stale(f);
    /* The end of what may be written, byte by byte. */
    for (uint64_t off = 1; off < 16; off++) {
        assert_int_equal(
            mm_user_clear(&user, mm_vaddr(AT + 2 * PAGE - off), sizeof(buffer), &residue),
            MM_ERR_FAULT);
        assert_int_equal(residue, sizeof(buffer) - off);
        assert_int_equal(
            mm_user_copy_in(&user, buffer, mm_vaddr(AT + 3 * PAGE - off), 16, &residue),
            MM_ERR_FAULT);
        assert_int_equal(residue, 16 - off);
    }
    assert_int_equal(mm_space_activate(child), MM_OK);
    current = child;
    assert_int_equal(mm_user_copy_in(&user, buffer, mm_vaddr(AT + PAGE - 3), 6, NULL), MM_OK);
    assert_string_equal((char *)buffer, "hello");
    assert_int_equal(mm_user_get(&user, &word, mm_vaddr(AT + 16), sizeof(word)), MM_OK);
    assert_int_equal(word, 0);
    nothing_stale(f);
    put_last(f, child);
    put_last(f, parent);
}

/* With CR0.WP off a kernel store passes a read-only leaf, and the clone would see it. */
static void test_write_protection_is_what_stops_the_kernel(void **state)
{
    struct fixture *f = *state;
    struct mm_space *parent = new_space(f);
    struct mm_space *child;
    unsigned access = T_MMU_WRITE | T_MMU_AC;
    struct t_cpu *cpu = f->m.cpu;
    uint64_t paddr = 0;

    assert_true((cpu->mmu.cr0 & T_MMU_CR0_WP) != 0);
    assert_int_equal(map_at(parent, AT, PAGE, RW, 0), MM_OK);
    assert_true(store(f, parent, AT, 1));
    child = clone_of(parent);
    assert_int_equal(t_cpu_access(cpu, AT, access, &paddr), T_MMU_ERR_P | T_MMU_ERR_W);
    cpu->mmu.cr0 &= ~T_MMU_CR0_WP;
    assert_int_equal(t_cpu_access(cpu, AT, access, &paddr), T_CPU_DONE);
    assert_int_equal(paddr >> 12, frame_at(child, AT)); /* shared: that is the fault */
    cpu->mmu.cr0 |= T_MMU_CR0_WP;
    assert_int_equal(t_cpu_access(cpu, AT, access, &paddr), T_MMU_ERR_P | T_MMU_ERR_W);
    put_last(f, child);
    put_last(f, parent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_clone_narrows_every_cpu, start, stop),
        cmocka_unit_test_setup_teardown(test_copy_is_seen_by_every_cpu, start, stop),
        cmocka_unit_test_setup_teardown(test_reuse_after_unmap, start, stop),
        cmocka_unit_test_setup_teardown(test_no_broadcast_is_seen, start, abandon),
        cmocka_unit_test_setup_teardown(test_user_copy_through_the_mmu, start, stop),
        cmocka_unit_test_setup_teardown(test_write_protection_is_what_stops_the_kernel, start,
                                        stop),
    };

    return cmocka_run_group_tests_name("space_cpus", tests, NULL, NULL);
}
