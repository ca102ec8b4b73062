/* SPDX-License-Identifier: MIT */
/* What subcommands share: error lines, engines and models by name. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio_ext.h>
#include <string.h>

#include "base/outfile.h"
#include "cli/cli.h"
#include "cli/option.h"

int cli_error(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("penumbra: ", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return CLI_HOST;
}

void cli_version(void) {
    const char *revision = PENUMBRA_REVISION; /* "" where git knew none */
    printf("penumbra " PENUMBRA_VERSION "%s%s%s\n", *revision ? " (" : "", revision,
           *revision ? ")" : "");
}

json_t *cli_command(int argc, char **argv) {
    json_t *all = json_pack("[s]", "penumbra");
    for (int i = 0; i < argc; i++)
        json_array_append_new(all, json_string(argv[i])); /* but what is no UTF-8 */
    return all;
}

void cli_counters(FILE *out) {
    static const char *const kinds[] = {[PN_STAT_KIND_SUM] = "sum",
                                        [PN_STAT_KIND_GAUGE] = "now",
                                        [PN_STAT_KIND_MODEL] = "model"};
    fputs("Counters. sum: since the start; now: how many there are at the end; model: a "
          "sum that\nmoves with --tlb only. The unit is what the sentence counts.\n",
          out);
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        fprintf(out, "  %-22s %-5s  %s\n", pn_stat_name(i), kinds[pn_stat_kind(i)],
                pn_stat_doc(i));
}

int cli_cannot_write(const char *path, int rc) {
    if (rc == -EPIPE && outfile_is_stdout(path))
        return CLI_OK;
    return cli_error("cannot write %s: %s", path, strerror(-rc));
}

int cli_flush(int code) {
    if (!fflush(stdout) || errno == EPIPE) /* `| head` is no failure */
        return code;
    int rc = cli_error("cannot write: %s", strerror(errno));
    __fpurge(stdout);
    return rc;
}

const char *cli_text(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

const char *cli_grouped(uint64_t v, char buf[32]) {
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, v), out = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0)
            buf[out++] = ',';
        buf[out++] = digits[i];
    }
    buf[out] = 0;
    return buf;
}

long long cli_number(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

const char *cli_engine_name(unsigned i) {
    const struct pn_engine_ops *ops = pn_engine_at(i);
    return ops ? ops->name : NULL;
}

int cli_engine(const char *name, size_t length, const struct pn_engine_ops **ops,
               struct err *e) {
    static const struct option_row row = {.word = cli_engine_name};
    char words[128];
    for (unsigned i = 0; (*ops = pn_engine_at(i)); i++)
        if (strlen((*ops)->name) == length && !memcmp(name, (*ops)->name, length))
            return 0;
    option_words(&row, words, sizeof(words));
    return err_set(e, -EINVAL, "not one of %s", words);
}

int cli_model(const char *tlb, const char *cost, struct cli_model *model, struct err *e) {
    char text[512];
    struct err why = {text, sizeof(text)};
    model->on = tlb && strcmp(tlb, "off") != 0;
    if (!model->on)
        return cost ? err_set(e, -EINVAL, "--cost: not with --tlb off") : 0;
    const char *option = "--tlb", *which = tlb;
    int rc = profile_tlb(which, &model->tlb, &why);
    if (!rc) {
        option = "--cost";
        which = cost ? cost : PROFILE_COST_DEFAULT;
        rc = profile_cost(which, &model->cost, &why);
    }
    bool file = strchr(which, '/') || strstr(which, ".json");
    if (rc == -ENOENT && !file) /* a name that there is not */
        rc = -EINVAL;
    return rc ? err_set(e, rc, "%s: %s%s", option, text,
                        rc == -EINVAL && file ? "; bench/FORMATS.md has the members" : "")
              : 0;
}
