/* SPDX-License-Identifier: MIT */
/* `penumbra replay --html`: the document of --json in a page that needs nothing else. */
#include <stdlib.h>
#include <string.h>

#include "bench/harness/page.h"
#include "cli/replay.h"

extern const char replay_page[], replay_page_end[], replay_script[], replay_script_end[];

/* What became of faults: their counters add up to pf_taken. */
static bool is_fault(enum pn_stat id) {
    switch (id) {
    case PN_STAT_pf_mapped:
    case PN_STAT_pf_split:
    case PN_STAT_pf_uncached:
    case PN_STAT_pf_guest:
    case PN_STAT_pf_mmio:
    case PN_STAT_pf_tracked:
    case PN_STAT_pf_dirty_log:
        return true;
    default:
        return false;
    }
}

static json_t *columns(void) {
    json_t *all = json_array();
    for (unsigned i = 0; i < PN_STAT_COUNT; i++) {
        enum pn_stat id = (enum pn_stat)i;
        const char *head = replay_column(id);
        if (head || is_fault(id))
            json_array_append_new(
                all, json_pack("{s:s, s:s, s:b, s:b}", "counter", pn_stat_name(id),
                               "heading", head ? head : pn_stat_name(id) + strlen("pf_"),
                               "chosen", head != NULL, "fault", is_fault(id)));
    }
    return all;
}

int replay_write_page(const json_t *doc, int fd) {
    json_t *heads = columns();
    char *data = page_json(doc), *head = page_json(heads);
    const struct page_part parts[] = {
        {"@DATA@", data, data ? strlen(data) : 0},
        {"@COLUMNS@", head, head ? strlen(head) : 0},
        {"@CHART@", bench_chart, (size_t)(bench_chart_end - bench_chart)},
        {"@SCRIPT@", replay_script, (size_t)(replay_script_end - replay_script)},
    };
    int rc = page_write(fd, replay_page, replay_page_end, parts,
                        sizeof(parts) / sizeof(parts[0]));
    json_decref(heads);
    free(data);
    free(head);
    return rc;
}
