/* SPDX-License-Identifier: MIT */
/*
 * The PCI devices of a machine, as text: one a line, "KIND[ ARGUMENT]", in the order of their
 * slots. That text is machine_config.devices; a snapshot has it, too. An argument is
 * "VALUE,OPTION,...", of which a comma that belongs to the value is written twice.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define MACHINE_DEVICES_MAX 31u /* slots of bus 0 besides the bridge's */
#define DEVICE_PATH_MAX     4096u

enum device_kind {
#define DEVICE(name, word, options, doc) DEVICE_##name,
#include "machine/devices.inc"
    DEVICE_KINDS
};

/* A network (net.h). */
#define NET_FORWARDS_MAX 8u
#define NET_TAP_MAX      16u

struct net_config {
    char tap[NET_TAP_MAX]; /* an interface of the host's; "": the guest's own network */
    uint8_t mac[6];
    bool open;
    unsigned forwards;
    struct net_forward {
        bool udp;
        struct in_addr host, guest; /* guest 0: the one that DHCP gives */
        uint16_t host_port, guest_port;
    } forward[NET_FORWARDS_MAX];
};

/* A port of a console. */
#define DEVICE_PORTS_MAX  3u
#define DEVICE_NAME_MAX   32u
#define DEVICE_SOCKET_MAX 108u

struct device_spec {
    enum device_kind kind;
    char path[DEVICE_PATH_MAX]; /* of a disk, a folder, memory, or a socket */
    bool read_only;             /* of a disk or a folder */
    bool snapshot;              /* of a disk or memory */
    bool qcow2, pause;          /* of a disk */
    char
        tag[DEVICE_NAME_MAX]; /* of a folder: what the guest mounts; "": none was given */
    bool split;               /* no packed rings */
    struct net_config net;    /* of a network card */
    uint64_t size;            /* of memory that comes and goes */
    unsigned ports;           /* of a console */
    struct device_port {
        bool console;
        char name[DEVICE_NAME_MAX];
        char path[DEVICE_SOCKET_MAX]; /* of its socket */
    } port[DEVICE_PORTS_MAX];
};

/* One line's kind and argument (NULL: none). Return: 0, or -EINVAL with what is wrong in e. */
int device_parse(const char *kind, const char *argument, struct device_spec *d,
                 struct err *e);
/* The next line of a text. Return: 1 and *text behind it; 0: there is no more; -EINVAL. */
int device_next(const char **text, struct device_spec *d, struct err *e);
/* "tcp:[ADDRESS]:PORT-[ADDRESS]:PORT", as in QEMU; without an address this host's own ports are
 * those of 127.0.0.1. Return: 0, or -EINVAL with a line in e. */
int net_parse_forward(const char *text, struct net_config *c, struct err *e);

/* Each kind with its options and meaning, for help. */
void device_list(FILE *out);
