// The values of a dimension side by side, and which of their differences are more than chance.

import { choice, query } from "./address.js";
import { ask, pathOf } from "./ask.js";
import { dress, keep, mark, say, set, show, stamp } from "./document.js";
import { count, language, percent, points, signedPoints, word } from "./words.js";

const SHOWN_MAX = 50;
const COMPARE_EVERY_MS = 10_000;
const NAMES = { __none__: "value_none", __other__: "value_other" };

export const valueName = (value) => (value in NAMES ? word(NAMES[value]) : value);

export class Values {
  constructor(node, summary) {
    this.node = node;
    this.summary = summary;
    this.places = new Map();
    this.comparison = null;
    this.asked = "";
    this.askedAt = -Infinity;
  }

  forget() {
    Object.assign(this, { comparison: null, asked: "" });
  }

  async compare() {
    const [basis, by] = [choice(this.summary, "basis"), choice(this.summary, "by")];
    const asked = query(this.summary).toString();
    const due = performance.now() - this.askedAt > COMPARE_EVERY_MS;
    if (by === "" || basis === "users" || (asked === this.asked && !due)) return;
    if (asked !== this.asked) this.forget();
    Object.assign(this, { asked, askedAt: performance.now() });
    const found = await ask(`${pathOf(this.summary.name, "/compare")}?${asked}`).catch((error) => ({ error, comparisons: [] }));
    if (asked === this.asked) this.comparison = found;
    if (this.report) this.write(this.report);
  }

  write(report) {
    this.report = report;
    show(this.node, report.by !== null);
    if (report.by === null) return;
    say(this.node.querySelector("h3"), word("by_title", { by: report.by }));
    set(this.node.querySelector("h3"), "data-entry", `dimension/${this.summary.name}/${report.by}`);
    set(this.node.querySelector(".values"), "aria-label", word("values_of", { title: this.summary.title || this.summary.name, by: report.by }));
    const shown = this.inOrder(report);
    const heads = [report.by, ...report.stages.map((stage) => stage.title || stage.name), word("overall_head")].map((text, place) => ({ text, place }));
    keep(this.node.querySelector("thead tr"), heads, (head) => head.place, createHead, (cell, head) => say(cell, head.text));
    keep(this.node.querySelector("tbody"), shown, (row) => row.value, () => stamp("value"), (row, one) => this.writeRow(row, one, report));
    const left = report.values.length - shown.length;
    const more = left > 0 ? word("more", { n: left }) : report.values.length === 0 ? word("no_value") : "";
    mark(this.node.querySelector(".more"), more);
    say(this.node.querySelector(".compared"), this.comparedWords());
  }

  // Largest first as of the moment of choosing: rows that swap places every second cannot be read.
  inOrder(report) {
    const question = `${report.window} ${report.by}`;
    if (this.question !== question) Object.assign(this, { question, places: new Map() });
    const bySize = [...report.values].sort((a, b) => b.stages[0].users - a.stages[0].users || a.value.localeCompare(b.value));
    for (const { value } of bySize) if (!this.places.has(value)) this.places.set(value, this.places.size);
    return bySize.sort((a, b) => this.places.get(a.value) - this.places.get(b.value)).slice(0, SHOWN_MAX);
  }

  writeRow(row, { value, stages, overall }, report) {
    const cells = stages.map((stage, place) => ({
      key: stage.name, of: count(stage.users), at: stage.step ? percent(stage.step.rate) : "",
      share: stage.step ? stage.step.rate : stage.users / Math.max(1, report.stages[0].users),
      found: place > 0 ? this.difference(value, stage.name) : null,
    }));
    cells.push({ key: "", of: "", at: percent(overall.rate), share: overall.rate, found: null });
    say(row.querySelector("th"), valueName(value));
    set(row.querySelector("th"), "title", value);
    while (row.cells.length < cells.length + 1) row.append(stamp("cell"));
    while (row.cells.length > cells.length + 1) row.deleteCell(-1);
    cells.forEach((cell, place) => writeCell(row.cells[place + 1], cell));
  }

  difference(value, stage) {
    const own = this.comparison?.comparisons.find((one) => one.a.value === value);
    return own?.steps.find((step) => step.stage === stage) ?? null;
  }

  comparedWords() {
    if (choice(this.summary, "basis") === "users") return word("compared_users");
    if (this.comparison === null) return "";
    const { error, compared, tests, comparisons } = this.comparison;
    if (error) return word("compared_away", { detail: error.message });
    if (tests === 0) return word("compared_none");
    const found = comparisons.flatMap((one) => one.steps).filter((step) => step.significant).length;
    return word("compared", {
      values: word("compared_values", { n: compared }), tests: word("compared_tests", { n: tests }),
      found: found === 0 ? word("compared_found_none") : word("compared_found", { n: found }),
    });
  }
}

function createHead() {
  const cell = document.createElement("th");
  cell.scope = "col";
  return cell;
}

function writeCell(cell, { of, at, share, found }) {
  const [users, rate, differs] = cell.children;
  say(users, of);
  say(rate, at);
  const length = `${(100 * Math.min(1, share ?? 0)).toFixed(1)}%`;
  if (cell.style.getPropertyValue("--share") !== length) cell.style.setProperty("--share", length);
  const significant = found?.significant === true;
  dress(differs, significant ? `differs ${found.difference > 0 ? "more" : "less"}` : "differs");
  say(differs, significant ? word(found.difference > 0 ? "differs_more" : "differs_less", { points: points(found.difference) }) : "");
  const ends = (step) => step.low === null ? word("differs_ratio", { ratio: step.ratio_low?.toFixed(2) ?? "–" }) : signedPoints(step.low);
  const words = () => word("differs_words", {
    points: signedPoints(found.difference), low: ends(found), p: pWords(found.p_adjusted),
    high: found.high === null ? word("differs_ratio", { ratio: found.ratio_high?.toFixed(2) ?? "∞" }) : signedPoints(found.high),
  });
  set(differs, "data-note", found && found.p_adjusted !== null ? words() : "");
}

const pWords = (p) => (p < 0.001 ? "< 0.001" : p.toLocaleString(language, { maximumSignificantDigits: 2 }));
