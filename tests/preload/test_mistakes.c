// SPDX-License-Identifier: MIT
/**
 * What the preloaded malloc says of a mistake, and whom it names: a child makes it, and ends.
 */
#define _GNU_SOURCE

#include "test_preload.h"

#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/** What the library was told to check. */
static bool hardened;
static bool sampled;

/** The library's handler, before cmocka's. */
static struct sigaction on_fault;

void mistakes_begin(void)
{
    hardened =
        getenv("MM_PRELOAD_TIER") != NULL && strcmp(getenv("MM_PRELOAD_TIER"), "hardened") == 0;
    sampled = getenv("MM_PRELOAD_SAMPLE") != NULL;
    sigaction(SIGSEGV, NULL, &on_fault);
}

static void twice(void)
{
    char *object = malloc(opaque(100));

    free(alias(object));
    free(object);
}

static void inside(void)
{
    free((char *)malloc(100) + opaque(16));
}

static void foreign(void)
{
    static char mine[64];

    free(mine + opaque(0));
}

static void large_twice(void)
{
    char *object = malloc(opaque(MiB));

    free(alias(object));
    object = realloc(object, 10);
}

/* What only some tiers tell. */

static void write_behind(void)
{
    char *object = malloc(opaque(100));

    object[opaque(100)] = 1;
    free(object);
}

static void write_before(void)
{
    char *object = malloc(opaque(100));

    *(object - opaque(1)) = 1;
    free(object);
}

static void write_later(void)
{
    char *object = malloc(opaque(100));

    free(alias(object));
    object[opaque(50)] = 1;
    for (unsigned i = 0; i < 10000; i++) {
        free(malloc(opaque(100)));
    }
}

/** A sample lies on a page of its own. */
static void read_far_behind(void)
{
    volatile char *object = malloc(opaque(100));

    (void)object[opaque(4096)];
}

static void read_later(void)
{
    volatile char *object = malloc(opaque(100));

    free(alias((void *)(uintptr_t)object));
    (void)object[opaque(50)];
}

/* --- who is named ----------------------------------------------------------------------------- */

/** Of the program, as the linker names its ends; without it, of a library. */
extern const char program_begin[] __asm__("__executable_start");
extern const char program_end[] __asm__("etext");

/** Whether the text names somebody so, and each that it names is of the program. */
static bool names_the_program(const char *said, const char *how)
{
    const char *at = strstr(said, how);
    bool any = at != NULL;

    for (; at != NULL; at = strstr(at + 1, how)) {
        uintptr_t address = strtoull(at + strlen(how), NULL, 16);

        if (address < (uintptr_t)program_begin || address >= (uintptr_t)program_end) {
            return false;
        }
    }
    return any;
}

/** The process ends by SIGABRT, and has said this. */
static void expect_report_of(void (*mistake)(void), const char *what, bool who_is_known)
{
    char said[1024] = "";
    size_t len = 0;
    ssize_t nr;
    int ends[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        sigaction(SIGSEGV, &on_fault, NULL);
        dup2(ends[1], STDERR_FILENO);
        mistake();
        _exit(0);
    }
    close(ends[1]);
    while (len + 1 < sizeof(said) && (nr = read(ends[0], said + len, sizeof(said) - 1 - len)) > 0) {
        len += (size_t)nr;
    }
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || strstr(said, what) == NULL ||
        strstr(said, "mm_preload: heap malloc: ") != said) {
        fail_msg("not \"%s\": status 0x%x, and it said: %s", what, (unsigned)status, said);
    }
    if (who_is_known &&
        (!names_the_program(said, "  allocated by 0x") ||
         !names_the_program(said, "  freed by 0x") || !names_the_program(said, "  found by 0x"))) {
        fail_msg("not of the program: %s", said);
    }
}

static void expect_report(void (*mistake)(void), const char *what)
{
    expect_report_of(mistake, what, false);
}

static void *(*make_one)(void);
static void (*end_one)(void *object);

static void *made_by_malloc(void)
{
    void *object = malloc(opaque(100));

    __asm__ volatile("" : "+r"(object));
    return object;
}

static void *made_by_calloc(void)
{
    void *object = calloc(opaque(10), opaque(10));

    __asm__ volatile("" : "+r"(object));
    return object;
}

static void *made_by_realloc(void)
{
    void *object = realloc(NULL, opaque(100));

    __asm__ volatile("" : "+r"(object));
    return object;
}

static void *made_by_reallocarray(void)
{
    void *object = reallocarray(malloc(opaque(10)), opaque(100), opaque(10));

    __asm__ volatile("" : "+r"(object));
    return object;
}

static void *made_by_posix_memalign(void)
{
    void *object = NULL;

    assert_int_equal(posix_memalign(&object, opaque(64), opaque(100)), 0);
    return object;
}

static void *made_by_memalign(void)
{
    void *object = memalign(opaque(48), opaque(100));

    __asm__ volatile("" : "+r"(object));
    return object;
}

static void ended_by_free(void *object)
{
    free(object);
    __asm__ volatile("");
}

static void ended_by_realloc(void *object)
{
    void *none = realloc(object, opaque(0));

    __asm__ volatile("" : "+r"(none));
}

static void make_and_end_twice(void)
{
    void *object = make_one();

    end_one(alias(object));
    end_one(alias(object));
}

/** Each call of the family, where it is recorded who made it: it was the program. */
void test_who_is_named(void **state)
{
    static void *(*const makers[])(void) = {made_by_malloc,         made_by_calloc,
                                            made_by_realloc,        made_by_reallocarray,
                                            made_by_posix_memalign, made_by_memalign};
    static void (*const enders[])(void *) = {ended_by_free, ended_by_realloc};

    (void)state;
    if (!hardened && !sampled) {
        skip();
    }
    for (unsigned i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
        for (unsigned n = 0; n < 2; n++) {
            make_one = makers[i];
            end_one = enders[n];
            expect_report_of(make_and_end_twice, "double free of an object", true);
        }
    }
}

void test_mistakes(void **state)
{
    (void)state;
    expect_report(twice, "double free of an object");
    expect_report(inside, "free of the inside of an object");
    expect_report(foreign, "holds no object");
    expect_report(large_twice, hardened ? "double free of an object" : "holds no object");
    if (hardened) {
        expect_report(write_behind, "overflow of an object");
        expect_report(write_before, "underflow of an object");
        expect_report(write_later, "write to an object after its free");
    }
    if (sampled) {
        expect_report(read_far_behind, "overflow of an object");
        expect_report(read_later, "after its free");
    }
}
