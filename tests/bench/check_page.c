/* SPDX-License-Identifier: MIT */
/*
 * check_page RESULT.json DOM.html: the numbers that a browser shows in the result page's
 * tables (its DOM, dumped after the script ran) are those of the JSON, and the cross-over
 * that it names is the one that the JSON's numbers give.
 */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_all(const char *path) {
    FILE *f = fopen(path, "re");
    char *buf = NULL;
    size_t size = 0;
    if (!f || getdelim(&buf, &size, 0, f) < 0)
        buf = NULL;
    if (f)
        fclose(f);
    return buf;
}

/* A number as shown, without the commas between thousands. Return: NAN: a dash. */
static double shown(const char *p) {
    char digits[64];
    size_t n = 0;
    for (; *p && *p != '<' && n < sizeof(digits) - 1; p++)
        if (*p != ',')
            digits[n++] = *p;
    digits[n] = 0;
    char *end;
    double v = strtod(digits, &end);
    return end == digits || *end ? NAN : v;
}

/* Members that the table has columns for. */
static const char *const fields[] = {
    "time_ns.median",
    "time_ns.low",
    "time_ns.high",
    "guest_insns",
    "faults.taken",
    "faults.mapped",
    "faults.guest",
    "faults.mmio",
    "faults.tracked",
    "faults.dirty_log",
    "tlb_misses",
    "walks.per_miss",
    "exits",
    "shadow_pages",
    "table_bytes",
    "modelled.cycles",
    "modelled.misses.l1d",
    "modelled.misses.l2",
    "modelled.walks.references",
    "modelled.walks.mean",
    "modelled.vm_exits.all",
    "modelled.flushes",
};

/* A member of a member of j. Return: NULL: there is none. */
static json_t *member(const json_t *j, const char *path) {
    char name[64];
    size_t n = strcspn(path, ".");
    snprintf(name, sizeof(name), "%.*s", (int)n, path);
    json_t *v = json_object_get(j, name);
    return v && path[n] ? member(v, path + n + 1) : v;
}

/* A number, or the sum of an object's. Return: NAN: neither. */
static double value(json_t *v) {
    const char *name;
    json_t *part;
    double sum = 0;
    if (!json_is_object(v))
        return json_is_number(v) ? json_number_value(v) : NAN;
    json_object_foreach(v, name, part) sum += json_number_value(part);
    return sum;
}

static bool shows(const char *row, const char *name, double want) {
    char key[64];
    snprintf(key, sizeof(key), "data-field=\"%s\">", name);
    const char *p = strstr(row, key);
    if (!p) {
        printf("no field %s\n", name);
        return false;
    }
    double have = shown(p + strlen(key));
    bool ok = isnan(want) ? isnan(have) : fabs(have - want) < 0.00051;
    if (!ok)
        printf("%s: the page shows %f, the JSON has %f\n", name, have, want);
    return ok;
}

/* What begins with that text, up to the end of its row. Return: NULL: not there. */
static char *row_from(const char *dom, const char *key) {
    const char *p = strstr(dom, key), *end = p ? strstr(p, "</tr>") : NULL;
    return end ? strndup(p, (size_t)(end - p)) : NULL;
}

static char *row_of(const char *dom, const json_t *r, const char *format) {
    char key[128];
    snprintf(key, sizeof(key), format,
             (int)json_integer_value(json_object_get(r, "index")),
             json_string_value(json_object_get(r, "mmu")));
    return row_from(dom, key);
}

static bool histogram_ok(const char *dom, const json_t *r) {
    const json_t *bins = member(r, "modelled.walks.histogram");
    char *row = row_of(dom, r, "data-histogram=\"%d %s\"");
    bool ok = !bins == !row;
    if (!ok)
        printf("a histogram has no row, or a row no histogram\n");
    for (size_t i = 0; row && i < json_array_size(bins); i++) {
        char name[32];
        snprintf(name, sizeof(name), "h%zu", i);
        ok = shows(row, name, value(json_array_get(bins, i))) && ok;
    }
    free(row);
    return ok;
}

static bool result_ok(const char *dom, const json_t *r) {
    char *row = row_of(dom, r, "data-index=\"%d\" data-mmu=\"%s\"");
    bool ok = row != NULL;
    if (!row)
        printf("a result has no row\n");
    else if (!strstr(row, json_string_value(json_object_get(r, "kind"))))
        ok = false;
    for (size_t i = 0; row && i < sizeof(fields) / sizeof(fields[0]); i++)
        ok = shows(row, fields[i], value(member(r, fields[i]))) && ok;
    free(row);
    return histogram_ok(dom, r) && ok;
}

/* ---- The cross-over ---- */

/* Modelled cycles of remap with that many touches. Return: NAN: not in the file. */
static double remap_cycles(const json_t *doc, const char *mmu, double touches) {
    json_t *r;
    size_t i;
    json_array_foreach(json_object_get(doc, "results"), i, r) {
        const json_t *sweep = json_object_get(r, "sweep");
        if (!strcmp(json_string_value(json_object_get(r, "workload")), "remap") &&
            !strcmp(json_string_value(json_object_get(r, "mmu")), mmu) &&
            json_is_object(sweep) &&
            json_number_value(json_object_get(sweep, "value")) == touches)
            return value(member(r, "modelled.cycles"));
    }
    return NAN;
}

/* Pages remapped per 1,000 accesses where shadow's cycles become more than tdp's, between
 * two points of the sweep: both are powers there. Return: NAN: nowhere. */
static double cross_over(const json_t *doc) {
    double last_rate = NAN, last = NAN;
    for (double touches = 8192; touches >= 1; touches--) {
        double d =
            log(remap_cycles(doc, "shadow", touches) / remap_cycles(doc, "tdp", touches));
        double rate = 1000 / touches;
        if (isnan(d))
            continue;
        if ((last < 0) != (d < 0) && !isnan(last))
            return last_rate * pow(rate / last_rate, last / (last - d));
        last = d;
        last_rate = rate;
    }
    return NAN;
}

static bool cross_over_ok(const char *dom, const json_t *doc) {
    static const char key[] = "id=\"crossover\" data-rate=\"";
    const char *p = strstr(dom, key);
    double want = cross_over(doc);
    char *end;
    if (!p || isnan(want)) {
        printf("no cross-over in the %s\n", p ? "results" : "page");
        return false;
    }
    double have = strtod(p + sizeof(key) - 1, &end);
    bool ok = *end == '"' && fabs(have / want - 1) < 1e-6;
    printf("cross-over: %f pages remapped per 1,000 accesses; the page says %f\n", want,
           have);
    return ok;
}

int main(int argc, char **argv) {
    json_t *doc = argc == 3 ? json_load_file(argv[1], 0, NULL) : NULL, *r;
    char *dom = argc == 3 ? read_all(argv[2]) : NULL;
    size_t i, n = 0;
    bool ok = doc && dom;
    if (!ok)
        printf("usage: check_page RESULT.json DOM.html\n");
    if (ok && !strstr(dom, "data-ready=\"yes\"")) {
        printf("the page's script did not finish\n");
        ok = false;
    }
    /* Chart.js gives a canvas that it draws on a size of its own. */
    if (ok && !strstr(dom, "<canvas width=\"")) {
        printf("no chart was drawn\n");
        ok = false;
    }
    json_array_foreach(json_object_get(doc, "results"), i, r) {
        ok = result_ok(dom, r) && ok;
        n++;
    }
    ok = ok && cross_over_ok(dom, doc);
    printf("%zu results compared with the page\n", n);
    free(dom);
    json_decref(doc);
    return ok && n ? 0 : 1;
}
