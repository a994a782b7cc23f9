// SPDX-License-Identifier: MIT
/**
 * The reference model of a heap: see the header.
 */
#include "model_heap.h"

#include "hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void t_mheap_init(struct t_mheap *model, uint64_t low, uint64_t limit)
{
    *model = (struct t_mheap){.low = low, .limit = limit == 0 ? UINT64_MAX : limit};
}

void t_mheap_destroy(struct t_mheap *model)
{
    free(model->blocks);
    t_mheap_init(model, 0, 0);
}

/* Eight bytes of block `id` follow from the eight before: each is 37 more, without a carry. So every
 * byte differs from its neighbours, and from the same byte of other blocks. */
static uint64_t next_pattern(uint64_t word)
{
    const uint64_t low = UINT64_C(0x7f7f7f7f7f7f7f7f);
    const uint64_t step = UINT64_C(0x2525252525252525);

    return ((word & low) + step) ^ (word & ~low);
}

static void fill(uint8_t *bytes, uint64_t size, uint64_t id)
{
    uint64_t word = t_hash_finish(id);

    for (; size >= 8; size -= 8) {
        memcpy(bytes, &word, 8);
        word = next_pattern(word);
        bytes += 8;
    }
    memcpy(bytes, &word, size);
}

static bool holds(const uint8_t *bytes, uint64_t size, uint64_t id)
{
    uint64_t word = t_hash_finish(id);

    for (; size >= 8; size -= 8) {
        uint64_t seen;

        memcpy(&seen, bytes, 8);
        if (seen != word) {
            return false;
        }
        word = next_pattern(word);
        bytes += 8;
    }
    return memcmp(bytes, &word, size) == 0;
}

static const void *memory(const struct t_mheap_block *block)
{
    return (const void *)(uintptr_t)block->address;
}

/* The first block that begins at or after `address`. */
static size_t position(const struct t_mheap *model, uint64_t address)
{
    size_t low = 0;
    size_t high = model->nr;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (model->blocks[middle].address < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const char *why_not_place(const struct t_mheap *model, uint64_t address, uint64_t size,
                                 uint64_t align)
{
    size_t at = position(model, address);
    const struct t_mheap_block *blocks = model->blocks;

    if (address == 0) {
        return "handed out: a null pointer";
    }
    if (align != 0 && address % align != 0) {
        return "handed out: a block that is not aligned";
    }
    if (address < model->low || address >= model->limit || size > model->limit - address) {
        return "handed out: a block outside of the heap";
    }
    if ((at < model->nr && blocks[at].address - address < size) ||
        (at > 0 && address - blocks[at - 1].address < blocks[at - 1].size)) {
        return "handed out: a block that overlaps a live one";
    }
    return NULL;
}

const char *t_mheap_add(struct t_mheap *model, void *block, uint64_t size, uint64_t align)
{
    uint64_t address = (uint64_t)(uintptr_t)block;
    const char *wrong;
    size_t at;

    size = size == 0 ? 1 : size;
    wrong = why_not_place(model, address, size, align);
    if (wrong != NULL) {
        return wrong;
    }
    if (model->nr == model->max) {
        model->max = 2 * model->max + 64;
        model->blocks = realloc(model->blocks, model->max * sizeof(*model->blocks));
        if (model->blocks == NULL) {
            fprintf(stderr, "model_heap: out of memory\n");
            abort();
        }
    }
    at = position(model, address);
    memmove(&model->blocks[at + 1], &model->blocks[at], (model->nr - at) * sizeof(*model->blocks));
    model->blocks[at] = (struct t_mheap_block){address, size, ++model->next_id, 0};
    model->nr++;
    model->bytes += size;
    fill(block, size, model->next_id);
    return NULL;
}

const char *t_mheap_zeroed(const void *block, uint64_t size)
{
    const uint8_t *bytes = block;

    for (uint64_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return "handed out as zeroed: a block that is not";
        }
    }
    return NULL;
}

const struct t_mheap_block *t_mheap_find(const struct t_mheap *model, const void *block)
{
    size_t at = position(model, (uint64_t)(uintptr_t)block);

    if (at == model->nr || model->blocks[at].address != (uint64_t)(uintptr_t)block) {
        return NULL;
    }
    return &model->blocks[at];
}

static void forget(struct t_mheap *model, const struct t_mheap_block *block)
{
    size_t at = (size_t)(block - model->blocks);

    model->bytes -= block->size;
    model->nr--;
    memmove(&model->blocks[at], &model->blocks[at + 1], (model->nr - at) * sizeof(*model->blocks));
}

const char *t_mheap_verify(const struct t_mheap *model, const void *block)
{
    const struct t_mheap_block *found = t_mheap_find(model, block);

    if (found == NULL) {
        return "no live block begins here";
    }
    return holds(block, found->size, found->id) ? NULL : "a live block was overwritten";
}

const char *t_mheap_remove(struct t_mheap *model, const void *block)
{
    const char *wrong = t_mheap_verify(model, block);

    if (wrong == NULL) {
        forget(model, t_mheap_find(model, block));
    }
    return wrong;
}

const char *t_mheap_resize(struct t_mheap *model, const void *before, void *after, uint64_t size,
                           uint64_t align)
{
    const struct t_mheap_block *found = t_mheap_find(model, before);
    struct t_mheap_block old;
    const char *wrong;

    if (found == NULL) {
        return "no live block begins here";
    }
    old = *found;
    forget(model, found);
    wrong = why_not_place(model, (uint64_t)(uintptr_t)after, size == 0 ? 1 : size, align);
    if (wrong == NULL && !holds(after, old.size < size ? old.size : size, old.id)) {
        wrong = "resized: the contents did not come along";
    }
    wrong = wrong != NULL ? wrong : t_mheap_add(model, after, size, align);
    return wrong != NULL ? wrong : t_mheap_tag(model, after, old.tag);
}

const char *t_mheap_tag(struct t_mheap *model, const void *block, uint64_t tag)
{
    size_t at = position(model, (uint64_t)(uintptr_t)block);

    if (t_mheap_find(model, block) == NULL) {
        return "no live block begins here";
    }
    model->blocks[at].tag = tag;
    return NULL;
}

const char *t_mheap_verify_all(const struct t_mheap *model)
{
    for (size_t i = 0; i < model->nr; i++) {
        if (!holds(memory(&model->blocks[i]), model->blocks[i].size, model->blocks[i].id)) {
            return "a live block was overwritten";
        }
    }
    return NULL;
}
