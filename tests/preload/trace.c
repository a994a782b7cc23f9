// SPDX-License-Identifier: MIT
/**
 * The recorder: each event is 32 bytes at the next place of a file that is mapped, so that nothing
 * is lost however the process ends. tests/preload/trace.py makes a trace of it.
 *
 * The order of the places is an order in which all can have happened: what frees takes its place
 * before it is begun, what allocates after it is done.
 */
#define _GNU_SOURCE

#include "preload.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEFAULT_EVENTS 1000000u

struct event {
    uint32_t op; /**< 0: nothing was written here */
    uint32_t thread;
    uint64_t address;
    uint64_t size;
    uint64_t align;
};

static struct event *events;
static uint64_t nr_places;
static _Atomic uint64_t next_place;

/** A page that a child finds zero: whether this process records. */
static _Atomic uint32_t *here;

bool preload_tracing(void)
{
    return here != NULL && atomic_load(here) != 0;
}

void preload_trace_init(const char *file, uint64_t nr_events)
{
    char name[512];
    void *map = MAP_FAILED;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t len;
    int fd;

    nr_places = nr_events != 0 ? nr_events : DEFAULT_EVENTS;
    len = nr_places * sizeof(struct event);
    snprintf(name, sizeof(name), "%s.%d", file, (int)getpid());
    fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd >= 0 && ftruncate(fd, (off_t)len) == 0) {
        map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (map == MAP_FAILED || page == MAP_FAILED || madvise(page, 4096, MADV_WIPEONFORK) != 0) {
        preload_say("mm_preload: %s cannot be recorded into", name);
        return;
    }
    events = map;
    here = page;
    atomic_store(here, 1);
}

void preload_trace(enum preload_op op, const void *address, uint64_t size, uint64_t align)
{
    static atomic_uint nr_threads;
    static PRELOAD_THREAD uint32_t thread;
    uint64_t place;

    if (!preload_tracing()) {
        return;
    }
    if (thread == 0) {
        thread = atomic_fetch_add(&nr_threads, 1) + 1;
    }
    place = atomic_fetch_add(&next_place, 1);
    if (place >= nr_places) {
        return;
    }
    events[place] = (struct event){.op = op,
                                   .thread = thread,
                                   .address = (uint64_t)(uintptr_t)address,
                                   .size = size,
                                   .align = align};
}
