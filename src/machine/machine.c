/* SPDX-License-Identifier: MIT */
/*
 * The machine's life: memory, engine, devices, the guest's image; and what a caller may
 * ask of it afterwards.
 *
 * Order of creation: RAM, engine, memslots, devices, image, CPU state. Destruction is the
 * reverse, from any point.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/size.h"
#include "machine/bells.h"
#include "machine/bios.h"
#include "machine/migrate.h"
#include "machine/pci.h"
#include "machine/snapshot_internal.h"
#include "machine/work.h"

enum { SLOT_LOW, SLOT_HIGH, SLOT_ABOVE_HOLE };

static int check_dirty(const struct machine_config *cfg, struct err *e) {
    if (cfg->dirty == PN_TRACKER_OFF)
        return 0;
    if (cfg->handovers)
        return err_set(e, -EINVAL, "--dirty-log: not with --handover");
    if (pn_dirty_by_host(cfg->dirty) && cfg->hugepages &&
        (!strcmp(cfg->hugepages, "2M") || !strcmp(cfg->hugepages, "1G")))
        return err_set(e, -EINVAL,
                       "--dirty-log %s: not with --hugepages %s, which the host writes "
                       "as a whole",
                       pn_dirty_name(cfg->dirty), cfg->hugepages);
    if (cfg->firmware && !pn_dirty_by_host(cfg->dirty))
        return err_set(
            e, -EINVAL,
            "--dirty-log %s: not with --firmware, whose memory below 1 MiB comes "
            "and goes; pagemap-scan and uffd-wp do",
            pn_dirty_name(cfg->dirty));
    if (!cfg->engine->has_tracker(cfg->dirty))
        return err_set(e, -EINVAL, "--dirty-log %s: not under --mmu %s",
                       pn_dirty_name(cfg->dirty), cfg->engine->name);
    return 0;
}

static int no_insns(const struct pn_engine_ops *ops, struct err *e) {
    return err_set(e, -EINVAL,
                   "--max-insns: --mmu %s does not count instructions; use --timeout",
                   ops->name);
}

static int check_config(const struct machine_config *cfg, struct err *e) {
    char text[SIZE_TEXT_MAX];
    size_text(cfg->ram, text);
    if (cfg->ram < MACHINE_RAM_MIN)
        return err_set(e, -EINVAL, "-m %s: a guest needs at least 2M", text);
    if (cfg->ram > MACHINE_RAM_MAX)
        return err_set(e, -EINVAL, "-m %s: at most 64G", text);
    if (cfg->ram % PN_PAGE_SIZE)
        return err_set(e, -EINVAL, "-m %s: not a multiple of 4K", text);
    if (!cfg->cpus || cfg->cpus > MACHINE_CPUS_MAX)
        return err_set(e, -EINVAL, "-c %u: from 1 to %u vCPUs", cfg->cpus,
                       MACHINE_CPUS_MAX);
    if (cfg->max_insns && !cfg->engine->insns)
        return no_insns(cfg->engine, e);
    for (unsigned i = 0; cfg->max_insns && i < cfg->handovers; i++)
        if (!cfg->handover[i].to->insns)
            return no_insns(cfg->handover[i].to, e);
    if (!cfg->kernel && !cfg->kernel_blob && !cfg->firmware && !cfg->restore)
        return err_set(e, -EINVAL, "no kernel given");
    if (cfg->firmware && cfg->recorder)
        return err_set(
            e, -EINVAL,
            "--record: not with --firmware, whose memory below 1 MiB comes and "
            "goes");
    int rc = snap_fill_check(cfg, e);
    return rc ? rc : check_dirty(cfg, e);
}

/* ---- Memory ---- */

static int create_memory(struct machine *m, struct err *e) {
    if (snap_give_memory(m->cfg.restore, &m->ram, &m->window))
        return 0;
    struct hostmem_config cfg = {.size = m->cfg.ram,
                                 .hugepages = m->cfg.hugepages,
                                 .numa = m->cfg.numa,
                                 .shared = m->cfg.shared_ram};
    int rc = hostmem_create(&cfg, &m->ram, e);
    return rc == 0 && m->cfg.restore_memory == RESTORE_MAP ? snap_map_ram(m, e) : rc;
}

/* What the engine has to find written pages by; OFF: the host does, or nobody. */
static enum pn_dirty_tracker engine_tracker(const struct machine *m) {
    return pn_dirty_by_host(m->cfg.dirty) ? PN_TRACKER_OFF : m->cfg.dirty;
}

unsigned machine_ram_slots(const struct machine *m,
                           struct pn_memslot slot[MACHINE_SLOTS]) {
    uint64_t low = m->cfg.ram < LOW_RAM_MAX ? m->cfg.ram : LOW_RAM_MAX;
    uint32_t flags = engine_tracker(m) != PN_TRACKER_OFF ? PN_SLOT_LOG_DIRTY : 0;
    slot[0] = (struct pn_memslot){
        .id = SLOT_LOW, .flags = flags, .gpa = 0, .size = low, .hva = m->ram.base};
    slot[1] = (struct pn_memslot){.id = SLOT_HIGH,
                                  .flags = flags,
                                  .gpa = HIGH_RAM_BASE,
                                  .size = m->cfg.ram - low,
                                  .hva = m->ram.base + low};
    return m->cfg.ram > low ? 2 : 1;
}

/* The same for an engine: with firmware there is a hole, which bios.c fills. Return: how many. */
static unsigned engine_slots(const struct machine *m,
                             struct pn_memslot slot[MACHINE_SLOTS]) {
    unsigned n = machine_ram_slots(m, slot);
    if (!m->cfg.firmware)
        return n;
    slot[n] = slot[0];
    slot[n].id = SLOT_ABOVE_HOLE;
    slot[n].gpa = BIOS_HOLE_END;
    slot[n].hva = m->ram.base + BIOS_HOLE_END;
    slot[n].size = slot[0].size - BIOS_HOLE_END;
    slot[0].size = BIOS_HOLE;
    return n + 1;
}

/* Registers that only choose what another port then shows, and POST codes. */
static const struct pn_port_range posted[] = {
    {0x70, 1},  /* CMOS index */
    {0x80, 1},  /* POST code: Linux's delay between two port accesses */
    {0x510, 2}, /* fw_cfg selector */
    {0xcf8, 4}, /* PCI configuration address */
};

int machine_create_engine(struct machine *m, const struct machine_past *from,
                          uint64_t start_ns, struct err *e) {
    struct pn_memslot slot[MACHINE_SLOTS];
    struct pn_nodes nodes;
    wiring_bus(m, &m->pn_bus);
    m->host_clock = m->cfg.host_clock || m->ops->threaded; /* which have no other */
    struct pn_engine_config cfg = {
        .cpus = m->cfg.cpus,
        .cpu_model = m->cfg.cpu_model,
        .mmu = &m->cfg.mmu,
        .tlb = m->cfg.tlb,
        .nodes = nodes_for_model(&m->nodes, &nodes),
        .recorder = m->cfg.recorder,
        .bus = &m->pn_bus,
        .slot = slot,
        .slot_count = engine_slots(m, slot),
        .rings = m->cfg.rings,
        .seed = m->cfg.seed,
        .host_clock = m->host_clock,
        .parallel = machine_in_parallel(m) ? &m->parallel : NULL,
        .start_ns = start_ns,
        .tracker = engine_tracker(m),
        .max_block = m->cfg.max_block,
        .code_for_perf = m->cfg.code_for_perf,
        .pv = m->cfg.pv,
        .eventfds = !m->cfg.no_eventfds,
        .halt_poll_ns = m->cfg.halt_poll_ns,
        .posted = posted,
        .posted_count = sizeof(posted) / sizeof(posted[0]),
        .from_ops = from ? from->ops : NULL,
        .from = from ? from->engine : NULL,
    };
    for (unsigned i = 0; i < m->cfg.handovers; i++)
        cfg.to_host_cpu |= m->cfg.handover[i].to->host_cpu;
    return m->ops->create(&cfg, &m->engine, e->text, e->size);
}

/* ---- The guest's image ---- */

static int write_ram(void *opaque, pn_gpa gpa, const void *data, size_t size) {
    struct machine *m = opaque;
    return m->ops->write_phys(m->engine, gpa, data, size) == size ? 0 : -EFAULT;
}

/* Low RAM as the host has it, where nobody watches who writes it and its pages go one by one. */
static uint8_t *borrow_ram(void *opaque, pn_gpa gpa, size_t size) {
    struct machine *m = opaque;
    bool huge = m->cfg.hugepages && strpbrk(m->cfg.hugepages, "MG");
    if (huge || m->cfg.recorder || m->fill || pn_dirty_by_host(m->cfg.dirty) ||
        gpa > m->cfg.ram || size > m->cfg.ram - gpa)
        return NULL;
    return m->ram.base + gpa;
}

static void return_ram(void *opaque, pn_gpa gpa, size_t size) {
    struct machine *m = opaque;
    uint8_t *p = m->ram.base + gpa;
    size = (size + PN_PAGE_SIZE - 1) & PN_PAGE_MASK;
    if (madvise(p, size, m->ram.fd >= 0 ? MADV_REMOVE : MADV_DONTNEED))
        memset(p, 0, size);
}

/* A kernel can be no larger than memory; and 1 GiB is beyond any. */
static uint64_t image_max(const struct machine *m) {
    return m->cfg.ram < 1ull << 30 ? m->cfg.ram : 1ull << 30;
}

static int read_image(struct machine *m, struct load *l, struct err *e) {
    if (m->cfg.kernel_blob) {
        l->name = m->cfg.kernel ? m->cfg.kernel : "guest";
        l->image_size = m->cfg.kernel_blob_size;
        l->image = malloc(l->image_size ? l->image_size : 1);
        if (!l->image)
            return err_set(e, -ENOMEM, "out of memory");
        memcpy(l->image, m->cfg.kernel_blob, l->image_size);
        return 0;
    }
    char text[SIZE_TEXT_MAX];
    l->name = m->cfg.kernel;
    int rc = file_read(m->cfg.kernel, image_max(m), &l->image, &l->image_size, e);
    if (rc == -EFBIG)
        return err_set(e, -EINVAL, "%s: the kernel does not fit in -m %s", l->name,
                       size_text(m->cfg.ram, text));
    return rc;
}

static int read_initrd(struct machine *m, struct load *l, void **initrd, struct err *e) {
    char text[SIZE_TEXT_MAX];
    *initrd = NULL;
    if (!m->cfg.initrd)
        return 0;
    int rc = file_read(m->cfg.initrd, m->cfg.ram, initrd, &l->initrd_size, e);
    if (rc == -EFBIG)
        return err_set(e, -EINVAL, "%s: the initrd is larger than memory (-m %s)",
                       m->cfg.initrd, size_text(m->cfg.ram, text));
    l->initrd_name = m->cfg.initrd;
    l->initrd = rc == 0 && l->initrd_size ? *initrd : NULL;
    return rc;
}

/* The files of --module, beside each other in memory. */
struct module_files {
    char *name[MACHINE_MODULES_MAX];
    void *data[MACHINE_MODULES_MAX];
};

static int read_modules(struct machine *m, struct load *l, struct module_files *f,
                        struct err *e) {
    for (unsigned i = 0; i < m->cfg.modules; i++) {
        const char *text = m->cfg.module[i];
        size_t size = 0, len = strcspn(text, ",");
        f->name[i] = strndup(text, len);
        if (!f->name[i])
            return err_set(e, -ENOMEM, "out of memory");
        int rc = file_read(f->name[i], m->cfg.ram, &f->data[i], &size, e);
        if (rc == -EFBIG)
            return err_set(e, -EINVAL, "%s: the module is larger than memory",
                           f->name[i]);
        if (rc)
            return rc;
        l->module[l->modules++] = (struct load_module){.name = f->name[i],
                                                       .args = text + len + !!text[len],
                                                       .data = f->data[i],
                                                       .size = size};
    }
    return 0;
}

static void free_modules(struct module_files *f) {
    for (unsigned i = 0; i < MACHINE_MODULES_MAX; i++) {
        free(f->name[i]);
        free(f->data[i]);
    }
}

static bool model_has_la57(struct machine *m) {
    uint32_t leaf[4] = {0};
    m->ops->cpuid(m->engine, 7, 0, leaf);
    return leaf[2] >> 16 & 1;
}

static struct firmware firmware_of(const struct machine *m) {
    return (struct firmware){.cpus = m->cfg.cpus,
                             .hpet = m->cfg.hpet,
                             .pci_slots = machine_pci_slots(m),
                             .nodes = &m->nodes};
}

static int put_firmware(struct machine *m, struct load *l) {
    const struct firmware f = firmware_of(m);
    return firmware_put(l, &f);
}

static int set_entry(struct machine *m, const struct entry *entry, struct err *e) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, -ENOMEM, "out of memory");
    int rc = m->ops->get_state(m->engine, 0, s);
    if (rc == 0) {
        entry_state(entry, s);
        rc = m->ops->set_state(m->engine, 0, s);
    }
    free(s);
    return rc ? err_sys(e, rc, "the first CPU's state") : 0;
}

static int load_guest(struct machine *m, struct err *e) {
    void *initrd = NULL;
    struct module_files modules = {0};
    struct load l = {
        .ram = m->cfg.ram,
        .write = write_ram,
        .borrow_ram = borrow_ram,
        .return_ram = return_ram,
        .opaque = m,
        .append = m->cfg.append,
        .format = m->cfg.format,
        .flat_addr = m->cfg.flat_addr,
        .flat_bits = m->cfg.flat_bits,
        .seed = m->cfg.seed,
        .cpu_la57 = model_has_la57(m),
        .err = e,
    };
    int rc = read_image(m, &l, e);
    if (rc == 0)
        rc = read_initrd(m, &l, &initrd, e);
    if (rc == 0)
        rc = read_modules(m, &l, &modules, e);
    if (rc == 0)
        rc = put_firmware(m, &l); /* an image may lie over its data */
    if (rc == 0)
        rc = load_image(&l);
    m->is_linux = l.is_linux;
    m->kernel_moved = l.moved;
    free(initrd);
    free_modules(&modules);
    free(l.image);
    return rc ? rc : set_entry(m, &l.entry, e);
}

/* ---- Life ---- */

static int create(struct machine *m, struct err *e) {
    uint64_t start_ns = 0;
    struct machine_past *from = NULL;
    int rc = create_memory(m, e);
    if (rc == 0)
        rc = nodes_create(m, e);
    m->cpuid_of_host = m->ops->host_cpu;
    if (rc == 0 && m->cfg.restore)
        rc = snapshot_begin(m, &start_ns, &from, e);
    if (rc == 0)
        rc = machine_create_engine(m, from, start_ns, e);
    free(from);
    if (!m->cfg.restore)
        m->epoch = wiring_epoch(m);
    if (rc == 0)
        rc = wiring_create(m, e);
    if (rc == 0) {
        const struct firmware f = firmware_of(m);
        rc = bios_tell(m, &f, e);
    }
    if (rc == 0) {
        struct pn_memslot slot[MACHINE_SLOTS];
        rc = machine_dirty_create(m, slot, machine_ram_slots(m, slot), e);
    }
    for (unsigned i = 0; i < m->cfg.cpus; i++)
        m->cpu[i] =
            (struct machine_cpu){.state = i ? CPU_WAIT_SIPI : CPU_RUNNABLE, .sipi = -1};
    if (rc == 0)
        rc = machine_sleep_keep(m, e);
    if (rc)
        return rc;
    if (m->cfg.restore)
        return snapshot_restore(m, e);
    return m->bios ? 0 : load_guest(m, e); /* at its reset vector */
}

/* Does a software engine run the guest, sooner or later? */
static bool has_software(const struct machine_config *cfg) {
    bool software = !cfg->engine->host_cpu;
    for (unsigned i = 0; i < cfg->handovers; i++)
        software |= !cfg->handover[i].to->host_cpu;
    return software;
}

int machine_create(const struct machine_config *cfg, struct machine **out, char *err,
                   size_t err_size) {
    struct err e = {err, err_size};
    int rc = check_config(cfg, &e);
    if (rc)
        return rc;
    struct machine *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(&e, -ENOMEM, "out of memory");
    m->cfg = *cfg;
    m->ops = cfg->engine;
    if (cfg->pv == PN_PV_DEFAULT && has_software(cfg))
        m->cfg.pv = 0;
    m->ram.fd = m->window.fd = -1;
    m->debug.step = STEP_NONE;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->wake, &monotonic);
    pthread_cond_init(&m->parked, &monotonic);
    pthread_cond_init(&m->go, &monotonic);
    pthread_condattr_destroy(&monotonic);
    m->parallel.lock = &m->lock;
    m->parallel.count = cfg->cpus;
    rc = create(m, &e);
    if (rc) {
        machine_destroy(m);
        return rc;
    }
    *out = m;
    return 0;
}

void machine_destroy(struct machine *m) {
    if (!m || m->leaked)
        return;
    machine_saving_end(m);
    machine_migrate_end(m);
    work_end(m);
    machine_points_drop(m);
    machine_history_end(m);
    machine_dirty_destroy(m);
    bells_end(m);
    wiring_destroy(m);
    if (m->engine)
        m->ops->destroy(m->engine);
    bios_destroy(m);
    for (unsigned i = 0; i < m->switches; i++)
        m->past[i].ops->destroy(m->past[i].engine);
    snap_fill_end(m);
    hostmem_destroy(&m->window);
    hostmem_destroy(&m->ram);
    free(m->power_on);
    pthread_cond_destroy(&m->wake);
    pthread_cond_destroy(&m->parked);
    pthread_cond_destroy(&m->go);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* ---- Questions ---- */

void machine_quit(struct machine *m) {
    atomic_store(&m->quit, true);
    for (unsigned i = 0; i < m->cfg.cpus; i++)
        m->ops->kick(m->engine, i);
}

const struct pn_stats *machine_stats(struct machine *m, unsigned cpu) {
    return m->ops->stats(m->engine, cpu);
}

void machine_dump(struct machine *m, FILE *out) {
    if (m->leaked) /* a vCPU is still inside the kernel, and cannot be asked */
        return;
    for (unsigned i = 0; i < m->cfg.cpus; i++)
        if (m->ops->threaded || m->cpu[i].state != CPU_WAIT_SIPI)
            m->ops->dump(m->engine, i, out);
}

uint64_t machine_ram_digest(struct machine *m) {
    return XXH3_64bits(m->ram.base, m->ram.size);
}

uint64_t machine_kernel_moved(const struct machine *m) {
    return m->kernel_moved;
}

const struct pn_engine_ops *machine_ops(const struct machine *m) {
    return m->ops;
}

void machine_ranges(const struct machine *m, machine_range_fn fn, void *opaque) {
    for (const struct device *d = *dev_bus_devices(m->bus); d; d = d->next)
        for (unsigned i = 0; i < d->class->range_count; i++) {
            const struct dev_range *range = &d->class->range[i];
            uint64_t base = dev_bus_where(m->bus, d->range[i]);
            if (base != DEV_NOWHERE)
                fn(opaque, d->class->name, range->space == DEV_PIO, base, range->size);
        }
}

unsigned machine_slots(const struct machine *m,
                       struct pn_memslot slot[MACHINE_SLOTS_MAX]) {
    unsigned n = engine_slots(m, slot);
    n += bios_slots(m, &slot[n]);
    return n + window_slot(m, &slot[n]);
}

unsigned machine_slots_all(const struct machine *m,
                           struct pn_memslot slot[MACHINE_SLOTS_ALL]) {
    unsigned n = machine_slots(m, slot);
    return n + machine_more_slots(m, &slot[n]);
}

const char *machine_doubt(struct machine *m) {
    return m->is_linux && m->ops->no_linux ? m->ops->no_linux(m->engine) : NULL;
}

struct pn_engine *machine_engine(struct machine *m) {
    return m->engine;
}
