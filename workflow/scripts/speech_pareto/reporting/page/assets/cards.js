// What stands around the chart: the card of a point, the budget and its answer, methods, table.

function showCard(point, node) {
  const card = $("card"), text = point.text, facts = study.tasks[point.task];
  const rows = [
    [facts.short, `${text.score} %`],
    ["seeds done", text.seeds],
    ["against teacher", text.difference],
    ...Object.entries(study.columns).map(([column, name]) => [name, text[column]]),
  ];
  if (point.ties[state.cost]) rows.push(["no worse than", point.ties[state.cost]]);
  if (point.status !== "ok") rows.push(["status", text.status]);
  const list = html("dl", {}, ...rows.flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, value)]));
  const links = point.links.map(({ seed, ...files }) => html("div", {}, `seed ${seed}: `,
    ...Object.entries(files).flatMap(([name, path], i) =>
      [i ? " · " : "", html("a", { href: study.base + encodeURI(path), target: "_blank" }, name)])));
  card.replaceChildren(html("b", {}, label(point)), list, ...links);
  card.className = "";
  tone(card, point);
  card.hidden = false;
  // in the upper right corner, where beaten points are, unless this is one of them
  const plot = $("plot").getBoundingClientRect(), at = node.getBoundingClientRect();
  const covered = at.right - plot.left > plot.width - card.offsetWidth - 20 && at.top - plot.top < card.offsetHeight + 20;
  card.style.right = covered ? "auto" : "0";
  card.style.left = covered ? "44px" : "auto";
}

function hideCard() {
  $("card").hidden = true;
}

function pin(point, node) {
  unpin();
  pinned = node;
  node.classList.add("pinned");
  showCard(point, node);
  drawExamples(point);
}

function unpin() {
  if (pinned) pinned.classList.remove("pinned");
  pinned = null;
  hideCard();
  drawExamples(chosen[0]);
}

function drawLimits() {
  $("limits").replaceChildren(...fields.map(({ name, label, bound, quantity, steps }) => {
    const free = bound === "max" ? steps.length - 1 : 0;
    const input = html("input", { id: name, type: "range", min: 0, max: steps.length - 1 });
    const output = html("output", { for: name });
    const show = () => {
      const value = state.limits[name];
      output.textContent = value === undefined ? "any" : short(value, quantity);
      input.setAttribute("aria-valuetext", output.textContent);
    };
    const limit = state.limits[name];
    input.value = limit === undefined ? free : bound === "max" ? steps.filter((step) => step <= limit).length - 1
      : steps.filter((step) => step < limit).length;
    input.addEventListener("input", () => {
      if (Number(input.value) === free) delete state.limits[name];
      else state.limits[name] = steps[input.value];
      show();
      update();
    });
    show();
    return html("div", {}, html("label", { for: name }, label), output, input);
  }));
}

function answer() {
  limits = fields.filter(({ name }) => name in state.limits)
    .map(({ name, bound, quantity }) => ({ bound, quantity, value: state.limits[name] }));
  chosen = limits.length ? budget.choose(study, limits, state.task) : [];
  const shown = limits.length ? [state.task, ...tasks.filter((other) => other !== state.task)] : [];
  $("answer").replaceChildren(...shown.map(pick));
}

function pick(task) {
  const facts = study.tasks[task], [best, ...ties] = budget.choose(study, limits, task);
  if (!best) return html("div", { class: "pick" }, html("div", { class: "quiet" }, task), "No student is within this budget.");
  const text = best.text;
  const costs = `${text.parameters} parameters · ${text.macs_per_second} MACs/s · ${text.seconds} · RTF ${text.rtf} · ${text.bytes}`;
  const teacher = study.points.find((p) => p.task === task && p.kind === "teacher" && p.teacher === best.teacher);
  const fits = teacher && budget.whole(teacher) && budget.within(teacher, limits);
  const node = html("div", { class: "pick" },
    html("span", { class: "big" }, `${text.score} %`),
    html("div", { class: "quiet" }, `${task}, best ${facts.short}`),
    html("b", {}, label(best)), best.kind === "control" ? " (control)" : "",
    html("div", {}, costs),
    html("div", { class: "quiet" }, `against the teacher ${text.difference}`),
    ties.length ? html("div", {}, "tie: ", ties.map((p) => `${label(p)} (${p.text.score} %)`).join(", ")) : null,
    fits ? html("div", { class: "quiet" }, `the teacher itself is within this budget: ${teacher.text.score} %`) : null);
  return tone(node, best);
}

function drawMethods() {
  const box = $("methods"), groups = { student: "methods", control: "controls", teacher: "teacher" };
  const buttons = [["all", () => state.off.clear()],
    ["none", () => here().forEach((p) => p.kind === "student" && state.off.add(p.recipe))]];
  box.replaceChildren(html("div", {}, ...buttons.map(([name, act]) => {
    const button = html("button", { type: "button" }, name);
    button.addEventListener("click", () => { act(); drawMethods(); update(); });
    return button;
  })));
  for (const [kind, title] of Object.entries(groups)) {
    const points = new Map(study.points.filter((p) => p.kind === kind).map((p) =>
      kind === "student" ? [p.recipe, p] : [p.role === "teacher" ? `teacher ${p.teacher}` : p.recipe, p]));
    if (!points.size) continue;
    const list = [...points].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, point]) => {
      const input = html("input", { type: "checkbox", checked: state.off.has(name) ? null : "" });
      input.addEventListener("change", () => { state.off[input.checked ? "delete" : "add"](name); update(); });
      const icon = tone(svg("svg", { class: "point", viewBox: "-9 -9 18 18", "aria-hidden": true }, marker(point, 7)), point);
      return html("label", {}, input, icon, name.replace(/^teacher /, ""));
    });
    box.append(html("h3", {}, title), html("div", {}, ...list));
  }
}

function drawTable() {
  const facts = study.tasks[state.task], lower = facts.better === "lower";
  const columns = { score: `${facts.short} %`, difference: "against teacher", ...study.columns, seeds: "seeds" };
  const frontOnly = state.table === "front";
  const points = here().filter((p) => isShown(p) && (!frontOnly || p.front.includes(state.cost)));
  const rank = (p) => p.values.score === null ? Infinity : lower ? p.values.score : -p.values.score;
  points.sort((a, b) => rank(a) - rank(b) || (a.key < b.key ? -1 : 1));
  const head = html("tr", {}, ...["recipe", ...Object.values(columns), "remark"].map((name) => html("th", { scope: "col" }, name)));
  const rows = points.map((point) => {
    const at = chosen.indexOf(point), tied = point.ties[state.cost];
    const remarks = [at === 0 && "recommended", at > 0 && "tie with the recommended",
      tied && `dearer ${tied} is no better`, unsure(point) && study.unsure, point.status !== "ok" && point.text.status, point.kind === "control" && "control"];
    const outside = limits.length && !budget.within(point, limits);
    const names = [point.front.includes(state.cost) && "front", at === 0 && "best", outside && "dim"];
    return html("tr", { class: names.filter(Boolean).join(" "), "data-key": point.key },
      html("td", {}, tone(html("span", { class: "dot" }), point), label(point)),
      ...Object.keys(columns).map((name) => html("td", { "data-column": name }, point.text[name])),
      html("td", {}, remarks.filter(Boolean).join("; ")));
  });
  $("table").replaceChildren(html("thead", {}, head), html("tbody", {}, ...rows));
}

function drawWords() {
  const facts = study.tasks[state.task], cost = study.costs[state.cost];
  $("study").textContent = `Study “${study.study}”: ${study.done}.`;
  $("message").textContent = (study.messages[state.task] || {})[state.cost] || `${facts.short} against ${cost.short}`;
  const where = state.condition === "clean" ? "" : state.condition === "worst" ? ", in each one's worst condition" : `, in ${state.condition}`;
  $("axis").textContent = `${facts.heading}${where}; ${study.chosenOn[facts.chosenOn]}; against ${cost.label.replace("{speech}", facts.take ? `a ${facts.take}` : "speech")}`;
  const points = here().filter(isShown);
  const notes = ["line: the front, no method measured is cheaper and better",
    points.some((p) => p.spread) && "bars: ± 1 standard deviation over seeds",
    points.some((p) => p.as_good) && `ring: ${study.asGood}`,
    points.some(unsure) && `×: ${study.unsure}`,
    points.some((p) => p.sparse) && `hollow: zeros, neither faster nor smaller${cost.sparse ? ", drawn at their non-zero parameters" : ""}`,
    "grey: controls", "click a point to keep its card"];
  const waiting = points.filter((p) => p.status !== "ok").length;
  if (waiting) notes.push(`${waiting} points with holes are in the table (all)`);
  $("notes").textContent = notes.filter(Boolean).join("  ·  ");
}

// ---- choices, and what follows from them

function choices(id, name, options) {
  $(id).replaceChildren(...Object.entries(options).map(([value, text]) => {
    const input = html("input", { type: "radio", name, value, checked: state[name] === value ? "" : null });
    input.addEventListener("change", () => { state[name] = value; update(); });
    return html("label", {}, input, text);
  }));
}

function update() {
  unpin();
  answer();
  drawWords();
  drawChart();
  drawTable();
  drawTables();
  drawExamples(chosen[0]);
  const { task, cost, scale, condition } = state, heard = condition === "clean" ? {} : { condition };
  location.replace(`#${new URLSearchParams({ task, cost, scale, ...heard, ...state.limits })}`);
}

function start() {
  const conditions = ["clean", ...Object.keys(study.heard)];
  const known = { task: tasks, cost: costs, scale: ["auto", "linear", "log"], condition: conditions };
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if ((known[name] || []).includes(value)) state[name] = value;
    const number = parseFloat(value);
    if (fields.some((field) => field.name === name) && Number.isFinite(number)) state.limits[name] = number;
  }
  choices("tasks", "task", Object.fromEntries(tasks.map((task) => [task, task])));
  $("hearing").hidden = conditions.length === 1;
  choices("conditions", "condition", Object.fromEntries(conditions.map((name) => [name, name])));
  $("conditions").addEventListener("change", () => { hear(); drawLimits(); update(); });
  hear();
  choices("costs", "cost", Object.fromEntries(costs.map((cost) => [cost, study.costs[cost].short])));
  choices("scales", "scale", { auto: "auto", linear: "linear", log: "log" });
  choices("tables", "table", { front: "this front", all: "all" });
  $("no-limits").addEventListener("click", () => { state.limits = {}; drawLimits(); update(); });
  drawLimits();
  document.addEventListener("click", (event) => $("card").contains(event.target) || unpin());
  document.addEventListener("keydown", (event) => event.key === "Escape" && unpin());
  let width = $("plot").clientWidth;
  new ResizeObserver(() => {
    if (width === $("plot").clientWidth) return;
    width = $("plot").clientWidth;
    unpin();
    drawChart();
  }).observe($("plot"));
  drawMethods();
  update();
}

start();
