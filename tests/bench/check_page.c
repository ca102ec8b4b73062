/* SPDX-License-Identifier: MIT */
/*
 * check_page RESULT.json DOM.html: the numbers that a browser shows in the result page's
 * table (its DOM, dumped after the script ran) are those of the JSON.
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

static const struct field {
    const char *name, *object, *member; /* data-field; where the JSON has it */
} fields[] = {
    {"time_ns", "time_ns", "median"},
    {"low", "time_ns", "low"},
    {"high", "time_ns", "high"},
    {"guest_insns", NULL, "guest_insns"},
    {"taken", "faults", "taken"},
    {"mapped", "faults", "mapped"},
    {"guest", "faults", "guest"},
    {"mmio", "faults", "mmio"},
    {"tracked", "faults", "tracked"},
    {"dirty_log", "faults", "dirty_log"},
    {"tlb_misses", NULL, "tlb_misses"},
    {"per_miss", "walks", "per_miss"},
    {"exits", NULL, "exits"},
    {"shadow_pages", NULL, "shadow_pages"},
    {"table_bytes", NULL, "table_bytes"},
};

static bool field_ok(const char *row, const json_t *r, const struct field *f) {
    char key[64];
    const json_t *v =
        json_object_get(f->object ? json_object_get(r, f->object) : r, f->member);
    snprintf(key, sizeof(key), "data-field=\"%s\">", f->name);
    const char *p = strstr(row, key);
    if (!p) {
        printf("no field %s\n", f->name);
        return false;
    }
    double have = shown(p + strlen(key)), want = json_number_value(v);
    bool ok = json_is_number(v) ? fabs(have - want) < 0.00051 : isnan(have);
    if (!ok)
        printf("%s: the page shows %f, the JSON has %f\n", f->name, have, want);
    return ok;
}

/* The row of one result, cut off at its end. */
static char *row_of(const char *dom, const json_t *r) {
    char key[128];
    snprintf(key, sizeof(key), "data-index=\"%lld\" data-mmu=\"%s\"",
             (long long)json_integer_value(json_object_get(r, "index")),
             json_string_value(json_object_get(r, "mmu")));
    const char *p = strstr(dom, key), *end = p ? strstr(p, "</tr>") : NULL;
    return end ? strndup(p, (size_t)(end - p)) : NULL;
}

static bool result_ok(const char *dom, const json_t *r) {
    char *row = row_of(dom, r);
    bool ok = row != NULL;
    if (!row)
        printf("a result has no row\n");
    else if (!strstr(row, json_string_value(json_object_get(r, "kind"))))
        ok = false;
    for (size_t i = 0; row && i < sizeof(fields) / sizeof(fields[0]); i++)
        ok = field_ok(row, r, &fields[i]) && ok;
    free(row);
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
    printf("%zu results compared with the page\n", n);
    free(dom);
    json_decref(doc);
    return ok && n ? 0 : 1;
}
