// The table of rounds, newest first, a page at a time.

import { ask, coalesced, missing } from "./api.js";
import { byId, element, keyed, setData, setText, showText } from "./dom.js";
import { STAGES, count, machineTime, metrics, moment, span } from "./format.js";

const ROUNDS_A_PAGE = 15;

// Where each page that was turned to begins; the newest one begins nowhere in particular.
let starts = [null];
let next = null;

/** Fetch the page that is shown and show it. */
export const load = coalesced(async () => {
  const asked = { limit: ROUNDS_A_PAGE, before: starts.at(-1), outcome: byId("history-outcome").value };
  try {
    const page = await ask("rounds", asked);
    next = page.next;
    draw(page.rounds);
    showText(byId("history-error"), "");
  } catch (refusal) {
    showText(byId("history-error"), missing("rounds", refusal));
  }
}, 250);

/** Turn pages and choose outcomes. */
export function begin() {
  byId("history-older").addEventListener("click", () => turn(() => starts.push(next)));
  byId("history-newer").addEventListener("click", () => turn(() => starts.pop()));
  byId("history-outcome").addEventListener("change", () => turn(() => (starts = [null])));
}

/** A round began or ended: only the newest page changes by that. */
export function changed() {
  if (starts.length === 1) load();
}

/** Begin again with another federation's. */
export const forget = () => turn(() => (starts = [null]));

function turn(move) {
  move();
  byId("history-older").disabled = true;
  byId("history-newer").disabled = true;
  load();
}

function draw(rounds) {
  byId("history-older").disabled = next == null;
  byId("history-newer").disabled = starts.length === 1;
  byId("history-none").hidden = rounds.length > 0;
  setText(byId("history-none"), byId("history-outcome").value ? "None." : "No round yet.");
  keyed(byId("history"), rounds, (round) => round.round_number, makeRow, updateRow);
}

function makeRow(round) {
  const href = `#round-${round.round_number}`;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("a", { href }, count(round.round_number))),
    element("td", {}, element("span", { class: "badge" }), element("span", { class: "why" })),
    element("td", { class: "number" }),
    element("td", { class: "metrics" }),
    element("td", { class: "number" }),
    element("td", {}, element("time")),
  );
}

function updateRow(row, round) {
  const [, outcome, reports, values, duration, ended] = row.children;
  const [badge, why] = outcome.children;
  setText(badge, round.outcome ?? `runs: ${round.stage}`);
  setData(badge, "kind", { committed: "good", abandoned: "bad" }[round.outcome] ?? "live");
  setText(why, round.reason);
  const counts = round.counts ?? {};
  setText(reports, `${count((counts.reported ?? 0) + (counts.folded ?? 0))} of ${count(counts.admitted ?? 0)}`);
  setText(values, metrics(round.metrics));
  values.title = values.textContent;
  setText(duration, secondsOf(round));
  const time = ended.firstElementChild;
  setText(time, round.ended_s == null ? "" : moment(round.ended_s));
  if (round.ended_s != null) time.dateTime = machineTime(round.ended_s);
}

function secondsOf(round) {
  if (round.outcome == null) return "";
  return span(STAGES.reduce((sum, stage) => sum + (round.phase_seconds?.[stage] ?? 0), 0));
}
