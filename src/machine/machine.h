/* SPDX-License-Identifier: MIT */
/*
 * The machine: memory map, devices, clock and boot protocol around an engine. The same
 * under every --mmu.
 *
 * Memory map: RAM from 0 (640 KiB hole for the BIOS area is RAM too, but reserved in the
 * e820) up to 3 GiB; MMIO hole 0xc0000000..0xffffffff (IO-APIC 0xfec00000, local APIC
 * 0xfee00000, pc-testdev 0xff000000); the rest of RAM from 4 GiB.
 */
#pragma once

#include <poll.h>
#include <stdio.h>

#include "base/err.h"
#include "penumbra/engine.h"
#include "penumbra/pv.h"

enum machine_format {
    FMT_AUTO,
    FMT_BZIMAGE,
    FMT_ELF,
    FMT_PVH,
    FMT_MULTIBOOT,
    FMT_MULTIBOOT2,
    FMT_FLAT
};

/* Go on under another engine at this time, or (0) at the guest's PN_MARK_HANDOVER. */
struct machine_handover {
    const struct pn_engine_ops *to;
    uint64_t at_ns;
};
#define MACHINE_HANDOVERS_MAX 16u
#define MACHINE_CPUS_MAX      64u
#define MACHINE_MODULES_MAX   15u
#define MACHINE_RAM_MIN       (2ull << 20)
#define MACHINE_RAM_MAX       (64ull << 30)

struct snapshot; /* machine/snapshot.h */

/* How memory comes from a snapshot: all of it before the guest runs, and every page checked; mapped
 * (MAP_PRIVATE) from a raw one, and nothing is checked; or read and checked when it is touched. */
enum machine_restore { RESTORE_EAGER, RESTORE_MAP, RESTORE_LAZY };

struct machine_config {
    const struct pn_engine_ops *engine; /* not a threaded one, with restore */
    uint64_t ram;                       /* bytes, page aligned */
    unsigned cpus;
    const char *cpu_model;
    struct pn_mmu_options mmu;
    const struct pn_tlb_model *tlb;       /* copied; NULL: none. Not under kvm */
    const struct pn_recorder *recorder;   /* of the MMU; NULL: none. Not under kvm */
    const char *kernel, *initrd, *append; /* paths and the command line; NULL: none */
    const char
        *firmware; /* a path: the processor starts in it, and no kernel is loaded */
    void (*firmware_out)(void *opaque,
                         uint8_t byte);      /* what it tells at port 0x402; NULL */
    const char *module[MACHINE_MODULES_MAX]; /* "FILE" or "FILE,ARGS", for boot protocols
                                                that take several files */
    unsigned modules;
    const void *kernel_blob; /* instead of a path: the embedded guest */
    size_t kernel_blob_size;
    enum machine_format format;
    uint64_t flat_addr; /* FMT_FLAT: where it is put and entered */
    unsigned flat_bits; /* 16, 32, 64 */
    const char *numa; /* "local", "bind=N", "interleave=A,B"; NULL: the host's default */
    const char *numa_guest; /* the guest's nodes (machine/nodes.h); NULL: none */
    unsigned numa_distance; /* between two of them, as in SLIT; 0: the default */
    const char *hugepages;  /* "thp", "2M", "1G", "off"; NULL: thp */
    bool host_clock;
    bool parallel;       /* a thread for each vCPU, under our engines; needs host_clock */
    bool hpet;           /* the machine has one */
    const char *devices; /* on PCI (machine/devices.h); NULL: there is no PCI */
    uint64_t seed;
    uint32_t max_block;
    bool code_for_perf;    /* as pn_engine_config has it */
    uint32_t pv;           /* penumbra/pv.h: features, or PN_PV_DEFAULT */
    int64_t halt_poll_ns;  /* engines with threads: -1: the host's own */
    unsigned no_eventfds;  /* 1: kvm: notifications and messages go the long way */
    uint64_t max_insns;    /* 0: no limit */
    uint64_t timeout_ns;   /* host time; 0: none */
    struct pn_ring *rings; /* one per vCPU, or NULL; they outlive the machine, and record
                              nothing after machine_run */
    void (*serial_out)(void *opaque, const uint8_t *buf, size_t size);
    /* Bytes waiting for the guest's console; polled when the FIFO has room. Never blocks.
     * Return: bytes put into buf, at most size; 0: none now. May be NULL. */
    size_t (*serial_in)(void *opaque, uint8_t *buf, size_t size);
    /* Idle under --clock host, or waiting for console input: sleep until input or `ns`, or
     * until one of these descriptors is ready (poll(2); revents say so). May be NULL. */
    void (*idle)(void *opaque, uint64_t ns, struct pollfd *also, unsigned count);
    /* Is somebody there for whom the guest is to stand (control.h)? Polled about every
     * millisecond of guest time, and while the guest idles. Never blocks. May be NULL. */
    bool (*attend)(void *opaque);
    /* Somebody sits at the console: a guest that idles then waits in real time under
     * --clock virtual too, instead of skipping ahead as fast as it can. */
    bool interactive;
    /* The guest wrote to the mark port (penumbra/mark.h). Called inside the guest's OUT,
     * on the thread that runs the vCPU: counters and time are those of that instruction.
     * May not destroy the machine or run it. May be NULL. */
    void (*on_mark)(void *opaque, uint32_t value);
    /* Serve the mark port's requests for the window, a memslot that comes and goes. Only
     * for guests of our own: code in the window would outlive its slot. */
    bool window;
    enum pn_dirty_tracker dirty; /* OFF: no dirty log */
    uint64_t dirty_every_ns;     /* 0: harvests at PN_MARK_ROUND and at the end only */
    bool dirty_verify;           /* hash every page around each harvest */
    bool dirty_pages;            /* keep the frame numbers of each harvest */
    struct machine_handover handover[MACHINE_HANDOVERS_MAX]; /* one after another */
    unsigned handovers;
    unsigned panic_stays; /* 1: a kernel that reports its panic goes on */
    bool shared_ram;      /* guest RAM in a memfd that other processes can map */
    /* Go on from it (snapshot_config), and load no kernel; NULL: begin anew. */
    const struct snapshot *restore;
    enum machine_restore restore_memory;
    const char
        *working_set; /* a file: pages that the guest will touch first; NULL: none */
    bool record_set;  /* LAZY: into that new file, which pages it touches */
    int record_set_fd;
    /* A page that the guest waits for cannot be read (LAZY): must not return. */
    void (*lost)(void *opaque, int rc, const char *line);
    void *opaque;
};

enum machine_end {
#define PN_END(name, word) END_##name,
#include "penumbra/reasons.inc"
};

struct machine_result {
    enum machine_end end;
    unsigned code;        /* END_DEBUG_EXIT: (value << 1) | 1 */
    uint64_t guest_insns; /* retired since power-on, all vCPUs; 0: not known */
    uint64_t guest_ns;    /* virtual time */
    uint64_t host_ns;     /* from the first instruction to the end */
};

struct machine;
/* Allocate memory, create the engine and devices, load the guest.
 * Return: 0, or -errno with one line in err that names the file, option or limit:
 * -EINVAL bad configuration or image (usage), -EBADMSG a snapshot is damaged, others host
 * failures. */
int machine_create(const struct machine_config *cfg, struct machine **out, char *err,
                   size_t err_size);
/* Run until it ends (control.h: with stops in between). Return: 0 (see *result), or -errno
 * with a line in err. */
int machine_run(struct machine *m, struct machine_result *result, char *err,
                size_t err_size);
/* From a signal handler or another thread: end soon, with END_QUIT. */
void machine_quit(struct machine *m);
void machine_destroy(struct machine *m);

/* One harvest of the dirty log. */
struct machine_harvest {
    const char *by;          /* "time", "guest" (a mark), "end" */
    uint32_t round;          /* the mark's argument */
    uint64_t at_ns, host_ns; /* virtual time; how long it took the host */
    uint64_t pages;
    bool verified;
    uint64_t missed, missed_gpa; /* pages that changed and are not in it; the first one */
    uint64_t same;               /* pages that are in it and hold what they held before */
    char *gfns;                  /* "100-1ff 205", with dirty_pages; else NULL */
};
/* All of them so far; valid until machine_destroy, once the machine has ended. */
const struct machine_harvest *machine_harvests(const struct machine *m, unsigned *count);

/* While it stands: find written pages by another tracker from now on; no consumer loses any.
 * Return: 0, or -errno with a line in e: -EINVAL; -ENOTSUP: this engine, or one of the host's. */
int machine_dirty_switch(struct machine *m, enum pn_dirty_tracker tracker, struct err *e);
/* While it stands: from now on written pages of that slot of RAM are found, or not, and then
 * every harvest has all of them. Return: as above; the engine's own; -ENOENT: no such slot, or it is not there. */
int machine_dirty_slot(struct machine *m, unsigned slot, bool on, struct err *e);
/* Return: is there a slot of RAM with that number? by: what finds its written pages; OFF: nothing does. */
bool machine_dirty_slot_at(const struct machine *m, unsigned slot, struct pn_memslot *out,
                           enum pn_dirty_tracker *by);

/* One handover that was done. */
struct machine_switch {
    const char *from, *to; /* engines */
    uint64_t at_ns, host_ns;
    char detail[256]; /* which MMU it went on under, in the engine's words */
};
const struct machine_switch *machine_switches(const struct machine *m, unsigned *count);
/* The engines that ran it, the first one first; NULL beyond the last. */
struct pn_engine *machine_engine_at(struct machine *m, unsigned i,
                                    const struct pn_engine_ops **ops);

/* Virtual time, ns: as in traces. */
uint64_t machine_time(const struct machine *m);
/* Of the engine that runs it now. */
const struct pn_stats *machine_stats(struct machine *m, unsigned cpu);
void machine_dump(struct machine *m, FILE *out);
/* Why this guest does not come up here, one clause; NULL: nothing is known against it. */
const char *machine_doubt(struct machine *m);
/* How far a Linux kernel was moved, in virtual memory, from where it is linked (KASLR); 0
 * for all else. */
uint64_t machine_kernel_moved(const struct machine *m);
/* The kernel, an ELF, that a bzImage has packed; *out is the caller's to free. Any bytes
 * are safe. name: for the line. Return: 0; -EINVAL: no bzImage, or damaged; -ENOMEM. */
int machine_unpack_kernel(const void *image, size_t size, const char *name, void **out,
                          size_t *out_size, struct err *e);
/* XXH3-64 of all guest RAM, page by page in order of gpa. */
uint64_t machine_ram_digest(struct machine *m);
/* Memory that waits for nobody: what is yet to come of a lazy restore, or by post-copy, comes now.
 * The machine stands. Return: 0, or -errno with a line in e. */
int machine_memory_whole(struct machine *m, struct err *e);
/* The working set is complete (machine_config.record_set): what is touched from now on is none of
 * it. After the run. Return: 0, or -errno with a line in e. */
int machine_end_set(struct machine *m, struct err *e);
/* The states of all devices, taken while no vCPU runs: before machine_run or after it has
 * ended. Not under engines that are threaded: -ENOTSUP. Return: 0, or -ENOMEM. */
struct machine_devices;
int machine_save_devices(struct machine *m, struct machine_devices **out);
void machine_devices_free(struct machine_devices *d);
/* Into a machine of the same configuration that has not run yet; its clock goes on to
 * where the other one's was. Comes before the vCPUs' states, which hold a TSC. Return: 0;
 * -EINVAL: a state that no device could have come to; -ENOENT: not the same devices. */
int machine_load_devices(struct machine *m, const struct machine_devices *d);

/* Its disks (machine/devices.h): how many, and which image is which. XXH3 of what the guest would
 * read from disk i; between two runs. Return: 0 or -errno. */
unsigned machine_disks(const struct machine *m);
const char *machine_disk_path(const struct machine *m, unsigned i);
int machine_disk_digest(const struct machine *m, unsigned i, uint64_t *digest);
/* Disks with `pause`, between two runs: does a write wait until the host's disk has room? It is tried again
 * when the machine goes on. And has one found none since the last call? */
bool machine_waits_for_room(const struct machine *m);
bool machine_was_full(struct machine *m);
/* Its balloon, in pages of 4 KiB. Return: whether there is one. */
struct virtio_balloon_report;
bool machine_balloon(const struct machine *m, struct virtio_balloon_report *r);
/* While it stands: ask the guest to give so many bytes up. Return: 0; -ENOENT: it has no
 * balloon; -EINVAL: more than it has. */
int machine_set_balloon(struct machine *m, uint64_t bytes);
/* Its memory that comes and goes: bytes that it has, and was asked to have. Return: whether
 * there is any. */
bool machine_mem(const struct machine *m, uint64_t *plugged, uint64_t *requested);
/* Ask it to have so much. Return: 0; -ENOENT: there is none; -EINVAL: no such size. */
int machine_ask_mem(struct machine *m, uint64_t bytes);
/* It is to say its statistics. Return: 0; -ENOENT: no balloon; -EAGAIN: not now. */
int machine_ask_balloon(struct machine *m);

/* The ops of the engine that runs it now. */
const struct pn_engine_ops *machine_ops(const struct machine *m);
/* Every range of a device that is mapped, ports or MMIO. */
typedef void (*machine_range_fn)(void *opaque, const char *name, bool ports,
                                 uint64_t base, uint64_t size);
void machine_ranges(const struct machine *m, machine_range_fn fn, void *opaque);
/* Guest memory as it is now. Return: how many slots, at most MACHINE_SLOTS_MAX. */
#define MACHINE_SLOTS_MAX 18u
unsigned machine_slots(const struct machine *m,
                       struct pn_memslot slot[MACHINE_SLOTS_MAX]);
/* The same, with memory that devices have (pmem, mem), which no dirty log knows. At most
 * MACHINE_SLOTS_ALL. */
#define MACHINE_SLOTS_ALL (MACHINE_SLOTS_MAX + 32u)
unsigned machine_slots_all(const struct machine *m,
                           struct pn_memslot slot[MACHINE_SLOTS_ALL]);
/* The MMU's table bytes etc. reach the report through the engine. */
struct pn_engine *machine_engine(struct machine *m);
