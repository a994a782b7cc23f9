// SPDX-License-Identifier: MIT
/**
 * Pairs of roots: from the one for user mode nothing of the kernel's is reached but the entry
 * ranges, and both see the same of the user's, after whatever was done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_paging.h"

#include <mm/paging_audit.h>

#define ENTRY_A (T_KERNEL_TOP + 16 * P2M) /* in a root entry that the image has as well */
#define ENTRY_B (T_KERNEL_LOW + 5 * P1G)
#define LEN     (16 * P4K)

struct fixture {
    struct t_paging *m; /* its kernel root is for pairs, its user root a pair */
    struct mm_pagetable entry;
    struct mm_pagetable other; /* a second pair */
    bool nx;
};

static struct mm_paging_config pair_config(struct t_paging *m)
{
    struct mm_paging_config config = t_config(m);

    config.flags = MM_PAGING_PAIRS;
    return config;
}

static const struct mm_vrange entries[] = {{{ENTRY_A}, LEN}, {{ENTRY_B}, LEN}};

static void start(struct fixture *f, bool nx)
{
    struct t_paging *m = t_paging_new();
    struct mm_paging_config config;

    f->m = m;
    f->nx = nx;
    m->cpus.has.nx = nx;
    t_paging_arch(m);
    config = pair_config(m);
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_entry(&f->entry, &m->kernel, entries, 2), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    assert_int_equal(mm_paging_init_user(&f->other, &m->kernel), MM_OK);
    assert_int_equal(mm_paging_activate(&m->kernel), MM_OK);
    /* A kernel with a direct map and an image; some of the image, and a stack, on the way in. */
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, 0, 3 * P1G, MM_PROT_RW | MM_PROT_GLOBAL),
                     MM_OK);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_TOP, 4 * P1G, 40 * P2M, MM_PROT_READ), MM_OK);
    assert_int_equal(t_map(&m->kernel, ENTRY_B, 5 * P1G, 2 * P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(
        t_map(&f->entry, ENTRY_A, 4 * P1G + 16 * P2M, 3 * P4K, MM_PROT_READ | MM_PROT_GLOBAL),
        MM_OK);
    /* Later than the user roots were made: it is theirs all the same. */
    assert_int_equal(t_map(&f->entry, ENTRY_B, 5 * P1G, 2 * P4K, MM_PROT_RW), MM_OK);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    start(f, true);
    *state = f;
    return 0;
}

static int setup_without_nx(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    start(f, false);
    *state = f;
    return 0;
}

/* Users, then the entry root, then the kernel's. */
static int teardown(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;

    t_cpu_write_cr(m->cpu, 3, T_TABLES * 4096u);
    assert_int_equal(mm_paging_check(&f->other), MM_OK);
    assert_int_equal(mm_paging_destroy(&f->other), MM_OK);
    assert_int_equal(mm_paging_destroy(&m->user), MM_OK);
    assert_int_equal(mm_paging_destroy(&m->kernel), MM_ERR_BUSY);
    assert_int_equal(mm_paging_check(&f->entry), MM_OK);
    assert_int_equal(mm_paging_destroy(&f->entry), MM_OK);
    t_paging_delete(m);
    free(f);
    return 0;
}

/* --- what must always hold --------------------------------------------------------------------- */

/** Every leaf below a table, whatever it says. */
static void walk(const struct fixture *f, uint64_t table, unsigned level, uint64_t at,
                 void (*leaf)(uint64_t at, uint64_t slot))
{
    for (uint64_t i = 0; i < 512; i++) {
        uint64_t slot = ((uint64_t *)t_ram_ptr(f->m->ram, table))[i];
        uint64_t here = at + (i << (12 + 9 * level));

        if (level == 3 && i >= 256) {
            here |= UINT64_C(0xffff000000000000);
        }
        if ((slot & T_MMU_P) == 0) {
            continue;
        }
        if (level == 0 || (slot & T_MMU_PS) != 0) {
            leaf(here, slot);
        } else {
            walk(f, slot & T_MMU_ADDRESS, level - 1, here, leaf);
        }
    }
}

static unsigned nr_kernel_leaves;

static void judge(uint64_t at, uint64_t slot)
{
    if (at >> 63 == 0) {
        assert_true((slot & T_MMU_US) != 0);
        return;
    }
    nr_kernel_leaves++;
    assert_true((slot & T_MMU_US) == 0);
    assert_true(at - ENTRY_A < LEN || at - ENTRY_B < LEN);
}

static uint64_t *slots_of(const struct fixture *f, uint64_t root)
{
    return t_ram_ptr(f->m->ram, root);
}

/** The roots of a pair, beside those that they were made of. */
static void sound(struct fixture *f, const struct mm_pagetable *pt)
{
    const uint64_t rights = T_MMU_ADDRESS | T_MMU_NX | T_MMU_P | T_MMU_RW | T_MMU_US;
    const uint64_t *user = slots_of(f, mm_paging_user_root(pt).raw);
    const uint64_t *kernel = slots_of(f, mm_paging_root(pt).raw);
    const uint64_t *all = slots_of(f, f->m->kernel.root.raw);
    const uint64_t *entry = slots_of(f, f->entry.root.raw);

    for (unsigned i = 0; i < 512; i++) {
        if (i >= 256) {
            assert_int_equal(user[i] & rights, entry[i] & rights);
            assert_int_equal(kernel[i] & rights, all[i] & rights);
        } else {
            assert_int_equal(user[i] & T_MMU_NX, 0);
            assert_int_equal(kernel[i] & rights,
                             (user[i] & rights) | (user[i] != 0 && f->nx ? T_MMU_NX : 0));
        }
    }
    nr_kernel_leaves = 0;
    walk(f, mm_paging_user_root(pt).raw, 3, 0, judge);
    assert_int_equal(nr_kernel_leaves, 5);
    assert_int_equal(mm_paging_check(pt), MM_OK);
}

static void all_sound(struct fixture *f)
{
    sound(f, &f->m->user);
    sound(f, &f->other);
}

/* --- what the CPU sees ------------------------------------------------------------------------- */

/** The kernel's way out: the last thing it does is to load the root for user mode. */
static void leave(struct fixture *f, const struct mm_pagetable *pt)
{
    t_cpu_write_cr(f->m->cpu, 3, mm_paging_user_root(pt).raw);
}

static void enter(struct fixture *f, const struct mm_pagetable *pt)
{
    t_cpu_write_cr(f->m->cpu, 3, mm_paging_root(pt).raw);
}

static uint32_t touch(struct fixture *f, uint64_t at, unsigned access, uint64_t *paddr)
{
    return t_cpu_access(f->m->cpu, at, access, paddr);
}

static void test_cpu(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    uint64_t paddr = 0;
    uint32_t fetched;

    assert_int_equal(t_map(&m->user, 7 * P1G, 6 * P1G, P4K, T_URX), MM_OK);
    assert_int_not_equal(mm_paging_root(&m->user).raw, mm_paging_user_root(&m->user).raw);
    assert_int_equal(mm_paging_root(&m->kernel).raw, mm_paging_user_root(&m->kernel).raw);
    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    assert_int_equal(mm_paging_current_root(m->user.backend).raw, mm_paging_root(&m->user).raw);
    /* In kernel mode: all of the kernel's; the user's to be read, and not to be run. */
    assert_int_equal(touch(f, T_KERNEL_LOW + P1G, T_MMU_WRITE, &paddr), T_CPU_DONE);
    assert_int_equal(paddr, P1G);
    assert_int_equal(touch(f, 7 * P1G, T_MMU_USER, &paddr), T_CPU_DONE);
    assert_int_equal(paddr, 6 * P1G);
    fetched = touch(f, 7 * P1G, T_MMU_USER | T_MMU_FETCH, NULL);
    assert_true(f->nx ? (fetched & (T_CPU_DONE | T_MMU_ERR_I)) == T_MMU_ERR_I
                      : fetched == T_CPU_DONE);
    /* In user mode: it runs; of the kernel's there is the way in alone, for the kernel alone. */
    leave(f, &m->user);
    assert_int_equal(touch(f, 7 * P1G, T_MMU_USER | T_MMU_FETCH, &paddr), T_CPU_DONE);
    assert_int_equal(paddr, 6 * P1G);
    assert_int_equal(touch(f, T_KERNEL_LOW + P1G, 0, NULL) & (T_CPU_DONE | T_MMU_ERR_P), 0);
    assert_int_equal(touch(f, T_KERNEL_TOP, 0, NULL) & (T_CPU_DONE | T_MMU_ERR_P), 0);
    assert_int_equal(touch(f, ENTRY_B + P4K, T_MMU_WRITE, &paddr), T_CPU_DONE);
    assert_int_equal(paddr, 5 * P1G + P4K);
    assert_int_equal(touch(f, ENTRY_A + P4K, T_MMU_USER, NULL) & T_CPU_DONE, 0);
    /* Its pages go while it is in user mode on this CPU, which comes in to serve. */
    enter(f, &m->user);
    assert_int_equal(t_unmap(&m->user, 7 * P1G, P4K, 0), MM_OK);
    t_nothing_stale(m);
    leave(f, &m->user);
    assert_int_equal(touch(f, 7 * P1G, T_MMU_USER, NULL) & T_CPU_DONE, 0);
    enter(f, &m->user);
    all_sound(f);
    assert_int_equal(mm_paging_destroy(&m->user), MM_ERR_BUSY);
}

static void test_what_is_global(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    mm_prot_t rwg = MM_PROT_RW | MM_PROT_GLOBAL;

    assert_int_equal(t_leaf(&m->kernel, T_KERNEL_LOW).prot, MM_PROT_RW);
    assert_int_equal(t_protect(&m->kernel, T_KERNEL_TOP, P2M, rwg, 0), MM_OK);
    assert_int_equal(t_leaf(&m->kernel, T_KERNEL_TOP).prot, MM_PROT_RW);
    assert_int_equal(t_leaf(&f->entry, ENTRY_A).prot,
                     MM_PROT_READ | MM_PROT_GLOBAL | (f->nx ? 0 : MM_PROT_EXEC));
    /* Of a user root user mode's view is told. */
    assert_int_equal(t_paddr(&m->user, ENTRY_B + 5), 5 * P1G + 5);
    assert_true(t_is_hole(&m->user, T_KERNEL_LOW));
}

/* --- random ------------------------------------------------------------------------------------ */

static uint64_t random_at(struct t_prng *prng)
{
    /* A few root entries, and a few tables below each. */
    return (t_prng_below(prng, 3) << 39) + t_prng_below(prng, 2) * P1G +
           t_prng_below(prng, 3) * P2M + t_prng_below(prng, 4) * P4K + (UINT64_C(1) << 39);
}

static void random_edit(struct fixture *f, struct t_prng *prng)
{
    static const mm_prot_t prots[] = {T_URW, T_URX, T_UR, MM_PROT_USER};
    struct mm_pagetable *pts[] = {&f->m->user, &f->other};
    unsigned which = (unsigned)t_prng_below(prng, 2);
    struct mm_pagetable *pt = pts[which];
    uint64_t at = random_at(prng);
    uint64_t len = t_prng_below(prng, 8) == 0 ? P2M : (1 + t_prng_below(prng, 6)) * P4K;
    mm_prot_t prot = prots[t_prng_below(prng, 4)];
    uint64_t paddr = T_LEAVES * P4K + t_prng_below(prng, 1024) * P4K;
    struct mm_gather gather;

    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    switch (t_prng_below(prng, 7)) {
    case 0:
    case 1:
    case 2:
        (void)!t_map(pt, at, len == P2M ? mm_align_down(paddr, P2M) : paddr, len, prot);
        break;
    case 3:
        (void)!mm_paging_unmap(pt, t_range(at, len), MM_PAGING_SKIP_HOLES | MM_PAGING_SPLIT,
                               &gather);
        break;
    case 4: /* whole root entries go */
        (void)!mm_paging_unmap(pt, t_range(0, (1 + t_prng_below(prng, 6)) << 39),
                               MM_PAGING_SKIP_HOLES | MM_PAGING_SPLIT, &gather);
        break;
    case 5:
        (void)!mm_paging_protect(pt, t_range(at, len), prot, MM_PAGING_SKIP_HOLES | MM_PAGING_SPLIT,
                                 &gather);
        break;
    default:
        (void)!mm_paging_clone(pt, pts[1 - which],
                               t_range((1 + t_prng_below(prng, 3)) << 39, UINT64_C(1) << 39), NULL,
                               NULL, &gather);
        break;
    }
    mm_gather_end(&gather);
}

/* User mode and translate agree; the kernel sees the same frame, unless it would run it. */
static void compare(struct fixture *f, const struct mm_pagetable *pt, uint64_t at)
{
    struct mm_mapping leaf;
    bool mapped = mm_paging_translate(pt, mm_vaddr(at), &leaf) == MM_OK;
    uint64_t paddr = 0;

    for (unsigned i = 0; i < 4; i++) {
        unsigned access = T_MMU_USER | (i % 2 != 0 ? T_MMU_FETCH : 0);
        mm_prot_t need = i % 2 != 0 ? MM_PROT_EXEC : MM_PROT_READ;
        bool wanted = mapped && (leaf.prot & need) != 0 && !(i == 3 && f->nx);

        if (i < 2) {
            leave(f, pt);
        } else {
            enter(f, pt);
        }
        assert_int_equal(touch(f, at, access, &paddr) == T_CPU_DONE, wanted);
        if (wanted) {
            assert_int_equal(paddr, leaf.paddr.raw + (at - leaf.page.start.raw));
        }
    }
}

static void test_random(void **state)
{
    struct fixture *f = *state;
    struct t_prng prng;

    t_prng_seed(&prng, 20);
    for (unsigned round = 0; round < 3000; round++) {
        const struct mm_pagetable *pt = round % 2 == 0 ? &f->m->user : &f->other;

        random_edit(f, &prng);
        all_sound(f);
        t_nothing_stale(f->m);
        for (unsigned i = 0; i < 4; i++) {
            compare(f, pt, random_at(&prng));
        }
        enter(f, pt); /* the kernel goes on */
    }
    t_cpu_write_cr(f->m->cpu, 3, f->m->kernel.root.raw);
}

/* --- failing, bad input, contradictions -------------------------------------------------------- */

static uint64_t state_of(const struct fixture *f)
{
    return t_hash_u64(t_hash(&f->entry, sizeof(f->entry)), t_state(f->m, NULL));
}

#define INJECT(f, call)                                                                            \
    do {                                                                                           \
        unsigned points_ = 0;                                                                      \
        for (uint64_t n_ = 1; n_ < 20; n_++) {                                                     \
            uint64_t before_ = state_of(f);                                                        \
            uint64_t used_ = (f)->m->nr_used;                                                      \
            mm_status_t status_;                                                                   \
            t_inject_nth(&(f)->m->inject, n_);                                                     \
            status_ = (call);                                                                      \
            if ((f)->m->inject.fired == 0) {                                                       \
                assert_int_equal(status_, MM_OK);                                                  \
                break;                                                                             \
            }                                                                                      \
            t_inject_never(&(f)->m->inject);                                                       \
            assert_int_equal(status_, MM_ERR_NO_MEMORY);                                           \
            assert_int_equal(used_, (f)->m->nr_used);                                              \
            assert_int_equal(before_, state_of(f));                                                \
            points_++;                                                                             \
        }                                                                                          \
        t_inject_never(&(f)->m->inject);                                                           \
        assert_true(points_ > 0);                                                                  \
    } while (0)

static void test_injection(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable pt = {0};
    struct mm_pagetable kernel = {0};
    struct mm_pagetable entry = {0};
    static const struct mm_pagetable zero;
    struct mm_paging_config config = pair_config(f->m);

    INJECT(f, mm_paging_init_user(&pt, &f->m->kernel));
    INJECT(f, t_map(&pt, 0, 0, 2 * P4K, T_URW));
    sound(f, &pt);
    assert_int_equal(mm_paging_destroy(&pt), MM_OK);
    assert_memory_equal(&pt, &zero, sizeof(zero));
    assert_int_equal(mm_paging_init_kernel(&kernel, &config), MM_OK);
    INJECT(f, mm_paging_init_entry(&entry, &kernel, entries, 2));
    assert_ptr_equal(kernel.peer, &entry);
    assert_int_equal(mm_paging_destroy(&entry), MM_OK);
    assert_null(kernel.peer);
    assert_int_equal(mm_paging_destroy(&kernel), MM_OK);
}

static void test_bad_input(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable *kernel = &f->m->kernel;
    struct mm_pagetable bare = {0};
    struct mm_pagetable plain = {0};
    struct mm_pagetable pt = {0};
    struct mm_pagetable none = {0};
    static const struct mm_pagetable zero;
    struct mm_paging_config config = pair_config(f->m);
    struct mm_vrange bad[MM_PAGING_MAX_KERNEL_RANGES + 1];

    assert_int_equal(mm_paging_init_kernel(&bare, &config), MM_OK);
    config.flags = 0;
    assert_int_equal(mm_paging_init_kernel(&plain, &config), MM_OK);
    config.flags = 2;
    assert_int_equal(mm_paging_init_kernel(&pt, &config), MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_paging_adopt(&pt, &config, plain.root), MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_paging_init_user(&pt, &bare), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_init_user(&pt, &f->entry), MM_ERR_INVALID_ARGUMENT);
#define REFUSED(wanted, ...)                                                                       \
    do {                                                                                           \
        uint64_t before_ = state_of(f);                                                            \
        assert_int_equal(mm_paging_init_entry(__VA_ARGS__), (wanted));                             \
        assert_memory_equal(&pt, &zero, sizeof(zero));                                             \
        assert_int_equal(before_, state_of(f));                                                    \
        assert_null(bare.peer);                                                                    \
    } while (0)
    REFUSED(MM_ERR_INVALID_ARGUMENT, NULL, &bare, entries, 2);
    REFUSED(MM_ERR_INVALID_ARGUMENT, &pt, NULL, entries, 2);
    REFUSED(MM_ERR_NOT_INITIALIZED, &pt, &none, entries, 2);
    REFUSED(MM_ERR_INVALID_ARGUMENT, &pt, &bare, NULL, 2);
    REFUSED(MM_ERR_INVALID_ARGUMENT, &pt, &bare, entries, 0);
    REFUSED(MM_ERR_INVALID_ARGUMENT, &pt, &plain, entries, 2);
    REFUSED(MM_ERR_INVALID_ARGUMENT, &pt, &f->entry, entries, 2);
    REFUSED(MM_ERR_INVALID_ARGUMENT, &pt, &f->m->user, entries, 2);
    REFUSED(MM_ERR_BUSY, &pt, kernel, entries, 2);
    REFUSED(MM_ERR_ALREADY_INITIALIZED, kernel, &bare, entries, 2);
    for (unsigned i = 0; i <= MM_PAGING_MAX_KERNEL_RANGES; i++) {
        bad[i] = t_range(T_KERNEL_TOP + 2 * i * P4K, P4K);
    }
    REFUSED(MM_ERR_LIMIT, &pt, &bare, bad, MM_PAGING_MAX_KERNEL_RANGES + 1);
    bad[1].start.raw -= 2 * P4K;
    REFUSED(MM_ERR_INVALID_ADDRESS, &pt, &bare, bad, 2);
    bad[1] = t_range(T_KERNEL_TOP - P4K, 2 * P4K); /* partly the kernel's */
    REFUSED(MM_ERR_INVALID_ADDRESS, &pt, &bare, &bad[1], 1);
    bad[1] = t_range(T_KERNEL_TOP, P4K + 1);
    REFUSED(MM_ERR_NOT_ALIGNED, &pt, &bare, &bad[1], 1);
    bad[1].len = 0;
    REFUSED(MM_ERR_INVALID_SIZE, &pt, &bare, &bad[1], 1);
    assert_int_equal(mm_paging_user_root(NULL).raw, 0);
    assert_int_equal(mm_paging_user_root(&none).raw, 0);
    assert_int_equal(t_map(&f->entry, T_KERNEL_LOW, 0, P4K, MM_PROT_RW), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_paging_destroy(&bare), MM_OK);
    assert_int_equal(mm_paging_destroy(&plain), MM_OK);
}

/* A kernel's page that gets into the root for user mode, and roots that differ. */
static void test_contradictions(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    const struct mm_pagetable *roots[] = {&m->kernel, &m->user, &f->other};
    static uint64_t memory[512];
    struct mm_paging_audit audit = {
        .roots = roots, .nr_roots = 3, .memory = memory, .len = sizeof(memory)};
    uint64_t *user = slots_of(f, m->user.root.raw);
    uint64_t *kernel = slots_of(f, mm_paging_root(&m->user).raw);
    uint64_t nr = 1;

    assert_int_equal(t_map(&m->user, 0, 6 * P1G, P4K, T_URW), MM_OK);
    assert_int_equal(mm_paging_audit(&audit, &nr), MM_OK);
    assert_int_equal(nr, 0);
    user[256] = kernel[256]; /* the direct map, and what hangs beside the entry's stack */
    assert_int_equal(mm_paging_audit(&audit, &nr), MM_OK);
    assert_true(nr > 0);
    user[256] = slots_of(f, f->entry.root.raw)[256];
    user[300] = kernel[256];
    assert_int_equal(mm_paging_check(&m->user), MM_ERR_CORRUPTED);
    user[300] = 0;
    kernel[300] = kernel[256];
    assert_int_equal(mm_paging_check(&m->user), MM_ERR_CORRUPTED);
    kernel[300] = 0;
    kernel[0] &= ~T_MMU_NX;
    assert_int_equal(mm_paging_check(&m->user), MM_ERR_CORRUPTED);
    kernel[0] = 0;
    assert_int_equal(mm_paging_check(&m->user), MM_ERR_CORRUPTED);
    kernel[0] = user[0] | T_MMU_NX;
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    /* What the entry root has and no user may: a writable alias of what the kernel executes. */
    assert_int_equal(t_protect(&m->kernel, T_KERNEL_TOP + 16 * P2M, P2M, MM_PROT_RX, 0), MM_OK);
    assert_int_equal(t_protect(&f->entry, ENTRY_A, P4K, MM_PROT_RW, 0), MM_OK);
    assert_int_equal(mm_paging_audit(&audit, &nr), MM_OK);
    assert_int_equal(nr, 1);
}

/* Neither side of a pair that this CPU is in goes. */
static void test_destroyed_from_either_side(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    struct mm_paging_backend backend = mm_x86_64_backend(&m->arch);

    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    assert_int_equal(mm_paging_destroy(&m->user), MM_ERR_BUSY);
    assert_int_equal(mm_paging_load_root(backend, mm_paging_user_root(&m->user)), MM_OK);
    assert_int_equal(mm_paging_destroy(&m->user), MM_ERR_BUSY);
    assert_int_equal(mm_paging_activate(&m->kernel), MM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cpu, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cpu, setup_without_nx, teardown),
        cmocka_unit_test_setup_teardown(test_destroyed_from_either_side, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_global, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random, setup_without_nx, teardown),
        cmocka_unit_test_setup_teardown(test_injection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_input, setup, teardown),
        cmocka_unit_test_setup_teardown(test_contradictions, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_pair", tests, NULL, NULL);
}
