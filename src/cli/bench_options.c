/* SPDX-License-Identifier: MIT */
/* The command line of `penumbra bench`. No state but what argp carries. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "bench/harness/resample.h"
#include "bench/workload.h"
#include "cli/bench.h"
#include "penumbra/kvm_host.h"

enum {
    OPT_MMU = 0x100,
    OPT_REPEAT,
    OPT_WARMUP,
    OPT_QUICK,
    OPT_JSON,
    OPT_HTML,
    OPT_SHARD,
    OPT_PIN,
    OPT_NUMA,
    OPT_TIMEOUT,
    OPT_BUDGET,
    OPT_TOTAL,
    OPT_LIST,
    OPT_KERNEL,
    OPT_INITRD,
    OPT_APPEND,
    OPT_TLB,
    OPT_COST,
};

#define TLB_DEFAULT "skylake"

static const struct argp_option options[] = {
    {0, 0, 0, 0, "What is compared:", 1},
    {"mmu", OPT_MMU, "M,...", 0, "MMUs (default: all of kvm, shadow, tdp that work here)",
     1},
    {"list", OPT_LIST, 0, 0, "List the workloads, their parameters, and the profiles", 1},
    {"quick", OPT_QUICK, 0, 0, "Small workloads, fewer points, 3 repetitions", 1},
    {"kernel", OPT_KERNEL, "FILE", 0, "Kernel of the Linux workloads", 1},
    {"initrd", OPT_INITRD, "FILE", 0,
     "Their initramfs, with pn-linux: scripts/guest.sh --add makes it", 1},
    {"append", OPT_APPEND, "TEXT", 0, "More for its command line, such as pti=on", 1},
    {"shard", OPT_SHARD, "I/N", 0,
     "Run the I-th of N parts of the plan; see 'penumbra merge'", 1},
    {0, 0, 0, 0, "How it is measured:", 2},
    {"repeat", OPT_REPEAT, "N", 0, "Repetitions of each point (default 5)", 2},
    {"warmup", OPT_WARMUP, "N", 0, "Runs before them that do not count (default 1)", 2},
    {"budget", OPT_BUDGET, "S", 0,
     "Repeat a point no further once it took S seconds under an MMU (default 4)", 2},
    {"total", OPT_TOTAL, "S", 0,
     "Repeat less where all would take more than S seconds (default without a workload: "
     "140)",
     2},
    {"pin", OPT_PIN, "CPU|off", 0, "Host CPU (default: the last allowed one)", 2},
    {"numa", OPT_NUMA, "POLICY", 0,
     "Guest memory: local, bind=N or interleave=A,B (default: that CPU's node)", 2},
    {"memory", 'm', "SIZE", 0, "Guest memory (default 512M)", 2},
    {"timeout", OPT_TIMEOUT, "S", 0, "Give a run up after S seconds (default 120)", 2},
    {0, 0, 0, 0,
     "What is modelled, in one run more of each point under shadow and tdp:", 3},
    {"tlb", OPT_TLB, "MODEL", 0,
     "TLBs and walk caches: a shipped model, a .json file, or off (default " TLB_DEFAULT
     "; help lists them)",
     3},
    {"cost", OPT_COST, "PROFILE", 0,
     "Cost profile: a shipped one, or a .json file (default " PROFILE_COST_DEFAULT ")",
     3},
    {0, 0, 0, 0, "What is written:", 4},
    {"json", OPT_JSON, "FILE", 0, "Results as JSON; see bench/FORMATS.md", 4},
    {"html", OPT_HTML, "FILE", 0, "Results as one page with charts", 4},
    CLI_HELP_OPTION,
    {0},
};

/* What must wait until all options are seen. */
struct parse {
    struct bench_options *o;
    const char *workload[PLAN_UNITS_MAX];
    unsigned workloads;
    const char *mmus, *tlb, *cost;
    bool repeat_given, total_given, listed;
};

static void list_workloads(void) {
    int last = -1;
    for (int i = 0; i < WORKLOAD_PARAMS; i++) {
        const struct workload_param *p = &workload_params[i];
        char value[32];
        size_t n = 0;
        const char *word = workload_word(i, p->standard, &n);
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

static void print_linux(const char *name, uint64_t n, uint64_t bytes, const char *doc,
                        const char *unit) {
    char size[SIZE_TEXT_MAX];
    printf("linux.%-10s n=%" PRIu64, name, n);
    if (bytes)
        printf(" bytes=%s", size_text(bytes, size));
    printf(": %s (ops: %s)\n", doc, unit);
}

static void list_linux(void) {
    puts("\nlinux: all that follow, each in a Linux guest of its own (--kernel, "
         "--initrd)");
#define LINUX(name, unit, n, quick, bytes, quick_bytes, doc)                             \
    print_linux(#name, n, bytes, doc, unit);
#include "bench/linux/linux.inc"
#undef LINUX
    printf("linux.%-10s the boot itself, from the first instruction to power-off\n",
           "boot");
    puts("\nprofiles (--tlb, --cost):");
    profile_list(stdout);
}

static error_t bad_number(struct argp_state *state, const char *option, const char *arg,
                          int rc) {
    return cli_bad_arg(state,
                       rc == -ERANGE ? "%s %s: out of range" : "%s %s: not a number",
                       option, arg);
}

static error_t parse_shard(char *arg, struct argp_state *state, struct bench_options *o) {
    char *end;
    unsigned long i = strtoul(arg, &end, 10), n = 0;
    if (*end == '/')
        n = strtoul(end + 1, &end, 10);
    if (*end || !i || !n || i > n || n > 100000 || arg[0] < '0' || arg[0] > '9')
        return cli_bad_arg(state, "--shard %s: not I/N with 1 <= I <= N", arg);
    o->shard = (unsigned)i;
    o->shards = (unsigned)n;
    return 0;
}

static error_t parse_place(int key, char *arg, struct argp_state *state,
                           struct bench_options *o) {
    uint64_t n = 0;
    int rc;
    switch (key) {
    case OPT_PIN:
        if (!strcmp(arg, "off")) {
            o->cpu = -2;
            return 0;
        }
        rc = parse_number(arg, 0, 1023, &n);
        o->cpu = (int)n;
        return rc ? bad_number(state, "--pin", arg, rc) : 0;
    case OPT_NUMA:
        snprintf(o->numa, sizeof(o->numa), "%s", arg);
        return 0;
    default:
        rc = size_parse(arg, &o->ram);
        return rc ? cli_bad_arg(state, "-m %s: not a size such as 512M", arg) : 0;
    }
}

static error_t parse_model(int key, char *arg, struct argp_state *state,
                           struct parse *p) {
    if (!strcmp(arg, "help")) {
        profile_list(stdout);
        p->listed = true;
        state->next = state->argc;
    }
    if (key == OPT_TLB)
        p->tlb = arg;
    else
        p->cost = arg;
    return 0;
}

static error_t parse_opt(int key, char *arg, struct argp_state *state) {
    struct parse *p = state->input;
    struct bench_options *o = p->o;
    uint64_t n = 0;
    int rc;
    switch (key) {
    case OPT_MMU:
        p->mmus = arg;
        return 0;
    case OPT_LIST:
        list_workloads();
        list_linux();
        p->listed = true;
        state->next = state->argc;
        return 0;
    case OPT_QUICK:
        o->quick = true;
        return 0;
    case OPT_SHARD:
        return parse_shard(arg, state, o);
    case OPT_REPEAT:
        rc = parse_number(arg, 1, RESAMPLE_MAX, &n);
        o->repeat = (unsigned)n;
        p->repeat_given = true;
        return rc ? bad_number(state, "--repeat", arg, rc) : 0;
    case OPT_WARMUP:
        rc = parse_number(arg, 0, 100, &n);
        o->warmup = (unsigned)n;
        return rc ? bad_number(state, "--warmup", arg, rc) : 0;
    case OPT_TIMEOUT:
        rc = parse_seconds(arg, &o->timeout_ns);
        return rc ? bad_number(state, "--timeout", arg, rc) : 0;
    case OPT_BUDGET:
        rc = parse_seconds(arg, &o->budget_ns);
        return rc ? bad_number(state, "--budget", arg, rc) : 0;
    case OPT_TOTAL:
        rc = parse_seconds(arg, &o->total_ns);
        p->total_given = true;
        return rc ? bad_number(state, "--total", arg, rc) : 0;
    case OPT_PIN:
    case OPT_NUMA:
    case 'm':
        return parse_place(key, arg, state, o);
    case OPT_KERNEL:
        o->kernel = arg;
        return 0;
    case OPT_INITRD:
        o->initrd = arg;
        return 0;
    case OPT_APPEND:
        if (strlen(arg) > PLAN_APPEND_MAX || strpbrk(arg, "\n\r"))
            return cli_bad_arg(state, "--append: not one line of up to %u bytes",
                               PLAN_APPEND_MAX);
        o->plan.append = *arg ? arg : NULL;
        return 0;
    case OPT_TLB:
    case OPT_COST:
        return parse_model(key, arg, state, p);
    case OPT_JSON:
        o->json = arg;
        return 0;
    case OPT_HTML:
        o->html = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (p->workloads == PLAN_UNITS_MAX)
            return cli_bad_arg(state, "too many workloads");
        p->workload[p->workloads++] = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = options,
    .parser = parse_opt,
    .args_doc = "[WORKLOAD[:NAME=VALUE,...]...]",
    .doc = "Run the same workloads under each MMU and compare them. Without arguments: "
           "every workload, every MMU of this host; Linux's too if there is --kernel and "
           "--initrd. Times under kvm are measured on the host's CPU; those under shadow "
           "and tdp are the software CPU's, simulated: compare them with each other. "
           "Cycles are modelled.\vExit codes: 0 all ran; 1 a host failure, or a "
           "run failed; 2 usage; 130 interrupted: what was finished is written.\n\n"
           "Example: penumbra bench chase remap --mmu shadow,tdp --html page.html",
};

/* One --mmu name. Return: CLI_OK, CLI_USAGE or CLI_HOST, after one line. */
static int add_mmu(struct bench_options *o, const char *name) {
    const struct pn_engine_ops *ops = pn_engine_find(name);
    struct pn_kvm_host kvm;
    if (!ops) {
        cli_error("--mmu %s: not kvm, shadow or tdp (see penumbra bench --help)", name);
        return CLI_USAGE;
    }
    for (unsigned i = 0; i < o->mmus; i++)
        if (o->mmu[i] == ops) {
            cli_error("--mmu: %s is named twice (see penumbra bench --help)", name);
            return CLI_USAGE;
        }
    if (ops->threaded) {
        pn_kvm_host_probe(&kvm);
        if (kvm.status != PN_KVM_OK) {
            cli_error("--mmu %s: %s", name, kvm.reason);
            return CLI_HOST;
        }
    }
    o->mmu[o->mmus++] = ops;
    return CLI_OK;
}

static int choose_mmus(struct bench_options *o, const char *list) {
    struct pn_kvm_host kvm;
    int code = CLI_OK;
    o->mmus_named = list != NULL;
    if (list) {
        char *copy = strdup(list), *at = copy, *name;
        while (!code && (name = strsep(&at, ",")))
            code = add_mmu(o, name);
        free(copy);
        return code;
    }
    pn_kvm_host_probe(&kvm);
    if (kvm.status == PN_KVM_OK)
        code = add_mmu(o, "kvm");
    if (!code)
        code = add_mmu(o, "shadow");
    return code ? code : add_mmu(o, "tdp");
}

static int make_plan(struct bench_options *o, const struct parse *p) {
    char text[256];
    struct err e = {text, sizeof(text)};
    int rc = p->workloads ? 0 : plan_add_all(&o->plan, o->quick, &e);
    if (!rc && !p->workloads && o->kernel && o->initrd)
        rc = plan_add(&o->plan, "linux", o->quick, &e);
    for (unsigned i = 0; i < p->workloads && !rc; i++) {
        if (plan_is_linux(p->workload[i]) && (!o->kernel || !o->initrd))
            rc = err_set(&e, -EINVAL, "%s needs --kernel and --initrd", p->workload[i]);
        else
            rc = plan_add(&o->plan, p->workload[i], o->quick, &e);
    }
    if (rc) {
        cli_error("%s", text);
        return CLI_USAGE;
    }
    if (o->shards)
        plan_shard(&o->plan, o->shard, o->shards);
    return CLI_OK;
}

/* Return: CLI_OK, CLI_USAGE (a broken profile) or CLI_HOST, after one line. */
static int choose_model(struct bench_options *o, const struct parse *p) {
    char text[512];
    struct err e = {text, sizeof(text)};
    const char *tlb = p->tlb ? p->tlb : TLB_DEFAULT;
    bool soft = false;
    for (unsigned i = 0; i < o->mmus; i++)
        soft = soft || !o->mmu[i]->threaded;
    o->model = strcmp(tlb, "off") != 0 && (soft || p->tlb || p->cost);
    int rc = 0;
    if (o->model && !soft)
        rc = err_set(&e, -EINVAL, "--tlb and --cost: not under --mmu kvm alone");
    else if (!o->model && p->cost)
        rc = err_set(&e, -EINVAL, "--cost: not with --tlb off");
    else if (o->model)
        rc = profile_tlb(tlb, &o->tlb, &e);
    if (!rc && o->model)
        rc = profile_cost(p->cost ? p->cost : PROFILE_COST_DEFAULT, &o->cost, &e);
    if (rc)
        cli_error("%s", text);
    return rc == -EINVAL || rc == -ENOENT ? CLI_USAGE : rc ? CLI_HOST : CLI_OK;
}

int bench_options_parse(struct bench_options *o, int argc, char **argv, bool *done) {
    struct parse p = {.o = o};
    *o = (struct bench_options){.repeat = 5,
                                .warmup = 1,
                                .cpu = -1,
                                .ram = (uint64_t)512 << 20,
                                .budget_ns = (uint64_t)4 * 1000000000u,
                                .timeout_ns = (uint64_t)120 * 1000000000u};
    int rc = cli_parse(&argp, argc, argv, "penumbra bench", &p, done);
    *done = *done || p.listed;
    if (rc || *done)
        return rc;
    if (o->quick && !p.repeat_given)
        o->repeat = 3;
    if (!p.total_given && !p.workloads)
        o->total_ns = (uint64_t)140 * 1000000000u;
    rc = make_plan(o, &p);
    if (!rc)
        rc = choose_mmus(o, p.mmus);
    return rc ? rc : choose_model(o, &p);
}
