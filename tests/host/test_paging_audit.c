// SPDX-License-Identifier: MIT
/**
 * The audit: each contradiction is found, between leaves of all sizes and roots of both kinds, and
 * nothing else is; and in random mappings exactly the frames that a plain count finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_paging.h"

#include <mm/paging_audit.h>

#include <stdio.h>

#define LOW   T_KERNEL_LOW /* the direct map */
#define IMAGE T_KERNEL_TOP
#define PADDR (3 * P2M) /* of the image */
#define RWX   (MM_PROT_RW | MM_PROT_EXEC)

struct fixture {
    struct t_paging *m;
    const struct mm_pagetable *roots[3];
    struct mm_paging_audit audit;
    uint64_t memory[16384];
    struct mm_audit_finding found[1024];
    unsigned nr;
    unsigned nr_until_enough; /* 0: never */
    unsigned nr_lines;
    char line[161]; /* the first */
};

static void take_line(void *ctx, const char *line, size_t len)
{
    struct fixture *f = ctx;

    assert_true(len <= 160);
    if (f->nr_lines++ == 0) {
        memcpy(f->line, line, len);
        f->line[len] = '\0';
    }
}

static bool take(void *ctx, const struct mm_audit_finding *finding)
{
    struct fixture *f = ctx;

    assert_true(f->nr < 1024);
    f->found[f->nr++] = *finding;
    return f->nr != f->nr_until_enough;
}

static int setup_with(void **state, bool nx)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic, .log = take_line};
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->m = t_paging_new();
    f->m->cpus.has.nx = nx;
    t_paging_start(f->m);
    f->m->kernel.platform = (struct mm_platform){&ops, f};
    f->roots[0] = &f->m->kernel;
    f->roots[1] = &f->m->user;
    f->audit = (struct mm_paging_audit){
        .roots = f->roots,
        .nr_roots = 2,
        .memory = f->memory,
        .len = sizeof(f->memory),
        .report = take,
        .ctx = f,
    };
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, true);
}

static int setup_without_nx(void **state)
{
    return setup_with(state, false);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    f->m->kernel.platform = t_platform();
    t_paging_delete(f->m);
    free(f);
    return 0;
}

/** Look; tables and counts stay as they are. */
static unsigned look(struct fixture *f, uint32_t kinds)
{
    uint64_t before = t_state(f->m, NULL);
    uint64_t nr = UINT64_MAX;

    f->nr = 0;
    f->nr_lines = 0;
    f->audit.kinds = kinds;
    assert_int_equal(mm_paging_audit(&f->audit, &nr), MM_OK);
    assert_int_equal(nr, f->nr);
    assert_int_equal(f->nr_lines, f->nr);
    assert_int_equal(before, t_state(f->m, NULL));
    return f->nr;
}

static void expect(const struct fixture *f, unsigned i, uint32_t kind, uint64_t start, uint64_t len)
{
    assert_int_equal(f->found[i].kind, kind);
    assert_int_equal(f->found[i].frames.start.raw, start);
    assert_int_equal(f->found[i].frames.len, len);
}

static void expect_party(const struct mm_audit_party *party, const struct mm_pagetable *pt,
                         uint64_t at, mm_prot_t prot)
{
    assert_ptr_equal(party->pt, pt);
    assert_int_equal(party->at.raw, at);
    assert_int_equal(party->prot, prot);
}

/* --- a kernel as it should be, and the usual mistake -------------------------------------------- */

static const struct mm_boot_section sections[] = {
    {.range = {{IMAGE}, 5 * P4K + 7}, .paddr = {PADDR}, .prot = MM_PROT_RX},
    {.range = {{IMAGE + 6 * P4K}, 2 * P4K}, .paddr = {PADDR + 6 * P4K}, .prot = MM_PROT_READ},
    {.range = {{IMAGE + 8 * P4K}, 9}, .paddr = {PADDR + 8 * P4K}, .prot = MM_PROT_RW},
    {.range = {{IMAGE + 9 * P4K}, 0}, .paddr = {PADDR + 9 * P4K}, .prot = MM_PROT_RX},
};

static void bring_up(struct fixture *f, uint32_t nr_sections)
{
    struct mm_boot_entry entries[16];
    struct mm_bootmap map = {0};
    struct mm_physmap direct = mm_physmap_direct(LOW);

    assert_int_equal(mm_bootmap_init(&map, entries, 16), MM_OK);
    assert_int_equal(mm_bootmap_add(&map, mm_prange(mm_paddr(0), 2 * P1G), MM_BOOT_USABLE), MM_OK);
    assert_int_equal(mm_paging_map_sections(&f->m->kernel, sections, 4), MM_OK);
    assert_int_equal(mm_paging_map_direct(&f->m->kernel, &map, &direct,
                                          nr_sections == 0 ? NULL : sections, nr_sections),
                     MM_OK);
}

static void test_clean(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;

    assert_int_equal(look(f, 0), 0);
    bring_up(f, 4);
    assert_int_equal(t_map(&m->user, 5 * P1G, P1G, 2 * P4K, T_URX), MM_OK);
    assert_int_equal(t_map(&m->user, 6 * P1G, P1G + 2 * P4K, 2 * P4K, T_URW), MM_OK);
    assert_int_equal(t_map(&m->user, 7 * P1G, P1G + 2 * P4K, 2 * P4K, MM_PROT_USER), MM_OK);
    assert_int_equal(look(f, 0), 0);
    /* Asked for: what a user executes is writable in the direct map. */
    assert_int_equal(look(f, MM_AUDIT_ALL), 1);
    expect(f, 0, MM_AUDIT_USER_CODE, P1G, 2 * P4K);
    expect_party(&f->found[0].one, &m->user, 5 * P1G, T_URX);
    expect_party(&f->found[0].other, &m->kernel, LOW + P1G, MM_PROT_RW | MM_PROT_GLOBAL);
    /* The direct map has the image's data, but not its text and constants, to be written. */
    assert_int_equal(t_leaf(&m->kernel, LOW + PADDR).prot, MM_PROT_READ | MM_PROT_GLOBAL);
    assert_int_equal(t_leaf(&m->kernel, LOW + PADDR + 7 * P4K).prot, MM_PROT_READ | MM_PROT_GLOBAL);
    assert_int_equal(t_leaf(&m->kernel, LOW + PADDR + 8 * P4K).prot, MM_PROT_RW | MM_PROT_GLOBAL);
    assert_int_equal(t_leaf(&m->kernel, LOW + PADDR - P4K).page.len, P2M);
    assert_int_equal(t_leaf(&m->kernel, LOW + PADDR + P2M).page.len, P2M);
    assert_int_equal(t_leaf(&m->kernel, LOW + P1G).page.len, P1G);
}

static void test_text_through_the_direct_map(void **state)
{
    struct fixture *f = *state;

    bring_up(f, 0);
    assert_int_equal(look(f, 0), 1);
    expect(f, 0, MM_AUDIT_ALIAS_EXEC, PADDR, 6 * P4K);
    expect_party(&f->found[0].one, &f->m->kernel, IMAGE, MM_PROT_RX | MM_PROT_GLOBAL);
    expect_party(&f->found[0].other, &f->m->kernel, LOW + PADDR, MM_PROT_RW | MM_PROT_GLOBAL);
    assert_string_equal(f->line, "paging: executable, writable, 0x600000-0x605fff: "
                                 "0xffffffff00000000 r-x-g WB kernel, "
                                 "0xffff800000600000 rw--g WB kernel");
}

/* --- each kind ---------------------------------------------------------------------------------- */

static void test_one_leaf(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(t_map(&f->m->kernel, LOW, P1G, 2 * P2M, RWX), MM_OK);
    assert_int_equal(look(f, 0), 1);
    expect(f, 0, MM_AUDIT_WRITE_EXEC, P1G, 2 * P2M); /* one run of two leaves */
    expect_party(&f->found[0].one, &f->m->kernel, LOW, RWX);
    assert_null(f->found[0].other.pt);
    assert_int_equal(look(f, MM_AUDIT_ALL & ~MM_AUDIT_WRITE_EXEC), 0);
    assert_int_equal(t_unmap(&f->m->kernel, LOW, 2 * P2M, 0), MM_OK);
    assert_int_equal(t_map(&f->m->user, P4K, P1G, P4K, RWX | MM_PROT_USER), MM_OK);
    assert_int_equal(look(f, 0), 1);
    expect(f, 0, MM_AUDIT_WRITE_EXEC, P1G, P4K);
    assert_ptr_equal(f->found[0].one.pt, &f->m->user);
}

/* Small in the middle of large, the last frame, and the frame after that. */
static void test_sizes(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    static const uint64_t offset[] = {0, 5 * P2M + 7 * P4K, P1G - P4K};

    assert_int_equal(t_map(&m->kernel, LOW, P1G, P1G, MM_PROT_RW), MM_OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(t_map(&m->kernel, IMAGE, P1G + offset[i], P4K, MM_PROT_RX), MM_OK);
        assert_int_equal(look(f, 0), 1);
        expect(f, 0, MM_AUDIT_ALIAS_EXEC, P1G + offset[i], P4K);
        assert_int_equal(f->found[0].other.at.raw + f->found[0].one.at.raw,
                         LOW + offset[i] + IMAGE);
        assert_int_equal(t_unmap(&m->kernel, IMAGE, P4K, 0), MM_OK);
    }
    assert_int_equal(t_map(&m->kernel, IMAGE, 2 * P1G, P4K, MM_PROT_RX), MM_OK);
    assert_int_equal(t_map(&m->kernel, IMAGE + P4K, P1G - P4K, P4K, MM_PROT_RX), MM_OK);
    assert_int_equal(look(f, 0), 0);
    /* A user that writes what the kernel executes; and one that writes what another executes. */
    assert_int_equal(t_map(&m->user, P2M, 2 * P1G, P2M, T_URW), MM_OK);
    assert_int_equal(look(f, 0), 1);
    expect(f, 0, MM_AUDIT_ALIAS_EXEC, 2 * P1G, P4K);
    assert_int_equal(t_unmap(&m->kernel, IMAGE, 2 * P4K, 0), MM_OK);
    assert_int_equal(t_map(&m->user, 3 * P2M + P4K, 2 * P1G + P4K, P4K, T_URX), MM_OK);
    assert_int_equal(look(f, 0), 1);
    expect(f, 0, MM_AUDIT_ALIAS_EXEC, 2 * P1G + P4K, P4K);
}

static void test_types(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;

    assert_int_equal(t_map(&m->kernel, LOW, 0, P1G, MM_PROT_RW), MM_OK);
    assert_int_equal(mm_paging_map(&m->kernel, t_range(IMAGE, 2 * P4K), mm_paddr(P1G - P4K),
                                   MM_PROT_RW, MM_MEMTYPE_WC, 0),
                     MM_OK);
    assert_int_equal(
        mm_paging_map(&m->user, t_range(P4K, P4K), mm_paddr(P1G - P4K), T_UR, MM_MEMTYPE_UC, 0),
        MM_OK);
    assert_int_equal(look(f, 0), 3); /* each with each */
    for (unsigned i = 0; i < 3; i++) {
        expect(f, i, MM_AUDIT_TYPES, P1G - P4K, P4K);
        assert_int_not_equal(f->found[i].one.type, f->found[i].other.type);
    }
    assert_int_equal(look(f, MM_AUDIT_USUAL & ~MM_AUDIT_TYPES), 0);
}

/** The entry of a level for an address. */
static uint64_t *entry_of(struct t_paging *m, const struct mm_pagetable *pt, uint64_t at,
                          unsigned level)
{
    uint64_t *table = t_ram_ptr(m->ram, pt->root.raw);

    for (unsigned l = 3; l > level; l--) {
        table = t_ram_ptr(m->ram, table[(at >> (12 + 9 * l)) & 511] & UINT64_C(0xffffffffff000));
    }
    return &table[(at >> (12 + 9 * level)) & 511];
}

static void open_path(struct t_paging *m, const struct mm_pagetable *pt, uint64_t at)
{
    for (unsigned level = 0; level < 4; level++) {
        *entry_of(m, pt, at, level) |= 4;
    }
}

static void close_path(struct t_paging *m, const struct mm_pagetable *pt, uint64_t at)
{
    for (unsigned level = 0; level < 4; level++) {
        *entry_of(m, pt, at, level) &= ~UINT64_C(4);
    }
}

static void test_reach(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    uint64_t *leaf;

    assert_int_equal(t_map(&m->kernel, LOW, P1G, P4K, MM_PROT_READ), MM_OK);
    assert_int_equal(t_map(&m->user, 4 * P1G, P1G, P4K, T_UR), MM_OK);
    leaf = entry_of(m, &m->kernel, LOW, 0);
    *leaf |= 4; /* the tables above do not allow it */
    assert_int_equal(look(f, 0), 0);
    open_path(m, &m->kernel, LOW);
    assert_int_equal(look(f, 0), 1); /* in the user's root the entry was copied closed */
    expect(f, 0, MM_AUDIT_USER_REACH, P1G, P4K);
    expect_party(&f->found[0].one, &m->kernel, LOW, T_UR);
    close_path(m, &m->kernel, LOW);
    /* Open in the user's copy of the root alone. */
    open_path(m, &m->user, LOW);
    close_path(m, &m->kernel, LOW);
    *leaf |= 4;
    *entry_of(m, &m->kernel, LOW, 1) |= 4;
    *entry_of(m, &m->kernel, LOW, 2) |= 4;
    assert_int_equal(look(f, 0), 1);
    expect_party(&f->found[0].one, &m->user, LOW, T_UR);
    close_path(m, &m->user, LOW);
    assert_int_equal(look(f, 0), 0);
    /* The kernel's in the user's half. */
    leaf = entry_of(m, &m->user, 4 * P1G, 0);
    *leaf &= ~UINT64_C(4);
    assert_int_equal(look(f, 0), 1);
    expect(f, 0, MM_AUDIT_USER_REACH, P1G, P4K);
    expect_party(&f->found[0].one, &m->user, 4 * P1G, MM_PROT_READ);
    *leaf |= 4;
    assert_int_equal(look(f, 0), 0);
}

static void test_not_present(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    static const uint64_t ones = UINT64_C(0x000ff80000000000);

    assert_int_equal(t_map(&m->user, 4 * P1G, P1G, 2 * P4K, MM_PROT_USER), MM_OK); /* soft */
    assert_int_equal(t_map(&m->kernel, LOW, P1G, P4K, MM_PROT_READ), MM_OK);
    assert_int_equal(look(f, 0), 0);
    for (unsigned level = 0; level < 3; level++) {
        uint64_t *entry = entry_of(m, level == 0 ? &m->user : &m->kernel,
                                   level == 0   ? 4 * P1G + 5 * P4K
                                   : level == 1 ? LOW + 3 * P2M
                                                : LOW + 3 * P1G,
                                   level);

        assert_int_equal(*entry, 0);
        *entry = UINT64_C(0x12345000) | 2;
        assert_int_equal(look(f, 0), 1);
        expect(f, 0, MM_AUDIT_NOT_PRESENT, UINT64_C(0x12345000), P4K);
        assert_int_equal(f->found[0].entry, *entry);
        assert_ptr_equal(f->found[0].one.pt, level == 0 ? &m->user : &m->kernel);
        *entry = 2; /* names frame 0 */
        assert_int_equal(look(f, 0), 1);
        *entry = (ones & ~(UINT64_C(1) << 43)) | 2;
        assert_int_equal(look(f, 0), 1);
        assert_int_equal(look(f, MM_AUDIT_ALL & ~MM_AUDIT_NOT_PRESENT), 0);
        *entry = ones | 2;
        assert_int_equal(look(f, 0), 0);
        *entry = 0;
    }
}

/* Whatever may be read may be executed. */
static void test_without_nx(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;

    assert_int_equal(t_map(&m->kernel, LOW, P1G, P4K, MM_PROT_READ), MM_OK);
    assert_int_equal(t_map(&m->kernel, LOW + P2M, P1G + P2M, P4K, MM_PROT_READ), MM_OK);
    assert_int_equal(look(f, 0), 0);
    assert_int_equal(t_map(&m->user, P4K, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(look(f, 0), 2);
    assert_int_equal(f->found[0].kind | f->found[1].kind,
                     MM_AUDIT_ALIAS_EXEC | MM_AUDIT_WRITE_EXEC);
}

/* What a boot loader left beside the declared ranges is walked by the hardware as well. */
static void test_adopted(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    struct mm_paging_config config = t_config(m);
    struct mm_pagetable adopted = {0};
    struct mm_physmap reach = m->physmap;
    mm_pfn_t frames[2];
    uint64_t *root;

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(t_source_alloc(m, MM_OWNER_PAGE_TABLE, true, &frames[i]), MM_OK);
    }
    root = t_table(m, frames[0].raw);
    root[3] = frames[1].raw * 4096 | 3;
    t_table(m, frames[1].raw)[2] = P1G | 0x83; /* 1 GiB, writable, executable */
    config.user = mm_vrange(mm_vaddr(0), 0);
    reach.len = T_TABLES * P4K;
    config.physmap = &reach;
    config.platform = m->kernel.platform;
    assert_int_equal(mm_paging_adopt(&adopted, &config, mm_pfn_addr(frames[0])), MM_OK);
    f->roots[0] = &adopted;
    f->audit.nr_roots = 1;
    assert_int_equal(look(f, 0), 1);
    expect(f, 0, MM_AUDIT_WRITE_EXEC, P1G, P1G);
    assert_int_equal(f->found[0].one.at.raw, (UINT64_C(3) << 39) + 2 * P1G);
    root[4] = UINT64_C(0x4000000003); /* a table where the direct map does not reach */
    root[300] = UINT64_C(0x4000000003);
    assert_int_equal(look(f, MM_AUDIT_UNSEEN), 2);
    expect(f, 0, MM_AUDIT_UNSEEN, UINT64_C(0x4000000000), P4K);
    assert_int_equal(f->found[1].entry, root[300]);
    assert_string_equal(f->line, "paging: a table out of reach, 0x4000000000-0x4000000fff: "
                                 "0x0000020000000000 ----- WB kernel");
    f->nr_until_enough = 1;
    assert_int_equal(look(f, 0), 1);
    root[3] = root[4] = root[300] = 0;
    assert_int_equal(mm_paging_destroy(&adopted), MM_OK);
    t_source_free(m, frames[0]);
    t_source_free(m, frames[1]);
}

/* --- memory, cost, an end -------------------------------------------------------------------- */

static void test_memory(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    uint64_t need = 1;
    uint64_t nr = 77;

    assert_int_equal(mm_paging_audit_memory_size(&f->audit, &need), MM_OK);
    assert_int_equal(need, 0);
    bring_up(f, 4);
    assert_int_equal(t_map(&m->user, 0, P1G, 600 * P4K, T_UR), MM_OK); /* a run of three tables */
    assert_int_equal(t_map(&m->user, P1G, 2 * P1G, P4K, T_UR), MM_OK);
    assert_int_equal(mm_paging_audit_memory_size(&f->audit, &need), MM_OK);
    assert_int_equal(need, (3 + 3 + 2) * 32); /* frame 0 is out of the direct map or not */
    for (unsigned i = 0; i < need / 8 + 4; i++) {
        f->memory[i] = t_junk(1, i);
    }
    f->audit.len = need - 1;
    assert_int_equal(mm_paging_audit(&f->audit, &nr), MM_ERR_NO_MEMORY);
    assert_int_equal(nr, 77);
    for (unsigned i = 0; i < need / 8 + 4; i++) {
        assert_int_equal(f->memory[i], t_junk(1, i));
    }
    f->audit.len = need;
    assert_int_equal(look(f, 0), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(f->memory[need / 8 + i], t_junk(1, (unsigned)need / 8 + i));
    }
}

/* A frame that many share, as the zero page is: no pair is looked at twice. */
static void test_many_aliases(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;

    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(t_map(&m->user, (2 * i + 1) * P4K, P1G, P4K, T_UR), MM_OK);
    }
    assert_int_equal(look(f, 0), 0);
    assert_int_equal(t_map(&m->kernel, LOW, P1G, P4K, MM_PROT_RX), MM_OK);
    assert_int_equal(t_map(&m->kernel, LOW + P2M, P1G, P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(look(f, 0), 1);
    assert_int_equal(t_protect(&m->user, 0, 1000 * 2 * P4K, T_URW, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_in_range(look(f, 0), 1, 1002);
    assert_int_equal(
        mm_paging_map(&m->user, t_range(0, P4K), mm_paddr(P1G), T_UR, MM_MEMTYPE_UC, 0), MM_OK);
    assert_in_range(look(f, 0), 2, 2004);
    f->nr_until_enough = 2;
    assert_int_equal(look(f, 0), 2);
}

/* --- random, beside a count of each frame ----------------------------------------------------- */

#define NR_FRAMES 1536u /* three times 2 MiB */

struct model {
    uint8_t who[NR_FRAMES];   /* bits: kernel writes 1, executes 2, user writes 4, executes 8 */
    uint8_t types[NR_FRAMES]; /* bit by type */
    uint8_t both[NR_FRAMES];  /* one leaf does both */
};

static void random_leaves(struct fixture *f, struct model *model, struct t_prng *prng)
{
    static const mm_prot_t prots[] = {MM_PROT_READ, MM_PROT_RW, MM_PROT_RX, RWX, MM_PROT_NONE};
    unsigned nr = 1 + (unsigned)t_prng_below(prng, 24);

    for (unsigned i = 0; i < nr; i++) {
        unsigned r = (unsigned)t_prng_below(prng, 3);
        bool large = t_prng_below(prng, 4) == 0;
        uint64_t pages = large ? 512 : 1 + t_prng_below(prng, 6);
        uint64_t frame = large ? 512 * t_prng_below(prng, 3) : t_prng_below(prng, NR_FRAMES - 6);
        mm_prot_t prot = prots[t_prng_below(prng, 16) % 5];
        mm_memtype_t type = t_prng_below(prng, 8) == 0 ? MM_MEMTYPE_UC : MM_MEMTYPE_WB;
        uint64_t at = (r == 0 ? LOW : P1G) + (i + 1) * 2 * P2M;

        assert_int_equal(mm_paging_map((struct mm_pagetable *)(uintptr_t)f->roots[r],
                                       t_range(at, pages * P4K), mm_paddr(P1G + frame * P4K),
                                       r == 0 ? prot : prot | MM_PROT_USER, type, 0),
                         MM_OK);
        for (uint64_t p = frame; p < frame + pages && prot != MM_PROT_NONE; p++) {
            bool w = (prot & MM_PROT_WRITE) != 0;
            bool x = (prot & MM_PROT_EXEC) != 0;

            model->who[p] =
                (uint8_t)(model->who[p] | ((w ? 1u : 0u) | (x ? 2u : 0u)) << (r == 0 ? 0 : 2));
            model->types[p] |= (uint8_t)(1u << type);
            model->both[p] |= w && x;
        }
    }
}

static uint32_t kinds_of(const struct model *model, unsigned p)
{
    unsigned who = model->who[p];
    uint32_t kinds = model->both[p] ? MM_AUDIT_WRITE_EXEC : 0;
    unsigned nr_types = (unsigned)__builtin_popcount(model->types[p]);

    kinds |= nr_types > 1 ? MM_AUDIT_TYPES : 0;
    kinds |= (who & 9) == 9 ? MM_AUDIT_USER_CODE : 0;
    return kinds;
}

/* Whether some leaf executes what another writes; leaves that do both are left to WRITE_EXEC. */
static bool aliases(const struct model *model, unsigned p)
{
    unsigned who = model->who[p];

    return !model->both[p] && ((who & 3) == 3 || (who & 6) == 6 || (who & 12) == 12);
}

static void compare(const struct fixture *f, const struct model *model)
{
    static uint32_t told[NR_FRAMES];

    memset(told, 0, sizeof(told));
    for (unsigned i = 0; i < f->nr; i++) {
        uint64_t first = (f->found[i].frames.start.raw - P1G) / P4K;

        for (uint64_t p = first; p < first + f->found[i].frames.len / P4K; p++) {
            assert_true(p < NR_FRAMES);
            told[p] |= f->found[i].kind;
        }
    }
    for (unsigned p = 0; p < NR_FRAMES; p++) {
        assert_int_equal(told[p] & (MM_AUDIT_WRITE_EXEC | MM_AUDIT_TYPES | MM_AUDIT_USER_CODE),
                         kinds_of(model, p));
        if (!model->both[p]) {
            assert_int_equal((told[p] & MM_AUDIT_ALIAS_EXEC) != 0, aliases(model, p));
        }
    }
}

static void test_random(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable other = {0};
    struct t_prng prng;
    unsigned nr_found = 0;

    t_prng_seed(&prng, 19);
    assert_int_equal(mm_paging_init_user(&other, &f->m->kernel), MM_OK);
    f->roots[2] = &other;
    f->audit.nr_roots = 3;
    for (unsigned round = 0; round < 300; round++) {
        struct model model = {0};

        random_leaves(f, &model, &prng);
        nr_found += look(f, MM_AUDIT_ALL);
        compare(f, &model);
        for (unsigned r = 0; r < 3; r++) {
            assert_int_equal(t_unmap((struct mm_pagetable *)(uintptr_t)f->roots[r],
                                     r == 0 ? LOW : P1G, 64 * P2M, MM_PAGING_SKIP_HOLES),
                             MM_OK);
        }
    }
    assert_true(nr_found > 1000);
    assert_int_equal(mm_paging_destroy(&other), MM_OK);
}

/* --- bad input -------------------------------------------------------------------------------- */

#define REFUSED(f, wanted)                                                                         \
    do {                                                                                           \
        uint64_t out_ = 5;                                                                         \
        assert_int_equal(mm_paging_audit(&(f)->audit, &out_), (wanted));                           \
        assert_int_equal(mm_paging_audit_memory_size(&(f)->audit, &out_), (wanted));               \
        assert_int_equal(out_, 5);                                                                 \
    } while (0)

static void test_bad_input(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable none = {0};
    struct mm_x86_64 other_arch = f->m->arch;
    struct mm_pagetable stranger = f->m->user;
    uint64_t nr = 5;

    assert_int_equal(mm_paging_audit(NULL, &nr), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_audit(&f->audit, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_audit_memory_size(NULL, &nr), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_audit_memory_size(&f->audit, NULL), MM_ERR_INVALID_ARGUMENT);
    f->audit.kinds = MM_AUDIT_ALL + 1;
    REFUSED(f, MM_ERR_INVALID_FLAGS);
    f->audit.kinds = 0;
    f->audit.nr_roots = 0;
    REFUSED(f, MM_ERR_INVALID_ARGUMENT);
    f->audit.nr_roots = 2;
    f->audit.roots = NULL;
    REFUSED(f, MM_ERR_INVALID_ARGUMENT);
    f->audit.roots = f->roots;
    f->roots[1] = NULL;
    REFUSED(f, MM_ERR_INVALID_ARGUMENT);
    f->roots[1] = &none;
    REFUSED(f, MM_ERR_NOT_INITIALIZED);
    f->roots[1] = &f->m->kernel;
    REFUSED(f, MM_ERR_INVALID_ARGUMENT);
    f->roots[1] = &stranger;
    stranger.backend.ctx = &other_arch;
    REFUSED(f, MM_ERR_INVALID_ARGUMENT);
    f->roots[0] = f->roots[1] = &f->m->user;
    REFUSED(f, MM_ERR_INVALID_ARGUMENT);
    f->roots[0] = &f->m->kernel;
    f->audit.memory = NULL;
    assert_int_equal(mm_paging_audit(&f->audit, &nr), MM_ERR_INVALID_ARGUMENT);
    f->audit.memory = (char *)f->memory + 4;
    assert_int_equal(mm_paging_audit(&f->audit, &nr), MM_ERR_NOT_ALIGNED);
    assert_int_equal(nr, 5);
    f->audit.memory = f->memory;
    f->audit.report = NULL; /* the log alone */
    assert_int_equal(t_map(&f->m->kernel, LOW, 0, P4K, RWX), MM_OK);
    assert_int_equal(mm_paging_audit(&f->audit, &nr), MM_OK);
    assert_int_equal(nr, 1);
    assert_int_equal(f->nr_lines, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_through_the_direct_map, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_leaf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_types, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reach, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_present, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_nx, setup_without_nx, teardown),
        cmocka_unit_test_setup_teardown(test_adopted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_aliases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_input, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_audit", tests, NULL, NULL);
}
