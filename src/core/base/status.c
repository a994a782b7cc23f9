// SPDX-License-Identifier: MIT
/**
 * Names of statuses and types, and the version: the words of base.
 */
#include <mm/addr.h>
#include <mm/config.h>
#include <mm/status.h>

const char *mm_status_str(mm_status_t status)
{
    switch (status) {
    case MM_OK:
        return "MM_OK";
    case MM_ERR_NO_MEMORY:
        return "MM_ERR_NO_MEMORY";
    case MM_ERR_INVALID_ARGUMENT:
        return "MM_ERR_INVALID_ARGUMENT";
    case MM_ERR_INVALID_ADDRESS:
        return "MM_ERR_INVALID_ADDRESS";
    case MM_ERR_INVALID_SIZE:
        return "MM_ERR_INVALID_SIZE";
    case MM_ERR_INVALID_FLAGS:
        return "MM_ERR_INVALID_FLAGS";
    case MM_ERR_NOT_ALIGNED:
        return "MM_ERR_NOT_ALIGNED";
    case MM_ERR_ALREADY_MAPPED:
        return "MM_ERR_ALREADY_MAPPED";
    case MM_ERR_NOT_MAPPED:
        return "MM_ERR_NOT_MAPPED";
    case MM_ERR_REGION_NOT_FOUND:
        return "MM_ERR_REGION_NOT_FOUND";
    case MM_ERR_PERMISSION_DENIED:
        return "MM_ERR_PERMISSION_DENIED";
    case MM_ERR_ALREADY_INITIALIZED:
        return "MM_ERR_ALREADY_INITIALIZED";
    case MM_ERR_NOT_INITIALIZED:
        return "MM_ERR_NOT_INITIALIZED";
    case MM_ERR_HUGE_PAGE:
        return "MM_ERR_HUGE_PAGE";
    case MM_ERR_NODE_NOT_FOUND:
        return "MM_ERR_NODE_NOT_FOUND";
    case MM_ERR_LIMIT:
        return "MM_ERR_LIMIT";
    case MM_ERR_FAULT:
        return "MM_ERR_FAULT";
    case MM_ERR_IO:
        return "MM_ERR_IO";
    case MM_ERR_BUSY:
        return "MM_ERR_BUSY";
    case MM_ERR_UNSUPPORTED:
        return "MM_ERR_UNSUPPORTED";
    case MM_ERR_CORRUPTED:
        return "MM_ERR_CORRUPTED";
    }
    return "MM_ERR_?";
}

const char *mm_memtype_str(mm_memtype_t type)
{
    switch (type) {
    case MM_MEMTYPE_WB:
        return "WB";
    case MM_MEMTYPE_WT:
        return "WT";
    case MM_MEMTYPE_WC:
        return "WC";
    case MM_MEMTYPE_UC_MINUS:
        return "UC-";
    case MM_MEMTYPE_UC:
        return "UC";
    case MM_MEMTYPE_WP:
        return "WP";
    }
    return "?";
}

uint32_t mm_version(void)
{
    return MM_VERSION;
}

uint64_t mm_config_signature(void)
{
    return MM_CONFIG_SIGNATURE;
}
