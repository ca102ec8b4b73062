/* SPDX-License-Identifier: MIT */
/* `penumbra snapshot`: save through a run's monitor, restore by `penumbra run --restore`, and
 * what can be known of the folders themselves. */
#include "machine/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/size.h"
#include "cli/cli.h"
#include "cli/monitor.h"
#include "cli/option.h"

#define WORDS_MAX  4u
#define LINE_BYTES 1024u /* of the monitor's */

struct options {
    const char *word[WORDS_MAX];
    unsigned words;
    bool force, live, raw, disks;
    const char *parent;
};

static int set_word(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    if (o->words == WORDS_MAX)
        return err_set(e, -EINVAL, "unexpected argument '%s'", arg);
    o->word[o->words++] = arg;
    return 0;
}

static const struct option_row rows[] = {
    {"force", 0, NULL, "save, merge: replace a snapshot that is there",
     .kind = OPTION_FLAG, OPTION_FIELD(struct options, force)},
    {"parent", 0, "DIR",
     "save: write only what was written since that snapshot; with --raw its file is "
     "shared "
     "where the file system can, and the new one stands alone",
     .kind = OPTION_TEXT, OPTION_FIELD(struct options, parent), .min = 1, .file = 'r'},
    {"raw", 0, NULL,
     "save, merge: write memory as it is, to be mapped (--restore-memory)",
     .kind = OPTION_FLAG, OPTION_FIELD(struct options, raw)},
    {"disks", 0, NULL,
     "save: keep a copy of each raw disk that the guest writes to, too; blocks are "
     "shared where the file system can",
     .kind = OPTION_FLAG, OPTION_FIELD(struct options, disks)},
    {"live", 0, NULL, "save: let the guest run on while its memory is written",
     .kind = OPTION_FLAG, OPTION_FIELD(struct options, live)},
};

static const struct option_command command = {
    .name = "penumbra snapshot",
    .args = "save MONITOR DIR | restore DIR [OPTION OF run...] | info DIR | verify DIR | "
            "diff A B | merge DIR NEW",
    .doc =
        "A guest that runs, in a folder. save: ask the run whose --monitor that is; the "
        "guest stands meanwhile, and goes on. restore: 'penumbra run --restore DIR'. "
        "info: what it is of. verify: read every byte, and name what is damaged. diff: "
        "what differs between two: the machine, registers, devices, pages. save --parent "
        "makes one that stands on another, which the run has saved or begun from, and "
        "has "
        "kept a --dirty-log since. save --live: the guest stands for a moment alone; its "
        "memory is "
        "written while it runs on. merge: the same guest in a folder that stands alone.",
    .more =
        "Exit codes: 0 done; 9 diff found a difference; 7 the snapshot is damaged; 1 a "
        "host failure; 2 usage, or no snapshot of this version.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .arg = set_word,
};

int cli_snapshot_code(int rc) {
    return rc == -EBADMSG ? CLI_DAMAGED : rc == -EINVAL ? CLI_USAGE : CLI_HOST;
}

static int open_snapshot(const char *dir, struct snapshot **s) {
    char text[320];
    struct err e = {text, sizeof(text)};
    int rc = snapshot_open(dir, s, &e);
    return rc ? cli_error("%s", text), cli_snapshot_code(rc) : CLI_OK;
}

/* The run has a working folder of its own: it gets the whole path. Return: 0, or -1 with a
 * line. */
static int whole_path(const char *dir, char path[LINE_BYTES]) {
    char here[LINE_BYTES] = "";
    if (*dir != '/' && !getcwd(here, sizeof(here)))
        return cli_error("the working folder: %s", strerror(errno)), -1;
    if (snprintf(path, LINE_BYTES, "%s%s%s", here, *here ? "/" : "", dir) >=
            (int)LINE_BYTES ||
        strpbrk(path, " \t\n"))
        return cli_error("%s: too long, or with blanks: the monitor takes none", dir), -1;
    return 0;
}

/* The digest of a snapshot's manifest; "": there is none. */
static void digest_of(const char *dir, char digest[32]) {
    char text[320];
    struct err e = {text, sizeof(text)};
    struct snapshot *s;
    *digest = 0;
    if (snapshot_open(dir, &s, &e))
        return;
    snprintf(digest, 32, "%s", cli_text(snapshot_manifest(s), "xxh3"));
    snapshot_close(s);
}

/* Until it is written. A run that has ended in between had waited for it: then the folder
 * says. */
static int await(const char *monitor, const char *dir, const char *before) {
    static const struct timespec a_little = {.tv_nsec = 50000000};
    char text[320] = "", now[32];
    struct err e = {text, sizeof(text)};
    json_t *j = NULL;
    for (;; json_decref(j), nanosleep(&a_little, NULL)) {
        monitor_query(monitor, "info snapshot", &j, &e);
        if (!j || strcmp(cli_text(j, "state"), "writing") != 0)
            break;
    }
    const char *state = j ? cli_text(j, "state") : NULL;
    bool done = state && !strcmp(state, "written");
    int code = CLI_OK;
    if (!state) {
        digest_of(dir, now);
        done = *now && strcmp(now, before) != 0;
    }
    if (done)
        printf("%s is written\n", dir);
    else
        code =
            cli_error("%s", state ? cli_text(j, "error")
                                  : "the run has ended, and the snapshot is not written");
    json_decref(j);
    return code;
}

static int save(const struct options *o) {
    char line[LINE_BYTES], dir[LINE_BYTES], parent[LINE_BYTES] = "", before[32] = "";
    if (whole_path(o->word[2], dir) || (o->parent && whole_path(o->parent, parent)))
        return CLI_USAGE;
    if (snprintf(line, sizeof(line), "snapshot save %s%s%s%s%s%s%s", dir,
                 o->force ? " --force" : "", o->live ? " --live" : "",
                 o->raw ? " --raw" : "", o->disks ? " --disks" : "",
                 o->parent ? " --parent " : "", parent) >= (int)sizeof(line))
        return option_error(&command, "the monitor does not take so long a path: %s",
                            o->word[2]);
    if (o->live)
        digest_of(dir, before);
    int code = cli_monitor_ask(o->word[1], line);
    return code || !o->live ? code : await(o->word[1], dir, before);
}

static void print_machine(const json_t *manifest) {
    const json_t *m = json_object_get(manifest, "machine");
    char size[SIZE_TEXT_MAX];
    printf("memory     %s\nvCPUs      %lld of model %s\nclock      %s\n",
           size_text((uint64_t)cli_number(m, "memory"), size), cli_number(m, "cpus"),
           cli_text(m, "cpu") ? cli_text(m, "cpu") : "default",
           json_is_true(json_object_get(m, "host_clock")) ? "host" : "virtual");
    printf("kernel     %s\nappend     %s\n",
           cli_text(m, "kernel") ? cli_text(m, "kernel") : "the embedded one",
           cli_text(m, "append") ? cli_text(m, "append") : "");
}

static int info(const char *dir) {
    struct snapshot *s;
    char grouped[32];
    int code = open_snapshot(dir, &s);
    if (code)
        return code;
    const json_t *j = snapshot_manifest(s), *m = json_object_get(j, "memory"), *one;
    size_t i;
    printf("%s: %s, taken %s under --mmu %s\n", dir, cli_text(j, "schema"),
           cli_text(j, "time") ? cli_text(j, "time") : "?",
           cli_text(j, "mmu") ? cli_text(j, "mmu") : "?");
    printf("guest      %s instructions, ",
           cli_grouped((uint64_t)cli_number(j, "guest_insns"), grouped));
    printf("%.6f s\n", (double)cli_number(j, "guest_ns") / 1e9);
    print_machine(j);
    printf("command   ");
    json_array_foreach(json_object_get(json_object_get(j, "about"), "command"), i, one)
        printf(" %s", json_string_value(one) ? json_string_value(one) : "?");
    if (snapshot_depth(s) > 1)
        printf("\nparent     %s; %u snapshots in all",
               cli_text(json_object_get(j, "parent"), "dir"), snapshot_depth(s));
    printf("\npages      %lld: %lld as in the parent, %lld by sharing its file's blocks, "
           "%lld of zeros, %lld stored, in %lld bytes%s\n",
           cli_number(m, "pages"), cli_number(m, "inherited"), cli_number(m, "cloned"),
           cli_number(m, "zeros"), cli_number(m, "stored"),
           cli_number(m, "chunk_bytes") + cli_number(m, "index_bytes"),
           json_is_true(json_object_get(m, "raw")) ? ", raw: can be mapped" : "");
    printf("sections  ");
    json_array_foreach(json_object_get(j, "sections"), i, one)
        printf(" %s", cli_text(one, "name"));
    putchar('\n');
    snapshot_close(s);
    return CLI_OK;
}

static int verify(const char *dir) {
    struct snapshot *s;
    int code = open_snapshot(dir, &s);
    if (code)
        return code;
    unsigned damaged = snapshot_verify(s, stdout);
    snapshot_close(s);
    if (!damaged)
        printf("%s is whole\n", dir);
    return damaged ? CLI_DAMAGED : CLI_OK;
}

static int diff(const char *first, const char *second) {
    struct snapshot *a = NULL, *b = NULL;
    int code = open_snapshot(first, &a);
    if (!code)
        code = open_snapshot(second, &b);
    if (!code) {
        int n = snapshot_diff(a, b, stdout);
        code = n < 0 ? cli_error("out of memory") : n ? CLI_DIFFERS : CLI_OK;
    }
    snapshot_close(a);
    snapshot_close(b);
    return code;
}

static int merge(const struct options *o) {
    struct snapshot *s;
    char text[320];
    struct err e = {text, sizeof(text)};
    int code = open_snapshot(o->word[1], &s);
    if (code)
        return code;
    int rc = snapshot_merge(s, o->word[2], o->raw, o->force, &e);
    snapshot_close(s);
    if (rc)
        return cli_error("%s", text), cli_snapshot_code(rc);
    printf("%s is written\n", o->word[2]);
    return CLI_OK;
}

/* "restore DIR ..." is "run --restore DIR ...". */
static int restore(int argc, char **argv) {
    char **run = calloc((size_t)argc + 2, sizeof(*run));
    if (!run)
        return cli_error("out of memory");
    run[0] = (char *)(uintptr_t) "run";
    run[1] = (char *)(uintptr_t) "--restore";
    for (int i = 2; i < argc; i++)
        run[i] = argv[i];
    int code = cmd_run(argc, run);
    free(run);
    return code;
}

int cmd_snapshot(int argc, char **argv) {
    struct options o = {.words = 0};
    bool done;
    if (argc > 2 && !strcmp(argv[1], "restore"))
        return restore(argc, argv);
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    const char *what = o.words ? o.word[0] : "";
    if (o.force && strcmp(what, "save") != 0 && strcmp(what, "merge") != 0)
        return option_error(&command, "--force is of save and merge");
    if (o.raw && strcmp(what, "save") != 0 && strcmp(what, "merge") != 0)
        return option_error(&command, "--raw is of save and merge");
    if (o.parent && strcmp(what, "save") != 0)
        return option_error(&command, "--parent is of save");
    if (o.disks && strcmp(what, "save") != 0)
        return option_error(&command, "--disks is of save");
    if (o.live && strcmp(what, "save") != 0)
        return option_error(&command, "--live is of save");
    if (!strcmp(what, "save") && o.words == 3)
        return save(&o);
    if (!strcmp(what, "info") && o.words == 2)
        return info(o.word[1]);
    if (!strcmp(what, "verify") && o.words == 2)
        return verify(o.word[1]);
    if (!strcmp(what, "diff") && o.words == 3)
        return diff(o.word[1], o.word[2]);
    if (!strcmp(what, "merge") && o.words == 3)
        return merge(&o);
    return option_error(&command, "one of: %s", command.args);
}
