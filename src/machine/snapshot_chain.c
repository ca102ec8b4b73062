/* SPDX-License-Identifier: MIT */
/*
 * Snapshots that stand on others: a child has the pages that were written since its parent,
 * and names the parent; and a chain made one again.
 *
 * Invariants
 * 1. A child has the digest of its parent's manifest, and that one's manifest the digests of
 *    everything else: whatever differs from what the child was made on is refused.
 * 2. No chain is longer than SNAP_CHAIN_MAX, so none is endless.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine/snapshot_internal.h"

/* ---- Where a parent is ---- */

/* What lies beside it, the folder: "/a/b" of "/a/b/c". Changes path. Return: the last part. */
static char *cut(char *path) {
    char *slash = strrchr(path, '/');
    if (!slash)
        return path;
    *slash = 0;
    return slash + 1;
}

char *snap_parent_dir(const char *dir, const json_t *manifest) {
    const char *name =
        json_string_value(json_object_get(json_object_get(manifest, "parent"), "dir"));
    char *path = NULL, *here = name ? realpath(dir, NULL) : NULL;
    if (here) {
        cut(here);
        if (asprintf(&path, "%s%s%s", *name == '/' ? "" : here, *name == '/' ? "" : "/",
                     name) < 0)
            path = NULL;
    }
    free(here);
    return path;
}

/* The full name of a folder that is not there yet. Return: malloced, or NULL with a line. */
static char *full_name(const char *dir, struct err *e) {
    char *copy = strdup(dir), *full = NULL;
    size_t length = copy ? strlen(copy) : 0;
    while (length > 1 && copy[length - 1] == '/')
        copy[--length] = 0;
    const char *last = copy ? cut(copy) : NULL;
    char *beside = copy ? realpath(last == copy ? "." : *copy ? copy : "/", NULL) : NULL;
    if (!copy)
        err_set(e, -ENOMEM, "out of memory");
    else if (!beside)
        err_sys(e, -errno, "%s", dir);
    else if (asprintf(&full, "%s/%s", beside[1] ? beside : "", last) < 0)
        full = NULL;
    free(beside);
    free(copy);
    return full;
}

/* Is one of the folders of the chain that begins at parent this one? Return: 0, or -errno
 * with a line: -EEXIST. */
static int not_in_chain(const char *full, const char *parent, const json_t *manifest,
                        struct err *e) {
    char *at = realpath(parent, NULL);
    json_t *m = json_incref((json_t *)(uintptr_t)manifest);
    int rc = 0;
    for (unsigned n = 1; rc == 0 && at; n++) {
        if (!strcmp(at, full))
            rc = err_set(e, -EEXIST, "%s is what it would stand on: not replaced", full);
        else if (n == SNAP_CHAIN_MAX)
            rc = err_set(e, -EINVAL, "%s is the last of %u snapshots: merge it first",
                         parent, SNAP_CHAIN_MAX);
        char *next = rc ? NULL : snap_parent_dir(at, m);
        free(at);
        json_decref(m);
        m = NULL;
        at = next ? realpath(next, NULL) : NULL;
        if (next && !at)
            rc = err_sys(e, -errno, "%s", next);
        else if (at)
            rc = snap_read_manifest(at, &m, e);
        free(next);
    }
    free(at);
    json_decref(m);
    return rc;
}

json_t *snap_parent_json(const char *dir, const char *parent, const json_t *manifest,
                         struct err *e) {
    char *full = full_name(dir, e), *path = full ? realpath(parent, NULL) : NULL;
    json_t *j = NULL;
    if (full && !path)
        err_sys(e, -errno, "%s", parent);
    if (path && !not_in_chain(full, parent, manifest, e)) {
        char *copy = strdup(path);
        const char *last = copy ? cut(copy) : NULL;
        size_t beside = last ? strlen(copy) : 0;
        bool same =
            last && !strncmp(full, path, beside + 1) && !strchr(full + beside + 1, '/');
        j = json_pack("{s:s, s:O}", "dir", same ? last : path, "xxh3",
                      json_object_get(manifest, "xxh3"));
        if (!j)
            err_set(e, -EINVAL, "%s is no UTF-8: no parent", parent);
        free(copy);
    }
    free(path);
    free(full);
    return j;
}

/* ---- Opening ---- */

static int open_parent(struct snapshot *s, struct err *e) {
    const json_t *said = json_object_get(s->manifest, "parent");
    uint64_t want, is;
    char *path = snap_parent_dir(s->dir, s->manifest);
    if (!path || !snap_hex(said, "xxh3", &want)) {
        free(path);
        return err_set(e, -EBADMSG, "%s: %s: its parent is not named", s->dir,
                       SNAPSHOT_MANIFEST);
    }
    int rc = snap_open_one(path, true, &s->parent, e);
    if (rc == 0 && (!snap_hex(s->parent->manifest, "xxh3", &is) || is != want))
        rc = err_set(e, -EBADMSG, "%s: not what %s was made on (%016" PRIx64 ")", path,
                     s->dir, want);
    free(path);
    return rc;
}

/* From the lowest up. */
static int stand(struct snapshot *s, struct err *e) {
    char line[200];
    struct err inner = {line, sizeof(line)};
    int rc = s->parent ? stand(s->parent, e) : 0;
    if (rc)
        return rc;
    if (s->parent)
        rc = snap_memory_stand_on(&s->memory, &s->parent->memory, &inner);
    else if (s->memory.inherited)
        rc = err_set(&inner, -EBADMSG, "%s: pages of a parent, and no parent",
                     SNAPSHOT_MANIFEST);
    return rc ? err_set(e, rc, "%s: %s", s->dir, line) : 0;
}

int snapshot_open(const char *dir, struct snapshot **out, struct err *e) {
    char line[500] = "";
    struct err inner = {line, sizeof(line)};
    struct snapshot *top, *s;
    unsigned n = 1;
    *out = NULL;
    int rc = snap_open_one(dir, true, &top, e);
    if (rc)
        return rc;
    for (s = top; rc == 0 && json_object_get(s->manifest, "parent"); s = s->parent)
        if (n++ == SNAP_CHAIN_MAX) {
            rc = err_set(&inner, -EBADMSG, "a chain of more than %u", SNAP_CHAIN_MAX);
            break;
        } else if ((rc = open_parent(s, &inner))) {
            break;
        }
    if (rc == 0)
        rc = stand(top, &inner);
    if (rc) {
        snapshot_close(top);
        return strncmp(line, dir, strlen(dir)) != 0
                   ? err_set(e, rc, "%s: its parent %s", dir, line)
                   : err_set(e, rc, "%s", line);
    }
    *out = top;
    return 0;
}

int snapshot_open_to_map(const char *dir, struct snapshot **out, struct err *e) {
    struct snapshot *s;
    int rc = snap_open_one(dir, false, &s, e);
    *out = NULL;
    if (rc)
        return rc;
    if (json_object_get(s->manifest, "parent") || !s->memory.raw) {
        snapshot_close(s);
        return err_set(
            e, -EINVAL,
            "%s: its memory cannot be mapped: 'snapshot save --raw', or 'snapshot "
            "merge --raw %s NEW', makes one whose can",
            dir, dir);
    }
    *out = s;
    return 0;
}

unsigned snapshot_depth(const struct snapshot *s) {
    unsigned n = 0;
    for (; s; s = s->parent)
        n++;
    return n;
}

int snap_read_pages(const struct snapshot *s, snap_page_fn fn, void *opaque,
                    struct err *e) {
    char line[200] = "";
    struct err inner = {line, sizeof(line)};
    int rc = 0;
    const struct snapshot *one = s;
    for (; rc == 0 && one; one = rc ? one : one->parent)
        rc = snap_memory_read(&one->memory, fn, opaque, NULL, NULL, &inner);
    if (rc == 0)
        return 0;
    return one == s ? err_set(e, rc, "%s", line)
                    : err_set(e, rc, "its parent %s: %s", one->dir, line);
}

/* ---- One again ---- */

static int put(void *opaque, uint64_t page, const uint8_t *data) {
    memcpy((uint8_t *)opaque + page * PN_PAGE_SIZE, data, PN_PAGE_SIZE);
    return 0;
}

/* Every page of the guest, at all. Return: 0, or -errno with a line in e. */
static int fill(const struct snapshot *s, uint8_t *all, struct err *e) {
    const struct snap_memory *m = &s->memory;
    int rc = snap_read_pages(s, put, all, e);
    for (uint64_t p = 0; rc == 0 && p < m->pages; p++)
        if (m->page[p] && snap_first(m, p) != p)
            put(all, p, all + snap_first(m, p) * PN_PAGE_SIZE);
    return rc;
}

static int write_merged(const struct snapshot *s, uint8_t *all, bool raw,
                        struct snap_writer *w, struct err *e) {
    struct snap_region r[SNAP_REGIONS_MAX];
    int rc = fill(s, all, e);
    for (unsigned i = 0; i < s->memory.regions; i++) {
        r[i] = s->memory.region[i];
        r[i].base = all;
        all += r[i].pages * PN_PAGE_SIZE;
    }
    for (unsigned i = 0; rc == 0 && i < s->sections; i++)
        rc = snap_writer_section(w, s->section[i].name, s->section[i].version,
                                 s->section[i].data, s->section[i].size, e);
    if (rc == 0)
        rc = snap_disks_take(s->dir, w, e);
    json_t *memory = rc ? NULL
                        : snap_memory_write(w->memory_fd, r, s->memory.regions, raw, NULL,
                                            snap_threads(0), e);
    json_t *j = memory ? json_copy(s->manifest) : NULL;
    if (rc == 0 && memory) {
        json_object_del(j, "parent");
        json_object_del(j, "xxh3");
        rc = json_object_set(j, "memory", memory) ? err_set(e, -ENOMEM, "out of memory")
                                                  : snap_writer_commit(w, j, e);
    } else if (rc == 0) {
        rc = -EIO;
    }
    json_decref(memory);
    json_decref(j);
    return rc;
}

int snapshot_merge(const struct snapshot *s, const char *dir, bool raw, bool force,
                   struct err *e) {
    char line[400] = "";
    struct err inner = {line, sizeof(line)};
    struct snap_writer w;
    size_t size = s->memory.pages * PN_PAGE_SIZE;
    uint8_t *all = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return err_sys(e, -errno, "the guest's memory, %zu bytes", size);
    int rc = snap_writer_open(&w, dir, force, e);
    if (rc == 0) {
        rc = write_merged(s, all, raw, &w, &inner);
        if (rc && !strncmp(line, dir, strlen(dir)))
            err_set(e, rc, "%s", line);
        else if (rc)
            err_set(e, rc, "%s: %s", s->dir, line);
        snap_writer_abandon(&w);
    }
    munmap(all, size);
    return rc;
}
