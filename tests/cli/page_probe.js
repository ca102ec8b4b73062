// SPDX-License-Identifier: MIT
// Put behind the script of the page of `penumbra faults --html`: uses the page as a reader would, and
// leaves what it finds wrong in the body's data-wrong. page.sh sets `study`, the JSON of the same trace.
"use strict";
(() => {
  const wrong = [], check = (ok, what) => { if (!ok) wrong.push(what); };
  const byId = (id) => document.getElementById(id), number = (text) => +text.replace(/[^0-9]/g, "");
  const shown = () => number(byId("shown").textContent.split(" of ")[0]);
  const rows = (id) => [...byId(id).querySelectorAll("tbody tr")].map((r) => [r.cells[0].textContent, number(r.cells[1].textContent), r]);
  const painted = (id) => {
    const c = byId(id), pixels = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    return pixels.reduce((n, v, i) => n + (i % 4 === 3 && v ? 1 : 0), 0);
  };

  // Without a filter the tables are the study's.
  const [byOutcome, byFunction] = study.tables;
  const same = (id, key, table) => {
    const want = table.rows.slice(0, 200).map((r) => [r[key] === null ? "?" : r[key], r.faults]), got = new Map(rows(id));
    check(want.length === got.size && want.every(([name, n]) => got.get(name) === n), "another table by " + key);
  };
  check(shown() === study.faults, shown() + " faults, not " + study.faults);
  same("by-outcome", "outcome", byOutcome);
  same("by-func", "function", byFunction);
  check(byId("lead").textContent.startsWith(study.faults.toLocaleString("en-US") + " faults in "), "the lead: " + byId("lead").textContent);
  for (const id of ["timeline", "heat"]) {
    check(painted(id) > 20, "nothing is drawn: " + id);
    check(byId(id).getAttribute("aria-label").length > 40, "no text for " + id);
  }
  const frames = [...byId("flame").querySelectorAll("button")];
  check(frames.length > 3, frames.length + " frames");
  check(document.documentElement.scrollWidth <= innerWidth, "the page is wider than the window");

  // A row filters all; the same row again takes that away.
  const before = painted("heat"), [name, faults, row] = rows("by-outcome")[1];
  row.click();
  check(shown() === faults, "filtered by " + name + ": " + shown() + ", not " + faults);
  check(rows("by-outcome").length === byOutcome.rows.length, "the filter took the rows beside it");
  check(rows("by-func").reduce((a, [, n]) => a + n, 0) <= faults, "functions are not filtered");
  check(painted("heat") < before, "the heat map is not filtered");
  check(byId("faults").textContent.includes(" --outcome " + name), "the command: " + byId("faults").textContent);
  rows("by-outcome")[1][2].click();
  check(shown() === study.faults, "the filter did not go");
  const [why, because, cause] = rows("by-cause")[0];
  cause.click();
  check(shown() === because && cause.title.length > 10, "filtered by the cause " + why + ": " + shown() + ", not " + because);
  check(byId("faults").textContent.includes(" --cause " + why), "the command: " + byId("faults").textContent);
  rows("by-cause")[0][2].click();
  frames.find((f) => f.title.startsWith(name + ":")).click();
  check(shown() === faults, "a frame filters to " + shown());
  byId("filters").querySelector("button").click();

  // Dragging over the left half, and one click.
  const drag = (id, x0, y0, x1, y1) => {
    const c = byId(id), box = c.getBoundingClientRect();
    c.setPointerCapture = () => {};
    for (const [type, x, y] of [["pointerdown", x0, y0], ["pointerup", x1, y1]])
      c.dispatchEvent(new PointerEvent(type, { clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
  };
  drag("timeline", 0, 0.5, 0.5, 0.5);
  const left = shown();
  check(left > 0 && left < study.faults && byId("trace").textContent.includes(" --from "), "the left half has " + left);
  drag("timeline", 0.2, 0.5, 0.2, 0.5);
  check(shown() === study.faults, "a click does not take the cut away");
  drag("heat", 0, 0, 1, 0.5);
  check(shown() > 0 && shown() < study.faults && byId("trace").textContent.includes(" --gva 0x"), "the upper half has " + shown());
  document.body.setAttribute("data-commands", byId("faults").textContent + "=" + shown());
  drag("heat", 0.2, 0.5, 0.2, 0.5);

  // As quick as a reader wants it.
  const start = performance.now();
  rows("by-outcome")[0][2].click();
  const took = performance.now() - start;
  document.body.setAttribute("data-took", Math.round(took));
  document.body.setAttribute("data-wrong", wrong.length ? wrong.join("; ") : "nothing");
})();
