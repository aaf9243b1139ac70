// The series over rounds: two metrics, and the stages' seconds stacked; and all of it as a table.

import { ask, coalesced, missing } from "./api.js";
import { byId, element, keyed, setText, showText } from "./dom.js";
import { STAGES, capital, count, metric, metricNames, span } from "./format.js";

const POINTS_MAX = 500;
const TIMED = STAGES.slice(0, 3);
const WHOLE_STEPS = [1, 2, 5].flatMap((n) => [...Array(7).keys()].map((e) => n * 10 ** e))
  .sort((a, b) => a - b);
const FIGURES = ["first", "second"];

let series = { round_number: [], metrics: {}, phase_seconds: {}, outcome: [] };
const drawn = new Map();

/** Fetch the series and draw it. */
export const load = coalesced(async () => {
  try {
    series = await ask("series", { limit: POINTS_MAX });
    showText(byId("charts-error"), "");
  } catch (refusal) {
    showText(byId("charts-error"), missing("series", refusal));
  }
  draw();
});

/** Draw at the new size, and in the new colours when they change. */
export function begin() {
  const resized = new ResizeObserver(() => {
    for (const [host, { plot }] of drawn) {
      if (host.clientWidth) plot.setSize(sizeOf(host));
    }
  });
  resized.observe(byId("charts"));
  const recolour = () => drawn.forEach(({ plot }) => plot.redraw(false, true));
  document.addEventListener("headwater:theme", recolour);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  byId("charts-table").addEventListener("toggle", drawTable);
}

function draw() {
  const names = metricNames(Object.keys(series.metrics)).slice(0, FIGURES.length);
  for (const [index, figure] of FIGURES.entries()) drawMetric(figure, names[index], index);
  drawSeconds();
  drawTable();
}

// -- Metrics ------------------------------------------------------------------------------------

function drawMetric(figure, name, index) {
  const values = name === undefined ? [] : series.metrics[name];
  byId(`chart-${figure}`).hidden = !values.some((value) => value != null);
  if (byId(`chart-${figure}`).hidden) return;
  setText(byId(`chart-${figure}-name`), capital(name));
  const host = byId(`chart-${figure}-plot`);
  host.removeAttribute("aria-labelledby");
  host.setAttribute("aria-label", summaryOf(name, values));
  const readout = (at) => {
    const shown = at ?? values.findLastIndex((value) => value != null);
    return `${metric(values[shown])} in round ${count(series.round_number[shown])}`;
  };
  const line = () => colour(index === 0 ? "--accent" : "--second");
  show(host, byId(`chart-${figure}-value`), [series.round_number, values], readout, {
    series: [{}, { stroke: line, width: 2, spanGaps: true, points: { size: 5, fill: line } }],
    values: (_, splits) => splits.map(metric),
    range: (_, min, max) => padded(min, max),
  });
}

function summaryOf(name, values) {
  const known = values.filter((value) => value != null);
  const extremes = `from ${metric(Math.min(...known))} to ${metric(Math.max(...known))}`;
  return `${capital(name)} over ${count(known.length)} rounds: ${extremes}, at last ${metric(known.at(-1))}. The table below has the numbers.`;
}

function padded(min, max) {
  if (min == null) return [0, 1];
  const room = (max - min || Math.abs(max) || 1) * 0.12;
  return [min - room, max + room];
}

// -- Seconds by stage ---------------------------------------------------------------------------

function drawSeconds() {
  const rounds = series.round_number;
  byId("chart-seconds").hidden = rounds.length === 0;
  if (rounds.length === 0) return;
  const sums = stacked(rounds.length);
  const host = byId("chart-seconds-plot");
  host.removeAttribute("aria-labelledby");
  host.setAttribute("aria-label", `Seconds of ${count(rounds.length)} rounds by stage, the last one ${span(sums.at(-1).at(-1))}. The table below has the numbers.`);
  const readout = (at) => {
    const shown = at ?? rounds.length - 1;
    const failed = series.outcome[shown] === "abandoned" ? ", abandoned" : "";
    return `${span(sums.at(-1)[shown])} in round ${count(rounds[shown])}${failed}`;
  };
  const bars = uPlot.paths.bars({ size: [rounds.length > 80 ? 1 : 0.72, 36] });
  // The whole is drawn first, and over it what is left without the stages above.
  const layers = [...TIMED].reverse().map((stage) => ({
    fill: () => colour(`--stage-${stage}`), width: 0, points: { show: false }, paths: bars,
  }));
  show(host, byId("chart-seconds-value"), [rounds, ...[...sums].reverse()], readout, {
    series: [{}, ...layers],
    values: (_, splits) => splits.map(secondsOfAxis),
    range: (_, __, max) => [0, (max || 1) * 1.08],
    draw: markAbandoned,
  });
}

/** One unit each, since there is little room. */
function secondsOfAxis(value) {
  if (value < 120) return `${metric(value)} s`;
  return value < 7200 ? `${metric(value / 60)} min` : `${metric(value / 3600)} h`;
}

/** Sums of the stages' seconds: the first stage, the first two, all. */
function stacked(length) {
  const sum = new Array(length).fill(0);
  return TIMED.map((stage) => {
    const seconds = series.phase_seconds[stage] ?? [];
    for (let at = 0; at < length; at += 1) sum[at] += seconds[at] ?? 0;
    return [...sum];
  });
}

function markAbandoned(plot) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = colour("--bad");
  const size = 3 * devicePixelRatio;
  for (const [at, outcome] of series.outcome.entries()) {
    if (outcome !== "abandoned") continue;
    const x = plot.valToPos(series.round_number[at], "x", true);
    ctx.beginPath();
    ctx.moveTo(x - size, bbox.top);
    ctx.lineTo(x + size, bbox.top);
    ctx.lineTo(x, bbox.top + 2 * size);
    ctx.fill();
  }
  ctx.restore();
}

// -- Both ---------------------------------------------------------------------------------------

/** Draw data in a place, again if need be; what the cursor is at is said beside the name. */
function show(host, value, data, readout, wanted) {
  const known = drawn.get(host);
  const same = known && known.layers === data.length && known.many === data[0].length > 80;
  if (known) known.readout = readout;
  if (same) {
    known.plot.setData(data);
  } else {
    known?.plot.destroy();
    const entry = { layers: data.length, many: data[0].length > 80, readout };
    drawn.set(host, entry);
    const say = (plot) => setText(value, entry.readout(plot.cursor.idx));
    entry.plot = new uPlot(optionsOf(host, wanted, say), data, host);
    if (!known) host.addEventListener("click", () => openRound(drawn.get(host).plot));
  }
  setText(value, readout(null));
}

function optionsOf(host, wanted, say) {
  const axis = {
    stroke: () => colour("--muted"),
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
    font: `12px ${getComputedStyle(document.body).fontFamily}`,
  };
  return {
    ...sizeOf(host),
    padding: [8, 6, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: "rounds" } },
    scales: {
      x: { time: false, range: (_, min, max) => [(min ?? 0) - 0.6, (max ?? 1) + 0.6] },
      y: { range: wanted.range },
    },
    axes: [
      { ...axis, size: 28, gap: 6, incrs: WHOLE_STEPS, grid: { show: false }, values: wholeNumbers },
      { ...axis, size: 52, gap: 4, space: 36, values: wanted.values },
    ],
    series: wanted.series,
    hooks: { setCursor: [say], draw: wanted.draw ? [wanted.draw] : [] },
  };
}

const sizeOf = (host) => ({ width: host.clientWidth, height: host.clientHeight });

const wholeNumbers = (_, splits) => splits.map((at) => (Number.isInteger(at) ? count(at) : ""));

function openRound(plot) {
  const at = plot.cursor.idx;
  if (at != null) location.hash = `round-${series.round_number[at]}`;
}

/** A colour of the style sheet, resolved for the canvas. */
function colour(name) {
  const probe = byId("charts-heading");
  probe.style.outlineColor = `var(${name})`;
  return getComputedStyle(probe).outlineColor;
}

// -- The table ----------------------------------------------------------------------------------

function drawTable() {
  if (!byId("charts-table").open) return;
  const names = metricNames(Object.keys(series.metrics));
  const heads = ["Round", ...names, ...TIMED.map(capital), "Outcome"];
  byId("charts-table-head").replaceChildren(
    element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head))),
  );
  const newestFirst = [...series.round_number.keys()].reverse();
  keyed(
    byId("charts-table-body"),
    newestFirst.map((at) => [series.round_number[at], cellsOf(at, names)]),
    ([number]) => number,
    ([, cells]) => element("tr", {}, ...cells.map(() => element("td"))),
    (row, [, cells]) => cells.forEach((text, index) => setText(row.children[index], text)),
  );
}

const cellsOf = (at, names) => [
  count(series.round_number[at]),
  ...names.map((name) => metric(series.metrics[name][at])),
  ...TIMED.map((stage) => span(series.phase_seconds[stage]?.[at])),
  series.outcome[at],
];
