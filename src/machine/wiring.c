/* SPDX-License-Identifier: MIT */
/*
 * The devices of the machine, how they reach each other, the engine and the outside.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "machine/bells.h"
#include "machine/bios.h"
#include "machine/pci.h"
#include "machine/work.h"

#define TSC_HZ      1000000000u /* one tick is one nanosecond */
#define IPI_TURN_NS 2000u
#define EPOCH_2026  1767225600 /* 2026-01-01 00:00:00 UTC: equal runs see equal dates */
#define COM1_PORT   0x3f8u
#define COM1_GSI    4u
#define FW_RAM_SIZE 0x03u
#define FW_NB_CPUS  0x05u
#define FW_MAX_CPUS 0x0fu
#define FW_CMD_SIZE 0x14u
#define FW_CMD_DATA 0x15u

/* ---- The engine's calls ---- */

/* vCPUs that are threads take turns at the devices; of our engines' the lock is held already. */
static void take_devices(struct machine *m, unsigned cpu) {
    if (m->ops->threaded) {
        machine_lock(m);
    } else if (m->cfg.parallel) {
        m->current = cpu;
        intc_set_current(m->intc, cpu);
    }
}

static void give_devices(struct machine *m) {
    if (m->ops->threaded)
        machine_unlock(m);
}

static PN_IN_DEVICE uint64_t bus_pio_read(void *o, unsigned cpu, uint16_t port,
                                          unsigned size) {
    struct machine *m = o;
    take_devices(m, cpu);
    uint64_t value = dev_bus_pio_read(m->bus, port, size);
    give_devices(m);
    return value;
}

static PN_IN_DEVICE void bus_pio_write(void *o, unsigned cpu, uint16_t port,
                                       unsigned size, uint64_t value) {
    struct machine *m = o;
    take_devices(m, cpu);
    dev_bus_pio_write(m->bus, port, size, value);
    give_devices(m);
}

static PN_IN_DEVICE uint64_t bus_mmio_read(void *o, unsigned cpu, pn_gpa gpa,
                                           unsigned size) {
    struct machine *m = o;
    take_devices(m, cpu);
    uint64_t value = dev_bus_mmio_read(m->bus, gpa, size);
    give_devices(m);
    return value;
}

static PN_IN_DEVICE void bus_mmio_write(void *o, unsigned cpu, pn_gpa gpa, unsigned size,
                                        uint64_t value) {
    struct machine *m = o;
    take_devices(m, cpu);
    dev_bus_mmio_write(m->bus, gpa, size, value);
    give_devices(m);
}

/* Not called by threaded engines, whose interrupt controllers are their own. */

static int bus_intr_peek(void *o, unsigned cpu) {
    return intc_peek(((struct machine *)o)->intc, cpu);
}

static int bus_intr_ack(void *o, unsigned cpu) {
    return intc_ack(((struct machine *)o)->intc, cpu);
}

static void bus_intr_eoi(void *o, unsigned cpu) {
    intc_eoi(((struct machine *)o)->intc, cpu);
}

static int bus_msr_read(void *o, unsigned cpu, uint32_t index, uint64_t *value) {
    struct machine *m = o;
    if (m->pv && pv_is_msr(index))
        return pv_msr_read(m->pv, cpu, index, value);
    return intc_msr_read(m->intc, cpu, index, value);
}

static int bus_msr_write(void *o, unsigned cpu, uint32_t index, uint64_t value) {
    struct machine *m = o;
    if (m->pv && pv_is_msr(index))
        return pv_msr_write(m->pv, cpu, index, value);
    return intc_msr_write(m->intc, cpu, index, value);
}

static uint64_t bus_cr8_read(void *o, unsigned cpu) {
    return intc_cr8_read(((struct machine *)o)->intc, cpu);
}

static void bus_cr8_write(void *o, unsigned cpu, uint64_t value) {
    intc_cr8_write(((struct machine *)o)->intc, cpu, value);
}

static int64_t bus_hypercall(void *o, unsigned cpu, uint64_t nr, const uint64_t arg[4]) {
    return pv_hypercall(((struct machine *)o)->pv, cpu, nr, arg);
}

static void bus_ferr(void *o, unsigned cpu, bool pending) {
    ferr_set(((struct machine *)o)->ferr, pending);
}

void wiring_bus(struct machine *m, struct pn_bus *bus) {
    *bus = (struct pn_bus){
        .pio_read = bus_pio_read,
        .pio_write = bus_pio_write,
        .mmio_read = bus_mmio_read,
        .mmio_write = bus_mmio_write,
        .intr_peek = bus_intr_peek,
        .intr_ack = bus_intr_ack,
        .intr_eoi = bus_intr_eoi,
        .msr_read = bus_msr_read,
        .msr_write = bus_msr_write,
        .cr8_read = bus_cr8_read,
        .cr8_write = bus_cr8_write,
        .hypercall = bus_hypercall,
        .ferr = bus_ferr,
        .opaque = m,
    };
}

/* ---- The clock ---- */

static uint64_t clock_time(void *o) {
    struct machine *m = o;
    uint64_t now = m->ops->now(m->engine);
    if (now > m->now_max)
        m->now_max = now;
    return m->now_max;
}

void machine_end_turn_by(struct machine *m, uint64_t time) {
    if (m->running && time < m->deadline) {
        m->deadline = time;
        m->ops->set_deadline(m->engine, time < m->limit ? time : m->limit);
    }
}

void machine_end_turn(struct machine *m) {
    machine_end_turn_by(m, m->ops->now(m->engine));
}

/* A device armed an earlier timer while the guest runs: the run must stop in time. */
static void clock_changed(void *o) {
    struct machine *m = o;
    if (machine_has_threads(m)) {
        pthread_cond_signal(&m->wake);
        return;
    }
    machine_end_turn_by(m, clock_next(&m->clock));
}

/* ---- The interrupt controllers' calls ---- */

void machine_wake(struct machine *m, unsigned cpu) {
    if (m->cpu[cpu].state != CPU_HALTED)
        return;
    m->cpu[cpu].state = CPU_RUNNABLE;
    if (m->pv)
        pv_ready(m->pv, cpu);
    if (machine_in_parallel(m))
        machine_call_cpu(m, cpu);
}

/* An IPI's sender often waits for the answer: let the receiver have its turn soon. */
static void intc_kicks(void *o, unsigned cpu) {
    struct machine *m = o;
    m->ops->interrupt(m->engine, cpu);
    machine_wake(m, cpu);
    if (cpu != m->current)
        machine_end_turn_by(m, m->ops->now(m->engine) + IPI_TURN_NS);
}

static void intc_nmi(void *o, unsigned cpu) {
    struct machine *m = o;
    m->ops->nmi(m->engine, cpu);
    machine_wake(m, cpu);
}

/* Done by the run loop before that vCPU runs next; the current one must come out. */
static void intc_init(void *o, unsigned cpu) {
    struct machine *m = o;
    m->cpu[cpu].init = true;
    m->cpu[cpu].sipi = -1;
    if (machine_in_parallel(m))
        machine_call_cpu(m, cpu);
    if (machine_in_parallel(m) || (m->running && cpu == m->current))
        m->ops->kick(m->engine, cpu);
}

static void intc_sipi(void *o, unsigned cpu, uint8_t vector) {
    struct machine *m = o;
    if (m->cpu[cpu].init || m->cpu[cpu].state == CPU_WAIT_SIPI)
        m->cpu[cpu].sipi = vector;
    if (machine_in_parallel(m))
        machine_call_cpu(m, cpu);
}

static uint64_t intc_tsc(void *o, unsigned cpu) {
    struct machine *m = o;
    return m->ops->tsc(m->engine, cpu, m->ops->now(m->engine));
}

/* ---- The devices' calls ---- */

void machine_fail(struct machine *m, const char *fmt, ...) {
    va_list ap;
    if (m->ended)
        return;
    va_start(ap, fmt);
    vsnprintf(m->failure, sizeof(m->failure), fmt, ap);
    va_end(ap);
    machine_end_with(m, END_ERROR, 0);
}

void machine_end_with(struct machine *m, enum machine_end end, unsigned code) {
    if (m->ended)
        return;
    m->ended = true;
    m->end = end;
    m->end_code = code;
    if (machine_has_threads(m))
        pthread_cond_signal(&m->wake);
    if (m->running || machine_in_parallel(m))
        m->ops->kick(m->engine, m->current);
}

/* Whoever attends lets it stand. */
static void machine_wait_for_room(struct machine *m, bool full) {
    m->no_room += full ? 1 : -1;
    m->full |= full;
    if (full)
        machine_ask(m);
}

static void host_request(void *o, enum dev_request what, unsigned code) {
    static const enum machine_end ends[] = {
        [DEV_POWEROFF] = END_POWEROFF,
        [DEV_RESET] = END_RESET,
        [DEV_EXIT] = END_DEBUG_EXIT,
        [DEV_PANIC] = END_PANIC,
    };
    struct machine *m = o;
    if (what == DEV_SLEEP)
        machine_ask_sleep(m);
    else if (what == DEV_WAKE)
        machine_ask_wake(m);
    else if (what == DEV_ALARM)
        acpi_pm_alarm(m->pm);
    else if (what == DEV_FULL || what == DEV_ROOM)
        machine_wait_for_room(m, what == DEV_FULL);
    else if (what != DEV_PANIC || !m->cfg.panic_stays)
        machine_end_with(m, ends[what], code);
}

bool machine_waits_for_room(const struct machine *m) {
    return m->no_room;
}

bool machine_was_full(struct machine *m) {
    bool full = m->full;
    m->full = false;
    return full;
}

static size_t host_read_phys(void *o, pn_gpa gpa, void *buf, size_t size) {
    struct machine *m = o;
    return m->ops->read_phys(m->engine, gpa, buf, size);
}

static size_t host_write_phys(void *o, pn_gpa gpa, const void *buf, size_t size) {
    struct machine *m = o;
    return m->ops->write_phys(m->engine, gpa, buf, size);
}

static void serial_out(void *o, const uint8_t *buf, size_t size) {
    struct machine *m = o;
    m->idle_ns = 0;
    if (m->cfg.serial_out)
        m->cfg.serial_out(m->cfg.opaque, buf, size);
}

/* The UART is empty: come out of the run and feed it from the loop. */
static void serial_room(void *o) {
    struct machine *m = o;
    if (!m->input_count)
        return;
    m->serial_room = true;
    if (machine_in_parallel(m))
        pthread_cond_signal(&m->wake);
    if (m->running)
        machine_end_turn_by(m, m->ops->now(m->engine));
}

/* ---- Life ---- */

/* To whoever has the interrupt controllers now. */
static void set_gsi(void *o, unsigned gsi, int level) {
    struct machine *m = o;
    if (gsi < 32)
        m->lines = level ? m->lines | 1u << gsi : m->lines & ~(1u << gsi);
    if (m->intc) {
        struct irq_sink s = intc_sink(m->intc);
        s.set(s.opaque, gsi, level);
    } else {
        m->ops->irq(m->engine, gsi, level);
    }
}

/* The lines of PIT and RTC. */
static void set_legacy_gsi(void *o, unsigned gsi, int level) {
    const struct machine *m = o;
    if (!m->hpet_legacy)
        set_gsi(o, gsi, level);
}

static struct dev_env legacy_env(const struct machine *m) {
    struct dev_env env = m->env;
    env.irq.set = set_legacy_gsi;
    return env;
}

static bool send_msi(void *o, uint64_t address, uint32_t data) {
    struct machine *m = o;
    if (!m->intc)
        return m->ops->msi(m->engine, address, data) > 0;
    struct irq_sink s = intc_sink(m->intc);
    return s.msi(s.opaque, address, data);
}

static bool intc_eoi_offer(void *o, unsigned cpu) {
    return pv_eoi_offer(((struct machine *)o)->pv, cpu);
}

static bool intc_eoi_withdraw(void *o, unsigned cpu) {
    return pv_eoi_withdraw(((struct machine *)o)->pv, cpu);
}

static bool create_intc(struct machine *m) {
    uint32_t leaf[4] = {0};
    m->ops->cpuid(m->engine, 0x80000008u, 0, leaf);
    const struct intc_config cfg = {
        .rings = m->cfg.rings,
        .cpus = m->cfg.cpus,
        .maxphyaddr = leaf[0] & 0xff,
        .kick = intc_kicks,
        .nmi = intc_nmi,
        .init = intc_init,
        .sipi = intc_sipi,
        .opaque = m,
        .apic_hz = TSC_HZ,
        .tsc = intc_tsc,
        .eoi_offer = m->pv && m->cfg.pv & PN_PV_EOI ? intc_eoi_offer : NULL,
        .eoi_withdraw = intc_eoi_withdraw,
    };
    return (m->intc = intc_create(&m->env, &cfg)) != NULL;
}

static bool create_pv(struct machine *m) {
    return wiring_pv_create(m) == 0;
}

static bool create_pit(struct machine *m) {
    const struct dev_env env = legacy_env(m);
    return (m->pit = pit_create(&env)) != NULL;
}

static bool create_serial(struct machine *m) {
    m->serial = serial_create(&m->env, COM1_PORT, COM1_GSI, serial_out, m);
    if (m->serial)
        serial_on_room(m->serial, serial_room, m);
    return m->serial != NULL;
}

static bool create_rtc(struct machine *m) {
    uint64_t low = m->cfg.ram < LOW_RAM_MAX ? m->cfg.ram : LOW_RAM_MAX;
    const struct dev_env env = legacy_env(m);
    return (m->rtc = rtc_create(&env, m->epoch, low, m->cfg.ram - low)) != NULL;
}

static void hpet_takes_lines(void *o, bool on) {
    struct machine *m = o;
    m->hpet_legacy = on;
    if (m->ops->pit_mute)
        m->ops->pit_mute(m->engine, on);
}

static bool create_hpet(struct machine *m) {
    if (!m->cfg.hpet)
        return true;
    const struct hpet_config cfg = {.legacy = hpet_takes_lines, .opaque = m};
    return hpet_create(&m->env, &cfg) != NULL;
}

static bool create_acpi_pm(struct machine *m) {
    return (m->pm = acpi_pm_create(&m->env)) != NULL;
}

static bool create_ferr(struct machine *m) {
    return (m->ferr = ferr_create(&m->env)) != NULL;
}

static bool create_misc(struct machine *m) {
    return (m->misc = misc_create(&m->env)) != NULL;
}

/* What QEMU's firmware interface tells a guest that asks. */
static bool create_fw_cfg(struct machine *m) {
    struct fw_cfg *f = m->fw_cfg = fw_cfg_create(&m->env);
    const char *append = m->cfg.append ? m->cfg.append : "";
    uint64_t ram = m->cfg.ram;
    uint16_t cpus = (uint16_t)m->cfg.cpus;
    uint32_t size = (uint32_t)strlen(append) + 1;
    const struct {
        uint16_t key;
        const void *data;
        size_t size;
    } items[] = {
        {FW_RAM_SIZE, &ram, sizeof(ram)},   {FW_NB_CPUS, &cpus, sizeof(cpus)},
        {FW_MAX_CPUS, &cpus, sizeof(cpus)}, {FW_CMD_SIZE, &size, sizeof(size)},
        {FW_CMD_DATA, append, size},
    };
    for (size_t i = 0; f && i < sizeof(items) / sizeof(items[0]); i++)
        if (fw_cfg_add(f, items[i].key, items[i].data, items[i].size))
            return false;
    return f != NULL;
}

static bool create_testdev(struct machine *m) {
    return testdev_create(&m->env) != NULL;
}

static bool create_mark(struct machine *m) {
    return mark_create(&m->env, machine_mark, m) != NULL;
}

/* Every device of the machine, in order of creation. The bus owns them, and destroys
 * them. CHIP: a threaded engine brings its own. */
enum { ALWAYS, CHIP };
static const struct {
    bool (*create)(struct machine *m);
    int when;
} parts[] = {
    {create_pv, CHIP},       {create_intc, CHIP},     {create_pit, CHIP},
    {create_serial, ALWAYS}, {create_rtc, ALWAYS},    {create_acpi_pm, ALWAYS},
    {create_misc, ALWAYS},   {create_fw_cfg, ALWAYS}, {create_testdev, ALWAYS},
    {create_mark, ALWAYS},   {create_ferr, ALWAYS},   {create_hpet, ALWAYS},
};

static int create_parts(struct machine *m, int when) {
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (parts[i].when == when && !parts[i].create(m))
            return -ENOMEM;
    return 0;
}

int wiring_create_chips(struct machine *m) {
    return m->ops->threaded || m->intc ? 0 : create_parts(m, CHIP);
}

void wiring_destroy_chips(struct machine *m) {
    dev_destroy(m->pit);
    dev_destroy(m->intc);
    m->pit = NULL;
    m->intc = NULL;
}

int64_t wiring_epoch(const struct machine *m) {
    return m->host_clock ? (int64_t)time(NULL) : EPOCH_2026;
}

int wiring_create(struct machine *m, struct err *e) {
    m->clock = (struct clock){.now = clock_time, .opaque = m, .changed = clock_changed};
    m->bus = dev_bus_create();
    m->env = (struct dev_env){.bus = m->bus,
                              .clock = &m->clock,
                              .irq = {set_gsi, send_msi, m},
                              .host = {.request = host_request,
                                       .read_phys = host_read_phys,
                                       .write_phys = host_write_phys,
                                       .memory_at = machine_memory_at,
                                       .real_time = work_real_time,
                                       .offload = work_offload,
                                       .discard_phys = machine_discard_phys,
                                       .put_bell = bells_put,
                                       .opaque = m}};
    int rc = m->bus ? wiring_create_chips(m) : -ENOMEM;
    if (rc == 0)
        rc = create_parts(m, ALWAYS);
    if (rc)
        return err_sys(e, rc, "devices");
    rc = bios_create(m, e);
    return rc ? rc : wiring_pci_create(m, e);
}

void wiring_destroy(struct machine *m) {
    dev_bus_destroy(m->bus);
    wiring_pci_destroy(m);
}
