/* SPDX-License-Identifier: MIT */
/*
 * Whichever of SVM and VMX has a guest running: what the rest of the CPU asks of it. What each
 * call does is said in svm.h.
 */
#pragma once

#include "cpu/svm.h"
#include "cpu/vmx.h"

static inline bool nested_fault(struct cpu *cpu, const struct pn_fault *f,
                                enum cpu_rc *rc) {
    return cpu->vmx.guest ? vmx_fault(cpu, f, rc) : svm_fault(cpu, f, rc);
}
static inline bool nested_shutdown(struct cpu *cpu, enum cpu_rc *rc) {
    return cpu->vmx.guest ? vmx_shutdown(cpu, rc) : svm_shutdown(cpu, rc);
}
static inline void nested_in_flight(struct cpu *cpu, const struct event *ev) {
    if (cpu->vmx.guest)
        vmx_in_flight(cpu, ev);
    else
        svm_in_flight(cpu, ev);
}
/* It has been delivered. */
static inline void nested_landed(struct cpu *cpu) {
    cpu->svm.in_flight = 0;
    if (cpu->vmx.guest)
        vmx_landed(cpu);
}
static inline enum cpu_rc nested_poll(struct cpu *cpu) {
    return cpu->vmx.guest ? vmx_poll(cpu) : svm_poll(cpu);
}
static inline bool nested_port(struct cpu *cpu, const struct insn *in, uint16_t port,
                               unsigned size, bool out, bool string, enum cpu_rc *rc) {
    return cpu->vmx.guest ? vmx_port(cpu, in, port, size, out, string, rc)
                          : svm_port(cpu, in, port, size, out, string, rc);
}
static inline bool nested_task_switch(struct cpu *cpu, uint16_t sel,
                                      enum task_reason reason, uint64_t rip,
                                      const struct event *ev, enum cpu_rc *rc) {
    return cpu->vmx.guest ? vmx_task_switch(cpu, sel, reason, rip, ev, rc)
                          : svm_task_switch(cpu, sel, reason, ev, rc);
}
static inline bool nested_soft_exception(struct cpu *cpu, const struct insn *in,
                                         uint8_t vector, enum cpu_rc *rc) {
    return cpu->vmx.guest ? vmx_soft_exception(cpu, in, vector, rc)
                          : svm_soft_exception(cpu, in, vector, rc);
}
static inline void nested_refresh(struct cpu *cpu) {
    if (cpu->vmx.stale)
        vmx_refresh(cpu);
    if (cpu->svm.stale)
        svm_refresh(cpu);
}
static inline svm_helper *nested_pause(const struct cpu *cpu) {
    return cpu_has(cpu, CPU_F_vmx) ? vmx_pause : svm_pause;
}
/* What stands before an instruction of L2's that may exit. */
struct nested_guard {
    svm_helper *fn, *guard;
};
/* Checks and helpers see the helper in in->fn. */
static inline enum cpu_rc
nested_guarded(struct cpu *cpu, const struct insn *in, svm_helper *fn,
               bool (*check)(struct cpu *, const struct insn *, enum cpu_rc *)) {
    struct insn own = *in;
    enum cpu_rc rc;
    own.fn = fn;
    return check(cpu, &own, &rc) ? rc : fn(cpu, &own);
}
/* Return: what stands before fn; fn itself where nothing does. */
static inline svm_helper *nested_find_guard(const struct nested_guard *g, unsigned n,
                                            svm_helper *fn) {
    for (unsigned i = 0; i < n; i++)
        if (g[i].fn == fn)
            return g[i].guard;
    return fn;
}
/* What runs an instruction of L2's of this model. */
static inline svm_helper *nested_guard(const struct cpu *cpu, svm_helper *fn) {
    return cpu_has(cpu, CPU_F_vmx) ? vmx_guard(fn) : svm_guard(fn);
}
