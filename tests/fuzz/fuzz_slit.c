// SPDX-License-Identifier: MIT
/**
 * A SLIT of any bytes, after an SRAT of a few domains. The reader may refuse it, and then nothing has
 * changed; what it accepts is read a second time by tests/support/model_numa.h, and every distance
 * must be the same. It lies in a buffer of its exact size, so that the address sanitizer sees every
 * byte too far.
 *
 * Input: a byte of choices (1: signature, length and checksum are made right), a byte that says how
 * many domains there are, one for each of them, then the table.
 */
#include "fuzz.h"

#include "model_numa.h"

#include <mm/numa.h>

#define NODES    8u
#define MAX_DATA 8192u

static struct mm_numa_range ranges[1];
static struct mm_numa_cpu cpus[NODES];
static struct t_mnuma model;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

static void make_right(uint8_t *bytes, size_t len, const char *signature)
{
    uint8_t sum = 0;

    memcpy(bytes, signature, 4);
    for (unsigned i = 0; i < 4; i++) {
        bytes[4 + i] = (uint8_t)(len >> (8 * i));
    }
    bytes[9] = 0;
    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + bytes[i]);
    }
    bytes[9] = (uint8_t)(0 - sum);
}

/* A processor on each domain that the input names. */
static void read_srat(struct mm_numa *numa)
{
    uint8_t srat[48 + 16 * NODES] = {0};
    size_t nr = fz_below(NODES + 1);

    srat[8] = 3;
    for (size_t i = 0; i < nr; i++) {
        uint8_t *entry = srat + 48 + 16 * i;

        entry[1] = 16;
        entry[2] = (uint8_t)fz_u8();
        entry[3] = (uint8_t)i;
        entry[4] = 1;
    }
    make_right(srat, 48 + 16 * nr, "SRAT");
    FZ_EQUAL(mm_numa_init(numa, ranges, 1, cpus, NODES), MM_OK);
    FZ_EQUAL(mm_numa_read_srat(numa, srat, 48 + 16 * nr, NULL), MM_OK);
    FZ_TRUE(t_mnuma_srat(&model, srat, 48 + 16 * nr));
    FZ_LEGAL(t_mnuma_compare(&model, numa));
}

static void read_it(struct mm_numa *numa, const uint8_t *bytes, size_t len)
{
    struct mm_numa_error error = {77, 77, NULL};
    struct mm_numa before = *numa;
    mm_status_t status;
    bool good;

    fz_op("read");
    status = mm_numa_read_slit(numa, bytes, len, &error);
    good = t_mnuma_slit(&model, bytes, len);
    FZ_EQUAL(good, status == MM_OK);
    if (status == MM_OK) {
        FZ_LEGAL(t_mnuma_compare(&model, numa));
        FZ_EQUAL(numa->nr_localities, model.rows);
        return;
    }
    FZ_EQUAL(memcmp(numa, &before, sizeof(before)), 0);
    FZ_EQUAL(status == MM_ERR_INVALID_SIZE, len < 44);
    if (status == MM_ERR_CORRUPTED) {
        FZ_TRUE(error.what != NULL && error.what[0] != 0 && error.offset < len);
    } else {
        FZ_EQUAL(status, MM_ERR_INVALID_SIZE);
        FZ_EQUAL(error.offset, 77);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mm_numa numa = {0};
    unsigned how;
    uint8_t *copy;
    size_t len;

    fz_begin(data, size);
    how = fz_u8();
    read_srat(&numa);
    len = fz.left > MAX_DATA ? MAX_DATA : fz.left;
    copy = malloc(len == 0 ? 1 : len);
    FZ_TRUE(copy != NULL);
    memcpy(copy, fz.at, len);
    if ((how & 1) != 0 && len >= 44) {
        make_right(copy, len, "SLIT");
    }
    read_it(&numa, copy, len);
    free(copy);
    return 0;
}
