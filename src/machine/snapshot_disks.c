/* SPDX-License-Identifier: MIT */
/*
 * Disks of a machine that is saved, and the firmware that it started in: by name and digest. What is
 * on them stays where it is, and who goes on from the snapshot needs them as they were.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "machine/bios.h"
#include "machine/pci.h"
#include "machine/snapshot_internal.h"

static void section_name(char name[32], unsigned disk) {
    snprintf(name, 32, "disk%u", disk);
}

int snap_disks_can_be_saved(struct machine *m, struct err *e) {
    if (machine_has_connections(m))
        return err_set(
            e, -EINVAL,
            "the connections of a network or a vsock cannot be saved: no snapshot");
    if (machine_has_more_memory(m))
        return err_set(e, -EINVAL,
                       "memory of a device 'mem' or 'pmem' is in no snapshot: there can "
                       "be none");
    if (machine_has_share(m))
        return err_set(e, -EINVAL,
                       "what a guest has open of a shared folder cannot be saved: no "
                       "snapshot");
    if (machine_waits_for_room(m))
        return err_set(
            e, -EAGAIN,
            "a disk waits until the host's has room: make room, and let the guest "
            "go on first");
    for (unsigned i = 0; i < machine_disks(m); i++)
        if (machine_disk_is_lost(m, i))
            return err_set(
                e, -EINVAL,
                "%s: with 'snapshot' what was written to it is in memory alone: "
                "no snapshot",
                machine_disk_path(m, i));
    return 0;
}

#define FIRMWARE "firmware"

int snap_disks_save(struct machine *m, struct snap_writer *w, struct err *e) {
    uint64_t rom = m->bios ? bios_digest(m) : 0;
    int rc = m->bios ? snap_writer_section(w, FIRMWARE, 1, &rom, sizeof(rom), e) : 0;
    for (unsigned i = 0; rc == 0 && i < machine_disks(m); i++) {
        uint64_t digest;
        char name[32];
        section_name(name, i);
        rc = machine_disk_digest(m, i, &digest);
        rc = rc ? err_sys(e, rc, "%s", machine_disk_path(m, i))
                : snap_writer_section(w, name, 1, &digest, sizeof(digest), e);
    }
    return rc;
}

/* Does the section have this digest? what, path: for the line. */
static int expect(struct machine *m, const char *section, const char *what,
                  const char *path, uint64_t is, struct err *e) {
    uint64_t was;
    const struct snap_section *n = snap_find(m->cfg.restore, section);
    if (!n || n->version != 1 || n->size != sizeof(was))
        return err_set(e, -EINVAL, "section %s: there is none of this version", section);
    memcpy(&was, n->data, sizeof(was));
    return is == was ? 0
                     : err_set(e, -EINVAL,
                               "the %s %s is not what it was: digest %016" PRIx64
                               ", and now %016" PRIx64,
                               what, path, was, is);
}

int snap_disks_check(struct machine *m, struct err *e) {
    int rc =
        m->bios ? expect(m, FIRMWARE, "firmware", m->cfg.firmware, bios_digest(m), e) : 0;
    for (unsigned i = 0; rc == 0 && i < machine_disks(m); i++) {
        uint64_t is;
        char name[32];
        section_name(name, i);
        rc = machine_disk_digest(m, i, &is);
        if (rc)
            return err_sys(e, rc, "%s", machine_disk_path(m, i));
        rc = expect(m, name, "disk", machine_disk_path(m, i), is, e);
    }
    return rc;
}
