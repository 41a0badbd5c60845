"use strict";
// The values under the pointer. Everything else is drawn already.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("data");
const names = read("names");
const tip = document.getElementById("tip");

const shows = (run) => {
  const box = document.getElementById(`show-${run}`);
  return !box || box.checked;
};
const short = (x) => {
  const size = Math.abs(x);
  if (x === 0 || (size >= 1e-3 && size < 1e7)) return String(Number(x.toPrecision(5)));
  return x.toExponential(2);
};

// The point of a line that is nearest in x; lines are in order.
function nearest(points, column, x) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][column] < x) low = middle; else high = middle;
  }
  return Math.abs(points[low][column] - x) < Math.abs(points[high][column] - x) ? points[low] : points[high];
}

function row(series, value) {
  const tr = document.createElement("tr");
  const [head, cell, swatch] = ["th", "td", "i"].map((tag) => document.createElement(tag));
  swatch.className = `swatch run-${series.run}`;
  head.append(swatch, `${names.length > 1 ? names[series.run] + " · " : ""}${series.name}`);
  cell.textContent = short(value);
  tr.append(head, cell);
  return tr;
}

function point(svg, event) {
  const { by, low, high, left, right } = svg.dataset;
  const column = by === "step" ? 0 : 1;
  const box = svg.getBoundingClientRect();
  const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
  const share = Math.min(1, Math.max(0, (at - left) / (right - left)));
  const x = Number(low) + share * (high - low);
  const lines = data[svg.closest("figure").dataset.figure].filter((s) => s.points.length && shows(s.run));
  if (!lines.length) return leave(svg);
  const found = lines.map((s) => [s, nearest(s.points, column, x)]);
  const table = document.createElement("table");
  table.append(...found.map(([s, p]) => row(s, p[2])));
  const title = document.createElement("b");
  const [step, seconds] = found[0][1];
  title.textContent = `step ${step} · ${short(seconds)} s`;
  tip.replaceChildren(title, table);
  tip.hidden = false;
  const wide = tip.offsetWidth;
  const side = event.clientX + 16 + wide > window.innerWidth ? event.clientX - wide - 12 : event.clientX + 16;
  tip.style.left = `${Math.max(4, side)}px`;
  tip.style.top = `${Math.min(event.clientY + 12, window.innerHeight - tip.offsetHeight - 4)}px`;
  const cursor = svg.querySelector(".cursor");
  cursor.style.visibility = "visible";
  cursor.setAttribute("transform", `translate(${Number(left) + share * (right - left)} 0)`);
}

function leave(svg) {
  tip.hidden = true;
  svg.querySelector(".cursor").style.visibility = "hidden";
}

for (const svg of document.querySelectorAll(".chart svg")) {
  svg.addEventListener("pointermove", (event) => point(svg, event));
  svg.addEventListener("pointerdown", (event) => point(svg, event));
  svg.addEventListener("pointerleave", () => leave(svg));
}
document.documentElement.dataset.ready = String(document.querySelectorAll(".chart").length);
