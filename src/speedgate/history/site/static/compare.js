"use strict";
// The page that compares any two runs.
speedgate.page(async () => {
  const { byId, cell, element, fill, minute, rowHeading, seconds } = speedgate;
  const settings = await speedgate.load("site");
  const { gpus, cases } = await speedgate.load("index");
  const gpuKeys = new Map(gpus.map((gpu) => [gpu.id, gpu.key]));
  const label = (row) => `${row.key} on ${gpuKeys.get(row.gpu)}`;
  const byLabel = new Map(cases.map((row) => [label(row), row.id]));
  const labels = new Map(cases.map((row) => [row.id, label(row)]));
  const sides = { a: null, b: null };

  // Fill one side with a case and its run of this id, or its latest run.
  async function set(side, id, runId) {
    const data = await speedgate.load("case", id);
    const place = data.run.indexOf(runId);
    sides[side] = { data, index: place < 0 ? data.run.length - 1 : place };
    byId(`${side}-case`).value = labels.get(id) ?? "";
    const options = data.run.map((_, index) => {
      const run = speedgate.run(data, index);
      const commit = run.commit === null ? "" : `, ${speedgate.short(run.commit)}`;
      return element("option", { value: index }, `${minute(run.at_ms)}${commit}, ${seconds(run.latency_s)}`);
    });
    byId(`${side}-run`).replaceChildren(...options.reverse());
    byId(`${side}-run`).value = String(sides[side].index);
  }

  const chosen = (side) => speedgate.run(sides[side].data, sides[side].index);

  function show() {
    const a = chosen("a"), b = chosen("b");
    history.replaceState(null, "", new URL(speedgate.compareAddress(a, b), location.href));
    const sameGpu = sides.a.data.gpu === sides.b.data.gpu;
    fill("summary", sentence(a, b, sameGpu));
    figures(a, b, sameGpu);
    speedgate.differences("versions", a, b, settings, byId("same").checked);
  }

  function sentence(a, b, sameGpu) {
    if (!sameGpu) return "A and B ran on different GPU keys, so no ratio is shown: figures of different GPU keys are never compared.";
    if (a.id === b.id && a.run === b.run) return "A and B are the same run.";
    if (a.latency_s === null || b.latency_s === null) return "A or B has no latency.";
    const ratio = b.latency_s / a.latency_s;
    const count = Math.min(a.medians_s.length, b.medians_s.length);
    const words = `B takes ${ratio.toFixed(4)} times as long as A (${speedgate.percent(ratio)}).`;
    return count < 2 ? `${words} The spread is unknown, because one of them has only one process.` : `${words} The ranges of their process medians ${overlap(a, b) ? "overlap" : "do not overlap"}. This is no verdict: the gate computes a confidence interval.`;
  }

  const overlap = (a, b) => Math.min(...a.medians_s) <= Math.max(...b.medians_s) && Math.min(...b.medians_s) <= Math.max(...a.medians_s);

  function figures(a, b, sameGpu) {
    const spread = (run) => (run.medians_s.length < 2 ? "-" : `${((Math.max(...run.medians_s) / Math.min(...run.medians_s) - 1) * 100).toFixed(1)} % (${run.medians_s.length} processes)`);
    const ratio = (name) => (sameGpu && a[name] && b[name] ? `${(b[name] / a[name]).toFixed(4)}` : "-");
    const difference = a.ssim === null || b.ssim === null ? "-" : speedgate.signed(b.ssim - a.ssim);
    const rows = [
      ["latency", seconds(a.latency_s), seconds(b.latency_s), ratio("latency_s")],
      ["spread of processes", spread(a), spread(b), "-"],
      ["peak memory", speedgate.gibibytes(a.peak_bytes), speedgate.gibibytes(b.peak_bytes), ratio("peak_bytes")],
      ["SSIM", speedgate.ssim(a.ssim), speedgate.ssim(b.ssim), difference],
      ["first image", seconds(a.first_image_s), seconds(b.first_image_s), a.cache === b.cache ? ratio("first_image_s") : "-"],
      ["compile", seconds(a.compile_s), seconds(b.compile_s), a.cache === b.cache ? ratio("compile_s") : "-"],
      ["compile cache before the first image", a.cache ?? "-", b.cache ?? "-", ""],
      ["verdict", speedgate.outcome(a.outcome), speedgate.outcome(b.outcome), ""],
    ];
    speedgate.table("figures", rows.map(([name, ...cells]) => element("tr", {}, rowHeading(name), ...cells.map((content) => cell(content, "figure")))));
  }

  async function pick(side) {
    const id = byLabel.get(byId(`${side}-case`).value);
    if (id === undefined) return fill("summary", `There is no case “${byId(`${side}-case`).value}”. Choose one from the list.`);
    await set(side, id, null);
    return show();
  }

  byId("choices").replaceChildren(...cases.map((row) => element("option", { value: label(row) })));
  fill("about", "Choose two runs of the same case or of different cases.");
  const address = new URLSearchParams(location.search);
  const start = address.get("a") ?? address.get("b") ?? cases[0].id;
  await set("a", start, address.get("arun"));
  await set("b", address.get("b") ?? start, address.get("brun"));
  if (!address.has("arun") && sides.a.data === sides.b.data) byId("a-run").value = String(sides.a.index = Math.max(0, sides.a.index - 1));
  for (const side of ["a", "b"]) {
    byId(`${side}-case`).addEventListener("change", () => speedgate.page(() => pick(side)));
    byId(`${side}-run`).addEventListener("change", () => { sides[side].index = Number(byId(`${side}-run`).value); show(); });
  }
  byId("swap").addEventListener("click", () => speedgate.page(async () => {
    const a = chosen("a"), b = chosen("b");
    await set("a", b.id, b.run);
    await set("b", a.id, a.run);
    show();
  }));
  byId("same").addEventListener("change", show);
  show();
});
