// SPDX-License-Identifier: MIT
// Calls the example of docs/getting-started.md for faults that nobody can resolve.
#include <stdio.h>

int main(void)
{
    uint64_t rip = 0x1000;
    enum mm_fault_result user = handle_page_fault(NULL, 4, 0x2000, &rip);
    enum mm_fault_result kernel = handle_page_fault(NULL, 0, 0x2000, &rip);

    printf("page-fault: user %d, kernel %d\n", (int)user, (int)kernel);
    return user == MM_FAULT_SIGNAL_MAP && kernel == MM_FAULT_CORRUPT && rip == 0x1000 ? 0 : 1;
}
