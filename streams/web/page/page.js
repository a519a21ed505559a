// The live page: asks the API once a second and writes what changed into the document, in place.

const EVERY_MS = 1000;
const PATIENCE_MS = 5000;
const VALUES_MAX = 50;
const STATE_SIGNS = { firing: "▲", pending: "◔", inactive: "○", resolved: "✓", no_data: "∅", stale: "◌" };
const STATE_RANKS = { firing: 0, pending: 1 };
const VALUE_NAMES = { __none__: "(no value)", __other__: "(other values)" };

const whole = new Intl.NumberFormat("en");
const amount = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2, trailingZeroDisplay: "stripIfInteger" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dated = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

const byId = (id) => document.getElementById(id);
const held = new WeakMap();
const visible = new Set();
const seen = new IntersectionObserver(noteVisible, { rootMargin: "300px" });
let skewMs = 0;
let answeredAt = null;
let chosen = new URLSearchParams(location.hash.slice(1));

// ---- words

const now = () => Date.now() + skewMs;

function percent(rate) {
  if (rate === null) return "–";
  const shown = rate * 100;
  if (shown > 0 && shown < 0.01) return "<0.01%";
  return `${shown.toFixed(shown > 0 && shown < 1 ? 2 : 1)}%`;
}

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${whole.format(Math.floor(s / 86400))} days`;
}

function time(iso) {
  const at = new Date(iso);
  const today = new Date(now()).toDateString() === at.toDateString();
  return (today ? clock : dated).format(at);
}

const ago = (iso) => span((now() - new Date(iso)) / 1000);
const parts = (rate) => `${whole.format(rate.numerator)} of ${whole.format(rate.denominator)}`;
const valueName = (value) => VALUE_NAMES[value] ?? value;
const stateName = (state) => `${STATE_SIGNS[state] ?? "•"} ${state.replaceAll("_", " ")}`;

// ---- the document, changed only where it differs

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function show(node, wanted) {
  if (node.hidden === wanted) node.hidden = !wanted;
}

function mark(node, text) {
  show(node, text !== "");
  say(node, text);
}

function dress(node, names) {
  if (node.className !== names) node.className = names;
}

function stretch(node, property, share) {
  const length = `${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%`;
  if (node.style[property] !== length) node.style[property] = length;
}

const stamp = (id) => byId(id).content.firstElementChild.cloneNode(true);

// Makes the children of `parent` those of `items`, keeping the nodes of keys that stay.
function keep(parent, items, keyOf, create, update) {
  const before = held.get(parent) ?? new Map();
  const after = new Map();
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, node] of before) if (!wanted.has(key)) node.remove();
  for (const [key, item] of wanted) {
    const node = before.get(key) ?? create(item);
    if (parent.children[after.size] !== node) parent.insertBefore(node, parent.children[after.size] ?? null);
    update(node, item, after.size);
    after.set(key, node);
  }
  held.set(parent, after);
}

// ---- what is chosen, kept in the address

function choice(summary, kind) {
  const wanted = chosen.get(`${kind}.${summary.name}`);
  if (kind === "by") return summary.dimensions.includes(wanted) ? wanted : "";
  return summary.windows.includes(wanted) ? wanted : summary.windows[0];
}

function choose(summary, kind, value) {
  const fallback = kind === "by" ? "" : summary.windows[0];
  if (value === fallback) chosen.delete(`${kind}.${summary.name}`);
  else chosen.set(`${kind}.${summary.name}`, value);
  history.replaceState(null, "", `#${chosen}`);
}

// ---- one funnel

function createFunnel(summary) {
  const node = stamp("funnel");
  const title = summary.title || summary.name;
  node.summary = summary;
  node.setAttribute("aria-label", title);
  say(node.querySelector(".title"), title);
  const about = [summary.description, `${summary.name}, from ${summary.source}`, summary.owner && `owner ${summary.owner}`, `${summary.conversion_window} to convert`];
  say(node.querySelector(".about"), about.filter(Boolean).join(" · "));
  node.querySelector(".values").setAttribute("aria-label", `${title} by value`);
  const by = ["", ...summary.dimensions];
  fillSwitch(node, "window", summary.windows, `Window of ${title}`);
  fillSwitch(node, "by", by, `Dimension of ${title}`);
  show(node.querySelector("fieldset.by"), by.length > 1);
  seen.observe(node);
  visible.add(node);
  return node;
}

function fillSwitch(node, kind, values, label) {
  const fieldset = node.querySelector(`fieldset.${kind}`);
  fieldset.setAttribute("aria-label", label);
  for (const value of values) {
    const option = stamp("choice");
    const input = option.querySelector("input");
    input.name = `${kind}.${node.summary.name}`;
    input.value = value;
    say(option.querySelector("span"), value || "total");
    input.addEventListener("change", () => {
      choose(node.summary, kind, value);
      refreshFunnel(node).catch(noteAway);
    });
    fieldset.append(option);
  }
}

function setSwitch(node, kind) {
  const value = choice(node.summary, kind);
  for (const input of node.querySelectorAll(`fieldset.${kind} input`)) {
    if (input.checked !== (input.value === value)) input.checked = input.value === value;
  }
}

async function refreshFunnel(node) {
  const { name } = node.summary;
  setSwitch(node, "window");
  setSwitch(node, "by");
  const query = new URLSearchParams({ window: choice(node.summary, "window") });
  if (choice(node.summary, "by")) query.set("by", choice(node.summary, "by"));
  const report = await ask(`api/v1/funnels/${encodeURIComponent(name)}?${query}`);
  // Another choice may have been made while this answer was under way.
  if (report.window === choice(node.summary, "window") && (report.by ?? "") === choice(node.summary, "by")) writeFunnel(node, report);
}

function writeFunnel(node, report) {
  say(node.querySelector(".overall strong"), percent(report.overall.rate));
  say(node.querySelector(".overall span"), `overall, ${parts(report.overall)}`);
  const upTo = node.querySelector(".upto");
  say(upTo, freshness(report));
  upTo.title = report.at ?? "";
  mark(node.querySelector(".stale"), report.stale ? "stale: a partition is more than a minute behind" : "");
  mark(node.querySelector(".incomplete"), report.incomplete ? "incomplete: the window reaches back to before counting began, or records were gone before they were counted" : "");
  const most = Math.max(1, ...report.stages.map((stage) => stage.users));
  const worst = worstStep(report.stages);
  keep(node.querySelector(".stages"), report.stages, (stage) => stage.name, () => stamp("stage"), (row, stage, place) => {
    writeStage(row, stage, report.stages[place - 1], most);
    dress(row, worst && worst.stage === stage ? "is-worst" : "");
  });
  dress(node.querySelector(".worst"), worst ? "worst" : "worst none");
  say(node.querySelector(".worst"), worst ? worstWords(worst) : calmWords(report));
  writeValues(node.querySelector(".values"), report);
}

function freshness(report) {
  if (report.at === null) return "no event yet";
  const waiting = report.lag ? ` · ${whole.format(report.lag)} records waiting` : "";
  return `data up to ${time(report.at)}, ${ago(report.at)} behind${waiting}`;
}

function worstStep(stages) {
  const steps = stages.map((stage, place) => ({ stage, before: stages[place - 1] })).slice(1);
  const worst = steps.reduce((a, b) => (b.stage.lost > a.stage.lost ? b : a));
  return worst.stage.lost > 0 ? worst : null;
}

function worstWords({ stage, before }) {
  return `${before.name} → ${stage.name} loses most: ${whole.format(stage.lost)} of ${whole.format(before.users)} did not go on`;
}

function calmWords(report) {
  return report.stages.some((stage) => stage.users > 0) ? "No step loses users in this window." : "Nobody in this window yet.";
}

function writeStage(row, stage, before, most) {
  say(row.querySelector(".name b"), stage.name);
  say(row.querySelector(".name span"), stage.title);
  stretch(row.querySelector(".fill"), "width", stage.users / most);
  stretch(row.querySelector(".before"), "width", (before ?? stage).users / most);
  const aim = before && stage.target !== null && before.users > 0;
  show(row.querySelector(".aim"), Boolean(aim));
  if (aim) stretch(row.querySelector(".aim"), "left", (stage.target * before.users) / most);
  say(row.querySelector(".users b"), whole.format(stage.users));
  say(row.querySelector(".unit"), stage.users === 1 ? "user" : "users");
  show(row.querySelector(".step"), stage.step !== null);
  say(row.querySelector(".rate"), stage.step ? percent(stage.step.rate) : "");
  say(row.querySelector(".parts"), stage.step ? parts(stage.step) : "");
  writeTarget(row.querySelector(".target"), stage);
  const extra = [stage.benchmark !== null && `benchmark ${percent(stage.benchmark)}`, stage.value !== 0 && `value ${amount.format(stage.value)}`];
  say(row.querySelector(".extra"), extra.filter(Boolean).join(" · "));
  say(row.querySelector(".lost"), stage.step ? `${whole.format(stage.lost)} lost` : "");
}

function writeTarget(node, stage) {
  show(node, stage.step !== null && stage.target !== null);
  if (node.hidden) return;
  const judged = stage.step.rate !== null;
  const met = judged && stage.step.rate >= stage.target;
  dress(node, judged ? `target ${met ? "met" : "missed"}` : "target");
  say(node, `target ${percent(stage.target)}${judged ? (met ? " ✓ met" : " ✗ missed") : ""}`);
}

function writeValues(node, report) {
  const shown = inOrder(node, report);
  show(node, report.by !== null);
  if (report.by === null) return;
  const columns = [report.by, ...report.stages.map((stage) => stage.name), "overall"];
  keep(node.querySelector("thead tr"), columns.map((text, place) => ({ text, place })), (c) => c.place, columnHead, (cell, c) => say(cell, c.text));
  keep(node.querySelector("tbody"), shown, (row) => row.value, () => stamp("value"), writeValue);
  const left = report.values.length - shown.length;
  mark(node.querySelector(".more"), left > 0 ? `${whole.format(left)} more values are not shown; the API has them all` : "");
  if (report.values.length === 0) mark(node.querySelector(".more"), "No value in this window yet.");
}

function columnHead() {
  const cell = document.createElement("th");
  cell.scope = "col";
  return cell;
}

// Largest first as of the moment of choosing: rows that swap places every second cannot be read.
function inOrder(node, report) {
  const question = `${report.window} ${report.by}`;
  if (node.question !== question) Object.assign(node, { question, places: new Map() });
  const bySize = [...report.values].sort((a, b) => b.stages[0].users - a.stages[0].users || a.value.localeCompare(b.value));
  for (const { value } of bySize) if (!node.places.has(value)) node.places.set(value, node.places.size);
  return bySize.sort((a, b) => node.places.get(a.value) - node.places.get(b.value)).slice(0, VALUES_MAX);
}

function writeValue(row, breakdown) {
  const cells = [
    ...breakdown.stages.map((stage) => ({ key: stage.name, text: whole.format(stage.users), note: stage.step ? percent(stage.step.rate) : "" })),
    { key: "", text: percent(breakdown.overall.rate), note: parts(breakdown.overall) },
  ];
  say(row.querySelector("th"), valueName(breakdown.value));
  row.querySelector("th").title = breakdown.value;
  while (row.cells.length <= cells.length) row.insertCell().append(document.createElement("span"), document.createElement("small"));
  while (row.cells.length > cells.length + 1) row.deleteCell(-1);
  cells.forEach((cell, place) => {
    const [text, note] = row.cells[place + 1].children;
    say(text, cell.text);
    say(note, cell.note);
  });
}

// ---- alerts

const subject = (alert) => [alert.rule, alert.dimension, alert.value].join("\n");

function writeAlerts({ states, transitions }) {
  const awake = states.filter((alert) => alert.state !== "inactive");
  const calm = states.filter((alert) => alert.state === "inactive");
  const rank = (alert) => STATE_RANKS[alert.state] ?? 2;
  awake.sort((a, b) => rank(a) - rank(b) || subject(a).localeCompare(subject(b)));
  say(byId("alerts-note"), states.length === 0 ? "No rule watches a funnel." : awake.length === 0 ? "All quiet." : "");
  keep(byId("alerts"), awake, subject, () => stamp("alert"), writeAlert);
  show(byId("calm"), calm.length > 0);
  say(document.querySelector("#calm summary"), `${calm.length} inactive`);
  keep(byId("inactive"), calm, subject, () => stamp("alert"), writeAlert);
  say(byId("transitions-note"), transitions.length === 0 ? "None yet." : "");
  keep(byId("transitions"), transitions, (t) => `${t.at} ${t.state} ${subject(t)}`, () => stamp("transition"), writeTransition);
  writeSummary(states);
}

function writeSummary(states) {
  const count = (state) => states.filter((alert) => alert.state === state).length;
  const firing = count("firing");
  const pending = count("pending");
  say(byId("summary"), [firing ? `${firing} firing` : "nothing firing", pending && `${pending} pending`].filter(Boolean).join(", "));
  const title = firing ? `(${firing} firing) funnelwatch` : "funnelwatch";
  if (document.title !== title) document.title = title;
}

function writeSubject(row, alert) {
  dress(row.querySelector(".state"), `state ${alert.state}`);
  say(row.querySelector(".state"), stateName(alert.state));
  say(row.querySelector(".what b"), alert.rule);
  const value = alert.dimension === null ? "" : `, ${alert.dimension} ${valueName(alert.value)}`;
  say(row.querySelector(".where"), `${alert.funnel} into ${alert.stage}${value}`);
}

const evidence = (alert) => `${percent(alert.rate)}, ${parts(alert)}; threshold ${percent(alert.threshold)}`;

function writeAlert(row, alert) {
  writeSubject(row, alert);
  say(row.querySelector(".when"), alert.since === null ? "" : `since ${time(alert.since)} (${ago(alert.since)})`);
  say(row.querySelector(".evidence"), `${evidence(alert)} over ${alert.window} · ${alert.severity}`);
}

function writeTransition(row, transition) {
  writeSubject(row, transition);
  say(row.querySelector("time"), time(transition.at));
  row.querySelector("time").dateTime = transition.at;
  say(row.querySelector(".evidence"), evidence(transition));
}

// ---- asking, once a second

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS) });
  const date = Date.parse(answer.headers.get("Date") ?? "");
  // The header has whole seconds, so only a larger difference says that this machine's clock is off.
  if (date) skewMs = Math.abs(date - Date.now()) > 3000 ? date - Date.now() : 0;
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail), { answered: true });
  return body;
}

async function refreshFunnels() {
  const { funnels } = await ask("api/v1/funnels");
  const shape = (s) => JSON.stringify([s.name, s.title, s.windows, s.dimensions, s.stages, s.conversion_window, s.owner, s.description]);
  keep(byId("funnels"), funnels, shape, createFunnel, () => {});
  for (const node of visible) if (!node.isConnected) forget(node);
  await Promise.all([...visible].map(refreshFunnel));
}

function forget(node) {
  seen.unobserve(node);
  visible.delete(node);
}

async function refreshAlerts() {
  try {
    writeAlerts(await ask("api/v1/alerts"));
  } catch (error) {
    if (!error.answered) throw error;
    // The funnels come from the worker's memory and go on without Redis; only the alerts do not.
    say(byId("alerts-note"), `Last known, not current: ${error.message}`);
  }
}

function noteVisible(entries) {
  for (const entry of entries) {
    if (entry.isIntersecting) visible.add(entry.target);
    else visible.delete(entry.target);
  }
}

function noteAnswer() {
  answeredAt = new Date();
  document.body.classList.remove("is-away");
  mark(byId("away"), "");
}

function noteAway(error) {
  const since = answeredAt === null ? "No answer yet" : `No answer since ${time(answeredAt)}`;
  document.body.classList.add("is-away");
  mark(byId("away"), error.answered ? `The service answers with an error: ${error.message}` : `${since}; asking again every second`);
}

async function refresh() {
  try {
    await Promise.all([refreshFunnels(), refreshAlerts()]);
    noteAnswer();
  } catch (error) {
    noteAway(error);
  }
}

async function run() {
  for (;;) {
    const began = performance.now();
    if (!document.hidden) await refresh();
    await new Promise((wake) => setTimeout(wake, Math.max(100, EVERY_MS - (performance.now() - began))));
  }
}

addEventListener("hashchange", () => {
  chosen = new URLSearchParams(location.hash.slice(1));
  refresh();
});
say(byId("zone"), `Times are in this browser's zone, ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`);
run();
