"use strict";
// The page that compares two sessions of one GPU key, case by case.
speedgate.page(async () => {
  const { byId, caseLink, cell, count, element, fill, minute, rowHeading, seconds } = speedgate;
  const settings = await speedgate.load("site");
  const { gpus, cases } = await speedgate.load("index");
  const keys = new Map(cases.map((row) => [row.id, row.key]));
  let pairs = [];

  const figures = ([id, latency_s, peak_bytes, ssim, outcome]) => ({ id, latency_s, peak_bytes, ssim, outcome });
  const ratio = (a, b) => (a && b ? b / a : null);

  async function list(gpuId) {
    const { sessions, left_out } = await speedgate.load("sessions", gpuId);
    const options = sessions.toReversed().map((session) => `${minute(session.at_ms)}${session.commit === null ? "" : `, ${speedgate.short(session.commit)}`}, ${count(session.cases, "case")}`);
    for (const side of ["a", "b"]) {
      byId(side).replaceChildren(...options.map((text, place) => element("option", { value: sessions[sessions.length - 1 - place].id }, text)));
    }
    byId("a").selectedIndex = Math.min(1, sessions.length - 1);
    fill("about", left_out ? `The latest ${sessions.length} sessions. ${count(left_out, "earlier session")} left out: compare their runs one by one.` : `${count(sessions.length, "session")}.`);
    return sessions;
  }

  async function show() {
    const a = await speedgate.load("session", byId("a").value), b = await speedgate.load("session", byId("b").value);
    speedgate.remember({ gpu: byId("gpu").value, a: a.id, b: b.id });
    const before = new Map(a.rows.map((row) => [row[0], figures(row)]));
    pairs = b.rows.map(figures).filter((after) => before.has(after.id)).map((after) => ({ a: before.get(after.id), b: after, key: keys.get(after.id) }));
    for (const pair of pairs) pair.ratio = ratio(pair.a.latency_s, pair.b.latency_s);
    pairs.sort((first, second) => (second.ratio ?? 0) - (first.ratio ?? 0));
    fill("summary", sentence(a, b));
    speedgate.differences("versions", a, b, settings, byId("same").checked);
    search();
  }

  function sentence(a, b) {
    const ratios = pairs.map((pair) => pair.ratio).filter((value) => value !== null);
    if (!ratios.length) return "No case was measured in both.";
    const mean = Math.exp(ratios.reduce((sum, value) => sum + Math.log(value), 0) / ratios.length);
    const slower = ratios.filter((value) => value > 1.03).length, faster = ratios.filter((value) => value < 1 / 1.03).length;
    const alone = (session) => session.rows.length - pairs.length;
    return `${count(ratios.length, "case")} in both: B takes ${mean.toFixed(4)} times as long as A (geometric mean, ${speedgate.percent(mean)}); `
      + `${slower} slower and ${faster} faster by more than 3 %. Only in A: ${alone(a)}, only in B: ${alone(b)}.`;
  }

  function row({ a, b, key, ratio: latency }) {
    const memory = ratio(a.peak_bytes, b.peak_bytes);
    const ssim = a.ssim === null || b.ssim === null ? "-" : speedgate.signed(b.ssim - a.ssim);
    return element("tr", {},
      rowHeading(caseLink(b.id, key)), cell(seconds(a.latency_s), "number optional"), cell(seconds(b.latency_s), "number optional"),
      cell(latency === null ? "-" : element("span", { class: latency > 1.03 ? "outcome bad" : latency < 1 / 1.03 ? "outcome good" : null }, latency.toFixed(4)), "number"),
      cell(memory === null ? "-" : memory.toFixed(4), "number optional"), cell(ssim, "number optional"), cell(speedgate.outcome(b.outcome)));
  }

  function search() {
    const isMatch = speedgate.searched();
    const matches = pairs.filter((pair) => isMatch(pair.key));
    speedgate.table("cases", matches.map(row));
    fill("matches", `${matches.length} of ${count(pairs.length, "case")} in both, largest slowdown first`);
  }

  const address = new URLSearchParams(location.search);
  byId("gpu").replaceChildren(...gpus.map((gpu) => element("option", { value: gpu.id }, gpu.key)));
  if (gpus.some((gpu) => gpu.id === address.get("gpu"))) byId("gpu").value = address.get("gpu");
  const sessions = await list(byId("gpu").value);
  for (const side of ["a", "b"]) {
    if (sessions.some((session) => session.id === address.get(side))) byId(side).value = address.get(side);
    byId(side).addEventListener("change", () => speedgate.page(show));
  }
  byId("gpu").addEventListener("change", () => speedgate.page(async () => { await list(byId("gpu").value); await show(); }));
  byId("swap").addEventListener("click", () => speedgate.page(() => {
    [byId("a").value, byId("b").value] = [byId("b").value, byId("a").value];
    return show();
  }));
  byId("same").addEventListener("change", () => speedgate.page(show));
  byId("search").addEventListener("input", search);
  await show();
});
