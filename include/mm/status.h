// SPDX-License-Identifier: MIT
/**
 * What a call can answer. Numbers are stable: they may be logged, stored and compared across
 * versions.
 */
#ifndef MM_STATUS_H
#define MM_STATUS_H

#include <mm/config.h>

MM_BEGIN_DECLS

typedef enum mm_status {
    MM_OK = 0,
    MM_ERR_NO_MEMORY = 1,          /**< no frame, page or object is left that fits the request */
    MM_ERR_INVALID_ARGUMENT = 2,   /**< an argument, or a field of one, makes no sense */
    MM_ERR_INVALID_ADDRESS = 3,    /**< not canonical, outside what is declared, or wraps */
    MM_ERR_INVALID_SIZE = 4,       /**< zero, too large, or runs past the end */
    MM_ERR_INVALID_FLAGS = 5,      /**< an unknown flag, or two that contradict each other */
    MM_ERR_NOT_ALIGNED = 6,        /**< an address or length is not a multiple of what it must be */
    MM_ERR_ALREADY_MAPPED = 7,     /**< the range holds a mapping or a region */
    MM_ERR_NOT_MAPPED = 8,         /**< the range holds a hole */
    MM_ERR_REGION_NOT_FOUND = 9,   /**< no region, or no room for one, at this address */
    MM_ERR_PERMISSION_DENIED = 10, /**< the protection of the range forbids it */
    MM_ERR_ALREADY_INITIALIZED = 11, /**< this storage holds a live object */
    MM_ERR_NOT_INITIALIZED = 12,     /**< this storage holds no object */
    MM_ERR_HUGE_PAGE = 13,           /**< part of a huge leaf, and splitting was not allowed */
    MM_ERR_NODE_NOT_FOUND = 14,      /**< no such memory node */
    MM_ERR_LIMIT = 15,               /**< a capacity that the caller gave is used up */
    MM_ERR_FAULT = 16,               /**< memory could not be reached */
    MM_ERR_IO = 17,                  /**< a pager or a device failed */
    MM_ERR_BUSY = 18,                /**< in use: try again, or release it first */
    MM_ERR_UNSUPPORTED = 19, /**< understood, and not served by this build, backend or CPU */
    MM_ERR_CORRUPTED = 20,   /**< data from outside, or a checked structure, contradicts itself */
} mm_status_t;

/** Number of statuses: each value below it has a name. */
#define MM_STATUS_COUNT 21

/**
 * The name of a status, as it is written in the source ("MM_ERR_NO_MEMORY").
 *
 * @return a string that lives for ever; "MM_ERR_?" for a value that is no status
 * Locks:  none; any context. Cost: O(1).
 */
const char *mm_status_str(mm_status_t status);

MM_END_DECLS

#endif
