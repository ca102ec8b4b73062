/* SPDX-License-Identifier: MIT */
/*
 * The framing of gdb's remote protocol: $data#checksum, escapes, acknowledgements
 * ("Overview" and "Packet Acknowledgment" of gdb's manual, appendix "Remote Protocol").
 * Any bytes are safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GDB_PACKET_MAX 16384u /* bytes of data of a packet, escaped or not */
/* A packet whose every byte is escaped, in its frame. */
#define GDB_FRAME_MAX (2 * GDB_PACKET_MAX + 4)

enum gdb_event {
    GDB_NOTHING,   /* yet */
    GDB_PACKET,    /* data and size are a packet; data[size] is 0 */
    GDB_DAMAGED,   /* a packet with a wrong checksum, or too long */
    GDB_INTERRUPT, /* Ctrl-C */
    GDB_ACK,
    GDB_NAK
};

struct gdb_reader {
    enum { GDB_IDLE, GDB_DATA, GDB_ESCAPE, GDB_SUM_HIGH, GDB_SUM_LOW } state;
    uint8_t sum, sent; /* of the bytes so far; as the packet says */
    bool bad;
    size_t size;
    char data[GDB_PACKET_MAX + 1];
};

/* A zeroed reader is a new one. The next byte. */
enum gdb_event gdb_feed(struct gdb_reader *r, uint8_t byte);
/* Put data, at most GDB_PACKET_MAX bytes, into its frame. Return: its size. */
size_t gdb_frame(const char *data, size_t size, char frame[GDB_FRAME_MAX]);

/* ---- Numbers ---- */

int gdb_nibble(char c); /* 0..15, or -1 */
/* Hexadecimal digits, 1 to 16 of them, from *p, which then points behind them. */
bool gdb_number(const char **p, uint64_t *value);
/* Bytes as hexadecimal, without a NUL. Return: 2 * size. */
size_t gdb_hex(const void *bytes, size_t size, char *out);
/* Return: false, unless hex is just 2 * size digits. */
bool gdb_unhex(const char *hex, size_t digits, void *bytes, size_t size);
