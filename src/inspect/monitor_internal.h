/* SPDX-License-Identifier: MIT */
/* What the files of the monitor share. */
#pragma once

#include <jansson.h>

#include "inspect/linux_machine.h"
#include "inspect/monitor.h"
#include "inspect/view.h"

#define MONITOR_ARGS_MAX 16u

struct monitor {
    struct monitor_config cfg;
    struct machine *machine;
    bool stopped, quits;
    struct machine_point
        *point; /* that `point reset` goes back to; the machine's. NULL: none */
    struct monitor_linux *linux_guest; /* NULL: nobody has asked yet */
};

/* One command on its way. A function writes text to out, or, when wants_json, may set json
 * instead. */
struct request {
    struct monitor *mon;
    struct monitor_client *client;
    unsigned args;
    char *arg[MONITOR_ARGS_MAX];
    char format[32]; /* of x and xp, without the slash */
    struct view view;
    bool has_page; /* the last translation */
    pn_gva page;
    pn_gpa page_gpa;
    bool wants_json;
    json_t *json;
    FILE *out;
    struct err err; /* the line when the function fails */
};

/* Return: 0, or -errno with a line in r->err. */
typedef int (*monitor_fn)(struct request *r);
#define MONITOR(function, name, args, least, most, doc)                                  \
    int monitor_##function(struct request *r);
#include "inspect/monitor.inc"

/* "0x10", "$rip", "$rsp+8", "16-4". Return: 0, or -EINVAL with a line in r->err. */
int monitor_address(struct request *r, const char *text, uint64_t *value);
/* Guest memory by gva (virt) or gpa. Return: bytes done from the start. */
size_t monitor_read(struct request *r, bool virt, uint64_t addr, void *buf, size_t size);
/* Return: 0, or -EPERM with a line in r->err: commands may name no files here. */
int monitor_may_use_files(struct request *r);
/* Return: 0, or -EROFS with a line: a debugger looks at the guest's past. */
int monitor_may_change(struct request *r);
/* Return: 0 and the vCPU's state, to be freed; or -errno with a line. */
int monitor_state(struct request *r, struct pn_cpu_state **s);
/* monitor_linux.c. The Linux guest; NULL: it is none. */
struct linux_machine *monitor_linux_machine(struct request *r);
void monitor_linux_free(struct monitor_linux *l); /* NULL: nothing */
