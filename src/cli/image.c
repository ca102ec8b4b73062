/* SPDX-License-Identifier: MIT */
/* `penumbra image`: its options, for the script that does it (scripts/image.sh). */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/option.h"

#define INSTALLED "penumbra-image" /* beside this program */

struct options {
    const char *file, *release, *packages, *kernel, *size;
};

static int set_file(void *options, const char *arg, struct err *e) {
    return option_only(&((struct options *)options)->file, arg, e);
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row rows[] = {
    {"release", 0, "NAME", "Debian's release: bookworm, trixie", .kind = OPTION_TEXT,
     OWN(release), .min = 1},
    {"packages", 0, "NAME,...", "More packages than a login needs", .kind = OPTION_TEXT,
     OWN(packages), .min = 1},
    {"kernel-package", 0, "NAME", "The kernel's package", .kind = OPTION_TEXT,
     OWN(kernel), .min = 1},
    {"size", 0, "SIZE", "Of the disk: M or G", .kind = OPTION_TEXT, OWN(size), .min = 1},
};

static const struct options defaults = {.kernel = "linux-image-cloud-amd64",
                                        .size = "2G"};

static const struct option_command command = {
    .name = "penumbra image",
    .args = "FILE",
    .doc =
        "Make a Debian guest on a disk, with its kernel and initramfs beside it: "
        "penumbra "
        "run --disk FILE boots it, to a login of root without a password at the serial "
        "console.",
    .more =
        "It needs mmdebstrap and e2fsprogs, and apt's mirror; without root fakeroot, and "
        "user namespaces (newuidmap).\n\nExample: penumbra image deb12 --release "
        "bookworm --packages openssh-server && penumbra run --disk deb12 -m 1G --net "
        "user,open",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = set_file,
};

/* The script of an installed tree, or of the source tree that this was built from. */
static const char *script(char *buf, size_t size) {
    ssize_t n = readlink("/proc/self/exe", buf, size - sizeof(INSTALLED));
    buf[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(buf, '/');
    strcpy(slash ? slash + 1 : buf, INSTALLED);
    return access(buf, X_OK) ? PENUMBRA_SCRIPTS "/image.sh" : buf;
}

int cmd_image(int argc, char **argv) {
    struct options o = defaults;
    char path[PATH_MAX];
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.file)
        return option_error(&command, "the file to make");
    if (!o.release)
        return option_error(&command, "--release NAME: bookworm or trixie");
    const char *args[] = {script(path, sizeof(path)),
                          o.file,
                          "--release",
                          o.release,
                          "--kernel-package",
                          o.kernel,
                          "--size",
                          o.size,
                          o.packages ? "--packages" : NULL,
                          o.packages,
                          NULL};
    execv(args[0], (char **)(uintptr_t)args);
    return cli_error("%s: %s", args[0], strerror(errno));
}
