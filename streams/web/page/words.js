// The page in the reader's language: its words, and how numbers, dates and durations are written in it.

import { chosenLanguage } from "./address.js";
import { now } from "./ask.js";
import { CHINESE } from "./chinese.js";
import { ENGLISH } from "./english.js";

export const LANGUAGES = { en: "English", zh: "简体中文" };

const TAGS = { en: "en", zh: "zh-CN" };
const TEXTS = { en: ENGLISH, zh: CHINESE };
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

export const language = pick(chosenLanguage());
export const tag = TAGS[language];

const texts = TEXTS[language];
const plural = new Intl.PluralRules(tag);
const whole = new Intl.NumberFormat(tag, { maximumFractionDigits: 0 });
const amounts = new Intl.NumberFormat(tag, { maximumFractionDigits: 2 });
const tenths = new Intl.NumberFormat(tag, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const signed = new Intl.NumberFormat(tag, { minimumFractionDigits: 1, maximumFractionDigits: 1, signDisplay: "exceptZero" });
const percents = new Intl.NumberFormat(tag, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const smallPercents = new Intl.NumberFormat(tag, { style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 });
const roundPercents = new Intl.NumberFormat(tag, { style: "percent", maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat(tag, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minutes = new Intl.DateTimeFormat(tag, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dated = new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const units = Object.fromEntries(
  UNITS.map(([unit]) => [unit, new Intl.NumberFormat(tag, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 0 })]),
);
const fineSeconds = new Intl.NumberFormat(tag, { style: "unit", unit: "second", unitDisplay: "short", maximumFractionDigits: 1 });

function pick(wanted) {
  const known = [wanted, ...navigator.languages].filter(Boolean).map((one) => one.slice(0, 2).toLowerCase());
  return known.find((one) => one in LANGUAGES) ?? "en";
}

// A text by its key; {name} is filled in from `parts`, and `parts.n` chooses between one and many.
export function word(key, parts = {}) {
  const found = "n" in parts ? (texts[`${key}_${plural.select(parts.n)}`] ?? texts[key]) : texts[key];
  return found.replace(/\{(\w+)\}/g, (_, name) => (name === "n" ? whole.format(parts.n) : parts[name]));
}

export const maybe = (key) => texts[key] ?? key;

export const count = (n) => whole.format(n);
export const amount = (n) => amounts.format(n);
export const points = (share) => tenths.format(Math.abs(share) * 100);
export const signedPoints = (share) => signed.format(share * 100);
export const roundPercent = (share) => roundPercents.format(share);

export function percent(rate) {
  if (rate === null) return "–";
  if (rate > 0 && rate < 0.0001) return `<${smallPercents.format(0.0001)}`;
  return (rate > 0 && rate < 0.01 ? smallPercents : percents).format(rate);
}

// Two units at most: 42 s, 3 min 5 s, 2 h, 1 day 4 h.
export function span(secondsLong) {
  const s = Math.max(0, Math.round(secondsLong));
  const at = UNITS.findIndex(([, size]) => s >= size);
  if (at < 0) return units.second.format(0);
  const [unit, size] = UNITS[at];
  const [lower, lowerSize] = UNITS[at + 1] ?? [];
  const rest = lower ? Math.floor((s % size) / lowerSize) : 0;
  return [units[unit].format(Math.floor(s / size)), rest > 0 && units[lower].format(rest)].filter(Boolean).join(" ");
}

export const took = (secondsLong) => (secondsLong < 10 ? fineSeconds.format(secondsLong) : span(secondsLong));

export function time(iso) {
  const at = new Date(iso);
  return (isToday(at) ? clock : dated).format(at);
}

export const minute = (at) => minutes.format(new Date(at));
export const ago = (iso) => (now() - new Date(iso)) / 1000;

const isToday = (at) => new Date(now()).toDateString() === at.toDateString();

// Fills in what stands in the document from the beginning, templates too.
export function translate(root) {
  for (const node of root.querySelectorAll("[data-word]")) node.textContent = word(node.dataset.word);
  for (const node of root.querySelectorAll("[data-label]")) node.setAttribute("aria-label", word(node.dataset.label));
  for (const template of root.querySelectorAll("template")) translate(template.content);
}
