"""Style and script of the HTML map of ``isochrone plan``.

The script turns the pointer's place back into degrees (Equal Earth, inverted by Newton's method)
and looks its time up in the grid; cities of the audience and sites within reach come first. Text
is set as text, never as markup.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light; --ink: #22303a; --soft: #5d6b75; --line: #d9dde0; }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: #fff;
  margin: 1.2rem auto; max-width: 1400px; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
.head { margin: .2rem 0 .6rem; } .note { color: var(--soft); font-size: .82rem; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .4rem 0; font-size: .9rem; }
.legend i { display: inline-block; width: 1.1em; height: .8em; margin-right: .4em;
  border: 1px solid #a9a396; }
.legend .dot { width: .7em; height: .7em; border-radius: 50%; border-color: #fff; }
svg { width: 100%; height: auto; display: block; touch-action: pan-y; }
.site { r: 60px; fill: #e4572e; stroke: #fff; stroke-width: 16; }
.name { font-size: 132px; dominant-baseline: central; fill: var(--ink); paint-order: stroke;
  stroke: #fff; stroke-width: 36; stroke-linejoin: round; }
#cities circle { fill: #22303a; fill-opacity: .38; }
#tip { position: fixed; pointer-events: none; background: #22303a; color: #fff; font-size: .85rem;
  padding: .35rem .6rem; border-radius: 4px; max-width: 20rem; white-space: pre-line; z-index: 2; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line);
  font-weight: normal; white-space: nowrap; }
tr:first-child th { color: var(--soft); }
.bars th { color: inherit !important; }
.wide { overflow-x: auto; }
.bar { width: 70%; font-size: 0; }
.bar i { display: inline-block; font: normal 12px system-ui, sans-serif; line-height: 1.5rem;
  height: 1.5rem; text-align: center; overflow: hidden; }
@media (max-width: 700px) {
  .name { display: none; } .site { r: 160px; stroke-width: 40; }
  .bars tr { display: grid; grid-template-columns: 1fr auto auto; }
  .bars td.bar { grid-row: 2; grid-column: 1 / 4; width: auto; } .bars th, .bars td { border: 0; }
}
"""

SCRIPT = """
const map = document.getElementById("map"), tip = document.getElementById("tip");
const cells = Uint8Array.from(atob(DATA.grid), c => c.charCodeAt(0));
const A = [1.340264, -0.081106, 0.000893, 0.003796], M = Math.sqrt(3) / 2;
const group = document.getElementById("cities");
for (const [, x, y, , , share] of DATA.cities) {
  const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  dot.setAttribute("cx", x); dot.setAttribute("cy", y);
  dot.setAttribute("r", Math.min(50, 9 + 20 * Math.sqrt(share)));
  group.append(dot);
}
function degrees(x, y) {
  const px = x / DATA.scale + DATA.west, py = DATA.north - y / DATA.scale;
  let t = py / A[0];
  for (let n = 0; n < 12; n++) {
    const q = t * t, s = q * q * q;
    t -= (t * (A[0] + A[1] * q + s * (A[2] + A[3] * q)) - py)
      / (A[0] + 3 * A[1] * q + s * (7 * A[2] + 9 * A[3] * q));
  }
  const q = t * t, s = q * q * q;
  const slope = A[0] + 3 * A[1] * q + s * (7 * A[2] + 9 * A[3] * q);
  return [px * slope * M / Math.cos(t) * 180 / Math.PI,
    Math.asin(Math.sin(t) / M) * 180 / Math.PI];
}
function nearest(rows, x, y, reach) {
  let best = null, least = reach * reach;
  for (const row of rows) {
    const d = (row[1] - x) ** 2 + (row[2] - y) ** 2;
    if (d <= least) { least = d; best = row; }
  }
  return best;
}
function told(x, y, unit) {
  const site = nearest(DATA.sites, x, y, 9 * unit);
  if (site) return `Site: ${site[0]}\\n${site[3]}`;
  const city = nearest(DATA.cities, x, y, 8 * unit);
  if (city) return `${city[0]}: ${city[3]} ms\\nfrom ${city[4]}; ${city[5]} % of the audience`;
  const [east, north] = degrees(x, y);
  const column = Math.round((east + DATA.middle - DATA.edge[0]) / DATA.step);
  const row = Math.round((north - DATA.edge[1]) / DATA.step);
  if (column < 0 || column >= DATA.columns || row < 0) return "";
  const ms = cells[row * DATA.columns + column];
  return ms === undefined || ms === 255 ? "" : ms === 254 ? "254 ms or more" : `about ${ms} ms`;
}
function tell(event) {
  const box = map.getBoundingClientRect(), unit = map.viewBox.baseVal.width / box.width;
  const text = told((event.clientX - box.left) * unit, (event.clientY - box.top) * unit, unit);
  tip.hidden = !text;
  tip.textContent = text;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  tip.style.left = Math.max(0, left) + "px";
  tip.style.top = event.clientY + 14 + "px";
}
map.addEventListener("pointermove", tell);
map.addEventListener("pointerdown", tell);
map.addEventListener("pointerleave", event => {
  if (event.pointerType === "mouse") tip.hidden = true;
});
"""
