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
#include <stdlib.h>

#include "dev/dev.h"
#include "dev/ticks.h"

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

struct serial {
    struct clock *clock;
    struct irq_sink irq;
    unsigned gsi;
    void (*out)(void *opaque, const uint8_t *buf, size_t size);
    void *opaque;
    void (*room)(void *opaque);
    void *room_opaque;
    struct clock_timer timer; /* character timeout */

    uint8_t fifo[FIFO_SIZE];
    unsigned head, count;
    uint8_t ier, fcr, lcr, mcr, msr, scr;
    uint8_t errors; /* LSR_ERRORS not yet read */
    uint16_t divisor;
    bool thr_event; /* THR went empty, or its interrupt was switched on */
    bool timeout;
    unsigned looks; /* reads of LSR or an empty RBR with nothing else between them */
    int line;
};

/* So many looks in a row are a guest that polls for input, not one that waits for THR. */
#define POLLING_LOOKS 16u

static unsigned depth(const struct serial *s) {
    return s->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned trigger(const struct serial *s) {
    static const uint8_t level[4] = {1, 4, 8, 14};

    return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

/* Highest source first (data sheet, table "Interrupt Control Functions"). */
static unsigned iir(const struct serial *s) {
    if (s->ier & IER_LSR && s->errors)
        return IIR_LSR;
    if (s->ier & IER_RX && s->count >= trigger(s))
        return IIR_RX;
    if (s->ier & IER_RX && s->timeout)
        return IIR_TIMEOUT;
    if (s->ier & IER_THR && s->thr_event)
        return IIR_THR;
    if (s->ier & IER_MSR && s->msr & MSR_DELTA)
        return IIR_MSR;
    return IIR_NONE;
}

static void update(struct serial *s) {
    int line = iir(s) != IIR_NONE && s->mcr & MCR_OUT2;

    if (line == s->line)
        return;
    s->line = line;
    s->irq.set(s->irq.opaque, s->gsi, line);
}

/* Bits of one character on the line: start, data, parity, stop. */
static unsigned char_bits(const struct serial *s) {
    return 1 + 5 + (s->lcr & LCR_WLS) + !!(s->lcr & LCR_PARITY) +
           (s->lcr & LCR_STOP ? 2 : 1);
}

/* Fewer bytes than the trigger level and none for four character times: timeout. */
static void arm_timeout(struct serial *s) {
    uint64_t divisor = s->divisor ? s->divisor : 0x10000;
    uint64_t ns = divisor * 4 * char_bits(s) * NS_PER_SEC / UART_BAUD;

    s->timeout = false;
    if (s->count && s->fcr & FCR_ENABLE)
        clock_arm(s->clock, &s->timer, ns_add(clock_now(s->clock), ns));
    else
        clock_cancel(s->clock, &s->timer);
}

static void on_timeout(void *opaque) {
    struct serial *s = opaque;

    s->timeout = s->count != 0;
    update(s);
}

static void clear_rx(struct serial *s) {
    s->head = s->count = 0;
    arm_timeout(s);
}

static void receive(struct serial *s, uint8_t byte) {
    if (s->count == depth(s)) {
        s->errors |= LSR_OE;
        if (s->fcr & FCR_ENABLE)
            return;   /* the FIFO keeps what it has */
        s->count = 0; /* RBR is overwritten */
    }
    s->fifo[(s->head + s->count) % FIFO_SIZE] = byte;
    s->count++;
    arm_timeout(s);
}

static uint8_t take(struct serial *s) {
    uint8_t byte = 0;

    if (s->count) {
        byte = s->fifo[s->head];
        s->head = (s->head + 1) % FIFO_SIZE;
        s->count--;
        arm_timeout(s);
    }
    return byte;
}

/* The modem lines in: looped back from MCR, or a terminal that is always there. */
static unsigned modem_lines(const struct serial *s) {
    if (!(s->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
           (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void update_modem(struct serial *s) {
    unsigned was = s->msr & 0xf0u, is = modem_lines(s);
    unsigned delta = (was ^ is) >> 4;

    if (is & MSR_RI)
        delta &= ~MSR_TERI; /* only the trailing edge of RI counts */
    s->msr = (uint8_t)(is | (s->msr & MSR_DELTA) | delta);
}

static void transmit(struct serial *s, uint8_t byte) {
    byte &= (uint8_t)((1u << (5 + (s->lcr & LCR_WLS))) - 1);
    s->thr_event = false;
    update(s);
    if (s->mcr & MCR_LOOP)
        receive(s, byte);
    else if (s->out)
        s->out(s->opaque, &byte, 1);
    s->thr_event = true;
}

static void write_fcr(struct serial *s, uint8_t value) {
    bool switched = (s->fcr ^ value) & FCR_ENABLE;

    s->fcr = value & FCR_ENABLE ? value & 0xc9u : 0;
    if (switched || value & FCR_CLEAR_RX)
        clear_rx(s);
}

static void write_ier(struct serial *s, uint8_t value) {
    /* Switching the source on while THR is empty, as it always is, is an event. */
    if (value & ~s->ier & IER_THR)
        s->thr_event = true;
    s->ier = value & 0x0fu;
}

static void note_look(struct serial *s, bool look) {
    if (!look)
        s->looks = 0;
    else if (s->looks < POLLING_LOOKS)
        s->looks++;
}

bool serial_listens(const struct serial *s) {
    return s->count || (s->ier & IER_RX && s->mcr & MCR_OUT2) ||
           s->looks == POLLING_LOOKS;
}

static uint64_t serial_read(void *dev, uint64_t offset, unsigned size) {
    struct serial *s = dev;
    unsigned had = s->count;
    uint8_t value = 0xff;

    (void)size;
    note_look(s, offset == 5 || (offset == 0 && !had));
    switch (offset) {
    case 0:
        value = s->lcr & LCR_DLAB ? (uint8_t)s->divisor : take(s);
        break;
    case 1:
        value = s->lcr & LCR_DLAB ? (uint8_t)(s->divisor >> 8) : s->ier;
        break;
    case 2:
        value = (uint8_t)(iir(s) | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0));
        if ((value & 0x0f) == IIR_THR)
            s->thr_event = false;
        break;
    case 3:
        value = s->lcr;
        break;
    case 4:
        value = s->mcr;
        break;
    case 5:
        value = (uint8_t)(LSR_THRE | LSR_TEMT | s->errors | (s->count ? LSR_DR : 0));
        s->errors = 0;
        break;
    case 6:
        value = s->msr;
        s->msr &= (uint8_t)~MSR_DELTA;
        break;
    case 7:
        value = s->scr;
        break;
    }
    update(s);
    if (had && !s->count && s->room)
        s->room(s->room_opaque);
    return value;
}

static void serial_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct serial *s = dev;
    unsigned had = s->count;
    uint8_t byte = (uint8_t)value;

    (void)size;
    note_look(s, false);
    switch (offset) {
    case 0:
        if (s->lcr & LCR_DLAB)
            s->divisor = (uint16_t)((s->divisor & 0xff00u) | byte);
        else
            transmit(s, byte);
        break;
    case 1:
        if (s->lcr & LCR_DLAB)
            s->divisor = (uint16_t)((s->divisor & 0x00ffu) | byte << 8);
        else
            write_ier(s, byte);
        break;
    case 2:
        write_fcr(s, byte);
        break;
    case 3:
        s->lcr = byte;
        break;
    case 4:
        s->mcr = byte & MCR_MASK;
        update_modem(s);
        break;
    case 7:
        s->scr = byte;
        break;
    }
    update(s);
    if (had && !s->count && s->room)
        s->room(s->room_opaque);
}

static const struct dev_ops serial_ops = {.name = "serial",
                                          .min_size = 1,
                                          .max_size = 1,
                                          .read = serial_read,
                                          .write = serial_write};

struct serial *serial_create(struct dev_bus *bus, struct clock *clock,
                             struct irq_sink irq, uint16_t port, unsigned gsi,
                             void (*out)(void *opaque, const uint8_t *buf, size_t size),
                             void *opaque) {
    struct serial *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->clock = clock;
    s->irq = irq;
    s->gsi = gsi;
    s->out = out;
    s->opaque = opaque;
    s->divisor = 12; /* 9600 baud, 8 bits, as firmware leaves it */
    s->lcr = LCR_WLS;
    s->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    s->thr_event = true;
    clock_timer_init(&s->timer, on_timeout, s);
    if (dev_bus_add_pio(bus, port, 8, &serial_ops, s)) {
        free(s);
        return NULL;
    }
    return s;
}

void serial_destroy(struct serial *s) {
    if (!s)
        return;
    clock_cancel(s->clock, &s->timer);
    free(s);
}

size_t serial_input(struct serial *s, const uint8_t *buf, size_t size) {
    size_t done = 0;

    /* While looped back the receiver is cut off from the line: the host keeps its bytes.
     */
    if (s->mcr & MCR_LOOP)
        return 0;
    while (done < size && s->count < depth(s))
        receive(s, buf[done++]);
    update(s);
    return done;
}

void serial_on_room(struct serial *s, void (*fn)(void *opaque), void *opaque) {
    s->room = fn;
    s->room_opaque = opaque;
}
