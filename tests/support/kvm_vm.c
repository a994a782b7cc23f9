// SPDX-License-Identifier: MIT
/**
 * The machine behind kvm_vm.h, by the kernel's KVM API. An access runs until the processor halts: in
 * the halt behind it, or in the one that its exception's vector leads to. User mode may not halt: a
 * general-protection fault at that very place tells the same.
 *
 * Nothing here waits for ever: a timer interrupts KVM_RUN, and what was interrupted too often hangs.
 */
#include "kvm_vm.h"
#include "sim_mmu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define GDT   UINT64_C(0x1000)
#define TSS   UINT64_C(0x2000)
#define IDT   UINT64_C(0x3000)
#define CODE  UINT64_C(0x4000)
#define HALTS UINT64_C(0x5000)
#define STACK UINT64_C(0x6000)
#define TABLE UINT64_C(0x8000) /* three for the user, three for the supervisor */

#define SLOT_USER       T_KVM_SLOT_FIRST
#define SLOT_SUPERVISOR (T_KVM_SLOT_FIRST + 1)
#define BASE(slot)      ((UINT64_C(0xffff) << 48) | (uint64_t)(slot) << 39)

#define LOAD_AT    0
#define STORE_AT   16
#define FETCH_AT   32
#define NR_VECTORS 32u
#define SECONDS    4 /* of the watchdog */
#define NR_ALARMS  4u
#define MAX_CPUID  256u
#define GP_FAULT   13u
#define CPUID_SMEP (1u << 7)
#define CPUID_SMAP (1u << 20)
#define PAGE_BYTES UINT64_C(4096)

static uint64_t *words(struct t_kvm *vm, uint64_t paddr)
{
    return (uint64_t *)(void *)(vm->memory + paddr);
}

/* --- what lies in memory ---------------------------------------------------------------------- */

static void map_low_memory(struct t_kvm *vm, unsigned slot, uint64_t table, uint64_t bits)
{
    words(vm, vm->root)[slot] = table | bits;
    words(vm, table)[0] = (table + PAGE_BYTES) | bits;
    words(vm, table + PAGE_BYTES)[0] = (table + 2 * PAGE_BYTES) | bits;
    for (uint64_t i = 0; i < T_KVM_FREE / PAGE_BYTES; i++) {
        words(vm, table + 2 * PAGE_BYTES)[i] = i * PAGE_BYTES | bits;
    }
}

/* SDM vol. 3A, 3.4.5, 6.14.1, 8.7. */
static void write_descriptors(struct t_kvm *vm)
{
    uint64_t top = BASE(SLOT_SUPERVISOR) + STACK + PAGE_BYTES;

    words(vm, GDT)[T_ACCESS_KERNEL_CODE / 8] = 0x00af9b000000ffff;
    words(vm, GDT)[T_ACCESS_KERNEL_DATA / 8] = 0x00cf93000000ffff;
    words(vm, GDT)[T_ACCESS_USER_DATA / 8] = 0x00cff3000000ffff;
    words(vm, GDT)[T_ACCESS_USER_CODE / 8] = 0x00affb000000ffff;
    memcpy(vm->memory + TSS + 36, &top, sizeof(top)); /* IST 1 */
    for (unsigned vector = 0; vector < NR_VECTORS; vector++) {
        uint64_t target = BASE(SLOT_SUPERVISOR) + HALTS + vector;
        uint64_t *gate = words(vm, IDT) + 2 * (size_t)vector;

        gate[0] = (target & 0xffff) | (uint64_t)T_ACCESS_KERNEL_CODE << 16 | UINT64_C(1) << 32 |
                  UINT64_C(0x8e) << 40 | ((target >> 16) & 0xffff) << 48;
        gate[1] = target >> 32;
    }
}

static void write_code(struct t_kvm *vm)
{
    static const uint8_t load[] = {0x8a, 0x06, T_KVM_HALT};  /* movb (%rsi), %al; hlt */
    static const uint8_t store[] = {0x88, 0x06, T_KVM_HALT}; /* movb %al, (%rsi); hlt */
    static const uint8_t fetch[] = {0xff, 0xe6};             /* jmp *%rsi */

    memcpy(vm->memory + CODE + LOAD_AT, load, sizeof(load));
    memcpy(vm->memory + CODE + STORE_AT, store, sizeof(store));
    memcpy(vm->memory + CODE + FETCH_AT, fetch, sizeof(fetch));
    memset(vm->memory + HALTS, T_KVM_HALT, NR_VECTORS);
}

/* --- making it -------------------------------------------------------------------------------- */

static void on_alarm(int signal)
{
    (void)signal;
}

static void set_watchdog(time_t seconds)
{
    const struct itimerval every = {.it_interval = {.tv_sec = seconds},
                                    .it_value = {.tv_sec = seconds}};
    struct sigaction action = {.sa_handler = seconds != 0 ? on_alarm : SIG_DFL};

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *id, uint32_t leaf)
{
    for (uint32_t i = 0; i < id->nent; i++) {
        if (id->entries[i].function == leaf && id->entries[i].index == 0) {
            return &id->entries[i];
        }
    }
    return NULL;
}

/* What KVM supports, with SMEP and SMAP: a walker in software may know them though the CPU below
 * does not. Whether they can be switched on, KVM_SET_SREGS tells. */
static const char *set_features(struct t_kvm *vm)
{
    struct kvm_cpuid2 *id = calloc(1, sizeof(*id) + MAX_CPUID * sizeof(struct kvm_cpuid_entry2));
    struct kvm_cpuid_entry2 *e;
    const char *why = NULL;

    if (id == NULL) {
        return "no memory";
    }
    id->nent = MAX_CPUID;
    if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, id) != 0) {
        free(id);
        return "KVM does not tell what it supports";
    }
    e = find(id, 0x80000008);
    vm->paddr_bits = e != NULL && (e->eax & 0xff) != 0 ? e->eax & 0xff : 36;
    e = find(id, 0x80000001);
    vm->has_nx = e != NULL && (e->edx >> 20 & 1) != 0;
    vm->has_1g = e != NULL && (e->edx >> 26 & 1) != 0;
    e = find(id, 7);
    if (e != NULL) {
        e->ebx |= CPUID_SMEP | CPUID_SMAP;
    }
    if (ioctl(vm->vcpu, KVM_SET_CPUID2, id) != 0) {
        why = "the processor's features cannot be set";
    }
    free(id);
    return why;
}

static bool can_set_cr4(struct t_kvm *vm, uint64_t bit)
{
    uint64_t before = vm->sregs->cr4;
    bool can;

    vm->sregs->cr4 |= bit;
    can = ioctl(vm->vcpu, KVM_SET_SREGS, vm->sregs) == 0;
    vm->sregs->cr4 = before;
    return can;
}

static void set_privilege(struct t_kvm *vm, bool user)
{
    const uint8_t dpl = user ? 3 : 0;
    struct kvm_sregs *s = vm->sregs;

    s->cs = (struct kvm_segment){
        .limit = UINT32_MAX,
        .selector = user ? T_ACCESS_USER_CODE | 3 : T_ACCESS_KERNEL_CODE,
        .type = 11,
        .present = 1,
        .dpl = dpl,
        .s = 1,
        .l = 1,
        .g = 1,
    };
    s->ss = (struct kvm_segment){
        .limit = UINT32_MAX,
        .selector = user ? T_ACCESS_USER_DATA | 3 : T_ACCESS_KERNEL_DATA,
        .type = 3,
        .present = 1,
        .dpl = dpl,
        .db = 1,
        .s = 1,
        .g = 1,
    };
    s->ds = s->es = s->fs = s->gs = s->ss;
}

static const char *set_long_mode(struct t_kvm *vm)
{
    struct kvm_sregs *s = vm->sregs;

    if (ioctl(vm->vcpu, KVM_GET_SREGS, s) != 0) {
        return "the registers cannot be read";
    }
    s->cr0 = T_MMU_CR0_PG | 0x33; /* ET, NE, MP, PE */
    s->cr3 = vm->root;
    s->cr4 = T_MMU_CR4_PAE;
    s->efer = 0x500; /* LME, LMA */
    s->gdt.base = BASE(SLOT_SUPERVISOR) + GDT;
    s->gdt.limit = 8 * 8 - 1;
    s->idt.base = BASE(SLOT_SUPERVISOR) + IDT;
    s->idt.limit = 16 * NR_VECTORS - 1;
    s->tr = (struct kvm_segment){.base = BASE(SLOT_SUPERVISOR) + TSS,
                                 .limit = 103,
                                 .selector = T_ACCESS_TSS,
                                 .type = 11,
                                 .present = 1};
    return NULL;
}

static const char *make(struct t_kvm *vm)
{
    struct kvm_userspace_memory_region region = {.memory_size = T_KVM_MEMORY};
    int size;

    vm->vm = ioctl(vm->kvm, KVM_CREATE_VM, 0ul);
    if (vm->vm < 0) {
        return "no virtual machine can be made";
    }
    region.userspace_addr = (uintptr_t)vm->memory;
    if (ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) {
        return "the virtual machine takes no memory";
    }
    vm->vcpu = ioctl(vm->vm, KVM_CREATE_VCPU, 0ul);
    size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0ul);
    if (vm->vcpu < 0 || size <= 0) {
        return "no virtual processor can be made";
    }
    vm->run_size = (size_t)size;
    vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
    if (vm->run == MAP_FAILED) {
        vm->run = NULL;
        return "the virtual processor cannot be reached";
    }
    return set_features(vm);
}

const char *t_kvm_open(struct t_kvm *vm, uint64_t root)
{
    const char *why;

    *vm = (struct t_kvm){.vm = -1, .vcpu = -1, .root = root, .stale = true};
    vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm < 0) {
        return "/dev/kvm does not open";
    }
    vm->sregs = calloc(1, sizeof(*vm->sregs));
    vm->memory =
        mmap(NULL, T_KVM_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (vm->memory == MAP_FAILED || vm->sregs == NULL) {
        vm->memory = NULL;
        why = "no memory";
    } else {
        why = make(vm);
    }
    if (why == NULL) {
        map_low_memory(vm, SLOT_USER, TABLE, T_MMU_P | T_MMU_US);
        map_low_memory(vm, SLOT_SUPERVISOR, TABLE + 3 * PAGE_BYTES, T_MMU_P | T_MMU_RW);
        write_descriptors(vm);
        write_code(vm);
        why = set_long_mode(vm);
    }
    if (why == NULL) {
        set_privilege(vm, false);
        vm->has_smep = can_set_cr4(vm, T_MMU_CR4_SMEP);
        vm->has_smap = can_set_cr4(vm, T_MMU_CR4_SMAP);
    }
    if (why != NULL) {
        t_kvm_close(vm);
        return why;
    }
    set_watchdog(SECONDS);
    return NULL;
}

void t_kvm_close(struct t_kvm *vm)
{
    set_watchdog(0);
    if (vm->run != NULL) {
        munmap(vm->run, vm->run_size);
    }
    if (vm->memory != NULL) {
        munmap(vm->memory, T_KVM_MEMORY);
    }
    for (unsigned i = 0; i < 3; i++) {
        int file = i == 0 ? vm->vcpu : i == 1 ? vm->vm : vm->kvm;

        if (file >= 0) {
            close(file);
        }
    }
    free(vm->sregs);
    *vm = (struct t_kvm){.kvm = -1, .vm = -1, .vcpu = -1};
}

void t_kvm_set_root(struct t_kvm *vm, uint64_t root)
{
    for (unsigned slot = SLOT_USER; slot <= SLOT_SUPERVISOR; slot++) {
        words(vm, root)[slot] = words(vm, vm->root)[slot];
    }
    vm->root = root;
    vm->sregs->cr3 = root;
    vm->stale = true;
}

/* --- accesses --------------------------------------------------------------------------------- */

void t_kvm_set_regs(struct t_kvm *vm, bool wp, bool smep, bool smap, bool nxe)
{
    struct kvm_sregs *s = vm->sregs;

    s->cr0 = (s->cr0 & ~T_MMU_CR0_WP) | (wp ? T_MMU_CR0_WP : 0);
    s->cr4 = (s->cr4 & ~(T_MMU_CR4_SMEP | T_MMU_CR4_SMAP)) | (smep ? T_MMU_CR4_SMEP : 0) |
             (smap ? T_MMU_CR4_SMAP : 0);
    s->efer = (s->efer & ~T_MMU_EFER_NXE) | (nxe ? T_MMU_EFER_NXE : 0);
    vm->stale = true;
}

static const char *run(struct t_kvm *vm)
{
    static char why[64];

    for (unsigned interrupted = 0;; interrupted++) {
        if (ioctl(vm->vcpu, KVM_RUN, 0ul) == 0) {
            break;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return "the virtual processor does not run";
        }
        if (interrupted == NR_ALARMS) {
            return "the virtual processor hangs";
        }
    }
    if (vm->run->exit_reason == KVM_EXIT_HLT) {
        return NULL;
    }
    snprintf(why, sizeof(why), "the virtual processor stopped with exit reason %u",
             vm->run->exit_reason);
    return why;
}

/* What the halt says: `rip` is behind it. */
static void decode(struct t_kvm *vm, uint64_t rip, uint64_t end, bool user,
                   struct t_access_result *out)
{
    uint64_t halts = BASE(SLOT_SUPERVISOR) + HALTS;
    uint64_t vector = rip - halts - 1;
    /* The exception's frame, from its stack's top down: SS, RSP, RFLAGS, CS, RIP, error code. */
    const uint64_t *top = words(vm, STACK + PAGE_BYTES);
    bool has_error = vector < NR_VECTORS && ((0x60227d00u >> vector) & 1) != 0;

    if (vector >= NR_VECTORS) {
        out->vector = !user && rip == end + 1 ? T_ACCESS_END : UINT64_MAX;
        out->rip = rip;
        return;
    }
    out->vector = vector;
    out->rip = top[-5];
    out->error = has_error ? top[-6] : 0;
    if (user && vector == GP_FAULT && out->rip == end && out->error == 0) {
        out->vector = T_ACCESS_END;
    }
}

const char *t_kvm_access(struct t_kvm *vm, uint64_t at, unsigned access,
                         struct t_access_result *out)
{
    bool user = (access & T_MMU_USER) != 0;
    uint64_t start = (access & T_MMU_WRITE) != 0   ? STORE_AT
                     : (access & T_MMU_FETCH) != 0 ? FETCH_AT
                                                   : LOAD_AT;
    struct kvm_regs regs = {
        .rip = BASE(user ? SLOT_USER : SLOT_SUPERVISOR) + CODE + start,
        .rax = T_ACCESS_STORED,
        .rsi = at,
        .rsp = BASE(SLOT_SUPERVISOR) + STACK + PAGE_BYTES / 2,
        .rflags = 2 | ((access & T_MMU_AC) != 0 ? 1u << 18 : 0),
    };
    uint64_t end = (access & T_MMU_FETCH) != 0 ? at : regs.rip + 2;
    struct kvm_sregs after;
    const char *why;

    *out = (struct t_access_result){0};
    /* An exception out of user mode has changed the segments. */
    if (vm->stale || user || vm->as_user) {
        set_privilege(vm, user);
        if (ioctl(vm->vcpu, KVM_SET_SREGS, vm->sregs) != 0) {
            return "the control registers cannot be set";
        }
        vm->stale = false;
        vm->as_user = user;
    }
    if (ioctl(vm->vcpu, KVM_SET_REGS, &regs) != 0) {
        return "the registers cannot be set";
    }
    why = run(vm);
    if (why != NULL) {
        return why;
    }
    if (ioctl(vm->vcpu, KVM_GET_REGS, &regs) != 0 || ioctl(vm->vcpu, KVM_GET_SREGS, &after) != 0) {
        return "the registers cannot be read";
    }
    out->value = regs.rax;
    decode(vm, regs.rip, end, user, out);
    out->address = after.cr2;
    return NULL;
}
