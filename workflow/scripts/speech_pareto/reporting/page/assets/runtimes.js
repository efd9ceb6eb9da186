// Students of the task in torch and as exported files; what is fastest of a student is bold.

function drawRuntimes() {
  const [header, ...rows] = study.runtimes[state.task] || [], box = $("runtimes");
  box.hidden = !header;
  if (!header) return;
  const line = (cells, kind) => html("tr", {}, ...cells.map(([text, best]) => html(kind, {}, best ? html("b", {}, text) : text)));
  box.replaceChildren(html("h2", {}, "In torch and in onnxruntime"),
    html("p", { class: "quiet" }, "Errors on test against the same student in torch; times beside it in one process, bold: the fastest of a student."),
    html("div", { class: "scroll" }, html("table", {},
      html("thead", {}, line(header, "th")), html("tbody", {}, ...rows.map((cells) => line(cells, "td"))))));
}
