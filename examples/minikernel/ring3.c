// SPDX-License-Identifier: MIT
//
// The way from a program's name to its place in user memory, and what its end means.

#include "ring3.h"

#include "percpu.h"

extern const char ring3_programs[];
extern const char ring3_programs_end[];

uint64_t ring3_value(uint64_t seed, uint64_t at)
{
    return seed == 0 ? 0 : (seed + at) * UINT64_C(0x9e3779b97f4a7c15);
}

void ring3_map(struct memory *m, struct mm_space *space)
{
    struct mm_space_request request = {.at = mm_vaddr(RING3_CODE),
                                       .len = MM_PAGE_SIZE,
                                       .prot = MM_PROT_RW,
                                       .flags = MM_SPACE_FIXED};
    uint64_t len = (uint64_t)(ring3_programs_end - ring3_programs);
    mm_vaddr_t where;

    must(mm_space_map(space, &request, &where), "a region for programs");
    must(mm_user_copy_out(&m->user, request.at, ring3_programs, len, NULL), "programs");
    must(mm_space_protect(space, mm_vrange(request.at, MM_PAGE_SIZE), MM_PROT_READ | MM_PROT_EXEC),
         "programs");
}

void ring3_run(const char *program, struct trap_user *user, const uint64_t *args)
{
    *user = (struct trap_user){.regs = {.rip = RING3_CODE + (uint64_t)(program - ring3_programs),
                                        .rdi = args[0],
                                        .rsi = args[1],
                                        .rdx = args[2],
                                        .rcx = args[3],
                                        .r8 = args[4],
                                        .r9 = args[5]}};
    trap_run_user(user);
}

bool ring3_ended(const struct trap_user *user)
{
    return user->regs.vector == TRAP_INVALID_OPCODE;
}

bool ring3_good(const struct trap_user *user)
{
    return ring3_ended(user) && user->regs.rbx == 0;
}

bool ring3_refused(const struct memory *m, const struct trap_user *user, uint64_t at,
                   enum mm_fault_result result)
{
    return user->regs.vector == TRAP_PAGE_FAULT && user->address == at &&
           (user->regs.error & TRAP_PF_USER) != 0 && m->refused[percpu_self()->number] == result;
}
