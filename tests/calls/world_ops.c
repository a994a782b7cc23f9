// SPDX-License-Identifier: MIT
/**
 * The ops of the world: each is counted, and asks the injector if it can fail.
 */
#include "world.h"

#include <string.h>

struct t_harness t_h;

static bool fails(void)
{
    t_h.nr_ops++;
    return t_inject_fails(&t_h.inject);
}

/* --- platform ---------------------------------------------------------------------------------- */

static void on_log(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    (void)line;
    (void)len;
}

static void on_event(void *ctx, const struct mm_event *event)
{
    (void)ctx;
    (void)event;
    t_h.nr_ops++;
}

static uint32_t on_cpu_number(void *ctx)
{
    (void)ctx;
    t_h.nr_ops++;
    return 0;
}

struct mm_platform t_world_platform(void)
{
    static const struct mm_platform_ops ops = {
        .panic = t_platform_panic, .log = on_log, .event = on_event, .cpu_number = on_cpu_number};
    struct mm_platform platform = {&ops, NULL};

    return platform;
}

/* --- frames ------------------------------------------------------------------------------------ */

static mm_status_t source_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct mm_frame_source source = mm_frame_source_of(&t_w.frames);

    (void)ctx;
    if (fails()) {
        return t_h.fail_with;
    }
    return source.ops->alloc(source.ctx, owner, zeroed, out);
}

static void source_free(void *ctx, mm_pfn_t frame)
{
    struct mm_frame_source source = mm_frame_source_of(&t_w.frames);

    (void)ctx;
    t_h.nr_ops++;
    source.ops->free(source.ctx, frame);
}

struct mm_frame_source t_world_source(void)
{
    static const struct mm_frame_source_ops ops = {.alloc = source_alloc, .free = source_free};
    struct mm_frame_source source = {&ops, NULL};

    return source;
}

/* --- pages ------------------------------------------------------------------------------------- */

static mm_status_t pages_alloc(void *ctx, uint64_t nr_pages, uint64_t align, uint32_t flags,
                               void **out)
{
    struct mm_page_source source = mm_page_source_range(ctx);

    if (fails()) {
        return t_h.fail_with;
    }
    return source.ops->alloc(source.ctx, nr_pages, align, flags, out);
}

static void pages_free(void *ctx, void *pages, uint64_t nr_pages)
{
    struct mm_page_source source = mm_page_source_range(ctx);

    t_h.nr_ops++;
    source.ops->free(source.ctx, pages, nr_pages);
}

const struct mm_page_source_ops t_world_page_ops = {.alloc = pages_alloc, .free = pages_free};

/* --- a direct map through ops ------------------------------------------------------------------ */

static void *map_frame(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    if (fails()) {
        return NULL;
    }
    t_h.nr_mapped++;
    return t_ram_ptr(t_h.ram, frame.raw * 4096);
}

static void unmap_frame(void *ctx, void *mapped)
{
    (void)ctx;
    (void)mapped;
    t_h.nr_ops++;
    t_h.nr_mapped--;
}

const struct mm_physmap_ops t_world_physmap_ops = {.map = map_frame, .unmap = unmap_frame};

/* --- a CPU: registers, no TLB ------------------------------------------------------------------ */

/* Features as a CPU of 2020 has them: Intel SDM vol. 2A, CPUID. */
static struct mm_x86_64_cpuid cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct mm_x86_64_cpuid r = {0, 0, 0, 0};

    (void)ctx;
    (void)subleaf;
    t_h.nr_ops++;
    switch (leaf) {
    case 0:
        r.eax = 7;
        break;
    case 1:
        r.edx = 1u << 13 | 1u << 16; /* PGE, PAT */
        break;
    case 7:
        r.ebx = 1u << 7 | 1u << 20; /* SMEP, SMAP */
        break;
    case 0x80000000:
        r.eax = 0x80000008;
        break;
    case 0x80000001:
        r.edx = 1u << 20 | 1u << 26; /* NX, 1 GiB pages */
        break;
    case 0x80000008:
        r.eax = 0x3028; /* 48 and 40 bits */
        break;
    default:
        break;
    }
    return r;
}

static uint64_t *msr_of(uint32_t msr)
{
    return msr == 0xc0000080 ? &t_w.cpu.efer : &t_w.cpu.pat;
}

static uint64_t read_msr(void *ctx, uint32_t msr)
{
    (void)ctx;
    t_h.nr_ops++;
    return *msr_of(msr);
}

static void write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    (void)ctx;
    t_h.nr_ops++;
    *msr_of(msr) = value;
}

static uint64_t *cr_of(unsigned cr)
{
    return cr == 0 ? &t_w.cpu.cr0 : cr == 3 ? &t_w.cpu.cr3 : &t_w.cpu.cr4;
}

/* A CPU that is asked which root it walks is not changed: that is how a call learns it is busy. */
static uint64_t read_cr(void *ctx, unsigned cr)
{
    (void)ctx;
    t_h.nr_ops += cr == 3 ? 0 : 1;
    return *cr_of(cr);
}

static void write_cr(void *ctx, unsigned cr, uint64_t value)
{
    (void)ctx;
    t_h.nr_ops++;
    *cr_of(cr) = value;
}

static void invlpg(void *ctx, uint64_t vaddr)
{
    (void)ctx;
    (void)vaddr;
    t_h.nr_ops++;
}

static void invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t vaddr)
{
    (void)ctx;
    (void)type;
    (void)pcid;
    (void)vaddr;
    t_h.nr_ops++;
}

const struct mm_x86_64_cpu_ops t_world_cpu_ops = {
    .cpuid = cpuid,
    .read_msr = read_msr,
    .write_msr = write_msr,
    .read_cr = read_cr,
    .write_cr = write_cr,
    .invlpg = invlpg,
    .invpcid = invpcid,
};

/* --- user memory: t_w.user_memory at 0x1000; the rest of the user half is not there ------------ */

#define USER_AT UINT64_C(0x1000)

static uint64_t reachable(uint64_t at, uint64_t len)
{
    uint64_t offset = at - USER_AT;

    t_h.nr_ops++;
    if (offset >= sizeof(t_w.user_memory)) {
        return 0;
    }
    return len < sizeof(t_w.user_memory) - offset ? len : sizeof(t_w.user_memory) - offset;
}

static char *user_ptr(uint64_t at)
{
    return (char *)t_w.user_memory + (at - USER_AT);
}

static uint64_t copy_in(void *to, uint64_t from, uint64_t len)
{
    uint64_t nr = reachable(from, len);

    if (nr != 0) {
        memcpy(to, user_ptr(from), nr);
    }
    return len - nr;
}

static uint64_t copy_out(uint64_t to, const void *from, uint64_t len)
{
    uint64_t nr = reachable(to, len);

    if (nr != 0) {
        memcpy(user_ptr(to), from, nr);
    }
    return len - nr;
}

static uint64_t clear(uint64_t to, uint64_t len)
{
    uint64_t nr = reachable(to, len);

    if (nr != 0) {
        memset(user_ptr(to), 0, nr);
    }
    return len - nr;
}

static uint64_t string_in(char *to, uint64_t from, uint64_t len)
{
    uint64_t nr = reachable(from, len);

    for (uint64_t i = 0; i < nr; i++) {
        to[i] = user_ptr(from)[i];
        if (to[i] == 0) {
            return i;
        }
    }
    return nr == len ? len : UINT64_MAX;
}

static mm_status_t get(void *to, uint64_t from, uint64_t size)
{
    if (reachable(from, size) != size) {
        return MM_ERR_FAULT;
    }
    memcpy(to, user_ptr(from), size);
    return MM_OK;
}

static mm_status_t put(uint64_t to, const void *from, uint64_t size)
{
    if (reachable(to, size) != size) {
        return MM_ERR_FAULT;
    }
    memcpy(user_ptr(to), from, size);
    return MM_OK;
}

static mm_status_t cmpxchg(uint64_t at, const void *expected, const void *desired, void *found,
                           uint64_t size)
{
    mm_status_t status = get(found, at, size);

    if (status == MM_OK && memcmp(found, expected, size) == 0) {
        status = put(at, desired, size);
    }
    return status;
}

/* clang-format off: one size a line */
static mm_status_t get_1(void *to, uint64_t from)
{
    return get(to, from, 1);
}
static mm_status_t get_2(void *to, uint64_t from)
{
    return get(to, from, 2);
}
static mm_status_t get_4(void *to, uint64_t from)
{
    return get(to, from, 4);
}
static mm_status_t get_8(void *to, uint64_t from)
{
    return get(to, from, 8);
}
static mm_status_t put_1(uint64_t to, const void *from)
{
    return put(to, from, 1);
}
static mm_status_t put_2(uint64_t to, const void *from)
{
    return put(to, from, 2);
}
static mm_status_t put_4(uint64_t to, const void *from)
{
    return put(to, from, 4);
}
static mm_status_t put_8(uint64_t to, const void *from)
{
    return put(to, from, 8);
}
/* clang-format on */

/* The low four bytes come first. */
static mm_status_t cmpxchg_4(uint64_t at, uint64_t expected, uint64_t desired, void *found)
{
    return cmpxchg(at, &expected, &desired, found, 4);
}

static mm_status_t cmpxchg_8(uint64_t at, uint64_t expected, uint64_t desired, void *found)
{
    return cmpxchg(at, &expected, &desired, found, 8);
}

const struct mm_user_ops t_world_user_ops = {.copy_in = copy_in,
                                             .copy_out = copy_out,
                                             .clear = clear,
                                             .string_in = string_in,
                                             .get = {get_1, get_2, get_4, get_8},
                                             .put = {put_1, put_2, put_4, put_8},
                                             .cmpxchg = {cmpxchg_4, cmpxchg_8}};

/* --- callbacks --------------------------------------------------------------------------------- */

mm_status_t t_world_check(void *ctx, const void *structure)
{
    (void)ctx;
    (void)structure;
    return fails() ? t_h.fail_with : MM_OK;
}

bool t_world_visit(void *ctx, const struct mm_mapping *mapping)
{
    (void)ctx;
    (void)mapping;
    t_h.nr_ops++;
    return true;
}

void t_world_taken(void *ctx, const struct mm_mapping *was)
{
    (void)t_world_visit(ctx, was);
}

void t_world_share(void *ctx, mm_pfn_t first, uint64_t nr)
{
    (void)ctx;
    (void)first;
    (void)nr;
    t_h.nr_ops++;
}

void t_world_construct(void *ctx, void *object)
{
    (void)ctx;
    memset(object, 0x33, 40);
    t_h.nr_ops++;
}

/* --- other CPUs: there are none ---------------------------------------------------------------- */

static uint32_t tlb_this_cpu(void *ctx)
{
    (void)ctx;
    return t_w.this_cpu; /* a question: not counted */
}

static void tlb_interrupt(void *ctx, const struct mm_cpu_mask *cpus)
{
    (void)ctx;
    (void)cpus;
    t_h.nr_ops++;
}

const struct mm_tlb_ops t_world_tlb_ops = {.this_cpu = tlb_this_cpu, .interrupt = tlb_interrupt};
