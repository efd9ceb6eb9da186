// Students of the task in torch and as exported files, and in conditions; what stands out is bold.

function drawCells(id, lines, title, says) {
  const [header, ...rows] = lines || [], box = $(id);
  box.hidden = !header;
  if (!header) return;
  const line = (cells, kind) => html("tr", {}, ...cells.map(([text, bold]) => html(kind, {}, bold ? html("b", {}, text) : text)));
  box.replaceChildren(html("h2", {}, title), html("p", { class: "quiet" }, says),
    html("div", { class: "scroll" }, html("table", {},
      html("thead", {}, line(header, "th")), html("tbody", {}, ...rows.map((cells) => line(cells, "td"))))));
}

function drawTables() {
  drawCells("runtimes", study.runtimes[state.task], "In torch and in onnxruntime",
    "Errors on test against the same student in torch; times beside it in one process, bold: the fastest of a student.");
  drawCells("lost", study.conditions[state.task], "What compression costs in noise, rooms and codecs",
    "Scores on test. In brackets: points that a student loses there beyond what its teacher loses; bold: surely more.");
}
