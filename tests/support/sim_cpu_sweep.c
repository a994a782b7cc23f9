// SPDX-License-Identifier: MIT
/**
 * The sweep: every entry of every cache against the tables. See sim_cpu.h.
 *
 * An entry that agreed remembers the entries of tables on its way: where they lie and what they
 * held, accessed aside, and dirty unless the cached entry relies on it. What a walk finds depends
 * on these words, on the registers and on nothing else. So while the registers are as they were,
 * the next sweep reads the words again, all of them, and walks only if one differs. No store to a
 * table is missed by that, whoever made it. The only other question, whether a frame is free, is
 * asked again whenever one became free.
 */
#include "sim_cpu_caches.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

typedef unsigned long long ull;

struct sweep {
    struct t_cpus *cpus;
    struct t_cpu *cpu;
    enum t_sweep how;
};

#define MARKS (T_MMU_A | T_MMU_D)

static bool unchanged(const struct t_cpu *cpu, const struct t_cpu_seen *seen)
{
    uint64_t differ = 0;
    uint64_t now = 0;

    if (seen->epoch != cpu->epoch) {
        return false;
    }
    for (uint32_t i = 0; i < seen->nr; i++) {
        now = __atomic_load_n(seen->slot[i], __ATOMIC_RELAXED);
        differ |= (now & ~MARKS) ^ seen->value[i];
    }
    return (differ | (seen->need & ~now)) == 0;
}

/* Whether all that was found last time is still so, were it asked again. */
static bool holds_still(const struct sweep *s, const struct t_cpu_seen *seen)
{
    return (s->cpus->told || s->cpus->is_free == NULL) && unchanged(s->cpu, seen);
}

/* Remember the entries of a walk from the root down to `last`, in which `need` must stay set. */
static void remember(const struct sweep *s, struct t_cpu_seen *seen, const struct t_mmu_walk *walk,
                     unsigned last, uint64_t need)
{
    if (s->how != T_SWEEP_SAME) {
        return; /* it agreed only in part */
    }
    seen->nr = 0;
    for (unsigned level = walk->first + 1; level-- > last;) {
        seen->slot[seen->nr] = s->cpu->mmu.entry(s->cpu->mmu.ctx, walk->step[level].paddr);
        seen->value[seen->nr++] = walk->step[level].entry & ~MARKS;
    }
    seen->need = need;
    seen->epoch = s->cpu->epoch;
}

static bool is_free(const struct sweep *s, uint64_t paddr)
{
    return s->cpus->is_free != NULL && s->cpus->is_free(s->cpus->ctx, paddr);
}

static const char *rights_text(unsigned rights)
{
    static const char *const text[] = {"r--", "rw-", "r--u", "rw-u", "r-x", "rwx", "r-xu", "rwxu"};

    return text[rights & T_MMU_MAY_ALL];
}

/* --- what a sentence says -------------------------------------------------------------------- */

static void say_tables(char *to, size_t size, const struct t_mmu_walk *walk)
{
    static const char *const ends[] = {"", "is not present", "has a reserved bit set",
                                       "is where no memory is", "is not reached"};

    if (walk->end == T_MMU_LEAF) {
        (void)snprintf(to, size, "0x%llx, %llu KiB, %s, type %u%s%s", (ull)walk->paddr,
                       (ull)walk->size >> 10, rights_text(walk->rights), walk->type,
                       walk->global ? ", global" : "", walk->dirty ? ", dirty" : "");
    } else {
        (void)snprintf(to, size, "the entry 0x%llx of level %u %s",
                       (ull)(walk->end < T_MMU_NOWHERE ? walk->step[walk->last].entry : 0),
                       walk->last, ends[walk->end]);
    }
}

static void tlb_wrong(const struct sweep *s, const struct t_tlb_entry *e, const char *what,
                      const struct t_mmu_walk *walk)
{
    char tables[160];

    say_tables(tables, sizeof(tables), walk);
    t_cpus_note(s->cpus,
                "CPU %u, PCID %u, CR3 0x%llx: the TLB %s: 0x%llx (%llu KiB of a leaf of %llu KiB) "
                "-> 0x%llx, %s, type %u%s%s; the tables: %s",
                s->cpu->number, e->pcid, (ull)s->cpu->mmu.cr3, what, (ull)e->start,
                (ull)e->size >> 10, (ull)t_mmu_span(e->level) >> 10, (ull)e->paddr,
                rights_text(e->rights), e->type, e->global ? ", global" : "",
                e->dirty ? ", dirty" : "", tables);
}

static void psc_wrong(const struct sweep *s, const struct t_psc_entry *e, unsigned level,
                      const char *what, const struct t_mmu_walk *walk)
{
    char tables[160];

    say_tables(tables, sizeof(tables), walk);
    t_cpus_note(s->cpus,
                "CPU %u, PCID %u, CR3 0x%llx: the cache of entries of level %u %s: 0x%llx -> table "
                "0x%llx, %s; the tables: %s",
                s->cpu->number, e->pcid, (ull)s->cpu->mmu.cr3, level + 1, what, (ull)e->start,
                (ull)e->table, rights_text(e->rights), tables);
}

/* --- comparing ------------------------------------------------------------------------------- */

static bool free_in(const struct sweep *s, uint64_t paddr, uint64_t len)
{
    for (uint64_t off = 0; off < len && s->cpus->is_free != NULL; off += T_RAM_FRAME) {
        if (is_free(s, paddr + off)) {
            return true;
        }
    }
    return false;
}

/* A table of the way, below `last` none. */
static bool through_free(const struct sweep *s, const struct t_mmu_walk *walk, unsigned last)
{
    for (unsigned level = walk->first + 1; level-- > last;) {
        if (is_free(s, walk->step[level].paddr)) {
            return true;
        }
    }
    return false;
}

/* Walk from the root that an entry belongs to; false: there is none to compare with. */
static bool walk_root(const struct sweep *s, uint64_t at, bool global, unsigned pcid,
                      struct t_mmu_walk *walk)
{
    struct t_mmu mmu = s->cpu->mmu;

    if (!global && pcid != t_cpu_pcid(s->cpu)) {
        mmu.cr3 = s->cpu->roots[pcid];
        if (mmu.cr3 == T_CPU_NO_ROOT) {
            return false;
        }
    }
    t_mmu_walk(&mmu, at, walk);
    return true;
}

static const char *tlb_differs(const struct t_tlb_entry *e, const struct t_mmu_walk *walk,
                               enum t_sweep how)
{
    if (walk->end != T_MMU_LEAF) {
        return "translates what is not mapped";
    }
    if (e->paddr != walk->paddr + (e->start - walk->start)) {
        return "translates to another frame";
    }
    if (e->type != walk->type) {
        return "has another memory type";
    }
    if ((e->rights & ~walk->rights) != 0) {
        return "gives a right that is gone";
    }
    if (e->dirty && !walk->dirty) {
        return "lets stores pass without setting dirty";
    }
    if (how == T_SWEEP_SAFE) {
        return NULL;
    }
    if (e->rights != walk->rights) {
        return "withholds a right";
    }
    if (e->level != walk->last) {
        return "holds another size of leaf";
    }
    return e->global == walk->global ? NULL : "disagrees about global";
}

/* Whether the CPU cannot use an entry as it is, and the test knows that. */
static bool sleeps(const struct sweep *s, unsigned pcid, bool global)
{
    return s->cpus->asleep && !global && pcid != t_cpu_pcid(s->cpu);
}

static void sweep_tlb(const struct sweep *s, struct t_tlb_entry *e)
{
    struct t_mmu_walk walk;
    const char *what;

    if (sleeps(s, e->pcid, e->global) || holds_still(s, &e->seen)) {
        return;
    }
    if (!walk_root(s, e->start, e->global, e->pcid, &walk)) {
        return;
    }
    if (free_in(s, e->paddr, e->size)) {
        tlb_wrong(s, e, "leads to what is free", &walk);
        return;
    }
    if (s->how == T_SWEEP_FREED) {
        return;
    }
    what = tlb_differs(e, &walk, s->how);
    if (what == NULL && through_free(s, &walk, walk.last)) {
        what = "was filled through a table that is free";
    }
    if (what != NULL) {
        tlb_wrong(s, e, what, &walk);
        return;
    }
    remember(s, &e->seen, &walk, walk.last, e->dirty ? T_MMU_D : 0);
}

static const char *psc_differs(const struct t_psc_entry *e, unsigned level,
                               const struct t_mmu_walk *walk, enum t_sweep how)
{
    unsigned rights = T_MMU_MAY_ALL;

    if (walk->end == T_MMU_NONCANONICAL || walk->last > level) {
        return "leads to a table that is gone";
    }
    if ((walk->step[level + 1].entry & T_MMU_ADDRESS) != e->table) {
        return "leads to another table";
    }
    for (unsigned l = walk->first; l > level; l--) {
        rights &= t_mmu_rights(walk->step[l].entry);
    }
    if ((e->rights & ~rights) != 0) {
        return "gives a right that is gone";
    }
    return how == T_SWEEP_SAME && e->rights != rights ? "withholds a right" : NULL;
}

static void sweep_psc(const struct sweep *s, struct t_psc_entry *e, unsigned level)
{
    struct t_mmu_walk walk;
    const char *what;

    if (sleeps(s, e->pcid, false) || holds_still(s, &e->seen)) {
        return;
    }
    if (!walk_root(s, e->start, false, e->pcid, &walk)) {
        return;
    }
    if (is_free(s, e->table)) {
        psc_wrong(s, e, level, "leads to a table that is free", &walk);
        return;
    }
    if (s->how == T_SWEEP_FREED) {
        return;
    }
    what = psc_differs(e, level, &walk, s->how);
    if (what == NULL && through_free(s, &walk, level + 1)) {
        what = "lies behind a table that is free";
    }
    if (what != NULL) {
        psc_wrong(s, e, level, what, &walk);
        return;
    }
    remember(s, &e->seen, &walk, level + 1, 0);
}

/* --- all of them ----------------------------------------------------------------------------- */

/* What was seen counts only while the registers, the roots and the free frames are the same. */
static void renew(struct sweep *s)
{
    struct t_cpu *cpu = s->cpu;
    const struct t_mmu *now = &cpu->mmu;
    const struct t_mmu *then = &cpu->swept;

    if (cpu->epoch == 0 || now->cr3 != then->cr3 || now->cr4 != then->cr4 ||
        now->efer != then->efer || now->pat != then->pat || now->paddr_bits != then->paddr_bits ||
        now->has_1g != then->has_1g || cpu->swept_loads != cpu->nr_loads ||
        cpu->swept_freed != s->cpus->nr_freed) {
        cpu->epoch++;
        cpu->swept = *now;
        cpu->swept_loads = cpu->nr_loads;
        cpu->swept_freed = s->cpus->nr_freed;
    }
}

static void sweep_cpu(struct sweep *s)
{
    struct t_cpu *cpu = s->cpu;

    renew(s);
    if (is_free(s, cpu->mmu.cr3 & T_MMU_ADDRESS)) {
        t_cpus_note(s->cpus, "CPU %u: its root 0x%llx is free", cpu->number, (ull)cpu->mmu.cr3);
    }
    for (uint64_t left = cpu->tlb_used; left != 0 && !s->cpus->found; left &= left - 1) {
        sweep_tlb(s, &cpu->tlb[__builtin_ctzll(left)]);
    }
    for (uint32_t left = cpu->psc_used; left != 0 && !s->cpus->found; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctz(left);

        sweep_psc(s, &cpu->psc[n], n / T_PSC_WAYS);
    }
}

const char *t_cpus_sweep(struct t_cpus *cpus, enum t_sweep how)
{
    struct sweep s = {.cpus = cpus, .how = how};

    for (unsigned i = 0; i < cpus->nr && !cpus->found; i++) {
        s.cpu = &cpus->cpu[i];
        sweep_cpu(&s);
    }
    if (!cpus->found) {
        return NULL;
    }
    cpus->found = false;
    return cpus->wrong;
}

/* --- at the moment of waking --------------------------------------------------------------------- */

void t_caches_wake(struct t_cpu *cpu, unsigned pcid)
{
    for (uint64_t left = cpu->tlb_used; left != 0; left &= left - 1) {
        const struct t_tlb_entry *e = &cpu->tlb[__builtin_ctzll(left)];

        if (e->dead && !e->global && e->pcid == pcid) {
            t_cpus_note(cpu->cpus,
                        "CPU %u: CR3 0x%llx keeps PCID %u, whose TLB translates 0x%llx to 0x%llx, "
                        "which was freed meanwhile",
                        cpu->number, (ull)cpu->mmu.cr3, pcid, (ull)e->start, (ull)e->paddr);
        }
    }
    for (uint32_t left = cpu->psc_used; left != 0; left &= left - 1) {
        const struct t_psc_entry *e = &cpu->psc[__builtin_ctz(left)];

        if (e->dead && e->pcid == pcid) {
            t_cpus_note(cpu->cpus,
                        "CPU %u: CR3 0x%llx keeps PCID %u, which leads 0x%llx to the table 0x%llx, "
                        "which was freed meanwhile",
                        cpu->number, (ull)cpu->mmu.cr3, pcid, (ull)e->start, (ull)e->table);
        }
    }
}

/* --- at the moment of freeing ---------------------------------------------------------------- */

static void holds(const struct sweep *s, uint64_t paddr, uint64_t len)
{
    struct t_cpu *cpu = s->cpu;

    if ((cpu->mmu.cr3 & T_MMU_ADDRESS) - paddr < len) {
        t_cpus_note(s->cpus, "CPU %u: 0x%llx is its root", cpu->number,
                    (ull)(cpu->mmu.cr3 & T_MMU_ADDRESS));
    }
    for (uint64_t left = cpu->tlb_used; left != 0; left &= left - 1) {
        struct t_tlb_entry *e = &cpu->tlb[__builtin_ctzll(left)];

        if ((!e->global && cpu->roots[e->pcid] == T_CPU_NO_ROOT) ||
            !(paddr - e->paddr < e->size || e->paddr - paddr < len)) {
            continue;
        }
        if (sleeps(s, e->pcid, e->global)) {
            e->dead = true;
        } else {
            t_cpus_note(s->cpus, "CPU %u, PCID %u: the TLB translates 0x%llx to 0x%llx (%llu KiB)",
                        cpu->number, e->pcid, (ull)e->start, (ull)e->paddr, (ull)e->size >> 10);
        }
    }
    for (uint32_t left = cpu->psc_used; left != 0; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctz(left);
        struct t_psc_entry *e = &cpu->psc[n];

        if (cpu->roots[e->pcid] == T_CPU_NO_ROOT || e->table - paddr >= len) {
            continue;
        }
        if (sleeps(s, e->pcid, false)) {
            e->dead = true;
        } else {
            t_cpus_note(s->cpus,
                        "CPU %u, PCID %u: the cache of entries of level %u leads 0x%llx to the "
                        "table 0x%llx",
                        cpu->number, e->pcid, n / T_PSC_WAYS + 1, (ull)e->start, (ull)e->table);
        }
    }
}

const char *t_cpus_holds(struct t_cpus *cpus, uint64_t paddr, uint64_t len)
{
    struct sweep s = {.cpus = cpus};

    for (unsigned i = 0; i < cpus->nr && !cpus->found; i++) {
        s.cpu = &cpus->cpu[i];
        holds(&s, paddr, len);
    }
    if (!cpus->found) {
        return NULL;
    }
    cpus->found = false;
    return cpus->wrong;
}

const char *t_cpus_freed(struct t_cpus *cpus, uint64_t paddr)
{
    (void)__atomic_fetch_add(&cpus->nr_freed, 1, __ATOMIC_RELAXED);
    return t_cpus_holds(cpus, paddr, T_RAM_FRAME);
}

void t_cpus_retire_pcid(struct t_cpus *cpus, unsigned pcid)
{
    for (unsigned i = 0; i < cpus->nr; i++) {
        cpus->cpu[i].roots[pcid] = T_CPU_NO_ROOT;
        cpus->cpu[i].nr_loads++;
    }
}
