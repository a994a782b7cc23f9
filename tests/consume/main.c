// SPDX-License-Identifier: MIT
//
// The smallest user of an installed libmm: it includes everything, calls the library, and compares
// the header's version and options with the archive's.

#include <mm/mm.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    if (mm_version() != MM_VERSION) {
        (void)fprintf(stderr, "the header is %u, the archive %u\n", (unsigned)MM_VERSION,
                      (unsigned)mm_version());
        return 1;
    }
    if (mm_config_signature() != MM_CONFIG_SIGNATURE) {
        (void)fprintf(stderr, "the archive was built with other options\n");
        return 1;
    }
    if (strcmp(mm_status_str(MM_OK), mm_status_str(MM_ERR_NO_MEMORY)) == 0) {
        (void)fprintf(stderr, "two statuses have one name\n");
        return 1;
    }
    (void)printf("libmm: %s\n", mm_status_str(MM_OK));
    return 0;
}
