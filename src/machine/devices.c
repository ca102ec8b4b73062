/* SPDX-License-Identifier: MIT */
/* The text of a machine's PCI devices: see devices.h. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "dev/virtio_devices.h"
#include "machine/devices.h"

#define LINE_MAX_BYTES (DEVICE_PATH_MAX + 64u)

static const struct {
    const char *word, *options, *doc;
} kinds[] = {
#define DEVICE(name, word, options, doc) {word, options, doc},
#include "machine/devices.inc"
};

void device_list(FILE *out) {
    for (unsigned i = 0; i < DEVICE_KINDS; i++)
        fprintf(out, "%-10s %s\n", kinds[i].word, kinds[i].doc);
    fprintf(out, "\nEach takes ,split: it offers no packed rings.\n");
}

/* Up to the next single comma, with two of them made one. Return: what is behind it. */
static const char *value(const char *text, char *out, size_t size, bool *fits) {
    size_t n = 0;
    for (; *text && (*text != ',' || text[1] == ','); text++) {
        text += *text == ',';
        if (n + 1 < size)
            out[n++] = *text;
        else
            *fits = false;
    }
    out[n] = 0;
    return *text ? text + 1 : text;
}

/* hvc=PATH or port=NAME:PATH */
static int add_port(struct device_spec *d, const char *word, struct err *e) {
    bool console = !strncmp(word, "hvc=", 4);
    const char *text = strchr(word, '=') + 1, *path = console ? text : strchr(text, ':');
    size_t name = path && !console ? (size_t)(path++ - text) : 0;
    if (!path || !*path || (!console && !name) || name >= DEVICE_NAME_MAX ||
        strlen(path) >= DEVICE_SOCKET_MAX)
        return err_set(e, -EINVAL,
                       "%s: not hvc=PATH or port=NAME:PATH, of at most %u bytes each",
                       word, DEVICE_SOCKET_MAX - 1);
    if (d->ports == DEVICE_PORTS_MAX)
        return err_set(e, -EINVAL, "more than %u ports", DEVICE_PORTS_MAX);
    struct device_port *p = &d->port[d->ports++];
    p->console = console;
    memcpy(p->name, text, name);
    strcpy(p->path, path);
    return 0;
}

/* "52:54:00:12:34:56", of one card. */
static int parse_mac(const char *text, uint8_t mac[6], struct err *e) {
    const char *p = text;
    for (unsigned i = 0; p && i < 6; i++, p += p != NULL) {
        char digits[3] = {p[0], p[0] ? p[1] : 0, 0}, *end;
        mac[i] = (uint8_t)strtoul(digits, &end, 16);
        p = isxdigit((unsigned char)digits[0]) && end == digits + 2 &&
                    p[2] == (i < 5 ? ':' : 0)
                ? p + 2
                : NULL;
    }
    return p && !(mac[0] & 1)
               ? 0
               : err_set(e, -EINVAL, "mac=%s: not as 52:54:00:12:34:56, of one card",
                         text);
}

static int option(struct device_spec *d, const char *word, struct err *e) {
    if (!strcmp(word, "split"))
        d->split = true;
    else if ((d->kind == DEVICE_DISK || d->kind == DEVICE_SHARE) && !strcmp(word, "ro"))
        d->read_only = true;
    else if ((d->kind == DEVICE_DISK || d->kind == DEVICE_PMEM) &&
             !strcmp(word, "snapshot"))
        d->snapshot = true;
    else if (d->kind == DEVICE_DISK && !strcmp(word, "qcow2"))
        d->qcow2 = true;
    else if (d->kind == DEVICE_DISK && !strcmp(word, "pause"))
        d->pause = true;
    else if (d->kind == DEVICE_NET && !*d->net.tap && !strcmp(word, "open"))
        d->net.open = true;
    else if (d->kind == DEVICE_NET && !*d->net.tap && !strncmp(word, "hostfwd=", 8))
        return net_parse_forward(word + 8, &d->net, e);
    else if (d->kind == DEVICE_NET && !strncmp(word, "mac=", 4))
        return parse_mac(word + 4, d->net.mac, e);
    else if (d->kind == DEVICE_SHARE && !strncmp(word, "tag=", 4) && word[4] &&
             strlen(word + 4) < DEVICE_NAME_MAX)
        strcpy(d->tag, word + 4);
    else if (d->kind == DEVICE_CONSOLE &&
             (!strncmp(word, "hvc=", 4) || !strncmp(word, "port=", 5)))
        return add_port(d, word, e);
    else
        return err_set(e, -EINVAL, "'%s' is no option of a device '%s': %ssplit", word,
                       kinds[d->kind].word, kinds[d->kind].options);
    return 0;
}

static int check_writes(const struct device_spec *d, struct err *e) {
    if (d->read_only && d->snapshot)
        return err_set(e, -EINVAL, "ro or snapshot, not both");
    if (d->pause && (d->read_only || d->snapshot))
        return err_set(e, -EINVAL, "pause is for a disk that is written");
    return 0;
}

static int no_device(const char *kind, struct err *e) {
    char known[160];
    int n = 0;
    for (unsigned i = 0; i < DEVICE_KINDS; i++)
        n += snprintf(known + n, sizeof(known) - (size_t)n, "%s%s", i ? ", " : "",
                      kinds[i].word);
    return err_set(e, -EINVAL, "no such device: '%s'; there are %s", kind, known);
}

int device_parse(const char *kind, const char *argument, struct device_spec *d,
                 struct err *e) {
    char word[256];
    bool fits = true;
    int rc = 0;
    memset(d, 0, sizeof(*d));
    while (d->kind < DEVICE_KINDS && strcmp(kinds[d->kind].word, kind) != 0)
        d->kind++;
    if (d->kind == DEVICE_KINDS)
        return no_device(kind, e);
    const char *p = argument ? argument : "";
    if (d->kind == DEVICE_DISK) {
        p = value(p, d->path, sizeof(d->path), &fits);
        if (!*d->path)
            return err_set(e, -EINVAL, "not FILE[,ro][,snapshot][,qcow2][,pause]");
    }
    if (d->kind == DEVICE_SHARE) {
        p = value(p, d->path, sizeof(d->path), &fits);
        if (!*d->path)
            return err_set(e, -EINVAL, "not DIR[,ro][,tag=NAME]");
    }
    if (d->kind == DEVICE_PMEM) {
        p = value(p, d->path, sizeof(d->path), &fits);
        if (!*d->path)
            return err_set(e, -EINVAL, "not pmem,FILE[,snapshot]");
    }
    if (d->kind == DEVICE_VSOCK) {
        p = value(p, d->path, DEVICE_SOCKET_MAX, &fits);
        if (!*d->path)
            return err_set(e, -EINVAL, "not vsock,PATH");
    }
    if (d->kind == DEVICE_MEM) {
        p = value(p, word, sizeof(word), &fits);
        if (size_parse(word, &d->size) || !d->size || d->size % MEM_BLOCK ||
            d->size / MEM_BLOCK > MEM_BLOCKS_MAX)
            return err_set(e, -EINVAL, "not mem,SIZE of n times 2M, at most 64G");
    }
    if (d->kind == DEVICE_NET) {
        p = value(p, word, sizeof(word), &fits);
        static const uint8_t mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
        memcpy(d->net.mac, mac, sizeof(mac));
        if (!strncmp(word, "tap=", 4) && word[4] && strlen(word + 4) < NET_TAP_MAX)
            strcpy(d->net.tap, word + 4);
        else if (strcmp(word, "user") != 0)
            return err_set(e, -EINVAL,
                           "not user[,open][,hostfwd=tcp::PORT-:PORT] or tap=NAME");
    }
    while (rc == 0 && fits && *p) {
        p = value(p, word, sizeof(word), &fits);
        rc = option(d, word, e);
    }
    if (rc == 0 && !fits)
        rc = err_set(e, -EINVAL, "too long");
    if (rc == 0 && d->kind == DEVICE_CONSOLE && !d->ports)
        rc = err_set(e, -EINVAL, "it has no port: hvc=PATH or port=NAME:PATH");
    return rc ? rc : check_writes(d, e);
}

int device_next(const char **text, struct device_spec *d, struct err *e) {
    char line[LINE_MAX_BYTES];
    size_t length = *text ? strcspn(*text, "\n") : 0; /* NULL: none */
    if (!length)
        return 0;
    if (length >= sizeof(line))
        return err_set(e, -EINVAL, "a device's line is too long");
    memcpy(line, *text, length);
    line[length] = 0;
    *text += length + ((*text)[length] == '\n');
    char *argument = strchr(line, ' ');
    if (argument)
        *argument++ = 0;
    int rc = device_parse(line, argument, d, e);
    return rc ? rc : 1;
}
