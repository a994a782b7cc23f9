// SPDX-License-Identifier: MIT
/**
 * The reference model of regions: see the header. Page numbers here count from the window's start.
 */
#include "model_regions.h"

#include "hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE T_MREGIONS_PAGE

void t_mregions_init(struct t_mregions *model, uint64_t start, uint64_t len)
{
    model->start = start;
    model->nr = len / PAGE;
    model->pages = calloc(model->nr, sizeof(*model->pages));
    if (model->pages == NULL || len == 0 || (start | len) % PAGE != 0 ||
        start + (len - 1) < start) {
        fprintf(stderr, "model_regions: no such window, or out of memory\n");
        abort();
    }
}

void t_mregions_destroy(struct t_mregions *model)
{
    free(model->pages);
    memset(model, 0, sizeof(*model));
}

static const char *why_not_range(const struct t_mregions *model, uint64_t start, uint64_t len)
{
    uint64_t whole = model->nr * PAGE;

    if (len == 0 || (start | len) % PAGE != 0) {
        return "a range that is empty, or not of whole pages";
    }
    if (start < model->start || start - model->start >= whole ||
        len > whole - (start - model->start)) {
        return "a range outside of the window";
    }
    return NULL;
}

/* The page of an address inside of the window. */
static struct t_mregion_page *page_of(const struct t_mregions *model, uint64_t address)
{
    return &model->pages[(address - model->start) / PAGE];
}

uint64_t t_mregions_used(const struct t_mregions *model, uint64_t start, uint64_t len)
{
    uint64_t used = 0;

    for (uint64_t at = 0; at < len; at += PAGE) {
        used += page_of(model, start + at)->used;
    }
    return used;
}

const char *t_mregions_insert(struct t_mregions *model, uint64_t start, uint64_t len,
                              const struct t_mregion_attr *attr)
{
    const char *wrong = why_not_range(model, start, len);

    if (wrong == NULL && t_mregions_used(model, start, len) != 0) {
        wrong = "inserted: over a region";
    }
    for (uint64_t at = 0; at < len && wrong == NULL; at += PAGE) {
        struct t_mregion_page *page = page_of(model, start + at);

        page->used = 1;
        page->attr = *attr;
        page->attr.offset = attr->object != 0 ? attr->offset + at : 0;
    }
    return wrong;
}

const char *t_mregions_remove(struct t_mregions *model, uint64_t start, uint64_t len)
{
    const char *wrong = why_not_range(model, start, len);

    if (wrong == NULL) {
        memset(page_of(model, start), 0, len / PAGE * sizeof(*model->pages));
    }
    return wrong;
}

const char *t_mregions_protect(struct t_mregions *model, uint64_t start, uint64_t len,
                               uint64_t prot)
{
    const char *wrong = why_not_range(model, start, len);

    if (wrong == NULL && t_mregions_used(model, start, len) != len / PAGE) {
        wrong = "protected: a range with a hole";
    }
    for (uint64_t at = 0; at < len && wrong == NULL; at += PAGE) {
        page_of(model, start + at)->attr.prot = prot;
    }
    return wrong;
}

const char *t_mregions_change(struct t_mregions *model, uint64_t start, uint64_t len,
                              const struct t_mregion_change *change)
{
    const char *wrong = why_not_range(model, start, len);

    for (uint64_t at = 0; at < len && wrong == NULL; at += PAGE) {
        struct t_mregion_page *page = page_of(model, start + at);

        if (page->used != 0) {
            page->attr.prot = change->sets_prot ? change->prot : page->attr.prot;
            page->attr.flags = (page->attr.flags & ~change->clear) | change->set;
        }
    }
    return wrong;
}

/* Do page n and the page after it belong to one region? */
static bool agree(const struct t_mregions *model, uint64_t n)
{
    const struct t_mregion_page *a = &model->pages[n];
    const struct t_mregion_page *b = &model->pages[n + 1];

    return a->used != 0 && b->used != 0 && a->attr.prot == b->attr.prot &&
           a->attr.flags == b->attr.flags && a->attr.object == b->attr.object &&
           (a->attr.object == 0 || a->attr.offset + PAGE == b->attr.offset);
}

bool t_mregions_find(const struct t_mregions *model, uint64_t address, struct t_mregion *out)
{
    uint64_t first;
    uint64_t last;

    if (address < model->start || (address - model->start) / PAGE >= model->nr ||
        page_of(model, address)->used == 0) {
        return false;
    }
    first = last = (address - model->start) / PAGE;
    while (first > 0 && agree(model, first - 1)) {
        first--;
    }
    while (last + 1 < model->nr && agree(model, last)) {
        last++;
    }
    out->start = model->start + first * PAGE;
    out->len = (last - first + 1) * PAGE;
    out->attr = model->pages[first].attr;
    return true;
}

bool t_mregions_next(const struct t_mregions *model, uint64_t from, struct t_mregion *out)
{
    for (uint64_t n = 0; n < model->nr; n++) {
        if (model->start + n * PAGE >= from && model->pages[n].used != 0 &&
            (n == 0 || !agree(model, n - 1))) {
            return t_mregions_find(model, model->start + n * PAGE, out);
        }
    }
    return false;
}

uint64_t t_mregions_count(const struct t_mregions *model)
{
    uint64_t count = 0;

    for (uint64_t n = 0; n < model->nr; n++) {
        count += model->pages[n].used != 0 && (n == 0 || !agree(model, n - 1)) ? 1 : 0;
    }
    return count;
}

const char *t_mregions_gap_fits(const struct t_mregions *model,
                                const struct t_mregion_search *search, uint64_t start)
{
    uint64_t last = search->last != 0 ? search->last : UINT64_MAX;
    const char *wrong = why_not_range(model, start, search->len);

    if (wrong != NULL) {
        return wrong;
    }
    if (search->align != 0 && (start - search->residue) % search->align != 0) {
        return "a place that is not aligned";
    }
    if (start < search->low || start + (search->len - 1) > last) {
        return "a place beyond the limits";
    }
    return t_mregions_used(model, start, search->len) != 0 ? "a place that is taken" : NULL;
}

bool t_mregions_gap_lowest(const struct t_mregions *model, const struct t_mregion_search *search,
                           uint64_t *start)
{
    for (uint64_t n = 0; n < model->nr; n++) {
        if (model->pages[n].used == 0 &&
            t_mregions_gap_fits(model, search, model->start + n * PAGE) == NULL) {
            *start = model->start + n * PAGE;
            return true;
        }
    }
    return false;
}

bool t_mregions_gap_highest(const struct t_mregions *model, const struct t_mregion_search *search,
                            uint64_t *start)
{
    for (uint64_t n = model->nr; n-- > 0;) {
        if (model->pages[n].used == 0 &&
            t_mregions_gap_fits(model, search, model->start + n * PAGE) == NULL) {
            *start = model->start + n * PAGE;
            return true;
        }
    }
    return false;
}

uint64_t t_mregions_hash(const struct t_mregions *model)
{
    return t_hash(model->pages, model->nr * sizeof(*model->pages));
}

void t_mregions_copy(struct t_mregions *to, const struct t_mregions *from)
{
    t_mregions_init(to, from->start, from->nr * PAGE);
    memcpy(to->pages, from->pages, from->nr * sizeof(*from->pages));
}
