"use strict";
// The page of one GPU key: each ladder with its latest runs, and over time.
speedgate.page(async () => {
  const { byId, caseLink, cell, day, element, fill, percent, rowHeading, seconds } = speedgate;
  const id = new URLSearchParams(location.search).get("id");
  await speedgate.load("site");
  const gpu = await speedgate.load("gpu", id);
  const name = (ladder) => `${ladder.pipeline}, ${ladder.workload}`;

  const speedup = (before, after) => (before ? `${(before.latency_s / after.latency_s).toFixed(2)}x` : "-");

  function row(stages, place) {
    const stage = stages[place];
    // A stage that is not in the ladder has no previous stage.
    const parent = stage.in_ladder || stages.every((row) => !row.in_ladder) ? stages[place - 1] : undefined;
    return element("tr", {},
      rowHeading(caseLink(stage.case, stage.stage)),
      cell(seconds(stage.latency_s), "number"),
      cell(speedup(parent, stage), "number"),
      cell(place ? speedup(stages[0], stage) : "-", "number"),
      cell(day(stage.at_ms), "optional nowrap"));
  }

  function order(stages) {
    if (stages.every((row) => !row.in_ladder)) return "Latest run of each stage, slowest first.";
    const others = stages.some((row) => !row.in_ladder) ? "; other stages follow, slowest first" : "";
    return `Latest run of each stage, in the order of the ladder${others}.`;
  }

  async function show(ladder) {
    const { stages } = ladder;
    speedgate.table("stages", stages.map((_, place) => row(stages, place)));
    fill("order", order(stages));
    const bars = stages.map((row) => ({ stage: row.stage, latency_s: row.latency_s, label: seconds(row.latency_s) }));
    await speedgate.charts.draw("now", speedgate.charts.bars(bars), `Latest latency of ${stages.length} stages; the table below contains the figures`);
    const full = await speedgate.load("ladder", ladder.id);
    const rows = full.stages.flatMap((row) => row.line.map(([x, y]) => ({ stage: row.stage, x, y })));
    await speedgate.charts.draw("time", speedgate.charts.lines(rows, stages.map((row) => row.stage)),
      `Latency of ${stages.length} stages over time; the page of each stage lists its runs in a table`);
    fill("bins", "If there are many runs, each point is the median of several neighbouring runs.");
  }

  // Live pairs tell a slower machine from a slower program: their drift belongs to the machine.
  function machine() {
    fill("drift", gpu.machine.length ? "Live pairs of suspected cases show how far the machine has changed since its baselines were recorded." : "No case of this machine was confirmed by live pairs.");
    speedgate.table("machine", gpu.machine.map((row) => element("tr", {},
      rowHeading(day(row.at_ms)), cell(percent(row.drift), "number"), cell(String(row.cases), "number"), cell(row.baseline, "optional"))));
  }

  speedgate.heading(gpu.key, ["Each ladder with its latest runs, and over time. Figures of different GPU keys are never compared."]);
  machine();
  if (!gpu.ladders.length) throw new Error("no case of this GPU key has both a latency and a key of the form PIPELINE/STAGE/WORKLOAD");
  const select = byId("ladder");
  select.replaceChildren(...gpu.ladders.map((ladder, place) => element("option", { value: place }, `${name(ladder)} (${speedgate.count(ladder.stages.length, "stage")})`)));
  select.addEventListener("change", () => {
    speedgate.remember({ ladder: gpu.ladders[select.value].id });
    speedgate.page(() => show(gpu.ladders[select.value]));
  });
  const place = gpu.ladders.findIndex((ladder) => ladder.id === new URLSearchParams(location.search).get("ladder"));
  select.value = String(Math.max(0, place));
  await show(gpu.ladders[select.value]);
});
