"use strict";
// Charts with Vega-Lite. Colours are CSS variables, so that a chart follows the dark or the print style of its page.
speedgate.charts = (() => {
  const PALETTE = [1, 2, 3, 4, 5, 6].map((place) => `var(--series-${place})`);
  const DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]];
  const FONT = { labelFontSize: 12, titleFontSize: 12 };
  // For a screen reader a chart is one image with one label: Vega's roles for every part (`aria`) would be too long to listen to.
  const CONFIG = {
    aria: false, mark: { aria: false }, background: null, font: "system-ui, sans-serif", view: { stroke: null },
    axis: {
      aria: false, labelColor: "var(--text)", titleColor: "var(--muted)", gridColor: "var(--grid)", domainColor: "var(--line)",
      tickColor: "var(--line)", titleFontWeight: "normal", labelLimit: 150, ...FONT,
    },
    legend: { aria: false, labelColor: "var(--text)", titleColor: "var(--muted)", orient: "top", symbolStrokeWidth: 3, labelLimit: 200, ...FONT },
    text: { color: "var(--text)" },
  };

  // Draw into the element `id`. `label` is for screen readers; a table beside the chart contains the data.
  async function draw(id, specification, label) {
    await speedgate.script("assets/vega.js");
    const place = speedgate.byId(id);
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", label);
    const drawn = await vegaEmbed(place, { width: "container", config: CONFIG, ...specification }, {
      actions: false, ast: true, defaultStyle: false, renderer: "svg", tooltip: () => {},
    });
    return drawn.view;
  }

  const narrow = () => window.matchMedia("(max-width: 640px)").matches;
  // The time of day only where a tick has one: the ticks of a day, or of a part that was zoomed in, would all have one label.
  const time = "hours(datum.value) || minutes(datum.value) || seconds(datum.value)"
    + " ? timeFormat(datum.value, '%d %b %H:%M') : timeFormat(datum.value, '%d %b %Y')";
  const xAxis = (byTime) => (byTime
    ? { field: "x", type: "temporal", title: null, axis: { labelExpr: time, labelOverlap: true, tickCount: narrow() ? 3 : 8 } }
    : { field: "x", type: "quantitative", title: "run", scale: { zero: false, nice: false }, axis: { format: "d", labelOverlap: true } });

  // The chart of a case over its runs: rows of {x, y, lo, hi, worse, i}, numbered changes of {x, number}, levels of {x, x2, y}.
  function series({ rows, changes, levels, title, byTime }) {
    const x = xAxis(byTime);
    const y = { field: "y", type: "quantitative", title, scale: { zero: false, nice: true } };
    const zoom = { type: "interval", encodings: ["x"], zoom: "wheel![event.ctrlKey]" };
    const size = { condition: [{ test: "datum.i === chosen", value: 160 }, { test: "datum.worse", value: 50 }], value: rows.length > 300 ? 14 : 36 };
    const worse = (yes, no) => ({ condition: { test: "datum.worse", value: yes }, value: no });
    // Leave out empty layers: Vega warns about a scale without data.
    const layer = (values, mark, encoding, params = []) => (values.length ? [{ data: { values }, mark: { clip: true, ...mark }, encoding, params }] : []);
    const spread = { type: "rule", color: "var(--series-1)", opacity: 0.35 };
    const point = { type: "point", filled: true, opacity: 0.9, cursor: "pointer" };
    const number = { type: "text", color: "var(--second-mark)", align: "left", baseline: "top", dx: 4, fontSize: 13, fontWeight: 700 };
    const change = { type: "rule", color: "var(--second-mark)", strokeDash: [5, 3], strokeWidth: 1.5 };
    const coarse = window.matchMedia("(pointer: coarse)").matches; // on a touch screen, a drag scrolls the page
    return {
      height: narrow() ? 240 : 320,
      params: [{ name: "chosen", value: -1 }],
      layer: [
        ...layer(rows.filter((row) => row.hi > row.lo), spread, { x, y: { ...y, field: "lo" }, y2: { field: "hi" } }),
        ...layer(rows, point, { x, y, size, color: worse("var(--mark)", "var(--series-1)"), shape: worse("triangle-up", "circle") },
          coarse ? [] : [{ name: "zoom", select: zoom, bind: "scales" }]),
        ...layer(levels, { type: "rule", color: "var(--text)", strokeWidth: 2 }, { x, x2: { field: "x2" }, y }),
        ...layer(changes, change, { x }),
        ...layer(changes, number, { x, y: { value: 0 }, text: { field: "number", type: "nominal" } }),
      ],
    };
  }

  // The bars of a ladder, in the order of its stages: rows of {stage, latency_s, label}.
  function bars(rows) {
    const y = { field: "stage", type: "nominal", sort: null, title: null };
    const x = { field: "latency_s", type: "quantitative", title: "seconds per image, latest run", scale: { domainMin: 0, nice: true }, axis: { tickCount: narrow() ? 4 : 8 } };
    return {
      data: { values: rows }, height: 28 * rows.length, layer: [
        { mark: { type: "bar", color: "var(--bar)" }, encoding: { x, y } },
        { mark: { type: "text", align: "left", dx: 4, fontSize: 12 }, encoding: { x, y, text: { field: "label", type: "nominal" } } },
      ],
    };
  }

  // The lines of a ladder over time: rows of {stage, x, y}, and the stages in their order.
  function lines(rows, stages) {
    const scale = (range) => ({ domain: stages, range: stages.map((_, place) => range(place)) });
    const few = rows.length < 60 * stages.length;
    return {
      data: { values: rows }, height: narrow() ? 260 : 360,
      mark: { type: "line", strokeWidth: 2, point: few ? { size: 25 } : false },
      encoding: {
        x: xAxis(true),
        // On a logarithmic scale, the distance of two stages shows their speed-up.
        y: { field: "y", type: "quantitative", title: "seconds per image (log)", scale: { type: "log", nice: false, padding: 12 } },
        color: {
          field: "stage", type: "nominal", title: null, legend: { columns: narrow() ? 2 : 6 },
          scale: scale((place) => PALETTE[place % PALETTE.length]),
        },
        strokeDash: {
          field: "stage", type: "nominal", title: null,
          scale: scale((place) => DASHES[Math.floor(place / PALETTE.length) % DASHES.length]),
        },
      },
    };
  }

  return { bars, draw, lines, series };
})();
