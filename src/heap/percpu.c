// SPDX-License-Identifier: MIT
/**
 * Per-CPU areas: one range of the arena with a hole after each part but the last.
 */
#include "kva.h"

#include <mm/percpu.h>

#define MAGIC UINT32_C(0x6d6d5063) /* "mmPc" */

static uint32_t node_of(void *ctx, uint64_t part)
{
    const struct mm_percpu_config *config = ctx;

    return config->cpu_nodes == NULL ? 0 : config->cpu_nodes[part];
}

/** Write one copy, through the physmap: the page tables say where its frames are. */
static void copy(struct mm_kva *kva, uint64_t to, const void *from, uint64_t len)
{
    const char *bytes = from;

    while (len > 0) {
        uint64_t piece = MM_PAGE_SIZE - (to & MM_PAGE_MASK);
        struct mm_mapping mapping;

        piece = piece < len ? piece : len;
        (void)mmi_kva_enter(kva, false);
        if (mm_paging_translate(kva->kernel, mm_vaddr(to), &mapping) != MM_OK) {
            mmi_kva_leave(kva);
            mmi_kva_wrong(kva, to, "a page of an area is not mapped", "per-CPU areas");
        }
        mmi_kva_leave(kva);
        memcpy(mm_physmap_ptr(&kva->physmap,
                              mm_paddr(mapping.paddr.raw + (to - mapping.page.start.raw))),
               bytes, piece);
        bytes += piece;
        to += piece;
        len -= piece;
    }
}

static mm_status_t check_config(const struct mm_percpu_config *config)
{
    uint64_t start = (uint64_t)(uintptr_t)config->start;

    if (config->kva == NULL || config->start == NULL || config->nr_cpus == 0 ||
        config->nr_cpus > MM_MAX_CPUS) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_kva(config->kva)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    return config->len == 0 || !mm_range_fits(start, config->len) ||
                   config->len > config->kva->ranges.window.len
               ? MM_ERR_INVALID_SIZE
               : MM_OK;
}

mm_status_t mm_percpu_init(struct mm_percpu *areas, const struct mm_percpu_config *config)
{
    struct mm_kva_request request = {.flags = MM_KVA_ZERO};
    struct mmi_kva_spec spec = {.kind = MM_KVA_PERCPU, .type = MM_MEMTYPE_WB};
    struct mmi_kva_range *range;
    uint64_t offset;
    mm_status_t status;

    if (areas == NULL || config == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (areas->magic == MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    status = check_config(config);
    if (status != MM_OK) {
        return status;
    }
    offset = (uint64_t)(uintptr_t)config->start & MM_PAGE_MASK;
    spec.part = mm_align_down(offset + config->len + MM_PAGE_MASK, MM_PAGE_SIZE);
    spec.stride = spec.part + ((uint64_t)config->kva->guard_pages << MM_PAGE_SHIFT);
    spec.node_of = node_of;
    spec.node_ctx = (void *)(uintptr_t)config;
    request.len = (config->nr_cpus - 1) * spec.stride + spec.part;
    status = mmi_kva_complete(config->kva, &request, &spec.request);
    if (status == MM_OK) {
        status = mmi_kva_take(config->kva, &spec, &range);
    }
    if (status != MM_OK) {
        return status;
    }
    memset(areas, 0, sizeof(*areas));
    areas->nr_cpus = config->nr_cpus;
    areas->kva = config->kva;
    areas->start = (uint64_t)(uintptr_t)config->start;
    areas->len = config->len;
    areas->base = range->start + offset;
    areas->stride = spec.stride;
    for (uint32_t cpu = 0; cpu < config->nr_cpus; cpu++) {
        copy(config->kva, areas->base + cpu * areas->stride, config->start, config->len);
    }
    areas->magic = MAGIC;
    return MM_OK;
}

mm_status_t mm_percpu_destroy(struct mm_percpu *areas)
{
    struct mmi_kva_range *range;

    if (areas == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (areas->magic != MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    range = mmi_kva_claim(areas->kva, mm_align_down(areas->base, MM_PAGE_SIZE), 1u << MM_KVA_PERCPU,
                          "per-CPU areas");
    mmi_kva_push(areas->kva, range, mmi_kva_pages(range));
    memset(areas, 0, sizeof(*areas));
    return MM_OK;
}
