// SPDX-License-Identifier: MIT
/**
 * What the two drivers share: see drive_internal.h.
 */
#include "drive_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "documented.h"

#define NR_DOCUMENTED (sizeof(t_documented) / sizeof(t_documented[0]))
#define MAX_SHOWN     40
#define MAX_OF_A_CALL 3

#define LIST(name) &t_calls_##name,

static const struct t_call_list *const lists[] = {T_CALL_LISTS(LIST)};

#define NR_LISTS (sizeof(lists) / sizeof(lists[0]))

unsigned t_drive_nr_wrong;

/* By row of t_documented: a bit for each status that was answered. */
static uint64_t answered[NR_DOCUMENTED];

const struct t_call *t_drive_call(unsigned i)
{
    for (unsigned list = 0; list < NR_LISTS; list++) {
        if (i < lists[list]->nr) {
            return &lists[list]->calls[i];
        }
        i -= lists[list]->nr;
    }
    return NULL;
}

const struct t_documented *t_drive_documented(const char *name)
{
    for (unsigned i = 0; i < NR_DOCUMENTED; i++) {
        if (strcmp(t_documented[i].name, name) == 0) {
            return &t_documented[i];
        }
    }
    return NULL;
}

unsigned t_drive_nr_args(const struct t_call *call)
{
    unsigned nr = 0;

    while (nr < T_MAX_ARGS && call->args[nr].type != T_NONE) {
        nr++;
    }
    return nr;
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned number(uint64_t *v, unsigned nr, uint64_t good)
{
    static const unsigned bits[] = {47, 48, 52, 56, 63};

    v[nr++] = 0;
    v[nr++] = 1;
    v[nr++] = MM_PAGE_SIZE - 1;
    v[nr++] = MM_PAGE_SIZE;
    v[nr++] = MM_PAGE_SIZE + 1;
    for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        v[nr++] = (UINT64_C(1) << bits[i]) - 1;
        v[nr++] = UINT64_C(1) << bits[i];
        v[nr++] = (UINT64_C(1) << bits[i]) + 1;
    }
    v[nr++] = (UINT64_C(1) << 47) - MM_PAGE_SIZE;
    v[nr++] = UINT64_MAX - MM_PAGE_MASK;
    v[nr++] = UINT64_MAX - 1;
    v[nr++] = UINT64_MAX;
    v[nr++] = good + 1; /* misaligned, where it was aligned */
    v[nr++] = 0 - good; /* ends at, or past, 2^64 */
    v[nr++] = 0 - good + 1;
    return nr;
}

static unsigned word(uint64_t *v, unsigned nr)
{
    static const uint64_t all[] = {0,          1,          4095,      4096, 4097, MM_MAX_CPUS + 1,
                                   0x7fffffff, 0x80000000, UINT32_MAX};

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        v[nr++] = all[i];
    }
    return nr;
}

static unsigned flags(uint64_t *v, unsigned nr, uint64_t known)
{
    unsigned top = 64 - (known == 0 ? 64u : (unsigned)__builtin_clzll(known));

    v[nr++] = 0;
    for (unsigned i = 0; i < top && i < 14; i++) {
        v[nr++] = UINT64_C(1) << i;
    }
    v[nr++] = known;
    for (unsigned i = top; i < 32 && nr < T_MAX_VALUES - 1; i += i == top ? 1 : 5) {
        v[nr++] = UINT64_C(1) << i; /* nobody knows these */
    }
    v[nr++] = UINT32_MAX;
    return nr;
}

unsigned t_drive_values(const struct t_argument *arg, uint64_t *v)
{
    unsigned nr = 1;

    v[0] = arg->good;
    switch (arg->type) {
    case T_LIVE:
    case T_FRESH:
    case T_POINTER:
        v[0] = (uint64_t)(uintptr_t)arg->ptr;
        v[nr++] = 0;
        if (arg->type == T_LIVE) {
            v[nr++] = (uint64_t)(uintptr_t)&t_w.never;
        }
        if (arg->other != NULL) {
            v[nr++] = (uint64_t)(uintptr_t)arg->other;
        }
        return nr;
    case T_VARIABLE:
        v[0] = (uint64_t)(uintptr_t) * (void *const *)arg->ptr;
        v[nr++] = 0;
        return nr;
    case T_NUMBER:
        return number(v, nr, arg->good);
    case T_WORD:
        return word(v, nr);
    case T_COUNT:
        v[nr++] = 0;
        v[nr++] = 1 < arg->limit ? 1 : arg->limit;
        if (arg->limit != 0) {
            v[nr++] = arg->limit;
        }
        return arg->limit == 0 ? 1 : nr; /* a constant */
    case T_FLAGS:
        return flags(v, nr, arg->limit);
    case T_CHOICE:
        for (uint64_t i = 0; i < arg->limit && nr < T_MAX_VALUES - 4; i++) {
            v[nr++] = i;
        }
        v[nr++] = arg->limit;
        v[nr++] = arg->limit + 1;
        v[nr++] = INT32_MAX;
        v[nr++] = UINT32_MAX;
        return nr;
    case T_LIST:
        return arg->list(v);
    case T_OP:
        v[nr++] = 0;
        return nr;
    case T_NONE:
        break;
    }
    return nr;
}

void t_drive_good(const struct t_call *call, uint64_t *args)
{
    uint64_t values[T_MAX_VALUES];

    for (unsigned i = 0; i < t_drive_nr_args(call); i++) {
        (void)t_drive_values(&call->args[i], values);
        args[i] = values[0];
    }
}

/* --- failures ---------------------------------------------------------------------------------- */

const char *t_drive_answer_str(int answer)
{
    switch (answer) {
    case T_EMPTY:
        return "nothing";
    case T_NO_PAGE:
        return "MM_FAULT_NO_MEMORY";
    case T_PANICKED:
        return "a panic";
    default:
        return mm_status_str((mm_status_t)answer);
    }
}

void t_drive_wrong(const struct t_call *call, const uint64_t *args, const char *what,
                   const char *format, ...)
{
    static const struct t_call *last;
    static unsigned nr_of_last, nr_shown;
    va_list list;

    nr_of_last = call == last ? nr_of_last + 1 : 1;
    last = call;
    t_drive_nr_wrong++;
    if (nr_of_last > MAX_OF_A_CALL || nr_shown == MAX_SHOWN) {
        return;
    }
    nr_shown++;
    fprintf(stderr, "%s%s%s%s, %s:\n   ", call->name, call->note != NULL ? " (" : "",
            call->note != NULL ? call->note : "", call->note != NULL ? ")" : "", what);
    for (unsigned i = 0; i < t_drive_nr_args(call); i++) {
        fprintf(stderr, " %s=%#llx", call->args[i].name, (unsigned long long)args[i]);
    }
    fprintf(stderr, "\n    ");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n");
}

/* --- making a call ----------------------------------------------------------------------------- */

int t_drive_invoke(const struct t_call *call, const uint64_t *args, const char *what, bool *bad)
{
    volatile int answer = T_PANICKED;
    struct t_trap_info trap;

    *bad = false;
    T_CATCH(T_TRAP_ANY, answer = call->invoke(args), &trap);
    if (trap.kind == T_TRAP_NONE) {
        return answer;
    }
    /* An object that is not live knows no hook: an illegal instruction, as the header says. */
    if (trap.kind == T_TRAP_ILL && call->panics != NULL &&
        (args[0] == 0 ||
         (call->args[0].type == T_LIVE && args[0] != (uint64_t)(uintptr_t)call->args[0].ptr))) {
        return T_PANICKED;
    }
    if (trap.kind == T_TRAP_PANIC && call->panics != NULL && strcmp(trap.room, call->panics) == 0) {
        return T_PANICKED;
    }
    *bad = true;
    if (trap.kind == T_TRAP_PANIC) {
        t_drive_wrong(call, args, what, "panic in %s: %s at %#llx", trap.room, trap.what,
                      (unsigned long long)trap.address);
    } else {
        t_drive_wrong(call, args, what, "%s at %#llx, instruction %#llx",
                      trap.kind == T_TRAP_ILL ? "an illegal instruction" : "a wild access",
                      (unsigned long long)trap.address, (unsigned long long)trap.instruction);
    }
    return T_PANICKED;
}

bool t_drive_allowed(const struct t_call *call, int answer)
{
    const struct t_documented *row = t_drive_documented(call->name);

    if (row == NULL) {
        return false;
    }
    answered[row - t_documented] |= UINT64_C(1) << answer;
    if (answer == T_PANICKED) {
        return call->panics != NULL;
    }
    if (strcmp(row->returns, "mm_status_t") != 0) {
        return answer == MM_OK || answer == T_EMPTY;
    }
    if (answer == T_NO_PAGE) {
        return strcmp(call->name, "mm_space_fault") == 0;
    }
    return answer < 32 && ((row->statuses & T_BIT(answer)) != 0 ||
                           (row->source && (answer == MM_ERR_IO || answer == MM_ERR_NO_MEMORY)));
}

bool t_drive_unchanged(const struct t_call *call, int answer, enum t_compare how)
{
    if (answer == MM_ERR_NO_MEMORY && (call->flags & T_PARTIAL) != 0) {
        return true; /* and the checks of the library still hold */
    }
    if (answer < 32 && (call->partial & T_BIT(answer)) != 0) {
        return true;
    }
    if (answer < 32 && (call->tells & T_BIT(answer)) != 0) {
        t_world_forget_told();
    }
    return t_world_same(how);
}

/* --- against the headers ----------------------------------------------------------------------- */

unsigned t_drive_missing(void)
{
    unsigned nr = 0;
    const struct t_call *call;

    for (unsigned row = 0; row < NR_DOCUMENTED; row++) {
        bool found = false;

        for (unsigned i = 0; (call = t_drive_call(i)) != NULL && !found; i++) {
            found = (call->flags & (T_VARIANT | T_BAD_ONLY)) == 0 &&
                    strcmp(call->name, t_documented[row].name) == 0;
        }
        if (!found) {
            fprintf(stderr, "%s() of <%s> is in no list of tests/calls/: add it\n",
                    t_documented[row].name, t_documented[row].header);
            nr++;
        }
    }
    for (unsigned i = 0; (call = t_drive_call(i)) != NULL; i++) {
        if (t_drive_documented(call->name) == NULL) {
            fprintf(stderr, "%s() is in a list of tests/calls/, and in no header\n", call->name);
            nr++;
        }
    }
    return nr;
}

/* Statuses that no call can be brought to answer here. Each has its reason. */
static const struct {
    const char *name;
    int status;
    const char *why;
} out_of_reach[] = {
    {"mm_vaddr_to_ptr", MM_ERR_INVALID_ADDRESS, "every address fits a pointer of 64 bits"},
    {"mm_paging_map_sections", MM_ERR_UNSUPPORTED, "sections are write-back, which every CPU has"},
    {"mm_system_init", MM_ERR_IO, "its source is its own frames, which answer nothing else"},
    {"mm_space_advise", MM_ERR_FAULT, "for a leaf of 2 MiB that is cut: there is no room for one"},
    {"mm_space_wire", MM_ERR_FAULT, "the same"},
    {"mm_space_unwire", MM_ERR_FAULT, "the same"},
    {"mm_system_init", MM_ERR_NODE_NOT_FOUND, "its frames have refused such a CPU before"},
};

static bool is_out_of_reach(const char *name, int status)
{
    for (unsigned i = 0; i < sizeof(out_of_reach) / sizeof(out_of_reach[0]); i++) {
        if (out_of_reach[i].status == status && strcmp(out_of_reach[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* One row: every documented status, answered or not. */
static unsigned row_of(unsigned row)
{
    const struct t_documented *doc = &t_documented[row];
    bool is_status = strcmp(doc->returns, "mm_status_t") == 0;
    unsigned missing = 0;

    printf("%-26s", doc->name);
    for (int status = 0; status < MM_STATUS_COUNT && is_status; status++) {
        bool was = (answered[row] & UINT64_C(1) << status) != 0;

        if ((doc->statuses & T_BIT(status)) == 0) {
            continue;
        }
        printf(" %s%s",
               was                                  ? ""
               : is_out_of_reach(doc->name, status) ? "~"
                                                    : "!",
               status == 0 ? "OK" : mm_status_str((mm_status_t)status) + 7);
        if (!was && !is_out_of_reach(doc->name, status)) {
            fprintf(stderr, "%s() was never brought to answer %s\n", doc->name,
                    mm_status_str((mm_status_t)status));
            missing++;
        }
        if (was && is_out_of_reach(doc->name, status)) {
            fprintf(stderr, "%s() answers %s, which is listed as out of reach\n", doc->name,
                    mm_status_str((mm_status_t)status));
            missing++;
        }
    }
    if (is_status && doc->source) {
        bool was = (answered[row] & UINT64_C(1) << MM_ERR_IO) != 0;

        printf(" %swhat-the-source-answers", was                                     ? ""
                                             : is_out_of_reach(doc->name, MM_ERR_IO) ? "~"
                                                                                     : "!");
        if (!was && !is_out_of_reach(doc->name, MM_ERR_IO)) {
            fprintf(stderr, "%s() never passed on what its source answers\n", doc->name);
            missing++;
        }
    }
    if (!is_status) {
        printf(" %s", (answered[row] & 1) != 0 ? "OK" : "!OK");
        printf("%s", (answered[row] & UINT64_C(1) << T_EMPTY) != 0 ? " nothing" : "");
        if ((answered[row] & 1) == 0) {
            fprintf(stderr, "%s() never did what it is for\n", doc->name);
            missing++;
        }
    }
    printf("%s\n", (answered[row] & UINT64_C(1) << T_PANICKED) != 0 ? " panic" : "");
    return missing;
}

unsigned t_drive_unanswered(void)
{
    unsigned missing = 0;

    printf("what each call answered (! never, ~ out of reach)\n");
    for (unsigned row = 0; row < NR_DOCUMENTED; row++) {
        missing += row_of(row);
    }
    return missing;
}
