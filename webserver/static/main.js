// Starts the page: shows what the server rendered it with, then what the stream says.

import { wasUnanswered } from "./api.js";
import { byId, setText } from "./dom.js";
import * as charts from "./charts.js";
import * as checkpoints from "./checkpoints.js";
import * as clock from "./clock.js";
import * as control from "./control.js";
import * as events from "./events.js";
import * as federations from "./federations.js";
import * as history from "./history.js";
import * as notices from "./notices.js";
import * as round from "./round.js";
import * as selectors from "./selectors.js";
import * as status from "./status.js";
import { follow } from "./stream.js";

let drawing = null;
let shown = null;

/** Show where the federation stands: the stage at once, the many clients with the next frame. */
function render(overview) {
  clock.learn(overview);
  const federationId = overview.federation?.federation_id ?? null;
  const empty = federationId === null;
  document.body.dataset.state = empty ? "empty" : "full";
  byId("empty").hidden = !empty;
  federations.render(overview);
  notices.render(overview);
  status.render(overview);
  control.render(overview);
  checkpoints.render(overview);
  if (drawing === null) requestAnimationFrame(drawSelectors);
  drawing = overview;
  if (shown !== null && shown !== federationId) startOver();
  shown = federationId;
}

function drawSelectors() {
  selectors.render(drawing);
  drawing = null;
}

/** Take one message of the stream. */
function take({ event, overview }) {
  if (event) {
    events.add(event);
    if (!overview) status.renderEvent(event);
    if (event.round_number != null) round.changed(event.round_number);
    if (event.stage === "completed") loadRounds();
    else if (event.stage === "selection") history.changed();
  }
  if (overview) render(overview);
}

function loadRounds() {
  history.changed();
  charts.load();
}

/** Another federation is shown now: nothing of the one before stays. */
function startOver() {
  events.forget();
  history.forget();
  charts.load();
}

/** The stream is open: what could not be loaded without it is fetched once. */
function opened(again) {
  notices.connected("live");
  if (!wasUnanswered() && !again) return;
  loadRounds();
  events.load();
}

setText(byId("own-url"), location.origin + location.pathname.replace(/\/$/, ""));
for (const part of [charts, control, events, federations, history, round]) part.begin();
const first = JSON.parse(byId("main").dataset.overview);
render(first);
loadRounds();
events.load();
clock.everySecond(() => {
  notices.tick();
  status.tick();
});
follow(first.last_event_id, { update: take, open: opened, lost: () => notices.connected("lost") });
try {
  sessionStorage.removeItem("headwater-loads"); // see whole.js
} catch {
  // storage is switched off
}
