/* SPDX-License-Identifier: MIT */
/* The monitor's commands about registers and memory (monitor.inc). */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/disasm.h"
#include "inspect/monitor_internal.h"

#define UNITS_MAX 65536u /* of one x */

/* ---- Values ---- */

int monitor_state(struct request *r, struct pn_cpu_state **s) {
    *s = calloc(1, sizeof(**s));
    int rc = *s ? r->view.ops->get_state(r->view.engine, r->view.cpu, *s) : -ENOMEM;
    if (!rc)
        return 0;
    free(*s);
    *s = NULL;
    return err_sys(&r->err, rc, "the registers of vCPU %u", r->view.cpu);
}

static int register_value(struct request *r, const char *name, size_t n,
                          uint64_t *value) {
    struct pn_cpu_state *s;
    int rc = monitor_state(r, &s);
    if (rc)
        return rc;
    rc = -EINVAL;
    for (unsigned i = 0; rc && i < pn_cpu_field_count; i++) {
        const struct pn_cpu_field *f = &pn_cpu_fields[i];
        if (strlen(f->name) == n && !strncasecmp(f->name, name, n)) {
            *value = pn_cpu_field_get(s, f);
            rc = 0;
        }
    }
    free(s);
    return rc ? err_set(&r->err, rc, "no register is called '%.*s'", (int)n, name) : 0;
}

/* One number or register; *text is then behind it. */
static int term(struct request *r, const char **text, uint64_t *value) {
    const char *p = *text;
    if (*p == '$') {
        size_t n = strcspn(++p, "+-");
        *text = p + n;
        return register_value(r, p, n, value);
    }
    char *end;
    errno = 0;
    *value = strtoull(p, &end, 0);
    *text = end;
    return end == p || errno || !isdigit((unsigned char)*p)
               ? err_set(&r->err, -EINVAL, "'%s' is no number and no register", p)
               : 0;
}

int monitor_address(struct request *r, const char *text, uint64_t *value) {
    uint64_t v;
    int rc = term(r, &text, value);
    while (!rc && *text) {
        char sign = *text++;
        if (sign != '+' && sign != '-')
            return err_set(&r->err, -EINVAL, "'%c' is neither + nor -", sign);
        rc = term(r, &text, &v);
        *value = sign == '+' ? *value + v : *value - v;
    }
    return rc;
}

/* ---- Translations ---- */

static bool to_gpa(struct request *r, pn_gva gva, pn_gpa *gpa) {
    struct pn_explanation x;
    if (!r->has_page || r->page != (gva & PN_PAGE_MASK)) {
        if (pn_mmu_explain(r->view.vcpu, gva, &x) || !x.found || !x.canonical)
            return false;
        r->has_page = true;
        r->page = gva & PN_PAGE_MASK;
        r->page_gpa = x.gpa & PN_PAGE_MASK;
    }
    *gpa = r->page_gpa | (gva & (PN_PAGE_SIZE - 1));
    return true;
}

size_t monitor_read(struct request *r, bool virt, uint64_t addr, void *buf, size_t size) {
    size_t done = 0;
    while (done < size) {
        pn_gpa gpa = addr + done;
        size_t n = PN_PAGE_SIZE - (gpa & (PN_PAGE_SIZE - 1));
        if (n > size - done)
            n = size - done;
        if (virt && !to_gpa(r, addr + done, &gpa))
            break;
        size_t got = r->view.ops->read_phys(r->view.engine, gpa, (char *)buf + done, n);
        done += got;
        if (got < n)
            break;
    }
    return done;
}

int monitor_gva2gpa(struct request *r) {
    uint64_t gva;
    pn_gpa gpa;
    int rc = monitor_address(r, r->arg[0], &gva);
    if (rc)
        return rc;
    if (!to_gpa(r, gva, &gpa))
        return err_set(&r->err, -EFAULT, "0x%" PRIx64 " is not mapped", gva);
    fprintf(r->out, "gpa: %#" PRIx64 "\n", gpa);
    if (r->wants_json)
        r->json = json_pack("{s:o, s:o}", "gva", json_sprintf("%#" PRIx64, gva), "gpa",
                            json_sprintf("%#" PRIx64, gpa));
    return 0;
}

int monitor_gpa2hva(struct request *r) {
    uint64_t gpa;
    int rc = monitor_address(r, r->arg[0], &gpa);
    if (rc)
        return rc;
    const struct pn_memslot *s = pn_mmu_slot_find(pn_mmu_of(r->view.vcpu), gpa);
    if (!s)
        return err_set(&r->err, -EFAULT, "no memory is at 0x%" PRIx64, gpa);
    uintptr_t hva = (uintptr_t)s->hva + (gpa - s->gpa);
    fprintf(r->out, "Host virtual address for %#" PRIx64 " is %#" PRIxPTR "\n", gpa, hva);
    if (r->wants_json)
        r->json = json_pack("{s:o, s:o}", "gpa", json_sprintf("%#" PRIx64, gpa), "hva",
                            json_sprintf("%#" PRIxPTR, hva));
    return 0;
}

/* ---- Memory ---- */

struct format {
    uint32_t count;
    char as;       /* x d u o c i */
    unsigned size; /* bytes of a unit */
};

static int parse_format(struct request *r, struct format *f) {
    const char *p = r->format;
    *f = (struct format){1, 'x', 4};
    if (isdigit((unsigned char)*p)) {
        char *end;
        unsigned long n = strtoul(p, &end, 10);
        f->count = n > UNITS_MAX ? UNITS_MAX + 1 : (uint32_t)n;
        p = end;
    }
    for (; *p; p++) {
        static const char sizes[] = "bhwg";
        const char *size = strchr(sizes, *p);
        if (size)
            f->size = 1u << (size - sizes);
        else if (strchr("xduoci", *p))
            f->as = *p;
        else
            return err_set(&r->err, -EINVAL, "'%c' is no format or size", *p);
    }
    if (f->as == 'c')
        f->size = 1;
    if (!f->count || f->count > UNITS_MAX)
        return err_set(&r->err, -EINVAL, "from 1 to %u units", UNITS_MAX);
    return 0;
}

static void print_unit(const struct format *f, uint64_t v, FILE *out) {
    unsigned shift = 64 - 8 * f->size;
    switch (f->as) {
    case 'd':
        fprintf(out, " %" PRId64, (int64_t)(v << shift) >> shift);
        break;
    case 'u':
        fprintf(out, " %" PRIu64, v);
        break;
    case 'o':
        fprintf(out, " %#" PRIo64, v);
        break;
    case 'c':
        fprintf(out, isprint((int)(v & 0x7f)) && v < 0x80 ? " '%c'" : " '\\x%02x'",
                (int)(v & 0xff));
        break;
    default:
        fprintf(out, " 0x%0*" PRIx64, (int)(2 * f->size), v);
    }
}

static int cannot_read(struct request *r, uint64_t addr) {
    return err_set(&r->err, -EFAULT, "cannot access memory at 0x%" PRIx64, addr);
}

static int print_units(struct request *r, bool virt, uint64_t addr,
                       const struct format *f) {
    unsigned per_line = f->as == 'c' ? 8 : f->size == 8 ? 2 : f->size == 1 ? 8 : 4;
    for (uint32_t i = 0; i < f->count; i++, addr += f->size) {
        uint64_t v = 0;
        if (monitor_read(r, virt, addr, &v, f->size) < f->size) {
            if (i % per_line)
                fputc('\n', r->out);
            return cannot_read(r, addr);
        }
        if (i % per_line == 0)
            fprintf(r->out, "%s%016" PRIx64 ":", i ? "\n" : "", addr);
        print_unit(f, v, r->out);
    }
    fputc('\n', r->out);
    return 0;
}

static int print_insns(struct request *r, bool virt, uint64_t addr, uint32_t count) {
    struct pn_cpu_state *s;
    int rc = monitor_state(r, &s);
    if (rc)
        return rc;
    unsigned bits = pn_cpu_state_code_bits(s);
    free(s);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[16];
        char text[CPU_DISASM_TEXT];
        size_t got = monitor_read(r, virt, addr, bytes, sizeof(bytes));
        if (!got)
            return cannot_read(r, addr);
        unsigned n = cpu_disassemble(bytes, got, bits, addr, text);
        fprintf(r->out, "0x%016" PRIx64 ":  %s\n", addr, text);
        addr += n ? n : 1;
    }
    return 0;
}

static int examine(struct request *r, bool virt) {
    uint64_t addr;
    struct format f;
    int rc = parse_format(r, &f);
    if (!rc)
        rc = monitor_address(r, r->arg[0], &addr);
    if (rc)
        return rc;
    return f.as == 'i' ? print_insns(r, virt, addr, f.count)
                       : print_units(r, virt, addr, &f);
}

int monitor_x(struct request *r) {
    return examine(r, true);
}

int monitor_xp(struct request *r) {
    return examine(r, false);
}

/* ---- vCPUs ---- */

static json_t *registers_json(const struct pn_cpu_state *s) {
    json_t *j = json_object();
    for (unsigned i = 0; i < pn_cpu_field_count; i++) {
        const struct pn_cpu_field *f = &pn_cpu_fields[i];
        if (f->msr < 0 || s->msr_known >> f->msr & 1)
            json_object_set_new(j, f->name,
                                json_sprintf("0x%" PRIx64, pn_cpu_field_get(s, f)));
    }
    return j;
}

int monitor_info_registers(struct request *r) {
    struct pn_cpu_state *s;
    int rc = monitor_state(r, &s);
    if (rc)
        return rc;
    fprintf(r->out, "vCPU %u, %s mode\n", r->view.cpu, pn_cpu_state_mode(s));
    pn_cpu_state_print(s, r->out);
    if (r->wants_json)
        r->json = registers_json(s);
    free(s);
    return 0;
}

int monitor_info_cpus(struct request *r) {
    static const char *const doing[] = {
        [PN_RUNS] = "runs", [PN_HALTED] = "halted", [PN_WAITS_SIPI] = "waits for SIPI"};
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    json_t *all = r->wants_json ? json_array() : NULL;
    for (unsigned i = 0; s && i < machine_cpus(r->mon->machine); i++) {
        if (r->view.ops->get_state(r->view.engine, i, s))
            continue;
        const char *does = s->activity <= PN_WAITS_SIPI ? doing[s->activity] : "";
        fprintf(r->out, "%c CPU #%u: rip 0x%016" PRIx64 " (%s)\n",
                i == r->client->cpu ? '*' : ' ', i, s->rip, does);
        if (all)
            json_array_append_new(all, json_pack("{s:i, s:o, s:s}", "cpu", (int)i, "rip",
                                                 json_sprintf("0x%" PRIx64, s->rip),
                                                 "state", does));
    }
    r->json = all;
    free(s);
    return s ? 0 : -ENOMEM;
}

/* ---- The guest's tables, as QEMU prints them ---- */

static bool print_tlb(void *opaque, const struct pn_mapping *m) {
    static const struct {
        uint64_t bit;
        char letter;
    } bits[] = {{1ull << 63, 'X'}, {1 << 8, 'G'}, {1 << 7, 'P'},
                {1 << 6, 'D'},     {1 << 5, 'A'}, {1 << 4, 'C'},
                {1 << 3, 'T'},     {1 << 2, 'U'}, {1 << 1, 'W'}};
    FILE *out = opaque;
    fprintf(out, "%016" PRIx64 ": %016" PRIx64 " ", m->from, m->gpa);
    for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        bool is = bits[i].letter == 'P' ? m->level > 1 : m->entry & bits[i].bit;
        fputc(is ? bits[i].letter : '-', out);
    }
    fputc('\n', out);
    return !ferror(out) && ftell(out) < (64 << 20);
}

int monitor_info_tlb(struct request *r) {
    if (!pn_mmu_guest_mappings(r->view.vcpu, print_tlb, r->out))
        fputs("(and more)\n", r->out);
    return 0;
}

struct mem {
    FILE *out;
    uint64_t from, to; /* to: behind it */
    unsigned rights;
    bool any;
};

static void flush_mem(const struct mem *m) {
    if (m->any)
        fprintf(m->out, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c\n", m->from,
                m->to, m->to - m->from, m->rights & PN_ACC_USER ? 'u' : '-',
                m->rights & PN_ACC_WRITE ? 'w' : '-');
}

static bool add_mem(void *opaque, const struct pn_mapping *m) {
    struct mem *all = opaque;
    unsigned rights = m->rights & (PN_ACC_USER | PN_ACC_WRITE);
    if (all->any && all->to == m->from && all->rights == rights) {
        all->to += m->size;
        return true;
    }
    flush_mem(all);
    *all = (struct mem){all->out, m->from, m->from + m->size, rights, true};
    return !ferror(all->out) && ftell(all->out) < (64 << 20);
}

int monitor_info_mem(struct request *r) {
    struct mem all = {.out = r->out};
    bool whole = pn_mmu_guest_mappings(r->view.vcpu, add_mem, &all);
    flush_mem(&all);
    if (!whole)
        fputs("(and more)\n", r->out);
    return 0;
}

static void print_range(void *opaque, const char *name, bool ports, uint64_t base,
                        uint64_t size) {
    fprintf(opaque, "  %016" PRIx64 "-%016" PRIx64 " (%s): %s\n", base, base + size - 1,
            ports ? "i/o" : "mmio", name);
}

int monitor_info_mtree(struct request *r) {
    struct pn_memslot slot[MACHINE_SLOTS_ALL];
    unsigned n = machine_slots_all(r->mon->machine, slot);
    fputs("address-space: memory\n", r->out);
    for (unsigned i = 0; i < n; i++)
        fprintf(r->out, "  %016" PRIx64 "-%016" PRIx64 " (ram): slot %u at host %p\n",
                slot[i].gpa, slot[i].gpa + slot[i].size - 1, slot[i].id, slot[i].hva);
    fputs("devices\n", r->out);
    machine_ranges(r->mon->machine, print_range, r->out);
    return 0;
}
