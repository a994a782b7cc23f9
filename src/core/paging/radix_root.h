// SPDX-License-Identifier: MIT
/**
 * The life of a root (init, adopt, destroy) and the check of a whole tree: a part of radix.h, which
 * includes it.
 */
#ifndef MMI_PAGING_RADIX_ROOT_H
#define MMI_PAGING_RADIX_ROOT_H

#include "radix.h"

/* --- init ------------------------------------------------------------------------------------- */

/** User and kernel may not meet in a slot of the root: they would share a table below it. */
static bool root_slots_apart(const struct mm_pagetable *pt, const codec_t *cx)
{
    for (unsigned i = 0; i < RADIX_SLOTS; i++) {
        if (root_slot_is_user(pt, cx, i) && root_slot_is_kernel(pt, cx, i)) {
            return false;
        }
    }
    return true;
}

/** Take a table for each empty root slot of the kernel's ranges; `root` NULL: all are empty. */
static mm_status_t plan_root(const struct mm_pagetable *pt, const codec_t *cx, const uint64_t *root,
                             struct plan *plan)
{
    mm_status_t status = MM_OK;

    for (unsigned i = 0; i < RADIX_SLOTS && status == MM_OK; i++) {
        if (root_slot_is_kernel(pt, cx, i) && (root == NULL || mmi_load(&root[i]) == 0)) {
            status = plan_spare(pt, plan);
        }
    }
    return status;
}

static void fill_root(struct mm_pagetable *pt, const codec_t *cx, uint64_t *root, struct plan *plan)
{
    for (unsigned i = 0; i < RADIX_SLOTS; i++) {
        if (root_slot_is_kernel(pt, cx, i) && mmi_load(&root[i]) == 0) {
            mm_pfn_t table;

            table_put(pt, plan_take(pt, plan, &table));
            table_link(cx, pt, &root[i], table);
        }
    }
}

static mm_status_t radix_init_kernel(struct mm_pagetable *pt)
{
    const codec_t *cx = codec_of(pt);
    struct plan plan;
    uint64_t *root;
    mm_pfn_t table;
    mm_status_t status;

    if (!root_slots_apart(pt, cx)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    plan_begin(&plan);
    status = plan_spare(pt, &plan);
    if (status == MM_OK) {
        status = plan_root(pt, cx, NULL, &plan);
    }
    if (status != MM_OK) {
        plan_abandon(pt, &plan);
        return status;
    }
    root = plan_take(pt, &plan, &table);
    pt->root = mm_pfn_addr(table);
    pt->nr_tables = 1;
    fill_root(pt, cx, root, &plan);
    table_put(pt, root);
    return MM_OK;
}

/** Copy the entries of a kernel root's declared ranges. */
static void copy_entries(uint64_t *root, const struct mm_pagetable *kernel)
{
    const codec_t *cx = codec_of(kernel);
    uint64_t *shared = table_get(kernel, root_pfn(kernel));

    for (unsigned i = 0; i < RADIX_SLOTS; i++) {
        if (root_slot_is_kernel(kernel, cx, i)) {
            root[i] = mmi_load(&shared[i]);
        }
    }
    table_put(kernel, shared);
}

/** A root that has the entries of a kernel root, and nothing else. */
static mm_status_t root_beside(const struct mm_pagetable *pt, const struct mm_pagetable *kernel,
                               mm_paddr_t *out)
{
    mm_pfn_t table;
    mm_status_t status = table_alloc(pt, true, &table);

    if (status == MM_OK) {
        uint64_t *root = table_get(pt, table);

        copy_entries(root, kernel);
        table_put(pt, root);
        *out = mm_pfn_addr(table);
    }
    return status;
}

static mm_status_t radix_init_user(struct mm_pagetable *pt, const struct mm_pagetable *kernel)
{
    mm_status_t status = root_beside(pt, pt->peer != NULL ? pt->peer : kernel, &pt->root);

    if (status != MM_OK) {
        return status;
    }
    pt->nr_tables = 1;
    page_begin(pt, codec_of(pt));
    if (pt->peer != NULL) {
        status = root_beside(pt, kernel, &pt->kernel_root);
        pt->nr_tables = 2;
        if (status != MM_OK) {
            table_free(pt, root_pfn(pt));
        }
    }
    return status;
}

/** What user mode sees of the kernel, in a user root: the declared ranges of this. */
static inline const struct mm_pagetable *root_kernel_part(const struct mm_pagetable *pt)
{
    return mmi_is_pair(pt) ? pt->peer : pt;
}

/* --- survey: every slot of a tree ------------------------------------------------------------- */

struct survey {
    const struct mm_pagetable *pt;
    bool adopting; /**< the tree is someone else's work: it need only be well formed */
    uint64_t nr_wrong;
    uint64_t nr_tables; /**< ours */
    uint64_t nr_leaves[CODEC_LEAF_LEVELS];
    uint64_t nr_soft;
    bool owned[CODEC_MAX_LEVELS]; /**< by level: of the path */
};

static void survey_wrong(struct survey *v, const char *what, uint64_t value)
{
    v->nr_wrong++;
    if (!v->adopting) {
        mmi_complain(&v->pt->platform, "paging", what, value);
    }
}

static bool survey_enter(struct sweep *s, uint64_t slot, void *arg)
{
    struct survey *v = arg;
    mm_pfn_t table = codec_table_pfn(s->cx, slot);
    const char *wrong = codec_malformed(s->cx, slot, s->level);

    if (wrong == NULL && s->pt->is_user != 0 && slot != codec_table(s->cx, table, true)) {
        wrong = "an entry of a table that is not as it was made";
    }
    if (wrong == NULL && s->pt->physmap.ops == NULL &&
        !mm_physmap_covers(&s->pt->physmap, mm_prange(mm_pfn_addr(table), MM_PAGE_SIZE))) {
        wrong = "a table that the physmap does not reach";
    }
    if (wrong != NULL) {
        survey_wrong(v, wrong, slot);
        return false;
    }
    v->owned[s->level - 1] = codec_is_owned(slot);
    v->nr_tables += codec_is_owned(slot) ? 1 : 0;
    return true;
}

static bool survey_leave(struct sweep *s, void *arg)
{
    struct survey *v = arg;
    bool stays = s->level + 1 == root_level(s->cx) && v->pt->is_user == 0;

    if (!v->adopting && v->owned[s->level] && !stays && table_is_empty(s->slots) &&
        (v->pt->sparse & mmi_paging_sparse_bits(v->pt, slot_first(s->at, s->level + 1),
                                                slot_last(s->at, s->level + 1))) == 0) {
        survey_wrong(v, "an empty table is linked", mm_pfn_addr(s->tables[s->level]).raw);
    }
    return false;
}

static void survey_leaf(struct sweep *s, struct survey *v, uint64_t slot, uint64_t at)
{
    const char *wrong = codec_malformed(s->cx, slot, s->level);
    struct mm_mapping leaf;
    bool user;

    if (wrong == NULL && s->level > codec_max_leaf(s->cx)) {
        wrong = "a leaf at a level that holds none";
    }
    if (wrong != NULL) {
        survey_wrong(v, wrong, slot);
        return;
    }
    if (codec_is_soft(slot)) {
        v->nr_soft++;
        return;
    }
    v->nr_leaves[s->level]++;
    codec_decode(s->cx, slot, s->level, s->rights[s->level], &leaf);
    user = (leaf.prot & MM_PROT_USER) != 0;
    if (leaf.prot == MM_PROT_NONE || v->adopting) {
        return;
    }
    if (user && v->pt->is_user == 0) {
        survey_wrong(v, "a leaf of the kernel is open to the user", at);
    } else if (!user && v->pt->is_user != 0) {
        survey_wrong(v, "a leaf of a user root is the kernel's", at);
    } else if (v->pt->pairs == MMI_PAIRS && v->pt->is_user == 0 && codec_is_global(slot)) {
        survey_wrong(v, "a global leaf of a kernel root with pairs", at);
    }
}

static mm_status_t survey_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    unsigned n = 0;

    for (; i + n <= end; n++) {
        uint64_t slot = mmi_load(&s->slots[i + n]);

        if (slot == 0) {
            continue;
        }
        if (codec_is_table(slot, s->level)) {
            break;
        }
        survey_leaf(s, arg, slot, sweep_address(s, i + n));
    }
    *nr = n;
    return MM_OK;
}

/** Sweep what hangs from one slot of the root. */
static mm_status_t survey_root_slot(struct survey *v, const codec_t *cx, unsigned index)
{
    const struct sweep_hooks hooks = {
        .slots = survey_slots, .enter = survey_enter, .leave = survey_leave};
    uint64_t first = root_slot_first(cx, index);
    struct sweep s;

    sweep_begin(&s, v->pt, first, slot_last(first, root_level(cx)));
    return sweep_run(&s, hooks, v);
}

static void survey_stranger(struct survey *v, const codec_t *cx, uint64_t slot, unsigned index)
{
    bool shared = v->pt->is_user != 0 && root_slot_is_kernel(root_kernel_part(v->pt), cx, index);

    if (v->pt->adopted != 0) {
        return; /* what else hangs there is not ours to judge */
    }
    if (shared && !codec_is_table(slot, root_level(cx))) {
        survey_wrong(v, "an entry of the kernel's is missing", root_slot_first(cx, index));
    } else if (!shared && slot != 0) {
        survey_wrong(v, "a slot of the root that was never declared", root_slot_first(cx, index));
    }
}

/** The root that the kernel runs on has the same of the user's, and all of the kernel's. */
static void survey_pair(struct survey *v, const codec_t *cx, const uint64_t *root)
{
    uint64_t *other = table_get(v->pt, mm_pfn_of(v->pt->kernel_root));

    for (unsigned i = 0; i < RADIX_SLOTS; i++) {
        uint64_t slot = mmi_load(&other[i]);

        if (root_slot_is_user(v->pt, cx, i)) {
            if (!codec_same_table(slot, codec_kernel_side(cx, mmi_load(&root[i])))) {
                survey_wrong(v, "the roots of a pair differ", root_slot_first(cx, i));
            }
        } else if (codec_is_table(slot, root_level(cx)) != root_slot_is_kernel(v->pt, cx, i)) {
            survey_wrong(v, "an entry of the kernel's is missing in a pair, or one too many",
                         root_slot_first(cx, i));
        }
    }
    table_put(v->pt, other);
    v->nr_tables++;
}

static mm_status_t radix_check(const struct mm_pagetable *pt)
{
    const codec_t *cx = codec_of(pt);
    struct survey v = {.pt = pt, .nr_tables = pt->adopted != 0 ? 0 : 1};
    uint64_t *root = table_get(pt, root_pfn(pt));

    for (unsigned i = 0; i < RADIX_SLOTS; i++) {
        if (root_slot_is_own(pt, cx, i)) {
            (void)survey_root_slot(&v, cx, i);
        } else {
            survey_stranger(&v, cx, mmi_load(&root[i]), i);
        }
    }
    if (mmi_is_pair(pt)) {
        survey_pair(&v, cx, root);
    }
    table_put(pt, root);
    if (v.nr_tables != pt->nr_tables) {
        survey_wrong(&v, "tables linked are not those counted", v.nr_tables);
    }
    for (unsigned level = 0; level < CODEC_LEAF_LEVELS; level++) {
        if (v.nr_leaves[level] != pt->nr_leaves[level]) {
            survey_wrong(&v, "leaves mapped are not those counted", v.nr_leaves[level]);
        }
    }
    if (v.nr_soft != pt->nr_soft) {
        survey_wrong(&v, "soft slots are not those counted", v.nr_soft);
    }
    return v.nr_wrong == 0 ? MM_OK : MM_ERR_CORRUPTED;
}

/* --- adopt ------------------------------------------------------------------------------------ */

/** Our mark in a table of others would make us free it. */
static bool disown_enter(struct sweep *s, uint64_t slot, void *arg)
{
    uint64_t *at = &s->slots[slot_index(s->at, s->level)];

    (void)arg;
    while (codec_is_owned(slot) && !mmi_cas(at, &slot, codec_disown(slot))) {
    }
    return true;
}

static mm_status_t skip_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    unsigned n = 1;

    (void)arg;
    while (i + n <= end && !codec_is_table(mmi_load(&s->slots[i + n]), s->level)) {
        n++;
    }
    *nr = n;
    return MM_OK;
}

static mm_status_t radix_adopt(struct mm_pagetable *pt)
{
    const codec_t *cx = codec_of(pt);
    const struct sweep_hooks disown = {.slots = skip_slots, .enter = disown_enter};
    struct survey v = {.pt = pt, .adopting = true};
    struct plan plan;
    uint64_t *root;
    mm_status_t status;

    if (pt->root.raw >> codec_paddr_bits(cx) != 0 || !root_slots_apart(pt, cx) ||
        (pt->physmap.ops == NULL &&
         !mm_physmap_covers(&pt->physmap, mm_prange(pt->root, MM_PAGE_SIZE)))) {
        return MM_ERR_INVALID_ADDRESS;
    }
    for (unsigned i = 0; i < RADIX_SLOTS; i++) {
        if (root_slot_is_kernel(pt, cx, i)) {
            (void)survey_root_slot(&v, cx, i);
        }
    }
    if (v.nr_wrong != 0) {
        return MM_ERR_CORRUPTED;
    }
    plan_begin(&plan);
    root = table_get(pt, root_pfn(pt));
    status = plan_root(pt, cx, root, &plan);
    if (status != MM_OK) {
        table_put(pt, root);
        plan_abandon(pt, &plan);
        return status;
    }
    for (unsigned i = 0; i < RADIX_SLOTS; i++) {
        if (root_slot_is_kernel(pt, cx, i)) {
            uint64_t first = root_slot_first(cx, i);
            struct sweep s;

            sweep_begin(&s, pt, first, slot_last(first, root_level(cx)));
            (void)sweep_run(&s, disown, NULL);
        }
    }
    memcpy(pt->nr_leaves, v.nr_leaves, sizeof(pt->nr_leaves));
    pt->nr_soft = v.nr_soft;
    fill_root(pt, cx, root, &plan);
    table_put(pt, root);
    return MM_OK;
}

/* --- destroy ---------------------------------------------------------------------------------- */

static bool destroy_leave(struct sweep *s, void *arg)
{
    (void)s;
    (void)arg;
    return true;
}

static void destroy_unlinked(struct sweep *s, mm_pfn_t table, void *arg)
{
    (void)arg;
    table_free(s->pt, table);
}

static void destroy_span(struct mm_pagetable *pt, uint64_t first, uint64_t last)
{
    const struct sweep_hooks hooks = {
        .slots = skip_slots, .leave = destroy_leave, .unlinked = destroy_unlinked};
    struct sweep s;

    sweep_begin(&s, pt, first, last);
    (void)sweep_run(&s, hooks, NULL);
}

static void radix_destroy(struct mm_pagetable *pt)
{
    const codec_t *cx = codec_of(pt);
    unsigned top = root_level(cx);

    if (pt->is_user != 0) {
        destroy_span(pt, slot_first(pt->user.start.raw, top),
                     slot_last(mm_vrange_last(pt->user).raw, top));
    }
    for (unsigned i = 0; i < RADIX_SLOTS && pt->is_user == 0; i++) {
        if (root_slot_is_kernel(pt, cx, i)) {
            destroy_span(pt, root_slot_first(cx, i), slot_last(root_slot_first(cx, i), top));
        }
    }
    if (mmi_is_pair(pt)) {
        table_free(pt, mm_pfn_of(pt->kernel_root));
    }
    if (pt->adopted == 0) {
        table_free(pt, root_pfn(pt));
    }
}

#endif
