/* SPDX-License-Identifier: MIT */
/* The guest's NUMA nodes: their text, the tables that tell of them, the host memory of each. */
#include "fixture.h"

#include <errno.h>
#include <numa.h>
#include <stdlib.h>
#include <string.h>

#include "base/hostmem.h"
#include "tests/suite.h"

#define M (1ull << 20)

static char line[200];
static struct err e = {line, sizeof(line)};
static struct machine_nodes n;

START_TEST(nodes_have_memory_vcpus_and_a_place) {
    ck_assert_int_eq(nodes_parse("1G/0-1@3,512M/3,512M/2@0", 31, 2048 * M, 4, &n, &e), 0);
    ck_assert_uint_eq(n.count, 3);
    ck_assert_uint_eq(n.distance, 31);
    ck_assert_uint_eq(n.node[1].from, 1024 * M);
    ck_assert_uint_eq(n.node[2].from, 1536 * M);
    ck_assert_uint_eq(n.node[2].size, 512 * M);
    ck_assert_int_eq(n.node[0].host, 3);
    ck_assert_int_eq(n.node[1].host, NODE_ANYWHERE);
    ck_assert_int_eq(n.node[2].host, 0);
    ck_assert(node_has_cpu(&n.node[0], 1) && !node_has_cpu(&n.node[0], 2));
    ck_assert(node_has_cpu(&n.node[1], 3) && node_has_cpu(&n.node[2], 2));
    ck_assert_int_eq(nodes_parse(NULL, 0, 2048 * M, 4, &n, &e), 0);
    ck_assert_uint_eq(n.count, 0);
}
END_TEST

START_TEST(vcpus_that_nobody_names_are_dealt_out) {
    ck_assert_int_eq(nodes_parse("2M,2M,2M", 0, 6 * M, 4, &n, &e), 0);
    ck_assert_uint_eq(n.distance, NODE_DISTANCE_DEFAULT);
    ck_assert_uint_eq(n.node[0].cpus, 2);
    ck_assert_uint_eq(n.node[1].first_cpu, 2);
    ck_assert_uint_eq(n.node[1].cpus, 1);
    ck_assert_uint_eq(n.node[2].cpus, 1);
    ck_assert_int_eq(nodes_parse("2M,4M", 0, 6 * M, 1, &n, &e), 0);
    ck_assert(node_has_cpu(&n.node[0], 0) && !n.node[1].cpus);
}
END_TEST

START_TEST(each_bad_text_is_refused_with_a_line) {
    static const char *const bad[] = {"",
                                      ",",
                                      "4M,",
                                      "4M",
                                      "8M,4M",
                                      "1M,5M",
                                      "0,6M",
                                      "6M@",
                                      "6M@x",
                                      "6M@-1",
                                      "6M@4096",
                                      "6M/4",
                                      "6M/1-0",
                                      "6M/",
                                      "6M/0-4",
                                      "6M/0",
                                      "4M/0-1,2M",
                                      "6M@0/0-3",
                                      "4M/0-3,2M/1",
                                      "4M/0-2,2M/2-3",
                                      "6M /0-3",
                                      "6M/0-3@0@0",
                                      "18446744073709551614K,6M",
                                      "6M;0"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        *line = 0;
        ck_assert_msg(nodes_parse(bad[i], 0, 6 * M, 4, &n, &e) == -EINVAL, "'%s'",
                      bad[i]);
        ck_assert_msg(strncmp(line, "--numa-guest", 12) == 0, "'%s': %s", bad[i], line);
    }
    char many[200] = "2M";
    for (unsigned i = 0; i < NODES_MAX; i++)
        strcat(many, ",2M");
    ck_assert_int_eq(nodes_parse(many, 0, (NODES_MAX + 1) * 2 * M, 4, &n, &e), -EINVAL);
    char longest[400] = "6M/";
    memset(longest + 3, '0', 300);
    ck_assert_int_eq(nodes_parse(longest, 0, 6 * M, 4, &n, &e), -EINVAL);
}
END_TEST

/* Memory is bound, and moves, where this host has nodes; and there is a line where it has none. */
START_TEST(memory_goes_to_a_node_of_the_hosts) {
    struct hostmem m;
    uint64_t pages[64], there = 0;
    const struct hostmem_config cfg = {.size = 8 * M, .hugepages = "off"};
    ck_assert_int_eq(hostmem_create(&cfg, &m, &e), 0);
    memset(m.base + 2 * M, 1, 2 * M);
    ck_assert_int_eq(hostmem_bind(&m, 0, 4 * M, 4096, "here", &e), -EINVAL);
    ck_assert(!strncmp(line, "here: this host has no ", 23));
    struct bitmask *allowed = numa_available() < 0 ? NULL : numa_get_mems_allowed();
    for (int node = 0; allowed && node < 64; node++) {
        if (!numa_bitmask_isbitset(allowed, (unsigned)node))
            continue;
        ck_assert_int_eq(hostmem_bind(&m, 0, 4 * M, node, "here", &e), 0);
        memset(m.base, 1, 2 * M);
        ck_assert_int_eq(hostmem_where(&m, 0, 8 * M, pages, 64), 0);
        ck_assert_uint_eq(pages[node], 1024);
        there++;
    }
    if (allowed)
        numa_bitmask_free(allowed);
    else
        ck_assert_int_eq(hostmem_bind(&m, 0, 4 * M, 0, "here", &e), -EINVAL);
    ck_assert(!allowed || there);
    hostmem_destroy(&m);
}
END_TEST

SUITE("machine.nodes",
      .tests = {nodes_have_memory_vcpus_and_a_place,
                vcpus_that_nobody_names_are_dealt_out,
                each_bad_text_is_refused_with_a_line, memory_goes_to_a_node_of_the_hosts})
