// SPDX-License-Identifier: MIT
/**
 * The oracle of the boot map: see the header. Ends are kept as last bytes, which always fit.
 */
#include "model_bootmap.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t last_of(const struct t_memory *entry)
{
    return entry->len - 1 > UINT64_MAX - entry->start ? UINT64_MAX : entry->start + entry->len - 1;
}

bool t_mboot_byte_is_usable(const struct t_memory *entries, size_t nr, uint64_t byte)
{
    bool covered = false;

    for (size_t i = 0; i < nr; i++) {
        if (entries[i].len == 0 || byte < entries[i].start || byte > last_of(&entries[i])) {
            continue;
        }
        if (!entries[i].usable) {
            return false;
        }
        covered = true;
    }
    return covered;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Append the whole frames of the usable bytes [start, last]. */
static void append(struct t_mboot *model, uint64_t start, uint64_t last, uint64_t frame)
{
    uint64_t first = start / frame + (start % frame != 0 ? 1 : 0);
    uint64_t after = last / frame + (last % frame == frame - 1 ? 1 : 0);

    if (frame == 1 && last == UINT64_MAX) {
        after = last; /* a run of bytes cannot say 2^64: it loses the last one */
    }
    if (first < after) {
        model->runs[model->nr++] = (struct t_mboot_run){first, after - first};
    }
}

static void *allocate(size_t nr, size_t size)
{
    void *p = calloc(nr, size);

    if (p == NULL) {
        fprintf(stderr, "model_bootmap: out of memory\n");
        abort();
    }
    return p;
}

void t_mboot_init(struct t_mboot *model, const struct t_memory *entries, size_t nr, uint64_t limit,
                  uint64_t frame)
{
    uint64_t top = limit == 0 ? UINT64_MAX : limit - 1;
    uint64_t *cuts = allocate(2 * nr + 1, sizeof(*cuts)); /* where a piece begins */
    size_t nr_cuts = 0;
    uint64_t start = 0;
    bool open = false; /* usable bytes since `start` are not appended yet */

    model->runs = allocate(2 * nr + 1, sizeof(*model->runs));
    model->nr = 0;
    cuts[nr_cuts++] = 0;
    for (size_t i = 0; i < nr; i++) {
        if (entries[i].len != 0) {
            cuts[nr_cuts++] = entries[i].start;
            if (last_of(&entries[i]) != UINT64_MAX) {
                cuts[nr_cuts++] = last_of(&entries[i]) + 1;
            }
        }
    }
    qsort(cuts, nr_cuts, sizeof(*cuts), compare);
    for (size_t i = 0; i < nr_cuts && cuts[i] <= top; i++) {
        bool usable;

        if (i > 0 && cuts[i] == cuts[i - 1]) {
            continue;
        }
        usable = t_mboot_byte_is_usable(entries, nr, cuts[i]);
        if (usable && !open) {
            start = cuts[i];
        }
        if (!usable && open) {
            append(model, start, cuts[i] - 1, frame);
        }
        open = usable;
    }
    if (open) {
        append(model, start, top, frame);
    }
    free(cuts);
}

void t_mboot_destroy(struct t_mboot *model)
{
    free(model->runs);
    *model = (struct t_mboot){0};
}

uint64_t t_mboot_count(const struct t_mboot *model)
{
    uint64_t count = 0;

    for (size_t i = 0; i < model->nr; i++) {
        count += model->runs[i].nr;
    }
    return count;
}

bool t_mboot_covers(const struct t_mboot *model, uint64_t first, uint64_t nr)
{
    for (size_t i = 0; i < model->nr; i++) {
        const struct t_mboot_run *run = &model->runs[i];

        if (first >= run->first && first - run->first <= run->nr &&
            nr <= run->nr - (first - run->first)) {
            return true;
        }
    }
    return nr == 0;
}

struct t_mboot_run t_mboot_largest(const struct t_mboot *model)
{
    struct t_mboot_run best = {0};

    for (size_t i = 0; i < model->nr; i++) {
        best = model->runs[i].nr > best.nr ? model->runs[i] : best;
    }
    return best;
}
