// Asking the API, and what time the service has.

export const PATIENCE_MS = 5000;
const SKEW_MIN_MS = 3000; // less is the way there, and the Date header has whole seconds

let skewMs = 0;

export const now = () => Date.now() + skewMs;

export function noteClock(moment) {
  const difference = Date.parse(moment ?? "") - Date.now();
  if (!Number.isNaN(difference)) skewMs = Math.abs(difference) > SKEW_MIN_MS ? difference : 0;
}

export const pathOf = (funnel, rest = "") => `api/v1/funnels/${encodeURIComponent(funnel)}${rest}`;

let refused = () => {};

// What to do when the service asks for a token.
export function onRefused(act) {
  refused = act;
}

// The answer as JSON. An error has `answered`: whether the service said it, or nobody.
export async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS) });
  noteClock(answer.headers.get("Date"));
  const body = await answer.json();
  if (answer.status === 401) refused();
  if (!answer.ok) throw Object.assign(new Error(body.detail), { answered: true, status: answer.status });
  return body;
}
