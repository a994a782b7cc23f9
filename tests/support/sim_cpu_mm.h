// SPDX-License-Identifier: MIT
/**
 * The bridge from the simulated CPU to the library's x86-64 backend: the ops of privileged
 * instructions. Their context is the struct t_cpu.
 */
#ifndef T_SIM_CPU_MM_H
#define T_SIM_CPU_MM_H

#include "sim_cpu.h"

#include <mm/arch/x86_64.h>

MM_BEGIN_DECLS

extern const struct mm_x86_64_cpu_ops t_cpu_ops;

MM_END_DECLS

#endif
