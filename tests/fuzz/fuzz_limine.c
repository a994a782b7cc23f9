// SPDX-License-Identifier: MIT
/**
 * The memory map of Limine, of any entries and any pointers to them.
 *
 * Input: a byte of choices (1: little room in the map), the number of pointers, a byte for each of
 * them (0: null; else the entry that it points to, wherever that begins), then the entries.
 */
#include "fuzz_firmware.h"

#include <mm/boot/limine.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

static const uint8_t *pointer_at(const void *ctx, size_t i)
{
    const uint8_t *const *pointers = ctx;

    return pointers[i];
}

/* The first null pointer of all, or how many there are. */
static size_t first_null(const uint8_t **pointers, size_t nr)
{
    for (size_t i = 0; i < nr; i++) {
        if (pointers[i] == NULL) {
            return i;
        }
    }
    return nr;
}

static void read_it(const uint8_t **pointers, size_t nr, unsigned how)
{
    size_t null = first_null(pointers, nr);
    mm_status_t status;

    fz_map_begin((how & 1) != 0);
    fz_op("read");
    status = mm_limine_read_map(&fz_map.map, pointers, nr, &fz_map.report, &fz_map.error);
    if (status == MM_OK) {
        FZ_TRUE(nr != 0 && null == nr);
        fz_map_same(nr, t_fw_limine, pointer_at, pointers);
        return;
    }
    FZ_TRUE((status == MM_ERR_INVALID_SIZE && nr == 0) ||
            (status == MM_ERR_CORRUPTED && null < nr) ||
            (status == MM_ERR_LIMIT && (how & 1) != 0 && nr > 4));
    fz_map_refused(status, null);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t places[255];
    const uint8_t **pointers;
    unsigned how;
    uint8_t *copy;
    size_t nr;
    size_t len;

    fz_begin(data, size);
    how = fz_u8();
    nr = fz_u8();
    for (size_t i = 0; i < nr; i++) {
        places[i] = (uint8_t)fz_u8();
    }
    copy = fz_rest(&len);
    if (len < 24) {
        copy = realloc(copy, 24); /* one entry at least */
        FZ_TRUE(copy != NULL);
        memset(copy + len, 0, 24 - len);
        len = 24;
    }
    pointers = malloc(nr * sizeof(*pointers) + (nr == 0)); /* of its exact size, too */
    FZ_TRUE(pointers != NULL);
    for (size_t i = 0; i < nr; i++) {
        size_t at = places[i] == 0 ? 0 : (size_t)(places[i] - 1) * 8;

        pointers[i] = places[i] == 0 ? NULL : copy + (at > len - 24 ? len - 24 : at);
    }
    read_it(pointers, nr, how);
    free(pointers);
    free(copy);
    return 0;
}
