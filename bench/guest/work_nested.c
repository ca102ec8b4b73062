/* SPDX-License-Identifier: MIT */
/* A guest of this guest's: ring 0 is its hypervisor (nested.c). */
#include "user.h"

/* "workload: note nested faults=N writes=N exits=N maps=N" */
static void report(void) {
    static const char *const names[] = {"faults", "writes", "exits", "maps"};
    text(WORKLOAD_PREFIX "note nested", 0);
    for (unsigned i = 0; i < 4; i++) {
        text(" ", 0);
        text(names[i], 0);
        text("=", 0);
        number(call(CALL_COUNT, COUNT_NESTED_FAULTS + i, 0), 0);
    }
    text("\r\n", 0);
}

uint64_t work_nested(uint64_t *sum) {
    uint64_t pages = ARG(nested, pages), stride = PAGE << 9 * ARG(nested, spread);
    if (pages > (1ul << 45) / stride)
        fail(WORKLOAD_EXIT_MEMORY,
             "so many pages, so far apart: no address has so many bits");
    switch (call4(CALL_NESTED, ARG(nested, way), pages, ARG(nested, rounds), stride)) {
    case NESTED_NO_SVM:
        fail(WORKLOAD_EXIT_HOST,
             "no SVM here: --mmu shadow or tdp, --cpu max,vendor=amd,+svm");
    case NESTED_NO_MEMORY:
        fail(WORKLOAD_EXIT_MEMORY, "more pages than the guest has");
    }
    begin();
    call(CALL_NESTED_RUN, 0, 0);
    end();
    report();
    *sum = call(CALL_COUNT, COUNT_NESTED_SUM, 0);
    expect(call(CALL_COUNT, COUNT_NESTED_FAULTS, 0) == pages, "one fault per page");
    return pages;
}
