// The best students within limits: as budget.py chooses, by test.

function makeBudget(alpha) {
  const within = (point, limits) => limits.every(({ bound, quantity, value }) => {
    const own = point.values[quantity];
    return own !== null && (bound === "max" ? own <= value : own >= value);
  });
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
    inside.sort((a, b) => sign * (a.choice - b.choice) || (a.key < b.key ? -1 : 1));
    const [best, ...others] = inside;
    const known = tests(study.pairs[task]);
    const tested = others.filter((point) => known.has(`${best.key}\n${point.key}`));
    const corrected = holm(tested.map((point) => known.get(`${best.key}\n${point.key}`)));
    return [best, ...tested.filter((_, i) => corrected[i] >= alpha)];
  }

  return { choose, within, whole };
}
