/* SPDX-License-Identifier: MIT */
/*
 * The 8259A pair of a PC: master at 0x20, slave at 0xa0 on the master's input 2, and the
 * edge/level registers at 0x4d0. Source of the rules: Intel 8259A data sheet.
 *
 * Invariants
 * 1. An edge is latched in IRR until it is acknowledged, even if the line drops before
 *    (as KVM does: a device that pulses while the CPU is deaf is not lost). A level
 *    input's IRR follows its line.
 * 2. The slave's output is the master's input 2, at all times: pic_set, ack, read and
 *    write end with pic_cascade().
 */
#include <string.h>

#include "dev/intc_internal.h"

#define CASCADE 2u
#define NOBODY  8u

/* The master's timer, keyboard and cascade, and the slave's RTC and FPU are edges. */
static const uint8_t elcr_mask[2] = {0xf8, 0xde};

void pic_reset(struct pn_pic *p) {
    memset(p, 0, 2 * sizeof *p);
}

/* Rank of the highest-priority input in set: 0 first, 7 last, NOBODY when empty. */
static unsigned rank(const struct pn_pic *c, uint8_t set) {
    unsigned rotated = (unsigned)(set >> c->first | set << (8 - c->first)) & 0xffu;
    return rotated ? (unsigned)__builtin_ctz(rotated) : NOBODY;
}

/* Return: the input to be served next, or -1. */
static int next(const struct pn_pic *c, bool master) {
    unsigned asks = rank(c, c->irr & (uint8_t)~c->imr);
    uint8_t busy = c->isr;
    if (c->special_mask)
        busy &= (uint8_t)~c->imr;
    if (c->nested && master)
        busy &= (uint8_t) ~(1u << CASCADE);
    if (asks == NOBODY || asks >= rank(c, busy))
        return -1;
    return (int)((asks + c->first) & 7);
}

static void set_input(struct pn_pic *c, unsigned n, int level) {
    uint8_t bit = (uint8_t)(1u << n);
    if (level) {
        if (c->elcr & bit || !(c->line & bit))
            c->irr |= bit;
        c->line |= bit;
    } else {
        if (c->elcr & bit)
            c->irr &= (uint8_t)~bit;
        c->line &= (uint8_t)~bit;
    }
}

/* The cascade input follows the slave: it is neither latched nor lost. */
void pic_cascade(struct pn_pic *p) {
    struct pn_pic *m = &p[0];
    if (next(&p[1], false) >= 0)
        m->irr |= 1u << CASCADE;
    else
        m->irr &= (uint8_t) ~(1u << CASCADE);
}

void pic_set(struct pn_pic *p, unsigned irq, int level) {
    if (irq > 15 || irq == CASCADE)
        return;
    set_input(&p[irq >> 3], irq & 7, level);
    pic_cascade(p);
}

bool pic_output(const struct pn_pic *p) {
    return next(&p[0], true) >= 0;
}

/* Input 7 without anybody asking: the spurious interrupt. */
uint8_t pic_vector(const struct pn_pic *p) {
    int n = next(&p[0], true);
    if (n == (int)CASCADE) {
        n = next(&p[1], false);
        return (uint8_t)(p[1].base + (n < 0 ? 7 : n));
    }
    return (uint8_t)(p[0].base + (n < 0 ? 7 : n));
}

static void serve(struct pn_pic *c, unsigned n) {
    uint8_t bit = (uint8_t)(1u << n);
    if (!(c->elcr & bit))
        c->irr &= (uint8_t)~bit;
    if (!c->auto_eoi)
        c->isr |= bit;
    else if (c->rotate_auto)
        c->first = (n + 1) & 7;
}

uint8_t pic_ack(struct pn_pic *p) {
    uint8_t vector = pic_vector(p);
    int n = next(&p[0], true);
    if (n == (int)CASCADE) {
        int s = next(&p[1], false);
        if (s >= 0)
            serve(&p[1], (unsigned)s);
    }
    if (n >= 0)
        serve(&p[0], (unsigned)n);
    pic_cascade(p);
    return vector;
}

static void write_icw1(struct pn_pic *c, uint8_t value) {
    c->irr = c->line & c->elcr;
    c->imr = c->isr = c->first = 0;
    c->read_isr = c->poll = c->special_mask = c->auto_eoi = c->rotate_auto = 0;
    c->nested = 0;
    c->want_icw4 = value & 1;
    c->single = value >> 1 & 1;
    c->init = 2;
}

static void write_ocw2(struct pn_pic *c, uint8_t value) {
    unsigned n = value & 7;
    uint8_t busy = c->isr;
    /* In special mask mode a masked input is not found by a non-specific EOI. */
    if (c->special_mask)
        busy &= (uint8_t)~c->imr;
    switch (value >> 5) {
    case 0: /* rotate in automatic EOI mode: off */
    case 4: /* on */
        c->rotate_auto = value >> 7;
        break;
    case 1: /* non-specific EOI */
    case 5: /* and rotate */
        n = rank(c, busy);
        if (n == NOBODY)
            break;
        n = (n + c->first) & 7;
        c->isr &= (uint8_t) ~(1u << n);
        if (value & 0x80)
            c->first = (n + 1) & 7;
        break;
    case 3: /* specific EOI */
    case 7: /* and rotate */
        c->isr &= (uint8_t) ~(1u << n);
        if (value & 0x80)
            c->first = (n + 1) & 7;
        break;
    case 6: /* set priority: n becomes the lowest */
        c->first = (n + 1) & 7;
        break;
    }
}

static void write_ocw3(struct pn_pic *c, uint8_t value) {
    if (value & 0x04)
        c->poll = 1;
    if (value & 0x02)
        c->read_isr = value & 0x01;
    if (value & 0x40)
        c->special_mask = value >> 5 & 1;
}

static void write_data(struct pn_pic *c, uint8_t value) {
    switch (c->init) {
    case 0:
        c->imr = value;
        break;
    case 2:
        c->base = value & 0xf8;
        c->init = c->single ? (c->want_icw4 ? 4 : 0) : 3;
        break;
    case 3: /* the cascade is wired: nothing to learn */
        c->init = c->want_icw4 ? 4 : 0;
        break;
    case 4:
        c->nested = value >> 4 & 1;
        c->auto_eoi = value >> 1 & 1;
        c->init = 0;
        break;
    }
}

void pic_write(struct pn_pic *p, unsigned chip, unsigned a, uint8_t value) {
    struct pn_pic *c = &p[chip & 1];
    if (a & 1)
        write_data(c, value);
    else if (value & 0x10)
        write_icw1(c, value);
    else if (value & 0x08)
        write_ocw3(c, value);
    else
        write_ocw2(c, value);
    pic_cascade(p);
}

/* The poll command: the next read acknowledges as INTA would. */
static uint8_t poll(struct pn_pic *p, unsigned chip) {
    struct pn_pic *c = &p[chip];
    int n = next(c, chip == 0);
    c->poll = 0;
    if (n < 0)
        return 0;
    serve(c, (unsigned)n);
    pic_cascade(p);
    return (uint8_t)(0x80 | n);
}

uint8_t pic_read(struct pn_pic *p, unsigned chip, unsigned a) {
    struct pn_pic *c = &p[chip & 1];
    if (c->poll)
        return poll(p, chip & 1);
    if (a & 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

uint8_t pic_elcr_read(const struct pn_pic *p, unsigned chip) {
    return p[chip & 1].elcr;
}

void pic_elcr_write(struct pn_pic *p, unsigned chip, uint8_t value) {
    struct pn_pic *c = &p[chip & 1];
    c->elcr = value & elcr_mask[chip & 1];
    /* An input that became a level follows its line from now on. */
    c->irr = (uint8_t)((c->irr & ~c->elcr) | (c->line & c->elcr));
    pic_cascade(p);
}

bool pic_check(const struct pn_pic *p) {
    for (unsigned n = 0; n < 2; n++) {
        const struct pn_pic *c = &p[n];
        if (c->base & 7 || c->first > 7 || c->elcr & ~elcr_mask[n] || c->init == 1 ||
            c->init > 4 ||
            (c->want_icw4 | c->single | c->read_isr | c->poll | c->special_mask |
             c->auto_eoi | c->rotate_auto | c->nested) > 1)
            return false;
    }
    return true;
}
