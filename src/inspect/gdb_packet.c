/* SPDX-License-Identifier: MIT */
/* Packets of gdb's remote protocol in and out of their frames. */
#include "inspect/gdb_packet.h"

#include <string.h>

#define ESCAPE     '}'
#define ESCAPE_XOR 0x20
#define CTRL_C     3

static const char digits[] = "0123456789abcdef";

int gdb_nibble(char c) {
    const char *at =
        c ? strchr(digits, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static enum gdb_event idle(struct gdb_reader *r, uint8_t byte) {
    switch (byte) {
    case '$':
        r->state = GDB_DATA;
        r->sum = 0;
        r->size = 0;
        r->bad = false;
        return GDB_NOTHING;
    case '+':
        return GDB_ACK;
    case '-':
        return GDB_NAK;
    case CTRL_C:
        return GDB_INTERRUPT;
    default:
        return GDB_NOTHING;
    }
}

static void put(struct gdb_reader *r, uint8_t byte) {
    if (r->size < GDB_PACKET_MAX)
        r->data[r->size++] = (char)byte;
    else
        r->bad = true;
}

static enum gdb_event finish(struct gdb_reader *r) {
    r->state = GDB_IDLE;
    r->data[r->size] = 0;
    return r->bad || r->sent != r->sum ? GDB_DAMAGED : GDB_PACKET;
}

static void take_digit(struct gdb_reader *r, uint8_t byte) {
    int n = gdb_nibble((char)byte);
    r->bad |= n < 0;
    r->sent = (uint8_t)(r->sent << 4 | (n & 15));
}

enum gdb_event gdb_feed(struct gdb_reader *r, uint8_t byte) {
    switch (r->state) {
    case GDB_IDLE:
        return idle(r, byte);
    case GDB_SUM_HIGH:
        take_digit(r, byte);
        r->state = GDB_SUM_LOW;
        return GDB_NOTHING;
    case GDB_SUM_LOW:
        take_digit(r, byte);
        return finish(r);
    case GDB_ESCAPE:
        r->sum = (uint8_t)(r->sum + byte);
        put(r, byte ^ ESCAPE_XOR);
        r->state = GDB_DATA;
        return GDB_NOTHING;
    case GDB_DATA:
        break;
    }
    if (byte == '$') /* the one before was cut short */
        return idle(r, byte);
    if (byte == '#') {
        r->state = GDB_SUM_HIGH;
        r->sent = 0;
        return GDB_NOTHING;
    }
    r->sum = (uint8_t)(r->sum + byte);
    if (byte == ESCAPE)
        r->state = GDB_ESCAPE;
    else
        put(r, byte);
    return GDB_NOTHING;
}

size_t gdb_frame(const char *data, size_t size, char frame[GDB_FRAME_MAX]) {
    size_t n = 0;
    uint8_t sum = 0;
    frame[n++] = '$';
    for (size_t i = 0; i < size; i++) {
        char c = data[i];
        if (c == '#' || c == '$' || c == '*' || c == ESCAPE) {
            frame[n++] = ESCAPE;
            c ^= ESCAPE_XOR;
        }
        frame[n++] = c;
    }
    for (size_t i = 1; i < n; i++)
        sum = (uint8_t)(sum + (uint8_t)frame[i]);
    frame[n++] = '#';
    frame[n++] = digits[sum >> 4];
    frame[n++] = digits[sum & 15];
    return n;
}

/* ---- Numbers ---- */

bool gdb_number(const char **p, uint64_t *value) {
    unsigned n = 0;
    *value = 0;
    for (int d; n < 16 && (d = gdb_nibble(**p)) >= 0; n++, ++*p)
        *value = *value << 4 | (unsigned)d;
    return n && gdb_nibble(**p) < 0;
}

size_t gdb_hex(const void *bytes, size_t size, char *out) {
    const uint8_t *in = bytes;
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    return 2 * size;
}

bool gdb_unhex(const char *hex, size_t n, void *bytes, size_t size) {
    uint8_t *out = bytes;
    if (n != 2 * size)
        return false;
    for (size_t i = 0; i < size; i++) {
        int high = gdb_nibble(hex[2 * i]), low = gdb_nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
