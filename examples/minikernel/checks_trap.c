// SPDX-License-Identifier: MIT
//
// Before anything is judged by the faults it causes: are faults reported truly?

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "trap.h"

#define NOT_MAPPED 0xffff900000000000ul // between the direct map and the image

static void do_nothing(void *argument)
{
    (void)argument;
}

static void execute_invalid(void *argument)
{
    (void)argument;
    __asm__ volatile("ud2");
}

static void read_byte(void *argument)
{
    (void)*(volatile unsigned char *)argument;
}

// A push onto a stack that is not there: the page fault finds no room for its frame either.
static void push_without_stack(void *argument)
{
    __asm__ volatile("movq %0, %%rsp\n\tpushq $0" : : "r"(argument) : "memory");
}

static void try_inside(void *argument)
{
    struct trap_report inner;
    *(bool *)argument = trap_try(execute_invalid, NULL, &inner);
    execute_invalid(NULL);
}

void checks_trap(void)
{
    struct trap_report r = {0};
    bool inner = false;

    check_theme("exceptions");
    CHECK("a call without a fault reports none", !trap_try(do_nothing, NULL, &r) && r.vector == 0);
    CHECK("an invalid opcode is caught",
          trap_try(execute_invalid, NULL, &r) && r.vector == TRAP_INVALID_OPCODE);
    CHECK("caught calls nest",
          trap_try(try_inside, &inner, &r) && inner && r.vector == TRAP_INVALID_OPCODE);
    CHECK("a page fault tells address and access", trap_try(read_byte, (void *)NOT_MAPPED, &r) &&
                                                       r.vector == TRAP_PAGE_FAULT &&
                                                       r.address == NOT_MAPPED && r.error == 0);
    CHECK("a double fault has a stack of its own",
          trap_try(push_without_stack, (void *)NOT_MAPPED, &r) && r.vector == TRAP_DOUBLE_FAULT);
}
