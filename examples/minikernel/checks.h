// SPDX-License-Identifier: MIT
//
// The checks, one function a theme, in the order in which kmain() runs them.

#ifndef MINIKERNEL_CHECKS_H
#define MINIKERNEL_CHECKS_H

/// Exceptions are caught and the kernel goes on; a broken stack has another to land on.
void checks_trap(void);

#endif
