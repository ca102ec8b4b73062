/* SPDX-License-Identifier: MIT */
/* The fields of struct pn_cpu_state as a table: print and compare. */
#include "penumbra/cpu_state.h"

#include <inttypes.h>
#include <string.h>

#define LINE_MAX_CHARS 100
#define GDB_NONE       -1

#define FIELD(text, member, digits, gdb, msr)                                            \
    {text,                                                                               \
     offsetof(struct pn_cpu_state, member),                                              \
     sizeof(((struct pn_cpu_state *)0)->member),                                         \
     digits,                                                                             \
     gdb,                                                                                \
     msr},
#define SEG_FIELD(name, id, part, gdb)                                                   \
    FIELD(name "." #part, seg[PN_##id].part, 0, gdb, -1)

const struct pn_cpu_field pn_cpu_fields[] = {
#define PN_GPR(nr, name, gdb) FIELD(#name, gpr[nr], 16, gdb, -1)
#define PN_SEG(id, name, gdb, kvm, sel_, attr_, base_)                                   \
    SEG_FIELD(#name, id, sel, gdb)                                                       \
    SEG_FIELD(#name, id, attr, GDB_NONE)                                                 \
    SEG_FIELD(#name, id, limit, GDB_NONE)                                                \
    SEG_FIELD(#name, id, base, GDB_NONE)
#define PN_REG(name, type, digits, gdb, soft, kvm, reset, init)                          \
    FIELD(#name, name, digits, gdb, -1)
#define PN_REG_BY(name, type, digits, gdb, kvm) FIELD(#name, name, digits, gdb, -1)
#define PN_EVENT(name, type, none, soft)        FIELD(#name, name, 0, GDB_NONE, -1)
#define PN_EVENT_BY(name, type, none)           FIELD(#name, name, 0, GDB_NONE, -1)
#define PN_MSR(name, index, soft, present, take, reset)                                  \
    FIELD(#name, msr[PN_MSR_##name], 0, GDB_NONE, PN_MSR_##name)
#define PN_MSR_BUS(name, index, present)                                                 \
    FIELD(#name, msr[PN_MSR_##name], 0, GDB_NONE, PN_MSR_##name)
#include "penumbra/cpu_state.inc"
};
const unsigned pn_cpu_field_count = sizeof(pn_cpu_fields) / sizeof(pn_cpu_fields[0]);

uint64_t pn_cpu_field_get(const struct pn_cpu_state *s, const struct pn_cpu_field *f) {
    uint64_t value = 0;
    memcpy(&value, (const char *)s + f->offset, f->size);
    return value;
}

void pn_cpu_field_set(struct pn_cpu_state *s, const struct pn_cpu_field *f,
                      uint64_t value) {
    memcpy((char *)s + f->offset, &value, f->size);
}

/* Return: 1: they do, which is said of the first. */
static unsigned bytes_differ(const char *name, const uint8_t *a, const uint8_t *b,
                             unsigned size, FILE *out) {
    unsigned i = 0;
    while (i < size && a[i] == b[i])
        i++;
    if (i < size && out)
        fprintf(out, "%s, byte %u: %x %x\n", name, i, a[i], b[i]);
    return i < size;
}

unsigned pn_cpu_state_diff(const struct pn_cpu_state *a, const struct pn_cpu_state *b,
                           FILE *out) {
    unsigned differ = 0;
    for (unsigned i = 0; i < pn_cpu_field_count; i++) {
        const struct pn_cpu_field *f = &pn_cpu_fields[i];
        uint64_t x = pn_cpu_field_get(a, f), y = pn_cpu_field_get(b, f);
        if (x == y || (f->msr >= 0 && !(a->msr_known & b->msr_known & 1ull << f->msr)))
            continue;
        differ++;
        if (out)
            fprintf(out, "%s: %" PRIx64 " %" PRIx64 "\n", f->name, x, y);
    }
    differ += bytes_differ("xsave", a->xsave, b->xsave, PN_XSAVE_SIZE, out);
    return differ + bytes_differ("nested", a->nested, b->nested, PN_NESTED_SIZE, out);
}

/* ---- For a person ---- */

unsigned pn_cpu_state_code_bits(const struct pn_cpu_state *s) {
    uint32_t attr = s->seg[PN_CS].attr;
    if (s->efer & EFER_LMA && attr & ATTR_L)
        return 64;
    return attr & ATTR_DB ? 32 : 16;
}

const char *pn_cpu_state_mode(const struct pn_cpu_state *s) {
    if (!(s->cr0 & CR0_PE))
        return "real";
    if (s->efer & EFER_LMA)
        return pn_cpu_state_code_bits(s) == 64 ? "64-bit" : "compatibility";
    if (s->rflags & FL_VM)
        return "virtual-8086";
    return pn_cpu_state_code_bits(s) == 32 ? "protected 32-bit" : "protected 16-bit";
}

/* Four general registers a line. */
static bool starts_line(const struct pn_cpu_field *f) {
    size_t at = f->offset - offsetof(struct pn_cpu_state, gpr);
    return at < sizeof(((struct pn_cpu_state *)0)->gpr) && at % 32 == 0;
}

static void print_registers(const struct pn_cpu_state *s, FILE *out) {
    unsigned column = 0;
    for (unsigned i = 0; i < pn_cpu_field_count; i++) {
        const struct pn_cpu_field *f = &pn_cpu_fields[i];
        char text[48];
        if (!f->digits)
            continue;
        unsigned n = (unsigned)snprintf(text, sizeof(text), "%-3s %0*" PRIx64, f->name,
                                        f->digits, pn_cpu_field_get(s, f));
        if (column && (column + 2 + n > LINE_MAX_CHARS || starts_line(f))) {
            fputc('\n', out);
            column = 0;
        }
        column += (unsigned)fprintf(out, "%s%s", column ? "  " : "", text);
    }
    fputc('\n', out);
}

static void print_segments(const struct pn_cpu_state *s, FILE *out) {
#define PN_SEG(id, name, gdb, kvm, sel_, attr_, base_)                                   \
    fprintf(out, "%-4s %04x base %016" PRIx64 " limit %08x attr %05x\n", #name,          \
            s->seg[PN_##id].sel, s->seg[PN_##id].base, s->seg[PN_##id].limit,            \
            s->seg[PN_##id].attr);
#include "penumbra/cpu_state.inc"
}

static void print_events(const struct pn_cpu_state *s, FILE *out) {
    const char *sep = "owed:";
#define PN_EVENT(name, type, none, soft)                                                 \
    if (s->name != (none))                                                               \
        fprintf(out, "%s " #name " %" PRIx64, sep, (uint64_t)s->name), sep = ",";
#define PN_EVENT_BY(name, type, none) PN_EVENT(name, type, none, )
#include "penumbra/cpu_state.inc"
    if (*sep == ',')
        fputc('\n', out);
    if (s->nested_size)
        fprintf(out, "of the guest's guest KVM keeps %u bytes\n", s->nested_size);
}

void pn_cpu_state_print(const struct pn_cpu_state *s, FILE *out) {
    print_registers(s, out);
    print_segments(s, out);
    print_events(s, out);
}
