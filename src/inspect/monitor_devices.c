/* SPDX-License-Identifier: MIT */
/* The monitor's commands about the machine's devices (monitor.inc). */
#include <errno.h>
#include <inttypes.h>

#include "base/size.h"
#include "dev/virtio_devices.h"
#include "inspect/monitor_internal.h"

#define MIB(pages) ((pages) / 256)

static int no_balloon(struct request *r) {
    return err_set(&r->err, -ENOENT, "this guest has no balloon: run --device balloon");
}

static const struct {
    const char *word;
    bool bytes;
} stats[BALLOON_STATS] = {
#define STAT(name, word, unit) {word, unit},
#include "dev/balloon_stats.inc"
};

static void print_stats(struct request *r, const struct virtio_balloon_report *b) {
    for (unsigned i = 0; i < BALLOON_STATS; i++) {
        if (!(b->known >> i & 1))
            continue;
        fprintf(r->out, "guest: %s %" PRIu64 "%s\n", stats[i].word,
                stats[i].bytes ? b->stat[i] >> 10 : b->stat[i],
                stats[i].bytes ? " KiB" : "");
    }
}

static json_t *stats_json(const struct virtio_balloon_report *b) {
    json_t *all = json_object();
    for (unsigned i = 0; i < BALLOON_STATS; i++)
        if (b->known >> i & 1)
            json_object_set_new(all, stats[i].word, json_integer((json_int_t)b->stat[i]));
    return all;
}

int monitor_balloon_stats(struct request *r) {
    int rc = monitor_may_change(r);
    if (rc == 0)
        rc = machine_ask_balloon(r->mon->machine);
    if (rc == -ENOENT)
        return no_balloon(r);
    return rc == -EAGAIN
               ? err_set(&r->err, rc, "the guest's driver gives no statistics now")
               : rc;
}

int monitor_info_balloon(struct request *r) {
    struct virtio_balloon_report b;
    if (!machine_balloon(r->mon->machine, &b))
        return no_balloon(r);
    fprintf(r->out, "balloon: %" PRIu32 " MiB, asked for %" PRIu32 " MiB\n",
            MIB(b.actual), MIB(b.wanted));
    fprintf(r->out,
            "pages: %" PRIu64 " inflated, %" PRIu64 " deflated, %" PRIu64
            " reported as free\n",
            b.inflated, b.deflated, b.reported);
    print_stats(r, &b);
    if (r->wants_json)
        r->json =
            json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "wanted", (json_int_t)b.wanted,
                      "actual", (json_int_t)b.actual, "inflated", (json_int_t)b.inflated,
                      "deflated", (json_int_t)b.deflated, "reported",
                      (json_int_t)b.reported, "stats", stats_json(&b));
    return 0;
}

/* The size that the guest is to be asked for. Return: 0, or -errno with a line. */
static int size_to_ask(struct request *r, uint64_t *bytes) {
    int rc = size_parse(r->arg[0], bytes);
    if (rc)
        return err_set(&r->err, rc, "'%s' is no size such as 64M", r->arg[0]);
    return monitor_may_change(r);
}

int monitor_balloon(struct request *r) {
    uint64_t bytes;
    int rc = size_to_ask(r, &bytes);
    if (rc == 0)
        rc = machine_set_balloon(r->mon->machine, bytes);
    if (rc == -ENOENT)
        return no_balloon(r);
    return rc == -EINVAL ? err_set(&r->err, rc, "more than the guest has") : rc;
}

static int no_mem(struct request *r) {
    return err_set(&r->err, -ENOENT,
                   "this guest has no such memory: run --device mem,SIZE");
}

int monitor_info_plugged(struct request *r) {
    uint64_t plugged, requested;
    if (!machine_mem(r->mon->machine, &plugged, &requested))
        return no_mem(r);
    fprintf(r->out, "mem: %" PRIu64 " MiB, asked for %" PRIu64 " MiB\n", plugged >> 20,
            requested >> 20);
    if (r->wants_json)
        r->json = json_pack("{s:I, s:I}", "plugged", (json_int_t)plugged, "requested",
                            (json_int_t)requested);
    return 0;
}

int monitor_plug(struct request *r) {
    uint64_t bytes;
    int rc = size_to_ask(r, &bytes);
    if (rc == 0)
        rc = machine_ask_mem(r->mon->machine, bytes);
    if (rc == -ENOENT)
        return no_mem(r);
    return rc == -EINVAL
               ? err_set(&r->err, rc, "more than there is, or no multiple of 2 MiB")
               : rc;
}
