// SPDX-License-Identifier: MIT
/**
 * Calls of the paging room on single slots, on what leaves say besides, and on cursors.
 */
#include "calls.h"

#include <mm/paging_slots.h>
#include <mm/tlb.h>

#include <string.h>

#define PAGE UINT64_C(4096)
#define URW  (MM_PROT_RW | MM_PROT_USER)

/* A cursor of the user's root lies in `in`, one that was never begun in `never`. */
#define CURSOR ((struct mm_paging_cursor *)(void *)t_w.in)

static int do_slot_get(const uint64_t *a)
{
    return (int)mm_paging_slot_get(T_P(0), mm_vaddr(a[1]), T_P(2));
}

/* What was seen lies in `out`: what is there, or with a[3] == 2 something else. */
static int do_slot_cas(const uint64_t *a)
{
    struct mm_slot now = a[5] == MM_SLOT_SOFT
                             ? mm_slot_soft((uint8_t)a[6], a[7])
                             : mm_slot_leaf(mm_paddr(a[6]), T_W32(7), (mm_memtype_t)T_W32(8));

    now.kind = (enum mm_slot_kind)a[5];
    now.software = (uint8_t)a[9];
    now.key = (uint8_t)a[10];
    return (int)mm_paging_slot_cas(T_P(0), mm_vaddr(a[1]), a[2], T_P(3), a[4] == 0 ? NULL : &now,
                                   T_P(11));
}

static int do_set_software(const uint64_t *a)
{
    return (int)mm_paging_set_software(T_P(0), T_RANGE(1), T_W32(3), T_W32(4), T_W32(5));
}

static int do_set_key(const uint64_t *a)
{
    return (int)mm_paging_set_key(T_P(0), T_RANGE(1), T_W32(3), T_W32(4), T_P(5));
}

static int do_harvest(const uint64_t *a)
{
    return (int)mm_paging_harvest(T_P(0), T_RANGE(1), T_W32(3), a[4] == 0 ? NULL : t_world_visit,
                                  NULL, T_P(5));
}

static int do_cursor_begin(const uint64_t *a)
{
    return (int)mm_paging_cursor_begin(T_P(0), T_P(1), T_RANGE(2));
}

static int do_cursor_seek(const uint64_t *a)
{
    return (int)mm_paging_cursor_seek(T_P(0), mm_vaddr(a[1]));
}

static int do_cursor_next(const uint64_t *a)
{
    return (int)mm_paging_cursor_next(T_P(0), T_P(1));
}

static int do_cursor_find(const uint64_t *a)
{
    return (int)mm_paging_cursor_find(T_P(0), mm_vaddr(a[1]), T_P(2));
}

static int do_cursor_translate(const uint64_t *a)
{
    return (int)mm_paging_cursor_translate(T_P(0), mm_vaddr(a[1]), T_P(2));
}

static int do_cursor_map(const uint64_t *a)
{
    return (int)mm_paging_cursor_map(T_P(0), mm_paddr(a[1]), a[2], T_W32(3),
                                     (mm_memtype_t)T_W32(4));
}

static int do_cursor_unmap(const uint64_t *a)
{
    return (int)mm_paging_cursor_unmap(T_P(0), T_W32(1), T_P(2));
}

static int do_cursor_protect(const uint64_t *a)
{
    return (int)mm_paging_cursor_protect(T_P(0), T_W32(1), T_P(2));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void begin_in(struct mm_pagetable *pt, uint64_t start, uint64_t len)
{
    (void)!mm_paging_cursor_begin(CURSOR, pt, mm_vrange(mm_vaddr(start), len));
}

static void begin(void)
{
    begin_in(&t_w.user, T_AT, T_AT_FREE);
}

static void begin_free(void)
{
    begin_in(&t_w.user, T_AT_FREE, MM_SIZE_1G);
}

static void begin_large(void)
{
    begin_in(&t_w.user, T_AT_LARGE + PAGE, 4 * PAGE);
}

/* Nothing is left: the place is the end. */
static void begin_at_end(void)
{
    begin_in(&t_w.user, T_AT_FREE, PAGE);
    (void)!mm_paging_cursor_next(CURSOR, (void *)t_w.out);
    memset(t_w.out, 0, sizeof(struct mm_slot));
}

static void begin_without_pat(void)
{
    t_w.arch.enabled.pat = false;
    begin_free();
}

static void short_reach(void)
{
    t_w.user.physmap.first = mm_paddr(0);
    t_w.user.physmap.len = (t_w.frame_freed.raw) * PAGE;
}

static void begin_short(void)
{
    short_reach();
    begin_free();
}

/* A root of somebody else, whose table allows no write. */
static void adopted(void)
{
    struct mm_paging_config config = t_world_paging_config();
    uint64_t *table[4];

    for (unsigned i = 0; i < 4; i++) {
        table[i] = t_ram_ptr(t_h.ram, t_w.list[i].raw * 4096);
        memset(table[i], 0, 4096);
    }
    table[0][(T_ARENA >> 39) & 511] = t_w.list[1].raw * 4096 | 1; /* present, and no more */
    table[1][0] = t_w.list[2].raw * 4096 | 1;
    table[2][0] = t_w.list[3].raw * 4096 | 1;
    table[3][0] = UINT64_C(0x90000000) | 1;
    (void)!mm_paging_adopt(&t_w.spare.system.kernel, &config, mm_pfn_addr(t_w.list[0]));
    (void)!mm_gather_begin(&t_w.gather_kernel, &t_w.spare.system.kernel);
}

static void begin_adopted(void)
{
    adopted();
    begin_in(&t_w.spare.system.kernel, T_ARENA, 8 * PAGE);
}

static void begin_adopted_free(void)
{
    adopted();
    begin_in(&t_w.spare.system.kernel, T_ARENA + PAGE, 8 * PAGE);
}

static void see(uint64_t at)
{
    (void)!mm_paging_slot_get(&t_w.user, mm_vaddr(at), (void *)t_w.out);
}

static void see_free(void)
{
    see(T_AT_FREE);
}

static void see_free_short(void)
{
    see_free();
    short_reach();
}

static void see_adopted(void)
{
    see_free(); /* a hole here as well */
    adopted();
}

static void see_page(void)
{
    see(T_AT);
}

static void see_large(void)
{
    see(T_AT_LARGE);
}

static void see_large_without_pat(void)
{
    t_w.arch.enabled.pat = false;
    see_large();
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned gathers(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.gather;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.gather_kernel; /* of another page table */
    v[3] = (uint64_t)(uintptr_t)&t_w.fresh.gather;  /* never begun */
    return 4;
}

static unsigned cursors(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.in;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.never; /* never begun */
    return 3;
}

static unsigned lengths(uint64_t *v)
{
    v[0] = MM_SIZE_4K;
    v[1] = 0;
    v[2] = MM_SIZE_2M;
    v[3] = MM_SIZE_1G;
    v[4] = 8192;
    v[5] = UINT64_MAX;
    return 6;
}

/* Frames are no RAM: a flag to release them is left out. */
static unsigned no_release(uint64_t *v)
{
    v[0] = 0;
    v[1] = MM_PAGING_SPLIT;
    v[2] = MM_PAGING_SKIP_HOLES;
    v[3] = UINT32_MAX;
    return 4;
}

static unsigned split_first(uint64_t *v)
{
    unsigned nr = no_release(v);

    v[0] = MM_PAGING_SPLIT;
    v[1] = 0;
    return nr;
}

#define PT              T_LIVE_GONE(user, pt)
#define PROT            T_BITS("prot", URW, MM_PROT_ALL)
#define KPROT           T_BITS("prot", MM_PROT_RW, MM_PROT_ALL)
#define GATHER          T_OF("gather", gathers)
#define CURSOR_         T_OF("cursor", cursors)
#define LEN(len)        T_OF("len", len)
#define PLACE(at, size) T_NUM("start", at), T_NUM("len", size)
#define LEAF(paddr)                                                                                \
    T_OUT, T_GIVEN("now"), T_ENUM("kind", MM_SLOT_LEAF, 3), T_NUM("paddr", paddr), PROT,           \
        T_ENUM("type", 0, MM_MEMTYPE_COUNT), T_UPTO("software", 5, 8), T_UPTO("key", 0, 16)
#define SOFT                                                                                       \
    T_OUT, T_GIVEN("now"), T_ENUM("kind", MM_SLOT_SOFT, 3), T_UPTO("soft_kind", 3, 10),            \
        T_NUM("payload", 77), T_UPTO("type", 0, 0), T_UPTO("software", 0, 0), T_UPTO("key", 0, 0)

static const struct t_call slots[] = {
    {.name = "mm_paging_slot_get",
     .invoke = do_slot_get,
     .args = {PT, T_ADDRESS("at", T_AT), T_OUT}},
    {.name = "mm_paging_slot_cas",
     .invoke = do_slot_cas,
     .setup = see_free,
     .flags = T_CAN_FAIL,
     .tells = T_BIT(MM_ERR_BUSY),
     .args = {PT, T_NUM("at", T_AT_FREE), LEN(lengths), LEAF(0x40000000), GATHER}},
    {.name = "mm_paging_slot_cas",
     .note = "a leaf that becomes soft",
     .invoke = do_slot_cas,
     .setup = see_page,
     .tells = T_BIT(MM_ERR_BUSY),
     .args = {PT, T_NUM("at", T_AT), LEN(lengths), SOFT, GATHER}},
    {.name = "mm_paging_slot_cas",
     .note = "something else is there",
     .invoke = do_slot_cas,
     .setup = see_free,
     .flags = T_BAD_ONLY,
     .tells = T_BIT(MM_ERR_BUSY),
     .args = {PT, T_NUM("at", T_AT), LEN(lengths), SOFT, GATHER}},
    {.name = "mm_paging_slot_cas",
     .note = "a page of a large leaf",
     .invoke = do_slot_cas,
     .setup = see_large,
     .flags = T_BAD_ONLY,
     .tells = T_BIT(MM_ERR_BUSY),
     .args = {PT, T_NUM("at", T_AT_LARGE), LEN(lengths), SOFT, GATHER}},
    {.name = "mm_paging_slot_cas",
     .note = "no memory types",
     .invoke = do_slot_cas,
     .setup = see_large_without_pat,
     .flags = T_BAD_ONLY,
     .tells = T_BIT(MM_ERR_BUSY),
     .args = {PT, T_NUM("at", T_AT_LARGE), LEN(lengths), LEAF(0x40000000), GATHER}},
    {.name = "mm_paging_slot_cas",
     .note = "tables beyond reach",
     .invoke = do_slot_cas,
     .setup = see_free_short,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .tells = T_BIT(MM_ERR_BUSY),
     .args = {PT, T_NUM("at", T_AT_FREE), LEN(lengths), LEAF(0x40000000), GATHER}},
    {.name = "mm_paging_slot_cas",
     .note = "a table of others forbids it",
     .invoke = do_slot_cas,
     .setup = see_adopted,
     .flags = T_BAD_ONLY,
     .tells = T_BIT(MM_ERR_BUSY),
     .args = {T_LIVE_(spare.system.kernel), T_NUM("at", T_ARENA + PAGE), LEN(lengths), T_OUT,
              T_GIVEN("now"), T_ENUM("kind", MM_SLOT_LEAF, 3), T_NUM("paddr", 0x5000), KPROT,
              T_ENUM("type", 0, MM_MEMTYPE_COUNT), T_UPTO("software", 5, 8), T_UPTO("key", 0, 16),
              T_PTR(gather_kernel)}},
    {.name = "mm_paging_set_software",
     .invoke = do_set_software,
     .args = {PT, PLACE(T_AT, 8 * PAGE), T_BITS("set", 1, 7), T_BITS("clear", 2, 7),
              T_OF("flags", no_release)}},
    {.name = "mm_paging_set_software",
     .note = "part of a large leaf",
     .invoke = do_set_software,
     .flags = T_BAD_ONLY,
     .args = {PT, PLACE(T_AT_LARGE, PAGE), T_BITS("set", 1, 7), T_BITS("clear", 2, 7),
              T_OF("flags", no_release)}},
    {.name = "mm_paging_set_key",
     .invoke = do_set_key,
     .args = {PT, PLACE(T_AT, 8 * PAGE), T_UPTO("key", 0, 16), T_OF("flags", no_release), GATHER}},
    {.name = "mm_paging_set_key",
     .note = "part of a large leaf",
     .invoke = do_set_key,
     .flags = T_CAN_FAIL,
     .args = {PT, PLACE(T_AT_LARGE, PAGE), T_UPTO("key", 0, 16), T_OF("flags", split_first),
              GATHER}},
    {.name = "mm_paging_set_key",
     .note = "tables beyond reach",
     .invoke = do_set_key,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {PT, PLACE(T_AT_LARGE, PAGE), T_UPTO("key", 0, 16), T_OF("flags", split_first),
              GATHER}},
    {.name = "mm_paging_harvest",
     .invoke = do_harvest,
     .args = {PT, PLACE(T_AT, 8 * PAGE), T_BITS("what", 3, 3), T_UPTO("fn", 1, 1), GATHER}},
    {.name = "mm_paging_cursor_begin",
     .invoke = do_cursor_begin,
     .args = {T_PTR(in), PT, T_NUM("start", T_AT), T_NUM("len", 8 * PAGE)}},
    {.name = "mm_paging_cursor_seek",
     .invoke = do_cursor_seek,
     .setup = begin,
     .args = {CURSOR_, T_NUM("at", T_AT + PAGE)}},
    {.name = "mm_paging_cursor_next",
     .invoke = do_cursor_next,
     .setup = begin,
     .args = {CURSOR_, T_OUT}},
    {.name = "mm_paging_cursor_next",
     .note = "at the end",
     .invoke = do_cursor_next,
     .setup = begin_at_end,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, T_OUT}},
    {.name = "mm_paging_cursor_find",
     .invoke = do_cursor_find,
     .setup = begin,
     .tells = T_BIT(MM_ERR_NOT_MAPPED),
     .args = {CURSOR_, T_NUM("at", T_AT + PAGE), T_OUT}},
    {.name = "mm_paging_cursor_translate",
     .invoke = do_cursor_translate,
     .setup = begin,
     .tells = T_BIT(MM_ERR_NOT_MAPPED),
     .args = {CURSOR_, T_NUM("at", T_AT + PAGE), T_OUT}},
    {.name = "mm_paging_cursor_find",
     .note = "a hole",
     .invoke = do_cursor_find,
     .setup = begin_free,
     .flags = T_BAD_ONLY,
     .tells = T_BIT(MM_ERR_NOT_MAPPED),
     .args = {CURSOR_, T_NUM("at", T_AT_FREE + PAGE), T_OUT}},
    {.name = "mm_paging_cursor_translate",
     .note = "a hole",
     .invoke = do_cursor_translate,
     .setup = begin_free,
     .flags = T_BAD_ONLY,
     .tells = T_BIT(MM_ERR_NOT_MAPPED),
     .args = {CURSOR_, T_NUM("at", T_AT_FREE + PAGE), T_OUT}},
    {.name = "mm_paging_cursor_map",
     .invoke = do_cursor_map,
     .setup = begin_free,
     .flags = T_CAN_FAIL,
     .args = {CURSOR_, T_NUM("paddr", 0x40000000), LEN(lengths), PROT,
              T_ENUM("type", 0, MM_MEMTYPE_COUNT)}},
    {.name = "mm_paging_cursor_map",
     .note = "no memory types",
     .invoke = do_cursor_map,
     .setup = begin_without_pat,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, T_NUM("paddr", 0x40000000), LEN(lengths), PROT,
              T_ENUM("type", 0, MM_MEMTYPE_COUNT)}},
    {.name = "mm_paging_cursor_map",
     .note = "where something is",
     .invoke = do_cursor_map,
     .setup = begin,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, T_NUM("paddr", 0x40000000), LEN(lengths), PROT,
              T_ENUM("type", 0, MM_MEMTYPE_COUNT)}},
    {.name = "mm_paging_cursor_map",
     .note = "at the end",
     .invoke = do_cursor_map,
     .setup = begin_at_end,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, T_NUM("paddr", 0x40000000), LEN(lengths), PROT,
              T_ENUM("type", 0, MM_MEMTYPE_COUNT)}},
    {.name = "mm_paging_cursor_map",
     .note = "tables beyond reach",
     .invoke = do_cursor_map,
     .setup = begin_short,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {CURSOR_, T_NUM("paddr", 0x40000000), LEN(lengths), PROT,
              T_ENUM("type", 0, MM_MEMTYPE_COUNT)}},
    {.name = "mm_paging_cursor_map",
     .note = "a table of others forbids it",
     .invoke = do_cursor_map,
     .setup = begin_adopted_free,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, T_NUM("paddr", 0x40000000), LEN(lengths), KPROT,
              T_ENUM("type", 0, MM_MEMTYPE_COUNT)}},
    {.name = "mm_paging_cursor_unmap",
     .invoke = do_cursor_unmap,
     .setup = begin,
     .args = {CURSOR_, T_OF("flags", no_release), GATHER}},
    {.name = "mm_paging_cursor_unmap",
     .note = "a hole",
     .invoke = do_cursor_unmap,
     .setup = begin_free,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, T_OF("flags", no_release), GATHER}},
    {.name = "mm_paging_cursor_unmap",
     .note = "part of a large leaf",
     .invoke = do_cursor_unmap,
     .setup = begin_large,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, T_OF("flags", no_release), GATHER}},
    {.name = "mm_paging_cursor_unmap",
     .note = "at the end",
     .invoke = do_cursor_unmap,
     .setup = begin_at_end,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, T_OF("flags", no_release), GATHER}},
    {.name = "mm_paging_cursor_protect",
     .invoke = do_cursor_protect,
     .setup = begin,
     .args = {CURSOR_, PROT, GATHER}},
    {.name = "mm_paging_cursor_protect",
     .note = "a hole",
     .invoke = do_cursor_protect,
     .setup = begin_free,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, PROT, GATHER}},
    {.name = "mm_paging_cursor_protect",
     .note = "part of a large leaf",
     .invoke = do_cursor_protect,
     .setup = begin_large,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, PROT, GATHER}},
    {.name = "mm_paging_cursor_protect",
     .note = "at the end",
     .invoke = do_cursor_protect,
     .setup = begin_at_end,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, PROT, GATHER}},
    {.name = "mm_paging_cursor_protect",
     .note = "a table of others forbids it",
     .invoke = do_cursor_protect,
     .setup = begin_adopted,
     .flags = T_BAD_ONLY,
     .args = {CURSOR_, KPROT, T_PTR(gather_kernel)}},
};

const struct t_call_list t_calls_slot = T_CALL_LIST(slots);
