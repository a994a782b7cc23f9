// SPDX-License-Identifier: MIT
/**
 * Fuzz target: operations on spaces that are related by clones, against the flat model
 * (tests/support/model_space.h).
 *
 * The first bytes say how much memory there is and how it is promised; then each operation takes
 * its choices from the bytes, as the random test takes them from a generator
 * (tests/host/space_stream.h). What the CPU reads must be what was stored there last, in this space
 * or before the clone. A call that fails must change nothing. At the end every space is put, and
 * every frame is back.
 */
#include "fuzz.h"

#include "space_stream_life.h"

#define MAX_OPS 300u

static struct fixture *f;
static struct stream stream;

static uint64_t draw(void *ctx, uint64_t below)
{
    (void)ctx;
    return fz_below(below);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const struct t_machine_config machine = {
        .ram_len = UINT64_C(6) << 20, .pool_len = UINT64_C(2) << 20, .nr_cpus = 2};

    (void)argc;
    (void)argv;
    f = fixture_start(&machine);
    FZ_EQUAL(mm_spaces_destroy(&f->spaces), MM_OK);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mm_spaces_config config = fixture_config(f);
    struct st_world world = {.start = (UINT64_C(1) << 30) - 40 * PAGE, .nr = 560, .max_spaces = 6};
    unsigned scarce;

    fz_begin(data, size);
    scarce = fz_u8();
    world.commit = fz_u8() % 2 == 0 ? MM_COMMIT_ALWAYS : MM_COMMIT_NEVER;
    world.commit_pages = 700;
    config.commit = world.commit;
    config.commit_pages = world.commit_pages;
    FZ_EQUAL(mm_spaces_init(&f->spaces, &config), MM_OK);
    memset(&stream, 0, offsetof(struct stream, ms));
    stream.draw = draw;
    stream.trace = fz.trace;
    st_begin(&stream, f, &world);
    t_machine_leave_frames(&f->m, scarce < 128 ? UINT64_MAX : scarce);
    st_op_create(&stream, 0);
    while (fz_more() && fz.nr_ops < MAX_OPS) {
        fz_op("a step of the stream");
        stream.op = fz.nr_ops;
        st_step(&stream);
    }
    fz_op("the end");
    nothing_stale(f);
    st_same_all(&stream);
    st_end(&stream);
    FZ_EQUAL(mm_spaces_destroy(&f->spaces), MM_OK);
    FZ_EQUAL(t_machine_free_frames(&f->m), f->free_at_start);
    return 0;
}
