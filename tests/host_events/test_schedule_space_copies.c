// SPDX-License-Identifier: MIT
/**
 * Relatives that share frames: clones, copies on write, the last sharer, and what lets go of a
 * shared frame meanwhile. No store is lost, and none comes to a relative.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "space_scene.h"

static void clone_now(unsigned from, unsigned to)
{
    on_cpu(0, (struct step){CLONE, from, 0, 0, to});
}

/* ---- clones ------------------------------------------------------------------------------------ */

static void test_clone(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 0, 0, 1}, {LOAD, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0}, {LOAD, 1, 2, 0, 0});
    race("space.copies.write-clone");
    prepare_for(3);
    warm(0, 0, 2);
    watch(1, 0, 3);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 0, 1, 0, 0}, {STORE, 0, 2, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(2, {CLONE, 0, 0, 0, 1}, {LOAD, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0});
    race("space.copies.two-write-clone");
    prepare_for(2);
    warm(0, 0, 2);
    clone_now(0, 1);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 0, 0, 2}, {STORE, 2, 0, 0, 0}, {LOAD, 2, 1, 0, 0});
    race("space.copies.break-clone");
    /* The last sharer takes the frame, while it is shared anew. */
    prepare_for(2);
    warm(0, 0, 2);
    clone_now(0, 1);
    on_cpu(0, (struct step){PUT, 1, 0, 0, 0});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 0, 0, 2}, {LOAD, 2, 0, 0, 0}, {STORE, 2, 1, 0, 0});
    race("space.copies.reuse-clone");
    prepare_for(2);
    warm(0, 0, 2);
    SCRIPT(0, {CLONE, 0, 0, 0, 1}, {STORE, 0, 0, 0, 0}, {STORE, 1, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 0, 0, 2}, {STORE, 0, 1, 0, 0}, {STORE, 2, 0, 0, 0});
    race("space.copies.clone-clone");
    prepare_for(2);
    warm(0, 0, 2);
    clone_now(0, 1);
    SCRIPT(0, {CLONE, 0, 0, 0, 2}, {STORE, 0, 0, 0, 0}, {STORE, 2, 0, 0, 0});
    SCRIPT(1, {CLONE, 1, 0, 0, 3}, {STORE, 1, 0, 0, 0}, {STORE, 3, 1, 0, 0});
    race("space.copies.clone-relatives");
}

/* ---- copies ------------------------------------------------------------------------------------ */

static void test_break(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 2);
    clone_now(0, 1);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0}, {STORE, 0, 1, 0, 0});
    SCRIPT(1, {STORE, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0}, {LOAD, 1, 0, 0, 0});
    race("space.copies.break-break");
    prepare_for(3);
    warm(0, 0, 1);
    clone_now(0, 1);
    clone_now(0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 1, 0, 0, 0}, {LOAD, 1, 0, 0, 0});
    SCRIPT(2, {STORE, 2, 0, 0, 0}, {LOAD, 2, 0, 0, 0});
    race("space.copies.three-break");
    /* Two threads of one space break one page, while a relative does. */
    prepare_for(3);
    warm(0, 0, 2);
    clone_now(0, 1);
    watch(1, 0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0});
    SCRIPT(1, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0});
    SCRIPT(2, {STORE, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0});
    race("space.copies.threads-break");
    /* A third reads by what its CPU remembers, while a second writes to the copy of the first. */
    prepare_for(3);
    warm(0, 0, 1);
    watch(2, 0, 1);
    on_cpu(1, (struct step){ENTER, 0, 0, 0, 0});
    clone_now(0, 1);
    on_cpu(2, (struct step){LOAD, 0, 0, 0, 0});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 0, 0, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(2, {LOAD, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0});
    race("space.copies.stale-reader");
    prepare_for(3);
    warm(0, 0, 1);
    watch(2, 0, 1);
    clone_now(0, 1);
    on_cpu(2, (struct step){LOAD, 0, 0, 0, 0});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {WRITE, 0, 0, 0, MM_SPACE_FORCE}, {STORE, 1, 0, 0, 0});
    SCRIPT(2, {LOAD, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0});
    race("space.copies.stale-reader-outside");
    /* A thread reads by what its CPU remembers of the frame that is given up. */
    prepare_for(3);
    warm(0, 0, 2);
    clone_now(0, 1);
    watch(1, 0, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0});
    SCRIPT(1, {LOAD, 0, 0, 0, 0}, {LOAD, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(2, {PUT, 1, 0, 0, 0});
    race("space.copies.stale-put");
}

static void test_let_go(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 3);
    clone_now(0, 1);
    watch(1, 1, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 2, 0, 0});
    SCRIPT(1, {LEAVE, 0, 0, 0, 0}, {PUT, 1, 0, 0, 0});
    race("space.copies.break-put");
    prepare_for(2);
    warm(0, 0, 2);
    clone_now(0, 1);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {ADVISE, 1, 0, 2, MM_ADVICE_DONT_NEED}, {STORE, 1, 0, 0, 0}, {LOAD, 1, 1, 0, 0});
    race("space.copies.break-dont-need");
    prepare_for(2);
    warm(0, 0, 2);
    clone_now(0, 1);
    watch(1, 1, 2);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {REPLACE, 1, 0, 1, 0}, {STORE, 1, 0, 0, 0}, {UNMAP, 1, 1, 1, 0});
    race("space.copies.break-replace");
    prepare_for(2);
    warm(0, 0, 2);
    clone_now(0, 1);
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {REMAP, 1, 0, 2, FAR}, {STORE, 1, FAR, 0, 0}, {LOAD, 1, FAR + 1, 0, 0});
    race("space.copies.break-remap");
    prepare_for(3);
    warm(0, 0, 2);
    clone_now(0, 1);
    on_cpu(0, (struct step){HOLD, 1, 0, 0, 0});
    SCRIPT(0, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0});
    SCRIPT(1, {CLONE, 0, 0, 0, 2}, {PUT, 2, 0, 0, 0});
    SCRIPT(2, {PUT, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0}, {LEAVE, 0, 0, 0, 0}, {PUT, 1, 0, 0, 0});
    race("space.copies.clone-put");
}

/* ---- from outside, and devices ----------------------------------------------------------------- */

static void test_outside(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 1);
    SCRIPT(0, {WRITE, 0, 0, 0, 0}, {WRITE, 0, 1, 0, 0}, {READ, 0, 0, 0, 0}, {WRITE, 0, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 0, 0, 1}, {LOAD, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0});
    race("space.copies.outside-clone");
    prepare_for(2);
    w->plainly = true;
    warm(0, 0, 1);
    on_cpu(0, (struct step){LEAVE, 0, 0, 0, 0}); /* or who flushes would wait for it */
    SCRIPT(0, {WRITE, 0, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 0, 0, 1}, {LOAD, 1, 0, 0, 0});
    race("space.copies.outside-clone-plainly");
    prepare_for(3);
    w->plainly = true;
    warm(0, 0, 1);
    clone_now(0, 1);
    on_cpu(0, (struct step){LEAVE, 0, 0, 0, 0});
    SCRIPT(0, {READ, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 0, 0, 0, 0});
    SCRIPT(2, {STORE, 1, 0, 0, 0});
    race("space.copies.outside-reads-given-up");
    prepare_for(2);
    warm(0, 0, 2);
    clone_now(0, 1);
    watch(1, 0, 2);
    SCRIPT(0, {WRITE, 0, 0, 0, 0}, {READ, 1, 0, 0, 0}, {WRITE, 1, 1, 0, 0});
    SCRIPT(1, {LOAD, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {STORE, 0, 0, 0, 0});
    race("space.copies.outside-break");
    prepare_for(2);
    warm(0, 0, 2);
    clone_now(0, 1);
    SCRIPT(0, {WRITE, 0, 0, 0, 0}, {WRITE, 0, 1, 0, 0}, {READ, 0, 0, 0, 0});
    SCRIPT(1, {UNMAP, 0, 0, 1, 0}, {ADVISE, 0, 1, 1, MM_ADVICE_DONT_NEED}, {MAP, 0, 0, 1, 0});
    race("space.copies.outside-unmap");
    prepare_for(2);
    warm(0, 0, 3);
    SCRIPT(0, {READ, 0, 0, 0, 0}, {READ, 0, 1, 0, 0}, {READ, 0, 2, 0, 0}, {READ, 0, 0, 0, 0});
    SCRIPT(1, {ADVISE, 0, 0, 2, MM_ADVICE_DONT_NEED}, {STORE, 0, 0, 0, 0}, {UNMAP, 0, 2, 1, 0});
    race("space.copies.outside-dont-need");
}

static void test_devices(void **state)
{
    (void)state;
    prepare_for(2);
    warm(0, 0, 2);
    SCRIPT(0, {PIN, 0, 0, 0, 0}, {DMA, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0}, {STORE, 0, 0, 0, 0},
           {DMA, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0}, {UNPIN, 0, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 0, 0, 1}, {LOAD, 1, 0, 0, 0}, {STORE, 1, 0, 0, 0}, {LOAD, 1, 0, 0, 0});
    race("space.copies.pin-clone");
    prepare_for(3);
    warm(0, 0, 2);
    watch(1, 0, 2);
    on_cpu(0, (struct step){PIN, 0, 0, 0, 0});
    SCRIPT(0, {DMA, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0}, {DMA, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(1, {STORE, 0, 0, 0, 0}, {STORE, 0, 1, 0, 0}, {LOAD, 0, 0, 0, 0});
    SCRIPT(2, {CLONE, 0, 0, 0, 1}, {LOAD, 1, 0, 0, 0}, {STORE, 1, 1, 0, 0});
    race("space.copies.pinned-clone");
    prepare_for(2);
    warm(0, 0, 2);
    on_cpu(0, (struct step){PIN, 0, 0, 0, 0});
    SCRIPT(0, {DMA, 0, 0, 0, 0}, {LOAD, 0, 0, 0, 0}, {UNPIN, 0, 0, 0, 0}, {STORE, 0, 0, 0, 0});
    SCRIPT(1, {CLONE, 0, 0, 0, 1}, {CLONE, 0, 0, 0, 2}, {STORE, 1, 0, 0, 0});
    race("space.copies.unpin-clone");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clone),   cmocka_unit_test(test_break),
        cmocka_unit_test(test_let_go),  cmocka_unit_test(test_outside),
        cmocka_unit_test(test_devices),
    };

    return cmocka_run_group_tests_name("schedule_space_copies", tests, NULL, NULL);
}
