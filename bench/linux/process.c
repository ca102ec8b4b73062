/* SPDX-License-Identifier: MIT */
/* Processes: their creation, and what they say to each other. */
#define _GNU_SOURCE /* F_SETPIPE_SZ */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "linux.h"

static pid_t fork_or_die(void) {
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    return pid;
}

/* Return: the exit code. */
static int wait_for(pid_t pid) {
    int status;
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

uint64_t linux_fork(struct job *job) {
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++) {
        pid_t pid = fork_or_die();
        if (!pid)
            _exit((int)(i % 128));
        job->sum += (uint64_t)wait_for(pid);
    }
    return measure_end(t);
}

/* The child has no stdout, so the small program's write fails: exit code 1. */
static uint64_t run_hello(struct job *job, char *const args[]) {
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++) {
        pid_t pid = fork_or_die();
        if (!pid) {
            close(1);
            execv(args[0], args);
            _exit(127);
        }
        int code = wait_for(pid);
        if (code != 1) {
            errno = ENOEXEC;
            die(args[0]);
        }
        job->sum += (uint64_t)code;
    }
    return measure_end(t);
}

uint64_t linux_exec(struct job *job) {
    char *const args[] = {(char *)job->self, (char *)"hello", NULL};
    return run_hello(job, args);
}

uint64_t linux_sh(struct job *job) {
    char line[4200];
    snprintf(line, sizeof(line), "%s hello", job->self);
    char *const args[] = {(char *)"/bin/sh", (char *)"-c", line, NULL};
    if (access(args[0], X_OK))
        die(args[0]);
    return run_hello(job, args);
}

/* ---- Pipes ---- */

static void make_pipe(int fd[2]) {
    if (pipe(fd))
        die("pipe");
}

static void put(int fd, const void *buf, size_t size) {
    if (write(fd, buf, size) != (ssize_t)size)
        die("write to a pipe");
}

static void get_all(int fd, void *buf, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, (char *)buf + done, size - done);
        if (n <= 0)
            die("read from a pipe");
        done += (size_t)n;
    }
}

/* A token goes to the child and back, which is two switches per round. lmbench subtracts
 * what the pipes cost within one process. */
static uint64_t pipe_cost(uint64_t n) {
    int fd[2];
    uint8_t token = 0;
    make_pipe(fd);
    uint64_t t = now_ns();
    for (uint64_t i = 0; i < n; i++) {
        put(fd[1], &token, 1);
        get_all(fd[0], &token, 1);
    }
    t = now_ns() - t;
    close(fd[0]);
    close(fd[1]);
    return t;
}

uint64_t linux_ctx(struct job *job) {
    int there[2], back[2];
    uint8_t token = 0;
    uint64_t rounds = (job->n + 1) / 2, cost = pipe_cost(rounds * 2);
    make_pipe(there);
    make_pipe(back);
    pid_t pid = fork_or_die();
    if (!pid) {
        close(there[1]);
        while (read(there[0], &token, 1) == 1) {
            token = (uint8_t)(token * 5 + 1);
            put(back[1], &token, 1);
        }
        _exit(0);
    }
    close(there[0]);
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < rounds; i++) {
        put(there[1], &token, 1);
        get_all(back[0], &token, 1);
    }
    t = measure_end(t);
    close(there[1]);
    job->sum = token + (uint64_t)wait_for(pid);
    close(back[0]);
    close(back[1]);
    return t > cost ? t - cost : 0;
}

#define MESSAGE 4096

uint64_t linux_pipe(struct job *job) {
    int data[2], result[2];
    uint64_t message[MESSAGE / 8], sum = 0;
    make_pipe(data);
    make_pipe(result);
    (void)fcntl(data[1], F_SETPIPE_SZ,
                (int)job->bytes); /* at most what the kernel allows */
    pid_t pid = fork_or_die();
    if (!pid) {
        close(data[1]);
        for (uint64_t i = 0; i < job->n; i++) {
            get_all(data[0], message, MESSAGE);
            for (unsigned j = 0; j < MESSAGE / 8; j++)
                sum += message[j] * (j + 1);
        }
        put(result[1], &sum, sizeof(sum));
        _exit(0);
    }
    close(data[0]);
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++) {
        for (unsigned j = 0; j < MESSAGE / 8; j++)
            message[j] = i ^ j;
        put(data[1], message, MESSAGE);
    }
    get_all(result[0], &job->sum, sizeof(job->sum));
    t = measure_end(t);
    wait_for(pid);
    close(data[1]);
    close(result[0]);
    close(result[1]);
    return t;
}

uint64_t linux_syscall(struct job *job) {
    long parent = syscall(SYS_getppid);
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++)
        job->sum += syscall(SYS_getppid) != parent;
    return measure_end(t);
}
