// SPDX-License-Identifier: MIT
// Put behind the script of the page of `penumbra dirty-rate --html`: looks at it as a reader would, and leaves
// what it finds wrong in the body's data-wrong. page.sh sets `study`, the JSON of the same trace.
"use strict";
(() => {
  const wrong = [], check = (ok, what) => { if (!ok) wrong.push(what); };
  const byId = (id) => document.getElementById(id), number = (text) => +text.replace(/[^0-9]/g, "");
  check(document.body.dataset.ready === "yes", "the script did not end");
  const lead = byId("lead").textContent, done = study.of === "accesses" ? "accessed" : "written";
  check(lead.startsWith(study.pages.toLocaleString("en-US") + " pages " + done), "the lead: " + lead);
  const rows = [...byId("every").querySelectorAll("tbody tr")];
  check(rows.length === study.harvests.length, rows.length + " rows of harvests");
  rows.forEach((row, i) => check(number(row.cells[1].textContent) === study.harvests[i].pages, "harvest " + i + " has other pages"));

  // The course has a point for each harvest; a table that is known has a chart, and all of its rows.
  const known = ["region", "process", "function"].filter((n) => study[n] && study[n].length);
  const charts = [...document.querySelectorAll("canvas")].map((c) => [c, Chart.getChart(c)]);
  check(charts.length === 1 + known.length, charts.length + " charts");
  const course = charts[0][1].data.datasets;
  check(course[0].data.reduce((n, p) => n + p.y, 0) === study.pages, "the course has other pages");
  check(course[1].data.reduce((n, p) => n + p.y, 0) === study.harvests.reduce((n, h) => n + h.stores, 0), "the course has other stores");
  known.forEach((name, i) => {
    const table = byId("tables").querySelectorAll("table")[i];
    check(table.querySelectorAll("tbody tr").length === study[name].length, name + ": not all of its rows");
    check(charts[1 + i][1].data.datasets[0].data[0] === study[name][0].pages, name + ": another first bar");
  });
  for (const [canvas] of charts) check(canvas.getAttribute("aria-label").length > 20, "no text for a chart");
  const pixels = charts[0][0].getContext("2d").getImageData(0, 0, charts[0][0].width, charts[0][0].height).data;
  check(pixels.some((v, i) => i % 4 === 3 && v), "nothing is drawn");
  check(document.documentElement.scrollWidth <= innerWidth, "the page is wider than the window");
  document.body.dataset.wrong = wrong.length ? wrong.join("; ") : "nothing";
})();
