// What the pinned, else the recommended, student gets wrong, beside its teacher.

function drawExamples(point) {
  const found = point && (study.examples[point.task] || {})[point.key], box = $("examples");
  box.hidden = !found;
  if (!found) return;
  const place = (one) => html("div", { class: "quiet" }, `${one.sort}, ${one.id} of results/corpora/${one.corpus}`);
  const line = (name, ...parts) => [html("dt", {}, name), html("dd", {}, ...parts)];
  box.replaceChildren(html("h2", {}, `What ${label(point)} gets wrong`),
    html("p", { class: "quiet" }, `Test utterances of middle and of highest error rate, ${point.task}, seed ${found.seed}. `,
      html("mark", {}, "another"), " symbol, ", html("ins", {}, "one too many"), ", ", html("del", {}, "one missing"), "."),
    ...found.utterances.map((one) => html("article", {}, place(one), html("dl", {},
      ...line("spoken", one.reference),
      ...line("student", ...one.student.map(run)),
      ...(one.teacher && point.kind !== "teacher" ? line("teacher", ...one.teacher.map(run)) : [])))));
}

function run([operation, spoken, said]) {
  if (operation === "equal") return said;
  if (operation === "insert") return html("ins", {}, said);
  if (operation === "delete") return html("del", {}, spoken);
  return html("mark", { title: spoken }, said);
}
