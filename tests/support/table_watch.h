// SPDX-License-Identifier: MIT
/**
 * A watcher over x86-64 page tables: it is told of every store to the memory that holds them, in
 * order, and judges each as the hardware would see it at that moment. Written from Intel's manual
 * (SDM vol. 3A, chapter 4); nothing of the library is in it.
 *
 *     source ── handed, back ──┐
 *     events ── before, after ─┼─> shadow of each table ──> what one store changes, address by
 *     CPU ops ── cr3, invlpg ──┘   who links it, where       address ──> allowed by this call?
 *
 * What it holds against the code that it watches, at every single store:
 *   - A table is linked only when all its slots were written (or zeroed by the source) since it was
 *     handed out, all are sane, nothing else links it, and in a live tree by a release store.
 *   - A leaf appears in a live tree by a release store: what fills its frame is seen before it.
 *   - Each address that one store affects goes from the translation before the call to the one
 *     after it: never absent in between, never a mixture, never back. Outside of the call's ranges
 *     nothing changes. A leaf becomes a table only of leaves that agree with it in everything.
 *   - Accessed and dirty, which the watcher itself sets as a walker would, are never lost.
 *   - An entry that is not present has bits 43 to 51 set or is 0 (L1TF), in every table, linked or
 *     not. What the user reaches below 2^63 in a user root has the user bit, what is above has not, and
 *     no table there.
 *   - A call that fails has stored nothing to any linked table.
 *   - The caches are the worst that the manual allows: every translation that the root in use held
 *     since it was last flushed may still be in the TLB, every table in the paging-structure caches
 *     (4.10.4.1). No frame goes back, and none gets a table's or leaf's use, while they lead there.
 *     Where leaves of two sizes may be live for an address, they agree, and it is counted.
 *
 * The first thing that is wrong is kept as a sentence; the test looks at it after each call. One
 * thread; one CPU.
 */
#ifndef T_TABLE_WATCH_H
#define T_TABLE_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define T_WATCH_ROOTS 8
#define T_WATCH_EDITS 4
#define T_WATCH_SEEN  4096

/* Rights of an entry, and of a path: RW and US AND, NX ORs (4.6.1). */
#define T_WATCH_RW (UINT64_C(1) << 1)
#define T_WATCH_US (UINT64_C(1) << 2)
#define T_WATCH_NX (UINT64_C(1) << 63)

/** What the hardware makes of one address. */
struct t_watch_page {
    bool present;
    uint64_t paddr;  /**< of the 4 KiB page */
    uint64_t rights; /**< T_WATCH_RW | T_WATCH_US | T_WATCH_NX */
    uint8_t type;    /**< as the PAT says: 0 UC, 1 WC, 4 WT, 5 WP, 6 WB, 7 UC- (12.12.2) */
    bool global;
    bool accessed;
    bool dirty;
    uint8_t shift; /**< log2 of the leaf's size */
};

/** What a call may do to a range of a root. */
struct t_watch_edit {
    uint64_t root; /**< frame */
    uint64_t start;
    uint64_t len;
    /** What a page of the range is before and after the call; `shift`, `accessed` and `dirty` do
     * not count. */
    void (*expect)(void *ctx, uint64_t at, struct t_watch_page *before, struct t_watch_page *after);
    void *ctx;
    bool anew;  /**< accessed and dirty begin anew */
    bool fresh; /**< what was here before has been flushed */
};

/** One frame of the RAM. */
struct t_watch_table {
    bool held;       /**< not with the source */
    bool foreign;    /**< of whoever built an adopted root */
    bool cached;     /**< unlinked, and caches of the hardware may still lead here */
    uint8_t level;   /**< 0: of 4 KiB leaves */
    uint16_t links;  /**< entries of linked tables that point here; roots count one */
    uint16_t index;  /**< in the first that does */
    uint32_t parent; /**< the first that does; of a root: itself */
    uint32_t root;   /**< index into roots */
    uint64_t base;   /**< first address that it translates */
    uint64_t written[8];
    uint64_t shadow[512];
};

struct t_watch_root {
    uint64_t frame; /**< 0: unused */
    uint64_t kin;   /**< whose upper half it shares: frame of the kernel's root */
    bool user;
    bool live;    /**< hardware may walk it */
    bool residue; /**< global translations may be in the TLB although it is not in use */
};

/** A translation that is no more, and may be in the TLB: a run of leaves of one size. */
struct t_watch_stale {
    uint64_t start;
    uint64_t len;
    uint64_t paddr;
    uint8_t shift;
    bool global;
};

/** An accessed or dirty bit that the watcher set. */
struct t_watch_seen {
    uint64_t at;
    uint64_t paddr;
    bool dirty;
};

enum t_watch_walker {
    T_WATCH_IDLE,   /**< sets nothing */
    T_WATCH_RANDOM, /**< before every eighth access or so */
    T_WATCH_NTH,    /**< before the access `walker_nth` of the call, counted from 1 */
};

struct t_watch {
    uint64_t *ram;
    uint64_t nr_frames;
    struct t_watch_table *tables;
    /* The CPU: constants of the test. */
    unsigned levels;
    unsigned paddr_bits;
    bool page_1g;
    bool nxe;
    uint64_t pat;
    struct t_watch_root roots[T_WATCH_ROOTS];
    uint64_t current; /**< frame of the root in use */
    struct t_watch_stale *stale;
    size_t nr_stale, room_stale;
    uint32_t *cached; /**< frames of tables that are `cached` */
    size_t nr_cached;
    /* This call. */
    struct t_watch_edit edits[T_WATCH_EDITS];
    unsigned nr_edits;
    uint64_t nr_stores; /**< to linked tables */
    /* A store that is announced. */
    bool pending;
    bool release;
    uint32_t frame;
    uint32_t first, nr; /**< slots */
    /* The walker. */
    enum t_watch_walker walker;
    uint64_t walker_nth;
    uint64_t walker_asked; /**< accesses of this call before which it could set a bit */
    uint64_t walker_random;
    struct t_watch_seen seen[T_WATCH_SEEN];
    unsigned nr_seen;
    /* Totals. */
    uint64_t total_stores, total_links, total_mixed, total_seen, total_pages, total_flushes;
    unsigned nr_wrong;
    char wrong[320]; /**< the first */
};

/** `ram`: physical address 0 as the host sees it; its frames may hold tables. */
struct t_watch *t_watch_new(uint64_t *ram, uint64_t nr_frames);
void t_watch_delete(struct t_watch *w);

/* --- what the source of frames tells --------------------------------------------------------- */

/** It hands a frame out. */
void t_watch_handed(struct t_watch *w, uint64_t frame, bool zeroed);
/** It gets one back: of the RAM, or a leaf's. Call it before the frame is written over. */
void t_watch_back(struct t_watch *w, uint64_t frame);
/** A table that somebody else built, all of it. */
void t_watch_foreign(struct t_watch *w, uint64_t frame);

/* --- what the CPU tells ---------------------------------------------------------------------- */

void t_watch_cr3(struct t_watch *w, uint64_t value);
void t_watch_invlpg(struct t_watch *w, uint64_t at);
/** Everything goes, global translations too. */
void t_watch_flush(struct t_watch *w);

/* --- what the test tells --------------------------------------------------------------------- */

/** A root is whole from here on; `kin` as in struct t_watch_root. */
void t_watch_root(struct t_watch *w, uint64_t frame, uint64_t kin, bool user);
/** The hardware may walk it from here on, or no longer. */
void t_watch_live(struct t_watch *w, uint64_t frame, bool live);

void t_watch_begin(struct t_watch *w, const struct t_watch_edit *edits, unsigned nr);
/** The call has ended. `failed`: it may not have stored anything. Else both ends of each range and
 * some pages of it are walked from the root, and must be as expected. */
void t_watch_end(struct t_watch *w, bool failed);
/** The gather has ended: no cache may disagree with the tables. */
void t_watch_settled(struct t_watch *w);
/** Memory is the shadow, all links are found again from the roots (nothing went unseen), and the
 * user reaches no leaf of the kernel's. */
void t_watch_audit(struct t_watch *w);

/* --- events ---------------------------------------------------------------------------------- */

/** An access is about to be made. `release`: a store, and at least a release. */
void t_watch_before(struct t_watch *w, const void *at, uint32_t size, bool store, bool release);
/** It was made, `stored` or not. For plain stores the next event does. */
void t_watch_after(struct t_watch *w, bool stored);

/** Walk the memory from a root, as the hardware would. */
struct t_watch_page t_watch_walk(const struct t_watch *w, uint64_t root, uint64_t at);

/* --- between the files of the watcher -------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) void t_watch_wrong(struct t_watch *w, const char *format,
                                                         ...);
/** What a leaf entry of a level says, below tables that leave `rights`. */
struct t_watch_page t_watch_leaf(const struct t_watch *w, uint64_t entry, unsigned level,
                                 uint64_t rights);
uint64_t t_watch_below(uint64_t rights, uint64_t entry);
void t_watch_settle(struct t_watch *w);
bool t_watch_visible(const struct t_watch *w, const struct t_watch_root *root, uint64_t at,
                     bool global);
void t_watch_gone(struct t_watch *w, uint64_t at, const struct t_watch_page *page);
void t_watch_new_leaf(struct t_watch *w, uint64_t at, unsigned shift, bool fresh);
void t_watch_table_gone(struct t_watch *w, uint32_t frame);
void t_watch_drop_table(struct t_watch *w, uint32_t frame);
/** One entry of a linked table has changed: every address below it. */
void t_watch_judge_entry(struct t_watch *w, const struct t_watch_table *t, unsigned index,
                         uint64_t old, uint64_t now);
bool t_watch_is_table(uint64_t entry, unsigned level);
uint32_t t_watch_child(uint64_t entry);

#endif
