// The funnel drawn: a bar for every stage, and between two bars the step that narrows it.

import { choice } from "./address.js";
import { dress, keep, say, set, show, stamp, stretch, wear } from "./document.js";
import { amount, count, percent, points, took, word } from "./words.js";

export function writeStages(list, report, summary, leak) {
  const most = Math.max(1, ...report.stages.map((stage) => stage.users));
  keep(list, report.stages, (stage) => stage.name, () => stamp("stage"), (row, stage, place) => {
    const before = report.stages[place - 1];
    writeBar(row, stage, before, most);
    set(row.querySelector(".name"), "data-entry", `stage/${summary.name}/${stage.name}`);
    const first = report.stages[0].users;
    say(row.querySelector(".of-first"), before && first > 0 ? word("of_first", { share: percent(stage.users / first) }) : "");
    show(row.querySelector(".step"), Boolean(before));
    show(row.querySelector(".lost"), Boolean(before));
    wear(row, "is-worst", leak?.stage === stage.name);
    if (!before) return;
    for (const node of row.querySelectorAll(".rate, .parts")) set(node, "data-entry", `step/${summary.name}/${stage.name}`);
    writeStep(row, stage, before, most, choice(summary, "basis"));
  });
}

function writeBar(row, stage, before, most) {
  say(row.querySelector(".name b"), stage.title || stage.name);
    stretch(row.querySelector(".fill"), "width", stage.users / most);
  stretch(row.querySelector(".gone"), "width", (before ?? stage).users / most);
  say(row.querySelector(".users b"), count(stage.users));
  say(row.querySelector(".unit"), word("users", { n: stage.users }));
  say(row.querySelector(".worth"), stage.value === 0 ? "" : word("value", { value: amount(stage.value) }));
}

function writeStep(row, stage, before, most, basis) {
  const { step } = stage;
  const slope = row.querySelector(".slope");
  stretch(slope, "--from", before.users / most);
  stretch(slope, "--to", Math.min(stage.users, before.users) / most);
  say(row.querySelector(".rate"), percent(step.rate));
  say(row.querySelector(".interval"), step.low === null ? "" : word("interval", { low: percent(step.low), high: percent(step.high) }));
  writeTarget(row.querySelector(".target"), stage);
  writeGauge(row.querySelector(".gauge"), stage);
  const usual = stage.adjusted?.baseline ?? null;
  say(row.querySelector(".parts"), partsWords(stage, basis));
  say(row.querySelector(".bench-words"), stage.benchmark === null ? "" : word("benchmark", { benchmark: percent(stage.benchmark) }));
  say(row.querySelector(".usual"), usual === null ? "" : word("usual", { usual: percent(usual) }));
  const time = stage.time_to_convert;
  const known = time !== null && time.p50_seconds !== null;
  say(row.querySelector(".took"), known ? word("took", { half: took(time.p50_seconds), most: took(time.p90_seconds) }) : "");
  say(row.querySelector(".lost b"), stage.lost > 0 ? `−${count(stage.lost)}` : count(0));
  say(row.querySelector(".lost span"), word("lost", { n: stage.lost }));
  say(row.querySelector(".lost small"), before.users > 0 ? percent(stage.lost / before.users) : "");
}

export function partsOf(rate) {
  return word("parts", { numerator: count(rate.numerator), denominator: count(rate.denominator) });
}

function partsWords({ step, adjusted }, basis) {
  if (basis === "adjusted" && adjusted && !adjusted.ready) return word("not_ready", { reason: adjusted.reason });
  if (step.rate === null) return word(basis === "entries" ? "none_finished" : "no_rate");
  return adjusted?.capped ? `${partsOf(step)}, ${word("capped")}` : partsOf(step);
}

function writeTarget(node, { step, target }) {
  show(node, target !== null);
  if (target === null) return;
  const verdict = step.rate === null ? "" : step.rate >= target ? "met" : "missed";
  dress(node, `target ${verdict}`.trim());
  const parts = { target: percent(target), points: step.rate === null ? "" : points(target - step.rate) };
  say(node, word(verdict ? `target_${verdict}` : "target", parts));
}

// Rates on one scale, from 0 to 100%: what the step has, how sure that is, and what it should have.
function writeGauge(node, { step, target, benchmark }) {
  const [band, now, bench, aim] = node.children;
  const low = step.low ?? 0;
  show(band, step.low !== null);
  stretch(band, "left", low);
  stretch(band, "width", (step.high ?? 0) - low);
  stretch(now, "width", step.rate ?? 0);
  show(bench, benchmark !== null);
  stretch(bench, "left", benchmark ?? 0);
  show(aim, target !== null);
  stretch(aim, "left", target ?? 0);
}
