// Asks the webserver, and says in a sentence what went wrong.

const ROOT = "api/v1/";
// Of several federations the page shows the one that its address names, else the latest heard of.
const FEDERATION = new URLSearchParams(location.search).get("federation");

/** The webserver refused, or did not answer. */
export class Refusal extends Error {
  constructor(status, reason, detail) {
    super(detail || reason || `the webserver answered with status ${status}`);
    this.status = status;
    this.reason = reason;
  }
}

/** Return the address of a part of the API; parameters that are null or empty are left out. */
export function address(path, parameters = {}) {
  const all = Object.entries({ federation: FEDERATION, ...parameters });
  const given = all.filter(([, value]) => value != null && value !== "");
  return `${ROOT}${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

let unanswered = false;

/** Say whether something was asked in vain since this was called last. */
export function wasUnanswered() {
  const before = unanswered;
  unanswered = false;
  return before;
}

/** Say that a part of the page is missing; no answer at all is what the stream's notice is for. */
export const missing = (what, refusal) =>
  refusal.status === 0 ? "" : `The ${what} could not be loaded: ${refusal.message}.`;

/** Return the answer to a request. */
export async function ask(path, parameters = {}, options = {}) {
  let response;
  try {
    response = await fetch(address(path, parameters), { cache: "no-store", ...options });
  } catch {
    unanswered = true;
    throw new Refusal(0, "unavailable", "the webserver does not answer");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  throw new Refusal(response.status, body?.reason ?? "", body?.detail ?? "");
}

/**
 * Return a function that runs the task, and however often it is called, never twice at a time and
 * not again before the pause: calls in between become one run after it.
 */
export function coalesced(task, pauseMs = 500) {
  let busy = false;
  let again = false;
  return async function run() {
    again = true;
    if (busy) return;
    busy = true;
    while (again) {
      again = false;
      await task();
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    busy = false;
  };
}
