#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients of a monitor, for monitor.sh: monitor_client.py SOCKET NAME FOLDER."""
import json, os, random, socket, stat, sys, time

path, what, work = sys.argv[1:]


def connect():
    for _ in range(300):
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            s.settimeout(30)
            return s
        except OSError:
            s.close()
            time.sleep(0.02)
    sys.exit("nobody listens")


class Client:
    def __init__(self):
        self.s = connect()
        self.f = self.s.makefile("rb")
        assert self.ask("json on")["ok"]

    def ask(self, line):
        self.s.sendall(line.encode() + b"\n")
        answer = json.loads(self.f.readline())
        assert answer["command"] == line, answer
        return answer

    def get(self, line):
        answer = self.ask(line)
        assert answer["ok"], answer
        return answer["result"]


BAD = ("frobnicate", "info", "info nothing", "x", "x/zz 0", "x/0x 0", "x 0x7fffffff00000000", "cpu 1", "cpu -1",
       "gva2gpa 0xffff800000000000", "gva2gpa $nothing", "gpa2hva 0xffffffffffff", "explain", "explain 1 2 3", "explain 1 /nonexistent/x",
       "diff /nonexistent/x", "diff /dev/null", "dump /nonexistent/x", "snapshot", "snapshot save", "point", "point keep", "point reset", "point keep 1", "dirty log", "dirty log on", "dirty log on 0", "dirty log off x", "dirty log pml", "dirty log nothing", "snapshot save /nonexistent/x",
       "snapshot save /nonexistent/x --forces", "balloon", "balloon x", "balloon 100G", "balloon_stats", "plug 64M", "info plugged", "json perhaps", "events maybe", "numa move 0", "numa move 2 0", "numa move 0 1000", "numa move x 0",
       "info tasks", "info vmas 1", "info modules", "info trace",  # the guest is no Linux
       "help nothing", "1+", "explain 1+", "x/9999999999xg 0", "a b c d e f g h i j k l")
# What the commands take that take something; None: they are asked for apart.
TAKES = {"cpu": "0", "x": "/4xg $rsp", "xp": "/2xw 0x1000", "gva2gpa": "$rip", "gpa2hva": "0x1000", "explain": "$rip " + work + "/way.svg",
         "dump": work + "/now.json", "snapshot save": work + "/snapshot --force", "diff": work + "/now.json", "stats": "pf", "balloon": "64M", "json": "on",
         "events": "off", "cont": None, "quit": None, "info tasks": None, "info vmas": None, "info modules": None,
         "info trace": None, "balloon_stats": None, "plug": None, "info plugged": None, "migrate": None, "point keep": None, "point reset": None, "numa move": None, "dirty log": None}  # point.sh: of a run with a dirty log


def commands():
    c = Client()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    c.get("stop")
    assert c.get("info status") == {"running": False, "status": "paused"}
    lines = c.get("help")
    assert len(lines) > 20
    for line in lines:
        head = line.split(" -- ")[0].split()
        name = " ".join(head[:2]) if head[0] in ("info", "snapshot", "point", "numa", "dirty") else head[0]
        if TAKES.get(name, "") is not None and name != "events":
            c.get((name + " " + TAKES.get(name, "")).strip())
    assert c.get("diff " + work + "/now.json") == []
    assert open(work + "/way.svg").read().count('class="lit"') >= 7
    before = c.get("stats")
    e = c.get("explain $rip")
    assert e["schema"] == "penumbra-explain-1" and e["page"]["gpa"] == c.get("gva2gpa $rip")["gpa"]
    assert len(e["accesses"]) == 9
    bytes_of = lambda lines: [l.split(":")[1] for l in lines]
    assert bytes_of(c.get("x/8xb $rip")) == bytes_of(c.get("xp/8xb " + e["page"]["gpa"]))
    assert c.get("audit") == {"violations": 0}
    nodes = c.get("info numa")["nodes"]
    assert [n["size"] >> 20 for n in nodes] == [128, 384] and [n["cpus"] for n in nodes] == [[0], []], nodes
    if nodes[0]["pages"]:  # this host has nodes
        assert c.get("numa move 0 " + list(nodes[0]["pages"])[0]) is not None
        assert c.get("info numa")["nodes"][0]["host"] == int(list(nodes[0]["pages"])[0])
    assert c.get("stats") == before, "to ask has counted something"
    f = c.get("faults")
    assert sum(f.values()) - f["tracked_code"] - f["mmio_cached"] == c.get("stats pf_taken")["pf_taken"] > 0
    for line in BAD:
        answer = c.ask(line)
        assert not answer["ok"] and answer["error"], (line, answer)
    c.get("cont")
    assert c.get("info status")["running"]


def rubbish():
    random.seed(1)
    noise = bytes(b for b in random.randbytes(20000) if b != 10)
    for sent in (b"\0" * 5000, noise, b"explain", b"z" * 100000 + b"\n", b"\n" * 5000,
                 b"\xff\xfe stop\n", b"json on\nstop\ncont\nexplain 0x",
                 b'{"execute": "qmp_capabilities"}\r\n', b"info tlb\n" * 3):  # and reads nothing
        s = connect()
        try:
            s.sendall(sent)
        except OSError:  # it was sent away
            pass
        s.close()
    s = connect()
    s.sendall(b"y" * 3000 + b"\ninfo status\r\n")
    answer = s.recv(10000)
    while b"VM status: running\n" not in answer:
        more = s.recv(10000)
        assert more, answer
        answer += more
    assert answer.startswith(b"Error: a line of more than"), answer
    s.close()


def ends():
    assert Client().ask("quit")["ok"]


globals()[what]()
