/* SPDX-License-Identifier: MIT */
/*
 * --sandbox: what a run keeps. Files are those that options name, and what the host tells about
 * itself; folders for commands of the monitor, which name files later, are --allow-dir's.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "base/wire.h"
#include "cli/run.h"
#include "cli/sandbox.h"
#include "machine/devices.h"
#include "machine/disk_image.h"

#define ANY_FILE (SANDBOX_READ | SANDBOX_WRITE | SANDBOX_NAMES | SANDBOX_FOLDERS)

/* Each is there on some hosts. */
static const struct {
    const char *path;
    unsigned rights;
} always[] = {{"/proc", SANDBOX_READ},
              {"/sys", SANDBOX_READ},
              {"/usr", SANDBOX_READ}, /* libraries that are opened late; time zones */
              {"/lib", SANDBOX_READ},
              {"/lib64", SANDBOX_READ},
              {"/etc/ld.so.cache", SANDBOX_READ},
              {"/etc/localtime", SANDBOX_READ},
              {"/dev/null", SANDBOX_READ | SANDBOX_WRITE},
              {"/dev/urandom", SANDBOX_READ}},
  /* to find a host by its name */
    names[] = {{"/etc/hosts", SANDBOX_READ},         {"/etc/resolv.conf", SANDBOX_READ},
               {"/etc/nsswitch.conf", SANDBOX_READ}, {"/etc/host.conf", SANDBOX_READ},
               {"/etc/gai.conf", SANDBOX_READ},      {"/etc/services", SANDBOX_READ},
               {"/etc/gnutls", SANDBOX_READ}},
  kvm[] = {{"/dev/kvm", SANDBOX_READ | SANDBOX_WRITE | SANDBOX_DEVICE},
           {"/sys/kernel/tracing", ANY_FILE},
           {"/sys/kernel/debug/tracing", ANY_FILE}};

struct rules {
    struct sandbox_files *files;
    int rc; /* the first failure */
};

static void allow(struct rules *r, const char *path, unsigned rights) {
    if (r->rc == 0)
        r->rc = sandbox_files_allow(r->files, path, rights);
}

#define ALLOW_ALL(r, list)                                                               \
    for (unsigned i = 0; i < sizeof(list) / sizeof((list)[0]); i++)                      \
    allow((r), (list)[i].path, (list)[i].rights)

/* The folder that this name is in. */
static void allow_beside(struct rules *r, const char *path, unsigned rights) {
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path + 1) : 1,
             slash ? path : ".");
    allow(r, dir, rights);
}

static void allow_file(void *rules, char file, const char *name) {
    char dir[PATH_MAX];
    if (file != 'w')
        allow(rules, name, SANDBOX_READ);
    else if (outfile_folder(name, dir, sizeof(dir)))
        allow(rules, dir, SANDBOX_NAMES);
}

static void allow_link(void *rules, const char *path) {
    allow(rules, path, SANDBOX_READ);
}

/* qemu-nbd is started, with a socket in a new folder of libnbd's; both are in the same files. */
static void allow_image(struct rules *r, const struct device_spec *d) {
    struct err unsaid = {NULL, 0}; /* who opens it will say so */
    disk_image_chain(d->path, allow_link, r, &unsaid);
    allow(r, "/usr", SANDBOX_PROGRAMS);
    allow(r, "/lib64", SANDBOX_PROGRAMS);
    allow(r, "/tmp", SANDBOX_SOCKETS | SANDBOX_FOLDERS);
}

static void allow_device(struct rules *r, const struct device_spec *d) {
    const unsigned share =
        SANDBOX_WRITE | SANDBOX_NAMES | SANDBOX_FOLDERS | SANDBOX_LINKS;
    if (d->kind == DEVICE_DISK || d->kind == DEVICE_PMEM)
        allow(r, d->path,
              d->read_only || d->snapshot ? SANDBOX_READ : SANDBOX_READ | SANDBOX_WRITE);
    if (d->kind == DEVICE_DISK && d->qcow2)
        allow_image(r, d);
    if (d->kind == DEVICE_SHARE)
        allow(r, d->path, d->read_only ? SANDBOX_READ : SANDBOX_READ | share);
    if (d->kind == DEVICE_NET && *d->net.tap)
        allow(r, "/dev/net/tun", SANDBOX_READ | SANDBOX_WRITE | SANDBOX_DEVICE);
    if (d->kind == DEVICE_VSOCK)
        allow_beside(r, d->path, SANDBOX_SOCKETS);
    for (unsigned i = 0; d->kind == DEVICE_CONSOLE && i < d->ports; i++)
        allow_beside(r, d->port[i].path, SANDBOX_SOCKETS);
    for (unsigned i = 0; d->kind == DEVICE_NET && i < d->net.forwards && r->rc == 0; i++)
        if (!d->net.forward[i].udp)
            r->rc = sandbox_files_listen(r->files, d->net.forward[i].host_port);
}

/* ---- What a run does ---- */

static bool attended(const struct run_options *o) {
    return o->monitor || o->gdb || isatty(STDIN_FILENO);
}

static bool runs_on_host_cpu(const struct machine_config *m) {
    bool host = m->engine->host_cpu;
    for (unsigned i = 0; i < m->handovers; i++)
        host |= m->handover[i].to->host_cpu;
    return host;
}

/* Is there such a device? */
static bool has_device(const struct machine_config *m,
                       bool (*is)(const struct device_spec *)) {
    const char *devices = m->devices;
    struct device_spec d;
    char text[64];
    struct err e = {text, sizeof(text)};
    bool has = false;
    while (device_next(&devices, &d, &e) > 0)
        has |= is(&d);
    return has;
}

/* Does it connect to others? */
static bool reaches_out(const struct device_spec *d) {
    return (d->kind == DEVICE_NET && d->net.open) || d->kind == DEVICE_VSOCK;
}

static bool is_share(const struct device_spec *d) {
    return d->kind == DEVICE_SHARE;
}

static unsigned needs(const struct run_options *o) {
    const struct machine_config *m = &o->machine;
    unsigned n = 0;
    if (attended(o))
        n |= SANDBOX_FORK | SANDBOX_WIRE | SANDBOX_WATCH;
    if (has_device(m, reaches_out))
        n |= SANDBOX_WIRE;
    if (has_device(m, is_share))
        n |= SANDBOX_SHARE;
    if (m->handovers || o->checkpoints)
        n |= SANDBOX_CODE;
    if (o->profile)
        n |= SANDBOX_PROFILE;
    if (runs_on_host_cpu(m)) /* what KVM cannot emulate is a software CPU's */
        n |= SANDBOX_KVM | SANDBOX_CODE;
    return n;
}

/* ---- Files ---- */

/* What commands of the monitor may touch. */
static void allow_later(struct rules *r, const struct run_options *o) {
    for (unsigned i = 0; i < o->allow_dirs; i++)
        allow(r, o->allow_dir[i], ANY_FILE);
    if (o->monitor && !o->allow_dirs)
        allow_beside(r, o->monitor, ANY_FILE);
    if (o->restore)
        allow(r, o->restore, SANDBOX_READ);
}

static void allow_named(struct rules *r, const struct run_options *o, const char *story) {
    const struct machine_config *m = &o->machine;
    const char *devices = m->devices;
    struct device_spec d;
    char text[256];
    struct err e = {text, sizeof(text)};
    run_options_files(o, allow_file, r);
    for (unsigned i = 0; i < m->modules; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%.*s", (int)strcspn(m->module[i], ","),
                 m->module[i]);
        allow(r, path, SANDBOX_READ);
    }
    while (device_next(&devices, &d, &e) > 0)
        allow_device(r, &d);
    if (pn_dirty_by_host(m->dirty))
        allow(r, "/proc/self/clear_refs", SANDBOX_WRITE);
    if (needs(o) & SANDBOX_WATCH)
        allow(r, "/proc/self/pagemap", SANDBOX_READ);
    if (o->monitor)
        allow_beside(r, o->monitor, SANDBOX_NAMES);
    if (o->gdb)
        allow_beside(r, o->gdb, SANDBOX_NAMES);
    if (o->incoming && !strncmp(o->incoming, "unix:", 5))
        allow_beside(r, o->incoming + 5, SANDBOX_NAMES);
    if (*story) {
        allow_beside(r, story, SANDBOX_READ | SANDBOX_NAMES);
        char folder[PATH_MAX];
        snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(story, '/') - story),
                 story);
        allow_beside(r, folder, SANDBOX_FOLDERS);
    }
}

int run_sandbox_files(const struct run_options *o, const char *story) {
    struct rules r = {.files = NULL};
    struct err unsaid = {NULL, 0}; /* who needs it will say so */
    if (o->sandbox != RUN_SANDBOX_OFF && (o->monitor || o->allow_dirs))
        (void)wire_tls_prepare(&unsaid);
    if (o->sandbox != RUN_SANDBOX_ON)
        return CLI_OK;
    r.rc = sandbox_files_create(needs(o) & SANDBOX_WIRE, &r.files);
    if (r.rc == -ENOSYS || r.rc == -EOPNOTSUPP) {
        if (!o->quiet)
            cli_error("the kernel has no Landlock: the sandbox is of system calls alone");
        return CLI_OK;
    }
    ALLOW_ALL(&r, always);
    if (needs(o) & SANDBOX_WIRE)
        ALLOW_ALL(&r, names);
    if (needs(o) & SANDBOX_KVM)
        ALLOW_ALL(&r, kvm);
    allow_named(&r, o, story);
    if (attended(o))
        allow_later(&r, o);
    if (r.rc == 0)
        r.rc = sandbox_files_enter(r.files);
    else
        sandbox_files_drop(r.files);
    if (r.rc == 0)
        return CLI_OK;
    return cli_error("the sandbox: %s; --sandbox off goes on without it",
                     strerror(-r.rc));
}

/* ---- System calls ---- */

static void tell(const char *call) {
    cli_error("sandbox: it would refuse %s", call);
}

static void leave(void) {
    _exit(CLI_OK);
}

int run_sandbox_calls(const struct run_options *o,
                      const struct run_inherited *inherited) {
    static const struct sandbox_log log = {.tell = tell, .leave = leave};
    char text[256];
    struct err e = {text, sizeof(text)};
    if (o->sandbox == RUN_SANDBOX_OFF)
        return CLI_OK;
    for (unsigned i = 0; i < inherited->n; i++)
        close(inherited->fd[i]);
    if (sandbox_calls_enter(needs(o), o->sandbox == RUN_SANDBOX_LOG ? &log : NULL, &e) ==
        0)
        return CLI_OK;
    return cli_error("the sandbox: %s; --sandbox off goes on without it", text);
}
