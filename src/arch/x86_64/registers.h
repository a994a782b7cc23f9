// SPDX-License-Identifier: MIT
/**
 * Numbers of control registers, model-specific registers and CPUID that this backend knows.
 * References are to the Intel SDM.
 */
#ifndef MMI_X86_64_REGISTERS_H
#define MMI_X86_64_REGISTERS_H

#include <stdint.h>

#define X86_64_MAGIC 0x3436784du /* "Mx64": a live struct mm_x86_64 */

/* Vol. 3A, 2.5: control registers. */
#define CR0_WP    (UINT64_C(1) << 16)
#define CR4_PGE   (UINT64_C(1) << 7)
#define CR4_UMIP  (UINT64_C(1) << 11)
#define CR4_LA57  (UINT64_C(1) << 12)
#define CR4_PCIDE (UINT64_C(1) << 17)
#define CR4_SMEP  (UINT64_C(1) << 20)
#define CR4_SMAP  (UINT64_C(1) << 21)

/* Vol. 3A, 4.10.4.1: CR3 while CR4.PCIDE is set. Bits 11:0 are the PCID. */
#define CR3_PCID UINT64_C(0xfff)
#define CR3_KEEP (UINT64_C(1) << 63)
#define NR_PCIDS 4096u

/* Vol. 4, 2.1: architectural MSRs. */
#define MSR_PAT  0x277u
#define MSR_EFER 0xc0000080u
#define EFER_NXE (UINT64_C(1) << 11)

/* Vol. 3A, 12.12.2, table 12-10: encodings of an entry of the PAT. */
#define PAT_UC       UINT64_C(0)
#define PAT_WC       UINT64_C(1)
#define PAT_WT       UINT64_C(4)
#define PAT_WP       UINT64_C(5)
#define PAT_WB       UINT64_C(6)
#define PAT_UC_MINUS UINT64_C(7)

/**
 * The library's table: the low four as at power-on, so that whoever ran before and uses no PAT bit
 * sees no change; then WP and WC, where the Limine protocol has them (its PAT is 0x010500070406);
 * the last two repeat.
 */
#define PAT_TABLE                                                                                  \
    (PAT_WB | (PAT_WT << 8) | (PAT_UC_MINUS << 16) | (PAT_UC << 24) | (PAT_WP << 32) |             \
     (PAT_WC << 40) | (PAT_UC_MINUS << 48) | (PAT_UC << 56))

/* Vol. 2A, INVPCID: type 2 drops everything, global translations included. */
#define INVPCID_EVERYTHING 2u

#endif
