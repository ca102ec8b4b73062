/* SPDX-License-Identifier: MIT */
/* The result page: lead, tables and charts from the JSON that stands in it. Each number of
 * the table is shown in full, so that what is read off the page is what was measured. */
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const parsed = (id) => JSON.parse(byId(id).textContent);
  const doc = parsed("data"), columns = parsed("columns"), docs = parsed("docs"), verdicts = parsed("verdicts");
  const results = doc.results, good = results.filter((r) => r.error === null);
  const mmus = [...new Set(results.map((r) => r.mmu))];
  const kindOf = (m) => (good.find((r) => r.mmu === m) || { kind: "?" }).kind;
  const point = (r) => (r.workload + " " + r.label).trim();
  const at = (m, n) => good.find((r) => r.mmu === m && point(r) === n);
  const soft = mmus.filter((m) => good.some((r) => r.mmu === m && r.modelled));
  const models = (good.find((r) => r.modelled) || {}).modelled;

  function element(parent, tag, text, cls) {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (cls) e.className = cls;
    parent.appendChild(e);
    return e;
  }
  const grouped = (v, digits) => (v === null || v === undefined ? "–"
    : v.toLocaleString("en-US", { minimumFractionDigits: digits || 0, maximumFractionDigits: digits || 0 }));
  function scaled(v, step, units) {
    let i = 0;
    for (; v >= step && i < units.length - 1; i++) v /= step;
    return short(v) + " " + units[i];
  }
  const time = (ns) => scaled(ns, 1000, ["ns", "µs", "ms", "s"]);
  const bytes = (v) => scaled(v, 1024, ["B", "K", "M", "G"]);
  const short = (v) => v.toLocaleString("en-US", { maximumSignificantDigits: 3 });
  const total = (object) => Object.values(object).reduce((a, b) => a + b, 0);
  const modelled = (r, get) => (r.modelled ? get(r.modelled) : null);
  const cyclesPerOp = (r) => modelled(r, (m) => (r.ops > 0 ? m.cycles / r.ops : m.cycles));

  /* ---- Colours, of the theme ---- */
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const more = ["#c65aa2", "#8f9f2a", "#2ba3b3", "#c06a3d", "#8672d6", "#7189a0", "#d65446", "#b08d12"];
  const others = mmus.filter((m) => !["kvm", "shadow", "tdp"].includes(m));
  /* An engine's own colour for it without options, and one of the others for each more. */
  const colour = (m) => (others.includes(m) ? more[others.indexOf(m) % more.length] : css("--" + m));

  /* ---- Lead: who wins ---- */
  const names = [...new Set(good.map(point))];
  /* Modelled cycles of an op under m over those under the first: [{ name, ratio }]. */
  const ratios = (m) => names.map((name) => [at(soft[0], name), at(m, name), name])
    .filter(([a, b]) => a && b && cyclesPerOp(a) > 0 && cyclesPerOp(b) > 0)
    .map(([a, b, name]) => ({ name, ratio: cyclesPerOp(b) / cyclesPerOp(a) }));
  const EQUAL = 1.02; /* less is no win */
  const times = (v) => v.toFixed(v < 10 ? 2 : 0) + " times";

  function sentence(parent, m) {
    const all = ratios(m).sort((a, b) => a.ratio - b.ratio), first = soft[0];
    const wins = all.filter((x) => x.ratio < 1 / EQUAL), loses = all.filter((x) => x.ratio > EQUAL);
    const p = element(parent, "p", undefined, "lead"), say = (t, tag) => element(p, tag || "span", t);
    if (!all.length) return;
    const won = (who, list, best, ratio) => {
      say(who, "b");
      say(" needs fewer modelled cycles at " + list.length + (list.length > 1 ? ", most of all at " : ": "));
      say(best.name, "b");
      say(", where " + (who === m ? first : m) + " takes " + times(ratio) + " as many");
    };
    if (soft.length > 2) say(m + " against " + first + ": of ");
    else say("Of ");
    say(all.length + " point" + (all.length > 1 ? "s " : " "));
    if (wins.length) won(m, wins, wins[0], 1 / wins[0].ratio);
    if (wins.length && loses.length) say("; ");
    if (loses.length) won(first, loses, loses[loses.length - 1], loses[loses.length - 1].ratio);
    const equal = all.length - wins.length - loses.length;
    say((wins.length + loses.length ? "; " : "") + (equal ? equal + (equal > 1 ? " are" : " is") +
      " equal within 2%." : "none is equal within 2%."));
  }

  function makeLead() {
    const lead = byId("lead"), warn = (t) => element(lead, "p", t, "warning");
    if (soft.length > 1) for (const m of soft.slice(1, 5)) sentence(lead, m);
    else element(lead, "p", models ? "Only " + soft[0] + " was run with modelled TLBs: there is nothing to compare it with."
      : "Nothing was modelled here. The times below are the simulator's own, or KVM's.", "lead");
    if (verdicts.length) { /* a few are read at once */
      const few = verdicts.length < 13, box = few ? lead : element(lead, "details");
      if (!few) element(box, "summary", "Each point, and why");
      const list = element(box, "ul", undefined, "verdicts");
      for (const v of verdicts) element(list, "li", v);
    }
    const curves = rateCurves();
    if (curves.length) sayCrossing(curves, lead);
    if (models) element(lead, "p", "Modelled: cycles of a processor with the TLBs of " + models.tlb + " and the prices of " +
      models.cost_profile + ", whatever the speed of this host.", "note");
    if (doc.interrupted) warn("Interrupted: this is what was finished.");
    const s = doc.settings, shards = s.shard ? [].concat(s.shard.index) : [];
    if (s.shard && shards.length < s.shard.of) warn("Not the whole: shard " + shards.join(", ") + " of " + s.shard.of + ".");
    const failed = results.length - good.length;
    if (failed) warn(failed + " results failed; the table says why.");
  }

  /* ---- Tables ---- */
  function member(r, path) {
    const v = path.split(".").reduce((o, name) => (o === null || o === undefined ? null : o[name]), r);
    return v !== null && typeof v === "object" ? total(v) : v;
  }
  const shownColumns = columns.filter((c) => c.modelled).concat(columns.filter((c) => !c.modelled));
  for (const c of shownColumns) c.digits = good.some((r) => { const v = member(r, c.path); return v && !Number.isInteger(v); }) ? 3 : 0;

  function makeTable() {
    const table = byId("results"), thead = element(table, "thead");
    const groups = element(thead, "tr", undefined, "group"), head = element(thead, "tr"), body = element(table, "tbody");
    const shaded = shownColumns.filter((c) => c.modelled).length;
    element(groups, "th", "", "point");
    element(groups, "th", "", "mmu");
    element(groups, "th", "modelled" + (models ? ": TLBs of " + models.tlb + ", prices of " + models.cost_profile : ""), "m").colSpan = shaded;
    element(groups, "th", "counted by the MMU, and time as the row says").colSpan = 1 + shownColumns.length - shaded;
    const heading = (text, cls, title, value) => {
      const th = element(head, "th", undefined, cls), b = element(th, "button", text);
      b.type = "button";
      th.title = (title ? title + "; " : "") + "sorts";
      b.addEventListener("click", () => {
        const down = th.getAttribute("aria-sort") === "ascending";
        for (const x of head.children) x.removeAttribute("aria-sort");
        th.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => value(results[row.dataset.result]);
        const order = (a, b) => (a === null || a === undefined ? 1 : b === null || b === undefined ? -1
          : (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
        [...body.children].sort((a, b) => order(key(a), key(b))).forEach((row) => body.appendChild(row));
      });
    };
    heading("workload", "t point", "", point);
    heading("MMU", "t mmu", "", (r) => r.mmu);
    for (const [i, c] of shownColumns.entries()) {
      if (i === shaded) heading("time is", "t", "", (r) => r.kind);
      heading(c.heading, c.modelled ? "m" : "", c.doc, (r) => (r.error === null ? member(r, c.path) : null));
    }
    let last = null;
    for (const [n, r] of results.entries()) {
      const row = element(body, "tr", undefined, r.index !== last ? "first" : undefined);
      row.title = r.params;
      row.dataset.result = n;
      row.dataset.index = r.index;
      row.dataset.mmu = r.mmu;
      last = r.index;
      element(row, "td", point(r), "t point");
      element(row, "td", r.mmu, "t mmu");
      if (r.error !== null) {
        element(row, "td", r.kind + ", failed: " + r.error, "failed").colSpan = columns.length + 1;
        continue;
      }
      for (const [i, c] of shownColumns.entries()) {
        if (i === shaded) element(row, "td", r.kind, "t");
        element(row, "td", grouped(member(r, c.path), c.digits), c.modelled ? "m" : undefined).dataset.field = c.path;
      }
    }
  }

  function makeTools() {
    const rows = [...byId("results").tBodies[0].rows];
    const filter = () => {
      const words = byId("filter").value.toLowerCase().split(/\s+/).filter((w) => w);
      for (const row of rows) {
        const r = results[row.dataset.result], text = (point(r) + " " + r.mmu + " " + r.kind).toLowerCase();
        row.hidden = !words.every((w) => text.includes(w));
      }
      byId("shown").textContent = rows.filter((r) => !r.hidden).length + " of " + rows.length + " results";
    };
    byId("filter").addEventListener("input", filter);
    filter();
    const save = (name, type, text) => {
      const a = document.createElement("a");
      a.href = URL.createObjectURL(new Blob([text], { type }));
      a.download = name;
      a.click();
      URL.revokeObjectURL(a.href);
    };
    byId("csv").addEventListener("click", () => save("penumbra-bench.csv", "text/csv", csv()));
    byId("json").addEventListener("click", () => save("penumbra-bench.json", "application/json", JSON.stringify(doc, null, 1)));
    byId("csv").dataset.lines = csv().split("\r\n").length - 1;
  }
  /* Every result, a row each (RFC 4180). */
  function csv() {
    const quoted = (v) => (v === null || v === undefined ? "" : /[",\r\n]/.test(v) ? '"' + String(v).replace(/"/g, '""') + '"' : v);
    const lines = [["workload", "label", "params", "mmu", "engine", "kind", "ops", "error"].concat(columns.map((c) => c.path))];
    for (const r of results)
      lines.push([r.workload, r.label, r.params, r.mmu, r.engine, r.kind, r.ops, r.error]
        .concat(columns.map((c) => (r.error === null ? member(r, c.path) : null))));
    return lines.map((l) => l.map(quoted).join(",") + "\r\n").join("");
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

  /* Rows of text; the first is the heads. */
  function textTable(table, rows) {
    for (const [i, cells] of rows.entries()) {
      const row = element(i ? table.tBodies[0] || element(table, "tbody") : element(table, "thead"), "tr");
      for (const c of cells) element(row, i ? "td" : "th", c, "t");
    }
  }

  function makeOrigin() {
    const s = doc.settings, say = (name, text) => { element(byId("origin"), "dt", name); element(element(byId("origin"), "dd"), "code", text); };
    say("command", doc.command.map((w) => (/^[\w.,:=\/+-]+$/.test(w) ? w : "'" + w.replace(/'/g, "'\\''") + "'")).join(" "));
    say("program", "penumbra " + doc.version + (doc.revision ? ", revision " + doc.revision : "") + ", " + doc.time);
    say("runs", "up to " + s.repeat + " of each, each in a process of its own, after " + s.warmup + " to warm up" + (s.quick ? ", quick" : ""));
    for (const [name, x] of [["TLB model", s.tlb], ["prices", s.cost_profile], ["kernel", s.inputs.kernel], ["initrd", s.inputs.initrd], ["disk", s.inputs.disk]])
      if (x) say(name, (x.name ? x.name + ", " : grouped(x.bytes) + " bytes, ") + "XXH3 " + x.xxh3);
    for (const d of new Set(good.map((r) => r.mmu + "\n" + r.mmu_detail))) say(...d.split("\n"));
    for (const d of new Set(good.filter((r) => r.dirty_tracker).map((r) => r.workload + " under " + r.mmu + ": " + r.dirty_tracker))) say("dirty log", d);
    const fields = ["cpu", "kernel", "governor", "thp", "load", "pinned_cpu", "guest_memory"];
    const cell = (v) => (v === null || v === undefined ? "–" : Array.isArray(v) ? v.map((x) => x.toFixed(2)).join(" ") : String(v));
    textTable(byId("hosts"), [fields.map((n) => n.replace("_", " ")).concat("KVM's MMU")]
      .concat(doc.hosts.map((h) => fields.map((n) => cell(h[n])).concat(h.kvm ? h.kvm.mmu : "–"))));
    textTable(byId("meanings"), [["column", "is"]].concat(shownColumns.map((c) => [c.heading + (c.modelled ? " (modelled)" : ""), c.doc])));
    const used = [...new Set(results.map((r) => r.workload))];
    textTable(byId("workloads"), [["workload", "an op is one of its", "what"]]
      .concat(used.map((w) => [w, ...(docs[w] || ["", "the whole boot of a Linux guest"])])));
  }

  /* ---- Charts ---- */
  const made = [];
  function section(name, note) {
    element(byId("charts"), "h2", name);
    if (note) element(byId("charts"), "p", note, "note");
    return element(byId("charts"), "div", undefined, "charts");
  }
  /* A chart's numbers as a table, for whoever does not see it. */
  function numbers(figure, data, format, xFormat) {
    const d = element(figure, "details"), text = (v) => (v === null || v === undefined ? "–" : format(v));
    element(d, "summary", "Numbers");
    const table = element(element(d, "div", undefined, "scroll"), "table");
    const xs = data.labels || [...new Set(data.datasets.flatMap((s) => s.data.map((p) => p.x)))].sort((a, b) => a - b);
    const value = (s, x, i) => {
      const j = data.labels ? i : s.data.findIndex((p) => p.x === x), v = s.data[j];
      if (v === null || v === undefined) return "–";
      const range = s.ranges && s.ranges[j];
      return text(Array.isArray(v) ? v[1] : typeof v === "object" ? v.y : v) + (range ? " (" + format(range[0]) + " to " + format(range[1]) + ")" : "");
    };
    textTable(table, [[""].concat(data.datasets.map((s) => s.label))]
      .concat(xs.map((x, i) => [typeof x === "number" ? xFormat(x) : x].concat(data.datasets.map((s) => value(s, x, i))))));
  }
  function chart(parent, type, data, options, wide, height, plugins) {
    const figure = element(parent, "figure", undefined, wide ? "wide" : undefined);
    const box = element(figure, "div", undefined, "chart"), canvas = element(box, "canvas");
    if (height) box.style.height = height + "px";
    Object.assign(options, { animation: false, responsive: true, maintainAspectRatio: false });
    numbers(figure, data, options.format || short, (options.scales.x.ticks || {}).callback || short);
    const c = new Chart(canvas, { type, data, options, plugins: [whiskers].concat(plugins || []) });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", options.plugins.title.text + ". Its numbers stand below it.");
    made.push(c);
    return c;
  }
  function axis(text, log, ticks) {
    const a = { title: { display: true, text }, type: log ? "logarithmic" : "linear", grid: { color: css("--grid") } };
    a.ticks = { maxRotation: 0 };
    if (ticks) a.ticks.callback = ticks;
    return a;
  }
  /* On a logarithmic axis: 1 alone, or the labels run into each other. */
  const sparse = (f) => (v) => (/^1/.test(v.toExponential()) ? f(v) : "");
  const label = (m, what) => m + " (" + (what || kindOf(m)) + ")";
  const legend = { labels: { boxWidth: 24, boxHeight: 1 } }; /* a line's, with its dashes */
  const categories = { ticks: { autoSkip: false }, grid: { color: css("--grid") } };

  /* 95% intervals: dataset.ranges has [low, high] or null for each of its points. */
  const whiskers = {
    id: "whiskers",
    afterDatasetsDraw(c) {
      const ctx = c.ctx, flat = c.options.indexAxis === "y", scale = flat ? c.scales.x : c.scales.y;
      c.data.datasets.forEach((set, s) => {
        if (!set.ranges || !c.isDatasetVisible(s)) return;
        ctx.save();
        ctx.beginPath();
        ctx.rect(c.chartArea.left - 5, c.chartArea.top, c.chartArea.width + 10, c.chartArea.height);
        ctx.clip();
        ctx.strokeStyle = set.borderColor;
        ctx.lineWidth = 1.5;
        c.getDatasetMeta(s).data.forEach((e, i) => {
          if (!set.ranges[i] || e.skip) return;
          const [a, b] = set.ranges[i].map((v) => scale.getPixelForValue(v));
          ctx.beginPath();
          for (const [x, y, dx, dy] of flat ? [[a, e.y, b - a, 0], [a, e.y - 4, 0, 8], [b, e.y - 4, 0, 8]]
            : [[e.x, a, 0, b - a], [e.x - 4, a, 8, 0], [e.x - 4, b, 8, 0]]) {
            ctx.moveTo(x, y);
            ctx.lineTo(x + dx, y + dy);
          }
          ctx.stroke();
        });
        ctx.restore();
      });
    },
  };
  /* Upright lines at places of the x axis: [{ x, text }]. */
  const upright = (places) => ({
    id: "upright",
    afterDatasetsDraw(c) {
      const { ctx, chartArea: area, scales: { x } } = c;
      ctx.save();
      ctx.font = "12px system-ui, sans-serif";
      for (const [i, p] of places.entries()) {
        const where = x.getPixelForValue(p.x);
        if (!(where >= area.left && where <= area.right)) continue;
        const left = where > area.right - 150;
        ctx.strokeStyle = ctx.fillStyle = css("--mark");
        ctx.setLineDash([3, 3]);
        ctx.beginPath();
        ctx.moveTo(where, area.top);
        ctx.lineTo(where, area.bottom);
        ctx.stroke();
        ctx.textAlign = left ? "right" : "left";
        ctx.fillText(p.text, where + (left ? -4 : 4), area.top + 12 + 15 * i);
      }
      ctx.restore();
    },
  });

  /* The picture of the lead: how many times as many cycles as the first MMU. */
  function answer() {
    if (soft.length < 2) return;
    const all = soft.slice(1).map((m) => new Map(ratios(m).map((x) => [x.name, x.ratio])));
    const moved = names.filter((n) => all.some((r) => r.get(n) > EQUAL || r.get(n) < 1 / EQUAL))
      .sort((a, b) => (all[0].get(a) || 1) - (all[0].get(b) || 1));
    if (!moved.length) return;
    const c = section("Who wins, and by how much");
    const values = all.flatMap((r) => moved.map((n) => r.get(n) || 1)), power = (v, up) => 2 ** (up ? Math.ceil : Math.floor)(Math.log2(v) + (up ? 0.1 : -0.1));
    const x = axis(["modelled cycles per op, against " + soft[0] + ": to the left",
      soft.length > 2 ? "of 1× an MMU is cheaper than it" : soft[1] + " is cheaper, to the right " + soft[0]], true);
    [x.min, x.max] = [Math.min(0.5, power(Math.min(...values))), Math.max(2, power(Math.max(...values), true))];
    x.afterBuildTicks = (a) => { a.ticks = []; for (let v = x.min; v <= x.max; v *= 2) a.ticks.push({ value: v }); };
    x.ticks.callback = (v) => (v >= 1 ? v + "×" : "1/" + 1 / v);
    const winner = (m, r) => (r < 1 / EQUAL ? colour(m) : r > EQUAL ? colour(soft[0]) : css("--equal"));
    chart(c, "bar", { labels: moved, datasets: soft.slice(1).map((m, i) => ({ label: m + " against " + soft[0],
      backgroundColor: soft.length > 2 ? colour(m) : moved.map((n) => winner(m, all[i].get(n) || 1)),
      data: moved.map((n) => (all[i].has(n) ? [1, all[i].get(n)] : null)) })) }, {
      indexAxis: "y", format: (v) => v.toFixed(3) + "×", scales: { x, y: categories },
      plugins: { title: { display: true, text: "Modelled cycles per operation, against " + soft[0] }, legend: { display: soft.length > 2 },
        tooltip: { callbacks: { label: (t) => t.dataset.label + ": " + t.raw[1].toFixed(3) + "×" } } },
    }, true, 90 + moved.length * (12 + 8 * (soft.length - 1)));
    if (names.length > moved.length) element(c, "p", "Not drawn: " + (names.length - moved.length) + " points, equal within 2%.", "note wide");
  }

  /* A dot for each point and MMU, with its interval. get: { v, low, high } */
  function dots(parent, heading, used, get, unit, format, what) {
    const shown = names.filter((n) => used.some((m) => at(m, n) && get(at(m, n)).v > 0));
    if (!shown.length) return;
    const datasets = used.map((m, i) => { /* rings, where points coincide */
      const all = shown.map((n) => (at(m, n) ? get(at(m, n)) : {}));
      return { label: label(m, what), borderColor: colour(m), backgroundColor: colour(m), showLine: false, pointStyle: "circle", pointRadius: 3.5 + 1.5 * Math.min(i, 4),
        data: all.map((a) => (a.v > 0 ? a.v : null)), ranges: all.map((a) => (a.low > 0 ? [a.low, a.high] : null)) };
    });
    chart(parent, "line", { labels: shown, datasets }, {
      indexAxis: "y", format, scales: { x: axis(unit + ", logarithmic", true, sparse(format)), y: { ...categories, offset: true } },
      plugins: { title: { display: true, text: heading }, legend: { labels: { usePointStyle: true } }, tooltip: { callbacks: { label: (t) => t.dataset.label + ": " + format(t.raw) } } },
    }, true, 100 + shown.length * 19);
  }

  /* Curves of a sweep: { name, mmu, rest, data: [{ x, y }], ranges }; where: x of a swept value. */
  function curvesOf(workload, parameter, get, where, what) {
    const curves = new Map();
    for (const r of good) {
      if (r.workload !== workload || !r.sweep || r.sweep.parameter !== parameter) continue;
      const rest = r.label.split(" ").filter((p) => p && !p.startsWith(parameter + "=")).join(" ");
      const name = label(r.mmu, what) + (rest ? ", " + rest : ""), v = get(r);
      if (v === null || v === undefined) continue;
      if (!curves.has(name)) curves.set(name, { name, mmu: r.mmu, rest, all: [] });
      curves.get(name).all.push({ x: where(r.sweep.value), ...(typeof v === "object" ? { y: v.v, low: v.low, high: v.high } : { y: v }) });
    }
    for (const c of curves.values()) {
      c.all.sort((a, b) => a.x - b.x);
      c.data = c.all.map(({ x, y }) => ({ x, y }));
      c.ranges = c.all.map((p) => (p.low > 0 ? [p.low, p.high] : null));
    }
    return [...curves.values()];
  }
  /* One line per MMU and curve. o: { heading, xText, yText, log, xTick, yTick, places } */
  function lines(parent, curves, o) {
    if (!curves.some((c) => c.data.length > 1)) return;
    const datasets = curves.map((c) => ({
      label: c.name, data: c.data, ranges: c.ranges, borderColor: colour(c.mmu), backgroundColor: colour(c.mmu),
      borderDash: c.rest ? [6, 4] : [], pointRadius: 3,
    }));
    const xs = [...new Set(curves.flatMap((c) => c.data.map((d) => d.x)))].sort((a, b) => a - b), x = axis(o.xText, true, o.xTick);
    [x.min, x.max] = [xs[0], xs[xs.length - 1]];
    /* Each point of the sweep, but for those whose labels would run into each other. */
    x.afterBuildTicks = (a) => {
      const place = (v) => Math.log(v / xs[0]) / Math.log(xs[xs.length - 1] / xs[0]) * (a.chart.width - 90);
      const kept = xs.reduce((all, v) => (all.length && place(v) - place(all[all.length - 1]) < 46 ? all : all.concat(v)), []);
      a.ticks = kept.map((value) => ({ value }));
    };
    const ends = curves.flatMap((c) => c.ranges.filter((r) => r).flat());
    const range = ends.length ? { suggestedMin: o.log ? Math.min(...ends) : 0, suggestedMax: Math.max(...ends) } : {};
    chart(parent, "line", { datasets }, {
      scales: { x, y: Object.assign(axis(o.yText, o.log, o.yTick), range, o.log ? {} : { beginAtZero: true }) },
      plugins: { title: { display: true, text: o.heading }, legend },
    }, false, 0, o.places ? [upright(o.places)] : []);
  }
  const timePer = (r, n) => ({ v: r.time_ns.median / n, low: r.time_ns.low / n, high: r.time_ns.high / n });
  const perOp = (r) => timePer(r, r.ops > 0 ? r.ops : 1);

  /* ---- Where the cycles go ---- */
  const groups = [
    ["VM exits, the hypervisor's work", (n) => !/^(insn$|l2_tlb_hit|guest_ref|table_ref|remote_ref|exception$|cr3_load$|inval$)/.test(n), 1],
    ["TLB and walks", (n) => /^(l2_tlb_hit|guest_ref|table_ref|remote_ref)/.test(n), 0.7],
    ["guest's exceptions, CR3, INVLPG", (n) => ["exception", "cr3_load", "inval"].includes(n), 0.45],
    ["instructions", () => true, 0.2],
  ];
  function cyclesByGroup(m) {
    const sums = groups.map(() => 0);
    for (const [name, v] of Object.entries(m.cycles_by_cost)) sums[groups.findIndex((g) => g[1](name))] += v;
    return sums;
  }
  /* A colour that many parts of it, the rest the page's ground. */
  function faded(hex, part) {
    const of = (h, i) => parseInt(h.slice(i, i + 2), 16), ground = css("--bg").replace(/^#(.)(.)(.)$/, "#$1$1$2$2$3$3");
    return "rgb(" + [1, 3, 5].map((i) => Math.round(of(hex, i) * part + of(ground, i) * (1 - part))).join(",") + ")";
  }
  function shares(parent) {
    const shown = names.filter((n) => soft.some((m) => at(m, n) && at(m, n).modelled));
    const datasets = soft.slice(0, 3).flatMap((m) => groups.map(([name, , part], g) => ({
      label: m + ": " + name, stack: m, backgroundColor: faded(colour(m), part), borderColor: colour(m), borderWidth: 1,
      data: shown.map((n) => { const r = at(m, n); return r && r.modelled ? 100 * cyclesByGroup(r.modelled)[g] / (r.modelled.cycles || 1) : null; }),
    })));
    chart(parent, "bar", { labels: shown, datasets }, {
      indexAxis: "y", format: (v) => v.toFixed(1) + "%",
      scales: { x: Object.assign(axis("per cent of the modelled cycles"), { stacked: true, max: 100 }), y: { ...categories, stacked: true } },
      plugins: { title: { display: true, text: "Where modelled cycles go" + (soft.length > 3 ? ", under the first three MMUs" : "") } },
    }, true, 160 + shown.length * (8 + 9 * Math.min(soft.length, 3)));
  }

  /* ---- References per walk ---- */
  function histogram(parent) {
    const choices = ["all workloads", ...names.filter((n) => good.some((r) => r.modelled && point(r) === n))];
    const choice = element(parent, "select", undefined, "wide");
    choice.setAttribute("aria-label", "Workload");
    choices.forEach((n) => element(choice, "option", n));
    const share = (m, n) => {
      const sums = [];
      for (const r of good.filter((x) => x.mmu === m && x.modelled && (n === choices[0] || point(x) === n)))
        r.modelled.walks.histogram.forEach((v, i) => { sums[i] = (sums[i] || 0) + v; });
      const all = total(sums) || 1;
      return sums.map((v) => (v ? 100 * v / all : null));
    };
    const datasetsOf = (n) => soft.map((m) => ({ label: label(m, "modelled"), backgroundColor: colour(m), data: share(m, n) }));
    const last = Math.max(4, ...datasetsOf(choices[0]).map((d) => d.data.reduce((a, v, i) => (v ? i : a), 0)));
    const c = chart(parent, "bar", { labels: [...Array(last + 1).keys()], datasets: datasetsOf(choices[0]) }, {
      format: (v) => v.toPrecision(3) + "%",
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
  const rateCurves = () => curvesOf("remap", "touches", (r) => modelled(r, (m) => m.cycles / accesses(r)), rate, "modelled");

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
  function crossing(curves) {
    const [shadow, tdp] = ["shadow", "tdp"].map((m) => curves.find((c) => c.mmu === m));
    return shadow && tdp ? crossings(shadow, tdp) : { found: [], below: null };
  }
  function sayCrossing(curves, where) {
    const { found, below } = crossing(curves);
    if (below === null) return;
    const p = element(where, "p", !found.length ? "While pages are remapped shadow is " + (below ? "cheaper" : "dearer") +
      " than tdp at every rate of the sweep."
      : "The cross-over: shadow " + (below ? "wins while fewer" : "begins to win when more") + " than one page is remapped for every " +
        short(1000 / found[0]) + " accesses (" + short(found[0]) + " per 1,000)" + (below ? "; beyond it tdp does." : "."), "lead");
    p.id = "crossover";
    p.dataset.rate = found.length ? found[0].toPrecision(9) : "";
  }
  function updateCharts() {
    const c = section("Cost against page-table update rate", "remap: pages are unmapped and mapped to other " +
      "frames, with accesses scattered over the region in between. Shadow paging pays for each update, " +
      "tdp for each walk. The cross-over is interpolated between the points of the sweep, both axes logarithmic.");
    const cycles = rateCurves(), places = crossing(cycles).found.map((x) => ({ x, text: "cross-over: " + short(x) }));
    lines(c, cycles, { ...rateAxis, heading: "Modelled cycles per access", yText: "modelled cycles per access", places });
  }
  const rateAxis = { xText: "pages remapped per 1,000 accesses", log: true, xTick: short, yTick: sparse(short) };

  function chaseCharts() {
    const c = section("Pointer chase against working set", "Each load waits for the one before. Upright lines: " +
      "what 4K translations in the modelled TLB reach.");
    const reach = models ? [["L1D", models.reach.l1d], ["L2", models.reach.l2]].filter(([, v]) => v)
      .map(([n, v]) => ({ x: v, text: n + " TLB: " + bytes(v) })) : [];
    const draw = (heading, get, yText) =>
      lines(c, curvesOf("chase", "bytes", (r) => modelled(r, (m) => (r.ops ? get(m) / r.ops : null)), (v) => v, "modelled"),
        { heading, xText: "working set, bytes", yText, xTick: bytes, places: reach });
    draw("Modelled cycles per load", (m) => m.cycles, "modelled cycles per load");
    draw("Modelled TLB misses per load", (m) => m.misses.l2, "walks per load");
    draw("Modelled references per load", (m) => m.walks.references, "references per load");
  }

  /* A sweep over an option of the MMU: one line for each point that it changes. */
  function optionCharts() {
    const sweeps = new Map();
    for (const r of good.filter((x) => x.mmu_sweep && x.modelled)) {
      const { parameter, value } = r.mmu_sweep;
      const rest = r.mmu.split(/[:+]/).filter((p) => !p.startsWith(parameter + "=")).join(" "), key = rest + ": " + parameter;
      if (!sweeps.has(key)) sweeps.set(key, { parameter, rest, lines: new Map() });
      const of = sweeps.get(key).lines;
      if (!of.has(point(r))) of.set(point(r), new Map());
      of.get(point(r)).set(value, r.modelled.cycles);
    }
    for (const [key, s] of sweeps) {
      const values = [...new Set([...s.lines.values()].flatMap((l) => [...l.keys()]))].sort((a, b) => a - b);
      const all = [...s.lines].map(([name, l]) => ({ name, y: values.map((v) => l.get(v) / l.get(values[0])) }))
        .map((l) => ({ ...l, span: Math.max(...l.y) / Math.min(...l.y) })).sort((a, b) => b.span - a.span);
      const moved = all.filter((l) => l.span > 1.005).slice(0, 8), still = all.filter((l) => l.span <= 1.005).length;
      const c = section("Sweep of " + key, "Modelled cycles at each value, against those at the least. " +
        (moved.length ? "Drawn: the points that change most. " : "") + still + " of " + all.length + " points change by less than 0.5%.");
      if (!moved.length || values.length < 2) continue;
      chart(c, "line", { labels: values, datasets: moved.map((l, i) => ({ label: l.name, data: l.y,
        borderColor: more[i % more.length], backgroundColor: more[i % more.length], pointRadius: 3 })) }, {
        format: (v) => v.toFixed(3) + "×",
        scales: { x: { title: { display: true, text: s.parameter } }, y: axis("modelled cycles, at " + values[0] + ": 1") },
        plugins: { title: { display: true, text: s.rest + ": modelled cycles against " + s.parameter }, legend },
      }, true, 380);
    }
  }

  function timeCharts(kind, heading, note) {
    const used = mmus.filter((m) => kindOf(m) === kind);
    if (!used.length) return;
    const c = section(heading, note), curves = (all) => all.filter((x) => used.includes(x.mmu));
    dots(c, "Time per operation, " + kind, used, perOp, "time", time);
    lines(c, curves(curvesOf("chase", "bytes", perOp, (v) => v)),
      { heading: "Time per load, " + kind, xText: "working set, bytes", yText: "ns per load", xTick: bytes });
    lines(c, curves(curvesOf("remap", "touches", (r) => timePer(r, accesses(r)), rate)),
      { ...rateAxis, heading: "Time per access of remap, " + kind, yText: "ns per access" });
  }

  function makeCharts() {
    byId("charts").textContent = "";
    made.splice(0).forEach((c) => c.destroy());
    Chart.defaults.color = css("--fg");
    Chart.defaults.borderColor = css("--grid");
    Chart.defaults.font.size = 13;
    categories.grid.color = css("--grid");
    answer();
    if (soft.length && good.some((r) => r.workload === "remap" && r.sweep)) updateCharts();
    if (soft.length && good.some((r) => r.workload === "chase" && r.sweep)) chaseCharts();
    optionCharts();
    if (soft.length) {
      const m = section("Modelled cycles per operation", "Exact: a repetition gives the same.");
      dots(m, "Modelled cycles per operation", soft, (r) => ({ v: cyclesPerOp(r) }), "cycles per op", short, "modelled");
      shares(m);
      histogram(section("References per walk", "Modelled: after a TLB miss, what its walk reads from memory beyond " +
        "the walk caches; 4 and 24 are full walks of 4 levels, in one dimension and in two."));
    }
    dots(section("Page faults per operation", "Accesses that the tables in use could not answer. No dot: none, or not counted."),
      "Page faults per operation", mmus, (r) => ({ v: r.faults.taken / (r.ops || 1) }), "faults per op", short);
    timeCharts("measured", "Measured time", "On the host's CPU, under KVM. Whiskers: 95% intervals of the median.");
    timeCharts("simulated", "The simulator's own speed", "Time that the software CPU took. It ranks MMUs in its own way, because " +
      "a 2D walk costs it a few loads and a VM exit a call; the modelled cycles say what a processor needs. Whiskers: 95% intervals of the median.");
  }

  makeLead();
  makeTable();
  makeTools();
  makeHistograms();
  makeOrigin();
  if (typeof Chart !== "undefined") {
    makeCharts();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", makeCharts);
  }
  document.body.dataset.ready = "yes";
})();
