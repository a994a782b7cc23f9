// SPDX-License-Identifier: MIT
/**
 * Faults of one space race with each other, and with what takes pages or rights away, on CPUs with
 * TLBs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "space_scene.h"

/* ---- two faults -------------------------------------------------------------------------------- */

static void test_one_page(void **state)
{
    (void)state;
    prepare_for(2);
    SCRIPT(0, {LOAD, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0}, {LOAD, 0, 3, 0, 0});
    SCRIPT(1, {LOAD, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0}, {STORE, 0, 3, 0, 0});
    race("space.faults.same-page");
    prepare_for(2);
    watch(0, 0, 2);
    watch(1, 0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    race("space.faults.zero-page-written");
    prepare_for(3);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {LOAD, 0, 0, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(2, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0});
    race("space.faults.three");
}

static void test_missing_tables(void **state)
{
    const struct step map = {MAP, 0, FAR, 4, 0};

    (void)state;
    prepare_for(2);
    on_cpu(0, map);
    SCRIPT(0, {STORE, 0, FAR, 0, 0}, {LOAD, 0, FAR + 2, 0, 0});
    SCRIPT(1, {STORE, 0, FAR + 1, 0, 0}, {STORE, 0, FAR + 2, 0, 0});
    race("space.faults.missing-table");
}

/* ---- a fault, and what takes its page away ----------------------------------------------------- */

static void test_unmap(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 3);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 3, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0});
    SCRIPT(1, {UNMAP, 0, 0, 2, 0}, {MAP, 0, 1, 1, 0}, {UNMAP, 0, 3, 1, 0});
    race("space.faults.unmap");
    prepare_for(3);
    warm(0, 0, 3);
    watch(1, 0, 3);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0});
    SCRIPT(1, {LOAD, 0, 0, 0, 0}, {STORE, 0, 2, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(2, {REPLACE, 0, 0, 2, 0}, {UNMAP, 0, 2, 1, 0});
    race("space.faults.replace");
}

static void test_protect(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(1, {PROTECT, 0, 0, 3, RO}, {LOAD, 0, 2, 0, 0}, {PROTECT, 0, 0, 2, RW});
    race("space.faults.protect");
    prepare_for(2);
    warm(0, 0, 2);
    on_cpu(0, (struct step){PROTECT, 0, 0, 4, MM_PROT_NONE});
    SCRIPT(0, {LOAD, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0}, {LOAD, 0, 1, 0, 0});
    SCRIPT(1, {PROTECT, 0, 0, 4, RW}, {PROTECT, 0, 1, 1, MM_PROT_NONE}, {STORE, 0, 0, 0, 0});
    race("space.faults.unprotect");
    /* Two loads of one user copy, between them the right may go. */
    prepare_for(2);
    warm(0, 0, 4);
    SCRIPT(0, {LOAD, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0}, {STORE, 0, 3, 0, 0},
           {LOAD, 0, 3, 0, 0}, {STORE, 0, 3, 0, 0});
    SCRIPT(1, {PROTECT, 0, 1, 1, RO}, {PROTECT, 0, 2, 2, MM_PROT_NONE}, {PROTECT, 0, 1, 3, RW});
    race("space.faults.copy-protect");
}

static void test_advice(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {ADVISE, 0, 0, 3, MM_ADVICE_DONT_NEED}, {LOAD, 0, 0, 0, 0},
           {ADVISE, 0, 0, 1, MM_ADVICE_DONT_NEED});
    race("space.faults.dont-need");
    prepare_for(2);
    warm(0, 0, 3);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {ADVISE, 0, 0, 3, MM_ADVICE_FREE}, {RECLAIM, 0, 0, 0, 0});
    race("space.faults.free-reclaim");
    prepare_for(2);
    warm(0, 0, 3);
    on_cpu(0, (struct step){ADVISE, 0, 0, 3, MM_ADVICE_FREE});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0}, {LOAD, 0, 2, 0, 0});
    SCRIPT(1, {RECLAIM, 0, 0, 0, 0}, {RECLAIM, 0, 0, 0, 0});
    race("space.faults.reclaim");
    prepare_for(2);
    watch(1, 0, 1);
    warm(0, 0, 1);
    on_cpu(0, (struct step){ADVISE, 0, 0, 1, MM_ADVICE_FREE});
    SCRIPT(0, {RECLAIM, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 0, 0, 0, 0});
    race("space.faults.reclaim-one");
    prepare_for(2);
    warm(0, 0, 3);
    on_cpu(0, (struct step){ADVISE, 0, 0, 3, MM_ADVICE_FREE});
    SCRIPT(0, {WRITE, 0, 0, 0, 0}, {WRITE, 0, 1, 0, 0}, {READ, 0, 0, 0, 0}, {READ, 0, 2, 0, 0});
    SCRIPT(1, {RECLAIM, 0, 0, 0, 0}, {STORE, 0, 2, 0, 0});
    race("space.faults.reclaim-outside");
    prepare_for(2);
    watch(0, 0, 1);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0});
    SCRIPT(1, {ADVISE, 0, 0, 2, MM_ADVICE_POPULATE_WRITE}, {ADVISE, 0, 0, 4, MM_ADVICE_WILL_NEED});
    race("space.faults.populate");
}

static void test_wire(void **state)
{
    (void)state;
    prepare_for(2);
    watch(0, 0, 1);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0});
    SCRIPT(1, {WIRE, 0, 0, 3, 0}, {LOAD, 0, 2, 0, 0}, {UNWIRE, 0, 0, 1, 0});
    race("space.faults.wire");
}

/* ---- what grows -------------------------------------------------------------------------------- */

static void map_stack(void)
{
    const struct mm_space_request request = {.at = mm_vaddr(place(STACK + 3)),
                                             .len = PAGE,
                                             .prot = RW,
                                             .flags = MM_SPACE_FIXED | MM_SPACE_STACK,
                                             .kind = MM_REGION_STACK};
    mm_vaddr_t at;

    must(mm_space_map(w->of[0], &request, &at));
    set_states(0, STACK, 3, GROW);
    set_states(0, STACK + 3, 1, WR);
}

static void test_stacks(void **state)
{
    (void)state;
    prepare_for(2);
    map_stack();
    SCRIPT(0, {STORE, 0, STACK + 1, 0, 0}, {STORE, 0, STACK + 3, 0, 0});
    SCRIPT(1, {STORE, 0, STACK + 2, 0, 0}, {LOAD, 0, STACK, 0, 0}, {LOAD, 0, STACK + 1, 0, 0});
    race("space.faults.stack-stack");
    prepare_for(2);
    map_stack();
    SCRIPT(0, {STORE, 0, STACK + 2, 0, 0}, {STORE, 0, STACK + 1, 0, 0}, {STORE, 0, STACK, 0, 0});
    SCRIPT(1, {MAP, 0, STACK, 1, 0}, {STORE, 0, STACK, 0, 0});
    race("space.faults.stack-map");
}

static void test_heap(void **state)
{
    (void)state;
    prepare_for(2);
    must(mm_space_set_brk_start(w->of[0], mm_vaddr(place(HEAP))));
    on_cpu(0, (struct step){BRK, 0, 0, 0, 2});
    SCRIPT(0, {STORE, 0, HEAP, 0, 0}, {STORE, 0, HEAP + 1, 0, 0}, {LOAD, 0, HEAP + 2, 0, 0});
    SCRIPT(1, {BRK, 0, 0, 0, 3}, {STORE, 0, HEAP + 2, 0, 0}, {BRK, 0, 0, 0, 1});
    race("space.faults.brk");
    prepare_for(3);
    must(mm_space_set_brk_start(w->of[0], mm_vaddr(place(HEAP))));
    on_cpu(0, (struct step){BRK, 0, 0, 0, 1});
    SCRIPT(0, {BRK, 0, 0, 0, 3}, {STORE, 0, HEAP + 2, 0, 0});
    SCRIPT(1, {BRK, 0, 0, 0, 0}, {STORE, 0, HEAP, 0, 0});
    SCRIPT(2, {STORE, 0, HEAP, 0, 0}, {STORE, 0, HEAP + 1, 0, 0});
    race("space.faults.brk-brk");
}

/* ---- 2 MiB ------------------------------------------------------------------------------------- */

static void prepare_huge(unsigned nr_cpus)
{
    struct mm_space_request request = {.at = mm_vaddr(place(HUGE)),
                                       .len = UINT64_C(2) << 20,
                                       .prot = RW,
                                       .flags = MM_SPACE_FIXED | MM_SPACE_HUGE};
    mm_vaddr_t at;

    prepare(&(struct scene){.nr_cpus = nr_cpus, .pcid = true, .with_block = true});
    must(mm_space_map(w->of[0], &request, &at));
    set_states(0, HUGE, 4, WR);
    memset(t_ram_ptr(w->ram, BLOCK_AT), 0xee, BLOCK_FRAMES * PAGE);
    mm_frame_free(&w->frames, w->block, 9);
}

static void test_huge(void **state)
{
    (void)state;
    prepare_huge(2);
    SCRIPT(0, {STORE, 0, HUGE + 1, 0, 0}, {LOAD, 0, HUGE + 3, 0, 0});
    SCRIPT(1, {LOAD, 0, HUGE, 0, 0}, {STORE, 0, HUGE + 2, 0, 0}, {STORE, 0, HUGE + 1, 0, 0});
    race("space.faults.huge-huge");
    prepare_huge(2);
    SCRIPT(0, {STORE, 0, HUGE, 0, 0}, {STORE, 0, HUGE + 3, 0, 0}, {LOAD, 0, HUGE + 2, 0, 0});
    SCRIPT(1, {UNMAP, 0, HUGE + 2, 1, 0}, {LOAD, 0, HUGE, 0, 0});
    race("space.faults.huge-unmap");
    prepare_huge(2);
    on_cpu(0, (struct step){STORE, 0, HUGE, 0, 0});
    on_cpu(0, (struct step){STORE, 0, HUGE + 3, 0, 0});
    on_cpu(0, (struct step){CLONE, 0, 0, 0, 1});
    SCRIPT(0, {STORE, 0, HUGE, 0, 0}, {LOAD, 0, HUGE + 3, 0, 0}, {STORE, 0, HUGE + 1, 0, 0});
    SCRIPT(1, {STORE, 1, HUGE, 0, 0}, {STORE, 1, HUGE + 3, 0, 0}, {LOAD, 1, HUGE + 1, 0, 0});
    race("space.faults.huge-shared");
    prepare_huge(2);
    on_cpu(0, (struct step){STORE, 0, HUGE, 0, 0});
    on_cpu(0, (struct step){STORE, 0, HUGE + 3, 0, 0});
    SCRIPT(0, {STORE, 0, HUGE, 0, 0}, {STORE, 0, HUGE + 1, 0, 0}, {LOAD, 0, HUGE + 3, 0, 0});
    SCRIPT(1, {PROTECT, 0, HUGE + 1, 1, RO}, {ADVISE, 0, HUGE, 1, MM_ADVICE_DONT_NEED});
    race("space.faults.huge-split");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_page), cmocka_unit_test(test_missing_tables),
        cmocka_unit_test(test_unmap),    cmocka_unit_test(test_protect),
        cmocka_unit_test(test_advice),   cmocka_unit_test(test_wire),
        cmocka_unit_test(test_stacks),   cmocka_unit_test(test_heap),
        cmocka_unit_test(test_huge),
    };

    return cmocka_run_group_tests_name("schedule_space_faults", tests, NULL, NULL);
}
