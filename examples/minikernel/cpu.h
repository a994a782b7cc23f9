// SPDX-License-Identifier: MIT
/**
 * Single instructions that C has no word for. Control registers and the TLB are the library's:
 * struct mm_x86_64_cpu_ops has them.
 */
#ifndef MINIKERNEL_CPU_H
#define MINIKERNEL_CPU_H

#include <stdint.h>

/** Masks of the two 8259 interrupt controllers. */
#define CPU_PIC_1_DATA 0x21
#define CPU_PIC_2_DATA 0xa1

#define CPU_RFLAGS_ALWAYS (1ul << 1) /**< reads as one */
#define CPU_RFLAGS_IF     (1ul << 9)
#define CPU_RFLAGS_AC     (1ul << 18)
#define CPU_RFLAGS_DF     (1ul << 10)

static inline void cpu_out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void cpu_out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t cpu_in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void cpu_relax(void)
{
    __asm__ volatile("pause");
}

static inline void cpu_interrupts_on(void)
{
    __asm__ volatile("sti" : : : "memory");
}

/** Sleep until an interrupt was taken. One that came before and was not let in is taken at once. */
static inline void cpu_interrupts_on_and_halt(void)
{
    __asm__ volatile("sti\n\thlt" : : : "memory");
}

static inline void cpu_interrupts_off(void)
{
    __asm__ volatile("cli" : : : "memory");
}

/** User memory under SMAP: open, then closed. Only where SMAP is on. */
static inline void cpu_open_user(void)
{
    __asm__ volatile("stac" : : : "memory");
}

static inline void cpu_close_user(void)
{
    __asm__ volatile("clac" : : : "memory");
}

static inline uint64_t cpu_rflags(void)
{
    uint64_t value;
    __asm__ volatile("pushfq\n\tpopq %0" : "=r"(value) : : "memory");
    return value;
}

/** After what came before it. */
static inline uint64_t cpu_timestamp(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static inline uint64_t cpu_read_cr2(void)
{
    uint64_t value;
    __asm__ volatile("movq %%cr2, %0" : "=r"(value) : : "memory");
    return value;
}

/** Call code at any address, as a jump through a wild pointer would. */
static inline void cpu_call(const volatile void *target)
{
    __asm__ volatile("call *%0"
                     :
                     : "r"(target)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

#endif
