// SPDX-License-Identifier: MIT
// Put behind the script of the page of `penumbra replay --html`: looks at it as a reader would, and leaves
// what it finds wrong in the body's data-wrong. page.sh sets `study`, the JSON of the same replay.
"use strict";
(() => {
  const wrong = [], check = (ok, what) => { if (!ok) wrong.push(what); };
  const byId = (id) => document.getElementById(id), number = (text) => +text.replace(/[^0-9]/g, "");
  check(document.body.dataset.ready === "yes", "the script did not end");
  for (const id of ["chosen", "every"]) {
    const rows = [...byId(id).querySelectorAll("tbody tr")];
    check(rows.length === study.results.length, id + ": " + rows.length + " rows");
    rows.forEach((row, i) => {
      check(row.cells[0].textContent === study.results[i].label, id + ": row " + i + " is " + row.cells[0].textContent);
      for (const cell of [...row.cells].slice(1))
        check(number(cell.textContent) === study.results[i].counters[cell.dataset.counter], id + ": another " + cell.dataset.counter);
    });
  }
  const moved = Object.keys(study.results[0].counters).filter((n) => study.results.some((r) => r.counters[n] > 0));
  check(byId("every").querySelectorAll("thead th").length === moved.length + 1, "not every counter that moved has a column");
  const faults = study.results.map((r) => r.counters.pf_taken), lead = byId("lead").textContent;
  for (const n of [Math.min(...faults), Math.max(...faults)]) check(lead.includes(n.toLocaleString("en-US")), "the lead: " + lead);

  // The bars of a fault's kinds add up to the faults; a sweep has lines, through all its values.
  const charts = [...document.querySelectorAll("canvas")].map((c) => [c, Chart.getChart(c)]);
  check(charts.length === byId("chosen").querySelectorAll("thead th").length, charts.length + " charts");
  const sums = study.results.map((_, i) => charts[0][1].data.datasets.reduce((n, s) => n + s.data[i], 0));
  check(sums.every((n, i) => n === faults[i]), "kinds of faults add up to " + sums);
  const swept = new Set(study.results.map((r) => r.mmu_sweep && typeof r.mmu_options[r.mmu_sweep.parameter] === "number" ? r.mmu_sweep.parameter : "none"));
  const lines = !swept.has("none") && swept.size === 1;
  for (const [canvas, chart] of charts.slice(1)) {
    check(chart.config.type === (lines ? "line" : "bar"), "a chart of type " + chart.config.type);
    check(chart.data.datasets.every((s) => s.data.length === (lines ? 3 : study.results.length) && s.data.every((v) => v !== null)), "a chart lacks points");
    check(canvas.getAttribute("aria-label").length > 20, "no text for a chart");
  }
  const pixels = charts[0][0].getContext("2d").getImageData(0, 0, charts[0][0].width, charts[0][0].height).data;
  check(pixels.some((v, i) => i % 4 === 3 && v), "nothing is drawn");
  check(document.documentElement.scrollWidth <= innerWidth, "the page is wider than the window");
  document.body.dataset.wrong = wrong.length ? wrong.join("; ") : "nothing";
})();
