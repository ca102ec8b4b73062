/* SPDX-License-Identifier: MIT */
/*
 * 16550A UART. Transmission takes no time: a byte written to THR has left before the next
 * instruction, and the transmitter-empty interrupt drops and rises again around it, so
 * that an edge-triggered controller sees one edge for each write.
 *
 * Registers (offset, DLAB): 0 RBR/THR or DLL, 1 IER or DLM, 2 IIR/FCR, 3 LCR, 4 MCR,
 * 5 LSR, 6 MSR, 7 SCR (National PC16550D data sheet).
 *
 * Invariants
 * 1. count <= depth(): 16 with FIFOs on, 1 with FIFOs off.
 * 2. The interrupt line is (IIR says pending) AND MCR.OUT2, as the PC wires it.
 * 3. The line is recomputed after every register access and every byte received.
 */
#include "base/ticks.h"
#include "dev/dev.h"

#define FIFO_SIZE 16u
#define UART_BAUD 115200u

#define IER_RX  0x01u
#define IER_THR 0x02u
#define IER_LSR 0x04u
#define IER_MSR 0x08u

#define IIR_MSR     0x00u
#define IIR_NONE    0x01u
#define IIR_THR     0x02u
#define IIR_RX      0x04u
#define IIR_LSR     0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFO    0xc0u

#define FCR_ENABLE   0x01u
#define FCR_CLEAR_RX 0x02u

#define LCR_WLS    0x03u
#define LCR_STOP   0x04u
#define LCR_PARITY 0x08u
#define LCR_DLAB   0x80u

#define MCR_DTR  0x01u
#define MCR_RTS  0x02u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u
#define MCR_MASK 0x1fu

#define LSR_DR     0x01u
#define LSR_OE     0x02u
#define LSR_ERRORS 0x1eu
#define LSR_THRE   0x20u
#define LSR_TEMT   0x40u

#define MSR_DELTA 0x0fu
#define MSR_TERI  0x04u
#define MSR_CTS   0x10u
#define MSR_DSR   0x20u
#define MSR_RI    0x40u
#define MSR_DCD   0x80u

struct serial_state {
    uint8_t fifo[FIFO_SIZE];
    uint32_t head, count;
    uint8_t ier, fcr, lcr, mcr, msr, scr;
    uint8_t errors; /* LSR_ERRORS not yet read */
    uint8_t line;
    uint16_t divisor;
    uint8_t thr_event; /* THR went empty, or its interrupt was switched on */
    uint8_t timeout;
    uint32_t looks;      /* reads of LSR or an empty RBR with nothing else between them */
    uint64_t timeout_at; /* ns; CLOCK_NEVER: no character waits for it */
};

struct serial_config {
    uint16_t port;
    unsigned gsi;
    void (*out)(void *opaque, const uint8_t *buf, size_t size);
    void *opaque;
};

struct serial {
    struct device dev;
    struct serial_config cfg;
    void (*room)(void *opaque);
    void *room_opaque;
    struct serial_state s;
};

/* So many looks in a row are a guest that polls for input, not one that waits for THR. */
#define POLLING_LOOKS 16u

static unsigned depth(const struct serial *s) {
    return s->s.fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned trigger(const struct serial *s) {
    static const uint8_t level[4] = {1, 4, 8, 14};
    return s->s.fcr & FCR_ENABLE ? level[s->s.fcr >> 6] : 1;
}

/* Highest source first (data sheet, table "Interrupt Control Functions"). */
static unsigned iir(const struct serial *s) {
    if (s->s.ier & IER_LSR && s->s.errors)
        return IIR_LSR;
    if (s->s.ier & IER_RX && s->s.count >= trigger(s))
        return IIR_RX;
    if (s->s.ier & IER_RX && s->s.timeout)
        return IIR_TIMEOUT;
    if (s->s.ier & IER_THR && s->s.thr_event)
        return IIR_THR;
    if (s->s.ier & IER_MSR && s->s.msr & MSR_DELTA)
        return IIR_MSR;
    return IIR_NONE;
}

static void update(struct serial *s) {
    dev_line(&s->dev, &s->s.line, s->cfg.gsi, iir(s) != IIR_NONE && s->s.mcr & MCR_OUT2);
}

/* Bits of one character on the line: start, data, parity, stop. */
static unsigned char_bits(const struct serial *s) {
    return 1 + 5 + (s->s.lcr & LCR_WLS) + !!(s->s.lcr & LCR_PARITY) +
           (s->s.lcr & LCR_STOP ? 2 : 1);
}

/* Fewer bytes than the trigger level and none for four character times: timeout. */
static void arm_timeout(struct serial *s) {
    uint64_t divisor = s->s.divisor ? s->s.divisor : 0x10000;
    uint64_t ns = divisor * 4 * char_bits(s) * NS_PER_SEC / UART_BAUD;
    s->s.timeout = 0;
    s->s.timeout_at = s->s.count && s->s.fcr & FCR_ENABLE
                          ? ns_add(clock_now(s->dev.env.clock), ns)
                          : CLOCK_NEVER;
    dev_arm(&s->dev, s->s.timeout_at);
}

static void on_timeout(void *opaque) {
    struct serial *s = opaque;
    s->s.timeout = s->s.count != 0;
    s->s.timeout_at = CLOCK_NEVER;
    update(s);
}

static void clear_rx(struct serial *s) {
    s->s.head = s->s.count = 0;
    arm_timeout(s);
}

static void receive(struct serial *s, uint8_t byte) {
    if (s->s.count == depth(s)) {
        s->s.errors |= LSR_OE;
        if (s->s.fcr & FCR_ENABLE)
            return;     /* the FIFO keeps what it has */
        s->s.count = 0; /* RBR is overwritten */
    }
    s->s.fifo[(s->s.head + s->s.count) % FIFO_SIZE] = byte;
    s->s.count++;
    arm_timeout(s);
}

static uint8_t take(struct serial *s) {
    uint8_t byte = 0;
    if (s->s.count) {
        byte = s->s.fifo[s->s.head];
        s->s.head = (s->s.head + 1) % FIFO_SIZE;
        s->s.count--;
        arm_timeout(s);
    }
    return byte;
}

/* The modem lines in: looped back from MCR, or a terminal that is always there. */
static unsigned modem_lines(const struct serial *s) {
    if (!(s->s.mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (s->s.mcr & MCR_RTS ? MSR_CTS : 0) | (s->s.mcr & MCR_DTR ? MSR_DSR : 0) |
           (s->s.mcr & MCR_OUT1 ? MSR_RI : 0) | (s->s.mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void update_modem(struct serial *s) {
    unsigned was = s->s.msr & 0xf0u, is = modem_lines(s);
    unsigned delta = (was ^ is) >> 4;
    if (is & MSR_RI)
        delta &= ~MSR_TERI; /* only the trailing edge of RI counts */
    s->s.msr = (uint8_t)(is | (s->s.msr & MSR_DELTA) | delta);
}

static void transmit(struct serial *s, uint8_t byte) {
    byte &= (uint8_t)((1u << (5 + (s->s.lcr & LCR_WLS))) - 1);
    s->s.thr_event = 0;
    update(s);
    if (s->s.mcr & MCR_LOOP)
        receive(s, byte);
    else if (s->cfg.out)
        s->cfg.out(s->cfg.opaque, &byte, 1);
    s->s.thr_event = 1;
}

static void write_fcr(struct serial *s, uint8_t value) {
    bool switched = (s->s.fcr ^ value) & FCR_ENABLE;
    s->s.fcr = value & FCR_ENABLE ? value & 0xc9u : 0;
    if (switched || value & FCR_CLEAR_RX)
        clear_rx(s);
}

static void write_ier(struct serial *s, uint8_t value) {
    /* Switching the source on while THR is empty, as it always is, is an event. */
    if (value & ~s->s.ier & IER_THR)
        s->s.thr_event = 1;
    s->s.ier = value & 0x0fu;
}

static void note_look(struct serial *s, bool look) {
    if (!look)
        s->s.looks = 0;
    else if (s->s.looks < POLLING_LOOKS)
        s->s.looks++;
}

bool serial_listens(const struct serial *s) {
    return s->s.count || (s->s.ier & IER_RX && s->s.mcr & MCR_OUT2) ||
           s->s.looks == POLLING_LOOKS;
}

static uint64_t serial_read(void *dev, uint64_t offset, unsigned size) {
    struct serial *s = dev;
    unsigned had = s->s.count;
    uint8_t value = 0xff;
    note_look(s, offset == 5 || (offset == 0 && !had));
    switch (offset) {
    case 0:
        value = s->s.lcr & LCR_DLAB ? (uint8_t)s->s.divisor : take(s);
        break;
    case 1:
        value = s->s.lcr & LCR_DLAB ? (uint8_t)(s->s.divisor >> 8) : s->s.ier;
        break;
    case 2:
        value = (uint8_t)(iir(s) | (s->s.fcr & FCR_ENABLE ? IIR_FIFO : 0));
        if ((value & 0x0f) == IIR_THR)
            s->s.thr_event = 0;
        break;
    case 3:
        value = s->s.lcr;
        break;
    case 4:
        value = s->s.mcr;
        break;
    case 5:
        value = (uint8_t)(LSR_THRE | LSR_TEMT | s->s.errors | (s->s.count ? LSR_DR : 0));
        s->s.errors = 0;
        break;
    case 6:
        value = s->s.msr;
        s->s.msr &= (uint8_t)~MSR_DELTA;
        break;
    case 7:
        value = s->s.scr;
        break;
    }
    update(s);
    if (had && !s->s.count && s->room)
        s->room(s->room_opaque);
    return value;
}

static void serial_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct serial *s = dev;
    unsigned had = s->s.count;
    uint8_t byte = (uint8_t)value;
    note_look(s, false);
    switch (offset) {
    case 0:
        if (s->s.lcr & LCR_DLAB)
            s->s.divisor = (uint16_t)((s->s.divisor & 0xff00u) | byte);
        else
            transmit(s, byte);
        break;
    case 1:
        if (s->s.lcr & LCR_DLAB)
            s->s.divisor = (uint16_t)((s->s.divisor & 0x00ffu) | byte << 8);
        else
            write_ier(s, byte);
        break;
    case 2:
        write_fcr(s, byte);
        break;
    case 3:
        s->s.lcr = byte;
        break;
    case 4:
        s->s.mcr = byte & MCR_MASK;
        update_modem(s);
        break;
    case 7:
        s->s.scr = byte;
        break;
    }
    update(s);
    if (had && !s->s.count && s->room)
        s->room(s->room_opaque);
}

static const struct dev_ops serial_ops = {"serial", 1, 1, serial_read, serial_write};

/* ---- As a device ---- */

static const struct dev_range serial_ranges[] = {{DEV_PIO, DEV_NOWHERE, 8, &serial_ops}};

static int serial_map(void *dev, const void *config) {
    struct serial *s = dev;
    s->cfg = *(const struct serial_config *)config;
    return dev_bus_move(s->dev.env.bus, s->dev.range[0], s->cfg.port);
}

static void serial_reset(void *dev) {
    struct serial *s = dev;
    s->s = (struct serial_state){.divisor = 12, /* 9600 baud, 8 bits: as firmware does */
                                 .lcr = LCR_WLS,
                                 .msr = MSR_CTS | MSR_DSR | MSR_DCD,
                                 .thr_event = 1,
                                 .timeout_at = CLOCK_NEVER};
}

static bool serial_check(const void *dev, const void *state) {
    const struct serial_state *s = state;
    return s->head < FIFO_SIZE && s->count <= (s->fcr & FCR_ENABLE ? FIFO_SIZE : 1) &&
           !(s->ier & 0xf0) && !(s->mcr & ~MCR_MASK) && !(s->errors & ~LSR_ERRORS) &&
           s->looks <= POLLING_LOOKS && (s->line | s->thr_event | s->timeout) <= 1;
}

static void serial_settle(void *dev) {
    struct serial *s = dev;
    dev_arm(&s->dev, s->s.timeout_at);
}

static const struct dev_class serial_class = {
    .name = "serial",
    .version = 1,
    DEV_STATE(struct serial, s),
    DEV_RANGES(serial_ranges),
    .create = serial_map,
    .reset = serial_reset,
    .check = serial_check,
    .settle = serial_settle,
    .expire = on_timeout,
};

struct serial *serial_create(const struct dev_env *env, uint16_t port, unsigned gsi,
                             void (*out)(void *opaque, const uint8_t *buf, size_t size),
                             void *opaque) {
    const struct serial_config cfg = {port, gsi, out, opaque};
    return dev_create(&serial_class, env, 0, &cfg);
}

size_t serial_input(struct serial *s, const uint8_t *buf, size_t size) {
    size_t done = 0;
    /* While looped back the receiver is cut off from the line: the host keeps its bytes.
     */
    if (s->s.mcr & MCR_LOOP)
        return 0;
    while (done < size && s->s.count < depth(s))
        receive(s, buf[done++]);
    update(s);
    return done;
}

void serial_on_room(struct serial *s, void (*fn)(void *opaque), void *opaque) {
    s->room = fn;
    s->room_opaque = opaque;
}
