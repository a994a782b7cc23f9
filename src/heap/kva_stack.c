// SPDX-License-Identifier: MIT
/**
 * Stacks, and what an address belongs to.
 *
 * A stack that is kept is claimed like any that was freed, and stays so until it is used again: so
 * a second free is told all the while.
 */
#include "kva.h"

/** A kept stack of this length, for its new owner; NULL: there is none. Under the lock. */
static struct mmi_kva_range *reuse(struct mm_kva *kva, uint64_t len)
{
    for (struct mmi_kva_range **at = &kva->stacks; *at != NULL; at = &(*at)->next) {
        struct mmi_kva_range *stack = *at;

        if (stack->len == len) {
            *at = stack->next;
            kva->nr_stacks--;
            mmi_store_release(mmi_table_look(&kva->table, stack->start), mmi_kva_entry(stack));
            return stack;
        }
    }
    return NULL;
}

mm_status_t mm_kva_stack_alloc(struct mm_kva *kva, uint64_t len, uint32_t flags,
                               struct mm_vrange *out)
{
    struct mm_kva_request request = {.len = len, .flags = flags};
    struct mmi_kva_spec spec = {.kind = MM_KVA_STACK, .type = MM_MEMTYPE_WB};
    struct mmi_kva_range *stack;
    mm_status_t status = mmi_kva_check_arena(kva);

    if (out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (status != MM_OK) {
        return status;
    }
    if ((flags & ~MM_KVA_ATOMIC) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    request.guard_before = kva->red_zone_pages;
    status = mmi_kva_complete(kva, &request, &spec.request);
    if (status != MM_OK) {
        return status;
    }
    if (!mmi_kva_enter(kva, (flags & MM_KVA_ATOMIC) != 0)) {
        return MM_ERR_BUSY;
    }
    stack = reuse(kva, spec.request.len);
    mmi_kva_leave(kva);
    if (stack == NULL) {
        status = mmi_kva_take(kva, &spec, &stack);
    }
    if (status == MM_OK) {
        *out = mm_vrange(mm_vaddr(stack->start), stack->len);
    }
    return status;
}

/** Keep a claimed stack, if there is room. */
static bool keep(struct mm_kva *kva, struct mmi_kva_range *stack)
{
    bool kept;

    if (!mmi_lock_try(&kva->lock)) {
        return false;
    }
    kept = kva->nr_stacks < kva->max_stacks;
    if (kept) {
        stack->next = kva->stacks;
        kva->stacks = stack;
        kva->nr_stacks++;
    }
    mmi_unlock(&kva->lock);
    return kept;
}

void mm_kva_stack_free(struct mm_kva *kva, mm_vaddr_t at)
{
    struct mmi_kva_range *stack;

    if (!mmi_is_kva(kva)) {
        const struct mm_platform none = {NULL, NULL};

        mmi_panic(&none, &(struct mm_panic_info){.room = "kva",
                                                 .what = "a free into no arena",
                                                 .address = at.raw,
                                                 .recorded = "no arena",
                                                 .claimed = "a stack"});
    }
    stack = mmi_kva_claim(kva, at.raw, 1u << MM_KVA_STACK, "a stack");
    if (!keep(kva, stack)) {
        mmi_kva_push(kva, stack, mmi_kva_pages(stack));
    }
}

uint64_t mm_kva_reclaim(struct mm_kva *kva)
{
    struct mmi_kva_range *stack;

    if (!mmi_is_kva(kva)) {
        return 0;
    }
    mmi_lock(&kva->lock, &kva->platform);
    stack = kva->stacks;
    kva->stacks = NULL;
    kva->nr_stacks = 0;
    mmi_unlock(&kva->lock);
    while (stack != NULL) {
        struct mmi_kva_range *next = stack->next;

        mmi_kva_push(kva, stack, mmi_kva_pages(stack));
        stack = next;
    }
    return mm_kva_purge(kva);
}

/* --- what an address belongs to --------------------------------------------------------------- */

static enum mm_kva_place_where where(const struct mm_kva *kva, const struct mmi_kva_range *range,
                                     uint64_t at)
{
    const uint64_t *entry;

    if (at < range->start) {
        return MM_KVA_GUARD_BELOW;
    }
    if (at - range->start >= range->len) {
        return MM_KVA_GUARD_ABOVE;
    }
    if (range->part != 0 && (at - range->start) % range->stride >= range->part) {
        return MM_KVA_GUARD_BETWEEN;
    }
    if (range->kind != MM_KVA_PAGES) {
        return mmi_kva_is_freed(kva, range) ? MM_KVA_FREED : MM_KVA_INSIDE;
    }
    entry = mmi_table_look(&kva->table, at);
    return entry != NULL && mmi_load_acquire(entry) == mmi_kva_entry(range) ? MM_KVA_INSIDE
                                                                            : MM_KVA_FREED;
}

mm_status_t mm_kva_explain(struct mm_kva *kva, mm_vaddr_t at, struct mm_kva_place *out)
{
    const struct mmi_kva_range *range;
    mm_status_t status = mmi_kva_check_arena(kva);

    if (out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (status != MM_OK) {
        return status;
    }
    if (!mm_vrange_contains(kva->ranges.window, at)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    if (!mmi_kva_enter_for_a_while(kva)) {
        return MM_ERR_BUSY;
    }
    range = mmi_kva_find(kva, at.raw);
    if (range == NULL) {
        status = MM_ERR_REGION_NOT_FOUND;
    } else {
        *out = (struct mm_kva_place){.kind = range->kind,
                                     .where = where(kva, range, at.raw),
                                     .range = mm_vrange(mm_vaddr(range->start), range->len)};
    }
    mmi_unlock(&kva->lock);
    return status;
}
