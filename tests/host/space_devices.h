// SPDX-License-Identifier: MIT
/**
 * What the tests of physical ranges in spaces share. Include after space_fixture.h's headers.
 */
#ifndef SPACE_DEVICES_H
#define SPACE_DEVICES_H

#include "space_fixture.h"

#define UC MM_MEMTYPE_UC
#define WC MM_MEMTYPE_WC
#define WB MM_MEMTYPE_WB

#define REGISTERS UINT64_C(0xfed00000) /* not RAM */
#define BUFFER    (UINT64_C(1) << 32)  /* not RAM, and as aligned as anything */
#define AT        (UINT64_C(64) * PAGE)
#define LARGE_AT  (UINT64_C(8) << 30)

static inline mm_status_t map_device(struct mm_space *s, uint64_t at, uint64_t len, uint64_t paddr,
                                     mm_memtype_t type, uint32_t flags)
{
    const struct mm_space_request request = {
        .at = mm_vaddr(at), .len = len, .prot = RW, .flags = flags | MM_SPACE_FIXED};
    mm_vaddr_t out = {7};
    mm_status_t status = mm_space_map_physical(s, &request, mm_paddr(paddr), type, &out);

    assert_int_equal(out.raw, status == MM_OK ? at : 7);
    return status;
}

/* Whether another space could map it with this type now. */
static inline bool could_map(struct fixture *f, uint64_t paddr, uint64_t len, mm_memtype_t type)
{
    struct mm_space *s = new_space(f);
    mm_status_t status = map_device(s, AT, len, paddr, type, 0);

    assert_true(status == MM_OK || status == MM_ERR_BUSY);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    return status == MM_OK;
}

/* All is well in a space, and in the arena. */
static inline void all_well(struct fixture *f, struct mm_space *s)
{
    nothing_stale(f);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
    if (f->kva.magic != 0) {
        assert_int_equal(mm_kva_check(&f->kva), MM_OK);
    }
}

static inline uint64_t device_bytes(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats.device_bytes;
}

/* An access by user code on this CPU that no fault is handled for: where it goes, or 0. */
static inline uint64_t reached(struct fixture *f, struct mm_space *s, uint64_t at, unsigned access)
{
    struct t_cpu *cpu = &f->m.cpus.cpu[f->m.cpus.now];
    uint64_t paddr = 0;

    if (!runs(f, f->m.cpus.now, s)) {
        assert_int_equal(mm_space_activate(s), MM_OK);
    }
    return t_cpu_access(cpu, at, T_MMU_USER | access, &paddr) == T_CPU_DONE ? paddr : 0;
}

/* What a fault there is answered. */
static inline enum mm_fault_result fault_at(struct mm_space *s, uint64_t at, uint32_t flags)
{
    const struct mm_fault fault = {.at = mm_vaddr(at), .flags = MM_FAULT_USER | flags};
    enum mm_fault_result result = MM_FAULT_PENDING;

    assert_int_equal(mm_space_fault(s, &fault, &result), MM_OK);
    return result;
}

/* Size of the leaf at an address; 0: none. */
static inline uint64_t leaf_size(struct mm_space *s, uint64_t at)
{
    struct mm_mapping leaf;

    return mm_paging_translate(mm_space_table(s), mm_vaddr(at), &leaf) == MM_OK ? leaf.page.len : 0;
}

#endif
