// The worst leak: the step that loses most people an hour against its target or its usual rate, and the value of a
// dimension that explains it. The same decomposition as the alerts' (alerting/localise.py): what each value misses of
// the conversions it should have had adds up to what all miss.

import { seconds } from "./address.js";

const PEOPLE_MIN = 30;
const SURE = 2; // standard deviations, on basis users, whose rates have no interval
const PLACE_SURE = 3; // more than the value's part of the people would make it
const SHARE_MIN = 0.5;
const PART_MAX = 0.9; // a value that nearly everybody has explains nothing
const NEARLY = 0.9; // of the share that the best one explains
const STEADY_SECONDS = 60;

// What the numbers of a window really span: its newest bucket is still filling.
function covered(report) {
  const window = seconds(report.window);
  const bucket = window <= 3600 ? 10 : window <= 86400 ? 60 : 3600;
  return Math.max(1, window - bucket + ((Date.parse(report.at) / 1000) % bucket));
}

// The window a leak is looked for in: the chosen one, or a longer one where that is a matter of seconds.
export function leakWindow(summary, chosen) {
  if (seconds(chosen) >= STEADY_SECONDS) return chosen;
  return summary.windows.find((window) => seconds(window) >= STEADY_SECONDS) ?? chosen;
}

function references(stage) {
  const usual = stage.adjusted?.ready ? stage.adjusted.baseline : null;
  return [["target", stage.target], ["usual", usual]].filter(([, rate]) => rate !== null);
}

function isSure({ numerator, denominator, high }, reference) {
  if (denominator < PEOPLE_MIN) return false;
  if (high !== null) return high < reference;
  return denominator * reference - numerator > SURE * Math.sqrt(denominator * reference * (1 - reference));
}

// Of each step against each of its references: {stage, from, to, kind, reference, rate, perHour, each (what one who goes on
// is worth), sure}.
function leaks(report) {
  const perHour = 3600 / covered(report);
  return report.stages.flatMap((stage, place) => {
    const step = stage.step;
    if (step === null || step.rate === null) return [];
    const before = report.stages[place - 1];
    const people = report.basis === "adjusted" ? step.denominator : before.entries || step.denominator;
    return references(stage).map(([kind, reference]) => ({
      stage: stage.name, from: before.title || before.name, to: stage.title || stage.name, kind, reference, rate: step.rate,
      perHour: (reference - step.rate) * people * perHour, each: stage.events > 0 ? stage.value / stage.events : 0,
      sure: isSure(step, reference),
    }));
  });
}

// Null: no step is surely under.
export function worstLeak(report) {
  return leaks(report).filter(({ sure }) => sure).reduce((worst, leak) => (worst === null || leak.perHour > worst.perHour ? leak : worst), null);
}

// The same step against the same reference in a newer report; null: it is not under any more.
export function leakNow(leak, report) {
  return leaks(report).find((now) => now.stage === leak.stage && now.kind === leak.kind && now.rate < now.reference) ?? null;
}

// The step that most people leave at, whatever is wanted of it; null: nobody leaves.
export function mostLost(report) {
  const steps = report.stages.map((stage, place) => ({ stage, before: report.stages[place - 1] })).slice(1);
  const { stage, before } = steps.reduce((a, b) => (b.stage.lost > a.stage.lost ? b : a));
  if (stage.lost === 0) return null;
  return { from: before.title || before.name, to: stage.title || stage.name, perHour: (stage.lost * 3600) / covered(report) };
}

// {dimension, value, share, part}: the most telling value of any dimension, or null. `reports` has one for each.
export function placeOf(leak, reports) {
  const found = reports.flatMap((report) => {
    const all = report.stages.find((stage) => stage.name === leak.stage).step;
    const missing = leak.reference * all.denominator - all.numerator;
    return report.values.flatMap(({ value, stages }) => {
      const own = stages.find((stage) => stage.name === leak.stage);
      const usual = leak.kind === "usual" && own.adjusted?.ready ? own.adjusted.baseline : leak.reference;
      const short = usual * own.step.denominator - own.step.numerator;
      const part = own.step.denominator / all.denominator;
      const spread = Math.sqrt(usual * Math.max(0.05, 1 - usual) * own.step.denominator);
      const telling = short / missing >= SHARE_MIN && part <= PART_MAX && short - missing * part > PLACE_SURE * spread;
      return telling ? [{ dimension: report.by, value, share: Math.min(1, short / missing), part }] : [];
    });
  });
  const best = Math.max(...found.map((place) => place.share));
  return found.filter((place) => place.share >= NEARLY * best).reduce((a, b) => (a && a.part <= b.part ? a : b), null);
}

// Since when a step has been under the reference without a break, by its points; null: not at the newest of them.
// `before`: at all of them, and so perhaps for longer.
export function underSince(points, place, reference) {
  const isOver = ({ stages }) => (stages[place]?.step?.rate ?? Infinity) >= reference;
  const lastOver = points.findLastIndex(isOver);
  return lastOver === points.length - 1 ? null : { at: points[lastOver + 1].at, before: lastOver < 0 };
}
