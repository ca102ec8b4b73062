/* SPDX-License-Identifier: MIT */
/* The names of the paravirtual features and their bits in CPUID: one visible table. */
#include "penumbra/pv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *doc;
    uint32_t set, cpuid;
} features[] = {
    {"pvclock", "time and wall clock from a page of memory (kvm-clock)", PN_PV_PVCLOCK,
     1u << 0 | 1u << 3 | 1u << 24},
    {"steal-time", "how long a runnable vCPU did not run", PN_PV_STEAL_TIME, 1u << 5},
    {"pv-eoi", "interrupts that end without a write to the local APIC", PN_PV_EOI,
     1u << 6},
    {"kick-cpu", "a hypercall wakes a vCPU that halts for a lock (PV_UNHALT)",
     PN_PV_KICK_CPU, 1u << 7},
    {"send-ipi", "one hypercall for IPIs to many vCPUs", PN_PV_SEND_IPI, 1u << 11},
    {"sched-yield", "a hypercall lets another vCPU run now", PN_PV_SCHED_YIELD, 1u << 13},
};
#define COUNT (sizeof(features) / sizeof(features[0]))

const char *pn_pv_name(unsigned i) {
    return i < COUNT ? features[i].name : NULL;
}

const char *pn_pv_doc(unsigned i) {
    return i < COUNT ? features[i].doc : NULL;
}

uint32_t pn_pv_cpuid(uint32_t set) {
    uint32_t bits = 0;
    for (size_t i = 0; i < COUNT; i++)
        if (set & features[i].set)
            bits |= features[i].cpuid;
    return bits;
}

static int refuse(char *err, size_t err_size, const char *name, size_t len) {
    int at = snprintf(err, err_size, "no feature '%.*s'; there are all, none",
                      (int)(len > 32 ? 32 : len), name);
    for (size_t i = 0; i < COUNT && at > 0 && (size_t)at < err_size; i++)
        at += snprintf(err + at, err_size - (size_t)at, ", %s", features[i].name);
    return -EINVAL;
}

int pn_pv_parse(const char *text, uint32_t *set, char *err, size_t err_size) {
    uint32_t found = 0;
    if (!strcmp(text, "all") || !strcmp(text, "none")) {
        *set = *text == 'a' ? PN_PV_ALL : 0;
        return 0;
    }
    for (;; text++) {
        size_t len = strcspn(text, ","), i = 0;
        while (i < COUNT && (strlen(features[i].name) != len ||
                             memcmp(features[i].name, text, len) != 0))
            i++;
        if (i == COUNT)
            return refuse(err, err_size, text, len);
        found |= features[i].set;
        text += len;
        if (!*text)
            break;
    }
    *set = found;
    return 0;
}

const char *pn_pv_text(uint32_t set, char buf[PN_PV_TEXT_MAX]) {
    const char *word = set == PN_PV_DEFAULT ? "default"
                       : set == PN_PV_ALL   ? "all"
                       : set == 0           ? "none"
                                            : "";
    int at = snprintf(buf, PN_PV_TEXT_MAX, "%s", word);
    for (size_t i = 0; !*word && i < COUNT; i++)
        if (set & features[i].set)
            at += snprintf(buf + at, PN_PV_TEXT_MAX - (size_t)at, "%s%s", at ? "," : "",
                           features[i].name);
    return buf;
}
