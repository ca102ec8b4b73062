/* SPDX-License-Identifier: MIT */
#include "bench/workload.h"

const struct workload workloads[WORKLOADS] = {
#define WORKLOAD(name, unit, flags, doc) {#name, unit, doc},
#define PARAM(...)
#include "bench/workloads.inc"
};

const struct workload_param workload_params[WORKLOAD_PARAMS] = {
#define WORKLOAD(...)
#define PARAM(workload, name, words, standard, min, max, quick, doc)                     \
    {WORKLOAD_##workload, #name, words, standard, min, max, quick, doc},
#include "bench/workloads.inc"
};

static int equal(const char *name, const char *text, size_t size) {
    size_t i = 0;
    while (i < size && name[i] && name[i] == text[i])
        i++;
    return i == size && !name[i];
}

int workload_find(const char *name, size_t size) {
    for (int i = 0; i < WORKLOADS; i++)
        if (equal(workloads[i].name, name, size))
            return i;
    return -1;
}

int workload_param_find(int workload, const char *name, size_t size) {
    for (int i = 0; i < WORKLOAD_PARAMS; i++)
        if (workload_params[i].workload == workload &&
            equal(workload_params[i].name, name, size))
            return i;
    return -1;
}

int workload_number(const char *text, size_t size, uint64_t *value) {
    uint64_t v = 0;
    size_t i = 0;
    unsigned shift = 0;
    for (; i < size && text[i] >= '0' && text[i] <= '9'; i++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v))
            v = UINT64_MAX / 2;
    if (i == 0)
        return -1;
    if (i + 1 == size)
        shift = text[i] == 'K' ? 10 : text[i] == 'M' ? 20 : text[i] == 'G' ? 30 : 0;
    if (i + (shift != 0) != size)
        return -1;
    *value = v > UINT64_MAX >> shift ? UINT64_MAX : v << shift;
    return 0;
}

const char *workload_word(int param, uint64_t value, size_t *size) {
    const char *w = workload_params[param].words;
    if (!*w)
        return NULL;
    for (; value && *w; w++)
        value -= *w == '|';
    for (*size = 0; w[*size] && w[*size] != '|';)
        ++*size;
    return w;
}

enum workload_text workload_value(int param, const char *text, size_t size,
                                  uint64_t *value) {
    const struct workload_param *p = &workload_params[param];
    if (*p->words) {
        for (uint64_t v = 0; v <= p->max; v++) {
            size_t n = 0, i = 0;
            const char *w = workload_word(param, v, &n);
            while (i < n && i < size && w[i] == text[i])
                i++;
            if (i == n && n == size) {
                *value = v;
                return WORKLOAD_OK;
            }
        }
        return WORKLOAD_BAD_TEXT;
    }
    if (workload_number(text, size, value))
        return WORKLOAD_BAD_TEXT;
    return *value < p->min || *value > p->max ? WORKLOAD_OUT_OF_RANGE : WORKLOAD_OK;
}
