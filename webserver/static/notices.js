// What is the matter, in a line each above everything else; and what a screen reader is told.

import { byId, element, keyed, setData, setText } from "./dom.js";
import { coordinatorNow, now } from "./clock.js";
import { wholeSpan } from "./format.js";

const QUIET_S = 60;
const OVERDUE_S = 10;

const notices = new Map();
let connection = "connecting";
let lostAt = null;
let overview = null;

/** Say something once to who cannot see it; a stage that follows another replaces it. */
export const announce = (text) => setText(byId("announcer"), text);

/** Take the newest overview. */
export function render(newest) {
  overview = newest;
  tick();
}

/** Take how the stream is: connecting, live or lost. */
export function connected(state) {
  if (state === connection) return;
  if (state === "lost") lostAt = now();
  if (state === "lost") announce("Disconnected; reconnecting.");
  else if (connection === "lost") announce("Connected again.");
  connection = state;
  tick();
}

/** Say anew what changes by itself. */
export function tick() {
  const federation = overview?.federation;
  put("storage", "error", overview?.storage_failure && storageText(overview.storage_failure));
  put("lost", "warning", connection === "lost" && lostText(federation));
  put("silent", "warning", connection === "live" && silenceText(overview));
  draw();
}

function put(name, kind, text) {
  if (text) notices.set(name, { name, kind, text });
  else notices.delete(name);
}

function draw() {
  keyed(
    byId("notices"),
    [...notices.values()],
    (notice) => notice.name,
    () => element("p", { class: "notice" }),
    (line, notice) => {
      setData(line, "kind", notice.kind);
      setData(line, "notice", notice.name);
      setText(line, notice.text);
    },
  );
  const chip = byId("connection");
  const silent = notices.has("silent");
  setData(chip, "connection", connection === "live" && silent ? "silent" : connection);
  setText(chip, chipText(silent));
}

function chipText(silent) {
  if (connection === "connecting") return "Connecting…";
  if (connection === "lost") return "Reconnecting…";
  return silent ? "Coordinator silent" : "Live";
}

const storageText = (failure) =>
  `The coordinator's disk refuses, so no round begins until it takes again: ${failure}`;

function lostText(federation) {
  const since = federation?.heard_s ?? lostAt;
  return `Disconnected: last update ${wholeSpan(now() - since)} ago; reconnecting. What you see may be out of date.`;
}

/** Say that the webserver is there, and the coordinator has not been heard of when it should. */
export function silenceText(newest) {
  const federation = newest?.federation;
  if (!federation || !newest.session?.running) return "";
  const quietS = now() - federation.heard_s;
  const deadline = newest.round?.stage === "completed" ? null : newest.round?.deadline_at_s;
  const overdueS = deadline == null ? 0 : coordinatorNow() - deadline;
  if (overdueS > OVERDUE_S && quietS > OVERDUE_S) {
    return `The coordinator is silent: this stage should have ended ${wholeSpan(overdueS)} ago, and nothing has come for ${wholeSpan(quietS)}. Does it run, and does it reach this webserver?`;
  }
  if (quietS > QUIET_S && (deadline == null || newest.round.stage !== "selection")) {
    return `Nothing has come from the coordinator for ${wholeSpan(quietS)}. Clients may be training; or does it not reach this webserver?`;
  }
  return "";
}
