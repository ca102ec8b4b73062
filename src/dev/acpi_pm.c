/* SPDX-License-Identifier: MIT */
/*
 * The ACPI fixed hardware: PM1 event block, PM1 control, PM timer (ACPI specification,
 * "ACPI Register Model").
 *
 *   +0 PM1_STS (2, write 1 to clear)   +2 PM1_EN (2)   +4 PM1_CNT (2)   +8 PM_TMR (4, ro)
 *
 * Invariants
 * 1. SCI is the level of STS & EN.
 * 2. TMR_STS is set whenever bit 23 of the timer changed since it was last looked at; the
 *    clock's timer is armed only while that could raise SCI.
 * 3. There is no SMI command port, so SCI_EN is always set.
 * 4. In S3 the block keeps its power. The power button wakes, and the RTC's alarm where it
 *    is enabled ("PM1 Status Registers", PWRBTN_STS and RTC_STS).
 */
#include "base/ticks.h"
#include "dev/dev.h"

#define PM_HZ       3579545u
#define PM_TMR_BITS 24u
#define PM_SIZE     12u

#define STS_TMR    0x0001u
#define STS_PWRBTN 0x0100u
#define STS_RTC    0x0400u
#define STS_WAK    0x8000u
#define STS_MASK   0x8731u /* WAK, RTC, SLPBTN, PWRBTN, GBL, BM, TMR */
#define EN_MASK    0x0721u

#define CNT_SCI_EN 0x0001u
#define CNT_SLP_EN 0x2000u
#define CNT_MASK   0x1c03u /* SLP_TYP, BM_RLD, SCI_EN */

struct pm_state {
    uint64_t half; /* half periods of bit 23 seen */
    uint16_t sts, en, cnt;
    uint8_t line;
    uint8_t asleep; /* in S3 */
};

struct acpi_pm {
    struct device dev;
    struct pm_state s;
};

static uint64_t ticks(const struct acpi_pm *a) {
    return ticks_at(clock_now(a->dev.env.clock), PM_HZ);
}

/* For the next change of bit 23, where that raises SCI. */
static void arm(void *dev) {
    struct acpi_pm *a = dev;
    uint64_t next = (a->s.half + 1) << (PM_TMR_BITS - 1);
    bool wanted = a->s.en & STS_TMR && !(a->s.sts & STS_TMR);
    dev_arm(&a->dev, wanted ? ticks_ns(next, PM_HZ) : CLOCK_NEVER);
}

static void wake(struct acpi_pm *a) {
    if (!a->s.asleep || !(a->s.sts & (STS_PWRBTN | (a->s.en & STS_RTC))))
        return;
    a->s.asleep = 0;
    a->s.sts |= STS_WAK;
    dev_ask(&a->dev, DEV_WAKE, 0);
}

static void update(struct acpi_pm *a) {
    uint64_t half = ticks(a) >> (PM_TMR_BITS - 1);
    if (half != a->s.half)
        a->s.sts |= STS_TMR;
    a->s.half = half;
    wake(a);
    arm(a);
    dev_line(&a->dev, &a->s.line, ACPI_SCI_GSI, a->s.sts & a->s.en);
}

static void on_timer(void *opaque) {
    update(opaque);
}

/* SLP_EN. 0 is QEMU's SLP_TYP for S5. */
static void sleep_enable(struct acpi_pm *a) {
    unsigned typ = a->s.cnt >> 10 & 7;
    if (typ == ACPI_PM_S5_TYP || typ == 0)
        dev_ask(&a->dev, DEV_POWEROFF, 0);
    if (typ != ACPI_PM_S3_TYP)
        return;
    a->s.asleep = 1;
    dev_ask(&a->dev, DEV_SLEEP, 0);
}

static uint8_t read_byte(const struct acpi_pm *a, uint64_t offset) {
    uint64_t regs = (uint64_t)a->s.sts | (uint64_t)a->s.en << 16 |
                    (uint64_t)(a->s.cnt | CNT_SCI_EN) << 32;
    uint32_t tmr = (uint32_t)ticks(a) & ((1u << PM_TMR_BITS) - 1);
    if (offset < 8)
        return (uint8_t)(regs >> offset * 8);
    return (uint8_t)(tmr >> (offset - 8) * 8);
}

static void write_byte(struct acpi_pm *a, uint64_t offset, uint8_t value) {
    unsigned shift = (unsigned)(offset & 1) * 8;
    uint16_t bits = (uint16_t)(value << shift), lane = (uint16_t)(0xffu << shift);
    switch (offset >> 1) {
    case 0:
        a->s.sts &= (uint16_t) ~(bits & STS_MASK);
        break;
    case 1:
        a->s.en = (uint16_t)((a->s.en & ~lane) | (bits & EN_MASK));
        break;
    case 2:
        a->s.cnt = (uint16_t)((a->s.cnt & ~lane) | (bits & CNT_MASK));
        if (bits & CNT_SLP_EN)
            sleep_enable(a);
        break;
    }
}

static uint64_t pm_read(void *dev, uint64_t offset, unsigned size) {
    struct acpi_pm *a = dev;
    uint64_t value = 0;
    update(a);
    for (unsigned n = 0; n < size; n++)
        value |= (uint64_t)read_byte(a, offset + n) << n * 8;
    return value;
}

static void pm_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct acpi_pm *a = dev;
    update(a);
    for (unsigned n = 0; n < size; n++)
        write_byte(a, offset + n, (uint8_t)(value >> n * 8));
    update(a);
}

static const struct dev_ops pm_ops = {"acpi_pm", 1, 4, pm_read, pm_write};

static const struct dev_range pm_ranges[] = {{DEV_PIO, ACPI_PM_BASE, PM_SIZE, &pm_ops}};

static bool pm_check(const void *dev, const void *state) {
    const struct pm_state *s = state;
    return s->half <= ticks(dev) >> (PM_TMR_BITS - 1) && !(s->sts & ~STS_MASK) &&
           !(s->en & ~EN_MASK) && !(s->cnt & ~CNT_MASK) && (s->line | s->asleep) <= 1;
}

static void kept(void *dev) {
    struct acpi_pm *a = dev;
    a->s.line = 0;
    update(a);
}

static const struct dev_class pm_class = {
    .name = "acpi_pm",
    .version = 2,
    DEV_STATE(struct acpi_pm, s),
    DEV_RANGES(pm_ranges),
    .check = pm_check,
    .settle = arm,
    .expire = on_timer,
    .kept = kept,
};

struct acpi_pm *acpi_pm_create(const struct dev_env *env) {
    return dev_create(&pm_class, env, 0, NULL);
}

void acpi_pm_press_power(struct acpi_pm *a) {
    a->s.sts |= STS_PWRBTN;
    update(a);
}

void acpi_pm_alarm(struct acpi_pm *a) {
    a->s.sts |= STS_RTC;
    update(a);
}
