/* SPDX-License-Identifier: MIT */
/* The command line of `penumbra bench`: its rows, and what they do not say by themselves.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "bench/harness/rank.h"
#include "bench/workload.h"
#include "cli/bench.h"
#include "cli/option.h"
#include "penumbra/kvm_host.h"

/* ---- --list ---- */

/* Is it one of those named, "linux" for all of Linux's, or is none named? */
static bool listed(const struct bench_options *o, const char *name) {
    bool any = !o->workloads;
    for (unsigned i = 0; i < o->workloads && !any; i++) {
        size_t n = strcspn(o->workload[i], ":");
        any = !strncmp(name, o->workload[i], n) && (!name[n] || name[n] == '.');
    }
    return any;
}

static void list_workloads(const struct bench_options *o) {
    int last = -1;
    for (int i = 0; i < WORKLOAD_PARAMS; i++) {
        const struct workload_param *p = &workload_params[i];
        char value[32];
        size_t n = 0;
        const char *word = workload_word(i, p->standard, &n);
        if (!listed(o, workloads[p->workload].name))
            continue;
        if (p->workload != last)
            printf("%s%s: %s (ops: %s)\n", last < 0 ? "" : "\n",
                   workloads[p->workload].name, workloads[p->workload].doc,
                   workloads[p->workload].unit);
        last = p->workload;
        if (word)
            snprintf(value, sizeof(value), "%.*s", (int)n, word);
        else
            size_text(p->standard, value);
        printf("  %-9s %-8s %s%s%s%s\n", p->name, value, p->doc, *p->words ? " (" : "",
               p->words, *p->words ? ")" : "");
    }
}

static void print_linux(const struct bench_options *o, const char *name, uint64_t n,
                        uint64_t bytes, const char *doc, const char *unit) {
    char size[SIZE_TEXT_MAX];
    if (!listed(o, name))
        return;
    printf("%-16s n=%" PRIu64, name, n);
    if (bytes)
        printf(" bytes=%s", size_text(bytes, size));
    printf(": %s (ops: %s)\n", doc, unit);
}

static void list_linux(const struct bench_options *o) {
    if (listed(o, "linux"))
        printf("%slinux: all that follow, each in a Linux guest of its own (--kernel, "
               "--initrd)\n",
               o->workloads ? "" : "\n");
#define LINUX(name, unit, n, quick, bytes, quick_bytes, doc)                             \
    print_linux(o, "linux." #name, n, bytes, doc, unit);
#include "bench/linux/linux.inc"
    if (listed(o, "linux.boot"))
        puts("linux.boot       the boot itself, from the first instruction to power-off");
}

static void list_debian(const struct bench_options *o) {
    if (listed(o, "debian"))
        printf("%sdebian: all that follow, each in a Debian guest of its own (--disk)\n",
               o->workloads ? "" : "\n");
#define DEBIAN(name, unit, n, quick, doc)                                                \
    print_linux(o, "debian." #name, n, 0, doc, unit);
#include "bench/debian/debian.inc"
}

void bench_list(const struct bench_options *o) {
    list_workloads(o);
    list_linux(o);
    list_debian(o);
}

/* ---- Values ---- */

static int set_mmus(void *options, const char *arg, struct err *e) {
    struct bench_options *o = options;
    o->mmus_named = true;
    return lineup_add(&o->lineup, arg, e);
}

static void list_mmus(FILE *out) {
    const char *name;
    fputs("Engines:", out);
    for (unsigned i = 0; (name = cli_engine_name(i)); i++)
        fprintf(out, " %s", name);
    fputs(
        "\nOptions of shadow and tdp, as in shadow:unsync=0+prefetch=0; several values, "
        "as in\nshadow:page_budget=64/128/256, are a sweep:\n",
        out);
    pn_mmu_options_print(out);
    fputs("Of every engine, log=TRACKER: a dirty log; log=all: one of each; log=off: "
          "none. Trackers:\n",
          out);
    pn_dirty_print(out);
}

static int set_shard(void *options, const char *arg, struct err *e) {
    struct bench_options *o = options;
    const char *slash = strchr(arg, '/');
    char index[16];
    uint64_t i, n;
    snprintf(index, sizeof(index), "%.*s", slash ? (int)(slash - arg) : 0, arg);
    if (!slash || number_parse(slash + 1, 1, PLAN_SHARDS_MAX, &n) ||
        number_parse(index, 1, n, &i))
        return err_set(e, -EINVAL, "not I/N with 1 <= I <= N");
    o->shard = (unsigned)i;
    o->shards = (unsigned)n;
    return 0;
}

static int set_pin(void *options, const char *arg, struct err *e) {
    struct bench_options *o = options;
    uint64_t n = 0;
    int rc = strcmp(arg, "off") ? number_parse(arg, 0, 1023, &n) : 0;
    o->cpu = strcmp(arg, "off") ? (int)n : -2;
    return rc ? err_set(e, rc, "not off or a CPU from 0 to 1023") : 0;
}

static int set_append(void *options, const char *arg, struct err *e) {
    struct bench_options *o = options;
    if (strlen(arg) > PLAN_APPEND_MAX || strpbrk(arg, "\n\r"))
        return err_set(e, -EINVAL, "not one line of up to %u bytes", PLAN_APPEND_MAX);
    o->plan.append = *arg ? arg : NULL;
    return 0;
}

static int add_workload(void *options, const char *arg, struct err *e) {
    struct bench_options *o = options;
    if (o->workloads == PLAN_UNITS_MAX)
        return err_set(e, -EINVAL, "more than %u workloads", PLAN_UNITS_MAX);
    o->workload[o->workloads++] = arg;
    return 0;
}

/* ---- The table ---- */

#define OWN(field)   OPTION_FIELD(struct bench_options, field)
#define GUEST(field) OWN(field)
#define GUEST_NOTE   "the Linux workloads need a kernel and an initrd"

static const struct option_row rows[] = {
    {.kind = OPTION_HEADING, .doc = "What is compared:"},
    {"mmu", 0, "M[:NAME=V[/V...]+...],...",
     "MMUs, each with options of its own (default: all that work here)",
     .kind = OPTION_CALL, .set = set_mmus, .list = list_mmus},
    {"list", 0, NULL,
     "List the workloads, or those named, with their parameters; and the profiles",
     .kind = OPTION_FLAG, OWN(list)},
    {"quick", 0, NULL, "Small workloads, fewer points, 4 repetitions",
     .kind = OPTION_FLAG, OWN(quick)},
    {"quiet", 'q', NULL, "No progress, and no words below the tables",
     .kind = OPTION_FLAG, OWN(quiet)},
    {"shard", 0, "I/N", "Run the I-th of N parts of the plan; see 'penumbra merge'",
     .kind = OPTION_CALL, .set = set_shard},
    {.kind = OPTION_HEADING, .doc = "How it is measured:"},
    {"repeat", 0, "N", "Repetitions of each point (default 7, or 4 with --quick)",
     .kind = OPTION_NUMBER, OWN(repeat), .min = 1, .max = RANK_MAX},
    {"warmup", 0, "N", "Runs before them that do not count", .kind = OPTION_NUMBER,
     OWN(warmup), .max = 100},
    {"budget", 0, "S", "Repeat a point no further once it took S seconds under an MMU",
     .kind = OPTION_SECONDS, OWN(budget_ns)},
    {"total", 0, "S",
     "Repeat less where all would take more than S seconds, each point at least once "
     "(default without a workload: 140)",
     .kind = OPTION_SECONDS, OWN(total_ns)},
    {"pin", 0, "CPU|off",
     "Host CPU (default: the last allowed one); guest memory then is on its node",
     .kind = OPTION_CALL, .set = set_pin},
#include "cli/option_common.inc"
    {"disk", 0, "FILE",
     "The disk of debian's workloads, kernel and initrd beside it; it is only read "
     "(default: the one that make debian-disk, installed penumbra-bench-image, makes)",
     .kind = OPTION_TEXT, OWN(disk), .min = 1, .file = 'r'},
    {"append", 0, "STRING", "More for the kernel's command line, such as pti=on",
     .kind = OPTION_CALL, .set = set_append},
    {.kind = OPTION_HEADING, .doc = "What is written:"},
    {"json", 0, "FILE",
     "Results as JSON; see bench/FORMATS.md; help: what each counter means",
     .kind = OPTION_TEXT, OWN(json), .min = 1, .list = cli_counters, .file = 'w'},
    {"html", 0, "FILE", "Results as one page with charts", .kind = OPTION_TEXT, OWN(html),
     .min = 1, .file = 'w'},
};

static const struct bench_options defaults = {.warmup = 1,
                                              .cpu = -1,
                                              .tlb_name = "skylake",
                                              .ram = (uint64_t)512 << 20,
                                              .budget_ns = (uint64_t)4 * 1000000000u,
                                              .timeout_ns = (uint64_t)120 * 1000000000u};

static const struct option_alias aliases[] = {
    {.flag = "mmu-opt",
     .line = "--mmu has each MMU's options: --mmu shadow,shadow:unsync=0"},
    {.flag = NULL}};

static const struct option_command command = {
    .name = "penumbra bench",
    .args = "[WORKLOAD[:NAME=VALUE,...]...]",
    .doc =
        "Run the same workloads under each MMU and compare them. Without arguments: "
        "every workload, every MMU of this host; Linux's too if there is --kernel and "
        "--initrd (penumbra-guest --workloads makes both). Times under kvm are "
        "measured on the host's CPU; those under shadow and tdp are the software CPU's, "
        "simulated: compare them with each other. Cycles are modelled, in one run more "
        "of each point.",
    .more = "Exit codes: 0 all ran; 1 a host failure, or a run failed; 2 usage; 128 + N: "
            "signal N ended it (130: Ctrl-C), and what was finished is "
            "written.\n\nExample: penumbra bench chase "
            "remap --mmu shadow,tdp --html page.html",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = add_workload,
    .aliases = aliases,
};

/* ---- What the rows do not say ---- */

/* Does that engine work here? A line where it was asked for by name. */
static bool works(const struct bench_options *o, const struct pn_engine_ops *ops) {
    struct pn_kvm_host kvm;
    if (!ops->host_cpu)
        return true;
    pn_kvm_host_probe(&kvm);
    if (kvm.status != PN_KVM_OK && o->mmus_named)
        cli_error("--mmu %s: %s", ops->name, kvm.reason);
    return kvm.status == PN_KVM_OK;
}

/* Return: CLI_OK, or CLI_HOST after a line. */
static int choose_mmus(struct bench_options *o) {
    const struct pn_engine_ops *ops;
    struct err e = {NULL, 0};
    for (unsigned i = 0; i < o->lineup.n; i++)
        if (!works(o, o->lineup.mmu[i].engine))
            return CLI_HOST;
    for (unsigned i = 0; !o->mmus_named && (ops = pn_engine_at(i)); i++)
        if (works(o, ops))
            lineup_add_engine(&o->lineup, ops, &e);
    return CLI_OK;
}

static int make_plan(struct bench_options *o) {
    char text[PATH_MAX + 256];
    struct err e = {text, sizeof(text)};
    bool linux_too = o->kernel && o->initrd, uses_kernel = linux_too && !o->workloads;
    bool uses_disk = false;
    int rc = o->workloads ? 0 : plan_add_all(&o->plan, o->quick, &e);
    if (!rc && uses_kernel)
        rc = plan_add(&o->plan, "linux", o->quick, &e);
    for (unsigned i = 0; i < o->workloads && !rc; i++) {
        bool is_linux = plan_is_linux(o->workload[i]);
        uses_kernel |= is_linux;
        uses_disk |= plan_is_debian(o->workload[i]);
        if (is_linux && !linux_too)
            rc = err_set(&e, -EINVAL, "%s needs --kernel and --initrd", o->workload[i]);
        else
            rc = plan_add(&o->plan, o->workload[i], o->quick, &e);
    }
    if (!rc && o->kernel && !uses_kernel)
        rc = err_set(&e, -EINVAL,
                     o->workloads ? "--kernel: no workload here boots it"
                                  : "--kernel needs --initrd");
    if (!rc && o->disk && !uses_disk)
        rc = err_set(&e, -EINVAL, "--disk: no workload here boots it");
    if (!rc && o->plan.append && !uses_kernel && !uses_disk)
        rc = err_set(&e, -EINVAL, "--append: no workload here boots Linux");
    if (rc)
        return option_error(&command, "%s", text);
    if (uses_disk && bench_find_disk(o->disk, &o->debian, &e))
        return cli_error("%s", text);
    if (o->shards)
        plan_shard(&o->plan, o->shard, o->shards);
    if (!o->plan.units)
        cli_error("shard %u of %u is empty: there are fewer points", o->shard, o->shards);
    return CLI_OK;
}

/* Return: CLI_OK, CLI_USAGE (a broken profile) or CLI_HOST, after one line. */
static int choose_model(struct bench_options *o) {
    char text[512];
    struct err e = {text, sizeof(text)};
    bool soft = false, given = o->tlb_name != defaults.tlb_name || o->cost_name;
    for (unsigned i = 0; i < o->lineup.n; i++)
        soft |= !o->lineup.mmu[i].engine->host_cpu;
    if (!soft && !given)
        return CLI_OK;
    int rc = cli_model(o->tlb_name, o->cost_name, &o->model, &e);
    if (!rc && o->model.on && !soft)
        rc = err_set(&e, -EINVAL, "--tlb and --cost: not under --mmu kvm alone");
    if (rc != 0 && rc != -EINVAL)
        return cli_error("%s", text);
    return rc ? option_error(&command, "%s", text) : CLI_OK;
}

/* All, or the workloads that are named. */
static int list(struct bench_options *o) {
    char text[256];
    struct err e = {text, sizeof(text)};
    for (unsigned i = 0; i < o->workloads; i++)
        if (plan_add(&o->plan, o->workload[i], o->quick, &e))
            return option_error(&command, "%s", text);
    bench_list(o);
    if (!o->workloads) {
        puts("\nprofiles (--tlb, --cost):");
        profile_list(stdout);
    }
    return CLI_OK;
}

int bench_options_parse(struct bench_options *o, int argc, char **argv, bool *done) {
    *o = defaults;
    int rc = option_parse(&command, argc, argv, o, done);
    if (rc || *done)
        return rc;
    if (o->list) {
        *done = true;
        return list(o);
    }
    if (!o->repeat)
        o->repeat = o->quick ? 4 : 7;
    if (!o->total_ns && !o->workloads)
        o->total_ns = (uint64_t)140 * 1000000000u;
    rc = make_plan(o);
    if (!rc)
        rc = choose_mmus(o);
    return rc ? rc : choose_model(o);
}
