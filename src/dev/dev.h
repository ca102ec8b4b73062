/* SPDX-License-Identifier: MIT */
/*
 * The bus and the devices' common ground. A device has a class, and its registers in one
 * struct; it has no host dependencies: it sees offsets, values, the clock and an
 * interrupt line.
 *
 * Invariants
 * 1. A guest may poke every port and address with every size: a device checks every
 *    offset, length and index, and answers what it does not have with all ones (reads)
 *    or nothing.
 * 2. An access is dispatched to the one device whose range holds its first byte; the
 *    device is told the offset and size, and never an offset beyond its range. Accesses
 *    that reach past its end, and sizes the device does not take, are split or ignored
 *    by the bus.
 * 3. A device's state is all that tells it from a new one: a device of the same class
 *    and configuration, on a clock that shows the same time, goes on from a copy of it.
 *    Timers, places on the bus and pointers follow from the state (dev_class.settle).
 * Locking: none; the thread that runs the machine owns the bus.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "penumbra/chips.h"
#include "penumbra/events.h"
#include "penumbra/types.h"

/* ---- The bus ---- */

struct dev_ops {
    const char *name;
    uint8_t min_size,
        max_size; /* access sizes taken whole, 1..8; others are split or widened */
    /* NULL: reads are all ones, writes are dropped. */
    uint64_t (*read)(void *dev, uint64_t offset, unsigned size);
    void (*write)(void *dev, uint64_t offset, unsigned size, uint64_t value);
};

#define DEV_NOWHERE UINT64_MAX /* the base of a range that is not mapped */

struct dev_bus;
/* Return: NULL when out of memory. */
struct dev_bus *dev_bus_create(void);
/* Destroys the devices that are on it, too. */
void dev_bus_destroy(struct dev_bus *bus);
/* Return: a handle of the range, not negative; -EEXIST when it overlaps another; -EINVAL;
 * -ENOMEM. */
int dev_bus_add_pio(struct dev_bus *bus, uint64_t port, uint64_t count,
                    const struct dev_ops *ops, void *dev);
int dev_bus_add_mmio(struct dev_bus *bus, pn_gpa gpa, uint64_t size,
                     const struct dev_ops *ops, void *dev);
/* Move a range to another port or address, or to DEV_NOWHERE. Return: 0; -EEXIST or
 * -EINVAL: it cannot be there, and is nowhere; -ENOENT: no such range. */
int dev_bus_move(struct dev_bus *bus, int range, uint64_t base);
/* Return: where the range is, or DEV_NOWHERE. */
uint64_t dev_bus_where(const struct dev_bus *bus, int range);
struct device **dev_bus_devices(struct dev_bus *bus); /* the head of its list */
/* Forget every range of a device. */
void dev_bus_remove(struct dev_bus *bus, const void *dev);
uint64_t dev_bus_pio_read(struct dev_bus *bus, uint16_t port, unsigned size);
void dev_bus_pio_write(struct dev_bus *bus, uint16_t port, unsigned size, uint64_t value);
uint64_t dev_bus_mmio_read(struct dev_bus *bus, pn_gpa gpa, unsigned size);
void dev_bus_mmio_write(struct dev_bus *bus, pn_gpa gpa, unsigned size, uint64_t value);

/* ---- What a machine gives its devices ---- */

/* Where a device's interrupt goes: by a line, or as a message. gsi 0..15 are the ISA
 * lines (PIC and IO-APIC; ISA 0 is IO-APIC pin 2), 16..23 IO-APIC only. Levels, not
 * edges: 1 raises, 0 lowers. */
struct irq_sink {
    void (*set)(void *opaque, unsigned gsi, int level);
    /* A write of 4 bytes as a PCI device makes it (SDM volume 3, "Message Signalled
     * Interrupts"). Return: whether anyone took it. */
    bool (*msi)(void *opaque, uint64_t address, uint32_t data);
    void *opaque;
};

/* What a device asks of the machine. */
enum dev_request {
    DEV_POWEROFF, /* ACPI S5 */
    DEV_RESET,    /* 0xcf9, 8042, or port 0x92 */
    DEV_SLEEP,    /* ACPI S3 */
    DEV_WAKE,     /* out of it */
    DEV_ALARM,    /* the RTC's, and its interrupt is on */
    DEV_EXIT,     /* debug-exit port; code is (value << 1) | 1 */
    DEV_PANIC,    /* pvpanic port: the guest's kernel panicked */
    DEV_FULL, /* the host has no room for what a disk is to write, which waits; the machine is to stand */
    DEV_ROOM  /* such a write waits no longer */
};
/* Work that is done beside the machine: run, on another thread, touches nothing of the
 * machine's; done comes afterwards, where devices may be touched. */
struct dev_job {
    bool any_order; /* runs beside others of its kind; else those run one after another */
    void (*run)(struct dev_job *job);
    void (*done)(struct dev_job *job);
    struct dev_job *next; /* the machine's */
};
/* A place where a guest's writes carry no value: they say that there is work. Its owner sets
 * rung, and at to DEV_NOWHERE, and keeps it as long as the machine lives. */
struct dev_bell {
    void (*rung)(
        struct dev_bell *bell); /* where devices may be touched; at times for nothing */
    pn_gpa at;                  /* who has it: put_bell */
    struct machine_bell *of;    /* the machine's */
};
struct dev_host {
    void (*request)(void *opaque, enum dev_request what, unsigned code);
    /* Guest physical memory, for DMA. Return: bytes done. */
    size_t (*read_phys)(void *opaque, pn_gpa gpa, void *buf, size_t size);
    size_t (*write_phys)(void *opaque, pn_gpa gpa, const void *buf, size_t size);
    /* The host's address of bytes that lie in one piece there, for who works beside the machine,
     * and as long as the machine lives; NULL: read_phys and write_phys are to be used. What was
     * stored there is told by write_phys with buf NULL, before the guest knows. A system call may
     * be refused the address (EFAULT) where a load or a store waits for the page. NULL: none. */
    void *(*memory_at)(void *opaque, pn_gpa gpa, size_t size);
    /* Is time the host's? Then devices serve at once, and give what takes long to offload.
     * Under virtual time (and NULL) they serve at fixed times, and do all work at once. */
    bool (*real_time)(void *opaque);
    void (*offload)(void *opaque, struct dev_job *job);
    /* The guest gives pages back: they read as zeros from now on, and the host has them until
     * they are touched. Both of whole pages. Return: bytes done. */
    size_t (*discard_phys)(void *opaque, pn_gpa gpa, size_t size);
    /* The bell is there from now on, or DEV_NOWHERE. The guest's writes to that address, of any
     * size, may then be no longer the bus's: rung comes soon after each, one for several at times.
     * NULL: all are the bus's. */
    void (*put_bell)(void *opaque, struct dev_bell *bell, pn_gpa at);
    void *opaque;
};

struct dev_env {
    struct dev_bus *bus;
    struct clock *clock;
    struct irq_sink irq;
    struct dev_host host;
};

/* ---- Classes ---- */

/* A range of a device's. base DEV_NOWHERE: create, or the guest, moves it. */
struct dev_range {
    enum { DEV_PIO, DEV_MMIO } space;
    uint64_t base, size;
    const struct dev_ops *ops;
};
#define DEV_RANGES_MAX 6u

/* What every device's struct begins with. */
struct device {
    const struct dev_class *class;
    struct dev_env env;
    struct device *next; /* on the bus; a later device comes first */
    unsigned instance; /* of its class: the number of the vCPU, where there are several */
    int range[DEV_RANGES_MAX];
    struct clock_timer timer; /* calls class->expire */
};

struct dev_class {
    const char *name;
    uint32_t version;              /* of what the bytes of the state mean */
    size_t size;                   /* of the device's struct */
    size_t state_at, state_size;   /* where the state is in it */
    const struct dev_range *range; /* as many as range_count, at most DEV_RANGES_MAX */
    unsigned range_count;
    /* The device is zeros, on the bus, and its configuration is to be taken over. Return:
     * 0 or -errno, and destroy is not called then. NULL: nothing to do. */
    int (*create)(void *dev, const void *config);
    void (*destroy)(void *dev); /* what create made besides; NULL: nothing */
    void (*reset)(void *dev);   /* the state at power-on. NULL: all zeros */
    /* Could the device have come to this state, now? What is let through must be safe
     * whatever the guest does next. Flags are bytes that must be 0 or 1. NULL: any. */
    bool (*check)(const void *dev, const void *state);
    /* A state has been put in, and every other device's, too: arm the timer, map ranges,
     * find pointers. Moves no interrupt line. NULL: nothing follows from it. */
    void (*settle)(void *dev);
    void (*expire)(void *dev); /* the timer has run out; NULL: it has none */
    /* ACPI S3 has come, and the device has kept its power: its line is to be raised again
     * where it was high. NULL: the device has lost its power, and is reset. */
    void (*kept)(void *dev);
};
#define DEV_STATE(type, member)                                                          \
    .size = sizeof(type), .state_at = offsetof(type, member),                            \
    .state_size = sizeof(((type *)NULL)->member)
#define DEV_RANGES(table)                                                                \
    .range = (table), .range_count = sizeof(table) / sizeof((table)[0])

/* Make a device and put its ranges on the bus, which owns it from now on. Return: a
 * struct that begins with a struct device; NULL when out of memory or when a range is
 * taken. */
void *dev_create(const struct dev_class *c, const struct dev_env *env, unsigned instance,
                 const void *config);
void dev_destroy(void *dev); /* before the bus does it; NULL: nothing */
/* Copy the state of one device, class->state_size bytes aligned as malloc does.
 * dev_load: Return: 0, or -EINVAL for a state that class->check refuses. */
void dev_save(const void *dev, void *state);
int dev_load(void *dev, const void *state);
/* Arm or (CLOCK_NEVER) cancel a device's timer. */
void dev_arm(struct device *d, uint64_t deadline);
/* The device's interrupt line has this level now; *line knows which it had. */
void dev_line(struct device *d, uint8_t *line, unsigned gsi, bool level);
/* Ask the machine for something, if it takes requests. */
void dev_ask(struct device *d, enum dev_request what, unsigned code);

/* The states of all devices of a bus, at a moment when no timer is due. Those whose
 * timers are armed come first, in the order in which these will fire. */
struct dev_states {
    unsigned count;
    struct dev_record {
        const struct dev_class *class;
        unsigned instance;
        unsigned turn; /* the place of its timer */
        void *state;
    } record[];
};
struct dev_states *dev_bus_save(const struct dev_bus *bus); /* NULL: out of memory */
/* Load them into a bus with the same devices. Return: 0; -ENOENT: a device or its record
 * is missing; -EINVAL: a state is refused. Then nothing has changed. */
int dev_bus_load(struct dev_bus *bus, const struct dev_states *s);
void dev_states_free(struct dev_states *s);
/* ACPI S3: every device but those that keep their power is as at power-on. All lines are
 * low before, for whoever has the interrupt controllers. */
void dev_bus_sleep(struct dev_bus *bus);

/* ---- The devices; each create returns as dev_create does ---- */

/* 16550A UART (serial.c). out: bytes to the host. Input comes by serial_input. */
struct serial;
struct serial *serial_create(const struct dev_env *env, uint16_t port, unsigned gsi,
                             void (*out)(void *opaque, const uint8_t *buf, size_t size),
                             void *opaque);
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
struct mark *mark_create(const struct dev_env *env, mark_fn told, void *opaque);

/* The interrupt controllers of a PC: 8259 pair, IO-APIC, local APICs (pic.c, ioapic.c,
 * lapic.c, intc.c). One object, since an interrupt's way runs through all three. */
struct intc;
struct intc_config {
    struct pn_ring *rings; /* one per vCPU, or NULL */
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
/* Each vCPU's local APIC is a device of its own, which the intc makes and destroys. */
struct intc *intc_create(const struct dev_env *env, const struct intc_config *cfg);
struct irq_sink intc_sink(struct intc *i);
/* One message to one vCPU's local APIC: low as the low half of an ICR, delivery mode and
 * vector. Return: whether it was taken. */
bool intc_send(struct intc *i, unsigned cpu, uint32_t low);
int intc_peek(struct intc *i, unsigned cpu); /* vector, or -1 */
int intc_ack(struct intc *i, unsigned cpu);
/* As an EOI of that vCPU's. */
void intc_eoi(struct intc *i, unsigned cpu);
int intc_msr_read(struct intc *i, unsigned cpu, uint32_t index, uint64_t *value);
int intc_msr_write(struct intc *i, unsigned cpu, uint32_t index, uint64_t value);
uint64_t intc_cr8_read(struct intc *i, unsigned cpu);
void intc_cr8_write(struct intc *i, unsigned cpu, uint64_t value);
/* MMIO of the local APIC comes from the CPU that accesses it: set before each run. */
void intc_set_current(struct intc *i, unsigned cpu);
void intc_reset_cpu(struct intc *i, unsigned cpu);
/* State for a machine that goes on under an engine with controllers of its own, and back
 * (intc_state.c). lines: levels of the gsis. A local APIC's page comes with its
 * IA32_APIC_BASE; any bytes are safe. chips->pit is not looked at. intc_set_chips:
 * Return: 0, or -EINVAL. */
#define INTC_LAPIC_PAGE 1024u
void intc_get_chips(const struct intc *i, struct pn_chips *s);
int intc_set_chips(struct intc *i, const struct pn_chips *s, uint32_t lines);
void intc_get_lapic(struct intc *i, unsigned cpu, uint8_t page[INTC_LAPIC_PAGE]);
void intc_set_lapic(struct intc *i, unsigned cpu, uint64_t base,
                    const uint8_t page[INTC_LAPIC_PAGE]);

/* 8254 and port 0x61 (pit.c); its state is a struct pn_pit. */
struct pit *pit_create(const struct dev_env *env);
/* Go on from another's counters: `line` follows from them, and is not told to the sink.
 * Return: that level, or -EINVAL. */
int pit_adopt(struct pit *p, const struct pn_pit *s);

/* HPET (hpet.c). legacy: the lines of PIT and RTC are the HPET's from now on, or theirs
 * again; it moves no line. */
#define HPET_BASE     0xfed00000u
#define HPET_SIZE     0x400u
#define HPET_PIT_GSI  0u
#define HPET_RTC_GSI  8u
#define HPET_BLOCK_ID 0x8086a201u /* revision 1, three timers, 64 bits, legacy */
struct hpet;
struct hpet_config {
    void (*legacy)(void *opaque, bool on);
    void *opaque;
};
struct hpet *hpet_create(const struct dev_env *env, const struct hpet_config *cfg);

/* CMOS and RTC (0x70, 0x71). epoch: seconds since 1970 at clock 0. ram sizes go into
 * CMOS. */
struct rtc *rtc_create(const struct dev_env *env, int64_t epoch, uint64_t ram_below_4g,
                       uint64_t ram_above_4g);
/* For firmware: a byte of CMOS beyond the clock's own (RTC_FREE and above). */
#define RTC_FREE       0x0eu
#define RTC_SHUTDOWN   0x0fu /* why the processor starts anew */
#define RTC_WAKES      0xfeu /* QEMU's: out of ACPI S3 */
#define RTC_BOOT_ORDER 0x3du /* QEMU's: kinds of devices to boot, 4 bits each */
#define RTC_BOOT_DISK  0x02u
void rtc_put(struct rtc *r, unsigned at, uint8_t value);

/* ACPI PM block: PM1 event and control, PM timer (3.579545 MHz), S3, S5 (acpi_pm.c). */
#define ACPI_PM_BASE 0x600u
#define ACPI_SCI_GSI 9u
/* Offsets from the base: PM1a_EVT_BLK (4 bytes), PM1a_CNT_BLK (2), PM_TMR_BLK (4, counts
 * 24 bits). No SMI_CMD: SCI_EN is always set. SLP_TYP of \_S3 and \_S5: the last two. */
#define ACPI_PM_CNT    4u
#define ACPI_PM_TMR    8u
#define ACPI_PM_S3_TYP 1u
#define ACPI_PM_S5_TYP 5u
struct acpi_pm *acpi_pm_create(const struct dev_env *env);
void acpi_pm_press_power(struct acpi_pm *a);
void acpi_pm_alarm(struct acpi_pm *a); /* the RTC's */

/* Reset ports 0xcf9 and 0x92, 8042 (0x60, 0x64: self-test, reset command), POST port
 * 0x80, debug-exit 0xf4, QEMU's pvpanic 0x505, and 0xcf8 and 0xcfc, which read all ones
 * unless there is PCI (misc.c, i8042.c). set_pci: whose they are from now on. */
#define PVPANIC_PORT 0x505
struct misc *misc_create(const struct dev_env *env);
struct pci_host;
void misc_set_pci(struct misc *m, struct pci_host *pci);

/* Port 0xf0 and gsi 13 (ferr.c): what becomes of x87 exceptions with CR0.NE clear. set: the
 * level of FERR#. */
struct ferr *ferr_create(const struct dev_env *env);
void ferr_set(struct ferr *f, bool pending);

/* QEMU's fw_cfg, port interface 0x510/0x511 and DMA 0x514 (fw_cfg.c). */
struct fw_cfg;
struct fw_cfg *fw_cfg_create(const struct dev_env *env);
/* Items by selector; the blob is copied. Return: 0, -EEXIST, -ENOMEM. */
int fw_cfg_add(struct fw_cfg *f, uint16_t key, const void *data, size_t size);
/* A named file in the directory. Return: 0, -EINVAL, -ENOSPC, -ENOMEM. */
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t size);

/* Where firmware writes what it does, port 0x402 (debugcon.c). out NULL: nobody looks, and a guest
 * that asks is told so. */
struct debugcon;
struct debugcon_config {
    void (*out)(void *opaque, uint8_t byte);
    void *opaque;
};
struct debugcon *debugcon_create(const struct dev_env *env,
                                 const struct debugcon_config *cfg);

/* QEMU's pc-testdev (testdev.c): ports 0xe0-e3 echo, 0xe4 flush, 0xe8, 0x2000-2018 irq
 * lines, MMIO 0xff000000. */
struct testdev *testdev_create(const struct dev_env *env);
