// SPDX-License-Identifier: MIT
//
// The interrupt table and the decision what an exception means: resolved by memory management,
// expected by a check, or the end. Interrupts come from other processors, or they are the end, too.

#include "trap.h"

#include <stddef.h>

#include "apic.h"
#include "cpu.h"
#include "gdt.h"
#include "panic.h"
#include "percpu.h"

#define NR_EXCEPTIONS  32
#define NR_VECTORS     256
#define GATE_INTERRUPT 0x8e // present, ring 0, interrupts off inside

// Intel SDM vol. 3A, 6.14.1.
struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};

struct idt_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

extern const char trap_stubs[];
extern const char trap_resume[];
extern const char trap_user_back[];
void trap_enter_user(const struct trap_frame *regs, uint32_t *stack_out);

static struct gate idt[NR_VECTORS];
static trap_page_fault_fn page_fault_handler;
static void (*handlers[NR_VECTORS])(void);

void trap_handle(struct trap_frame *frame);

static void set_gate(unsigned vector, uint64_t target, uint8_t ist)
{
    idt[vector] = (struct gate){
        .offset_low = (uint16_t)target,
        .selector = GDT_KERNEL_CODE,
        .ist = ist,
        .type = GATE_INTERRUPT,
        .offset_middle = (uint16_t)(target >> 16),
        .offset_high = (uint32_t)(target >> 32),
    };
}

// The two 8259 controllers still point at exception vectors: masked, they stay silent.
static void mask_legacy_interrupts(void)
{
    cpu_out8(CPU_PIC_1_DATA, 0xff);
    cpu_out8(CPU_PIC_2_DATA, 0xff);
}

void trap_init(void)
{
    mask_legacy_interrupts();
    for (unsigned vector = 0; vector < NR_VECTORS; vector++) {
        uint8_t ist = vector == TRAP_DOUBLE_FAULT ? GDT_IST_DOUBLE_FAULT : 0;
        set_gate(vector, (uintptr_t)trap_stubs + UINT64_C(16) * vector, ist);
    }
}

void trap_load(void)
{
    struct idt_pointer pointer = {.limit = sizeof(idt) - 1, .base = (uintptr_t)idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

void trap_set_page_fault(trap_page_fault_fn handler)
{
    page_fault_handler = handler;
}

static void recover(struct trap_recovery *recovery, struct trap_frame *frame, uint64_t address)
{
    *recovery->report = (struct trap_report){
        .vector = frame->vector,
        .error = frame->error,
        .rip = frame->rip,
        .address = address,
    };
    frame->rip = (uintptr_t)trap_resume;
    frame->rsp = recovery->rsp;
    frame->rflags &= ~(CPU_RFLAGS_AC | CPU_RFLAGS_DF);
}

void trap_set_interrupt(uint8_t vector, void (*handler)(void))
{
    handlers[vector] = handler;
}

static void take_interrupt(struct trap_frame *frame)
{
    if (frame->vector == TRAP_SPURIOUS) { // was none: nothing is to be ended either
        return;
    }
    if (handlers[frame->vector] == NULL) {
        panic("interrupt %lu has no handler", frame->vector);
    }
    percpu_self()->nr_interrupts += frame->vector != TRAP_WAKE;
    percpu_self()->nr_user_interrupts += frame->vector != TRAP_WAKE && trap_from_user(frame);
    apic_taken(); // first: what is sent while the handler runs comes after it
    handlers[frame->vector]();
}

// ---- ring 3 ---------------------------------------------------------------------------------------

// Whatever comes from ring 3 lands below what trap_enter_user() has left on the stack (SDM vol. 3A,
// 6.14.4), and the last of it goes back there.
void trap_run_user(struct trap_user *user)
{
    struct percpu *self = percpu_self();
    uint64_t flags = cpu_rflags();

    user->regs.cs = GDT_USER_CODE | GDT_RING_3;
    user->regs.ss = GDT_USER_DATA | GDT_RING_3;
    user->regs.rflags = CPU_RFLAGS_ALWAYS | CPU_RFLAGS_IF;
    cpu_interrupts_off();
    self->user = user;
    trap_enter_user(&user->regs, self->gdt.tss.rsp);
    self->user = NULL;
    if ((flags & CPU_RFLAGS_IF) != 0) {
        cpu_interrupts_on();
    }
}

static void end_user(struct trap_frame *frame, uint64_t address)
{
    const struct percpu *self = percpu_self();

    self->user->regs = *frame;
    self->user->address = address;
    frame->rip = (uintptr_t)trap_user_back;
    frame->rsp = self->gdt.tss.rsp[0] | (uint64_t)self->gdt.tss.rsp[1] << 32;
    frame->cs = GDT_KERNEL_CODE;
    frame->ss = GDT_KERNEL_DATA;
    frame->rflags = CPU_RFLAGS_ALWAYS;
}

// ---- all of them ----------------------------------------------------------------------------------

void trap_handle(struct trap_frame *frame)
{
    if (frame->vector >= NR_EXCEPTIONS) {
        take_interrupt(frame);
        return;
    }
    struct trap_recovery *recovery = &percpu_self()->recovery;
    uint64_t address = cpu_read_cr2();

    if (frame->vector == TRAP_PAGE_FAULT && page_fault_handler != NULL &&
        page_fault_handler(frame, address)) {
        return;
    }
    if (trap_from_user(frame) && percpu_self()->user != NULL) {
        end_user(frame, address);
        return;
    }
    if (recovery->rsp != 0) {
        recover(recovery, frame, address);
        return;
    }
    panic_trap(frame, address);
}
