/* SPDX-License-Identifier: MIT */
/* libvirt's domain XML as options: see domain.h. */
#include <errno.h>
#include <expat.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/late.h"
#include "base/size.h"
#include "machine/devices.h"
#include "machine/domain.h"

#define PATH_BYTES 256u
#define TEXT_BYTES 65536u
#define NODES_MAX  1024u

/* What of the library is used. */
#define CALLS                                                                            \
    CALL(ParserCreate)                                                                   \
    CALL(ParserFree)                                                                     \
    CALL(SetUserData)                                                                    \
    CALL(SetElementHandler)                                                              \
    CALL(SetCharacterDataHandler)                                                        \
    CALL(SetEntityDeclHandler)                                                           \
    CALL(StopParser)                                                                     \
    CALL(Parse)                                                                          \
    CALL(GetErrorCode)                                                                   \
    CALL(ErrorString)                                                                    \
    CALL(GetCurrentLineNumber)

struct expat {
#define CALL(name) __typeof__(XML_##name) *name;
    CALLS
#undef CALL
};

struct disk {
    char path[DEVICE_PATH_MAX];
    bool is_disk, raw, read_only, transient;
};

struct domain {
    struct expat lib;
    XML_Parser parser;
    json_t *config;
    domain_note_fn note;
    void *opaque;
    struct err *e;
    int rc;
    char path[PATH_BYTES];
    unsigned skipped; /* depth below an element that is left out; 0: none */
    char *text;       /* of the element at hand */
    size_t text_size;
    uint64_t unit; /* of memory */
    struct disk disk;
    char net[2048], protocol[8], address[64]; /* of an interface, and what it forwards */
};

/* ---- Helpers of what is taken ---- */

static void fail(struct domain *d, const char *what, const char *value) {
    if (d->rc)
        return;
    d->rc = err_set(d->e, -EINVAL, "line %lu: %s: %s '%s'",
                    (unsigned long)d->lib.GetCurrentLineNumber(d->parser), d->path, what,
                    value);
    d->lib.StopParser(d->parser, XML_FALSE);
}

static void note(struct domain *d, const char *what) {
    char line[PATH_BYTES + 160];
    snprintf(line, sizeof(line), "%s: %s", d->path, what);
    d->note(d->opaque, line);
}

/* "" where there is none. */
static const char *attribute(const char **attr, const char *name) {
    for (; attr[0]; attr += 2)
        if (!strcmp(attr[0], name))
            return attr[1];
    return "";
}

static void set(struct domain *d, const char *option, json_t *value) {
    json_object_set_new(d->config, option, value);
}

static void append(struct domain *d, const char *option, const char *value) {
    json_t *list = json_object_get(d->config, option);
    if (!list) {
        list = json_array();
        set(d, option, list);
    }
    json_array_append_new(list, json_string(value));
}

/* Units of libvirt's: decimal ones end with B alone, "" stands for `standard`. 0: unknown. */
static uint64_t unit(const char *name, uint64_t standard) {
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"b", 1},
                 {"bytes", 1},
                 {"KB", 1000},
                 {"k", 1024},
                 {"KiB", 1024},
                 {"MB", 1000000},
                 {"M", 1u << 20},
                 {"MiB", 1u << 20},
                 {"GB", 1000000000},
                 {"G", 1u << 30},
                 {"GiB", 1u << 30},
                 {"TB", 1000000000000},
                 {"T", UINT64_C(1) << 40},
                 {"TiB", UINT64_C(1) << 40}};
    if (!*name)
        return standard;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (!strcmp(name, units[i].name))
            return units[i].bytes;
    return 0;
}

/* "0-3,5,^2" as a list of numbers into buf. Return: whether it is such a set, and not empty. */
static bool node_list(const char *text, char *buf, size_t size) {
    bool in[NODES_MAX] = {false};
    size_t used = 0;
    for (char *end; *text; text = *end ? end + 1 : end) {
        bool without = *text == '^';
        const char *at = text + without;
        unsigned long from = strtoul(at, &end, 10), to = from;
        if (end == at || *at == '-' || *at == '+')
            return false;
        if (*end == '-')
            to = strtoul(end + 1, &end, 10);
        if ((*end && *end != ',') || to < from || to >= NODES_MAX)
            return false;
        for (; from <= to; from++)
            in[from] = !without;
    }
    for (unsigned i = 0; i < NODES_MAX && used < size; i++)
        if (in[i])
            used += (size_t)snprintf(buf + used, size - used, "%s%u", used ? "," : "", i);
    return used && used < size;
}

/* A path as an argument of an option: a comma is written twice. */
static bool quote(const char *path, char *buf, size_t size) {
    size_t n = 0;
    for (; *path && n + 2 < size; path++) {
        if (*path == ',')
            buf[n++] = ',';
        buf[n++] = *path;
    }
    buf[n] = 0;
    return !*path;
}

/* ---- What is taken ---- */

static void begin_none(struct domain *d, const char **attr) {
}
static void end_none(struct domain *d, const char *text) {
}

static void begin_skip(struct domain *d, const char **attr) {
    d->skipped = 1;
}

static void begin_domain(struct domain *d, const char **attr) {
    if (!strcmp(attribute(attr, "type"), "kvm"))
        note(d, "type kvm: add --mmu kvm to run under the host's MMU");
}

static void begin_memory(struct domain *d, const char **attr) {
    d->unit = unit(attribute(attr, "unit"), 1024);
    if (!d->unit)
        fail(d, "no unit is called", attribute(attr, "unit"));
}

static void end_memory(struct domain *d, const char *text) {
    uint64_t n;
    char size[SIZE_TEXT_MAX];
    if (number_parse(text, 1, UINT64_MAX / d->unit, &n))
        fail(d, "no size:", text);
    else
        set(d, "memory", json_string(size_text(n * d->unit, size)));
}

static void end_vcpu(struct domain *d, const char *text) {
    uint64_t n;
    if (number_parse(text, 1, UINT32_MAX, &n))
        fail(d, "no number of vCPUs:", text);
    else
        set(d, "cpus", json_integer((json_int_t)n));
}

static void begin_hugepages(struct domain *d, const char **attr) {
    set(d, "hugepages", json_string("2M"));
}

static void begin_page(struct domain *d, const char **attr) {
    uint64_t n, u = unit(attribute(attr, "unit"), 1024);
    char size[SIZE_TEXT_MAX];
    if (!u || number_parse(attribute(attr, "size"), 1, UINT64_MAX / u, &n) ||
        (n * u != 2u << 20 && n * u != 1u << 30))
        fail(d, "pages of 2 MiB or 1 GiB, not", attribute(attr, "size"));
    else
        set(d, "hugepages", json_string(size_text(n * u, size)));
}

static void begin_source(struct domain *d, const char **attr) {
    if (!strcmp(attribute(attr, "type"), "memfd"))
        set(d, "shared-memory", json_true());
    else if (strcmp(attribute(attr, "type"), "anonymous"))
        note(d, "left out: memory of files");
}

static void begin_access(struct domain *d, const char **attr) {
    if (!strcmp(attribute(attr, "mode"), "shared"))
        set(d, "shared-memory", json_true());
}

static void begin_numatune(struct domain *d, const char **attr) {
    const char *mode = attribute(attr, "mode"), *nodes = attribute(attr, "nodeset");
    char list[512];
    bool interleave = !strcmp(mode, "interleave");
    if (!node_list(nodes, list, sizeof(list)))
        fail(d, "no set of nodes:", nodes);
    else if (!interleave && strchr(list, ','))
        note(d, "left out: --numa binds to one node, or interleaves");
    else
        set(d, "numa", json_sprintf("%s=%s", interleave ? "interleave" : "bind", list));
    if (!interleave && *mode && strcmp(mode, "strict"))
        note(d, "taken as strict");
}

static void end_kernel(struct domain *d, const char *text) {
    set(d, "kernel", json_string(text));
}

static void end_initrd(struct domain *d, const char *text) {
    set(d, "initrd", json_string(text));
}

static void end_cmdline(struct domain *d, const char *text) {
    set(d, "append", json_string(text));
}

static void begin_disk(struct domain *d, const char **attr) {
    const char *device = attribute(attr, "device"), *type = attribute(attr, "type");
    d->disk = (struct disk){.is_disk = !*device || !strcmp(device, "disk"), .raw = true};
    if (!d->disk.is_disk || (strcmp(type, "file") && strcmp(type, "block"))) {
        note(d, "left out: only disks of files and block devices are taken");
        d->skipped = 1;
    }
}

static void begin_disk_driver(struct domain *d, const char **attr) {
    const char *type = attribute(attr, "type");
    d->disk.raw = !*type || !strcmp(type, "raw");
}

static void begin_disk_source(struct domain *d, const char **attr) {
    const char *file = attribute(attr, "file"), *dev = attribute(attr, "dev");
    if (!quote(*file ? file : dev, d->disk.path, sizeof(d->disk.path)))
        fail(d, "too long:", "");
}

static void begin_disk_target(struct domain *d, const char **attr) {
    const char *bus = attribute(attr, "bus");
    if (*bus && strcmp(bus, "virtio"))
        note(d, "taken as a disk of virtio's: the guest sees /dev/vda, and so on");
}

static void begin_disk_readonly(struct domain *d, const char **attr) {
    d->disk.read_only = true;
}

static void begin_disk_transient(struct domain *d, const char **attr) {
    d->disk.transient = true;
}

static void end_disk(struct domain *d, const char *text) {
    char line[DEVICE_PATH_MAX + 32];
    if (!*d->disk.path) {
        note(d, "left out: it has no source");
        return;
    }
    if (!d->disk.raw)
        note(d, "its image is not raw: penumbra may have to be given another");
    snprintf(line, sizeof(line), "%s%s%s", d->disk.path, d->disk.read_only ? ",ro" : "",
             d->disk.transient ? ",snapshot" : "");
    append(d, "disk", line);
}

static void begin_interface(struct domain *d, const char **attr) {
    if (strcmp(attribute(attr, "type"), "user"))
        note(d, "taken as type user: a network of the guest's own");
    snprintf(d->net, sizeof(d->net), "user,open");
}

static void begin_interface_model(struct domain *d, const char **attr) {
    const char *type = attribute(attr, "type");
    if (strcmp(type, "virtio"))
        note(d, "taken as a card of virtio's");
}

static void begin_forward(struct domain *d, const char **attr) {
    snprintf(d->protocol, sizeof(d->protocol), "%s", attribute(attr, "proto"));
    snprintf(d->address, sizeof(d->address), "%s", attribute(attr, "address"));
}

static void begin_range(struct domain *d, const char **attr) {
    const char *start = attribute(attr, "start"), *to = attribute(attr, "to");
    struct net_config c = {.open = false};
    char forward[160];
    size_t used = strlen(d->net);
    if (*attribute(attr, "end") || !strcmp(attribute(attr, "exclude"), "yes")) {
        note(d, "left out: one port at a time is forwarded");
        return;
    }
    snprintf(forward, sizeof(forward), "%s:%s:%s-:%s", d->protocol, d->address, start,
             *to ? to : start);
    if (net_parse_forward(forward, &c, d->e)) {
        fail(d, "cannot be forwarded:", forward);
        return;
    }
    if ((size_t)snprintf(d->net + used, sizeof(d->net) - used, ",hostfwd=%s", forward) >=
        sizeof(d->net) - used)
        fail(d, "too many ports:", forward);
}

static void end_interface(struct domain *d, const char *text) {
    append(d, "net", d->net);
}

static void begin_rng(struct domain *d, const char **attr) {
    append(d, "device", "rng");
}

static void begin_balloon(struct domain *d, const char **attr) {
    if (strcmp(attribute(attr, "model"), "none"))
        append(d, "device", "balloon");
}

static const struct row {
    const char *path;
    void (*begin)(struct domain *d, const char **attr);
    void (*end)(struct domain *d, const char *text);
} rows[] = {
#define DOMAIN(path, begin, end) {path, begin_##begin, end_##end},
#include "machine/domain.inc"
};

/* ---- The parser's calls ---- */

static const struct row *find(const char *path) {
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (!strcmp(rows[i].path, path))
            return &rows[i];
    return NULL;
}

/* Addresses and aliases are libvirt's own, and anywhere. */
static bool of_libvirt(const char *name) {
    return !strcmp(name, "address") || !strcmp(name, "alias");
}

static void XMLCALL on_begin(void *opaque, const char *name, const char **attr) {
    struct domain *d = opaque;
    size_t used = strlen(d->path), n = strlen(name);
    if (d->skipped) {
        d->skipped++;
        return;
    }
    d->text_size = 0;
    if (used + n + 2 > sizeof(d->path)) {
        fail(d, "too deep:", "");
        return;
    }
    snprintf(d->path + used, sizeof(d->path) - used, "%s%s", used ? "/" : "", name);
    const struct row *r = find(d->path);
    if (r)
        r->begin(d, attr);
    else if (!used)
        fail(d, "no domain:", name);
    else {
        if (!of_libvirt(name))
            note(d, "left out");
        d->skipped = 1;
    }
}

static char *trim(struct domain *d) {
    static const char blanks[] = " \t\r\n";
    char *text = d->text;
    text[d->text_size] = 0;
    text += strspn(text, blanks);
    for (size_t n = strlen(text); n && strchr(blanks, text[n - 1]); n--)
        text[n - 1] = 0;
    return text;
}

static void XMLCALL on_end(void *opaque, const char *name) {
    struct domain *d = opaque;
    bool left_out = d->skipped == 1;
    if (d->skipped && --d->skipped)
        return;
    const struct row *r = find(d->path);
    if (r && !left_out && !d->rc)
        r->end(d, trim(d));
    char *slash = strrchr(d->path, '/');
    *(slash ? slash : d->path) = 0;
    d->text_size = 0;
}

static void XMLCALL on_text(void *opaque, const char *text, int size) {
    struct domain *d = opaque;
    if (d->skipped)
        return;
    if (d->text_size + (size_t)size >= TEXT_BYTES) {
        fail(d, "too long:", "");
        return;
    }
    memcpy(d->text + d->text_size, text, (size_t)size);
    d->text_size += (size_t)size;
}

static void XMLCALL on_entity(void *opaque, const char *name, int parameter,
                              const char *value, int size, const char *base,
                              const char *system, const char *public,
                              const char *notation) {
    fail(opaque, "entities are not taken:", name);
}

/* ---- All of it ---- */

static int library_open(struct expat *lib, struct err *e) {
    const struct late_call calls[] = {
#define CALL(name) {"XML_" #name, &lib->name},
        CALLS
#undef CALL
    };
    return late_open(EXPAT_SONAME, calls, sizeof(calls) / sizeof(calls[0]), e);
}

static int parse(struct domain *d, const char *xml, size_t size) {
    const struct expat *lib = &d->lib;
    lib->SetUserData(d->parser, d);
    lib->SetElementHandler(d->parser, on_begin, on_end);
    lib->SetCharacterDataHandler(d->parser, on_text);
    lib->SetEntityDeclHandler(d->parser, on_entity);
    if (lib->Parse(d->parser, xml, (int)size, XML_TRUE) == XML_STATUS_OK || d->rc)
        return d->rc;
    return err_set(d->e, -EINVAL, "line %lu: %s",
                   (unsigned long)lib->GetCurrentLineNumber(d->parser),
                   lib->ErrorString(lib->GetErrorCode(d->parser)));
}

int domain_convert(const char *xml, size_t size, domain_note_fn note_fn, void *opaque,
                   json_t **out, struct err *e) {
    struct domain *d = calloc(1, sizeof(*d));
    int rc = d ? library_open(&d->lib, e) : err_set(e, -ENOMEM, "out of memory");
    *out = NULL;
    if (rc || size > DOMAIN_XML_MAX) {
        free(d);
        return rc ? rc : err_set(e, -EINVAL, "more than %u bytes", DOMAIN_XML_MAX);
    }
    d->note = note_fn;
    d->opaque = opaque;
    d->e = e;
    d->unit = 1;
    d->config = json_pack("{s:s}", "schema", "penumbra-config-1");
    d->text = malloc(TEXT_BYTES);
    d->parser = d->lib.ParserCreate(NULL);
    rc = d->config && d->text && d->parser ? parse(d, xml, size)
                                           : err_set(e, -ENOMEM, "out of memory");
    if (d->parser)
        d->lib.ParserFree(d->parser);
    if (rc)
        json_decref(d->config);
    else
        *out = d->config;
    free(d->text);
    free(d);
    return rc;
}
