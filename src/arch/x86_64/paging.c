// SPDX-License-Identifier: MIT
/**
 * The x86-64 page-table backend: the radix engine over this architecture's codec, and the
 * instructions that switch roots and drop translations.
 *
 * Without PCIDs one root's translations are in the TLB at a time, and global ones. So (SDM vol. 3A,
 * 4.10.4.1, operations that invalidate):
 *
 *     user root that is not in use     nothing: leaving it has dropped all
 *     a few pages                      INVLPG each: global or not, and all paging-structure caches
 *     more, of a user root             load CR3 again
 *     more, of a kernel root           INVPCID of everything, or CR4.PGE off and on: what is global
 *
 * With them (CR4.PCIDE, 4.10.1), the same instructions reach the PCID in use and what is global;
 * the last line reaches all PCIDs. What another PCID holds is dropped when CR3 is loaded with it
 * and bit 63 clear: so INVPCID is never needed. Whoever has no struct mm_tlb stays in PCID 0.
 */
#include "codec.h"
#include "core/paging/radix.h"
#include "registers.h"

static unsigned paging_vaddr_bits(void *ctx)
{
    const struct mm_x86_64 *arch = ctx;

    return CODEC_SHIFT + CODEC_BITS * codec_levels(arch);
}

static unsigned paging_paddr_bits(void *ctx)
{
    const struct mm_x86_64 *arch = ctx;

    return codec_paddr_bits(arch);
}

static bool paging_has_type(void *ctx, mm_memtype_t type)
{
    const struct mm_x86_64 *arch = ctx;

    return codec_has_type(arch, type);
}

static mm_paddr_t paging_current_root(void *ctx)
{
    const struct mm_x86_64 *arch = ctx;
    uint64_t cr3 = arch->ops->read_cr(arch->ctx, 3);

    return mm_paddr(cr3 & ENTRY_ADDRESS & ~arch->encryption_mask);
}

static bool is_current(const struct mm_pagetable *pt)
{
    return paging_current_root(pt->backend.ctx).raw == pt->kernel_root.raw;
}

static void flush_all(const struct mm_x86_64 *arch, bool global)
{
    uint64_t cr4 = arch->ops->read_cr(arch->ctx, 4);

    if (!global || (cr4 & CR4_PGE) == 0) {
        arch->ops->write_cr(arch->ctx, 3, arch->ops->read_cr(arch->ctx, 3));
    } else if (arch->features.invpcid) {
        arch->ops->invpcid(arch->ctx, INVPCID_EVERYTHING, 0, 0);
    } else {
        arch->ops->write_cr(arch->ctx, 4, cr4 & ~CR4_PGE);
        arch->ops->write_cr(arch->ctx, 4, cr4);
    }
}

/* One INVLPG drops all that is cached of a large leaf, in whatever pieces (4.10.2.3), and all
 * paging-structure caches of the PCID in use. SDM vol. 3A, 4.10.4.1, promises the pieces while the
 * leaf is in the tables; that they go as well when it has just left them is relied on, as Linux
 * does where it flushes by the stride of what was unmapped. */
static void paging_flush_pages(void *ctx, uint64_t first, uint64_t last, unsigned shift)
{
    const struct mm_x86_64 *arch = ctx;
    uint64_t size = UINT64_C(1) << shift;

    for (uint64_t at = mm_align_down(first, size);; at += size) {
        arch->ops->invlpg(arch->ctx, at);
        if (last - at < size) {
            break; /* the next page may begin at 2^64 */
        }
    }
}

static void paging_flush(struct mm_pagetable *pt, const struct mm_vrange *ranges,
                         const uint8_t *shifts, uint32_t nr_ranges)
{
    const struct mm_x86_64 *arch = pt->backend.ctx;

    if (pt->is_user != 0 && !is_current(pt)) {
        return;
    }
    if (nr_ranges == 0) {
        flush_all(arch, pt->is_user == 0);
    }
    for (uint32_t r = 0; r < nr_ranges; r++) {
        paging_flush_pages(pt->backend.ctx, ranges[r].start.raw, mm_vrange_last(ranges[r]).raw,
                           shifts[r]);
    }
}

static void paging_activate(struct mm_pagetable *pt)
{
    const struct mm_x86_64 *arch = pt->backend.ctx;

    arch->ops->write_cr(arch->ctx, 3, pt->kernel_root.raw | arch->encryption_mask);
    if (pt->is_user == 0) {
        flush_all(arch, true); /* global translations of the root before it, if another kernel's */
    }
}

static void paging_load_root(void *ctx, mm_paddr_t root)
{
    const struct mm_x86_64 *arch = ctx;

    arch->ops->write_cr(arch->ctx, 3, root.raw | arch->encryption_mask);
    flush_all(arch, true);
}

/* --- for several CPUs (tlb.h) ----------------------------------------------------------------- */

static uint32_t paging_nr_asids(void *ctx)
{
    const struct mm_x86_64 *arch = ctx;

    return arch->enabled.pcid ? NR_PCIDS : 1;
}

static void paging_load(void *ctx, mm_paddr_t root, uint32_t asid, bool keep)
{
    const struct mm_x86_64 *arch = ctx;

    arch->ops->write_cr(arch->ctx, 3,
                        root.raw | arch->encryption_mask | asid | (keep ? CR3_KEEP : 0));
}

static void paging_flush_asid(void *ctx)
{
    flush_all(ctx, false);
}

static void paging_flush_everything(void *ctx)
{
    flush_all(ctx, true);
}

static const struct mm_paging_ops paging_ops = {
    .vaddr_bits = paging_vaddr_bits,
    .paddr_bits = paging_paddr_bits,
    .has_type = paging_has_type,
    .init_kernel = radix_init_kernel,
    .init_user = radix_init_user,
    .adopt = radix_adopt,
    .destroy = radix_destroy,
    .map = radix_map,
    .map_page = radix_map_page,
    .page_look = radix_page_look,
    .page_fill = radix_page_fill,
    .page_swap = radix_page_swap,
    .guard = radix_guard,
    .unmap = radix_unmap,
    .protect = radix_protect,
    .set_type = radix_set_type,
    .merge = radix_merge,
    .reclaim = radix_reclaim,
    .translate = radix_translate,
    .walk = radix_walk,
    .clone = radix_clone,
    .replace = radix_replace,
    .list = radix_list,
    .slot_get = radix_slot_get,
    .slot_cas = radix_slot_cas,
    .set_software = radix_set_software,
    .set_key = radix_set_key,
    .harvest = radix_harvest,
    .take = radix_take,
    .cursor_find = radix_cursor_find,
    .cursor_next = radix_cursor_next,
    .cursor_map = radix_cursor_map,
    .cursor_unmap = radix_cursor_unmap,
    .cursor_protect = radix_cursor_protect,
    .check = radix_check,
    .view = radix_view,
    .activate = paging_activate,
    .current_root = paging_current_root,
    .load_root = paging_load_root,
    .flush = paging_flush,
    .nr_asids = paging_nr_asids,
    .load = paging_load,
    .flush_pages = paging_flush_pages,
    .flush_asid = paging_flush_asid,
    .flush_everything = paging_flush_everything,
    .chain_next = radix_chain_next,
};

struct mm_paging_backend mm_x86_64_backend(struct mm_x86_64 *arch)
{
    struct mm_paging_backend none = {NULL, NULL};
    struct mm_paging_backend backend = {&paging_ops, arch};

    return arch != NULL && arch->magic == X86_64_MAGIC ? backend : none;
}
