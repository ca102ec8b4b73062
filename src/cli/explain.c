/* SPDX-License-Identifier: MIT */
/* `penumbra explain`: addresses of a guest that does not run, from a recording (its MMU as it was
 * after so many operations) or from a snapshot, under each MMU of ours. */
#include "inspect/explain.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/outfile.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "cli/trace_input.h"
#include "inspect/json_out.h"
#include "inspect/replay.h"
#include "machine/snapshot.h"

#define GVAS_MAX 16u

struct options {
    const char *path, *json, *svg;
    const struct pn_engine_ops *mmu; /* NULL: each */
    pn_gva gva[GVAS_MAX];
    unsigned gvas, cpu;
    uint64_t at, time;
};

static int set_path(void *options, const char *arg, struct err *e) {
    return option_only(&((struct options *)options)->path, arg, e);
}

static int set_gva(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    if (o->gvas == GVAS_MAX)
        return err_set(e, -EINVAL, "more than %u addresses", GVAS_MAX);
    if (number_parse(arg, 0, UINT64_MAX, &o->gva[o->gvas]))
        return err_set(e, -EINVAL, "'%s' is not an address", arg);
    o->gvas++;
    return 0;
}

static int set_time(void *options, const char *arg, struct err *e) {
    return parse_trace_time(arg, &((struct options *)options)->time, e);
}

static int set_mmu(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    int rc = cli_engine(arg, strlen(arg), &o->mmu, e);
    return rc || !o->mmu->host_cpu
               ? rc
               : err_set(e, -EINVAL, "'%s' is not an MMU of ours", arg);
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row rows[] = {
    {"gva", 0, "GVA", "This address; may be repeated", .kind = OPTION_CALL,
     .set = set_gva},
    {"mmu", 0, "M", "Under this MMU alone (default: under each)", .kind = OPTION_CALL,
     .set = set_mmu},
    {"cpu", 0, "N", "Of this vCPU (default 0)", .kind = OPTION_NUMBER, OWN(cpu),
     .max = RECORDING_VCPUS - 1},
    {"at", 0, "N",
     "Of a recording: after so many operations, as 'penumbra replay' counts them "
     "(default: at its end)",
     .kind = OPTION_NUMBER, OWN(at), .min = 1, .max = UINT64_MAX - 1},
    {"time", 0, "TIME",
     "Of a recording: before the first operation behind this time, as 'penumbra trace' "
     "and 'penumbra faults' have it; a recording tells times to a microsecond",
     .kind = OPTION_CALL, .set = set_time},
    {"json", 0, "FILE", "As JSON, an array; see bench/FORMATS.md", .kind = OPTION_TEXT,
     OWN(json), .min = 1, .file = 'w'},
    {"svg", 0, "FILE", "Draw the walks of the first address under the first MMU",
     .kind = OPTION_TEXT, OWN(svg), .min = 1, .file = 'w'},
};

static const struct options defaults = {.at = UINT64_MAX, .time = UINT64_MAX};

static const struct option_command command = {
    .name = "penumbra explain",
    .args = "FILE|DIR --gva GVA",
    .doc = "What becomes of an access to an address: the guest's walk, the memslot, the "
           "MMU's own tables and TLB, what each access would come to and why, and what a "
           "walk costs. FILE is of 'penumbra run --record', and the state is rebuilt by "
           "replay, into the recorded MMU as it was and into the other one with its "
           "default options. DIR is a snapshot; MMUs begin there with empty tables. "
           "Of a guest that runs: the monitor's explain; of the end of a run, wherever "
           "--max-insns ends it: run --explain.",
    .more = "Exit codes: 0 explained; 1 a file cannot be read or written; 2 usage, or no "
            "recording or snapshot; 7 it is damaged or incomplete.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = set_path,
};

struct work {
    const struct options *o;
    const struct pn_engine_ops *ops;
    json_t *answers;              /* NULL: none are wanted */
    struct outfile json, drawing; /* fd -1: none */
    bool drawn;
    FILE *out;
};

/* Return: 0; -EINVAL: there is no such vCPU; -ENOMEM. */
static int see(void *opaque, struct pn_mmu_vcpu *vcpu) {
    struct work *w = opaque;
    const struct view v = {.vcpu = vcpu, .ops = w->ops, .cpu = w->o->cpu};
    if (!vcpu)
        return -EINVAL;
    for (unsigned i = 0; i < w->o->gvas; i++) {
        if (explain_print(&v, w->o->gva[i], w->out))
            return -ENOMEM;
        json_t *j = w->answers ? explain_json(&v, w->o->gva[i]) : NULL;
        if (w->answers && (!j || json_object_set_new(j, "region", json_null()) ||
                           json_array_append_new(w->answers, j)))
            return -ENOMEM;
    }
    int rc = w->drawn || w->drawing.fd < 0
                 ? 0
                 : explain_svg_file(&v, w->o->gva[0], w->drawing.fd);
    w->drawn = true;
    return rc;
}

/* Return: an exit code, after a line. */
static int failed(const struct work *w, int rc, const char *line, int bad) {
    if (*line)
        cli_error("%s: %s", w->o->path, line);
    else if (rc == -EINVAL)
        return option_error(&command,
                            "--cpu %u: %s has no such vCPU, or it has not begun there",
                            w->o->cpu, w->o->path);
    else
        cli_error("%s: %s", w->o->path, strerror(-rc));
    return bad;
}

static int recorded(struct work *w) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    const struct replay_look look = {w->o->at, w->o->time, w->o->cpu, see, w};
    struct recording *r;
    int rc = recording_file_open(w->o->path, &r, &e);
    if (rc) {
        cli_error("%s", text);
        return rc == -EINVAL ? CLI_USAGE : rc == -EBADMSG ? CLI_DAMAGED : CLI_HOST;
    }
    struct pn_mmu_config cfg = *recording_config(r);
    enum pn_mmu_kind kind = strcmp(w->ops->name, "tdp") ? PN_MMU_SHADOW : PN_MMU_TDP;
    if (kind != cfg.kind) {
        cfg.kind = kind;
        pn_mmu_options_default(&cfg.opt);
    }
    if (!w->ops->has_tracker(cfg.tracker))
        cfg.tracker = PN_TRACKER_WP;
    rc = replay_look(r, &cfg, REPLAY_MEMORY_MAX, &look, &e);
    enum recording_state state = recording_state(r);
    bool stopped;
    uint64_t ops = recording_ops(r), last = recording_time(r, &stopped);
    recording_free(r);
    if (state == RECORDING_INCOMPLETE || state == RECORDING_DAMAGED) {
        cli_error("%s: %s, behind %" PRIu64 " operations", w->o->path,
                  state == RECORDING_DAMAGED ? "damaged" : "incomplete", ops);
        return CLI_DAMAGED;
    }
    if (rc)
        return failed(w, rc, text, rc == -EBADMSG ? CLI_DAMAGED : CLI_HOST);
    if (w->o->at != UINT64_MAX && ops < w->o->at)
        return option_error(&command, "--at: %s has %" PRIu64 " operations", w->o->path,
                            ops);
    if (w->o->time != UINT64_MAX && !stopped)
        return option_error(&command, "--time: %s ends soon after %" PRIu64 " ns",
                            w->o->path, last);
    return CLI_OK;
}

static int explain_machine(struct work *w, struct machine *m) {
    char text[160] = "";
    struct err e = {text, sizeof(text)};
    struct view v;
    if (w->o->cpu >= machine_cpus(m))
        return failed(w, -EINVAL, "", CLI_USAGE);
    int rc = view_open(&v, m, w->o->cpu, &e);
    if (rc)
        return failed(w, rc, text, CLI_HOST);
    rc = see(w, v.vcpu);
    view_close(&v);
    return rc ? failed(w, rc, "", CLI_HOST) : CLI_OK;
}

static int saved(struct work *w) {
    char text[320] = "";
    struct err e = {text, sizeof(text)};
    struct machine_config cfg = {.engine = w->ops};
    struct snapshot *s;
    struct machine *m = NULL;
    int rc = snapshot_open(w->o->path, &s, &e);
    if (rc)
        return cli_error("%s", text), cli_snapshot_code(rc);
    pn_mmu_options_default(&cfg.mmu);
    rc = snapshot_config(s, &cfg, &e);
    if (rc == 0)
        rc = machine_create(&cfg, &m, text, sizeof(text));
    int code =
        rc ? (cli_error("%s", text), cli_snapshot_code(rc)) : explain_machine(w, m);
    machine_destroy(m);
    snapshot_close(s);
    return code;
}

static int explain_all(struct work *w) {
    struct stat st;
    bool folder = !stat(w->o->path, &st) && S_ISDIR(st.st_mode);
    int code = CLI_OK;
    if (folder && (w->o->at != UINT64_MAX || w->o->time != UINT64_MAX))
        return option_error(&command, "--%s: a snapshot is of one moment",
                            w->o->at != UINT64_MAX ? "at" : "time");
    if (w->o->at != UINT64_MAX && w->o->time != UINT64_MAX)
        return option_error(&command, "--at, --time: one of them");
    for (unsigned i = 0; pn_engine_at(i) && !code; i++) {
        w->ops = pn_engine_at(i);
        if (w->ops->host_cpu || (w->o->mmu && w->o->mmu != w->ops))
            continue;
        code = folder ? saved(w) : recorded(w);
    }
    return code;
}

/* Return: CLI_OK or CLI_HOST. */
static int open_files(struct work *w) {
    int rc = w->o->json ? outfile_open(&w->json, w->o->json) : 0;
    if (rc)
        return cli_cannot_write(w->o->json, rc);
    rc = w->o->svg ? outfile_open(&w->drawing, w->o->svg) : 0;
    return rc ? cli_cannot_write(w->o->svg, rc) : CLI_OK;
}

static int write_files(struct work *w) {
    int rc = w->o->json ? json_out(w->answers, w->json.fd, 1) : 0;
    if (w->o->json && !rc)
        rc = outfile_commit(&w->json);
    if (rc)
        return cli_cannot_write(w->o->json, rc);
    rc = w->o->svg ? outfile_commit(&w->drawing) : 0;
    return rc ? cli_cannot_write(w->o->svg, rc) : CLI_OK;
}

int cmd_explain(int argc, char **argv) {
    struct options o = defaults;
    struct work w = {.o = &o, .json.fd = -1, .drawing.fd = -1, .out = stdout};
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.path || !o.gvas)
        return option_error(&command, o.path ? "--gva: which address?" : "which file?");
    if (!strcmp(o.path, "-"))
        return option_error(&command, "standard input is read once: name a file");
    w.answers = o.json ? json_array() : NULL;
    if ((o.json && outfile_is_stdout(o.json)) || (o.svg && outfile_is_stdout(o.svg)))
        w.out = stderr;
    code = open_files(&w);
    code = code ? code : explain_all(&w);
    code = code ? code : write_files(&w);
    json_decref(w.answers);
    outfile_abandon(&w.json);
    outfile_abandon(&w.drawing);
    return code;
}
