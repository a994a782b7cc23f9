// SPDX-License-Identifier: MIT
/**
 * An SRAT of any bytes. The reader may refuse it, and then nothing has changed; what it accepts is
 * read a second time by tests/support/model_numa.h, and every answer must be the same. It lies in a
 * buffer of its exact size, so that the address sanitizer sees every byte too far.
 *
 * Input: a byte of choices (1: signature, length and checksum are made right; 2: little room in the
 * arrays), then the table.
 */
#include "fuzz.h"

#include "model_numa.h"

#include <mm/numa.h>

#define RANGES   1024u
#define CPUS     1024u
#define LITTLE   4u
#define MAX_DATA 8192u

static struct mm_numa_range ranges[RANGES];
static struct mm_numa_cpu cpus[CPUS];
static struct t_mnuma model;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

static void make_right(uint8_t *bytes, size_t len)
{
    uint8_t sum = 0;

    memcpy(bytes, "SRAT", 4);
    for (unsigned i = 0; i < 4; i++) {
        bytes[4 + i] = (uint8_t)(len >> (8 * i));
    }
    bytes[9] = 0;
    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + bytes[i]);
    }
    bytes[9] = (uint8_t)(0 - sum);
}

static void read_it(const uint8_t *bytes, size_t len, bool little)
{
    struct mm_numa_error error = {77, 77, NULL};
    struct mm_numa numa = {0};
    struct mm_numa before;
    mm_status_t status;
    bool good;

    FZ_EQUAL(mm_numa_init(&numa, ranges, little ? LITTLE : RANGES, cpus, little ? LITTLE : CPUS),
             MM_OK);
    before = numa;
    fz_op("read");
    status = mm_numa_read_srat(&numa, bytes, len, &error);
    good = t_mnuma_srat(&model, bytes, len);
    if (status == MM_OK) {
        FZ_TRUE(good);
        FZ_LEGAL(t_mnuma_compare(&model, &numa));
        FZ_TRUE(numa.nr_ranges <= MM_NUMA_CAPACITY(model.nr_memory));
        return;
    }
    FZ_EQUAL(memcmp(&numa, &before, sizeof(numa)), 0);
    FZ_EQUAL(status == MM_ERR_INVALID_SIZE, len < 48);
    FZ_EQUAL(good, status == MM_ERR_LIMIT);
    if (status == MM_ERR_LIMIT) {
        FZ_TRUE(model.nr_domains > MM_MAX_NODES ||
                (little && (model.nr_cpus > LITTLE || model.nr_memory > LITTLE / 2)));
    }
    if (status == MM_ERR_INVALID_SIZE) {
        FZ_EQUAL(error.offset, 77);
    } else {
        FZ_TRUE(error.what != NULL && error.what[0] != 0 && error.offset < len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned how;
    uint8_t *copy;
    size_t len;

    fz_begin(data, size);
    how = fz_u8();
    len = fz.left > MAX_DATA ? MAX_DATA : fz.left;
    copy = malloc(len == 0 ? 1 : len);
    FZ_TRUE(copy != NULL);
    memcpy(copy, fz.at, len);
    if ((how & 1) != 0 && len >= 48) {
        make_right(copy, len);
    }
    read_it(copy, len, (how & 2) != 0);
    free(copy);
    return 0;
}
