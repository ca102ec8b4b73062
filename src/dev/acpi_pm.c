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
 */
#include <stdlib.h>

#include "dev/dev.h"
#include "dev/ticks.h"

#define PM_HZ       3579545u
#define PM_TMR_BITS 24u
#define PM_SIZE     12u

#define STS_TMR    0x0001u
#define STS_PWRBTN 0x0100u
#define STS_MASK   0x8731u /* WAK, RTC, SLPBTN, PWRBTN, GBL, BM, TMR */
#define EN_MASK    0x0721u

#define CNT_SCI_EN 0x0001u
#define CNT_SLP_EN 0x2000u
#define CNT_MASK   0x1c03u /* SLP_TYP, BM_RLD, SCI_EN */

struct acpi_pm {
    struct clock *clock;
    struct irq_sink irq;
    struct dev_host host;
    struct clock_timer timer;
    uint16_t sts, en, cnt;
    uint64_t half; /* half periods of bit 23 seen */
    int line;
};

static uint64_t ticks(const struct acpi_pm *a) {
    return ticks_at(clock_now(a->clock), PM_HZ);
}

static void update(struct acpi_pm *a) {
    uint64_t half = ticks(a) >> (PM_TMR_BITS - 1);

    if (half != a->half)
        a->sts |= STS_TMR;
    a->half = half;
    int line = (a->sts & a->en) != 0;

    if (a->en & STS_TMR && !(a->sts & STS_TMR))
        clock_arm(a->clock, &a->timer, ticks_ns((half + 1) << (PM_TMR_BITS - 1), PM_HZ));
    else
        clock_cancel(a->clock, &a->timer);
    if (line == a->line)
        return;
    a->line = line;
    a->irq.set(a->irq.opaque, ACPI_SCI_GSI, line);
}

static void on_timer(void *opaque) {
    update(opaque);
}

/* SLP_EN: soft-off is the only sleeping state. 0 is QEMU's SLP_TYP for S5. */
static void sleep_enable(struct acpi_pm *a) {
    unsigned typ = a->cnt >> 10 & 7;

    if ((typ == ACPI_PM_S5_TYP || typ == 0) && a->host.request)
        a->host.request(a->host.opaque, DEV_POWEROFF, 0);
}

static uint8_t read_byte(const struct acpi_pm *a, uint64_t offset) {
    uint64_t regs =
        (uint64_t)a->sts | (uint64_t)a->en << 16 | (uint64_t)(a->cnt | CNT_SCI_EN) << 32;
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
        a->sts &= (uint16_t) ~(bits & STS_MASK);
        break;
    case 1:
        a->en = (uint16_t)((a->en & ~lane) | (bits & EN_MASK));
        break;
    case 2:
        a->cnt = (uint16_t)((a->cnt & ~lane) | (bits & CNT_MASK));
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

static const struct dev_ops pm_ops = {
    .name = "acpi_pm", .min_size = 1, .max_size = 4, .read = pm_read, .write = pm_write};

struct acpi_pm *acpi_pm_create(struct dev_bus *bus, struct clock *clock,
                               struct irq_sink irq, const struct dev_host *host) {
    struct acpi_pm *a = calloc(1, sizeof *a);

    if (!a)
        return NULL;
    a->clock = clock;
    a->irq = irq;
    a->host = *host;
    clock_timer_init(&a->timer, on_timer, a);
    if (dev_bus_add_pio(bus, ACPI_PM_BASE, PM_SIZE, &pm_ops, a)) {
        free(a);
        return NULL;
    }
    return a;
}

void acpi_pm_destroy(struct acpi_pm *a) {
    if (!a)
        return;
    clock_cancel(a->clock, &a->timer);
    free(a);
}

void acpi_pm_press_power(struct acpi_pm *a) {
    a->sts |= STS_PWRBTN;
    update(a);
}
