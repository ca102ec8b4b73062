// SPDX-License-Identifier: MIT
// The page of `penumbra dirty-rate --html`: pages of each harvest over time, and the rows of each table that have
// most of them, from the JSON that stands in it.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id), doc = JSON.parse(byId("data").textContent);
  const grouped = (n) => Math.round(n).toLocaleString("en-US"), css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const COLORS = ["#4b6cc1", "#2a9d6f"], ROWS = 20, TABLES = ["region", "process", "function"];
  const accesses = doc.of === "accesses", done = accesses ? "accessed" : "written";
  function element(parent, tag, text, cls) {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (cls) e.className = cls;
    parent.appendChild(e);
    return e;
  }

  /* ---- Words ---- */
  function makeLead() {
    const most = doc.harvests.reduce((a, b) => (b.pages > a.pages ? b : a));
    byId("lead").textContent = grouped(doc.pages) + " pages " + done + " in " + grouped(doc.harvests.length) + " intervals, " +
      ((doc.to_ns - doc.from_ns) / 1e9).toFixed(3) + " s of guest time: " + grouped(doc.pages_per_s) + " pages/s. At most " + grouped(most.pages) +
      " in one, which ended at " + (most.at_ns / 1e6).toFixed(1) + " ms.";
    byId("whom").textContent = "Of " + grouped(doc.stores) + " " + (accesses ? "accesses" : "stores") + " it is known whose they are: each is the first to its " +
      "page in an interval. Pages that walks, devices or penumbra itself wrote are in the course above alone.";
    if (doc.trace.state !== "whole") element(byId("warnings"), "p", "The trace is " + doc.trace.state + ": this is what could be read.", "warning");
    byId("command").textContent = doc.command.join(" ");
  }

  /* ---- Tables ---- */
  function table(parent, heads, rows) {
    const t = parent.tagName === "TABLE" ? parent : element(element(parent, "div", undefined, "scroll"), "table");
    const head = element(element(t, "thead"), "tr"), body = element(t, "tbody");
    heads.forEach((h) => element(head, "th", h));
    for (const cells of rows) {
      const row = element(body, "tr");
      cells.forEach((c) => element(row, "td", c));
    }
  }

  /* ---- Charts ---- */
  const made = [];
  function chart(parent, type, data, title, flat) {
    const figure = element(byId(parent), "figure", undefined, flat ? undefined : "wide");
    const box = element(figure, "div", undefined, "chart"), canvas = element(box, "canvas"), grid = { color: css("--grid") };
    box.style.height = (flat ? 90 + data.labels.length * 26 : 320) + "px";
    const numbers = { beginAtZero: true, grid, ticks: { maxRotation: 0 } }, names = { grid, ticks: { autoSkip: !flat } };
    made.push(new Chart(canvas, { type, data, options: {
      animation: false, responsive: true, maintainAspectRatio: false, indexAxis: flat ? "y" : "x",
      scales: flat ? { x: numbers, y: names } : { x: { ...names, type: "linear", title: { display: true, text: "guest time, ms" } }, y: numbers },
      plugins: { title: { display: true, text: title }, legend: { display: data.datasets.length > 1 } } } }));
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", title + ". Its numbers stand in the table.");
  }
  const line = (label, get, i) => ({ label, data: doc.harvests.map((h) => ({ x: h.at_ns / 1e6, y: get(h) })), borderColor: COLORS[i],
    backgroundColor: COLORS[i], borderWidth: 1.5, pointRadius: doc.harvests.length > 100 ? 0 : 2, stepped: "after" });

  function makeCharts() {
    for (const id of ["course", "charts"]) byId(id).textContent = "";
    made.splice(0).forEach((c) => c.destroy());
    Chart.defaults.color = css("--fg");
    Chart.defaults.font.size = 13;
    chart("course", "line", { datasets: [line("pages " + done, (h) => h.pages, 0), line("of them by whom is known", (h) => h.stores, 1)] },
      "Pages " + done + " in each interval", false);
    for (const name of TABLES.filter((n) => doc[n] && doc[n].length)) {
      const rows = doc[name].slice(0, ROWS);
      chart("charts", "bar", { labels: rows.map((r) => r.name), datasets: [{ label: "pages", data: rows.map((r) => r.pages), backgroundColor: COLORS[0] }] },
        "Pages by " + name, true);
    }
  }

  makeLead();
  for (const name of TABLES.filter((n) => doc[n] && doc[n].length))
    table(byId("tables"), [name, "pages", "pages/s"], doc[name].map((r) => [r.name, grouped(r.pages), grouped(r.pages_per_s)]));
  table(byId("every"), ["until, ms", "pages", "by whom is known"], doc.harvests.map((h) => [(h.at_ns / 1e6).toFixed(3), grouped(h.pages), grouped(h.stores)]));
  makeCharts();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", makeCharts);
  document.body.dataset.ready = "yes";
})();
