// SPDX-License-Identifier: MIT
/**
 * COM1 as the console: bytes out, nothing in.
 */
#ifndef MINIKERNEL_SERIAL_H
#define MINIKERNEL_SERIAL_H

/** 115200 baud, 8 bits, no parity, one stop bit, no interrupts. */
void serial_init(void);

/** Send one byte; a newline goes out as carriage return and newline. */
void serial_put(char c);

#endif
