// SPDX-License-Identifier: MIT
/**
 * A stream of operations on spaces against models: regions against the model of regions, contents
 * and rights against a flat array of pages for each space. Spaces are related by clones; user code
 * touches them through the simulated CPU, whose TLB keeps what it has until it is told to drop it.
 * The first byte says how many frames there are: calls fail now and then, and those must change
 * nothing. At the end every space is put, and every frame is back.
 */
#include "fuzz.h"

#include "model_regions.h"
#include "space_fixture.h"

#define NR_SPACES 3u
#define NR_PAGES  560u /* from page 1: on both sides of 2 MiB, so several tables */
#define BEYOND    320u /* pages that the model knows behind those: room for any request */
#define MAX_OPS   300u

struct one {
    struct mm_space *space; /* NULL: none */
    struct t_mregions regions;
    uint64_t stamps[NR_PAGES]; /* what was stored last; 0: nothing */
};

static struct fixture *f;
static struct one ones[NR_SPACES];
static uint64_t next_stamp;

static uint64_t address(uint64_t page)
{
    return (page + 1) * PAGE;
}

static void choose_pages(uint64_t *page, uint64_t *nr)
{
    *page = fz_below(NR_PAGES);
    *nr = fz_u8();
    *nr = *nr < 160 ? 1 + *nr / 10 : 1 + *nr;
    *nr = *nr > NR_PAGES - *page ? NR_PAGES - *page : *nr;
}

static mm_prot_t choose_prot(unsigned byte)
{
    static const mm_prot_t prots[] = {RW, RW, RW, RX, MM_PROT_READ, RWX, MM_PROT_NONE, RW};

    return prots[byte % 8];
}

/* --- operations ---------------------------------------------------------------------------------
 */

static void op_map(struct one *o)
{
    struct mm_space_request request = {0};
    struct t_mregion_search search = {.low = PAGE};
    mm_vaddr_t at = {7};
    mm_status_t want = MM_OK;
    mm_status_t status;
    uint64_t page;
    uint64_t nr;
    uint64_t place;
    unsigned how;

    choose_pages(&page, &nr);
    how = fz_u8();
    place = address(page);
    request.at = mm_vaddr(place);
    request.len = nr * PAGE - (how % 2 != 0 ? fz_below(PAGE) : 0);
    request.prot = choose_prot(how / 2);
    request.tag = how / 16 % 2;
    request.flags = (how & 32) != 0 ? MM_SPACE_FIXED : 0;
    if (how / 64 == 3) {
        request.flags |= MM_SPACE_POPULATE;
    } else if (how / 64 == 2) {
        request.flags |= MM_SPACE_GUARD;
        request.prot = MM_PROT_NONE;
    }
    search.len = nr * PAGE;
    fz_op("map");
    if (t_mregions_used(&o->regions, place, nr * PAGE) != 0) {
        want = (request.flags & MM_SPACE_FIXED) != 0 ? MM_ERR_ALREADY_MAPPED : MM_OK;
        FZ_TRUE(t_mregions_gap_lowest(&o->regions, &search, &place));
    }
    status = mm_space_map(o->space, &request, &at);
    if (status == MM_ERR_NO_MEMORY) {
        FZ_TRUE((request.flags & MM_SPACE_POPULATE) != 0 && want == MM_OK);
    } else {
        FZ_EQUAL(status, want);
    }
    if (status != MM_OK) {
        FZ_EQUAL(at.raw, 7);
        return;
    }
    FZ_EQUAL(at.raw, place);
    if (place + nr * PAGE > address(NR_PAGES)) { /* behind the pages: not kept */
        FZ_EQUAL(unmap(o->space, at.raw, request.len), MM_OK);
        return;
    }
    FZ_LEGAL(t_mregions_insert(
        &o->regions, place, nr * PAGE,
        &(struct t_mregion_attr){.prot = request.prot,
                                 .flags = request.tag << 32 | (request.flags & MM_SPACE_GUARD)}));
}

static void op_unmap(struct one *o)
{
    uint64_t page;
    uint64_t nr;

    choose_pages(&page, &nr);
    fz_op("unmap");
    FZ_EQUAL(unmap(o->space, address(page), nr * PAGE), MM_OK);
    FZ_LEGAL(t_mregions_remove(&o->regions, address(page), nr * PAGE));
    memset(&o->stamps[page], 0, nr * sizeof(o->stamps[0]));
}

static void op_protect(struct one *o)
{
    mm_status_t want = MM_OK;
    mm_prot_t prot;
    uint64_t page;
    uint64_t nr;

    choose_pages(&page, &nr);
    prot = choose_prot(fz_u8());
    for (uint64_t i = page; i < page + nr && want == MM_OK; i++) {
        struct t_mregion region;

        if (!t_mregions_find(&o->regions, address(i), &region)) {
            want = MM_ERR_NOT_MAPPED;
        } else if ((region.attr.flags & MM_SPACE_GUARD) != 0) {
            want = MM_ERR_PERMISSION_DENIED;
        }
    }
    fz_op("protect");
    FZ_EQUAL(protect(o->space, address(page), nr * PAGE, prot), want);
    if (want == MM_OK) {
        FZ_LEGAL(t_mregions_protect(&o->regions, address(page), nr * PAGE, prot));
    }
}

static void op_touch(struct one *o)
{
    static const struct {
        unsigned access;
        mm_prot_t need;
    } kinds[] = {{T_MMU_USER, MM_PROT_READ},
                 {T_MMU_USER | T_MMU_WRITE, MM_PROT_WRITE},
                 {T_MMU_USER | T_MMU_FETCH, MM_PROT_EXEC},
                 {T_MMU_USER | T_MMU_WRITE, MM_PROT_WRITE}};
    uint64_t page = fz_below(NR_PAGES);
    unsigned kind = fz_u8() % 4;
    struct t_mregion region;
    bool used = t_mregions_find(&o->regions, address(page), &region);
    bool allowed = used && (region.attr.prot & kinds[kind].need) != 0;
    uint64_t *p = NULL;
    bool done;

    fz_op("touch");
    done = touch(f, o->space, address(page), kinds[kind].access, &p);
    if (!done && f->last == MM_FAULT_NO_MEMORY) {
        FZ_TRUE(allowed);
        return;
    }
    FZ_EQUAL(done, allowed);
    if (!done) {
        FZ_EQUAL(f->last, used ? MM_FAULT_SIGNAL_ACCESS : MM_FAULT_SIGNAL_MAP);
        return;
    }
    FZ_EQUAL(*p, o->stamps[page]);
    FZ_EQUAL(p[511], o->stamps[page]);
    if ((kinds[kind].access & T_MMU_WRITE) != 0) {
        o->stamps[page] = next_stamp++;
        *p = o->stamps[page];
        p[511] = o->stamps[page];
    }
}

static void op_clone(const struct one *o)
{
    struct one *to = &ones[fz_u8() % NR_SPACES];
    mm_status_t status;

    if (to->space != NULL) {
        return;
    }
    fz_op("clone");
    status = mm_space_clone(o->space, &to->space);
    if (status != MM_OK) {
        FZ_EQUAL(status, MM_ERR_NO_MEMORY);
        FZ_TRUE(to->space == NULL);
        return;
    }
    t_mregions_copy(&to->regions, &o->regions);
    memcpy(to->stamps, o->stamps, sizeof(to->stamps));
}

static void op_create(struct one *o)
{
    mm_status_t status;

    fz_op("create");
    status = mm_space_create(&f->spaces, &o->space);
    if (status != MM_OK) {
        FZ_EQUAL(status, MM_ERR_NO_MEMORY);
        FZ_TRUE(o->space == NULL);
        return;
    }
    t_mregions_init(&o->regions, PAGE, (NR_PAGES + BEYOND) * PAGE);
    memset(o->stamps, 0, sizeof(o->stamps));
}

static void op_put(struct one *o)
{
    fz_op("put");
    put_last(f, o->space);
    o->space = NULL;
    t_mregions_destroy(&o->regions);
}

/* --- looking ------------------------------------------------------------------------------------
 */

static void same_regions(const struct one *o)
{
    struct t_mregion region;
    struct mm_region_info info;
    uint64_t at = 0;

    while (t_mregions_next(&o->regions, at, &region)) {
        FZ_EQUAL(mm_space_next(o->space, mm_vaddr(at), &info), MM_OK);
        FZ_EQUAL(info.range.start.raw, region.start);
        FZ_EQUAL(info.range.len, region.len);
        FZ_EQUAL(info.prot, region.attr.prot);
        FZ_EQUAL((uint64_t)info.tag << 32 | info.flags, region.attr.flags);
        at = region.start + region.len;
    }
    FZ_EQUAL(mm_space_next(o->space, mm_vaddr(at), &info), MM_ERR_REGION_NOT_FOUND);
    FZ_EQUAL(mm_space_check(o->space), MM_OK);
}

/* Every page that was ever stored to is there, rights or no rights, with what was stored. */
static void same_contents(const struct one *o)
{
    for (uint64_t page = 0; page < NR_PAGES; page++) {
        uint64_t frame = frame_at(o->space, address(page));

        FZ_TRUE(frame == 0 || t_mregions_used(&o->regions, address(page), PAGE) != 0);
        FZ_TRUE(frame != 0 || o->stamps[page] == 0);
        if (frame != 0) {
            FZ_EQUAL(*(uint64_t *)t_machine_ptr(&f->m, frame << 12), o->stamps[page]);
        }
    }
}

static void step(void)
{
    unsigned op = fz_u8();
    struct one *o = &ones[op / 64 % NR_SPACES];

    if (o->space == NULL) {
        op_create(o);
        return;
    }
    switch (op % 16) {
    case 0:
    case 1:
    case 2:
        op_map(o);
        break;
    case 3:
        op_unmap(o);
        nothing_stale(f);
        break;
    case 4:
    case 5:
        op_protect(o);
        nothing_stale(f);
        break;
    case 6:
        op_clone(o);
        nothing_stale(f);
        break;
    case 7:
        if (op / 16 % 4 == 3) {
            op_put(o);
        } else {
            same_regions(o);
        }
        break;
    default:
        op_touch(o);
        break;
    }
}

/* --- one input ----------------------------------------------------------------------------------
 */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const struct t_machine_config machine = {.ram_len = UINT64_C(4) << 20,
                                                    .pool_len = UINT64_C(1) << 20};

    (void)argc;
    (void)argv;
    f = fixture_start(&machine);
    FZ_EQUAL(mm_spaces_destroy(&f->spaces), MM_OK);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mm_spaces_config config = fixture_config(f);
    unsigned scarce;

    fz_begin(data, size);
    scarce = fz_u8();
    next_stamp = 1;
    FZ_EQUAL(mm_spaces_init(&f->spaces, &config), MM_OK);
    FZ_EQUAL(t_machine_free_frames(&f->m), f->free_at_start);
    t_machine_leave_frames(&f->m, scarce < 128 ? f->free_at_start : scarce);
    op_create(&ones[0]);
    while (fz_more() && fz.nr_ops < MAX_OPS) {
        step();
    }
    for (unsigned i = 0; i < NR_SPACES; i++) {
        if (ones[i].space != NULL) {
            fz_op("the end");
            same_regions(&ones[i]);
            same_contents(&ones[i]);
        }
    }
    FZ_EQUAL(mm_frame_check(&f->m.frames), MM_OK);
    for (unsigned i = 0; i < NR_SPACES; i++) {
        if (ones[i].space != NULL) {
            op_put(&ones[i]);
        }
    }
    t_machine_leave_frames(&f->m, UINT64_MAX);
    FZ_EQUAL(mm_spaces_destroy(&f->spaces), MM_OK);
    FZ_EQUAL(t_machine_free_frames(&f->m), f->free_at_start);
    return 0;
}
