// Starting and stopping a session, by whoever may.

import { Refusal, ask } from "./api.js";
import { byId, setText, showText } from "./dom.js";
import { plural } from "./format.js";
import { announce } from "./notices.js";

const TOKEN_KEY = "headwater-control-token";
const CSRF = document.querySelector("meta[name=headwater-csrf]").content;
const TOKEN_REASONS = ["control-token-needed", "wrong-control-token"];

let needsToken = false;
let federation = null;

/** Show an overview. */
export function render(overview) {
  const { possible, needs_token } = overview.control ?? {};
  needsToken = Boolean(needs_token);
  federation = overview.federation?.federation_id;
  const session = overview.session;
  setText(byId("control-state"), sessionWords(session));
  byId("control").dataset.possible = Boolean(possible);
  byId("open-start").hidden = !possible || Boolean(session?.running);
  byId("open-stop").hidden = !possible || !session?.running;
  byId("open-stop").disabled = false;
  byId("control-why").hidden = Boolean(possible);
  const bar = byId("session-bar");
  bar.hidden = !session;
  if (session) {
    const share = session.rounds_completed / Math.max(1, session.rounds);
    bar.firstElementChild.style.width = `${100 * Math.min(1, share)}%`;
  }
}

function sessionWords(session) {
  if (!session) return "No session yet.";
  const done = `${session.rounds_completed} of ${plural(session.rounds, "round")} completed`;
  if (session.running && session.stopping) return `Running, stops after this round: ${done}.`;
  if (session.running) return `Running: ${done}.`;
  return `${session.rounds_completed < session.rounds ? "Stopped" : "Over"}: ${done}.`;
}

/** Wire the two forms. */
export function begin() {
  wire("start", (form) => {
    const plan = readPlan(form);
    return plan && (() => act("POST", {}, plan, form));
  });
  wire("stop", (form) => {
    const after_round = form.elements.when.value === "after";
    return () => act("DELETE", { after_round }, null, form);
  });
}

/** Wire one dialog: read returns what to do, or nothing if the form has mistakes. */
function wire(name, read) {
  const dialog = byId(`${name}-dialog`);
  const form = byId(`${name}-form`);
  byId(`open-${name}`).addEventListener("click", () => {
    showText(byId(`${name}-error`), "");
    form.querySelector(".token").hidden = !needsToken || Boolean(token());
    dialog.showModal();
  });
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const task = read(form);
    if (!task) return;
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      await task();
      dialog.close();
      announce(name === "start" ? "The session was started." : "The session is being stopped.");
    } catch (refusal) {
      refused(form, byId(`${name}-error`), refusal);
    }
    button.disabled = false;
  });
}

async function act(method, parameters, body, form) {
  const given = form.elements.token.value.trim();
  const bearer = given || token();
  const headers = { "X-Headwater-CSRF": CSRF };
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  if (body) headers["Content-Type"] = "application/json";
  // The webserver controls one coordinator, and must refuse if that is not the one shown here.
  await ask("session", { ...parameters, federation }, { method, headers, body: body && JSON.stringify(body) });
  if (given) remember(given);
  form.elements.token.value = "";
}

function refused(form, place, refusal) {
  if (!(refusal instanceof Refusal)) throw refusal;
  if (TOKEN_REASONS.includes(refusal.reason)) {
    remember("");
    form.querySelector(".token").hidden = false;
    form.elements.token.focus();
  }
  showText(place, refusal.message);
}

// -- The form -----------------------------------------------------------------------------------

/** Return what was filled in as numbers, or null when a field is wrong; then it says so. */
function readPlan(form) {
  const plan = {};
  const mistakes = [];
  for (const input of form.querySelectorAll(".fields input")) {
    const text = input.value.trim().replace(",", ".");
    const mistake = mistakeIn(input, text);
    input.setAttribute("aria-invalid", String(Boolean(mistake)));
    if (mistake) mistakes.push([input, `${input.labels[0].firstChild.textContent.trim()}: ${mistake}`]);
    else if (text) plan[input.name] = Number(text);
  }
  showText(byId("start-error"), mistakes.map(([, sentence]) => sentence).join(" "));
  if (mistakes.length === 0) return plan;
  const [first] = mistakes[0];
  const folded = first.closest("details");
  if (folded) folded.open = true;
  first.focus();
  return null;
}

function mistakeIn(input, text) {
  if (!text) return input.required ? "it must be a whole number from 1." : "";
  const number = Number(text);
  const { min, above, whole } = input.dataset;
  if (whole !== undefined && !(Number.isSafeInteger(number) && number >= Number(min))) {
    return `it must be a whole number from ${min}.`;
  }
  if (!Number.isFinite(number)) return "it must be a number.";
  if (min !== undefined && number < Number(min)) return `it must be ${min} or more.`;
  if (above !== undefined && number <= Number(above)) return `it must be above ${above}.`;
  return "";
}

// -- The token: for this tab, until it is closed ------------------------------------------------

function token() {
  try {
    return sessionStorage.getItem(TOKEN_KEY) ?? "";
  } catch {
    return ""; // storage is switched off: it is asked for each time
  }
}

function remember(value) {
  try {
    if (value) sessionStorage.setItem(TOKEN_KEY, value);
    else sessionStorage.removeItem(TOKEN_KEY);
  } catch {
    // as above
  }
}
