/* SPDX-License-Identifier: MIT */
/* What `penumbra run` says of its MMU at the end: --explain, --dump-mmu and --audit. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/run.h"
#include "inspect/dump.h"
#include "inspect/explain.h"
#include "inspect/json_out.h"
#include "inspect/linux_machine.h"

static int write_dump(const struct view *v, struct outfile *file) {
    json_t *j = dump_json(v);
    int rc = json_out(j, file->fd, 1);
    json_decref(j);
    return rc;
}

static int explain(const struct run_options *o, struct machine *m, const struct view *v) {
    struct linux_image *image = NULL;
    struct linux_machine guest;
    struct err unsaid = {NULL, 0}; /* a guest may be no Linux */
    int rc = 0;
    if (o->explains && o->machine.kernel &&
        !linux_image_load(o->machine.kernel, &image, &unsaid))
        linux_machine_begin(&guest, m, image);
    for (unsigned i = 0; i < o->explains && !rc; i++) {
        rc = explain_print(v, o->explain[i], stderr);
        if (!rc && image)
            linux_machine_explain(&guest, 0, o->explain[i], stderr);
    }
    linux_image_free(image);
    return rc;
}

/* rc: what writing it came to. Return: 0, or what is wrong, after a line. */
static int finish(struct outfile *file, const char *path, int rc) {
    if (!rc)
        rc = outfile_commit(file);
    return rc && cli_cannot_write(path, rc) ? rc : 0;
}

/* Return: the number of invariants that fail, each a line. */
static int audit(const struct view *v) {
    int bad = pn_mmu_audit(pn_mmu_of(v->vcpu), stderr);
    if (bad)
        cli_error(
            "--audit: %d invariants of the MMU fail: this is a fault of ours, please "
            "report it",
            bad);
    return bad;
}

int run_inspect(const struct run_options *o, struct machine *m, struct outfile *dump,
                struct outfile *drawing) {
    char text[160];
    struct err e = {text, sizeof(text)};
    struct view v;
    int bad = 0;
    if (!o->explains && !o->dump_mmu && !o->audit)
        return CLI_OK;
    if (view_open(&v, m, 0, &e))
        return cli_error("%s", text);
    int rc = explain(o, m, &v);
    if (rc)
        cli_error("--explain: %s", strerror(-rc));
    if (!rc && o->explain_svg)
        rc = finish(drawing, o->explain_svg,
                    explain_svg_file(&v, o->explain[0], drawing->fd));
    if (!rc && o->dump_mmu)
        rc = finish(dump, o->dump_mmu, write_dump(&v, dump));
    if (!rc && o->audit)
        bad = audit(&v);
    view_close(&v);
    return rc ? CLI_HOST : bad ? CLI_DIFFERS : CLI_OK;
}
