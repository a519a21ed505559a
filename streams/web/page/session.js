// Signing in and out, where the service asks for tokens. The token goes into a cookie that no script can read.

import { onRefused, PATIENCE_MS } from "./ask.js";
import { byId, mark, say, set, show, wear } from "./document.js";
import { word } from "./words.js";

const HELD = ["funnels", "index", "alerts", "inactive", "transitions", "dictionary"]; // what was seen is not left lying about

const READING = ["read", "admin"];

let outside = false;

// Whether the page has to wait for somebody to sign in, and asks for nothing meanwhile.
export const isOutside = () => outside;

// Asked first of all. Where nobody answers, the page goes on, and says so as ever.
export async function enter() {
  byId("sign-in").querySelector("form").addEventListener("submit", signIn);
  byId("sign-out").addEventListener("click", signOut);
  onRefused(leave);
  try {
    const { needed, name, scopes } = await (await fetch("session", { signal: AbortSignal.timeout(PATIENCE_MS) })).json();
    if (needed && !scopes.some((scope) => READING.includes(scope))) leave();
    if (name !== null) welcome(name);
    if (name !== null && outside) complain(word("sign_in_scope", { name }));
  } catch {
    // The next question will meet with the same.
  }
}

function welcome(name) {
  say(byId("signed-in").querySelector("span"), word("signed_in", { name }));
  show(byId("signed-in"), true);
}

function leave() {
  if (outside) return;
  outside = true;
  wear(document.body, "is-outside", true);
  for (const id of HELD) byId(id).replaceChildren();
  show(byId("signed-in"), false);
  show(byId("sign-in"), true);
  byId("token").focus();
}

async function signIn(event) {
  event.preventDefault();
  const field = byId("token");
  complain("");
  try {
    const answer = await post({ token: field.value });
    if (answer.ok) location.reload();
    else complain(await reason(answer));
  } catch {
    complain(word("away_never"));
  }
}

const post = (body) =>
  fetch("session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

async function reason(answer) {
  if (answer.status === 401 || answer.status === 400) return word("sign_in_wrong");
  return answer.status === 429 ? word("sign_in_often") : (await answer.json()).detail;
}

function complain(text) {
  mark(byId("sign-in-error"), text);
  set(byId("token"), "aria-invalid", String(text !== ""));
  if (text !== "") byId("token").select();
}

async function signOut() {
  await fetch("session", { method: "DELETE" });
  location.reload();
}
