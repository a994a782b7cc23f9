// SPDX-License-Identifier: MIT
/**
 * The reader of tests/data. See the header.
 */
#define _GNU_SOURCE
#include "e820_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef MM_TEST_DATA_DIR
#error "the build must define MM_TEST_DATA_DIR as the path of tests/data"
#endif

static _Noreturn void die(const char *name, const char *what)
{
    fprintf(stderr, "%s/%s: %s\n", MM_TEST_DATA_DIR, name, what);
    exit(EXIT_FAILURE);
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

void t_e820_list(struct t_e820_files *files)
{
    DIR *dir = opendir(MM_TEST_DATA_DIR "/e820");
    const struct dirent *found;

    files->nr = 0;
    if (dir == NULL) {
        die("e820", strerror(errno));
    }
    while ((found = readdir(dir)) != NULL) {
        size_t len = strlen(found->d_name);

        if (len < 6 || strcmp(found->d_name + len - 5, ".e820") != 0) {
            continue;
        }
        if (files->nr == T_E820_FILES_MAX || len + 6 > sizeof(files->name[0])) {
            die(found->d_name, "more files, or a longer name, than there is room for");
        }
        memcpy(files->name[files->nr], "e820/", 5);
        memcpy(files->name[files->nr] + 5, found->d_name, len + 1);
        files->nr++;
    }
    (void)closedir(dir);
    if (files->nr == 0) {
        die("e820", "no map here");
    }
    qsort(files->name, files->nr, sizeof(files->name[0]), compare);
}

/* Exactly 16 hexadecimal digits. */
static bool parse_hex(const char *text, uint64_t *value)
{
    static const char digits[] = "0123456789abcdef";

    *value = 0;
    for (int i = 0; i < 16; i++) {
        const char *digit = text[i] == '\0' ? NULL : strchr(digits, text[i]);

        if (digit == NULL) {
            return false;
        }
        *value = *value << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

int t_e820_parse(const char *line, struct t_memory *entry)
{
    size_t len = strcspn(line, "\r\n");
    uint64_t last;

    if (len == 0 || line[0] == '#') {
        return 0;
    }
    memset(entry, 0, sizeof(*entry));
    if (len < 35 || !parse_hex(line, &entry->start) || line[16] != '-' ||
        !parse_hex(line + 17, &last) || line[33] != ' ' || len - 34 >= sizeof(entry->type) ||
        last < entry->start || last - entry->start == UINT64_MAX) {
        return -1;
    }
    entry->len = last - entry->start + 1;
    memcpy(entry->type, line + 34, len - 34);
    entry->usable = strcmp(entry->type, "usable") == 0 || strcmp(entry->type, "System RAM") == 0;
    return 1;
}

void t_e820_read(const char *name, struct t_e820_map *map)
{
    size_t len;
    char *text = t_data_read(name, &len);
    char *rest = text;
    char *line;

    map->nr = 0;
    while ((line = strsep(&rest, "\n")) != NULL) {
        struct t_memory entry;
        int what = t_e820_parse(line, &entry);

        if (what < 0) {
            die(name, line);
        }
        if (what > 0 && map->nr == T_E820_ENTRIES_MAX) {
            die(name, "more entries than there is room for");
        }
        if (what > 0) {
            map->entries[map->nr++] = entry;
        }
    }
    if (map->nr == 0) {
        die(name, "no entry");
    }
    free(text);
}

void *t_data_read(const char *name, size_t *len)
{
    char path[512];
    FILE *file;
    long size;
    char *bytes;

    (void)snprintf(path, sizeof(path), "%s/%s", MM_TEST_DATA_DIR, name);
    file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0 ||
        fseek(file, 0, SEEK_SET) != 0) {
        die(name, strerror(errno));
    }
    bytes = malloc((size_t)size + 1);
    if (bytes == NULL || fread(bytes, 1, (size_t)size, file) != (size_t)size) {
        die(name, "cannot be read");
    }
    (void)fclose(file);
    bytes[size] = '\0'; /* text may be read as a string */
    *len = (size_t)size;
    return bytes;
}
