// SPDX-License-Identifier: MIT
/**
 * The C side of user_copy.S: the tables of ops, and the search of its exception table. No user
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

/* In the order of the instructions; from the second label on, those whose faults nobody resolves. */
extern const struct user_table_entry mmi_x86_64_user_table[] HIDDEN;
extern const struct user_table_entry mmi_x86_64_user_table_nofault[] HIDDEN;
extern const struct user_table_entry mmi_x86_64_user_table_end[] HIDDEN;

/* One set of routines: what user_copy.S calls by this ending, and the ops over it. */
#define ROUTINES(ending, ops)                                                                      \
    uint64_t mmi_x86_64_copy_in##ending(void *to, uint64_t from_user, uint64_t len) HIDDEN;        \
    uint64_t mmi_x86_64_copy_out##ending(uint64_t to_user, const void *from, uint64_t len) HIDDEN; \
    uint64_t mmi_x86_64_clear##ending(uint64_t to_user, uint64_t len) HIDDEN;                      \
    uint64_t mmi_x86_64_string_in##ending(char *to, uint64_t from_user, uint64_t len) HIDDEN;      \
    mm_status_t mmi_x86_64_get_1##ending(void *to, uint64_t from_user) HIDDEN;                     \
    mm_status_t mmi_x86_64_get_2##ending(void *to, uint64_t from_user) HIDDEN;                     \
    mm_status_t mmi_x86_64_get_4##ending(void *to, uint64_t from_user) HIDDEN;                     \
    mm_status_t mmi_x86_64_get_8##ending(void *to, uint64_t from_user) HIDDEN;                     \
    mm_status_t mmi_x86_64_put_1##ending(uint64_t to_user, const void *from) HIDDEN;               \
    mm_status_t mmi_x86_64_put_2##ending(uint64_t to_user, const void *from) HIDDEN;               \
    mm_status_t mmi_x86_64_put_4##ending(uint64_t to_user, const void *from) HIDDEN;               \
    mm_status_t mmi_x86_64_put_8##ending(uint64_t to_user, const void *from) HIDDEN;               \
    mm_status_t mmi_x86_64_cmpxchg_4##ending(uint64_t at_user, uint64_t expected,                  \
                                             uint64_t desired, void *found) HIDDEN;                \
    mm_status_t mmi_x86_64_cmpxchg_8##ending(uint64_t at_user, uint64_t expected,                  \
                                             uint64_t desired, void *found) HIDDEN;                \
    const struct mm_user_ops ops = {                                                               \
        .copy_in = mmi_x86_64_copy_in##ending,                                                     \
        .copy_out = mmi_x86_64_copy_out##ending,                                                   \
        .clear = mmi_x86_64_clear##ending,                                                         \
        .string_in = mmi_x86_64_string_in##ending,                                                 \
        .get = {mmi_x86_64_get_1##ending, mmi_x86_64_get_2##ending, mmi_x86_64_get_4##ending,      \
                mmi_x86_64_get_8##ending},                                                         \
        .put = {mmi_x86_64_put_1##ending, mmi_x86_64_put_2##ending, mmi_x86_64_put_4##ending,      \
                mmi_x86_64_put_8##ending},                                                         \
        .cmpxchg = {mmi_x86_64_cmpxchg_4##ending, mmi_x86_64_cmpxchg_8##ending},                   \
    }

ROUTINES(, mm_x86_64_user_ops);
ROUTINES(_smap, mm_x86_64_user_smap_ops);
ROUTINES(_nofault, mm_x86_64_user_nofault_ops);
ROUTINES(_nofault_smap, mm_x86_64_user_nofault_smap_ops);

/** What a distance points to, counted from the field that holds it. */
static uint64_t target(const int32_t *field)
{
    return (uint64_t)(uintptr_t)field + (uint64_t)(int64_t)*field;
}

/** Look an instruction up among the entries from `e` to `end`. */
static bool find(const struct user_table_entry *e, const struct user_table_entry *end, uint64_t rip,
                 uint64_t *resume)
{
    if (resume == NULL) {
        return false;
    }
    while (e != end) {
        const struct user_table_entry *middle = e + (end - e) / 2;
        uint64_t at = target(&middle->at);

        if (at == rip) {
            *resume = target(&middle->resume);
            return true;
        }
        if (at < rip) {
            e = middle + 1;
        } else {
            end = middle;
        }
    }
    return false;
}

bool mm_x86_64_user_fixup(uint64_t rip, uint64_t *resume)
{
    return find(mmi_x86_64_user_table, mmi_x86_64_user_table_nofault, rip, resume);
}

bool mm_x86_64_user_fixup_nofault(uint64_t rip, uint64_t *resume)
{
    return find(mmi_x86_64_user_table_nofault, mmi_x86_64_user_table_end, rip, resume);
}
