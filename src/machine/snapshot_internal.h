/* SPDX-License-Identifier: MIT */
/* What the files of the snapshots share. */
#pragma once

#include "machine/devices.h"
#include "machine/snapshot.h"
#include "machine/state.h"

#define SNAPSHOT_SCHEMA   "penumbra-snapshot-2"
#define SNAPSHOT_MANIFEST "manifest.json"
#define SNAPSHOT_STATE    "state.bin"
#define SNAPSHOT_MEMORY   "memory.bin"
#define SNAPSHOT_DISK                                                                    \
    "disk%u.raw" /* --disks: what is on disk N, where the guest writes to it */

#define SNAP_DISK_NAME 20u
static inline void snap_disk_name(char name[SNAP_DISK_NAME], unsigned disk) {
    snprintf(name, SNAP_DISK_NAME, SNAPSHOT_DISK, disk);
}

/* ---- Bytes of a section that name their fields (snapshot_field.c) ---- */

/* A field of a struct. flag: a bool. */
struct snap_field {
    const char *name;
    size_t offset, size;
    bool flag;
};
#define SNAP_FIELDS_MAX 512u
#define SNAP_FIELD(type, label, member)                                                  \
    {                                                                                    \
        label, offsetof(type, member), sizeof(((type *)0)->member),                      \
            __builtin_types_compatible_p(__typeof__(((type *)0)->member), bool)          \
    }

struct snap_bytes {
    uint8_t *data; /* malloced */
    size_t size, room;
    bool failed; /* out of memory: nothing more is added */
};
void snap_put(struct snap_bytes *b, const void *data, size_t size);
/* One field: its name, its size, its bytes. */
void snap_put_field(struct snap_bytes *b, const struct snap_field *f, const void *from);
/* Put fields of that section into `to`, those alone that the table has. seen: a bit for each
 * that was there. Return: 0, or -EINVAL with a line in e that names section and field. */
int snap_get_fields(const char *section, const uint8_t *data, size_t size,
                    const struct snap_field *f, unsigned count, void *to,
                    uint64_t seen[SNAP_FIELDS_MAX / 64], struct err *e);
static inline bool snap_seen(const uint64_t *seen, unsigned i) {
    return seen[i / 64] >> i % 64 & 1;
}

struct snap_writer;

/* Let time reach every vCPU and timer. Return: 0, or -errno with a line in e: the machine can
 * not be saved as it is (snapshot_state.c). */
int snap_can_be_saved(struct machine *m, struct err *e);
/* MSRs that come with a device: a bit for each enum pn_msr_id. */
uint64_t snap_msrs_of_devices(void);

/* ---- Engines that have the interrupt controllers (snapshot_still.c) ---- */

/* A machine that stands, as the guest of m does, with controllers of our own: all that a
 * snapshot has of m is in it, or is to be. */
struct snap_still;
/* Of a machine that stands. Return: 0, or -errno with a line in e. */
int snap_still_of(struct machine *m, struct snap_still **out, struct err *e);
/* One whose devices are those of power-on; put: the states that are in it, and these of the
 * vCPUs, into m. Return: as snap_still_of. */
int snap_still_for(struct machine *m, struct snap_still **out, struct err *e);
int snap_still_put(struct snap_still *s, const struct pn_cpu_state *cpu,
                   const struct machine_cpu *run, struct err *e);
struct machine *snap_still_machine(struct snap_still *s);
void snap_still_free(struct snap_still *s); /* NULL: nothing */
/* An engine that answers CPUID as the snapshot's guest has seen it, and nothing else.
 * Return: to be freed; NULL: out of memory. */
struct machine_past *snap_cpuid_from(const struct snapshot *s);
/* A leaf that the guest has seen (snapshot_cpuid.c); zeros: it is not in the snapshot. */
void snap_cpuid(const struct snapshot *s, uint32_t leaf, uint32_t subleaf,
                uint32_t out[4]);
int snap_save_cpuid(struct machine *m, struct snap_writer *w, struct err *e);
/* Does the guest see what it has seen? Return: 0, or -EINVAL with a line in e. */
int snap_check_cpuid(struct machine *m, struct err *e);
/* Was the guest's CPUID that of a host's processor? */
bool snap_cpuid_of_host(const struct snapshot *s);

/* ---- Pages (snapshot_memory.c) ---- */

#define SNAP_REGIONS_MAX 2u
#define SNAP_CHUNK_PAGES 64u
#define SNAP_CHUNK_BYTES ((size_t)SNAP_CHUNK_PAGES * PN_PAGE_SIZE)

#define SNAP_CHAIN_MAX 64u        /* a snapshot and what it stands on */
#define SNAP_NOWHERE   UINT32_MAX /* of `first` */

struct snap_region {
    char name[16];
    uint64_t pages;
    uint8_t *base; /* of a machine's memory; NULL in an open snapshot */
    const uint64_t
        *changed; /* a bit for each page: all others are as in the parent. NULL:
                                there is no parent, or it has not this region */
};

/* The memory of an open snapshot: all its regions' pages, one behind another. With a parent
 * it is of a chain: what is not in this file is in one of those below. */
struct snap_memory {
    int fd;   /* memory.bin, or -1 */
    bool raw; /* page p is at p * 4096 of it, as it is */
    unsigned regions;
    struct snap_region region[SNAP_REGIONS_MAX];
    uint64_t pages, stored; /* stored: the pages that are in the file, each once */
    uint64_t inherited;     /* pages that are as in the parent */
    uint64_t chunk_bytes, index_bytes, index_hash;
    const struct snap_memory *below; /* the parent's; NULL: none */
    /* The index; NULL: not read yet (snap_memory_index). */
    uint32_t *page;  /* of each page: 0: zeros; else 1 + the number of the stored one */
    uint8_t *level;  /* of each page: in whose file, 0 in this one; NULL: no parent */
    uint64_t *hash;  /* XXH3 of each stored page */
    uint32_t *first; /* the page of the chain's uppermost that each stored one is met at
                        first; SNAP_NOWHERE: that one does not need it */
    uint32_t *own;   /* the page of this one that each stored one is met at first */
    uint32_t *chunk_size; /* compressed bytes; raw: 0 */
};

/* Is a page of a guest all zeros? */
bool snap_is_zero(const uint8_t *page);
/* Write the regions' pages to fd, by so many threads at most (snapshot_write.c). raw: none has `changed`,
 * but over a clone: then fd has the pages of that raw memory, and gets those that changed. clone:
 * NULL: none. Return: what the manifest says of them, or NULL with a line in e. */
json_t *snap_memory_write(int fd, const struct snap_region *r, unsigned regions, bool raw,
                          const struct snap_memory *clone, unsigned threads,
                          struct err *e);
/* The CPUs that this process may use, but so many of them; at least one. */
unsigned snap_threads(unsigned kept);
/* Make fd, an empty file, share all of the other's blocks. Return: 0, or -errno: this file system
 * does not, or these are two. */
int snap_memory_clone(int fd, const struct snap_memory *of);
/* From the manifest and the size of memory.bin. Return: 0, or -errno with a line in e. */
int snap_memory_open(struct snap_memory *m, const json_t *manifest, int fd,
                     struct err *e);
/* Read the index, which all that follows needs; once. Return: 0, or -errno with a line in e. */
int snap_memory_index(struct snap_memory *m, struct err *e);
/* What m inherits is in that memory, which m's owner keeps open and nobody else uses.
 * Return: 0, or -errno with a line in e: not the same guest's memory. */
int snap_memory_stand_on(struct snap_memory *m, struct snap_memory *below, struct err *e);
void snap_memory_close(struct snap_memory *m);
static inline uint64_t snap_chunks(const struct snap_memory *m) {
    return (m->stored + SNAP_CHUNK_PAGES - 1) / SNAP_CHUNK_PAGES;
}
static inline unsigned snap_chunk_pages(const struct snap_memory *m, uint64_t chunk) {
    uint64_t left = m->stored - chunk * SNAP_CHUNK_PAGES;
    return left < SNAP_CHUNK_PAGES ? (unsigned)left : SNAP_CHUNK_PAGES;
}
/* The file of the chain that has the page. */
static inline const struct snap_memory *snap_memory_of(const struct snap_memory *m,
                                                       uint64_t page) {
    for (unsigned level = m->level ? m->level[page] : 0; level; level--)
        m = m->below;
    return m;
}
/* XXH3 of a page; 0: it is of zeros. */
static inline uint64_t snap_hash_of(const struct snap_memory *m, uint64_t page) {
    return m->page[page] ? snap_memory_of(m, page)->hash[m->page[page] - 1] : 0;
}
/* The first page with the content of this one, which is not zeros. */
static inline uint64_t snap_first(const struct snap_memory *m, uint64_t page) {
    return snap_memory_of(m, page)->first[m->page[page] - 1];
}
/* The stored pages of this one file in order, checked; with fn those alone that the
 * uppermost of the chain needs, each with the first page that it is. fn returns 0, or -errno
 * to end. damaged: NULL: the first damaged chunk ends it; else how many there are, a line to
 * out for each. Return: 0, or -errno with a line in e. */
typedef int (*snap_page_fn)(void *opaque, uint64_t page, const uint8_t *data);
int snap_memory_read(const struct snap_memory *m, snap_page_fn fn, void *opaque,
                     FILE *out, unsigned *damaged, struct err *e);

/* Who reads chunk by chunk. One thread's. */
struct snap_reader {
    void *zstd;
    uint8_t *packed, *plain; /* plain: the pages of the chunk that was read last */
};
int snap_reader_open(struct snap_reader *r); /* Return: 0 or -ENOMEM; close it anyway */
void snap_reader_close(struct snap_reader *r);
/* Stored pages from chunk * SNAP_CHUNK_PAGES on into r->plain, checked. at: where the chunk
 * begins in the file (raw: of no meaning). Return: 0; -EBADMSG: it is damaged; or -errno. */
int snap_memory_chunk(const struct snap_memory *m, struct snap_reader *r, uint64_t chunk,
                      uint64_t at);
/* The line of that. Return: rc. */
int snap_chunk_error(uint64_t chunk, int rc, struct err *e);

/* ---- Into a machine (snapshot_fill.c) ---- */

/* Before there is an engine: is memory possible as it is wanted, and whose is it? Return: 0, or
 * -errno with a line in e. */
int snap_fill_check(const struct machine_config *cfg, struct err *e);
/* Memory that has been received goes to a machine, once. Return: false: none has been. */
bool snap_give_memory(const struct snapshot *s, struct hostmem *ram,
                      struct hostmem *window);
/* The RAM of a machine that maps it lies there. Return: 0, or -errno with a line in e. */
int snap_map_ram(struct machine *m, struct err *e);
/* All pages, as machine_config.restore_memory says. Return: 0, or -errno with a line in e. */
int snap_fill(struct machine *m, struct err *e);
void snap_fill_end(struct machine *m); /* before the machine's memory goes */
/* A page of a machine, RAM's first, then the window's. */
static inline uint8_t *snap_page_at(const struct machine *m, uint64_t page) {
    uint64_t ram = m->cfg.ram / PN_PAGE_SIZE;
    return page < ram ? m->ram.base + page * PN_PAGE_SIZE
                      : m->window.base + (page - ram) * PN_PAGE_SIZE;
}

/* ---- The folder (snapshot_file.c) ---- */

struct snap_section {
    char name[32];
    uint32_t version;
    size_t size;
    uint64_t hash; /* XXH3 of its bytes */
    const uint8_t *data;
};
#define SNAP_SECTIONS_MAX 512u
#define SNAP_STATE_MAX    (64u << 20) /* bytes */

/* Memory that did not come in a file (migrate_in.c). */
struct snap_received {
    struct hostmem ram, window; /* window.base NULL: none */
    bool given;                 /* to a machine, which destroys them */
    uint64_t pages;             /* of both, one behind another */
    const uint64_t *there;      /* a bit for each page that may not be zeros */
};

struct snapshot {
    char *dir;
    struct snap_received *received; /* NULL: memory.bin has it */
    struct snapshot *parent;        /* NULL: it stands alone */
    json_t *manifest;
    uint8_t *state;
    unsigned sections;
    struct snap_section section[SNAP_SECTIONS_MAX];
    struct snap_memory memory;
};

/* A folder on its way: NAME.XXXXXX.part. */
struct snap_writer {
    char *dir, *temp;
    int fd; /* of the folder; -1: none */
    int state_fd, memory_fd;
    int clone_fd; /* somebody else's, that the writing needs; -1: none */
    bool replaces;
    json_t *sections;
};
/* Return: 0, or -errno with a line in e, and nothing is left behind. */
int snap_writer_open(struct snap_writer *w, const char *dir, bool force, struct err *e);
/* An empty file in it, open for writing. Return: its descriptor, or -errno. */
int snap_writer_file(const struct snap_writer *w, const char *name);
int snap_writer_section(struct snap_writer *w, const char *name, uint32_t version,
                        const void *data, size_t size, struct err *e);
/* Add sections and digest to the manifest, sync, and give the folder its name. */
int snap_writer_commit(struct snap_writer *w, json_t *manifest, struct err *e);
void snap_writer_abandon(struct snap_writer *w); /* harmless after commit */

/* The new folder is another process's from now on, which commits it or abandons it. Return: the
 * names, to be abandoned when that process has died, or forgotten. */
struct snap_writer snap_writer_hand_over(struct snap_writer *w);
void snap_writer_forget(struct snap_writer *w);

/* ---- Saves while the guest runs on (snapshot_live.c) ---- */

/* Return: 0, or -errno with a line in e: -EBUSY: there is one. */
int snap_live_can_begin(struct machine *m, struct err *e);
/* write: called in a copy of this process: 0 and the manifest's digest, or -errno with a line in
 * e. Then w and base belong to the save. leave: ends that process. Return: as write. */
typedef int (*snap_live_fn)(void *opaque, uint64_t *digest, struct err *e);
int snap_live_begin(struct machine *m, struct snap_writer *w, struct machine_base *base,
                    void (*leave)(void), snap_live_fn write, void *opaque, struct err *e);

/* ---- Chains (snapshot_chain.c) ---- */

/* One folder, without its parents; index: with that of its memory. Return: as snapshot_open. */
int snap_open_one(const char *dir, bool index, struct snapshot **out, struct err *e);
/* A folder's manifest alone. Return: 0, -EINVAL or -EBADMSG as snapshot_open, or another
 * -errno, with a line in e that begins with the folder. */
int snap_read_manifest(const char *dir, json_t **out, struct err *e);
/* Where the parent is that a manifest in that folder names. Return: malloced; NULL: it names
 * none. */
char *snap_parent_dir(const char *dir, const json_t *manifest);
/* What a manifest in the new folder dir says of its parent, which has that digest. Return:
 * NULL with a line in e: -EEXIST where dir is the parent, or one of the parent's. */
json_t *snap_parent_json(const char *dir, const char *parent, const json_t *manifest,
                         struct err *e);
/* Every page of the guest that is not zeros once, from all files of the chain (snap_first
 * tells of equal ones). Return: 0, or -errno with a line in e. */
int snap_read_pages(const struct snapshot *s, snap_page_fn fn, void *opaque,
                    struct err *e);

/* The sections that the manifest names are these bytes, which s has from now on. Return: 0,
 * -EBADMSG or -EINVAL with a line in e. */
int snap_take_sections(struct snapshot *s, uint8_t *state, size_t size, struct err *e);
/* Section `name` of a version that is known here. Return: NULL with a line in e. */
const struct snap_section *snap_section(const struct snapshot *s, const char *name,
                                        uint32_t version, struct err *e);
/* Return: NULL: there is none. */
const struct snap_section *snap_find(const struct snapshot *s, const char *name);
/* A number of a manifest, at most max. Return: whether it is there. */
bool snap_number(const json_t *object, const char *key, uint64_t max, uint64_t *out);
bool snap_hex(const json_t *object, const char *key, uint64_t *out);

/* ---- The machine (snapshot_state.c) ---- */

/* All but memory into sections. Return: the manifest, which names them, or NULL with a line in
 * e. */
json_t *snap_save_state(struct machine *m, struct snap_writer *w, struct err *e);
/* The manifest's "machine" alone. Return: NULL with a line in e. */
json_t *snap_config(const struct machine *m, struct err *e);
/* Everything but the pages. Return: 0, or -errno with a line in e. */
int snap_save_sections(struct machine *m, struct snap_writer *w, struct err *e);
json_t *snap_config_json(const struct machine_config *cfg);
/* Are all there? A text that is no UTF-8 is no JSON. Return: 0, or -EINVAL with a line. */
int snap_config_whole(const json_t *j, struct err *e);
/* Return: how many. */
unsigned snap_regions(const struct machine *m, struct snap_region r[SNAP_REGIONS_MAX]);
/* Before the engine is made: the time at which it begins, and the date at clock 0; *from: whose
 * CPUID it follows, to be freed, or NULL. */
int snapshot_begin(struct machine *m, uint64_t *now, struct machine_past **from,
                   struct err *e);
/* Memory, vCPUs and devices, in place of a guest's image. */
int snapshot_restore(struct machine *m, struct err *e);
/* A vCPU's section. Return: 0, or -EINVAL with a line. */
int snap_get_vcpu(const struct snapshot *s, unsigned cpu, struct pn_cpu_state *state,
                  struct machine_cpu *run, struct err *e);
/* snapshot_disks.c: each disk's digest as a section. Return: 0, or -errno with a line in e. */
int snap_disks_can_be_saved(struct machine *m, struct err *e);
int snap_disks_save(struct machine *m, struct snap_writer *w, struct err *e);
/* Each disk that is written into a file of the folder, synced. Return: 0, or -errno with a line in e. */
int snap_disks_copy(struct machine *m, const struct snap_writer *w, struct err *e);
/* The same from another snapshot's folder, where it has them. */
int snap_disks_take(const char *dir, const struct snap_writer *w, struct err *e);
int snap_disks_check(struct machine *m, struct err *e); /* are they what they were? */
/* The fields of section "machine". */
extern const struct snap_field snap_machine_fields[];
extern const unsigned snap_machine_field_count;
