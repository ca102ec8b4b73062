/* SPDX-License-Identifier: MIT */
/* Trace files: what is emitted comes back, whole or not at all; losses are counted;
 * damaged files are refused; the digest does not depend on how rings interleave. */
#include <errno.h>
#include <glob.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "penumbra/mmu.h"
#include "tests/suite.h"
#include "trace/trace.h"

static char dir[64], path[96], pattern[112], part[128];
static char err[256];

static void setup(void) {
    strcpy(dir, "/tmp/pn-trace-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/t", dir);
}

static void teardown(void) {
    unlink(path);
    ck_assert_msg(rmdir(dir) == 0, "files left behind in %s", dir);
}

static struct trace_writer *open_writer(const char *to, unsigned vcpus, uint64_t limit) {
    const struct trace_config cfg = {
        .path = to, .vcpus = vcpus, .mask = TRACE_ALL_EVENTS, .limit = limit};
    struct trace_writer *w = NULL;
    ck_assert_msg(trace_open(&cfg, &w, err, sizeof(err)) == 0, "%s", err);
    return w;
}

static struct trace_file *read_back(void) {
    struct trace_file *f = NULL;
    ck_assert_msg(trace_file_open(path, &f, err, sizeof(err)) == 0, "%s", err);
    return f;
}

/* Every record that is left of f, in memory that the caller frees. */
static struct pn_event_rec *read_all(struct trace_file *f, size_t *count) {
    const struct pn_event_rec *rec;
    struct pn_event_rec *all = NULL;
    *count = 0;
    for (size_t n; (n = trace_file_next(f, &rec)); *count += n) {
        all = realloc(all, (*count + n) * sizeof(*all));
        memcpy(all + *count, rec, n * sizeof(*all));
    }
    return all;
}

static uint64_t digest_of(const struct pn_event_rec *rec, size_t n) {
    struct trace_digest *d = trace_digest_create(1);
    trace_digest_add(d, rec, n);
    uint64_t value = trace_digest_value(d);
    trace_digest_destroy(d);
    return value;
}

/* Are any temporary files of path there? */
static unsigned parts(void) {
    glob_t g;
    snprintf(pattern, sizeof(pattern), "%s.*.part", path);
    unsigned n = glob(pattern, 0, NULL, &g) ? 0 : (unsigned)g.gl_pathc;
    if (n)
        snprintf(part, sizeof(part), "%s", g.gl_pathv[0]);
    globfree(&g);
    return n;
}

/* n events of two kinds, numbered, on one ring. */
static void emit(struct pn_ring *r, uint64_t from, uint64_t n) {
    for (uint64_t i = from; i < from + n; i++) {
        if (i & 1)
            pn_emit(r, page_fault, 0x1000 * i, i);
        else
            pn_emit(r, exception, 14, 2, 0x1000 * i);
    }
}

/* n events that do not compress well. */
static void emit_noise(struct pn_ring *r, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        pn_emit(r, invlpg, i * i * 0x9e3779b97f4a7c15u,
                i * i * 0xd1342543de82ef95u >> 40);
}

START_TEST(what_is_emitted_comes_back_whole) {
    struct trace_writer *w = open_writer(path, 1, 0);
    struct trace_end t;
    emit(trace_rings(w), 0, 10000); /* more than a ring holds */
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(trace_close(w, &t, err, sizeof(err)), 0);
    ck_assert_uint_eq(parts(), 0);
    ck_assert_uint_eq(t.records, 10000);
    ck_assert_uint_eq(t.lost, 0);

    struct trace_file *f = read_back();
    size_t n;
    struct pn_event_rec *r = read_all(f, &n);
    ck_assert_uint_eq(n, 10000);
    ck_assert_int_eq(trace_file_state(f), TRACE_WHOLE);
    ck_assert_uint_eq(trace_file_end(f)->records, 10000);
    ck_assert_uint_eq(trace_file_end(f)->digest, t.digest);
    for (uint64_t i = 0; i < n; i++) {
        ck_assert_uint_eq(r[i].id, i & 1 ? PN_EV_page_fault : PN_EV_exception);
        ck_assert_uint_eq(r[i].arg[i & 1 ? 0 : 2], 0x1000 * i);
    }
    ck_assert_uint_eq(digest_of(r, n), t.digest);
    free(r);
    trace_file_close(f);
}
END_TEST

/* Every word of a record takes every size, up and down. */
START_TEST(records_of_any_contents_come_back_as_they_were) {
    struct trace_writer *w = open_writer(path, 1, 0);
    struct pn_ring *ring = trace_rings(w);
    static struct pn_event_rec in[20000];
    uint64_t x = 1;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t *word = (uint64_t *)(void *)&in[i];
        for (unsigned j = 0; j < 10; j++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            word[j] = x >> (x >> 58) & -(x >> 20 & 1);
        }
        in[i].id %= PN_EV_COUNT;
        in[i].vcpu = 0;
        pn_ring_add(ring, &in[i]);
    }
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
    struct trace_file *f = read_back();
    size_t n;
    struct pn_event_rec *r = read_all(f, &n);
    ck_assert_uint_eq(n, 20000);
    ck_assert_int_eq(memcmp(r, in, sizeof(in)), 0);
    free(r);
    trace_file_close(f);
}
END_TEST

START_TEST(a_file_carries_the_names_and_types_of_its_events) {
    struct trace_writer *w = open_writer(path, 1, 0);
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
    struct trace_file *f = read_back();
    for (unsigned i = 0; i < PN_EV_COUNT; i++) {
        const struct trace_event *e = trace_file_event(f, i);
        ck_assert_str_eq(e->name, pn_event_name(i));
        ck_assert_int_eq(trace_file_find(f, e->name, strlen(e->name)), (int)i);
        char fields[256] = "";
        for (unsigned j = 0; j < e->fields; j++) {
            size_t at = strlen(fields);
            snprintf(fields + at, sizeof(fields) - at, "%s%s:%s", j ? " " : "",
                     pn_type_name(e->field[j].type), e->field[j].name);
        }
        ck_assert_str_eq(fields, pn_event_fields(i));
    }
    ck_assert_ptr_null(trace_file_event(f, PN_EV_COUNT));
    trace_file_close(f);
}
END_TEST

START_TEST(events_outside_the_mask_are_not_written) {
    const struct trace_config cfg = {
        .path = path, .vcpus = 1, .mask = (uint64_t)1 << PN_EV_page_fault};
    struct trace_writer *w;
    struct trace_end t;
    ck_assert_int_eq(trace_open(&cfg, &w, err, sizeof(err)), 0);
    emit(trace_rings(w), 0, 100);
    ck_assert_int_eq(trace_close(w, &t, err, sizeof(err)), 0);
    ck_assert_uint_eq(t.records, 50);
}
END_TEST

START_TEST(blocks_beyond_the_limit_are_counted_as_lost) {
    struct trace_writer *w = open_writer(path, 1, 100000);
    struct trace_end t;
    emit_noise(trace_rings(w), 20000);
    ck_assert_int_eq(trace_close(w, &t, err, sizeof(err)), 0);
    ck_assert_uint_ge(t.records, 4096);
    ck_assert_uint_lt(t.records, 20000);
    ck_assert_uint_eq(t.records + t.lost, 20000);
    struct trace_file *f = read_back();
    size_t n;
    free(read_all(f, &n));
    ck_assert_uint_eq(n, t.records);
    ck_assert_uint_eq(trace_file_end(f)->lost, t.lost);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_le((uint64_t)st.st_size,
                      100000 + sizeof(struct trace_block) + sizeof(t));
    trace_file_close(f);
}
END_TEST

/* What the disk took stays, under its name, and is a whole trace that says what is lost. */
START_TEST(a_disk_that_fills_up_keeps_what_it_has) {
    struct trace_writer *w = open_writer(path, 1, 0);
    struct trace_end t;
    const struct rlimit small = {100000, 100000};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    emit_noise(trace_rings(w), 20000);
    ck_assert_int_eq(trace_close(w, &t, err, sizeof(err)), -EFBIG);
    ck_assert_ptr_nonnull(strstr(err, "it holds the first "));
    ck_assert_uint_eq(parts(), 0);
    struct trace_file *f = read_back();
    size_t n;
    struct pn_event_rec *r = read_all(f, &n);
    ck_assert_uint_eq(n, t.records);
    ck_assert_uint_ge(n, 4096);
    ck_assert_uint_eq(digest_of(r, n), t.digest);
    ck_assert_int_eq(trace_file_state(f), TRACE_WHOLE);
    ck_assert_uint_eq(trace_file_end(f)->lost, 20000 - n);
    free(r);
    trace_file_close(f);
}
END_TEST

/* The records of a file that is being written, as soon as there are n. */
static struct pn_event_rec *read_part(struct trace_file **f, size_t n) {
    for (;;) {
        size_t got = 0;
        struct pn_event_rec *r = NULL;
        if (!trace_file_open(part, f, err, sizeof(err))) {
            r = read_all(*f, &got);
            if (got == n)
                return r;
            trace_file_close(*f);
        }
        free(r);
        ck_assert_uint_lt(got, n);
        sched_yield();
    }
}

/* As after kill -9: the file that was being written is read up to where it ends. */
START_TEST(an_unfinished_file_is_read_and_called_incomplete) {
    struct trace_writer *w = open_writer(path, 1, 0);
    emit(trace_rings(w), 0, 10000);
    ck_assert_uint_eq(parts(), 1);
    struct trace_file *f = NULL;
    struct pn_event_rec *r = read_part(&f, 8192);
    ck_assert_uint_eq(r[8191].arg[0], 0x1000 * 8191);
    ck_assert_int_eq(trace_file_state(f), TRACE_INCOMPLETE);
    free(r);
    trace_file_close(f);
    trace_abandon(w);
}
END_TEST

/* A file that is read while it grows, by so many bytes at a time. */
START_TEST(a_file_that_grows_gives_each_record_once) {
    static _Alignas(64) uint8_t bytes[1 << 20];
    static const unsigned steps[] = {7, 64, 1000, 5000};
    const unsigned step = steps[_i];
    struct trace_writer *w = open_writer(path, 1, 0);
    const struct pn_event_rec *rec;
    struct trace_so_far now;
    for (unsigned i = 0; i < 5; i++) { /* blocks of few records */
        emit(trace_rings(w), 100 * i, 100);
        ck_assert_int_eq(trace_flush(w, &now), 0);
        ck_assert_uint_eq(now.records, 100 * (i + 1));
    }
    ck_assert_uint_eq(parts(), 1);
    ck_assert_str_eq(now.path, part);
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
    FILE *in = fopen(path, "rb");
    size_t size = fread(bytes, 1, sizeof(bytes), in), count = 0;
    fclose(in);
    const struct trace_header *h = (const void *)bytes;
    size_t at = sizeof(*h) + h->text_size;
    ck_assert(size > at && size < sizeof(bytes));
    FILE *out = fopen(path, "wb");
    fwrite(bytes, 1, at, out);
    fflush(out);
    struct trace_file *f = read_back();
    do {
        for (size_t n; (n = trace_file_next(f, &rec)); count += n)
            for (size_t i = 0; i < n; i++)
                ck_assert_uint_eq(rec[i].arg[(count + i) & 1 ? 1 : 2],
                                  (count + i) * ((count + i) & 1 ? 1 : 0x1000));
        size_t more = size - at < step ? size - at : step;
        fwrite(bytes + at, 1, more, out);
        fflush(out);
        at += more;
    } while (trace_file_more(f));
    ck_assert_int_eq(trace_file_state(f), TRACE_WHOLE);
    ck_assert_uint_eq(count, 500);
    ck_assert_uint_eq(trace_file_end(f)->records, 500);
    trace_file_close(f);
    fclose(out);
}
END_TEST

START_TEST(a_trace_in_no_file_of_its_own_cannot_be_followed) {
    struct trace_so_far now;
    struct trace_writer *w = open_writer("/dev/null", 1, 0);
    emit(trace_rings(w), 0, 10);
    ck_assert_int_eq(trace_flush(w, &now), -ENOTSUP);
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
}
END_TEST

/* More than waits in memory, before anybody reads. */
START_TEST(a_reader_that_comes_late_gets_every_record_in_order) {
    int fd[2];
    ck_assert_int_eq(pipe(fd), 0);
    snprintf(part, sizeof(part), "/proc/self/fd/%d", fd[1]);
    pid_t child = fork();
    if (!child) {
        close(fd[0]);
        struct trace_writer *w = open_writer(part, 2, 0);
        emit_noise(&trace_rings(w)[0], 200000);
        _exit(trace_close(w, NULL, err, sizeof(err)) != 0);
    }
    close(fd[1]);
    for (int queued = 0; queued < 32768; sched_yield()) /* what a pipe takes at least */
        ck_assert_int_eq(ioctl(fd[0], FIONREAD, &queued), 0);
    struct trace_file *f = NULL;
    snprintf(part, sizeof(part), "/proc/self/fd/%d", fd[0]);
    ck_assert_int_eq(trace_file_open(part, &f, err, sizeof(err)), 0);
    size_t n;
    struct pn_event_rec *r = read_all(f, &n);
    ck_assert_uint_eq(n, 200000);
    for (uint64_t i = 0; i < n; i++)
        ck_assert_uint_eq(r[i].arg[0], i * i * 0x9e3779b97f4a7c15u);
    ck_assert_int_eq(trace_file_state(f), TRACE_WHOLE);
    free(r);
    trace_file_close(f);
    close(fd[0]);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(a_pipe_carries_a_trace) {
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    pid_t child = fork();
    if (!child) {
        struct trace_writer *w = open_writer(path, 1, 0);
        emit(trace_rings(w), 0, 100000);
        _exit(trace_close(w, NULL, err, sizeof(err)) != 0);
    }
    struct trace_file *f = read_back();
    size_t n;
    free(read_all(f, &n));
    ck_assert_uint_eq(n, 100000);
    ck_assert_int_eq(trace_file_state(f), TRACE_WHOLE);
    trace_file_close(f);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* Two vCPUs, drained in different orders: one digest. Other contents: another. */
START_TEST(the_digest_ignores_how_rings_interleave) {
    uint64_t digest[3];
    for (int run = 0; run < 3; run++) {
        struct trace_writer *w = open_writer(NULL, 2, 0);
        struct pn_ring *r = trace_rings(w);
        struct trace_end t;
        if (run == 0) {
            emit(&r[0], 0, 9000);
            emit(&r[1], 5, 9000);
        } else {
            for (uint64_t i = 0; i < 90; i++) {
                emit(&r[1], 5 + i * 100, 100);
                emit(&r[0], i * 100, 100);
            }
        }
        if (run == 2)
            emit(&r[0], 0, 1);
        ck_assert_int_eq(trace_close(w, &t, err, sizeof(err)), 0);
        digest[run] = t.digest;
    }
    ck_assert_uint_eq(digest[0], digest[1]);
    ck_assert_uint_ne(digest[0], digest[2]);
}
END_TEST

/* vCPUs take turns of different lengths, one of them rarely. */
START_TEST(records_of_all_vcpus_stand_in_order_of_time) {
    struct trace_writer *w = open_writer(path, 3, 0);
    for (uint64_t i = 0; i < 30000; i++) {
        uint16_t vcpu = i % 1000 == 999 ? 2 : (i * i >> 10) & 1;
        struct pn_event_rec rec = {.time = i / 2, .id = PN_EV_nmi, .arg = {i}};
        pn_ring_add(&trace_rings(w)[vcpu], &rec);
    }
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
    struct trace_file *f = read_back();
    size_t n, of[3] = {0};
    struct pn_event_rec *r = read_all(f, &n);
    ck_assert_uint_eq(n, 30000);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(r[i].time, i / 2);
        of[r[i].vcpu]++;
    }
    ck_assert_uint_eq(of[2], 30);
    ck_assert_uint_gt(of[0], 10000);
    ck_assert_uint_gt(of[1], 10000);
    free(r);
    trace_file_close(f);
}
END_TEST

START_TEST(an_abandoned_trace_leaves_no_file) {
    struct trace_writer *w = open_writer(path, 1, 0);
    emit(trace_rings(w), 0, 5000);
    trace_abandon(w);
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_uint_eq(parts(), 0);
}
END_TEST

START_TEST(a_file_that_cannot_be_created_is_named) {
    const struct trace_config cfg = {.path = "/nonexistent/t", .vcpus = 1, .mask = 1};
    struct trace_writer *w = NULL;
    ck_assert_int_eq(trace_open(&cfg, &w, err, sizeof(err)), -ENOENT);
    ck_assert_ptr_null(w);
    ck_assert_ptr_nonnull(strstr(err, "/nonexistent/t"));
}
END_TEST

/* /dev/full takes the open and refuses every write: an error, not a trace. */
START_TEST(a_full_disk_is_an_error) {
    const struct trace_config cfg = {.path = "/dev/full", .vcpus = 1, .mask = 1};
    struct trace_writer *w = NULL;
    ck_assert_int_eq(trace_open(&cfg, &w, err, sizeof(err)), 0);
    ck_assert_int_eq(trace_begin(w, 0, err, sizeof(err)), -ENOSPC);
    trace_abandon(w);
    struct stat st;
    ck_assert_int_eq(stat("/dev/full", &st), 0);
    ck_assert(S_ISCHR(st.st_mode));
}
END_TEST

START_TEST(a_trace_tells_how_far_the_kernel_was_moved_where_it_was_told) {
    for (unsigned told = 0; told < 2; told++) {
        struct trace_writer *w = open_writer(path, 1, 0);
        if (told)
            ck_assert_int_eq(trace_begin(w, 0x1a000000, err, sizeof(err)), 0);
        emit(trace_rings(w), 0, 10);
        ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
        struct trace_file *f = read_back();
        ck_assert_uint_eq(trace_file_header(f)->known,
                          told ? TRACE_KNOWS_KERNEL_MOVED : 0);
        ck_assert_uint_eq(trace_file_header(f)->kernel_moved, told ? 0x1a000000 : 0);
        trace_file_close(f);
    }
}
END_TEST

START_TEST(a_device_is_not_replaced) {
    struct trace_writer *w = open_writer("/dev/null", 1, 0);
    emit(trace_rings(w), 0, 5000);
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
    struct stat st;
    ck_assert_int_eq(stat("/dev/null", &st), 0);
    ck_assert(S_ISCHR(st.st_mode));
}
END_TEST

static unsigned char whole[65536] __attribute__((aligned(64))),
    copy[65536] __attribute__((aligned(64)));

/* A file of 20 records, in whole. Return: its size. */
static size_t write_whole(void) {
    struct trace_writer *w = open_writer(path, 1, 0);
    emit(trace_rings(w), 0, 20);
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
    FILE *in = fopen(path, "rb");
    size_t size = fread(whole, 1, sizeof(whole), in);
    fclose(in);
    ck_assert_uint_lt(size, sizeof(whole));
    return size;
}

/* Whatever is missing, the reader knows, and has no record that was not written. */
START_TEST(every_truncated_file_is_found_out) {
    size_t size = write_whole();
    for (size_t cut = 0; cut < size; cut++) {
        struct trace_file *f = NULL;
        const struct pn_event_rec *rec;
        int rc = trace_file_parse(whole, cut, &f, err, sizeof(err));
        ck_assert_int_eq(rc == 0, f != NULL);
        ck_assert(rc == 0 || rc == -EBADMSG || (rc == -EINVAL && cut < 8));
        while (f && trace_file_next(f, &rec))
            ck_assert_uint_eq(rec[19].arg[0], 0x1000 * 19);
        if (f)
            ck_assert_int_eq(trace_file_state(f), TRACE_INCOMPLETE);
        trace_file_close(f);
    }
}
END_TEST

/* Some bits of a zstd frame mean nothing. */
START_TEST(no_flipped_bit_behind_the_names_changes_a_record_unseen) {
    size_t size = write_whole(), names = sizeof(struct trace_header);
    names += ((struct trace_header *)(void *)whole)->text_size;
    uint64_t digest;
    memcpy(&digest, whole + size - 16, sizeof(digest));
    for (size_t at = 0; at < size; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct trace_file *f = NULL;
            const struct pn_event_rec *rec;
            memcpy(copy, whole, size);
            copy[at] ^= (unsigned char)(1u << bit);
            if (trace_file_parse(copy, size, &f, err, sizeof(err)))
                continue;
            while (trace_file_next(f, &rec))
                ck_assert(at < names || digest_of(rec, 20) == digest);
            if (at >= names && trace_file_state(f) == TRACE_WHOLE)
                ck_assert_uint_eq(trace_file_end(f)->lost, 0);
            trace_file_close(f);
        }
}
END_TEST

static void print_all(const struct trace_filter *t, char *buf, size_t size) {
    FILE *out = fmemopen(buf, size, "w");
    struct trace_file *f = read_back();
    size_t n;
    struct pn_event_rec *r = read_all(f, &n);
    for (size_t i = 0; i < n; i++)
        if (trace_filter_match(f, t, &r[i]))
            trace_print(f, &r[i], out);
    free(r);
    trace_file_close(f);
    fclose(out);
}

START_TEST(files_of_older_schemas_are_refused_in_one_line) {
    for (uint32_t version = 1; version < TRACE_VERSION; version++) {
        struct trace_header h = {.version = version, .text_size = 64};
        memcpy(h.magic, TRACE_MAGIC, sizeof(h.magic));
        unsigned char old[192] = {0};
        struct trace_file *f = NULL;
        char want[128];
        memcpy(old, &h, sizeof(h));
        ck_assert_int_eq(trace_file_parse(old, sizeof(old), &f, err, sizeof(err)),
                         -EINVAL);
        ck_assert_ptr_null(f);
        snprintf(want, sizeof(want),
                 "a trace of schema %u: this penumbra reads schema 3 alone", version);
        ck_assert_str_eq(err, want);
    }
}
END_TEST

/* One line per record that passes. */
static void check_text(const struct trace_filter *t, const char *want) {
    char text[2048];
    print_all(t, text, sizeof(text));
    ck_assert_str_eq(text, want);
}

START_TEST(records_print_where_the_guest_was_and_pass_filters) {
    static const char first[] = "         100 0 page_fault gva=0x7000 error=write,user "
                                "rip=0x400000 cpl=3 cr3=0x1000\n",
                      second[] = "         200 0 exception vector=14 error=write,user "
                                 "address=0x8123 rip=0x400010 cpl=0 cr3=0x1000\n",
                      third[] = "         200 0 exception vector=13 error=0x6 "
                                "address=0x8123 rip=0x400010 cpl=0 cr3=0x1000\n",
                      last[] = "         300 1 tlb_flush current=1\n";
    struct trace_writer *w = open_writer(path, 2, 0);
    struct pn_ring *r = trace_rings(w);
    uint64_t time = 100, rip = 0x400000, cr3 = 0x1000;
    uint8_t cpl = 3;
    char all[1024];
    r[0].time = &time;
    r[0].rip = &rip;
    r[0].cr3 = &cr3;
    r[0].cpl = &cpl;
    pn_emit(&r[0], page_fault, 0x7000, 6);
    time = 200, rip = 0x400010, cpl = 0;
    pn_emit(&r[0], exception, 14, 6, 0x8123);
    pn_emit(&r[0], exception, 13, 6, 0x8123);
    time = 300;
    r[1].time = &time;
    pn_emit(&r[1], tlb_flush, 1);
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);

    struct trace_file *f = read_back();
    struct trace_filter t;
    trace_filter_default(&t);
    snprintf(all, sizeof(all), "%s%s%s%s", first, second, third, last);
    check_text(&t, all);
    ck_assert_int_eq(
        trace_file_mask(f, "page_fault,tlb_flush", &t.events, err, sizeof(err)), 0);
    t.vcpu = 1;
    check_text(&t, last);
    trace_filter_default(&t);
    t.from = 150;
    t.to = 200;
    t.by_gva = true; /* only of a #PF the address is one */
    t.gva_from = 0x8000;
    t.gva_to = 0x8fff;
    check_text(&t, second);
    trace_file_close(f);
}
END_TEST

START_TEST(only_known_events_make_a_mask) {
    struct trace_writer *w = open_writer(path, 1, 0);
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
    struct trace_file *f = read_back();
    uint64_t mask;
    ck_assert_int_eq(trace_file_mask(f, "no_such", &mask, err, sizeof(err)), -EINVAL);
    ck_assert_int_eq(trace_event_mask("page_fault,", &mask, err, sizeof(err)), -EINVAL);
    ck_assert_int_eq(trace_event_mask("all", &mask, err, sizeof(err)), 0);
    ck_assert_uint_eq(mask, TRACE_ALL_EVENTS);
    trace_file_close(f);
}
END_TEST

START_TEST(values_print_as_their_types_say) {
    static const struct {
        enum pn_type type;
        uint64_t value;
        const char *text;
    } row[] = {
        {PN_TYPE_hex, 16, "0x10"},
        {PN_TYPE_count, 16, "16"},
        {PN_TYPE_gva, 0xffff800000000000, "0xffff800000000000"},
        {PN_TYPE_pfec, 0, "0"},
        {PN_TYPE_pfec, PN_PF_PRESENT | PN_PF_FETCH | 1ull << 40,
         "present,fetch,0x10000000000"},
        {PN_TYPE_access, PN_ACC_EXEC | PN_ACC_USER, "exec,user"},
        {PN_TYPE_role, 4 | PN_ROLE_LONG | PN_ROLE_NX, "level4,long,nx"},
        {PN_TYPE_role, 1 | PN_ROLE_4BYTE | 3u << PN_ROLE_QUAD_SHIFT,
         "level1,quadrant3,4byte"},
        {PN_TYPE_mode, 4 | PN_MODE_NX | PN_MODE_WP | PN_MODE_LMA, "4level,nx,wp,lma"},
        {PN_TYPE_mode, 0, "unpaged"},
        {PN_TYPE_qualification, 0x182, "write,linear,final"},
        {PN_TYPE_slot_flags, PN_SLOT_LOG_DIRTY, "log-dirty"},
        {PN_TYPE_zap, 1, "reclaim"},
        {PN_TYPE_end, 0, "poweroff"},
        {PN_TYPE_end, 1000, "1000"},
    };
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        char text[128];
        FILE *out = fmemopen(text, sizeof(text), "w");
        trace_print_value(row[i].type, row[i].value, out);
        fclose(out);
        ck_assert_str_eq(text, row[i].text);
    }
}
END_TEST

/* The timeout is for sanitizers, and a busy host. */
SUITE("trace", .setup = setup, .teardown = teardown, .timeout = 120,
      .tests = {what_is_emitted_comes_back_whole,
                records_of_any_contents_come_back_as_they_were,
                a_file_carries_the_names_and_types_of_its_events,
                events_outside_the_mask_are_not_written,
                blocks_beyond_the_limit_are_counted_as_lost,
                a_disk_that_fills_up_keeps_what_it_has,
                an_unfinished_file_is_read_and_called_incomplete,
                a_trace_in_no_file_of_its_own_cannot_be_followed,
                a_reader_that_comes_late_gets_every_record_in_order,
                a_pipe_carries_a_trace,
                the_digest_ignores_how_rings_interleave,
                records_of_all_vcpus_stand_in_order_of_time,
                an_abandoned_trace_leaves_no_file,
                a_file_that_cannot_be_created_is_named,
                a_full_disk_is_an_error,
                a_trace_tells_how_far_the_kernel_was_moved_where_it_was_told,
                a_device_is_not_replaced,
                every_truncated_file_is_found_out,
                no_flipped_bit_behind_the_names_changes_a_record_unseen,
                files_of_older_schemas_are_refused_in_one_line,
                records_print_where_the_guest_was_and_pass_filters,
                only_known_events_make_a_mask,
                values_print_as_their_types_say},
      .loops = {{a_file_that_grows_gives_each_record_once, 4}})
