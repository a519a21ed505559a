// The timeline of the alerts: a lane for each that changed, and on it what it was when.

import { now } from "./ask.js";
import { axis } from "./chart.js";
import { dress, keep, say, set, show, stamp } from "./document.js";
import { valueName } from "./values.js";
import { maybe, time, word } from "./words.js";

const HOUR_MS = 3_600_000;
const RANGES_MS = [HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS];
const LANES_MAX = 12;
const STEP_MS = 10_000; // the picture moves by so much at once

const keyOf = (alert) => [alert.rule, alert.dimension, alert.value].join("\n");

export function writeTimeline(node, states, transitions) {
  const end = Math.ceil(now() / STEP_MS) * STEP_MS;
  const oldest = Math.min(end, ...transitions.map((t) => Date.parse(t.at)));
  const range = RANGES_MS.find((ms) => end - oldest <= ms) ?? RANGES_MS.at(-1);
  const start = end - range;
  const lanes = lanesOf(states, transitions, start, end).slice(0, LANES_MAX);
  show(node, lanes.length > 0);
  keep(node.querySelector(".lanes"), lanes, (lane) => lane.key, () => stamp("lane"), writeLane);
  axis(node.querySelector(".axis"), start, end);
}

// From the oldest transition on; what an alert was before the first of them is not known, and not drawn.
function lanesOf(states, transitions, start, end) {
  const lanes = new Map();
  const current = new Map(states.map((state) => [keyOf(state), state]));
  for (const t of [...transitions].sort((a, b) => Date.parse(a.at) - Date.parse(b.at))) {
    const key = keyOf(t);
    const lane = lanes.get(key) ?? { key, name: t.value === null ? t.rule : `${t.rule}, ${valueName(t.value)}`, segments: [] };
    const last = lane.segments.at(-1);
    const at = Date.parse(t.at);
    if (last) last.end = at;
    if (t.state !== "resolved") lane.segments.push({ state: t.state, start: at, end });
    lanes.set(key, lane);
  }
  for (const lane of lanes.values()) finish(lane, current.get(lane.key));
  const scale = (at) => Math.min(1, Math.max(0, (at - start) / (end - start)));
  return [...lanes.values()].map((lane) => ({
    ...lane,
    segments: lane.segments.filter((one) => one.end > start).map((one) => ({ ...one, from: scale(one.start), to: scale(one.end) })),
  })).reverse();
}

// A rule that went from pending back to inactive makes no transition of it: its lane ends where that state began.
function finish(lane, state) {
  const last = lane.segments.at(-1);
  if (last?.state === "pending" && state && state.state === "inactive") last.end = Math.max(last.start, Date.parse(state.since ?? "") || last.start);
}

function writeLane(row, lane) {
  say(row.querySelector(".lane-name"), lane.name);
  keep(row.querySelector(".track"), lane.segments, (one) => `${one.state} ${one.start}`, () => stamp("segment"), writeSegment);
  const words = (one) => word("lane_words", { state: maybe(`state_${one.state}`), from: time(one.start), to: time(one.end) });
  say(row.querySelector(".lane-words"), lane.segments.map(words).join("; "));
}

function writeSegment(node, { state, start, end, from, to }) {
  dress(node, `segment ${state}`);
  const place = [`${(100 * from).toFixed(2)}%`, `${(100 * Math.max(0.004, to - from)).toFixed(2)}%`];
  if (node.style.left !== place[0]) node.style.left = place[0];
  if (node.style.width !== place[1]) node.style.width = place[1];
  set(node, "title", word("lane_words", { state: maybe(`state_${state}`), from: time(start), to: time(end) }));
}
