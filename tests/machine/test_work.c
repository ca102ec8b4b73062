/* SPDX-License-Identifier: MIT */
/* Jobs beside the machine: which run beside each other, and which in order. */
#include "fake_engine.h"
#include "machine/work.h"
#include "tests/suite.h"

#include <semaphore.h>
#include <string.h>

#define JOBS 40u

struct task {
    struct dev_job job;
    struct task *before; /* it has run before this one begins */
    sem_t *wait, *post;
    atomic_bool ran;
    unsigned done;
};

static const uint8_t blob[4096] = {0xf4};
static struct fake fake;
static struct fake *handle = &fake;
static struct machine *m;
static struct task task[JOBS];
static sem_t one, other;
static unsigned done_count;

static void run(struct dev_job *job) {
    struct task *t = (struct task *)job;
    ck_assert(!t->before || atomic_load(&t->before->ran));
    if (t->post)
        sem_post(t->post);
    if (t->wait)
        sem_wait(t->wait);
    atomic_store(&t->ran, true);
}

static void done(struct dev_job *job) {
    struct task *t = (struct task *)job;
    ck_assert(atomic_load(&t->ran));
    t->done = ++done_count;
}

static void setup(void) {
    static char text[256];
    struct machine_config c = {.engine = &fake_engine,
                               .ram = 4 << 20,
                               .cpus = 1,
                               .cpu_model = (const char *)&handle,
                               .kernel_blob = blob,
                               .kernel_blob_size = sizeof(blob),
                               .format = FMT_FLAT,
                               .flat_addr = 0x100000,
                               .flat_bits = 64};
    pn_mmu_options_default(&c.mmu);
    ck_assert_msg(machine_create(&c, &m, text, sizeof(text)) == 0, "%s", text);
    for (unsigned i = 0; i < JOBS; i++)
        task[i] = (struct task){.job = {.run = run, .done = done}};
    sem_init(&one, 0, 0);
    sem_init(&other, 0, 0);
    done_count = 0;
}

static void teardown(void) {
    machine_destroy(m);
    sem_destroy(&one);
    sem_destroy(&other);
}

/* Each waits for what the other does. */
START_TEST(jobs_in_any_order_run_beside_each_other) {
    task[0] = (struct task){.job = task[0].job, .post = &one, .wait = &other};
    task[1] = (struct task){.job = task[0].job, .post = &other, .wait = &one};
    for (unsigned i = 0; i < 2; i++) {
        task[i].job.any_order = true;
        work_offload(m, &task[i].job);
    }
    work_drain(m);
    ck_assert_uint_eq(task[0].done + task[1].done, 3);
}
END_TEST

/* The first waits for one in any order that is given after all of them. */
START_TEST(other_jobs_run_one_after_another_and_hold_up_none_in_any_order) {
    struct task *free_one = &task[JOBS - 1];
    task[0].wait = &one;
    free_one->post = &one;
    free_one->job.any_order = true;
    for (unsigned i = 0; i < JOBS; i++) {
        task[i].before = i && i < JOBS - 1 ? &task[i - 1] : NULL;
        work_offload(m, &task[i].job);
    }
    work_drain(m);
    for (unsigned i = 1; i < JOBS - 1; i++)
        ck_assert_uint_gt(task[i].done, task[i - 1].done);
    ck_assert_uint_eq(done_count, JOBS);
}
END_TEST

START_TEST(nothing_is_on_its_way_after_a_drain) {
    for (unsigned i = 0; i < JOBS; i++) {
        task[i].job.any_order = i % 3;
        work_offload(m, &task[i].job);
    }
    work_drain(m);
    ck_assert(!work_is_out(m));
    for (unsigned i = 0; i < JOBS; i++)
        ck_assert_uint_ne(task[i].done, 0);
}
END_TEST

SUITE("machine.work", .setup = setup, .teardown = teardown,
      .tests = {jobs_in_any_order_run_beside_each_other,
                other_jobs_run_one_after_another_and_hold_up_none_in_any_order,
                nothing_is_on_its_way_after_a_drain})
