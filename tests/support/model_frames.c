// SPDX-License-Identifier: MIT
/**
 * The reference model of frames: see the header. Every function is a loop over single frames.
 */
#include "model_frames.h"

#include "hash.h"

#include <stdio.h>
#include <stdlib.h>

static struct t_mframe_span *span_of(const struct t_mframes *model, uint64_t pfn)
{
    for (unsigned i = 0; i < model->nr_spans; i++) {
        if (pfn - model->spans[i].first < model->spans[i].nr) {
            return &model->spans[i];
        }
    }
    return NULL;
}

static void set(struct t_mframes *model, uint64_t first, uint64_t nr, enum t_mframe_state state,
                uint32_t refs)
{
    struct t_mframe_span *span = NULL;

    for (uint64_t pfn = first; pfn < first + nr; pfn++) {
        if (span == NULL || pfn - span->first >= span->nr) {
            span = span_of(model, pfn);
        }
        span->state[pfn - span->first] = (uint8_t)state;
        span->refs[pfn - span->first] = refs;
    }
}

void t_mframes_init(struct t_mframes *model)
{
    *model = (struct t_mframes){0};
}

void t_mframes_destroy(struct t_mframes *model)
{
    for (unsigned i = 0; i < model->nr_spans; i++) {
        free(model->spans[i].state);
        free(model->spans[i].kinds);
        free(model->spans[i].refs);
    }
    free(model->spans);
    t_mframes_init(model);
}

const char *t_mframes_add(struct t_mframes *model, uint64_t first, uint64_t nr,
                          enum t_mframe_state state)
{
    struct t_mframe_span span = {.first = first, .nr = nr};

    if (nr == 0 || first + nr < first) {
        return "an empty span, or one that wraps";
    }
    for (unsigned i = 0; i < model->nr_spans; i++) {
        if (first < model->spans[i].first + model->spans[i].nr &&
            model->spans[i].first < first + nr) {
            return "memory added twice";
        }
    }
    span.state = calloc(nr, sizeof(*span.state));
    span.kinds = calloc(nr, sizeof(*span.kinds));
    span.refs = calloc(nr, sizeof(*span.refs));
    model->spans = realloc(model->spans, (model->nr_spans + 1) * sizeof(span));
    if (span.state == NULL || span.kinds == NULL || span.refs == NULL || model->spans == NULL) {
        fprintf(stderr, "model_frames: out of memory\n");
        abort();
    }
    model->spans[model->nr_spans++] = span;
    set(model, first, nr, state, state == T_MFRAME_USED ? 1 : 0);
    return NULL;
}

void t_mframes_set_kind(struct t_mframes *model, uint64_t first, uint64_t nr, unsigned kind)
{
    for (uint64_t pfn = first; pfn < first + nr; pfn++) {
        struct t_mframe_span *span = span_of(model, pfn);

        span->kinds[pfn - span->first] = (uint8_t)kind;
    }
}

bool t_mframes_of_kinds(const struct t_mframes *model, uint64_t first, uint64_t nr, uint64_t kinds)
{
    for (uint64_t pfn = first; pfn < first + nr; pfn++) {
        const struct t_mframe_span *span = span_of(model, pfn);

        if (span == NULL || (kinds >> span->kinds[pfn - span->first] & 1) == 0) {
            return false;
        }
    }
    return true;
}

enum t_mframe_state t_mframes_state(const struct t_mframes *model, uint64_t pfn)
{
    const struct t_mframe_span *span = span_of(model, pfn);

    return span == NULL ? T_MFRAME_ABSENT : (enum t_mframe_state)span->state[pfn - span->first];
}

uint32_t t_mframes_refs(const struct t_mframes *model, uint64_t pfn)
{
    const struct t_mframe_span *span = span_of(model, pfn);

    return span == NULL ? 0 : span->refs[pfn - span->first];
}

bool t_mframes_all(const struct t_mframes *model, uint64_t first, uint64_t nr,
                   enum t_mframe_state state)
{
    for (uint64_t i = 0; i < nr; i++) {
        if (t_mframes_state(model, first + i) != state) {
            return false;
        }
    }
    return true;
}

const char *t_mframes_reserve(struct t_mframes *model, uint64_t first, uint64_t nr)
{
    if (!t_mframes_all(model, first, nr, T_MFRAME_FREE)) {
        return "reserved: a frame that is not free";
    }
    set(model, first, nr, T_MFRAME_RESERVED, 0);
    return NULL;
}

/* What is wrong with handing out a frame in this state. */
static const char *why_not_alloc(enum t_mframe_state state)
{
    switch (state) {
    case T_MFRAME_FREE:
        return NULL;
    case T_MFRAME_USED:
        return "handed out: a frame that is in use";
    case T_MFRAME_RESERVED:
        return "handed out: a frame that is reserved";
    case T_MFRAME_ABSENT:
        break;
    }
    return "handed out: a frame that does not exist";
}

static const char *why_not_free(enum t_mframe_state state, uint32_t refs)
{
    switch (state) {
    case T_MFRAME_FREE:
        return "freed: a frame that is free";
    case T_MFRAME_USED:
        return refs > 1 ? "freed: a frame that others refer to" : NULL;
    case T_MFRAME_RESERVED:
        return "freed: a frame that is reserved";
    case T_MFRAME_ABSENT:
        break;
    }
    return "freed: a frame that does not exist";
}

const char *t_mframes_alloc_run(struct t_mframes *model, uint64_t first, uint64_t nr)
{
    const char *wrong = nr == 0 ? "handed out: no frame at all" : NULL;

    for (uint64_t i = 0; i < nr && wrong == NULL; i++) {
        wrong = why_not_alloc(t_mframes_state(model, first + i));
    }
    if (wrong == NULL) {
        set(model, first, nr, T_MFRAME_USED, 1);
    }
    return wrong;
}

const char *t_mframes_free_run(struct t_mframes *model, uint64_t first, uint64_t nr)
{
    const char *wrong = nr == 0 ? "freed: no frame at all" : NULL;

    for (uint64_t i = 0; i < nr && wrong == NULL; i++) {
        wrong = why_not_free(t_mframes_state(model, first + i), t_mframes_refs(model, first + i));
    }
    if (wrong == NULL) {
        set(model, first, nr, T_MFRAME_FREE, 0);
    }
    return wrong;
}

const char *t_mframes_alloc(struct t_mframes *model, uint64_t first, unsigned order)
{
    if (first % (UINT64_C(1) << order) != 0) {
        return "handed out: a block that is not aligned to its size";
    }
    return t_mframes_alloc_run(model, first, UINT64_C(1) << order);
}

const char *t_mframes_free(struct t_mframes *model, uint64_t first, unsigned order)
{
    if (first % (UINT64_C(1) << order) != 0) {
        return "freed: a block that is not aligned to its size";
    }
    return t_mframes_free_run(model, first, UINT64_C(1) << order);
}

const char *t_mframes_get(struct t_mframes *model, uint64_t pfn)
{
    uint32_t refs = t_mframes_refs(model, pfn);

    if (t_mframes_state(model, pfn) != T_MFRAME_USED) {
        return "referred to: a frame that is not in use";
    }
    set(model, pfn, 1, T_MFRAME_USED, refs == T_MFRAMES_IMMORTAL ? refs : refs + 1);
    return NULL;
}

const char *t_mframes_put(struct t_mframes *model, uint64_t pfn)
{
    uint32_t refs = t_mframes_refs(model, pfn);

    if (t_mframes_state(model, pfn) != T_MFRAME_USED) {
        return "a reference dropped of a frame that is not in use";
    }
    if (refs == T_MFRAMES_IMMORTAL) {
        return NULL;
    }
    set(model, pfn, 1, refs > 1 ? T_MFRAME_USED : T_MFRAME_FREE, refs > 1 ? refs - 1 : 0);
    return NULL;
}

const char *t_mframes_set_refs(struct t_mframes *model, uint64_t pfn, uint32_t refs)
{
    if (t_mframes_state(model, pfn) != T_MFRAME_USED || refs == 0) {
        return "a count is set for a frame that is not in use";
    }
    set(model, pfn, 1, T_MFRAME_USED, refs);
    return NULL;
}

uint64_t t_mframes_count(const struct t_mframes *model, enum t_mframe_state state)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < model->nr_spans; i++) {
        for (uint64_t n = 0; n < model->spans[i].nr; n++) {
            count += model->spans[i].state[n] == (uint8_t)state ? 1 : 0;
        }
    }
    return count;
}

uint64_t t_mframes_count_blocks(const struct t_mframes *model, unsigned order)
{
    uint64_t size = UINT64_C(1) << order;
    struct t_mframe_search search = {.nr = size, .align = size};
    uint64_t count = 0;
    uint64_t at;

    while ((at = t_mframes_find(model, &search)) != T_MFRAMES_NONE) {
        count++;
        search.low = at + size;
    }
    return count;
}

static bool fits(const struct t_mframes *model, const struct t_mframe_search *search, uint64_t pfn)
{
    uint64_t last = pfn + search->nr - 1;

    return pfn >= search->low && last >= pfn && (search->limit == 0 || last < search->limit) &&
           (search->align == 0 || pfn % search->align == 0) &&
           (search->boundary == 0 || pfn / search->boundary == last / search->boundary) &&
           t_mframes_all(model, pfn, search->nr, T_MFRAME_FREE) &&
           (search->kinds == 0 || t_mframes_of_kinds(model, pfn, search->nr, search->kinds));
}

/* The lowest place in one span, frame by frame: how many that will do stand before this one. */
static uint64_t find_within(const struct t_mframe_span *span, const struct t_mframe_search *search)
{
    uint64_t in_row = 0;

    for (uint64_t n = 0; n < span->nr; n++) {
        uint64_t pfn = span->first + n;
        bool good = span->state[n] == T_MFRAME_FREE && pfn >= search->low &&
                    (search->limit == 0 || pfn < search->limit) &&
                    (search->kinds == 0 || (search->kinds >> span->kinds[n] & 1) != 0);

        in_row = good ? in_row + 1 : 0;
        if (in_row >= search->nr) {
            uint64_t first = pfn - (search->nr - 1);

            if ((search->align == 0 || first % search->align == 0) &&
                (search->boundary == 0 || first / search->boundary == pfn / search->boundary)) {
                return first;
            }
        }
    }
    return T_MFRAMES_NONE;
}

uint64_t t_mframes_find(const struct t_mframes *model, const struct t_mframe_search *search)
{
    uint64_t best = T_MFRAMES_NONE;

    for (unsigned i = 0; i < model->nr_spans && search->nr != 0; i++) {
        const struct t_mframe_span *span = &model->spans[i];

        if (search->within) {
            uint64_t found = find_within(span, search);

            best = found < best ? found : best;
            continue;
        }
        for (uint64_t n = 0; n < span->nr && span->first + n < best; n++) {
            if (span->state[n] == T_MFRAME_FREE && fits(model, search, span->first + n)) {
                best = span->first + n;
            }
        }
    }
    return best;
}

uint64_t t_mframes_hash(const struct t_mframes *model)
{
    uint64_t hash = T_HASH_START;

    for (unsigned i = 0; i < model->nr_spans; i++) {
        const struct t_mframe_span *span = &model->spans[i];

        hash = t_hash_more(hash, span->state, span->nr * sizeof(*span->state));
        hash = t_hash_more(hash, span->refs, span->nr * sizeof(*span->refs));
    }
    return t_hash_finish(hash);
}
