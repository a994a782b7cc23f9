// SPDX-License-Identifier: MIT
/**
 * The C side of user_copy.S: the two ops tables, and the search of its exception table. No user
 * memory is touched here.
 */
#include <mm/arch/x86_64.h>

/** Distances from each field to the instruction that may fault, and to where it goes on then. */
struct user_table_entry {
    int32_t at;
    int32_t resume;
};

/* Hidden, or the compiler would ask a GOT for their addresses. */
#define HIDDEN __attribute__((visibility("hidden")))

extern const struct user_table_entry mmi_x86_64_user_table[] HIDDEN;
extern const struct user_table_entry mmi_x86_64_user_table_end[] HIDDEN;

uint64_t mmi_x86_64_copy_in(void *to, uint64_t from_user, uint64_t len) HIDDEN;
uint64_t mmi_x86_64_copy_out(uint64_t to_user, const void *from, uint64_t len) HIDDEN;
uint64_t mmi_x86_64_clear(uint64_t to_user, uint64_t len) HIDDEN;
uint64_t mmi_x86_64_string_in(char *to, uint64_t from_user, uint64_t len) HIDDEN;
uint64_t mmi_x86_64_copy_in_smap(void *to, uint64_t from_user, uint64_t len) HIDDEN;
uint64_t mmi_x86_64_copy_out_smap(uint64_t to_user, const void *from, uint64_t len) HIDDEN;
uint64_t mmi_x86_64_clear_smap(uint64_t to_user, uint64_t len) HIDDEN;
uint64_t mmi_x86_64_string_in_smap(char *to, uint64_t from_user, uint64_t len) HIDDEN;

const struct mm_user_ops mm_x86_64_user_ops = {
    .copy_in = mmi_x86_64_copy_in,
    .copy_out = mmi_x86_64_copy_out,
    .clear = mmi_x86_64_clear,
    .string_in = mmi_x86_64_string_in,
};

const struct mm_user_ops mm_x86_64_user_smap_ops = {
    .copy_in = mmi_x86_64_copy_in_smap,
    .copy_out = mmi_x86_64_copy_out_smap,
    .clear = mmi_x86_64_clear_smap,
    .string_in = mmi_x86_64_string_in_smap,
};

/** What a distance points to, counted from the field that holds it. */
static uint64_t target(const int32_t *field)
{
    return (uint64_t)(uintptr_t)field + (uint64_t)(int64_t)*field;
}

bool mm_x86_64_user_fixup(uint64_t rip, uint64_t *resume)
{
    const struct user_table_entry *e;

    if (resume == NULL) {
        return false;
    }
    for (e = mmi_x86_64_user_table; e != mmi_x86_64_user_table_end; e++) {
        if (target(&e->at) == rip) {
            *resume = target(&e->resume);
            return true;
        }
    }
    return false;
}
