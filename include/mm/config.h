// SPDX-License-Identifier: MIT
/**
 * What a kernel may choose when it builds libmm, and the few macros every header needs.
 *
 * Each option has a default and a range that is checked when the library is built. The same values
 * must be seen by the library and by the code that links it: set them on the command line of both.
 */
#ifndef MM_CONFIG_H
#define MM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MM_VERSION_MAJOR 0
#define MM_VERSION_MINOR 1
#define MM_VERSION_PATCH 0
/** One number that orders versions: 10000 * major + 100 * minor + patch. */
#define MM_VERSION (MM_VERSION_MAJOR * 10000 + MM_VERSION_MINOR * 100 + MM_VERSION_PATCH)

/** Bytes of a cache line: what two CPUs must not share. */
#ifndef MM_CACHE_LINE
#define MM_CACHE_LINE 64
#endif

/** Usable ranges of physical memory that one frame allocator can describe. */
#ifndef MM_FRAME_MAX_SPANS
#define MM_FRAME_MAX_SPANS 4096
#endif

/** Runs of frames that a gather holds before it must flush and release them. */
#ifndef MM_GATHER_MAX_RUNS
#define MM_GATHER_MAX_RUNS 32
#endif

/** Ranges that a gather tracks one by one; more are merged into the nearest. */
#ifndef MM_GATHER_MAX_RANGES
#define MM_GATHER_MAX_RANGES 8
#endif

/** Pages above which a flush drops the whole TLB rather than one page after the other. */
#ifndef MM_GATHER_FLUSH_PAGES
#define MM_GATHER_FLUSH_PAGES 33
#endif

/** Ranges of kernel addresses that a page table may be declared to hold. */
#ifndef MM_PAGING_MAX_KERNEL_RANGES
#define MM_PAGING_MAX_KERNEL_RANGES 8
#endif

/** Memory nodes of a machine. A topology holds a byte for each two of them, and a set of nodes is one
 * word. */
#ifndef MM_MAX_NODES
#define MM_MAX_NODES 64
#endif

/** Bytes from which on memory that is to be zeroed goes past the caches, if a kernel gives the op. */
#ifndef MM_FRAME_ZERO_PAST_CACHE
#define MM_FRAME_ZERO_PAST_CACHE 2097152
#endif

#if MM_CACHE_LINE < 16 || (MM_CACHE_LINE & (MM_CACHE_LINE - 1)) != 0
#error "MM_CACHE_LINE: a power of two, at least 16"
#endif
#if MM_FRAME_MAX_SPANS < 1 || MM_FRAME_MAX_SPANS > 32768
#error "MM_FRAME_MAX_SPANS: 1 to 32768"
#endif
#if MM_GATHER_MAX_RUNS < 4 || MM_GATHER_MAX_RUNS > 128
#error "MM_GATHER_MAX_RUNS: 4 to 128, so that a gather fits into a frame"
#endif
#if MM_GATHER_MAX_RANGES < 1 || MM_GATHER_MAX_RANGES > 64
#error "MM_GATHER_MAX_RANGES: 1 to 64"
#endif
#if MM_GATHER_FLUSH_PAGES < 1 || MM_GATHER_FLUSH_PAGES > 1048576
#error "MM_GATHER_FLUSH_PAGES: 1 to 1048576"
#endif
#if MM_PAGING_MAX_KERNEL_RANGES < 1 || MM_PAGING_MAX_KERNEL_RANGES > 32
#error "MM_PAGING_MAX_KERNEL_RANGES: 1 to 32"
#endif
#if MM_MAX_NODES < 1 || MM_MAX_NODES > 64
#error "MM_MAX_NODES: 1 to 64, the bits of a mask of nodes"
#endif
#if MM_FRAME_ZERO_PAST_CACHE < 4096 || MM_FRAME_ZERO_PAST_CACHE > 1073741824
#error "MM_FRAME_ZERO_PAST_CACHE: 4096 to 1073741824"
#endif

/** One number for all the options above: different options, different numbers. */
#define MM_CONFIG_SIGNATURE                                                                        \
    ((uint64_t)(MM_CACHE_LINE)*UINT64_C(0x9e3779b97f4a7c15) ^                                      \
     (uint64_t)(MM_MAX_NODES)*UINT64_C(0xc2b2ae3d27d4eb4f) ^                                       \
     (uint64_t)(MM_FRAME_ZERO_PAST_CACHE)*UINT64_C(0x165667b19e3779f9) ^                           \
     (uint64_t)(MM_FRAME_MAX_SPANS) << 47 ^ (uint64_t)(MM_GATHER_MAX_RUNS) << 36 ^                 \
     (uint64_t)(MM_GATHER_MAX_RANGES) << 29 ^ (uint64_t)(MM_GATHER_FLUSH_PAGES) << 8 ^             \
     (uint64_t)(MM_PAGING_MAX_KERNEL_RANGES))

/*
 * Around the declarations of every header. The archive is linked into one kernel or program, never
 * across a shared library's edge; saying so (hidden) lets the address of a table of ops be taken
 * without a GOT.
 */
#ifdef __cplusplus
#define MM_BEGIN_DECLS                                                                             \
    extern "C" {                                                                                   \
    _Pragma("GCC visibility push(hidden)")
#define MM_END_DECLS                                                                               \
    _Pragma("GCC visibility pop")                                                                  \
    }
#else
#define MM_BEGIN_DECLS _Pragma("GCC visibility push(hidden)")
#define MM_END_DECLS   _Pragma("GCC visibility pop")
#endif

/** The result tells whether the call happened at all: dropping it is a mistake. */
#define MM_MUST_CHECK __attribute__((warn_unused_result))

MM_BEGIN_DECLS

/** MM_VERSION of the archive that is linked; compare with the macro of the headers. */
uint32_t mm_version(void);

/**
 * MM_CONFIG_SIGNATURE of the archive that is linked. A kernel compares it with the macro before
 * anything else: where they differ, the two sides disagree about the size of objects.
 */
uint64_t mm_config_signature(void);

MM_END_DECLS

#endif
