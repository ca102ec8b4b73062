/* SPDX-License-Identifier: MIT */
/* The result page: tables and charts from the JSON that stands in it. Each number of the
 * table is shown in full, so that what is read off the page is what was measured. */
"use strict";
(() => {
  const doc = JSON.parse(document.getElementById("data").textContent);
  const results = doc.results, good = results.filter((r) => r.error === null);
  const mmus = [...new Set(results.map((r) => r.mmu))];
  const colours = { kvm: "#c77700", shadow: "#4b6cc1", tdp: "#2a9d6f" };
  const colour = (m) => colours[m] || "#888";
  const byId = (id) => document.getElementById(id);
  const kindOf = (m) => (good.find((r) => r.mmu === m) || { kind: "?" }).kind;
  const title = (m) => m + " (" + kindOf(m) + ")";
  const point = (r) => (r.workload + " " + r.label).trim();

  function element(parent, tag, text, cls) {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (cls) e.className = cls;
    parent.appendChild(e);
    return e;
  }
  const grouped = (v) =>
    v === null || v === undefined ? "–" : Number.isInteger(v) ? v.toLocaleString("en-US") : v.toFixed(3);
  function time(ns) {
    const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
    const [f, u] = units.find(([x]) => ns >= x) || [1, "ns"];
    return (ns / f).toPrecision(3) + " " + u;
  }
  function bytes(v) {
    const units = ["", "K", "M", "G"];
    let i = 0;
    for (; v >= 1024 && i < 3; i++) v /= 1024;
    return v + units[i];
  }

  /* ---- The table ---- */
  const columns = [
    ["time_ns", "median, ns", (r) => r.time_ns.median],
    ["low", "low, ns", (r) => r.time_ns.low],
    ["high", "high, ns", (r) => r.time_ns.high],
    ["guest_insns", "instructions", (r) => r.guest_insns],
    ["taken", "faults", (r) => r.faults.taken],
    ["mapped", "mapped", (r) => r.faults.mapped],
    ["guest", "guest's", (r) => r.faults.guest],
    ["mmio", "MMIO", (r) => r.faults.mmio],
    ["tracked", "tracked", (r) => r.faults.tracked],
    ["dirty_log", "dirty log", (r) => r.faults.dirty_log],
    ["tlb_misses", "TLB misses", (r) => r.tlb_misses],
    ["per_miss", "references", (r) => (r.walks ? r.walks.per_miss : null)],
    ["exits", "exits", (r) => r.exits],
    ["shadow_pages", "table pages", (r) => r.shadow_pages],
    ["table_bytes", "table bytes", (r) => r.table_bytes],
  ];
  function makeTable() {
    const table = byId("results"), head = element(element(table, "thead"), "tr");
    for (const name of ["workload", "parameters", "MMU", "time is"]) element(head, "th", name, "t");
    for (const c of columns) element(head, "th", c[1]);
    const body = element(table, "tbody");
    let last = null;
    for (const r of results) {
      const row = element(body, "tr", undefined, r.kind + (r.index !== last ? " first" : ""));
      row.title = r.params;
      row.dataset.index = r.index;
      row.dataset.mmu = r.mmu;
      last = r.index;
      element(row, "td", r.workload, "t");
      element(row, "td", r.label, "t label");
      element(row, "td", r.mmu, "t");
      element(row, "td", r.kind, "t kind");
      if (r.error !== null) {
        element(row, "td", "failed: " + r.error, "failed").colSpan = columns.length;
        continue;
      }
      for (const [key, , get] of columns) element(row, "td", grouped(get(r))).dataset.field = key;
    }
  }

  function makeHosts() {
    const table = byId("hosts"), head = element(element(table, "thead"), "tr");
    const names = ["cpu", "kernel", "governor", "thp", "load", "pinned_cpu", "guest_memory"];
    for (const n of names.concat(["KVM's MMU"])) element(head, "th", n.replace("_", " "), "t");
    const body = element(table, "tbody");
    for (const h of doc.hosts) {
      const row = element(body, "tr");
      for (const n of names) {
        const v = h[n];
        element(row, "td", v === null || v === undefined ? "–" : Array.isArray(v)
          ? v.map((x) => x.toFixed(2)).join(" ") : String(v), "t");
      }
      element(row, "td", h.kvm ? h.kvm.mmu : "–", "t");
    }
  }

  /* ---- Charts ---- */
  function section(name, note) {
    element(byId("charts"), "h2", name);
    if (note) element(byId("charts"), "p", note, "note");
    return element(byId("charts"), "div", undefined, "charts");
  }
  function canvas(parent, wide, height) {
    const box = element(parent, "div", undefined, "chart" + (wide ? " wide" : ""));
    if (height) box.style.height = height + "px";
    return element(box, "canvas");
  }
  function chart(parent, type, data, options, wide, height) {
    options.animation = false;
    options.responsive = true;
    options.maintainAspectRatio = false;
    new Chart(canvas(parent, wide, height), { type, data, options });
  }
  function axis(text, log, ticks) {
    const a = { title: { display: true, text }, type: log ? "logarithmic" : "linear" };
    if (ticks) a.ticks = { callback: ticks };
    return a;
  }
  /* On a logarithmic axis: 1, 2 and 5 alone, or the labels run into each other. */
  const sparse = (f) => (v) => (/^[1]/.test(v.toExponential()) ? f(v) : "");

  function bars(parent, heading, used, get, unit, format) {
    const names = [...new Set(good.filter((r) => used.includes(r.mmu) && get(r) > 0).map(point))];
    const datasets = used.map((m) => ({
      label: title(m),
      backgroundColor: colour(m),
      data: names.map((n) => {
        const r = good.find((x) => x.mmu === m && point(x) === n);
        const v = r ? get(r) : null;
        return v > 0 ? v : null; /* a logarithm has no place for 0 */
      }),
    })).filter((d) => d.data.some((v) => v !== null));
    if (!datasets.length) return;
    chart(parent, "bar", { labels: names, datasets }, {
      indexAxis: "y",
      scales: { x: axis(unit + ", logarithmic", true, sparse(format)), y: { ticks: { autoSkip: false } } },
      plugins: { title: { display: true, text: heading },
        tooltip: { callbacks: { label: (c) => c.dataset.label + ": " + format(c.raw) } } },
    }, true, 90 + names.length * (8 + 9 * datasets.length));
  }

  /* One line per MMU and curve; per: what a time is divided by. */
  function lines(parent, heading, workload, parameter, get, xText, yText, log, xTick, yTick) {
    const swept = good.filter((r) => r.workload === workload && r.sweep && r.sweep.parameter === parameter);
    const curves = new Map();
    for (const r of swept) {
      const rest = r.label.split(" ").filter((p) => p && !p.startsWith(parameter + "=")).join(" ");
      const name = title(r.mmu) + (rest ? ", " + rest : "");
      const v = get(r);
      if (v === null || v === undefined) continue;
      if (!curves.has(name)) curves.set(name, { mmu: r.mmu, rest, data: [] });
      curves.get(name).data.push({ x: r.sweep.value, y: v });
    }
    if (![...curves.values()].some((c) => c.data.length > 1)) return;
    const datasets = [...curves].map(([name, c]) => ({
      label: name, data: c.data.sort((a, b) => a.x - b.x), borderColor: colour(c.mmu),
      backgroundColor: colour(c.mmu), borderDash: c.rest ? [6, 4] : [], pointRadius: 3,
    }));
    const xs = [...new Set(swept.map((r) => r.sweep.value))].sort((a, b) => a - b);
    const x = axis(xText, true, xTick);
    x.afterBuildTicks = (a) => { a.ticks = xs.map((value) => ({ value })); };
    chart(parent, "line", { datasets }, {
      scales: { x, y: axis(yText, log, yTick) },
      plugins: { title: { display: true, text: heading } },
    });
  }
  const perOp = (r) => (r.ops > 0 ? r.time_ns.median / r.ops : null);

  function makeCharts() {
    const measured = mmus.filter((m) => kindOf(m) === "measured");
    const simulated = mmus.filter((m) => kindOf(m) === "simulated");
    const times = section("Time per workload", "Measured and simulated times stand in charts of " +
      "their own: a simulated time is the software CPU's.");
    bars(times, "Measured time", measured, (r) => r.time_ns.median, "time", time);
    bars(times, "Simulated time", simulated, (r) => r.time_ns.median, "time", time);
    bars(section("Page faults per workload", "Accesses that the tables in use could not answer. No " +
      "bar: none, or not counted."), "Page faults", mmus, (r) => r.faults.taken, "faults", grouped);
    const num = (v) => v.toLocaleString("en-US");
    if (good.some((r) => r.workload === "chase" && r.sweep)) {
      const c = section("Pointer chase against working set", "Each load waits for the one before.");
      lines(c, "Time per load", "chase", "bytes", perOp, "working set, bytes", "ns per load", false, bytes);
      lines(c, "Table entries read per load", "chase", "bytes",
        (r) => (r.walks && r.ops ? r.walks.references / r.ops : null), "working set, bytes",
        "references per load", false, bytes);
    }
    for (const p of new Set(good.filter((r) => r.workload === "remap" && r.sweep).map((r) => r.sweep.parameter))) {
      const c = section("Cost against page-table update rate", "remap: pages are unmapped and mapped to " +
        "other frames. Where the lines of two MMUs cross, the better choice changes.");
      lines(c, "Time per access", "remap", p, perAccess, xRemap(p), "ns per access", true, num, num);
      lines(c, "Exits per access", "remap", p, (r) => (r.exits === null ? null : r.exits / accesses(r)),
        xRemap(p), "exits per access", true, num);
    }
  }
  const param = (r, name) => { const m = r.params.match(new RegExp("(?:^| )" + name + "=(\\d+)")); return m ? +m[1] : 1; };
  const accesses = (r) => Math.max(1, r.ops * param(r, "touches"));
  const perAccess = (r) => r.time_ns.median / accesses(r);
  const xRemap = (p) => (p === "touches" ? "accesses per page-table update (fewer updates to the right)" : p);

  function makeSummary() {
    const s = doc.settings;
    byId("summary").textContent = doc.time + ", penumbra " + doc.version + ", " + s.repeat +
      " repetitions, " + s.warmup + " warm-up" + (s.quick ? ", quick" : "") + "; " +
      results.length + " results of " + new Set(results.map((r) => r.workload)).size + " workloads.";
    const warn = (t) => element(byId("warnings"), "p", t, "note");
    if (doc.interrupted) warn("Interrupted: this is what was finished.");
    const failed = results.filter((r) => r.error !== null).length;
    if (failed) warn(failed + " results failed; the table says why.");
    for (const d of new Set(good.map((r) => r.mmu + ": " + r.mmu_detail))) warn(d);
  }

  makeSummary();
  makeTable();
  makeHosts();
  if (typeof Chart !== "undefined") makeCharts();
  document.body.dataset.ready = "yes";
})();
