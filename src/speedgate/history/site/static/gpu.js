"use strict";
// The ladders of one GPU key: now, and over time.
speedgate.page(async () => {
  const { byId, caseLink, cell, day, element, fill, rowHeading, seconds } = speedgate;
  const id = new URLSearchParams(location.search).get("id");
  await speedgate.load("site");
  const gpu = await speedgate.load("gpu", id);
  const name = (ladder) => `${ladder.pipeline}, ${ladder.workload}`;

  const speedup = (before, after) => (before ? `${(before.latency_s / after.latency_s).toFixed(2)}x` : "-");

  function row(stages, place) {
    const stage = stages[place];
    // A stage off the ladder stands on no one's shoulders here.
    const parent = stage.known || stages.every((one) => !one.known) ? stages[place - 1] : undefined;
    return element("tr", {},
      rowHeading(caseLink(stage.case, stage.stage)),
      cell(seconds(stage.latency_s), "number"),
      cell(speedup(parent, stage), "number"),
      cell(place ? speedup(stages[0], stage) : "-", "number"),
      cell(day(stage.at_ms), "optional nowrap"));
  }

  function order(stages) {
    if (stages.every((one) => !one.known)) return "Latest run of each stage, slowest first.";
    const beside = stages.some((one) => !one.known) ? "; those beside it follow, slowest first" : "";
    return `Latest run of each stage, in the ladder's order${beside}.`;
  }

  async function show(ladder) {
    const { stages } = ladder;
    speedgate.table("stages", stages.map((_, place) => row(stages, place)));
    fill("order", order(stages));
    const bars = stages.map((one) => ({ stage: one.stage, latency_s: one.latency_s, label: seconds(one.latency_s) }));
    await speedgate.charts.draw("now", speedgate.charts.bars(bars), `Latest latency of ${stages.length} stages; the table below holds the figures`);
    const full = await speedgate.load("ladder", ladder.id);
    const rows = full.stages.flatMap((one) => one.line.map(([x, y]) => ({ stage: one.stage, x, y })));
    await speedgate.charts.draw("time", speedgate.charts.lines(rows, stages.map((one) => one.stage)),
      `Latency of ${stages.length} stages over time; each stage's page holds its runs in a table`);
    fill("bins", "Where there are many runs, a point is the median of a few neighbours.");
  }

  speedgate.heading(gpu.key, ["The latest ladder, and how it got there. Figures of different GPU keys are never compared."]);
  if (!gpu.ladders.length) throw new Error("no case of this GPU has a figure, or a key of pipeline, stage and workload");
  const select = byId("ladder");
  select.replaceChildren(...gpu.ladders.map((ladder, place) => element("option", { value: place }, `${name(ladder)} (${speedgate.count(ladder.stages.length, "stage")})`)));
  select.addEventListener("change", () => {
    const address = new URL(location.href);
    address.searchParams.set("ladder", gpu.ladders[select.value].id);
    history.replaceState(null, "", address);
    speedgate.page(() => show(gpu.ladders[select.value]));
  });
  const asked = gpu.ladders.findIndex((ladder) => ladder.id === new URLSearchParams(location.search).get("ladder"));
  select.value = String(Math.max(0, asked));
  await show(gpu.ladders[select.value]);
});
