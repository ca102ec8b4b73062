/* SPDX-License-Identifier: MIT */
/* `penumbra dump` and `penumbra diff`: files of `run --dump-mmu` (inspect/dump.h). */
#include "inspect/dump.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "inspect/json_out.h"

struct options {
    const char *path[2];
    const char *json;
};

static int set_path(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    unsigned i = o->path[0] != NULL;
    if (o->path[1])
        return err_set(e, -EINVAL, "unexpected argument '%s'", arg);
    o->path[i] = arg;
    return 0;
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row diff_rows[] = {
    {"json", 0, "FILE", "All differences as JSON; see bench/FORMATS.md",
     .kind = OPTION_TEXT, OWN(json), .min = 1, .file = 'w'},
};

static const struct options defaults = {.json = NULL};

static const struct option_command dump_command = {
    .name = "penumbra dump",
    .args = "FILE",
    .doc = "Print a dump that 'penumbra run --dump-mmu FILE' wrote: memslots; what the "
           "guest's tables map (guest); what the MMU's map (shadow: gva, second: gpa), "
           "with host memory as memslot and offset; every shadow page or second-level "
           "table. One line each, in order.",
    .defaults = &defaults,
    .arg = set_path,
};

static const struct option_command diff_command = {
    .name = "penumbra diff",
    .args = "A B",
    .doc = "Say what differs between two dumps of 'penumbra run --dump-mmu': two "
           "moments, two runs, two MMUs. Lines of A's begin with -, lines of B's with +. "
           "How old a table is, and how often it was written, is no difference; of two "
           "kinds of MMU what the guest's tables map is compared.",
    .more = "Exit codes: 0 nothing differs; 9 something does; 1 a file cannot be read or "
            "written; 2 usage, or no dump.",
    .rows = diff_rows,
    .count = sizeof(diff_rows) / sizeof(diff_rows[0]),
    .defaults = &defaults,
    .arg = set_path,
};

static int load(const char *path, json_t **out) {
    char text[320];
    struct err e = {text, sizeof(text)};
    int rc = dump_load(path, out, &e);
    if (!rc)
        return CLI_OK;
    cli_error("%s", text);
    return rc == -EINVAL ? CLI_USAGE : CLI_HOST;
}

int cmd_dump(int argc, char **argv) {
    struct options o = defaults;
    json_t *dump;
    bool done;
    int code = option_parse(&dump_command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.path[0] || o.path[1])
        return option_error(&dump_command, "one file");
    code = load(o.path[0], &dump);
    if (code)
        return code;
    dump_print(dump, stdout);
    json_decref(dump);
    return CLI_OK;
}

static int write_json(json_t *diff, const struct options *o, struct outfile *file) {
    json_t *j = json_pack("{s:s, s:s, s:s, s:O}", "schema", "penumbra-diff-1", "a",
                          o->path[0], "b", o->path[1], "differences", diff);
    int rc = json_out(j, file->fd, 1);
    json_decref(j);
    if (!rc)
        rc = outfile_commit(file);
    return rc ? cli_cannot_write(o->json, rc) : CLI_OK;
}

static int compare(const struct options *o, struct outfile *file) {
    json_t *a, *b = NULL, *diff;
    int code = load(o->path[0], &a);
    if (code)
        return code;
    code = load(o->path[1], &b);
    if (!code && (diff = dump_diff(a, b))) {
        dump_diff_print(diff, o->json && outfile_is_stdout(o->json) ? stderr : stdout);
        code = json_array_size(diff) ? CLI_DIFFERS : CLI_OK;
        if (o->json && write_json(diff, o, file))
            code = CLI_HOST;
        json_decref(diff);
    } else if (!code) {
        code = cli_error("out of memory");
    }
    json_decref(a);
    json_decref(b);
    return code;
}

int cmd_diff(int argc, char **argv) {
    struct options o = defaults;
    struct outfile file = {.fd = -1};
    bool done;
    int code = option_parse(&diff_command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.path[1])
        return option_error(&diff_command, "two files");
    int rc = o.json ? outfile_open(&file, o.json) : 0;
    if (rc)
        return cli_cannot_write(o.json, rc);
    code = compare(&o, &file);
    outfile_abandon(&file);
    return code;
}
