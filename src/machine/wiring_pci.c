/* SPDX-License-Identifier: MIT */
/*
 * The PCI devices of the machine (devices.h), with what they are on the host. A machine that
 * is given none has no PCI bridge either.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "machine/bios.h"
#include "machine/devices.h"
#include "machine/disk.h"
#include "machine/history.h"
#include "machine/migrate.h"
#include "machine/net.h"
#include "machine/pci.h"
#include "machine/pmem.h"
#include "machine/ports.h"
#include "machine/share.h"
#include "machine/vsock.h"
#include "machine/work.h"

#define SLOT_MEM  9u /* RAM and the window have lower ones */
#define MEM_ALIGN (1ull << 30)

struct machine_pci {
    struct pci_host *host;
    struct virtio_balloon *balloon;
    struct net *net;
    struct ports *ports;
    struct vsock *vsock;
    unsigned pmems;
    struct pmem *pmem[MACHINE_DEVICES_MAX];
    struct virtio_mem *mem;
    struct hostmem mem_memory; /* base NULL: none */
    struct pn_memslot mem_slot;
    pn_gpa memory_end; /* above all memory that the guest has */
    unsigned shares;
    struct machine_share {
        struct share *share;
        char tag[P9_TAG_MAX + 1];
    } share[MACHINE_DEVICES_MAX];
    unsigned disks;
    struct machine_disk {
        struct disk *disk;
        struct disk_config config;
        char path[DEVICE_PATH_MAX];
    } disk[MACHINE_DEVICES_MAX];
};

/* ---- Where memory is ---- */

/* Where a gpa's bytes are, how many follow it there, and their descriptor. */
static uint8_t *ram_at(const struct machine *m, pn_gpa gpa, uint64_t *left, int *fd) {
    const struct pn_memslot *more = &m->pci->mem_slot;
    if (gpa - more->gpa < more->size) {
        *left = more->size - (gpa - more->gpa);
        *fd = m->pci->mem_memory.fd;
        return m->pci->mem_memory.base + (gpa - more->gpa);
    }
    *fd = m->ram.fd;
    uint64_t low = m->cfg.ram < LOW_RAM_MAX ? m->cfg.ram : LOW_RAM_MAX, at = gpa;
    if (gpa >= HIGH_RAM_BASE)
        at = low + (gpa - HIGH_RAM_BASE);
    else if (gpa >= low || bios_covers(m, gpa))
        return NULL;
    *left = (gpa < HIGH_RAM_BASE ? low : m->cfg.ram) - at;
    if (m->bios && gpa < BIOS_HOLE)
        *left = BIOS_HOLE - gpa;
    return at < m->cfg.ram ? m->ram.base + at : NULL;
}

/* ---- What they are on the host ---- */

static int add_disk(struct machine *m, const struct device_spec *d,
                    const struct virtio_config *virtio, struct err *e) {
    struct machine_pci *p = m->pci;
    struct machine_disk *disk = &p->disk[p->disks];
    strcpy(disk->path, d->path);
    disk->config =
        (struct disk_config){disk->path, d->read_only, d->snapshot, d->qcow2, d->pause};
    for (unsigned i = 0; i < p->disks; i++)
        if (disk_is(p->disk[i].disk, d->path))
            return err_set(e, -EINVAL, "%s: given twice", disk->path);
    int rc = disk_open(&disk->config, &disk->disk, e);
    if (rc)
        return rc;
    p->disks++;
    struct virtio_blk_config c = {
        .virtio = *virtio, .disk = disk_device(disk->disk), .queues = 1};
    while (c.queues < m->cfg.cpus && c.queues < VIRTIO_QUEUES_MAX)
        c.queues++;
    snprintf(c.serial, sizeof(c.serial), "penumbra-%u", p->disks);
    return virtio_blk_create(&m->env, &c) ? 0 : err_sys(e, -ENOMEM, "%s", disk->path);
}

static void host_random(void *buf, size_t size) {
    uint8_t *p = buf;
    for (ssize_t n; size; p += n, size -= (size_t)n)
        if ((n = getrandom(p, size, 0)) <= 0)
            n = 0;
}

static int add_rng(struct machine *m, const struct virtio_config *virtio, struct err *e) {
    const struct virtio_rng_config c = {
        .virtio = *virtio, .seed = m->cfg.seed, .fill = host_random};
    return virtio_rng_create(&m->env, &c) ? 0 : err_sys(e, -ENOMEM, "a device 'rng'");
}

/* Of RAM alone: a machine with other memory is not moved. */
static void free_pages(void *opaque, pn_gpa gpa, size_t size) {
    struct machine *m = opaque;
    uint64_t left;
    int fd;
    for (uint8_t *p; size; gpa += left, size -= left) {
        p = ram_at(m, gpa, &left, &fd);
        if (!p || fd != m->ram.fd)
            return;
        left = left < size ? left : size;
        machine_migrate_free(m, (uint64_t)(p - m->ram.base) / PN_PAGE_SIZE,
                             left / PN_PAGE_SIZE);
    }
}

static int add_balloon(struct machine *m, const struct virtio_config *virtio,
                       struct err *e) {
    const struct virtio_balloon_config c = {
        .virtio = *virtio, .hint = free_pages, .opaque = m};
    if (m->pci->balloon)
        return err_set(e, -EINVAL, "a device 'balloon': given twice");
    m->pci->balloon = virtio_balloon_create(&m->env, &c);
    return m->pci->balloon ? 0 : err_sys(e, -ENOMEM, "a device 'balloon'");
}

static int add_net(struct machine *m, const struct device_spec *d,
                   const struct virtio_config *virtio, struct err *e) {
    struct machine_pci *p = m->pci;
    if (p->net)
        return err_set(e, -EINVAL, "a device 'net': given twice");
    int rc = net_create(m, &d->net, &p->net, e);
    if (rc)
        return rc;
    struct virtio_net_config c = {.virtio = *virtio, .net = net_device(p->net)};
    memcpy(c.mac, d->net.mac, sizeof(c.mac));
    struct virtio_net *card = virtio_net_create(&m->env, &c);
    net_attach(p->net, card);
    return card ? 0 : err_sys(e, -ENOMEM, "a device 'net'");
}

static int add_console(struct machine *m, const struct device_spec *d,
                       const struct virtio_config *virtio, struct err *e) {
    struct machine_pci *p = m->pci;
    if (p->ports)
        return err_set(e, -EINVAL, "a device 'console': given twice");
    int rc = ports_create(m, d, &p->ports, e);
    if (rc)
        return rc;
    struct virtio_console_config c = {
        .virtio = *virtio, .host = ports_device(p->ports), .ports = d->ports};
    for (unsigned i = 0; i < d->ports; i++) {
        strcpy(c.port[i].name, d->port[i].name);
        c.port[i].console = d->port[i].console;
    }
    struct virtio_console *console = virtio_console_create(&m->env, &c);
    ports_attach(p->ports, console);
    return console ? 0 : err_sys(e, -ENOMEM, "a device 'console'");
}

/* The first is "share", the next "share1", unless they are given names. */
static int add_share(struct machine *m, const struct device_spec *d,
                     const struct virtio_config *virtio, struct err *e) {
    struct machine_pci *p = m->pci;
    struct machine_share *s = &p->share[p->shares];
    if (*d->tag)
        strcpy(s->tag, d->tag);
    else
        snprintf(s->tag, sizeof(s->tag), p->shares ? "share%u" : "share", p->shares);
    for (unsigned i = 0; i < p->shares; i++)
        if (!strcmp(p->share[i].tag, s->tag))
            return err_set(e, -EINVAL, "a share with the tag '%s': given twice", s->tag);
    int rc = share_open(d->path, d->read_only, &s->share, e);
    if (rc)
        return rc;
    p->shares++;
    struct virtio_9p_config c = {.virtio = *virtio, .server = share_server(s->share)};
    strcpy(c.tag, s->tag);
    return virtio_9p_create(&m->env, &c) ? 0 : err_sys(e, -ENOMEM, "%s", d->path);
}

/* Memory above RAM: who watches what is written, or has the memory elsewhere, knows of RAM
 * alone. */
static int begin_memory(struct machine *m, const char *kind, struct err *e) {
    struct machine_pci *p = m->pci;
    const char *with = m->cfg.dirty != PN_TRACKER_OFF ? "--dirty-log"
                       : m->cfg.recorder              ? "--record"
                                                      : NULL;
    if (with)
        return err_set(e, -EINVAL, "a device '%s' does not go with %s", kind, with);
    if (!p->memory_end)
        p->memory_end = m->cfg.ram > LOW_RAM_MAX
                            ? HIGH_RAM_BASE + m->cfg.ram - LOW_RAM_MAX
                            : HIGH_RAM_BASE;
    return 0;
}

static int add_mem(struct machine *m, const struct device_spec *d,
                   const struct virtio_config *virtio, struct err *e) {
    struct machine_pci *p = m->pci;
    const struct hostmem_config cfg = {
        .size = d->size, .hugepages = m->cfg.hugepages, .numa = m->cfg.numa};
    if (p->mem)
        return err_set(e, -EINVAL, "a device 'mem': given twice");
    int rc = begin_memory(m, "mem", e);
    if (rc == 0)
        rc = hostmem_create(&cfg, &p->mem_memory, e);
    if (rc)
        return rc;
    pn_gpa start = (p->memory_end + MEM_ALIGN - 1) & ~(pn_gpa)(MEM_ALIGN - 1);
    p->mem_slot = (struct pn_memslot){
        .id = SLOT_MEM, .gpa = start, .size = d->size, .hva = p->mem_memory.base};
    p->memory_end = start + d->size;
    rc = m->ops->set_slot(m->engine, &p->mem_slot);
    if (rc)
        return err_sys(e, rc, "a device 'mem': its memslot");
    const struct virtio_mem_config c = {
        .virtio = *virtio, .start = start, .size = d->size};
    p->mem = virtio_mem_create(&m->env, &c);
    return p->mem ? 0 : err_sys(e, -ENOMEM, "a device 'mem'");
}

static int add_pmem(struct machine *m, const struct device_spec *d,
                    const struct virtio_config *virtio, struct err *e) {
    struct machine_pci *p = m->pci;
    int rc = begin_memory(m, "pmem", e);
    if (rc)
        return rc;
    rc = pmem_create(m, p->pmems, d->path, d->snapshot, &p->memory_end,
                     &p->pmem[p->pmems], e);
    if (rc)
        return rc;
    struct virtio_pmem_config c = pmem_device(p->pmem[p->pmems++]);
    c.virtio = *virtio;
    return virtio_pmem_create(&m->env, &c) ? 0 : err_sys(e, -ENOMEM, "%s", d->path);
}

static int add_vsock(struct machine *m, const struct device_spec *d,
                     const struct virtio_config *virtio, struct err *e) {
    struct machine_pci *p = m->pci;
    if (p->vsock)
        return err_set(e, -EINVAL, "a device 'vsock': given twice");
    int rc = vsock_create(m, d->path, &p->vsock, e);
    if (rc)
        return rc;
    const struct virtio_vsock_config c = {
        .virtio = *virtio, .cid = VSOCK_GUEST_CID, .host = vsock_device(p->vsock)};
    struct virtio_vsock *device = virtio_vsock_create(&m->env, &c);
    vsock_attach(p->vsock, device);
    return device ? 0 : err_sys(e, -ENOMEM, "a device 'vsock'");
}

static int add(struct machine *m, const struct device_spec *d, unsigned slot,
               struct err *e) {
    const struct virtio_config virtio = {
        .host = m->pci->host, .slot = slot, .split = d->split};
    switch (d->kind) {
    case DEVICE_DISK:
        return add_disk(m, d, &virtio, e);
    case DEVICE_RNG:
        return add_rng(m, &virtio, e);
    case DEVICE_BALLOON:
        return add_balloon(m, &virtio, e);
    case DEVICE_NET:
        return add_net(m, d, &virtio, e);
    case DEVICE_CONSOLE:
        return add_console(m, d, &virtio, e);
    case DEVICE_SHARE:
        return add_share(m, d, &virtio, e);
    case DEVICE_MEM:
        return add_mem(m, d, &virtio, e);
    case DEVICE_PMEM:
        return add_pmem(m, d, &virtio, e);
    case DEVICE_VSOCK:
        return add_vsock(m, d, &virtio, e);
    default:
        return -EINVAL;
    }
}

static struct pci_host *create_host(struct machine *m) {
    const struct pci_pam pam = {bios_pam, m};
    return m->bios ? pci_host_create_440fx(&m->env, &pam) : pci_host_create(&m->env);
}

/* Of the devices that were asked for. */
static unsigned first_slot(const struct machine *m) {
    return m->bios ? 2 : 1;
}

int wiring_pci_create(struct machine *m, struct err *e) {
    const char *text = m->cfg.devices;
    struct device_spec *d = NULL;
    unsigned slot = first_slot(m) - 1;
    int rc = 1;
    if ((!text || !*text) && !m->bios)
        return 0;
    m->pci = calloc(1, sizeof(*m->pci));
    d = calloc(1, sizeof(*d));
    if (!m->pci || !d || !(m->pci->host = create_host(m)) ||
        (m->bios && !piix4_create(&m->env, m->pci->host)))
        rc = err_set(e, -ENOMEM, "out of memory");
    else
        misc_set_pci(m->misc, m->pci->host);
    while (rc > 0 && text && (rc = device_next(&text, d, e)) > 0) {
        if (++slot > MACHINE_DEVICES_MAX)
            rc = err_set(e, -EINVAL, "more than %u PCI devices", MACHINE_DEVICES_MAX);
        else if ((rc = add(m, d, slot, e)) == 0)
            rc = 1;
    }
    free(d);
    return rc < 0 ? rc : 0;
}

unsigned machine_pci_slots(const struct machine *m) {
    const char *text = m->cfg.devices;
    unsigned slots = 0;
    if (!m->pci)
        return 0;
    for (; text && *text; text++)
        slots += text[0] != '\n' && (text[1] == '\n' || !text[1]);
    return slots + first_slot(m);
}

void wiring_pci_destroy(struct machine *m) {
    for (unsigned i = 0; m->pci && i < m->pci->disks; i++)
        disk_close(m->pci->disk[i].disk);
    if (m->pci && m->pci->net) {
        net_attach(m->pci->net, NULL);
        net_destroy(m->pci->net);
    }
    if (m->pci && m->pci->mem_memory.base) /* or its fd means nothing */
        hostmem_destroy(&m->pci->mem_memory);
    for (unsigned i = 0; m->pci && i < m->pci->pmems; i++)
        pmem_destroy(m->pci->pmem[i]);
    for (unsigned i = 0; m->pci && i < m->pci->shares; i++)
        share_close(m->pci->share[i].share);
    if (m->pci)
        ports_destroy(m->pci->ports);
    if (m->pci)
        vsock_destroy(m->pci->vsock);
    free(m->pci);
    m->pci = NULL;
}

/* ---- Questions ---- */

bool machine_has_connections(const struct machine *m) {
    return m->pci && (m->pci->net || m->pci->vsock);
}

bool machine_has_more_memory(const struct machine *m) {
    return m->pci && (m->pci->pmems || m->pci->mem);
}

int machine_more_memory_again(struct machine *m) {
    int rc = bios_slots_again(m);
    if (rc)
        return rc;
    rc = m->pci && m->pci->mem ? m->ops->set_slot(m->engine, &m->pci->mem_slot) : 0;
    for (unsigned i = 0; rc == 0 && m->pci && i < m->pci->pmems; i++)
        rc = pmem_add_slot(m, m->pci->pmem[i]);
    return rc;
}

unsigned machine_more_slots(const struct machine *m, struct pn_memslot *slot) {
    unsigned n = 0;
    if (m->pci && m->pci->mem)
        slot[n++] = m->pci->mem_slot;
    for (unsigned i = 0; m->pci && i < m->pci->pmems; i++)
        slot[n++] = pmem_slot(m->pci->pmem[i]);
    return n;
}

bool machine_has_share(const struct machine *m) {
    return m->pci && m->pci->shares;
}

unsigned machine_disks(const struct machine *m) {
    return m->pci ? m->pci->disks : 0;
}

const char *machine_disk_path(const struct machine *m, unsigned i) {
    return m->pci->disk[i].path;
}

bool machine_disk_is_lost(const struct machine *m, unsigned i) {
    return m->pci->disk[i].config.snapshot;
}

int machine_disk_digest(const struct machine *m, unsigned i, uint64_t *digest) {
    const struct dev_disk d = disk_device(m->pci->disk[i].disk);
    int rc = d.flush(d.opaque);
    return rc ? rc : disk_digest(m->pci->disk[i].disk, digest);
}

bool machine_disk_is_written(const struct machine *m, unsigned i) {
    return !m->pci->disk[i].config.read_only && !m->pci->disk[i].config.snapshot;
}

int machine_disk_copy(const struct machine *m, unsigned i, int to) {
    const struct dev_disk d = disk_device(m->pci->disk[i].disk);
    int rc = d.flush(d.opaque);
    return rc ? rc : disk_copy(m->pci->disk[i].disk, to);
}

bool machine_balloon(const struct machine *m, struct virtio_balloon_report *r) {
    if (!m->pci || !m->pci->balloon)
        return false;
    *r = virtio_balloon_ask(m->pci->balloon);
    return true;
}

int machine_set_balloon(struct machine *m, uint64_t bytes) {
    if (!m->pci || !m->pci->balloon)
        return -ENOENT;
    if (bytes > m->cfg.ram)
        return -EINVAL;
    machine_history_restart(m);
    virtio_balloon_set(m->pci->balloon, (uint32_t)(bytes / PN_PAGE_SIZE));
    return 0;
}

int machine_ask_balloon(struct machine *m) {
    if (!m->pci || !m->pci->balloon)
        return -ENOENT;
    machine_history_restart(m);
    return virtio_balloon_ask_stats(m->pci->balloon) ? 0 : -EAGAIN;
}

bool machine_ask_hints(struct machine *m, unsigned what) {
    if (!m->pci || !m->pci->balloon)
        return false;
    virtio_balloon_hints(m->pci->balloon, what);
    return true;
}

bool machine_mem(const struct machine *m, uint64_t *plugged, uint64_t *requested) {
    if (!m->pci || !m->pci->mem)
        return false;
    *plugged = virtio_mem_plugged(m->pci->mem, requested);
    return true;
}

int machine_ask_mem(struct machine *m, uint64_t bytes) {
    if (!m->pci || !m->pci->mem)
        return -ENOENT;
    machine_history_restart(m);
    return virtio_mem_ask(m->pci->mem, bytes) ? 0 : -EINVAL;
}

/* ---- Pages that the guest gives back ---- */

void *machine_memory_at(void *opaque, pn_gpa gpa, size_t size) {
    struct machine *m = opaque;
    uint64_t left;
    int fd;
    void *p = m->cfg.recorder ? NULL : ram_at(m, gpa, &left, &fd); /* it sees the bytes */
    return p && size <= left ? p : NULL;
}

/* To the host, where pages may go one by one and nobody watches who writes them. Return: whether
 * the host has them. */
static bool drop(struct machine *m, int fd, uint8_t *p, size_t size) {
    bool huge = m->cfg.hugepages && strpbrk(m->cfg.hugepages, "MG");
    if (machine_memory_forget(m, p, size))
        return true;
    if (!huge && !pn_dirty_by_host(m->cfg.dirty) &&
        madvise(p, size, fd >= 0 ? MADV_REMOVE : MADV_DONTNEED) == 0)
        return true;
    memset(p, 0, size);
    return false;
}

size_t machine_discard_phys(void *opaque, pn_gpa gpa, size_t size) {
    static const uint8_t zeros[PN_PAGE_SIZE];
    struct machine *m = opaque;
    size_t done = 0;
    uint64_t n;
    while (done < size) {
        int fd;
        uint8_t *p = ram_at(m, gpa + done, &n, &fd);
        if (!p)
            break;
        if (n > size - done)
            n = size - done;
        if (m->cfg.recorder && n > PN_PAGE_SIZE) /* it wants to see the bytes */
            n = PN_PAGE_SIZE;
        bool host = !m->cfg.recorder && drop(m, fd, p, n);
        if (m->cfg.rings && !machine_has_threads(m))
            pn_emit(&m->cfg.rings[m->current], page_discard, gpa + done, n, host);
        if (m->ops->write_phys(m->engine, gpa + done, m->cfg.recorder ? zeros : NULL,
                               n) != n)
            break;
        done += n;
    }
    return done;
}
