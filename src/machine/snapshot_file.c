/* SPDX-License-Identifier: MIT */
/*
 * The folder of a snapshot: manifest.json, which says what is where; state.bin, the sections
 * one behind another; memory.bin (snapshot_memory.c).
 *
 * Invariants
 * 1. A folder is written beside its name, synced and renamed: whenever its writer dies, the
 *    name has what it had before, or the whole snapshot.
 * 2. Nothing but a folder with these files alone is ever replaced.
 * 3. Every byte is under a digest: the manifest under its own, the others under the
 *    manifest's.
 */
#define _GNU_SOURCE /* renameat2 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/thread.h"
#include "machine/snapshot_internal.h"

#define MANIFEST_MAX (4u << 20)
#define NAMES_MAX    100

static const char *const files[] = {SNAPSHOT_MANIFEST, SNAPSHOT_STATE, SNAPSHOT_MEMORY};
#define FILES (sizeof(files) / sizeof(files[0]))

/* ---- Numbers of a manifest ---- */

bool snap_number(const json_t *object, const char *key, uint64_t max, uint64_t *out) {
    const json_t *j = json_object_get(object, key);
    *out = json_is_integer(j) ? (uint64_t)json_integer_value(j) : 0;
    return json_is_integer(j) && json_integer_value(j) >= 0 && *out <= max;
}

bool snap_hex(const json_t *object, const char *key, uint64_t *out) {
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *out = strtoull(text, NULL, 16);
    return true;
}

static json_t *hex(uint64_t value) {
    return json_sprintf("%016" PRIx64, value);
}

/* Of all but the digest itself. Return: malloced, or NULL. */
static json_t *digest_of(const json_t *manifest) {
    json_t *copy = json_copy((json_t *)(uintptr_t)manifest), *digest = NULL;
    if (copy)
        json_object_del(copy, "xxh3");
    char *text = copy ? json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (text)
        digest = hex(XXH3_64bits(text, strlen(text)));
    free(text);
    json_decref(copy);
    return digest;
}

/* ---- Writing ---- */

/* Has the folder nothing but a snapshot's files, one of them a manifest? */
static bool is_snapshot(const char *dir) {
    DIR *d = opendir(dir);
    bool manifest = false, others = false;
    char disk[SNAP_DISK_NAME];
    for (const struct dirent *one; d && (one = readdir(d));) {
        bool ours = !strcmp(one->d_name, ".") || !strcmp(one->d_name, "..");
        for (unsigned i = 0; i < FILES; i++)
            ours |= !strcmp(one->d_name, files[i]);
        for (unsigned i = 0; i < MACHINE_DEVICES_MAX && !ours; i++) {
            snap_disk_name(disk, i);
            ours = !strcmp(one->d_name, disk);
        }
        manifest |= !strcmp(one->d_name, SNAPSHOT_MANIFEST);
        others |= !ours;
    }
    if (d)
        closedir(d);
    return manifest && !others;
}

static void remove_file(const char *dir, const char *name) {
    char *path;
    if (asprintf(&path, "%s/%s", dir, name) >= 0) {
        unlink(path);
        free(path);
    }
}

static void remove_folder(const char *dir) {
    char disk[SNAP_DISK_NAME];
    for (unsigned i = 0; i < FILES; i++)
        remove_file(dir, files[i]);
    for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++) {
        snap_disk_name(disk, i);
        remove_file(dir, disk);
    }
    rmdir(dir);
}

/* Return: 0 or -errno. */
static int make_temp(struct snap_writer *w) {
    for (int i = 0; i < NAMES_MAX; i++) {
        unsigned bits;
        if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
            return -EIO;
        if (asprintf(&w->temp, "%s.%06x.part", w->dir, bits & 0xffffff) < 0) {
            w->temp = NULL;
            return -ENOMEM;
        }
        if (!mkdir(w->temp, 0777))
            return 0;
        free(w->temp);
        w->temp = NULL;
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

int snap_writer_file(const struct snap_writer *w, const char *name) {
    int fd = openat(w->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return fd < 0 ? -errno : fd;
}

static int open_files(struct snap_writer *w) {
    w->fd = open(w->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->fd < 0)
        return -errno;
    w->state_fd = snap_writer_file(w, SNAPSHOT_STATE);
    w->memory_fd = w->state_fd < 0 ? -1 : snap_writer_file(w, SNAPSHOT_MEMORY);
    return w->state_fd < 0 ? w->state_fd : w->memory_fd < 0 ? w->memory_fd : 0;
}

int snap_writer_open(struct snap_writer *w, const char *dir, bool force, struct err *e) {
    struct stat st;
    *w = (struct snap_writer){.fd = -1, .state_fd = -1, .memory_fd = -1, .clone_fd = -1};
    size_t length = strlen(dir);
    while (length > 1 && dir[length - 1] == '/')
        length--;
    w->replaces = !lstat(dir, &st);
    if (w->replaces && !force)
        return err_set(e, -EEXIST, "%s exists: --force replaces a snapshot", dir);
    if (w->replaces && (!S_ISDIR(st.st_mode) || !is_snapshot(dir)))
        return err_set(e, -EEXIST, "%s is no snapshot: not replaced", dir);
    w->dir = strndup(dir, length);
    w->sections = json_array();
    int rc = w->dir && w->sections ? make_temp(w) : -ENOMEM;
    if (rc == 0)
        rc = open_files(w);
    if (rc) {
        snap_writer_abandon(w);
        return err_sys(e, rc, "%s", dir);
    }
    return 0;
}

int snap_writer_section(struct snap_writer *w, const char *name, uint32_t version,
                        const void *data, size_t size, struct err *e) {
    json_t *j =
        json_pack("{s:s, s:i, s:I, s:o}", "name", name, "version", (int)version, "bytes",
                  (json_int_t)size, "xxh3", hex(XXH3_64bits(data, size)));
    if (!j || json_array_append_new(w->sections, j))
        return err_set(e, -ENOMEM, "out of memory");
    int rc = file_write(w->state_fd, data, size);
    return rc ? err_sys(e, rc, "%s/%s", w->dir, SNAPSHOT_STATE) : 0;
}

/* Return: its descriptor, or -errno. */
static int write_manifest(struct snap_writer *w, json_t *manifest) {
    if (json_object_set(manifest, "sections", w->sections) ||
        json_object_set_new(manifest, "xxh3", digest_of(manifest)))
        return -ENOMEM;
    char *text = json_dumps(manifest, JSON_INDENT(1));
    int fd = text ? snap_writer_file(w, SNAPSHOT_MANIFEST) : -ENOMEM;
    int rc = fd < 0 ? fd : file_write(fd, text, strlen(text));
    if (rc == 0)
        rc = file_write(fd, "\n", 1);
    free(text);
    if (rc && fd >= 0)
        close(fd);
    return rc ? rc : fd;
}

/* A file that is synced beside others. */
struct sync {
    pthread_t thread;
    bool started;
    int fd, rc;
};

static void *sync_one(void *opaque) {
    struct sync *s = opaque;
    s->rc = fsync(s->fd) ? -errno : 0;
    return NULL;
}

/* All files are on their way to the disk before the first is waited for, and all are waited for at
 * once: the disk is asked to keep what it has once or twice, and not once for each.
 * Return: 0 or -errno. */
static int sync_all(const struct snap_writer *w, int manifest_fd) {
    struct sync s[] = {
        {.fd = w->memory_fd}, {.fd = w->state_fd}, {.fd = manifest_fd}, {.fd = w->fd}};
    const unsigned n = sizeof(s) / sizeof(s[0]);
    int rc = 0;
    for (unsigned i = 0; i + 1 < n; i++)
        sync_file_range(s[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a hint */
    for (unsigned i = 1; i < n; i++)
        s[i].started = thread_start(&s[i].thread, sync_one, &s[i]) == 0;
    for (unsigned i = 0; i < n; i++) {
        if (s[i].started)
            pthread_join(s[i].thread, NULL);
        else
            sync_one(&s[i]);
        rc = rc ? rc : s[i].rc;
    }
    return rc;
}

/* Some file systems have no renames that look first. */
static int rename_new(const char *from, const char *to) {
    if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
        return 0;
    return errno == EINVAL && !rename(from, to) ? 0 : -errno;
}

/* A folder's new name stays when the one that holds it is synced. */
static void sync_parent(const char *dir) {
    const char *slash = strrchr(dir, '/');
    char *parent = slash ? strndup(dir, (size_t)(slash - dir) + 1) : strdup(".");
    int fd = parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(parent);
}

int snap_writer_commit(struct snap_writer *w, json_t *manifest, struct err *e) {
    int fd = write_manifest(w, manifest), rc = fd < 0 ? fd : sync_all(w, fd);
    if (fd >= 0 && close(fd) && rc == 0)
        rc = -errno;
    if (rc == 0 && w->replaces)
        rc = renameat2(AT_FDCWD, w->temp, AT_FDCWD, w->dir, RENAME_EXCHANGE) ? -errno : 0;
    else if (rc == 0)
        rc = rename_new(w->temp, w->dir);
    if (rc)
        return err_sys(e, rc, "%s", w->dir);
    sync_parent(w->dir);
    if (!w->replaces) { /* else it holds what was there before, and goes */
        free(w->temp);
        w->temp = NULL;
    }
    snap_writer_abandon(w);
    return 0;
}

void snap_writer_abandon(struct snap_writer *w) {
    const int fds[] = {w->fd, w->state_fd, w->memory_fd};
    for (unsigned i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (w->temp)
        remove_folder(w->temp);
    free(w->temp);
    free(w->dir);
    json_decref(w->sections);
    *w = (struct snap_writer){.fd = -1, .state_fd = -1, .memory_fd = -1, .clone_fd = -1};
}

struct snap_writer snap_writer_hand_over(struct snap_writer *w) {
    struct snap_writer names = *w;
    const int fds[] = {w->fd, w->state_fd, w->memory_fd};
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
    names.fd = names.state_fd = names.memory_fd = names.clone_fd = -1;
    *w = (struct snap_writer){.fd = -1, .state_fd = -1, .memory_fd = -1, .clone_fd = -1};
    return names;
}

void snap_writer_forget(struct snap_writer *w) {
    free(w->temp);
    w->temp = NULL;
    snap_writer_abandon(w);
}

/* ---- Opening ---- */

static int bad_manifest(struct err *e) {
    return err_set(e, -EBADMSG, "%s: damaged", SNAPSHOT_MANIFEST);
}

static char *path_of(const struct snapshot *s, const char *name) {
    char *path;
    return asprintf(&path, "%s/%s", s->dir, name) < 0 ? NULL : path;
}

static int read_file(const struct snapshot *s, const char *name, uint64_t max,
                     uint8_t **data, size_t *size, struct err *e) {
    void *bytes = NULL;
    char *path = path_of(s, name);
    int rc = path ? file_read(path, max, &bytes, size, e)
                  : err_set(e, -ENOMEM, "out of memory");
    free(path);
    *data = bytes;
    return rc == -EFBIG ? -EBADMSG : rc;
}

static int read_manifest(struct snapshot *s, struct err *e) {
    uint8_t *text;
    size_t size;
    int rc = read_file(s, SNAPSHOT_MANIFEST, MANIFEST_MAX, &text, &size, e);
    if (rc)
        return rc;
    s->manifest = json_loadb((const char *)text, size, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    if (!json_is_object(s->manifest))
        return bad_manifest(e);
    const char *schema = json_string_value(json_object_get(s->manifest, "schema"));
    if (!schema || strncmp(schema, SNAPSHOT_SCHEMA, sizeof(SNAPSHOT_SCHEMA) - 2))
        return err_set(e, -EINVAL, "%s: of no snapshot", SNAPSHOT_MANIFEST);
    if (strcmp(schema, SNAPSHOT_SCHEMA))
        return err_set(e, -EINVAL, "%s: %s, and not %s", SNAPSHOT_MANIFEST, schema,
                       SNAPSHOT_SCHEMA);
    json_t *digest = digest_of(s->manifest);
    bool same = digest && json_equal(digest, json_object_get(s->manifest, "xxh3"));
    json_decref(digest);
    return same ? 0 : bad_manifest(e);
}

int snap_take_sections(struct snapshot *s, uint8_t *state, size_t size, struct err *e) {
    const json_t *one, *list = json_object_get(s->manifest, "sections");
    size_t i, all = 0;
    s->state = state;
    if (!json_is_array(list) || json_array_size(list) > SNAP_SECTIONS_MAX)
        return bad_manifest(e);
    json_array_foreach(list, i, one) {
        struct snap_section *n = &s->section[i];
        const char *name = json_string_value(json_object_get(one, "name"));
        uint64_t version, bytes;
        if (!name || !*name || strlen(name) >= sizeof(n->name) || snap_find(s, name) ||
            !snap_number(one, "version", INT32_MAX, &version) ||
            !snap_number(one, "bytes", SNAP_STATE_MAX - all, &bytes) ||
            !snap_hex(one, "xxh3", &n->hash))
            return bad_manifest(e);
        snprintf(n->name, sizeof(n->name), "%s", name);
        n->version = (uint32_t)version;
        n->size = bytes;
        all += bytes;
        s->sections++;
    }
    const uint8_t *at = s->state, *end = s->state + size;
    for (i = 0; i < s->sections; at += s->section[i++].size) {
        struct snap_section *n = &s->section[i];
        n->data = at;
        if ((size_t)(end - at) < n->size)
            return err_set(e, -EBADMSG, "section %s: cut short", n->name);
        if (XXH3_64bits(at, n->size) != n->hash)
            return err_set(e, -EBADMSG, "section %s: damaged", n->name);
    }
    return at == end ? 0
                     : err_set(e, -EBADMSG, "%s: more bytes than its sections have",
                               SNAPSHOT_STATE);
}

static int read_sections(struct snapshot *s, struct err *e) {
    uint8_t *state;
    size_t size;
    int rc = read_file(s, SNAPSHOT_STATE, SNAP_STATE_MAX, &state, &size, e);
    return rc ? rc : snap_take_sections(s, state, size, e);
}

static int open_memory(struct snapshot *s, bool index, struct err *e) {
    char *path = path_of(s, SNAPSHOT_MEMORY);
    if (!path)
        return err_set(e, -ENOMEM, "out of memory");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? err_sys(e, -errno, "%s", path) : 0;
    free(path);
    if (rc == 0)
        rc = snap_memory_open(&s->memory, json_object_get(s->manifest, "memory"), fd, e);
    return rc == 0 && index ? snap_memory_index(&s->memory, e) : rc;
}

/* A line that begins with the folder. Return: rc. */
static int with_folder(const char *dir, int rc, const char *line, struct err *e) {
    bool named = !strncmp(line, dir, strlen(dir));
    return named ? err_set(e, rc, "%s", line) : err_set(e, rc, "%s: %s", dir, line);
}

int snap_open_one(const char *dir, bool index, struct snapshot **out, struct err *e) {
    char line[400] = "";
    struct err inner = {line, sizeof(line)};
    struct snapshot *s = calloc(1, sizeof(*s));
    *out = NULL;
    if (!s || !(s->dir = strdup(dir))) {
        free(s);
        return err_set(e, -ENOMEM, "out of memory");
    }
    s->memory.fd = -1;
    int rc = read_manifest(s, &inner);
    if (rc == 0)
        rc = read_sections(s, &inner);
    if (rc == 0)
        rc = open_memory(s, index, &inner);
    if (rc) {
        snapshot_close(s);
        return with_folder(dir, rc, line, e);
    }
    *out = s;
    return 0;
}

int snap_read_manifest(const char *dir, json_t **out, struct err *e) {
    char line[400] = "";
    struct err inner = {line, sizeof(line)};
    struct snapshot s = {.dir = (char *)(uintptr_t)dir};
    int rc = read_manifest(&s, &inner);
    *out = s.manifest;
    if (rc == 0)
        return 0;
    json_decref(s.manifest);
    *out = NULL;
    return with_folder(dir, rc, line, e);
}

void snapshot_close(struct snapshot *s) {
    while (s) {
        struct snapshot *parent = s->parent;
        snap_memory_close(&s->memory);
        json_decref(s->manifest);
        free(s->state);
        free(s->dir);
        free(s);
        s = parent;
    }
}

const struct snap_section *snap_find(const struct snapshot *s, const char *name) {
    for (unsigned i = 0; i < s->sections; i++)
        if (!strcmp(s->section[i].name, name))
            return &s->section[i];
    return NULL;
}

const struct snap_section *snap_section(const struct snapshot *s, const char *name,
                                        uint32_t version, struct err *e) {
    const struct snap_section *n = snap_find(s, name);
    if (!n)
        err_set(e, -EINVAL, "section %s: there is none", name);
    else if (n->version != version)
        err_set(e, -EINVAL, "section %s: version %" PRIu32 ", and not %" PRIu32, name,
                n->version, version);
    return n && n->version == version ? n : NULL;
}

const json_t *snapshot_manifest(const struct snapshot *s) {
    return s->manifest;
}
