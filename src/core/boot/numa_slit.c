// SPDX-License-Identifier: MIT
/**
 * Reading the SLIT into a topology. References are to the ACPI Specification 6.5, 5.2.17: a matrix
 * of bytes, with a row and a column for each proximity domain from 0 on.
 *
 *     header | number of rows | row 0 | row 1 | ...
 *     0        36               44
 *
 * Domains that are no nodes have rows as well: whatever those hold is not looked at.
 */
#include "core/boot/numa.h"

/* Table "SLIT Format". */
#define SLIT_ROWS   36u
#define SLIT_MATRIX 44u
/* More rows make a matrix that no table's length can tell. */
#define SLIT_ROWS_MAX 0xffffu

/* Where the table tells the distance between two nodes; 0: it does not. */
static uint32_t cell_of(const struct mm_numa *numa, uint32_t rows, uint32_t from, uint32_t to)
{
    uint32_t row = numa->domains[from];
    uint32_t column = numa->domains[to];

    return row < rows && column < rows ? SLIT_MATRIX + row * rows + column : 0;
}

/* 5.2.17: the diagonal is 10; 0 to 9 have no meaning. */
static const char *check_matrix(const struct mm_numa *numa, const struct mmi_numa_table *t,
                                uint32_t rows, uint32_t *at)
{
    for (uint32_t from = 0; from < numa->nr_nodes; from++) {
        for (uint32_t to = 0; to < numa->nr_nodes; to++) {
            *at = cell_of(numa, rows, from, to);
            if (*at != 0 && from == to && t->data[*at] != MM_NUMA_LOCAL) {
                return "a node's distance to itself is not 10";
            }
            if (*at != 0 && t->data[*at] < MM_NUMA_LOCAL) {
                return "a distance is below 10";
            }
        }
    }
    return NULL;
}

static void take_matrix(struct mm_numa *numa, const struct mmi_numa_table *t, uint32_t rows)
{
    uint32_t used = 0;

    for (uint32_t from = 0; from < numa->nr_nodes; from++) {
        used += numa->domains[from] < rows;
        for (uint32_t to = 0; to < numa->nr_nodes; to++) {
            uint32_t at = cell_of(numa, rows, from, to);

            numa->distances[from][to] = at != 0 ? t->data[at] : mmi_numa_far(from, to);
        }
    }
    numa->nr_localities = rows;
    numa->nr_localities_ignored = rows - used;
    numa->has_slit = 1;
}

mm_status_t mm_numa_read_slit(struct mm_numa *numa, const void *data, size_t len,
                              struct mm_numa_error *error)
{
    struct mmi_numa_table t = {.data = data};
    mm_status_t status = mmi_numa_check(numa);
    const char *wrong;
    uint64_t rows = 0;
    uint32_t at;

    if (status != MM_OK || data == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    if (numa->has_srat == 0) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (numa->has_slit != 0) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (len < SLIT_MATRIX) {
        return MM_ERR_INVALID_SIZE;
    }
    wrong = mmi_numa_check_table(&t, "SLIT", len, SLIT_MATRIX, &at);
    if (wrong == NULL) {
        at = SLIT_ROWS;
        rows = mmi_get64(t.data + SLIT_ROWS);
        if (rows > SLIT_ROWS_MAX || rows * rows > t.len - SLIT_MATRIX) {
            wrong = "the matrix runs past the end of the table";
        } else {
            wrong = check_matrix(numa, &t, (uint32_t)rows, &at);
        }
    }
    if (wrong != NULL) {
        mmi_numa_tell(error, MMI_NUMA_NO_ENTRY, at, wrong);
        return MM_ERR_CORRUPTED;
    }
    take_matrix(numa, &t, (uint32_t)rows);
    return MM_OK;
}
