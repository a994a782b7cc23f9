// SPDX-License-Identifier: MIT
//
// Intel SDM vol. 3A, 11.4 (registers), 11.5.1 (local vector table), 11.6.1 (interrupt command
// register), 11.8.5 (end of interrupt), 11.9 (spurious interrupts) and 9.4.4 (how to start a processor).

#include "apic.h"

#include "cpu.h"
#include "layout.h"
#include "panic.h"

#define REGISTER_ID       0x20
#define REGISTER_PRIORITY 0x80
#define REGISTER_TAKEN    0xb0
#define REGISTER_SPURIOUS 0xf0
#define REGISTER_ICR_LOW  0x300
#define REGISTER_ICR_HIGH 0x310
#define REGISTER_TIMER    0x320
#define REGISTER_LINT0    0x350
#define ENABLED           0x100u
#define MASKED            0x10000u
#define ICR_INIT          0x500u
#define ICR_START         0x600u
#define ICR_LEVEL_ASSERT  0x4000u
#define ICR_SEND_PENDING  0x1000u

#define SPINS_MAX 100000000u

// The interval timer (Intel 8254): counter 2 runs while its gate in port 0x61 is open, and its output
// is seen there; nothing interrupts.
#define TIMER_HZ       1193182u
#define TIMER_COUNTER2 0x42
#define TIMER_CONTROL  0x43
#define TIMER_ONE_SHOT 0xb0 // counter 2, low byte then high, mode 0
#define TIMER_GATE     0x61
#define GATE_OPEN      0x01
#define GATE_SPEAKER   0x02
#define GATE_OUTPUT    0x20

static volatile uint32_t *reg(uint32_t offset)
{
    return (volatile uint32_t *)(uintptr_t)(LAYOUT_APIC + offset);
}

uint32_t apic_id(void)
{
    return *reg(REGISTER_ID) >> 24;
}

void apic_wait_us(uint32_t microseconds)
{
    uint32_t ticks = (uint32_t)((uint64_t)microseconds * TIMER_HZ / 1000000) + 1;
    uint32_t spins = 0;

    cpu_out8(TIMER_GATE, (uint8_t)((cpu_in8(TIMER_GATE) & ~GATE_SPEAKER) | GATE_OPEN));
    cpu_out8(TIMER_CONTROL, TIMER_ONE_SHOT);
    cpu_out8(TIMER_COUNTER2, (uint8_t)ticks);
    cpu_out8(TIMER_COUNTER2, (uint8_t)(ticks >> 8));
    while ((cpu_in8(TIMER_GATE) & GATE_OUTPUT) == 0) {
        cpu_relax();
        if (++spins == SPINS_MAX) {
            give_up("the interval timer does not run");
        }
    }
}

void apic_enable(uint8_t spurious)
{
    *reg(REGISTER_TIMER) = MASKED;
    *reg(REGISTER_LINT0) = MASKED; // where the firmware may have put the legacy controllers
    *reg(REGISTER_PRIORITY) = 0;   // no vector is too low
    *reg(REGISTER_SPURIOUS) = ENABLED | spurious;
}

void apic_taken(void)
{
    *reg(REGISTER_TAKEN) = 0;
}

static void send(uint32_t id, uint32_t command)
{
    uint32_t spins = 0;

    *reg(REGISTER_ICR_HIGH) = id << 24;
    *reg(REGISTER_ICR_LOW) = command; // this store sends
    while ((*reg(REGISTER_ICR_LOW) & ICR_SEND_PENDING) != 0) {
        cpu_relax();
        if (++spins == SPINS_MAX) {
            give_up("the local APIC does not send");
        }
    }
}

void apic_start(uint32_t id, uint8_t page)
{
    send(id, ICR_INIT | ICR_LEVEL_ASSERT);
    apic_wait_us(10000);
    for (int i = 0; i < 2; i++) {
        send(id, ICR_START | ICR_LEVEL_ASSERT | page);
        apic_wait_us(200);
    }
}

// The two halves of the command must not be parted by a handler that sends as well.
void apic_interrupt(uint32_t id, uint8_t vector)
{
    uint64_t flags = cpu_rflags();

    cpu_interrupts_off();
    send(id, ICR_LEVEL_ASSERT | vector);
    if ((flags & CPU_RFLAGS_IF) != 0) {
        cpu_interrupts_on();
    }
}
