// SPDX-License-Identifier: MIT
/**
 * Tables that the library built in the memory of a virtual machine, walked by what is behind
 * /dev/kvm: each protection, size of leaf and way to come to it (truth_built.h), in a user and a
 * kernel root, comes to what the protection says. Hazards 8 to 11.
 *
 * The library builds everything before the machine runs, and nothing is changed after: the host has
 * no way to tell KVM that it has changed a guest's tables. Large leaves all show the machine's
 * whole memory, from address 0 on.
 *
 * Where there is no KVM the test says so and is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvm_vm.h"
#include "t_paging.h"
#include "truth.h"
#include "truth_built.h"

#define BOOT_ROOT T_KVM_FREE
#define PAGE      (T_KVM_FREE + 0x2000) /* one beside it is free: replace comes from there */
#define TABLES    (T_KVM_FREE + 0x10000)

#define KERNEL_AT UINT64_C(0xffff800000000000)
#define SPACING   (UINT64_C(1) << 31) /* from a page to the next: no two share a table of leaves */
#define NR_PAGES  (3u * NR_BUILT * 8u)

#define PF_FAULT 14u

struct world {
    struct t_kvm vm;
    struct t_cpus cpus; /* what the library asks for features */
    struct mm_x86_64 arch;
    struct mm_physmap physmap;
    uint64_t next;
    struct mm_pagetable kernel;
    struct mm_pagetable user;
    struct built_page pages[2 * NR_PAGES];
    unsigned nr_pages;
    uint64_t nr_accesses;
    uint64_t nr_may_deviate; /* accesses of the kind, and those that did */
    uint64_t nr_deviate;
};

/* --- a source of frames of the machine -------------------------------------------------------- */

static mm_status_t source_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct world *w = ctx;

    (void)owner;
    if (w->next + P4K > T_KVM_MEMORY) {
        return MM_ERR_NO_MEMORY;
    }
    memset(w->vm.memory + w->next, zeroed ? 0 : 0xa5, P4K);
    *out = mm_pfn(w->next / P4K);
    w->next += P4K;
    return MM_OK;
}

static void source_free(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    (void)frame;
}

/* --- building --------------------------------------------------------------------------------- */

static void make_roots(struct world *w, bool nx)
{
    static const struct mm_frame_source_ops ops = {.alloc = source_alloc, .free = source_free};
    static const struct mm_vrange range = {{KERNEL_AT}, UINT64_C(1) << 39};
    struct t_cpu_features has = t_cpu_full;
    struct mm_paging_config config = {
        .physmap = &w->physmap,
        .source = {&ops, w},
        .platform = t_platform(),
        .kernel_ranges = &range,
        .nr_kernel_ranges = 1,
        .user = {{0}, UINT64_C(1) << 39},
    };

    has.nx = nx && w->vm.has_nx;
    has.page_1g = w->vm.has_1g;
    has.paddr_bits = w->vm.paddr_bits;
    t_cpus_init(&w->cpus, 1, NULL, &has);
    assert_int_equal(mm_x86_64_init(&w->arch, &t_cpu_ops, &w->cpus), MM_OK);
    assert_int_equal(mm_x86_64_enable(&w->arch), MM_OK);
    w->physmap = mm_physmap_direct((uint64_t)(uintptr_t)w->vm.memory);
    config.backend = mm_x86_64_backend(&w->arch);
    w->next = TABLES;
    assert_int_equal(mm_paging_init_kernel(&w->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_user(&w->user, &w->kernel), MM_OK);
}

static void build(struct world *w, struct mm_pagetable *pt, uint64_t at, mm_prot_t always)
{
    for (unsigned i = 0; i < NR_PAGES; i++) {
        uint64_t len = t_mmu_span(i % 3);
        struct built_page *p = &w->pages[w->nr_pages];

        /* The page in question lies at PAGE; of large leaves that is in their midst. */
        at += SPACING;
        *p = (struct built_page){
            .how = (enum built)(i / 3 % NR_BUILT),
            .range = t_range(len == P4K ? at + PAGE : at, len),
            .paddr = len == P4K ? PAGE : 0,
            .prot = (mm_prot_t)(i / 3 / NR_BUILT) | always,
            .type = MM_MEMTYPE_WB,
        };
        if (built_possible(p->how, len, w->arch.features.page_1g)) {
            assert_int_equal(built_build(pt, p), MM_OK);
            w->nr_pages++;
        }
    }
    assert_int_equal(mm_paging_check(pt), MM_OK);
}

/* --- asking ----------------------------------------------------------------------------------- */

static bool agrees(struct world *w, uint64_t at, unsigned access, struct t_truth_outcome wanted,
                   const struct t_access_result *seen)
{
    uint8_t now = w->vm.memory[PAGE];

    w->vm.memory[PAGE] = T_KVM_HALT;
    if (wanted.fault) {
        return seen->vector == PF_FAULT && seen->error == wanted.error && seen->address == at &&
               now == T_KVM_HALT;
    }
    if (seen->vector != T_ACCESS_END) {
        return false;
    }
    return (access & T_MMU_WRITE) != 0 ? now == T_ACCESS_STORED : now == T_KVM_HALT;
}

/* Some walkers behind KVM never come to the tables when the user accesses the upper half: the fault
 * is one of a page that is not present, and a fetch is told whatever the registers. They must do so
 * always, or never. */
static struct t_truth_outcome deviation(uint64_t at, unsigned access, struct t_truth_outcome wanted)
{
    if (at >> 63 != 0 && (access & T_MMU_USER) != 0) {
        wanted.error =
            (wanted.error & ~T_MMU_ERR_P) | ((access & T_MMU_FETCH) != 0 ? T_MMU_ERR_I : 0);
    }
    return wanted;
}

static void ask(struct world *w, const struct built_page *p, unsigned regs, unsigned access)
{
    uint64_t at = p->range.start.raw + (PAGE - p->paddr);
    struct t_truth_outcome wanted = built_wanted(p->prot, regs, access);
    struct t_access_result seen;
    const char *died = t_kvm_access(&w->vm, at, access, &seen);

    if (died != NULL) {
        fail_msg("after %llu accesses: %s", (unsigned long long)w->nr_accesses, died);
    }
    w->nr_accesses++;
    if (deviation(at, access, wanted).error != wanted.error) {
        w->nr_may_deviate++;
        if (seen.error != wanted.error) {
            w->nr_deviate++;
            wanted = deviation(at, access, wanted);
        }
    }
    if (!agrees(w, at, access, wanted, &seen)) {
        fail_msg("%s, %#llx, %llu KiB, protection %#x; registers %#x, access %#x: vector %llu, "
                 "error %#llx, not %s %#x",
                 built_names[p->how], (unsigned long long)at,
                 (unsigned long long)p->range.len >> 10, p->prot, regs, access,
                 (unsigned long long)seen.vector, (unsigned long long)seen.error,
                 wanted.fault ? "error" : "none", wanted.error);
    }
}

/* KVM's walker has set what translate reports, and nothing else is different. */
static void must_be_told(struct world *w, const struct built_page *p)
{
    bool any = (p->prot & (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)) != 0;
    struct mm_mapping leaf = t_leaf(&w->user, p->range.start.raw);

    assert_int_equal(leaf.paddr.raw, p->paddr);
    assert_int_equal(leaf.page.len, p->range.len);
    if (any) {
        assert_true(leaf.accessed && leaf.dirty);
    } else {
        assert_int_equal(leaf.prot, MM_PROT_NONE);
    }
}

static void every_access(struct world *w, bool nx)
{
    for (unsigned setting = 0; setting < 8; setting++) {
        unsigned regs = setting | (nx ? T_TRUTH_NXE : 0);

        if (((regs & T_TRUTH_SMEP) != 0 && !w->vm.has_smep) ||
            ((regs & T_TRUTH_SMAP) != 0 && !w->vm.has_smap)) {
            continue;
        }
        t_kvm_set_regs(&w->vm, (regs & T_TRUTH_WP) != 0, (regs & T_TRUTH_SMEP) != 0,
                       (regs & T_TRUTH_SMAP) != 0, nx);
        for (unsigned i = 0; i < w->nr_pages; i++) {
            for (unsigned a = 0; a < T_TRUTH_ACCESSES; a++) {
                ask(w, &w->pages[i], regs, t_truth_access(a));
            }
        }
    }
    for (unsigned i = 0; i < w->nr_pages; i++) {
        must_be_told(w, &w->pages[i]);
    }
}

static void on_kvm(bool nx)
{
    struct world *w = calloc(1, sizeof(*w));
    const char *why;

    assert_non_null(w);
    why = t_kvm_open(&w->vm, BOOT_ROOT);
    if (why != NULL) {
        print_message("KVM walker: not available: %s\n", why);
        free(w);
        skip();
    }
    nx = nx && w->vm.has_nx;
    make_roots(w, nx);
    build(w, &w->user, 0, MM_PROT_USER);
    build(w, &w->kernel, KERNEL_AT, 0);
    w->vm.memory[PAGE] = T_KVM_HALT;
    t_kvm_set_root(&w->vm, w->user.root.raw);
    every_access(w, nx);
    print_message(
        "KVM walker: %llu accesses to %u pages that the library built, %s no-execute; the "
        "user's %llu to the upper half deviate in %llu\n",
        (unsigned long long)w->nr_accesses, w->nr_pages, nx ? "with" : "without",
        (unsigned long long)w->nr_may_deviate, (unsigned long long)w->nr_deviate);
    assert_true(w->nr_deviate == 0 || w->nr_deviate == w->nr_may_deviate);
    t_kvm_close(&w->vm);
    free(w);
}

static void test_with_nx(void **state)
{
    (void)state;
    on_kvm(true);
}

static void test_without_nx(void **state)
{
    (void)state;
    on_kvm(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_with_nx),
        cmocka_unit_test(test_without_nx),
    };

    return cmocka_run_group_tests_name("truth_built_kvm", tests, NULL, NULL);
}
