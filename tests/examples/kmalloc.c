// SPDX-License-Identifier: MIT
// Calls the example of docs/heap.md, and asks the heap who it was.

static void heard(void *ctx, const struct mm_heap_report *report)
{
    *(struct mm_heap_report *)ctx = *report;
}

__attribute__((noinline)) static void *made_here(void)
{
    void *object = kmalloc(100);

    __asm__ volatile("" : "+r"(object));
    return object;
}

static int lies_in(uint64_t address, void *(*function)(void))
{
    return address - (uint64_t)(uintptr_t)function - 1 < 100;
}

int main(void)
{
    static _Alignas(4096) char memory[256 * 1024];
    static struct mm_page_range range;
    static struct mm_pool pool;
    static struct mm_heap_report report;
    struct mm_pool_config config = {.nr_cpus = 1};
    struct mm_heap_config heap = {.flags = MM_HEAP_CALLERS, .report = heard, .report_ctx = &report};
    void *object;

    if (mm_page_range_init(&range, memory, sizeof(memory)) != MM_OK) {
        return 1;
    }
    config.source = mm_page_source_range(&range);
    if (mm_pool_init(&pool, &config) != MM_OK ||
        mm_heap_init(&kernel_heap, &pool, &heap) != MM_OK) {
        return 1;
    }
    object = made_here();
    kfree(object);
    kfree(object);
    if (report.kind != MM_HEAP_DOUBLE_FREE || !lies_in(report.allocated_by, made_here) ||
        lies_in(report.caller, made_here)) {
        return 1;
    }
    return mm_heap_destroy(&kernel_heap) != MM_OK;
}
