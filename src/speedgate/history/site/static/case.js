"use strict";
// The page of one case on one GPU key: its changes, its figures over time, and every run with its versions.
speedgate.page(async () => {
  const { byId, cell, commitLink, element, fill, minute, rowHeading, seconds, short } = speedgate;
  const PAGE = 50;
  const METRICS = { latency: "latency_s", "peak memory": "peak_bytes" };
  const UNITS = {
    latency_s: ["seconds per image", (value) => value, seconds], peak_bytes: ["GiB", (value) => value / 2 ** 30, speedgate.gibibytes],
    ssim: ["SSIM against the reference", (value) => value, speedgate.ssim], first_image_s: ["seconds to the first image", (value) => value, seconds],
    compile_s: ["seconds of the compiler", (value) => value, seconds],
  };
  const settings = await speedgate.load("site");
  const data = await speedgate.load("case", new URLSearchParams(location.search).get("id"));
  const last = data.run.length - 1;
  const at = (index) => speedgate.run(data, index);
  const commit = (text, label) => commitLink(text, settings.commit_url, label);
  const version = (name, text) => (text === null ? "-" : commitLink(text, settings.sources[name]));
  let shown = PAGE, chosen = last, remembered = null, view = null;

  function summary() {
    const measured = data.latency_s.findLastIndex((value) => value !== null);
    const latest = at(measured < 0 ? last : measured);
    const facts = {
      "runs": `${data.run.length.toLocaleString("en")}, since ${speedgate.day(data.at_ms[0])}`,
      "latest latency": seconds(latest.latency_s), "latest peak memory": speedgate.gibibytes(latest.peak_bytes),
      "latest SSIM": speedgate.ssim(latest.ssim), "latest verdict": speedgate.outcome(at(last).outcome),
    };
    fill("summary", ...Object.entries(facts).map(([name, fact]) => element("div", {}, element("dt", {}, name), element("dd", {}, fact))));
  }

  // Describe a run in a sentence: its day and, if it has one, its commit.
  const describe = (run) => [speedgate.day(run.at_ms), ...(run.commit === null ? [] : [" (", commit(run.commit, short(run.commit)), ")"])];

  function sentence(change) {
    const before = at(change.before), after = at(change.after);
    const range = `${speedgate.percent(change.low)} to ${speedgate.percent(change.high)}`;
    const when = change.kind === "drift" ? [" from ", ...describe(before), " to ", ...describe(after)] : [" between ", ...describe(before), " and ", ...describe(after)];
    const changed = Object.keys(after.versions).filter((name) => before.versions[name] !== after.versions[name]);
    const brief = (name, text) => (text === null || text === undefined ? "-" : commitLink(text, settings.sources[name], short(text)));
    const versions = changed.flatMap((name) => ["; ", `${name} `, brief(name, before.versions[name]), " \u2192 ", brief(name, after.versions[name])]);
    const machine = change.machine_ratio === null ? [] : [change.of_machine ? "; the machine's, which changed by " : "; the machine changed by ", speedgate.percent(change.machine_ratio)];
    return [` ${change.metric} (99 % interval ${range})`, ...when, ...versions, ...machine, ". "];
  }

  function changes() {
    if (!data.changes.length) return fill("changes", element("li", { class: "none" }, "No changes found."));
    return fill("changes", ...data.changes.map((change, place) => element("li", {}, speedgate.changeLabel(change), ...sentence(change),
      button("show the run", () => choose(change.run, true), `Show the run of change ${place + 1}`))));
  }

  function button(label, act, name) {
    const node = element("button", { type: "button", class: "small", "aria-label": name }, label);
    node.addEventListener("click", act);
    return node;
  }

  const changesOf = (metric) => data.changes.filter((change) => METRICS[change.metric] === metric);

  // Compute the levels between steps: the median of each.
  function levels(metric, from, x) {
    const edges = [from, ...changesOf(metric).filter((change) => change.kind === "step" && change.run > from).map((change) => change.run), last + 1];
    return edges.slice(1).flatMap((end, place) => {
      const start = edges[place];
      const values = data[metric].slice(start, end).filter((value) => value !== null).sort((a, b) => a - b);
      return values.length ? [{ x: x(start), x2: x(end - 1), y: UNITS[metric][1](values[Math.floor(values.length / 2)]) }] : [];
    });
  }

  async function draw() {
    const metric = byId("metric").value, byTime = byId("across").value === "time", few = Number(byId("window").value);
    const [title, scaled] = UNITS[metric];
    const from = few ? Math.max(0, data.run.length - few) : 0;
    const x = (index) => (byTime ? data.at_ms[index] : index + 1);
    const rows = [];
    for (let index = from; index <= last; index += 1) {
      if (data[metric][index] === null) continue;
      const medians = metric === "latency_s" ? data.medians_s[index] : [];
      const worse = speedgate.outcomeClass(speedgate.text(data.outcome, index)) === "bad";
      const y = scaled(data[metric][index]);
      rows.push({ i: index, x: x(index), y, lo: Math.min(y, ...medians), hi: Math.max(y, ...medians), worse });
    }
    if (!rows.length) { view = null; byId("chart").replaceChildren(`No run in this selection has this figure (${title}).`); return; }
    const marks = changesOf(metric).filter((change) => change.run >= from).map((change) => ({ x: x(change.run), number: String(data.changes.indexOf(change) + 1) }));
    view = await speedgate.charts.draw("chart", speedgate.charts.series({
      rows, title, byTime, changes: marks, levels: marks.length ? levels(metric, from, x) : [],
    }), `${title} of ${rows.length} runs; the table below lists the latest runs, and the buttons select a run`);
    view.addEventListener("click", (_, item) => { if (item?.datum?.i !== undefined) choose(item.datum.i, false); });
    hover(view, metric);
    highlight();
    fill("legend", ...legend(metric, marks.length));
  }

  function legend(metric, marked) {
    const spread = metric === "latency_s" ? " A thin line shows the range of its process medians." : "";
    const change = marked ? " A dashed line marks a change, with its number in the list above. Thick lines show the median between steps." : "";
    const use = element("span", { class: "screen" }, " Click a point to select its run. Drag to move the chart; use Ctrl and the mouse wheel to zoom.");
    return [`Each point is a run; a red triangle is a run with a failed verdict.${spread}${change}`, use];
  }

  // Show the run under the pointer in a tooltip.
  function hover(drawn, metric) {
    const tip = element("div", { class: "tip" });
    byId("chart").append(tip);
    tip.hidden = true;
    drawn.addEventListener("mouseout", () => { tip.hidden = true; });
    drawn.addEventListener("mouseover", (event, item) => {
      if (item?.datum?.i === undefined) return;
      const run = at(item.datum.i), box = byId("chart").getBoundingClientRect();
      tip.textContent = [minute(run.at_ms), UNITS[metric][2](run[metric]), short(run.commit) ?? "no commit", run.versions.torch && `torch ${run.versions.torch}`].filter(Boolean).join("\n");
      tip.hidden = false;
      tip.style.left = `${Math.min(event.clientX - box.left + 12, box.width - tip.offsetWidth)}px`;
      tip.style.top = `${event.clientY - box.top + 14}px`;
    });
  }

  function highlight() {
    if (view) view.signal("chosen", chosen).run();
  }

  function choose(index, scroll) {
    chosen = Math.max(0, Math.min(last, index));
    const run = at(chosen), before = chosen > 0 ? at(chosen - 1) : null;
    const rows = [
      ["measured", minute(run.at_ms)], ["commit", element("span", {}, commit(run.commit), speedgate.dirty(run))], ["verdict", speedgate.outcome(run.outcome)],
      ["latency", seconds(run.latency_s)], ["process medians", run.medians_s.length ? `${run.medians_s.map((value) => value.toPrecision(4)).join(", ")} s` : "-"],
      ["peak memory", speedgate.gibibytes(run.peak_bytes)], ["SSIM", speedgate.ssim(run.ssim)],
      ["first image", run.first_image_s === null ? "-" : `${seconds(run.first_image_s)}${run.cache === null ? "" : ` (${run.cache})`}`],
      ["compile", run.compile_s ? seconds(run.compile_s) : "-"],
      ["recipe", run.fingerprint ?? "-"],
      ...Object.entries(run.versions).map(([name, text]) => [name, element("span", {}, version(name, text),
        before && before.versions[name] !== text ? element("span", { class: "outcome warn" }, `was ${before.versions[name] ?? "-"}`) : null)]),
    ].map(([name, value]) => element("tr", {}, rowHeading(name), cell(value)));
    const place = `Run ${chosen + 1} of ${last + 1}`;
    fill("run", element("div", { class: "scroll", role: "region", "aria-label": "Selected run", tabindex: "0" },
      element("table", {}, element("caption", {}, `${place}: ${run.run}`), element("tbody", {}, ...rows))));
    byId("earlier").disabled = chosen === 0;
    byId("later").disabled = chosen === last;
    updateCompareLink();
    highlight();
    if (scroll) byId("run").scrollIntoView({ block: "nearest" });
  }

  function updateCompareLink() {
    const before = remembered ?? (chosen > 0 ? chosen - 1 : chosen);
    byId("compare").setAttribute("href", speedgate.compareAddress(at(before), at(chosen)));
    fill("compare", remembered === null ? "Compare with the previous run" : `Compare with run ${remembered + 1}`);
  }

  function row(index) {
    const run = at(index);
    return element("tr", {},
      rowHeading(element("span", { class: "nowrap" }, minute(run.at_ms).replace(" UTC", ""))), cell(commit(run.commit, run.commit && short(run.commit))), cell(seconds(run.latency_s), "number"),
      cell(speedgate.gibibytes(run.peak_bytes), "number optional"), cell(speedgate.ssim(run.ssim), "number optional"),
      cell(run.versions.torch ?? "-", "optional"), cell(speedgate.outcome(run.outcome), "optional"),
      cell(button("show", () => choose(index, true), `Show run ${index + 1}`)));
  }

  function list() {
    const indices = Array.from({ length: Math.min(shown, last + 1) }, (_, place) => last - place);
    speedgate.table("runs", indices.map(row));
    byId("more").hidden = shown > last;
  }

  speedgate.heading(data.key, ["on ", speedgate.gpuLink(data.gpu_id, data.gpu)]);
  summary();
  changes();
  choose(last, false);
  list();
  byId("earlier").addEventListener("click", () => choose(chosen - 1, false));
  byId("later").addEventListener("click", () => choose(chosen + 1, false));
  byId("mark").addEventListener("click", () => { remembered = chosen; updateCompareLink(); });
  byId("more").addEventListener("click", () => { shown += 4 * PAGE; list(); });
  for (const control of ["metric", "window", "across"]) byId(control).addEventListener("change", () => speedgate.page(draw));
  await draw();
});
