/* SPDX-License-Identifier: MIT */
/*
 * Connections to another penumbra, over a Unix socket or TCP, in the clear or by TLS.
 *
 * The wires of one purpose are a group: what one of them hears or says shows that the peer is
 * alive for all, and all of them end together.
 *
 * Invariants
 * 1. No call waits longer than the group's stall time for a peer that does nothing, nor at all
 *    once the group has been cut (but accept for its first peer, which waits until cut).
 * 2. A Unix socket is the owner's alone (mode 0600).
 * Locking: one thread reads a wire and one writes it; the group is of any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct wire_group {
    uint64_t stall_ns;      /* so long may the peer be silent */
    atomic_bool cut;        /* wire_cut */
    _Atomic uint64_t last;  /* host time of the last bytes, either way */
    _Atomic uint64_t bytes; /* sent */
};

void wire_group_init(struct wire_group *g, uint64_t stall_ns);
/* Every call on a wire of the group returns -ECANCELED, now or soon. */
void wire_cut(struct wire_group *g);
/* It has just begun to matter whether the peer is silent. */
void wire_group_fresh(struct wire_group *g);

/* ---- TLS (wire_tls.c) ---- */

/* A folder of certificates and keys in PEM, with the file names of QEMU's: ca-cert.pem, and
 * server-cert.pem and server-key.pem where connections come in, client-cert.pem and
 * client-key.pem where they go out. Each side asks for a certificate of that authority's. */
struct wire_tls;
/* Open the library now, for a process that cannot do so later. Return: 0, or -ENOENT. */
int wire_tls_prepare(struct err *e);
int wire_tls_open(const char *dir, bool server, struct wire_tls **out, struct err *e);
void wire_tls_close(struct wire_tls *t); /* NULL: nothing */

/* ---- Connections ---- */

struct wire;

/* Is it "unix:PATH" or "tcp:HOST:PORT"? Return: 0, or -EINVAL with a line. */
int wire_check(const char *where, struct err *e);

/* t NULL: in the clear. Over TCP the peer's certificate must be of that HOST.
 * Return: 0, or -errno with a line in e. */
int wire_connect(struct wire_group *g, const char *where, struct wire_tls *t,
                 struct wire **out, struct err *e);
void wire_close(struct wire *w); /* NULL: nothing */

struct wire_door; /* that connections come in by */
int wire_listen(const char *where, struct wire_door **out, struct err *e);
/* The next one. patient: wait until it comes or the group is cut, however long. */
int wire_accept(struct wire_door *d, struct wire_group *g, struct wire_tls *t,
                bool patient, struct wire **out, struct err *e);
void wire_door_close(
    struct wire_door *d); /* NULL: nothing. A socket's file goes with it */

/* All of it. Return: 0; -EPIPE: the peer has closed; -ETIMEDOUT: it was silent too long;
 * -ECANCELED: the group is cut; other -errno. */
int wire_read(struct wire *w, void *to, size_t size);
int wire_write(struct wire *w, const void *from, size_t size);
/* Words for such an error: "the peer has closed the connection". */
const char *wire_words(int rc);

/* A listening Unix socket of mode 0600, non-blocking; one that nobody listens at is replaced.
 * Return: its descriptor or -errno. */
int wire_listen_unix(const char *path);
