/* SPDX-License-Identifier: MIT */
/*
 * Text as of Linux's /sys/kernel/tracing/trace (kernel/trace/trace.c, print_event_info and
 * trace_print_context):
 *
 *         comm-pid     [cpu] flags seconds.fraction: event: fields
 *
 * The process is what a trace knows of it: comm is the page of CR3, pid its frame number;
 * "<...>" and 0 where it is not known, as of a comm that ftrace has forgotten. The CPU is
 * the vCPU. Flags, which speak of a kernel's interrupts and preemption, are dots: four, as
 * of kernels before 5.18, since older readers take no more. Fractions have nine digits, not
 * six: an instruction is a nanosecond here.
 */
#include <string.h>

#include "trace/export_internal.h"

#define CR3_PAGE 0x000ffffffffff000ull
#define COMM_MAX 15u /* TASK_COMM_LEN without its NUL */
#define LINE_MAX (EXPORT_FIELDS_MAX + EXPORT_NAME_MAX + 128)

static const char head[] = "# tracer: nop\n"
                           "#\n"
                           "#                                _-----=> irqs-off\n"
                           "#                               / _----=> need-resched\n"
                           "#                              | / _---=> hardirq/softirq\n"
                           "#                              || / _--=> preempt-depth\n"
                           "#                              ||| /     delay\n"
                           "#           TASK-PID     CPU#  ||||   TIMESTAMP  FUNCTION\n"
                           "#              | |         |   ||||      |         |\n";

static int begin(struct export *x, const char *path) {
    int rc = export_file_begin(x, path);
    if (!rc)
        fputs(head, x->stream);
    return rc;
}

/* "%16s-%-7d [%03d] .... " */
static char *put_task(const struct pn_event_rec *rec, char *p) {
    char comm[24], pid[24], *end = comm, *pid_end = pid;
    bool known = rec->cpl != PN_CPL_NONE;
    end = known ? trace_put_hex(rec->cr3 & CR3_PAGE, comm) : stpcpy(comm, "<...>");
    if (end > comm + COMM_MAX)
        end = comm + COMM_MAX;
    pid_end = trace_put_dec(known ? (rec->cr3 & CR3_PAGE) >> 12 & INT32_MAX : 0, pid);
    for (long n = 16 - (end - comm); n > 0; n--)
        *p++ = ' ';
    p = mempcpy(p, comm, (size_t)(end - comm));
    *p++ = '-';
    p = mempcpy(p, pid, (size_t)(pid_end - pid));
    for (long n = 7 - (pid_end - pid); n > 0; n--)
        *p++ = ' ';
    p = stpcpy(p, rec->vcpu < 10 ? " [00" : rec->vcpu < 100 ? " [0" : " [");
    return stpcpy(trace_put_dec(rec->vcpu, p), "] .... ");
}

static int add(struct export *x, const struct pn_event_rec *rec) {
    static const struct export_style style = {" ", "", "=", ""};
    char line[LINE_MAX], *p = put_task(rec, line), *time = p;
    p = export_put_time(rec->time, 9, p);
    long indent = 15 - (p - time); /* "%5lu." and nine digits */
    if (indent > 0) {
        memmove(time + indent, time, (size_t)(p - time));
        memset(time, ' ', (size_t)indent);
        p += indent;
    }
    p = stpcpy(stpcpy(stpcpy(p, ": "), export_event_name(x, rec)), ": ");
    char *fields = p;
    p = export_put_fields(x, rec, &style, p);
    if (p > fields)
        *p++ = ' ';
    p = export_put_place(rec, &style, p);
    *p++ = '\n';
    fwrite(line, 1, (size_t)(p - line), x->stream);
    return export_file_error(x);
}

static int end(struct export *x) {
    uint64_t lost = trace_file_end(x->file)->lost;
    if (lost)
        fprintf(x->stream, "# lost when it was recorded: %llu events\n",
                (unsigned long long)lost);
    return export_file_end(x);
}

const struct export_format export_ftrace = {
    .name = "ftrace",
    .doc = "text as of Linux's ftrace: Perfetto and scripts that read it",
    .begin = begin,
    .add = add,
    .end = end,
    .abandon = export_file_abandon,
};
