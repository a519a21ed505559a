// What is chosen, kept in the address after the #: window.F, basis.F and by.F for a funnel F, lang, the
// view (dictionary), and the funnel to begin at.

const STEADY_SECONDS = 60;

export const BASES = ["users", "entries", "adjusted"];
export const seconds = (duration) => Number.parseInt(duration, 10) * { s: 1, m: 60, h: 3600, d: 86400 }[duration.at(-1)];

let chosen = new URLSearchParams(location.hash.slice(1));

export function readAddress() {
  chosen = new URLSearchParams(location.hash.slice(1));
}

export const chosenLanguage = () => chosen.get("lang");

// A window of few seconds begins anew at each of its buckets: it is there to be chosen, not to begin with.
function firstWindow(summary) {
  return summary.windows.find((window) => seconds(window) >= STEADY_SECONDS) ?? summary.windows[0];
}

function options(summary, kind) {
  if (kind === "by") return ["", ...summary.dimensions];
  return kind === "basis" ? BASES : summary.windows;
}

function fallback(summary, kind) {
  return kind === "window" ? firstWindow(summary) : options(summary, kind)[0];
}

export function choice(summary, kind) {
  const wanted = chosen.get(`${kind}.${summary.name}`) ?? "";
  return wanted !== "" && options(summary, kind).includes(wanted) ? wanted : fallback(summary, kind);
}

export function choose(summary, kind, value) {
  put(`${kind}.${summary.name}`, value === fallback(summary, kind) ? null : value);
}

export const chosenView = () => chosen.get("view");

export function chooseView(view) {
  put("view", view || null);
}

export const chosenFunnel = () => chosen.get("at");

export function chooseFunnel(name) {
  put("at", name);
}

export function chooseLanguage(language) {
  put("lang", language);
}

function put(key, value) {
  if (value === null) chosen.delete(key);
  else chosen.set(key, value);
  history.replaceState(null, "", chosen.size > 0 ? `#${chosen}` : location.pathname + location.search);
}

// The report that a funnel's choices ask for, as a query.
export function query(summary, other = {}) {
  const asked = { window: choice(summary, "window"), basis: choice(summary, "basis"), by: choice(summary, "by"), ...other };
  return new URLSearchParams(Object.entries(asked).filter(([, value]) => value));
}

// The same as the stream takes it: purchase;window=5m;basis=adjusted;by=channel
export const viewOf = (summary) =>
  [encodeURIComponent(summary.name), ...[...query(summary)].map(([key, value]) => `${key}=${encodeURIComponent(value)}`)].join(";");

export const fits = (summary, report) =>
  report.window === choice(summary, "window") && report.basis === choice(summary, "basis") && (report.by ?? "") === choice(summary, "by");
