// SPDX-License-Identifier: MIT
/**
 * The life of a CPU: it comes, loads roots, leaves them, and goes. See mm/tlb.h.
 *
 * Loading a root, with interrupts off:
 *
 *     bit of this CPU in pt->cpus        an initiator that does not see it has edited the tables
 *     loaded = pt, "being loaded"        before this CPU reads its generation; one that sees it
 *     read pt->gen                       waits until "loaded" says pt alone
 *     load the root                      keeping what its ASID holds, if nothing was flushed since
 *     seen = that generation
 *     loaded = pt
 *     bit of this CPU out of the page table before: from here on nobody waits for it there
 *
 * What an ASID holds is good if its page table has the generation that it had when it was left, and
 * if this CPU has seen no flush of the kernel's root since: such a flush reaches the ASID in use
 * and what is global, not what other ASIDs hold of the kernel's addresses.
 */
#include "core/base/mem.h"
#include "shootdown.h"

/* --- switch ----------------------------------------------------------------------------------- */

/** The ASID of a page table on this CPU: its own, or the next in turn. */
static uint32_t asid_for(const struct mm_tlb *tlb, struct mm_tlb_cpu *cpu,
                         const struct mm_pagetable *pt)
{
    if (pt->is_user == 0 || tlb->nr_asids == 1) {
        return 0;
    }
    for (uint32_t i = 1; i < tlb->nr_asids; i++) {
        if (cpu->asids[i].id == pt->id) {
            return i;
        }
    }
    cpu->next = cpu->next % (tlb->nr_asids - 1) + 1;
    return cpu->next;
}

/** Load the root under its ASID, and note what that holds. */
static void load_asid(const struct mm_tlb *tlb, struct mm_tlb_cpu *cpu,
                      const struct mm_pagetable *pt, uint64_t gen)
{
    uint32_t i = asid_for(tlb, cpu, pt);
    struct mm_tlb_asid *asid = &cpu->asids[i];
    uint64_t kernel_seen = mmi_load(&cpu->kernel_seen);
    bool keep = tlb->nr_asids > 1 && asid->id == pt->id && asid->kernel_gen == kernel_seen &&
                (pt->is_user == 0 || asid->gen == gen);

    tlb->backend.ops->load(tlb->backend.ctx, pt->kernel_root, i, keep);
    mmi_tlb_count(keep ? &cpu->stats.nr_asid_hits : &cpu->stats.nr_asid_misses, 1);
    asid->id = pt->id;
    asid->gen = gen;
    asid->kernel_gen = kernel_seen;
    cpu->current = i;
}

/** Note what the ASID in use holds, before it is left. */
static void leave_asid(const struct mm_tlb *tlb, struct mm_tlb_cpu *cpu, bool stray)
{
    struct mm_tlb_asid *asid = &cpu->asids[cpu->current];

    if (stray) {
        cpu->asids[0].id = 0; /* a root that is not ours has walked under ASID 0 */
    }
    if (tlb->nr_asids > 1) {
        asid->gen = mmi_load(&cpu->seen);
        asid->kernel_gen = mmi_load(&cpu->kernel_seen);
    }
}

/** Before the hardware walks it: from here on every access is atomic. */
static void set_active(struct mm_pagetable *pt)
{
    if (mmi_load(&pt->active) == 0) {
        mmi_store(&pt->active, 1);
    }
}

static void load_root(struct mm_tlb *tlb, uint32_t self, struct mm_pagetable *pt, bool fresh)
{
    struct mm_tlb_cpu *cpu = &tlb->cpus[self];
    struct mm_pagetable *old = (struct mm_pagetable *)(mmi_load(&cpu->loaded) & ~MMI_TLB_LOADING);
    uint64_t root = tlb->backend.ops->current_root(tlb->backend.ctx).raw;
    bool stray = old == NULL || root != old->kernel_root.raw; /* loaded by mm_paging_load_root() */
    uint64_t gen;

    if (old == pt && !stray && !fresh) {
        return;
    }
    set_active(pt);
    if (pt->is_user != 0) {
        mmi_cpu_enter(&pt->cpus, self);
    }
    mmi_store_release(&cpu->loaded, (uintptr_t)pt | MMI_TLB_LOADING);
    gen = mmi_load_seq(&pt->gen);
    leave_asid(tlb, cpu, stray);
    load_asid(tlb, cpu, pt, gen);
    if (fresh || stray) {
        tlb->backend.ops->flush_everything(tlb->backend.ctx);
    }
    mmi_store_release(&cpu->seen, gen);
    mmi_store_release(&cpu->loaded, (uintptr_t)pt);
    if (old != NULL && old != pt && old->is_user != 0) {
        mmi_cpu_leave(&old->cpus, self);
    }
}

mm_status_t mmi_tlb_switch(struct mm_pagetable *pt, bool fresh)
{
    struct mm_tlb *tlb = pt->tlb;
    uintptr_t saved = mmi_interrupts_off(&pt->platform);
    uint32_t self = mmi_tlb_this_cpu(tlb);

    if (self != MMI_TLB_NOBODY) {
        load_root(tlb, self, pt, fresh);
        mm_tlb_service(tlb); /* an interrupt in the midst has left its work to us */
    }
    mmi_interrupts_restore(&pt->platform, saved);
    return self != MMI_TLB_NOBODY ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

mm_status_t mm_paging_activate(struct mm_pagetable *pt)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status != MM_OK) {
        return status;
    }
    if (pt->pairs == MMI_ENTRY_ROOT) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (pt->tlb != NULL) {
        return mmi_tlb_switch(pt, pt->is_user == 0);
    }
    set_active(pt);
    pt->backend.ops->activate(pt);
    return MM_OK;
}

mm_status_t mm_paging_leave(struct mm_pagetable *kernel)
{
    mm_status_t status = mmi_pagetable_check(kernel);

    if (status != MM_OK) {
        return status;
    }
    if (kernel->is_user != 0 || kernel->pairs == MMI_ENTRY_ROOT) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (kernel->tlb != NULL) {
        return mmi_tlb_switch(kernel, false);
    }
    set_active(kernel);
    kernel->backend.ops->load(kernel->backend.ctx, kernel->kernel_root, 0, false);
    return MM_OK;
}

/* --- coming and going ------------------------------------------------------------------------- */

mm_status_t mm_tlb_init(struct mm_tlb *tlb, const struct mm_tlb_config *config)
{
    uint32_t nr;

    if (tlb == NULL || config == NULL || config->backend.ops == NULL || config->cpus == NULL ||
        config->nr_cpus == 0 || config->nr_cpus > MM_MAX_CPUS || config->ops == NULL ||
        config->ops->this_cpu == NULL || config->ops->interrupt == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (tlb->magic == MMI_TLB_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    nr = config->backend.ops->nr_asids(config->backend.ctx);
    tlb->nr_cpus = config->nr_cpus;
    tlb->flush_pages = config->flush_pages != 0 ? config->flush_pages : MM_GATHER_FLUSH_PAGES;
    tlb->nr_asids = nr < MM_TLB_ASIDS + 1 ? nr : MM_TLB_ASIDS + 1;
    tlb->cpus = config->cpus;
    tlb->backend = config->backend;
    tlb->ops = config->ops;
    tlb->ctx = config->ctx;
    tlb->platform = config->platform;
    tlb->first_generation = config->first_generation;
    tlb->magic = MMI_TLB_MAGIC;
    return MM_OK;
}

static bool anybody(const struct mm_tlb *tlb)
{
    uint64_t all = 0;

    for (uint32_t word = 0; word < mmi_tlb_words(tlb); word++) {
        all |= mmi_load_seq(&tlb->online.bits[word]);
    }
    return all != 0;
}

mm_status_t mm_tlb_destroy(struct mm_tlb *tlb)
{
    mm_status_t status = mmi_tlb_check(tlb);

    if (status != MM_OK) {
        return status;
    }
    if (tlb->kernel != NULL || anybody(tlb)) {
        return MM_ERR_BUSY;
    }
    memset(tlb->cpus, 0, tlb->nr_cpus * sizeof(tlb->cpus[0]));
    memset(tlb, 0, sizeof(*tlb));
    return MM_OK;
}

/** The number of the CPU that runs, online or not. */
static mm_status_t self_of(const struct mm_tlb *tlb, uint32_t *self)
{
    mm_status_t status = mmi_tlb_check(tlb);

    if (status != MM_OK) {
        return status;
    }
    *self = tlb->ops->this_cpu(tlb->ctx);
    return *self < tlb->nr_cpus ? MM_OK : MM_ERR_LIMIT;
}

mm_status_t mm_tlb_online(struct mm_tlb *tlb)
{
    const struct mm_pagetable *kernel;
    struct mm_tlb_cpu *cpu;
    uint32_t self;
    uint64_t gen;
    mm_status_t status = self_of(tlb, &self);

    if (status != MM_OK || mmi_cpu_is_in(&tlb->online, self)) {
        return status;
    }
    cpu = &tlb->cpus[self];
    kernel = mmi_load_acquire(&tlb->kernel);
    gen = kernel != NULL ? mmi_load_seq(&kernel->gen) : tlb->first_generation;
    memset(cpu->asids, 0, sizeof(cpu->asids));
    cpu->current = 0;
    cpu->next = 0;
    mmi_store(&cpu->loaded, 0);
    /* Older than any that somebody waits for: what was seen before it went does not count. */
    mmi_store_release(&cpu->kernel_seen, gen - (UINT64_C(1) << 62));
    mmi_cpu_enter(&tlb->online, self);
    if (kernel != NULL) {
        gen = mmi_load_seq(&kernel->gen);
    }
    tlb->backend.ops->flush_everything(tlb->backend.ctx);
    mmi_store_release(&cpu->kernel_seen, gen);
    return MM_OK;
}

mm_status_t mm_tlb_offline(struct mm_tlb *tlb)
{
    const struct mm_pagetable *loaded;
    struct mm_tlb_cpu *cpu;
    uint32_t self;
    mm_status_t status = self_of(tlb, &self);

    if (status != MM_OK || !mmi_cpu_is_in(&tlb->online, self)) {
        return status;
    }
    cpu = &tlb->cpus[self];
    loaded = (const struct mm_pagetable *)(mmi_load(&cpu->loaded) & ~MMI_TLB_LOADING);
    if (loaded != NULL && loaded->is_user != 0) {
        return MM_ERR_BUSY;
    }
    mmi_store(&cpu->loaded, 0);
    mmi_cpu_leave(&tlb->online, self);
    return MM_OK;
}

/* --- asking ----------------------------------------------------------------------------------- */

mm_status_t mm_tlb_get_stats(const struct mm_tlb *tlb, struct mm_tlb_stats *out)
{
    mm_status_t status = mmi_tlb_check(tlb);

    if (status != MM_OK || out == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    memset(out, 0, sizeof(*out));
    for (uint32_t i = 0; i < tlb->nr_cpus; i++) {
        const struct mm_tlb_stats *stats = &tlb->cpus[i].stats;

        out->nr_shootdowns += mmi_load(&stats->nr_shootdowns);
        out->nr_interrupts += mmi_load(&stats->nr_interrupts);
        out->nr_left += mmi_load(&stats->nr_left);
        out->nr_served += mmi_load(&stats->nr_served);
        out->nr_full += mmi_load(&stats->nr_full);
        out->nr_pages += mmi_load(&stats->nr_pages);
        out->nr_asid_hits += mmi_load(&stats->nr_asid_hits);
        out->nr_asid_misses += mmi_load(&stats->nr_asid_misses);
    }
    return MM_OK;
}

mm_status_t mm_tlb_cpus(const struct mm_pagetable *pt, struct mm_cpu_mask *out)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK && pt->tlb == NULL) {
        status = MM_ERR_NOT_INITIALIZED;
    }
    if (status != MM_OK || out == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    for (uint32_t word = 0; word < MM_MAX_CPUS / 64; word++) {
        out->bits[word] = mmi_load(&mmi_tlb_mask(pt)->bits[word]);
    }
    return MM_OK;
}
