// SPDX-License-Identifier: MIT
//
// A 16550 UART, polled. A port that never gets ready loses its bytes: a console must not hang the
// kernel that reports through it.

#include "serial.h"

#include "cpu.h"

#define COM1            0x3f8
#define COM1_DATA       (COM1 + 0)
#define COM1_INTERRUPTS (COM1 + 1)
#define COM1_FIFO       (COM1 + 2)
#define COM1_LINE       (COM1 + 3)
#define COM1_MODEM      (COM1 + 4)
#define COM1_STATUS     (COM1 + 5)

#define LINE_DIVISOR    0x80
#define LINE_8N1        0x03
#define STATUS_CAN_SEND 0x20
#define SPINS_MAX       100000

void serial_init(void)
{
    cpu_out8(COM1_INTERRUPTS, 0);
    cpu_out8(COM1_LINE, LINE_DIVISOR);
    cpu_out8(COM1_DATA, 1); // divisor 1: 115200 baud
    cpu_out8(COM1_INTERRUPTS, 0);
    cpu_out8(COM1_LINE, LINE_8N1);
    cpu_out8(COM1_FIFO, 0xc7);  // on, cleared, 14 bytes deep
    cpu_out8(COM1_MODEM, 0x03); // data terminal ready, request to send
}

static void send(uint8_t byte)
{
    for (int spins = 0; spins < SPINS_MAX; spins++) {
        if (cpu_in8(COM1_STATUS) & STATUS_CAN_SEND) {
            break;
        }
        cpu_relax();
    }
    cpu_out8(COM1_DATA, byte);
}

void serial_put(char c)
{
    if (c == '\n') {
        send('\r');
    }
    send((uint8_t)c);
}
