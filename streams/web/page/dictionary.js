// What everything means, in the config's own terms: asked for once, shown beside a number and as a view of its own.

import { ask } from "./ask.js";
import { byId, say, set, show, stamp } from "./document.js";
import { language, percent, word } from "./words.js";

const entries = new Map(); // by kind/funnel/name; term/key for a word

export async function readDictionary() {
  const found = await ask(`api/v1/dictionary?language=${language}`);
  for (const term of found.terms) entries.set(`term/${term.key}`, { title: term.term, meaning: term.meaning, counted: [] });
  for (const funnel of found.funnels) {
    entries.set(`funnel/${funnel.name}`, funnel);
    for (const stage of funnel.stages) entries.set(`stage/${funnel.name}/${stage.name}`, stage);
    for (const step of funnel.steps) entries.set(`step/${funnel.name}/${step.stage}`, step);
    for (const dimension of funnel.dimensions) entries.set(`dimension/${funnel.name}/${dimension.name}`, dimension);
    for (const alert of funnel.alerts) entries.set(`alert/${alert.name}`, alert);
  }
  entries.set(`alert/${found.pipeline.name}`, found.pipeline);
  writeView(found);
}

// The entry of a place: its own one, else that of its word.
export const entryOf = ({ entry, term }) => entries.get(entry) ?? entries.get(`term/${term}`);

export function showView(wanted) {
  show(byId("dictionary"), wanted === "dictionary");
  show(byId("live"), wanted !== "dictionary");
  for (const button of document.querySelectorAll("#views button")) {
    set(button, "aria-pressed", String((button.dataset.view === "dictionary") === (wanted === "dictionary")));
  }
}

function writeView(found) {
  const parts = found.funnels.map((funnel) => [funnel.title, [
    { ...funnel, title: word("dictionary_funnel") },
    ...funnel.stages.map((stage) => ({ ...stage, kind: "stage" })),
    ...funnel.steps.map((step) => ({ ...step, kind: "step" })),
    ...funnel.dimensions.map((dimension) => ({ ...dimension, kind: "dimension" })),
    ...funnel.alerts.map((alert) => ({ ...alert, kind: "alert" })),
  ]]);
  parts.push([word("dictionary_sources"), [...found.sources, { ...found.pipeline, kind: "alert" }]]);
  parts.push([word("dictionary_terms"), found.terms.map((term) => ({ title: term.term, meaning: term.meaning, counted: [] }))]);
  byId("dictionary").replaceChildren(...parts.map(([title, list]) => createPart(title, list)));
}

function createPart(title, list) {
  const part = stamp("dictionary-part");
  say(part.querySelector("h2"), title);
  part.querySelector(".entries").append(...list.map(createEntry));
  return part;
}

function createEntry(entry) {
  const node = stamp("dictionary-entry");
  const facts = [
    entry.kind && word(`dictionary_${entry.kind}`), entry.name !== entry.title && entry.name,
    entry.target != null && word("target", { target: percent(entry.target) }),
    entry.benchmark != null && word("benchmark", { benchmark: percent(entry.benchmark) }),
    !entry.kind && entry.owner && word("owner", { owner: entry.owner }),
  ];
  say(node.querySelector("h3"), entry.title);
  say(node.querySelector(".facts"), facts.filter(Boolean).join(" · "));
  say(node.querySelector(".says"), entry.meaning);
  node.querySelector("ul").append(...entry.counted.map(createSentence));
  show(node.querySelector("details"), entry.counted.length > 0);
  return node;
}

export function createSentence(text) {
  const item = document.createElement("li");
  say(item, text);
  return item;
}
