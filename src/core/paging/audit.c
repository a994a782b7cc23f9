// SPDX-License-Identifier: MIT
/**
 * The audit: contradictions between leaves, over all roots.
 *
 * All leaves become runs (frames, where they are mapped, rights, type), which are sorted by their
 * first frame. Then one pass, which remembers of each class (the kernel writes, a user executes,
 * ...) the run that reaches farthest among those that began:
 *
 *     frames ->   |---- the kernel executes ----|
 *                      |-- writes --|
 *                            |------ writes ---------|
 *
 * A run that begins looks at the classes that it must not meet: if the farthest of one reaches into
 * it, what both hold is a finding. Whatever run of that class holds a frame of it reaches no
 * farther, so no frame is missed, and no pair is looked at twice.
 */
#include "core/base/report.h"
#include "internal.h"
#include <mm/paging_audit.h>

struct run {
    uint64_t first; /* frame */
    uint64_t nr;
    uint64_t at; /* virtual address of the first */
    uint32_t root;
    uint8_t prot;
    uint8_t type;
    uint16_t zero;
};

_Static_assert(sizeof(struct run) == 32 && MM_PROT_ALL <= UINT8_MAX, "as the contract says");

/* Classes; from TYPES on one for each memory type. */
enum { KERNEL_WRITES, KERNEL_EXECUTES, USER_WRITES, USER_EXECUTES, TYPES };
#define NR_CLASSES (TYPES + MM_MEMTYPE_COUNT)

struct audit {
    const struct mm_paging_audit *asked;
    uint32_t kinds;
    uint32_t root; /* that is walked */
    bool counting; /* runs are counted, nothing else */
    bool enough;
    bool cut;          /* memory ran out in the second walk: somebody maps meanwhile */
    struct run last;   /* still growing; nr 0: none */
    struct run *runs;  /* complete ones */
    uint64_t nr_runs;  /* of all, the last included */
    uint64_t capacity; /* in runs */
    uint64_t nr_findings;
    const struct run *farthest[NR_CLASSES];
};

/** Root `i` of those that are walked: those asked for, and after them the entry root. */
static const struct mm_pagetable *root_of(const struct audit *a, uint32_t i)
{
    return i < a->asked->nr_roots ? a->asked->roots[i] : a->asked->roots[0]->peer;
}

/* --- telling ---------------------------------------------------------------------------------- */

static void put_party(struct mmi_line *line, const struct mm_audit_party *party)
{
    mmi_line_hex(line, party->at.raw, 16);
    mmi_line_str(line, " ");
    mmi_line_prot(line, party->prot);
    mmi_line_str(line, " ");
    mmi_line_str(line, mm_memtype_str(party->type));
    if (party->pt->is_user == 0) {
        mmi_line_str(line, " kernel");
    } else {
        mmi_line_str(line, " root ");
        mmi_line_hex(line, party->pt->root.raw, 1);
    }
}

static const char *name_of(uint32_t kind)
{
    switch (kind) {
    case MM_AUDIT_WRITE_EXEC:
        return "writable and executable, ";
    case MM_AUDIT_ALIAS_EXEC:
        return "executable, writable, ";
    case MM_AUDIT_USER_REACH:
        return "in the wrong half, ";
    case MM_AUDIT_TYPES:
        return "two memory types, ";
    case MM_AUDIT_NOT_PRESENT:
        return "named though not present, ";
    case MM_AUDIT_UNSEEN:
        return "a table out of reach, ";
    default:
        return "user's code, writable, ";
    }
}

/**
 * One line:
 *
 *     paging: executable, writable, 0x200000-0x2fffff: 0xffffffff80200000 r-x-g WB kernel, ...
 */
static void tell(struct audit *a, const struct mm_audit_finding *finding)
{
    const struct mm_paging_audit *asked = a->asked;
    struct mmi_line line;

    a->nr_findings++;
    mmi_line_begin(&line);
    mmi_line_str(&line, "paging: ");
    mmi_line_str(&line, name_of(finding->kind));
    mmi_line_hex(&line, finding->frames.start.raw, 1);
    mmi_line_str(&line, "-");
    mmi_line_hex(&line, mm_prange_last(finding->frames).raw, 1);
    mmi_line_str(&line, ": ");
    put_party(&line, &finding->one);
    if (finding->other.pt != NULL) {
        mmi_line_str(&line, ", ");
        put_party(&line, &finding->other);
    }
    mmi_line_log(&line, &asked->roots[0]->platform);
    if (asked->report != NULL && !asked->report(asked->ctx, finding)) {
        a->enough = true;
    }
}

/** A run as it maps `frame`, one of its own. */
static struct mm_audit_party party_at(const struct audit *a, const struct run *run, uint64_t frame)
{
    struct mm_audit_party party = {
        .pt = root_of(a, run->root),
        .at = mm_vaddr(run->at + (frame - run->first) * MM_PAGE_SIZE),
        .prot = run->prot,
        .type = (mm_memtype_t)run->type,
    };

    return party;
}

static void tell_of_frames(struct audit *a, uint32_t kind, const struct run *one,
                           const struct run *other)
{
    struct mm_audit_finding finding = {.kind = kind};
    uint64_t nr = one->nr;

    if ((a->kinds & kind) == 0 || a->enough) {
        return;
    }
    finding.one = party_at(a, one, one->first);
    if (other != NULL) { /* began before */
        uint64_t both = other->first + other->nr - one->first;

        nr = both < nr ? both : nr;
        finding.other = party_at(a, other, one->first);
    }
    finding.frames = mm_prange(mm_pfn_addr(mm_pfn(one->first)), nr * MM_PAGE_SIZE);
    tell(a, &finding);
}

static void tell_of_entry(struct audit *a, uint32_t kind, const struct mm_mapping *mapping,
                          uint64_t entry)
{
    struct mm_audit_finding finding = {
        .kind = kind,
        .frames = mm_prange(mapping->paddr, MM_PAGE_SIZE),
        .one = {.pt = root_of(a, a->root), .at = mapping->page.start},
        .entry = entry,
    };

    if ((a->kinds & kind) != 0) {
        tell(a, &finding);
    }
}

/* --- leaves become runs ----------------------------------------------------------------------- */

/** The last run is complete. */
static void put_run(struct audit *a)
{
    if (a->last.nr != 0 && !a->counting) {
        a->runs[a->nr_runs - 1] = a->last;
    }
}

static bool see(void *ctx, const struct mm_mapping *mapping, uint64_t entry,
                enum mm_paging_entry what)
{
    struct audit *a = ctx;
    struct run leaf = {
        .first = mm_pfn_of(mapping->paddr).raw,
        .nr = mapping->page.len >> MM_PAGE_SHIFT,
        .at = mapping->page.start.raw,
        .root = a->root,
        .prot = (uint8_t)mapping->prot,
        .type = (uint8_t)mapping->type,
    };

    if (what != MM_PAGING_ENTRY_LEAF) {
        if (!a->counting) {
            tell_of_entry(a,
                          what == MM_PAGING_ENTRY_UNSEEN ? MM_AUDIT_UNSEEN : MM_AUDIT_NOT_PRESENT,
                          mapping, entry);
        }
        return !a->enough;
    }
    if (a->last.nr != 0 && a->last.root == leaf.root && a->last.prot == leaf.prot &&
        a->last.type == leaf.type && a->last.first + a->last.nr == leaf.first &&
        a->last.at + a->last.nr * MM_PAGE_SIZE == leaf.at) {
        a->last.nr += leaf.nr;
        return true;
    }
    put_run(a);
    if (!a->counting && a->nr_runs == a->capacity) {
        a->cut = true;
        return false;
    }
    a->last = leaf;
    a->nr_runs++;
    return true;
}

static void see_all(struct audit *a)
{
    const struct mm_pagetable *kernel = a->asked->roots[0];
    uint32_t nr = a->asked->nr_roots + (kernel->pairs == MMI_PAIRS && kernel->peer != NULL ? 1 : 0);

    a->nr_runs = 0;
    a->last.nr = 0;
    for (a->root = 0; a->root < nr && !a->enough; a->root++) {
        const struct mm_pagetable *pt = root_of(a, a->root);
        const struct mm_pagetable *beside = pt->is_user == 0  ? NULL
                                            : mmi_is_pair(pt) ? pt->peer
                                                              : kernel;

        pt->backend.ops->view(pt, beside, see, a);
    }
    put_run(a);
}

/* --- sorting, in place ------------------------------------------------------------------------ */

/** Let the run at `top` sink to its place in a heap of `nr`, the greatest at the top. */
static void sink(struct run *runs, uint64_t top, uint64_t nr)
{
    struct run run = runs[top];
    uint64_t child;

    for (; (child = 2 * top + 1) < nr; top = child) {
        if (child + 1 < nr && runs[child].first < runs[child + 1].first) {
            child++;
        }
        if (run.first >= runs[child].first) {
            break;
        }
        runs[top] = runs[child];
    }
    runs[top] = run;
}

static void sort(struct run *runs, uint64_t nr)
{
    for (uint64_t top = nr / 2; top-- > 0;) {
        sink(runs, top, nr);
    }
    for (uint64_t end = nr; end-- > 1;) {
        struct run greatest = runs[0];

        runs[0] = runs[end];
        runs[end] = greatest;
        sink(runs, 0, end);
    }
}

/* --- the pass over all frames ----------------------------------------------------------------- */

/** A finding, if the farthest run of the class has the first frame of this one. */
static void must_not_meet(struct audit *a, const struct run *run, unsigned class, uint32_t kind)
{
    const struct run *far = a->farthest[class];

    if (far != NULL && far->first + far->nr > run->first) {
        tell_of_frames(a, kind, run, far);
    }
}

static void joins(struct audit *a, const struct run *run, unsigned class)
{
    const struct run *far = a->farthest[class];

    if (far == NULL || far->first + far->nr < run->first + run->nr) {
        a->farthest[class] = run;
    }
}

static void judge_alone(struct audit *a, const struct run *run)
{
    const struct mm_pagetable *pt = root_of(a, run->root);
    struct mm_vrange pages = mm_vrange(mm_vaddr(run->at), run->nr * MM_PAGE_SIZE);
    bool user = (run->prot & MM_PROT_USER) != 0;

    if ((run->prot & MM_PROT_WRITE) != 0 && (run->prot & MM_PROT_EXEC) != 0) {
        tell_of_frames(a, MM_AUDIT_WRITE_EXEC, run, NULL);
    }
    /* What a pair has of the entry root's was passed over: any other is one too many. */
    if (user ? !mm_vrange_covers(pt->user, pages)
             : pt->is_user != 0 && (mmi_is_pair(pt) || mm_vrange_overlaps(pt->user, pages))) {
        tell_of_frames(a, MM_AUDIT_USER_REACH, run, NULL);
    }
}

static void judge(struct audit *a, const struct run *run)
{
    bool user = (run->prot & MM_PROT_USER) != 0;

    judge_alone(a, run);
    if ((run->prot & MM_PROT_EXEC) != 0) {
        must_not_meet(a, run, KERNEL_WRITES, user ? MM_AUDIT_USER_CODE : MM_AUDIT_ALIAS_EXEC);
        must_not_meet(a, run, USER_WRITES, MM_AUDIT_ALIAS_EXEC);
    }
    if ((run->prot & MM_PROT_WRITE) != 0) {
        must_not_meet(a, run, KERNEL_EXECUTES, MM_AUDIT_ALIAS_EXEC);
        must_not_meet(a, run, USER_EXECUTES, user ? MM_AUDIT_ALIAS_EXEC : MM_AUDIT_USER_CODE);
    }
    for (unsigned type = 0; type < MM_MEMTYPE_COUNT; type++) {
        if (type != run->type) {
            must_not_meet(a, run, TYPES + type, MM_AUDIT_TYPES);
        }
    }
    if ((run->prot & MM_PROT_EXEC) != 0) {
        joins(a, run, user ? USER_EXECUTES : KERNEL_EXECUTES);
    }
    if ((run->prot & MM_PROT_WRITE) != 0) {
        joins(a, run, user ? USER_WRITES : KERNEL_WRITES);
    }
    joins(a, run, TYPES + run->type);
}

/* --- the calls -------------------------------------------------------------------------------- */

static mm_status_t check_root(const struct mm_paging_audit *audit, uint32_t i)
{
    const struct mm_pagetable *pt = audit->roots[i];
    const struct mm_pagetable *kernel = audit->roots[0];
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK &&
        ((pt->is_user != 0) != (i != 0) || pt->pairs == MMI_ENTRY_ROOT ||
         pt->backend.ops != kernel->backend.ops || pt->backend.ctx != kernel->backend.ctx)) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    return status;
}

static mm_status_t check_audit(const struct mm_paging_audit *audit)
{
    if (audit == NULL || audit->roots == NULL || audit->nr_roots == 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((audit->kinds & ~MM_AUDIT_ALL) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    for (uint32_t i = 0; i < audit->nr_roots; i++) {
        mm_status_t status = check_root(audit, i);

        if (status != MM_OK) {
            return status;
        }
    }
    return MM_OK;
}

static void begin(struct audit *a, const struct mm_paging_audit *asked)
{
    *a = (struct audit){
        .asked = asked,
        .kinds = asked->kinds == 0 ? MM_AUDIT_USUAL : asked->kinds,
        .counting = true,
        .runs = asked->memory,
        .capacity = asked->len / sizeof(struct run),
    };
}

mm_status_t mm_paging_audit_memory_size(const struct mm_paging_audit *audit, uint64_t *out)
{
    mm_status_t status = check_audit(audit);
    struct audit a;

    if (status == MM_OK && out == NULL) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK) {
        begin(&a, audit);
        see_all(&a);
        *out = a.nr_runs * sizeof(struct run);
    }
    return status;
}

mm_status_t mm_paging_audit(const struct mm_paging_audit *audit, uint64_t *nr_findings)
{
    mm_status_t status = check_audit(audit);
    struct audit a;

    if (status == MM_OK && (nr_findings == NULL || audit->memory == NULL)) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK && ((uintptr_t)audit->memory & 7) != 0) {
        status = MM_ERR_NOT_ALIGNED;
    }
    if (status != MM_OK) {
        return status;
    }
    begin(&a, audit);
    see_all(&a);
    if (a.nr_runs > a.capacity) {
        return MM_ERR_NO_MEMORY;
    }
    a.counting = false;
    see_all(&a);
    if (a.cut) {
        return MM_ERR_NO_MEMORY;
    }
    if (!a.enough) {
        sort(a.runs, a.nr_runs);
    }
    for (uint64_t i = 0; i < a.nr_runs && !a.enough; i++) {
        judge(&a, &a.runs[i]);
    }
    *nr_findings = a.nr_findings;
    return MM_OK;
}
