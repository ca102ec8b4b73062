/* SPDX-License-Identifier: MIT */
/* The console on a real terminal: raw while the guest runs, restored on every way out;
 * the escape keys. argv[1]: penumbra; argv[2]: --mmu (default shadow). */
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "tests/suite.h"

/* Writes an A to COM1, then whatever it reads from there. */
static const unsigned char echo_guest[] = {
    0x66, 0xba, 0xf8, 0x03, /* mov dx, 0x3f8 */
    0xb0, 0x41,             /* mov al, 'A' */
    0xee,                   /* out dx, al */
    0x66, 0xba, 0xfd, 0x03, /* again: mov dx, 0x3fd */
    0xec,                   /* in al, dx */
    0xa8, 0x01,             /* test al, 1 */
    0x74, 0xf7,             /* jz again */
    0x66, 0xba, 0xf8, 0x03, /* mov dx, 0x3f8 */
    0xec,                   /* in al, dx */
    0xee,                   /* out dx, al */
    0xeb, 0xef,             /* jmp again */
};

static const char *penumbra, *mmu = "shadow";
static char image[64];
static int master, slave;
static pid_t child;
static struct termios before;

static void expect(const char *text);

/* penumbra on a terminal, where it runs echo_guest. */
static void setup(void) {
    strcpy(image, "/tmp/pn-echo-XXXXXX");
    int fd = mkstemp(image);
    ck_assert_int_eq(write(fd, echo_guest, sizeof(echo_guest)), sizeof(echo_guest));
    close(fd);
    ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
    ck_assert_int_eq(tcgetattr(slave, &before), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (!child) {
        close(master);
        login_tty(slave);
        execl(penumbra, penumbra, "run", "--mmu", mmu, "--kernel", image, "--format",
              "flat", "--timeout", "60", (char *)NULL);
        _exit(127);
    }
    expect("A");
}

static void teardown(void) {
    close(master);
    close(slave);
    unlink(image);
}

static bool raw(void) {
    struct termios t;
    ck_assert_int_eq(tcgetattr(slave, &t), 0);
    return !(t.c_lflag & (ICANON | ECHO | ISIG));
}

static void wait_for_raw(void) {
    for (int i = 0; i < 1000 && !raw(); i++)
        usleep(10000);
    ck_assert_msg(raw(), "the terminal never went raw");
}

/* The terminal's modes are the ones of before. */
static void check_restored(void) {
    struct termios t;
    ck_assert_int_eq(tcgetattr(slave, &t), 0);
    ck_assert_uint_eq(t.c_lflag, before.c_lflag);
    ck_assert_uint_eq(t.c_iflag, before.c_iflag);
    ck_assert_uint_eq(t.c_oflag, before.c_oflag);
}

static int wait_child(void) {
    int status = 0;
    for (int i = 0; i < 500; i++) {
        if (waitpid(child, &status, WNOHANG) == child)
            return status;
        usleep(10000);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    ck_abort_msg("penumbra did not end");
    return status;
}

static void keys(const char *text, size_t n) {
    ck_assert_int_eq(write(master, text, n), (ssize_t)n);
}

/* Wait until the terminal shows `text`. */
static void expect(const char *text) {
    char buf[1024];
    size_t got = 0;
    struct pollfd fd = {.fd = master, .events = POLLIN};
    do {
        ck_assert_msg(poll(&fd, 1, 30000) == 1, "the terminal never showed %s", text);
        ssize_t n = read(master, buf + got, sizeof(buf) - 1 - got);
        ck_assert_int_gt(n, 0);
        got += (size_t)n;
        buf[got] = 0;
    } while (!strstr(buf, text));
}

/* Ctrl-A x: exit code 0, a line's end before the shell's prompt, the terminal as it was. */
static void quits(void) {
    keys("\001x", 2);
    int status = wait_child();
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    expect("\r\n");
    check_restored();
}

START_TEST(ctrl_a_x_quits_and_ctrl_a_twice_sends_one) {
    ck_assert(raw());
    keys("a\001\001b", 4);
    expect("a\001b");
    quits();
}
END_TEST

START_TEST(ctrl_a_h_helps) {
    keys("\001h", 2);
    expect("Ctrl-A x");
    keys("\001x", 2);
    wait_child();
    check_restored();
}
END_TEST

START_TEST(ctrl_a_c_is_the_monitor_and_back) {
    keys("\001cinfo stax\b\t\r", 14);
    expect("VM status: running");
    keys("stop\rinfo status\r", 17);
    expect("VM status: paused");
    keys("cont\r\001ca", 8);
    expect("\r\na");
    quits();
}
END_TEST

START_TEST(ctrl_c_belongs_to_the_guest) {
    keys("\003z", 2);
    expect("\003z");
    ck_assert_int_eq(waitpid(child, NULL, WNOHANG), 0);
    keys("\001x", 2);
    wait_child();
}
END_TEST

static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGABRT};

START_TEST(a_signal_ends_the_run_and_restores_the_terminal) {
    ck_assert_int_eq(kill(child, signals[_i]), 0);
    int status = wait_child();
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), signals[_i]);
    check_restored();
}
END_TEST

START_TEST(a_stopped_run_gives_the_shell_its_terminal_back) {
    int status;
    ck_assert_int_eq(kill(child, SIGTSTP), 0);
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(WIFSTOPPED(status));
    check_restored();
    ck_assert_int_eq(kill(child, SIGCONT), 0);
    wait_for_raw();
    keys("\001x", 2);
    wait_child();
    check_restored();
}
END_TEST

/* A shell: runs penumbra in the background, then puts it into the foreground when told by
 * SIGUSR1; as a shell does for a job that never stopped, without SIGCONT. */
static void shell(int tty) {
    sigset_t told;
    int sig, status;
    sigemptyset(&told);
    sigaddset(&told, SIGUSR1);
    sigprocmask(SIG_BLOCK, &told, NULL);
    login_tty(tty);
    pid_t job = fork();
    if (!job) {
        sigprocmask(SIG_UNBLOCK, &told, NULL);
        setpgid(0, 0);
        execl(penumbra, penumbra, "run", "--mmu", mmu, "--kernel", image, "--format",
              "flat", "--timeout", "60", (char *)NULL);
        _exit(127);
    }
    setpgid(job, job);
    sigwait(&told, &sig);
    tcsetpgrp(STDIN_FILENO, job);
    waitpid(job, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

START_TEST(in_the_background_the_terminal_is_the_shells) {
    keys("\001x", 2); /* the one of setup() */
    wait_child();
    close(master);
    close(slave);
    ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
    ck_assert_int_eq(tcgetattr(slave, &before), 0);
    child = fork();
    if (!child) {
        close(master);
        shell(slave);
    }
    expect("A");
    check_restored();
    keys("k\n", 2); /* the terminal echoes it; the guest would, too */
    expect("k\r\n");
    struct pollfd fd = {.fd = master, .events = POLLIN};
    ck_assert_int_eq(poll(&fd, 1, 500), 0);
    int waiting = 0;
    ck_assert_int_eq(ioctl(slave, FIONREAD, &waiting), 0);
    ck_assert_int_eq(waiting, 2);
    check_restored();

    ck_assert_int_eq(kill(child, SIGUSR1), 0);
    wait_for_raw();
    keys("b", 1);
    expect("b");
    quits();
}
END_TEST

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    penumbra = argv[1];
    if (argc > 2)
        mmu = argv[2];
    if (!strcmp(mmu, "kvm") && access("/dev/kvm", R_OK | W_OK)) {
        puts("SKIPPED: /dev/kvm is not usable here");
        return 77;
    }
    const struct suite s = {.name = "console",
                            .setup = setup,
                            .teardown = teardown,
                            .timeout = 60,
                            .tests = {ctrl_a_x_quits_and_ctrl_a_twice_sends_one,
                                      ctrl_a_h_helps, ctrl_a_c_is_the_monitor_and_back,
                                      ctrl_c_belongs_to_the_guest,
                                      a_stopped_run_gives_the_shell_its_terminal_back,
                                      in_the_background_the_terminal_is_the_shells},
                            .loops = {{a_signal_ends_the_run_and_restores_the_terminal,
                                       (int)(sizeof(signals) / sizeof(signals[0]))}}};
    return suite_run(&s);
}
