/* SPDX-License-Identifier: MIT */
/*
 * differential [--mode 64|32] [--seed S] [--first N] [--count N] [--errors N] [--each N]
 *              [--without FLAGS] [--vendor intel|amd]
 *
 * --errors: end after so many; --each: print so many of an instruction; --without: these
 * bits of RFLAGS are not compared (a host that is itself emulated may know no RF, 10000h).
 * Cases N, N+1, ... of the seed. --count 0 never ends. The host runs a batch in a process
 * of its own while the guests run it here. Exit code 0: no difference; 1: there are some,
 * printed with what repeats each; 2: usage. Where the host runs no 32-bit code, it runs what
 * means the same in 64-bit code; for the rest the guests are compared with each other, and so
 * they are under the rules of a vendor that is not the host's.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compare.h"

static const struct diff_guest_kind kinds[] = {
    {"shadow-step", PN_MMU_SHADOW, 1, true},
    {"tdp-block", PN_MMU_TDP, 0, false},
};
#define GUESTS (sizeof kinds / sizeof *kinds)

/* Milliseconds that a batch may take. */
#define PATIENCE 60000

struct options {
    uint64_t seed, first, count, errors, each, flags;
    const char *vendor; /* NULL: the host's */
    bool code64;
};

struct diff {
    struct options opt;
    struct diff_shared *sh;
    pid_t child;
    int to, from; /* pipes */
    struct diff_gen gen;
    struct diff_rules rules;
    struct cpu_model *model;
    bool gone;  /* the host's process is */
    bool alone; /* the host has no 32-bit code */
    bool other; /* the rules are not the host's */
    struct diff_guest guest[GUESTS];
    /* Of this batch. */
    struct diff_insn insn[DIFF_BATCH];
    struct diff_mask mask[DIFF_BATCH];
    uint64_t number[DIFF_BATCH];
    struct diff_outcome outcome[GUESTS][DIFF_BATCH];
    /* Counted. */
    uint64_t done, defined, faults, left[DIFF_LEFT_COUNT], errors, wavers, asked;
    uint8_t seen[ZYDIS_MNEMONIC_MAX_VALUE + 1];
    uint32_t wrong[ZYDIS_MNEMONIC_MAX_VALUE + 1];
};

/* ---- The host's process ---- */

static void native_path(char *path, size_t size) {
    ssize_t n = readlink("/proc/self/exe", path, size - 16);
    char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
    strcpy(slash ? slash + 1 : path, "diff_native");
}

static void start_native(struct diff *d, int shared) {
    char path[4096];
    int to[2], from[2];
    native_path(path, sizeof path);
    if (pipe(to) || pipe(from)) {
        perror("differential: pipe");
        exit(1);
    }
    d->child = fork();
    if (d->child == 0) {
        /* Beyond 5 first: the ends may be 3 to 5 themselves. */
        int fd[3] = {dup(shared), dup(to[0]), dup(from[1])};
        for (int i = 0; i < 3; i++)
            fd[i] = dup2(fd[i], 20 + i);
        for (int i = 0; i < 3; i++)
            dup2(fd[i], 3 + i);
        for (int i = 6; i < 32; i++)
            close(i);
        execl(path, path, NULL);
        perror(path);
        _exit(1);
    }
    close(to[0]), close(from[1]);
    d->to = to[1], d->from = from[0];
}

static void native_begin(struct diff *d) {
    char byte = 0;
    if (write(d->to, &byte, 1) != 1)
        perror("differential: write");
}

/* Return: false when the host's process is gone or hangs; then it said so. */
static bool native_end(struct diff *d) {
    struct pollfd p = {.fd = d->from, .events = POLLIN};
    char byte;
    int n;
    while ((n = poll(&p, 1, PATIENCE)) < 0 && errno == EINTR)
        ;
    if (n > 0 && read(d->from, &byte, 1) == 1)
        return true;
    uint32_t at = d->sh->current;
    d->gone = true;
    fprintf(stderr,
            "differential: the host's process %s at --mode %s --seed %" PRIu64
            " --first %" PRIu64 " --count 1\n",
            n > 0 ? "ended" : "hangs", d->opt.code64 ? "64" : "32", d->opt.seed,
            d->number[at < DIFF_BATCH ? at : 0]);
    return false;
}

/* ---- Batches ---- */

/* Return: how many cases; 0: there are no more. */
static uint32_t make_batch(struct diff *d, uint64_t *next, uint64_t end) {
    uint32_t n = 0;
    for (; n < DIFF_BATCH && *next != end; (*next)++) {
        struct diff_case *c = &d->sh->cases[n];
        struct diff_insn *in = &d->insn[n];
        diff_gen_case(&d->gen, d->opt.seed, *next, d->opt.code64, c, in);
        enum diff_left left = diff_leave_out(&d->rules, c, in);
        d->left[left]++;
        if (left != DIFF_RUN)
            continue;
        diff_mask(in, c, &d->mask[n]);
        d->mask[n].rflags &= ~d->opt.flags;
        c->as64 = d->alone && diff_gen_same_in_64(&d->gen, c, in);
        c->skip = d->other || (d->alone && !c->as64);
        d->asked += !c->skip;
        d->number[n++] = *next;
        if (in->defined) {
            d->defined++;
            d->seen[in->zi.mnemonic] = 1;
        }
    }
    d->sh->count = n;
    return n;
}

static void run_guests(struct diff *d, uint32_t n) {
    for (unsigned g = 0; g < GUESTS; g++)
        for (uint32_t i = 0; i < n; i++)
            if (d->guest[g].steps || d->mask[i].blocks)
                diff_guest_run(&d->guest[g], &d->sh->cases[i], &d->outcome[g][i], NULL);
}

/* Run case i on the host once more, alone. Return: its outcome; NULL when that fails. */
static const struct diff_outcome *again(struct diff *d, uint32_t i, bool keep) {
    struct diff_shared *sh = d->sh;
    uint32_t count = sh->count;
    sh->cases[DIFF_BATCH] = sh->cases[i];
    sh->first = DIFF_BATCH, sh->count = DIFF_BATCH + 1, sh->keep = keep;
    native_begin(d);
    bool alive = native_end(d);
    sh->first = 0, sh->count = count, sh->keep = 0;
    return alive ? &sh->native[DIFF_BATCH] : NULL;
}

/* Both sides once more for what memory holds afterwards. */
static void report_memory(struct diff *d, struct diff_guest *g, uint32_t i) {
    static uint8_t after[DIFF_DATA_SIZE];
    struct diff_outcome o;
    diff_guest_run(g, &d->sh->cases[i], &o, after);
    if (again(d, i, true))
        diff_print_memory(&d->sh->cases[i], after, d->sh->after);
}

static void report(struct diff *d, struct diff_guest *g, uint32_t i,
                   const struct diff_outcome *a, const struct diff_outcome *b) {
    const struct diff_insn *in = &d->insn[i];
    uint32_t *wrong = &d->wrong[in->defined ? in->zi.mnemonic : 0];
    if ((*wrong)++ >= d->opt.each)
        return;
    fprintf(stderr,
            "%s in the guest %s: --mode %s --seed %" PRIu64 " --first %" PRIu64
            " --count 1\n",
            diff_name(in), g->name, d->opt.code64 ? "64" : "32", d->opt.seed,
            d->number[i]);
    diff_print(&d->sh->cases[i], in, &d->mask[i], a, b);
    if (a->memory != b->memory && !d->sh->cases[i].skip && !d->gone)
        report_memory(d, g, i);
}

static bool same(const struct diff *d, const struct diff_guest *g, uint32_t i,
                 const struct diff_outcome *a, const struct diff_outcome *b) {
    const struct diff_case *c = &d->sh->cases[i];
    /* A block that jumps to its own beginning never ends. */
    if (!g->steps && (!d->mask[i].blocks || b->rip - c->rip < c->len))
        return true;
    return diff_equal(d->sh->own, c, &d->insn[i], &d->mask[i], g->steps, a, b);
}

/* A host without FSGSBASE forgets between two instructions that a null selector has made a
 * base 0, if another process comes in between: does the host answer otherwise now? */
static bool wavered(struct diff *d, const struct diff_guest *g, uint32_t i,
                    const struct diff_outcome *a) {
    const struct diff_outcome *b =
        d->sh->cases[i].skip || d->gone ? NULL : again(d, i, false);
    if (!b || !same(d, g, i, a, b))
        return false;
    d->wavers++;
    return true;
}

static void compare_batch(struct diff *d, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        bool skip = d->sh->cases[i].skip;
        const struct diff_outcome *b = skip ? &d->outcome[0][i] : &d->sh->native[i];
        d->faults += b->trap != VEC_DB;
        for (unsigned g = 0; g < GUESTS && d->errors < d->opt.errors; g++) {
            const struct diff_outcome *a = &d->outcome[g][i];
            if (same(d, &d->guest[g], i, a, b) || wavered(d, &d->guest[g], i, a))
                continue;
            d->errors++;
            report(d, &d->guest[g], i, a, b);
        }
    }
    d->done += n;
}

static bool run(struct diff *d) {
    uint64_t next = d->opt.first, end = d->opt.count ? next + d->opt.count : next - 1;
    uint32_t n;
    bool alive = true;
    while (d->errors < d->opt.errors && alive && next != end) {
        n = make_batch(d, &next, end);
        if (!n)
            continue;
        native_begin(d);
        run_guests(d, n);
        alive = native_end(d);
        compare_batch(d, alive ? n : d->sh->current);
    }
    return alive;
}

/* ---- The program ---- */

static void summary(const struct diff *d) {
    unsigned mnemonics = 0;
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
        mnemonics += d->seen[i];
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
        if (d->wrong[i])
            printf("  %u differences of %s\n", d->wrong[i],
                   i ? ZydisMnemonicGetString((ZydisMnemonic)i) : "undefined encodings");
    printf("%" PRIu64 " cases of %s-bit code, seed %" PRIu64 ", %" PRIu64
           " on the host: %" PRIu64 " defined, %u mnemonics, %" PRIu64
           " faults; left out: %" PRIu64 " not in CPUID, %" PRIu64
           " the kernel's, %" PRIu64 " reserved; %" PRIu64 " differences (and %" PRIu64
           " that the host did not repeat)\n",
           d->done, d->opt.code64 ? "64" : "32", d->opt.seed, d->asked, d->defined,
           mnemonics, d->faults, d->left[DIFF_LEFT_FEATURE], d->left[DIFF_LEFT_KERNEL],
           d->left[DIFF_LEFT_RESERVED], d->errors, d->wavers);
}

static void create(struct diff *d) {
    static char model[2048];
    char err[128];
    int fd = memfd_create("differential", 0);
    if (fd < 0 || ftruncate(fd, sizeof *d->sh)) {
        perror("differential: memfd");
        exit(1);
    }
    d->sh = mmap(NULL, sizeof *d->sh, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (d->sh == MAP_FAILED) {
        perror("differential: mmap");
        exit(1);
    }
    signal(SIGPIPE, SIG_IGN); /* the host's process may be gone */
    d->other = !diff_model(model, sizeof model, d->opt.vendor);
    if (cpu_model_parse(model, &d->model, err, sizeof err)) {
        fprintf(stderr, "%s\n", err);
        exit(1);
    }
    uint8_t xcr0 = (uint8_t)(d->model->host_xcr0 ? d->model->host_xcr0 : 3);
    diff_gen_init(&d->gen, xcr0, d->model->host_compact ? xcr0 & 7 : xcr0);
    diff_gen_before(&d->gen, d->opt.seed, d->sh->before);
    diff_rules_init(&d->rules, d->model);
    start_native(d, fd);
    if (!native_end(d)) /* it has looked at the GDT */
        exit(1);
    d->alone = !d->opt.code64 && !d->sh->code32;
    d->rules.umip = d->sh->umip;
    if (d->alone)
        printf("this host has no segment for 32-bit code: it runs what means the same in "
               "64-bit "
               "code; for the rest the guests are compared with each other\n");
    for (unsigned g = 0; g < GUESTS; g++)
        diff_guest_create(&d->guest[g], &kinds[g], model, d->sh);
}

static uint64_t number(const char *text) {
    char *end;
    uint64_t v = strtoull(text, &end, 0);
    if (!*text || *end) {
        fprintf(stderr, "differential: %s is no number\n", text);
        exit(2);
    }
    return v;
}

static void parse(int argc, char **argv, struct options *o) {
    static const struct option known[] = {
        {"mode", 1, NULL, 'm'},    {"seed", 1, NULL, 's'},   {"first", 1, NULL, 'f'},
        {"count", 1, NULL, 'c'},   {"errors", 1, NULL, 'e'}, {"each", 1, NULL, 'k'},
        {"without", 1, NULL, 'w'}, {"vendor", 1, NULL, 'v'}, {NULL, 0, NULL, 0},
    };
    int opt;
    *o = (struct options){
        .seed = 1, .count = 100000, .errors = 1, .each = 3, .code64 = true};
    while ((opt = getopt_long(argc, argv, "", known, NULL)) != -1) {
        uint64_t v = opt == '?' || opt == 'v' ? 0 : number(optarg);
        if (opt == '?' || (opt == 'm' && v != 64 && v != 32) ||
            (opt == 'v' && strcmp(optarg, "intel") && strcmp(optarg, "amd"))) {
            fprintf(stderr, "usage: differential [--mode 64|32] [--seed S] [--first N] "
                            "[--count N] [--errors N] [--each N] [--without FLAGS] "
                            "[--vendor intel|amd]\n");
            exit(2);
        }
        switch (opt) {
        case 'v':
            o->vendor = optarg;
            break;
        case 'm':
            o->code64 = v == 64;
            break;
        case 's':
            o->seed = v;
            break;
        case 'f':
            o->first = v;
            break;
        case 'c':
            o->count = v;
            break;
        case 'e':
            o->errors = v;
            break;
        case 'k':
            o->each = v;
            break;
        case 'w':
            o->flags = v;
            break;
        }
    }
}

int main(int argc, char **argv) {
    static struct diff d;
    parse(argc, argv, &d.opt);
    create(&d);
    bool alive = run(&d);
    summary(&d);
    close(d.to);
    if (!alive)
        kill(d.child, SIGKILL);
    waitpid(d.child, NULL, 0);
    for (unsigned g = 0; g < GUESTS; g++)
        diff_guest_destroy(&d.guest[g]);
    cpu_model_free(d.model);
    return !alive || d.errors ? 1 : 0;
}
