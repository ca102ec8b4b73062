/* SPDX-License-Identifier: MIT */
/* What a person reads about a KVM vCPU and about the MMU behind it. */
#include <inttypes.h>
#include <string.h>

#include "cpu/disasm.h"
#include "engine/kvm_vm.h"

#define INSN_MAX 15u

static uint64_t code_linear(const struct pn_cpu_state *s) {
    return pn_cpu_state_code_bits(s) == 64 ? s->rip
                                           : (uint32_t)(s->seg[PN_CS].base + s->rip);
}

void kvm_insn_text(struct kvm_vcpu *v, const uint8_t *bytes, size_t size, char *text,
                   size_t text_size) {
    struct pn_cpu_state s;
    uint8_t own[INSN_MAX];
    char insn[CPU_DISASM_TEXT];
    if (kvm_get_cpu(v, &s)) {
        snprintf(text, text_size, "an instruction whose place KVM does not tell");
        return;
    }
    if (!bytes) {
        size = kvm_fallback_fetch(v, &s, code_linear(&s), own, sizeof(own));
        bytes = own;
    }
    unsigned length =
        cpu_disassemble(bytes, size, pn_cpu_state_code_bits(&s), s.rip, insn);
    int at = snprintf(text, text_size, "rip %" PRIx64 ": %s [", s.rip, insn);
    for (size_t i = 0; i < (length ? length : size) && at + 4 < (int)text_size; i++)
        at +=
            snprintf(text + at, text_size - (size_t)at, "%s%02x", i ? " " : "", bytes[i]);
    snprintf(text + at, text_size - (size_t)at, "]");
}

void kvm_dump(struct pn_engine *e, unsigned cpu, FILE *out) {
    struct kvm_vcpu *v = &e->vcpu[cpu];
    struct pn_cpu_state s;
    char text[200];
    if (kvm_get_cpu(v, &s))
        return;
    fprintf(out, "cpu %u: %s mode, cpl %u, KVM exit %u\n", cpu, pn_cpu_state_mode(&s),
            s.seg[PN_SS].attr >> 5 & 3, v->run->exit_reason);
    pn_cpu_state_print(&s, out);
    kvm_insn_text(v, NULL, 0, text, sizeof(text));
    fprintf(out, "%s\n", text);
}

void kvm_describe(struct pn_engine *e, char *buf, size_t size) {
    snprintf(buf, size, "KVM (%s), MMU: %s; known by %s%s",
             e->host.vendor[0] ? e->host.vendor : "vendor module not known",
             pn_kvm_mmu_name(e->host.mmu), e->host.found_by,
             e->host.mmu == PN_KVM_MMU_SOFTWARE
                 ? "; 64-bit user code is native, kernels are emulated and slow"
                 : "");
}

const char *kvm_no_linux(struct pn_engine *e) {
    return e->host.mmu == PN_KVM_MMU_SOFTWARE
               ? "KVM without VMX or SVM emulates kernels, a few million instructions a "
                 "second, and passes them no system calls"
               : NULL;
}
