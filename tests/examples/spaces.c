// SPDX-License-Identifier: MIT
// Calls the example of docs/spaces.md where it must refuse.
#include <stdio.h>

int main(void)
{
    struct mm_space *child = NULL;
    mm_status_t status = spawn(NULL, &child);

    printf("spaces: %s\n", mm_status_str(status));
    return status == MM_ERR_INVALID_ARGUMENT && child == NULL ? 0 : 1;
}
