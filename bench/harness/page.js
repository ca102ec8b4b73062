/* SPDX-License-Identifier: MIT */
/* The result page: tables and charts from the JSON that stands in it. Each number of the
 * table is shown in full, so that what is read off the page is what was measured. */
"use strict";
(() => {
  const doc = JSON.parse(document.getElementById("data").textContent);
  const results = doc.results, good = results.filter((r) => r.error === null);
  const mmus = [...new Set(results.map((r) => r.mmu))];
  const colours = { kvm: "#c77700", shadow: "#4b6cc1", tdp: "#2a9d6f" };
  const more = ["#b0478c", "#7a8b1f", "#1f8a99", "#a8572f", "#6a53b8", "#5b7085", "#c0392b", "#8a6d00"];
  /* An engine's own colour for it without options, and one of the others for each more. */
  const others = mmus.filter((m) => !colours[m]);
  const colour = (m) => colours[m] || more[others.indexOf(m) % more.length];
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

  const modelled = (r, get) => (r.modelled ? get(r.modelled) : null);
  const total = (object) => Object.values(object).reduce((a, b) => a + b, 0);
  const soft = mmus.filter((m) => good.some((r) => r.mmu === m && r.modelled));
  const models = (good.find((r) => r.modelled) || {}).modelled;

  /* ---- The table ---- */
  /* From the list of a result's members: { path, heading, doc, modelled }. */
  const columns = JSON.parse(byId("columns").textContent);
  function member(r, path) {
    const v = path.split(".").reduce((o, name) => (o === null || o === undefined ? null : o[name]), r);
    return v !== null && typeof v === "object" ? total(v) : v;
  }
  function makeTable() {
    const table = byId("results"), thead = element(table, "thead");
    const groups = element(thead, "tr", undefined, "group"), head = element(thead, "tr");
    const shaded = columns.filter((c) => c.modelled).length;
    element(groups, "th", "measured or simulated, as the row says").colSpan = 4 + columns.length - shaded;
    element(groups, "th", "modelled" + (models ? ": TLBs of " + models.tlb + ", costs of " +
      models.cost_profile : ""), "m").colSpan = shaded;
    for (const name of ["workload", "parameters", "MMU", "time is"]) element(head, "th", name, "t");
    for (const c of columns) element(head, "th", c.heading, c.modelled ? "m" : undefined).title = c.doc;
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
      for (const c of columns)
        element(row, "td", grouped(member(r, c.path)), c.modelled ? "m" : undefined).dataset.field = c.path;
    }
  }

  function makeHistograms() {
    const table = byId("histograms"), head = element(element(table, "thead"), "tr");
    const some = good.filter((r) => r.modelled);
    if (!some.length) return;
    for (const name of ["workload", "MMU"]) element(head, "th", name, "t");
    some[0].modelled.walks.histogram.forEach((_, n) => element(head, "th", n, "m"));
    const body = element(table, "tbody");
    for (const r of some) {
      const row = element(body, "tr");
      row.dataset.histogram = r.index + " " + r.mmu;
      element(row, "td", point(r), "t");
      element(row, "td", r.mmu, "t");
      r.modelled.walks.histogram.forEach((v, n) => { element(row, "td", grouped(v), "m").dataset.field = "h" + n; });
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
  function chart(parent, type, data, options, wide, height, plugins) {
    options.animation = false;
    options.responsive = true;
    options.maintainAspectRatio = false;
    return new Chart(canvas(parent, wide, height), { type, data, options, plugins: plugins || [] });
  }
  function axis(text, log, ticks) {
    const a = { title: { display: true, text }, type: log ? "logarithmic" : "linear" };
    a.ticks = { maxRotation: 0 };
    if (ticks) a.ticks.callback = ticks;
    return a;
  }
  /* On a logarithmic axis: 1, 2 and 5 alone, or the labels run into each other. */
  const sparse = (f) => (v) => (/^[1]/.test(v.toExponential()) ? f(v) : "");

  /* Upright lines at places of the x axis: [{ x, text }]. */
  const upright = (places) => ({
    id: "upright",
    afterDatasetsDraw(c) {
      const { ctx, chartArea: area, scales: { x } } = c;
      ctx.save();
      ctx.font = "11px system-ui, sans-serif";
      for (const [i, p] of places.entries()) {
        const at = x.getPixelForValue(p.x);
        if (!(at >= area.left && at <= area.right)) continue;
        const left = at > area.right - 150;
        ctx.strokeStyle = ctx.fillStyle = "#8a4fa8";
        ctx.setLineDash([3, 3]);
        ctx.beginPath();
        ctx.moveTo(at, area.top);
        ctx.lineTo(at, area.bottom);
        ctx.stroke();
        ctx.textAlign = left ? "right" : "left";
        ctx.fillText(p.text, at + (left ? -4 : 4), area.top + 12 + 14 * i);
      }
      ctx.restore();
    },
  });
  const label = (name, what) => (what ? name + " (" + what + ")" : title(name));

  const legend = { labels: { boxWidth: 24, boxHeight: 1 } }; /* a line's, with its dashes */

  function bars(parent, heading, used, get, unit, format, what) {
    const names = [...new Set(good.filter((r) => used.includes(r.mmu) && get(r) > 0).map(point))];
    const datasets = used.map((m) => ({
      label: label(m, what),
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
      scales: { x: Object.assign(axis(unit + ", logarithmic", true, sparse(format)), { min: leastOf(datasets) }),
        y: { ticks: { autoSkip: false } } },
      plugins: { title: { display: true, text: heading },
        tooltip: { callbacks: { label: (c) => c.dataset.label + ": " + format(c.raw) } } },
    }, true, 90 + names.length * (8 + 9 * datasets.length));
  }

  /* Where bars of a logarithmic axis begin: half of the smallest, or 0.5 for a count of 1. */
  const leastOf = (datasets) => Math.min(...datasets.flatMap((d) => d.data.filter((v) => v !== null))) / 2;

  /* Curves of a sweep: { name, mmu, rest, data: [{ x, y }] }; where: x of a swept value. */
  function curvesOf(workload, parameter, get, where, what) {
    const curves = new Map();
    for (const r of good) {
      if (r.workload !== workload || !r.sweep || r.sweep.parameter !== parameter) continue;
      const rest = r.label.split(" ").filter((p) => p && !p.startsWith(parameter + "=")).join(" ");
      const name = label(r.mmu, what) + (rest ? ", " + rest : "");
      const v = get(r);
      if (v === null || v === undefined) continue;
      if (!curves.has(name)) curves.set(name, { name, mmu: r.mmu, rest, data: [] });
      curves.get(name).data.push({ x: where(r.sweep.value), y: v });
    }
    for (const c of curves.values()) c.data.sort((a, b) => a.x - b.x);
    return [...curves.values()];
  }

  /* One line per MMU and curve. o: { heading, xText, yText, log, xTick, yTick, places } */
  function lines(parent, curves, o) {
    if (!curves.some((c) => c.data.length > 1)) return;
    const datasets = curves.map((c) => ({
      label: c.name, data: c.data, borderColor: colour(c.mmu), backgroundColor: colour(c.mmu),
      borderDash: c.rest ? [6, 4] : [], pointRadius: 3,
    }));
    const xs = [...new Set(curves.flatMap((c) => c.data.map((d) => d.x)))].sort((a, b) => a - b);
    const x = axis(o.xText, true, o.xTick);
    [x.min, x.max] = [xs[0], xs[xs.length - 1]];
    x.afterBuildTicks = (a) => { a.ticks = xs.map((value) => ({ value })); };
    chart(parent, "line", { datasets }, {
      scales: { x, y: Object.assign(axis(o.yText, o.log, o.yTick), o.log ? {} : { beginAtZero: true }) },
      plugins: { title: { display: true, text: o.heading }, legend },
    }, false, 0, o.places ? [upright(o.places)] : []);
  }
  const perOp = (r) => (r.ops > 0 ? r.time_ns.median / r.ops : null);

  /* ---- Where the cycles go ---- */
  const groups = [
    ["instructions", (n) => n === "insn", 1],
    ["TLB and walks", (n) => /^(l2_tlb_hit|guest_ref|table_ref)/.test(n), 0.7],
    ["guest's exceptions, CR3, INVLPG", (n) => ["exception", "cr3_load", "inval"].includes(n), 0.45],
    ["VM exits, the hypervisor's work", () => true, 0.25],
  ];
  function cyclesByGroup(m) {
    const sums = groups.map(() => 0);
    for (const [name, v] of Object.entries(m.cycles_by_cost)) sums[groups.findIndex((g) => g[1](name))] += v;
    return sums;
  }
  function faded(hex, part) {
    const of = (i) => Math.round(255 - (255 - parseInt(hex.slice(i, i + 2), 16)) * part);
    return "rgb(" + [of(1), of(3), of(5)].join(",") + ")";
  }
  function shares(parent) {
    const names = [...new Set(good.filter((r) => r.modelled).map(point))];
    const datasets = soft.flatMap((m) => groups.map(([name, , part], g) => ({
      label: m + ": " + name, stack: m, backgroundColor: faded(colour(m), part),
      data: names.map((n) => {
        const r = good.find((x) => x.mmu === m && point(x) === n);
        return r && r.modelled ? 100 * cyclesByGroup(r.modelled)[g] / (r.modelled.cycles || 1) : null;
      }),
    })));
    chart(parent, "bar", { labels: names, datasets }, {
      indexAxis: "y",
      scales: { x: Object.assign(axis("per cent of the modelled cycles"), { stacked: true, max: 100 }),
        y: { stacked: true, ticks: { autoSkip: false } } },
      plugins: { title: { display: true, text: "Where modelled cycles go" } },
    }, true, 130 + names.length * 26);
  }

  /* ---- References per walk ---- */
  function histogram(parent) {
    const names = ["all workloads", ...new Set(good.filter((r) => r.modelled).map(point))];
    const choice = element(parent, "select", undefined, "wide");
    names.forEach((n) => element(choice, "option", n));
    const share = (m, n) => {
      const sums = [];
      for (const r of good.filter((x) => x.mmu === m && x.modelled && (n === names[0] || point(x) === n)))
        r.modelled.walks.histogram.forEach((v, i) => { sums[i] = (sums[i] || 0) + v; });
      const all = total(sums) || 1;
      return sums.map((v) => (v ? 100 * v / all : null));
    };
    const datasetsOf = (n) => soft.map((m) => ({ label: label(m, "modelled"), backgroundColor: colour(m), data: share(m, n) }));
    const last = Math.max(4, ...datasetsOf(names[0]).map((d) => d.data.reduce((a, v, i) => (v ? i : a), 0)));
    const c = chart(parent, "bar", { labels: [...Array(last + 1).keys()], datasets: datasetsOf(names[0]) }, {
      scales: { x: { title: { display: true, text: "table entries that one walk reads from memory" } },
        y: axis("per cent of the walks, logarithmic", true, (v) => (/^1/.test(v.toExponential()) ? v + "%" : "")) },
      plugins: { title: { display: true, text: "References per walk" } },
    }, true, 340);
    choice.addEventListener("change", () => { c.data.datasets = datasetsOf(choice.value); c.update(); });
  }

  /* ---- Page-table updates ---- */
  const param = (r, name) => { const m = r.params.match(new RegExp("(?:^| )" + name + "=(\\d+)")); return m ? +m[1] : 1; };
  const accesses = (r) => Math.max(1, r.ops * param(r, "touches"));
  const rate = (touches) => 1000 / touches;
  const short = (v) => Number(v.toPrecision(3)).toLocaleString("en-US");

  /* Rates at which two curves cross, found between neighbouring points, both axes logarithmic. */
  function crossings(a, b) {
    const found = [];
    const both = a.data.map((p) => [p, b.data.find((q) => q.x === p.x)]).filter(([p, q]) => q && p.y > 0 && q.y > 0)
      .map(([p, q]) => ({ x: Math.log(p.x), d: Math.log(p.y / q.y) }));
    for (let i = 1; i < both.length; i++) {
      const [p, q] = [both[i - 1], both[i]];
      if (p.d < 0 !== q.d < 0) found.push(Math.exp(p.x + (q.x - p.x) * p.d / (p.d - q.d)));
    }
    return { found, below: both.length ? both[0].d < 0 : null };
  }

  function makeCrossing(curves, where) {
    const [shadow, tdp] = ["shadow", "tdp"].map((m) => curves.find((c) => c.mmu === m));
    if (!shadow || !tdp) return [];
    const { found, below } = crossings(shadow, tdp);
    if (below === null) return [];
    const text = !found.length ? "In modelled cycles shadow is " + (below ? "cheaper" : "dearer") +
      " than tdp at every rate of this sweep."
      : below ? "In modelled cycles shadow stops winning at " + short(found[0]) +
        " pages remapped per 1,000 accesses, one for every " + short(1000 / found[0]) + "."
        : "In modelled cycles shadow begins to win at " + short(found[0]) + " pages remapped per 1,000 accesses.";
    const p = element(where, "p", text, "finding wide");
    p.id = "crossover";
    p.dataset.rate = found.length ? found[0].toPrecision(9) : "";
    return found.map((x) => ({ x, text: "cross-over: " + short(x) }));
  }

  function updateCharts() {
    const c = section("Cost against page-table update rate", "remap: pages are unmapped and mapped to other " +
      "frames, with accesses scattered over the region in between. Shadow paging pays for each update, " +
      "tdp for each walk. The cross-over is interpolated between the points of the sweep, both axes logarithmic.");
    const common = { xText: "pages remapped per 1,000 accesses", log: true, xTick: short, yTick: sparse(short) };
    const cycles = curvesOf("remap", "touches", (r) => modelled(r, (m) => m.cycles / accesses(r)), rate, "modelled");
    const places = makeCrossing(cycles, c);
    lines(c, cycles, { ...common, heading: "Modelled cycles per access", yText: "modelled cycles per access", places });
    lines(c, curvesOf("remap", "touches", (r) => r.time_ns.median / accesses(r), rate),
      { ...common, heading: "Time per access, measured or simulated", yText: "ns per access" });
  }

  function chaseCharts() {
    const c = section("Pointer chase against working set", "Each load waits for the one before. Upright lines: " +
      "what 4K translations in the modelled TLB reach.");
    const draw = (heading, get, yText, what, places) =>
      lines(c, curvesOf("chase", "bytes", get, (v) => v, what),
        { heading, xText: "working set, bytes", yText, xTick: bytes, places });
    const reach = models ? [["L1D", models.reach.l1d], ["L2", models.reach.l2]].filter(([, v]) => v)
      .map(([n, v]) => ({ x: v, text: n + " TLB: " + bytes(v) })) : [];
    const per = (get) => (r) => modelled(r, (m) => (r.ops ? get(m) / r.ops : null));
    draw("Modelled cycles per load", per((m) => m.cycles), "modelled cycles per load", "modelled", reach);
    draw("Modelled TLB misses per load", per((m) => m.misses.l2), "walks per load", "modelled", reach);
    draw("Modelled references per load", per((m) => m.walks.references), "references per load", "modelled", reach);
    draw("Time per load, measured or simulated", perOp, "ns per load");
  }

  /* A sweep over an option of the MMU: one line for each point that it changes. */
  function optionCharts() {
    const sweeps = new Map();
    for (const r of good.filter((x) => x.mmu_sweep && x.modelled)) {
      const { parameter, value } = r.mmu_sweep;
      const rest = r.mmu.split(/[:+]/).filter((p) => !p.startsWith(parameter + "=")).join(" ");
      const key = rest + ": " + parameter;
      if (!sweeps.has(key)) sweeps.set(key, { parameter, rest, lines: new Map() });
      const of = sweeps.get(key).lines;
      if (!of.has(point(r))) of.set(point(r), new Map());
      of.get(point(r)).set(value, r.modelled.cycles);
    }
    for (const [key, s] of sweeps) {
      const values = [...new Set([...s.lines.values()].flatMap((l) => [...l.keys()]))].sort((a, b) => a - b);
      const all = [...s.lines].map(([name, l]) => ({ name, y: values.map((v) => l.get(v) / l.get(values[0])) }))
        .map((l) => ({ ...l, span: Math.max(...l.y) / Math.min(...l.y) })).sort((a, b) => b.span - a.span);
      const moved = all.filter((l) => l.span > 1.005).slice(0, 8);
      const c = section("Sweep of " + key, "Modelled cycles at each value, against those at the least. " +
        (moved.length ? "Drawn: the points that change most. " : "") + all.filter((l) => l.span <= 1.005).length +
        " of " + all.length + " points change by less than 0.5%.");
      if (!moved.length || values.length < 2) continue;
      chart(c, "line", { labels: values, datasets: moved.map((l, i) => ({ label: l.name, data: l.y,
        borderColor: more[i % more.length], backgroundColor: more[i % more.length], pointRadius: 3 })) }, {
        scales: { x: { title: { display: true, text: s.parameter } }, y: axis("modelled cycles, at " + values[0] + ": 1") },
        plugins: { title: { display: true, text: s.rest + ": modelled cycles against " + s.parameter }, legend },
      }, true, 380);
    }
  }

  function makeCharts() {
    if (soft.length) {
      const m = section("Modelled cycles per workload", "TLBs of " + models.tlb + ", prices of " +
        models.cost_profile + ". Neither measured nor simulated.");
      bars(m, "Modelled cycles", soft, (r) => modelled(r, (x) => x.cycles), "cycles", short, "modelled");
      shares(m);
      histogram(section("References per walk", "Modelled: after a TLB miss, what its walk reads from memory beyond " +
        "the walk caches; 4 and 24 are full walks of 4 levels, in one dimension and in two."));
    }
    optionCharts();
    if (good.some((r) => r.workload === "chase" && r.sweep)) chaseCharts();
    if (good.some((r) => r.workload === "remap" && r.sweep)) updateCharts();
    bars(section("Page faults per workload", "Accesses that the tables in use could not answer. No " +
      "bar: none, or not counted."), "Page faults", mmus, (r) => r.faults.taken, "faults", grouped);
    const of = (kind) => mmus.filter((m) => kindOf(m) === kind);
    if (of("measured").length) bars(section("Measured time per workload", "On the host's CPU."), "Measured time", of("measured"),
      (r) => r.time_ns.median, "time", time);
    bars(section("The simulator's own speed", "Time that the software CPU took. It ranks MMUs in its own way, " +
      "because a 2D walk costs it a few loads and a VM exit a call; the modelled cycles say what a processor needs."),
    "Simulated time", of("simulated"), (r) => r.time_ns.median, "time", time);
  }

  function makeSummary() {
    const s = doc.settings;
    byId("summary").textContent = doc.time + ", penumbra " + doc.version + ", up to " + s.repeat +
      " repetitions, " + s.warmup + " warm-up" + (s.quick ? ", quick" : "") + "; " +
      results.length + " results of " + new Set(results.map((r) => r.workload)).size + " workloads.";
    const warn = (t) => element(byId("warnings"), "p", t, "note");
    if (doc.interrupted) warn("Interrupted: this is what was finished.");
    const shards = s.shard ? [].concat(s.shard.index) : [];
    if (s.shard && shards.length < s.shard.of)
      warn("Not the whole: shard " + shards.join(", ") + " of " + s.shard.of + ".");
    const failed = results.filter((r) => r.error !== null).length;
    if (failed) warn(failed + " results failed; the table says why.");
    for (const d of new Set(good.map((r) => r.mmu + ": " + r.mmu_detail))) warn(d);
    for (const d of new Set(good.filter((r) => r.dirty_tracker).map((r) => r.workload + " under " + r.mmu +
      ": dirty log by " + r.dirty_tracker))) warn(d);
  }

  makeSummary();
  makeTable();
  makeHistograms();
  makeHosts();
  if (typeof Chart !== "undefined") makeCharts();
  document.body.dataset.ready = "yes";
})();
