/* SPDX-License-Identifier: MIT */
/* What the files of the wires share. */
#pragma once

#include "base/wire.h"

struct wire {
    struct wire_group *group;
    int fd;
    void *session; /* of TLS; NULL: in the clear */
};

/* wire_tls.c. Begin on a connected wire; host: whose certificate it must be, NULL: any of the
 * authority's. Return: 0, or -errno with a line in e. */
int wire_tls_begin(struct wire *w, struct wire_tls *t, const char *host, struct err *e);
void wire_tls_end(struct wire *w);
/* As recv and send. Return: bytes, 0 at the end, or -errno: -EAGAIN. */
ssize_t wire_tls_recv(struct wire *w, void *to, size_t size);
ssize_t wire_tls_send(struct wire *w, const void *from, size_t size);

/* Is there more to wait for, after -EAGAIN? Return: 0, -ETIMEDOUT or -ECANCELED. */
int wire_may_wait(const struct wire_group *g);
