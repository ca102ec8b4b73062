/* SPDX-License-Identifier: MIT */
/* The monitor's commands about snapshots (monitor.inc). */
#include <errno.h>
#include <string.h>

#include "inspect/monitor_internal.h"
#include "machine/snapshot.h"

int monitor_snapshot_save(struct request *r) {
    bool force = r->args > 1;
    int rc = monitor_may_use_files(r);
    if (!rc && force && strcmp(r->arg[1], "--force") != 0)
        return err_set(&r->err, -EINVAL, "'%s' is not --force", r->arg[1]);
    if (!rc)
        rc = machine_snapshot_save(r->mon->machine, r->arg[0], force, r->mon->cfg.about,
                                   &r->err);
    if (rc)
        return rc;
    fprintf(r->out, "%s is written\n", r->arg[0]);
    if (r->wants_json)
        r->json = json_pack("{s:s}", "snapshot", r->arg[0]);
    return 0;
}
