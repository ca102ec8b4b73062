/* SPDX-License-Identifier: MIT */
/* `penumbra faults`: its options, and what it prints and writes. */
#pragma once

#include "cli/bench.h"
#include "cli/trace_input.h"
#include "inspect/faults.h"

struct faults_options {
    struct trace_filter filter; /* the first member: cli/trace_input.h */
    const char *path, *rip, *json, *csv, *html;
    struct trace_names names;
    bool figures;
    const char *cost;   /* NULL: the default */
    unsigned reports;   /* bit per enum fault_report_id */
    struct fault_by by; /* keys 0: not given */
    unsigned top;
    const char *live;          /* a monitor's socket; NULL: a file */
    uint64_t every;            /* ns between two updates */
    unsigned updates;          /* 0: to the run's end */
    uint64_t narrate;          /* 0: tables instead */
    uint64_t outcomes, causes; /* struct faults_config */
    bool by_cr3;
    uint64_t cr3;
};

/* The tables of every study; --by is one more. */
enum { TABLE_OUTCOME, TABLE_FUNCTION, TABLE_PAGE, TABLE_BY };

struct faults_report {
    const struct faults_options *options;
    const struct trace_file *trace;
    const struct symbols *symbols; /* NULL: none */
    struct lines *lines;           /* NULL: nobody asks for them */
    const struct faults *faults;
    struct fault_cells *cells; /* NULL: --html is not given */
    bool knows_moved;
    uint64_t moved;
    json_t *command;
    struct pn_cost_profile prices; /* with --figures */
};

/* The answer in a sentence, and tables. Return: 0, or -ENOMEM. */
int faults_print(const struct faults_report *r, FILE *out);
/* The answer alone. */
void faults_print_answer(const struct faults_report *r, FILE *out);
/* The reports that --report names (faults_report.c). Return: 0, or -ENOMEM. */
int faults_print_reports(const struct faults_report *r, FILE *out);
int faults_json_reports(const struct faults_report *r, FILE *out);
int faults_csv_report(const struct faults_report *r, FILE *out);
/* What JSON and CSV have as text: symbols have no control characters, see symbols_add. */
void faults_json_text(const char *text, FILE *out);
void faults_csv_text(const char *text, FILE *out);
/* Tell the first `most` faults in words (faults_narrate.c). Return: CLI_OK, or the exit code
 * after a line. */
int faults_narrate(struct trace_file *f, const struct faults_config *cfg, uint64_t most,
                   FILE *out);
/* faults_live.c: studies of a run as it goes. The file that its trace is in now; size: of path.
 * Return: CLI_OK, or the exit code after a line. */
int faults_live_file(const struct faults_options *o, char *path, size_t size);
/* Read the trace and print what it comes to, again and again, until the run has ended or the updates
 * are done; the last ones are not printed. *ended: the run has. Return: as above. */
int faults_live(const struct faults_report *r, struct trace_file *f,
                struct faults *faults, FILE *out, bool *ended);
/* What there is to read now. Return: 0, or -ENOMEM. */
int faults_read(struct trace_file *f, struct faults *faults);
/* Into an open file. Return: 0 or -errno. */
int faults_write_json(const struct faults_report *r, int fd);
int faults_write_csv(const struct faults_report *r, int fd);
int faults_write_page(const struct faults_report *r, int fd); /* faults_page.c */
