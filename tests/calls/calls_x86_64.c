// SPDX-License-Identifier: MIT
/**
 * Calls of the x86-64 backend.
 */
#include "calls.h"

static int do_arch_init(const uint64_t *a)
{
    struct mm_x86_64_cpu_ops ops = t_world_cpu_ops;

    switch (a[2]) {
    case 1:
        ops.cpuid = NULL;
        break;
    case 2:
        ops.read_msr = NULL;
        break;
    case 3:
        ops.write_msr = NULL;
        break;
    case 4:
        ops.read_cr = NULL;
        break;
    case 5:
        ops.write_cr = NULL;
        break;
    case 6:
        ops.invlpg = NULL;
        break;
    case 7:
        ops.invpcid = NULL;
        break;
    default:
        break;
    }
    return (int)mm_x86_64_init(T_P(0),
                               a[1] == 0   ? NULL
                               : a[2] == 0 ? &t_world_cpu_ops
                                           : &ops,
                               NULL);
}

static int do_enable(const uint64_t *a)
{
    return (int)mm_x86_64_enable(T_P(0));
}

static int do_backend(const uint64_t *a)
{
    return T_NONZERO(mm_x86_64_backend(T_P(0)).ops != NULL);
}

static int do_arch_fault(const uint64_t *a)
{
    struct mm_fault fault = mm_x86_64_fault(a[0], a[1]);

    return T_NONZERO(fault.at.raw == a[1]);
}

static int do_fixup(const uint64_t *a)
{
    return T_NONZERO(mm_x86_64_user_fixup(a[0], (uint64_t *)t_w.out));
}

static int do_fixup_nofault(const uint64_t *a)
{
    return T_NONZERO(mm_x86_64_user_fixup_nofault(a[0], (uint64_t *)t_w.out));
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned one_to_seven(uint64_t *v)
{
    for (uint64_t i = 0; i < 8; i++) {
        v[i] = i;
    }
    return 8;
}

/* The instruction that may fault is one of the first of the routine. */
static unsigned addresses(uint64_t *v, const struct mm_user_ops *ops,
                          bool (*fixup)(uint64_t rip, uint64_t *resume))
{
    uint64_t resume;

    v[0] = (uint64_t)(uintptr_t)ops->copy_in;
    for (unsigned i = 0; i < 64 && !fixup(v[0], &resume); i++) {
        v[0]++;
    }
    v[1] = 0;
    v[2] = (UINT64_C(1) << 47) - 1;
    v[3] = UINT64_C(1) << 47;
    v[4] = UINT64_MAX;
    return 5;
}

static unsigned code_addresses(uint64_t *v)
{
    return addresses(v, &mm_x86_64_user_ops, mm_x86_64_user_fixup);
}

static unsigned nofault_addresses(uint64_t *v)
{
    return addresses(v, &mm_x86_64_user_nofault_ops, mm_x86_64_user_fixup_nofault);
}

static const struct t_call all[] = {
    {.name = "mm_x86_64_init",
     .invoke = do_arch_init,
     .args = {T_FRESH_(arch, arch), T_GIVEN("ops"), T_BAD_OF("missing", one_to_seven)}},
    {.name = "mm_x86_64_enable", .invoke = do_enable, .args = {T_LIVE_GONE(spare.arch, arch)}},
    {.name = "mm_x86_64_backend", .invoke = do_backend, .args = {T_LIVE_GONE(arch, arch)}},
    {.name = "mm_x86_64_fault",
     .invoke = do_arch_fault,
     .args = {T_NUM("error_code", 7), T_NUM("cr2", 0x1000)}},
    {.name = "mm_x86_64_user_fixup", .invoke = do_fixup, .args = {T_OF("rip", code_addresses)}},
    {.name = "mm_x86_64_user_fixup_nofault",
     .invoke = do_fixup_nofault,
     .args = {T_OF("rip", nofault_addresses)}},
};

const struct t_call_list t_calls_x86_64 = T_CALL_LIST(all);
