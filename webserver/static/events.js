// The event log: each stage and each change of a session, newest first.

import { ask, coalesced, missing } from "./api.js";
import { byId, element, keyed, setData, setText, showText } from "./dom.js";
import { count, machineTime, moment } from "./format.js";

const EVENTS_A_PAGE = 40;
const EVENTS_KEPT = 400;

let events = [];
let next = null;

/** Fetch the newest events and show them with those that are shown. */
export const load = coalesced(async () => {
  await fetchPage(null);
});

/** Load older ones when asked to. */
export function begin() {
  byId("events-older").addEventListener("click", () => fetchPage(next));
}

/** Show an event that has just come, before anything is fetched. */
export function add(event) {
  take([event]);
  events = events.slice(0, Math.max(EVENTS_KEPT, EVENTS_A_PAGE));
  draw();
}

/** Begin again with another federation's. */
export function forget() {
  events = [];
  load();
}

async function fetchPage(before) {
  try {
    const page = await ask("events", { limit: EVENTS_A_PAGE, before });
    const oldest = events.at(-1)?.event_id ?? Infinity;
    take(page.events);
    if (!page.events.length || page.events.at(-1).event_id <= oldest) next = page.next;
    showText(byId("events-error"), "");
  } catch (refusal) {
    showText(byId("events-error"), missing("events", refusal));
  }
  draw();
}

function take(more) {
  const byNumber = new Map([...events, ...more].map((event) => [event.event_id, event]));
  events = [...byNumber.values()].sort((a, b) => b.event_id - a.event_id);
}

function draw() {
  byId("events-none").hidden = events.length > 0;
  byId("events-older").hidden = next == null;
  keyed(byId("events"), events, (event) => event.event_id, make, () => {});
}

function make(event) {
  const time = element("time", { datetime: machineTime(event.time_s) }, moment(event.time_s));
  const number = event.round_number;
  const round = number == null ? null : element("a", { href: `#round-${number}` }, `Round ${count(number)}`);
  const words = element("span", { class: "event-words" });
  setText(words, event.words);
  const item = element("li", {}, time, element("span", { class: "event-round" }, round), words);
  setData(item, "outcome", event.outcome);
  return item;
}
