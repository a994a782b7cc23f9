// SPDX-License-Identifier: MIT
/**
 * A virtual machine of /dev/kvm that makes single accesses: no firmware, no kernel, 2 MiB of memory,
 * one processor in long mode whose registers are set from outside before each access. What answers
 * is the page walk of the host's kernel or of its processor, whichever KVM uses here.
 *
 * The guest's physical memory:
 *
 *     0x01000   descriptors, task segment, interrupt table
 *     0x04000   code: the three accesses, and a halt for each vector
 *     0x06000   stack of all exceptions
 *     0x08000   tables for code and data, at root slots that the caller leaves alone
 *     0x10000   T_KVM_FREE: the caller's, to the end
 */
#ifndef T_KVM_VM_H
#define T_KVM_VM_H

#include "access.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define T_KVM_MEMORY     UINT64_C(0x200000)
#define T_KVM_FREE       UINT64_C(0x10000)
#define T_KVM_SLOT_FIRST 500u  /* root slots from here on are not the caller's */
#define T_KVM_HALT       0xf4u /* what a page must hold to be fetched from */

struct kvm_run;
struct kvm_sregs;

struct t_kvm {
    uint8_t *memory;
    /* What the virtual processor has. */
    unsigned paddr_bits;
    bool has_nx, has_1g, has_smep, has_smap;
    /* Inside: */
    int kvm, vm, vcpu;
    struct kvm_run *run;
    size_t run_size;
    struct kvm_sregs *sregs;
    uint64_t root;
    bool as_user, stale;
};

/**
 * @param root  physical address of the root table: the caller's, but for the last slots
 * @return NULL, or why there is no machine; then nothing is left open
 */
const char *t_kvm_open(struct t_kvm *vm, uint64_t root);

void t_kvm_close(struct t_kvm *vm);

/** Walk another root from the next access on; its last slots become the machine's. */
void t_kvm_set_root(struct t_kvm *vm, uint64_t root);

/** Set CR0.WP, CR4.SMEP, CR4.SMAP and EFER.NXE from the next access on. */
void t_kvm_set_regs(struct t_kvm *vm, bool wp, bool smep, bool smap, bool nxe);

/**
 * One access; T_MMU_... of sim_mmu.h.
 *
 * @param[out] out  vector T_ACCESS_END if nothing has stopped it
 * @return NULL, or what became of the machine, which can only be closed then
 */
const char *t_kvm_access(struct t_kvm *vm, uint64_t at, unsigned access,
                         struct t_access_result *out);

#endif
