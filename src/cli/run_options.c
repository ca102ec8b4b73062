/* SPDX-License-Identifier: MIT */
/* The command line of `penumbra run`. No state but what argp carries. */
#include "cli/run.h"

#include <errno.h>
#include <string.h>

#include "base/size.h"
#include "cpu/cpu.h"

enum {
    OPT_MMU = 0x100,
    OPT_MMU_OPT,
    OPT_TLB, /* in the order of enum run_model_option */
    OPT_COST,
    OPT_KERNEL,
    OPT_INITRD,
    OPT_APPEND,
    OPT_CPU,
    OPT_FORMAT,
    OPT_FLAT_ADDR,
    OPT_FLAT_BITS,
    OPT_NUMA,
    OPT_HUGEPAGES,
    OPT_SHARED_MEMORY,
    OPT_SEED,
    OPT_CLOCK,
    OPT_BLOCK_LEN,
    OPT_PV,
    OPT_HALT_POLL,
    OPT_MAX_INSNS,
    OPT_TIMEOUT,
    OPT_STATS,
    OPT_SUMMARY,
    OPT_TRACE,
    OPT_TRACE_EVENTS,
    OPT_TRACE_LIMIT,
    OPT_EVENT_DIGEST,
    OPT_DUMP,
    OPT_RAM_DIGEST,
    OPT_DIRTY_LOG, /* in the order of enum run_dirty_option */
    OPT_DIRTY_EVERY,
    OPT_DIRTY_VERIFY,
    OPT_DIRTY_PAGES,
    OPT_HANDOVER,
};

static const struct argp_option options[] = {
    {0, 0, 0, 0, "The MMU:", 1},
    {"mmu", OPT_MMU, "M", 0, "Who translates: shadow (default), tdp or kvm", 1},
    {"mmu-opt", OPT_MMU_OPT, "NAME=VALUE", 0,
     "Set an option of the MMU; may be repeated; 'help' lists them", 1},
    {"tlb", OPT_TLB, "MODEL", 0,
     "shadow, tdp: model TLBs and walk caches beside the MMU: skylake, icelake, zen3, "
     "infinite, none or a JSON file; 'help' lists them",
     1},
    {"cost", OPT_COST, "PROFILE", 0,
     "With --tlb: prices for modelled cycles, kvm (default) or a JSON file", 1},
    {0, 0, 0, 0, "The guest:", 2},
    {"kernel", OPT_KERNEL, "FILE", 0,
     "bzImage, ELF, PVH, Multiboot or flat image; without it the embedded guest runs", 2},
    {"initrd", OPT_INITRD, "FILE", 0, "Initial RAM disk", 2},
    {"append", OPT_APPEND, "STRING", 0, "Kernel command line", 2},
    {"format", OPT_FORMAT, "F", 0,
     "Take the kernel as auto (default), bzimage, elf, pvh, multiboot or flat", 2},
    {"flat-addr", OPT_FLAT_ADDR, "ADDR", 0,
     "Where a flat image is put and entered (default 0x100000)", 2},
    {"flat-bits", OPT_FLAT_BITS, "16|32|64", 0, "Its mode at entry (default 64)", 2},
    {0, 0, 0, 0, "The machine:", 3},
    {"memory", 'm', "SIZE", 0, "Guest memory, e.g. 512M (default) or 8G", 3},
    {"cpus", 'c', "N", 0, "vCPUs (default 1)", 3},
    {"cpu", OPT_CPU, "MODEL[,+F][,-F]", 0,
     "CPU model and features (default x86-64-v3 where the host allows); 'help' lists "
     "them",
     3},
    {"numa", OPT_NUMA, "POLICY", 0, "Guest memory: local, bind=N or interleave=A,B", 3},
    {"hugepages", OPT_HUGEPAGES, "H", 0, "Guest memory: thp (default), 2M, 1G or off", 3},
    {"shared-memory", OPT_SHARED_MEMORY, 0, 0,
     "Guest memory in a memfd that other processes can map", 3},
    {"clock", OPT_CLOCK, "virtual|host", 0,
     "Time is retired instructions (default; repeatable) or the wall clock", 3},
    {"seed", OPT_SEED, "N", 0, "Seed of RDRAND and RDSEED (default 1)", 3},
    {"block-len", OPT_BLOCK_LEN, "N", 0,
     "Translate at most N instructions at once; 1 is the stepping mode", 3},
    {"pv", OPT_PV, "NAME,...|all|none", 0,
     "Paravirtual features in KVM's interface (default: what KVM offers under kvm, else "
     "none); 'help' lists them",
     3},
    {"halt-poll-ns", OPT_HALT_POLL, "N", 0,
     "kvm: poll so long before a halted vCPU sleeps (default the host's own)", 3},
    {0, 0, 0, 0, "Limits (exit code 4):", 4},
    {"max-insns", OPT_MAX_INSNS, "N", 0, "End after N guest instructions", 4},
    {"timeout", OPT_TIMEOUT, "S", 0, "End after S seconds", 4},
    {0, 0, 0, 0, "What is written:", 5},
    {"stats", OPT_STATS, "FILE", 0, "Counters, times and configuration as JSON", 5},
    {"summary", OPT_SUMMARY, 0, 0, "Print what the MMU did to stderr", 5},
    {"trace", OPT_TRACE, "FILE", 0, "Record events; see 'penumbra trace'", 5},
    {"trace-events", OPT_TRACE_EVENTS, "NAME,...", 0,
     "Which events (default all); 'help' lists them", 5},
    {"trace-limit", OPT_TRACE_LIMIT, "SIZE", 0,
     "Stop recording at this file size (default 4G); later events count as lost", 5},
    {"event-digest", OPT_EVENT_DIGEST, 0, 0,
     "Put the digest of the events into --stats, without a trace file", 5},
    {"dump", OPT_DUMP, 0, 0, "Print the registers to stderr at the end", 5},
    {"ram-digest", OPT_RAM_DIGEST, 0, 0,
     "Put the digest of guest memory at the end into --stats", 5},
    {0, 0, 0, 0, "Dirty logging and moving:", 6},
    {"dirty-log", OPT_DIRTY_LOG, "T", 0,
     "Log written pages: wp (shadow); bitmap, clear or ring (kvm); 'help' lists them", 6},
    {"dirty-every", OPT_DIRTY_EVERY, "MS", 0,
     "Harvest every so many milliseconds of guest time, too (else at the guest's marks "
     "and at the end)",
     6},
    {"dirty-verify", OPT_DIRTY_VERIFY, 0, 0,
     "Hash every page around each harvest; a page that changed unlogged is exit code 1",
     6},
    {"dirty-pages", OPT_DIRTY_PAGES, 0, 0,
     "Put the frame numbers of each harvest into --stats", 6},
    {"handover", OPT_HANDOVER, "MMU[@MS]", 0,
     "Go on under another MMU at that guest time, or at the guest's mark; may be "
     "repeated",
     6},
    CLI_HELP_OPTION,
    {0},
};

struct run_parse {
    struct run_options *o;
    bool listed;
};

/* One of a fixed set of words. Return: its index, or -1. */
static int word_index(const char *arg, const char *const *words) {
    for (int i = 0; words[i]; i++)
        if (!strcmp(arg, words[i]))
            return i;
    return -1;
}

static void list_events(void) {
    for (unsigned i = 0; i < PN_EV_COUNT; i++)
        printf("%-18s %-32s %s\n", pn_event_name(i), pn_event_fields(i), pn_event_doc(i));
}

static void list_pv(void) {
    for (unsigned i = 0; pn_pv_name(i); i++)
        printf("%-12s %s\n", pn_pv_name(i), pn_pv_doc(i));
}

static error_t list_and_stop(struct run_parse *p, struct argp_state *state) {
    p->listed = true;
    state->next = state->argc;
    return 0;
}

static error_t bad_number(struct argp_state *state, const char *option, const char *arg,
                          int rc) {
    return cli_bad_arg(state,
                       rc == -ERANGE ? "%s %s: out of range" : "%s %s: not a number",
                       option, arg);
}

static error_t parse_mmu(int key, char *arg, struct argp_state *state,
                         struct run_parse *p) {
    struct run_options *o = p->o;
    if (key == OPT_MMU) {
        static const char *const names[] = {"kvm", "shadow", "tdp", NULL};
        if (word_index(arg, names) < 0)
            return cli_bad_arg(state, "--mmu %s: not one of shadow, tdp, kvm", arg);
        o->mmu = arg;
        o->machine.engine = pn_engine_find(arg);
        if (!o->machine.engine)
            return cli_bad_arg(state, "--mmu %s: this build does not have it", arg);
        return 0;
    }
    if (!strcmp(arg, "help")) {
        pn_mmu_options_print(stdout);
        return list_and_stop(p, state);
    }
    switch (pn_mmu_option_set(&o->machine.mmu, arg)) {
    case 0:
        break;
    case -ENOENT:
        return cli_bad_arg(state, "--mmu-opt %s: no such option ('--mmu-opt help')", arg);
    case -ERANGE:
        return cli_bad_arg(state, "--mmu-opt %s: out of range ('--mmu-opt help')", arg);
    default:
        return cli_bad_arg(state, "--mmu-opt %s: not NAME=VALUE ('--mmu-opt help')", arg);
    }
    if (o->mmu_opts == RUN_MMU_OPTS_MAX)
        return cli_bad_arg(state, "--mmu-opt: more than %u", RUN_MMU_OPTS_MAX);
    o->mmu_opt[o->mmu_opts++] = arg;
    return 0;
}

static error_t parse_guest(int key, char *arg, struct argp_state *state,
                           struct machine_config *m) {
    static const char *const formats[] = {"auto",      "bzimage", "elf", "pvh",
                                          "multiboot", "flat",    NULL};
    static const enum machine_format format[] = {FMT_AUTO, FMT_BZIMAGE,   FMT_ELF,
                                                 FMT_PVH,  FMT_MULTIBOOT, FMT_FLAT};
    uint64_t n = 0;
    int rc = 0;
    switch (key) {
    case OPT_KERNEL:
        m->kernel = arg;
        return 0;
    case OPT_INITRD:
        m->initrd = arg;
        return 0;
    case OPT_APPEND:
        m->append = arg;
        return 0;
    case OPT_FORMAT:
        rc = word_index(arg, formats);
        if (rc < 0)
            return cli_bad_arg(state,
                               "--format %s: not one of auto, bzimage, elf, pvh, "
                               "multiboot, flat",
                               arg);
        m->format = format[rc];
        return 0;
    case OPT_FLAT_ADDR:
        rc = parse_number(arg, 0, UINT64_MAX, &m->flat_addr);
        return rc ? bad_number(state, "--flat-addr", arg, rc) : 0;
    default:
        rc = parse_number(arg, 16, 64, &n);
        if (rc || (n != 16 && n != 32 && n != 64))
            return cli_bad_arg(state, "--flat-bits %s: not 16, 32 or 64", arg);
        m->flat_bits = (unsigned)n;
        return 0;
    }
}

static error_t parse_machine(int key, char *arg, struct argp_state *state,
                             struct run_parse *p) {
    struct machine_config *m = &p->o->machine;
    static const char *const clocks[] = {"virtual", "host", NULL};
    char err[160];
    uint64_t n = 0;
    int rc = 0;
    switch (key) {
    case 'm':
        rc = size_parse(arg, &m->ram);
        if (!rc && m->ram < 1024 * 1024 && m->ram)
            return cli_bad_arg(state,
                               "-m %s: sizes are in bytes unless they end in K, M, "
                               "G or T",
                               arg);
        return rc ? cli_bad_arg(state, "-m %s: not a size such as 512M", arg) : 0;
    case 'c':
        rc = parse_number(arg, 1, TRACE_VCPUS_MAX, &n);
        m->cpus = (unsigned)n;
        return rc ? bad_number(state, "-c", arg, rc) : 0;
    case OPT_CPU:
        if (!strcmp(arg, "help")) {
            cpu_model_print(stdout);
            return list_and_stop(p, state);
        }
        m->cpu_model = arg;
        return 0;
    case OPT_NUMA:
        m->numa = arg;
        return 0;
    case OPT_HUGEPAGES:
        m->hugepages = arg;
        return 0;
    case OPT_SHARED_MEMORY:
        m->shared_ram = true;
        return 0;
    case OPT_CLOCK:
        rc = word_index(arg, clocks);
        m->host_clock = rc == 1;
        return rc < 0 ? cli_bad_arg(state, "--clock %s: not virtual or host", arg) : 0;
    case OPT_SEED:
        rc = parse_number(arg, 0, UINT64_MAX, &m->seed);
        return rc ? bad_number(state, "--seed", arg, rc) : 0;
    case OPT_BLOCK_LEN:
        rc = parse_number(arg, 1, 1024, &n);
        m->max_block = (uint32_t)n;
        return rc ? bad_number(state, "--block-len", arg, rc) : 0;
    case OPT_PV:
        if (!strcmp(arg, "help")) {
            list_pv();
            return list_and_stop(p, state);
        }
        rc = pn_pv_parse(arg, &m->pv, err, sizeof(err));
        return rc ? cli_bad_arg(state, "--pv: %s", err) : 0;
    case OPT_HALT_POLL:
        rc = parse_number(arg, 0, UINT32_MAX, &n);
        m->halt_poll_ns = (int64_t)n;
        return rc ? bad_number(state, "--halt-poll-ns", arg, rc) : 0;
    case OPT_MAX_INSNS:
        rc = parse_number(arg, 1, UINT64_MAX, &m->max_insns);
        return rc ? bad_number(state, "--max-insns", arg, rc) : 0;
    default:
        rc = parse_seconds(arg, &m->timeout_ns);
        return rc ? bad_number(state, "--timeout", arg, rc) : 0;
    }
}

static error_t parse_output(int key, char *arg, struct argp_state *state,
                            struct run_parse *p) {
    struct run_options *o = p->o;
    char err[160];
    uint64_t n = 0;
    int rc = 0;
    switch (key) {
    case OPT_STATS:
        o->stats = arg;
        return 0;
    case OPT_SUMMARY:
        o->summary = true;
        return 0;
    case OPT_TRACE:
        o->trace = arg;
        return 0;
    case OPT_TRACE_EVENTS:
        if (!strcmp(arg, "help")) {
            list_events();
            return list_and_stop(p, state);
        }
        if (trace_event_mask(arg, &o->trace_mask, err, sizeof(err)))
            return cli_bad_arg(state, "--trace-events: %s", err);
        return 0;
    case OPT_TRACE_LIMIT:
        rc = size_parse(arg, &n);
        o->trace_limit = n / sizeof(struct pn_event_rec);
        if (!rc && !o->trace_limit)
            rc = -ERANGE;
        return rc ? bad_number(state, "--trace-limit", arg, rc) : 0;
    case OPT_DUMP:
        o->dump = true;
        return 0;
    case OPT_EVENT_DIGEST:
        o->event_digest = true;
        return 0;
    default:
        o->ram_digest = true;
        return 0;
    }
}

static error_t parse_opt(int key, char *arg, struct argp_state *state) {
    struct run_parse *p = state->input;
    if (key >= OPT_MMU && key <= OPT_MMU_OPT)
        return parse_mmu(key, arg, state, p);
    if (key == OPT_TLB || key == OPT_COST) {
        bool listed = false;
        error_t rc = run_parse_model(p->o, (enum run_model_option)(key - OPT_TLB), arg,
                                     state, &listed);
        return listed ? list_and_stop(p, state) : rc;
    }
    if ((key >= OPT_KERNEL && key <= OPT_APPEND) ||
        (key >= OPT_FORMAT && key <= OPT_FLAT_BITS))
        return parse_guest(key, arg, state, &p->o->machine);
    if (key == 'm' || key == 'c' || key == OPT_CPU ||
        (key >= OPT_NUMA && key <= OPT_TIMEOUT))
        return parse_machine(key, arg, state, p);
    if (key >= OPT_STATS && key <= OPT_RAM_DIGEST)
        return parse_output(key, arg, state, p);
    if (key >= OPT_DIRTY_LOG && key <= OPT_DIRTY_PAGES) {
        bool listed = false;
        error_t rc = run_parse_dirty(p->o, (enum run_dirty_option)(key - OPT_DIRTY_LOG),
                                     arg, state, &listed);
        return listed ? list_and_stop(p, state) : rc;
    }
    if (key == OPT_HANDOVER)
        return run_parse_handover(p->o, arg, state);
    return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
    .options = options,
    .parser = parse_opt,
    .doc = "Boot a guest. Its serial console is this terminal: Ctrl-A x quits, Ctrl-A h "
           "helps.\vExit codes: 0 the guest powered off; 1 host failure; 2 usage; 3 the "
           "guest crashed; 4 a limit ended it; a guest that ends through the debug-exit "
           "port gives (value << 1) | 1.\n\nExample: penumbra run --kernel vmlinuz "
           "--initrd ird.gz --append console=ttyS0 -m 512M",
};

/* What does not go together. */
static int check(struct run_options *o) {
    const struct machine_config *m = &o->machine;
    const char *why = NULL;
    if (!m->kernel && m->initrd)
        why = "--initrd needs --kernel";
    else if (!m->kernel && m->format != FMT_AUTO)
        why = "--format needs --kernel";
    else if (m->halt_poll_ns >= 0 && !m->engine->threaded)
        why = "--halt-poll-ns needs --mmu kvm";
    else if (o->event_digest && !o->stats)
        why = "--event-digest needs --stats";
    else if (o->ram_digest && !o->stats)
        why = "--ram-digest needs --stats";
    else
        why = run_check_track(o);
    if (!why)
        why = run_check_model(o);
    if (why)
        cli_error("%s (see penumbra run --help)", why);
    return why ? CLI_USAGE : CLI_OK;
}

int run_options_parse(struct run_options *o, int argc, char **argv, bool *done) {
    struct run_parse p = {.o = o};
    *o = (struct run_options){
        .mmu = "shadow",
        .trace_mask = TRACE_ALL_EVENTS,
        .trace_limit = ((uint64_t)4 << 30) / sizeof(struct pn_event_rec),
        .machine = {.ram = (uint64_t)512 << 20,
                    .cpus = 1,
                    .flat_addr = 0x100000,
                    .flat_bits = 64,
                    .seed = 1,
                    .pv = PN_PV_DEFAULT,
                    .halt_poll_ns = -1},
    };
    o->machine.engine = pn_engine_find(o->mmu);
    pn_mmu_options_default(&o->machine.mmu);
    int rc = cli_parse(&argp, argc, argv, "penumbra run", &p, done);
    *done = *done || p.listed;
    return rc || *done ? rc : check(o);
}
