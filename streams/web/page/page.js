// The live page: shows the funnels, hears what changes, and asks once a second while it hears nothing.

import { chooseFunnel, chooseLanguage, chooseView, chosenFunnel, chosenView, readAddress, viewOf } from "./address.js";
import { nameFunnels, sayAlertsAway, writeAlerts } from "./alerts.js";
import { ask } from "./ask.js";
import { readDictionary, showView } from "./dictionary.js";
import { byId, dress, keep, mark, say, show, stamp, wear } from "./document.js";
import { Funnel } from "./funnel.js";
import { explain } from "./meaning.js";
import { enter, isOutside } from "./session.js";
import { Stream } from "./stream.js";
import { LANGUAGES, language, tag, time, translate, word } from "./words.js";

const EVERY_MS = 1000;
const ALERTS_EVERY_MS = 15_000; // the stream goes on without Redis, and does not say that it is away
const INDEX_MIN = 3; // so many funnels and more have an index
const LIST_EVERY_MS = 3000; // while nothing is heard
const ALL_HEARD_MAX = 12; // up to so many funnels are listened to at once; of more, those in view

const visible = new Set();
const seen = new IntersectionObserver(noteVisible, { rootMargin: "300px" });
const stream = new Stream({ onFunnels: hearFunnels, onAlerts: hearAlerts, onHello: refreshConfig });

let cards = [];
let carried = new Set();
let answeredAt = null;
let alertsAskedAt = -Infinity;
let listAskedAt = -Infinity;

// ---- what is listened to

function noteVisible(entries) {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) visible.add(target.funnel);
    else visible.delete(target.funnel);
  }
}

// One connection for a page, since a browser has few: it brings every funnel that is looked at, each in its own way.
function streamPath() {
  const heard = cards.length <= ALL_HEARD_MAX ? cards : cards.filter((card) => visible.has(card));
  carried = new Set(heard);
  const views = heard.map((card) => `view=${encodeURIComponent(viewOf(card.summary))}`);
  return views.length > 0 ? `api/v1/stream?${views.join("&")}` : stream.path;
}

function hearFunnels(reports) {
  for (const report of reports) cards.find((card) => card.summary.name === report.name)?.receive(report);
}

function hearAlerts(alerts) {
  if (alerts.states) writeAlerts(alerts);
}

// ---- what is asked for

function refreshConfig() {
  refreshList().catch(noteAway);
  readDictionary().catch(noteAway);
}

async function refreshList() {
  listAskedAt = performance.now();
  const { funnels } = await ask("api/v1/funnels");
  const shape = (s) => JSON.stringify([s.name, s.title, s.windows, s.dimensions, s.stages, s.conversion_window, s.owner, s.description]);
  nameFunnels(funnels);
  keep(byId("funnels"), funnels, shape, createCard, () => {});
  cards = [...byId("funnels").children].map((node) => node.funnel);
  for (const card of visible) if (!card.node.isConnected) forget(card);
  show(byId("index"), cards.length >= INDEX_MIN);
  keep(byId("index"), cards, (card) => card.summary.name, createLink, (link, card) => {
    link.card = card;
    say(link, card.title);
  });
}

function createLink(card) {
  const link = stamp("link");
  link.addEventListener("click", () => {
    chooseFunnel(link.card.summary.name);
    goTo(link.card);
  });
  return link;
}

function goTo(card) {
  card.node.scrollIntoView();
  card.node.querySelector(".title").focus({ preventScroll: true });
}

function createCard(summary) {
  const card = new Funnel(summary, (changed) => {
    changed.chosen();
    changed.refresh().catch(noteAway);
    beat();
  });
  visible.add(card);
  seen.observe(card.node);
  return card.node;
}

function forget(card) {
  seen.unobserve(card.node);
  visible.delete(card);
}

async function refreshAlerts() {
  alertsAskedAt = performance.now();
  try {
    writeAlerts(await ask("api/v1/alerts"));
  } catch (error) {
    if (!error.answered) throw error;
    // The funnels come from the worker's memory and go on without Redis; only the alerts do not.
    sayAlertsAway(error);
  }
}

async function refresh() {
  const { live } = stream;
  const asked = [...visible].filter((card) => !live || !carried.has(card) || !card.report).map((card) => card.refresh());
  if (!live || performance.now() - alertsAskedAt > ALERTS_EVERY_MS) asked.push(refreshAlerts());
  // The config may be another one when the service is back, and a stream of funnels that are gone is refused.
  if (!live && performance.now() - listAskedAt > LIST_EVERY_MS) asked.push(refreshList());
  await Promise.all(asked);
  if (live || asked.length > 0) noteAnswer();
}

// ---- whether anybody answers

function noteAnswer() {
  answeredAt = new Date();
  wear(document.body, "is-away", false);
  mark(byId("away"), "");
}

function noteAway(error) {
  if (stream.live && !error.answered) return;
  const said = answeredAt === null ? word("away_never") : word("away_since", { time: time(answeredAt) });
  wear(document.body, "is-away", true);
  mark(byId("away"), error.answered ? word("away_error", { detail: error.message }) : said);
}

function writeMode() {
  const away = document.body.classList.contains("is-away");
  const mode = away ? "away" : stream.live ? "live" : answeredAt === null ? "waiting" : "asking";
  dress(byId("mode"), `mode ${mode}`);
  say(document.querySelector("#mode .text"), word(`mode_${mode}`));
}

// ---- once a second

async function beat() {
  if (isOutside()) {
    stream.close();
    return;
  }
  stream.follow(document.hidden ? "" : streamPath());
  if (document.hidden) return;
  await refresh().catch(noteAway);
  for (const card of visible) card.writeFreshness();
  writeMode();
}

async function run() {
  await enter();
  for (let beats = 0; ; beats += 1) {
    const began = performance.now();
    await (beats === 0 && !isOutside() ? begin() : beat());
    await new Promise((wake) => setTimeout(wake, Math.max(100, EVERY_MS - (performance.now() - began))));
  }
}

async function begin() {
  await refreshList().catch(noteAway);
  readDictionary().catch(noteAway);
  const first = cards.find((card) => card.summary.name === chosenFunnel());
  await beat();
  if (first) goTo(first);
}

function followViews() {
  for (const button of document.querySelectorAll("#views button")) {
    button.addEventListener("click", () => {
      chooseView(button.dataset.view);
      showView(chosenView());
    });
  }
  showView(chosenView());
}

function fillLanguages() {
  for (const [code, name] of Object.entries(LANGUAGES)) {
    const option = stamp("choice");
    const input = option.querySelector("input");
    Object.assign(input, { name: "language", value: code, checked: code === language });
    say(option.querySelector("span"), name);
    option.querySelector("span").lang = code;
    input.addEventListener("change", () => {
      chooseLanguage(code);
      location.reload();
    });
    byId("languages").append(option);
  }
}

addEventListener("hashchange", () => {
  const before = language;
  readAddress();
  if ((new URLSearchParams(location.hash.slice(1)).get("lang") ?? before) !== before) location.reload();
  showView(chosenView());
  for (const card of cards) card.chosen();
  for (const card of visible) card.refresh().catch(noteAway);
});
document.addEventListener("visibilitychange", () => beat());
document.documentElement.lang = tag;
translate(document);
fillLanguages();
followViews();
explain();
say(byId("zone"), word("zone", { zone: Intl.DateTimeFormat().resolvedOptions().timeZone }));
run();
