/* SPDX-License-Identifier: MIT */
/* The disk of `penumbra bench debian.*`: where scripts/bench_image.sh, installed penumbra-bench-image, puts it. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench.h"
#include "machine/disk.h"

#define PLACE     "debian-bench/disk"
#define INSTALLED "penumbra-bench-image" /* beside this program */

/* Is this an installed tree's program? */
static bool installed(void) {
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof(INSTALLED));
    path[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, INSTALLED);
    return !access(path, X_OK);
}

/* Beside the folder of the guests, as the script has it. */
static void standard_place(char path[PATH_MAX]) {
    const char *guests = getenv("PENUMBRA_CACHE"), *user = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    const char *slash = guests ? strrchr(guests, '/') : NULL;
    if (slash)
        snprintf(path, PATH_MAX, "%.*s/" PLACE, (int)(slash - guests), guests);
    else if (guests)
        snprintf(path, PATH_MAX, PLACE);
    else if (!installed())
        snprintf(path, PATH_MAX, "%.*s/.cache/" PLACE,
                 (int)(sizeof(PENUMBRA_SCRIPTS) - sizeof("/scripts")), PENUMBRA_SCRIPTS);
    else if (user)
        snprintf(path, PATH_MAX, "%s/penumbra/" PLACE, user);
    else
        snprintf(path, PATH_MAX, "%s/.cache/penumbra/" PLACE, home ? home : "");
}

/* Return: whether it fits, and is there. */
static bool beside(const char *disk, const char *name, char path[PATH_MAX]) {
    return snprintf(path, PATH_MAX, "%s.%s", disk, name) < PATH_MAX &&
           !access(path, R_OK);
}

int bench_find_disk(const char *named, struct bench_disk *d, struct err *e) {
    if (!named)
        standard_place(d->disk);
    else if (snprintf(d->disk, PATH_MAX, "%s", named) >= PATH_MAX)
        return err_set(e, -ENOENT, "--disk: too long a name");
    if (!named && access(d->disk, R_OK))
        return err_set(e, -ENOENT,
                       "%s: no disk with Debian's programs yet: 'make debian-disk' "
                       "(penumbra-bench-image) "
                       "makes it",
                       d->disk);
    if (access(d->disk, R_OK) || !beside(d->disk, "vmlinuz", d->kernel) ||
        !beside(d->disk, "initrd", d->initrd))
        return err_set(e, -ENOENT,
                       "%s: it, FILE.vmlinuz and FILE.initrd must be there, as 'make "
                       "debian-disk' (penumbra-bench-image) makes them",
                       d->disk);
    char *to = d->devices + snprintf(d->devices, sizeof(d->devices), "disk ");
    for (const char *p = d->disk; *p; *to++ = *p++) {
        if (to - d->devices > PATH_MAX)
            return err_set(e, -ENOENT, "--disk: too long a name");
        if (*p == ',') /* of a name, not of an option */
            *to++ = ',';
    }
    strcpy(to, ",snapshot");
    return 0;
}

json_t *bench_disk_json(const struct bench_disk *d) {
    const struct disk_config c = {.path = d->disk, .read_only = true};
    struct err e = {NULL, 0};
    struct disk *disk;
    uint64_t digest = 0;
    if (disk_open(&c, &disk, &e))
        return json_null();
    uint64_t size = disk_device(disk).size;
    int rc = disk_digest(disk, &digest);
    disk_close(disk);
    return rc ? json_null()
              : json_pack("{s:I, s:o}", "bytes", (json_int_t)size, "xxh3",
                          json_sprintf("%016" PRIx64, digest));
}
