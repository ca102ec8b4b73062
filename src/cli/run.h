/* SPDX-License-Identifier: MIT */
/* `penumbra run`: its options, and what its reports need of a finished run. */
#pragma once

#include <limits.h>

#include "base/outfile.h"
#include "cli/cli.h"
#include "machine/snapshot.h"
#include "trace/trace.h"

#define RUN_MMU_OPTS_MAX 32u
#define RUN_EXPLAIN_MAX  64u

#define RUN_ALLOW_MAX   16u
#define RUN_DEVICES_MAX 16384u /* bytes */
/* What penumbra image puts beside a disk. */
struct run_beside {
    char kernel[PATH_MAX], initrd[PATH_MAX], append[2048];
};

struct run_options {
    unsigned mmu; /* in the list of engines */
    const char *tlb_name, *cost_name;
    unsigned flat_mode;                    /* 16 << this: machine.flat_bits */
    const char *mmu_opt[RUN_MMU_OPTS_MAX]; /* as given */
    unsigned mmu_opts;
    const char *stats, *trace, *record;
    struct trace_writer *writer; /* of --trace, once it is open */
    uint64_t trace_mask;         /* which events */
    uint64_t trace_limit;        /* bytes */
    bool dump_config;
    bool event_digest, ram_digest, summary, dump, audit, quiet, trace_tasks;
    const char *gdb;              /* where it may come: a port or a path; NULL: nowhere */
    bool stopped;                 /* before the first instruction */
    unsigned checkpoints;         /* for gdb; 0: it cannot go back */
    uint64_t checkpoint_distance; /* instructions */
    const char *monitor;          /* a socket's path; NULL: none */
    const char *restore;          /* a snapshot's folder; NULL: none */
    const char *record_set;       /* of --record-working-set; NULL: none */
    struct snapshot *snapshot;    /* it, open: the machine's texts are in it */
    const char *incoming, *tls;   /* where a guest comes in, and its certificates; NULL */
    uint64_t stall_ns;            /* so long may who sends it be silent */
    struct migrate_in *in;        /* who has come; NULL: nobody was waited for */
    unsigned sandbox;             /* RUN_SANDBOX_... */
    const char *allow_dir[RUN_ALLOW_MAX]; /* for files that the monitor is to name */
    unsigned allow_dirs;
    json_t *about; /* for the manifests of snapshots of this run */
    pn_gva explain[RUN_EXPLAIN_MAX];
    unsigned explains;
    uint64_t explain_faults; /* so many, in words; 0: none */
    const char *dump_mmu, *explain_svg, *firmware_log;
    const char *profile, *perf_map; /* NULL: none */
    unsigned profile_rate;          /* samples per second */
    struct cli_model model;
    char devices[RUN_DEVICES_MAX]; /* machine.devices */
    struct run_beside beside;
    struct machine_config machine;
};

/* Fill *o from the command line (run_options.c). Return: CLI_OK, or CLI_USAGE after one
 * line on stderr; *done is set when the command line only asked for help or a list. */
int run_options_parse(struct run_options *o, int argc, char **argv, bool *done);

/* Every file that an option names: 'r'ead or 'w'ritten. */
void run_options_files(const struct run_options *o,
                       void (*each)(void *opaque, char file, const char *name),
                       void *opaque);

/* run_sandbox.c: --sandbox, in the order of the words. */
enum { RUN_SANDBOX_ON, RUN_SANDBOX_OFF, RUN_SANDBOX_LOG };
#define RUN_SANDBOX_WORDS "on|off|log"
/* Sanitizers do at the end of a process what the sandbox refuses. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RUN_SANDBOX_DEFAULT RUN_SANDBOX_OFF
#else
#define RUN_SANDBOX_DEFAULT RUN_SANDBOX_ON
#endif
#define RUN_INHERITED_MAX 256u
/* Descriptors that were open before anything of this run's was. */
struct run_inherited {
    int fd[RUN_INHERITED_MAX];
    unsigned n;
};
/* Before the first thread: results are open, sockets are there. story: the trace of
 * --explain-faults, or "". Return: CLI_OK, or CLI_HOST after a line. */
int run_sandbox_files(const struct run_options *o, const char *story);
/* The machine is made: nothing else is needed than to run it. */
int run_sandbox_calls(const struct run_options *o, const struct run_inherited *inherited);

/* run_track.c. "dirty_log" and "handovers" as --stats writes them, where there were any.
 */
json_t *run_track_json(const struct run_options *o, struct machine *m);
/* One line for each handover to a hypervisor: which MMU it used; and one where the guest
 * ended before as many as were asked for. */
void run_say_switches(const struct run_options *o, struct machine *m, unsigned handovers);
void run_print_track(const json_t *track, FILE *out);
/* Did the oracle find a page that was not logged? One line. Return: CLI_OK or CLI_MISSED. */
int run_check_dirty(struct machine *m);

/* run_inspect.c: --explain, --explain-svg and --dump-mmu, of vCPU 0, and --audit, once the machine
 * has ended. The files are open. Return: CLI_OK, CLI_HOST or CLI_DIFFERS. */
int run_inspect(const struct run_options *o, struct machine *m, struct outfile *dump,
                struct outfile *drawing);

/* faults_narrate.c: --explain-faults goes through a trace of its own, in a folder in TMPDIR:
 * `path` is its file, "" where there is none. Begin before the trace is opened, tell once it is
 * closed. Return: CLI_OK, or the exit code after a line. */
#define RUN_FAULTS_BYTES ((uint64_t)256 << 20) /* of the file; more faults are not told */
int run_faults_begin(struct run_options *o, char path[PATH_MAX]);
int run_faults_tell(const struct run_options *o, FILE *out);
void run_faults_end(char path[PATH_MAX]);

/* run_profile.c: --profile and --perf-map. Create once there is a machine, begin before it runs, end
 * when it has; write while it is there. */
struct run_profile;
int run_profile_open(const struct run_options *o, struct run_profile **out);
int run_profile_create(struct run_profile *p, struct machine *m);
int run_profile_begin(struct run_profile *p);
void run_profile_end(struct run_profile *p);
/* *report: "profile" as --stats writes it, or NULL. Return: CLI_OK or CLI_HOST after a line. */
int run_profile_write(struct run_profile *p, struct machine *m, json_t **report);
void run_profile_close(
    struct run_profile *p); /* before the machine. NULL: nothing, as for all */

#define RUN_SHADOW 1u
#define RUN_TDP    2u

/* A panic of the guest's kernel on its console (panic.c). */
struct panic_watch {
    char line[96]; /* its beginning, not yet ended */
    unsigned used;
    bool seen, ended; /* ended: nothing comes any more */
};
/* What the guest prints. Return: whether its kernel has just stopped. */
bool panic_watch(struct panic_watch *w, const uint8_t *buf, size_t size);

/* How a run went. */
struct run_report {
    const struct run_options *options;
    json_t *command; /* as it was typed */
    struct machine_result result;
    int code; /* the process's exit code */
    struct pn_stats total;
    struct trace_end events;
    bool has_events, has_ram_digest;
    uint64_t ram_digest;
    json_t *disks;               /* with it: what is on each, or NULL: there are none */
    char mmu_detail[256];        /* which MMU it was, in the engine's words */
    json_t *foreign;             /* the hypervisor's own counters by group, or NULL */
    json_t *track;               /* run_track_json */
    json_t *profile;             /* of --profile, or NULL */
    bool counted[PN_STAT_COUNT]; /* by some engine that ran it */
    unsigned mmus;               /* of ours that ran it: RUN_SHADOW, RUN_TDP */
    bool uncounted_insns;        /* some engine that ran it does not count instructions */
};

/* "poweroff", "triple-fault"...: the reason as --stats writes it. */
const char *run_end_name(enum machine_end end);
/* The whole result as JSON (run_report.c). Return: a new reference, or NULL. */
json_t *run_report_json(const struct run_report *r);
/* run_model.c: "model" as --stats writes it, or NULL: there was none; and as a table. */
json_t *run_model_json(const struct run_report *r);
void run_print_model(const struct run_report *r, FILE *out);
/* --summary: what the MMU did, as a table. */
void run_report_print(const struct run_report *r, FILE *out);
