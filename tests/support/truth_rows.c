// SPDX-License-Identifier: MIT
/**
 * The rules of access rights a second time, in another form than the simulated MMU's: the manual's
 * own list (Intel SDM vol. 3A, 4.6.1) row by row, entries judged by the tables of their formats
 * (4.5.4), and the error code bit by bit (4.7). It shares no function with sim_mmu.c, so that a
 * slip in one shows as a difference.
 */
#include "truth.h"

#include <stddef.h>

/* --- 4.6.1 ------------------------------------------------------------------------------------ */

enum who { USER, SUPERVISOR };
enum mode { USER_PAGE, SUPERVISOR_PAGE };
enum kind { LOAD, STORE, FETCH };
enum setting { OFF, ON, EITHER };
enum verdict { YES, NO, IF_ALL_WRITABLE, IF_NONE_XD };

/* Which register bit each column means depends on the kind of access: see below. */
struct row {
    enum who who;
    enum kind kind;
    enum mode page;
    enum setting wp, smap, ac, smep, nxe;
    enum verdict verdict;
};

static const struct row rows[] = {
    /* For supervisor-mode accesses: data may be read from any supervisor-mode address, */
    {SUPERVISOR, LOAD, SUPERVISOR_PAGE, EITHER, EITHER, EITHER, EITHER, EITHER, YES},
    /* from a user-mode address if SMAP is off, or with AC */
    {SUPERVISOR, LOAD, USER_PAGE, EITHER, OFF, EITHER, EITHER, EITHER, YES},
    {SUPERVISOR, LOAD, USER_PAGE, EITHER, ON, ON, EITHER, EITHER, YES},
    {SUPERVISOR, LOAD, USER_PAGE, EITHER, ON, OFF, EITHER, EITHER, NO},
    /* written to any supervisor-mode address without WP, with it if R/W is 1 in all entries, */
    {SUPERVISOR, STORE, SUPERVISOR_PAGE, OFF, EITHER, EITHER, EITHER, EITHER, YES},
    {SUPERVISOR, STORE, SUPERVISOR_PAGE, ON, EITHER, EITHER, EITHER, EITHER, IF_ALL_WRITABLE},
    /* to a user-mode address likewise, if SMAP does not object */
    {SUPERVISOR, STORE, USER_PAGE, OFF, OFF, EITHER, EITHER, EITHER, YES},
    {SUPERVISOR, STORE, USER_PAGE, OFF, ON, ON, EITHER, EITHER, YES},
    {SUPERVISOR, STORE, USER_PAGE, OFF, ON, OFF, EITHER, EITHER, NO},
    {SUPERVISOR, STORE, USER_PAGE, ON, OFF, EITHER, EITHER, EITHER, IF_ALL_WRITABLE},
    {SUPERVISOR, STORE, USER_PAGE, ON, ON, ON, EITHER, EITHER, IF_ALL_WRITABLE},
    {SUPERVISOR, STORE, USER_PAGE, ON, ON, OFF, EITHER, EITHER, NO},
    /* Instructions may be fetched from supervisor-mode addresses, */
    {SUPERVISOR, FETCH, SUPERVISOR_PAGE, EITHER, EITHER, EITHER, EITHER, OFF, YES},
    {SUPERVISOR, FETCH, SUPERVISOR_PAGE, EITHER, EITHER, EITHER, EITHER, ON, IF_NONE_XD},
    /* and from user-mode ones without SMEP. */
    {SUPERVISOR, FETCH, USER_PAGE, EITHER, EITHER, EITHER, OFF, OFF, YES},
    {SUPERVISOR, FETCH, USER_PAGE, EITHER, EITHER, EITHER, OFF, ON, IF_NONE_XD},
    {SUPERVISOR, FETCH, USER_PAGE, EITHER, EITHER, EITHER, ON, EITHER, NO},
    /* For user-mode accesses: from and to user-mode addresses only. */
    {USER, LOAD, USER_PAGE, EITHER, EITHER, EITHER, EITHER, EITHER, YES},
    {USER, STORE, USER_PAGE, EITHER, EITHER, EITHER, EITHER, EITHER, IF_ALL_WRITABLE},
    {USER, FETCH, USER_PAGE, EITHER, EITHER, EITHER, EITHER, OFF, YES},
    {USER, FETCH, USER_PAGE, EITHER, EITHER, EITHER, EITHER, ON, IF_NONE_XD},
    {USER, LOAD, SUPERVISOR_PAGE, EITHER, EITHER, EITHER, EITHER, EITHER, NO},
    {USER, STORE, SUPERVISOR_PAGE, EITHER, EITHER, EITHER, EITHER, EITHER, NO},
    {USER, FETCH, SUPERVISOR_PAGE, EITHER, EITHER, EITHER, EITHER, EITHER, NO},
};

static bool fits(enum setting column, bool on)
{
    return column == EITHER || (column == ON) == on;
}

static bool granted(const struct t_truth_case *c, bool user_page, bool all_writable, bool any_xd)
{
    enum who who = (c->access & T_MMU_USER) != 0 ? USER : SUPERVISOR;
    enum kind kind = (c->access & T_MMU_WRITE) != 0   ? STORE
                     : (c->access & T_MMU_FETCH) != 0 ? FETCH
                                                      : LOAD;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];

        if (row->who == who && row->kind == kind && (row->page == USER_PAGE) == user_page &&
            fits(row->wp, (c->regs & T_TRUTH_WP) != 0) &&
            fits(row->smap, (c->regs & T_TRUTH_SMAP) != 0) &&
            fits(row->ac, (c->access & T_MMU_AC) != 0) &&
            fits(row->smep, (c->regs & T_TRUTH_SMEP) != 0) &&
            fits(row->nxe, (c->regs & T_TRUTH_NXE) != 0)) {
            return row->verdict == YES || (row->verdict == IF_ALL_WRITABLE && all_writable) ||
                   (row->verdict == IF_NONE_XD && !any_xd);
        }
    }
    return false;
}

/* --- 4.5.4, tables 4-14 to 4-20: which bits each format of an entry has reserved --------------- */

static bool bits_set(uint64_t entry, unsigned from, unsigned to)
{
    for (unsigned bit = from; bit <= to; bit++) {
        if (((entry >> bit) & 1) != 0) {
            return true;
        }
    }
    return false;
}

static bool malformed(const struct t_truth *truth, unsigned level, uint64_t entry, bool nxe)
{
    bool ps = bits_set(entry, 7, 7);

    if (!nxe && bits_set(entry, 63, 63)) {
        return true; /* "if IA32_EFER.NXE = 0, bit 63 is reserved" */
    }
    if (truth->paddr_bits < 52 && bits_set(entry, truth->paddr_bits, 51)) {
        return true;
    }
    switch (level) {
    case 4: /* PML5E */
    case 3: /* PML4E: "7 (PS): reserved (must be 0)" */
        return ps;
    case 2: /* PDPTE of a page of 1 GiB: 29 to 13 */
        return ps && (!truth->has_1g || bits_set(entry, 13, 29));
    case 1: /* PDE of a page of 2 MiB: 20 to 13 */
        return ps && bits_set(entry, 13, 20);
    default:
        return false;
    }
}

/* --- 4.7 -------------------------------------------------------------------------------------- */

static struct t_truth_outcome fault(const struct t_truth_case *c, bool present, bool reserved)
{
    struct t_truth_outcome out = {true, 0};

    if (present) {
        out.error += 1;
    }
    if ((c->access & T_MMU_WRITE) != 0) {
        out.error += 2;
    }
    if ((c->access & T_MMU_USER) != 0) {
        out.error += 4;
    }
    if (reserved) {
        out.error += 8;
    }
    if ((c->access & T_MMU_FETCH) != 0 && (c->regs & (T_TRUTH_SMEP | T_TRUTH_NXE)) != 0) {
        out.error += 16;
    }
    return out;
}

struct t_truth_outcome t_truth_by_rows(const struct t_truth *truth, const struct t_truth_case *c)
{
    bool user_page = true;
    bool all_writable = true;
    bool any_xd = false;

    for (unsigned level = truth->levels; level-- > c->table.leaf;) {
        uint64_t entry = c->table.bits[level];

        if ((entry & 1) == 0) {
            return fault(c, false, false);
        }
        if (malformed(truth, level, entry, (c->regs & T_TRUTH_NXE) != 0)) {
            return fault(c, true, true);
        }
        all_writable = all_writable && bits_set(entry, 1, 1);
        user_page = user_page && bits_set(entry, 2, 2);
        any_xd = any_xd || bits_set(entry, 63, 63);
    }
    if (!granted(c, user_page, all_writable, any_xd)) {
        return fault(c, true, false);
    }
    return (struct t_truth_outcome){false, 0};
}
