// SPDX-License-Identifier: MIT
/**
 * Claims: which physical ranges are mapped, with which memory type, by the arena and by whoever else
 * maps some (spaces). One physical page must not be in use with two memory types at once (SDM vol.
 * 3A, 12.12.4), whoever maps it. So a range is claimed before it is mapped, and released once no
 * CPU has a translation of it any more.
 *
 * Any number of claims of one type may overlap; two of different types never do. So who holds a
 * claim can claim any part of it again with its type, which cannot fail (mmi_device_claim_part()):
 * before a range is split or handed on, claim what stays, then release the old claim.
 *
 * The claims have a lock of their own, the innermost of all, held for O(log n) and with no call out
 * of here, but by checks: it may be taken under the lock of the arena, of a space, of the root.
 *
 * What was freed in the arena keeps its claim until a purge: see mmi_device_settle().
 */
#ifndef MMI_HEAP_DEVICE_H
#define MMI_HEAP_DEVICE_H

#include "core/base/range.h"

#include <mm/kva.h>

/** The claims that some agree in, and what they need. Passed by value. */
struct mmi_devices {
    struct mm_kva_devices *claims;
    const struct mm_frames *frames; /* whose memory is write-back */
    const struct mm_platform *platform;
};

/** The arena's. Spaces whose manager knows no arena have some of their own. */
static inline struct mmi_devices mmi_devices_of(struct mm_kva *kva)
{
    return (struct mmi_devices){&kva->devices, kva->frames, &kva->platform};
}

/**
 * Claim a physical range, for a mapping that is yet to be made.
 *
 * @param claim  in no tree; the caller sets `node.start` (physical), `len` (whole pages, no wrap) and
 *              `tag`: who claims, 0 for the arena alone. Linked if MM_OK, else not
 * @return MM_OK | MM_ERR_ALREADY_MAPPED (a page of it is claimed with another type)
 *         | MM_ERR_PERMISSION_DENIED (a page of it is memory that the frame allocator
 *         manages, and `type` is not write-back)
 * Owner:  the claim stays the caller's, and where it is until it is released.
 * Locks:  that of the claims; any other may be held. Not in a handler. Cost: O(log n).
 */
MM_MUST_CHECK
mm_status_t mmi_device_claim(struct mmi_devices devices, struct mmi_range *claim,
                             mm_memtype_t type);

/** The same without waiting: and MM_ERR_BUSY, if the lock of the claims is held. Any context. Who
 * claimed so may release at once: then only another CPU can hold the lock, and not for long. */
MM_MUST_CHECK
mm_status_t mmi_device_try_claim(struct mmi_devices devices, struct mmi_range *claim,
                                 mm_memtype_t type);

/** Claim part of what another claim of this type holds, or all of it: it cannot fail. Locks as
 * mmi_device_claim(). */
void mmi_device_claim_part(struct mmi_devices devices, struct mmi_range *claim, mm_memtype_t type);

/** Take a claim back, once no CPU can have a translation. Locks as mmi_device_claim(). */
void mmi_device_release(struct mmi_devices devices, struct mmi_range *claim, mm_memtype_t type);

/** Whether a page of the range is claimed with another type. Locks as mmi_device_claim(). */
bool mmi_device_conflicts(struct mmi_devices devices, uint64_t paddr, uint64_t len,
                          mm_memtype_t type);

/**
 * After a conflict: purge the arena, because what was freed there holds its claims until then. Then
 * claim again, which may meet a newer conflict: that is final.
 *
 * @return MM_OK (nothing conflicts now) | MM_ERR_ALREADY_MAPPED (something that is in use does)
 * Locks:  as mm_kva_purge(): it flushes. Best nothing is held. A lock that is held across the end
 *         of a gather (of a user space) may be. Not the lock of the kernel's root, which a caller of
 *         a kernel space may hold: there a conflict is the answer, and the caller's to purge for.
 * Cost:   O(log n) without a conflict, else as mm_kva_purge().
 */
MM_MUST_CHECK
mm_status_t mmi_device_settle(struct mm_kva *kva, uint64_t paddr, uint64_t len, mm_memtype_t type);

/** For checks: whether it is a claim of this type. It is compared and not read, but for
 * `node.start`. Locks as mmi_device_claim(). Cost: O(log n), and the claims that begin where it does. */
bool mmi_device_has(struct mmi_devices devices, const struct mmi_range *claim, mm_memtype_t type);

/** For checks: whether the trees are in order, and no page is claimed with two types. Each
 * contradiction is one line to the log op, said of `room`. The lock of the claims is held. Cost:
 * O(n log n). */
bool mmi_devices_check(struct mmi_devices devices, const char *room);

#endif
