/* SPDX-License-Identifier: MIT */
/* The monitor's commands about snapshots (monitor.inc). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "inspect/monitor_internal.h"
#include "machine/point.h"
#include "machine/snapshot.h"

int monitor_snapshot_save(struct request *r) {
    struct snapshot_request save = {
        .dir = r->arg[0], .about = r->mon->cfg.about, .leave = r->mon->cfg.leave};
    int rc = monitor_may_use_files(r);
    for (unsigned i = 1; rc == 0 && i < r->args; i++)
        if (!strcmp(r->arg[i], "--force"))
            save.force = true;
        else if (!strcmp(r->arg[i], "--live") && save.leave)
            save.live = true;
        else if (!strcmp(r->arg[i], "--raw"))
            save.raw = true;
        else if (!strcmp(r->arg[i], "--disks"))
            save.disks = true;
        else if (!strcmp(r->arg[i], "--parent") && i + 1 < r->args)
            save.parent = r->arg[++i];
        else
            return err_set(&r->err, -EINVAL,
                           "'%s': --force, --raw, --disks, --parent DIR or --live",
                           r->arg[i]);
    uint64_t start = host_ns();
    if (rc == 0)
        rc = machine_snapshot_save(r->mon->machine, &save, &r->err);
    if (rc)
        return rc;
    uint64_t ns = host_ns() - start;
    if (save.live)
        fprintf(r->out, "%s is being written; the guest stood for %.1f ms\n", save.dir,
                (double)ns / 1e6);
    else
        fprintf(r->out, "%s is written\n", save.dir);
    if (r->wants_json)
        r->json = json_pack("{s:s, s:b, s:I}", "snapshot", save.dir, "live", save.live,
                            "stood_ns", (json_int_t)ns);
    return 0;
}

int monitor_info_snapshot(struct request *r) {
    static const char *const words[] = {[SAVING_NONE] = "none",
                                        [SAVING_GOES_ON] = "writing",
                                        [SAVING_DONE] = "written",
                                        [SAVING_FAILED] = "failed"};
    struct machine_saving_report s = {.dir = NULL};
    enum machine_saving_state state = machine_saving(r->mon->machine, false, &s);
    double seconds = (double)s.host_ns / 1e9;
    if (state == SAVING_NONE)
        fputs("there was no live save\n", r->out);
    else if (state == SAVING_FAILED)
        fprintf(r->out, "%s\n", s.error);
    else
        fprintf(r->out, "%s is %s: %.1f s\n", s.dir,
                state == SAVING_DONE ? "written" : "being written", seconds);
    if (r->wants_json)
        r->json = json_pack("{s:s, s:s*, s:f, s:s*}", "state", words[state], "snapshot",
                            s.dir, "seconds", seconds, "error",
                            state == SAVING_FAILED ? s.error : NULL);
    return 0;
}

static int dirty_status(struct request *r) {
    struct pn_memslot s;
    enum pn_dirty_tracker by;
    if (!machine_dirty_slot_at(r->mon->machine, 0, &s, &by))
        return err_set(&r->err, -EINVAL,
                       "this run has no dirty log: begin it with --dirty-log");
    if (r->wants_json)
        r->json = json_array();
    for (unsigned i = 0; machine_dirty_slot_at(r->mon->machine, i, &s, &by); i++) {
        fprintf(r->out, "slot %u: 0x%llx, 0x%llx bytes: %s\n", i,
                (unsigned long long)s.gpa, (unsigned long long)s.size, pn_dirty_name(by));
        if (r->wants_json)
            json_array_append_new(r->json,
                                  json_pack("{s:i, s:I, s:I, s:s}", "slot", (int)i, "gpa",
                                            (json_int_t)s.gpa, "size", (json_int_t)s.size,
                                            "tracker", pn_dirty_name(by)));
    }
    return 0;
}

/* `dirty log on|off SLOT...`: those before one that is refused have changed. */
static int dirty_slots(struct request *r, bool on) {
    int rc = r->args > 1
                 ? 0
                 : err_set(&r->err, -EINVAL, "which slots? 'dirty log' lists them");
    for (unsigned i = 1; rc == 0 && i < r->args; i++) {
        char *end;
        unsigned long slot = strtoul(r->arg[i], &end, 10);
        if (*end || r->arg[i][0] < '0' || r->arg[i][0] > '9' || slot > UINT16_MAX)
            rc = err_set(&r->err, -EINVAL, "'%s': no number of a slot", r->arg[i]);
        else
            rc = machine_dirty_slot(r->mon->machine, (unsigned)slot, on, &r->err);
    }
    return rc ? rc : dirty_status(r);
}

int monitor_dirty_log(struct request *r) {
    const char *name;
    unsigned t = PN_TRACKER_OFF + 1;
    int rc = r->args ? monitor_may_change(r) : dirty_status(r);
    if (rc || !r->args)
        return rc;
    if (!strcmp(r->arg[0], "on") || !strcmp(r->arg[0], "off"))
        return dirty_slots(r, !strcmp(r->arg[0], "on"));
    if (r->args > 1)
        return err_set(&r->err, -EINVAL,
                       "slots go with on and off: a tracker is for all");
    while ((name = pn_dirty_name(t)) && strcmp(name, r->arg[0]) != 0)
        t++;
    if (!name)
        return err_set(&r->err, -EINVAL, "'%s': no tracker", r->arg[0]);
    rc = machine_dirty_switch(r->mon->machine, t, &r->err);
    if (rc == 0)
        fprintf(r->out, "written pages are found by %s\n", name);
    return rc;
}

int monitor_point_keep(struct request *r) {
    struct machine_point *point;
    int rc = monitor_may_change(r);
    if (rc == 0)
        rc = machine_point_take(r->mon->machine, &point, &r->err);
    if (rc)
        return rc;
    machine_point_drop(r->mon->point);
    r->mon->point = point;
    fputs("kept\n", r->out);
    return 0;
}

int monitor_point_reset(struct request *r) {
    struct machine_reset done;
    if (!r->mon->point)
        return err_set(&r->err, -EINVAL, "no point was kept: 'point keep'");
    int rc = monitor_may_change(r);
    if (rc == 0)
        rc = machine_point_reset(r->mon->point, &done, &r->err);
    if (rc)
        return rc;
    fprintf(r->out, "%" PRIu64 " pages, %.1f us\n", done.pages,
            (double)done.host_ns / 1e3);
    if (r->wants_json)
        r->json = json_pack("{s:I, s:I}", "pages", (json_int_t)done.pages, "host_ns",
                            (json_int_t)done.host_ns);
    return 0;
}
