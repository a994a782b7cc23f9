// SPDX-License-Identifier: MIT
/**
 * A fuzz target without libFuzzer: each file that is named, or lies in a directory that is named, is
 * one input. So the corpus is a test of every build. The name of the file is printed when one fails.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>

static char current[4096];

static void die(const char *what, const char *path)
{
    fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
    exit(2);
}

/* To the standard error, as the process ends by abort(). */
static void name_input(int signal)
{
    (void)signal;
    fprintf(stderr, "input: %s\n", current);
}

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    size_t size;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        die("cannot read", path);
    }
    size = (size_t)ftell(file);
    rewind(file);
    data = malloc(size + 1);
    if (data == NULL || fread(data, 1, size, file) != size) {
        die("cannot read", path);
    }
    fclose(file);
    snprintf(current, sizeof(current), "%s", path);
    signal(SIGABRT, name_input);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
}

static unsigned run_directory(DIR *directory, const char *path)
{
    const struct dirent *entry;
    unsigned nr = 0;

    while ((entry = readdir(directory)) != NULL) {
        char file[2048];

        if (entry->d_name[0] != '.') {
            snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
            run_file(file);
            nr++;
        }
    }
    closedir(directory);
    return nr;
}

int main(int argc, char **argv)
{
    unsigned nr = 0;

    (void)LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);

        if (directory != NULL) {
            nr += run_directory(directory, argv[i]);
        } else {
            run_file(argv[i]);
            nr++;
        }
    }
    printf("%u inputs\n", nr);
    return nr > 0 ? 0 : 2;
}
