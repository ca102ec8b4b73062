/* SPDX-License-Identifier: MIT */
/*
 * Trace files: rings drain into a writer, a reader gives the records back.
 *
 * A file is a 64-byte header, a text that names every event and its fields, and the
 * records of penumbra/events.h in compressed blocks. Because the text travels with the
 * file, a file stays readable when events are added later. It is written and read from
 * front to back, so that it may be a pipe.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "penumbra/events.h"
#include "penumbra/types.h"

#define TRACE_SCHEMA     "penumbra-trace-3"
#define TRACE_MAGIC      "PNTRACE\n"
#define TRACE_VERSION    3u
#define TRACE_ALL_EVENTS (UINT64_MAX >> (64 - PN_EV_COUNT))
#define TRACE_VCPUS_MAX  256u

/* At the start of the file, little-endian. */
struct trace_header {
    char magic[8];
    uint32_t version;
    uint32_t text_size;   /* bytes of the text that follows; a multiple of 64 */
    uint32_t record_size; /* 80 */
    uint32_t vcpus;
    uint64_t mask;  /* which events were asked for */
    uint64_t known; /* TRACE_KNOWS_*: which of the following are; 0 in older files */
    uint64_t kernel_moved; /* how far the guest's kernel was moved in virtual memory from
                              where it is linked: KASLR */
    uint64_t reserved[2];
};
#define TRACE_KNOWS_KERNEL_MOVED 1u

/* Before each block, and before struct trace_end, which ends a whole file. */
struct trace_block {
    uint32_t records; /* 0: the end follows */
    uint32_t size;    /* bytes of the zstd frame (pack.h), or of the end */
};

struct trace_end {
    uint64_t records;
    uint64_t lost;   /* events that were not recorded: the limit, or a full disk */
    uint64_t digest; /* XXH3-64, see trace_digest */
    uint64_t check;  /* XXH3-64 of the other three: trace_end_check */
};

/* ---- The digest: what two equal runs share ---- */

/* XXH3-64 of each vCPU's records in their order, and of these in the order of vCPUs; so
 * the digest does not depend on how the rings of several vCPUs interleave in the file. */
struct trace_digest;
struct trace_digest *trace_digest_create(unsigned vcpus); /* NULL: out of memory */
void trace_digest_destroy(struct trace_digest *d);
/* Records of a vCPU beyond the count given at creation are ignored. */
void trace_digest_add(struct trace_digest *d, const struct pn_event_rec *rec, size_t n);
uint64_t trace_digest_value(const struct trace_digest *d);
uint64_t trace_end_check(const struct trace_end *end);

/* ---- Writing ---- */

struct trace_writer;
struct trace_config {
    const char *path; /* NULL: digest and counts only, no file */
    unsigned vcpus;
    uint64_t mask;
    uint64_t limit; /* bytes of the file at most; later events are lost and counted, whole
                       blocks of them. 0: no limit */
};
/* Create the writer, its file and its rings. The file is written as base/outfile.h says,
 * and gets its name from trace_close.
 * Return: 0, or -errno with one line in err. */
int trace_open(const struct trace_config *cfg, struct trace_writer **out, char *err,
               size_t err_size);
/* Write the file's header, which says how far the guest's kernel was moved. At most once;
 * where it is left out, the header does not say it.
 * Return: 0, or -errno with one line in err. */
int trace_begin(struct trace_writer *w, uint64_t kernel_moved, char *err,
                size_t err_size);
/* The rings, one per vCPU, in one array; they live as long as the writer. */
struct pn_ring *trace_rings(struct trace_writer *w);
/* Drain the rings, and wait until the file has what came so far. Nobody fills a ring meanwhile.
 * Return: 0; -ENOTSUP: there is no file that can be read again; or -errno of the write that
 * failed. */
struct trace_so_far {
    const char *path;       /* of the file for now */
    uint64_t records, lost; /* in it; not recorded */
};
int trace_flush(struct trace_writer *w, struct trace_so_far *out);
/* Drain the rings, finish the file and free the writer. end may be NULL.
 * Return: 0, or -errno with one line in err. What could be written of a file before its
 * disk was full is kept under its name, and says how much is lost. */
int trace_close(struct trace_writer *w, struct trace_end *end, char *err,
                size_t err_size);
/* Give up: remove what was written and free the writer. */
void trace_abandon(struct trace_writer *w);

/* ---- Reading ---- */

/* An event as the file names it, which may be older or newer than this program. */
struct trace_event {
    char *name;
    unsigned fields; /* 0..PN_FIELDS_MAX */
    struct {
        char *name;
        enum pn_type type; /* PN_TYPE_hex where this program does not know it */
    } field[PN_FIELDS_MAX];
};

struct trace_file;
enum trace_state {
    TRACE_OPEN,       /* there may be more records */
    TRACE_WHOLE,      /* as it was written: its digest is right */
    TRACE_INCOMPLETE, /* it ends early: the run was killed, or goes on */
    TRACE_DAMAGED     /* what follows is not what was written */
};
/* path "-": stdin. Return: 0, or -errno with one line in err: -EINVAL: not a trace, or of
 * another schema; -EBADMSG: damaged or cut before its first record. */
int trace_file_open(const char *path, struct trace_file **out, char *err,
                    size_t err_size);
/* The same from memory that outlives the file (tests, fuzzing). */
int trace_file_parse(const void *data, size_t size, struct trace_file **out, char *err,
                     size_t err_size);
void trace_file_close(struct trace_file *f);
const struct trace_header *trace_file_header(const struct trace_file *f);
/* Return: the event, or NULL for an id that the file does not name. */
const struct trace_event *trace_file_event(const struct trace_file *f, unsigned id);
/* Return: the event's id, or -1. */
int trace_file_find(const struct trace_file *f, const char *name, size_t len);
/* The next records, valid until the next call. Return: how many; 0: no more, and the state
 * says why. */
size_t trace_file_next(struct trace_file *f, const struct pn_event_rec **rec);
/* The file may have grown: after TRACE_INCOMPLETE more is to be read from where it ended. Return:
 * false: it cannot be read again, as a pipe. */
bool trace_file_more(struct trace_file *f);
enum trace_state trace_file_state(const struct trace_file *f);
/* What the file says of itself when it is whole; the records read so far else. */
const struct trace_end *trace_file_end(const struct trace_file *f);

/* ---- Text ---- */

struct trace_filter {
    uint64_t events;   /* bit per event id of the file */
    int vcpu;          /* -1: all */
    uint64_t from, to; /* time, both included */
    bool by_gva;
    pn_gva gva_from, gva_to; /* both included; events without a gva do not pass */
};
void trace_filter_default(struct trace_filter *t); /* everything passes */
bool trace_filter_match(const struct trace_file *f, const struct trace_filter *t,
                        const struct pn_event_rec *rec);
/* "name,name,..." as event ids of the file into *mask. Return: 0, or -EINVAL with one
 * line in err. */
int trace_file_mask(const struct trace_file *f, const char *names, uint64_t *mask,
                    char *err, size_t err_size);
/* The same for the events of this program, to ask for in a run. */
int trace_event_mask(const char *names, uint64_t *mask, char *err, size_t err_size);
/* One record as one line: time, vCPU, name, field=value..., rip, cpl, cr3. Outcomes,
 * error codes, roles and reasons are words: src/trace/README.md. */
void trace_print(const struct trace_file *f, const struct pn_event_rec *rec, FILE *out);
/* The type of field i of an event, where it depends on another field settled: those of an
 * exception on its vector, the first one. */
enum pn_type trace_field_type(const struct trace_event *e, const struct pn_event_rec *rec,
                              unsigned i);
/* One value as its type is printed (words.c). */
void trace_print_value(enum pn_type type, uint64_t value, FILE *out);
/* The same at p: at most TRACE_VALUE_MAX bytes, and no NUL. Return: behind it. So do the
 * other two. */
#define TRACE_VALUE_MAX 192u
char *trace_put_value(enum pn_type type, uint64_t value, char *p);
char *trace_put_dec(uint64_t value, char *p);
char *trace_put_hex(uint64_t value, char *p);
/* The word of a value where the type has one for each, numbered from 0 without a gap:
 * outcome, zap, end. Return: NULL: it has none. */
const char *trace_word(enum pn_type type, uint64_t value);
