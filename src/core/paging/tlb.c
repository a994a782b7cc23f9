// SPDX-License-Identifier: MIT
/**
 * Shootdown: telling other CPUs what to forget, and waiting until they have. See mm/tlb.h.
 *
 * Three sides, each of which may be interrupted by any other on the same CPU:
 *
 *   - An initiator counts generations, writes their records, serves itself, interrupts and waits.
 *   - A server drops what the records say, from what its CPU has seen up to the generation that it
 *     read first, and then moves "seen" forward, never back: an interrupt may have served more.
 *   - A CPU that switches roots (switch.c), with interrupts off.
 *
 * A record is written once by whoever claims it, which is whoever finds it older and free. It is
 * read between two looks at its generation. Who cannot write, because of a slower writer, writes
 * nothing; who does not find what he looks for drops everything. So nobody waits for a record.
 */
#include "shootdown.h"

#include "core/base/bits.h"
#include "core/base/lock.h"
#include "core/base/mem.h"
#include "core/base/report.h"

uint32_t mmi_tlb_this_cpu(const struct mm_tlb *tlb)
{
    uint32_t cpu = tlb->ops->this_cpu(tlb->ctx);

    return cpu < tlb->nr_cpus && mmi_cpu_is_in(&tlb->online, cpu) ? cpu : MMI_TLB_NOBODY;
}

const struct mm_cpu_mask *mmi_tlb_mask(const struct mm_pagetable *pt)
{
    return pt->is_user != 0 ? &pt->cpus : &pt->tlb->online;
}

bool mmi_tlb_in_use(const struct mm_pagetable *pt)
{
    const struct mm_cpu_mask *mask = mmi_tlb_mask(pt);

    for (uint32_t word = 0; word < mmi_tlb_words(pt->tlb); word++) {
        if (mmi_load_seq(&mask->bits[word]) != 0) {
            return true;
        }
    }
    return false;
}

/* --- records ---------------------------------------------------------------------------------- */

void mmi_tlb_begin(struct mm_pagetable *pt)
{
    pt->id = mmi_fetch_add(&pt->tlb->next_id, 1) + 1;
    pt->gen = pt->tlb->first_generation;
    for (unsigned i = 0; i < MM_TLB_RING; i++) {
        pt->ring[i].seq = pt->gen << 1; /* older than any that will be looked for */
    }
}

static struct mm_tlb_record *record_of(struct mm_pagetable *pt, uint64_t gen)
{
    return &pt->ring[gen % MM_TLB_RING];
}

static void record_write(struct mm_pagetable *pt, uint64_t gen, uint64_t first, uint64_t last,
                         unsigned shift)
{
    struct mm_tlb_record *record = record_of(pt, gen);
    uint64_t seq = mmi_load(&record->seq);

    do {
        if ((seq & 1) != 0 || mmi_gen_reached(seq, gen << 1)) {
            return; /* a slower writer, or a later one: readers will not find this */
        }
    } while (!mmi_cas(&record->seq, &seq, gen << 1 | 1));
    mmi_store_release(&record->first, first);
    mmi_store_release(&record->last, last);
    mmi_store_release(&record->shift, shift);
    mmi_store_release(&record->seq, gen << 1);
}

/** False: it is not there. */
static bool record_read(struct mm_pagetable *pt, uint64_t gen, struct mm_tlb_record *out)
{
    const struct mm_tlb_record *record = record_of(pt, gen);

    out->seq = mmi_load_acquire(&record->seq);
    out->first = mmi_load_acquire(&record->first);
    out->last = mmi_load_acquire(&record->last);
    out->shift = mmi_load_acquire(&record->shift);
    return out->seq == gen << 1 && mmi_load(&record->seq) == out->seq;
}

/** Count the generations of a flush and write them down; the last. */
static uint64_t publish(struct mm_pagetable *pt, const struct mm_vrange *ranges,
                        const uint8_t *shifts, uint32_t nr)
{
    uint64_t gen;

    if (nr == 0) {
        gen = mmi_fetch_add_seq(&pt->gen, 1) + 1;
        record_write(pt, gen, 0, UINT64_MAX, MM_PAGE_SHIFT);
        return gen;
    }
    gen = mmi_fetch_add_seq(&pt->gen, nr);
    for (uint32_t i = 0; i < nr; i++) {
        record_write(pt, gen + 1 + i, ranges[i].start.raw, mm_vrange_last(ranges[i]).raw,
                     shifts[i]);
    }
    return gen + nr;
}

/* --- serving ---------------------------------------------------------------------------------- */

/**
 * For a kernel root what is global too, whatever the leaves are now: another gather that is still
 * open may have taken MM_PROT_GLOBAL away.
 */
static void drop_all(struct mm_tlb *tlb, struct mm_tlb_cpu *cpu, const struct mm_pagetable *pt,
                     uint64_t gen)
{
    const struct mm_paging_ops *ops = tlb->backend.ops;

    mmi_tlb_count(&cpu->stats.nr_full, 1);
    if (pt->is_user != 0) {
        ops->flush_asid(tlb->backend.ctx);
        return;
    }
    ops->flush_everything(tlb->backend.ctx);
    for (uint32_t i = 0; i < tlb->nr_asids; i++) {
        cpu->asids[i].kernel_gen = gen;
    }
}

/** Say that a generation was seen; an interrupt may have said so of a newer one. */
static void move_on(uint64_t *seen, uint64_t to)
{
    uint64_t from = mmi_load(seen);

    while (!mmi_gen_reached(from, to) && !mmi_cas(seen, &from, to)) {
    }
}

/** Drop on this CPU what a page table has flushed since `*seen`. */
static void catch_up(struct mm_tlb *tlb, struct mm_tlb_cpu *cpu, struct mm_pagetable *pt,
                     uint64_t *seen)
{
    uint64_t from = mmi_load(seen);
    uint64_t to = mmi_load_seq(&pt->gen);
    uint64_t pages = 0;
    bool known = to - from <= MM_TLB_RING;

    if (to == from) {
        return;
    }
    for (uint64_t gen = from + 1; known && gen != to + 1; gen++) {
        struct mm_tlb_record record;
        unsigned shift;

        known = record_read(pt, gen, &record);
        if (!known) {
            break;
        }
        shift = (unsigned)record.shift;
        pages += mmi_nr_leaves(record.first, record.last, shift);
        if (pages <= tlb->flush_pages) {
            tlb->backend.ops->flush_pages(tlb->backend.ctx, record.first, record.last, shift);
        }
    }
    mmi_tlb_count(&cpu->stats.nr_served, 1);
    if (!known || pages > tlb->flush_pages) {
        drop_all(tlb, cpu, pt, to);
    } else {
        mmi_tlb_count(&cpu->stats.nr_pages, pages);
    }
    move_on(seen, to);
}

static void serve(struct mm_tlb *tlb)
{
    uint32_t self = mmi_tlb_this_cpu(tlb);
    struct mm_tlb_cpu *cpu;
    struct mm_pagetable *pt;
    uintptr_t loaded;

    if (self == MMI_TLB_NOBODY) {
        return;
    }
    cpu = &tlb->cpus[self];
    loaded = mmi_load(&cpu->loaded);
    if ((loaded & MMI_TLB_LOADING) != 0) {
        return; /* the switch that is interrupted serves at its end */
    }
    pt = mmi_load_acquire(&tlb->kernel);
    if (pt != NULL) {
        catch_up(tlb, cpu, pt, &cpu->kernel_seen);
    }
    /* The CPU has it loaded, so it is not destroyed. */
    pt = (struct mm_pagetable *)loaded;
    if (pt != NULL && pt->is_user != 0) {
        catch_up(tlb, cpu, pt, &cpu->seen);
    }
}

void mm_tlb_service(struct mm_tlb *tlb)
{
    uintptr_t saved;

    if (mmi_tlb_check(tlb) != MM_OK) {
        return;
    }
    /* Another root that is loaded in the midst would be taken for the one that was looked at. */
    saved = mmi_interrupts_off(&tlb->platform);
    serve(tlb);
    mmi_interrupts_restore(&tlb->platform, saved);
}

/* --- waiting ---------------------------------------------------------------------------------- */

/** Whether a CPU has seen a generation. A root that is being loaded has not been seen at all. */
static bool has_seen(const struct mm_pagetable *pt, const struct mm_tlb_cpu *cpu, uint64_t gen)
{
    if (pt->is_user == 0) {
        return mmi_gen_reached(mmi_load_acquire(&cpu->kernel_seen), gen);
    }
    /*
     * If the CPU switches between the two loads, the second is about another page table. Then it
     * has loaded another root since the first, which is after this generation was counted.
     */
    return mmi_load_acquire(&cpu->loaded) == (uintptr_t)pt &&
           mmi_gen_reached(mmi_load_acquire(&cpu->seen), gen);
}

/** The CPUs that are to be waited for; false: none. The one that runs has seen what it served, if it
 * is still the same. */
static bool collect(const struct mm_pagetable *pt, uint64_t gen, struct mm_cpu_mask *out,
                    uint64_t *nr)
{
    const struct mm_tlb *tlb = pt->tlb;
    const struct mm_cpu_mask *mask = mmi_tlb_mask(pt);

    memset(out, 0, sizeof(*out));
    *nr = 0;
    for (uint32_t word = 0; word < mmi_tlb_words(tlb); word++) {
        uint64_t left = mmi_load_seq(&mask->bits[word]);

        for (; left != 0; left &= left - 1) {
            uint32_t cpu = word * 64 + mmi_ctz(left);

            if (!has_seen(pt, &tlb->cpus[cpu], gen)) {
                out->bits[word] |= left & -left;
                (*nr)++;
            }
        }
    }
    return *nr != 0;
}

/** Turns of a wait after which the log is told, once: about a second, if a turn is a pause. */
#define PATIENCE (UINT64_C(1) << 25)

static void wait_for(struct mm_tlb *tlb, const struct mm_pagetable *pt, uint64_t gen, uint32_t cpu,
                     struct mm_tlb_stats *stats)
{
    for (uint64_t turn = 1; !has_seen(pt, &tlb->cpus[cpu], gen); turn++) {
        if (!mmi_cpu_is_in(mmi_tlb_mask(pt), cpu)) {
            if (stats != NULL) {
                mmi_tlb_count(&stats->nr_left, 1);
            }
            return;
        }
        if (turn == PATIENCE) {
            mmi_complain(&tlb->platform, "paging", "a CPU has not flushed for long", cpu);
        }
        mm_tlb_service(tlb);
        mmi_relax(&tlb->platform);
    }
}

/** Interrupt all but the CPU that runs, which serves itself while it waits. */
static void interrupt(const struct mm_tlb *tlb, struct mm_cpu_mask cpus)
{
    uint32_t self = mmi_tlb_this_cpu(tlb);
    uint64_t left = 0;

    if (self != MMI_TLB_NOBODY) {
        cpus.bits[self / 64] &= ~(UINT64_C(1) << (self % 64));
    }
    for (uint32_t word = 0; word < mmi_tlb_words(tlb); word++) {
        left |= cpus.bits[word];
    }
    if (left != 0) {
        tlb->ops->interrupt(tlb->ctx, &cpus);
    }
}

static void shoot(struct mm_tlb *tlb, const struct mm_pagetable *pt, uint64_t gen, uint32_t self)
{
    struct mm_tlb_stats *stats = self != MMI_TLB_NOBODY ? &tlb->cpus[self].stats : NULL;
    struct mm_cpu_mask waited;
    uint64_t nr;

    if (!collect(pt, gen, &waited, &nr)) {
        return;
    }
    if (tlb->ops->may_wait != NULL && !tlb->ops->may_wait(tlb->ctx)) {
        mmi_panic(&tlb->platform,
                  &(struct mm_panic_info){.room = "paging",
                                          .what = "a flush must wait for other CPUs",
                                          .address = (uintptr_t)pt,
                                          .recorded = "CPUs that have not flushed",
                                          .recorded_value = nr,
                                          .claimed = "may_wait: false, a lock is held that is "
                                                     "taken with interrupts off; CPU",
                                          .claimed_value = self});
    }
    if (stats != NULL) {
        mmi_tlb_count(&stats->nr_shootdowns, 1);
        mmi_tlb_count(&stats->nr_interrupts, nr);
    }
    interrupt(tlb, waited);
    for (uint32_t word = 0; word < mmi_tlb_words(tlb); word++) {
        for (uint64_t left = waited.bits[word]; left != 0; left &= left - 1) {
            wait_for(tlb, pt, gen, word * 64 + mmi_ctz(left), stats);
        }
    }
}

void mmi_tlb_flush(struct mm_pagetable *pt, const struct mm_vrange *ranges, const uint8_t *shifts,
                   uint32_t nr)
{
    struct mm_tlb *tlb = pt->tlb;
    uint32_t self = mmi_tlb_this_cpu(tlb);
    uint64_t gen = publish(pt, ranges, shifts, nr);

    if (self != MMI_TLB_NOBODY) {
        mm_tlb_service(tlb);
    } else {
        pt->backend.ops->flush(pt, NULL, NULL, 0); /* nobody remembers what it has seen */
    }
    shoot(tlb, pt, gen, self);
}
