// SPDX-License-Identifier: MIT
/**
 * Fields of data from outside, little-endian as on every machine that this builds for. They lie at
 * any alignment: firmware and loaders align nothing.
 */
#ifndef MMI_BASE_BYTES_H
#define MMI_BASE_BYTES_H

#include "core/base/mem.h"
#include <stdint.h>

static inline uint32_t mmi_get32(const uint8_t *at)
{
    uint32_t v;

    memcpy(&v, at, sizeof(v));
    return v;
}

static inline uint64_t mmi_get64(const uint8_t *at)
{
    uint64_t v;

    memcpy(&v, at, sizeof(v));
    return v;
}

#endif
