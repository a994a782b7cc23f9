// SPDX-License-Identifier: MIT
/**
 * The rig of the engine tests: RAM for tables, a source of frames, the registers of a CPU, a page
 * table with its model, and the watcher that hears all of them and every access of the library.
 *
 * A call goes like this:
 *
 *     struct rig_edit edit = {.r = r, .what = RIG_UNMAP, ...};
 *     rig_enter(r, pt, &edit, range);
 *     status = mm_paging_unmap(pt, range, flags, &gather);
 *     rig_leave(r, status);                  // fails the test if the watcher objects
 *
 * The model is still as before the call; the test changes it after. Include after <cmocka.h>.
 */
#ifndef ENGINE_RIG_H
#define ENGINE_RIG_H

#include "events.h"
#include "inject.h"
#include "model_pages.h"
#include "prng.h"
#include "table_watch.h"
#include "trap_mm.h"

#include <mm/arch/x86_64.h>
#include <mm/paging.h>
#include <mm/tlb.h>

#include <stdlib.h>
#include <string.h>

#define RIG_FRAMES 3072u
#define RIG_LEAVES UINT64_C(0x100000) /* first frame of leaves: not in the RAM */

#define P4K UINT64_C(0x1000)
#define P2M UINT64_C(0x200000)
#define P1G UINT64_C(0x40000000)

#define RIG_KERNEL_TOP     UINT64_C(0xffffffff00000000)
#define RIG_KERNEL_TOP_LEN (UINT64_C(1) << 32)

struct rig {
    uint64_t *ram;
    struct t_watch *watch;
    /* The source. */
    struct t_inject inject;
    uint32_t stack[RIG_FRAMES];
    uint32_t nr_stack;
    uint32_t nr_used;
    uint64_t nr_released;
    /* The CPU. */
    uint64_t cr0, cr3, cr4, efer, pat;
    bool la57, page_1g, invpcid;
    struct mm_x86_64 arch;
    struct mm_physmap physmap;
    uint8_t mapped[RIG_FRAMES]; /* by the physmap's ops, if it has any */
    unsigned nr_mapped;
    struct mm_pagetable kernel;
    struct mm_pagetable user;
    struct t_mpages model;
    struct t_prng prng;
    uint64_t operation;          /* for messages */
    void (*each)(struct rig *r); /* if set, at every event */
    uint64_t about[4];           /* what it is about */
    const char *name;
};

/* --- source of frames: what it has is full of junk, which looks present ----------------------- */

static inline uint64_t *rig_table(const struct rig *r, uint64_t frame)
{
    return r->ram + frame * 512;
}

static inline void rig_junk(const struct rig *r, uint64_t frame)
{
    for (unsigned i = 0; i < 512; i++) {
        rig_table(r, frame)[i] = ((frame * 512 + i) * UINT64_C(0x9e3779b97f4a7c15)) | 1;
    }
}

static inline mm_status_t rig_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed,
                                    mm_pfn_t *out)
{
    struct rig *r = ctx;
    uint32_t frame;

    (void)owner;
    t_watch_settle(r->watch);
    if (t_inject_fails(&r->inject)) {
        return MM_ERR_NO_MEMORY;
    }
    assert_true(r->nr_stack > 0);
    frame = r->stack[--r->nr_stack];
    r->nr_used++;
    if (zeroed) {
        memset(rig_table(r, frame), 0, 4096);
    }
    t_watch_handed(r->watch, frame, zeroed);
    *out = mm_pfn(frame);
    return MM_OK;
}

static inline void rig_free(void *ctx, mm_pfn_t frame)
{
    struct rig *r = ctx;

    t_watch_back(r->watch, frame.raw);
    if (frame.raw < RIG_FRAMES) {
        rig_junk(r, frame.raw);
        r->stack[r->nr_stack++] = (uint32_t)frame.raw;
        r->nr_used--;
    } else {
        r->nr_released++;
    }
}

/* --- a physmap of ops: three tables at a time, and no access to any other ------------------- */

static inline void *rig_map_frame(void *ctx, mm_pfn_t frame)
{
    struct rig *r = ctx;

    r->mapped[frame.raw]++;
    r->nr_mapped++;
    return r->nr_mapped > 3 ? NULL : rig_table(r, frame.raw);
}

static inline void rig_unmap_frame(void *ctx, void *mapped)
{
    struct rig *r = ctx;
    uint64_t frame = (uint64_t)((uint64_t *)mapped - r->ram) / 512;

    t_watch_settle(r->watch);
    assert_true(r->mapped[frame] > 0);
    r->mapped[frame]--;
    r->nr_mapped--;
}

static inline void rig_use_ops(struct rig *r)
{
    static const struct mm_physmap_ops ops = {.map = rig_map_frame, .unmap = rig_unmap_frame};
    struct mm_physmap physmap = {.ops = &ops, .ctx = r};

    r->physmap = physmap;
}

/* --- registers -------------------------------------------------------------------------------- */

static inline struct mm_x86_64_cpuid rig_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    const struct rig *r = ctx;
    struct mm_x86_64_cpuid id = {0, 0, 0, 0};

    (void)subleaf;
    switch (leaf) {
    case 0:
        id.eax = 7;
        break;
    case 1:
        id.edx = (1u << 13) | (1u << 16); /* PGE, PAT */
        break;
    case 7:
        id.ebx = r->invpcid ? 1u << 10 : 0;
        id.ecx = 1u << 16; /* LA57 */
        break;
    case 0x80000000:
        id.eax = 0x80000008;
        break;
    case 0x80000001:
        id.edx = (1u << 20) | (1u << 29) | (r->page_1g ? 1u << 26 : 0); /* NX, long mode */
        break;
    case 0x80000008:
        id.eax = 46 | 0x3900;
        break;
    default:
        break;
    }
    return id;
}

static inline uint64_t rig_read_msr(void *ctx, uint32_t msr)
{
    const struct rig *r = ctx;

    return msr == 0x277 ? r->pat : r->efer;
}

static inline void rig_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    struct rig *r = ctx;

    if (msr == 0x277) {
        r->pat = value;
        r->watch->pat = value;
    } else {
        r->efer = value;
        r->watch->nxe = (value & (1u << 11)) != 0;
    }
}

static inline uint64_t rig_read_cr(void *ctx, unsigned cr)
{
    const struct rig *r = ctx;

    return cr == 0 ? r->cr0 : cr == 3 ? r->cr3 : r->cr4;
}

static inline void rig_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    struct rig *r = ctx;

    if (cr == 0) {
        r->cr0 = value;
    } else if (cr == 3) {
        r->cr3 = value;
        t_watch_cr3(r->watch, value);
    } else {
        if (((r->cr4 ^ value) & (1u << 7)) != 0) {
            t_watch_flush(r->watch); /* CR4.PGE: everything, global or not (4.10.4.1) */
        }
        r->cr4 = value;
    }
}

static inline void rig_invlpg(void *ctx, uint64_t at)
{
    const struct rig *r = ctx;

    t_watch_invlpg(r->watch, at);
}

static inline void rig_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    const struct rig *r = ctx;

    assert_true(r->invpcid && type == 2 && pcid == 0 && at == 0);
    t_watch_flush(r->watch);
}

/* --- events ----------------------------------------------------------------------------------- */

static inline void rig_before(void *ctx, const struct t_event *event)
{
    struct rig *r = ctx;
    bool store = event->kind == T_EVENT_STORE || event->kind == T_EVENT_UPDATE;
    bool release = event->order == __ATOMIC_RELEASE || event->order == __ATOMIC_ACQ_REL ||
                   event->order == __ATOMIC_SEQ_CST;

    t_watch_before(r->watch, event->at, event->size, store, store && release);
    if (r->physmap.ops != NULL && event->at != NULL &&
        r->mapped[((uint64_t *)event->at - r->ram) / 512] == 0) {
        t_watch_wrong(r->watch, "an access to frame %#llx, which is not mapped",
                      (unsigned long long)(((uint64_t *)event->at - r->ram) / 512));
    }
    if (r->each != NULL) {
        r->each(r);
    }
}

static inline void rig_after(void *ctx, const struct t_event *event)
{
    struct rig *r = ctx;

    if (event->kind != T_EVENT_LOAD) {
        t_watch_after(r->watch, event->kind != T_EVENT_FAILED_CAS);
    }
    if (r->each != NULL) {
        r->each(r);
    }
}

static inline void rig_watch(struct rig *r, bool on)
{
    static const struct t_events_hooks hooks = {.before = rig_before, .after = rig_after};

    t_events_watch(on ? &hooks : NULL, on ? r : NULL);
    if (on) {
        t_events_only((uintptr_t)r->ram, RIG_FRAMES * 4096u);
    } else {
        t_watch_settle(r->watch);
    }
}

static inline void rig_ok(const struct rig *r, const char *when)
{
    if (r->watch->nr_wrong != 0) {
        fail_msg("%s, operation %llu, %s: %s\nmore of it: %u; replay: MM_TEST_SEED=%#llx", r->name,
                 (unsigned long long)r->operation, when, r->watch->wrong, r->watch->nr_wrong - 1,
                 (unsigned long long)t_seed());
    }
}

/* --- what a call does to a page, out of the model --------------------------------------------- */

enum rig_what {
    RIG_NOTHING,
    RIG_MAP,
    RIG_UNMAP,
    RIG_PROTECT,
    RIG_REPLACE,
    RIG_NARROW, /**< the right to write goes: what a clone leaves of the original */
    RIG_COPY,   /**< nothing before, and after the original without the right to write */
};

struct rig_edit {
    struct rig *r;
    enum rig_what what;
    uint64_t start;
    uint64_t paddr;
    mm_prot_t prot;
    mm_memtype_t type;
};

/** A page as the hardware sees it. */
static inline struct t_watch_page rig_page(uint64_t paddr, mm_prot_t prot, unsigned type)
{
    static const uint8_t types[] = {6, 4, 1, 7, 0, 5}; /* by mm_memtype_t: SDM vol. 3A, 12.12.2 */
    struct t_watch_page page = {.present = false};

    if ((prot & (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)) != 0) {
        page.present = true;
        page.paddr = paddr;
        page.rights = ((prot & MM_PROT_WRITE) != 0 ? T_WATCH_RW : 0) |
                      ((prot & MM_PROT_USER) != 0 ? T_WATCH_US : 0) |
                      ((prot & MM_PROT_EXEC) != 0 ? 0 : T_WATCH_NX);
        page.type = types[type];
        page.global = (prot & MM_PROT_GLOBAL) != 0;
    }
    return page;
}

static inline mm_prot_t rig_narrowed(mm_prot_t prot)
{
    return (prot & MM_PROT_WRITE) != 0 ? (prot & ~MM_PROT_WRITE) | MM_PROT_READ : prot;
}

/** A clone took the right to write from a page. */
static inline void rig_narrow_model(struct rig *r, uint64_t at)
{
    struct t_mpage *page = (struct t_mpage *)(uintptr_t)t_mpages_at(&r->model, at);

    if (page != NULL) {
        page->prot = rig_narrowed(page->prot);
    }
}

static inline void rig_expect(void *ctx, uint64_t at, struct t_watch_page *before,
                              struct t_watch_page *after)
{
    const struct rig_edit *e = ctx;
    const struct t_mpage *p = t_mpages_at(&e->r->model, at);
    struct t_watch_page none = {.present = false};

    *before = p != NULL ? rig_page(p->paddr, p->prot, p->type) : none;
    switch (e->what) {
    case RIG_MAP:
        *after = rig_page(e->paddr + (at - e->start), e->prot, e->type);
        break;
    case RIG_UNMAP:
        *after = none;
        break;
    case RIG_PROTECT:
        *after = p != NULL ? rig_page(p->paddr, e->prot, p->type) : none;
        break;
    case RIG_REPLACE:
        *after = p != NULL ? rig_page(e->paddr, e->prot, p->type) : none;
        break;
    case RIG_NARROW:
    case RIG_COPY:
        *after = p != NULL ? rig_page(p->paddr, rig_narrowed(p->prot), p->type) : none;
        break;
    case RIG_NOTHING:
        *after = *before;
        break;
    }
    *before = e->what == RIG_COPY ? none : *before;
}

static inline struct t_watch_edit rig_allow(struct rig_edit *e, const struct mm_pagetable *pt,
                                            struct mm_vrange range)
{
    struct t_watch_edit edit = {
        .root = pt->root.raw / 4096,
        .start = range.start.raw,
        .len = range.len,
        .expect = rig_expect,
        .ctx = e,
        .anew = e->what == RIG_REPLACE,
        .fresh = e->what == RIG_MAP,
    };

    e->start = range.start.raw;
    return edit;
}

static inline void rig_enter(struct rig *r, const struct mm_pagetable *pt, struct rig_edit *e,
                             struct mm_vrange range)
{
    struct t_watch_edit edit = rig_allow(e, pt, range);

    t_watch_begin(r->watch, &edit, 1);
    rig_watch(r, true);
}

/** What the walker set must be told by translate, if the page is still there. */
static inline void rig_seen(const struct rig *r, const struct mm_pagetable *pt, bool only_dirty)
{
    for (unsigned i = 0; i < r->watch->nr_seen; i++) {
        const struct t_watch_seen *s = &r->watch->seen[i];
        struct mm_mapping leaf;

        if (mm_paging_translate(pt, mm_vaddr(s->at), &leaf) == MM_OK &&
            leaf.paddr.raw + (s->at - leaf.page.start.raw) == s->paddr &&
            ((!leaf.accessed && !only_dirty) || (s->dirty && !leaf.dirty))) {
            fail_msg("%s, operation %llu: %s at %#llx, set during the call, is lost\n"
                     "replay: MM_TEST_SEED=%#llx",
                     r->name, (unsigned long long)r->operation,
                     s->dirty && !leaf.dirty ? "dirty" : "accessed", (unsigned long long)s->at,
                     (unsigned long long)t_seed());
        }
    }
}

static inline void rig_leave(struct rig *r, const struct mm_pagetable *pt, mm_status_t status)
{
    bool anew = r->watch->nr_edits != 0 && r->watch->edits[0].anew;

    rig_watch(r, false);
    t_watch_end(r->watch, status != MM_OK);
    rig_ok(r, "in the call");
    if (!anew) {
        rig_seen(r, pt, false);
    }
}

/** End a gather under the watcher's eyes. */
static inline void rig_gather_end(struct rig *r, struct mm_gather *gather)
{
    t_watch_begin(r->watch, NULL, 0);
    rig_watch(r, true);
    mm_gather_end(gather);
    rig_watch(r, false);
    t_watch_settled(r->watch);
    rig_ok(r, "when the gather had ended");
}

/* --- the machine ------------------------------------------------------------------------------ */

static inline struct rig *rig_new(const char *name, bool la57, bool page_1g, bool invpcid)
{
    static const struct mm_x86_64_cpu_ops ops = {
        .cpuid = rig_cpuid,
        .read_msr = rig_read_msr,
        .write_msr = rig_write_msr,
        .read_cr = rig_read_cr,
        .write_cr = rig_write_cr,
        .invlpg = rig_invlpg,
        .invpcid = rig_invpcid,
    };
    struct rig *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    r->name = name;
    t_prng_start(&r->prng, name);
    r->ram = aligned_alloc(4096, RIG_FRAMES * 4096u);
    assert_non_null(r->ram);
    r->watch = t_watch_new(r->ram, RIG_FRAMES);
    r->watch->levels = la57 ? 5 : 4;
    r->watch->page_1g = page_1g;
    r->watch->pat = r->pat = UINT64_C(0x0007040600070406); /* at reset: SDM vol. 3A, 12.12.4 */
    r->watch->walker_random ^= t_prng_u64(&r->prng) >> 1;
    r->watch->walker = T_WATCH_RANDOM;
    for (uint32_t frame = RIG_FRAMES; --frame > 0;) { /* frame 0 is left out */
        r->stack[r->nr_stack++] = frame;
        rig_junk(r, frame);
    }
    r->la57 = la57;
    r->page_1g = page_1g;
    r->invpcid = invpcid;
    r->efer = 0x500;
    r->cr0 = 0x80000011;
    r->cr4 = 0x20 | (la57 ? 1u << 12 : 0);
    r->physmap = mm_physmap_direct((uint64_t)(uintptr_t)r->ram);
    t_mpages_init(&r->model, page_1g ? 30 : 21);
    assert_int_equal(mm_x86_64_init(&r->arch, &ops, r), MM_OK);
    assert_int_equal(mm_x86_64_enable(&r->arch), MM_OK);
    return r;
}

static inline uint64_t rig_half(const struct rig *r)
{
    return UINT64_C(1) << (r->la57 ? 56 : 47);
}

static inline struct mm_vrange rig_range(uint64_t start, uint64_t len)
{
    return mm_vrange(mm_vaddr(start), len);
}

/** `ranges`: room for two. */
static inline struct mm_paging_config rig_config(struct rig *r, struct mm_vrange *ranges)
{
    static const struct mm_frame_source_ops source = {.alloc = rig_alloc, .free = rig_free};
    struct mm_paging_config config = {
        .backend = mm_x86_64_backend(&r->arch),
        .physmap = &r->physmap,
        .source = {&source, r},
        .platform = t_platform(),
        .kernel_ranges = ranges,
        .nr_kernel_ranges = 2,
        .user = {{0}, rig_half(r)},
    };

    ranges[0] = rig_range(-rig_half(r), r->la57 ? UINT64_C(1) << 50 : UINT64_C(16) << 30);
    ranges[1] = rig_range(RIG_KERNEL_TOP, RIG_KERNEL_TOP_LEN);
    return config;
}

static inline void rig_activate(struct rig *r, struct mm_pagetable *pt)
{
    t_watch_live(r->watch, pt->root.raw / 4096, true);
    assert_int_equal(mm_paging_activate(pt), MM_OK);
    t_watch_settled(r->watch);
    rig_ok(r, "when a root was activated");
}

/** A user root under the watcher. */
static inline mm_status_t rig_init_user(struct rig *r, struct mm_pagetable *pt)
{
    mm_status_t status;

    t_watch_begin(r->watch, NULL, 0);
    rig_watch(r, true);
    status = mm_paging_init_user(pt, &r->kernel);
    rig_watch(r, false);
    if (status == MM_OK) {
        t_watch_root(r->watch, pt->root.raw / 4096, r->kernel.root.raw / 4096, true);
    }
    t_watch_end(r->watch, status != MM_OK);
    rig_ok(r, "in init_user");
    return status;
}

/** A kernel root, and a user root beside it. */
static inline void rig_start(struct rig *r)
{
    struct mm_vrange ranges[2];
    struct mm_paging_config config = rig_config(r, ranges);

    t_watch_begin(r->watch, NULL, 0);
    rig_watch(r, true);
    assert_int_equal(mm_paging_init_kernel(&r->kernel, &config), MM_OK);
    rig_watch(r, false);
    t_watch_root(r->watch, r->kernel.root.raw / 4096, r->kernel.root.raw / 4096, false);
    rig_ok(r, "in init_kernel");
    assert_int_equal(rig_init_user(r, &r->user), MM_OK);
    rig_activate(r, &r->kernel);
}

/** Take a root down under the watcher; all that the model knows of it may go. */
static inline void rig_destroy(struct rig *r, struct mm_pagetable *pt)
{
    struct rig_edit gone = {.r = r, .what = RIG_UNMAP};
    struct t_watch_edit edits[2];
    unsigned nr = pt->is_user != 0 ? 1 : pt->nr_kernel_ranges;

    for (unsigned i = 0; i < nr; i++) {
        edits[i] = rig_allow(&gone, pt, pt->is_user != 0 ? pt->user : pt->kernel_ranges[i]);
    }
    t_watch_begin(r->watch, edits, nr);
    rig_watch(r, true);
    assert_int_equal(mm_paging_destroy(pt), MM_OK);
    rig_watch(r, false);
    r->watch->nr_edits = 0; /* there is no root to walk from */
    t_watch_end(r->watch, false);
    t_watch_settled(r->watch);
    rig_ok(r, "in destroy");
}

static inline void rig_totals(const struct rig *r)
{
    const struct t_watch *w = r->watch;

    print_message("%s: %llu operations, %llu stores, %llu tables linked, %llu pages judged, "
                  "%llu bits set by the walker, %llu splits with two sizes live, %llu flushes\n",
                  r->name, (unsigned long long)r->operation, (unsigned long long)w->total_stores,
                  (unsigned long long)w->total_links, (unsigned long long)w->total_pages,
                  (unsigned long long)w->total_seen, (unsigned long long)w->total_mixed,
                  (unsigned long long)w->total_flushes);
}

/** Both roots go, and every frame must be back. */
static inline void rig_delete(struct rig *r, uint32_t used)
{
    t_watch_audit(r->watch);
    rig_ok(r, "at the end");
    rig_write_cr(r, 3, RIG_FRAMES * UINT64_C(4096)); /* some root elsewhere */
    if (r->user.magic != 0) {
        assert_int_equal(mm_paging_check(&r->user), MM_OK);
        rig_destroy(r, &r->user);
    }
    if (r->kernel.magic != 0) {
        assert_int_equal(mm_paging_check(&r->kernel), MM_OK);
        rig_destroy(r, &r->kernel);
    }
    assert_int_equal(r->nr_used, used);
    assert_int_equal(r->nr_mapped, 0);
    t_mpages_destroy(&r->model);
    t_watch_delete(r->watch);
    free(r->ram);
    free(r);
}

#endif
