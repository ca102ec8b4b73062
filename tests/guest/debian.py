# SPDX-License-Identifier: MIT
# A whole Debian, as debian.sh has it: root logs in on the console, and by ssh through a forwarded port; apt
# installs a package from the repository at port SERVED of this host's; it is shut down.
#
#   debian.py PORT KEY SERVED PENUMBRA ARG...
import os, select, subprocess, sys, time

port, key, served, command = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
guest = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
console, begun = b"", time.time()


def fail(text):
    guest.kill()
    sys.stdout.buffer.write(console[-2000:])
    sys.exit(f"FAIL: {text}")


def until(words, seconds=900):
    global console
    start, end = len(console), time.time() + seconds
    while words not in console[start:]:
        if not select.select([guest.stdout], [], [], max(0, end - time.time()))[0]:
            fail(f"no {words!r} within {seconds} s")
        piece = os.read(guest.stdout.fileno(), 65536)
        if not piece:
            fail(f"it ended before {words!r}")
        console += piece


def types(line):
    guest.stdin.write(line + b"\n")
    guest.stdin.flush()


def ssh(what):
    run = subprocess.run(
        ["ssh", "-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
         "-o", "ConnectTimeout=200", "-i", key, "-p", port, "root@127.0.0.1", what], capture_output=True, timeout=600)
    if run.returncode:
        fail(f"ssh {what}: {run.returncode}: {run.stderr.decode()}{run.stdout.decode()}")
    return run.stdout.decode()


until(b"login: ")
print(f"login after {time.time() - begun:.0f} s")
types(b"root")
until(b"# ")
types(b"systemctl is-system-running --wait; echo CONSOLE-$((6 * 7))")
until(b"CONSOLE-42")
if b"running\r\n" not in console[-200:]:
    fail("systemd is not content")
print("ssh:", ssh("uname -r; findmnt -n -o SOURCE,FSTYPE /; head -c 8M /dev/urandom > /root/some; sync; sha256sum < /root/some")
      .replace("\n", " "))
# Debian's own archive is not asked: this host may have no way to it.
print("apt:", ssh(f"""set -e
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] http://10.0.2.2:{served} ./' > /etc/apt/sources.list
apt-get -q update > /root/log 2>&1 || {{ cat /root/log; exit 1; }}
DEBIAN_FRONTEND=noninteractive apt-get -q -y install pn-word >> /root/log 2>&1 || {{ cat /root/log; exit 1; }}
pn-word""").replace("\n", " "))
types(b"systemctl poweroff")
until(b"Power down")
while os.read(guest.stdout.fileno(), 65536):
    pass
if guest.wait(60):
    fail(f"exit code {guest.returncode}")
