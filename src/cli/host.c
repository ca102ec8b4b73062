/* SPDX-License-Identifier: MIT */
/*
 * `penumbra host`: what this host offers. The description is one JSON object; the plain
 * text prints from it, so that the two cannot differ.
 */
#include <numa.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/option.h"
#include "penumbra/kvm_host.h"

void host_read_line(const char *path, char *buf, size_t size) {
    buf[0] = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    if (fgets(buf, (int)size, f))
        buf[strcspn(buf, "\n")] = 0;
    else
        buf[0] = 0;
    fclose(f);
}

static json_t *cpu_name(void) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    json_t *name = NULL;
    while (f && !name && fgets(line, sizeof(line), f))
        if (!strncmp(line, "model name", 10)) {
            char *p = strchr(line, ':');
            line[strcspn(line, "\n")] = 0;
            if (p)
                name = json_string(p + 1 + strspn(p + 1, " "));
        }
    if (f)
        fclose(f);
    return name ? name : json_string("unknown");
}

static json_t *numa_json(void) {
    json_t *nodes = json_array();
    if (numa_available() < 0)
        return nodes;
    for (int n = 0; n <= numa_max_node(); n++) {
        long long avail = 0, size = numa_node_size64(n, &avail);
        if (size > 0)
            json_array_append_new(nodes,
                                  json_pack("{s:i, s:I, s:I}", "node", n, "memory",
                                            (json_int_t)size, "free", (json_int_t)avail));
    }
    return nodes;
}

static json_t *hugepage_pool(unsigned kib) {
    char path[128], total[32], avail[32];
    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%ukB/nr_hugepages",
             kib);
    host_read_line(path, total, sizeof(total));
    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%ukB/free_hugepages",
             kib);
    host_read_line(path, avail, sizeof(avail));
    return json_pack("{s:i, s:i}", "total", atoi(total), "free", atoi(avail));
}

/* The word in brackets: "always [madvise] never". */
static json_t *thp_policy(void) {
    char line[128];
    host_read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line));
    char *p = strchr(line, '['), *q = p ? strchr(p, ']') : NULL;
    return q ? json_stringn(p + 1, (size_t)(q - p - 1)) : json_string("absent");
}

/* A parameter's file as JSON: numbers and Y/N as such. */
static json_t *param_value(const char *text) {
    char *end;
    long long n = strtoll(text, &end, 10);
    if (!strcmp(text, "Y") || !strcmp(text, "N"))
        return json_boolean(text[0] == 'Y');
    return *text && !*end ? json_integer(n) : json_string(text);
}

static json_t *params_json(const struct pn_kvm_host *k) {
    json_t *params = json_object();
    for (unsigned i = 0; i < k->param_count; i++)
        json_object_set_new(params, k->param[i].name,
                            json_pack("{s:s, s:o, s:s}", "module", k->param[i].module,
                                      "value", param_value(k->param[i].value), "what",
                                      k->param[i].what));
    return params;
}

static json_t *dirty_json(const struct pn_kvm_host *k) {
    int clear = pn_kvm_host_cap(k, "MANUAL_DIRTY_LOG_PROTECT2");
    return json_pack("{s:b, s:b, s:b, s:i, s:b}", "bitmap", k->status == PN_KVM_OK,
                     "clear", clear & 1, "initially_all_set", clear >> 1 & 1,
                     "ring_bytes_max", pn_kvm_host_cap(k, "DIRTY_LOG_RING"),
                     "ring_with_bitmap",
                     pn_kvm_host_cap(k, "DIRTY_LOG_RING_WITH_BITMAP") > 0);
}

static json_t *kvm_json(const struct pn_kvm_host *k) {
    json_t *caps = json_object();
    for (unsigned i = 0; i < k->cap_count; i++)
        json_object_set_new(caps, k->cap[i].name,
                            json_pack("{s:i, s:s}", "value", k->cap[i].value, "used_for",
                                      k->cap[i].used_for));
    json_t *limits = json_pack(
        "{s:i, s:i, s:i, s:i}", "memslots", pn_kvm_host_cap(k, "NR_MEMSLOTS"),
        "vcpus_recommended", pn_kvm_host_cap(k, "NR_VCPUS"), "vcpus",
        pn_kvm_host_cap(k, "MAX_VCPUS"), "vcpu_ids", pn_kvm_host_cap(k, "MAX_VCPU_ID"));
    return json_pack("{s:b, s:s, s:i, s:s, s:s, s:s, s:o, s:o, s:{s:i, s:i}, s:i, s:o, "
                     "s:o}",
                     "usable", k->status == PN_KVM_OK, "reason", k->reason, "api", k->api,
                     "vendor", k->vendor, "mmu", pn_kvm_mmu_name(k->mmu), "found_by",
                     k->found_by, "parameters", params_json(k), "dirty_log",
                     dirty_json(k), "stats", "vm", k->stats_vm, "vcpu", k->stats_vcpu,
                     "tsc_khz", k->tsc_khz, "limits", limits, "capabilities", caps);
}

/* Each --mmu: does it work here, and what would translate. */
static json_t *mmu_json(const struct pn_kvm_host *k) {
    static const char *const by_mmu[] = {
        [PN_KVM_MMU_UNKNOWN] = "; which MMU is not known",
        [PN_KVM_MMU_TDP] = ", with TDP (EPT or NPT)",
        [PN_KVM_MMU_SHADOW] = ", with KVM's shadow paging",
        [PN_KVM_MMU_SOFTWARE] = " without VMX or SVM: KVM's shadow paging; only 64-bit "
                                "user code runs natively, and Linux does not boot",
    };
    const struct pn_engine_ops *ops;
    json_t *out = json_object();
    for (unsigned i = 0; (ops = pn_engine_at(i)); i++) {
        bool works = !ops->host_cpu || k->status == PN_KVM_OK;
        json_t *what =
            !works ? json_string(k->reason)
                   : json_sprintf("%s%s", ops->what, ops->host_cpu ? by_mmu[k->mmu] : "");
        json_object_set_new(
            out, ops->name,
            json_pack("{s:b, s:b, s:o}", "built", true, "works", works, "what", what));
    }
    return out;
}

json_t *host_json(void) {
    struct utsname u;
    if (uname(&u))
        memset(&u, 0, sizeof(u));
    json_int_t page = sysconf(_SC_PAGESIZE);
    return json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:o, s:s, s:o, s:o, s:o}", "kernel",
                     u.release, "machine", u.machine, "cpu", cpu_name(), "cpus",
                     (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "memory",
                     sysconf(_SC_PHYS_PAGES) * page, "memory_free",
                     sysconf(_SC_AVPHYS_PAGES) * page, "numa", numa_json(), "os",
                     u.sysname, "thp", thp_policy(), "hugepages_2m", hugepage_pool(2048),
                     "hugepages_1g", hugepage_pool(1048576));
}

static double gib(const json_t *object, const char *key) {
    return (double)cli_number(object, key) / (1 << 30);
}

static void print_pool(const json_t *host, const char *key, const char *label) {
    const json_t *p = json_object_get(host, key);
    printf("%-14s %lld reserved, %lld free\n", label, cli_number(p, "total"),
           cli_number(p, "free"));
}

static void print_dirty(const json_t *dirty) {
    printf("%-14s bitmap%s", "  dirty log",
           json_is_true(json_object_get(dirty, "clear")) ? ", bitmap with clear" : "");
    if (cli_number(dirty, "ring_bytes_max"))
        printf(", ring (up to %lld KiB for each vCPU; a bitmap beside it: %s)",
               cli_number(dirty, "ring_bytes_max") >> 10,
               json_is_true(json_object_get(dirty, "ring_with_bitmap"))
                   ? "offered"
                   : "not offered, as on x86 none is needed");
    putchar('\n');
}

static void print_params(const json_t *params) {
    const char *name;
    json_t *p, *v;
    int n = 0;
    json_object_foreach((json_t *)params, name, p) {
        v = json_object_get(p, "value");
        printf("%s%s ", n++ ? ", " : "  parameters   ", name);
        if (json_is_integer(v))
            printf("%lld", (long long)json_integer_value(v));
        else
            printf("%s", json_is_boolean(v) ? json_is_true(v) ? "on" : "off"
                                            : json_string_value(v));
    }
    if (n)
        putchar('\n');
}

static void print_missing(const json_t *caps) {
    const char *name;
    json_t *cap;
    int n = 0;
    json_object_foreach((json_t *)caps, name, cap) if (!cli_number(cap, "value"))
        printf("%s%s", n++ ? ", " : "  not offered  ", name);
    if (n)
        putchar('\n');
}

static void print_kvm(const json_t *kvm) {
    const char *vendor = cli_text(kvm, "vendor");
    if (!json_is_true(json_object_get(kvm, "usable"))) {
        printf("%-14s not usable: %s\n", "/dev/kvm", cli_text(kvm, "reason"));
        return;
    }
    const json_t *limits = json_object_get(kvm, "limits"),
                 *stats = json_object_get(kvm, "stats");
    printf("%-14s usable, API version %lld, module %s\n", "/dev/kvm",
           cli_number(kvm, "api"), *vendor ? vendor : "not known");
    printf("%-14s %s, because %s\n", "  its MMU", cli_text(kvm, "mmu"),
           cli_text(kvm, "found_by"));
    print_params(json_object_get(kvm, "parameters"));
    print_dirty(json_object_get(kvm, "dirty_log"));
    printf("%-14s %lld vCPUs, %lld memslots\n", "  at most", cli_number(limits, "vcpus"),
           cli_number(limits, "memslots"));
    if (cli_number(stats, "vm"))
        printf("%-14s %lld of a VM, %lld of a vCPU\n", "  counters",
               cli_number(stats, "vm"), cli_number(stats, "vcpu"));
    print_missing(json_object_get(kvm, "capabilities"));
}

static void print_host(json_t *j) {
    json_t *host = json_object_get(j, "host"), *node, *value;
    const char *name;
    size_t i;
    printf("%-14s %s %s\n", "kernel", cli_text(host, "os"), cli_text(host, "kernel"));
    printf("%-14s %lld x %s\n", "cpu", cli_number(host, "cpus"), cli_text(host, "cpu"));
    printf("%-14s %.1f GiB, %.1f GiB free\n", "memory", gib(host, "memory"),
           gib(host, "memory_free"));
    json_array_foreach(json_object_get(host, "numa"), i, node)
        printf("%-14s node %lld: %.1f GiB, %.1f GiB free\n", i ? "" : "numa",
               cli_number(node, "node"), gib(node, "memory"), gib(node, "free"));
    printf("%-14s transparent: %s\n", "huge pages", cli_text(host, "thp"));
    print_pool(host, "hugepages_2m", "  2 MiB");
    print_pool(host, "hugepages_1g", "  1 GiB");
    print_kvm(json_object_get(j, "kvm"));
    json_object_foreach(json_object_get(j, "mmu"), name, value)
        printf("--mmu %-8s %s: %s\n", name,
               json_is_true(json_object_get(value, "works")) ? "works here"
                                                             : "does not work here",
               cli_text(value, "what"));
}

int cmd_host(int argc, char **argv) {
    static const struct option_row rows[] = {
        {"json", 'j', NULL, "As JSON", .kind = OPTION_FLAG, 0, sizeof(bool)}};
    static const struct option_command command = {.name = "penumbra host",
                                                  .doc = "Show what this host offers.",
                                                  .rows = rows,
                                                  .count = 1};
    bool as_json = false, done;
    int rc = option_parse(&command, argc, argv, &as_json, &done);
    if (rc || done)
        return rc;
    struct pn_kvm_host kvm;
    pn_kvm_host_probe(&kvm);
    json_t *j = json_pack("{s:s, s:s, s:s?, s:o?, s:o, s:o, s:o}", "schema",
                          "penumbra-host-1", "version", PENUMBRA_VERSION, "revision",
                          *PENUMBRA_REVISION ? PENUMBRA_REVISION : NULL, "command",
                          cli_command(argc, argv), "host", host_json(), "kvm",
                          kvm_json(&kvm), "mmu", mmu_json(&kvm));
    if (!j)
        return cli_error("out of memory");
    if (as_json) {
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_host(j);
    }
    json_decref(j);
    return CLI_OK;
}
