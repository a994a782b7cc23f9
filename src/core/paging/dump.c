// SPDX-License-Identifier: MIT
/**
 * The layout of a page table as text: one line for each run of leaves that agree in size,
 * protection and memory type.
 *
 *     0xffff800000000000-0xffff80003fffffff   1 GiB  2M rw--g WB   -> 0x0
 *
 * A run whose leaves do not follow each other in physical memory ends in "...".
 */
#include "core/base/report.h"
#include "internal.h"

struct run {
    const struct mm_pagetable *pt;
    struct mm_vrange range; /**< length 0: none yet */
    mm_paddr_t paddr;
    uint64_t leaf;
    mm_prot_t prot;
    mm_memtype_t type;
    bool scattered;
};

void mmi_line_prot(struct mmi_line *line, mm_prot_t prot)
{
    static const struct {
        mm_prot_t bit;
        char name[2];
    } letters[] = {
        {MM_PROT_READ, "r"}, {MM_PROT_WRITE, "w"},  {MM_PROT_EXEC, "x"},
        {MM_PROT_USER, "u"}, {MM_PROT_GLOBAL, "g"},
    };

    for (unsigned i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
        mmi_line_str(line, (prot & letters[i].bit) != 0 ? letters[i].name : "-");
    }
}

static void print(const struct run *run)
{
    struct mmi_line line;

    if (run->range.len == 0) {
        return;
    }
    mmi_line_begin(&line);
    mmi_line_hex(&line, run->range.start.raw, 16);
    mmi_line_str(&line, "-");
    mmi_line_hex(&line, mm_vrange_last(run->range).raw, 16);
    mmi_line_str(&line, "  ");
    mmi_line_size(&line, run->range.len);
    mmi_line_pad(&line, 52);
    mmi_line_str(&line, run->leaf == MM_SIZE_4K ? "4K " : run->leaf == MM_SIZE_2M ? "2M " : "1G ");
    mmi_line_prot(&line, run->prot);
    mmi_line_str(&line, " ");
    mmi_line_str(&line, mm_memtype_str(run->type));
    mmi_line_pad(&line, 65);
    mmi_line_str(&line, "-> ");
    mmi_line_hex(&line, run->paddr.raw, 1);
    mmi_line_str(&line, run->scattered ? " ..." : "");
    mmi_line_log(&line, &run->pt->platform);
}

static bool visit(void *ctx, const struct mm_mapping *leaf)
{
    struct run *run = ctx;

    if (run->range.len != 0 && run->range.start.raw + run->range.len == leaf->page.start.raw &&
        run->leaf == leaf->page.len && run->prot == leaf->prot && run->type == leaf->type) {
        run->scattered |= run->paddr.raw + run->range.len != leaf->paddr.raw;
        run->range.len += leaf->page.len;
        return true;
    }
    print(run);
    run->range = leaf->page;
    run->paddr = leaf->paddr;
    run->leaf = leaf->page.len;
    run->prot = leaf->prot;
    run->type = leaf->type;
    run->scattered = false;
    return true;
}

mm_status_t mm_paging_dump(const struct mm_pagetable *pt, struct mm_vrange range)
{
    struct run run = {.pt = pt};
    mm_status_t status = mm_paging_walk(pt, range, visit, &run);

    if (status == MM_OK) {
        print(&run);
    }
    return status;
}
