# SPDX-License-Identifier: MIT
"""What an export of a trace says is what `penumbra trace` prints.

    export.py ctf|ctf2|ftrace|tracecmd|perfetto LINES EXPORT     every event, with all fields, per vCPU in order
    export.py decode FOLDER     a folder of ctf2, read by its description alone, as babeltrace2 prints it
    export.py counts ctf|ctf2|ftrace|tracecmd|perfetto|folded EXPORT STATS FAULTS OUTCOMES    faults by outcome

LINES: the text of penumbra trace. EXPORT of ctf: what babeltrace2 --clock-seconds prints. STATS and
FAULTS: --stats of the run and --json of penumbra faults; OUTCOMES: penumbra/outcomes.inc.
"""
import collections
import json
import os
import re
import sys


def lines(path):
    """(vCPU, time in ns, event, fields) of each event that penumbra trace printed."""
    for line in open(path):
        time, vcpu, name, *fields = line.split()
        yield int(vcpu), int(time), name, tuple(f.split("=", 1) for f in fields)


def nanoseconds(text, unit):
    whole, digits = text.split(".")
    assert len(digits) == (9 if unit == 1 else 3), text
    return int(whole + digits)


# babeltrace2: [seconds] (+delta) name: { context }, { fields }
PRETTY = re.compile(r"^\[(\d+\.\d+)\] \(\+[\d.?]+\) (\w+): \{ (.*?) \}, \{(.*)\}$")
FIELD = re.compile(r'(\w+) = (?:\( (?:"([^"]*)"|<unknown>) : container = (\w+) \)|"([^"]*)"|(\w+))')


def ctf_fields(text):
    for name, label, number, string, plain in FIELD.findall(text):
        yield [name, label or number.lower() or string or plain.lower()]


def ctf(path):
    for line in open(path):
        found = PRETTY.match(line.rstrip("\n"))
        assert found, line
        context = dict(ctf_fields(found.group(3)))
        fields = list(ctf_fields(found.group(4)))
        known = context["cpl"] != "unknown"
        if known or context["rip"] != "0x0":
            fields.append(["rip", context["rip"]])
        if known:
            fields += [["cpl", context["cpl"].removeprefix("ring")], ["cr3", context["cr3"]]]
        yield int(context["vcpu"]), nanoseconds(found.group(1), 1), found.group(2), tuple(fields)


# A reader of CTF 2 (CTF2-SPEC-2.0), of the field classes that penumbra has.
class Stream:
    def __init__(self, data, at, clock):
        self.data, self.at, self.clock, self.roles = data, at, clock, {}

    def value(self, c):
        if c["type"] == "structure":
            return {m["name"]: self.value(m["field-class"]) for m in c["member-classes"]}
        if c["type"] == "null-terminated-string":
            end = self.data.index(0, self.at)
            text = '"%s"' % self.data[self.at:end].decode()
            self.at = end + 1
            return text
        assert c["type"] == "fixed-length-unsigned-integer" and c["byte-order"] == "little-endian", c
        assert c["length"] % 8 == 0 and c["alignment"] == 8, c
        number = int.from_bytes(self.data[self.at:self.at + c["length"] // 8], "little")
        self.at += c["length"] // 8
        for role in c.get("roles", ()):
            self.roles[role] = number
        if "mappings" in c:
            label = [name for name, ranges in c["mappings"].items() for low, high in ranges if low <= number <= high]
            return "( %s : container = %d )" % ('"%s"' % label[0] if label else "<unknown>", number)
        return "0x%X" % number if c["preferred-display-base"] == 16 else str(number)


def put(fields):
    return ", ".join("%s = %s" % pair for pair in fields.items())


def packet(data, start, one, events):
    """The events of the packet that begins there, and where the next one does."""
    s = Stream(data, start, one["clock-class"])
    s.value(one["trace-class"]["packet-header-field-class"])
    assert s.roles["packet-magic-number"] == 0xC1FC1FC1 and s.roles["data-stream-class-id"] == one["data-stream-class"]["id"]
    s.value(one["data-stream-class"]["packet-context-field-class"])
    bits, total = s.roles["packet-content-length"], s.roles["packet-total-length"]
    found = []
    while (s.at - start) * 8 < bits:
        s.value(one["data-stream-class"]["event-record-header-field-class"])
        event = events[s.roles["event-record-class-id"]]
        context = s.value(one["data-stream-class"]["event-record-common-context-field-class"])
        fields = s.value(event["payload-field-class"])
        time = s.roles["default-clock-timestamp"]
        found.append((time, "%s: { %s }, { %s }" % (event["name"], put(context), put(fields))))
    assert (s.at - start) * 8 == bits <= total, (s.at, bits)
    return found, start + total // 8


def decode(folder):
    text = open(folder + "/metadata").read()
    assert text.startswith("\x1e")
    fragments = [json.loads(f) for f in text.split("\x1e")[1:]]
    assert fragments[0] == {"type": "preamble", "version": 2}, fragments[0]
    one = {f["type"]: f for f in fragments}
    assert one["clock-class"]["frequency"] == 10**9
    assert one["data-stream-class"]["default-clock-class-id"] == one["clock-class"]["id"]
    events = {f["id"]: f for f in fragments if f["type"] == "event-record-class"}
    found = []
    for name in sorted(os.listdir(folder)):
        data, at = open(os.path.join(folder, name), "rb").read(), 0
        while name != "metadata" and at < len(data):
            more, at = packet(data, at, one, events)
            found += more
    for time, line in sorted(found, key=lambda f: f[0]):
        print("[%d.%09d] (+?.?????????) %s" % (time // 10**9, time % 10**9, line))


# As Perfetto splits a line, SystraceLineTokenizer of its systrace_line_tokenizer.cc.
SYSTRACE = re.compile(r"-(\d+)\s+\(?\s*(\d+|-+)?\)?\s?\[(\d+)\]\s*[a-zA-Z0-9.]{0,4}\s+(\d+\.\d+):\s+(\S+):")


def ftrace(path):
    with open(path) as text:
        assert text.readline() == "# tracer: nop\n"
        for line in text:
            if line.startswith("#"):
                continue
            found = SYSTRACE.search(line)
            assert found, line
            fields = tuple(f.split("=", 1) for f in line[found.end():].split())
            task = line[:found.start()].strip()
            cr3 = dict(fields).get("cr3") if "cpl" in dict(fields) else None
            page = int(cr3 or "0", 16) & 0xFFFFFFFFFF000
            assert task == (hex(page)[:15] if cr3 else "<...>") and int(found.group(1)) == page >> 12, line
            yield int(found.group(3)), nanoseconds(found.group(4), 1), found.group(5), fields


# What `trace-cmd report -t` prints.
REPORT = re.compile(r"\s*\S+-(\d+) +\[(\d+)\] +(\d+\.\d+): (\w+): *(.*)$")


def tracecmd(path):
    with open(path) as text:
        assert re.fullmatch(r"cpus=\d+\n", text.readline())
        for line in text:
            found = REPORT.match(line.rstrip("\n"))
            assert found, line
            fields = tuple(f.split("=", 1) for f in found.group(5).split())
            cr3 = fields[-1][1] if fields[-1:] and fields[-1][0] == "cr3" and fields[-2][0] == "cpl" else "0"
            assert int(found.group(1)) == (int(cr3, 16) & 0xFFFFFFFFFF000) >> 12, line
            yield int(found.group(2)), nanoseconds(found.group(3), 1), found.group(4), fields


ENDS = {"fault": "fault_outcome", "exit": "kvm_entry"}


def perfetto(path):
    """Also: slices nest, end after they begin, and those of address spaces are right."""
    doc = json.load(open(path), parse_float=str)
    assert doc["displayTimeUnit"] == "ns"
    open_slices, named = collections.defaultdict(list), {}
    for item in doc["traceEvents"]:
        vcpu = item["tid"] - 1
        stack = open_slices[vcpu]
        if item["ph"] == "M":
            if item["name"] == "thread_name":
                named[vcpu] = item["args"]["name"]
            continue
        assert item["pid"] == 1 and named[vcpu] == f"vCPU {vcpu}", item
        time = nanoseconds(item["ts"], 1e-3)
        if item["ph"] == "B":
            stack.append(item)
        elif item["ph"] == "E":
            begun = stack.pop()
            assert begun["cat"] == item["cat"] and nanoseconds(begun["ts"], 1e-3) <= time, item
        if "args" not in item:
            continue
        place = item["args"].pop("guest")
        fields = tuple([name, str(value)] for name, value in [*item["args"].items(), *place.items()])
        process = [s for s in stack if s["cat"] == "process"]
        if "cr3" in place:
            page = int(place["cr3"], 16) & 0xFFFFFFFFFF000
            assert process[0]["name"] == f"cr3 {page:#x}" and stack[0] is process[0], item
        yield vcpu, time, ENDS[item["cat"]] if item["ph"] == "E" else item["name"], fields
    assert not any(open_slices.values()), "a slice has no end"


READERS = {"ctf": ctf, "ctf2": ctf, "ftrace": ftrace, "tracecmd": tracecmd, "perfetto": perfetto}


def same(kind, text, export):
    want, got, last = collections.defaultdict(list), collections.defaultdict(list), 0
    for vcpu, *event in lines(text):
        want[vcpu].append(tuple(event))
    for vcpu, *event in READERS[kind](export):
        assert event[0] >= last, ("time goes backwards", event)
        last = event[0]
        got[vcpu].append(tuple(event))
    assert want.keys() == got.keys(), (want.keys(), got.keys())
    for vcpu, events in want.items():
        for number, pair in enumerate(zip(events, got[vcpu])):
            assert pair[0] == pair[1], (vcpu, number, *pair)
        assert len(events) == len(got[vcpu]), (len(events), len(got[vcpu]))


def outcomes_of(kind, export):
    if kind == "folded":
        for line in open(export):
            stack, number = line.rsplit(" ", 1)
            process, _, outcome = stack.split(";")
            assert re.fullmatch("cr3 0x[0-9a-f]+", process), line
            yield outcome, int(number)
        return
    for line in open(export):
        found = "fault_outcome" in line or '"E"' in line
        found = found and re.search(r'outcome(?:=|": "| = \( ")(\w+)', line)
        if found:
            yield found.group(1), 1


def counts(kind, export, stats, faults, outcomes):
    counters, study = json.load(open(stats))["counters"], json.load(open(faults))
    listed = dict(re.findall(r"^PN_OUTCOME\((\w+), \w+, (\w+),", open(outcomes).read(), re.M))
    del listed["tracked_code"]  # no fault: outcomes.inc
    got = collections.Counter()
    for outcome, number in outcomes_of(kind, export):
        got[outcome] += number
    assert got == {name: counters[counter] for name, counter in listed.items() if counters[counter]}, got
    assert got == {row["outcome"]: row["faults"] for row in study["tables"][0]["rows"]}
    assert sum(got.values()) == study["faults"]


if sys.argv[1] == "decode":
    decode(sys.argv[2])
elif sys.argv[1] == "counts":
    counts(*sys.argv[2:])
else:
    same(*sys.argv[1:])
