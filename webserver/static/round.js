// One round in full, in a drawer that the address #round-41 opens.

import { ask, coalesced } from "./api.js";
import { byId, element, fillTerms, keyed, setData, setText, showText } from "./dom.js";
import { STAGES, capital, count, machineTime, metric, metrics, moment, plural, span } from "./format.js";
import { explain } from "./reasons.js";
import { standingText } from "./status.js";

const CLIENTS_A_PAGE = 100;
const OUTCOME_KIND = { committed: "good", abandoned: "bad" };

let number = null;
let offset = 0;

/** Open the drawer when the address says so, and close it with the address. */
export function begin() {
  const dialog = byId("round-dialog");
  window.addEventListener("hashchange", follow);
  byId("round-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", leave);
  byId("clients-before").addEventListener("click", () => turn(-CLIENTS_A_PAGE));
  byId("clients-after").addEventListener("click", () => turn(CLIENTS_A_PAGE));
  follow();
}

/** A round of that number has changed. */
export function changed(roundNumber) {
  if (roundNumber === number) load();
}

function follow() {
  const wanted = /^#round-(\d{1,15})$/.exec(location.hash);
  if (!wanted) {
    byId("round-dialog").close();
    return;
  }
  number = Number(wanted[1]);
  offset = 0;
  byId("round-body").hidden = true;
  byId("round-loading").hidden = false;
  setText(byId("round-heading"), `Round ${count(number)}`);
  setText(byId("round-eyebrow"), "");
  showText(byId("round-error"), "");
  neighbours();
  if (!byId("round-dialog").open) byId("round-dialog").showModal();
  byId("round-heading").focus();
  load();
}

function leave() {
  number = null;
  if (location.hash.startsWith("#round-")) {
    history.replaceState(null, "", location.pathname + location.search);
  }
}

function neighbours() {
  for (const [id, other] of [["round-before", number - 1], ["round-after", number + 1]]) {
    const link = byId(id);
    link.href = `#round-${other}`;
    link.setAttribute("aria-label", `Round ${other}`);
    link.hidden = other < 1;
  }
}

function turn(by) {
  offset = Math.max(0, offset + by);
  load();
}

const load = coalesced(async () => {
  const asked = number;
  if (asked === null) return;
  const page = { clients_limit: CLIENTS_A_PAGE, clients_offset: offset };
  try {
    const round = await ask(`rounds/${asked}`, page);
    if (asked !== number) return;
    draw(round);
    showText(byId("round-error"), "");
    byId("round-body").hidden = false;
  } catch (refusal) {
    if (asked !== number) return;
    const gone = refusal.status === 404;
    const why = gone ? "This round is not known here." : `The round could not be loaded: ${refusal.message}.`;
    showText(byId("round-error"), why);
    byId("round-body").hidden = byId("round-body").hidden || gone;
  }
  byId("round-loading").hidden = true;
}, 250);

function draw(round) {
  const eyebrow = byId("round-eyebrow");
  setText(eyebrow, round.outcome ?? `runs: ${round.stage}`);
  setData(eyebrow, "kind", OUTCOME_KIND[round.outcome] ?? "live");
  showText(byId("round-reason"), round.reason ? `Abandoned: ${round.reason}` : "");
  fillTerms(byId("round-facts"), factsOf(round));
  drawClients(round);
  const reasonsOfClients = (round.clients ?? []).map((client) => client.reason);
  explain([round.reason, ...Object.keys(round.rejected ?? {}), ...reasonsOfClients]);
}

function factsOf(round) {
  const counts = Object.entries(round.counts ?? {});
  const fates = ["reported", "folded", "pending", "away", "rejected", "discarded", "withdrawn", "lost", "expired"];
  const fate = counts.filter(([name, value]) => fates.includes(name) && value);
  const seconds = STAGES.filter((stage) => round.phase_seconds?.[stage] != null);
  const facts = [
    ["Began", round.started_s == null ? "–" : timeOf(round.started_s)],
    ["Ended", round.ended_s == null ? "not yet" : timeOf(round.ended_s)],
    ["Stages", seconds.map((stage) => `${capital(stage)} ${span(round.phase_seconds[stage])}`).join(", ") || "–"],
    ["Clients", fate.map(([name, value]) => `${count(value)} ${name}`).join(", ") || "none"],
    ["Rejected for", Object.entries(round.rejected ?? {}).map(([word, n]) => `${word} ${count(n)}`).join(", ")],
    ["Metrics", metrics(round.metrics)],
    ["Weight", round.weight ? plural(round.weight, "example") : ""],
    ["Plan", planOf(round.plan)],
    ["Checkpoint", round.checkpoint_digest ? element("code", { class: "digest" }, round.checkpoint_digest) : ""],
    ["Round id", round.round_id ? element("code", { class: "digest" }, round.round_id) : ""],
  ];
  return facts.filter(([, value]) => value !== "");
}

const timeOf = (at) => element("time", { datetime: machineTime(at) }, moment(at));

function planOf(plan) {
  if (!plan) return "";
  const { epochs, batch_size, learning_rate } = plan.hyperparameters ?? {};
  return [
    `goal ${count(plan.goal_count)}, at least ${count(plan.min_reports)}`,
    epochs == null ? "" : plural(epochs, "epoch"),
    batch_size == null ? "" : `batches of ${count(batch_size)}`,
    learning_rate == null ? "" : `learning rate ${metric(learning_rate)}`,
    plan.report_window_s == null ? "" : `report window ${span(plan.report_window_s)}`,
  ].filter(Boolean).join(", ");
}

function drawClients(round) {
  const clients = round.clients ?? [];
  const total = round.clients_total ?? clients.length;
  const paged = total > CLIENTS_A_PAGE;
  byId("clients-before").hidden = byId("clients-after").hidden = !paged;
  byId("clients-before").disabled = offset === 0;
  byId("clients-after").disabled = offset + clients.length >= total;
  const range = `${count(offset + 1)} to ${count(offset + clients.length)} of ${count(total)}`;
  setText(byId("round-clients-note"), total === 0 ? "Nobody was admitted." : paged ? range : plural(total, "client"));
  keyed(byId("round-clients"), clients, (client) => client.client_id, makeClient, updateClient);
}

function makeClient() {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("span", { class: "client-id" }), element("span", { class: "through" })),
    element("td", {}, element("span", { class: "dot", "aria-hidden": "true" }), element("span")),
    element("td", {}, element("code", { class: "shape" })),
    element("td", { class: "number" }),
    element("td", { class: "number" }),
    element("td", { class: "metrics" }),
  );
}

function updateClient(row, client) {
  const [name, fate, shape, weight, training, values] = row.children;
  setData(row, "standing", client.standing);
  setText(name.children[0], client.client_id);
  setText(name.children[1], client.selector_id ? `through ${client.selector_id}` : "");
  setText(fate.children[1], standingText(client));
  setText(shape.firstElementChild, client.shape);
  setText(weight, client.num_examples ? count(client.num_examples) : "");
  setText(training, client.training_s == null ? "" : span(client.training_s));
  setText(values, metrics(client.metrics));
}
