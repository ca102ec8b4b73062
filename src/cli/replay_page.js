// SPDX-License-Identifier: MIT
// The page of `penumbra replay --html`: lead, charts and tables from the JSON that stands in it. A sweep of
// one option with numbers is a line over its values; everything else is a bar for each MMU.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id), parsed = (id) => JSON.parse(byId(id).textContent);
  const doc = parsed("data"), columns = parsed("columns"), good = doc.results.filter((r) => r.error === null);
  const grouped = (n) => n.toLocaleString("en-US"), css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const COLORS = ["#4b6cc1", "#2a9d6f", "#c77700", "#8a4fa8", "#c0504d", "#5aa7b8", "#9a8c2f", "#8c8c8c", "#d07ba8", "#6b8e23"];
  function element(parent, tag, text, cls) {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (cls) e.className = cls;
    parent.appendChild(e);
    return e;
  }
  const count = (r, name) => r.counters[name] || 0;
  const moved = (name) => good.some((r) => count(r, name) > 0);

  /* ---- Lead ---- */
  function makeLead() {
    const first = good[0], recorded = doc.recording;
    byId("recorded").textContent = "Recorded under " + recorded.mmu + (recorded.tlb ? " with the TLB model " + recorded.tlb : "") + ": " +
      grouped(recorded.operations) + " operations, of which " + (first ? grouped(first.accesses) : "no") + " accesses.";
    byId("command").textContent = doc.command.join(" ");
    for (const r of doc.results) if (r.error) element(byId("warnings"), "p", r.label + ": " + r.error, "warning");
    for (const r of doc.results) if (r.equal === false) element(byId("warnings"), "p", r.label + ": its counters are not those of the run.", "warning");
    if (recorded.state !== "whole") element(byId("warnings"), "p", "The recording is " + recorded.state + ": this is what could be read.", "warning");
    if (!first) return;
    const by = [...good].sort((a, b) => count(a, "pf_taken") - count(b, "pf_taken")), least = by[0], most = by[by.length - 1];
    const faults = (r) => grouped(count(r, "pf_taken")) + " faults";
    byId("lead").textContent = good.length === 1 || count(least, "pf_taken") === count(most, "pf_taken")
      ? (good.length === 1 ? least.label + " has " : "All have ") + faults(least) + "."
      : "Of " + good.length + " configurations " + least.label + " has the fewest faults, " + grouped(count(least, "pf_taken")) + "; " +
        most.label + " has " + (count(most, "pf_taken") / Math.max(1, count(least, "pf_taken"))).toFixed(2) + " times as many, " +
        grouped(count(most, "pf_taken")) + ".";
  }

  /* ---- Tables ---- */
  function table(id, heads, names) {
    const head = element(element(byId(id), "thead"), "tr"), body = element(byId(id), "tbody");
    element(head, "th", "MMU");
    heads.forEach((h) => element(head, "th", h));
    for (const r of doc.results) {
      const row = element(body, "tr");
      element(row, "td", r.label);
      for (const name of names) element(row, "td", r.error === null ? grouped(count(r, name)) : "–").dataset.counter = name;
    }
  }

  /* ---- Charts ---- */
  const made = [];
  function chart(parent, type, data, title, flat, stacked) {
    const figure = element(byId(parent), "figure", undefined, stacked ? "wide" : undefined);
    const box = element(figure, "div", undefined, "chart"), canvas = element(box, "canvas");
    const rows = data.labels.length, grid = { color: css("--grid") };
    box.style.height = (flat ? 90 + rows * 26 : 300) + "px";
    const numbers = { beginAtZero: true, stacked, grid, ticks: { maxRotation: 0 } }, names = { stacked, grid, ticks: { autoSkip: !flat } };
    made.push(new Chart(canvas, { type, data, options: {
      animation: false, responsive: true, maintainAspectRatio: false, indexAxis: flat ? "y" : "x",
      scales: flat ? { x: numbers, y: names } : { x: names, y: numbers },
      plugins: { title: { display: true, text: title }, legend: { display: data.datasets.length > 1 } } } }));
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", title + ". Its numbers stand in the table.");
  }

  /* What all have swept, and the lines of it: results alike but for the value. NULL: nothing is, or words are. */
  function sweep() {
    const parameter = good[0].mmu_sweep && good[0].mmu_sweep.parameter;
    if (!parameter || !good.every((r) => r.mmu_sweep && r.mmu_sweep.parameter === parameter && typeof r.mmu_options[parameter] === "number")) return null;
    const values = [...new Set(good.map((r) => r.mmu_sweep.value))].sort((a, b) => a - b), lines = new Map();
    for (const r of good) {
      const name = r.label.split(/[:+]/).filter((p) => !p.startsWith(parameter + "=")).join(" ");
      if (!lines.has(name)) lines.set(name, []);
      lines.get(name)[values.indexOf(r.mmu_sweep.value)] = r;
    }
    return values.length < 3 ? null : { parameter, values, lines: [...lines] };
  }

  function makeCharts() {
    for (const id of ["faults", "charts"]) byId(id).textContent = "";
    made.splice(0).forEach((c) => c.destroy());
    Chart.defaults.color = css("--fg");
    Chart.defaults.font.size = 13;
    const kinds = columns.filter((c) => c.fault && moved(c.counter)), labels = good.map((r) => r.label);
    chart("faults", "bar", { labels, datasets: kinds.map((k, i) => ({ label: k.heading, data: good.map((r) => count(r, k.counter)),
      backgroundColor: COLORS[i % COLORS.length] })) }, "Faults by what became of them", true, true);
    const swept = sweep();
    for (const c of columns.filter((c) => c.chosen && moved(c.counter))) {
      if (swept) chart("charts", "line", { labels: swept.values, datasets: swept.lines.map(([label, all], i) => ({ label,
        data: swept.values.map((_, k) => (all[k] ? count(all[k], c.counter) : null)), borderColor: COLORS[i % COLORS.length],
        backgroundColor: COLORS[i % COLORS.length] })) }, c.heading + " by " + swept.parameter, false, false);
      else chart("charts", "bar", { labels, datasets: [{ label: c.heading, data: good.map((r) => count(r, c.counter)),
        backgroundColor: COLORS[0] }] }, c.heading, true, false);
    }
  }

  makeLead();
  const chosen = columns.filter((c) => c.chosen && moved(c.counter)), every = good.length ? Object.keys(good[0].counters).filter(moved) : [];
  table("chosen", chosen.map((c) => c.heading), chosen.map((c) => c.counter));
  table("every", every, every);
  if (good.length) {
    makeCharts();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", makeCharts);
  }
  document.body.dataset.ready = "yes";
})();
