// The trends of a funnel over the last hour and the last day: people at the first stage, and the rate of every step.

import { fits, query } from "./address.js";
import { ask, pathOf } from "./ask.js";
import { axis, createPlot, scaleOf, writePlot } from "./chart.js";
import { keep, say, set, stamp } from "./document.js";
import { count, percent, word } from "./words.js";

const MINUTE_MS = 60_000;
const RANGES = {
  hour: { ms: 60 * MINUTE_MS, step: "1m", stepMs: MINUTE_MS, everyMs: MINUTE_MS },
  day: { ms: 1440 * MINUTE_MS, step: "5m", stepMs: 5 * MINUTE_MS, everyMs: 5 * MINUTE_MS },
};
const SPREAD_MS = 4000; // after the minute, so that a thousand pages do not ask at once

export class Trends {
  constructor(node, summary) {
    this.node = node;
    this.summary = summary;
    this.past = {}; // by range: the history report
    this.asked = {}; // by range: what was asked for, and T then
    this.delayMs = 500 + Math.random() * SPREAD_MS;
  }

  // Asks anew where the choices changed or a new point is due.
  refresh(report) {
    if (report.at === null) return;
    const at = Date.parse(report.at);
    const asked = query(this.summary, { by: "" }).toString();
    for (const [name, range] of Object.entries(RANGES)) {
      const due = Math.floor((at - this.delayMs) / range.everyMs);
      const before = this.asked[name];
      if (before?.asked === asked && before.due === due) continue;
      this.asked[name] = { asked, due };
      this.fetch(name, range, at, asked).catch(() => { this.asked[name] = undefined; });
    }
  }

  async fetch(name, range, at, asked) {
    const from = new Date(at - range.ms).toISOString();
    const past = await ask(`${pathOf(this.summary.name, "/history")}?${asked}&step=${range.step}&from=${encodeURIComponent(from)}`);
    if (this.asked[name]?.asked === asked) this.past[name] = past;
    if (this.report) this.write(this.report);
  }

  forget() {
    this.past = {};
    this.asked = {};
  }

  get hour() {
    return this.past.hour?.points ?? [];
  }

  write(report) {
    this.report = report;
    if (report.at === null || !fits(this.summary, report)) return;
    const charts = report.stages.map((stage, place) => ({ stage, place }));
    keep(this.node.querySelector(".charts"), charts, ({ stage }) => stage.name, () => createChart(), (row, chart) => this.writeChart(row, chart, report));
    const end = Date.parse(report.at);
    for (const [name, range] of Object.entries(RANGES)) {
      axis(this.node.querySelector(`.trends-foot .${name}`), end - range.ms, end);
      set(this.node.querySelector(`.downloads .${name}`), "href", this.download(name, range, end));
    }
  }

  download(name, range, end) {
    // Whole minutes: an address that changes every second cannot be clicked.
    const from = new Date(Math.floor((end - range.ms) / MINUTE_MS) * MINUTE_MS).toISOString();
    return `${pathOf(this.summary.name, "/history")}?${query(this.summary)}&step=${range.step}&from=${encodeURIComponent(from)}&format=csv`;
  }

  writeChart(row, { stage, place }, report) {
    const share = place > 0;
    const title = stage.title || stage.name;
    const end = Date.parse(report.at);
    const value = share ? stage.step.rate : stage.users;
    const now = value === null ? [] : [pointOf(end, value, stage.step)];
    const lines = Object.keys(RANGES).map((name) => [...pointsOf(this.past[name], place, share).filter((point) => point.at < end), ...now]);
    const scale = scaleOf(lines.flat(), stage.target, share);
    say(row.querySelector("b"), share ? `→ ${title}` : title);
    row.written = value === null ? "–" : share ? percent(value) : count(value);
    if (!row.picking) say(row.querySelector(".readout"), row.written);
    Object.entries(RANGES).forEach(([name, range], at) => {
      const said = word(share ? "chart_of" : "chart_users", { step: title, stage: title, range: word(`chart_last_${name}`) });
      writePlot(row.querySelector(`.${name} .canvas`), {
        points: lines[at], start: end - range.ms, end, step: range.stepMs, scale, aim: stage.target,
        name: share ? said : `${said}, ${word(`chart_last_${name}`)}`, live: true,
      });
    });
  }
}

function createChart() {
  const row = stamp("chart");
  const pick = (words) => {
    row.picking = words !== "";
    say(row.querySelector(".readout"), words || row.written);
  };
  for (const holder of row.querySelectorAll(".plot")) createPlot(holder, pick);
  return row;
}

function pointsOf(past, place, share) {
  return (past?.points ?? []).flatMap((point) => {
    const stage = point.stages[place];
    const value = (share ? stage.step?.rate : (stage.users ?? stage.entries)) ?? null;
    return value === null ? [] : [pointOf(Date.parse(point.at), value, stage.step)];
  });
}

const pointOf = (at, value, step) => ({ at, value, low: step?.low ?? null, high: step?.high ?? null, of: step?.denominator ?? 0 });
