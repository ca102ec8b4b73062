/* SPDX-License-Identifier: MIT */
/*
 * The interrupt controllers of a PC as one object: gsis in, kicks of vCPUs out.
 *
 * Invariants
 * 1. intc_peek is O(1) and changes nothing; intc_ack takes what intc_peek names.
 * 2. After any call that made something deliverable to a vCPU, kick() has been called for
 *    it; after an acknowledge or EOI that leaves more to deliver, again. A kick without
 *    anything deliverable is harmless, and happens when the 8259's INTR is withdrawn.
 * 3. ExtINT goes before the local APIC's own vectors.
 * 4. The local APIC page is on the bus where the current vCPU's IA32_APIC_BASE puts it.
 */
#include <errno.h>

#include "base/ticks.h"
#include "dev/intc_internal.h"

#define PAGE        0x1000u
#define ISA_GSIS    16u
#define CASCADE_GSI 2u

/* ---- Ports ---- */

static uint64_t pic_port_read(struct intc *i, unsigned chip, unsigned a) {
    uint8_t value = pic_read(i->s.pic, chip, a);
    intc_pic_changed(i); /* a poll acknowledges */
    return value;
}

static uint64_t master_read(void *dev, uint64_t offset, unsigned size) {
    return pic_port_read(dev, 0, (unsigned)offset);
}

static uint64_t slave_read(void *dev, uint64_t offset, unsigned size) {
    return pic_port_read(dev, 1, (unsigned)offset);
}

static void master_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct intc *i = dev;
    pic_write(i->s.pic, 0, (unsigned)offset, (uint8_t)value);
    intc_pic_changed(i);
}

static void slave_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct intc *i = dev;
    pic_write(i->s.pic, 1, (unsigned)offset, (uint8_t)value);
    intc_pic_changed(i);
}

static uint64_t elcr_read(void *dev, uint64_t offset, unsigned size) {
    struct intc *i = dev;
    return pic_elcr_read(i->s.pic, (unsigned)offset);
}

static void elcr_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct intc *i = dev;
    pic_elcr_write(i->s.pic, (unsigned)offset, (uint8_t)value);
    intc_pic_changed(i);
}

static const struct dev_ops master_ops = {"pic", 1, 1, master_read, master_write};
static const struct dev_ops slave_ops = {"pic2", 1, 1, slave_read, slave_write};
static const struct dev_ops elcr_ops = {"elcr", 1, 1, elcr_read, elcr_write};
static const struct dev_ops ioapic_ops = {"ioapic", 1, 4, ioapic_read, ioapic_write};
static const struct dev_ops lapic_ops = {"lapic", 4, 4, lapic_mmio_read,
                                         lapic_mmio_write};

/* ---- Routing ---- */

void intc_notify(struct intc *i, unsigned cpu) {
    if (intc_peek(i, cpu) >= 0)
        i->cfg.kick(i->cfg.opaque, cpu);
}

void intc_pic_changed(struct intc *i) {
    bool out = pic_output(i->s.pic);
    if (out == i->pic_out)
        return;
    i->pic_out = out;
    for (unsigned cpu = 0; cpu < i->cfg.cpus; cpu++) {
        struct lapic *l = i->lapic[cpu];
        lapic_lint0(l, out);
        if (!out && lapic_takes_extint(l))
            i->cfg.kick(i->cfg.opaque, cpu); /* withdrawn */
    }
}

uint64_t intc_tsc(struct intc *i, unsigned cpu) {
    if (i->cfg.tsc)
        return i->cfg.tsc(i->cfg.opaque, cpu);
    return ticks_at(clock_now(i->dev.env.clock), i->cfg.apic_hz);
}

static bool deliver_lowest(struct intc *i, uint32_t dest, bool logical, bool x2,
                           uint8_t vector, bool level) {
    struct lapic *best = NULL;
    for (unsigned cpu = 0; cpu < i->cfg.cpus; cpu++) {
        struct lapic *l = i->lapic[cpu];
        lapic_settle(l);
        /* 0x100: a software-disabled APIC takes no part in the arbitration. */
        if (lapic_enabled(l) && l->s.svr & 0x100u &&
            lapic_matches(l, dest, logical, x2) &&
            (!best || lapic_ppr(l) < lapic_ppr(best)))
            best = l;
    }
    return best && lapic_accept(best, APIC_FIXED, vector, level);
}

bool intc_deliver(struct intc *i, uint32_t dest, bool logical, bool x2,
                  enum apic_mode mode, uint8_t vector, bool level) {
    bool taken = false;
    if (mode == APIC_LOWEST)
        return deliver_lowest(i, dest, logical, x2, vector, level);
    for (unsigned cpu = 0; cpu < i->cfg.cpus; cpu++)
        if (lapic_matches(i->lapic[cpu], dest, logical, x2))
            taken |= lapic_accept(i->lapic[cpu], mode, vector, level);
    return taken;
}

bool intc_send(struct intc *i, unsigned cpu, uint32_t low) {
    enum apic_mode mode = (enum apic_mode)(low >> 8 & 7);
    return cpu < i->cfg.cpus &&
           lapic_accept(i->lapic[cpu], mode, (uint8_t)low, low & ICR_LEVEL);
}

static void set_gsi(void *opaque, unsigned gsi, int level) {
    struct intc *i = opaque;
    if (gsi >= GSIS || gsi == CASCADE_GSI || (i->s.lines >> gsi & 1) == (level != 0))
        return;
    i->s.lines ^= 1u << gsi;
    struct pn_ring *ring = i->cfg.rings ? &i->cfg.rings[i->s.current] : NULL;
    pn_emit(ring, set_irq, gsi, level != 0);
    if (gsi < ISA_GSIS) {
        pic_set(i->s.pic, gsi, level);
        intc_pic_changed(i);
    }
    ioapic_set(i, gsi == 0 ? 2 : gsi, level);
}

/* Address: 0xfee in 31..20 | destination 19..12 | 3 redirection hint | 2 logical. The
 * hint chooses one of the logical destination. Data: as the low half of an ICR. */
static bool send_msi(void *opaque, uint64_t address, uint32_t data) {
    bool logical = address & 4, one = logical && address & 8;
    enum apic_mode mode = (enum apic_mode)(data >> 8 & 7);
    if (address >> 20 != APIC_BASE_RESET >> 20)
        return false;
    return intc_deliver(opaque, (uint8_t)(address >> 12), logical, false,
                        one && mode == APIC_FIXED ? APIC_LOWEST : mode, (uint8_t)data,
                        data & ICR_LEVEL);
}

struct irq_sink intc_sink(struct intc *i) {
    return (struct irq_sink){.set = set_gsi, .msi = send_msi, .opaque = i};
}

/* ---- The CPU's side ---- */

int intc_peek(struct intc *i, unsigned cpu) {
    if (cpu >= i->cfg.cpus)
        return -1;
    if (i->pic_out && lapic_takes_extint(i->lapic[cpu]))
        return pic_vector(i->s.pic);
    return lapic_peek(i->lapic[cpu]);
}

int intc_ack(struct intc *i, unsigned cpu) {
    int vector;
    if (cpu >= i->cfg.cpus)
        return -1;
    if (i->pic_out && lapic_takes_extint(i->lapic[cpu])) {
        vector = pic_ack(i->s.pic);
        intc_pic_changed(i);
    } else {
        vector = lapic_ack(i->lapic[cpu]);
    }
    intc_notify(i, cpu);
    return vector;
}

int intc_msr_read(struct intc *i, unsigned cpu, uint32_t index, uint64_t *value) {
    *value = 0;
    return cpu < i->cfg.cpus ? lapic_msr_read(i->lapic[cpu], index, value) : -1;
}

int intc_msr_write(struct intc *i, unsigned cpu, uint32_t index, uint64_t value) {
    return cpu < i->cfg.cpus ? lapic_msr_write(i->lapic[cpu], index, value) : -1;
}

void intc_eoi(struct intc *i, unsigned cpu) {
    if (cpu < i->cfg.cpus)
        lapic_eoi(i->lapic[cpu]);
}

uint64_t intc_cr8_read(struct intc *i, unsigned cpu) {
    return cpu < i->cfg.cpus ? i->lapic[cpu]->s.tpr >> 4 : 0;
}

void intc_cr8_write(struct intc *i, unsigned cpu, uint64_t value) {
    if (cpu >= i->cfg.cpus)
        return;
    i->lapic[cpu]->s.tpr = (uint32_t)(value & 0xf) << 4;
    intc_notify(i, cpu);
}

void intc_set_current(struct intc *i, unsigned cpu) {
    if (cpu >= i->cfg.cpus || cpu == i->s.current)
        return;
    i->s.current = cpu;
    intc_remap(i);
}

void intc_reset_cpu(struct intc *i, unsigned cpu) {
    if (cpu >= i->cfg.cpus)
        return;
    lapic_reset(i->lapic[cpu], true);
    intc_notify(i, cpu);
}

/* ---- Life ---- */

enum { LAPIC_PAGE = 4 }; /* the range that moves */
static const struct dev_range intc_ranges[] = {
    {DEV_PIO, 0x20, 2, &master_ops},
    {DEV_PIO, 0xa0, 2, &slave_ops},
    {DEV_PIO, 0x4d0, 2, &elcr_ops},
    {DEV_MMIO, IOAPIC_BASE, PAGE, &ioapic_ops},
    [LAPIC_PAGE] = {DEV_MMIO, APIC_BASE_RESET, PAGE, &lapic_ops},
};

void intc_remap(struct intc *i) {
    uint64_t base = i->lapic[i->s.current]->s.base & PN_PAGE_MASK;
    if (base == i->mapped)
        return;
    i->mapped = base;
    /* On top of the IO-APIC it answers nowhere: the guest's own doing. */
    (void)dev_bus_move(i->dev.env.bus, i->dev.range[LAPIC_PAGE], base);
}

static void intc_destroy(void *dev) {
    struct intc *i = dev;
    for (unsigned cpu = 0; cpu < i->cfg.cpus; cpu++)
        dev_destroy(i->lapic[cpu]);
}

static int create(void *dev, const void *config) {
    struct intc *i = dev;
    i->cfg = *(const struct intc_config *)config;
    i->mapped = APIC_BASE_RESET;
    for (unsigned cpu = 0; cpu < i->cfg.cpus; cpu++) {
        if (!dev_create(&lapic_class, &i->dev.env, cpu, i)) {
            intc_destroy(i);
            return -ENOMEM;
        }
    }
    return 0;
}

static void reset(void *dev) {
    struct intc *i = dev;
    pic_reset(i->s.pic);
    ioapic_reset(i);
    i->pic_out = false;
}

static bool check(const void *dev, const void *state) {
    const struct intc *i = dev;
    const struct intc_state *s = state;
    return s->current < i->cfg.cpus && !(s->lines >> GSIS) && pic_check(s->pic) &&
           ioapic_check(&s->ioapic);
}

static void settle(void *dev) {
    struct intc *i = dev;
    pic_cascade(i->s.pic);
    i->pic_out = pic_output(i->s.pic);
    intc_remap(i);
}

static const struct dev_class intc_class = {
    .name = "intc",
    .version = 1,
    DEV_STATE(struct intc, s),
    DEV_RANGES(intc_ranges),
    .create = create,
    .destroy = intc_destroy,
    .reset = reset,
    .check = check,
    .settle = settle,
};

struct intc *intc_create(const struct dev_env *env, const struct intc_config *cfg) {
    if (!cfg->cpus || cfg->cpus > INTC_CPUS_MAX || !cfg->apic_hz ||
        cfg->apic_hz > APIC_HZ_MAX)
        return NULL;
    return dev_create(&intc_class, env, 0, cfg);
}
