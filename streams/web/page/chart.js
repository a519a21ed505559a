// A line over time as SVG: with its interval as a band, the target across it, and a point that pointer or arrow keys pick.

import { say, set, show, stamp } from "./document.js";
import { count, minute, percent, time, word } from "./words.js";

const WIDE = 1000;
const TALL = 100;
const SPAN_MIN = 0.08; // of a scale of rates: a flat line should look flat
const PEOPLE_MIN = 30; // a rate of fewer does not stretch the scale
const GAP_STEPS = 1.6; // more than that many steps without a point: the line breaks

export function createPlot(holder, pick) {
  const canvas = stamp("plot");
  holder.append(canvas);
  canvas.pick = pick;
  say(canvas.querySelector(".none"), word("chart_none"));
  canvas.addEventListener("pointermove", (event) => pickNear(canvas, (event.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth));
  canvas.addEventListener("pointerleave", () => unpick(canvas));
  canvas.addEventListener("blur", () => unpick(canvas));
  canvas.addEventListener("keydown", (event) => pickByKey(canvas, event));
  return canvas;
}

// `points`: [{at (ms), value, low, high, of}] in order of time. `scale`: {low, high}, shared by charts of one thing.
export function writePlot(canvas, { points, start, end, step, scale, aim, name, live }) {
  const across = (at) => (WIDE * (at - start)) / (end - start);
  const down = (value) => TALL - (TALL * (Math.min(scale.high, Math.max(scale.low, value)) - scale.low)) / (scale.high - scale.low);
  const shown = points.filter((point) => point.at >= start && point.at <= end);
  Object.assign(canvas, { shown, across, down });
  const runs = unbroken(shown, step * GAP_STEPS);
  const [band, aimed, line, dot] = canvas.querySelectorAll("path");
  set(line, "d", runs.map((run) => path(run, across, (p) => down(p.value)) + (run.length === 1 ? "h0" : "")).join(""));
  set(band, "d", runs.filter((run) => run[0].low !== null && run.length > 1).map((run) => area(run, across, down)).join(""));
  set(aimed, "d", aim === null ? "" : `M0 ${down(aim).toFixed(1)}H${WIDE}`);
  const last = shown.at(-1);
  set(dot, "d", live && last ? `M${across(last.at).toFixed(1)} ${down(last.value).toFixed(1)}h0` : "");
  const written = scale.share ? percent : count;
  say(canvas.querySelector(".high"), shown.length ? written(scale.high) : "");
  say(canvas.querySelector(".low"), shown.length ? written(scale.low) : "");
  show(canvas.querySelector(".none"), shown.length === 0);
  canvas.written = written;
  describe(canvas, name, shown, written);
}

function unbroken(points, gapMs) {
  const runs = [];
  points.forEach((point, place) => {
    if (place === 0 || point.at - points[place - 1].at > gapMs) runs.push([]);
    runs.at(-1).push(point);
  });
  return runs;
}

function path(run, across, height) {
  return `M${run.map((point) => `${across(point.at).toFixed(1)} ${height(point).toFixed(1)}`).join("L")}`;
}

function area(run, across, down) {
  const back = [...run].reverse().map((point) => `${across(point.at).toFixed(1)} ${down(point.low).toFixed(1)}`);
  return `${path(run, across, (point) => down(point.high))}L${back.join("L")}Z`;
}

// A scale that has room for all points and the target. Shares stay within 0 to 1 where the points do.
export function scaleOf(points, aim, share) {
  const telling = share && points.some((p) => p.of >= PEOPLE_MIN) ? points.filter((p) => p.of >= PEOPLE_MIN) : points;
  const values = telling.flatMap((p) => [p.value, p.low, p.high]).concat(aim).filter((v) => v !== null);
  if (values.length === 0) return { low: 0, high: 1, share };
  if (!share) return { low: 0, high: Math.max(1, ...values) * 1.05, share };
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0.08 * (high - low), (SPAN_MIN - (high - low)) / 2);
  const round = (value, to) => to(value * 20) / 20;
  return { low: round(Math.max(0, low - room), Math.floor), high: Math.min(Math.max(1, high), round(high + room, Math.ceil)), share };
}

function describe(canvas, name, shown, written) {
  set(canvas, "aria-label", name);
  set(canvas, "aria-valuemax", String(Math.max(0, shown.length - 1)));
  if (canvas.picked !== undefined) return;
  const values = shown.map((point) => point.value);
  set(canvas, "aria-valuenow", String(Math.max(0, shown.length - 1)));
  const parts = () => ({
    points: count(shown.length), first: written(values[0]), last: written(values.at(-1)),
    low: written(Math.min(...values)), high: written(Math.max(...values)),
  });
  set(canvas, "aria-valuetext", shown.length === 0 ? word("chart_none") : word("chart_words", parts()));
}

function pickNear(canvas, share) {
  if (!canvas.shown?.length) return;
  const wanted = share * WIDE;
  const distance = (point) => Math.abs(canvas.across(point.at) - wanted);
  pickPoint(canvas, canvas.shown.reduce((best, point, place) => (distance(point) < distance(canvas.shown[best]) ? place : best), 0));
}

function pickByKey(canvas, event) {
  const last = (canvas.shown?.length ?? 0) - 1;
  const at = canvas.picked ?? last;
  const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, PageDown: at - 10, PageUp: at + 10, Home: 0, End: last }[event.key];
  if (to === undefined || last < 0) return;
  event.preventDefault();
  pickPoint(canvas, Math.min(last, Math.max(0, to)));
}

function pickPoint(canvas, place) {
  const point = canvas.shown[place];
  const [x, y] = [canvas.across(point.at).toFixed(1), canvas.down(point.value).toFixed(1)];
  canvas.picked = place;
  set(canvas.querySelector(".cross"), "d", `M${x} 0V${TALL}`);
  set(canvas.querySelector(".picked"), "d", `M${x} ${y}h0`);
  const parts = { time: time(point.at), value: canvas.written(point.value) };
  const words = point.low === null
    ? word("chart_point", parts)
    : word("chart_point_interval", { ...parts, low: percent(point.low), high: percent(point.high) });
  set(canvas, "aria-valuenow", String(place));
  set(canvas, "aria-valuetext", words);
  canvas.pick(words);
}

function unpick(canvas) {
  if (canvas.picked === undefined) return;
  canvas.picked = undefined;
  set(canvas.querySelector(".cross"), "d", "");
  set(canvas.querySelector(".picked"), "d", "");
  canvas.pick("");
}

export const axis = (node, start, end) => [start, end].forEach((at, place) => say(node.children[place], minute(at)));
