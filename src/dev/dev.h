/* SPDX-License-Identifier: MIT */
/*
 * The bus and the devices' common ground. A device is a struct with a create function, an
 * ops table and no host dependencies: it sees offsets, values, the clock and an interrupt
 * line.
 *
 * Invariants
 * 1. A guest may poke every port and address with every size: a device checks every
 * offset, length and index, and answers what it does not have with all ones (reads) or
 * nothing.
 * 2. An access is dispatched to the one device whose range holds its first byte; the
 * device is told the offset and size, and never an offset beyond its range. Accesses that
 * reach past its end, and sizes the device does not take, are split or ignored by the
 * bus. Locking: none; the thread that runs the machine owns the bus.
 */
#ifndef DEV_DEV_H
#define DEV_DEV_H

#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "penumbra/events.h"
#include "penumbra/irqchip.h"
#include "penumbra/types.h"

struct dev_ops {
    const char *name;
    uint8_t min_size,
        max_size; /* access sizes taken whole, 1..8; others are split or widened */
    uint64_t (*read)(void *dev, uint64_t offset, unsigned size);
    void (*write)(void *dev, uint64_t offset, unsigned size, uint64_t value);
};

struct dev_bus;
/* Return: NULL when out of memory. */
struct dev_bus *dev_bus_create(void);
void dev_bus_destroy(struct dev_bus *bus);
/* Return: 0; -EEXIST when the range overlaps another; -EINVAL; -ENOMEM. */
int dev_bus_add_pio(struct dev_bus *bus, uint16_t port, uint32_t count,
                    const struct dev_ops *ops, void *dev);
int dev_bus_add_mmio(struct dev_bus *bus, pn_gpa gpa, uint64_t size,
                     const struct dev_ops *ops, void *dev);
uint64_t dev_bus_pio_read(struct dev_bus *bus, uint16_t port, unsigned size);
void dev_bus_pio_write(struct dev_bus *bus, uint16_t port, unsigned size, uint64_t value);
uint64_t dev_bus_mmio_read(struct dev_bus *bus, pn_gpa gpa, unsigned size);
void dev_bus_mmio_write(struct dev_bus *bus, pn_gpa gpa, unsigned size, uint64_t value);
/* Move a device's MMIO range (the local APIC's base). */
int dev_bus_move_mmio(struct dev_bus *bus, void *dev, pn_gpa gpa);
/* Forget every range of a device (a create function that failed half-way). */
void dev_bus_remove(struct dev_bus *bus, const void *dev);

/* Where a device's interrupt goes. gsi 0..15 are the ISA lines (PIC and IO-APIC; ISA 0 is
 * IO-APIC pin 2), 16..23 IO-APIC only. Levels, not edges: 1 raises, 0 lowers. */
struct irq_sink {
    void (*set)(void *opaque, unsigned gsi, int level);
    void *opaque;
};

/* What a device asks of the machine. */
enum dev_request {
    DEV_POWEROFF, /* ACPI S5 */
    DEV_RESET,    /* 0xcf9, 8042, or port 0x92 */
    DEV_EXIT      /* debug-exit port; code is (value << 1) | 1 */
};
struct dev_host {
    void (*request)(void *opaque, enum dev_request what, unsigned code);
    /* Guest physical memory, for fw_cfg's DMA and pc-testdev. Return: bytes done. */
    size_t (*read_phys)(void *opaque, pn_gpa gpa, void *buf, size_t size);
    size_t (*write_phys)(void *opaque, pn_gpa gpa, const void *buf, size_t size);
    void *opaque;
};

/* ---- The devices; each create returns NULL when out of memory, and adds itself to the
 * bus ---- */

/* 16550A UART (serial.c). out: bytes to the host. Input comes by serial_input. */
struct serial;
struct serial *serial_create(struct dev_bus *bus, struct clock *clock,
                             struct irq_sink irq, uint16_t port, unsigned gsi,
                             void (*out)(void *opaque, const uint8_t *buf, size_t size),
                             void *opaque);
void serial_destroy(struct serial *s);
/* Return: how many bytes were taken (the FIFO may be full). */
size_t serial_input(struct serial *s, const uint8_t *buf, size_t size);
/* Does the guest wait for input: receive interrupts on, or polling? What comes earlier is
 * lost when its driver clears the FIFO. */
bool serial_listens(const struct serial *s);
/* Called by the device when the FIFO drained and more input is welcome. */
void serial_on_room(struct serial *s, void (*fn)(void *opaque), void *opaque);

/* The mark port (mark.c, penumbra/mark.h). told: a mark, seen inside the guest's OUT;
 * what it returns is what the guest reads next. */
struct mark;
typedef uint32_t (*mark_fn)(void *opaque, uint32_t value);
struct mark *mark_create(struct dev_bus *bus, mark_fn told, void *opaque);
void mark_destroy(struct mark *m);

/* The interrupt controllers of a PC: 8259 pair, IO-APIC, local APICs (pic.c, ioapic.c,
 * lapic.c, intc.c). One object, since an interrupt's way runs through all three. */
struct intc;
struct intc_config {
    struct dev_bus *bus;
    struct clock *clock;
    struct pn_ring *ring;
    unsigned cpus;
    unsigned maxphyaddr; /* IA32_APIC_BASE bits at and above it are reserved; 0: 52 */
    /* Something may now be deliverable to (or was withdrawn from) this vCPU. */
    void (*kick)(void *opaque, unsigned cpu);
    void (*nmi)(void *opaque, unsigned cpu);
    void (*init)(void *opaque, unsigned cpu);
    void (*sipi)(void *opaque, unsigned cpu, uint8_t vector);
    void *opaque;
    /* Timer input clock, at most 8 GHz; also the TSC's rate for TSC-deadline mode. */
    uint64_t apic_hz;
    /* TSC of a vCPU at the clock's now, for TSC-deadline mode. */
    uint64_t (*tsc)(void *opaque, unsigned cpu);
    /* Paravirtual EOI; NULL: none. eoi_offer lets the guest end the one interrupt in
     * service without a write to the APIC. Return: whether it could be offered.
     * eoi_withdraw takes that back. Return: true: the guest had not ended it. */
    bool (*eoi_offer)(void *opaque, unsigned cpu);
    bool (*eoi_withdraw)(void *opaque, unsigned cpu);
};
struct intc *intc_create(const struct intc_config *cfg);
void intc_destroy(struct intc *i);
struct irq_sink intc_sink(struct intc *i);
/* One message to one vCPU's local APIC: low as the low half of an ICR, delivery mode and
 * vector. Return: whether it was taken. */
bool intc_send(struct intc *i, unsigned cpu, uint32_t low);
int intc_peek(struct intc *i, unsigned cpu); /* vector, or -1 */
int intc_ack(struct intc *i, unsigned cpu);
int intc_msr_read(struct intc *i, unsigned cpu, uint32_t index, uint64_t *value);
int intc_msr_write(struct intc *i, unsigned cpu, uint32_t index, uint64_t value);
uint64_t intc_cr8_read(struct intc *i, unsigned cpu);
void intc_cr8_write(struct intc *i, unsigned cpu, uint64_t value);
/* MMIO of the local APIC comes from the CPU that accesses it: set before each run. */
void intc_set_current(struct intc *i, unsigned cpu);
void intc_reset_cpu(struct intc *i, unsigned cpu);
/* State for a machine that goes on elsewhere (intc_state.c). lines: levels of the gsis. A
 * local APIC's page comes with its IA32_APIC_BASE; any bytes are safe. */
#define INTC_LAPIC_PAGE 1024u
void intc_get_state(const struct intc *i, struct pn_irqchip *s);
void intc_set_state(struct intc *i, const struct pn_irqchip *s, uint32_t lines);
void intc_unplug(struct intc *i); /* off the bus, before intc_destroy */
void intc_get_lapic(struct intc *i, unsigned cpu, uint8_t page[INTC_LAPIC_PAGE]);
void intc_set_lapic(struct intc *i, unsigned cpu, uint64_t base,
                    const uint8_t page[INTC_LAPIC_PAGE]);

struct pit *pit_create(struct dev_bus *bus, struct clock *clock,
                       struct irq_sink irq); /* 0x40-43, 0x61 */
void pit_destroy(struct pit *p);
/* Its part of the state. set returns the level of gsi 0, and does not tell the line. */
void pit_get_state(struct pit *p, struct pn_irqchip *s);
int pit_set_state(struct pit *p, const struct pn_irqchip *s);

/* CMOS and RTC (0x70, 0x71). epoch: seconds since 1970 at clock 0. ram sizes go into
 * CMOS. */
struct rtc *rtc_create(struct dev_bus *bus, struct clock *clock, struct irq_sink irq,
                       int64_t epoch, uint64_t ram_below_4g, uint64_t ram_above_4g);
void rtc_destroy(struct rtc *r);

/* ACPI PM block: PM1 event and control, PM timer (3.579545 MHz), S5 (acpi_pm.c). */
#define ACPI_PM_BASE 0x600u
#define ACPI_SCI_GSI 9u
/* Offsets from the base: PM1a_EVT_BLK (4 bytes), PM1a_CNT_BLK (2), PM_TMR_BLK (4, counts
 * 24 bits). No SMI_CMD: SCI_EN is always set. SLP_TYP of \_S5 is ACPI_PM_S5_TYP. */
#define ACPI_PM_EVT    0u
#define ACPI_PM_CNT    4u
#define ACPI_PM_TMR    8u
#define ACPI_PM_S5_TYP 5u
struct acpi_pm *acpi_pm_create(struct dev_bus *bus, struct clock *clock,
                               struct irq_sink irq, const struct dev_host *host);
void acpi_pm_destroy(struct acpi_pm *a);
void acpi_pm_press_power(struct acpi_pm *a);

/* Reset ports 0xcf9 and 0x92, 8042 (0x60, 0x64: self-test, reset command, A20), POST port
 * 0x80, debug-exit 0xf4, and absent PCI (0xcf8/0xcfc reads all ones) (misc.c, i8042.c).
 */
struct misc *misc_create(struct dev_bus *bus, struct irq_sink irq,
                         const struct dev_host *host);
void misc_destroy(struct misc *m);

/* QEMU's fw_cfg, port interface 0x510/0x511 and DMA 0x514 (fw_cfg.c). */
struct fw_cfg;
struct fw_cfg *fw_cfg_create(struct dev_bus *bus, const struct dev_host *host);
void fw_cfg_destroy(struct fw_cfg *f);
/* Items by selector; the blob is copied. Return: 0, -EEXIST, -ENOMEM. */
int fw_cfg_add(struct fw_cfg *f, uint16_t key, const void *data, size_t size);
/* A named file in the directory. Return: 0, -EINVAL, -ENOSPC, -ENOMEM. */
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t size);

/* QEMU's pc-testdev (testdev.c): ports 0xe0-e3 echo, 0xe4 flush, 0xe8, 0x2000-2018 irq
 * lines, MMIO 0xff000000. */
struct testdev *testdev_create(struct dev_bus *bus, struct irq_sink irq,
                               const struct dev_host *host);
void testdev_destroy(struct testdev *t);

#endif
