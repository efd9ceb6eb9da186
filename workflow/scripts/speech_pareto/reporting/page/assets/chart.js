// The page: what is chosen (state), one function per part that draws it anew, no library.

const study = JSON.parse(document.getElementById("data").textContent);
const budget = makeBudget(study.alpha);
const $ = (id) => document.getElementById(id);
const tasks = Object.keys(study.tasks), costs = Object.keys(study.costs);
const state = { task: tasks[0], condition: "clean", cost: costs[0], scale: "auto", table: "front", limits: {}, off: new Set() };
// a limit is a number in the unit of its column; each step of its slider is the value of a model
const fields = study.limits.map((field) => ({ ...field, get steps() { return valuesOf(field.quantity); } }))
  .filter(({ steps }) => steps.length > 1);
let limits = [], chosen = [], pinned = null;

// ---- small helpers

function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes))
    if (value !== null && value !== false) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}
const percent = (share) => `${Math.round(100 * share)} %`;
const isShown = (point) => !state.off.has(point.recipe) && !state.off.has(`teacher ${point.teacher}`);
const unsure = (point) => point.front.includes(state.cost) && !point.testFront.includes(state.cost);
const here = () => study.points.filter((point) => point.task === state.task);
const label = (point) => point.kind === "teacher" ? `teacher (${point.teacher})`
  : `${point.recipe} ${point.text.ratio}${study.teachers > 1 ? ` of ${point.teacher}` : ""}`;

function valuesOf(quantity) {
  const known = study.points.map((point) => point.values[quantity]).filter((value) => value !== null);
  return [...new Set(known)].sort((a, b) => a - b);
}

function tone(node, point) {
  const [colour] = study.styles[point.recipe];
  const grey = point.kind === "control", ink = point.kind === "teacher";
  node.classList.add("tone", ...(grey ? ["grey"] : ink ? ["ink"] : []));
  node.style.setProperty("--base", colour);
  return node;
}

// Outlines of matplotlib's markers, of radius 1.
function polygon(corners, turn, inner) {
  const count = inner ? 2 * corners : corners;
  return Array.from({ length: count }, (_, i) => {
    const radius = inner && i % 2 ? inner : 1, angle = 2 * Math.PI * i / count + turn;
    return [radius * Math.sin(angle), -radius * Math.cos(angle)];
  });
}
const plus = [[-.35, -1], [.35, -1], [.35, -.35], [1, -.35], [1, .35], [.35, .35], [.35, 1],
  [-.35, 1], [-.35, .35], [-1, .35], [-1, -.35], [-.35, -.35]];
const turned = (shape, angle) => shape.map(([x, y]) =>
  [x * Math.cos(angle) - y * Math.sin(angle), x * Math.sin(angle) + y * Math.cos(angle)]);
const SHAPES = {
  o: polygon(24, 0), s: polygon(4, Math.PI / 4), D: polygon(4, 0), p: polygon(5, 0),
  "^": polygon(3, 0), ">": polygon(3, Math.PI / 2), v: polygon(3, Math.PI), "<": polygon(3, -Math.PI / 2),
  h: polygon(6, 0), H: polygon(6, Math.PI / 6), 8: polygon(8, Math.PI / 8), "*": polygon(5, 0, .42),
  d: polygon(4, 0).map(([x, y]) => [.6 * x, y]), P: plus, X: turned(plus, Math.PI / 4),
};
function marker(point, radius) {
  const shape = SHAPES[study.styles[point.recipe][1]];
  const path = shape.map(([x, y]) => `${(radius * x).toFixed(2)},${(radius * y).toFixed(2)}`);
  return svg("path", { class: "mark", d: `M${path.join("L")}Z` });
}

// ---- scales

const xOf = (point) => point.values[point.sparse && study.costs[state.cost].sparse || state.cost];

function ticks(low, high, log) {
  if (log) {
    for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 6, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9]]) {
      const found = [];
      for (let p = -9; p < 16; p++) for (const s of steps)
        if (s * 10 ** p >= low && s * 10 ** p <= high) found.push(s * 10 ** p);
      if (found.length >= 4 || steps.length === 9) return found;
    }
  }
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((s) => s * power >= rough);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

function short(value, quantity) {
  // in the largest unit that is not more than the value
  const units = Object.entries(study.units[quantity]).sort(([, a], [, b]) => b - a);
  const [name, size] = units.find(([, s]) => value >= s * (1 - 1e-9)) || ["", 1];
  return `${Number((value / size).toPrecision(3))}${value && name ? ` ${name}` : ""}`;
}

// ---- the chart

function drawChart() {
  const chart = $("chart"), width = $("plot").clientWidth, narrow = width < 560;
  const height = Math.round(Math.max(300, Math.min(500, width * .62)));
  const box = { left: 44, right: width - (narrow ? 10 : 20), top: 12, bottom: height - 26 };
  const facts = study.tasks[state.task], lower = facts.better === "lower";
  const all = here().filter((p) => p.n > 0 && xOf(p) !== null && p.values.score !== null);
  const shown = all.filter(isShown);
  chart.replaceChildren();
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.setAttribute("height", height);
  if (!all.length) {
    chart.append(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" },
      here().some((p) => p.n > 0) ? "it was not measured" : "nothing is done yet"));
    return;
  }
  const xs = all.map(xOf), low = Math.min(...xs), high = Math.max(...xs);
  const log = state.scale === "log" || (state.scale === "auto" && high >= 8 * low);
  const times = Math.max(2, high / low);  // where all cost the same, too, there is an axis
  const [x0, x1] = log ? [low / times ** .08, high * times ** .06] : [0, 1.06 * high];
  const part = log ? (v) => Math.log(v / x0) / Math.log(x1 / x0) : (v) => v / x1;
  const x = (value) => box.left + (box.right - box.left) * Math.max(0, Math.min(1, part(value)));
  const spread = (p) => p.spread || 0;
  let bottom = Math.min(...all.map((p) => p.values.score - spread(p)));
  let top = Math.max(...all.map((p) => p.values.score + spread(p)));
  if (lower) top = Math.min(top, 100);
  const margin = Math.max(top - bottom, 10) * .06;
  [bottom, top] = [bottom - margin, top + margin];
  const y = (value) => box.bottom - (box.bottom - box.top) * (Math.min(value, top) - bottom) / (top - bottom);

  const grid = svg("g");
  chart.append(grid);
  const worst = lower ? box.top : box.bottom;
  const front = shown.filter((p) => p.front.includes(state.cost))
    .sort((a, b) => xOf(a) - xOf(b) || (lower ? 1 : -1) * (a.choice - b.choice));
  if (front.length) {
    let steps = `M${x(xOf(front[0]))},${y(front[0].values.score)}`;
    for (const p of front.slice(1)) steps += `H${x(xOf(p))}V${y(p.values.score)}`;
    chart.prepend(svg("path", { class: "held", d: `${steps}H${box.right}V${worst}H${x(xOf(front[0]))}Z` }));
    chart.append(svg("path", { class: "front", d: steps }));
  }
  for (const value of ticks(bottom, top, false)) {
    grid.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
    chart.append(svg("text", { x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, `${Number(value.toPrecision(6))} %`));
  }
  const xTicks = ticks(x0, x1, log).filter((_, i, list) => !narrow || list.length < 7 || i % 2 === 0);
  for (const value of xTicks) {
    chart.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: box.bottom, y2: box.bottom + 5 }));
    chart.append(svg("text", { x: x(value), y: box.bottom + 19, "text-anchor": "middle" }, short(value, state.cost)));
  }
  for (const limit of limits) drawLimit(chart, limit, { x, y, box });

  for (const points of Object.values(Object.groupBy(shown, (p) => `${p.teacher}\n${p.recipe}`))) {
    const [first] = points, star = shown.find((p) => p.kind === "teacher" && p.teacher === first.teacher);
    if (first.kind === "teacher") {
      const at = y(first.values.score);
      chart.append(svg("line", { class: "level", x1: box.left, x2: box.right, y1: at, y2: at }));
      continue;
    }
    const path = [...(star ? [star] : []), ...points.sort((a, b) => a.ratio - b.ratio)];
    const places = path.map((p) => `${x(xOf(p))},${y(p.values.score)}`);
    chart.append(tone(svg("path", { class: `path ${first.kind}`, d: `M${places.join("L")}` }), first));
  }
  const order = (p) => chosen.indexOf(p) >= 0 ? 2 : p.front.includes(state.cost) ? 1 : 0;
  for (const point of [...shown].sort((a, b) => order(a) - order(b)))
    chart.append(drawPoint(point, x(xOf(point)), y(point.values.score), y));
  drawNames(chart, shown, x, y, box);
}

function drawLimit(chart, limit, { x, y, box }) {
  const less = limit.bound === "max";
  let [x1, x2, y1, y2] = [box.left, box.right, box.top, box.bottom];
  if (limit.quantity === state.cost) [x1, x2] = less ? [x(limit.value), x2] : [x1, x(limit.value)];
  else return;
  [y1, y2] = [Math.max(y1, box.top), Math.min(y2, box.bottom)];
  chart.append(svg("rect", { class: "outside", x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) }));
}

function drawPoint(point, x, y, scale) {
  const onFront = point.front.includes(state.cost), rank = chosen.indexOf(point);
  const names = ["point", point.kind, onFront && "on-front", point.sparse && "hollow",
    limits.length && !budget.within(point, limits) && "dim", rank === 0 && "best", rank > 0 && "tie"];
  const said = `${label(point)}: ${point.text.score} %, ${study.costs[state.cost].short} ${point.text[state.cost]}`;
  const node = svg("g", { class: names.filter(Boolean).join(" "), tabindex: 0, role: "button", "aria-label": said,
    transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`, "data-key": point.key });
  node.append(svg("circle", { class: "halo", r: 17 }), svg("circle", { class: "hit", r: 13 }));
  if (point.spread) {
    const [a, b] = [1, -1].map((sign) => scale(point.values.score + sign * point.spread) - y);
    node.append(svg("path", { class: "bar", d: `M-4,${a}H4M0,${a}V${b}M-4,${b}H4` }));
  }
  if (point.as_good) node.append(svg("circle", { class: "ring", r: 11 }));
  node.append(marker(point, point.kind === "teacher" ? 11 : point.kind === "control" ? 6 : 7));
  if (unsure(point)) node.append(svg("path", { class: "unsure", d: "M-9,-9L9,9M-9,9L9,-9" }));
  node.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && !pinned && showCard(point, node));
  node.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !pinned && hideCard());
  node.addEventListener("focus", () => !pinned && showCard(point, node));
  node.addEventListener("blur", () => !pinned && hideCard());
  node.addEventListener("click", (event) => { event.stopPropagation(); pin(point, node); });
  node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pin(point, node); }
  });
  return tone(node, point);
}

// Names at the last point of a method on the front, at teachers and at what is recommended.
function drawNames(chart, shown, x, y, box) {
  const wanted = new Map();
  for (const point of shown) {
    const name = point.kind === "teacher" ? `teacher ${point.text.score} %` : point.recipe;
    if (chosen[0] === point) wanted.set(point, `${label(point)}: ${point.text.score} %`);
    else if (point.kind === "teacher" || point.front.includes(state.cost)) wanted.set(point, name);
  }
  const taken = shown.map((p) => [x(xOf(p)) - 8, y(p.values.score) - 8, 16, 16]);
  const ranked = [...wanted].sort(([a], [b]) =>
    (b === chosen[0]) - (a === chosen[0]) || (b.kind === "teacher") - (a.kind === "teacher") || a.ratio - b.ratio);
  for (const [point, name] of ranked) {
    const node = tone(svg("text", { class: "name" }, name), point);
    chart.append(node);
    const { width } = node.getBBox(), px = x(xOf(point)), py = y(point.values.score);
    const spots = [[px + 12, py - 6], [px - width - 12, py - 6], [px + 12, py + 17], [px - width - 12, py + 17],
      [px - width / 2, py - 15], [px - width / 2, py + 24]];
    const free = spots.find(([left, base]) => left >= box.left && left + width <= box.right + 4 && base > 12 &&
      base < box.bottom && !taken.some(([a, b, w, h]) => left < a + w && left + width > a && base - 11 < b + h && base + 3 > b));
    if (!free) { node.remove(); continue; }
    node.setAttribute("x", free[0]);
    node.setAttribute("y", free[1]);
    taken.push([free[0], free[1] - 11, width, 14]);
  }
}
