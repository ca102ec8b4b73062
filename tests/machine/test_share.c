/* SPDX-License-Identifier: MIT */
/* A shared folder: what a guest does with it, and that nothing outside of it is reached. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine/share.h"
#include "tests/suite.h"

enum {
    LOPEN = 12,
    LCREATE = 14,
    SYMLINK = 16,
    GETATTR = 24,
    SETATTR = 26,
    READDIR = 40,
    MKDIR = 72,
    UNLINKAT = 76,
    VERSION = 100,
    ATTACH = 104,
    WALK = 110,
    READ = 116,
    WRITE = 118,
    CLUNK = 120,
};

static char base[64], folder[96];
static struct share *s, *ro;
static uint8_t in[1024], out[4096];
static size_t size, got;

/* A file of this host's. */
static void put(const char *name, const char *text) {
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void make_links(void) {
    char path[160];
    snprintf(path, sizeof(path), "%s/out", folder);
    ck_assert_int_eq(symlink("../secret", path), 0);
    snprintf(path, sizeof(path), "%s/up", folder);
    ck_assert_int_eq(symlink("..", path), 0);
    snprintf(path, sizeof(path), "%s/pipe", folder);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
}

static void setup(void) {
    char text[200];
    struct err e = {text, sizeof(text)};
    strcpy(base, "/tmp/pn-share-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    snprintf(folder, sizeof(folder), "%s/shared", base);
    ck_assert_int_eq(mkdir(folder, 0755), 0);
    put("secret", "not for you");
    put("shared/file", "contents");
    make_links();
    ck_assert_int_eq(share_open(folder, false, &s, &e), 0);
    ck_assert_int_eq(share_open(folder, true, &ro, &e), 0);
}

static int gone(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static void teardown(void) {
    share_close(s);
    share_close(ro);
    nftw(base, gone, 8, FTW_DEPTH | FTW_PHYS);
}

static void u(uint64_t value, unsigned bytes) {
    memcpy(in + size, &value, bytes);
    size += bytes;
}

static void text(const char *t) {
    u(strlen(t), 2);
    memcpy(in + size, t, strlen(t));
    size += strlen(t);
}

static void begin(uint8_t type) {
    size = 4;
    u(type, 1);
    u(7, 2);
}

/* Return: 0, or the error as a positive number; the answer is in `out`. */
static int say(struct share *to) {
    const struct dev_9p server = share_server(to);
    uint32_t length = (uint32_t)size, code = 0;
    memcpy(in, &length, 4);
    got = server.message(server.opaque, 1, in, size, out, sizeof(out));
    ck_assert_uint_ge(got, 7);
    ck_assert_uint_eq(out[5], 7);
    if (out[4] == 7)
        memcpy(&code, out + 7, 4);
    else
        ck_assert_uint_eq(out[4], in[4] + 1u);
    return (int)code;
}

static void attach(struct share *to, uint32_t fid) {
    begin(ATTACH);
    u(fid, 4);
    u(UINT32_MAX, 4);
    text("");
    text("");
    u(0, 4);
    ck_assert_int_eq(say(to), 0);
}

static int walk(struct share *to, uint32_t fid, uint32_t to_fid, const char *name) {
    begin(WALK);
    u(fid, 4);
    u(to_fid, 4);
    u(name ? 1 : 0, 2);
    if (name)
        text(name);
    return say(to);
}

static int lopen(struct share *to, uint32_t fid, int flags) {
    begin(LOPEN);
    u(fid, 4);
    u((unsigned)flags, 4);
    return say(to);
}

static int create(struct share *to, uint32_t fid, const char *name, unsigned mode) {
    begin(LCREATE);
    u(fid, 4);
    text(name);
    u(O_RDWR, 4);
    u(mode, 4);
    u(0, 4);
    return say(to);
}

static int read_at(uint32_t fid, uint64_t at, uint32_t count) {
    begin(READ);
    u(fid, 4);
    u(at, 8);
    u(count, 4);
    return say(s);
}

START_TEST(a_file_is_made_written_and_read) {
    struct stat st;
    char path[160];
    attach(s, 0);
    ck_assert_int_eq(walk(s, 0, 1, NULL), 0);
    ck_assert_int_eq(create(s, 1, "new", 06644), 0);
    begin(WRITE);
    u(1, 4);
    u(3, 8);
    u(5, 4);
    memcpy(in + size, "hello", 5);
    size += 5;
    ck_assert_int_eq(say(s), 0);
    ck_assert_int_eq(read_at(1, 2, 100), 0);
    ck_assert_uint_eq(got, 7 + 4 + 6);
    ck_assert_int_eq(memcmp(out + 11, "\0hello", 6), 0);
    snprintf(path, sizeof(path), "%s/new", folder);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 06000, 0);
    ck_assert_int_eq(walk(s, 0, 2, "file"), 0);
    ck_assert_int_eq(lopen(s, 2, O_RDONLY), 0);
    ck_assert_int_eq(read_at(2, 0, 8), 0);
    ck_assert_int_eq(memcmp(out + 11, "contents", 8), 0);
}
END_TEST

START_TEST(nothing_outside_the_folder_is_reached) {
    static const char *const names[] = {"..", ".", "", "../secret", "a/b", "/etc"};
    attach(s, 0);
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        ck_assert_int_eq(walk(s, 0, 1, names[i]), EACCES);
        ck_assert_int_ne(create(s, 0, names[i], 0644), 0);
    }
    ck_assert_int_eq(walk(s, 0, 2, "out"), 0); /* a link is what the guest sees */
    ck_assert_int_eq(lopen(s, 2, O_RDONLY), EACCES);
    begin(SETATTR);
    u(2, 4);
    u(8, 4); /* its size */
    for (unsigned i = 0; i < 3; i++)
        u(0, 4);
    for (unsigned i = 0; i < 5; i++)
        u(0, 8);
    ck_assert_int_eq(say(s), EACCES);
    ck_assert_int_eq(create(s, 0, "out", 0644), ELOOP);
    ck_assert_int_eq(walk(s, 0, 3, "up"), 0);
    ck_assert_int_eq(walk(s, 3, 4, "secret"), ENOTDIR);
    ck_assert_int_eq(walk(s, 0, 5, "pipe"), 0);
    ck_assert_int_eq(lopen(s, 5, O_RDONLY), EACCES);
}
END_TEST

START_TEST(a_folder_that_is_read_only_is_not_changed) {
    attach(ro, 0);
    ck_assert_int_eq(create(ro, 0, "new", 0644), EROFS);
    ck_assert_int_eq(walk(ro, 0, 1, "file"), 0);
    ck_assert_int_eq(lopen(ro, 1, O_RDWR), EROFS);
    ck_assert_int_eq(lopen(ro, 1, O_RDONLY | O_TRUNC), EROFS);
    ck_assert_int_eq(lopen(ro, 1, O_RDONLY), 0);
    begin(UNLINKAT);
    u(0, 4);
    text("file");
    u(0, 4);
    ck_assert_int_eq(say(ro), EROFS);
}
END_TEST

START_TEST(all_entries_of_a_folder_are_found_in_small_pieces) {
    unsigned found = 0;
    uint64_t at = 0;
    attach(s, 0);
    ck_assert_int_eq(lopen(s, 0, O_RDONLY | O_DIRECTORY), 0);
    for (;;) {
        uint32_t bytes;
        begin(READDIR);
        u(0, 4);
        u(at, 8);
        u(64, 4);
        ck_assert_int_eq(say(s), 0);
        memcpy(&bytes, out + 7, 4);
        if (!bytes)
            break;
        for (uint32_t p = 0; p < bytes; found++) {
            uint16_t length;
            memcpy(&at, out + 11 + p + 13, 8);
            memcpy(&length, out + 11 + p + 22, 2);
            p += 24u + length;
        }
    }
    ck_assert_uint_eq(found, 6); /* file, out, up, pipe, and the two that each has */
}
END_TEST

START_TEST(no_message_harms) {
    const struct dev_9p server = share_server(s);
    uint32_t x = 1;
    attach(s, 0);
    for (unsigned n = 0; n < 200000; n++) {
        uint8_t message[64], answer[64];
        size_t length = (x >> 8) % sizeof(message);
        for (size_t i = 0; i < sizeof(message); i++)
            message[i] =
                (uint8_t)((x = x * 1664525 + 1013904223) >> 24) & (i % 3 ? 3 : 255);
        uint32_t says = n % 5 ? (uint32_t)length : x;
        memcpy(message, &says, 4);
        size_t most = (x >> 16) % sizeof(answer);
        ck_assert_uint_le(
            server.message(server.opaque, n >> 12, message, length, answer, most), most);
    }
}
END_TEST

START_TEST(fids_are_few_and_end_with_the_session) {
    uint32_t n = 0;
    attach(s, 0);
    while (walk(s, 0, ++n, NULL) == 0)
        ck_assert_uint_lt(n, SHARE_FIDS_MAX);
    ck_assert_uint_eq(n, SHARE_FIDS_MAX);
    ck_assert_int_eq(walk(s, 0, 1, NULL), EBUSY);
    begin(VERSION);
    u(8192, 4);
    text("9P2000.L");
    ck_assert_int_eq(say(s), 0);
    begin(GETATTR);
    u(0, 4);
    u(0, 8);
    ck_assert_int_eq(say(s), EBADF);
}
END_TEST

SUITE("share", .setup = setup, .teardown = teardown,
      .tests = {a_file_is_made_written_and_read, nothing_outside_the_folder_is_reached,
                a_folder_that_is_read_only_is_not_changed,
                all_entries_of_a_folder_are_found_in_small_pieces, no_message_harms,
                fids_are_few_and_end_with_the_session})
