// SPDX-License-Identifier: MIT
/**
 * The bridge from simulated CPUs to the library's x86-64 backend: tables of privileged
 * instructions. The context of both is the struct t_cpus.
 *
 * t_cpu_ops executes each instruction on the CPU that runs (t_cpus.now), as the native table does.
 *
 * t_cpu_broadcast_ops stands for a kernel that runs on several CPUs and has put its own
 * interprocessor interrupt into the table that it passes: what invalidates (INVLPG, INVPCID, CR3
 * loaded with what it holds, a change of CR4.PGE) is done by every CPU before the instruction
 * returns; all else is done by the CPU that runs. It cannot mend that the backend does nothing at
 * all for a user root which is not the root of the CPU that runs. So an operation on a user root
 * that CPUs are in is made on one of them.
 */
#ifndef T_SIM_CPU_MM_H
#define T_SIM_CPU_MM_H

#include "sim_cpu.h"

#include <mm/arch/x86_64.h>

MM_BEGIN_DECLS

extern const struct mm_x86_64_cpu_ops t_cpu_ops;
extern const struct mm_x86_64_cpu_ops t_cpu_broadcast_ops;

MM_END_DECLS

#endif
