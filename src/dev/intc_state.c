/* SPDX-License-Identifier: MIT */
/*
 * The interrupt controllers' registers for another emulator of them (penumbra/chips.h),
 * and each local APIC's as its register page: 4 bytes every 16, SDM volume 3, "Local APIC
 * Register Address Map". In x2APIC mode the page looks as in xAPIC mode but for ICR2,
 * which holds all 32 bits of the destination (as KVM_GET_LAPIC has it).
 */
#include <errno.h>
#include <string.h>

#include "dev/intc_internal.h"

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
    struct lapic *l = i->lapic[cpu];
    lapic_settle(l);
    memset(page, 0, INTC_LAPIC_PAGE);
    put(page, REG_ID, cpu << 24);
    put(page, REG_VERSION, LAPIC_VERSION);
    put(page, REG_TPR, l->s.tpr);
    put(page, REG_PPR, lapic_ppr(l));
    put(page, REG_LDR, l->s.ldr);
    put(page, REG_DFR, l->s.dfr);
    put(page, REG_SVR, l->s.svr);
    put_set(page, REG_ISR, l->s.isr);
    put_set(page, REG_TMR, l->s.tmr);
    put_set(page, REG_IRR, l->s.irr);
    put(page, REG_ESR, l->s.esr);
    put(page, REG_ICR_LOW, (uint32_t)l->s.icr);
    put(page, REG_ICR_HIGH, (uint32_t)(l->s.icr >> 32));
    for (unsigned n = 0; n < LVT_COUNT; n++)
        put(page, REG_LVT + n, l->s.lvt[n]);
    put(page, REG_INITIAL, l->s.initial);
    put(page, REG_CURRENT, lapic_timer_count(l));
    put(page, REG_DIVIDE, l->s.divide);
}

void intc_set_lapic(struct intc *i, unsigned cpu, uint64_t base,
                    const uint8_t page[INTC_LAPIC_PAGE]) {
    struct lapic *l = i->lapic[cpu];
    l->s.base = base;
    l->s.tpr = get(page, REG_TPR) & 0xff;
    l->s.ldr = get(page, REG_LDR) & 0xff000000u;
    l->s.dfr = get(page, REG_DFR) | 0x0fffffffu;
    l->s.svr = get(page, REG_SVR) & 0x13ffu;
    get_set(page, REG_ISR, l->s.isr);
    get_set(page, REG_TMR, l->s.tmr);
    get_set(page, REG_IRR, l->s.irr);
    l->s.isr[0] &= ~0xffffull; /* no such vectors */
    l->s.irr[0] &= ~0xffffull;
    l->s.esr = get(page, REG_ESR) & 0xff;
    l->s.icr = (get(page, REG_ICR_LOW) & ICR_MASK) | (uint64_t)get(page, REG_ICR_HIGH)
                                                         << 32;
    for (unsigned n = 1; n < LVT_COUNT; n++)
        l->s.lvt[n] = get(page, REG_LVT + n) & lapic_lvt_mask[n];
    lapic_timer_restore(l, get(page, REG_LVT + LVT_TIMER) & lapic_lvt_mask[LVT_TIMER],
                        get(page, REG_INITIAL), get(page, REG_DIVIDE),
                        get(page, REG_CURRENT));
    if (cpu == i->s.current)
        intc_remap(i);
    intc_notify(i, cpu);
}

void intc_get_chips(const struct intc *i, struct pn_chips *s) {
    memcpy(s->pic, i->s.pic, sizeof s->pic);
    s->ioapic = i->s.ioapic;
}

int intc_set_chips(struct intc *i, const struct pn_chips *s, uint32_t lines) {
    if (!pic_check(s->pic) || !ioapic_check(&s->ioapic))
        return -EINVAL;
    i->s.lines = lines & ((1u << GSIS) - 1);
    memcpy(i->s.pic, s->pic, sizeof s->pic);
    i->s.ioapic = s->ioapic;
    for (unsigned n = 0; n < 2; n++)
        i->s.pic[n].line = (uint8_t)(lines >> 8 * n);
    /* gsi 0 is pin 2; pin 0 has no line. */
    i->s.ioapic.line = (i->s.lines & ~5u) | (i->s.lines & 1) << 2;
    i->pic_out = pic_output(i->s.pic);
    for (unsigned cpu = 0; cpu < i->cfg.cpus; cpu++)
        intc_notify(i, cpu);
    return 0;
}
