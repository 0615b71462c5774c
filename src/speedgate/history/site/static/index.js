"use strict";
// The first page: all GPU keys and all cases, with a search.
speedgate.page(async () => {
  const { byId, caseLink, cell, changeLabel, count, day, element, fill, gpuLink, rowHeading } = speedgate;
  const PAGE = 200;
  const settings = await speedgate.load("site");
  const { gpus, cases } = await speedgate.load("index");
  const names = new Map(gpus.map((gpu) => [gpu.id, gpu.key]));
  const rows = cases.map((row) => ({ ...row, words: `${row.key} ${names.get(row.gpu)} ${row.outcome ?? ""}` }));
  const ORDERS = {
    name: () => 0,
    change: (a, b) => (b.change?.at_ms ?? 0) - (a.change?.at_ms ?? 0),
    size: (a, b) => magnitude(b) - magnitude(a),
    latency: (a, b) => (b.latency_s ?? 0) - (a.latency_s ?? 0),
    time: (a, b) => b.at_ms - a.at_ms,
  };
  let shown = PAGE;

  function magnitude(row) {
    return row.change ? Math.abs(Math.log(row.change.ratio)) : -1;
  }

  function tableRow(row) {
    return element("tr", {},
      rowHeading(element("span", {}, caseLink(row.id, row.key), element("span", { class: "phone muted" }, names.get(row.gpu)))),
      cell(gpuLink(row.gpu, names.get(row.gpu)), "optional"),
      cell(speedgate.seconds(row.latency_s), "number"),
      cell(row.change ? element("span", {}, changeLabel(row.change), " ", element("span", { class: "nowrap" }, day(row.change.at_ms))) : "-"),
      cell(speedgate.gibibytes(row.peak_bytes), "number optional"),
      cell(speedgate.ssim(row.ssim), "number optional"),
      cell(speedgate.outcome(row.outcome), "optional"),
      cell(row.runs.toLocaleString("en"), "number optional"),
      cell(day(row.at_ms), "optional nowrap"));
  }

  function show() {
    const isMatch = speedgate.searched();
    const matches = rows.filter((row) => isMatch(row.words)).sort(ORDERS[byId("sort").value]);
    speedgate.table("cases", matches.slice(0, shown).map(tableRow));
    byId("more").hidden = matches.length <= shown;
    const first = matches.length > shown ? `, showing the first ${shown}` : "";
    fill("matches", byId("search").value.trim() ? `${matches.length} of ${count(rows.length, "case")} found${first}` : `${count(rows.length, "case")}${first}`);
  }

  function search() {
    shown = PAGE;
    speedgate.remember({ q: byId("search").value });
    show();
  }

  const total = rows.reduce((sum, row) => sum + row.runs, 0);
  const size = `${count(rows.length, "case")} on ${count(gpus.length, "GPU")}, ${count(total, "run")}`;
  fill("about", `${size}. Written ${speedgate.minute(Date.parse(settings.generated_at))}.`);
  fill("gpus", ...gpus.map((gpu) => element("li", {},
    gpuLink(gpu.id, gpu.key),
    element("p", { class: "muted" }, `${count(gpu.cases, "case")}, ${count(gpu.runs, "run")}, latest ${day(gpu.at_ms)}`))));
  byId("search").value = new URLSearchParams(location.search).get("q") ?? "";
  byId("search").addEventListener("input", search);
  byId("sort").addEventListener("change", show);
  byId("more").addEventListener("click", () => { shown += PAGE; show(); });
  show();
});
