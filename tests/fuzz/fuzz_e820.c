// SPDX-License-Identifier: MIT
/**
 * The memory map of a PC BIOS, of any bytes.
 *
 * Input: a byte of choices (1: little room in the map; 2: the last part of an entry is left off; 4:
 * extended attributes; 8: an unknown flag), the size of an entry, then the entries.
 */
#include "fuzz_firmware.h"

#include <mm/boot/e820.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

static void read_it(const uint8_t *data, size_t len, size_t size, unsigned how)
{
    struct fz_array array = {data, size};
    size_t least = (how & 4) != 0 ? 24 : 20;
    uint32_t flags = ((how & 4) != 0 ? MM_E820_ATTRIBUTES : 0) | ((how & 8) != 0 ? 2 : 0);
    mm_status_t status;

    fz_map_begin((how & 1) != 0);
    fz_op("read");
    status = mm_e820_read_map(&fz_map.map, data, len, size, flags, &fz_map.report, &fz_map.error);
    if (status == MM_OK) {
        FZ_TRUE((how & 8) == 0 && len != 0 && size >= least && len % size == 0);
        fz_map_same(len / size, (how & 4) != 0 ? t_fw_e820_attributes : t_fw_e820, fz_array_at,
                    &array);
        return;
    }
    FZ_TRUE((status == MM_ERR_INVALID_FLAGS && (how & 8) != 0) ||
            (status == MM_ERR_INVALID_SIZE && (len == 0 || size < least)) ||
            (status == MM_ERR_CORRUPTED && size >= least && len % size != 0) ||
            (status == MM_ERR_LIMIT && (how & 1) != 0 && len / size > 4));
    fz_map_refused(status, size != 0 ? len / size : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned how;
    size_t entry;
    uint8_t *copy;
    size_t len;

    fz_begin(data, size);
    how = fz_u8() & 15;
    entry = fz_u8();
    if ((how & 2) != 0 && entry >= 20 && fz.left <= FZ_MAX) {
        fz.left -= fz.left % entry;
    }
    copy = fz_rest(&len);
    read_it(copy, len, entry, how);
    free(copy);
    return 0;
}
