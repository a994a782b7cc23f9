// SPDX-License-Identifier: MIT
/**
 * What the tests of the frames' ledger share: memory with a hole and with a piece that is absent, a
 * look into the array of counts, and the expectation of a panic.
 */
#ifndef LEDGER_RIG_H
#define LEDGER_RIG_H

#include "frame_rig.h"
#include "hash.h"

#define LEDGER_MAIN   UINT64_C(0x100005) /* the first frame of the longest span */
#define LEDGER_HOLE   UINT64_C(200)      /* between 636 KiB and 1 MiB */
#define LEDGER_ABSENT (UINT64_C(64) * MIB / 4096 + 3)

static const uint64_t ledger_machine[] = {
    0, 636 * KIB, 1 * MIB, 30 * MIB, 4 * GIB + 20 * KIB, 40 * MIB, 0, 0};

/* While memory is absent, no free goes the shortest way. */
static inline void ledger_start_with(struct rig *rig, uint32_t flags, bool absent)
{
    uint64_t len = 0;

    rig_map(rig, ledger_machine);
    rig->config = (struct mm_frames_config){
        .map = &rig->map, .platform = rig_platform(rig), .nr_cpus = 2, .flags = flags};
    if (absent) {
        assert_int_equal(
            mm_bootmap_add(&rig->map, mm_prange(mm_paddr(64 * MIB), 4 * MIB), MM_BOOT_ACPI_RECLAIM),
            MM_OK);
        rig->config.later_kinds = MM_BOOT_BIT(MM_BOOT_ACPI_RECLAIM);
    }
    assert_int_equal(mm_frame_metadata_size(&rig->config, &len), MM_OK);
    rig->config.metadata = aligned_alloc(MM_CACHE_LINE, len);
    assert_non_null(rig->config.metadata);
    memset(rig->config.metadata, 0, len);
    rig->config.metadata_len = len;
    assert_int_equal(mm_frame_init(&rig->frames, &rig->config), MM_OK);
}

static inline void ledger_start(struct rig *rig, uint32_t flags)
{
    ledger_start_with(rig, flags, true);
}

/* The count of a frame of the longest span. */
static inline uint32_t *ledger_word(struct rig *rig, mm_pfn_t pfn)
{
    const struct mm_frames *f = &rig->frames;

    if (pfn.raw - f->main_first < f->main_nr) {
        return &f->refs[pfn.raw - f->main_bias];
    }
    /* Of the span from 1 MiB on: it begins in the second line of its own, behind that of 0. */
    return &f->refs[512 + pfn.raw];
}

static inline uint32_t ledger_make_word(uint32_t refs, uint32_t pins)
{
    return pins << 22 | (refs + pins - 1);
}

/* Give a frame so many references and pins, whatever it had. */
static inline void ledger_poke(struct rig *rig, mm_pfn_t pfn, uint32_t refs, uint32_t pins)
{
    uint32_t had = mm_frame_pins(&rig->frames, pfn);

    rig->frames.nr_pins += pins - (uint64_t)(had == MM_FRAME_REF_IMMORTAL ? 0 : had);
    *ledger_word(rig, pfn) = ledger_make_word(refs, pins);
}

/* So many references and pins. */
#define COUNTS(rig_, pfn_, refs_, pins_)                                                           \
    do {                                                                                           \
        assert_int_equal(mm_frame_refs(&(rig_).frames, pfn_), refs_);                              \
        assert_int_equal(mm_frame_pins(&(rig_).frames, pfn_), pins_);                              \
    } while (0)

/* The statement panics with these words about this frame, and leaves the state as it was. */
#define PANICS(rig_, stmt_, what_, pfn_, recorded_, recorded_value_, claimed_, claimed_value_)     \
    do {                                                                                           \
        struct t_trap_info info_;                                                                  \
        uint64_t hash_ = t_hash((rig_).config.metadata, (rig_).config.metadata_len);               \
                                                                                                   \
        T_EXPECT_PANIC(stmt_, &info_);                                                             \
        assert_string_equal(info_.room, "frame");                                                  \
        assert_string_equal(info_.what, what_);                                                    \
        assert_int_equal(info_.address, (uint64_t)(pfn_) << 12);                                   \
        assert_string_equal(info_.recorded, recorded_);                                            \
        assert_int_equal(info_.recorded_value, recorded_value_);                                   \
        assert_string_equal(info_.claimed, claimed_);                                              \
        assert_int_equal(info_.claimed_value, claimed_value_);                                     \
        assert_int_equal(t_hash((rig_).config.metadata, (rig_).config.metadata_len), hash_);       \
        rig_check(&(rig_));                                                                        \
    } while (0)

#endif
