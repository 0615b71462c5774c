"use strict";
// All GPUs and all cases, with a search.
speedgate.page(async () => {
  const { byId, caseLink, cell, changeLabel, count, day, element, fill, gpuLink, rowHeading } = speedgate;
  const PAGE = 200;
  const settings = await speedgate.load("site");
  const { gpus, cases } = await speedgate.load("index");
  const names = new Map(gpus.map((gpu) => [gpu.id, gpu.key]));
  const rows = cases.map((one) => ({ ...one, words: `${one.key} ${names.get(one.gpu)} ${one.outcome ?? ""}`.toLowerCase() }));
  const ORDERS = {
    name: () => 0,
    change: (a, b) => (b.change?.at_ms ?? 0) - (a.change?.at_ms ?? 0),
    size: (a, b) => magnitude(b) - magnitude(a),
    latency: (a, b) => (b.latency_s ?? 0) - (a.latency_s ?? 0),
    time: (a, b) => b.at_ms - a.at_ms,
  };
  let shown = PAGE;

  function magnitude(one) {
    return one.change ? Math.abs(Math.log(one.change.ratio)) : -1;
  }

  function row(one) {
    return element("tr", {},
      rowHeading(element("span", {}, caseLink(one.id, one.key), element("span", { class: "phone muted" }, names.get(one.gpu)))),
      cell(gpuLink(one.gpu, names.get(one.gpu)), "optional"),
      cell(speedgate.seconds(one.latency_s), "number"),
      cell(one.change ? element("span", {}, changeLabel(one.change), " ", element("span", { class: "nowrap" }, day(one.change.at_ms))) : "-"),
      cell(speedgate.gibibytes(one.peak_bytes), "number optional"),
      cell(speedgate.ssim(one.ssim), "number optional"),
      cell(speedgate.outcome(one.outcome), "optional"),
      cell(one.runs.toLocaleString("en"), "number optional"),
      cell(day(one.at_ms), "optional nowrap"));
  }

  function show() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = rows.filter((one) => words.every((word) => one.words.includes(word))).sort(ORDERS[byId("sort").value]);
    speedgate.table("cases", found.slice(0, shown).map(row));
    byId("more").hidden = found.length <= shown;
    const first = found.length > shown ? `, the first ${shown} shown` : "";
    fill("found", words.length ? `${found.length} of ${count(rows.length, "case")} found${first}` : `${count(rows.length, "case")}${first}`);
  }

  function search() {
    shown = PAGE;
    const address = new URL(location.href);
    const text = byId("search").value;
    if (text) address.searchParams.set("q", text); else address.searchParams.delete("q");
    history.replaceState(null, "", address);
    show();
  }

  const total = rows.reduce((sum, one) => sum + one.runs, 0);
  const size = `${count(rows.length, "case")} on ${count(gpus.length, "GPU")}, ${count(total, "run")}`;
  fill("about", `${size}; written ${speedgate.minute(Date.parse(settings.generated_at))}.`);
  fill("gpus", ...gpus.map((gpu) => element("li", {},
    gpuLink(gpu.id, gpu.key),
    element("p", { class: "muted" }, `${count(gpu.cases, "case")}, ${count(gpu.runs, "run")}, latest ${day(gpu.at_ms)}`))));
  byId("search").value = new URLSearchParams(location.search).get("q") ?? "";
  byId("search").addEventListener("input", search);
  byId("sort").addEventListener("change", show);
  byId("more").addEventListener("click", () => { shown += PAGE; show(); });
  show();
});
