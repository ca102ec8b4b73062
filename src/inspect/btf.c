/* SPDX-License-Identifier: MIT */
/*
 * BTF by libbpf: see btf.h.
 *
 * Invariants
 * 1. libbpf sees a copy with a header of ours: every type ends inside the types, every name
 *    begins inside the strings, and these end in a NUL. (Its own check of a header adds no
 *    length of it.)
 * 2. A search ends soon: VISITS_MAX members at most, DEPTH_MAX nameless parts in each other.
 */
#include "inspect/btf.h"

#include <bpf/btf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX  (64u << 20)
#define VISITS_MAX (1u << 20)
#define DEPTH_MAX  8u
#define HOPS_MAX   32u /* typedefs and qualifiers before a structure */

struct types {
    struct btf *btf;
};

/* ---- Lengths ---- */

/* What follows a type's head, by its kind: so many bytes, and so many for each of its
 * members. */
static const struct {
    bool known;
    uint8_t fixed, each;
} kinds[] = {
    [BTF_KIND_INT] = {true, sizeof(uint32_t), 0},
    [BTF_KIND_PTR] = {true, 0, 0},
    [BTF_KIND_ARRAY] = {true, sizeof(struct btf_array), 0},
    [BTF_KIND_STRUCT] = {true, 0, sizeof(struct btf_member)},
    [BTF_KIND_UNION] = {true, 0, sizeof(struct btf_member)},
    [BTF_KIND_ENUM] = {true, 0, sizeof(struct btf_enum)},
    [BTF_KIND_FWD] = {true, 0, 0},
    [BTF_KIND_TYPEDEF] = {true, 0, 0},
    [BTF_KIND_VOLATILE] = {true, 0, 0},
    [BTF_KIND_CONST] = {true, 0, 0},
    [BTF_KIND_RESTRICT] = {true, 0, 0},
    [BTF_KIND_FUNC] = {true, 0, 0},
    [BTF_KIND_FUNC_PROTO] = {true, 0, sizeof(struct btf_param)},
    [BTF_KIND_VAR] = {true, sizeof(struct btf_var), 0},
    [BTF_KIND_DATASEC] = {true, 0, sizeof(struct btf_var_secinfo)},
    [BTF_KIND_FLOAT] = {true, 0, 0},
    [BTF_KIND_DECL_TAG] = {true, sizeof(struct btf_decl_tag), 0},
    [BTF_KIND_TYPE_TAG] = {true, 0, 0},
    [BTF_KIND_ENUM64] = {true, 0, sizeof(struct btf_enum64)},
};

/* Do all types end where the last one ends? Return: NULL: they do; else what is wrong. */
static const char *check_types(const uint8_t *types, uint32_t size, uint32_t strings) {
    struct btf_type t;
    for (uint32_t at = 0; at < size;) {
        if (size - at < sizeof(t))
            return "a type is cut";
        memcpy(&t, types + at, sizeof(t));
        uint32_t kind = BTF_INFO_KIND(t.info);
        if (kind >= sizeof(kinds) / sizeof(kinds[0]) || !kinds[kind].known)
            return "a type is of no known kind";
        uint32_t rest = kinds[kind].fixed + kinds[kind].each * BTF_INFO_VLEN(t.info);
        at += (uint32_t)sizeof(t);
        if (rest > size - at)
            return "a type is cut";
        if (t.name_off >= strings)
            return "a name is outside";
        at += rest;
    }
    return NULL;
}

/* The parts of data as its header tells. Return: NULL, or what is wrong. */
static const char *check(const uint8_t *data, size_t size, struct btf_header *h) {
    if (size < sizeof(*h) || size > BYTES_MAX)
        return "too short or too long";
    memcpy(h, data, sizeof(*h));
    if (h->magic != BTF_MAGIC || h->version != BTF_VERSION || h->flags)
        return "no header of version 1";
    if (h->hdr_len < sizeof(*h) || h->hdr_len > size)
        return "a header of a wrong length";
    size_t room = size - h->hdr_len;
    if (h->type_off > room || h->type_len > room - h->type_off || h->str_off > room ||
        h->str_len > room - h->str_off || h->type_len % 4)
        return "its parts are not inside";
    const uint8_t *strings = data + h->hdr_len + h->str_off;
    if (!h->str_len || strings[0] || strings[h->str_len - 1])
        return "its names have no end";
    return check_types(data + h->hdr_len + h->type_off, h->type_len, h->str_len);
}

/* Invariant 1. Return: the copy, of *out_size bytes; NULL: out of memory. */
static void *copy_of(const uint8_t *data, const struct btf_header *from,
                     uint32_t *out_size) {
    struct btf_header h = {.magic = BTF_MAGIC,
                           .version = BTF_VERSION,
                           .hdr_len = sizeof(h),
                           .type_len = from->type_len,
                           .str_off = from->type_len,
                           .str_len = from->str_len};
    *out_size = (uint32_t)sizeof(h) + h.type_len + h.str_len;
    uint8_t *copy = malloc(*out_size);
    if (!copy)
        return NULL;
    data += from->hdr_len;
    memcpy(copy, &h, sizeof(h));
    memcpy(copy + sizeof(h), data + from->type_off, h.type_len);
    memcpy(copy + sizeof(h) + h.type_len, data + from->str_off, h.str_len);
    return copy;
}

/* ---- Life ---- */

int types_parse(const void *data, size_t size, const char *name, struct types **out,
                struct err *e) {
    struct btf_header h;
    uint32_t copy_size;
    const char *wrong = check(data, size, &h);
    if (wrong)
        return err_set(e, -EINVAL, "%s: its types (BTF) are damaged: %s", name, wrong);
    struct types *t = calloc(1, sizeof(*t));
    void *copy = t ? copy_of(data, &h, &copy_size) : NULL;
    if (copy)
        t->btf = btf__new(copy, copy_size);
    free(copy);
    if (t && t->btf) {
        *out = t;
        return 0;
    }
    int rc = copy && errno != ENOMEM ? -EINVAL : -ENOMEM;
    free(t);
    return err_set(e, rc, "%s: its types (BTF) cannot be read: %s", name, strerror(-rc));
}

void types_free(struct types *t) {
    if (!t)
        return;
    btf__free(t->btf);
    free(t);
}

/* ---- Members ---- */

struct search {
    const struct btf *btf;
    const char *name;
    size_t length;
    unsigned visits;
    uint64_t offset; /* found: from the structure's start */
    uint32_t type;
};

/* The type behind typedefs and qualifiers; NULL: none is. */
static const struct btf_type *bare(const struct btf *btf, uint32_t id) {
    const struct btf_type *t = btf__type_by_id(btf, id);
    for (unsigned i = 0; t && i < HOPS_MAX; i++) {
        if (!btf_is_mod(t) && !btf_is_typedef(t))
            return t;
        t = btf__type_by_id(btf, t->type);
    }
    return NULL;
}

static bool is_named(const struct search *s, const struct btf_member *m) {
    const char *name = btf__name_by_offset(s->btf, m->name_off);
    return name && strlen(name) == s->length && !memcmp(name, s->name, s->length);
}

/* The member in the structure, or in one of its nameless parts. base: where it begins. */
static bool look(struct search *s, uint32_t id, uint64_t base, unsigned depth) {
    const struct btf_type *t = bare(s->btf, id);
    if (!t || !btf_is_composite(t) || depth == DEPTH_MAX)
        return false;
    const struct btf_member *m = btf_members(t);
    for (uint32_t i = 0; i < btf_vlen(t); i++) {
        uint32_t bits = btf_member_bit_offset(t, i);
        if (s->visits >= VISITS_MAX)
            return false;
        s->visits++;
        if (!m[i].name_off) {
            if (look(s, m[i].type, base + bits / 8, depth + 1))
                return true;
        } else if (is_named(s, &m[i])) {
            s->offset = base + bits / 8;
            s->type = m[i].type;
            return bits % 8 == 0 && !btf_member_bitfield_size(t, i);
        }
    }
    return false;
}

bool types_find(const struct types *t, const char *of, const char *path,
                struct types_member *m) {
    struct search s = {.btf = t->btf};
    int id = btf__find_by_name_kind(t->btf, of, BTF_KIND_STRUCT);
    uint64_t offset = 0;
    if (id <= 0)
        return false;
    s.type = (uint32_t)id;
    for (s.name = path; *s.name; s.name += s.length + (s.name[s.length] == '.')) {
        s.length = strcspn(s.name, ".");
        if (!look(&s, s.type, 0, 0))
            return false;
        offset += s.offset;
    }
    int64_t size = btf__resolve_size(t->btf, s.type);
    if (size < 0 || size > UINT32_MAX || offset > UINT32_MAX)
        return false;
    *m = (struct types_member){(uint32_t)offset, (uint32_t)size};
    return true;
}
