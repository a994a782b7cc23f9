// SPDX-License-Identifier: MIT
// Calls the example of docs/getting-started.md for faults that nobody can resolve.
#include <stdio.h>

int main(void)
{
    uint64_t rip = 0x1000;
    bool user = handle_page_fault(NULL, 4, 0x2000, &rip);
    bool kernel = handle_page_fault(NULL, 0, 0x2000, &rip);

    printf("page-fault: user %d, kernel %d\n", user, kernel);
    return !user && !kernel && rip == 0x1000 ? 0 : 1;
}
