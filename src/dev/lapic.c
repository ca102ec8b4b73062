/* SPDX-License-Identifier: MIT */
/*
 * Local APIC: registers of the xAPIC page and of the x2APIC MSRs, priorities, acceptance
 * and IPIs. Source of the rules: SDM volume 3, "Advanced Programmable Interrupt
 * Controller (APIC)". The timer is in lapic_timer.c.
 *
 * Invariants
 * 1. A vector is in IRR at most once; ISR holds at most one vector of each accepted
 *    nesting; TMR[v] says that v came as a level and that its EOI goes to the IO-APIC.
 * 2. IA32_APIC_BASE is in one of the states disabled, xAPIC, x2APIC; the transitions of
 *    SDM figure "Local x2APIC State Transitions" are the only ones.
 * 3. The id is the vCPU's number and read-only. The BSP's LINT0 is ExtINT and open after
 *    reset, as firmware would leave it: the machine has no firmware.
 */
#include <string.h>

#include "dev/intc_internal.h"

#define SVR_ENABLE   0x100u
#define SVR_SUPPRESS 0x1000u
#define SVR_MASK     0x13ffu

#define ESR_SEND_VECTOR 0x20u
#define ESR_RECV_VECTOR 0x40u
#define ESR_REGISTER    0x80u

#define LVT_STATUS  0x5000u /* delivery status, remote IRR: read-only */
#define ICR_LOGICAL 0x800u
#define ICR_ASSERT  0x4000u
#define BROADCAST   0xffffffffu

const uint32_t lapic_lvt_mask[LVT_COUNT] = {
    [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
    [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff};

/* ---- Vector sets ---- */

static void set_bit(uint64_t *set, uint8_t v) {
    set[v >> 6] |= (uint64_t)1 << (v & 63);
}

static void clear_bit(uint64_t *set, uint8_t v) {
    set[v >> 6] &= ~((uint64_t)1 << (v & 63));
}

static bool test_bit(const uint64_t *set, uint8_t v) {
    return set[v >> 6] >> (v & 63) & 1;
}

static int highest(const uint64_t *set) {
    for (int w = 3; w >= 0; w--)
        if (set[w])
            return w * 64 + 63 - __builtin_clzll(set[w]);
    return -1;
}

static uint32_t set_word(const uint64_t *set, unsigned n) {
    return (uint32_t)(set[n >> 1] >> (n & 1) * 32);
}

/* ---- Priorities ---- */

uint8_t lapic_ppr(const struct lapic *l) {
    int v = highest(l->s.isr);
    uint8_t busy = v < 0 ? 0 : (uint8_t)(v & 0xf0);
    return (l->s.tpr & 0xf0) >= busy ? (uint8_t)l->s.tpr : busy;
}

int lapic_peek(const struct lapic *l) {
    int v = highest(l->s.irr);
    if (v < 0 || !lapic_enabled(l) || (v & 0xf0) <= (lapic_ppr(l) & 0xf0))
        return -1;
    return v;
}

/* v was just acknowledged: offer the paravirtual EOI where it can be. */
static void offer_eoi(struct lapic *l, uint8_t v) {
    const struct intc_config *cfg = &l->intc->cfg;
    int bits = 0;
    if (!cfg->eoi_offer || highest(l->s.irr) >= 0 || test_bit(l->s.tmr, v))
        return;
    for (unsigned n = 0; n < 4; n++)
        bits += __builtin_popcountll(l->s.isr[n]);
    if (bits == 1) /* an outer interrupt in service must see its own EOI */
        l->s.eoi_offered = cfg->eoi_offer(cfg->opaque, l->cpu);
}

/* Return: the vector, now in service; -1 when there is none, or the TPR masks it: it then
 * stays in IRR. INTR and its acknowledge are one step here, so that nothing comes between
 * them that would make the interrupt spurious (SDM volume 3, "Spurious Interrupt"). */
int lapic_ack(struct lapic *l) {
    int v = lapic_peek(l);
    if (v < 0)
        return -1;
    clear_bit(l->s.irr, (uint8_t)v);
    set_bit(l->s.isr, (uint8_t)v);
    offer_eoi(l, (uint8_t)v);
    return v;
}

/* The interrupt in service ends. */
static void end_one(struct lapic *l) {
    int v = highest(l->s.isr);
    if (v < 0)
        return;
    clear_bit(l->s.isr, (uint8_t)v);
    if (test_bit(l->s.tmr, (uint8_t)v) && !(l->s.svr & SVR_SUPPRESS))
        ioapic_eoi(l->intc, (uint8_t)v);
    intc_notify(l->intc, l->cpu);
}

void lapic_eoi(struct lapic *l) {
    lapic_settle(l);
    end_one(l);
}

/* ---- Paravirtual EOI (Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN) ----
 */

void lapic_settle(struct lapic *l) {
    const struct intc_config *cfg = &l->intc->cfg;
    if (!l->s.eoi_offered)
        return;
    l->s.eoi_offered = 0;
    if (!cfg->eoi_withdraw(cfg->opaque, l->cpu))
        end_one(l);
}

/* ---- Acceptance ---- */

static void error(struct lapic *l, uint32_t bit) {
    bool known = l->s.esr_next & bit;
    l->s.esr_next |= bit;
    /* The error entry's own vector may be illegal: one error is told once. */
    if (!known)
        lapic_local(l, LVT_ERROR);
}

static bool accept_vector(struct lapic *l, uint8_t vector, bool level) {
    if (!(l->s.svr & SVR_ENABLE))
        return false;
    if (vector < 16) {
        error(l, ESR_RECV_VECTOR);
        return false;
    }
    lapic_settle(l);
    if (!test_bit(l->s.irr, vector)) {
        set_bit(l->s.irr, vector);
        if (level)
            set_bit(l->s.tmr, vector);
        else
            clear_bit(l->s.tmr, vector);
    }
    intc_notify(l->intc, l->cpu);
    return true;
}

bool lapic_accept(struct lapic *l, enum apic_mode mode, uint8_t vector, bool level) {
    const struct intc_config *cfg = &l->intc->cfg;
    if (!lapic_enabled(l))
        return false;
    switch (mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        return accept_vector(l, vector, level);
    case APIC_NMI:
        if (cfg->nmi)
            cfg->nmi(cfg->opaque, l->cpu);
        return true;
    case APIC_INIT:
        lapic_reset(l, false);
        if (cfg->init)
            cfg->init(cfg->opaque, l->cpu);
        intc_notify(l->intc, l->cpu); /* LINT0 may be open again */
        return true;
    case APIC_SIPI:
        if (cfg->sipi)
            cfg->sipi(cfg->opaque, l->cpu, vector);
        return true;
    case APIC_SMI:         /* no SMM */
    case APIC_REMOTE_READ: /* not in any 64-bit CPU */
    case APIC_EXTINT:      /* reaches the CPU through LINT0 only */
        break;
    }
    return false;
}

void lapic_local(struct lapic *l, unsigned entry) {
    uint32_t lvt = l->s.lvt[entry];
    enum apic_mode mode = APIC_FIXED;
    if (lvt & LVT_MASKED)
        return;
    if (entry != LVT_TIMER && entry != LVT_ERROR)
        mode = (enum apic_mode)(lvt >> 8 & 7);
    if (mode == APIC_FIXED || mode == APIC_NMI)
        lapic_accept(l, mode, (uint8_t)lvt, false);
}

void lapic_lint0(struct lapic *l, bool level) {
    if (level && lapic_enabled(l))
        lapic_local(l, LVT_LINT0);
    intc_notify(l->intc, l->cpu);
}

bool lapic_takes_extint(const struct lapic *l) {
    if (!lapic_enabled(l))
        return l->cpu == 0;
    return (l->s.lvt[LVT_LINT0] & (LVT_MASKED | 0x700u)) == APIC_EXTINT << 8;
}

/* SDM "Determining IPI Destination" and "Deriving Logical x2APIC ID". A message of an
 * xAPIC or of the IO-APIC has an 8-bit destination, and 0xff names everybody. */
bool lapic_matches(const struct lapic *l, uint32_t dest, bool logical, bool x2) {
    if (!x2 && dest == 0xff && (!logical || lapic_x2(l)))
        dest = BROADCAST;
    if (!logical)
        return dest == BROADCAST || dest == l->cpu;
    if (dest == BROADCAST)
        return true;
    if (lapic_x2(l)) {
        uint32_t ldr = (l->cpu >> 4) << 16 | 1u << (l->cpu & 15);
        return dest >> 16 == ldr >> 16 && dest & ldr & 0xffffu;
    }
    uint32_t ldr = l->s.ldr >> 24;
    if (dest > 0xff)
        return false;
    if (l->s.dfr >> 28 == 0xf)
        return dest & ldr;
    /* Cluster model: cluster 15 is every cluster. */
    return (dest >> 4 == 0xf || dest >> 4 == ldr >> 4) && dest & ldr & 0xf;
}

/* ---- IPIs ---- */

static void send_ipi(struct lapic *l) {
    struct intc *i = l->intc;
    uint32_t low = (uint32_t)l->s.icr;
    uint32_t dest = (uint32_t)(l->s.icr >> 32);
    enum apic_mode mode = (enum apic_mode)(low >> 8 & 7);
    uint8_t vector = (uint8_t)low;
    bool x2 = lapic_x2(l);
    if (mode == APIC_INIT && low & ICR_LEVEL && !(low & ICR_ASSERT))
        return; /* INIT level de-assert: nothing since the Pentium 4 */
    if (mode == APIC_EXTINT || mode == APIC_REMOTE_READ)
        return;
    if (mode <= APIC_LOWEST && vector < 16)
        error(l, ESR_SEND_VECTOR); /* sent all the same; the receiver refuses it */
    if (!x2)
        dest >>= 24;
    switch (low >> 18 & 3) {
    case 0:
        intc_deliver(i, dest, low & ICR_LOGICAL, x2, mode, vector, false);
        break;
    case 1: /* self: fixed, and NMI, which the SDM calls invalid and every APIC does */
        if (mode == APIC_FIXED || mode == APIC_NMI)
            lapic_accept(l, mode, vector, false);
        break;
    case 2: /* all including self */
        if (mode == APIC_FIXED || mode == APIC_NMI)
            intc_deliver(i, BROADCAST, false, true, mode, vector, false);
        break;
    case 3: /* all excluding self */
        for (unsigned n = 0; n < i->cfg.cpus; n++)
            if (n != l->cpu)
                lapic_accept(i->lapic[n], mode, vector, false);
        break;
    }
}

/* ---- Registers ---- */

static void write_svr(struct lapic *l, uint32_t value) {
    l->s.svr = value & SVR_MASK;
    if (!(value & SVR_ENABLE)) {
        for (unsigned n = 0; n < LVT_COUNT; n++)
            l->s.lvt[n] |= LVT_MASKED;
    }
}

static void write_lvt(struct lapic *l, unsigned n, uint32_t value) {
    value &= lapic_lvt_mask[n];
    if (!(l->s.svr & SVR_ENABLE))
        value |= LVT_MASKED;
    if (n == LVT_TIMER)
        lapic_timer_set_lvt(l, value);
    else
        l->s.lvt[n] = value;
    if (n == LVT_LINT0)
        intc_notify(l->intc, l->cpu);
}

/* Return: the register; *known says whether it exists and may be read. */
static uint32_t read_reg(struct lapic *l, unsigned reg, bool *known) {
    bool x2 = lapic_x2(l);
    *known = true;
    lapic_settle(l);
    if (reg >= REG_ISR && reg < REG_ISR + 8)
        return set_word(l->s.isr, reg - REG_ISR);
    if (reg >= REG_TMR && reg < REG_TMR + 8)
        return set_word(l->s.tmr, reg - REG_TMR);
    if (reg >= REG_IRR && reg < REG_IRR + 8)
        return set_word(l->s.irr, reg - REG_IRR);
    if (reg >= REG_LVT && reg < REG_LVT + LVT_COUNT)
        return l->s.lvt[reg - REG_LVT];
    switch (reg) {
    case REG_ID:
        return x2 ? l->cpu : l->cpu << 24;
    case REG_VERSION:
        return LAPIC_VERSION;
    case REG_TPR:
        return l->s.tpr;
    case REG_APR:
        *known = !x2;
        return 0;
    case REG_PPR:
        return lapic_ppr(l);
    case REG_EOI:
        *known = !x2;
        return 0;
    case REG_LDR:
        return x2 ? (l->cpu >> 4) << 16 | 1u << (l->cpu & 15) : l->s.ldr;
    case REG_DFR:
        *known = !x2;
        return l->s.dfr;
    case REG_SVR:
        return l->s.svr;
    case REG_ESR:
        return l->s.esr;
    case REG_ICR_LOW:
        return (uint32_t)l->s.icr;
    case REG_ICR_HIGH:
        *known = !x2;
        return (uint32_t)(l->s.icr >> 32);
    case REG_INITIAL:
        return l->s.initial;
    case REG_CURRENT:
        return lapic_timer_count(l);
    case REG_DIVIDE:
        return l->s.divide;
    }
    *known = false;
    return 0;
}

/* Registers that xAPIC and x2APIC write alike. Return: whether it was one. */
static bool write_reg(struct lapic *l, unsigned reg, uint32_t value) {
    if (reg >= REG_LVT && reg < REG_LVT + LVT_COUNT) {
        write_lvt(l, reg - REG_LVT, value);
        return true;
    }
    switch (reg) {
    case REG_TPR:
        l->s.tpr = value & 0xff;
        intc_notify(l->intc, l->cpu);
        return true;
    case REG_EOI:
        lapic_eoi(l);
        return true;
    case REG_SVR:
        write_svr(l, value);
        return true;
    case REG_ESR: /* a write brings up what happened since the last one */
        l->s.esr = l->s.esr_next;
        l->s.esr_next = 0;
        return true;
    case REG_INITIAL:
        lapic_timer_set_initial(l, value);
        return true;
    case REG_DIVIDE:
        lapic_timer_set_divide(l, value & 0xb);
        return true;
    }
    return false;
}

static void write_xapic(struct lapic *l, unsigned reg, uint32_t value) {
    bool known;
    if (write_reg(l, reg, value))
        return;
    switch (reg) {
    case REG_LDR:
        l->s.ldr = value & 0xff000000u;
        return;
    case REG_DFR:
        l->s.dfr = value | 0x0fffffffu;
        return;
    case REG_ICR_LOW:
        l->s.icr = (l->s.icr & 0xffffffff00000000u) | (value & ICR_MASK);
        send_ipi(l);
        return;
    case REG_ICR_HIGH:
        l->s.icr = (l->s.icr & 0xffffffffu) | (uint64_t)(value & 0xff000000u) << 32;
        return;
    }
    read_reg(l, reg, &known); /* read-only registers are no errors */
    if (!known)
        error(l, ESR_REGISTER);
}

/* The page answers for the vCPU that runs; without an xAPIC there it is empty. */
static struct lapic *page_owner(struct intc *i) {
    struct lapic *l = i->lapic[i->s.current];
    return lapic_enabled(l) && !lapic_x2(l) ? l : NULL;
}

uint64_t lapic_mmio_read(void *opaque, uint64_t offset, unsigned size) {
    struct lapic *l = page_owner(opaque);
    bool known;
    if (!l)
        return 0xffffffffu;
    if (offset & 0xf)
        return 0;
    uint32_t value = read_reg(l, (unsigned)(offset >> 4), &known);
    if (!known)
        error(l, ESR_REGISTER);
    return value;
}

void lapic_mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value) {
    struct lapic *l = page_owner(opaque);
    if (l && !(offset & 0xf))
        write_xapic(l, (unsigned)(offset >> 4), (uint32_t)value);
}

/* ---- MSRs ---- */

static bool base_exists(const struct lapic *l, uint64_t value) {
    unsigned bits = l->intc->cfg.maxphyaddr ? l->intc->cfg.maxphyaddr : 52;
    uint64_t reserved = ~(((uint64_t)1 << bits) - 1) | 0x2ffu;
    return !(value & reserved) && (value & APIC_BASE_EN || !(value & APIC_BASE_X2));
}

static int write_base(struct lapic *l, uint64_t value) {
    bool en = value & APIC_BASE_EN, x2 = value & APIC_BASE_X2;
    if (!base_exists(l, value))
        return -1;
    if (en && lapic_x2(l) && !x2)
        return -1; /* x2APIC -> xAPIC only through disabled */
    if (x2 && !lapic_enabled(l))
        return -1; /* disabled -> x2APIC only through xAPIC */
    if (!en && lapic_enabled(l))
        lapic_reset(l, false); /* what was in it is gone */
    if (x2 && !lapic_x2(l))
        l->s.icr &= 0xffffffffu;
    l->s.base = (value & ~(uint64_t)APIC_BASE_BSP) | (l->cpu ? 0 : APIC_BASE_BSP);
    if (l->cpu == l->intc->s.current)
        intc_remap(l->intc);
    intc_notify(l->intc, l->cpu);
    return 0;
}

/* Bits that may be set in an x2APIC register; others are #GP. */
static uint64_t x2_writable(unsigned reg) {
    if (reg >= REG_LVT && reg < REG_LVT + LVT_COUNT)
        return lapic_lvt_mask[reg - REG_LVT] | LVT_STATUS; /* is ignored */
    switch (reg) {
    case REG_TPR:
    case REG_SELF_IPI:
        return 0xff;
    case REG_SVR:
        return SVR_MASK;
    case REG_ICR_LOW:
        return 0xffffffff00000000u | ICR_MASK | 0x1000u;
    case REG_INITIAL:
        return 0xffffffffu;
    case REG_DIVIDE:
        return 0xb;
    }
    return 0; /* EOI, ESR: zero only */
}

static int write_x2apic(struct lapic *l, unsigned reg, uint64_t value) {
    if (value & ~x2_writable(reg))
        return -1;
    switch (reg) {
    case REG_ICR_LOW:
        l->s.icr = value & (0xffffffff00000000u | ICR_MASK);
        send_ipi(l);
        return 0;
    case REG_SELF_IPI:
        if (value < 16)
            error(l, ESR_SEND_VECTOR);
        lapic_accept(l, APIC_FIXED, (uint8_t)value, false);
        return 0;
    }
    return write_reg(l, reg, (uint32_t)value) ? 0 : -1;
}

int lapic_msr_read(struct lapic *l, uint32_t index, uint64_t *value) {
    bool known;
    switch (index) {
    case MSR_APIC_BASE:
        *value = l->s.base;
        return 0;
    case MSR_TSC_DEADLINE:
        *value = lapic_timer_deadline(l);
        return 0;
    }
    if (index < MSR_X2APIC || index > MSR_X2APIC_LAST || !lapic_x2(l))
        return -1;
    *value = read_reg(l, index - MSR_X2APIC, &known);
    if (index - MSR_X2APIC == REG_ICR_LOW)
        *value = l->s.icr;
    return known ? 0 : -1;
}

int lapic_msr_write(struct lapic *l, uint32_t index, uint64_t value) {
    switch (index) {
    case MSR_TSC_DEADLINE:
        lapic_timer_set_deadline(l, value);
        return 0;
    case MSR_APIC_BASE:
        return write_base(l, value);
    }
    if (index < MSR_X2APIC || index > MSR_X2APIC_LAST || !lapic_x2(l))
        return -1;
    return write_x2apic(l, index - MSR_X2APIC, value);
}

/* ---- Reset ---- */

void lapic_reset(struct lapic *l, bool power) {
    memset(l->s.irr, 0, sizeof l->s.irr);
    memset(l->s.isr, 0, sizeof l->s.isr);
    memset(l->s.tmr, 0, sizeof l->s.tmr);
    l->s.eoi_offered = 0;
    l->s.icr = 0;
    l->s.tpr = l->s.ldr = l->s.esr = l->s.esr_next = 0;
    l->s.dfr = 0xffffffffu;
    l->s.svr = 0xff;
    for (unsigned n = 0; n < LVT_COUNT; n++)
        l->s.lvt[n] = LVT_MASKED;
    if (l->cpu == 0)
        l->s.lvt[LVT_LINT0] = APIC_EXTINT << 8;
    lapic_timer_reset(l);
    if (power) {
        l->s.base = APIC_BASE_RESET | APIC_BASE_EN | (l->cpu ? 0 : APIC_BASE_BSP);
        if (l->cpu == l->intc->s.current)
            intc_remap(l->intc);
    }
}

/* ---- As a device ---- */

static int lapic_create(void *dev, const void *config) {
    struct lapic *l = dev;
    l->intc = (struct intc *)config;
    l->cpu = l->dev.instance;
    l->intc->lapic[l->cpu] = l;
    return 0;
}

static void power_on(void *dev) {
    lapic_reset(dev, true);
}

/* Vectors below 16 are never accepted. */
static bool has_reserved(const uint64_t *set) {
    return set[0] & 0xffff;
}

static bool lapic_check(const void *dev, const void *state) {
    const struct lapic *l = dev;
    const struct lapic_state *s = state;
    for (unsigned n = 0; n < LVT_COUNT; n++)
        if (s->lvt[n] & ~lapic_lvt_mask[n])
            return false;
    if (!base_exists(l, s->base) || !(s->base & APIC_BASE_BSP) != (l->cpu != 0) ||
        has_reserved(s->irr) || has_reserved(s->isr))
        return false;
    if (s->icr & ~(0xffffffff00000000u | ICR_MASK) || s->tpr > 0xff ||
        s->svr & ~SVR_MASK || s->ldr & 0xffffff || ~s->dfr & 0xfffffff || s->esr > 0xff ||
        s->esr_next > 0xff)
        return false;
    if (s->eoi_offered > (l->intc->cfg.eoi_offer != NULL))
        return false;
    return lapic_timer_check(l, s);
}

const struct dev_class lapic_class = {
    .name = "lapic",
    .version = 1,
    DEV_STATE(struct lapic, s),
    .create = lapic_create,
    .reset = power_on,
    .check = lapic_check,
    .settle = lapic_timer_settle,
    .expire = lapic_timer_fire,
};
