/* SPDX-License-Identifier: MIT */
/*
 * Disks of a machine that is saved, and the firmware that it started in: by name and digest. What is
 * on them stays where it is, and who goes on from the snapshot needs them as they were. With --disks
 * the folder has a copy of each that the guest writes to, which may be put back.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
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

/* rc: what came of the copy. It stays when the host fails. */
static int close_copy(int fd, int rc) {
    if (rc == 0 && fsync(fd))
        rc = -errno;
    if (close(fd) && rc == 0)
        rc = -errno;
    return rc;
}

int snap_disks_copy(struct machine *m, const struct snap_writer *w, struct err *e) {
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < machine_disks(m); i++) {
        char name[SNAP_DISK_NAME];
        if (!machine_disk_is_written(m, i))
            continue;
        snap_disk_name(name, i);
        int fd = snap_writer_file(w, name);
        rc = fd < 0 ? fd : close_copy(fd, machine_disk_copy(m, i, fd));
        if (rc == -EINVAL)
            err_set(
                e, rc,
                "%s: --disks takes no disk in qcow2: let the guest begin on an overlay, "
                "and keep that",
                machine_disk_path(m, i));
        else if (rc)
            err_sys(e, rc, "%s/%s", w->dir, name);
    }
    return rc;
}

int snap_disks_take(const char *dir, const struct snap_writer *w, struct err *e) {
    int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), rc = at < 0 ? -errno : 0;
    for (unsigned i = 0; rc == 0 && i < MACHINE_DEVICES_MAX; i++) {
        char name[SNAP_DISK_NAME];
        struct stat st;
        snap_disk_name(name, i);
        int from = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (from < 0 && errno == ENOENT)
            continue;
        int to = from < 0 || fstat(from, &st) ? -errno : snap_writer_file(w, name);
        rc = to < 0 ? to : close_copy(to, file_copy(from, to, (uint64_t)st.st_size));
        if (from >= 0)
            close(from);
    }
    if (at >= 0)
        close(at);
    return rc ? err_sys(e, rc, "the disks of %s", dir) : 0;
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

/* Disk i is not what it was: where the folder has a copy, the line says so. */
static void name_copy(struct machine *m, unsigned i, struct err *e) {
    const char *dir = m->cfg.restore->dir;
    char name[SNAP_DISK_NAME], path[PATH_MAX];
    snap_disk_name(name, i);
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path) &&
        !access(path, F_OK))
        err_set(e, -EINVAL,
                "the disk %s is not what it was; the snapshot has it: cp --sparse=always "
                "%s %s",
                machine_disk_path(m, i), path, machine_disk_path(m, i));
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
        if (rc)
            name_copy(m, i, e);
    }
    return rc;
}
