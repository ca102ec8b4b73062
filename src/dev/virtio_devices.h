/* SPDX-License-Identifier: MIT */
/* The virtio devices; each create returns as dev_create does. */
#pragma once

#include "dev/virtio.h"

/* ---- A disk (virtio_blk.c) ---- */

#define DISK_SECTOR 512u

/* Where its bytes are. Calls come from one thread at a time. Return: 0 or -errno. */
struct dev_disk {
    uint64_t size; /* bytes, a multiple of DISK_SECTOR */
    bool read_only;
    bool
        direct; /* read and write take places in guest memory, and return -EFAULT where the
                  * host does not let them have one */
    bool parallel; /* several threads may call at once */
    bool
        waits; /* a write that finds the host's disk full (ENOSPC) is tried again when the
                    * machine has stood for it (DEV_FULL), and is no error */
    int (*read)(void *opaque, uint64_t at, const struct iovec *to, unsigned pieces);
    int (*write)(void *opaque, uint64_t at, const struct iovec *from, unsigned pieces);
    int (*flush)(void *opaque); /* what was written survives a power failure */
    int (*discard)(void *opaque, uint64_t at, uint64_t size); /* reads as zeros */
    void *opaque;
};

struct virtio_blk_config {
    struct virtio_config virtio;
    struct dev_disk disk;
    char serial[20]; /* what the guest is told it is called; not terminated when full */
    unsigned queues; /* from 1 to VIRTIO_QUEUES_MAX */
};
struct virtio_blk;
struct virtio_blk *virtio_blk_create(const struct dev_env *env,
                                     const struct virtio_blk_config *c);

/* ---- Random bytes (virtio_rng.c) ---- */

struct virtio_rng_config {
    struct virtio_config virtio;
    uint64_t seed;                        /* of the bytes under virtual time */
    void (*fill)(void *buf, size_t size); /* the host's, under its time */
};
struct virtio_rng;
struct virtio_rng *virtio_rng_create(const struct dev_env *env,
                                     const struct virtio_rng_config *c);

/* ---- A balloon (virtio_balloon.c) ---- */

struct virtio_balloon_config {
    struct virtio_config virtio;
    /* What the guest says is free, while it is asked for that; NULL: nobody asks. */
    void (*hint)(void *opaque, pn_gpa gpa, size_t size);
    void *opaque;
};
struct virtio_balloon;
struct virtio_balloon *virtio_balloon_create(const struct dev_env *env,
                                             const struct virtio_balloon_config *c);
/* Ask the guest to give so many pages of 4 KiB up, or to take them back. */
void virtio_balloon_set(struct virtio_balloon *b, uint32_t pages);
/* What a guest says of its memory ("Memory Statistics Tags"), by tag. */
enum {
#define STAT(name, word, unit) BALLOON_##name,
#include "dev/balloon_stats.inc"
    BALLOON_STATS
};
struct virtio_balloon_report {
    uint32_t wanted,
        actual; /* pages in the balloon: asked for, and what the driver says */
    uint64_t inflated, deflated, reported; /* pages so far */
    uint32_t known; /* a bit for each of stat that the guest has said */
    uint64_t stat[BALLOON_STATS];
};
/* Ask the guest which pages are free: all of them, once for each HINTS_ANEW. What it has said before
 * counts no more then. It keeps those pages, and writes nothing to them, until HINTS_DONE or until
 * it needs them. */
enum virtio_balloon_hints { HINTS_STOP, HINTS_DONE, HINTS_ANEW };
void virtio_balloon_hints(struct virtio_balloon *b, enum virtio_balloon_hints what);
/* The guest is to say its statistics anew. Return: whether it can be asked now. */
bool virtio_balloon_ask_stats(struct virtio_balloon *b);

struct virtio_balloon_report virtio_balloon_ask(const struct virtio_balloon *b);

/* ---- A network card (virtio_net.c) ---- */

/* Bytes of a packet. More than Ethernet's 1500, for a frame costs the same whatever is in it; some of them fit into
 * the window of a TCP connection, or each would wait for the answer to the one before. */
#define NET_MTU       16384u
#define NET_FRAME_MAX (NET_MTU + 18u) /* with Ethernet's header and a VLAN's */

/* Where the guest's frames go. */
struct dev_net {
    void (*send)(void *opaque, const void *frame, size_t size);
    void *opaque;
    uint16_t mtu; /* NET_MTU at most */
};

struct virtio_net_config {
    struct virtio_config virtio;
    struct dev_net net;
    uint8_t mac[6];
};
struct virtio_net;
struct virtio_net *virtio_net_create(const struct dev_env *env,
                                     const struct virtio_net_config *c);
/* A frame for the guest. Return: whether it has taken it. */
bool virtio_net_receive(struct virtio_net *n, const void *frame, size_t size);

/* ---- A console with ports (virtio_console.c) ---- */

#define CONSOLE_PORTS_MAX 3u
#define CONSOLE_NAME_MAX  32u
#define CONSOLE_SEND_MOST (64u << 10) /* bytes of a buffer */

/* Where a port's bytes go. */
struct dev_console {
    /* Bytes that send takes; a port that nobody has open takes any number. */
    size_t (*room)(void *opaque, unsigned port);
    void (*send)(void *opaque, unsigned port, const void *buf, size_t size);
    void *opaque;
};

struct virtio_console_config {
    struct virtio_config virtio;
    struct dev_console host;
    unsigned ports; /* from 1 to CONSOLE_PORTS_MAX */
    struct {
        char name[CONSOLE_NAME_MAX];
        bool console; /* the guest has a terminal there */
    } port[CONSOLE_PORTS_MAX];
};
struct virtio_console;
struct virtio_console *virtio_console_create(const struct dev_env *env,
                                             const struct virtio_console_config *c);
/* Would the guest take bytes of a port now? */
bool virtio_console_listens(struct virtio_console *c, unsigned port);
/* Bytes for the guest. Return: how many it has taken. */
size_t virtio_console_receive(struct virtio_console *c, unsigned port, const void *buf,
                              size_t size);
/* There is room again (dev_console.room). */
void virtio_console_room(struct virtio_console *c, unsigned port);
/* Somebody has opened the port on the host's side, or closed it. */
void virtio_console_connect(struct virtio_console *c, unsigned port, bool open);

/* ---- A transport of 9P (virtio_9p.c) ---- */

#define P9_TAG_MAX     32u
#define P9_MESSAGE_MAX ((64u << 10) + 32u)

struct dev_9p {
    /* One request, and room for its answer; epoch: another one than before: everything begins
     * anew. Calls come from one thread at a time. Return: bytes of the answer. */
    size_t (*message)(void *opaque, uint32_t epoch, const uint8_t *in, size_t size,
                      uint8_t *out, size_t room);
    void *opaque;
};

struct virtio_9p_config {
    struct virtio_config virtio;
    struct dev_9p server;
    char tag[P9_TAG_MAX + 1]; /* what the guest mounts */
};
struct virtio_9p;
struct virtio_9p *virtio_9p_create(const struct dev_env *env,
                                   const struct virtio_9p_config *c);

/* ---- Persistent memory (virtio_pmem.c) ---- */

struct dev_pmem {
    int (*flush)(void *opaque); /* what was stored survives. Return: 0 or -errno */
    void *opaque;
};

struct virtio_pmem_config {
    struct virtio_config virtio;
    pn_gpa start; /* where the guest has it */
    uint64_t size;
    struct dev_pmem host;
};
struct virtio_pmem;
struct virtio_pmem *virtio_pmem_create(const struct dev_env *env,
                                       const struct virtio_pmem_config *c);

/* ---- Sockets between guest and host (virtio_vsock.c) ---- */

#define VSOCK_DATA_MAX (64u << 10) /* bytes of a packet */
#define VSOCK_HOST_CID 2u

/* "Socket Device: Device Operation" */
struct __attribute__((packed)) vsock_header {
    uint64_t from_cid, to_cid;
    uint32_t from_port, to_port;
    uint32_t length; /* of the data behind it */
    uint16_t type, op;
    uint32_t flags, room, taken; /* buf_alloc and fwd_cnt of the sender's side */
};
enum {
    VSOCK_REQUEST = 1,
    VSOCK_RESPONSE,
    VSOCK_RESET,
    VSOCK_SHUTDOWN,
    VSOCK_DATA,
    VSOCK_CREDIT,
    VSOCK_CREDIT_WANTED,
    VSOCK_STREAM = 1
};

struct dev_vsock {
    bool (*room)(void *opaque); /* for another packet, whatever it is */
    void (*packet)(void *opaque, const struct vsock_header *h, const void *data);
    void (*restart)(void *opaque); /* the driver begins anew; NULL: nothing */
    void *opaque;
};

struct virtio_vsock_config {
    struct virtio_config virtio;
    uint64_t cid; /* the guest's */
    struct dev_vsock host;
};
struct virtio_vsock;
struct virtio_vsock *virtio_vsock_create(const struct dev_env *env,
                                         const struct virtio_vsock_config *c);
/* Has the guest room for a packet? */
bool virtio_vsock_listens(struct virtio_vsock *k);
/* A packet for the guest; its length is what fits. Return: that; -1: it was not taken. */
int64_t virtio_vsock_send(struct virtio_vsock *k, const struct vsock_header *header,
                          const void *data, uint32_t size);
/* There is room again (dev_vsock.room). */
void virtio_vsock_room(struct virtio_vsock *k);

/* ---- Memory that comes and goes (virtio_mem.c) ---- */

#define MEM_BLOCK      (2u << 20) /* bytes */
#define MEM_BLOCKS_MAX 32768u

struct virtio_mem_config {
    struct virtio_config virtio;
    pn_gpa start;
    uint64_t
        size; /* of the region: a multiple of MEM_BLOCK, MEM_BLOCKS_MAX of them at most */
};
struct virtio_mem;
struct virtio_mem *virtio_mem_create(const struct dev_env *env,
                                     const struct virtio_mem_config *c);
/* Ask the guest to have so many bytes of it. Return: false: no such size. */
bool virtio_mem_ask(struct virtio_mem *m, uint64_t size);
/* Return: bytes that it has; *requested: that it was asked to have. */
uint64_t virtio_mem_plugged(const struct virtio_mem *m, uint64_t *requested);
