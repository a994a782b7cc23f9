// SPDX-License-Identifier: MIT
//
// Words of the form key=value, separated by spaces.

#include "options.h"

#include <stddef.h>

#include "panic.h"

// The rest of `word` after `prefix`, or NULL.
static const char *after(const char *word, const char *prefix)
{
    for (; *prefix != '\0'; prefix++, word++) {
        if (*word != *prefix) {
            return NULL;
        }
    }
    return word;
}

static bool ends(const char *at)
{
    return *at == '\0' || *at == ' ';
}

static bool is(const char *word, const char *text)
{
    const char *rest = after(word, text);
    return rest != NULL && ends(rest);
}

static bool parse_size(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && value < UINT32_MAX; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
    }
    if (at == text) {
        return false;
    }
    if (*at == 'K') {
        value <<= 10;
        at++;
    } else if (*at == 'M') {
        value <<= 20;
        at++;
    }
    *out = value;
    return ends(at);
}

static bool parse_truth(const char *value, struct options *out)
{
    if (is(value, "all")) {
        out->truth = OPTIONS_TRUTH_ALL;
    } else {
        out->truth = OPTIONS_TRUTH_ONE;
        return parse_size(value, &out->truth_case);
    }
    return true;
}

static bool parse_word(const char *word, struct options *out)
{
    const char *value = after(word, "limit=");
    if (value != NULL) {
        return parse_size(value, &out->limit);
    }
    value = after(word, "truth=");
    if (value != NULL) {
        return parse_truth(value, out);
    }
    value = after(word, "truth5=");
    if (value != NULL) {
        out->truth_5_levels = true;
        return parse_truth(value, out);
    }
    value = after(word, "stress=");
    if (value != NULL) {
        return parse_size(value, &out->stress);
    }
    if (is(word, "test=nomap")) {
        out->no_map = true;
    } else if (is(word, "test=fail")) {
        out->fail = true;
    } else if (is(word, "test=panic")) {
        out->panic = true;
    } else if (is(word, "test=panic-on-1")) {
        out->panic_on_1 = true;
    } else if (is(word, "test=overflow")) {
        out->overflow = true;
    } else if (is(word, "test=corrupt")) {
        out->corrupt = true;
    } else if (is(word, "test=threshold")) {
        out->threshold = true;
    } else if (is(word, "test=deaf")) {
        out->deaf = true;
    } else {
        return false;
    }
    return true;
}

void options_parse(const char *line, struct options *out)
{
    *out = (struct options){0};
    while (*line != '\0') {
        if (*line == ' ') {
            line++;
            continue;
        }
        if (!parse_word(line, out)) {
            give_up("unknown option: %s", line);
        }
        while (!ends(line)) {
            line++;
        }
    }
}
