/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <string.h>

static uint64_t now(void *opaque) {
    return ((struct fx *)opaque)->now;
}

static void request(void *opaque, enum dev_request what, unsigned code) {
    struct fx *f = opaque;

    f->poweroffs += what == DEV_POWEROFF;
    f->resets += what == DEV_RESET;
    f->exits += what == DEV_EXIT;
    f->panics += what == DEV_PANIC;
    f->sleeps += what == DEV_SLEEP;
    f->wakes += what == DEV_WAKE;
    f->alarms += what == DEV_ALARM;
    f->code = code;
}

static size_t fit(pn_gpa gpa, size_t size) {
    if (gpa >= FX_MEM)
        return 0;
    return size < FX_MEM - gpa ? size : FX_MEM - gpa;
}

static size_t read_phys(void *opaque, pn_gpa gpa, void *buf, size_t size) {
    struct fx *f = opaque;

    size = fit(gpa, size);
    if (size)
        memcpy(buf, f->mem + gpa, size);
    return size;
}

static size_t write_phys(void *opaque, pn_gpa gpa, const void *buf, size_t size) {
    struct fx *f = opaque;

    size = fit(gpa, size);
    if (size && buf)
        memcpy(f->mem + gpa, buf, size);
    f->told += buf ? 0 : size;
    return size;
}

static void set(void *opaque, unsigned gsi, int level) {
    struct fx *f = opaque;

    ck_assert_uint_lt(gsi, 32);
    ck_assert(level == 0 || level == 1);
    if (level && !f->level[gsi]) {
        f->rises[gsi]++;
        f->rise_at[gsi] = f->now;
    }
    f->falls[gsi] += !level && f->level[gsi];
    f->level[gsi] = level;
}

void fx_init(struct fx *f) {
    memset(f, 0, sizeof *f);
    f->clock = (struct clock){.now = now, .opaque = f};
    f->bus = dev_bus_create();
    f->env = (struct dev_env){.bus = f->bus,
                              .clock = &f->clock,
                              .irq = {.set = set, .opaque = f},
                              .host = {.request = request,
                                       .read_phys = read_phys,
                                       .write_phys = write_phys,
                                       .opaque = f}};
    ck_assert_ptr_nonnull(f->bus);
}

void fx_done(struct fx *f) {
    dev_bus_destroy(f->bus);
}

static void kick(void *opaque, unsigned cpu) {
    ((struct fx *)opaque)->kicks[cpu]++;
}

static void nmi(void *opaque, unsigned cpu) {
    ((struct fx *)opaque)->nmis[cpu]++;
}

static void init(void *opaque, unsigned cpu) {
    ((struct fx *)opaque)->inits[cpu]++;
}

static void sipi(void *opaque, unsigned cpu, uint8_t vector) {
    struct fx *f = opaque;

    f->sipis[cpu]++;
    f->sipi_vector[cpu] = vector;
}

static uint64_t tsc(void *opaque, unsigned cpu) {
    struct fx *f = opaque;

    (void)cpu;
    return f->now + (uint64_t)f->tsc_offset;
}

void fx_intc(struct fx *f, uint64_t hz) {
    struct intc_config cfg = {.cpus = FX_CPUS,
                              .maxphyaddr = 40,
                              .kick = kick,
                              .nmi = nmi,
                              .init = init,
                              .sipi = sipi,
                              .opaque = f,
                              .apic_hz = hz,
                              .tsc = hz == 1000000000 ? tsc : NULL};

    f->intc = intc_create(&f->env, &cfg);
    ck_assert_ptr_nonnull(f->intc);
    f->line = intc_sink(f->intc);
}

void fx_to(struct fx *f, uint64_t ns) {
    while (clock_next(&f->clock) <= ns) {
        uint64_t next = clock_next(&f->clock);

        f->now = next > f->now ? next : f->now;
        clock_run(&f->clock);
    }
    f->now = ns;
}

void fx_by(struct fx *f, uint64_t ns) {
    fx_to(f, f->now + ns);
}

void fx_jump(struct fx *f, uint64_t ns) {
    f->now = ns;
    clock_run(&f->clock);
}

uint8_t in8(struct fx *f, uint16_t port) {
    return (uint8_t)dev_bus_pio_read(f->bus, port, 1);
}

void out8(struct fx *f, uint16_t port, uint8_t value) {
    dev_bus_pio_write(f->bus, port, 1, value);
}

void out16(struct fx *f, uint16_t port, uint16_t value) {
    dev_bus_pio_write(f->bus, port, 2, value);
}

uint32_t in32(struct fx *f, uint16_t port) {
    return (uint32_t)dev_bus_pio_read(f->bus, port, 4);
}

void out32(struct fx *f, uint16_t port, uint32_t value) {
    dev_bus_pio_write(f->bus, port, 4, value);
}

uint32_t rd32(struct fx *f, uint64_t gpa) {
    return (uint32_t)dev_bus_mmio_read(f->bus, gpa, 4);
}

void wr32(struct fx *f, uint64_t gpa, uint32_t value) {
    dev_bus_mmio_write(f->bus, gpa, 4, value);
}
