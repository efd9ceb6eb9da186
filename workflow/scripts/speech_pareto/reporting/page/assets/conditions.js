// Scores, fronts and tests of the condition that is chosen take the place of those without it.

const clean = { pairs: study.pairs, messages: study.messages };
study.points.forEach((point) => { point.clean = { ...point, values: { ...point.values }, text: { ...point.text } }; });

function hear() {
  const own = study.heard[state.condition];
  for (const point of study.points) {
    const found = own && (own.points[point.task] || {})[point.key];
    const { values, text, ...rest } = found || point.clean;
    Object.assign(point, rest);
    Object.assign(point.values, values);
    Object.assign(point.text, text);
  }
  study.pairs = { ...clean.pairs, ...(own && own.pairs) };
  study.messages = { ...clean.messages, ...(own && own.messages) };
}
