// SPDX-License-Identifier: MIT
/**
 * Where a region goes that may go anywhere.
 *
 *     lowest                   mmap_base                        top
 *       |..............<────────────|────────────>...............|
 *                 first: highest place     then: lowest place     at last: across mmap_base
 *
 * A stack grows down into the gap below it, so the layout's stack_gap below a stack is no place for
 * others. The tree knows nothing of this: a place that it finds too near to a stack is passed over,
 * and the search goes on beyond that stack.
 */
#include "internal.h"

/** The stack that a range would be too near to: the next region, if it is one. NULL: none. */
static const struct mmi_region *stack_above(const struct mm_space *space, uint64_t start,
                                            uint64_t len)
{
    const struct mmi_region *n = mmi_regions_from(&space->regions, start);

    if (n == NULL || (n->attr.flags & MM_SPACE_STACK) == 0) {
        return NULL;
    }
    return n->start - (start + len) < space->layout.stack_gap ? n : NULL;
}

/** Whether what lies below a stack is too near to it. */
static bool crowds_below(const struct mm_space *space, uint64_t start)
{
    const struct mmi_region *n = mmi_regions_before(&space->regions, start);

    return n != NULL && start - (n->start + n->len) < space->layout.stack_gap &&
           !mmi_region_is_guard(n);
}

bool mmi_space_is_free(const struct mm_space *space, uint64_t start, uint64_t len, bool stack)
{
    uint64_t end;

    if (__builtin_add_overflow(start, len, &end) || start < space->layout.lowest ||
        end > space->layout.top || !mmi_regions_free(&space->regions, start, len)) {
        return false;
    }
    return stack_above(space, start, len) == NULL && !(stack && crowds_below(space, start));
}

/** Where the gap below a stack begins, or what lies in it ends. */
static uint64_t end_below(const struct mm_space *space, const struct mmi_region *stack)
{
    const struct mmi_region *below = mmi_region_prev(stack);
    uint64_t gap = space->layout.stack_gap;
    uint64_t end = stack->start > gap ? stack->start - gap : 0;

    return below != NULL && below->start + below->len > end ? below->start + below->len : end;
}

static bool find_high(const struct mm_space *space, struct mmi_place place, uint64_t *out)
{
    const struct mmi_region *stack;
    uint64_t end;

    while (mmi_regions_find_place_high(&space->regions, &place, out)) {
        stack = stack_above(space, *out, place.len);
        if (stack == NULL) {
            return true;
        }
        end = end_below(space, stack);
        if (end <= place.lowest) {
            return false;
        }
        place.highest = end - 1;
    }
    return false;
}

static bool find_low(const struct mm_space *space, struct mmi_place place, uint64_t *out)
{
    const struct mmi_region *stack;

    while (mmi_regions_find_place(&space->regions, &place, out)) {
        stack = stack_above(space, *out, place.len);
        if (stack == NULL) {
            return true;
        }
        place.lowest = mmi_region_last(stack) + 1;
    }
    return false;
}

bool mmi_space_find_place(const struct mm_space *space, const struct mmi_space_place *place,
                          bool stack, uint64_t *out)
{
    const struct mm_space_layout *layout = &space->layout;
    /* A stack needs its own gap below: room for that too, and it is put at the upper end. */
    uint64_t gap = stack ? layout->stack_gap : 0;
    struct mmi_place search = {.align = place->align,
                               .residue = (place->residue - gap) & (place->align - 1),
                               .lowest = layout->lowest,
                               .highest = layout->top - 1};
    bool found;

    if (place->hint != 0 && mm_is_aligned(place->hint - place->residue, place->align) &&
        mmi_space_is_free(space, place->hint, place->len, stack)) {
        *out = place->hint;
        return true;
    }
    if (__builtin_add_overflow(place->len, gap, &search.len)) {
        return false;
    }
    if (layout->mmap_base == 0) {
        found = find_low(space, search, out);
    } else {
        search.highest = layout->mmap_base - 1;
        found = layout->mmap_base > layout->lowest && find_high(space, search, out);
        search.highest = layout->top - 1;
        if (!found && layout->mmap_base < layout->top) {
            search.lowest = layout->mmap_base;
            found = find_low(space, search, out);
        }
        if (!found) { /* then across it */
            search.lowest = layout->lowest;
            found = find_low(space, search, out);
        }
    }
    *out += found ? gap : 0;
    return found;
}

/* --- the layout ------------------------------------------------------------------------------- */

#define DEFAULT_STACK_GAP (UINT64_C(1) << 20)
#define DEFAULT_STACK_MAX (UINT64_C(8) << 20)
#define MAX_RANDOM_BITS   40u

static uint64_t random_below(const struct mm_platform *platform, uint32_t bits)
{
    uint64_t number = platform->ops != NULL && platform->ops->random != NULL
                          ? platform->ops->random(platform->ctx)
                          : 0;

    return number & ((UINT64_C(1) << bits) - 1);
}

mm_status_t mmi_space_lay_out(const struct mm_spaces *spaces, const struct mm_space_layout *asked,
                              struct mm_space_layout *out)
{
    uint64_t first = spaces->user_range.start.raw;
    uint64_t end = first + spaces->user_range.len;
    uint64_t spread;

    *out = *asked;
    out->lowest = asked->lowest != 0 ? asked->lowest : first;
    out->top = asked->top != 0 ? asked->top : end;
    out->stack_gap = asked->stack_gap != 0 ? asked->stack_gap : DEFAULT_STACK_GAP;
    out->stack_max = asked->stack_max != 0 ? asked->stack_max : DEFAULT_STACK_MAX;
    if (!mm_is_aligned(out->lowest | out->top | out->mmap_base | out->stack_gap | out->stack_max,
                       MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (asked->random_bits > MAX_RANDOM_BITS ||
        (asked->random_bits != 0 && asked->mmap_base == 0)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (out->lowest < first || out->top > end || out->lowest >= out->top ||
        (out->mmap_base != 0 && (out->mmap_base < out->lowest || out->mmap_base > out->top))) {
        return MM_ERR_INVALID_ADDRESS;
    }
    if (asked->random_bits != 0) {
        spread = MM_PAGE_SIZE << asked->random_bits;
        if (out->mmap_base - out->lowest < spread) {
            return MM_ERR_INVALID_ADDRESS;
        }
        out->mmap_base -= random_below(&spaces->platform, asked->random_bits) << MM_PAGE_SHIFT;
    }
    return MM_OK;
}

mm_status_t mm_space_get_layout(const struct mm_space *space, struct mm_space_layout *out)
{
    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (space->is_kernel != 0) {
        return MM_ERR_UNSUPPORTED;
    }
    *out = space->layout;
    return MM_OK;
}
