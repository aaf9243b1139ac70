// A card for each selector: whether it is attached, and how far each of its clients has come.

import { byId, element, keyed, setData, setText } from "./dom.js";
import { count, plural, standingWord } from "./format.js";
import { standingText } from "./status.js";

const CLIENTS_SHOWN = 200;
// In the order in which the bar shows them; whoever is not in one of them has no configuration yet.
const SEGMENTS = [
  ["reported", (counts) => counts.folded + counts.reported],
  ["rejected", (counts) => counts.rejected],
  ["gone", (counts) => counts.discarded + counts.withdrawn + counts.lost + counts.expired],
  ["away", (counts) => counts.away],
  ["configured", (counts) => Math.max(0, counts.configured - settled(counts))],
];
const NONE = {
  admitted: 0, configured: 0, folded: 0, pending: 0, away: 0, reported: 0,
  rejected: 0, discarded: 0, withdrawn: 0, lost: 0, expired: 0,
};

const settled = (counts) =>
  counts.folded + counts.reported + counts.rejected + counts.discarded + counts.withdrawn +
  counts.lost + counts.expired + counts.away;

/** Show an overview. */
export function render(overview) {
  const round = overview.round;
  const shown = (round?.clients ?? []).slice(0, CLIENTS_SHOWN);
  const bySelector = Map.groupBy
    ? Map.groupBy(shown, (client) => client.selector_id)
    : grouped(shown);
  keyed(
    byId("selectors"),
    selectorsOf(overview, bySelector),
    (selector) => selector.selector_id,
    makeCard,
    (card, selector) => updateCard(card, selector, round, bySelector.get(selector.selector_id) ?? []),
  );
  setText(byId("selectors-note"), noteOf(overview, shown.length));
}

function grouped(clients) {
  const groups = new Map();
  for (const client of clients) {
    if (!groups.has(client.selector_id)) groups.set(client.selector_id, []);
    groups.get(client.selector_id).push(client);
  }
  return groups;
}

/** Those that the coordinator knows, and those that took part in the round and are gone. */
function selectorsOf(overview, bySelector) {
  const known = overview.selectors ?? [];
  const names = new Set(known.map((selector) => selector.selector_id));
  const others = [...Object.keys(overview.round?.selectors ?? {}), ...bySelector.keys()];
  const gone = [...new Set(others)].filter((name) => name && !names.has(name));
  return [
    ...known,
    ...gone.map((name) => ({ selector_id: name, address: "", attached: false, held: 0 })),
  ];
}

function noteOf(overview, shown) {
  const selectors = overview.selectors?.length ?? 0;
  if (!selectors) return "No selector is attached: start one with headwater selector.";
  const waiting = overview.waiting_clients;
  const total = overview.round?.clients_total ?? 0;
  return [
    waiting ? `${plural(waiting, "client")} held for the next round.` : "",
    total > shown ? `${count(shown)} of ${plural(total, "client")} are listed; the counts are of all.` : "",
  ].join(" ").trim();
}

function makeCard() {
  const bar = element("div", { class: "bar", role: "img" });
  for (const [name] of SEGMENTS) bar.append(element("span", { "data-segment": name }));
  return element(
    "li",
    { class: "card selector" },
    element("div", { class: "selector-head" }, element("h3"), element("span", { class: "badge" })),
    element("p", { class: "muted address" }),
    bar,
    element("p", { class: "bar-words" }),
    element("ul", { class: "clients", tabindex: "0" }),
  );
}

function updateCard(card, selector, round, clients) {
  const [head, address, bar, words, list] = card.children;
  const [name, badge] = head.children;
  setText(name, selector.selector_id);
  name.title = selector.selector_id;
  setText(badge, selector.attached ? "attached" : "away");
  setData(badge, "kind", selector.attached ? "good" : "bad");
  const held = selector.held ? `${count(selector.held)} held` : "";
  setText(address, [selector.address, held].filter(Boolean).join(" · ") || "address not known");
  const counts = round?.selectors?.[selector.selector_id] ?? NONE;
  updateBar(bar, counts);
  setText(words, wordsOf(counts));
  bar.setAttribute("aria-label", words.textContent);
  list.setAttribute("aria-label", `Clients of ${selector.selector_id}`);
  list.hidden = clients.length === 0;
  keyed(list, clients, (client) => client.client_id, makeClient, updateClient);
}

function updateBar(bar, counts) {
  const admitted = Math.max(1, counts.admitted);
  for (const [index, [, number]] of SEGMENTS.entries()) {
    bar.children[index].style.width = `${(100 * number(counts)) / admitted}%`;
  }
}

function wordsOf(counts) {
  if (!counts.admitted) return "No client in this round";
  const parts = [
    plural(counts.admitted, "client"),
    `${count(counts.configured)} configured`,
    `${count(counts.folded + counts.reported)} reported`,
  ];
  for (const name of ["rejected", "away", "discarded", "withdrawn", "lost", "expired"]) {
    if (counts[name]) parts.push(`${count(counts[name])} ${name}`);
  }
  return parts.join(" · ");
}

function makeClient() {
  return element(
    "li",
    {},
    element("span", { class: "dot", "aria-hidden": "true" }),
    element("span", { class: "client-id" }),
    element("span", { class: "standing" }),
    element("code", { class: "shape" }),
  );
}

function updateClient(item, client) {
  const [, id, standing, shape] = item.children;
  setData(item, "standing", client.standing);
  setText(id, client.client_id);
  id.title = client.client_id;
  setText(standing, standingWord(client.standing));
  standing.title = standingText(client);
  setText(shape, client.shape);
}
