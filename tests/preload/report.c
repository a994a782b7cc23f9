// SPDX-License-Identifier: MIT
/**
 * What the preloaded malloc says, and what it is told: lines to standard error, by write(2) alone,
 * and the variables of the environment.
 */
#define _GNU_SOURCE

#include "preload.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/rseq.h>
#include <unistd.h>

void preload_say(const char *format, ...)
{
    char line[512];
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(line, sizeof(line) - 1, format, arguments);
    va_end(arguments);
    if (len < 0) {
        return;
    }
    if ((size_t)len > sizeof(line) - 2) {
        len = (int)sizeof(line) - 2;
    }
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)len) < 0) {
        return; /* nobody is there to be told */
    }
}

/* --- the environment -------------------------------------------------------------------------- */

/** Take in one more byte of NAME=VALUE lines that end in 0; true at the end of the one sought. */
struct seeker {
    const char *name;
    char *value;
    size_t len;
    size_t at;   /**< bytes of this line so far */
    size_t head; /**< of NAME= */
    bool same;   /**< so far it is this name */
};

static bool seek(struct seeker *seeker, char c)
{
    size_t at = seeker->at++;

    if (c == '\0') {
        bool found = seeker->same && at >= seeker->head;

        if (found) {
            seeker->value[at - seeker->head] = '\0';
        }
        seeker->at = 0;
        seeker->same = true;
        return found;
    }
    if (at < seeker->head) {
        seeker->same = seeker->same && c == (at + 1 < seeker->head ? seeker->name[at] : '=');
    } else if (at - seeker->head + 1 >= seeker->len) {
        seeker->same = false;
    } else if (seeker->same) {
        seeker->value[at - seeker->head] = c;
    }
    return false;
}

/** The first call of malloc is made before the libc knows its environment: the kernel is asked. */
bool preload_option(const char *name, char *value, size_t len)
{
    struct seeker seeker = {
        .name = name, .value = value, .len = len, .head = strlen(name) + 1, .same = true};
    int file = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    char some[1024];
    ssize_t nr;

    if (file < 0) {
        return false;
    }
    while ((nr = read(file, some, sizeof(some))) > 0) {
        for (ssize_t i = 0; i < nr; i++) {
            if (seek(&seeker, some[i])) {
                close(file);
                return true;
            }
        }
    }
    close(file);
    return false;
}

uint64_t preload_option_number(const char *name)
{
    char value[24];

    return preload_option(name, value, sizeof(value)) ? strtoull(value, NULL, 10) : 0;
}

/* --- the platform ----------------------------------------------------------------------------- */

_Noreturn static void panic(void *ctx, const struct mm_panic_info *info)
{
    (void)ctx;
    preload_say("mm_preload: panic: %s: %s at 0x%llx; recorded: %s (%llu), claimed: %s (%llu)",
                info->room, info->what, (unsigned long long)info->address,
                info->recorded != NULL ? info->recorded : "nothing",
                (unsigned long long)info->recorded_value,
                info->claimed != NULL ? info->claimed : "nothing",
                (unsigned long long)info->claimed_value);
    abort();
}

static void log_line(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    preload_say("mm_preload: %.*s", (int)len, line);
}

/** Threads are numbered where the kernel does not tell the CPU. */
static uint32_t thread_number(void)
{
    static atomic_uint nr_threads;
    static PRELOAD_THREAD uint32_t number;

    if (number == 0) {
        number = atomic_fetch_add(&nr_threads, 1) + 1;
    }
    return number - 1;
}

uint32_t preload_cpu(void)
{
    const struct rseq *area;
    uint32_t cpu;
    uintptr_t thread;

    __asm__("mov %%fs:0, %0"
            : "=r"(thread)); /* System V ABI: the thread pointer points at itself */
    area = (const struct rseq *)(thread + (uintptr_t)__rseq_offset);
    cpu = *(const volatile uint32_t *)&area->cpu_id;
    return PRELOAD_LIKELY((int32_t)cpu >= 0) ? cpu : thread_number();
}

static uint32_t cpu_number(void *ctx)
{
    (void)ctx;
    return preload_cpu();
}

const struct mm_platform_ops preload_platform_ops = {
    .panic = panic, .log = log_line, .cpu_number = cpu_number};
