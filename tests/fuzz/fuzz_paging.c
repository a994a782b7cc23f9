// SPDX-License-Identifier: MIT
/**
 * A stream of operations on page tables against the flat model: every status, every translation.
 * The first byte chooses the root (user or kernel), 48 or 57 bits, leaves of 1 GiB, and a large
 * window. A simulated CPU makes accesses in between, and may look ahead and forget: when a gather
 * has ended, nothing in its caches may disagree with the tables. At the end all is unmapped, and
 * every table is back.
 */
#include "fuzz.h"

#include "model_pages_mm.h"
#include "t_paging.h"

#define MAX_OPS 300u

struct window {
    uint64_t start;
    uint64_t len;
};

struct run {
    struct t_paging *m;
    struct mm_pagetable *pt;
    struct t_mpages model;
    struct window windows[4];
    unsigned nr_windows;
    bool user;
    bool active;        /* the CPU uses the root */
    uint64_t nr_tables; /* when nothing is mapped */
};

static struct run r;

/* --- choosing -------------------------------------------------------------------------------- */

static mm_prot_t choose_prot(unsigned byte)
{
    mm_prot_t prot = (mm_prot_t)(byte % 8);

    return prot | (r.user ? MM_PROT_USER : (byte & 8) != 0 ? MM_PROT_GLOBAL : 0);
}

static struct mm_vrange choose_range(void)
{
    unsigned shape = fz_u8();
    const struct window *w = &r.windows[shape % r.nr_windows];
    uint64_t pages = w->len / P4K;
    uint64_t first = fz_below(pages);
    uint64_t nr = 1;

    switch (shape / 4 % 8) {
    case 0:
        break;
    case 1:
        nr = 1 + fz_below(16);
        break;
    case 2:
        nr = 1 + fz_below(1024);
        break;
    case 3: /* whole large leaves */
        first = first / 512 * 512;
        nr = 512 * (1 + fz_below(4));
        break;
    case 4:
        return t_range(w->start, w->len);
    case 5:
        nr = pages;
        break;
    case 6: /* around a gigabyte, where there is one */
        first = first / 0x40000 * 0x40000;
        nr = 0x40000;
        break;
    default: /* across, or up to, the end of a large leaf */
        first = first / 512 * 512 + 511;
        nr = 1 + fz_below(2);
        break;
    }
    nr = nr > pages - first ? pages - first : nr;
    return t_range(w->start + first * P4K, nr * P4K);
}

static uint64_t choose_paddr(uint64_t at, unsigned byte)
{
    uint64_t paddr = T_LEAVES * P4K + byte / 4 % 8 * P1G;

    return paddr + (byte % 4 == 0 ? byte * P4K : byte % 4 == 1 ? at % P2M : at % P1G);
}

/* --- comparing ------------------------------------------------------------------------------- */

static void compare_at(const struct mm_pagetable *pt, uint64_t at, bool shared)
{
    const struct t_mpage *page = t_mpages_at(&r.model, at);
    struct mm_mapping leaf = {0};
    mm_status_t status = mm_paging_translate(pt, mm_vaddr(at), &leaf);

    if (page == NULL) {
        FZ_EQUAL(status, MM_ERR_NOT_MAPPED);
        return;
    }
    FZ_EQUAL(status, MM_OK);
    FZ_EQUAL(leaf.paddr.raw + (at - leaf.page.start.raw), page->paddr + at % P4K);
    FZ_EQUAL(leaf.prot, t_mpages_reported(page->prot) & ~(shared ? MM_PROT_WRITE : 0u));
    FZ_EQUAL(leaf.type, page->type);
    FZ_EQUAL(leaf.page.len, UINT64_C(1) << page->leaf);
}

struct count {
    const struct mm_pagetable *pt;
    uint64_t nr[3];
    bool shared;
};

static bool compare_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct count *c = ctx;

    c->nr[leaf->page.len == P4K ? 0 : leaf->page.len == P2M ? 1 : 2]++;
    compare_at(c->pt, leaf->page.start.raw, c->shared);
    compare_at(c->pt, mm_vrange_last(leaf->page).raw, c->shared);
    return true;
}

/* Every leaf is in the model, and there are as many. */
static void compare_all(const struct mm_pagetable *pt, bool shared)
{
    struct count c = {.pt = pt, .shared = shared};

    for (unsigned i = 0; i < r.nr_windows; i++) {
        struct mm_vrange all = t_range(r.windows[i].start, r.windows[i].len);

        FZ_EQUAL(mm_paging_walk(pt, all, compare_leaf, &c), MM_OK);
    }
    FZ_EQUAL(c.nr[0], t_mpages_count(&r.model, 12));
    FZ_EQUAL(c.nr[1] * 512, t_mpages_count(&r.model, 21));
    FZ_EQUAL(c.nr[2] * 512 * 512, t_mpages_count(&r.model, 30));
    FZ_EQUAL(mm_paging_check(pt), MM_OK);
}

/* --- operations ------------------------------------------------------------------------------ */

static mm_status_t op_map(void)
{
    static const struct {
        uint32_t flags;
        unsigned largest;
    } sizes[] = {{0, 0}, {0, 0}, {MM_PAGING_MAX_2M, 21}, {MM_PAGING_ONLY_4K, 12}};
    struct mm_vrange range = choose_range();
    uint64_t paddr = choose_paddr(range.start.raw, fz_u8());
    unsigned how = fz_u8();
    mm_prot_t prot = choose_prot(how);
    mm_memtype_t type = (mm_memtype_t)(fz_u8() % MM_MEMTYPE_COUNT);
    unsigned size = range.len > 64 * P2M ? 0 : how / 16 % 4; /* no thousands of tables */
    mm_status_t status;

    fz_op("map");
    status = mm_paging_map(r.pt, range, mm_paddr(paddr), prot, type, sizes[size].flags);
    if (status != MM_ERR_NO_MEMORY) {
        FZ_EQUAL(status,
                 t_mpages_status_mm(t_mpages_map(&r.model, range.start.raw, paddr, range.len, prot,
                                                 (uint16_t)type, sizes[size].largest)));
    }
    return status;
}

static mm_status_t op_unmap(struct mm_gather *gather)
{
    struct mm_vrange range = choose_range();
    uint32_t flags = (uint32_t)fz_u8() % 4;
    mm_status_t status;

    fz_op("unmap");
    status = mm_paging_unmap(r.pt, range, flags, gather);
    if (status != MM_ERR_NO_MEMORY) {
        FZ_EQUAL(status, t_mpages_status_mm(t_mpages_unmap(&r.model, range.start.raw, range.len,
                                                           t_mpages_flags_mm(flags))));
    }
    return status;
}

static mm_status_t op_protect(struct mm_gather *gather)
{
    struct mm_vrange range = choose_range();
    unsigned how = fz_u8();
    mm_prot_t prot = choose_prot(how);
    uint32_t flags = how / 16 % 4;
    mm_status_t status;

    fz_op("protect");
    status = mm_paging_protect(r.pt, range, prot, flags, gather);
    if (status != MM_ERR_NO_MEMORY) {
        FZ_EQUAL(status, t_mpages_status_mm(t_mpages_protect(&r.model, range.start.raw, range.len,
                                                             prot, t_mpages_flags_mm(flags))));
    }
    return status;
}

static mm_status_t op_replace(struct mm_gather *gather)
{
    uint64_t at = choose_range().start.raw;
    uint64_t paddr = choose_paddr(at, fz_u8()) & ~(P4K - 1);
    mm_prot_t prot = choose_prot(fz_u8());
    const struct t_mpage *page = t_mpages_at(&r.model, at);
    mm_status_t status;
    uint16_t type;

    fz_op("replace");
    status = mm_paging_replace(r.pt, mm_vaddr(at), mm_paddr(paddr), prot, 0, gather);
    if (page == NULL) {
        FZ_EQUAL(status, MM_ERR_NOT_MAPPED);
    } else if (page->leaf != 12) {
        FZ_EQUAL(status, MM_ERR_HUGE_PAGE);
    } else {
        FZ_EQUAL(status, MM_OK);
        type = page->type;
        FZ_EQUAL(t_mpages_unmap(&r.model, at, P4K, 0), T_MPAGES_OK);
        FZ_EQUAL(t_mpages_map(&r.model, at, paddr, P4K, prot, type, 12), T_MPAGES_OK);
    }
    return status;
}

static void count_shared(void *ctx, mm_pfn_t first, uint64_t nr)
{
    uint64_t *frames = ctx;

    (void)first;
    *frames += nr;
}

/* Clone one window into a new root; both sides lose the right to write. */
static mm_status_t op_clone(struct mm_gather *gather)
{
    const struct window *w = &r.windows[fz_u8() % r.nr_windows];
    struct mm_pagetable copy = {0};
    uint64_t frames = 0;
    mm_status_t status;

    fz_op("clone");
    status = mm_paging_init_user(&copy, &r.m->kernel);
    if (status != MM_OK) {
        return status;
    }
    status = mm_paging_clone(r.pt, &copy, t_range(w->start, w->len), count_shared, &frames, gather);
    mm_gather_end(gather);
    for (uint64_t at = w->start; status == MM_OK && at < w->start + w->len; at += P4K) {
        const struct t_mpage *page = t_mpages_at(&r.model, at);

        if (page != NULL) {
            frames--;
            if ((page->prot & MM_PROT_WRITE) != 0) {
                ((struct t_mpage *)(uintptr_t)page)->prot =
                    t_mpages_reported(page->prot) & ~MM_PROT_WRITE;
            }
        }
        if (page != NULL || at % P2M == 0) {
            compare_at(&copy, at, true);
        }
    }
    FZ_EQUAL(status == MM_OK ? frames : 0, 0);
    FZ_EQUAL(mm_paging_check(&copy), MM_OK);
    FZ_EQUAL(mm_paging_destroy(&copy), MM_OK);
    return status;
}

/* A range that is no range: refused, and nothing changes. */
static mm_status_t op_bad(struct mm_gather *gather)
{
    struct mm_vrange range = choose_range();
    unsigned how = fz_u8();
    uint64_t before;
    mm_status_t status;

    switch (how % 4) {
    case 0:
        range.start.raw += 1 + how;
        break;
    case 1:
        range.len -= 1 + how;
        break;
    case 2:
        range.len = 0;
        break;
    default:
        range.len = UINT64_MAX - 0xfff - (uint64_t)how * P4K;
        break;
    }
    fz_op("bad range");
    before = t_state(r.m, gather);
    status = how % 3 == 0 ? mm_paging_map(r.pt, range, mm_paddr(T_LEAVES * P4K), choose_prot(how),
                                          MM_MEMTYPE_WB, 0)
             : how % 3 == 1
                 ? mm_paging_unmap(r.pt, range, how / 16 % 4, gather)
                 : mm_paging_protect(r.pt, range, choose_prot(how), how / 16 % 4, gather);
    FZ_TRUE(status == MM_ERR_NOT_ALIGNED || status == MM_ERR_INVALID_SIZE ||
            status == MM_ERR_INVALID_ADDRESS);
    FZ_EQUAL(t_state(r.m, gather), before);
    return status;
}

static void op_access(void)
{
    uint64_t at = choose_range().start.raw + fz_below(P4K);
    uint32_t access = (r.user ? T_MMU_USER : 0) | (fz_u8() % 2 != 0 ? T_MMU_WRITE : 0);
    const struct t_mpage *page = t_mpages_at(&r.model, at);
    uint64_t paddr = 0;
    bool allowed = page != NULL && t_mpages_reported(page->prot) != 0 &&
                   ((access & T_MMU_WRITE) == 0 || (page->prot & MM_PROT_WRITE) != 0);

    fz_op("access");
    FZ_EQUAL(t_cpu_access(r.m->cpu, at, access, &paddr) == T_CPU_DONE, allowed);
    if (allowed) {
        FZ_EQUAL(paddr, page->paddr + at % P4K);
    }
}

static void op_edit(unsigned op, uint64_t nth)
{
    struct mm_gather gather;
    unsigned noise = r.m->cpus.noise;
    bool cloned = false;
    uint64_t before = 0;
    mm_status_t status;

    if (nth != 0 || op >= 13) {
        r.m->cpus.noise = 0; /* looking ahead sets accessed: another state */
    }
    FZ_EQUAL(mm_gather_begin(&gather, r.pt), MM_OK);
    if (nth != 0) {
        before = t_state(r.m, NULL);
        t_inject_from(&r.m->inject, nth);
    }
    if (op < 6) {
        status = op_map();
    } else if (op < 9) {
        status = op_unmap(&gather);
    } else if (op < 12) {
        status = op_protect(&gather);
    } else if (op < 13) {
        status = op_replace(&gather);
    } else if (op < 14 && r.user) {
        cloned = true;
        status = op_clone(&gather);
    } else {
        status = op_bad(&gather);
    }
    FZ_EQUAL(status == MM_ERR_NO_MEMORY, r.m->inject.fired > 0);
    if (status != MM_OK && !cloned) {
        FZ_EQUAL(gather.nr_ranges + gather.nr_tables, 0);
        FZ_EQUAL(nth != 0 ? t_state(r.m, NULL) : 0, before);
    }
    t_inject_never(&r.m->inject);
    mm_gather_end(&gather);
    r.m->cpus.noise = noise;
    FZ_LEGAL(t_cpus_sweep(&r.m->cpus, T_SWEEP_SAME));
}

/* --- one input ------------------------------------------------------------------------------- */

static void add_window(uint64_t start, uint64_t len)
{
    t_mpages_add_window(&r.model, start, len);
    r.windows[r.nr_windows++] = (struct window){start, len};
}

static void start(unsigned geometry)
{
    bool la57 = (geometry & 2) != 0;
    bool large = (geometry & 0x6c) == 0x6c; /* rarely: it is a large model */
    uint64_t half = UINT64_C(1) << (la57 ? 56 : 47);
    const struct mm_vrange ranges[2] = {{{-half}, UINT64_C(16) << 30},
                                        {{T_KERNEL_TOP}, T_KERNEL_TOP_LEN}};
    struct t_cpu_features has = t_cpu_full;
    struct mm_paging_config config;
    struct t_paging *m = r.m;
    uint64_t base;

    r.user = (geometry & 1) != 0;
    r.nr_windows = 0;
    m->nr_stack = 0;
    for (uint32_t frame = T_TABLES; --frame > 0;) {
        m->stack[m->nr_stack++] = frame;
    }
    t_mpages_init(&r.model, (geometry & 4) != 0 ? 30 : 21);
    has.page_1g = (geometry & 4) != 0;
    t_paging_cpus(m, 1, &has);
    m->cpu->mmu.cr4 |= la57 ? T_MMU_CR4_LA57 : 0;
    memset(&m->arch, 0, sizeof(m->arch));
    t_paging_arch(m);
    config = t_config(m);
    config.kernel_ranges = ranges;
    config.user.len = half;
    base = r.user ? 0 : -half;
    add_window(base, 4 * P2M);
    add_window(base + 3 * P1G - 2 * P2M, large ? P1G + 4 * P2M : 4 * P2M);
    add_window(r.user ? half - 4 * P2M : 0 - 4 * P2M, 4 * P2M);
    FZ_EQUAL(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    FZ_EQUAL(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    r.pt = r.user ? &m->user : &m->kernel;
    r.nr_tables = r.pt->nr_tables;
    r.active = (geometry & 16) == 0;
    if (r.active) {
        FZ_EQUAL(mm_paging_activate(r.pt), MM_OK);
        t_cpus_noise(&m->cpus, geometry, (geometry & 128) != 0 ? 8 : 0);
    }
}

static void stop(void)
{
    struct t_paging *m = r.m;

    fz_op("the end");
    compare_all(r.pt, false);
    for (unsigned w = 0; w < r.nr_windows; w++) {
        FZ_EQUAL(t_unmap(r.pt, r.windows[w].start, r.windows[w].len, MM_PAGING_SKIP_HOLES), MM_OK);
    }
    FZ_EQUAL(r.pt->nr_tables, r.nr_tables);
    FZ_EQUAL(r.pt->nr_leaves[0] + r.pt->nr_leaves[1] + r.pt->nr_leaves[2], 0);
    FZ_LEGAL(t_cpus_sweep(&m->cpus, T_SWEEP_SAME));
    t_cpus_noise(&m->cpus, 0, 0);
    m->cpu->mmu.cr3 = T_TABLES * P4K; /* some root elsewhere */
    t_cpu_drop_all(m->cpu);
    FZ_EQUAL(mm_paging_check(&m->user), MM_OK);
    FZ_EQUAL(mm_paging_destroy(&m->user), MM_OK);
    FZ_EQUAL(mm_paging_check(&m->kernel), MM_OK);
    FZ_EQUAL(mm_paging_destroy(&m->kernel), MM_OK);
    FZ_EQUAL(m->nr_used, 0);
    t_mpages_destroy(&r.model);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    r.m = t_paging_new();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fz_begin(data, size);
    start(fz_u8());
    while (fz_more() && fz.nr_ops < MAX_OPS) {
        unsigned op = fz_u8();

        if (op % 32 < 21) { /* a quarter of the edits runs out of memory, if it needs some */
            op_edit(op % 32 * 15 / 21, op / 32 > 5 ? 1 + fz_below(6) : 0);
        } else if (r.active) {
            op_access();
        }
    }
    stop();
    return 0;
}
