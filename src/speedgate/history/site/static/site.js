"use strict";
// Functions for all pages: load data, make elements, format figures. All text is inserted as text nodes, never as HTML.
const speedgate = (() => {
  const ID = /^[0-9a-f]{16}$/;
  const COMMIT = /^[0-9a-f]{7,64}$/;
  const WORSE = new Set(["NOT_APPLIED", "DIFFERENT", "INVALID", "SLOWER", "BIGGER", "MORE_WORK", "MISSING"]);
  const WARNING = new Set(["STALE", "UNDECIDED", "FASTER", "SMALLER"]);
  const received = new Map();
  const loading = new Map();

  // The scripts of data/ call this function.
  function receive(name, data) {
    received.set(name, data);
  }

  function script(address) {
    if (!loading.has(address)) {
      loading.set(address, new Promise((resolve, reject) => {
        const tag = document.createElement("script");
        tag.src = address;
        tag.onload = resolve;
        tag.onerror = () => { loading.delete(address); reject(new Error(`${address} cannot be loaded`)); };
        document.head.append(tag);
      }));
    }
    return loading.get(address);
  }

  // Load a file of data/ by its kind and id. The id may come from the address bar, so it is checked before it becomes a path.
  async function load(kind, id) {
    if (id !== undefined && !ID.test(id ?? "")) throw new Error(`the address of this page contains no valid ${kind} id`);
    const name = id === undefined ? kind : `${kind}-${id}`;
    if (!received.has(name)) await script(`data/${name}.js`);
    if (!received.has(name)) throw new Error(`data/${name}.js contains other data than its name says`);
    return received.get(name);
  }

  // Make an element. Children that are strings become text.
  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  const byId = (id) => document.getElementById(id);
  const fill = (id, ...children) => byId(id).replaceChildren(...children.filter((child) => child !== null));
  const query = (values) => new URLSearchParams(values).toString();
  const caseLink = (id, text) => element("a", { href: `case.html?${query({ id })}` }, text);
  const gpuLink = (id, text) => element("a", { href: `gpu.html?${query({ id })}` }, text);
  // Keep the choices of the reader in the address of the page, without those that are empty.
  function remember(values) {
    const address = new URL(location.href);
    for (const [name, value] of Object.entries(values)) {
      if (value) address.searchParams.set(name, value); else address.searchParams.delete(name);
    }
    history.replaceState(null, "", address);
  }

  // Return a function that tests whether a text has all words of the page's search.
  function searched() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    return (text) => words.every((word) => text.toLowerCase().includes(word));
  }

  const compareAddress = (a, b) => `compare.html?${query({ a: a.id, arun: a.run, b: b.id, brun: b.run })}`;

  // Make a link to a commit if there is an address template and the text is a hash; otherwise return the text.
  function commitLink(commit, template, label = commit) {
    if (commit === null || commit === undefined) return "-";
    if (!template || !COMMIT.test(commit)) return label;
    return element("a", { href: template.replace("{commit}", commit), rel: "noreferrer" }, label);
  }

  const dirty = (run) => (run.dirty && run.commit !== null ? " with uncommitted changes" : null);
  const short = (commit) => (commit !== null && COMMIT.test(commit) ? commit.slice(0, 10) : commit);
  const seconds = (value) => (value === null || value === undefined ? "-" : `${value.toPrecision(4)} s`);
  const gibibytes = (value) => (value === null || value === undefined ? "-" : `${(value / 2 ** 30).toFixed(3)} GiB`);
  const ssim = (value) => (value === null || value === undefined ? "-" : value.toFixed(4));
  const percent = (ratio) => `${ratio < 1 ? "\u2212" : "+"}${Math.abs((ratio - 1) * 100).toFixed(1)} %`;
  const signed = (value) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(4)}`;
  const day = (at_ms) => new Date(at_ms).toISOString().slice(0, 10);
  const minute = (at_ms) => `${new Date(at_ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const count = (value, what) => `${value.toLocaleString("en")} ${what}${value === 1 ? "" : "s"}`;

  function outcomeClass(outcome) {
    if (WORSE.has(outcome)) return "bad";
    if (WARNING.has(outcome)) return "warn";
    return outcome === "PASS" ? "good" : "";
  }

  function outcome(text) {
    return text === null ? "-" : element("span", { class: `outcome ${outcomeClass(text)}` }, text);
  }

  // In all metrics with changes (seconds, bytes), more is worse.
  function changeLabel(change) {
    const monthly = change.kind === "drift" && change.per_month !== null;
    const amount = monthly ? `${percent(1 + change.per_month)} a month` : percent(change.ratio);
    const metric = change.metric === "latency" ? "" : `${change.metric} `;
    const label = `${change.of_machine ? "machine: " : ""}${metric}${change.kind} ${amount}`;
    return element("span", { class: `outcome ${change.of_machine ? "" : change.ratio > 1 ? "bad" : "good"}`.trim() }, label);
  }

  // Get the text of a run, or null, from a column that stores each text once.
  const text = (column, index) => (column.at[index] < 0 ? null : column.texts[column.at[index]]);

  // Collect the values of one run from the columns of a case.
  function run(data, index) {
    const versions = {};
    for (const [name, column] of Object.entries(data.versions)) versions[name] = text(column, index);
    return {
      id: data.id, index, run: data.run[index], at_ms: data.at_ms[index], commit: text(data.commit, index),
      latency_s: data.latency_s[index], medians_s: data.medians_s[index], peak_bytes: data.peak_bytes[index],
      ssim: data.ssim[index], first_image_s: data.first_image_s[index], compile_s: data.compile_s[index], cache: text(data.cache, index),
      fingerprint: text(data.fingerprint, index), outcome: text(data.outcome, index), versions,
      dirty: data.dirty.includes(index),
    };
  }

  // Fill a table with the versions of two runs or sessions: those that differ or, with `all`, also equal ones.
  function differences(id, a, b, settings, all) {
    const yes = (flag) => (flag ? "yes" : "no");
    const names = [...new Set([...Object.keys(a.versions), ...Object.keys(b.versions)])].sort();
    const rows = [
      ["commit", a.commit, b.commit, settings.commit_url], ["uncommitted changes", yes(a.dirty), yes(b.dirty)],
      ["recipe", a.fingerprint ?? null, b.fingerprint ?? null],
      ...names.map((name) => [name, a.versions[name] ?? null, b.versions[name] ?? null, settings.sources[name]]),
    ].filter(([, before, after]) => (before !== null || after !== null) && (all || before !== after));
    const none = element("tr", {}, element("td", { colspan: 3 }, "No differences."));
    table(id, rows.length ? rows.map(([name, before, after, template]) => element("tr", {},
      rowHeading(name), cell(commitLink(before, template)), cell(commitLink(after, template)))) : [none]);
  }

  function heading(title, subtitle) {
    document.title = `${title} \u2013 speedgate`;
    document.querySelector("h1").textContent = title;
    const about = byId("about");
    if (about) about.replaceChildren(...subtitle);
  }

  function table(id, rows) {
    document.querySelector(`#${id} tbody`).replaceChildren(...rows);
  }

  const cell = (content, kind = "") => element("td", { class: kind || null }, content);
  const rowHeading = (content) => element("th", { scope: "row" }, content);

  // Run the tasks of a page one after the other, and show an error at the top of the page.
  let working = Promise.resolve();
  function page(work) {
    const state = document.documentElement.dataset;
    state.ready = "no";
    const mine = working.then(work).then(
      () => { if (working === mine) state.ready = "yes"; },
      (error) => {
        byId("trouble").textContent = error.message;
        byId("about")?.querySelector(".reading")?.remove();
        if (working === mine) state.ready = "failed";
      },
    );
    working = mine;
  }

  return {
    byId, caseLink, cell, changeLabel, commitLink, compareAddress, count, day, differences, dirty, element, fill, gibibytes, gpuLink, heading, load,
    minute, outcome, outcomeClass, page, percent, receive, remember, rowHeading, run, script, searched, seconds, short, signed, ssim, table, text,
  };
})();
