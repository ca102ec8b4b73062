/* SPDX-License-Identifier: MIT */
/* Any bytes at the monitor's channel: it answers or refuses, and the machine stays as it is.
 * Commands that name files are refused. */
#include <stdlib.h>

#include "inspect/monitor_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct machine *m;

static void clean_up(void) {
    machine_destroy(m);
}

/* A guest of one instruction, which never runs: HLT. */
static struct machine *machine_of_all_inputs(void) {
    static const uint8_t hlt[] = {0xf4};
    struct machine_config cfg = {.engine = pn_engine_find("shadow"),
                                 .ram = 2u << 20,
                                 .cpus = 2,
                                 .kernel_blob = hlt,
                                 .kernel_blob_size = sizeof(hlt),
                                 .format = FMT_FLAT,
                                 .flat_addr = 0x100000,
                                 .flat_bits = 64,
                                 .seed = 1};
    char err[256];
    pn_mmu_options_default(&cfg.mmu);
    if (m)
        return m;
    if (machine_create(&cfg, &m, err, sizeof(err)))
        abort();
    atexit(clean_up);
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct monitor_config cfg = {.machine = machine_of_all_inputs(),
                                       .no_files = true};
    struct monitor_session s = {.mon = monitor_create(&cfg)};
    if (!s.mon)
        return 0;
    uint64_t before = machine_ram_digest(cfg.machine);
    monitor_session_feed(&s, (const char *)data, size);
    monitor_session_feed(&s, "\n", 1);
    if (machine_ram_digest(cfg.machine) != before || s.client.cpu > 1)
        abort();
    monitor_destroy(s.mon);
    return 0;
}
