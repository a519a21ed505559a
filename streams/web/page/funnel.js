// One funnel on the page: its head, switches, state of the data, worst leak, drawing, trends and values.

import { BASES, choice, choose, fits, query, seconds } from "./address.js";
import { ask, pathOf } from "./ask.js";
import { keep, mark, say, set, show, stamp, wear } from "./document.js";
import { leakNow, leakWindow, mostLost, placeOf, underSince, worstLeak } from "./leak.js";
import { partsOf, writeStages } from "./stages.js";
import { Trends } from "./trends.js";
import { Values, valueName } from "./values.js";
import { ago, count, minute, percent, points, roundPercent, span, time, word } from "./words.js";

const LEAK_EVERY_MS = 10_000;
const OLD_SECONDS = 60;
const KEYS = ["users", "lost", "rate", "interval", "target", "benchmark", "time_to_convert", "baseline", "basis", "T", "lag"];

export class Funnel {
  constructor(summary, onChoice) {
    this.summary = summary;
    this.onChoice = onChoice;
    this.node = stamp("funnel");
    this.node.funnel = this;
    this.trends = new Trends(this.node.querySelector(".trends"), summary);
    this.values = new Values(this.node.querySelector(".by-value"), summary);
    this.leak = null;
    this.leakAt = -Infinity;
    this.write();
  }

  get title() {
    return this.summary.title || this.summary.name;
  }

  write() {
    const { node, summary, title } = this;
    set(node, "aria-label", title);
    say(node.querySelector(".title"), title);
    set(node.querySelector(".title"), "data-entry", `funnel/${summary.name}`);
    const about = [
      summary.description, word("from_source", { name: summary.name, source: summary.source }),
      summary.owner && word("owner", { owner: summary.owner }), word("to_convert", { span: span(seconds(summary.conversion_window)) }),
    ];
    say(node.querySelector(".about"), about.filter(Boolean).join(" · "));
    say(node.querySelector(".leak .words"), word("leak_waiting"));
    this.fillSwitch("window", summary.windows, (window) => span(seconds(window)));
    this.fillSwitch("basis", BASES, (basis) => word(`basis_${basis}`));
    this.fillSwitch("by", ["", ...summary.dimensions], (by) => by || word("total"));
    show(node.querySelector("fieldset.by"), summary.dimensions.length > 0);
    set(node.querySelector(".legend"), "aria-label", word("means"));
    keep(node.querySelector(".legend"), [null, ...KEYS], String, (key) => (key === null ? node.querySelector(".legend-title") : createKey(key)), () => {});
    node.querySelector(".key").tabIndex = 0;
    this.setSwitches();
  }

  fillSwitch(kind, values, nameOf) {
    const fieldset = this.node.querySelector(`fieldset.${kind}`);
    set(fieldset, "aria-label", word(`${kind}_of`, { title: this.title }));
    for (const value of values) {
      const option = stamp("choice");
      const input = option.querySelector("input");
      Object.assign(input, { name: `${kind}.${this.summary.name}`, value });
      say(option.querySelector("span"), nameOf(value));
      input.addEventListener("change", () => {
        choose(this.summary, kind, value);
        this.onChoice(this);
      });
      fieldset.append(option);
    }
  }

  setSwitches() {
    for (const kind of ["window", "basis", "by"]) {
      const value = choice(this.summary, kind);
      for (const input of this.node.querySelectorAll(`fieldset.${kind} input`)) {
        if (input.checked !== (input.value === value)) input.checked = input.value === value;
      }
    }
  }

  // The choices are others: what was found by the old ones goes.
  chosen() {
    this.setSwitches();
    this.trends.forget();
    this.values.forget();
    Object.assign(this, { leak: null, leakAt: -Infinity });
  }

  async refresh() {
    this.receive(await ask(`${pathOf(this.summary.name)}?${query(this.summary)}`));
  }

  // A report, from the stream or asked for. Another choice may have been made while it was under way.
  receive(report) {
    if (report.name !== this.summary.name || !fits(this.summary, report)) return;
    this.report = report;
    const { node } = this;
    say(node.querySelector(".overall strong"), percent(report.overall.rate));
    say(node.querySelector(".overall span"), word("overall", { parts: partsOf(report.overall) }));
    this.writeFreshness();
    this.writeStages();
    const pending = Math.max(0, ...report.stages.map((stage) => stage.pending?.denominator ?? 0));
    say(node.querySelector(".pending-note"), pending > 0 ? word("pending_note", { n: pending }) : "");
    this.trends.write(report);
    this.values.write(report);
    this.trends.refresh(report);
    this.values.compare();
    // The sentence says since when, which is known once the last hour is there.
    const hour = this.trends.hour.length > 0;
    if (hour !== this.hadHour) this.leakAt = -Infinity;
    this.hadHour = hour;
    this.followLeak();
    this.findLeak();
  }

  writeStages() {
    writeStages(this.node.querySelector(".stages"), this.report, this.summary, this.leak);
  }

  // Once a second also without a report: time goes on.
  writeFreshness() {
    const { node, report } = this;
    if (!report) return;
    const behind = report.at === null ? 0 : ago(report.at);
    say(node.querySelector(".upto"), report.at === null ? word("no_event") : word("upto", { time: time(report.at) }));
    set(node.querySelector(".upto"), "title", report.at ?? "");
    say(node.querySelector(".behind"), report.at === null ? "" : word("behind", { span: span(behind) }));
    wear(node.querySelector(".behind"), "old", behind > OLD_SECONDS);
    say(node.querySelector(".lag"), report.lag === null ? word("lag_unknown") : word("lag", { n: report.lag }));
    wear(node, "is-stale", report.stale);
    mark(node.querySelector(".mark.stale"), report.stale ? word("stale") : "");
    const since = report.since === null ? "" : ` · ${word("since", { time: time(report.since) })}`;
    mark(node.querySelector(".mark.incomplete"), report.incomplete ? word("incomplete") + since : "");
  }

  async findLeak() {
    if (performance.now() - this.leakAt < LEAK_EVERY_MS || this.report.at === null) return;
    this.leakAt = performance.now();
    const [window, basis] = [leakWindow(this.summary, choice(this.summary, "window")), choice(this.summary, "basis")];
    const { dimensions } = this.summary;
    const asked = (dimensions.length > 0 ? dimensions : [""]).map((by) => {
      const own = query(this.summary, { window, by });
      return ask(`${pathOf(this.summary.name)}?${own}`);
    });
    const reports = await Promise.all(asked).catch(() => null);
    const same = window === leakWindow(this.summary, choice(this.summary, "window")) && basis === choice(this.summary, "basis");
    if (reports === null || !same) return;
    Object.assign(this, { leak: worstLeak(reports[0]), leakFound: { reports, window } });
    this.followLeak();
    this.writeStages();
    say(this.node.querySelector(".leak .words"), this.leakWords(reports, window));
    const nobody = reports[0].stages.every((stage) => stage.users === 0);
    set(this.node.querySelector(".leak"), "class", this.leak ? "leak is-leaking" : nobody ? "leak is-empty" : "leak");
  }

  // Its numbers are those of the steps below, every second; which step it is, and where, is looked for less often.
  followLeak() {
    if (!this.leak || this.leakFound.window !== this.report.window) return;
    const now = leakNow(this.leak, this.report);
    if (now === null) return;
    this.leak = now;
    say(this.node.querySelector(".leak .words"), this.leakWords(this.leakFound.reports, this.leakFound.window));
  }

  leakWords(reports, window) {
    const { leak } = this;
    const [report] = reports;
    if (leak === null) {
      const most = mostLost(report);
      if (most !== null) return word("leak_none", { ...most, people: count(Math.round(most.perHour)) });
      return word(report.stages.some((stage) => stage.users > 0) ? "leak_calm" : "leak_nobody");
    }
    const place = report.values.length > 0 ? placeOf(leak, reports) : null;
    const at = report.stages.findIndex((stage) => stage.name === leak.stage);
    const since = underSince(this.trends.hour, at, leak.reference);
    const { dimensions } = this.summary;
    return [
      word(`leak_${leak.kind}`, {
        from: leak.from, to: leak.to, people: count(Math.round(leak.perHour)), rate: percent(leak.rate),
        reference: percent(leak.reference), points: points(leak.reference - leak.rate),
      }),
      since && word(since.before ? "leak_since_before" : "leak_since", { time: minute(since.at) }),
      window !== choice(this.summary, "window") && word("leak_over", { window: span(seconds(window)) }),
      word("leak_end"),
      leak.each > 0 && word("leak_worth", { amount: count(Math.round(leak.perHour * leak.each)) }),
      place && word(place.share > 0.99 ? "leak_place_all" : "leak_place", {
        ...place, value: valueName(place.value), share: roundPercent(place.share), part: roundPercent(place.part),
      }),
      !place && dimensions.length > 0 && word("leak_nowhere", { dimensions: dimensions.join(word("leak_and")) }),
    ].filter(Boolean).join("");
  }
}

function createKey(key) {
  const button = stamp("key");
  button.dataset.term = key;
  say(button, word(`key_${key}`));
  return button;
}
