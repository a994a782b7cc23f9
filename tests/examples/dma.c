// SPDX-License-Identifier: MIT
// Calls the example of docs/dma.md where it must refuse.
#include <stdio.h>

static void told(uint64_t base)
{
    (void)base;
}

int main(void)
{
    struct mm_dma none = {0};
    struct mm_dma_region ring = {0};
    mm_status_t status = give_ring(&none, told, &ring);

    printf("dma: %s\n", mm_status_str(status));
    return status == MM_ERR_NOT_INITIALIZED && ring.addr == NULL ? 0 : 1;
}
