/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the reader of snapshots. Byte 0 chooses what the rest is:
 *   0  manifest.json, beside good files
 *   1  bytes of one section of a good snapshot, as if its digest were right: the machine is
 *      refused with a line, or made, and then its guest runs for a while
 *   3  a working set of a guest of 64 pages, behind what such a file begins with
 *   2  and above 3: the index of memory.bin: it is refused with a line, or every page is read
 * A machine takes a thousand times as long as an index: few inputs make one.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include <zstd.h>

#include "input.h"
#include "machine/snapshot_fill.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM   (2u << 20)
#define INSNS 5000u

/* The guest: sti; hlt; jmp. */
static const uint8_t guest[] = {0xfb, 0xf4, 0xeb, 0xfc};
static char folder[64];

static void require(bool ok) {
    if (!ok)
        abort();
}

static struct machine_config config(void) {
    struct machine_config cfg = {.engine = pn_engine_find("shadow"),
                                 .ram = RAM,
                                 .cpus = 2,
                                 .cpu_model = "x86-64-v2",
                                 .kernel_blob = guest,
                                 .kernel_blob_size = sizeof(guest),
                                 .format = FMT_FLAT,
                                 .flat_addr = 0x100000,
                                 .flat_bits = 64,
                                 .pv = PN_PV_ALL,
                                 .hpet = true,
                                 .window = true,
                                 .hugepages = "off"};
    pn_mmu_options_default(&cfg.mmu);
    return cfg;
}

static void remove_folder(void) {
    static const char *const files[] = {"manifest.json", "state.bin", "memory.bin", ""};
    char path[96];
    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
        remove(path);
    }
}

/* A good snapshot, made once. */
static const struct snapshot *good(void) {
    static struct snapshot *s;
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct machine *m;
    if (s)
        return s;
    const struct machine_config cfg = config();
    snprintf(folder, sizeof(folder), "/tmp/pn-fuzz-snapshot-%d", (int)getpid());
    require(!machine_create(&cfg, &m, text, sizeof(text)));
    const struct snapshot_request save = {.dir = folder};
    require(!machine_snapshot_save(m, &save, &e));
    require(!snapshot_open(folder, &s, &e));
    machine_destroy(m);
    atexit(remove_folder);
    return s;
}

static void try_manifest(const uint8_t *data, size_t size) {
    struct snapshot *s;
    char path[96], text[256] = "";
    struct err e = {text, sizeof(text)};
    snprintf(path, sizeof(path), "%s/manifest.json", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    int rc = snapshot_open(folder, &s, &e);
    require(rc ? text[0] && !s : s != NULL);
    snapshot_close(s);
}

static void try_section(struct input *in) {
    struct snapshot s = *good();
    struct machine_config cfg = config();
    struct machine_result result;
    struct machine *m;
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct snap_section *n = &s.section[take(in, 1) % s.sections];
    size_t size = n->size;
    uint8_t *bytes = malloc(size + 1);
    require(bytes);
    memcpy(bytes, n->data, size);
    if (take(in, 1) < 32)
        size = take(in, 2) % (size + 1);
    while (in->size && size) {
        size_t at = take(in, 2) % size;
        bytes[at] = (uint8_t)take(in, 1);
    }
    n->data = bytes;
    n->size = size;
    require(!snapshot_config(&s, &cfg, &e));
    cfg.max_insns = INSNS;
    cfg.timeout_ns = 1000000000;
    int rc = machine_create(&cfg, &m, text, sizeof(text));
    require(!rc || text[0]);
    if (rc == 0) {
        machine_run(m, &result, text, sizeof(text));
        machine_destroy(m);
    }
    free(bytes);
}

static int look(void *opaque, uint64_t page, const uint8_t *data) {
    const struct snap_memory *m = opaque;
    require(page < m->pages && snap_first(m, page) == page);
    require(XXH3_64bits(data, PN_PAGE_SIZE) == m->hash[m->page[page] - 1]);
    return 0;
}

/* A parent whose pages are all zeros. */
static int stand_on_zeros(struct snap_memory *m, struct snap_memory *below,
                          struct err *e) {
    below->regions = m->regions;
    below->pages = m->pages;
    memcpy(below->region, m->region, sizeof(m->region));
    below->page = calloc(m->pages, sizeof(*below->page));
    require(below->page);
    return snap_memory_stand_on(m, below, e);
}

static void try_index(const uint8_t *data, size_t size) {
    const struct snap_memory *g = &good()->memory;
    const json_t *was = json_object_get(snapshot_manifest(good()), "memory");
    uint64_t chunks = (uint64_t)json_integer_value(json_object_get(was, "chunk_bytes"));
    uint64_t pages = size / 4 % 64;
    bool raw = size / 4 % 5 == 0 && pages * PN_PAGE_SIZE >= chunks;
    size_t room = ZSTD_compressBound(size);
    uint8_t *packed = malloc(room), *copy = malloc(chunks + 1);
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct snap_memory m, below = {.fd = -1};
    require(packed && copy && pread(g->fd, copy, chunks, 0) == (ssize_t)chunks);
    size_t n = ZSTD_compress(packed, room, data, size, 1);
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    require(fd >= 0 && write(fd, copy, chunks) == (ssize_t)chunks &&
            (!raw || lseek(fd, (off_t)(pages * PN_PAGE_SIZE), SEEK_SET) > 0) &&
            write(fd, packed, n) == (ssize_t)n);
    json_t *j = json_deep_copy(was);
    json_object_set_new(j, "raw", json_boolean(raw));
    if (raw)
        json_object_set_new(j, "chunk_bytes",
                            json_integer((json_int_t)(pages * PN_PAGE_SIZE)));
    json_object_set_new(j, "index_bytes", json_integer((json_int_t)n));
    json_object_set_new(j, "index_xxh3",
                        json_sprintf("%016" PRIx64, XXH3_64bits(packed, n)));
    /* A guest of few pages, so that the bytes can be its whole index. */
    json_t *region = json_array_get(json_object_get(j, "regions"), 0);
    json_object_set_new(region, "pages", json_integer((json_int_t)pages));
    json_object_set_new(j, "pages", json_integer((json_int_t)pages));
    json_object_set_new(j, "stored", json_integer(size % 4));
    json_object_set_new(j, "inherited", json_integer(raw ? 0 : size / 4 % 3));
    int rc = snap_memory_open(&m, j, fd, &e);
    if (rc == 0)
        rc = snap_memory_index(&m, &e);
    if (rc == 0)
        rc = stand_on_zeros(&m, &below, &e);
    if (rc == 0)
        rc = snap_memory_read(&m, look, &m, NULL, NULL, &e);
    require(!rc || text[0]);
    free(below.page);
    snap_memory_close(&m);
    json_decref(j);
    free(packed);
    free(copy);
}

static void try_set(const uint8_t *data, size_t size) {
    static const char begins[16] = "PNWSET1\n\1"; /* of snapshot 1 */
    char path[64], text[256] = "";
    struct err e = {text, sizeof(text)};
    struct snap_set set;
    int fd = memfd_create("set", MFD_CLOEXEC);
    require(fd >= 0 && write(fd, begins, sizeof(begins)) == sizeof(begins) &&
            write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int rc = snap_set_open(&set, path, 1, 64, &e);
    require(!rc == !text[0]);
    for (uint64_t i = 0; !rc && i < set.pages; i++)
        require(set.page[i] < 64);
    snap_set_close(&set);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    unsigned what = (unsigned)take(&in, 1) % 8;
    good();
    if (what == 0)
        try_manifest(in.data, in.size);
    else if (what == 1)
        try_section(&in);
    else if (what == 3)
        try_set(in.data, in.size);
    else
        try_index(in.data, in.size);
    return 0;
}
