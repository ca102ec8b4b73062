/* SPDX-License-Identifier: MIT */
/* `penumbra convert`: libvirt's domain XML as a file of --config. */
#include <errno.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/outfile.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "inspect/json_out.h"
#include "machine/domain.h"

struct options {
    const char *path, *out;
    bool strict;
};

struct notes {
    const char *path;
    unsigned n;
};

static int set_path(void *options, const char *arg, struct err *e) {
    return option_only(&((struct options *)options)->path, arg, e);
}

static const struct option_row rows[] = {
    {"out", 'o', "FILE", "Where it is written", .kind = OPTION_TEXT,
     OPTION_FIELD(struct options, out), .min = 1, .file = 'w'},
    {"strict", 0, NULL, "Fail where something is left out, or taken for something else",
     .kind = OPTION_FLAG, OPTION_FIELD(struct options, strict)},
};

static const struct options defaults = {.out = "-"};

static const struct option_command command = {
    .name = "penumbra convert",
    .args = "DOMAIN.xml",
    .doc =
        "Make options of libvirt's domain XML: memory, huge pages, NUMA, vCPUs, disks, "
        "interfaces, kernel, command line. What is left out is told of in a line each.",
    .more = "Example: virsh dumpxml guest | penumbra convert - -o guest.json && penumbra "
            "run --config guest.json\n\nExit codes: 0 done; 1 host failure; 2 usage, or "
            "no such XML; 9 with --strict: something was left out.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = set_path,
};

static void tell(void *opaque, const char *line) {
    struct notes *n = opaque;
    n->n++;
    cli_error("%s: %s", n->path, line);
}

static int write_out(const struct options *o, json_t *config) {
    struct outfile file = {.fd = -1};
    int rc = outfile_open(&file, o->out);
    if (!rc)
        rc = json_out(config, file.fd, 1);
    if (!rc)
        rc = outfile_commit(&file);
    outfile_abandon(&file);
    return rc ? cli_cannot_write(o->out, rc) : CLI_OK;
}

int cmd_convert(int argc, char **argv) {
    struct options o = defaults;
    char text[400];
    struct err e = {text, sizeof(text)};
    json_t *config;
    void *xml;
    size_t size;
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.path)
        return option_error(&command, "one file");
    struct notes notes = {.path = o.path};
    const char *path = outfile_is_stdout(o.path) ? "/dev/stdin" : o.path;
    if (file_read(path, DOMAIN_XML_MAX, &xml, &size, &e))
        return cli_error("%s", text);
    int rc = domain_convert(xml, size, tell, &notes, &config, &e);
    free(xml);
    if (rc) {
        cli_error("%s: %s", o.path, text);
        return rc == -EINVAL ? CLI_USAGE : CLI_HOST;
    }
    code = o.strict && notes.n ? CLI_DIFFERS : write_out(&o, config);
    json_decref(config);
    return code;
}
