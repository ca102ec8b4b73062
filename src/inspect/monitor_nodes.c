/* SPDX-License-Identifier: MIT */
/* The monitor's commands about NUMA nodes and the host's memory (monitor.inc). */
#include <errno.h>
#include <inttypes.h>

#include "base/hostmem.h"
#include "base/size.h"
#include "inspect/monitor_internal.h"
#include "machine/nodes.h"

#define HOST_NODES 64u
#define HOST_NODE  1023u

/* Pages by the host's node; nodes without any are left out. Null: the host does not say. */
static json_t *print_where(struct request *r, unsigned node) {
    uint64_t pages[HOST_NODES];
    const char *comma = "";
    if (machine_node_where(r->mon->machine, node, pages, HOST_NODES)) {
        fprintf(r->out, "node %u pages: this host does not say where\n", node);
        return json_null();
    }
    json_t *where = json_object();
    fprintf(r->out, "node %u pages:", node);
    for (unsigned i = 0; i < HOST_NODES; i++) {
        char key[12];
        if (!pages[i])
            continue;
        fprintf(r->out, "%s %" PRIu64 " on the host's node %u", comma, pages[i], i);
        snprintf(key, sizeof(key), "%u", i);
        json_object_set_new(where, key, json_integer((json_int_t)pages[i]));
        comma = ",";
    }
    fputs(*comma ? "\n" : " none yet\n", r->out);
    return where;
}

static json_t *print_node(struct request *r, unsigned i, const struct machine_node *n) {
    json_t *cpus = json_array();
    fprintf(r->out, "node %u cpus:", i);
    for (unsigned cpu = n->first_cpu; cpu < n->first_cpu + n->cpus; cpu++) {
        fprintf(r->out, " %u", cpu);
        json_array_append_new(cpus, json_integer(cpu));
    }
    fprintf(r->out, "\nnode %u size: %" PRIu64 " MB\n", i, n->size >> 20);
    return json_pack("{s:o, s:I, s:i, s:o}", "cpus", cpus, "size", (json_int_t)n->size,
                     "host", n->host, "pages", print_where(r, i));
}

int monitor_info_numa(struct request *r) {
    const struct machine_nodes *all = machine_nodes(r->mon->machine);
    json_t *nodes = json_array();
    fprintf(r->out, "%u nodes\n", all->count);
    for (unsigned i = 0; i < all->count; i++)
        json_array_append_new(nodes, print_node(r, i, &all->node[i]));
    if (r->wants_json)
        r->json = json_pack("{s:O}", "nodes", nodes);
    json_decref(nodes);
    return 0;
}

int monitor_numa_move(struct request *r) {
    uint64_t node, host;
    if (number_parse(r->arg[0], 0, NODES_MAX - 1, &node) ||
        number_parse(r->arg[1], 0, HOST_NODE, &host))
        return err_set(&r->err, -EINVAL,
                       "'%s %s' is no node of the guest's and of the host's", r->arg[0],
                       r->arg[1]);
    int rc = monitor_may_change(r);
    return rc ? rc
              : machine_node_move(r->mon->machine, (unsigned)node, (int)host, &r->err);
}

/* ---- The host's memory ---- */

/* Slots that lie in one piece on the host are one region. Return: how many follow `first` in it. */
static unsigned region_of(const struct pn_memslot *slot, unsigned n, unsigned first,
                          uint64_t *size) {
    unsigned i = first;
    *size = slot[first].size;
    while (++i < n && (const uint8_t *)slot[first].hva + *size == slot[i].hva)
        *size += slot[i].size;
    return i - first - 1;
}

static json_t *print_region(struct request *r, const struct pn_memslot *slot,
                            uint64_t end, uint64_t size) {
    struct hostmem_state s;
    int rc = hostmem_state(slot->hva, size, &s);
    fprintf(r->out, "%016" PRIx64 "-%016" PRIx64 ": %" PRIu64 " KiB", slot->gpa, end - 1,
            size >> 10);
    if (rc) {
        fputs(", this host does not say more\n", r->out);
        return json_pack("{s:I, s:I}", "gpa", (json_int_t)slot->gpa, "size",
                         (json_int_t)size);
    }
    fprintf(r->out,
            ", resident %" PRIu64 " KiB, of them in huge pages %" PRIu64
            " KiB, swapped out %" PRIu64 " KiB\n",
            s.resident >> 10, s.huge >> 10, s.swapped >> 10);
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "gpa", (json_int_t)slot->gpa, "size",
                     (json_int_t)size, "resident", (json_int_t)s.resident, "huge",
                     (json_int_t)s.huge, "swapped", (json_int_t)s.swapped);
}

int monitor_info_hostmem(struct request *r) {
    struct pn_memslot slot[MACHINE_SLOTS_ALL];
    unsigned n = machine_slots_all(r->mon->machine, slot);
    json_t *regions = json_array();
    for (unsigned i = 0; i < n; i++) {
        uint64_t size;
        unsigned last = i + region_of(slot, n, i, &size);
        json_array_append_new(
            regions, print_region(r, &slot[i], slot[last].gpa + slot[last].size, size));
        i = last;
    }
    if (r->wants_json)
        r->json = json_pack("{s:O}", "regions", regions);
    json_decref(regions);
    return 0;
}
