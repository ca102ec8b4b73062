/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the devices: the first byte names one device or all of them, the rest is a list
 * of operations (port, MMIO, MSR, CR8, time, interrupt acknowledge, console input). After
 * each operation this must hold:
 *
 * 1. A read fits its size; a gsi is below 24, a level 0 or 1, a vCPU one that exists.
 * 2. After clock_run every timer lies in the future: no device holds time still.
 * 3. What intc_ack takes is what intc_peek named. A vCPU for which something became
 *    deliverable was kicked.
 * 4. One fw_cfg command writes no more than its item and a bounded slack.
 * And the same input gives the same history twice, and once more on devices that are
 * replaced by new ones with the same states all the time. Last, states with bytes of the
 * input in them are refused, or do no harm either.
 */
#include "dev/pci.h"
#include "dev_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CPUS     3u
#define ITEM     600u
#define DMA_MOST (ITEM + 0x10000u + 16u)

enum { SERIAL, INTC, PIT, RTC, ACPI_PM, MISC, FW_CFG, TESTDEV, HPET, ALL, MODES };

struct range {
    uint8_t mode;
    bool mmio;
    uint64_t base;
    uint32_t size;
};

static const struct range ranges[] = {
    {SERIAL, false, 0x3f8, 8},
    {INTC, false, 0x20, 2},
    {INTC, false, 0xa0, 2},
    {INTC, false, 0x4d0, 2},
    {INTC, true, 0xfec00000, 0x50},
    {INTC, true, 0xfee00000, 0x400},
    {PIT, false, 0x40, 4},
    {PIT, false, 0x61, 1},
    {RTC, false, 0x70, 2},
    {ACPI_PM, false, 0x600, 12},
    {MISC, false, 0x60, 5},
    {MISC, false, 0x80, 1},
    {MISC, false, 0x92, 1},
    {MISC, false, 0xf4, 4},
    {MISC, false, 0xcf8, 8},
    {MISC, false, 0xf0, 1},
    {FW_CFG, false, 0x510, 12},
    {TESTDEV, false, 0xe0, 12},
    {TESTDEV, false, 0x2000, 24},
    {TESTDEV, true, 0xff000000, 0x100},
    {TESTDEV, true, 0xff00ff00, 0x100},
    {TESTDEV, false, 0x5e0, 4}, /* the mark port, beside it */
    {HPET, true, 0xfed00000, 0x180},
};
#define RANGES (sizeof ranges / sizeof *ranges)

struct world {
    struct dev_world d;
    unsigned mode;
    struct serial *serial;
    struct intc *intc;
    struct acpi_pm *pm;
    struct ferr *ferr;
    struct fw_cfg *fw_cfg;
    unsigned kicks[CPUS];
    uint64_t tsc_offset;
};

static uint32_t marked(void *opaque, uint32_t value) {
    note(opaque, value);
    return ~value;
}

static void set_irq(void *opaque, unsigned gsi, int level) {
    struct world *w = opaque;

    REQUIRE(gsi < 24);
    REQUIRE(level == 0 || level == 1);
    note(w, gsi * 2 + (unsigned)level);
    if (w->intc)
        intc_sink(w->intc).set(intc_sink(w->intc).opaque, gsi, level);
}

static void request(void *opaque, enum dev_request what, unsigned code) {
    note(opaque, (uint64_t)what << 32 | code);
}

static void out(void *opaque, const uint8_t *buf, size_t size) {
    while (size--)
        note(opaque, *buf++);
}

static void kick(void *opaque, unsigned cpu) {
    REQUIRE(cpu < CPUS);
    ((struct world *)opaque)->kicks[cpu]++;
}

static void signal_cpu(void *opaque, unsigned cpu) {
    REQUIRE(cpu < CPUS);
    note(opaque, cpu);
}

static void sipi(void *opaque, unsigned cpu, uint8_t vector) {
    REQUIRE(cpu < CPUS);
    note(opaque, cpu * 256 + vector);
}

static uint64_t tsc(void *opaque, unsigned cpu) {
    const struct world *w = opaque;

    return w->d.now + w->tsc_offset * (cpu + 1);
}

static void on_room(void *opaque) {
    struct world *w = opaque;

    serial_input(w->serial, (const uint8_t *)"room", 4); /* from inside the device */
}

static void legacy(void *opaque, bool on) {
    note(opaque, on);
}

static bool with(const struct world *w, unsigned mode) {
    return w->mode == mode || w->mode == ALL;
}

static struct dev_env env_of(struct world *w) {
    return (struct dev_env){.bus = w->d.bus,
                            .clock = &w->d.clock,
                            .irq = {set_irq, NULL, w},
                            .host = {.request = request,
                                     .read_phys = read_phys,
                                     .write_phys = write_phys,
                                     .opaque = w}};
}

static void pam(void *opaque, const uint8_t reg[PCI_PAM_SIZE]) {
    for (unsigned i = 0; i < PCI_PAM_SIZE; i++) {
        REQUIRE(!(reg[i] & ~0x33));
        note(opaque, reg[i]);
    }
}

static void debug_out(void *opaque, uint8_t byte) {
    note(opaque, byte);
}

/* firmware: with the chips that it looks for. */
static void create_misc(struct world *w, const struct dev_env *env, bool firmware) {
    const struct pci_pam to = {pam, w};
    const struct debugcon_config con = {debug_out, w};
    struct misc *misc = misc_create(env);
    struct pci_host *host;

    REQUIRE(misc && (w->ferr = ferr_create(env)));
    if (!firmware)
        return;
    REQUIRE((host = pci_host_create_440fx(env, &to)) && piix4_create(env, host));
    REQUIRE(debugcon_create(env, &con));
    misc_set_pci(misc, host);
}

static void create(struct world *w, struct input *in) {
    uint64_t how = take(in, 2);

    world_begin(&w->d);
    const struct dev_env env = env_of(w);

    if (with(w, INTC)) {
        static const uint64_t hz[4] = {1000000000, 24000000, 3000000000, 1};
        struct intc_config cfg = {.cpus = CPUS,
                                  .maxphyaddr = 40,
                                  .kick = kick,
                                  .nmi = signal_cpu,
                                  .init = signal_cpu,
                                  .sipi = sipi,
                                  .opaque = w,
                                  .apic_hz = hz[how & 3],
                                  .tsc = how & 4 ? tsc : NULL};

        REQUIRE((w->intc = intc_create(&env, &cfg)));
        for (unsigned cpu = 0; how & 0x10 && cpu < CPUS; cpu++) { /* as an OS would */
            intc_set_current(w->intc, cpu);
            dev_bus_mmio_write(w->d.bus, 0xfee000f0, 4, 0x1ff);
            if (how & 0x20)
                intc_msr_write(w->intc, cpu, 0x1b, 0xfee00c00);
        }
    }
    if (with(w, SERIAL)) {
        REQUIRE((w->serial = serial_create(&env, 0x3f8, 4, out, w)));
        if (how & 8)
            serial_on_room(w->serial, on_room, w);
    }
    if (with(w, PIT))
        REQUIRE(pit_create(&env));
    if (with(w, RTC))
        REQUIRE(rtc_create(&env, (int64_t)(how << 40 | how << 20), how << 20, 0));
    if (with(w, ACPI_PM))
        REQUIRE((w->pm = acpi_pm_create(&env)));
    if (with(w, MISC))
        create_misc(w, &env, how & 2);
    if (with(w, FW_CFG)) {
        static const uint8_t item[ITEM] = {1, 2, 3};

        REQUIRE((w->fw_cfg = fw_cfg_create(&env)));
        REQUIRE(fw_cfg_add(w->fw_cfg, 5, item, 2) == 0);
        REQUIRE(fw_cfg_add_file(w->fw_cfg, "etc/item", item, sizeof item) == 0);
    }
    if (with(w, HPET)) {
        const struct hpet_config cfg = {.legacy = legacy, .opaque = w};

        REQUIRE(hpet_create(&env, &cfg));
    }
    if (with(w, TESTDEV)) {
        REQUIRE(testdev_create(&env));
        REQUIRE(mark_create(&env, marked, w));
    }
}

/* An address of the devices under test, now and then just outside or anywhere. */
static uint64_t address(const struct world *w, struct input *in, bool *mmio) {
    const struct range *mine[RANGES];
    uint64_t pick = take(in, 1), offset = take(in, 2);
    unsigned count = 0;

    for (unsigned n = 0; n < RANGES; n++) {
        if (with(w, ranges[n].mode))
            mine[count++] = &ranges[n];
    }
    const struct range *r = mine[pick % count];

    *mmio = r->mmio;
    if (pick >= 250)
        return r->base + offset;
    /* MMIO registers stand on multiples of 16. */
    bool align = r->mmio && offset >> 15;

    offset %= r->size;
    return r->base + (align ? offset & ~15ull : offset);
}

static void access(struct world *w, struct input *in, bool write, unsigned size) {
    bool mmio = false;
    uint64_t at = address(w, in, &mmio);
    uint64_t value = write ? take(in, size < 8 ? size : 8) : 0;

    if (mmio && write) {
        dev_bus_mmio_write(w->d.bus, at, size, value);
    } else if (mmio) {
        value = dev_bus_mmio_read(w->d.bus, at, size);
    } else if (write) {
        dev_bus_pio_write(w->d.bus, (uint16_t)at, size, value);
    } else {
        value = dev_bus_pio_read(w->d.bus, (uint16_t)at, size);
    }
    if (!write && size && size < 8)
        REQUIRE(value >> size * 8 == 0);
    note(w, value);
}

static void msr(struct world *w, struct input *in, unsigned cpu) {
    uint64_t pick = take(in, 1), value = 0;
    uint32_t index = pick < 0x10   ? 0x1b
                     : pick < 0x20 ? 0x6e0
                                   : 0x800 + (uint32_t)(pick & 0x7f);

    if (pick == 0x20)
        index = (uint32_t)take(in, 4);
    if (pick & 1) {
        value = take(in, pick & 2 ? 8 : 3);
        if (index == 0x1b && pick & 4) /* states rather than addresses */
            value = 0xfee00000 | (value & 0xc00);
        note(w, (uint64_t)intc_msr_write(w->intc, cpu, index, value));
    } else {
        note(w, (uint64_t)intc_msr_read(w->intc, cpu, index, &value));
    }
    note(w, value);
}

static void acknowledge(struct world *w, unsigned cpu) {
    int peek = intc_peek(w->intc, cpu);
    unsigned kicks = w->kicks[cpu];
    int got = intc_ack(w->intc, cpu);

    REQUIRE(peek >= -1 && peek < 256 && got >= -1 && got < 256);
    REQUIRE(peek < 0 || got == peek);
    REQUIRE(intc_peek(w->intc, cpu) < 0 || w->kicks[cpu] != kicks);
    note(w, (uint64_t)got);
}

static void pass_time(struct world *w, struct input *in) {
    uint64_t how = take(in, 1), next = clock_next(&w->d.clock), by = 1;

    if (how < 0x80 && next != CLOCK_NEVER)
        by = next - w->d.now;
    else if (how < 0xc0)
        by = take(in, 2);
    else if (how < 0xf0)
        by = take(in, 5);
    else
        by = take(in, 8);
    if (by > UINT64_MAX - 1 - w->d.now)
        by = UINT64_MAX - 1 - w->d.now;
    w->d.now += by;
}

/* Operations as a driver would do them, so that the deep states are reached. */
static void driver(struct world *w, struct input *in, unsigned cpu, unsigned what) {
    uint64_t v = take(in, 3);

    intc_set_current(w->intc, cpu);
    switch (what) {
    case 0: /* EOI */
        dev_bus_mmio_write(w->d.bus, 0xfee000b0, 4, 0);
        intc_msr_write(w->intc, cpu, 0x80b, 0);
        break;
    case 1: /* LVT timer, in a mode that exists */
        dev_bus_mmio_write(w->d.bus, 0xfee00320, 4, v % 3 << 17 | 0x40 | (v >> 8 & 0x3f));
        break;
    case 2:
        dev_bus_mmio_write(w->d.bus, 0xfee00380, 4, v);
        break;
    case 3:
        intc_msr_write(w->intc, cpu, 0x6e0,
                       (w->mode & 1 ? w->d.now : tsc(w, cpu)) + v - 100);
        break;
    case 4: /* an open pin of the IO-APIC */
        dev_bus_mmio_write(w->d.bus, 0xfec00000, 4, 0x10 + v % 24 * 2);
        dev_bus_mmio_write(w->d.bus, 0xfec00010, 4, v >> 8 & 0xffff);
        intc_sink(w->intc).set(intc_sink(w->intc).opaque, (unsigned)(v % 24), 1);
        if (v >> 16 & 1)
            acknowledge(w, cpu);
        break;
    case 5: /* IPI */
        dev_bus_mmio_write(w->d.bus, 0xfee00310, 4, v << 24);
        dev_bus_mmio_write(w->d.bus, 0xfee00300, 4, v >> 4 & 0xcffff);
        break;
    case 6:
        intc_msr_write(w->intc, cpu, 0x830, (v & 0x1f) << 32 | (v >> 4 & 0xccfff));
        break;
    case 7:
        intc_msr_write(w->intc, cpu, 0x800 + (uint32_t)(v & 0x3f), v >> 8 & 0xff);
        break;
    }
}

static void interrupts(struct world *w, struct input *in) {
    uint64_t how = take(in, 1);
    unsigned cpu = (unsigned)(how >> 4) % CPUS;

    switch (how & 15) {
    case 0:
    case 1:
        acknowledge(w, cpu);
        break;
    case 2:
    case 3:
        msr(w, in, cpu);
        break;
    case 4:
        intc_set_current(w->intc, (unsigned)(how >> 4));
        break;
    case 5:
        intc_cr8_write(w->intc, cpu, take(in, 1));
        note(w, intc_cr8_read(w->intc, cpu));
        break;
    case 6:
        if (how >> 5 == 7)
            note(w, intc_sink(w->intc).msi(w->intc, 0xfee00000 | take(in, 3),
                                           how << 8 & 0x700));
        intc_sink(w->intc).set(intc_sink(w->intc).opaque, (unsigned)take(in, 1) & 31,
                               how >> 4 & 1);
        break;
    case 7:
        if (how >> 4 == 7)
            intc_reset_cpu(w->intc, (unsigned)take(in, 1));
        else
            w->tsc_offset = take(in, 3);
        break;
    default:
        driver(w, in, cpu, how & 7);
        break;
    }
}

/* A DMA command that has a chance, at a place that may leave memory. */
static void dma(struct world *w, struct input *in, uint64_t v) {
    static const uint16_t keys[4] = {0, 5, 0x19, 0x20};
    pn_gpa at = v & 0x80 ? MEM - (v & 0x1f) : (v >> 8) % (MEM - 16);
    uint32_t control = (uint32_t)(v & 0x1f) | (uint32_t)keys[v >> 5 & 3] << 16;
    uint64_t length = take(in, v & 0x8000 ? 4 : 2), gpa = take(in, 2);

    if (at + 16 <= MEM) {
        uint32_t raw[4] = {__builtin_bswap32(control),
                           __builtin_bswap32((uint32_t)length), 0,
                           __builtin_bswap32((uint32_t)gpa)};

        memcpy(w->d.mem + at, raw, sizeof raw);
    }
    dev_bus_pio_write(w->d.bus, 0x518, 4, __builtin_bswap32((uint32_t)at));
    if (at + 16 <= MEM)
        note(w, w->d.mem[at + 3]);
}

static void host_side(struct world *w, struct input *in) {
    uint64_t v = take(in, 3);

    if (w->serial)
        note(w, serial_input(w->serial, (const uint8_t *)&v, 3));
    if (w->pm && v & 1)
        acpi_pm_press_power(w->pm);
    if (w->pm && v & 4)
        acpi_pm_alarm(w->pm);
    if (w->ferr)
        ferr_set(w->ferr, v & 2);
    if (w->fw_cfg)
        dma(w, in, v);
}

static void step(struct world *w, struct input *in) {
    static const uint8_t sizes[8] = {1, 1, 1, 2, 4, 4, 8, 3};
    uint64_t op = take(in, 1);
    int before[CPUS];
    unsigned kicks[CPUS];

    for (unsigned cpu = 0; w->intc && cpu < CPUS; cpu++)
        before[cpu] = intc_peek(w->intc, cpu);
    memcpy(kicks, w->kicks, sizeof kicks);
    w->d.written = 0;
    switch (op & 7) {
    case 0:
    case 1:
    case 2:
        access(w, in, true, sizes[op >> 3 & 7]);
        break;
    case 3:
    case 4:
        access(w, in, false, op >= 0xf8 ? (unsigned)take(in, 1) : sizes[op >> 3 & 7]);
        break;
    case 5:
        pass_time(w, in);
        break;
    case 6:
        if (w->intc)
            interrupts(w, in);
        else
            pass_time(w, in);
        break;
    case 7:
        host_side(w, in);
        break;
    }
    if (!(op & 0x40) || (op & 7) != 5)
        run_clock(&w->d);
    REQUIRE(w->d.written <= DMA_MOST);
    for (unsigned cpu = 0; w->intc && cpu < CPUS; cpu++) {
        int after = intc_peek(w->intc, cpu);

        REQUIRE(after >= -1 && after < 256);
        REQUIRE(before[cpu] >= 0 || after < 0 || w->kicks[cpu] != kicks[cpu]);
        note(w, (uint64_t)after);
    }
}

/* ---- States ---- */

/* Go on with other devices, new ones that were given the states of these. */
static struct world *moved(struct world *w, struct input head) {
    struct world *to = calloc(1, sizeof *to);

    REQUIRE(to);
    to->mode = w->mode;
    create(to, &head);
    to->tsc_offset = w->tsc_offset;
    memcpy(to->kicks, w->kicks, sizeof to->kicks);
    world_move(&w->d, &to->d);
    return to;
}

/* Return: a digest of everything that happened. */
static uint64_t run(const uint8_t *data, size_t size, enum how how) {
    struct input in = {data, size}, head;
    struct world *w = calloc(1, sizeof *w);
    uint64_t hash;

    REQUIRE(w);
    w->mode = (unsigned)take(&in, 1) % MODES;
    head = in;
    create(w, &in);
    for (size_t steps = 1; in.size; steps++) {
        if (how == CORRUPT && steps % 4 == 0)
            corrupt(&w->d, &in);
        step(w, &in);
        if (how == MOVE && steps % (1 + size % 5) == 0 &&
            clock_next(&w->d.clock) > w->d.now)
            w = moved(w, head);
    }
    hash = w->d.hash;
    world_end(&w->d);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return world_try(run, data, size);
}
