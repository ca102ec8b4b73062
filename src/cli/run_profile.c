/* SPDX-License-Identifier: MIT */
/* --profile and --perf-map: files are open before the run, and get their names after it. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/guest/guest.h"
#include "cli/run.h"
#include "inspect/profile.h"

struct run_profile {
    const struct run_options *options;
    struct outfile file, map;
    char map_name[PATH_MAX];
    struct profile *profile;
};

/* %p is this process's number. Return: false: the name is too long. */
static bool expand(const char *pattern, char name[PATH_MAX]) {
    const char *number = strstr(pattern, "%p");
    int n = number ? snprintf(name, PATH_MAX, "%.*s%d%s", (int)(number - pattern),
                              pattern, (int)getpid(), number + 2)
                   : snprintf(name, PATH_MAX, "%s", pattern);
    return n < PATH_MAX;
}

int run_profile_open(const struct run_options *o, struct run_profile **out) {
    *out = NULL;
    if (!o->profile && !o->perf_map)
        return CLI_OK;
    struct run_profile *p = calloc(1, sizeof(*p));
    if (!p)
        return cli_error("out of memory");
    *out = p;
    p->options = o;
    p->file.fd = p->map.fd = -1;
    int rc = o->profile ? outfile_open(&p->file, o->profile) : 0;
    if (rc)
        return cli_cannot_write(o->profile, rc);
    if (o->perf_map && !expand(o->perf_map, p->map_name))
        return cli_cannot_write(o->perf_map, -ENAMETOOLONG);
    rc = o->perf_map ? outfile_open(&p->map, p->map_name) : 0;
    return rc ? cli_cannot_write(p->map_name, rc) : CLI_OK;
}

static bool embedded(const struct run_options *o) {
    return !o->machine.kernel && !o->machine.restore;
}

static size_t blob_size(void) {
    return (size_t)(pn_guest_elf_end - pn_guest_elf);
}

int run_profile_create(struct run_profile *p, struct machine *m) {
    char text[256];
    struct err e = {text, sizeof(text)};
    if (!p || !p->options->profile)
        return CLI_OK;
    const struct profile_config cfg = {
        .machine = m,
        .kernel = p->options->machine.kernel,
        .blob = embedded(p->options) ? pn_guest_elf : NULL,
        .blob_size = blob_size(),
        .rate = p->options->profile_rate,
    };
    return profile_create(&cfg, &p->profile, &e) ? cli_error("%s", text) : CLI_OK;
}

int run_profile_begin(struct run_profile *p) {
    char text[256];
    struct err e = {text, sizeof(text)};
    if (!p || !p->profile || profile_begin(p->profile, &e) == 0)
        return CLI_OK;
    return cli_error("%s", text);
}

void run_profile_end(struct run_profile *p) {
    if (p && p->profile)
        profile_end(p->profile);
}

static json_t *report_of(const struct run_profile *p) {
    struct profile_counts c;
    json_t *parts = json_object();
    profile_count(p->profile, &c);
    for (unsigned i = 0; i < PN_PARTS; i++)
        json_object_set_new(parts, profile_part(i), json_integer((json_int_t)c.part[i]));
    return json_pack("{s:i, s:I, s:I, s:I, s:o}", "rate", (int)p->options->profile_rate,
                     "samples", (json_int_t)c.samples, "missed", (json_int_t)c.missed,
                     "lost", (json_int_t)c.lost, "parts", parts);
}

static int write_profile(struct run_profile *p, json_t **report) {
    static const char pprof[] = ".pb.gz";
    const char *path = p->options->profile;
    size_t length = strlen(path), tail = sizeof(pprof) - 1;
    bool proto = length > tail && !strcmp(path + length - tail, pprof);
    int rc = profile_name(p->profile);
    const struct profile_rows *rows = profile_rows(p->profile);
    if (!rc)
        rc = proto ? profile_write_pprof(rows, p->file.fd)
                   : profile_write_folded(rows, p->file.fd);
    if (!rc)
        rc = outfile_commit(&p->file);
    *report = report_of(p);
    return rc ? cli_cannot_write(path, rc) : CLI_OK;
}

static int write_map(struct run_profile *p, struct machine *m) {
    char text[256];
    struct err e = {text, sizeof(text)};
    struct guest_names *names;
    int rc = guest_names_create(m, p->options->machine.kernel,
                                embedded(p->options) ? pn_guest_elf : NULL, blob_size(),
                                &names, &e);
    if (rc)
        return cli_error("%s", text);
    rc = perf_map_write(m, names, p->map.fd);
    guest_names_destroy(names);
    if (!rc)
        rc = outfile_commit(&p->map);
    return rc ? cli_cannot_write(p->map_name, rc) : CLI_OK;
}

int run_profile_write(struct run_profile *p, struct machine *m, json_t **report) {
    int code = p && p->profile ? write_profile(p, report) : CLI_OK;
    return p && p->options->perf_map && write_map(p, m) ? CLI_HOST : code;
}

void run_profile_close(struct run_profile *p) {
    if (!p)
        return;
    profile_destroy(p->profile);
    outfile_abandon(&p->file);
    outfile_abandon(&p->map);
    free(p);
}
