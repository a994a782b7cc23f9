// SPDX-License-Identifier: MIT
/**
 * The memory map of UEFI, of any bytes.
 *
 * Input: a byte of choices (1: little room in the map; 2: the last part of a descriptor is left
 * off; 4: another version), the size of a descriptor, then the descriptors.
 */
#include "fuzz_firmware.h"

#include <mm/boot/uefi.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

static void read_it(const uint8_t *data, size_t len, size_t size, unsigned how)
{
    struct fz_array array = {data, size};
    mm_status_t status;

    fz_map_begin((how & 1) != 0);
    fz_op("read");
    status = mm_uefi_read_map(&fz_map.map, data, len, size, (how & 4) != 0 ? 2 : 1, &fz_map.report,
                              &fz_map.error);
    if (status == MM_OK) {
        FZ_TRUE((how & 4) == 0 && len != 0 && size >= 40 && len % size == 0);
        fz_map_same(len / size, t_fw_uefi, fz_array_at, &array);
        return;
    }
    FZ_TRUE((status == MM_ERR_UNSUPPORTED && (how & 4) != 0) ||
            (status == MM_ERR_INVALID_SIZE && (len == 0 || size < 40)) ||
            (status == MM_ERR_CORRUPTED && size >= 40 && len % size != 0) ||
            (status == MM_ERR_LIMIT && (how & 1) != 0 && len / size > 4));
    fz_map_refused(status, size != 0 ? len / size : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned how;
    size_t descriptor;
    uint8_t *copy;
    size_t len;

    fz_begin(data, size);
    how = fz_u8() & 7;
    descriptor = fz_u8();
    if ((how & 2) != 0 && descriptor >= 40 && fz.left <= FZ_MAX) {
        fz.left -= fz.left % descriptor;
    }
    copy = fz_rest(&len);
    read_it(copy, len, descriptor, how);
    free(copy);
    return 0;
}
