/* SPDX-License-Identifier: MIT */
/*
 * Options in a file: a JSON object with a member for each option, by its name without dashes. A flag's is
 * true or false; any other's is a string, a number, or a list of them for an option that may be repeated.
 * What is read is an option like those of the command line, with the same checks.
 */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/option_internal.h"

#define SCHEMA   "penumbra-config-1"
#define FILE_MAX (1u << 20)

/* Texts of options lie in what was read, and stay as long as the process. */
static json_t *files;
static json_t *said; /* what --dump-config prints */

/* ---- Reading ---- */

static int bad(const struct option_command *c, const char *path, const char *key,
               const char *what) {
    return option_error(c, "%s: %s%s%s", path, key, *key ? ": " : "", what);
}

/* A number as the command line would have it; it lives in `files`. NULL: no memory. */
static const char *number_text(const json_t *j) {
    json_t *text = json_is_integer(j)
                       ? json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(j))
                       : json_sprintf("%.17g", json_real_value(j));
    return json_array_append_new(files, text) ? NULL : json_string_value(text);
}

static int take_one(struct option_parse *p, const char *path, const struct option_row *r,
                    const json_t *j) {
    char shown[160];
    snprintf(shown, sizeof(shown), "%s: %s", path, r->name);
    if (r->kind == OPTION_FLAG && json_is_boolean(j))
        return json_is_true(j) ? option_apply(p, r, shown, "") : CLI_OK;
    if (r->kind == OPTION_FLAG)
        return bad(p->c, path, r->name, "neither true nor false");
    const char *text = json_is_string(j)   ? json_string_value(j)
                       : json_is_number(j) ? number_text(j)
                                           : NULL;
    if (!text)
        return bad(p->c, path, r->name, "neither a string nor a number");
    return option_apply(p, r, shown, text);
}

static int take(struct option_parse *p, const char *path, const char *key,
                const json_t *j) {
    const struct option_row *r = option_exact(p->c, key);
    const json_t *one;
    size_t i;
    int code = CLI_OK;
    char hint[256];
    if (!r || r->kind == OPTION_CONFIG)
        return option_error(p->c, "%s: no option is called '%s'%s", path, key,
                            option_meant(p->c, key, strlen(key), hint, sizeof(hint)));
    if (!json_is_array(j))
        return take_one(p, path, r, j);
    if (r->kind != OPTION_CALL)
        return bad(p->c, path, key, "a list, and it can be given once");
    json_array_foreach(j, i, one) if (!code) code = take_one(p, path, r, one);
    return code;
}

/* Return: a new reference, or NULL and *code after a line. */
static json_t *load(const struct option_command *c, const char *path, int *code) {
    char text[320], what[JSON_ERROR_TEXT_LENGTH + 64];
    struct err e = {text, sizeof(text)};
    json_error_t where;
    void *bytes;
    size_t size;
    if (file_read(path, FILE_MAX, &bytes, &size, &e)) {
        *code = cli_error("%s", text);
        return NULL;
    }
    json_t *j = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &where);
    free(bytes);
    if (json_is_object(j))
        return j;
    if (j)
        snprintf(what, sizeof(what), "no JSON object");
    else
        snprintf(what, sizeof(what), "line %d: %s", where.line, where.text);
    json_decref(j);
    *code = bad(c, path, "", what);
    return NULL;
}

int option_config(struct option_parse *p, const char *path) {
    int code = CLI_OK;
    const char *key;
    json_t *j = load(p->c, path, &code), *one;
    if (!files)
        files = json_array();
    if (!j || json_array_append_new(files, j))
        return j ? cli_error("out of memory") : code;
    const json_t *schema = json_object_get(j, "schema");
    if (schema && (!json_is_string(schema) || strcmp(json_string_value(schema), SCHEMA)))
        return bad(p->c, path, "schema", "not " SCHEMA);
    json_object_foreach(j, key, one) if (!code && !p->done && strcmp(key, "schema"))
        code = take(p, path, key, one);
    return code;
}

/* ---- Writing ---- */

void option_say(const struct option_row *r, const char *arg) {
    if (r->kind == OPTION_CONFIG || r->unsaid)
        return;
    if (!said)
        said = json_pack("{s:s}", "schema", SCHEMA);
    json_t *before = json_object_get(said, r->name),
           *value = r->kind == OPTION_FLAG ? json_true() : json_string(arg);
    if (!before || r->kind != OPTION_CALL) {
        json_object_set_new(said, r->name, value);
        return;
    }
    if (!json_is_array(before))
        json_object_set_new(said, r->name, json_pack("[O]", before));
    json_array_append_new(json_object_get(said, r->name), value);
}

void option_dump(FILE *out) {
    json_t *none = said ? NULL : json_pack("{s:s}", "schema", SCHEMA);
    json_dumpf(said ? said : none, out, JSON_INDENT(1));
    fputc('\n', out);
    json_decref(none);
}
