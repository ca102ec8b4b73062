/* SPDX-License-Identifier: MIT */
/* The guest's NUMA nodes: see nodes.h. */
#include "machine/nodes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "machine/state.h"

#define PIECE_MAX 64u
#define HOST_MAX  1023u

static int bad(const char *piece, const char *why, struct err *e) {
    return err_set(e, -EINVAL, "--numa-guest %s: %s", piece, why);
}

/* "A" or "A-B". Return: 0 or -EINVAL. */
static int parse_cpus(char *text, unsigned cpus, struct machine_node *n) {
    uint64_t first, last;
    char *dash = strchr(text, '-');
    if (dash)
        *dash++ = 0;
    if (number_parse(text, 0, cpus - 1, &first) ||
        number_parse(dash ? dash : text, first, cpus - 1, &last))
        return -EINVAL;
    n->first_cpu = (unsigned)first;
    n->cpus = (unsigned)(last - first) + 1;
    return 0;
}

/* piece: one node's text. */
static int parse_node(const char *piece, unsigned cpus, struct machine_node *n,
                      struct err *e) {
    char text[PIECE_MAX];
    uint64_t host;
    strcpy(text, piece);
    char *at = strchr(text, '@'), *slash = strchr(text, '/');
    n->host = NODE_ANYWHERE;
    if (at) {
        *at++ = 0;
        if (number_parse(at, 0, HOST_MAX, &host))
            return bad(piece, "after @ comes the number of a node of the host's", e);
        n->host = (int)host;
    }
    if (slash) {
        *slash++ = 0;
        if (parse_cpus(slash, cpus, n))
            return bad(piece, "after / come vCPUs of this guest (-c): 2 or 0-3", e);
    }
    if (size_parse(text, &n->size) || !n->size || n->size % NODE_UNIT)
        return bad(piece, "a node begins with its memory, a multiple of 2M: 256M/0-1@0",
                   e);
    return 0;
}

/* All vCPUs, each in one node. */
static int check_cpus(const char *text, unsigned cpus, struct machine_nodes *out,
                      struct err *e) {
    unsigned named = 0;
    for (unsigned i = 0; i < out->count; i++)
        named += out->node[i].cpus;
    for (unsigned i = 0, next = 0; !named && i < out->count; i++) {
        struct machine_node *n = &out->node[i];
        n->first_cpu = next;
        n->cpus = (cpus - next + out->count - i - 1) / (out->count - i);
        next += n->cpus;
    }
    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        unsigned nodes = 0;
        for (unsigned i = 0; i < out->count; i++)
            nodes += node_has_cpu(&out->node[i], cpu);
        if (nodes != 1)
            return err_set(e, -EINVAL, "--numa-guest %s: vCPU %u is in %s", text, cpu,
                           nodes ? "more than one node" : "no node");
    }
    return 0;
}

int nodes_parse(const char *text, unsigned distance, uint64_t ram, unsigned cpus,
                struct machine_nodes *out, struct err *e) {
    char have[SIZE_TEXT_MAX], want[SIZE_TEXT_MAX];
    uint64_t sum = 0;
    *out =
        (struct machine_nodes){.distance = distance ? distance : NODE_DISTANCE_DEFAULT};
    for (const char *p = text; p; p = *p ? p + 1 : NULL) {
        char piece[PIECE_MAX];
        size_t size = strcspn(p, ",");
        if (size >= sizeof(piece) || out->count == NODES_MAX)
            return bad(text, "up to 16 nodes, each such as 256M/0-1@0", e);
        memcpy(piece, p, size);
        piece[size] = 0;
        struct machine_node *n = &out->node[out->count++];
        int rc = parse_node(piece, cpus, n, e);
        if (rc)
            return rc;
        n->from = sum;
        if (n->size > ram - sum)
            return err_set(e, -EINVAL, "--numa-guest %s: more than -m %s", text,
                           size_text(ram, want));
        sum += n->size;
        p += size;
    }
    if (text && sum != ram)
        return err_set(e, -EINVAL, "--numa-guest %s: %s in sum, and -m is %s", text,
                       size_text(sum, have), size_text(ram, want));
    return text ? check_cpus(text, cpus, out, e) : 0;
}

/* ---- As the guest and the model see them ---- */

unsigned node_pieces(const struct machine_node *n, struct node_piece piece[2]) {
    uint64_t end = n->from + n->size;
    unsigned pieces = 0;
    if (n->from < LOW_RAM_MAX)
        piece[pieces++] = (struct node_piece){
            n->from, (end < LOW_RAM_MAX ? end : LOW_RAM_MAX) - n->from};
    if (end > LOW_RAM_MAX) {
        uint64_t from = n->from > LOW_RAM_MAX ? n->from : LOW_RAM_MAX;
        piece[pieces++] =
            (struct node_piece){HIGH_RAM_BASE + from - LOW_RAM_MAX, end - from};
    }
    return pieces;
}

_Static_assert(NODES_MAX <= PN_NODES_MAX, "the model knows as many");

const struct pn_nodes *nodes_for_model(const struct machine_nodes *nodes,
                                       struct pn_nodes *out) {
    if (nodes->count < 2)
        return NULL;
    *out = (struct pn_nodes){.count = nodes->count};
    for (unsigned i = 0; i < nodes->count; i++) {
        const struct machine_node *n = &nodes->node[i];
        struct node_piece piece[2];
        unsigned pieces = node_pieces(n, piece);
        for (unsigned k = 0; k < pieces; k++) {
            out->range[out->ranges].from = piece[k].gpa;
            out->range[out->ranges].end = piece[k].gpa + piece[k].size;
            out->range[out->ranges++].node = (uint8_t)i;
        }
        out->cpus[i].first = n->first_cpu;
        out->cpus[i].end = n->first_cpu + n->cpus;
    }
    return out;
}

/* ---- Where their memory is ---- */

static int place(struct machine *m, unsigned node, int host, const char *what,
                 struct err *e) {
    const struct machine_node *n = &m->nodes.node[node];
    int rc = hostmem_bind(&m->ram, n->from, n->size, host, what, e);
    if (rc == 0)
        m->nodes.node[node].host = host;
    return rc;
}

int nodes_create(struct machine *m, struct err *e) {
    const struct machine_config *cfg = &m->cfg;
    int rc = nodes_parse(cfg->numa_guest, cfg->numa_distance, cfg->ram, cfg->cpus,
                         &m->nodes, e);
    for (unsigned i = 0; rc == 0 && i < m->nodes.count; i++)
        if (m->nodes.node[i].host != NODE_ANYWHERE)
            rc = place(m, i, m->nodes.node[i].host, "--numa-guest", e);
    return rc;
}

const struct machine_nodes *machine_nodes(const struct machine *m) {
    return &m->nodes;
}

int machine_node_where(const struct machine *m, unsigned node, uint64_t *pages,
                       unsigned nodes) {
    const struct machine_node *n = &m->nodes.node[node];
    return node < m->nodes.count ? hostmem_where(&m->ram, n->from, n->size, pages, nodes)
                                 : -EINVAL;
}

int machine_node_move(struct machine *m, unsigned node, int host, struct err *e) {
    char what[32];
    if (node >= m->nodes.count)
        return err_set(e, -EINVAL, "the guest has no node %u: run --numa-guest", node);
    snprintf(what, sizeof(what), "node %u", node);
    return place(m, node, host, what, e);
}
