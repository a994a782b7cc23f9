// SPDX-License-Identifier: MIT
/**
 * The reference model of page tables: see the header. Each operation checks all pages first, then
 * writes all of them.
 */
#include "model_pages.h"

#include "hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHIFT 12

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "model_pages: %s\n", what);
    abort();
}

void t_mpages_init(struct t_mpages *model, unsigned largest)
{
    memset(model, 0, sizeof(*model));
    model->largest = largest;
    if (largest != 12 && largest != 21 && largest != 30) {
        die("leaves have 12, 21 or 30 bits");
    }
}

void t_mpages_destroy(struct t_mpages *model)
{
    for (unsigned i = 0; i < model->nr_windows; i++) {
        free(model->windows[i].pages);
    }
    t_mpages_init(model, model->largest);
}

void t_mpages_add_window(struct t_mpages *model, uint64_t start, uint64_t len)
{
    struct t_mpages_window window = {.first = start >> SHIFT, .nr = len >> SHIFT};

    if (((start | len) & 0xfff) != 0 || len == 0 || start + (len - 1) < start ||
        model->nr_windows == T_MPAGES_WINDOWS) {
        die("no such window, or one too many");
    }
    for (unsigned i = 0; i < model->nr_windows; i++) {
        const struct t_mpages_window *other = &model->windows[i];

        if (window.first < other->first + other->nr && other->first < window.first + window.nr) {
            die("windows overlap");
        }
    }
    window.pages = calloc(window.nr, sizeof(*window.pages));
    if (window.pages == NULL) {
        die("out of memory");
    }
    model->windows[model->nr_windows++] = window;
}

/* The entry of a page number; NULL outside of the windows. */
static struct t_mpage *entry(const struct t_mpages *model, uint64_t vpn)
{
    for (unsigned i = 0; i < model->nr_windows; i++) {
        if (vpn - model->windows[i].first < model->windows[i].nr) {
            return &model->windows[i].pages[vpn - model->windows[i].first];
        }
    }
    return NULL;
}

/* The entries from page number `vpn` on, `*nr` of at most so many: up to the end of a window. */
static struct t_mpage *entries(const struct t_mpages *model, uint64_t vpn, uint64_t *nr)
{
    for (unsigned i = 0; i < model->nr_windows; i++) {
        const struct t_mpages_window *window = &model->windows[i];
        uint64_t into = vpn - window->first;

        if (into < window->nr) {
            *nr = *nr < window->nr - into ? *nr : window->nr - into;
            return &window->pages[into];
        }
    }
    die("a page outside of the windows");
}

static bool is_valid(const struct t_mpages *model, uint64_t start, uint64_t len)
{
    if (((start | len) & 0xfff) != 0 || len == 0 || start + (len - 1) < start) {
        return false;
    }
    for (uint64_t done = 0; done < len >> SHIFT;) { /* window by window */
        uint64_t vpn = (start >> SHIFT) + done;
        uint64_t left = 0;

        for (unsigned i = 0; i < model->nr_windows && left == 0; i++) {
            uint64_t into = vpn - model->windows[i].first;

            left = into < model->windows[i].nr ? model->windows[i].nr - into : 0;
        }
        if (left == 0) {
            return false;
        }
        done += left;
    }
    return true;
}

/* The largest leaf that may begin at page `vpn` and frame `pfn` with `nr` pages to go. */
static unsigned best_leaf(unsigned largest, uint64_t vpn, uint64_t pfn, uint64_t nr)
{
    for (unsigned leaf = 30; leaf > 12; leaf -= 9) {
        uint64_t pages = UINT64_C(1) << (leaf - SHIFT);

        if (leaf <= largest && vpn % pages == 0 && pfn % pages == 0 && nr >= pages) {
            return leaf;
        }
    }
    return 12;
}

enum t_mpages_status t_mpages_map(struct t_mpages *model, uint64_t start, uint64_t paddr,
                                  uint64_t len, uint32_t prot, uint16_t type, unsigned largest)
{
    uint64_t nr = len >> SHIFT;
    uint64_t done;

    if (!is_valid(model, start, len) || (paddr & 0xfff) != 0 || paddr + (len - 1) < paddr) {
        return T_MPAGES_INVALID;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (entry(model, (start >> SHIFT) + i)->leaf != 0) {
            return T_MPAGES_ALREADY_MAPPED;
        }
    }
    if (largest == 0 || largest > model->largest) {
        largest = model->largest;
    }
    for (done = 0; done < nr;) {
        uint64_t vpn = (start >> SHIFT) + done;
        uint64_t pfn = (paddr >> SHIFT) + done;
        unsigned leaf = best_leaf(largest, vpn, pfn, nr - done);

        for (uint64_t i = 0; i < UINT64_C(1) << (leaf - SHIFT); i++, done++) {
            *entry(model, vpn + i) = (struct t_mpage){
                .paddr = (pfn + i) << SHIFT, .prot = prot, .type = type, .leaf = (uint8_t)leaf};
        }
    }
    return T_MPAGES_OK;
}

/* Of what an operation that sees soft slots, or does not, finds at a page: log2 of the size; 0:
 * nothing. */
static unsigned size_of(const struct t_mpage *page, bool soft)
{
    return (page->leaf & T_MPAGES_SOFT) == 0 ? page->leaf : soft ? page->leaf - T_MPAGES_SOFT : 0;
}

static bool cuts(const struct t_mpages *model, uint64_t vaddr, bool soft)
{
    const struct t_mpage *page = entry(model, vaddr >> SHIFT);
    unsigned size = page != NULL ? size_of(page, soft) : 0;

    return size != 0 && (vaddr & ((UINT64_C(1) << size) - 1)) != 0;
}

bool t_mpages_cuts(const struct t_mpages *model, uint64_t vaddr)
{
    return cuts(model, vaddr, false);
}

/* The next smaller size for what holds `vaddr` in its middle, until nothing does. */
static void split_at(struct t_mpages *model, uint64_t vaddr, bool soft)
{
    while (cuts(model, vaddr, soft)) {
        unsigned leaf = size_of(entry(model, vaddr >> SHIFT), soft);
        uint64_t pages = UINT64_C(1) << (leaf - SHIFT);
        uint64_t first = (vaddr >> SHIFT) / pages * pages;

        for (uint64_t i = 0; i < pages; i++) {
            entry(model, first + i)->leaf = (uint8_t)(entry(model, first + i)->leaf - 9);
        }
    }
}

/* What an operation on mapped pages must answer; splits at the ends when the answer is OK. */
static enum t_mpages_status prepare(struct t_mpages *model, uint64_t start, uint64_t len,
                                    unsigned flags, bool soft)
{
    if (!is_valid(model, start, len)) {
        return T_MPAGES_INVALID;
    }
    for (uint64_t i = 0, nr; i < len >> SHIFT && (flags & T_MPAGES_HOLES) == 0; i += nr) {
        const struct t_mpage *pages;

        nr = (len >> SHIFT) - i;
        pages = entries(model, (start >> SHIFT) + i, &nr);
        for (uint64_t n = 0; n < nr; n++) {
            if (size_of(&pages[n], soft) == 0) {
                return T_MPAGES_NOT_MAPPED;
            }
        }
    }
    if ((flags & T_MPAGES_SPLIT) == 0 &&
        (cuts(model, start, soft) || cuts(model, start + len, soft))) {
        return T_MPAGES_HUGE;
    }
    split_at(model, start, soft);
    split_at(model, start + len, soft);
    return T_MPAGES_OK;
}

enum t_mpages_status t_mpages_unmap(struct t_mpages *model, uint64_t start, uint64_t len,
                                    unsigned flags)
{
    enum t_mpages_status status = prepare(model, start, len, flags, true);

    for (uint64_t i = 0, nr; i < len >> SHIFT && status == T_MPAGES_OK; i += nr) {
        struct t_mpage *pages;

        nr = (len >> SHIFT) - i;
        pages = entries(model, (start >> SHIFT) + i, &nr);
        memset(pages, 0, nr * sizeof(*pages));
    }
    return status;
}

enum t_mpages_status t_mpages_change(struct t_mpages *model, uint64_t start, uint64_t len,
                                     t_mpages_change_fn change, const void *arg, unsigned flags)
{
    enum t_mpages_status status = prepare(model, start, len, flags, false);

    for (uint64_t i = 0, nr; i < len >> SHIFT && status == T_MPAGES_OK; i += nr) {
        struct t_mpage *pages;

        nr = (len >> SHIFT) - i;
        pages = entries(model, (start >> SHIFT) + i, &nr);
        for (uint64_t n = 0; n < nr; n++) {
            if (size_of(&pages[n], false) != 0) {
                change(&pages[n], arg);
            }
        }
    }
    return status;
}

static void change_prot(struct t_mpage *page, const void *arg)
{
    page->prot = *(const uint32_t *)arg;
}

enum t_mpages_status t_mpages_protect(struct t_mpages *model, uint64_t start, uint64_t len,
                                      uint32_t prot, unsigned flags)
{
    return t_mpages_change(model, start, len, change_prot, &prot, flags);
}

static void change_type(struct t_mpage *page, const void *arg)
{
    page->type = *(const uint16_t *)arg;
}

enum t_mpages_status t_mpages_set_type(struct t_mpages *model, uint64_t start, uint64_t len,
                                       uint16_t type, unsigned flags)
{
    return t_mpages_change(model, start, len, change_type, &type, flags);
}

enum t_mpages_status t_mpages_put_soft(struct t_mpages *model, uint64_t start, unsigned size,
                                       uint16_t kind, uint64_t payload)
{
    uint64_t nr = UINT64_C(1) << (size - SHIFT);

    if (!is_valid(model, start, nr << SHIFT) || (start >> SHIFT) % nr != 0) {
        return T_MPAGES_INVALID;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (entry(model, (start >> SHIFT) + i)->leaf != 0) {
            return T_MPAGES_ALREADY_MAPPED;
        }
    }
    for (uint64_t i = 0; i < nr; i++) {
        *entry(model, (start >> SHIFT) + i) = (struct t_mpage){
            .paddr = payload, .type = kind, .leaf = (uint8_t)(size | T_MPAGES_SOFT)};
    }
    return T_MPAGES_OK;
}

/* Whether the pages of one larger leaf, from `vpn` on, are 512 smaller ones that could be it. */
static bool could_be_one(const struct t_mpages *model, uint64_t vpn, unsigned leaf,
                         t_mpages_alike_fn alike)
{
    uint64_t pages = UINT64_C(1) << (leaf - SHIFT);
    const struct t_mpage *first = entry(model, vpn);

    if (first == NULL || (first->paddr & ((UINT64_C(1) << leaf) - 1)) != 0) {
        return false;
    }
    for (uint64_t i = 0; i < pages; i++) {
        const struct t_mpage *page = entry(model, vpn + i);

        if (page == NULL || page->leaf != leaf - 9 || page->type != first->type ||
            page->paddr != first->paddr + (i << SHIFT) || !alike(page, first)) {
            return false;
        }
    }
    return true;
}

uint64_t t_mpages_merge(struct t_mpages *model, uint64_t start, uint64_t len, unsigned largest,
                        t_mpages_alike_fn alike)
{
    uint64_t merged = 0;

    largest = largest == 0 || largest > model->largest ? model->largest : largest;
    for (unsigned leaf = 21; leaf <= largest; leaf += 9) {
        uint64_t pages = UINT64_C(1) << (leaf - SHIFT);
        uint64_t last = ((start + (len - 1)) >> SHIFT) / pages;

        for (uint64_t n = (start >> SHIFT) / pages; n <= last; n++) {
            if (could_be_one(model, n * pages, leaf, alike)) {
                for (uint64_t i = 0; i < pages; i++) {
                    entry(model, n * pages + i)->leaf = (uint8_t)leaf;
                }
                merged++;
            }
        }
    }
    return merged;
}

const struct t_mpage *t_mpages_at(const struct t_mpages *model, uint64_t vaddr)
{
    const struct t_mpage *page = entry(model, vaddr >> SHIFT);

    return page != NULL && size_of(page, false) != 0 ? page : NULL;
}

const struct t_mpage *t_mpages_slot_at(const struct t_mpages *model, uint64_t vaddr)
{
    const struct t_mpage *page = entry(model, vaddr >> SHIFT);

    return page != NULL && page->leaf != 0 ? page : NULL;
}

bool t_mpages_translate(const struct t_mpages *model, uint64_t vaddr, uint64_t *paddr)
{
    const struct t_mpage *page = t_mpages_at(model, vaddr);

    if (page == NULL) {
        return false;
    }
    *paddr = page->paddr + (vaddr & 0xfff);
    return true;
}

uint64_t t_mpages_count(const struct t_mpages *model, unsigned leaf)
{
    uint64_t count = 0;

    for (unsigned w = 0; w < model->nr_windows; w++) {
        for (uint64_t i = 0; i < model->windows[w].nr; i++) {
            const struct t_mpage *page = &model->windows[w].pages[i];

            count += size_of(page, false) != 0 && (leaf == 0 || page->leaf == leaf) ? 1 : 0;
        }
    }
    return count;
}

void t_mpages_tally(const struct t_mpages *model, uint64_t leaves[3], uint64_t soft[3])
{
    uint64_t by_leaf[256] = {0};

    for (unsigned w = 0; w < model->nr_windows; w++) {
        for (uint64_t i = 0; i < model->windows[w].nr; i++) {
            by_leaf[model->windows[w].pages[i].leaf]++;
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        leaves[i] = by_leaf[SHIFT + 9 * i];
        soft[i] = by_leaf[(SHIFT + 9 * i) | T_MPAGES_SOFT];
    }
}

uint64_t t_mpages_count_frame(const struct t_mpages *model, uint64_t paddr)
{
    uint64_t count = 0;

    for (unsigned w = 0; w < model->nr_windows; w++) {
        for (uint64_t i = 0; i < model->windows[w].nr; i++) {
            const struct t_mpage *page = &model->windows[w].pages[i];

            count += size_of(page, false) != 0 && page->paddr == paddr ? 1 : 0;
        }
    }
    return count;
}

uint64_t t_mpages_hash(const struct t_mpages *model)
{
    uint64_t hash = T_HASH_START;

    for (unsigned w = 0; w < model->nr_windows; w++) {
        hash = t_hash_more(hash, model->windows[w].pages,
                           model->windows[w].nr * sizeof(*model->windows[w].pages));
    }
    return t_hash_finish(hash);
}

void t_mpages_copy(struct t_mpages *to, const struct t_mpages *from)
{
    t_mpages_init(to, from->largest);
    for (unsigned w = 0; w < from->nr_windows; w++) {
        const struct t_mpages_window *window = &from->windows[w];

        t_mpages_add_window(to, window->first << SHIFT, window->nr << SHIFT);
        memcpy(to->windows[w].pages, window->pages, window->nr * sizeof(*window->pages));
    }
}
