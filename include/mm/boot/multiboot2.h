// SPDX-License-Identifier: MIT
/**
 * Multiboot2 information into a boot map (Multiboot2 Specification 2.0, section 3.6).
 *
 * The data is distrusted: every tag's type and size is checked against the bytes that are there,
 * and nothing is read past them. A malformed tag is an error that names it.
 */
#ifndef MM_BOOT_MULTIBOOT2_H
#define MM_BOOT_MULTIBOOT2_H

#include <mm/bootmap.h>

MM_BEGIN_DECLS

/** Value of EAX when a multiboot2 loader enters the kernel (3.3 of the specification). */
#define MM_MULTIBOOT2_MAGIC 0x36d76289u

/** Modules and sections that are kept; more are counted and left out of the arrays. */
#define MM_MULTIBOOT2_MAX_MODULES  16
#define MM_MULTIBOOT2_MAX_SECTIONS 32

struct mm_multiboot2_module {
    struct mm_prange range;
    uint32_t cmdline_offset; /**< of the module's string, from the start of the information */
    uint32_t zero;
};

struct mm_multiboot2_framebuffer {
    struct mm_prange range;
    uint32_t pitch;
    uint32_t width;
    uint32_t height;
    uint8_t bpp;
    uint8_t type; /**< 0 indexed, 1 RGB, 2 EGA text */
    uint8_t zero[2];
};

/** What was found beside the memory map. */
struct mm_multiboot2_info {
    struct mm_prange self;   /**< the information itself, at the physical address the caller gave */
    uint32_t nr_entries;     /**< memory-map entries read, of whichever map was used */
    uint32_t nr_ignored;     /**< usable entries that wrap past 2^64, and were left out */
    uint32_t from_efi;       /**< 1: the EFI memory map was used as well */
    uint32_t nr_modules;     /**< as found, may exceed the array */
    uint32_t nr_sections;    /**< that occupy memory (SHF_ALLOC, not empty); may exceed the array */
    uint32_t cmdline_offset; /**< of the kernel's command line, from the start; 0: none */
    uint32_t loader_offset;  /**< of the boot loader's name; 0: none */
    uint32_t rsdp_len;       /**< 0: none; 20 for ACPI 1.0, 36 for 2.0 and later */
    uint8_t rsdp[36];        /**< copied out, the newer one if both are given */
    uint32_t has_framebuffer;
    struct mm_multiboot2_framebuffer framebuffer;
    struct mm_multiboot2_module modules[MM_MULTIBOOT2_MAX_MODULES];
    /** Physical addresses by `kernel_offset`; write and execute from sh_flags (ELF-64 spec). */
    struct mm_boot_section sections[MM_MULTIBOOT2_MAX_SECTIONS];
};

/** Which tag is malformed. */
struct mm_multiboot2_error {
    uint32_t tag_type; /**< UINT32_MAX: the header before the first tag, or no end tag */
    uint32_t offset;   /**< of the tag, from the start */
    const char *what;  /**< one sentence, lives for ever */
};

/**
 * Read multiboot2 information: memory ranges into `map`, the rest into `out`.
 *
 * Reserved in the map beside what the memory maps say: the information itself (as
 * MM_BOOT_BOOTLOADER), modules, the sections of the kernel (as MM_BOOT_KERNEL), and the
 * framebuffer. A descriptor of the EFI memory map becomes what <mm/boot/uefi.h> says, by its type
 * and its attributes: memory for a specific purpose or that is not volatile is never usable, whatever
 * the other map says of it. Loader and boot services memory becomes MM_BOOT_BOOTLOADER: nobody needs
 * it once the kernel stands on its own stack and tables and has read the information;
 * mm_bootmap_reclaim() then makes it usable.
 *
 * A section's physical address is sh_addr - `kernel_offset` if sh_addr is at or above that, else
 * sh_addr, so that a boot section which is linked low is found as well.
 *
 * Of strings and framebuffers that come twice the first is kept; all modules and sections reach the
 * map, also those that the arrays have no room for. The EFI memory map is believed only when boot
 * services have ended. Of both maps, what could be reclaimed later and wraps past 2^64 is reserved up
 * to there; what can never be usable is cut. Unknown tags are skipped.
 *
 * @param map         initialised; entries are added, not normalised
 * @param data        the information, 8-byte aligned
 * @param len         bytes that may be read at `data`; the information's own total size must fit
 * @param paddr       where the information lies in physical memory
 * @param kernel_offset  virtual minus physical address of the kernel's sections
 * @param[out] out    untouched on error
 * @param[out] error  may be null; written only when MM_ERR_CORRUPTED is returned
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_ALIGNED (data)
 *         | MM_ERR_REGION_NOT_FOUND (no memory map tag, and no EFI memory map to believe)
 *         | MM_ERR_LIMIT (the map has not room for all) | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_INVALID_SIZE (len below 16) | MM_ERR_INVALID_ADDRESS (paddr: the information
 *         would end above 2^64) | MM_ERR_NOT_INITIALIZED (map). On error the map is as it was.
 * Cost:   O(bytes), twice.
 */
MM_MUST_CHECK
mm_status_t mm_multiboot2_read(struct mm_bootmap *map, const void *data, size_t len,
                               mm_paddr_t paddr, uint64_t kernel_offset,
                               struct mm_multiboot2_info *out, struct mm_multiboot2_error *error);

MM_END_DECLS

#endif
