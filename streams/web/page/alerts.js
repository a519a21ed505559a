// The alerts: where each stands, in what order that matters, and their last transitions.

import { byId, dress, keep, mark, say, set, show, stamp } from "./document.js";
import { partsOf } from "./stages.js";
import { writeTimeline } from "./timeline.js";
import { valueName } from "./values.js";
import { ago, language, maybe, percent, span, time, word } from "./words.js";
import { seconds } from "./address.js";

// A sign for each state, so that none is told by its colour alone.
const SIGNS = { firing: "▲", recovering: "◑", pending: "◔", inactive: "○", resolved: "✓", no_data: "∅", stale: "◌", low_sample: "…", error: "!" };
const RANKS = ["firing", "recovering", "pending", "inactive"];
const DATA_SHOWN = ["no_data", "stale", "low_sample", "error"];

export const subject = (alert) => [alert.rule, alert.dimension, alert.value].join("\n");
export const stateName = (state) => `${SIGNS[state] ?? "•"} ${maybe(`state_${state}`)}`;

const titles = { funnels: new Map() };

export function nameFunnels(summaries) {
  titles.funnels = new Map(summaries.map((summary) => [summary.name, summary]));
}

// An alert that cannot be judged for want of data is not calm; one with few people in it is.
const isAwake = (alert) => alert.state !== "inactive" || ["stale", "error"].includes(alert.data) || (alert.funnel === "" && alert.data !== "ok");

export function writeAlerts({ states, transitions }) {
  const order = (a, b) => RANKS.indexOf(a.state) - RANKS.indexOf(b.state) || (subject(a) < subject(b) ? -1 : 1);
  const awake = states.filter(isAwake).sort(order);
  const calm = states.filter((alert) => !isAwake(alert)).sort(order);
  say(byId("alerts-note"), states.length === 0 ? word("no_rules") : awake.length === 0 ? word("all_quiet") : "");
  keep(byId("alerts"), awake, subject, () => stamp("alert"), writeAlert);
  show(byId("calm"), calm.length > 0);
  say(document.querySelector("#calm summary"), word("calm", { n: calm.length }));
  keep(byId("inactive"), calm, subject, () => stamp("alert"), writeAlert);
  say(byId("transitions-note"), transitions.length === 0 ? word("none_yet") : "");
  keep(byId("transitions"), transitions, (t) => `${t.at} ${t.state} ${subject(t)}`, () => stamp("transition"), writeTransition);
  show(byId("changes-title"), transitions.length > 0);
  writeTimeline(byId("timeline"), states, transitions);
  writeSummary(states);
}

export function sayAlertsAway(error) {
  say(byId("alerts-note"), word("last_known", { detail: error.message }));
}

function writeSummary(states) {
  const firing = states.filter((alert) => ["firing", "recovering"].includes(alert.state)).length;
  const pending = states.filter((alert) => alert.state === "pending").length;
  const said = [firing ? word("firing", { n: firing }) : word("nothing_firing"), pending && word("pending", { n: pending })];
  say(byId("summary"), said.filter(Boolean).join(language === "zh" ? "，" : ", "));
  dress(byId("summary"), firing ? "firing" : "");
  const title = firing ? `(${word("firing", { n: firing })}) funnelwatch` : "funnelwatch";
  if (document.title !== title) document.title = title;
}

export function whereWords(alert) {
  if (alert.funnel === "") return word("pipeline", { source: alert.value ?? "" });
  const summary = titles.funnels.get(alert.funnel);
  const value = alert.dimension === null ? "" : word("alert_value", { dimension: alert.dimension, value: valueName(alert.value) });
  return word("alert_where", { funnel: summary?.title || alert.funnel, stage: alert.stage }) + value;
}

function writeSubject(row, alert) {
  const state = row.querySelector(".state");
  dress(state, `state ${alert.state}`);
  say(state, stateName(alert.state));
  set(state, "data-term", alert.state);
  say(row.querySelector(".what b"), alert.rule);
  set(row.querySelector(".what b"), "data-entry", `alert/${alert.rule}`);
  say(row.querySelector(".where"), whereWords(alert));
}

function evidenceOf(alert) {
  if (alert.denominator === 0 && alert.rate === null) return [];
  const evidence = word("evidence", { rate: percent(alert.rate), parts: partsOf(alert) });
  return [
    evidence,
    alert.threshold !== null && word("evidence_threshold", { threshold: percent(alert.threshold) }),
    alert.baseline !== null && word("evidence_usual", { baseline: percent(alert.baseline) }),
  ].filter(Boolean);
}

function windowOf(alert) {
  return word("alert_over", { window: span(alert.window_seconds ?? seconds(alert.window)) });
}

function writeAlert(row, alert) {
  writeSubject(row, alert);
  const data = row.querySelector(".state.data");
  const shown = DATA_SHOWN.includes(alert.data);
  mark(data, shown ? stateName(alert.data) : "");
  dress(data, `state data ${alert.data}`);
  set(data, "data-term", alert.data);
  mark(row.querySelector(".state.held"), alert.silenced_by.length > 0 ? word("silenced") : "");
  say(row.querySelector(".when"), alert.since === null ? "" : word("alert_since", { time: time(alert.since), span: span(ago(alert.since)) }));
  const rest = [alert.funnel !== "" && windowOf(alert), alert.severity, alert.flaps > 1 && word("alert_flaps", { n: alert.flaps })];
  say(row.querySelector(".evidence"), [...evidenceOf(alert), ...rest].filter(Boolean).join(" · "));
  const seen = alert.acknowledged_by;
  say(row.querySelector(".seen"), seen ? word("alert_seen", { who: seen, time: time(alert.acknowledged_at) }) : "");
}

function writeTransition(row, transition) {
  writeSubject(row, transition);
  say(row.querySelector("time"), time(transition.at));
  set(row.querySelector("time"), "datetime", transition.at);
  say(row.querySelector(".evidence"), evidenceOf(transition).join(" · "));
}
