// SPDX-License-Identifier: MIT
//
// Where C begins. Reads as the list of what a kernel does to get its memory managed.

#include <stdint.h>

#include "check.h"
#include "checks.h"
#include "cpu.h"
#include "gdt.h"
#include "log.h"
#include "power.h"
#include "serial.h"
#include "trap.h"

_Noreturn void kmain(uint32_t boot_info);

_Noreturn void kmain(uint32_t boot_info)
{
    struct cpu_features features;

    serial_init();
    log_print("minikernel: boot information at 0x%x\n", boot_info);
    gdt_init();
    trap_init();
    cpu_protect(&features);

    checks_trap();
    power_exit(check_summary());
}
