/* SPDX-License-Identifier: MIT */
/* The command line of `penumbra run`: its rows, and what they do not say by themselves.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/size.h"
#include "cli/console.h"
#include "cli/option.h"
#include "cli/run.h"
#include "cpu/cpu.h"
#include "inspect/profile.h"
#include "machine/devices.h"
#include "machine/history.h"
#include "machine/migrate.h"
#include "machine/nodes.h"

static void list_events(FILE *out) {
    for (unsigned i = 0; i < PN_EV_COUNT; i++)
        fprintf(out, "%-18s %-32s %s\n", pn_event_name(i), pn_event_fields(i),
                pn_event_doc(i));
}

static void list_pv(FILE *out) {
    for (unsigned i = 0; pn_pv_name(i); i++)
        fprintf(out, "%-12s %s\n", pn_pv_name(i), pn_pv_doc(i));
}

static int set_mmu_opt(void *options, const char *arg, struct err *e) {
    static const char dirty[] = "dirty_method=";
    struct run_options *o = options;
    if (!strncmp(arg, dirty, sizeof(dirty) - 1))
        return err_set(e, -EINVAL, "unknown; use --dirty-log %s",
                       arg + sizeof(dirty) - 1);
    int rc = option_of_mmu(&o->machine.mmu, arg, e);
    if (rc)
        return rc;
    if (o->mmu_opts == RUN_MMU_OPTS_MAX)
        return err_set(e, -EINVAL, "more than %u options of the MMU", RUN_MMU_OPTS_MAX);
    o->mmu_opt[o->mmu_opts++] = arg;
    return 0;
}

static int set_pv(void *options, const char *arg, struct err *e) {
    struct run_options *o = options;
    return pn_pv_parse(arg, &o->machine.pv, e->text, e->size);
}

static int set_trace_events(void *options, const char *arg, struct err *e) {
    struct run_options *o = options;
    char text[200];
    int rc = trace_event_mask(arg, &o->trace_mask, text, sizeof(text));
    return rc ? err_set(e, rc, "%s; 'help' lists them", text) : 0;
}

static int set_explain(void *options, const char *arg, struct err *e) {
    struct run_options *o = options;
    if (o->explains == RUN_EXPLAIN_MAX)
        return err_set(e, -EINVAL, "more than %u addresses", RUN_EXPLAIN_MAX);
    if (number_parse(arg, 0, UINT64_MAX, &o->explain[o->explains]))
        return err_set(e, -EINVAL, "not an address such as 0xffffffff81000000");
    o->explains++;
    return 0;
}

/* "MMU" or "MMU@MS". */
static int set_handover(void *options, const char *arg, struct err *e) {
    struct machine_config *m = &((struct run_options *)options)->machine;
    struct machine_handover *h = &m->handover[m->handovers];
    const char *at = strchr(arg, '@');
    if (m->handovers == MACHINE_HANDOVERS_MAX)
        return err_set(e, -EINVAL, "more than %u handovers", MACHINE_HANDOVERS_MAX);
    int rc = cli_engine(arg, at ? (size_t)(at - arg) : strlen(arg), &h->to, e);
    h->at_ns = 0;
    if (!rc && at && parse_time(at + 1, 1e6, &h->at_ns))
        return err_set(e, -EINVAL, "not MMU@MILLISECONDS");
    for (unsigned i = 0; !rc && h->at_ns && i < m->handovers; i++)
        if (m->handover[i].at_ns >= h->at_ns)
            return err_set(e, -EINVAL, "not later than the handover before it");
    m->handovers += !rc;
    return rc;
}

/* "FILE" or "FILE,ARGS". */
static int set_module(void *options, const char *arg, struct err *e) {
    struct machine_config *m = &((struct run_options *)options)->machine;
    if (!strcspn(arg, ","))
        return err_set(e, -EINVAL, "not FILE or FILE,ARGS");
    if (m->modules == MACHINE_MODULES_MAX)
        return err_set(e, -EINVAL, "more than %u modules", MACHINE_MODULES_MAX);
    m->module[m->modules++] = arg;
    return 0;
}

/* One more PCI device: a line of machine_config.devices. */
static int add_device(struct run_options *o, const char *kind, const char *arg,
                      struct err *e) {
    struct device_spec d;
    size_t used = strlen(o->devices), room = sizeof(o->devices) - used;
    int rc = arg && strchr(arg, '\n') ? err_set(e, -EINVAL, "there is a line end in it")
                                      : device_parse(kind, arg, &d, e);
    if (rc)
        return rc;
    int n = snprintf(o->devices + used, room, "%s%s%s%s", used ? "\n" : "", kind,
                     arg ? " " : "", arg ? arg : "");
    if ((size_t)n >= room) {
        o->devices[used] = 0;
        return err_set(e, -EINVAL, "too many devices");
    }
    return 0;
}

static int set_disk(void *options, const char *arg, struct err *e) {
    return add_device(options, "disk", arg, e);
}

static int set_net(void *options, const char *arg, struct err *e) {
    return add_device(options, "net", arg, e);
}

static int set_share(void *options, const char *arg, struct err *e) {
    return add_device(options, "share", arg, e);
}

/* "KIND" or "KIND,ARGUMENT". */
static int set_device(void *options, const char *arg, struct err *e) {
    char kind[32];
    size_t length = strcspn(arg, ",");
    snprintf(kind, sizeof(kind), "%.*s", (int)length, arg);
    return add_device(options, kind, arg[length] ? arg + length + 1 : NULL, e);
}

static int set_allow_dir(void *options, const char *arg, struct err *e) {
    struct run_options *o = options;
    struct stat st;
    if (o->allow_dirs == RUN_ALLOW_MAX)
        return err_set(e, -EINVAL, "more than %u folders", RUN_ALLOW_MAX);
    if (stat(arg, &st) || !S_ISDIR(st.st_mode))
        return err_set(e, -EINVAL, "no folder");
    o->allow_dir[o->allow_dirs++] = arg;
    return 0;
}

/* Events of --trace-tasks. */
#define TASK_EVENTS                                                                      \
    (UINT64_C(1) << PN_EV_task | UINT64_C(1) << PN_EV_region |                           \
     UINT64_C(1) << PN_EV_entry | UINT64_C(1) << PN_EV_module |                          \
     UINT64_C(1) << PN_EV_module_function)

#define OWN(field)   OPTION_FIELD(struct run_options, field)
#define GUEST(field) OPTION_FIELD(struct run_options, machine.field)
#define GUEST_NOTE   "without --kernel: the embedded one"

static const struct option_row rows[] = {
    {.kind = OPTION_HEADING, .doc = "The MMU:"},
    {"mmu", 0, "M", "Who translates", .kind = OPTION_WORD, OWN(mmu),
     .word = cli_engine_name},
    {"mmu-opt", 0, "NAME=VALUE", "Set an option of our MMUs; may be repeated",
     .kind = OPTION_CALL, .set = set_mmu_opt, .list = pn_mmu_options_print},
#include "cli/option_common.inc"
    {"module", 0, "FILE[,ARGS]",
     "A module of a Multiboot or PVH kernel, behind --initrd; may be repeated",
     .kind = OPTION_CALL, .set = set_module, .needs = "kernel"},
    {"append", 0, "STRING", "Kernel command line", .kind = OPTION_TEXT, GUEST(append),
     .without = "restore|incoming"},
    {"format", 0, "F", "Take the kernel as", .kind = OPTION_WORD, GUEST(format),
     .words = "auto|bzimage|elf|pvh|multiboot|multiboot2|flat", .needs = "kernel"},
    {"flat-addr", 0, "ADDR", "Where a flat image is put and entered",
     .kind = OPTION_NUMBER, GUEST(flat_addr), .needs = "kernel"},
    {"flat-bits", 0, "BITS", "Its mode at entry", .kind = OPTION_WORD, OWN(flat_mode),
     .words = "16|32|64", .needs = "kernel"},
    {"firmware", 0, "FILE",
     "Start in this ROM, SeaBIOS's or OVMF's, which boots a disk; there is PCI then",
     .kind = OPTION_TEXT, GUEST(firmware), .min = 1, .file = 'r',
     .without = "kernel|append|restore|incoming"},
    {"firmware-log", 0, "FILE", "What firmware writes to the debug port 0x402",
     .kind = OPTION_TEXT, OWN(firmware_log), .min = 1, .file = 'w', .needs = "firmware"},
    {.kind = OPTION_HEADING, .doc = "The machine:"},
    {"cpus", 'c', "N", "vCPUs", .kind = OPTION_NUMBER, GUEST(cpus), .min = 1,
     .max = MACHINE_CPUS_MAX, .without = "restore|incoming"},
    {"cpu", 0, "MODEL[,+F][,-F][,vendor=V]",
     "CPU model, features, vendor (default x86-64-v3 where the host allows)",
     .kind = OPTION_TEXT, GUEST(cpu_model), .min = 1, .list = cpu_model_print,
     .without = "restore|incoming"},
    {"numa-guest", 0, "MEM[/CPUS][@HOST],...",
     "The guest's NUMA nodes: memory of each, its vCPUs (2 or 0-3), and the host's node "
     "that "
     "holds that memory",
     .kind = OPTION_TEXT, GUEST(numa_guest), .min = 1, .without = "incoming"},
    {"numa-distance", 0, "N", "Between two nodes, as firmware tells it; 10 is within one",
     .kind = OPTION_NUMBER, GUEST(numa_distance), .min = NODE_DISTANCE_SELF + 1,
     .max = NODE_DISTANCE_MAX, .needs = "numa-guest"},
    {"hugepages", 0, "H", "Guest memory: thp (default), 2M, 1G or off",
     .kind = OPTION_TEXT, GUEST(hugepages), .min = 1},
    {"shared-memory", 0, NULL, "Guest memory in a memfd that other processes can map",
     .kind = OPTION_FLAG, GUEST(shared_ram)},
    {"clock", 0, "C", "Time is retired instructions, repeatable, or the wall clock",
     .kind = OPTION_WORD, GUEST(host_clock), .words = "virtual|host",
     .without = "restore|incoming"},
    {"parallel", 0, NULL,
     "shadow, tdp: a thread of the host for each vCPU; needs --clock host. No two runs "
     "are "
     "alike",
     .kind = OPTION_FLAG, GUEST(parallel)},
    {"hpet", 0, "W",
     "A high precision event timer; Linux takes it, and boots in 2% more instructions",
     .kind = OPTION_WORD, GUEST(hpet), .words = "off|on", .without = "restore|incoming"},
    {"disk", 0, "FILE[,ro][,snapshot][,qcow2][,pause]",
     "A disk on PCI, a raw image or one in qcow2: the guest's /dev/vda, and so on; "
     "without "
     "--kernel the one beside it (FILE.vmlinuz) is booted; ro: it cannot be "
     "written; snapshot: what is written is lost at the end; pause: where the host has "
     "no room for a write the guest stands (else it is an error of the disk's); may be "
     "repeated",
     .kind = OPTION_CALL, .set = set_disk, .without = "restore|incoming"},
    {"net", 0, "user[,open][,hostfwd=...]|tap=NAME",
     "A network card on PCI, and a network of the guest's own; open: it may leave it; "
     "hostfwd=tcp::2222-:22: a port of this host that leads to one of the guest's; "
     "tap=NAME: an interface of this host's instead, which you own; mac=ADDRESS",
     .kind = OPTION_CALL, .set = set_net, .without = "restore|incoming"},
    {"share", 0, "DIR[,ro][,tag=NAME]",
     "A folder that the guest mounts by 9P ('share', or NAME): mount -t 9p -o "
     "trans=virtio share /mnt; may be repeated",
     .kind = OPTION_CALL, .set = set_share, .without = "restore|incoming"},
    {"device", 0, "KIND[,OPTION]", "A device on PCI; may be repeated",
     .kind = OPTION_CALL, .set = set_device, .list = device_list,
     .without = "restore|incoming"},
    {"seed", 0, "N", "Seed of RDRAND and RDSEED", .kind = OPTION_NUMBER, GUEST(seed),
     .without = "restore|incoming"},
    {"block-len", 0, "N",
     "Translate at most N instructions at once; 1 is the stepping mode",
     .kind = OPTION_NUMBER, GUEST(max_block), .min = 1, .max = 1024},
    {"pv", 0, "NAME,...|all|none",
     "Paravirtual features in KVM's interface (default: what KVM offers under kvm, else "
     "none)",
     .kind = OPTION_CALL, .set = set_pv, .list = list_pv, .without = "restore|incoming"},
    {"halt-poll-ns", 0, "N",
     "kvm: poll so long before a halted vCPU sleeps (default the host's own)",
     .kind = OPTION_NUMBER, GUEST(halt_poll_ns), .max = UINT32_MAX},
    {"eventfds", 0, "W",
     "kvm: virtio queues are notified and messages sent by event descriptors (ioeventfd, "
     "irqfd), and not by exits",
     .kind = OPTION_WORD, GUEST(no_eventfds), .words = "on|off"},
    {"max-insns", 0, "N", "End after N guest instructions (exit code 4)",
     .kind = OPTION_NUMBER, GUEST(max_insns), .min = 1},
    {"panic-exit", 0, "W",
     "A Linux kernel that panics, as its console or its pvpanic driver says, ends the "
     "run with exit code 3",
     .kind = OPTION_WORD, GUEST(panic_stays), .words = "on|off"},
    {"config", 0, "FILE",
     "Options of a file, a JSON object: {\"memory\": \"1G\", \"disk\": [\"a\", \"b\"]}; "
     "later "
     "ones of the command line win",
     .kind = OPTION_CONFIG},
    {"dump-config", 0, NULL, "Print the options so far as such a file, and end",
     .kind = OPTION_FLAG, OWN(dump_config), .unsaid = true},
    {"sandbox", 0, "W",
     "Give up all files but those that options name, and all system calls but those that "
     "a run makes; log: tell of other system calls instead",
     .kind = OPTION_WORD, OWN(sandbox), .words = RUN_SANDBOX_WORDS},
    {"allow-dir", 0, "DIR",
     "A folder in which commands of the monitor may read and write (snapshots, dumps, "
     "certificates); without it the one of the --monitor's socket; may be repeated",
     .kind = OPTION_CALL, OWN(allow_dirs), .set = set_allow_dir},
    {.kind = OPTION_HEADING, .doc = "What is written:"},
    {"stats", 0, "FILE",
     "Counters, times and configuration as JSON, as bench/FORMATS.md tells; help: what "
     "each counter means",
     .kind = OPTION_TEXT, OWN(stats), .min = 1, .list = cli_counters, .file = 'w'},
    {"quiet", 'q', NULL,
     "Print nothing of ours when all goes well: no line on KVM's MMU, none on a reset",
     .kind = OPTION_FLAG, OWN(quiet)},
    {"summary", 0, NULL, "Print what the MMU did to stderr", .kind = OPTION_FLAG,
     OWN(summary)},
    {"trace", 0, "FILE", "Record events; see 'penumbra trace'", .kind = OPTION_TEXT,
     OWN(trace), .min = 1, .file = 'w'},
    {"trace-events", 0, "NAME,...", "Which events (default all)", .kind = OPTION_CALL,
     .set = set_trace_events, .list = list_events, .needs = "trace|event-digest"},
    {"trace-tasks", 0, NULL,
     "Record whose faults they are, too: process, mapping, part of the kernel and system "
     "call of a Linux guest with types (BTF); see 'penumbra faults --by "
     "process,region,cause'",
     .kind = OPTION_FLAG, OWN(trace_tasks), .needs = "trace|event-digest|explain-faults"},
    {"trace-limit", 0, "SIZE",
     "Stop recording at this file size; later events count as lost", .kind = OPTION_SIZE,
     OWN(trace_limit), .min = 4096, .needs = "trace"},
    {"event-digest", 0, NULL,
     "Put the digest of the events into --stats, without a trace file",
     .kind = OPTION_FLAG, OWN(event_digest), .needs = "stats"},
    {"dump", 0, NULL, "Print the registers to stderr at the end", .kind = OPTION_FLAG,
     OWN(dump)},
    {"explain", 0, "GVA",
     "Explain this address to stderr at the end: the walks of vCPU 0, its frame, what an "
     "access would come to; may be repeated",
     .kind = OPTION_CALL, OWN(explains), .set = set_explain},
    {"explain-svg", 0, "FILE", "Draw the walks of the first of these addresses",
     .kind = OPTION_TEXT, OWN(explain_svg), .min = 1, .file = 'w', .needs = "explain"},
    {"explain-faults", 0, "N",
     "Tell the first N faults in words, to stderr at the end; 'penumbra faults "
     "--narrate' "
     "tells those of a trace",
     .kind = OPTION_NUMBER, OWN(explain_faults), .min = 1, .without = "trace"},
    {"dump-mmu", 0, "FILE",
     "Write all mappings and tables at the end, of vCPU 0, as JSON; see 'penumbra dump'",
     .kind = OPTION_TEXT, OWN(dump_mmu), .min = 1, .file = 'w'},
    {"audit", 0, NULL,
     "Check every invariant of the MMU at the end: which fails, and where, is told on "
     "stderr; not with --mmu kvm",
     .kind = OPTION_FLAG, OWN(audit)},
    {"profile", 0, "FILE",
     "Sample which process and function of the guest runs, and which part of the engine: "
     "lines of "
     "folded stacks for flame graphs, or, if FILE ends in .pb.gz, pprof's format",
     .kind = OPTION_TEXT, OWN(profile), .min = 1, .file = 'w', .without = "incoming"},
    {"profile-rate", 0, "N", "Samples per second", .kind = OPTION_NUMBER,
     OWN(profile_rate), .min = 1, .max = 10000, .needs = "profile"},
    {"perf-map", 0, "FILE",
     "Name translated code for perf, which looks for /tmp/perf-PID.map; %p in FILE is "
     "this "
     "process's number",
     .kind = OPTION_TEXT, OWN(perf_map), .min = 1, .file = 'w'},
    {"record", 0, "FILE",
     "Record what was done to the MMU, for other MMUs: see 'penumbra replay'",
     .kind = OPTION_TEXT, OWN(record), .min = 1, .file = 'w'},
    {"ram-digest", 0, NULL, "Put the digest of guest memory at the end into --stats",
     .kind = OPTION_FLAG, OWN(ram_digest), .needs = "stats"},
    {.kind = OPTION_HEADING, .doc = "Debugging:"},
    {"gdb", 0, "PORT|PATH",
     "Let gdb attach (target remote) at this TCP port of this host, or at a Unix socket",
     .kind = OPTION_TEXT, OWN(gdb), .min = 1},
    {"monitor", 0, "PATH",
     "Take the monitor's commands at this Unix socket: info, x, explain, dump, stop, "
     "help",
     .kind = OPTION_TEXT, OWN(monitor), .min = 1},
    {"stopped", 'S', NULL,
     "Stand before the first instruction until gdb lets the guest go",
     .kind = OPTION_FLAG, OWN(stopped), .needs = "gdb"},
    {"checkpoints", 0, "N",
     "Keep up to N checkpoints while the guest runs, so that gdb can go back "
     "(reverse-step, reverse-continue); each takes the memory that the guest writes next",
     .kind = OPTION_NUMBER, OWN(checkpoints), .min = 2, .max = MACHINE_CHECKPOINTS_MAX,
     .needs = "gdb"},
    {"checkpoint-distance", 0, "N",
     "Instructions between two; twice as many whenever there are too many checkpoints",
     .kind = OPTION_NUMBER, OWN(checkpoint_distance), .min = 1000,
     .needs = "checkpoints"},
    {.kind = OPTION_HEADING, .doc = "Dirty logging and moving:"},
    {"restore", 0, "DIR",
     "Go on from a snapshot: its guest, memory, vCPUs and devices; see 'penumbra "
     "snapshot'",
     .kind = OPTION_TEXT, OWN(restore), .min = 1},
    {"restore-memory", 0, "HOW",
     "How its memory comes: eager (before the guest runs), map (a snapshot of 'save "
     "--raw', "
     "mapped and not checked), lazy (when the guest touches it)",
     .kind = OPTION_WORD, GUEST(restore_memory), .words = "eager|map|lazy",
     .needs = "restore"},
    {"working-set", 0, "FILE",
     "With map or lazy: have the pages of that file ready before the guest touches them",
     .kind = OPTION_TEXT, GUEST(working_set), .min = 1, .file = 'r',
     .needs = "restore-memory"},
    {"record-working-set", 0, "FILE",
     "With lazy: write which pages the guest touches, in order", .kind = OPTION_TEXT,
     OWN(record_set), .min = 1, .file = 'w', .needs = "restore-memory",
     .without = "working-set"},
    {"incoming", 0, "unix:PATH|tcp:HOST:PORT",
     "Wait there for a guest of another process, and go on with it; see 'penumbra "
     "migrate'",
     .kind = OPTION_TEXT, OWN(incoming), .min = 1, .without = "restore"},
    {"incoming-tls", 0, "DIR",
     "By TLS: ca-cert.pem, server-cert.pem and server-key.pem in that folder; who comes "
     "must have a certificate of that authority",
     .kind = OPTION_TEXT, OWN(tls), .min = 1, .needs = "incoming"},
    {"incoming-stall", 0, "S", "Give up when who comes is silent for so long",
     .kind = OPTION_SECONDS, OWN(stall_ns), .needs = "incoming"},
    {"dirty-log", 0, "T", "Log written pages by", .kind = OPTION_WORD, GUEST(dirty),
     .word = pn_dirty_name, .list = pn_dirty_print},
    {"dirty-every", 0, "MS",
     "Harvest every so many milliseconds of guest time, too (else at the guest's marks "
     "and at the end)",
     .kind = OPTION_MILLISECONDS, GUEST(dirty_every_ns), .needs = "dirty-log"},
    {"dirty-verify", 0, NULL,
     "Hash every page around each harvest; a page that changed unlogged is exit code 6",
     .kind = OPTION_FLAG, GUEST(dirty_verify), .needs = "dirty-log"},
    {"dirty-pages", 0, NULL, "Put the frame numbers of each harvest into --stats",
     .kind = OPTION_FLAG, GUEST(dirty_pages), .needs = "dirty-log"},
    {"handover", 0, "MMU[@MS]",
     "Go on under another MMU, or a fresh one of the same kind, at that guest time, or "
     "at the guest's mark; may be repeated",
     .kind = OPTION_CALL, .word = cli_engine_name, .set = set_handover},
};

static const struct run_options defaults = {
    .sandbox = RUN_SANDBOX_DEFAULT,
    .flat_mode = 2,
    .trace_mask = TRACE_ALL_EVENTS,
    .trace_limit = (uint64_t)4 << 30,
    .checkpoint_distance = 200000000,
    .stall_ns = MIGRATE_STALL_NS,
    .profile_rate = PROFILE_RATE,
    .machine = {.ram = (uint64_t)512 << 20,
                .cpus = 1,
                .numa_distance = NODE_DISTANCE_DEFAULT,
                .flat_addr = 0x100000,
                .seed = 1,
                .pv = PN_PV_DEFAULT,
                .halt_poll_ns = -1},
};

static const struct option_alias qemu[] = {
#define ALIAS(...) {__VA_ARGS__},
#include "cli/qemu.inc"
    {.flag = NULL}};

static const struct option_command command = {
    .name = "penumbra run",
    .doc = "Boot a guest. Its serial console is this terminal: Ctrl-A x quits, Ctrl-A c "
           "is the monitor, Ctrl-A h helps.",
    .more =
        "Exit codes: 0 the guest powered off; 1 host failure; 2 usage; 3 the guest "
        "crashed; 4 a limit ended it; a guest that ends through the debug-exit port "
        "gives (value << 1) | 1, as in QEMU: --stats has value as exit.guest_value, for "
        "1, 3 and 5 are codes of ours, too.\n\nExample: penumbra run --kernel vmlinuz "
        "--initrd initrd.gz --append console=ttyS0\n\nFlags of QEMU's such as -kernel, "
        "-initrd, -append, -smp and -nographic are taken for what they are here, and so "
        "are kvmtool's -k, -i and -p.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .meant = "kernel",
    .aliases = qemu,
};

void run_options_files(const struct run_options *o,
                       void (*each)(void *opaque, char file, const char *name),
                       void *opaque) {
    option_files(&command, o, each, opaque);
}

/* Engine i that runs the guest, sooner or later; NULL beyond the last. */
static const struct pn_engine_ops *part(const struct machine_config *m, unsigned i) {
    return i > m->handovers ? NULL : i ? m->handover[i - 1].to : m->engine;
}

static bool has_part(const struct machine_config *m, bool host_cpu) {
    const struct pn_engine_ops *ops;
    for (unsigned i = 0; (ops = part(m, i)); i++)
        if (ops->host_cpu == host_cpu)
            return true;
    return false;
}

static bool has_mmu(const struct machine_config *m, const char *name) {
    const struct pn_engine_ops *ops;
    for (unsigned i = 0; (ops = part(m, i)); i++)
        if (!strcmp(ops->name, name))
            return true;
    return false;
}

/* An option of an MMU that none of the parts has. */
static int check_mmu_opts(const struct run_options *o, struct err *e) {
    if (o->mmu_opts && !has_part(&o->machine, false))
        return err_set(e, -EINVAL,
                       "--mmu-opt: not under --mmu kvm, whose MMU is the host's");
    for (unsigned i = 0; i < o->mmu_opts; i++) {
        const char *only = pn_mmu_option_only(o->mmu_opt[i]);
        if (only && !has_mmu(&o->machine, only))
            return err_set(e, -EINVAL, "--mmu-opt %s: only --mmu %s has it",
                           o->mmu_opt[i], only);
    }
    return 0;
}

/* Guest memory from the host's pool, which copies of the process share. */
static bool hugetlb(const char *hugepages) {
    return hugepages && (!strcmp(hugepages, "2M") || !strcmp(hugepages, "1G"));
}

/* Does what the guest does stay, when time goes back? */
static bool reaches_out(const char *devices) {
    struct device_spec d;
    char text[64];
    struct err e = {text, sizeof(text)};
    while (device_next(&devices, &d, &e) > 0)
        if (d.kind == DEVICE_NET || d.kind == DEVICE_CONSOLE || d.kind == DEVICE_SHARE ||
            d.kind == DEVICE_PMEM || d.kind == DEVICE_VSOCK ||
            (d.kind == DEVICE_DISK && !d.read_only && !d.snapshot))
            return true;
    return false;
}

static bool may_pause(const char *devices) {
    struct device_spec d;
    char text[64];
    struct err e = {text, sizeof(text)};
    while (device_next(&devices, &d, &e) > 0)
        if (d.kind == DEVICE_DISK && d.pause)
            return true;
    return false;
}

/* Who looks at a run's host time needs a run of ours. */
static int check_profile(const struct run_options *o, struct err *e) {
    const struct machine_config *m = &o->machine;
    if ((o->profile || o->perf_map) && has_part(m, true))
        return err_set(e, -EINVAL,
                       "--%s: not under --mmu kvm, where 'perf kvm' samples the guest",
                       o->profile ? "profile" : "perf-map");
    if (o->profile && m->parallel)
        return err_set(e, -EINVAL,
                       "--profile: not with --parallel: one thread's time is seen "
                       "(perf record with --perf-map sees all)");
    if (o->perf_map && m->handovers)
        return err_set(e, -EINVAL,
                       "--perf-map does not go with --handover, after which code is "
                       "elsewhere");
    if (o->profile && m->restore_memory == RESTORE_LAZY)
        return err_set(
            e, -EINVAL,
            "--profile: not with --restore-memory lazy: it reads memory that is "
            "yet to come");
    return 0;
}

/* What vCPUs that are threads cannot do, or do in no way of ours. */
static int check_parallel(const struct run_options *o, struct err *e) {
    const struct machine_config *m = &o->machine;
    if (!m->parallel)
        return 0;
    if (has_part(m, true))
        return err_set(e, -EINVAL,
                       "--parallel: not under --mmu kvm, whose vCPUs are threads anyway");
    if (!m->host_clock)
        return err_set(e, -EINVAL,
                       "--parallel needs --clock host: instructions of several threads "
                       "make no time");
    if (m->tlb || o->record || m->handovers || o->trace_tasks)
        return err_set(e, -EINVAL,
                       "--parallel does not go with --tlb, --record, --handover or "
                       "--trace-tasks, which need one vCPU after another");
    return 0;
}

/* Return: 0, or -EINVAL and in e what does not go together. */
static int check(const struct run_options *o, struct err *e) {
    const struct machine_config *m = &o->machine;
    if (m->format != FMT_FLAT && (m->flat_addr != defaults.machine.flat_addr ||
                                  o->flat_mode != defaults.flat_mode))
        return err_set(e, -EINVAL, "--flat-addr and --flat-bits need --format flat");
    if (m->numa && m->numa_guest && strchr(m->numa_guest, '@'))
        return err_set(e, -EINVAL, "--numa does not go with @ in --numa-guest");
    if ((m->halt_poll_ns >= 0 || m->no_eventfds) && !has_part(m, true))
        return err_set(e, -EINVAL, "%s needs --mmu kvm",
                       m->no_eventfds ? "--eventfds off" : "--halt-poll-ns");
    if (m->max_block && !has_part(m, false))
        return err_set(e, -EINVAL,
                       "--block-len: not under --mmu kvm, which translates no blocks");
    if (m->seed != defaults.machine.seed && !has_part(m, false))
        return err_set(e, -EINVAL,
                       "--seed: not under --mmu kvm, where RDRAND is the processor's");
    if (o->audit && part(m, m->handovers)->host_cpu)
        return err_set(e, -EINVAL,
                       "--audit: not under --mmu kvm, whose MMU is the host's");
    if (o->trace_tasks && has_part(m, true))
        return err_set(e, -EINVAL,
                       "--trace-tasks: not under --mmu kvm, whose events come later");
    if (o->trace_tasks && !m->kernel)
        return err_set(e, -EINVAL, "--trace-tasks needs --kernel, a Linux kernel");
    if (!o->trace_tasks && o->trace_mask & TASK_EVENTS)
        return err_set(e, -EINVAL,
                       "--trace-events task, region, entry need --trace-tasks");
    if (o->record && (has_part(m, true) || m->handovers))
        return err_set(e, -EINVAL,
                       "--record: of one MMU of ours, not under --mmu kvm, nor with "
                       "--handover");
    if (o->checkpoints && has_part(m, true))
        return err_set(
            e, -EINVAL,
            "--checkpoints: not under --mmu kvm, whose guest cannot be copied");
    if (o->checkpoints && (m->host_clock || m->shared_ram || o->record ||
                           pn_dirty_by_host(m->dirty) || hugetlb(m->hugepages)))
        return err_set(e, -EINVAL,
                       "--checkpoints does not go with --clock host, --shared-memory, "
                       "--record, --hugepages 2M or 1G, or a dirty log of the host's");
    if (o->checkpoints && reaches_out(m->devices))
        return err_set(
            e, -EINVAL,
            "--checkpoints: not with a network, a vsock, a console or a shared folder, "
            "nor with a disk "
            "that is written: "
            "--disk FILE,ro or FILE,snapshot");
    if (may_pause(m->devices) && !o->monitor && !o->gdb && !isatty(STDIN_FILENO))
        return err_set(e, -EINVAL,
                       "--disk FILE,pause: needs --monitor, which lets the guest go on");
    if (m->dirty && m->handovers)
        return err_set(e, -EINVAL, "--dirty-log does not go with --handover");
    if (m->tlb && has_part(m, true))
        return err_set(e, -EINVAL,
                       "--tlb: not under --mmu kvm, whose TLB is the processor's");
    int rc = check_profile(o, e);
    if (!rc)
        rc = check_parallel(o, e);
    return rc ? rc : check_mmu_opts(o, e);
}

/* A hypervisor takes a guest over from the first MMU of ours, before its next instruction. */
static int begin_under_ours(struct machine_config *m, struct err *e) {
    if (!m->engine->threaded)
        return 0;
    if (m->handovers == MACHINE_HANDOVERS_MAX)
        return err_set(e, -EINVAL, "more than %u handovers", MACHINE_HANDOVERS_MAX - 1);
    memmove(m->handover + 1, m->handover, m->handovers * sizeof(m->handover[0]));
    m->handover[0] = (struct machine_handover){.to = m->engine, .at_ns = 1};
    m->handovers++;
    m->engine = pn_engine_at(0);
    return 0;
}

/* A page that the guest waits for is damaged, or cannot be read. */
static void unreadable(void *opaque, int rc, const char *line) {
    cli_error("the guest is stopped: %s", line);
    console_close();
    _exit(rc == -EBADMSG ? CLI_DAMAGED : CLI_HOST);
}

/* DISK.NAME into path. Return: whether it is there. */
static bool beside(const char *disk, const char *name, char path[PATH_MAX]) {
    return snprintf(path, PATH_MAX, "%s.%s", disk, name) < PATH_MAX &&
           !access(path, F_OK);
}

/* A first disk with a kernel beside it is booted, when nothing else is named. */
static int take_disk(struct run_options *o, struct err *e) {
    struct machine_config *m = &o->machine;
    struct run_beside *b = &o->beside;
    const char *devices = m->devices;
    struct device_spec d;
    char path[PATH_MAX];
    void *text;
    size_t size;
    while (device_next(&devices, &d, e) > 0 && d.kind != DEVICE_DISK)
        d.path[0] = 0;
    if (m->kernel || m->firmware || !m->devices || d.kind != DEVICE_DISK ||
        !beside(d.path, "vmlinuz", b->kernel))
        return 0;
    m->kernel = b->kernel;
    if (!m->initrd && beside(d.path, "initrd", b->initrd))
        m->initrd = b->initrd;
    if (m->append || !beside(d.path, "cmdline", path))
        return 0;
    int rc = file_read(path, sizeof(b->append) - 1, &text, &size, e);
    if (rc)
        return rc;
    const char *end = memchr(text, '\n', size);
    snprintf(b->append, sizeof(b->append), "%.*s",
             (int)(end ? end - (const char *)text : (ptrdiff_t)size), (const char *)text);
    free(text);
    m->append = b->append;
    return 0;
}

/* The guest is the snapshot's. */
static int take_snapshot(struct run_options *o, struct err *e) {
    bool map = o->machine.restore_memory == RESTORE_MAP;
    int rc = map ? snapshot_open_to_map(o->restore, &o->snapshot, e)
                 : snapshot_open(o->restore, &o->snapshot, e);
    o->machine.lost = unreadable;
    return rc ? rc : snapshot_config(o->snapshot, &o->machine, e);
}

/* A page that the guest waits for cannot come any more: nobody has the whole guest. */
static void lost(void *opaque, bool ours, const char *line) {
    cli_error(ours ? "the guest is lost: %s" : "the guest stays where it was: %s", line);
    console_close();
    _exit(CLI_HOST);
}

/* The guest is who comes's. */
static int take_incoming(struct run_options *o, struct err *e) {
    const struct migrate_in_options in = {
        .at = o->incoming, .tls = o->tls, .stall_ns = o->stall_ns, .lost = lost};
    int rc = migrate_in_open(&in, &o->machine, &o->in, e);
    return rc ? rc : begin_under_ours(&o->machine, e);
}

int run_options_parse(struct run_options *o, int argc, char **argv, bool *done) {
    char text[256];
    struct err e = {text, sizeof(text)};
    *o = defaults;
    pn_mmu_options_default(&o->machine.mmu);
    int rc = option_parse(&command, argc, argv, o, done);
    if (rc || *done)
        return rc;
    o->machine.engine = pn_engine_at(o->mmu);
    o->machine.flat_bits = 16u << o->flat_mode;
    o->machine.code_for_perf = o->perf_map != NULL;
    o->machine.devices = *o->devices ? o->devices : NULL;
    if (o->trace_tasks)
        o->trace_mask |= TASK_EVENTS;
    else if (o->trace_mask == TRACE_ALL_EVENTS)
        o->trace_mask &= ~TASK_EVENTS;
    if (o->dump_config && !check(o, &e)) {
        option_dump(stdout);
        *done = true;
        return CLI_OK;
    }
    if (!o->restore && !o->incoming && take_disk(o, &e))
        return cli_error("%s", text);
    if (o->restore && (rc = take_snapshot(o, &e)))
        return cli_error("%s", text), cli_snapshot_code(rc);
    if (o->incoming && (rc = take_incoming(o, &e)))
        return cli_error("%s", text), cli_snapshot_code(rc);
    rc = cli_model(o->tlb_name, o->cost_name, &o->model, &e);
    if (rc)
        return rc == -EINVAL ? option_error(&command, "%s", text) : cli_error("%s", text);
    o->machine.tlb = o->model.on ? &o->model.tlb : NULL;
    return check(o, &e) ? option_error(&command, "%s", text) : CLI_OK;
}
