// SPDX-License-Identifier: MIT
/**
 * Clones of spaces that are more than memory: pinned pages, large leaves, devices, groups.
 */
#include "calls.h"

#define PAGE  UINT64_C(4096)
#define LARGE (UINT64_C(1) << 30)

static int do_clone(const uint64_t *a)
{
    return (int)mm_space_clone(T_P(0), T_P(1));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void map(struct mm_space *space, uint64_t at, uint64_t len, uint32_t flags)
{
    const struct mm_space_request request = {
        .at = {at}, .len = len, .prot = MM_PROT_RW, .flags = flags | MM_SPACE_FIXED};
    mm_vaddr_t out;

    (void)!mm_space_map(space, &request, &out);
}

static void pin(struct mm_space *space, uint64_t at)
{
    struct mm_mapping leaf;

    if (mm_paging_translate(mm_space_table(space), mm_vaddr(at), &leaf) == MM_OK) {
        mm_frame_pin(&t_w.frames, mm_pfn_of(leaf.paddr));
    }
}

/* One that is shared, one that is not, and one that may only be read. */
static void pinned(void)
{
    map(t_w.space, LARGE, 3 * PAGE, MM_SPACE_POPULATE);
    (void)!mm_space_protect(t_w.space, mm_vrange(mm_vaddr(LARGE + PAGE), PAGE), MM_PROT_READ);
    pin(t_w.space, T_SPACE_AT);
    pin(t_w.space, LARGE);
    pin(t_w.space, LARGE + PAGE);
}

static void device(void)
{
    const struct mm_space_request request = {
        .at = {LARGE}, .len = 2 * PAGE, .prot = MM_PROT_RW, .flags = MM_SPACE_FIXED};
    mm_vaddr_t out;

    (void)!mm_space_map_physical(t_w.space, &request, mm_paddr(UINT64_C(1) << 40), MM_MEMTYPE_UC,
                                 &out);
    pin(t_w.space, T_SPACE_AT + PAGE);
}

/* A space of a group that has no room for another like it. */
static void group_is_full(void)
{
    const struct mm_space_limits limits = {.mapped_bytes = 5 * PAGE};
    const struct mm_space_config config = {.group = &t_w.full};

    (void)!mm_space_group_init(&t_w.full, &limits);
    if (mm_space_create_with(&t_w.spaces, &config, &t_w.other) == MM_OK) {
        map(t_w.other, T_SPACE_AT, 3 * PAGE, 0);
    }
}

static const struct t_call clone[] = {
    {.name = "mm_space_clone",
     .note = "pinned pages",
     .invoke = do_clone,
     .setup = pinned,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_VAR(space), T_OUT}},
    {.name = "mm_space_clone",
     .note = "a device, and a pinned page",
     .invoke = do_clone,
     .setup = device,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_VAR(space), T_OUT}},
    {.name = "mm_space_clone",
     .note = "its group is full",
     .invoke = do_clone,
     .setup = group_is_full,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(other), T_OUT}},
};

const struct t_call_list t_calls_clone = T_CALL_LIST(clone);
