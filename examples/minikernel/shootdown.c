// SPDX-License-Identifier: MIT
//
// The library decides who must forget what, and waits until it is forgotten. The kernel names the
// processor that runs, sends the interrupt, and calls mm_tlb_service() in its handler and wherever
// it spins.

#include "shootdown.h"

#include <stddef.h>

#include "apic.h"
#include "cpu.h"
#include "panic.h"
#include "percpu.h"
#include "trap.h"

static struct mm_tlb *tlb; // NULL: not made yet, and nobody to serve
static uint64_t nr_sent[PERCPU_MAX];

static uint32_t this_cpu(void *ctx)
{
    (void)ctx;
    return percpu_self()->number;
}

static void interrupt(void *ctx, const struct mm_cpu_mask *cpus)
{
    (void)ctx;
    for (uint32_t cpu = 0; cpu < PERCPU_MAX; cpu++) {
        if ((cpus->bits[cpu / 64] >> cpu % 64 & 1) != 0) {
            apic_interrupt(percpus[cpu].apic_id, TRAP_SHOOTDOWN);
            nr_sent[percpu_self()->number]++;
        }
    }
}

static bool may_wait(void *ctx)
{
    (void)ctx;
    return percpu_self()->nr_deaf_locks == 0;
}

static void handle(void)
{
    mm_tlb_service(tlb);
}

void shootdown_relax(void)
{
    mm_tlb_service(tlb);
    cpu_relax();
}

void shootdown_init(struct memory *m)
{
    static const struct mm_tlb_ops ops = {
        .this_cpu = this_cpu,
        .interrupt = interrupt,
        .may_wait = may_wait,
    };
    struct mm_tlb_config config = {
        .backend = mm_x86_64_backend(&m->arch),
        .cpus = m->tlb_cpus,
        .nr_cpus = m->nr_cpus,
        .ops = &ops,
        .platform = platform_ops(),
    };

    must(mm_tlb_init(&m->tlb, &config), "flushes on all processors");
    tlb = &m->tlb;
    trap_set_interrupt(TRAP_SHOOTDOWN, handle);
}

// Online comes first: a translation that is cached while nobody would tell is never forgotten. The
// interrupt controller's registers are mapped in the kernel's root only; what was sent before it was
// on, and had a name, is lost: so there is one look more.
void shootdown_enter(struct memory *m)
{
    must(mm_tlb_online(&m->tlb), "a processor that comes");
    must(mm_paging_activate(&m->kernel), "switch to the kernel's root");
    percpu_self()->apic_id = apic_id();
    apic_enable(TRAP_SPURIOUS);
    mm_tlb_service(&m->tlb);
}

void shootdown_leave(struct memory *m)
{
    must(mm_paging_load_root(m->kernel.backend, m->boot_root), "switch to the first root");
    must(mm_tlb_offline(&m->tlb), "a processor that goes");
}

uint64_t shootdown_nr_sent(uint32_t cpu)
{
    return nr_sent[cpu];
}
