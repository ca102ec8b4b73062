/* SPDX-License-Identifier: MIT */
/* The pages of docs/reference/, from the tables: --help=counters, --help=events and
 * --help=choices print one each; --help=commands is main.c's. */
#include <string.h>

#include "cli/bench.h"
#include "cli/option.h"
#include "inspect/fault_cause.h"
#include "penumbra/dirty.h"
#include "penumbra/events.h"
#include "penumbra/mmu.h"
#include "penumbra/stats.h"

void md_begin(const char *title, const char *what) {
    printf("# %s\n\nGenerated from the program's tables by `make reference`: do not "
           "edit.\n\n"
           "%s\n",
           title, what);
}

void md_text(const char *text) {
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", stdout);
        else if (*text == '\n')
            fputs(text[1] == '\n' ? "\n" : " ", stdout);
        else if (printf("%s%c", strchr("|*", *text) ? "\\" : "", *text) < 0)
            return;
        if (text[0] == '\n' && text[1] == '\n' && *++text)
            putchar('\n');
    }
}

void md_heading(const char *section, const char *first, const char *second) {
    printf("\n## %s\n\n| %s | %s |\n|---|---|\n", section, first, second);
}

void md_row(const char *name, const char *doc) {
    printf("| `%s` | ", name);
    md_text(doc);
    puts(" |");
}

void md_counters(void) {
    static const struct {
        enum pn_stat_kind kind;
        const char *name;
    } kinds[] = {{PN_STAT_KIND_SUM, "Sums"},
                 {PN_STAT_KIND_GAUGE, "Gauges: how many there are now"},
                 {PN_STAT_KIND_MODEL, "Modelled: sums that move with `--tlb` only"}};
    md_begin("Counters",
             "`penumbra run --stats FILE` writes them all. Each is the number of:");
    for (unsigned k = 0; k < 3; k++) {
        md_heading(kinds[k].name, "counter", "one more means");
        for (unsigned i = 0; i < PN_STAT_COUNT; i++)
            if (pn_stat_kind(i) == kinds[k].kind)
                md_row(pn_stat_name(i), pn_stat_doc(i));
    }
    md_heading("What has a price", "member of a cost profile", "one of it is");
#define PN_COST(name, count, doc) md_row(#name, doc);
#include "penumbra/costs.inc"
}

void md_events(void) {
    md_begin(
        "Events",
        "`penumbra run --trace FILE` records them, `penumbra trace FILE` prints them. "
        "Each has its vCPU,\ntime, rip, CPL and CR3 besides its fields.");
    puts("\n## Events\n\n| event | fields, type:name | what happened |\n|---|---|---|");
    for (unsigned i = 0; i < PN_EV_COUNT; i++) {
        printf("| `%s` | %s | ", pn_event_name(i), pn_event_fields(i));
        md_text(pn_event_doc(i));
        puts(" |");
    }
    md_heading("Outcomes of a fault", "`outcome` of `fault_outcome`",
               "what became of the fault");
#define PN_OUTCOME(name, answer, counter, sum, doc) md_row(#name, doc);
#include "penumbra/outcomes.inc"
    puts("\n## Causes of a fault\n\nWhat `penumbra faults --by cause` tells: what of the "
         "guest's made a fault necessary.\n\n| cause | what the guest did | shown by "
         "|\n|---|---|---|");
    for (unsigned i = 0; i < FAULT_CAUSES; i++) {
        printf("| `%s` | ", fault_cause_name(i));
        md_text(fault_cause_doc(i));
        fputs(" | ", stdout);
        md_text(fault_cause_shown(i));
        puts(" |");
    }
    md_heading("Types of fields", "type", "what the 64 bits are");
#define PN_TYPE(name, doc) md_row(#name, doc);
#include "penumbra/events.inc"
    puts("\n## Reasons\n\nWhy the machine stopped (`exit`):");
#define PN_END(name, word) puts("`" word "`");
#include "penumbra/reasons.inc"
    puts("\nWhy a shadow page or a second-level table went (`prepare_zap_page`):");
#define PN_ZAP(name, word) puts("`" word "`");
#include "penumbra/reasons.inc"
}

static void listed(const char *section, void (*list)(FILE *out)) {
    printf("\n## %s\n\n```\n", section);
    list(stdout);
    puts("```");
}

void md_choices(void) {
    static const struct bench_options none; /* named: all are listed */
    md_begin("Choices",
             "What options may name: the lists that the program prints for `help`.");
    listed("Options of the MMU: `--mmu-opt`", pn_mmu_options_print);
    listed("Models and prices: `--tlb`, `--cost`", profile_list);
    listed("Trackers of written pages: `--dirty-log`", pn_dirty_print);
    puts("\n## Workloads: `penumbra bench`\n\n```");
    bench_list(&none);
    puts("```");
}
