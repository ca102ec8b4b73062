/* SPDX-License-Identifier: MIT */
/* Where a benchmark runs: one CPU, the memory beside it, and what else bears on its
 * times. */
#include <errno.h>
#include <numa.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/option.h"
#include "penumbra/kvm_host.h"

/* The last CPU that this process may use: interrupts tend to the first. */
static int last_cpu(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set))
        return -1;
    for (int i = CPU_SETSIZE - 1; i >= 0; i--)
        if (CPU_ISSET(i, &set))
            return i;
    return -1;
}

/* Those that it may use: "0-1,4". Return: buf. */
static const char *allowed_cpus(char *buf, size_t size) {
    cpu_set_t set;
    size_t used = 0;
    buf[0] = 0;
    if (sched_getaffinity(0, sizeof(set), &set))
        return buf;
    for (int i = 0, to; i < CPU_SETSIZE && used < size; i = to + 1) {
        for (to = i; to < CPU_SETSIZE && CPU_ISSET(to, &set);)
            to++;
        if (to == i)
            continue;
        used += (size_t)snprintf(buf + used, size - used, "%s%d", used ? "," : "", i);
        if (to > i + 1 && used < size)
            used += (size_t)snprintf(buf + used, size - used, "-%d", to - 1);
    }
    return buf;
}

int bench_place(struct bench_options *o) {
    bool chosen = o->cpu >= 0;
    char cpus[128];
    if (o->cpu == -1)
        o->cpu = last_cpu();
    if (o->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        if (o->cpu < CPU_SETSIZE)
            CPU_SET(o->cpu, &set);
        if (sched_setaffinity(0, sizeof(set), &set)) {
            if (chosen)
                return option_error(&(struct option_command){.name = "penumbra bench"},
                                    "--pin %d: not one of the CPUs that this process may "
                                    "use: %s",
                                    o->cpu, allowed_cpus(cpus, sizeof(cpus)));
            o->cpu = -2;
        }
    }
    int node = o->cpu >= 0 && numa_available() >= 0 ? numa_node_of_cpu(o->cpu) : -1;
    if (node >= 0 && !o->numa) {
        snprintf(o->near, sizeof(o->near), "bind=%d", node);
        o->numa = o->near;
    }
    return CLI_OK;
}

static json_t *governor(int cpu) {
    char path[96], line[64];
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor",
             cpu < 0 ? 0 : cpu);
    host_read_line(path, line, sizeof(line));
    return *line ? json_string(line) : json_null();
}

static json_t *load(void) {
    double l[3];
    if (getloadavg(l, 3) != 3)
        return json_null();
    return json_pack("[f, f, f]", l[0], l[1], l[2]);
}

json_t *bench_host_json(const struct bench_options *o) {
    struct pn_kvm_host kvm;
    json_t *host = host_json();
    pn_kvm_host_probe(&kvm);
    bool usable = kvm.status == PN_KVM_OK;
    json_object_set_new(host, "governor", governor(o->cpu));
    json_object_set_new(host, "load", load());
    json_object_set_new(host, "pinned_cpu",
                        o->cpu >= 0 ? json_integer(o->cpu) : json_null());
    json_object_set_new(host, "guest_memory",
                        o->numa ? json_string(o->numa) : json_null());
    json_object_set_new(host, "kvm",
                        json_pack("{s:b, s:s, s:s, s:s}", "usable", usable, "vendor",
                                  kvm.vendor, "mmu",
                                  usable ? pn_kvm_mmu_name(kvm.mmu) : "none", "found_by",
                                  usable ? kvm.found_by : kvm.reason));
    return host;
}
