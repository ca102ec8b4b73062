/* SPDX-License-Identifier: MIT */
/* The console on a real terminal: raw while the guest runs, restored on every way out;
 * the escape keys. argv[1]: penumbra; argv[2]: --mmu (default shadow). */
#include <check.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

static const char *penumbra, *mmu = "shadow";
static char spin[64];
static int master, slave;
static pid_t child;
static struct termios before;

/* A flat image that loops for ever, and penumbra on a terminal that runs it. */
static void setup(void) {
    strcpy(spin, "/tmp/pn-spin-XXXXXX");
    int fd = mkstemp(spin);
    ck_assert_int_eq(write(fd, "\xeb\xfe", 2), 2);
    close(fd);
    ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
    ck_assert_int_eq(tcgetattr(slave, &before), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (!child) {
        close(master);
        login_tty(slave);
        execl(penumbra, penumbra, "run", "--mmu", mmu, "--kernel", spin, "--format",
              "flat", "--timeout", "60", (char *)NULL);
        _exit(127);
    }
}

static void teardown(void) {
    close(master);
    close(slave);
    unlink(spin);
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
    usleep(200000);
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

START_TEST(test_quit_key) {
    wait_for_raw();
    keys("a\001\001b\001x", 6);
    int status = wait_child();
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    check_restored();
}
END_TEST

START_TEST(test_help_key) {
    char buf[512];
    size_t got = 0;
    wait_for_raw();
    keys("\001h", 2);
    struct pollfd fd = {.fd = master, .events = POLLIN};
    while (got < sizeof(buf) - 1 && poll(&fd, 1, 1500) > 0) {
        ssize_t n = read(master, buf + got, sizeof(buf) - 1 - got);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    buf[got] = 0;
    ck_assert_ptr_nonnull(strstr(buf, "Ctrl-A x"));
    keys("\001x", 2);
    wait_child();
    check_restored();
}
END_TEST

/* Ctrl-C belongs to the guest. */
START_TEST(test_ctrl_c_is_the_guests) {
    wait_for_raw();
    keys("\003", 1);
    usleep(300000);
    ck_assert_int_eq(waitpid(child, NULL, WNOHANG), 0);
    keys("\001x", 2);
    wait_child();
}
END_TEST

static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGABRT};

START_TEST(test_signal) {
    wait_for_raw();
    ck_assert_int_eq(kill(child, signals[_i]), 0);
    int status = wait_child();
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), signals[_i]);
    check_restored();
}
END_TEST

/* Stopped by another: the shell gets its terminal back, and we ours when we go on. */
START_TEST(test_stop_and_go) {
    wait_for_raw();
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
    Suite *s = suite_create("console");
    TCase *t = tcase_create("terminal");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_quit_key);
    tcase_add_test(t, test_help_key);
    tcase_add_test(t, test_ctrl_c_is_the_guests);
    tcase_add_loop_test(t, test_signal, 0, (int)(sizeof(signals) / sizeof(signals[0])));
    tcase_add_test(t, test_stop_and_go);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
