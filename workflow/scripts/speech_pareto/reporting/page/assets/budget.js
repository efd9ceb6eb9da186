// A budget in words, and the best students within it: the same as budget.py, by test.

function makeBudget(grammar) {
  const { names, units: unitsOf, unnamed, operators, alpha, example } = grammar;
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const signs = Object.keys(operators).sort((a, b) => b.length - a.length).map(escaped).join("|");
  const limitPattern = new RegExp(
    `^(.*?)\\s*(${signs})\\s*([0-9]*\\.?[0-9]+(?:e[0-9]+)?)\\s*(.*)$`, "i");
  const aliases = new Map();
  for (const [column, list] of Object.entries(names))
    for (const name of list) aliases.set(name.toLowerCase(), { column, name });
  const allUnits = Object.values(unitsOf);
  const spelt = new Map(allUnits.flatMap((units) => Object.keys(units))
    .filter((unit) => unit).map((unit) => [unit.toLowerCase(), unit]));

  function parse(text) {
    const clauses = text.split(/[,;\n]|\band\b/i).map((clause) => clause.trim());
    return clauses.filter((clause) => clause).map(limit);
  }

  function limit(clause) {
    const found = limitPattern.exec(clause);
    if (!found) throw Error(`“${clause}” is no limit; write it as in “${example}”`);
    const [before, sign, number, after] = found.slice(1).map((part) => part.trim());
    const [unit, name] = unitAndName(after);
    if (before && name) throw Error(`“${clause}” names two things, ${before} and ${name}`);
    let column;
    if (before || name) column = columnOf(before || name, clause);
    else if (Object.hasOwn(unnamed, unit)) column = unnamed[unit];
    else throw Error(`“${clause}” does not say of what; write it as in “${example}”`);
    const units = unitsOf[column];
    if (!Object.hasOwn(units, unit)) {
      const known = Object.keys(units).filter((u) => u).join(", ");
      const what = unit ? `cannot be in ${unit}` : "needs a unit";
      throw Error(`“${clause}”: ${names[column][0]} ${what}, only in ${known}`);
    }
    return { column, operator: operators[sign.toLowerCase()], value: Number(number) * units[unit] };
  }

  function unitAndName(words) {
    const [first, rest] = cut(words);
    return allUnits.some((units) => Object.hasOwn(units, first)) ? [first, rest.trim()] : ["", words];
  }

  function cut(words) {
    const at = words.indexOf(" ");
    return at < 0 ? [words, ""] : [words.slice(0, at), words.slice(at + 1)];
  }

  function columnOf(name, clause) {
    const known = aliases.get(name.toLowerCase());
    if (known) return known.column;
    const [first, rest] = cut(name);
    if (aliases.has(rest.trim().toLowerCase()) || spelt.has(first.toLowerCase())) {
      const near = spelt.get(nearest(first.toLowerCase(), [...spelt.keys()]));
      throw Error(`“${clause}”: unknown unit ${first}; did you mean ${near}?`);
    }
    const near = aliases.get(nearest(name.toLowerCase(), [...aliases.keys()])).name;
    throw Error(`“${clause}”: unknown name ${name}; did you mean ${near}?`);
  }

  function nearest(word, known) {
    const edits = known.map((other) => distance(word, other));
    return known[edits.indexOf(Math.min(...edits))];
  }

  function distance(a, b) {
    let row = Array.from({ length: b.length + 1 }, (_, j) => j);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++)
        next.push(Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] !== b[j - 1])));
      row = next;
    }
    return row[b.length];
  }

  const compare = { "<=": (a, b) => a <= b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, ">": (a, b) => a > b };
  const within = (point, limits) => limits.every(({ column, operator, value }) =>
    point.values[column] !== null && compare[operator](point.values[column], value));
  const whole = (point) => point.status === "ok" && point.values.score !== null;

  function tests(pairs) {
    const found = new Map();
    let at = 0;
    (pairs ? pairs.keys : []).forEach((one, i) => pairs.keys.slice(i + 1).forEach((other) => {
      found.set(`${one}\n${other}`, pairs.p[at]).set(`${other}\n${one}`, pairs.p[at]);
      at += 1;
    }));
    return found;
  }

  function holm(p) {
    const order = p.map((_, i) => i).sort((a, b) => p[a] - p[b]);
    const corrected = Array(p.length);
    let highest = 0;
    order.forEach((i, k) => {
      highest = Math.max(highest, p[i] * (p.length - k));
      corrected[i] = Math.min(highest, 1);
    });
    return corrected;
  }

  function choose(study, limits, task) {
    const sign = study.tasks[task].better === "lower" ? 1 : -1;
    const inside = study.points.filter((point) => point.task === task &&
      point.kind === "student" && whole(point) && within(point, limits));
    if (!inside.length) return [];
    inside.sort((a, b) => sign * (a.values.score - b.values.score) || (a.key < b.key ? -1 : 1));
    const [best, ...others] = inside;
    const known = tests(study.pairs[task]);
    const tested = others.filter((point) => known.has(`${best.key}\n${point.key}`));
    const corrected = holm(tested.map((point) => known.get(`${best.key}\n${point.key}`)));
    return [best, ...tested.filter((_, i) => corrected[i] >= alpha)];
  }

  return { parse, choose, within, whole };
}
