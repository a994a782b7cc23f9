// SPDX-License-Identifier: MIT
//
// The page-fault handler. Three parties may have an answer: the kernel's own space for addresses of
// the kernel, the current user space for addresses of the user and for all that ring 3 does, and user
// copy, which can live with none.

#include <mm/paging_slots.h>
#include <stddef.h>

#include "cpu.h"
#include "layout.h"
#include "memory.h"
#include "percpu.h"
#include "trap.h"

static struct memory *memory;

static bool resolve(struct mm_space *space, const struct mm_fault *fault)
{
    enum mm_fault_result result;

    return space != NULL && mm_space_fault(space, fault, &result) == MM_OK &&
           mm_fault_resolved(result);
}

// Wherever a program reaches, it is the user's space that answers: also for addresses of the kernel.
static bool handle_user(const struct mm_fault *fault)
{
    uint32_t cpu = percpu_self()->number;
    enum mm_fault_result result;

    must(mm_space_fault(memory->current[cpu], fault, &result), "a fault of ring 3");
    // A kernel with processes would make room or kill when there is no frame.
    if (!mm_fault_resolved(result)) {
        memory->refused[cpu] = result;
        return false;
    }
    return true;
}

static bool handle(struct trap_frame *frame, uint64_t address)
{
    struct mm_fault fault = mm_x86_64_fault(frame->error, address);
    uint64_t resume;

    if (trap_from_user(frame)) {
        return handle_user(&fault);
    }
    if (!mm_vrange_contains(mm_vrange(mm_vaddr(0), LAYOUT_USER_LEN), fault.at)) {
        return resolve(mm_space_kernel(&memory->spaces), &fault);
    }
    // The kernel touches user memory only in user copy, which opens it first if there is SMAP. Any
    // other access is a mistake, even if the address is good: it must not be resolved, for it would
    // come again (SMAP) or go unnoticed.
    bool open = !memory->arch.enabled.smap || (frame->rflags & CPU_RFLAGS_AC) != 0;
    // First of all those whose faults nobody resolves: their caller may hold the very lock that the
    // space would take.
    if (open && mm_x86_64_user_fixup_nofault(frame->rip, &resume)) {
        memory->nr_nofault_faults++;
        frame->rip = resume;
        return true;
    }
    if (!open || !mm_x86_64_user_fixup(frame->rip, &resume)) {
        return false;
    }
    memory->nr_user_faults++;
    memory->nr_open_handlers += (cpu_rflags() & CPU_RFLAGS_AC) != 0;
    if (memory->on_user_fault != NULL) {
        memory->on_user_fault(memory);
    }
    if (!resolve(memory->current[percpu_self()->number], &fault)) {
        frame->rip = resume;
    }
    return true;
}

// A stack that ran over comes as a double fault: there was no room for the page fault's own frame.
bool memory_is_guard(mm_vaddr_t at)
{
    struct mm_kva_place place;
    struct mm_slot slot;

    if (memory == NULL) {
        return false;
    }
    if (mm_kva_explain(&memory->kva, at, &place) == MM_OK) {
        return place.kind == MM_KVA_STACK && place.where == MM_KVA_GUARD_BELOW;
    }
    return mm_paging_slot_get(&memory->kernel, at, &slot) == MM_OK && slot.kind == MM_SLOT_SOFT &&
           slot.soft_kind == MM_SOFT_GUARD;
}

void memory_handle_faults(struct memory *m)
{
    memory = m;
    trap_set_page_fault(handle);
}
