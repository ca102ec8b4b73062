// SPDX-License-Identifier: MIT
// Put behind the result page's own script: uses the page as a reader would, and leaves what it
// finds wrong in the body's data-wrong. page.sh sets `theme` and `width` before it.
"use strict";
(() => {
  const wrong = [], check = (ok, what) => { if (!ok) wrong.push(what); };
  const body = document.body, root = document.documentElement;
  const results = JSON.parse(document.getElementById("data").textContent).results;

  // The theme: ground and text.
  const light = (c) => c.match(/\d+/g).slice(0, 3).reduce((a, v) => a + +v, 0) / 3;
  const ground = light(getComputedStyle(body).backgroundColor), text = light(getComputedStyle(body).color);
  check(theme === "dark" ? ground < 64 && text > 192 : ground > 192 && text < 64, theme + ": ground " + ground + ", text " + text);

  // The width: only tables scroll aside.
  check(innerWidth === width, "the window is " + innerWidth + " wide");
  check(root.scrollWidth <= innerWidth, "the page is " + root.scrollWidth + " wide");

  // Charts: drawn, named, and their numbers beside them.
  const canvases = [...document.querySelectorAll("canvas")];
  check(canvases.length >= 10, canvases.length + " charts");
  for (const c of canvases) {
    const name = c.getAttribute("aria-label") || "no name", pixels = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    check(c.getAttribute("role") === "img" && name.length > 20, "a chart without a text: " + name);
    check(pixels.some((v) => v), "nothing is drawn: " + name);
    const chart = Chart.getChart(c);
    for (const s of Object.values(chart.scales)) {
      const room = s.isHorizontal() ? chart.width : chart.height;
      chart.ctx.font = "12px sans-serif";
      for (const line of s.options.title.display ? [].concat(s.options.title.text) : [])
        check(chart.ctx.measureText(line).width < room * 1.05, "no room for '" + line + "'");
    }
    check(c.closest("figure").querySelectorAll("details td").length > 3, "no numbers: " + name);
  }
  // Every interval has its whisker's ends in the numbers.
  check(/ \(.* to .*\)/.test(document.getElementById("charts").textContent), "no interval in the numbers");
  check([...document.querySelectorAll("#charts td")].some((d) => d.textContent === "64 K"), "a working set is not in its units");
  check(document.querySelectorAll("#lead .lead").length >= 2, "no lead");
  check(body.textContent.indexOf("modelled") < body.textContent.indexOf("simulator"), "the modelled answer is not first");

  // The table: its first columns stay, it sorts, it filters.
  const table = document.getElementById("results"), rows = () => [...table.tBodies[0].rows];
  const scroll = table.closest(".scroll"), first = () => rows()[0].cells[0].getBoundingClientRect().left;
  const left = first();
  scroll.scrollLeft = 300;
  check(scroll.scrollLeft > 0, "the table does not scroll");
  check(Math.abs(first() - left) < 2, "the first column scrolls away");
  const button = [...table.querySelectorAll("th button")].find((b) => b.textContent === "cycles");
  const cycles = () => rows().map((r) => r.querySelector('[data-field="modelled.cycles"]')).filter((c) => c)
    .map((c) => +c.textContent.replace(/,/g, ""));
  for (const sign of [1, -1]) {
    button.click();
    const v = cycles();
    check(v.length > 3 && v.every((x, i) => !i || sign * (x - v[i - 1]) >= 0), "sorting does not sort");
  }
  const input = document.getElementById("filter");
  input.value = "remap tdp";
  input.dispatchEvent(new Event("input"));
  const shown = rows().filter((r) => !r.hidden);
  check(shown.length > 0 && shown.every((r) => /remap/.test(r.textContent) && /tdp/.test(r.textContent)), "the filter does not filter");
  check(shown.length === results.filter((r) => r.workload === "remap" && r.mmu === "tdp").length, "the filter loses rows");
  check(+document.getElementById("csv").dataset.lines === results.length + 1, "the CSV has not every result");

  // Where it comes from.
  const origin = document.getElementById("origin").textContent;
  for (const what of ["penumbra bench --quick", "XXH3 ", "revision "]) check(origin.includes(what), "not told: " + what);
  body.dataset.wrong = wrong.join("; ") || "nothing";
})();
