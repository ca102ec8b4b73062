// SPDX-License-Identifier: MIT
// The page of `penumbra faults --html`: charts and tables of cells, each a number of faults of one
// part of the time, page, function, outcome, cause and address space (inspect/fault_cells.h). Every filter
// is a pass over the cells.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const make = (name, text, parent) => {
    const e = document.createElement(name);
    if (text !== undefined) e.textContent = text;
    if (parent) parent.append(e);
    return e;
  };
  const grouped = (n) => n.toLocaleString("en-US");
  const share = (n, of) => (of ? 100 * n / of : 0).toFixed(1) + "%";
  const COLORS = ["#4b6cc1", "#2a9d6f", "#c77700", "#8a4fa8", "#c0504d", "#5aa7b8", "#9a8c2f", "#8c8c8c", "#d07ba8", "#6b8e23"];
  const SHADES = Array.from({ length: 64 }, (_, i) => "hsl(" + (210 + 140 * i / 63) + " 75% " + (75 - 40 * i / 63) + "%)");
  const seconds = (ns) => ns < 1e3 ? ns + " ns" : ns < 1e6 ? (ns / 1e3).toFixed(1) + " us" : ns < 1e9 ? (ns / 1e6).toFixed(1) + " ms" : (ns / 1e9).toFixed(2) + " s";
  const address = (i) => data.pages[i] === null ? "?" : "0x" + (BigInt(data.pages[i]) << BigInt(data.page_shift)).toString(16);
  const [time, page, func, outcome, cr3, cause] = ["time", "page", "func", "outcome", "cr3", "cause"].map((name) => Int32Array.from(data.cells[name]));
  const faults = Float64Array.from(data.cells.faults);
  const count = faults.length, times = time.reduce((a, b) => Math.max(a, b), 0) + 1;
  const cut = new Map(); // a filter: what it is about -> value, or [from, to]
  const NAMES = { outcome: data.outcomes, func: data.functions, cr3: data.cr3s, cause: data.causes };
  const COLUMNS = { outcome, func, cr3, page, cause };
  const TITLES = { outcome: "Outcome", func: "Function", cr3: "Process", page: "Page", cause: "Cause" };
  const named = (what, value) => what === "page" ? address(value) : NAMES[what][value];

  // Which filters a cell fails, a bit each; then the cells that fail none, or only the one left out.
  const failed = new Uint8Array(count), BITS = { times: 1, pages: 2, outcome: 4, func: 8, cr3: 16, page: 32, cause: 64 };
  function filter() {
    failed.fill(0);
    for (const [what, value] of cut) {
      const column = what === "times" ? time : what === "pages" ? page : COLUMNS[what];
      const [low, high] = Array.isArray(value) ? value : [value, value];
      for (let i = 0; i < count; i++) if (column[i] < low || column[i] > high) failed[i] |= BITS[what];
    }
  }
  function passing(leave) {
    const to = new Int32Array(count), bit = BITS[leave] || 0;
    let n = 0;
    for (let i = 0; i < count; i++) if (!(failed[i] & ~bit)) to[n++] = i;
    return to.subarray(0, n);
  }
  function toggle(what, value) {
    if (cut.get(what) === value) cut.delete(what);
    else cut.set(what, value);
    draw();
  }
  function sums(cells, column) {
    const by = new Float64Array(column.reduce((a, b) => Math.max(a, b), 0) + 1), list = [];
    for (const i of cells) by[column[i]] += faults[i];
    by.forEach((n, key) => { if (n) list.push([key, n]); });
    return list.sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  }

  // ---- Charts ----
  function canvas(id) {
    const c = byId(id), ratio = window.devicePixelRatio || 1, box = c.getBoundingClientRect();
    const height = +c.getAttribute("data-height") || +c.getAttribute("height");
    c.setAttribute("data-height", height);
    c.style.height = height + "px";
    c.width = Math.max(1, Math.round(box.width * ratio));
    c.height = Math.round(height * ratio);
    return [c.getContext("2d"), c.width, c.height];
  }
  const span = () => cut.get("times") || [0, times - 1];
  const rows = () => cut.get("pages") || [0, data.pages.length - 1];

  function timeline(cells) {
    const [g, w, h] = canvas("timeline"), [first, last] = span(), n = last - first + 1;
    const at = Array.from({ length: n }, () => new Float64Array(data.outcomes.length));
    for (const i of cells) at[time[i] - first][outcome[i]] += faults[i];
    const most = at.reduce((a, v) => Math.max(a, v.reduce((x, y) => x + y, 0)), 1);
    at.forEach((v, t) => {
      let y = h;
      v.forEach((f, o) => {
        const high = f / most * h;
        g.fillStyle = COLORS[o % COLORS.length];
        g.fillRect(t * w / n, y - high, Math.max(1, w / n), high);
        y -= high;
      });
    });
    byId("span").textContent = "From " + seconds(data.from + first * data.width) + " to " + seconds(data.from + (last + 1) * data.width) +
      "; at most " + grouped(most) + " faults in " + seconds(data.width) + ".";
    byId("timeline").setAttribute("aria-label", "Faults by time. " + byId("span").textContent);
  }

  function heat(cells) {
    const [g, w, h] = canvas("heat"), [first, last] = span(), [low, high] = rows();
    const across = Math.min(w, last - first + 1), up = Math.min(h, high - low + 1);
    const at = new Float64Array(across * up);
    let most = 1;
    for (const i of cells) {
      const x = Math.floor((time[i] - first) * across / (last - first + 1)), y = Math.floor((page[i] - low) * up / (high - low + 1));
      most = Math.max(most, at[y * across + x] += faults[i]);
    }
    at.forEach((f, k) => {
      if (!f) return;
      const x = k % across, y = Math.floor(k / across);
      g.fillStyle = SHADES[Math.floor(Math.log1p(f) / Math.log1p(most) * (SHADES.length - 1))];
      g.fillRect(x * w / across, h - (y + 1) * h / up, Math.max(2, w / across), Math.max(2, h / up));
    });
    byId("scale").textContent = data.pages.length ? "From " + address(low) + " to " + address(high) + "; at most " + grouped(most) + " faults in a cell." : "";
    byId("heat").setAttribute("aria-label", "Faults by page and time. " + byId("scale").textContent);
  }

  // Drag from one corner to another; a click alone takes the cut away.
  function draggable(id, both) {
    const c = byId(id);
    let start = null;
    const where = (e) => {
      const b = c.getBoundingClientRect(), clamp = (v) => Math.min(0.999999, Math.max(0, v));
      return [clamp((e.clientX - b.left) / b.width), clamp(1 - (e.clientY - b.top) / b.height)];
    };
    c.addEventListener("pointerdown", (e) => { start = where(e); c.setPointerCapture(e.pointerId); });
    c.addEventListener("pointerup", (e) => {
      if (!start) return;
      const end = where(e), range = (k, [first, last]) =>
        [start[k], end[k]].sort((a, b) => a - b).map((v) => first + Math.floor(v * (last - first + 1)));
      if (Math.abs(end[0] - start[0]) < 0.005) {
        cut.delete("times");
        if (both) cut.delete("pages");
      } else {
        const t = range(0, span()), p = range(1, rows());
        cut.set("times", t);
        if (both && Math.abs(end[1] - start[1]) > 0.01) cut.set("pages", p);
      }
      start = null;
      draw();
    });
  }

  function flame(cells) {
    const box = byId("flame"), LEVELS = ["cr3", "func", "outcome"], WIDEST = 400;
    box.replaceChildren();
    box.style.height = "4.4rem";
    const all = cells.reduce((a, i) => a + faults[i], 0);
    let shown = 0;
    const put = (within, depth, left) => {
      for (const [key, n] of depth < LEVELS.length ? sums(within, COLUMNS[LEVELS[depth]]) : []) {
        const width = n / all, what = LEVELS[depth];
        if (width < 0.002 || shown++ > WIDEST) return; /* and all that follow are narrower */
        const b = make("button", named(what, key), box);
        b.type = "button";
        b.style.cssText = "left:" + left * 100 + "%;width:" + width * 100 + "%;bottom:" + depth * 1.4 + "rem;background:" +
          (depth === 2 ? COLORS[key % COLORS.length] : depth ? "#e9c46a" : "#a8c5da");
        b.title = named(what, key) + ": " + grouped(n) + " faults, " + share(n, all);
        b.addEventListener("click", () => toggle(what, key));
        put(within.filter((i) => COLUMNS[what][i] === key), depth + 1, left);
        left += width;
      }
    };
    put(cells, 0, 0);
  }

  // ---- Tables ----
  const TOP = 200;
  function table(what, cells) {
    const parent = byId("tables"), figure = make("section", undefined, parent), list = sums(cells, COLUMNS[what]);
    const all = list.reduce((a, [, n]) => a + n, 0);
    make("h3", TITLES[what] + (list.length > TOP ? ": the first " + TOP + " of " + grouped(list.length) : ""), figure);
    const scroll = make("div", undefined, figure), t = make("table", undefined, scroll), head = make("tr", undefined, make("thead", undefined, t));
    scroll.className = "scroll";
    for (const name of [TITLES[what], "faults", "share"]) make("th", name, head);
    const body = make("tbody", undefined, t);
    t.id = "by-" + what;
    for (const [key, n] of list.slice(0, TOP)) {
      const row = make("tr", undefined, body), b = make("button", named(what, key), make("td", undefined, row));
      b.type = "button";
      make("td", grouped(n), row);
      make("td", share(n, all), row);
      if (cut.get(what) === key) row.className = "on";
      if (data.meanings[what]) row.title = data.meanings[what][key];
      row.addEventListener("click", () => toggle(what, key));
    }
  }

  function filters(cells) {
    const box = byId("filters");
    box.replaceChildren();
    make("span", grouped(cells.reduce((a, i) => a + faults[i], 0)) + " faults" + (cut.size ? " of " + grouped(data.faults) + ":" : ""), box).id = "shown";
    for (const [what, value] of cut) {
      const text = what === "times" ? seconds(data.from + value[0] * data.width) + " to " + seconds(data.from + (value[1] + 1) * data.width)
        : what === "pages" ? address(value[0]) + " to " + address(value[1]) : named(what, value);
      const b = make("button", text + " ×", box);
      b.type = "button";
      b.addEventListener("click", () => { cut.delete(what); draw(); });
    }
  }

  // The same filters on a command line.
  const quoted = (text) => /^[\w.\/:+-]+$/.test(text) ? text : "'" + text.replace(/'/g, "'\\''") + "'";
  function commands() {
    const end = (i) => "0x" + ((BigInt(data.pages[i]) + 1n << BigInt(data.page_shift)) - 1n).toString(16);
    let where = "", study = "";
    const pages = cut.has("page") ? [cut.get("page"), cut.get("page")] : cut.get("pages");
    if (cut.has("times")) where += " --from " + (data.from + cut.get("times")[0] * data.width) + " --to " + (data.from + (cut.get("times")[1] + 1) * data.width - 1);
    if (pages && data.pages[pages[0]] !== null && data.pages[pages[1]] !== null) where += " --gva " + address(pages[0]) + "-" + end(pages[1]);
    if (cut.has("outcome") && data.outcomes[cut.get("outcome")] !== "?") study += " --outcome " + data.outcomes[cut.get("outcome")];
    if (cut.has("cause")) study += " --cause " + data.causes[cut.get("cause")];
    if (cut.has("cr3") && data.cr3s[cut.get("cr3")].startsWith("0x")) study += " --cr3 " + data.cr3s[cut.get("cr3")];
    if (cut.has("func") && !/^[(?]/.test(data.functions[cut.get("func")])) study += " --rip " + quoted(data.functions[cut.get("func")]) + (data.symbols ? " --symbols " + quoted(data.symbols) : "");
    byId("trace").textContent = "penumbra trace " + quoted(data.trace) + " --event page_fault,fault_outcome" + where;
    byId("faults").textContent = "penumbra faults " + quoted(data.trace) + where + study;
  }

  function draw() {
    filter();
    const cells = passing();
    filters(cells);
    timeline(cells);
    heat(cells);
    flame(cells);
    byId("tables").replaceChildren();
    for (const what of ["outcome", "cause", "func", "cr3", "page"]) table(what, passing(what));
    commands();
  }

  byId("lead").textContent = data.lead;
  byId("limits").textContent = "A part of the time is " + seconds(data.width) + ", a page " + (data.page_shift < 20 ? (1 << data.page_shift - 10) + " KiB" : Math.pow(2, data.page_shift - 20) + " MiB") + " here." +
    (data.beyond ? " " + grouped(data.beyond) + " faults found no room." : "") + (data.state === "whole" ? "" : " The trace is " + data.state + ".");
  data.outcomes.forEach((name, o) => {
    const label = make("span", undefined, byId("keys")), key = make("i", undefined, label);
    key.className = "key";
    key.style.background = COLORS[o % COLORS.length];
    label.append(name);
  });
  draggable("timeline", false);
  draggable("heat", true);
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 100); });
  draw();
})();
