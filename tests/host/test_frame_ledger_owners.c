// SPDX-License-Identifier: MIT
/**
 * The ledger of frames, second part: whose they are. Tags of each kind, all or none, who frees what
 * is another's; and counts and owners that come when the allocator is in use already.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ledger_rig.h"

static const char *const names[] = {
    "allocated, no owner",  "allocated, kernel", "allocated, page table", "allocated, heap",
    "allocated, anonymous", "allocated, object", "allocated, dma",
};

static struct mm_frame_record record_of(struct rig *rig, mm_pfn_t pfn)
{
    struct mm_frame_record record;

    memset(&record, 0xa5, sizeof(record));
    assert_int_equal(mm_frame_owner(&rig->frames, pfn, &record), MM_OK);
    assert_int_equal(record.zero, 0);
    return record;
}

#define IS(rig_, pfn_, owner_, tag_, number_, index_)                                              \
    do {                                                                                           \
        struct mm_frame_record is_ = record_of(&(rig_), pfn_);                                     \
                                                                                                   \
        assert_int_equal(is_.owner, owner_);                                                       \
        assert_int_equal(is_.tag, tag_);                                                           \
        assert_int_equal(is_.number, number_);                                                     \
        assert_int_equal(is_.index, index_);                                                       \
    } while (0)

/* What fits is found again; what does not is 0. */
static void tags(void **state)
{
    static struct rig rig;
    const uint64_t page = (UINT64_C(1) << 44) - 1;
    mm_pfn_t pfn;

    (void)state;
    assert_int_equal(mm_frame_tag_anonymous(1, 2), (UINT64_C(1) << 44) + 2);
    assert_int_equal(mm_frame_tag_anonymous(65535, page), MM_FRAME_TAG_MAX);
    assert_int_equal(mm_frame_tag_anonymous(65536, 2), 0);
    assert_int_equal(mm_frame_tag_anonymous(1, page + 1), 0);
    assert_int_equal(mm_frame_tag_object(1, 2), (UINT64_C(1) << 32) + 2);
    assert_int_equal(mm_frame_tag_object((1 << 28) - 1, UINT32_MAX), MM_FRAME_TAG_MAX);
    assert_int_equal(mm_frame_tag_object(1 << 28, 2), 0);
    assert_int_equal(mm_frame_tag_object(1, UINT64_C(1) << 32), 0);

    ledger_start(&rig, MM_FRAMES_OWNERS);
    pfn = rig_alloc(&rig, 0);
    IS(rig, pfn, MM_OWNER_NONE, 0, 0, 0);
    for (uint32_t owner = 0; owner < MM_OWNER_COUNT; owner++) {
        bool anonymous = owner == MM_OWNER_ANONYMOUS;
        bool object = owner == MM_OWNER_OBJECT;

        assert_int_equal(
            mm_frame_set_owner(&rig.frames, pfn, 1, (enum mm_frame_owner)owner, MM_FRAME_TAG_MAX),
            MM_OK);
        IS(rig, pfn, owner, MM_FRAME_TAG_MAX,
           anonymous ? 65535
           : object  ? (1 << 28) - 1
                     : 0,
           anonymous ? page
           : object  ? UINT32_MAX
                     : 0);
        assert_int_equal(mm_frame_set_owner(&rig.frames, pfn, 1, (enum mm_frame_owner)owner,
                                            anonymous ? mm_frame_tag_anonymous(7, 0x12345)
                                            : object  ? mm_frame_tag_object(7, 0x12345)
                                                      : 99),
                         MM_OK);
        IS(rig, pfn, owner,
           anonymous ? (UINT64_C(7) << 44) + 0x12345
           : object  ? (UINT64_C(7) << 32) + 0x12345
                     : 99,
           anonymous || object ? 7 : 0, anonymous || object ? 0x12345 : 0);
        rig_check(&rig);
    }
    /* A count beside it is another matter. */
    mm_frame_free(&rig.frames, pfn, 0);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, pfn, 1), MM_OK);
    IS(rig, pfn, MM_OWNER_NONE, 0, 0, 0);
    rig_stop(&rig);
}

/* What a request says is recorded for each frame; every free forgets it. */
static void requests_and_frees(void **state)
{
    static struct rig rig;
    mm_pfn_t list[40];
    mm_pfn_t pfn;

    (void)state;
    ledger_start(&rig, MM_FRAMES_FLAGS_ALL & (MM_FRAMES_OWNERS | MM_FRAMES_REFCOUNTS));
    for (unsigned way = 0; way < 6; way++) {
        struct mm_frame_request request = {
            .nr_frames = 40, .owner = MM_OWNER_DMA, .tag = MM_FRAME_TAG_MAX - way};

        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
        for (unsigned i = 0; i < 40; i++) {
            list[i].raw = pfn.raw + i;
            IS(rig, list[i], MM_OWNER_DMA, MM_FRAME_TAG_MAX - way, 0, 0);
        }
        switch (way) {
        case 0:
            mm_frame_free_run(&rig.frames, pfn, 40);
            break;
        case 1:
            mm_frame_free_bulk(&rig.frames, list, 40);
            break;
        case 2:
            assert_int_equal(mm_frame_put_bulk(&rig.frames, list, 40), 40);
            break;
        case 3:
            mm_frame_free_owned(&rig.frames, pfn, 40, MM_OWNER_DMA, MM_FRAME_TAG_MAX - way);
            break;
        default:
            for (unsigned i = 0; i < 40; i++) {
                if (way == 4) {
                    assert_true(mm_frame_put(&rig.frames, list[i]));
                    continue;
                }
                mm_frame_pin(&rig.frames, list[i]);
                assert_false(mm_frame_put(&rig.frames, list[i]));
                IS(rig, list[i], MM_OWNER_DMA, MM_FRAME_TAG_MAX - way, 0, 0);
                assert_true(mm_frame_unpin(&rig.frames, list[i]));
            }
        }
        assert_int_equal(rig_stats(&rig).nr_allocated, 0);
        rig_check(&rig); /* a free frame has no owner */
    }
    rig_stop(&rig);
}

/* All or none, over spans: one that is free, reserved or absent, wherever in the run. */
static void set_owner_all_or_none(void **state)
{
    static struct rig rig;

    (void)state;
    ledger_start(&rig, MM_FRAMES_OWNERS);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(0), 159), MM_OK);
    assert_int_equal(
        mm_frame_set_owner(&rig.frames, mm_pfn(0), 159, MM_OWNER_OBJECT, mm_frame_tag_object(3, 4)),
        MM_OK);
    for (uint64_t i = 0; i < 159; i++) {
        IS(rig, mm_pfn(i), MM_OWNER_OBJECT, (UINT64_C(3) << 32) + 4, 3, 4);
    }
    /* Behind the last frame is a hole. */
    assert_int_equal(mm_frame_set_owner(&rig.frames, mm_pfn(0), 160, MM_OWNER_HEAP, 1),
                     MM_ERR_INVALID_ADDRESS);
    for (uint64_t hole = 0; hole < 159; hole += 1 + hole / 4) {
        uint64_t hash;

        mm_frame_free(&rig.frames, mm_pfn(hole), 0);
        hash = t_hash(rig.config.metadata, rig.config.metadata_len);
        assert_int_equal(mm_frame_set_owner(&rig.frames, mm_pfn(0), 159, MM_OWNER_HEAP, 1),
                         MM_ERR_INVALID_ADDRESS);
        assert_int_equal(t_hash(rig.config.metadata, rig.config.metadata_len), hash);
        assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(hole), 1), MM_OK);
        assert_int_equal(
            mm_frame_set_owner(&rig.frames, mm_pfn(hole), 1, MM_OWNER_OBJECT, (3ull << 32) + 4),
            MM_OK);
    }
    assert_int_equal(rig_stats(&rig).nr_by_owner[MM_OWNER_OBJECT], 159);
    assert_int_equal(mm_frame_set_owner(&rig.frames, mm_pfn(LEDGER_ABSENT), 1, MM_OWNER_HEAP, 1),
                     MM_ERR_INVALID_ADDRESS);
    rig_stop(&rig);
}

static void statuses(void **state)
{
    static struct rig rig;
    static struct mm_frames none;
    struct mm_frame_record record;
    struct mm_frame_record before;
    mm_pfn_t pfn;

    (void)state;
    memset(&before, 0xa5, sizeof(before));
    record = before;
    assert_int_equal(mm_frame_owner(NULL, mm_pfn(1), &record), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_owner(&none, mm_pfn(1), &record), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_set_owner(NULL, mm_pfn(1), 1, MM_OWNER_HEAP, 1),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_set_owner(&none, mm_pfn(1), 1, MM_OWNER_HEAP, 1),
                     MM_ERR_NOT_INITIALIZED);
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    pfn = rig_alloc(&rig, 0);
    assert_int_equal(mm_frame_owner(&rig.frames, pfn, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_owner(&rig.frames, pfn, &record), MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_frame_set_owner(&rig.frames, pfn, 1, MM_OWNER_HEAP, 1), MM_ERR_UNSUPPORTED);
    rig_stop(&rig);
    ledger_start(&rig, MM_FRAMES_OWNERS);
    pfn = rig_alloc(&rig, 0);
    assert_int_equal(mm_frame_owner(&rig.frames, mm_pfn(300), &record), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_frame_owner(&rig.frames, mm_pfn(LEDGER_HOLE), &record),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_frame_owner(&rig.frames, mm_pfn(LEDGER_ABSENT), &record),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_frame_owner(&rig.frames, mm_pfn(UINT64_MAX), &record),
                     MM_ERR_INVALID_ADDRESS);
    assert_memory_equal(&record, &before, sizeof(record));
    assert_int_equal(
        mm_frame_set_owner(&rig.frames, pfn, 1, (enum mm_frame_owner)MM_OWNER_COUNT, 1),
        MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_set_owner(&rig.frames, pfn, 1, MM_OWNER_HEAP, MM_FRAME_TAG_MAX + 1),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_set_owner(&rig.frames, pfn, 0, MM_OWNER_HEAP, 1),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_frame_set_owner(&rig.frames, pfn, UINT64_MAX, MM_OWNER_HEAP, 1),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_frame_set_owner(&rig.frames, mm_pfn((1ull << 40) - 1), 2, MM_OWNER_HEAP, 1),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_frame_set_owner(&rig.frames, mm_pfn((1ull << 40) - 1), 1, MM_OWNER_HEAP, 1),
                     MM_ERR_INVALID_ADDRESS);
    IS(rig, pfn, MM_OWNER_NONE, 0, 0, 0);
    rig_stop(&rig);
}

/* --- who frees what is another's --------------------------------------------------------------- */

#define NOT_HIS "free of a frame by who does not own it"

static void freed_by_another(void **state)
{
    static struct rig rig;
    struct t_trap_info info;

    (void)state;
    ledger_start(&rig, MM_FRAMES_OWNERS);
    for (uint32_t owner = 0; owner < MM_OWNER_COUNT; owner++) {
        struct mm_frame_request request = {.nr_frames = 600, .owner = owner, .tag = 1000 + owner};
        enum mm_frame_owner is = (enum mm_frame_owner)owner;
        mm_pfn_t first;

        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &first), MM_OK);
        for (uint32_t other = 0; other < 20; other++) { /* 16 and more do not fit their field */
            const char *claimed =
                other < MM_OWNER_COUNT ? names[other] : "allocated, unknown owner";

            if (other != owner) {
                PANICS(rig,
                       mm_frame_free_owned(&rig.frames, first, 600, (enum mm_frame_owner)other,
                                           1000 + owner),
                       NOT_HIS, first.raw, names[owner], 1000 + owner, claimed, 1000 + owner);
            }
        }
        /* Another tag; one that would change the kind if it were not cut off; one that is too long
         * by just the kind. */
        PANICS(rig, mm_frame_free_owned(&rig.frames, first, 600, is, 999), NOT_HIS, first.raw,
               names[owner], 1000 + owner, names[owner], 999);
        PANICS(rig,
               mm_frame_free_owned(&rig.frames, first, 600, MM_OWNER_NONE,
                                   (UINT64_C(1) << 60) + 1000 + owner),
               NOT_HIS, first.raw, names[owner], 1000 + owner, names[0],
               (UINT64_C(1) << 60) + 1000 + owner);
        PANICS(rig,
               mm_frame_free_owned(&rig.frames, first, 600, is,
                                   (uint64_t)owner << 60 | (UINT64_C(1) << 63) | (1000 + owner)),
               NOT_HIS, first.raw, names[owner], 1000 + owner, names[owner],
               (uint64_t)owner << 60 | (UINT64_C(1) << 63) | (1000 + owner));
        /* One in the middle, and the last one, are others'. */
        for (uint64_t at = 599; at > 0; at /= 3) {
            mm_pfn_t pfn = {first.raw + at};

            assert_int_equal(mm_frame_set_owner(&rig.frames, pfn, 1, MM_OWNER_KERNEL, 5), MM_OK);
            PANICS(rig, mm_frame_free_owned(&rig.frames, first, 600, is, 1000 + owner), NOT_HIS,
                   pfn.raw, names[MM_OWNER_KERNEL], 5, names[owner], 1000 + owner);
            assert_int_equal(mm_frame_set_owner(&rig.frames, pfn, 1, is, 1000 + owner), MM_OK);
        }
        mm_frame_free_owned(&rig.frames, first, 0, MM_OWNER_KERNEL, 5);
        mm_frame_free_owned(&rig.frames, first, 600, is, 1000 + owner);
        PANICS(rig, mm_frame_free_owned(&rig.frames, first, 600, is, 1000 + owner),
               "double free of a frame", first.raw, "free", 0, names[owner], 1000 + owner);
    }
    PANICS(rig, mm_frame_free_owned(&rig.frames, mm_pfn(LEDGER_HOLE), 1, MM_OWNER_HEAP, 5),
           "free of a frame that is not managed", LEDGER_HOLE, "reserved: not usable memory", 0,
           names[MM_OWNER_HEAP], 5);
    PANICS(rig, mm_frame_free_owned(&rig.frames, mm_pfn(LEDGER_ABSENT), 1, MM_OWNER_HEAP, 5),
           "free of a frame that is not managed", LEDGER_ABSENT, "reserved: absent memory", 0,
           names[MM_OWNER_HEAP], 5);
    assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    rig_stop(&rig);
    T_EXPECT_SIGILL(mm_frame_free_owned(NULL, mm_pfn(1), 1, MM_OWNER_HEAP, 5), &info);

    /* Without owners the claim is all that there is. */
    ledger_start(&rig, 0);
    {
        mm_pfn_t pfn = rig_alloc(&rig, 0);

        mm_frame_free_owned(&rig.frames, pfn, 1, MM_OWNER_HEAP, 5);
        PANICS(rig, mm_frame_free_owned(&rig.frames, pfn, 1, MM_OWNER_HEAP, 5),
               "double free of a frame", pfn.raw, "free", 0, names[MM_OWNER_HEAP], 5);
    }
    rig_stop(&rig);
}

/* Every other free names who is on record, by kind and tag. */
static void owner_is_named(void **state)
{
    static struct rig rig;

    (void)state;
    ledger_start(&rig, MM_FRAMES_OWNERS);
    for (uint32_t owner = 0; owner < MM_OWNER_COUNT; owner++) {
        struct mm_frame_request request = {.order = 1, .owner = owner, .tag = 40 + owner};
        mm_pfn_t pfn;

        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
        PANICS(rig, mm_frame_free(&rig.frames, mm_pfn(pfn.raw + 1), 1),
               "free of a block that is not aligned to its size", pfn.raw + 1, names[owner],
               40 + owner, "allocated, a block of order", 1);
    }
    rig_stop(&rig);
}

/* --- records that come late -------------------------------------------------------------------- */

struct late {
    unsigned char *memory;
    uint64_t len;
};

static struct late late_memory(struct rig *rig, uint32_t flags)
{
    struct late late = {NULL, 0};

    assert_int_equal(mm_frame_records_size(&rig->frames, flags, &late.len), MM_OK);
    assert_int_equal(late.len % MM_CACHE_LINE, 0);
    late.memory = aligned_alloc(MM_CACHE_LINE, late.len + 2 * MM_CACHE_LINE);
    assert_non_null(late.memory);
    memset(late.memory, 0, late.len + 2 * MM_CACHE_LINE);
    return late;
}

/* What was allocated before has one reference and no owner; from then on all is as if the allocator
 * had had them from the start. */
static void records_later(void **state)
{
    static struct rig rig;
    static const uint32_t steps[][2] = {
        {MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS, 0},
        {MM_FRAMES_REFCOUNTS, MM_FRAMES_OWNERS},
        {MM_FRAMES_OWNERS, MM_FRAMES_REFCOUNTS},
    };

    (void)state;
    for (unsigned way = 0; way < 3; way++) {
        struct late late[2] = {{NULL, 0}, {NULL, 0}};
        mm_pfn_t first = {0};
        uint64_t added = 0;
        uint64_t before;

        ledger_start(&rig, 0);
        first = rig_alloc(&rig, 4);
        assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(0), 159), MM_OK);
        before = rig_stats(&rig).metadata_bytes;
        for (unsigned i = 0; i < 2 && steps[way][i] != 0; i++) {
            late[i] = late_memory(&rig, steps[way][i]);
            assert_int_equal(
                mm_frame_add_records(&rig.frames, steps[way][i], late[i].memory, late[i].len + i),
                MM_OK);
            added += late[i].len;
        }
        assert_int_equal(rig_stats(&rig).metadata_bytes, before + added);
        assert_int_equal(rig_stats(&rig).state_bytes, before);
        rig_check(&rig);
        for (uint64_t i = 0; i < 16; i++) {
            mm_pfn_t pfn = {first.raw + i};

            assert_int_equal(mm_frame_refs(&rig.frames, pfn), 1);
            assert_int_equal(mm_frame_pins(&rig.frames, pfn), 0);
            IS(rig, pfn, MM_OWNER_NONE, 0, 0, 0);
        }
        /* The frames at all ends of memory have records of their own. */
        assert_int_equal(
            mm_frame_alloc_at(&rig.frames, mm_pfn(LEDGER_MAIN + 40 * MIB / 4096 - 1), 1), MM_OK);
        for (unsigned i = 0; i < 4; i++) {
            mm_pfn_t pfn = {i == 0   ? 0
                            : i == 1 ? 158
                            : i == 2 ? first.raw
                                     : LEDGER_MAIN + 40 * MIB / 4096 - 1};

            mm_frame_get(&rig.frames, pfn);
            assert_int_equal(mm_frame_set_owner(&rig.frames, pfn, 1, MM_OWNER_HEAP, 100 + i),
                             MM_OK);
            rig_check(&rig);
        }
        IS(rig, mm_pfn(0), MM_OWNER_HEAP, 100, 0, 0);
        IS(rig, mm_pfn(158), MM_OWNER_HEAP, 101, 0, 0);
        assert_int_equal(rig_stats(&rig).nr_by_owner[MM_OWNER_HEAP], 4);
        assert_int_equal(rig_stats(&rig).nr_by_owner[MM_OWNER_NONE], 15 + 157);
        PANICS(rig, mm_frame_free(&rig.frames, first, 4), "free of a frame that others refer to",
               first.raw, "allocated, references", 2, "allocated, a block of order", 4);
        assert_false(mm_frame_put(&rig.frames, first));
        mm_frame_free(&rig.frames, first, 4);
        assert_int_equal(mm_frame_alloc_at(&rig.frames, first, 1), MM_OK);
        IS(rig, first, MM_OWNER_NONE, 0, 0, 0);
        rig_stop(&rig);
        free(late[0].memory);
        free(late[1].memory);
    }
}

/* Counts alone: what frees one frame by the shortest way looks at them from then on. */
static void counts_later(void **state)
{
    static struct rig rig;
    struct late late;
    mm_pfn_t pfn;

    (void)state;
    ledger_start_with(&rig, 0, false);
    pfn = rig_alloc(&rig, 0);
    late = late_memory(&rig, MM_FRAMES_REFCOUNTS);
    assert_int_equal(mm_frame_add_records(&rig.frames, MM_FRAMES_REFCOUNTS, late.memory, late.len),
                     MM_OK);
    mm_frame_get(&rig.frames, pfn);
    PANICS(rig, mm_frame_free(&rig.frames, pfn, 0), "free of a frame that others refer to", pfn.raw,
           "allocated, references", 2, "allocated, a block of order", 0);
    assert_false(mm_frame_put(&rig.frames, pfn));
    mm_frame_free(&rig.frames, pfn, 0);
    rig_stop(&rig);
    free(late.memory);
}

#define ADD(late_, flags_, offset_, len_)                                                          \
    mm_frame_add_records(&rig.frames, flags_, (late_).memory + (offset_), len_)

static void late_statuses(void **state)
{
    static struct rig rig;
    static struct mm_frames none;
    const uint32_t both = MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS;
    struct mm_frames before;
    struct late late;
    uint64_t counts;
    uint64_t len = 77;

    (void)state;
    ledger_start(&rig, 0);
    before = rig.frames;
    late = late_memory(&rig, both);
    assert_int_equal(mm_frame_records_size(&rig.frames, MM_FRAMES_REFCOUNTS, &counts), MM_OK);
    assert_int_equal(counts * 3, late.len);
    assert_int_equal(mm_frame_records_size(NULL, both, &len), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_records_size(&rig.frames, both, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_records_size(&none, both, &len), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_add_records(NULL, both, late.memory, late.len),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_add_records(&rig.frames, both, NULL, late.len),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_add_records(&none, both, late.memory, late.len),
                     MM_ERR_NOT_INITIALIZED);
    for (uint32_t flags = 0; flags != 1u << 20; flags = flags == 0 ? 4 : flags << 1) {
        assert_int_equal(mm_frame_records_size(&rig.frames, flags, &len), MM_ERR_INVALID_FLAGS);
        assert_int_equal(ADD(late, flags | (flags != 0 ? both : 0), 0, late.len),
                         MM_ERR_INVALID_FLAGS);
    }
    assert_int_equal(len, 77);
    assert_int_equal(ADD(late, both, 0, late.len - 1), MM_ERR_INVALID_SIZE);
    assert_int_equal(ADD(late, both, 0, 0), MM_ERR_INVALID_SIZE);
    assert_int_equal(ADD(late, both, 8, late.len), MM_ERR_NOT_ALIGNED);
    assert_int_equal(ADD(late, both, 1, late.len), MM_ERR_NOT_ALIGNED);
    /* Both ends of each array are looked at. */
    for (unsigned i = 0; i < 4; i++) {
        unsigned char *at = late.memory + (i == 0   ? 0
                                           : i == 1 ? counts - 1
                                           : i == 2 ? counts
                                                    : late.len - 1);

        *at = 1;
        assert_int_equal(ADD(late, both, 0, late.len), MM_ERR_INVALID_ARGUMENT);
        *at = 0;
    }
    assert_memory_equal(&before, &rig.frames, sizeof(before));
    assert_int_equal(ADD(late, MM_FRAMES_OWNERS, 0, late.len), MM_OK);
    for (uint32_t flags = MM_FRAMES_OWNERS; flags <= both; flags++) {
        assert_int_equal(mm_frame_records_size(&rig.frames, flags, &len),
                         MM_ERR_ALREADY_INITIALIZED);
        assert_int_equal(ADD(late, flags, 0, late.len), MM_ERR_ALREADY_INITIALIZED);
    }
    rig_stop(&rig);
    free(late.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags),           cmocka_unit_test(requests_and_frees),
        cmocka_unit_test(statuses),       cmocka_unit_test(set_owner_all_or_none),
        cmocka_unit_test(owner_is_named), cmocka_unit_test(freed_by_another),
        cmocka_unit_test(counts_later),   cmocka_unit_test(records_later),
        cmocka_unit_test(late_statuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
