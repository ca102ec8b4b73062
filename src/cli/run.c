/* SPDX-License-Identifier: MIT */
/*
 * `penumbra run`: make a machine, run it, report.
 *
 * Order: everything that can fail for a bad command line fails before the console goes
 * raw; result files are opened before the run and renamed after it.
 */
#include "cli/run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "bench/guest/guest.h"
#include "cli/console.h"
#include "cli/run_attend.h"
#include "cli/sandbox.h"
#include "inspect/json_out.h"
#include "inspect/recording.h"
#include "inspect/task_watch.h"
#include "machine/migrate.h"

/* The one machine of this process: signal handlers reach it here. */
static struct machine *volatile running;

static void quit(void) {
    struct machine *m = running;
    if (m)
        machine_quit(m);
}

struct run {
    struct run_options options;
    struct run_report report;
    struct machine *machine;
    struct trace_writer *trace;
    char story[PATH_MAX]; /* the trace's file of --explain-faults; "": none */
    struct recording_writer *recording; /* NULL: no --record */
    struct outfile stats, dump_mmu, drawing, set, log;
    FILE *log_out; /* of --firmware-log; NULL: none */
    struct panic_watch panic;
    struct task_watch *watch;    /* NULL: no --trace-tasks */
    struct run_profile *profile; /* NULL: no --profile, no --perf-map */
    struct run_attend *attend;   /* NULL: the guest stands for nobody */
    bool doubtful;               /* machine_doubt() said something */
    bool to_stdout;              /* a result goes there: the console goes to stderr */
};

const char *run_end_name(enum machine_end end) {
    static const char *const names[] = {
#define PN_END(name, word) word,
#include "penumbra/reasons.inc"
    };
    return names[end];
}

static void guest_out(void *opaque, const uint8_t *buf, size_t size) {
    struct run *r = opaque;
    console_out(NULL, buf, size);
    if (!r->options.machine.panic_stays && panic_watch(&r->panic, buf, size))
        quit();
}

/* The file that the guest's memory is mapped from was cut, or its disk failed: there is nothing to
 * go on with. */
static void on_bus_error(int sig, siginfo_t *info, void *context) {
    static const char line[] =
        "penumbra: the guest is stopped: the snapshot that its memory is mapped from "
        "cannot be read any more\n";
    if (info->si_code != BUS_ADRERR && info->si_code != BUS_OBJERR) {
        signal(sig, SIG_DFL); /* it happens again, and ends the process */
        return;
    }
    console_close();
    (void)!write(STDERR_FILENO, line, sizeof(line) - 1);
    _exit(CLI_DAMAGED);
}

/* Before there is an engine, which passes on what is not the guest's. */
static void watch_file(void) {
    struct sigaction sa = {.sa_sigaction = on_bus_error,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGBUS, &sa, NULL);
}

static bool asked(void *opaque) {
    return run_attend_asked(((struct run *)opaque)->attend);
}

static void idle(void *opaque, uint64_t ns, struct pollfd *also, unsigned count) {
    run_attend_idle(((struct run *)opaque)->attend, ns, also, count);
}

/* How a guest that panicked ended is how its kernel takes a panic. */
static void note_panic(struct run *r) {
    enum machine_end *end = &r->report.result.end;
    bool by_user = console_signal() || console_out_error();
    if (r->panic.ended ? *end == END_QUIT && !by_user
                       : r->panic.seen && *end == END_RESET)
        *end = END_PANIC;
}

/* The exit code of a run, and its line on stderr where something is to be said. */
static int conclude(const struct run *r) {
    const struct machine_result *res = &r->report.result;
    switch (res->end) {
    case END_POWEROFF:
        return CLI_OK;
    case END_RESET:
        if (!r->options.quiet)
            cli_error("the guest asked for a reset; the run ends here");
        return CLI_OK;
    case END_DEBUG_EXIT:
        return (int)(res->code & 0xff);
    case END_SHUTDOWN:
        cli_error("the guest crashed: triple fault");
        return CLI_CRASH;
    case END_DEADLOCK:
        cli_error("the guest crashed: halted, and nothing can wake it");
        return CLI_CRASH;
    case END_MAX_INSNS:
        cli_error("--max-insns reached after %llu instructions",
                  (unsigned long long)res->guest_insns);
        return CLI_LIMIT;
    case END_TIMEOUT:
        cli_error("--timeout reached after %g s",
                  (double)r->options.machine.timeout_ns / 1e9);
        return CLI_LIMIT;
    case END_QUIT:
        if (console_out_error())
            return cli_error("the console's output failed: %s",
                             strerror(console_out_error()));
        return console_signal() ? 128 + console_signal() : CLI_OK;
    case END_PANIC:
        return cli_error("the guest's kernel panicked"), CLI_CRASH;
    case END_MIGRATED:
        return CLI_OK;
    case END_ERROR:
        break;
    }
    return cli_error("the run failed");
}

static void firmware_out(void *opaque, uint8_t byte) {
    putc(byte, ((struct run *)opaque)->log_out);
}

static int open_log(struct run *r) {
    struct run_options *o = &r->options;
    int rc = o->firmware_log ? outfile_open(&r->log, o->firmware_log) : 0;
    if (!rc && o->firmware_log && !(r->log_out = outfile_stream(r->log.fd)))
        rc = -errno;
    if (r->log_out)
        o->machine.firmware_out = firmware_out;
    return rc ? cli_cannot_write(o->firmware_log, rc) : CLI_OK;
}

static int write_log(struct run *r) {
    int rc = r->log_out ? outfile_close_stream(r->log_out) : 0;
    if (!rc && r->log_out)
        rc = outfile_commit(&r->log);
    r->log_out = NULL;
    return rc ? cli_cannot_write(r->options.firmware_log, rc) : CLI_OK;
}

static int open_outputs(struct run *r) {
    struct run_options *o = &r->options;
    char err[256];
    r->to_stdout = (o->stats && outfile_is_stdout(o->stats)) ||
                   (o->trace && outfile_is_stdout(o->trace)) ||
                   (o->record && outfile_is_stdout(o->record)) ||
                   (o->dump_mmu && outfile_is_stdout(o->dump_mmu)) ||
                   (o->explain_svg && outfile_is_stdout(o->explain_svg)) ||
                   (o->firmware_log && outfile_is_stdout(o->firmware_log)) ||
                   (o->profile && outfile_is_stdout(o->profile));
    if (o->stats) {
        int rc = outfile_open(&r->stats, o->stats);
        if (rc)
            return cli_cannot_write(o->stats, rc);
    }
    if (o->dump_mmu) {
        int rc = outfile_open(&r->dump_mmu, o->dump_mmu);
        if (rc)
            return cli_cannot_write(o->dump_mmu, rc);
    }
    if (o->explain_svg) {
        int rc = outfile_open(&r->drawing, o->explain_svg);
        if (rc)
            return cli_cannot_write(o->explain_svg, rc);
    }
    if (o->record_set) {
        int rc = outfile_open(&r->set, o->record_set);
        if (rc)
            return cli_cannot_write(o->record_set, rc);
        o->machine.record_set = true;
        o->machine.record_set_fd = r->set.fd;
    }
    if (o->record) {
        struct err e = {err, sizeof(err)};
        if (recording_open(o->record, &r->recording, &e))
            return cli_error("%s", err);
        o->machine.recorder = recording_recorder(r->recording);
    }
    if (o->explain_faults && run_faults_begin(o, r->story))
        return CLI_HOST;
    int rc = open_log(r);
    return rc ? rc : run_profile_open(o, &r->profile);
}

static int open_trace(struct run *r) {
    struct run_options *o = &r->options;
    char err[256];
    if (!o->trace && !o->event_digest)
        return CLI_OK;
    const struct trace_config cfg = {
        .path = o->trace,
        .vcpus = o->machine.cpus,
        .mask = o->trace_mask,
        .limit = o->trace ? o->trace_limit : 0,
    };
    if (trace_open(&cfg, &r->trace, err, sizeof(err)))
        return cli_error("%s", err);
    o->machine.rings = trace_rings(r->trace);
    o->writer = o->trace ? r->trace : NULL;
    return CLI_OK;
}

static void abandon_outputs(struct run *r) {
    outfile_abandon(&r->stats);
    outfile_abandon(&r->dump_mmu);
    outfile_abandon(&r->drawing);
    outfile_abandon(&r->set);
    if (r->log_out)
        fclose(r->log_out);
    outfile_abandon(&r->log);
}

static uint64_t time_of(void *machine) {
    return machine_time(machine);
}

static int create_machine(struct run *r) {
    struct machine_config *m = &r->options.machine;
    char err[256] = "";
    if (r->options.in) {
        struct err e = {err, sizeof(err)};
        int rc = migrate_in_receive(r->options.in, m, &e);
        if (rc)
            return cli_error("%s", err), cli_snapshot_code(rc);
    }
    if (!m->kernel && !m->firmware && !m->restore) {
        m->kernel_blob = pn_guest_elf;
        m->kernel_blob_size = (size_t)(pn_guest_elf_end - pn_guest_elf);
        m->window = true;
    }
    m->serial_out = guest_out;
    m->opaque = r;
    m->serial_in = console_has_input() ? console_in : NULL;
    m->attend = r->attend ? asked : NULL;
    m->idle = r->attend ? idle : console_idle;
    m->interactive = isatty(STDIN_FILENO);
    if (m->restore_memory == RESTORE_MAP)
        watch_file();
    int rc = machine_create(m, &r->machine, err, sizeof(err));
    if (!rc && r->recording)
        recording_clock(r->recording, time_of, r->machine);
    if (!rc && r->trace &&
        trace_begin(r->trace, machine_kernel_moved(r->machine), err, sizeof(err)))
        return cli_error("%s", err);
    if (!rc && r->options.trace_tasks) {
        struct err e = {err, sizeof(err)};
        rc = task_watch_create(r->machine, m->kernel, m->rings, &r->watch, &e);
    }
    if (!rc)
        return run_profile_create(r->profile, r->machine);
    migrate_in_refuse(r->options.in, *err ? err : strerror(-rc));
    cli_error("%s", *err ? err : strerror(-rc));
    return cli_snapshot_code(rc);
}

/* A guest that came from elsewhere is ours now. */
static int take_over(struct run *r) {
    char err[256] = "";
    struct err e = {err, sizeof(err)};
    int rc = r->options.in ? migrate_in_begin(r->options.in, r->machine, &e) : 0;
    return rc ? cli_error("%s", err), cli_snapshot_code(rc) : CLI_OK;
}

/* A guest that will hardly come up runs within a limit that somebody set, or not at all:
 * it would say nothing for many minutes. */
static int doubt(struct run *r) {
    const char *why = machine_doubt(r->machine);
    r->doubtful = why != NULL;
    if (!why)
        return CLI_OK;
    if (r->options.machine.timeout_ns) {
        cli_error("warning: Linux does not boot here: %s", why);
        return CLI_OK;
    }
    return cli_error(
        "Linux does not boot here: %s; use --mmu shadow or tdp (--timeout S: try it "
        "all the same)",
        why);
}

static void add_emulated(void *opaque, const char *group, const char *name,
                         const uint64_t *value, unsigned count) {
    (void)group;
    if (count == 1 && !strcmp(name, "insn_emulation"))
        *(uint64_t *)opaque += *value;
}

/* How far such a guest came. */
static void say_emulated(struct run *r) {
    const struct pn_engine_ops *ops;
    struct pn_engine *e;
    uint64_t n = 0, ns = r->report.result.host_ns;
    for (unsigned i = 0; (e = machine_engine_at(r->machine, i, &ops)); i++)
        if (ops->foreign_stats)
            ops->foreign_stats(e, add_emulated, &n);
    cli_error("KVM emulated %.1f million instructions of its kernel, %.1f million a "
              "second",
              (double)n / 1e6, ns ? (double)n * 1e3 / (double)ns : 0.0);
}

/* Boot, and stay until the guest ends. */
static int run_machine(struct run *r) {
    char err[256] = "";
    struct run_report *rep = &r->report;
    const struct pn_engine_ops *ops = machine_ops(r->machine);
    ops->describe(machine_engine(r->machine), rep->mmu_detail, sizeof(rep->mmu_detail));
    if (ops->host_cpu && !r->options.quiet) /* say which MMU the host's hypervisor uses */
        cli_error("--mmu %s: %s", ops->name, rep->mmu_detail);
    const char *untraced = r->trace && ops->trace_problem
                               ? ops->trace_problem(machine_engine(r->machine))
                               : NULL;
    if (untraced)
        cli_error("no events of KVM's: %s; accesses to our devices are recorded alone",
                  untraced);
    if (run_profile_begin(r->profile))
        return CLI_HOST;
    running = r->machine;
    console_open(quit, r->to_stdout ? STDERR_FILENO : STDOUT_FILENO);
    int rc = r->attend
                 ? run_attend_go(r->attend, r->machine, &rep->result, err, sizeof(err))
                 : machine_run(r->machine, &rep->result, err, sizeof(err));
    run_profile_end(r->profile);
    console_close();
    running = NULL;
    run_say_switches(&r->options, r->machine, rc ? 0 : r->options.machine.handovers);
    if (rc) {
        r->report.result.end = END_ERROR;
        cli_error("%s", *err ? err : strerror(-rc));
        machine_dump(r->machine, stderr);
        return CLI_HOST;
    }
    note_panic(r);
    int code = conclude(r);
    if (r->doubtful)
        say_emulated(r);
    int missed = run_check_dirty(r->machine);
    if (missed)
        code = missed;
    enum machine_end end = r->report.result.end;
    if (end == END_SHUTDOWN || end == END_DEADLOCK || r->options.dump)
        machine_dump(r->machine, stderr);
    return code;
}

/* One counter of the hypervisor's: into the group's object, made when first seen. */
static void add_foreign(void *opaque, const char *group, const char *name,
                        const uint64_t *value, unsigned count) {
    json_t **all = opaque;
    if (!*all)
        *all = json_object();
    json_t *one = json_object_get(*all, group);
    if (!one) {
        one = json_object();
        json_object_set_new(*all, group, one);
    }
    json_t *number = count == 1 ? json_integer((json_int_t)*value) : json_array();
    for (unsigned i = 0; count != 1 && i < count; i++)
        json_array_append_new(number, json_integer((json_int_t)value[i]));
    json_object_set_new(one, name, number);
}

/* What one of the engines that ran it counted. Of several hypervisors the later ones'
 * groups have a number. */
static void add_engine_stats(struct run_report *rep, const struct pn_engine_ops *ops,
                             struct pn_engine *e, unsigned cpus) {
    if (!ops->foreign_stats)
        rep->mmus |= strcmp(ops->name, "tdp") ? RUN_SHADOW : RUN_TDP;
    rep->uncounted_insns |= !ops->insns;
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        rep->counted[i] |=
            (!ops->counts || ops->counts(i)) &&
            (rep->options->machine.tlb || pn_stat_kind(i) != PN_STAT_KIND_MODEL);
    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        const struct pn_stats *s = ops->stats(e, cpu);
        for (unsigned i = 0; i < PN_STAT_COUNT; i++)
            rep->total.v[i] += s->v[i];
        for (unsigned i = 0; i < PN_WALK_HIST; i++)
            rep->total.walk_hist[i] += s->walk_hist[i];
    }
    if (!ops->foreign_stats)
        return;
    json_t *groups = NULL, *one;
    const char *name;
    char numbered[64];
    ops->foreign_stats(e, add_foreign, &groups);
    if (!rep->foreign)
        rep->foreign = json_object();
    json_object_foreach(groups, name, one) {
        snprintf(numbered, sizeof(numbered), "%s", name);
        for (unsigned n = 2; json_object_get(rep->foreign, numbered); n++)
            snprintf(numbered, sizeof(numbered), "%s.%u", name, n);
        json_object_set(rep->foreign, numbered, one);
    }
    json_decref(groups);
}

static void add_stats(struct run *r) {
    const struct pn_engine_ops *ops;
    struct pn_engine *e;
    for (unsigned i = 0; (e = machine_engine_at(r->machine, i, &ops)); i++)
        add_engine_stats(&r->report, ops, e, r->options.machine.cpus);
    r->report.track = run_track_json(&r->options, r->machine);
}

static int write_stats(struct run *r) {
    json_t *json = run_report_json(&r->report);
    int rc = json_out(json, r->stats.fd, 2);
    json_decref(json);
    if (!rc)
        rc = outfile_commit(&r->stats);
    if (rc)
        return cli_cannot_write(r->options.stats, rc);
    return CLI_OK;
}

/* What is on each disk; NULL: there are none. */
static json_t *disks_json(const struct machine *m) {
    json_t *disks = machine_disks(m) ? json_array() : NULL;
    for (unsigned i = 0; i < machine_disks(m); i++) {
        uint64_t digest;
        json_t *hex = machine_disk_digest(m, i, &digest)
                          ? json_null()
                          : json_sprintf("%016" PRIx64, digest);
        json_array_append_new(disks, json_pack("{s:s, s:o}", "file",
                                               machine_disk_path(m, i), "digest", hex));
    }
    return disks;
}

/* Return: CLI_OK or CLI_HOST. */
static int write_set(struct run *r) {
    char err[256] = "";
    struct err e = {err, sizeof(err)};
    if (!r->options.record_set)
        return CLI_OK;
    if (machine_end_set(r->machine, &e))
        return cli_error("%s", err);
    int rc = outfile_commit(&r->set);
    return rc ? cli_cannot_write(r->options.record_set, rc) : CLI_OK;
}

/* Everything that is written after the run. Return: CLI_OK or CLI_HOST. */
static int report(struct run *r) {
    char err[256];
    int code = write_set(r);
    if (write_log(r))
        code = CLI_HOST;
    add_stats(r);
    if (r->recording)
        recording_stop(r->recording, &r->report.total);
    if (r->options.ram_digest) {
        r->report.has_ram_digest = true;
        r->report.ram_digest = machine_ram_digest(r->machine);
        r->report.disks = disks_json(r->machine);
    }
    int inspected = run_inspect(&r->options, r->machine, &r->dump_mmu, &r->drawing);
    code = inspected ? inspected : code;
    if (run_profile_write(r->profile, r->machine, &r->report.profile))
        code = CLI_HOST;
    run_profile_close(r->profile);
    r->profile = NULL;
    /* The machine writes into the trace's rings: it goes first. */
    task_watch_destroy(r->watch);
    r->watch = NULL;
    machine_destroy(r->machine);
    r->machine = NULL;
    if (r->trace) {
        r->report.has_events = true;
        if (trace_close(r->trace, &r->report.events, err, sizeof(err)))
            code = cli_error("%s", err);
        else if (r->options.explain_faults)
            code = run_faults_tell(&r->options, stderr);
        else if (r->report.events.lost)
            cli_error("%llu events were lost (see --trace-limit)",
                      (unsigned long long)r->report.events.lost);
        r->trace = NULL;
    }
    if (r->recording) {
        struct err e = {err, sizeof(err)};
        if (recording_close(r->recording, &e))
            code = cli_error("%s", err);
        r->recording = NULL;
    }
    if (r->options.stats && write_stats(r))
        code = CLI_HOST;
    if (r->options.summary)
        run_report_print(&r->report, stderr);
    return code;
}

/* All that the guest needs is there when this returns, and nothing else can be had any more. */
static int set_up(struct run *r, const struct run_inherited *inherited) {
    int code = open_outputs(r);
    if (!code)
        code = open_trace(r);
    if (!code)
        code = run_attend_open(&r->options, &r->attend);
    if (!code)
        code = run_sandbox_files(&r->options, r->story);
    if (!code)
        code = create_machine(r);
    if (!code)
        code = doubt(r);
    if (!code)
        code = take_over(r);
    return code ? code : run_sandbox_calls(&r->options, inherited);
}

int cmd_run(int argc, char **argv) {
    struct run r = {.stats = {.fd = -1},
                    .dump_mmu = {.fd = -1},
                    .drawing = {.fd = -1},
                    .set = {.fd = -1},
                    .log = {.fd = -1}};
    struct run_inherited inherited;
    bool done;
    inherited.n = sandbox_fds_inherited(inherited.fd, RUN_INHERITED_MAX);
    int code = run_options_parse(&r.options, argc, argv, &done);
    if (code || done) {
        snapshot_close(r.options.snapshot);
        migrate_in_refuse(r.options.in, "its command line does not do");
        migrate_in_close(r.options.in);
        return code;
    }
    r.report.options = &r.options;
    r.report.command = cli_command(argc, argv);
    r.options.about =
        json_pack("{s:s, s:O}", "version", PENUMBRA_VERSION, "command", r.report.command);
    code = set_up(&r, &inherited);
    if (!code) {
        code = r.report.code = run_machine(&r);
        if (r.attend)
            run_attend_ended(r.attend, code);
        migrate_in_finish(r.options.in);
        int failed = report(&r);
        if (failed)
            code = failed;
    }
    run_profile_close(r.profile);
    task_watch_destroy(r.watch);
    if (r.machine)
        machine_destroy(r.machine);
    run_attend_close(r.attend);
    snapshot_close(r.options.snapshot);
    if (code)
        migrate_in_refuse(r.options.in, "it could not take the guest");
    migrate_in_close(r.options.in);
    json_decref(r.options.about);
    json_decref(r.report.command);
    json_decref(r.report.foreign);
    json_decref(r.report.track);
    json_decref(r.report.profile);
    trace_abandon(r.trace);
    run_faults_end(r.story);
    recording_abandon(r.recording);
    abandon_outputs(&r);
    if (console_signal() && code == 128 + console_signal()) {
        /* Die of the signal, now that all is put away: what started us can tell. */
        signal(console_signal(), SIG_DFL);
        raise(console_signal());
    }
    return code;
}
