// SPDX-License-Identifier: MIT
//
// What mm_x86_64_enable() switched on, read back from the registers; and that nothing interrupts
// the checks. What the protections do is judged elsewhere, by the faults that they cause.

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "cpu.h"
#include "layout.h"

// Intel SDM vol. 3A, 2.5 (control registers) and 2.2.1 (EFER).
#define CR0_WP    (UINT64_C(1) << 16)
#define CR4_PGE   (UINT64_C(1) << 7)
#define CR4_UMIP  (UINT64_C(1) << 11)
#define CR4_SMEP  (UINT64_C(1) << 20)
#define CR4_SMAP  (UINT64_C(1) << 21)
#define MSR_EFER  0xc0000080
#define EFER_NXE  (UINT64_C(1) << 11)
#define ALL_LINES 0xff // of one of the two 8259 controllers

#define APIC_LVT_TIMER  0x320 // Intel SDM vol. 3A, 11.5.1
#define APIC_LVT_MASKED (1u << 16)

static uint64_t cr(unsigned number)
{
    return mm_x86_64_native_ops.read_cr(NULL, number);
}

static void check_feature(bool present, bool on, const char *name, const char *why_not)
{
    if (present) {
        CHECK(name, on);
    } else {
        check_skip(name, why_not);
    }
}

static void check_protection(const struct mm_x86_64_features *has)
{
    uint64_t efer = mm_x86_64_native_ops.read_msr(NULL, MSR_EFER);

    CHECK("write protection is on (CR0.WP)", (cr(0) & CR0_WP) != 0);
    check_feature(has->nx, (efer & EFER_NXE) != 0, "no-execute is on (EFER.NXE)",
                  "the CPU has no NX");
    check_feature(has->global_pages, (cr(4) & CR4_PGE) != 0, "global pages are on (CR4.PGE)",
                  "the CPU has no global pages");
    check_feature(has->smep, (cr(4) & CR4_SMEP) != 0, "SMEP is on (CR4.SMEP)",
                  "the CPU has no SMEP");
    check_feature(has->smap, (cr(4) & CR4_SMAP) != 0, "SMAP is on (CR4.SMAP)",
                  "the CPU has no SMAP");
    check_feature(has->umip, (cr(4) & CR4_UMIP) != 0, "UMIP is on (CR4.UMIP)",
                  "the CPU has no UMIP");
}

// Interrupts are off for good; should they be switched on by mistake, there is still no timer.
static void check_silence(void)
{
    volatile uint32_t *timer = (volatile uint32_t *)(uintptr_t)(LAYOUT_APIC + APIC_LVT_TIMER);

    CHECK("the timer is off",
          (cpu_rflags() & CPU_RFLAGS_IF) == 0 && cpu_in8(CPU_PIC_1_DATA) == ALL_LINES &&
              cpu_in8(CPU_PIC_2_DATA) == ALL_LINES && (*timer & APIC_LVT_MASKED) != 0);
}

void checks_cpu(struct memory *m)
{
    check_theme("processor");
    check_protection(&m->arch.features);
    check_silence();
}
