# SPDX-License-Identifier: MIT
"""winners.py RESULT.json COMPILER: the picture of README.md, from a result of `penumbra bench`, as SVG.
COMPILER: of the guest that ran, since another one makes other instructions.

Left, how many times as many cycles the dearer MMU needs for one operation. Right, cycles of
one memory access as page tables change more often, and where the two lines cross.
"""
import json
import math
import sys

POINTS = (("chase", "bytes=64M", "random loads in 64 MiB"),
          ("touch", "order=random", "random touches in 64 MiB"),
          ("chase", "bytes=64M page=2M", "the same loads, 2 MiB pages"),
          ("compute", "", "arithmetic in registers"),
          ("ctxsw", "pcid=0", "switch of address spaces"),
          ("protect", "", "mprotect, then write"),
          ("demand", "by=guest", "first touch of a page"),
          ("cow", "", "fork, then copy on write"),
          ("split", "", "split a huge page"))
STYLE = """
 svg { --bg: #ffffff; --fg: #1a1a1a; --soft: #555555; --grid: #dddddd; --shadow: #4b6cc1; --tdp: #2a9d6f; }
 @media (prefers-color-scheme: dark) {
  svg { --bg: #16181c; --fg: #e8e8e8; --soft: #b4b8bf; --grid: #363a42; --shadow: #8aa6f2; --tdp: #52cf9c; } }
 text { font: 14px system-ui, sans-serif; fill: var(--fg); }
 .soft { fill: var(--soft); font-size: 13px; } .head { font-weight: 600; font-size: 16px; } .end { text-anchor: end; }
 .mid { text-anchor: middle; } .shadow { fill: var(--shadow); } .tdp { fill: var(--tdp); }
 .grid { stroke: var(--grid); } .line { fill: none; stroke-width: 3; }
 .line.shadow { stroke: var(--shadow); } .line.tdp { stroke: var(--tdp); stroke-dasharray: 7 4; }
 .fill-shadow { fill: var(--shadow); } .fill-tdp { fill: var(--tdp); } .mark { stroke: var(--soft); stroke-dasharray: 3 3; }
"""


def text(x, y, words, kind=""):
    print(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{words}</text>')


def line(x1, y1, x2, y2, kind):
    print(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')


def bars(cycles, left, middle, top, right):
    """One row for each point: a bar to the side of the MMU that wins."""
    scale = (right - middle) / math.log(25)
    text(left, top - 46, "Which MMU needs fewer cycles, and by how much", "head")
    text(middle - 8, top - 18, "shadow wins", "shadow end")
    text(middle + 8, top - 18, "tdp wins", "tdp")
    for row, (workload, label, words) in enumerate(POINTS):
        y = top + 32 * row
        ratio = cycles[workload, label, "shadow"] / cycles[workload, label, "tdp"]
        length = scale * abs(math.log(ratio))
        text(left, y + 16, words)
        if abs(ratio - 1) < 0.02:
            text(middle + 8, y + 16, "equal", "soft")
        elif ratio > 1:
            print(f'<rect x="{middle}" y="{y}" width="{length:.1f}" height="22" rx="2" class="fill-tdp"/>')
            text(middle + length + 6, y + 16, f"{ratio:.1f} times")
        else:
            print(f'<rect x="{middle - length:.1f}" y="{y}" width="{length:.1f}" height="22" rx="2" class="fill-shadow"/>')
            text(middle + 6, y + 16, f"{1 / ratio:.1f} times")
    line(middle, top - 8, middle, top + 32 * len(POINTS) - 4, "grid")


def curves(cycles, left, top, width, height):
    """Cycles of an access against pages remapped per 1,000 accesses."""
    touches = sorted(int(label[8:]) for workload, label, mmu in cycles
                     if workload == "remap" and label.startswith("touches=") and mmu == "tdp")[::-1]
    lines = {mmu: [(1000 / n, cycles["remap", f"touches={n}", mmu] / n) for n in touches if n >= 16]
             for mmu in ("shadow", "tdp")}
    low, high = lines["tdp"][0][0], lines["tdp"][-1][0]
    ceiling = max(y for points in lines.values() for _, y in points)
    floor = min(y for points in lines.values() for _, y in points) / 1.5

    def place(point):
        return (left + width * math.log(point[0] / low) / math.log(high / low),
                top + height * (1 - math.log(point[1] / floor) / math.log(ceiling / floor)))

    text(left - 40, top - 46, "Where the two cross", "head")
    text(left - 40, top - 18, "modelled cycles of one memory access", "soft")
    for tick in (20, 50, 100, 200, 500):
        if floor < tick < ceiling:
            y = place((low, tick))[1]
            line(left, y, left + width, y, "grid")
            text(left - 6, y + 5, tick, "soft end")
    for tick in (0.3, 1, 3, 10, 30):
        x = place((tick, floor))[0]
        line(x, top, x, top + height, "grid")
        text(x, top + height + 18, tick, "soft mid")
    text(left + width / 2, top + height + 38, "pages remapped per 1,000 accesses", "soft mid")
    for mmu, points in lines.items():
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, points))
        print(f'<polyline points="{way}" class="line {mmu}"/>')
    x, y = place(lines["shadow"][-1])
    text(x - 46, y + 4, "shadow", "shadow end")
    x, y = place(lines["tdp"][-1])
    text(x, y + 24, "tdp", "tdp end")
    for (a, b), (c, d) in zip(zip(lines["shadow"], lines["shadow"][1:]), zip(lines["tdp"], lines["tdp"][1:])):
        before, after = math.log(a[1] / c[1]), math.log(b[1] / d[1])
        if before < 0 <= after:
            rate = a[0] * (b[0] / a[0]) ** (before / (before - after))
            x, y = place((rate, 0.5 * (a[1] + b[1])))
            line(x, top, x, top + height, "mark")
            text(x + 6, top + 16, f"{rate:.2f}: from here on")
            text(x + 6, top + 34, "tdp wins")


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        results = json.load(f)["results"]
    cycles = {(r["workload"], r["label"], r["mmu"]): r["modelled"]["cycles"] / r["ops"] for r in results}
    width, height = 980, 430
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
          'aria-label="Shadow paging wins at random accesses; two-dimensional paging wins wherever page tables change.">')
    print("<!-- Generated by docs/generate.sh: do not edit. SPDX-License-Identifier: MIT -->")
    print(f"<style>{STYLE}</style>")
    print(f'<rect width="{width}" height="{height}" rx="8" style="fill: var(--bg)"/>')
    bars(cycles, 20, 275, 76, 520)
    curves(cycles, 680, 76, 280, 262)
    text(20, height - 16, "Modelled cycles of a processor with Skylake's TLBs under KVM's costs: exact, the same on every host, "
         f"for a guest by {sys.argv[2]}. Less is better.", "soft")
    print("</svg>")


if __name__ == "__main__":
    main()
