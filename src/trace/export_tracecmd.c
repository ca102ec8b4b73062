/* SPDX-License-Identifier: MIT */
/*
 * trace.dat, version 6, as trace-cmd and KernelShark read it (trace-cmd.dat.v6(5)): the
 * descriptions of a ring buffer's pages and of every event, and then the pages of each CPU,
 * which is the vCPU.
 *
 * An event has all its fields as numbers, for filters, where the guest was, and `words`: all
 * of it as `penumbra trace` prints it, which is what is shown. The process is what a trace
 * knows of it: the frame number of CR3.
 *
 * Invariants
 * 1. An event is in one page, whose first event is at the page's time.
 * 2. Pages of a CPU stand together; until the end those of each are in a file of their own,
 *    which has no name.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace/export_internal.h"

#define PAGE       4096u
#define PAGE_HEAD  16u
#define ROOM       (PAGE - PAGE_HEAD)
#define FIRST_ID   1000u /* of the file's event 0; lower ones are the kernel's own */
#define UNNAMED_ID 999u
#define COMMON     8u
#define PLACES     3u /* rip, cpl, cr3 */
#define DELTA_BITS 27
#define EXTEND     30u /* type_len: more bits of the time */
#define RECORD_MAX (COMMON + (PN_FIELDS_MAX + PLACES + 1) * 8 + EXPORT_FIELDS_MAX + 8)
#define CR3_PAGE   0x000ffffffffff000ull

_Static_assert(RECORD_MAX + 3 * sizeof(uint32_t) <= ROOM, "an event fits into a page");

struct cpu {
    FILE *pages;
    uint64_t count; /* pages written */
    uint64_t time;  /* of the last event in the page */
    uint32_t used;  /* of its room */
    uint8_t page[PAGE];
};

struct own {
    unsigned cpus;
    struct cpu *cpu;
};

/* ---- Descriptions ---- */

static const char header_page[] =
    "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
    "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
    "\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";
static const char header_event[] = "# compressed entry header\n"
                                   "\ttype_len    :    5 bits\n"
                                   "\ttime_delta  :   27 bits\n"
                                   "\tarray       :   32 bits\n"
                                   "\n"
                                   "\tpadding     : type == 29\n"
                                   "\ttime_extend : type == 30\n"
                                   "\ttime_stamp : type == 31\n"
                                   "\tdata max type_len  == 28\n";
static const char common[] =
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
    "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n";

static void put32(FILE *out, uint32_t v) {
    fwrite(&v, sizeof(v), 1, out);
}

static void put64(FILE *out, uint64_t v) {
    fwrite(&v, sizeof(v), 1, out);
}

static void put_string(FILE *out, const char *s) {
    fwrite(s, 1, strlen(s) + 1, out);
}

static void put_text(FILE *out, const char *s) {
    put64(out, strlen(s));
    fputs(s, out);
}

/* e NULL: an event without a name. */
static int describe(const struct trace_event *e, unsigned id, FILE *out) {
    static const char *const places[PLACES] = {"rip", "cpl", "cr3"};
    unsigned fields = e ? e->fields : PN_FIELDS_MAX, at = COMMON;
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return -ENOMEM;
    fprintf(f, "name: %s\nID: %u\nformat:\n%s", e ? e->name : "unnamed", id, common);
    for (unsigned i = 0; i < fields + PLACES; i++, at += 8) {
        char arg[] = {'a', 'r', 'g', (char)('0' + i % 10), 0};
        const char *name = i >= fields ? places[i - fields] : e ? e->field[i].name : arg;
        fprintf(f, "\tfield:u64 %s%s;\toffset:%u;\tsize:8;\tsigned:0;\n",
                i >= fields ? "guest_" : "", name, at);
    }
    fprintf(f, "\tfield:__data_loc char[] words;\toffset:%u;\tsize:4;\tsigned:1;\n", at);
    fputs("\nprint fmt: \"%s\", __get_str(words)\n", f);
    int rc = fclose(f) ? -ENOMEM : 0;
    if (!rc)
        put_text(out, text);
    free(text);
    return rc;
}

static int put_head(const struct export *x, unsigned cpus, FILE *out) {
    const struct trace_event *e;
    unsigned events = 0;
    int rc = 0;
    fwrite("\x17\x08\x44tracing6\0\0\x08", 1, 14, out); /* version, little-endian, long */
    put32(out, PAGE);
    put_string(out, "header_page");
    put_text(out, header_page);
    put_string(out, "header_event");
    put_text(out, header_event);
    put32(out, 0); /* ftrace's own events */
    while (trace_file_event(x->file, events))
        events++;
    put32(out, 1); /* systems */
    put_string(out, "penumbra");
    put32(out, events + 1);
    for (unsigned id = 0; !rc && (e = trace_file_event(x->file, id)); id++)
        rc = describe(e, FIRST_ID + id, out);
    if (!rc)
        rc = describe(NULL, UNNAMED_ID, out);
    put32(out, 0); /* kallsyms */
    put32(out, 0); /* formats of trace_printk */
    put64(out, 0); /* names of processes */
    put32(out, cpus);
    fwrite("options  \0\0", 1, 12, out); /* none */
    fwrite("flyrecord", 1, 10, out);
    return rc;
}

/* ---- Pages ---- */

static int put_page(struct cpu *c) {
    uint64_t used = c->used;
    memcpy(c->page + 8, &used, sizeof(used));
    memset(c->page + PAGE_HEAD + c->used, 0, ROOM - c->used);
    c->used = 0;
    c->count++;
    return fwrite(c->page, PAGE, 1, c->pages) == 1 ? 0 : errno ? -errno : -EIO;
}

static void put_entry(struct cpu *c, uint32_t head, uint32_t array) {
    memcpy(c->page + PAGE_HEAD + c->used, &head, sizeof(head));
    memcpy(c->page + PAGE_HEAD + c->used + sizeof(head), &array, sizeof(array));
    c->used += 2 * sizeof(uint32_t);
}

/* size: a multiple of 4. Longer events than a head can tell have their length in front. */
static int put_record(struct cpu *c, uint64_t time, const uint8_t *data, uint32_t size) {
    int rc = 0;
    if (c->used && c->used + 4 * sizeof(uint32_t) + size > ROOM)
        rc = put_page(c);
    if (!c->used) {
        memcpy(c->page, &time, sizeof(time));
        c->time = time;
    }
    uint64_t delta = time - c->time;
    if (delta >> DELTA_BITS) {
        put_entry(c, EXTEND | (uint32_t)(delta << 5), (uint32_t)(delta >> DELTA_BITS));
        delta = 0;
    }
    put_entry(c, (uint32_t)delta << 5, size + (uint32_t)sizeof(uint32_t));
    memcpy(c->page + PAGE_HEAD + c->used, data, size);
    c->used += size;
    c->time = time;
    return rc;
}

static int add(struct export *x, const struct pn_event_rec *rec) {
    static const struct export_style style = {" ", "", "=", ""};
    const struct own *own = x->own;
    const struct trace_event *e = trace_file_event(x->file, rec->id);
    unsigned fields = e ? e->fields : PN_FIELDS_MAX;
    uint8_t record[RECORD_MAX];
    bool known = rec->cpl != PN_CPL_NONE;
    const uint16_t type = (uint16_t)(e ? FIRST_ID + rec->id : UNNAMED_ID);
    const uint32_t pid = known ? (rec->cr3 & CR3_PAGE) >> 12 & INT32_MAX : 0;
    const uint64_t place[PLACES] = {rec->rip, rec->cpl, rec->cr3};
    memset(record, 0, COMMON);
    memcpy(record, &type, sizeof(type));
    memcpy(record + 4, &pid, sizeof(pid));
    uint8_t *p = mempcpy(record + COMMON, rec->arg, fields * sizeof(rec->arg[0]));
    p = mempcpy(p, place, sizeof(place));
    char *words = (char *)p + sizeof(uint32_t), *end = words;
    end = export_put_fields(x, rec, &style, end);
    if (end > words)
        *end++ = ' ';
    end = export_put_place(rec, &style, end);
    if (end > words && end[-1] == ' ')
        end--;
    *end++ = 0;
    uint32_t at = (uint32_t)((uint8_t *)words - record);
    uint32_t location = at | (uint32_t)(end - words) << 16;
    memcpy(p, &location, sizeof(location));
    while (((uint8_t *)end - record) % 4)
        *end++ = 0;
    return put_record(&own->cpu[rec->vcpu], rec->time, record,
                      (uint32_t)((uint8_t *)end - record));
}

/* ---- Life ---- */

static void free_own(struct export *x) {
    struct own *own = x->own;
    for (unsigned i = 0; own && own->cpu && i < own->cpus; i++)
        if (own->cpu[i].pages)
            fclose(own->cpu[i].pages);
    if (own)
        free(own->cpu);
    free(own);
    x->own = NULL;
}

static void abandon(struct export *x) {
    free_own(x);
    export_file_abandon(x);
}

static int begin(struct export *x, const char *path) {
    struct own *own = x->own = calloc(1, sizeof(*own));
    if (!own)
        return -ENOMEM;
    own->cpus = trace_file_header(x->file)->vcpus;
    own->cpu = calloc(own->cpus, sizeof(*own->cpu));
    if (!own->cpu)
        return -ENOMEM;
    for (unsigned i = 0; i < own->cpus; i++)
        if (!(own->cpu[i].pages = tmpfile()))
            return -errno;
    return export_file_begin(x, path);
}

/* The head, where the pages of each CPU are, and zeros up to a page. */
static int put_start(struct export *x) {
    const struct own *own = x->own;
    char *head = NULL;
    size_t size;
    FILE *f = open_memstream(&head, &size);
    if (!f)
        return -ENOMEM;
    int rc = put_head(x, own->cpus, f);
    if (fclose(f) && !rc)
        rc = -ENOMEM;
    if (!rc) {
        uint64_t whole = size + own->cpus * 2 * sizeof(uint64_t);
        uint64_t at = (whole + PAGE - 1) / PAGE * PAGE;
        fwrite(head, 1, size, x->stream);
        for (unsigned i = 0; i < own->cpus; i++) {
            put64(x->stream, own->cpu[i].count ? at : 0);
            put64(x->stream, own->cpu[i].count * PAGE);
            at += own->cpu[i].count * PAGE;
        }
        for (; whole % PAGE; whole++)
            fputc(0, x->stream);
    }
    free(head);
    return rc;
}

static int copy_pages(struct cpu *c, FILE *out) {
    rewind(c->pages);
    for (uint64_t i = 0; i < c->count; i++) {
        if (fread(c->page, PAGE, 1, c->pages) != 1)
            return -EIO;
        fwrite(c->page, PAGE, 1, out);
    }
    return 0;
}

static int end(struct export *x) {
    struct own *own = x->own;
    int rc = 0;
    for (unsigned i = 0; !rc && i < own->cpus; i++)
        rc = own->cpu[i].used ? put_page(&own->cpu[i]) : 0;
    if (!rc)
        rc = put_start(x);
    for (unsigned i = 0; !rc && i < own->cpus; i++)
        rc = copy_pages(&own->cpu[i], x->stream);
    free_own(x);
    return rc ? rc : export_file_end(x);
}

const struct export_format export_tracecmd = {
    .name = "tracecmd",
    .doc = "trace.dat: trace-cmd, KernelShark",
    .begin = begin,
    .add = add,
    .end = end,
    .abandon = abandon,
};
