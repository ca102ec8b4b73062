/* SPDX-License-Identifier: MIT */
/*
 * A hostile guest may not end, hang or escape the VMM: random ring-0 guests of every kind
 * run for a bounded number of instructions; whatever they do, machine_run returns with
 * one of the documented ends, guest memory outside the slots is as it was (guard pages of
 * hostmem, and the sanitizers), and a second run of the same guest ends the same way.
 *
 * HOSTILE_CASES (default 24 for each kind) and HOSTILE_SEED widen the search.
 */
#include <stdlib.h>
#include <string.h>

#include "gen.h"
#include "machine/machine.h"
#include "tests/suite.h"

#define CASE_INSNS 200000u

static uint64_t env_number(const char *name, uint64_t dflt) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : dflt;
}

static void drop_output(void *opaque, const uint8_t *buf, size_t size) {
    (void)opaque, (void)buf, (void)size;
}

struct outcome {
    struct machine_result result;
    uint64_t digest;
};

/* Small enough that everything in it comes and goes. */
static const struct pn_tlb_model small_tlb = {
    .name = "small",
    .l1i.array[0] = {.entries = 4, .ways = 2, .pages = PN_PAGES_4K},
    .l1d.array[0] = {.entries = 4, .ways = 2, .pages = PN_PAGES_4K | PN_PAGES_2M},
    .l2.array[0] = {.entries = 16, .ways = 4, .pages = PN_PAGES_4K | PN_PAGES_2M},
    .walk = {[2] = {.entries = 4, .ways = 4}, [3] = {.entries = 2, .ways = 2}},
    .second_walk = {[2] = {.entries = 4, .ways = 4}},
    .nested = {.entries = 4, .ways = 4},
    .pcid = true,
    .vpid = true,
};

static struct outcome run_guest(const char *mmu, const uint8_t *img, unsigned bits,
                                uint32_t max_block, const struct pn_tlb_model *tlb) {
    struct machine_config cfg = {
        .engine = pn_engine_find(mmu),
        .ram = 4u << 20,
        .cpus = 1,
        .cpu_model = "max",
        .kernel_blob = img,
        .kernel_blob_size = IMG_SIZE,
        .format = FMT_FLAT,
        .flat_addr = IMG_BASE,
        .flat_bits = bits,
        .seed = 1,
        .max_block = max_block,
        .tlb = tlb,
        .max_insns = CASE_INSNS,
        .timeout_ns = 60ull * 1000000000u,
        .serial_out = drop_output,
    };
    pn_mmu_options_default(&cfg.mmu);
    cfg.mmu.page_budget = 256;
    char err[256] = "";
    struct machine *m = NULL;
    struct outcome o;
    memset(&o, 0, sizeof(o));
    ck_assert_msg(machine_create(&cfg, &m, err, sizeof(err)) == 0, "%s", err);
    ck_assert_msg(machine_run(m, &o.result, err, sizeof(err)) == 0, "%s", err);
    o.digest = machine_ram_digest(m);
    machine_destroy(m);
    return o;
}

static uint64_t run_kind(enum gen_kind kind) {
    uint64_t cases = env_number("HOSTILE_CASES", 24),
             seed = env_number("HOSTILE_SEED", 1);
    uint8_t *img = malloc(IMG_SIZE);
    ck_assert_ptr_nonnull(img);
    uint64_t insns = 0;
    for (uint64_t i = 0; i < cases; i++) {
        gen_guest(img, kind, seed + i);
        struct outcome a = run_guest("shadow", img, gen_bits(kind), 0, NULL);
        ck_assert_msg(a.result.end != END_TIMEOUT && a.result.end != END_ERROR,
                      "kind %d seed %llu: end %d", (int)kind,
                      (unsigned long long)(seed + i), (int)a.result.end);
        ck_assert_uint_le(a.result.guest_insns, CASE_INSNS);
        insns += a.result.guest_insns;
        if (i % 4 == 1) { /* such guests break the TLB's rules: the ends may differ */
            struct outcome t =
                run_guest("tdp", img, gen_bits(kind), 0, i % 8 == 1 ? &small_tlb : NULL);
            ck_assert_msg(t.result.end != END_TIMEOUT && t.result.end != END_ERROR,
                          "kind %d seed %llu: tdp: end %d", (int)kind,
                          (unsigned long long)(seed + i), (int)t.result.end);
        }
        if (i % 4 == 2) { /* what a TLB model is shown changes nothing */
            struct outcome b = run_guest("shadow", img, gen_bits(kind), 0, &small_tlb);
            ck_assert_msg(
                a.result.end == b.result.end && a.digest == b.digest &&
                    a.result.guest_insns == b.result.guest_insns,
                "kind %d seed %llu: another guest with a TLB model: end %d, %d; "
                "insns %llu, %llu",
                (int)kind, (unsigned long long)(seed + i), (int)a.result.end,
                (int)b.result.end, (unsigned long long)a.result.guest_insns,
                (unsigned long long)b.result.guest_insns);
        }
        if (i % 4 == 0) { /* the same guest again, instruction by instruction */
            struct outcome b = run_guest("shadow", img, gen_bits(kind), 1, NULL);
            ck_assert_msg(a.result.end == b.result.end && a.digest == b.digest &&
                              a.result.guest_insns == b.result.guest_insns,
                          "kind %d seed %llu: blocks and steps differ: end %d, %d; insns "
                          "%llu, %llu",
                          (int)kind, (unsigned long long)(seed + i), (int)a.result.end,
                          (int)b.result.end, (unsigned long long)a.result.guest_insns,
                          (unsigned long long)b.result.guest_insns);
        }
    }
    free(img);
    return insns;
}

START_TEST(a_hostile_guest_runs_and_hurts_nobody) {
    uint64_t insns = run_kind((enum gen_kind)_i);
    printf("hostile kind %d: %llu instructions\n", _i, (unsigned long long)insns);
    /* It did run: a guest that dies at once shows nothing. */
    ck_assert_uint_gt(insns, 100000);
}
END_TEST

SUITE("hostile", .timeout = 1200,
      .loops = {{a_hostile_guest_runs_and_hurts_nobody, GEN_KINDS}})
