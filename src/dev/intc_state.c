/* SPDX-License-Identifier: MIT */
/*
 * The interrupt controllers' state to and from the neutral one (penumbra/irqchip.h), and
 * each local APIC's as its register page: 4 bytes every 16, SDM volume 3, "Local APIC
 * Register Address Map". In x2APIC mode the page looks as in xAPIC mode but for ICR2,
 * which holds all 32 bits of the destination (as KVM_GET_LAPIC has it).
 */
#include <string.h>

#include "dev/intc_internal.h"

enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_PPR = 0x0a,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR_LOW = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
};

static void put(uint8_t *page, unsigned reg, uint32_t value) {
    memcpy(page + reg * 16, &value, sizeof(value));
}

static uint32_t get(const uint8_t *page, unsigned reg) {
    uint32_t value;
    memcpy(&value, page + reg * 16, sizeof(value));
    return value;
}

static void put_set(uint8_t *page, unsigned reg, const uint64_t *set) {
    for (unsigned n = 0; n < 8; n++)
        put(page, reg + n, (uint32_t)(set[n / 2] >> n % 2 * 32));
}

static void get_set(const uint8_t *page, unsigned reg, uint64_t *set) {
    for (unsigned n = 0; n < 4; n++)
        set[n] = get(page, reg + 2 * n) | (uint64_t)get(page, reg + 2 * n + 1) << 32;
}

void intc_get_lapic(struct intc *i, unsigned cpu, uint8_t page[INTC_LAPIC_PAGE]) {
    struct lapic *l = &i->lapic[cpu];
    lapic_settle(l);
    memset(page, 0, INTC_LAPIC_PAGE);
    put(page, REG_ID, cpu << 24);
    put(page, REG_VERSION, LAPIC_VERSION);
    put(page, REG_TPR, l->tpr);
    put(page, REG_PPR, lapic_ppr(l));
    put(page, REG_LDR, l->ldr);
    put(page, REG_DFR, l->dfr);
    put(page, REG_SVR, l->svr);
    put_set(page, REG_ISR, l->isr);
    put_set(page, REG_TMR, l->tmr);
    put_set(page, REG_IRR, l->irr);
    put(page, REG_ESR, l->esr);
    put(page, REG_ICR_LOW, (uint32_t)l->icr);
    put(page, REG_ICR_HIGH, (uint32_t)(l->icr >> 32));
    for (unsigned n = 0; n < LVT_COUNT; n++)
        put(page, REG_LVT + n, l->lvt[n]);
    put(page, REG_INITIAL, l->initial);
    put(page, REG_CURRENT, lapic_timer_count(l));
    put(page, REG_DIVIDE, l->divide);
}

void intc_set_lapic(struct intc *i, unsigned cpu, uint64_t base,
                    const uint8_t page[INTC_LAPIC_PAGE]) {
    struct lapic *l = &i->lapic[cpu];
    l->base = base;
    l->tpr = get(page, REG_TPR) & 0xff;
    l->ldr = get(page, REG_LDR) & 0xff000000u;
    l->dfr = get(page, REG_DFR) | 0x0fffffffu;
    l->svr = get(page, REG_SVR) & 0x13ffu;
    get_set(page, REG_ISR, l->isr);
    get_set(page, REG_TMR, l->tmr);
    get_set(page, REG_IRR, l->irr);
    l->esr = get(page, REG_ESR);
    l->icr = get(page, REG_ICR_LOW) | (uint64_t)get(page, REG_ICR_HIGH) << 32;
    for (unsigned n = 1; n < LVT_COUNT; n++)
        l->lvt[n] = get(page, REG_LVT + n);
    lapic_timer_restore(l, get(page, REG_LVT + LVT_TIMER), get(page, REG_INITIAL),
                        get(page, REG_DIVIDE), get(page, REG_CURRENT));
    if (cpu == i->current)
        intc_remap(i);
    intc_notify(i, cpu);
}

static void get_pic(const struct pic_chip *c, struct pn_pic *s) {
    *s = (struct pn_pic){
        .line = c->line,
        .irr = c->irr,
        .isr = c->isr,
        .imr = c->imr,
        .base = c->base,
        .first = c->first,
        .elcr = c->elcr,
        .init = c->init,
        .want_icw4 = c->want_icw4,
        .read_isr = c->read_isr,
        .poll = c->poll,
        .special_mask = c->special_mask,
        .auto_eoi = c->auto_eoi,
        .rotate_auto = c->rotate_auto,
        .nested = c->nested,
    };
}

static void set_pic(struct pic_chip *c, const struct pn_pic *s, uint8_t line) {
    *c = (struct pic_chip){
        .line = line,
        .irr = s->irr,
        .isr = s->isr,
        .imr = s->imr,
        .base = s->base & 0xf8,
        .first = s->first & 7,
        .elcr = s->elcr,
        .init = s->init > 4 ? 0 : s->init,
        .want_icw4 = s->want_icw4,
        .read_isr = s->read_isr,
        .poll = s->poll,
        .special_mask = s->special_mask,
        .auto_eoi = s->auto_eoi,
        .rotate_auto = s->rotate_auto,
        .nested = s->nested,
    };
}

void intc_get_state(const struct intc *i, struct pn_irqchip *s) {
    for (unsigned n = 0; n < 2; n++)
        get_pic(&i->pic.chip[n], &s->pic[n]);
    memcpy(s->ioapic.entry, i->ioapic.entry, sizeof(s->ioapic.entry));
    s->ioapic.select = i->ioapic.select;
    s->ioapic.id = i->ioapic.id;
}

void intc_set_state(struct intc *i, const struct pn_irqchip *s, uint32_t lines) {
    i->lines = lines & ((1u << GSIS) - 1);
    for (unsigned n = 0; n < 2; n++)
        set_pic(&i->pic.chip[n], &s->pic[n], (uint8_t)(lines >> 8 * n));
    memcpy(i->ioapic.entry, s->ioapic.entry, sizeof(s->ioapic.entry));
    i->ioapic.select = s->ioapic.select;
    i->ioapic.id = s->ioapic.id & 0xf;
    /* gsi 0 is pin 2; pin 0 has no line. */
    i->ioapic.line = (i->lines & ~5u) | (i->lines & 1) << 2;
    i->pic_out = pic_output(&i->pic);
    for (unsigned cpu = 0; cpu < i->cfg.cpus; cpu++)
        intc_notify(i, cpu);
}

void intc_unplug(struct intc *i) {
    dev_bus_remove(i->cfg.bus, i);
    dev_bus_remove(i->cfg.bus, &i->ioapic);
}
