/* SPDX-License-Identifier: MIT */
/*
 * A folder in the Common Trace Format 1.8 or 2 (diamon.org/ctf): a file "metadata", of 1.8 in TSDL, which
 * describes every event that the trace's own text names, and a file "vcpuN" for each vCPU. The two
 * differ in metadata alone (of CTF 2: export_ctf2.c).
 * All fields are little-endian and aligned to bytes. Words with commas (rights, roles, error
 * codes) are strings: an enumeration of CTF 1.8 has one label for a value. There is no UUID:
 * readers take traces of equal ones for parts of one.
 *
 * The folder is made beside its name and renamed, as base/outfile.h does with files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace/export_internal.h"

#define PACKET_BYTES 65536u                                  /* of each vCPU */
#define EVENT_BYTES  (64u + PN_FIELDS_MAX * TRACE_VALUE_MAX) /* at most */
#define NAMES_MAX    100

/* Before the events of a packet; the TSDL below says the same. */
struct packet_head {
    uint32_t magic, stream_class;
    uint64_t stream;
    uint64_t content_bits, packet_bits;
    uint64_t begin, end;
    uint64_t discarded, number;
} __attribute__((packed));

static const char metadata_head[] =
    "/* CTF 1.8 */\n"
    "typealias integer { size = 8; align = 8; signed = false; } := u8;\n"
    "typealias integer { size = 16; align = 8; signed = false; } := u16;\n"
    "typealias integer { size = 32; align = 8; signed = false; } := u32;\n"
    "typealias integer { size = 64; align = 8; signed = false; } := u64;\n"
    "typealias integer { size = 64; align = 8; signed = false; base = 16; } := x64;\n"
    "trace {\n"
    "\tmajor = 1;\n\tminor = 8;\n\tbyte_order = le;\n"
    "\tpacket.header := struct { u32 magic; u32 stream_id; u64 stream_instance_id; };\n"
    "};\n"
    "clock {\n"
    "\tname = guest;\n"
    "\tdescription = \"guest instructions, a nanosecond each; under KVM nanoseconds\";\n"
    "\tfreq = 1000000000;\n"
    "};\n"
    "typealias integer { size = 64; align = 8; signed = false; map = clock.guest.value; "
    "} := time;\n"
    "stream {\n"
    "\tid = 0;\n"
    "\tpacket.context := struct {\n"
    "\t\tu64 content_size;\n\t\tu64 packet_size;\n"
    "\t\ttime timestamp_begin;\n\t\ttime timestamp_end;\n"
    "\t\tu64 events_discarded;\n\t\tu64 packet_seq_num;\n"
    "\t};\n"
    "\tevent.header := struct { u16 id; time timestamp; };\n"
    "\tevent.context := struct {\n"
    "\t\tu16 _vcpu;\n\t\tx64 _rip;\n"
    "\t\tenum : u8 { ring0 = 0, ring1, ring2, ring3, unknown = 255 } _cpl;\n"
    "\t\tx64 _cr3;\n"
    "\t};\n"
    "};\n";

struct packet {
    FILE *file;
    uint64_t number;
    uint64_t begin, end; /* times */
    size_t used;         /* the head, too */
    uint8_t bytes[PACKET_BYTES];
};

struct ctf {
    char *path, *temp;
    int folder; /* temp, open; -1: not made */
    unsigned vcpus;
    struct packet *packet[TRACE_VCPUS_MAX];
};

/* ---- The folder ---- */

static bool is_empty(const char *path) {
    DIR *d = opendir(path);
    const struct dirent *e;
    bool empty = d;
    while (empty && (e = readdir(d)))
        empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
    if (d)
        closedir(d);
    return empty;
}

/* Return: 0 or -errno. */
static int make_folder(struct ctf *c, const char *path) {
    struct stat st;
    bool there = !stat(path, &st);
    if (there && (!S_ISDIR(st.st_mode) || !is_empty(path)))
        return -EEXIST;
    c->path = there ? realpath(path, NULL) : strdup(path);
    if (!c->path)
        return -errno;
    for (size_t n = strlen(c->path); n > 1 && c->path[n - 1] == '/';)
        c->path[--n] = 0;
    for (int i = 0; i < NAMES_MAX && c->folder < 0; i++) {
        unsigned bits;
        if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
            return -EIO;
        free(c->temp);
        if (asprintf(&c->temp, "%s.%06x.part", c->path, bits & 0xffffff) < 0) {
            c->temp = NULL;
            return -ENOMEM;
        }
        if (!mkdir(c->temp, 0777))
            c->folder = open(c->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (c->folder < 0 && errno != EEXIST)
            return -errno;
    }
    return c->folder < 0 ? -EEXIST : 0;
}

static FILE *new_file(struct ctf *c, const char *name) {
    int fd = openat(c->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f && fd >= 0)
        close(fd);
    return f;
}

/* Return: 0 or -errno of a write. */
static int close_file(FILE *f) {
    bool failed = ferror(f);
    return fclose(f) || failed ? (errno ? -errno : -EIO) : 0;
}

static void vcpu_name(unsigned vcpu, char name[16]) {
    snprintf(name, 16, "vcpu%u", vcpu);
}

/* ---- The description ---- */

static void put_labels(enum pn_type type, FILE *out) {
    const char *word;
    fputs("\t\tenum : u64 { ", out);
    for (uint64_t i = 0; (word = trace_word(type, i)); i++)
        fprintf(out, "%s\"%s\" = %" PRIu64, i ? ", " : "", word, i);
    fputs(" }", out);
}

bool export_ctf_is_text(enum pn_type type) {
    return type == PN_TYPE_pfec || type == PN_TYPE_error || type == PN_TYPE_access ||
           type == PN_TYPE_role || type == PN_TYPE_mode ||
           type == PN_TYPE_qualification || type == PN_TYPE_slot_flags ||
           type == PN_TYPE_text;
}

static void describe_field(enum pn_type type, const char *name, FILE *out) {
    if (trace_word(type, 0))
        put_labels(type, out);
    else if (export_ctf_is_text(type))
        fputs("\t\tstring", out);
    else if (type == PN_TYPE_count || type == PN_TYPE_flag || type == PN_TYPE_level)
        fputs("\t\tu64", out);
    else
        fputs("\t\tx64", out);
    /* The underscore is no part of the name; a keyword of TSDL may follow it. */
    fprintf(out, " _%s;\n", name);
}

static void describe_1(const struct trace_file *f, FILE *out) {
    const struct trace_event *e;
    fputs(metadata_head, out);
    for (unsigned id = 0; (e = trace_file_event(f, id)); id++) {
        fprintf(out, "event {\n\tname = \"%s\";\n\tid = %u;\n\tstream_id = 0;\n", e->name,
                id);
        fputs("\tfields := struct {\n", out);
        for (unsigned i = 0; i < e->fields; i++)
            describe_field(e->field[i].type, e->field[i].name, out);
        fputs("\t};\n};\n", out);
    }
    fprintf(out,
            "event {\n\tname = \"unnamed\";\n\tid = %u;\n\tstream_id = 0;\n"
            "\tfields := struct {\n\t\tu64 _id;\n",
            EXPORT_CTF_UNNAMED);
    for (unsigned i = 0; i < PN_FIELDS_MAX; i++)
        fprintf(out, "\t\tx64 _arg%u;\n", i);
    fprintf(
        out,
        "\t};\n};\nenv {\n\ttracer_name = \"penumbra\";\n\tkernel_moved = \"0x%" PRIx64
        "\";\n};\n",
        trace_file_header(f)->kernel_moved);
}

static int describe(struct ctf *c, const struct export *x) {
    FILE *out = new_file(c, "metadata");
    if (!out)
        return -errno;
    if (x->how == &export_ctf2)
        export_ctf2_describe(x->file, out);
    else
        describe_1(x->file, out);
    return close_file(out);
}

/* ---- Packets ---- */

static void start_packet(struct packet *k) {
    k->used = sizeof(struct packet_head);
    k->begin = k->end; /* of the one before it */
}

/* discarded: events that are lost so far. Return: 0 or -errno. */
static int end_packet(struct packet *k, unsigned vcpu, uint64_t discarded) {
    const struct packet_head h = {
        .magic = EXPORT_CTF_MAGIC,
        .stream = vcpu,
        .content_bits = k->used * 8,
        .packet_bits = k->used * 8,
        .begin = k->begin,
        .end = k->end,
        .discarded = discarded,
        .number = k->number++,
    };
    memcpy(k->bytes, &h, sizeof(h));
    size_t n = fwrite(k->bytes, 1, k->used, k->file);
    int rc = n == k->used ? 0 : errno ? -errno : -EIO;
    start_packet(k);
    return rc;
}

static uint8_t *put(uint8_t *p, const void *value, size_t size) {
    return mempcpy(p, value, size);
}

static uint8_t *put_fields(const struct trace_event *e, const struct pn_event_rec *rec,
                           uint8_t *p) {
    for (unsigned i = 0; i < e->fields; i++) {
        if (export_ctf_is_text(e->field[i].type)) {
            p = (uint8_t *)trace_put_value(trace_field_type(e, rec, i), rec->arg[i],
                                           (char *)p);
            *p++ = 0;
        } else {
            p = put(p, &rec->arg[i], sizeof(rec->arg[i]));
        }
    }
    return p;
}

static int add(struct export *x, const struct pn_event_rec *rec) {
    struct packet *k = ((struct ctf *)x->own)->packet[rec->vcpu];
    const struct trace_event *e = trace_file_event(x->file, rec->id);
    const uint16_t id = e ? rec->id : EXPORT_CTF_UNNAMED;
    int rc = k->used > PACKET_BYTES - EVENT_BYTES ? end_packet(k, rec->vcpu, 0) : 0;
    if (k->used == sizeof(struct packet_head))
        k->begin = rec->time;
    k->end = rec->time;
    uint8_t *p = k->bytes + k->used;
    p = put(p, &id, sizeof(id));
    p = put(p, &rec->time, sizeof(rec->time));
    p = put(p, &rec->vcpu, sizeof(rec->vcpu));
    p = put(p, &rec->rip, sizeof(rec->rip));
    p = put(p, &rec->cpl, sizeof(rec->cpl));
    p = put(p, &rec->cr3, sizeof(rec->cr3));
    if (e) {
        p = put_fields(e, rec, p);
    } else {
        const uint64_t number = rec->id;
        p = put(p, &number, sizeof(number));
        p = put(p, rec->arg, sizeof(rec->arg));
    }
    k->used = (size_t)(p - k->bytes);
    return rc;
}

/* ---- Life ---- */

static int begin(struct export *x, const char *path) {
    struct ctf *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    x->own = c;
    c->folder = -1;
    int rc = make_folder(c, path);
    if (!rc)
        rc = describe(c, x);
    for (; !rc && c->vcpus < trace_file_header(x->file)->vcpus; c->vcpus++) {
        struct packet *k = calloc(1, sizeof(*k));
        char name[16];
        if (!k)
            return -ENOMEM;
        vcpu_name(c->vcpus, name);
        k->file = new_file(c, name);
        if (!k->file) {
            rc = -errno;
            free(k);
            return rc;
        }
        start_packet(k);
        c->packet[c->vcpus] = k;
    }
    return rc;
}

static void free_ctf(struct export *x) {
    struct ctf *c = x->own;
    for (unsigned i = 0; i < c->vcpus; i++) {
        if (c->packet[i]->file)
            fclose(c->packet[i]->file);
        free(c->packet[i]);
    }
    if (c->folder >= 0)
        close(c->folder);
    free(c->path);
    free(c->temp);
    free(c);
    x->own = NULL;
}

static void abandon(struct export *x) {
    struct ctf *c = x->own;
    char name[16];
    if (!c)
        return;
    if (c->folder >= 0) {
        unlinkat(c->folder, "metadata", 0);
        for (unsigned i = 0; i < c->vcpus; i++) {
            vcpu_name(i, name);
            unlinkat(c->folder, name, 0);
        }
        rmdir(c->temp);
    }
    free_ctf(x);
}

/* Lost events stand in a packet of their own: readers count from the one before it. Nobody
 * knows which vCPU's they are: the first one's stream has them. */
static int end(struct export *x) {
    struct ctf *c = x->own;
    uint64_t lost = trace_file_end(x->file)->lost;
    int rc = 0;
    for (unsigned i = 0; i < c->vcpus && !rc; i++) {
        rc = end_packet(c->packet[i], i, 0);
        if (!rc && !i && lost)
            rc = end_packet(c->packet[i], i, lost);
        int closed = close_file(c->packet[i]->file);
        c->packet[i]->file = NULL;
        rc = rc ? rc : closed;
    }
    if (!rc && rename(c->temp, c->path))
        rc = errno == ENOTEMPTY ? -EEXIST : -errno;
    if (!rc)
        free_ctf(x);
    return rc;
}

const struct export_format export_ctf = {
    .name = "ctf",
    .doc = "a folder in the Common Trace Format 1.8: babeltrace2, Trace Compass",
    .folder = true,
    .begin = begin,
    .add = add,
    .end = end,
    .abandon = abandon,
};

const struct export_format export_ctf2 = {
    .name = "ctf2",
    .doc = "the same in CTF 2: babeltrace2 from 2.1 on",
    .folder = true,
    .begin = begin,
    .add = add,
    .end = end,
    .abandon = abandon,
};
