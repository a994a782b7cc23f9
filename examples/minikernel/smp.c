// SPDX-License-Identifier: MIT
//
// Processors start one at a time, because the page that they start in and mm_x86_64_enable() are for
// one at a time. A processor goes
//
//     trampoline.S ──> run(): its own GS, segments, interrupt table       on the root of boot.S
//                      what protects memory, then the kernel's root       (NX bits need EFER.NXE)
//                      work, whenever there is any
//                      the root of boot.S again, and halt
//
// and its first stack lies in the image, which both roots map. Once there is an arena it moves to one
// with a red zone below; for the way out, on which it leaves the kernel's root, it moves back.

#include "smp.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "apic.h"
#include "cpu.h"
#include "log.h"
#include "panic.h"
#include "percpu.h"
#include "shootdown.h"

void *memcpy(void *restrict to, const void *restrict from, size_t len);

/** Start-up vectors above this page are reserved (Intel SDM vol. 3A, 9.4.4.1). */
#define TRAMPOLINE_HIGHEST UINT64_C(0x9ffff)

/** Who waits spins for so many turns, and sleeps after. */
#define SPINS_MAX 200

#define START_WAIT_US    1000
#define START_WAIT_TURNS 20000 // 20 s: the machine may be simulated, and slowly

// At the end of trampoline.S.
struct trampoline_data {
    uint64_t stack;
    uint64_t entry;
    uint32_t root;
    uint32_t number;
    uint32_t jump_32[2]; // offset, selector
    uint32_t jump_64[2];
    uint16_t gdt_limit;
    uint16_t gdt_base[2]; // two halves: it is not aligned
    uint16_t zero;
};

_Static_assert(sizeof(struct trampoline_data) == 48, "trampoline.S has the same layout");

extern const char trampoline_start[];
extern const char trampoline_data[];
extern const char trampoline_end[];

static struct memory *memory;
static uint32_t nr_running = 1;

static atomic_uint nr_arrived; // processors that came up, or have halted
static atomic_uint nr_jobs;    // work handed out so far
static atomic_uint nr_done;    // processors done with the last
static void (*job)(void *ctx, uint32_t cpu);
static void *job_ctx;
static unsigned nr_taken[PERCPU_MAX]; // jobs, by each processor

static atomic_uint nr_at_barrier;
static atomic_uint nr_barriers;

static atomic_bool asleep[PERCPU_MAX];

// ---- waiting --------------------------------------------------------------------------------------
//
// A processor that has long to wait sleeps, as an idle one does, and leaves the machine to the others:
// simulated ones share few real ones. It is woken by an interrupt, also by that of a flush, so it has
// interrupts on meanwhile. Before that it spins with interrupts as they are, and serves.

static void woken(void)
{
}

// Who changes the word looks after that who sleeps; who sleeps says so and looks at the word after
// that: one of the two sees the other. Between STI and HLT no interrupt is taken (Intel SDM vol. 2B,
// STI), so the one that wakes is not lost either.
static void sleep_while(const atomic_uint *word, unsigned value)
{
    atomic_bool *self = &asleep[percpu_self()->number];
    uint64_t flags = cpu_rflags();

    cpu_interrupts_off();
    atomic_store(self, true);
    if (atomic_load(word) == value) {
        cpu_interrupts_on_and_halt();
        cpu_interrupts_off();
    }
    atomic_store(self, false);
    if ((flags & CPU_RFLAGS_IF) != 0) {
        cpu_interrupts_on();
    }
}

static void wait_while(const atomic_uint *word, unsigned value)
{
    for (unsigned spins = 0; atomic_load(word) == value; spins++) {
        shootdown_relax();
        if (spins >= SPINS_MAX) {
            sleep_while(word, value);
        }
    }
}

// After a change of what the others may wait for.
static void wake_others(void)
{
    for (uint32_t cpu = 0; cpu < nr_running; cpu++) {
        if (atomic_load(&asleep[cpu]) && cpu != percpu_self()->number) {
            apic_interrupt(percpus[cpu].apic_id, TRAP_WAKE);
        }
    }
}

// ---- the other processors -------------------------------------------------------------------------

static void halt(void)
{
    shootdown_leave(memory);
    atomic_fetch_add(&nr_arrived, 1);
    for (;;) {
        __asm__ volatile("cli\n\thlt");
    }
}

// Go on in `to`, at the top of another stack.
static _Noreturn void move(mm_vaddr_t top, void (*to)(void))
{
    __asm__ volatile("movq %0, %%rsp\n\txorl %%ebp, %%ebp\n\tcall *%1\n\tud2"
                     :
                     : "r"(top.raw), "r"(to)
                     : "memory");
    __builtin_unreachable();
}

static mm_vaddr_t top_of(struct mm_vrange stack)
{
    return mm_vaddr(stack.start.raw + stack.len);
}

static void move_to_own_stack(void *ctx, uint32_t cpu)
{
    (void)ctx;
    (void)cpu; // what this job means is in take_jobs()
}

static void take_jobs(void)
{
    uint32_t number = percpu_self()->number;

    for (;;) {
        wait_while(&nr_jobs, nr_taken[number]);
        nr_taken[number]++;
        if (job == NULL) {
            move(percpu_stack_top(number), halt);
        }
        bool moves = job == move_to_own_stack;
        job(job_ctx, number);
        atomic_fetch_add(&nr_done, 1);
        wake_others();
        if (moves) {
            move(top_of(memory->stacks[number]), take_jobs);
        }
    }
}

static _Noreturn void run(uint32_t number)
{
    percpu_enter(number);
    must(mm_x86_64_enable(&memory->arch), "CPU protection");
    shootdown_enter(memory);
    atomic_fetch_add(&nr_arrived, 1);
    move(percpu_stack_top(number), take_jobs);
}

// ---- the first processor --------------------------------------------------------------------------

static void fill_trampoline(const struct memory *m, mm_paddr_t page, uint32_t number)
{
    uint8_t *code = mm_physmap_ptr(&m->physmap, page);
    uint32_t base = (uint32_t)page.raw;
    struct trampoline_data *data =
        (struct trampoline_data *)(void *)(code + (trampoline_data - trampoline_start));

    memcpy(code, trampoline_start, (size_t)(trampoline_end - trampoline_start));
    data->stack = percpu_stack_top(number).raw;
    data->entry = (uintptr_t)run;
    data->root = (uint32_t)m->boot_root.raw;
    data->number = number;
    data->jump_32[0] += base;
    data->jump_64[0] += base;
    uint32_t gdt = (data->gdt_base[0] | (uint32_t)data->gdt_base[1] << 16) + base;
    data->gdt_base[0] = (uint16_t)gdt;
    data->gdt_base[1] = (uint16_t)(gdt >> 16);
}

static bool start(const struct memory *m, mm_paddr_t page, uint32_t id)
{
    fill_trampoline(m, page, nr_running);
    atomic_store(&nr_arrived, 0);
    apic_start(id, (uint8_t)(page.raw / MM_PAGE_SIZE));
    for (int i = 0; i < START_WAIT_TURNS && atomic_load(&nr_arrived) == 0; i++) {
        apic_wait_us(START_WAIT_US);
    }
    return atomic_load(&nr_arrived) != 0;
}

void smp_start(struct memory *m)
{
    struct mm_frame_request request = {.highest = mm_paddr(TRAMPOLINE_HIGHEST)};
    mm_pfn_t page;

    memory = m;
    trap_set_interrupt(TRAP_WAKE, woken);
    if (m->nr_cpus > 1) {
        must(mm_frame_alloc(&m->frames, &request, &page), "a page below 1 MiB to start in");
        for (uint32_t i = 0; i < m->processors.nr; i++) {
            uint32_t id = m->processors.apic_ids[i];
            if (id == percpu_self()->apic_id || nr_running == m->nr_cpus) {
                continue;
            }
            // One that comes late would run in a page that is somebody else's by then.
            if (!start(m, mm_pfn_addr(page), id)) {
                panic("the processor with APIC identifier %u does not start", id);
            }
            nr_running++;
        }
        mm_frame_free(&m->frames, page, 0);
    }
    log_print("smp     %u %s\n", nr_running,
              nr_running == 1 ? "processor runs" : "processors run, each on the kernel's root");
}

uint32_t smp_nr(void)
{
    return nr_running;
}

static void hand_out(void (*work)(void *ctx, uint32_t cpu), void *ctx)
{
    job = work;
    job_ctx = ctx;
    atomic_store(&nr_done, 0);
    atomic_fetch_add(&nr_jobs, 1);
    wake_others();
}

void smp_run(void (*work)(void *ctx, uint32_t cpu), void *ctx)
{
    hand_out(work, ctx);
    work(ctx, 0);
    for (unsigned nr = 0; nr != nr_running - 1; nr = atomic_load(&nr_done)) {
        wait_while(&nr_done, nr);
    }
}

#define STACK_SIZE 65536

void smp_take_stacks(struct memory *m)
{
    for (uint32_t cpu = 0; cpu < nr_running; cpu++) {
        must(mm_kva_stack_alloc(&m->kva, STACK_SIZE, 0, &m->stacks[cpu]), "a stack");
    }
    smp_run(move_to_own_stack, NULL);
}

void smp_on_own_stack(struct memory *m, void (*function)(void *), void *argument)
{
    uint64_t top = top_of(m->stacks[0]).raw;

    __asm__ volatile(
        "movq %%rsp, %%rbx\n\tmovq %[top], %%rsp\n\tcall *%[function]\n\tmovq %%rbx, %%rsp"
        : [top] "+d"(top), [function] "+S"(function), "+D"(argument)
        :
        : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
}

void smp_give_stacks(struct memory *m)
{
    for (uint32_t cpu = 0; cpu < PERCPU_MAX; cpu++) {
        if (m->stacks[cpu].len != 0) {
            mm_kva_stack_free(&m->kva, m->stacks[cpu].start);
        }
        m->stacks[cpu] = mm_vrange(mm_vaddr(0), 0);
    }
}

void smp_barrier(void)
{
    unsigned now = atomic_load(&nr_barriers);

    if (atomic_fetch_add(&nr_at_barrier, 1) + 1 == nr_running) {
        atomic_store(&nr_at_barrier, 0);
        atomic_fetch_add(&nr_barriers, 1);
        wake_others();
        return;
    }
    wait_while(&nr_barriers, now);
}

void smp_stop(void)
{
    atomic_store(&nr_arrived, 0);
    hand_out(NULL, NULL);
    while (atomic_load(&nr_arrived) != nr_running - 1) {
        shootdown_relax();
    }
    nr_running = 1;
}
