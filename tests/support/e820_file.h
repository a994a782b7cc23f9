// SPDX-License-Identifier: MIT
/**
 * Reads the memory maps of real machines in tests/data/e820 (its README tells the format).
 * The build defines MM_TEST_DATA_DIR, the directory that holds e820/ and acpi/.
 */
#ifndef T_E820_FILE_H
#define T_E820_FILE_H

#include "model_bootmap.h"

#define T_E820_FILES_MAX   256
#define T_E820_ENTRIES_MAX 512

struct t_e820_files {
    char name[T_E820_FILES_MAX][64]; /**< "e820/NAME.e820", below MM_TEST_DATA_DIR */
    size_t nr;
};

struct t_e820_map {
    struct t_memory entries[T_E820_ENTRIES_MAX];
    size_t nr;
};

/** All maps, sorted by name; the process ends when there is none. */
void t_e820_list(struct t_e820_files *files);

/** Read one map by a name of the list; the process ends, with file and line, on what it cannot
 * read. */
void t_e820_read(const char *name, struct t_e820_map *map);

/** Parse one line: 1 an entry, 0 a comment or empty line, -1 malformed. */
int t_e820_parse(const char *line, struct t_memory *entry);

/**
 * Read any file of the data directory into malloc()ed memory, such as "acpi/NAME.dat"; the process
 * ends when it cannot. The caller frees it.
 */
void *t_data_read(const char *name, size_t *len);

#endif
