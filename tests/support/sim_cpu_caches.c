// SPDX-License-Identifier: MIT
/**
 * Translations and ways into walks: filling, using, dropping, and chance. See sim_cpu.h; section
 * numbers are of the SDM, volume 3A.
 *
 * The TLB is 16 sets of 4. The set is chosen by the leaf's page, not by the piece of it that is
 * cached, nor by the PCID: so all that INVLPG must find of an address lies in one set for each
 * size of leaf. The paging-structure caches are 8 entries for each level, by address and PCID.
 */
#include "sim_cpu_caches.h"

#include <stddef.h>

static unsigned set_of(uint64_t at, unsigned level)
{
    uint64_t page = at >> (12 + 9 * level);

    return (unsigned)(page ^ (page >> 4) ^ (page >> 9) ^ (5 * level)) & (T_TLB_SETS - 1);
}

static unsigned way_of(uint64_t at, unsigned level, unsigned pcid)
{
    uint64_t span = at >> (12 + 9 * (level + 1));

    unsigned way = (unsigned)(span ^ (span >> 3) ^ (span >> 9)) ^ pcid;

    return level * T_PSC_WAYS + (way & (T_PSC_WAYS - 1));
}

static bool tlb_uses(const struct t_cpu *cpu, unsigned n)
{
    return ((cpu->tlb_used >> n) & 1) != 0;
}

static void tlb_clear(struct t_cpu *cpu, unsigned n)
{
    cpu->tlb_used &= ~(UINT64_C(1) << n);
    cpu->tlb_nr[cpu->tlb[n].level]--;
}

static bool psc_uses(const struct t_cpu *cpu, unsigned n)
{
    return ((cpu->psc_used >> n) & 1) != 0;
}

/* --- dropping -------------------------------------------------------------------------------- */

static bool takes(enum t_drop which, const struct t_tlb_entry *e, unsigned pcid)
{
    switch (which) {
    case T_DROP_OWN:
        return !e->global && e->pcid == pcid;
    case T_DROP_OWN_GLOBAL:
        return e->global || e->pcid == pcid;
    case T_DROP_ALL_OWN:
        return !e->global;
    default:
        return true;
    }
}

void t_caches_drop(struct t_cpu *cpu, enum t_drop which, unsigned pcid)
{
    for (uint64_t left = cpu->tlb_used; left != 0; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctzll(left);

        if (takes(which, &cpu->tlb[n], pcid)) {
            tlb_clear(cpu, n);
        }
    }
    if (which == T_DROP_ALL_OWN || which == T_DROP_EVERYTHING) {
        cpu->psc_used = 0;
    } else {
        t_psc_drop(cpu, pcid);
    }
}

void t_cpu_drop_all(struct t_cpu *cpu)
{
    t_caches_drop(cpu, T_DROP_EVERYTHING, 0);
}

void t_tlb_drop_page(struct t_cpu *cpu, uint64_t at, enum t_drop which, unsigned pcid)
{
    for (unsigned level = 0; level < 3; level++) {
        unsigned first = set_of(at, level) * T_TLB_WAYS;

        if (cpu->tlb_nr[level] == 0) {
            continue;
        }
        for (unsigned n = first; n < first + T_TLB_WAYS; n++) {
            const struct t_tlb_entry *e = &cpu->tlb[n];

            if (tlb_uses(cpu, n) && e->level == level && at - e->page < t_mmu_span(level) &&
                takes(which, e, pcid)) {
                tlb_clear(cpu, n);
            }
        }
    }
}

void t_psc_drop(struct t_cpu *cpu, unsigned pcid)
{
    for (uint32_t left = cpu->psc_used; left != 0; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctz(left);

        if (cpu->psc[n].pcid == pcid) {
            cpu->psc_used &= ~(UINT32_C(1) << n);
        }
    }
}

static bool psc_matches(const struct t_cpu *cpu, unsigned n, uint64_t at, unsigned level,
                        unsigned pcid)
{
    return psc_uses(cpu, n) && at - cpu->psc[n].start < t_mmu_span(level + 1) &&
           cpu->psc[n].pcid == pcid;
}

void t_psc_drop_at(struct t_cpu *cpu, uint64_t at, unsigned pcid)
{
    for (unsigned level = 0; level < T_PSC_LEVELS; level++) {
        unsigned n = way_of(at, level, pcid);

        if (psc_matches(cpu, n, at, level, pcid)) {
            cpu->psc_used &= ~(UINT32_C(1) << n);
        }
    }
}

/* --- walking and filling --------------------------------------------------------------------- */

static bool is_free(const struct t_cpus *cpus, uint64_t paddr)
{
    return cpus->is_free != NULL && cpus->is_free(cpus->ctx, paddr);
}

/* Walk as the CPU does, from the deepest table that the caches know. `*rights` are those of the
 * entries that it did not have to read. */
static void walk_cached(struct t_cpu *cpu, uint64_t at, struct t_mmu_walk *walk, unsigned *rights)
{
    unsigned pcid = t_cpu_pcid(cpu);

    cpu->nr_walks++;
    for (unsigned level = 0; level < T_PSC_LEVELS && cpu->psc_used != 0; level++) {
        unsigned n = way_of(at, level, pcid);

        if (psc_matches(cpu, n, at, level, pcid)) {
            *rights = cpu->psc[n].rights;
            t_mmu_walk_from(&cpu->mmu, at, level, cpu->psc[n].table, *rights, walk);
            return;
        }
    }
    *rights = T_MMU_MAY_ALL;
    t_mmu_walk(&cpu->mmu, at, walk);
}

/* 4.10.3.1: entries that lead to tables, once accessed is set in them, with the rights of all
 * before. */
static void fill_psc(struct t_cpu *cpu, uint64_t at, const struct t_mmu_walk *walk, unsigned rights)
{
    unsigned pcid = t_cpu_pcid(cpu);

    for (unsigned level = walk->first; level > walk->last; level--) {
        unsigned n = way_of(at, level - 1, pcid);
        struct t_psc_entry *e = &cpu->psc[n];
        uint64_t entry = walk->step[level].entry;

        rights &= t_mmu_rights(entry);
        e->start = at & ~(t_mmu_span(level) - 1);
        e->table = entry & T_MMU_ADDRESS;
        e->pcid = (uint16_t)pcid;
        e->rights = (uint8_t)rights;
        e->dead = false;
        e->seen.epoch = 0;
        cpu->psc_used |= UINT32_C(1) << n;
        if (is_free(cpu->cpus, e->table)) {
            t_cpus_note(cpu->cpus,
                        "CPU %u, PCID %u: the walk of 0x%llx goes through 0x%llx, "
                        "a table that is free",
                        cpu->number, pcid, (unsigned long long)at, (unsigned long long)e->table);
        }
    }
}

/* Of a large leaf a CPU may keep as little as the 4 KiB that were asked for (4.10.2.3). */
static unsigned piece_of(struct t_cpus *cpus, unsigned level)
{
    if (level == 0 || cpus->noise == 0 || t_prng_chance(&cpus->prng, 3, 4)) {
        return level;
    }
    return (unsigned)t_prng_below(&cpus->prng, level);
}

/* A place in the set: of the same piece, or unused, or any. */
static unsigned place_in(struct t_cpu *cpu, unsigned first, const struct t_tlb_entry *new)
{
    unsigned place = T_TLB_ENTRIES;

    for (unsigned n = first; n < first + T_TLB_WAYS; n++) {
        const struct t_tlb_entry *e = &cpu->tlb[n];

        if (!tlb_uses(cpu, n)) {
            place = n;
        } else if (e->start == new->start && e->size == new->size && e->pcid == new->pcid) {
            return n;
        }
    }
    if (place == T_TLB_ENTRIES) {
        place = first + (unsigned)(t_prng_u64(&cpu->cpus->prng) % T_TLB_WAYS);
        cpu->nr_evicted++;
    }
    return place;
}

static void fill_tlb(struct t_cpu *cpu, uint64_t at, const struct t_mmu_walk *walk)
{
    uint64_t size = t_mmu_span(piece_of(cpu->cpus, walk->last));
    struct t_tlb_entry new = {.start = at & ~(size - 1),
                              .size = size,
                              .page = walk->start,
                              .pcid = (uint16_t)t_cpu_pcid(cpu),
                              .level = (uint8_t)walk->last,
                              .type = walk->type,
                              .rights = (uint8_t)walk->rights,
                              .global = walk->global,
                              .dirty = walk->dirty};
    unsigned n = place_in(cpu, set_of(at, walk->last) * T_TLB_WAYS, &new);
    struct t_tlb_entry *e = &cpu->tlb[n];

    if (tlb_uses(cpu, n)) {
        tlb_clear(cpu, n);
    }
    new.paddr = walk->paddr + (new.start - walk->start);
    *e = new;
    cpu->tlb_used |= UINT64_C(1) << n;
    cpu->tlb_nr[walk->last]++;
    if (is_free(cpu->cpus, walk->paddr + (at - walk->start))) {
        t_cpus_note(cpu->cpus, "CPU %u, PCID %u: 0x%llx is translated to 0x%llx, which is free",
                    cpu->number, new.pcid, (unsigned long long)at,
                    (unsigned long long)(walk->paddr + (at - walk->start)));
    }
}

/* --- using ----------------------------------------------------------------------------------- */

static struct t_tlb_entry *tlb_find(struct t_cpu *cpu, uint64_t at)
{
    unsigned pcid = t_cpu_pcid(cpu);

    for (unsigned level = 0; level < 3; level++) {
        unsigned first = set_of(at, level) * T_TLB_WAYS;

        for (unsigned n = first; cpu->tlb_nr[level] != 0 && n < first + T_TLB_WAYS; n++) {
            struct t_tlb_entry *e = &cpu->tlb[n];

            if (tlb_uses(cpu, n) && at - e->start < e->size && e->level == level &&
                (e->global || e->pcid == pcid)) {
                return e;
            }
        }
    }
    return NULL;
}

/* 4.10.4.1: a page fault drops what was cached for its address, so that it is true if it comes
 * again. */
static uint32_t page_fault(struct t_cpu *cpu, uint64_t at, enum t_mmu_end end, unsigned access)
{
    unsigned pcid = t_cpu_pcid(cpu);

    cpu->nr_faults++;
    t_tlb_drop_page(cpu, at, T_DROP_OWN_GLOBAL, pcid);
    t_psc_drop_at(cpu, at, pcid);
    return t_mmu_error(&cpu->mmu, end, access);
}

static void hit(struct t_cpu *cpu, const struct t_tlb_entry *e, uint64_t at, uint64_t *paddr)
{
    uint64_t byte = e->paddr + (at - e->start);

    cpu->nr_hits++;
    if (is_free(cpu->cpus, byte)) {
        t_cpus_note(cpu->cpus,
                    "CPU %u, PCID %u: 0x%llx is accessed through a cached translation "
                    "to 0x%llx, which is free",
                    cpu->number, e->pcid, (unsigned long long)at, (unsigned long long)byte);
    }
    if (paddr != NULL) {
        *paddr = byte;
    }
}

uint32_t t_cpu_access(struct t_cpu *cpu, uint64_t at, unsigned access, uint64_t *paddr)
{
    bool store = (access & T_MMU_WRITE) != 0;
    const struct t_tlb_entry *e;
    struct t_mmu_walk walk;
    unsigned rights;

    if (!t_mmu_canonical(&cpu->mmu, at)) {
        return T_CPU_GP;
    }
    t_cpus_remember(cpu->cpus, at);
    t_cpus_drift(cpu->cpus);
    e = tlb_find(cpu, at);
    if (e != NULL && !t_mmu_allows(&cpu->mmu, e->rights, access)) {
        return page_fault(cpu, at, T_MMU_LEAF, access);
    }
    if (e != NULL && (!store || e->dirty)) {
        hit(cpu, e, at, paddr);
        return T_CPU_DONE;
    }
    do { /* no translation; or a store that must set dirty in the tables first (4.8) */
        walk_cached(cpu, at, &walk, &rights);
        if (walk.end == T_MMU_NOWHERE) {
            t_cpu_stop(cpu, "a walk goes to a table where no memory is, for", at);
        }
        if (walk.end != T_MMU_LEAF || !t_mmu_allows(&cpu->mmu, walk.rights, access)) {
            return page_fault(cpu, at, walk.end, access);
        }
    } while (!t_mmu_mark(&cpu->mmu, &walk, store));
    walk.dirty = walk.dirty || store;
    fill_psc(cpu, at, &walk, rights);
    fill_tlb(cpu, at, &walk);
    if (paddr != NULL) {
        *paddr = walk.paddr + (at - walk.start);
    }
    return T_CPU_DONE;
}

/* --- chance ---------------------------------------------------------------------------------- */

/* 4.10.2.3, 4.10.3.1: translations and ways may be cached that no access asked for, if accessed is
 * set on the way; dirty is never set by speculation (4.8). */
static void speculate(struct t_cpu *cpu, uint64_t at)
{
    struct t_mmu_walk walk;
    unsigned rights;

    if (!t_mmu_canonical(&cpu->mmu, at)) {
        return;
    }
    walk_cached(cpu, at, &walk, &rights);
    if (walk.end == T_MMU_NOWHERE || !t_mmu_mark(&cpu->mmu, &walk, false)) {
        return;
    }
    cpu->nr_speculated++;
    fill_psc(cpu, at, &walk, rights);
    if (walk.end == T_MMU_LEAF) {
        fill_tlb(cpu, at, &walk);
    }
}

static void evict(struct t_cpu *cpu, uint64_t random)
{
    unsigned n = (unsigned)(random % (T_TLB_ENTRIES + T_PSC_ENTRIES));

    if (n < T_TLB_ENTRIES && tlb_uses(cpu, n)) {
        tlb_clear(cpu, n);
        cpu->nr_evicted++;
    } else if (n >= T_TLB_ENTRIES && psc_uses(cpu, n - T_TLB_ENTRIES)) {
        cpu->psc_used &= ~(UINT32_C(1) << (n - T_TLB_ENTRIES));
        cpu->nr_evicted++;
    }
}

void t_cpus_noise(struct t_cpus *cpus, uint64_t seed, unsigned noise)
{
    t_prng_seed(&cpus->prng, seed);
    cpus->noise = noise;
    cpus->wait = 0;
}

void t_cpus_drift(struct t_cpus *cpus)
{
    struct t_cpu *cpu;
    uint64_t random;

    if (cpus->noise == 0) {
        return;
    }
    if (cpus->wait > 0) {
        cpus->wait--;
        return;
    }
    cpus->wait = (unsigned)t_prng_below(&cpus->prng, 2 * (uint64_t)cpus->noise);
    random = t_prng_u64(&cpus->prng);
    cpu = &cpus->cpu[(random & 0xff) % cpus->nr];
    if (((random >> 8) & 3) == 0 || cpus->nr_recent == 0) {
        evict(cpu, random >> 16);
    } else { /* what was used, or a neighbour of it: up to 1 GiB away */
        unsigned nr = cpus->nr_recent < T_CPUS_RECENT ? cpus->nr_recent : T_CPUS_RECENT;
        uint64_t near = ((random >> 10) & 1) != 0 ? t_prng_magnitude(&cpus->prng, 30) : 0;

        speculate(cpu, cpus->recent[(random >> 16) % nr] ^ near);
    }
}
