// SPDX-License-Identifier: MIT
/**
 * A world in which every public call can be made: one live object of each kind, with something in
 * it, and beside it what such an object is before it is made and after it is gone.
 *
 *     physical   0 ... 1 MiB          nothing
 *                1 MiB + 512 KiB      RAM of `frames`: tables, user pages, regions for devices
 *                2 MiB + 128 KiB      RAM of `frames`, a second span
 *                3 MiB + 512 KiB      RAM of `system`, which has a map of its own
 *     virtual    lower half           user
 *                T_ARENA              a kernel range of `kernel`: its own space, a few leaves
 *                base + x             direct map, at the host's address
 *
 * All memory of the world is t_w and the simulated RAM; t_world_start() makes it and keeps a copy.
 * After a call the world can be compared with the copy, byte by byte, so that a difference is named
 * by the field that it lies in; and it can be put back, whatever the call did.
 *
 * Every op that the library can call goes through here, is counted, and asks t_h.inject if it can
 * fail.
 */
#ifndef T_WORLD_H
#define T_WORLD_H

#include "inject.h"
#include "sim_ram.h"
#include "trap_mm.h"

#include <mm/arch/x86_64.h>
#include <mm/boot/e820.h>
#include <mm/boot/limine.h>
#include <mm/boot/multiboot2.h>
#include <mm/boot/uefi.h>
#include <mm/mm.h>

#define T_KIB         UINT64_C(1024)
#define T_MIB         UINT64_C(0x100000)
#define T_RAM_START   T_MIB
#define T_RAM_LEN     (512 * T_KIB)
#define T_RAM2_START  (2 * T_MIB)
#define T_RAM2_LEN    (128 * T_KIB)
#define T_SYS_START   (3 * T_MIB)
#define T_SYS_LEN     (512 * T_KIB)
#define T_RAM_END     (4 * T_MIB)
#define T_ARENA       UINT64_C(0xffffc00000000000)
#define T_ARENA_LEN   (UINT64_C(1) << 30)
#define T_TOP         UINT64_C(0xffffffff80000000) /* a kernel range that ends at 2^64 */
#define T_TOP_LEN     (UINT64_C(1) << 31)
#define T_KVA         (T_TOP + (UINT64_C(1) << 30)) /* of `kva` */
#define T_KVA_LEN     (UINT64_C(1) << 28)
#define T_DEVICE      UINT64_C(0xfed00000) /* mapped in `kva` */
#define T_USER_LEN    (UINT64_C(1) << 47)
#define T_AT          UINT64_C(0x40000000) /* user: eight pages of 4 KiB, read and write */
#define T_AT_LARGE    UINT64_C(0x80000000) /* user: a leaf of 2 MiB, its frames are no RAM */
#define T_AT_FREE     UINT64_C(0xc0000000) /* user: nothing */
#define T_LARGE_PADDR UINT64_C(0x80000000)
#define T_SPACE_AT    UINT64_C(0x10000000) /* of `space`: eight pages, all touched */
#define T_SPACE_FREE  UINT64_C(0x20000000)
#define T_POOL_LEN    (384 * T_KIB)
#define T_SRAT_AT     1u /* in `numa_tables` */
#define T_SRAT_LEN    168u
#define T_SLIT_AT     201u
#define T_SLIT_LEN    53u

struct t_registers {
    uint64_t cr0, cr3, cr4, efer, pat;
};

/** One of each kind. */
struct t_kinds {
    struct mm_bootmap map;
    struct mm_numa numa;
    struct mm_frames frames;
    struct mm_x86_64 arch;
    struct mm_pagetable pt;
    struct mm_gather gather;
    struct mm_tlb tlb;
    struct mm_page_range range;
    struct mm_page_frames pages;
    struct mm_pool pool;
    struct mm_cache cache;
    struct mm_heap heap;
    struct mm_heap_region heap_region;
    struct mm_kva kva;
    struct mm_percpu percpu;
    struct mm_spaces spaces;
    struct mm_space_group group;
    struct mm_dma dma;
    struct mm_dma_region region;
    struct mm_user user;
    struct mm_user_slice slice;
    struct mm_system system;
};

struct t_world {
    unsigned char pool_buffer[T_POOL_LEN] __attribute__((aligned(4096)));
    unsigned char range_buffer[8 * 4096] __attribute__((aligned(4096)));  /* of spare.range */
    unsigned char region_buffer[8 * 4096] __attribute__((aligned(4096))); /* of heap_region */
    unsigned char guard_buffer[7 * 4096] __attribute__((aligned(4096)));  /* of watched_heap */
    unsigned char metadata[32768] __attribute__((aligned(4096)));         /* of spare.frames */
    unsigned char metadata2[32768] __attribute__((aligned(4096)));        /* zeroed, for an init */
    uint32_t multiboot2[128] __attribute__((aligned(8)));
    uint64_t efi_map[12], e820_map[12], limine_list[6]; /* two entries each */
    const uint64_t *limine_map[3];                      /* to those, and a null one */
    struct t_registers cpu;
    struct mm_boot_entry entries[16], raw_entries[7], sys_entries[16], spare_entries[16];
    struct mm_boot_entry many_entries[16], fresh_entries[4];
    struct mm_bootmap map, raw, sys_map, spare_map, empty_map;
    unsigned char numa_tables[256];         /* an SRAT and a SLIT */
    struct mm_numa numa, numa_srat;         /* both were read; the SRAT alone */
    struct mm_numa numa_unread, numa_small; /* nothing; and there is no room for it */
    struct mm_numa_range numa_ranges[4][4];
    struct mm_numa_cpu numa_cpus[4][4];
    struct mm_physmap physmap, physmap_ops, physmap_short, physmap_half;
    struct mm_paging_backend backend;
    struct mm_frames frames;
    struct mm_frame_window window;
    struct mm_x86_64 arch;
    struct mm_pagetable kernel; /* in use */
    struct mm_pagetable user;   /* with leaves */
    struct mm_pagetable user2;  /* without */
    struct mm_gather gather;    /* of user */
    struct mm_gather gather_kernel;
    struct mm_tlb tlb; /* no CPU is online, and no root uses it */
    struct mm_tlb_cpu tlb_cpus[4][2];
    struct mm_tlb *use_tlb; /* what the configurations of roots name */
    uint32_t this_cpu;
    struct mm_page_range range;
    struct mm_page_frames pages;
    struct mm_pool pool;
    struct mm_cache cache;
    struct mm_heap heap;
    struct mm_pool cold_pool; /* nothing was allocated from it yet */
    struct mm_cache cold_cache;
    struct mm_heap cold_heap;
    struct mm_heap large_heap;     /* with a large pool, the cold one */
    struct mm_heap watched_heap;   /* with callers, every object sampled */
    struct mm_cache watched_cache; /* with callers */
    struct mm_heap_report report;
    void *watched_object, *watched_freed, *watched_taken;
    struct mm_kva kva; /* one range of each kind */
    struct mm_percpu percpu;
    struct mm_spaces spaces;
    struct mm_space *space; /* regions with touched pages, shared with `child` */
    struct mm_space *child;
    struct mm_space *lone;  /* an empty one */
    struct mm_space *other; /* of a scenario: a kernel's, or one of `full` */
    struct mm_space_group full;
    struct mm_dma dma;
    struct mm_dma_region region;
    struct mm_user uaccess;
    struct mm_user_slice slice, slice_in, slice_out; /* both rights; one of them */
    struct mm_vrange sys_ranges[3];
    struct mm_boot_section sections[3];
    struct mm_system_device device;
    struct t_kinds spare; /* live, each alone, so that it can be taken down */
    struct t_kinds fresh; /* zeroed storage */
    struct t_kinds never; /* zeroed storage, large enough for any object */
    struct t_kinds gone;  /* was live, and was taken down */
    void *cache_object, *cache_freed, *heap_object, *heap_freed, *heap_run;
    mm_pfn_t frame, frame_shared, frame_freed, block; /* block: order 2 */
    mm_pfn_t list[8];
    mm_vaddr_t kva_memory, kva_device, kva_freed;
    struct mm_vrange kva_stack;
    uint64_t kva_frames[16]; /* of the ranges of `kva` */
    unsigned kva_nr_frames;
    void *pages_object; /* a page of `pages` */
    mm_vaddr_t mapped;
    uint64_t user_memory[1024];
    unsigned char in[8192] __attribute__((aligned(16)));
    unsigned char out[4096] __attribute__((aligned(16)));
    unsigned char out2[4096] __attribute__((aligned(16))); /* what out-parameters point to */
};

/** What the harness keeps: no part of what is compared. */
struct t_harness {
    struct t_ram *ram;
    struct t_inject inject;
    mm_status_t fail_with; /**< what a failing op of a source answers */
    uint64_t nr_ops;       /**< calls of any op but the log */
    uint64_t nr_mapped;    /**< by the ops of a physmap, now */
    mm_pfn_t held[256];    /**< to make frames scarce */
    uint32_t nr_held;
    uint64_t nr_pages_held;
    char why[300];
};

extern struct t_world t_w;
extern struct t_harness t_h;

/** Make the world, if that was not done, and keep a copy of it. */
void t_world_start(void);

/** As it was when the copy was kept. */
void t_world_restore(void);

/** Keep the world as it is now, to be compared with; t_world_restore() still goes to the start. */
void t_world_keep(void);

/** Back to what t_world_keep() kept. */
void t_world_return(void);

enum t_compare {
    /** Not one byte differs. */
    T_SAME_BYTES,
    /**
     * As after a call that took what it needed, failed, and gave all back: the same frames are
     * allocated, as often referenced, with the same contents; objects, regions and mappings are
     * the same. Not compared: what is free, hints, statistics, and what a pool keeps for reuse
     * (the masks in compare.c, each with its reason).
     */
    T_SAME_STATE,
};

/** Compare with what t_world_keep() kept; if it differs, t_h.why says where. */
bool t_world_same(enum t_compare how);

/** What out-parameters point to, and user memory, as it was kept: for a call that may tell. */
void t_world_forget_told(void);

/** Every check of the library over all live objects, and the counts of the harness. */
bool t_world_sound(void);

/** The ledger of frames, of a world in which no call has succeeded since it was set up. */
bool t_world_balanced(void);

/** Take frames of `frames` until `nr` are left; UINT64_MAX: give them back. */
void t_world_leave_frames(uint64_t nr);

struct mm_platform t_world_platform(void);
struct mm_frame_source t_world_source(void);
extern const struct mm_page_source_ops t_world_page_ops;
extern const struct mm_x86_64_cpu_ops t_world_cpu_ops;
extern const struct mm_user_ops t_world_user_ops;
extern const struct mm_tlb_ops t_world_tlb_ops;
extern const struct mm_physmap_ops t_world_physmap_ops;

/** Callbacks for calls that take one. */
mm_status_t t_world_check(void *ctx, const void *structure);
bool t_world_visit(void *ctx, const struct mm_mapping *mapping);
void t_world_taken(void *ctx, const struct mm_mapping *was);
void t_world_share(void *ctx, mm_pfn_t first, uint64_t nr);
void t_world_construct(void *ctx, void *object);

/** The configurations that the world was made with. */
struct mm_paging_config t_world_paging_config(void);
struct mm_spaces_config t_world_spaces_config(void);
struct mm_tlb_config t_world_tlb_config(unsigned cpus);
struct mm_pool_config t_world_pool_config(void);
struct mm_system_config t_world_system_config(void);
struct mm_kva_config t_world_kva_config(void);
struct mm_percpu_config t_world_percpu_config(void);

/** Take pages of the pool's source until `nr` are left. */
void t_world_pool_pages(uint64_t nr);

/** Usable memory in the map of `system`, in pages. */
void t_world_system_pages(uint64_t nr);

/** Make it a map of more usable ranges than an allocator has room for. */
void t_world_scatter(struct mm_bootmap *map);

/** The spare pool is one of so many CPUs that their hints do not fit an object. */
void t_world_many_cpus(void);

#endif
