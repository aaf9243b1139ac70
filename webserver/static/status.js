// The round that runs: its words, the stages with their times, and its counts.

import { byId, element, fillTerms, setData, setText } from "./dom.js";
import { coordinatorNow } from "./clock.js";
import { STAGES, capital, count, span, standingWord, wholeSpan } from "./format.js";
import { announce } from "./notices.js";

const PROBLEMS = ["away", "rejected", "discarded", "withdrawn", "lost", "expired"];

let round = null;
let told = "";

/** Show an overview. */
export function render(overview) {
  round = overview.round;
  setText(byId("words"), overview.words);
  drawStage(round?.round_number, round?.stage, round?.outcome, overview.words);
  drawCounts();
  tick();
}

/** Show a stage of which nothing but its event is known: it was missed, and is replayed. */
export function renderEvent(event) {
  if (!event.stage) return;
  round = null;
  setText(byId("words"), event.words);
  drawStage(event.round_number, event.stage, event.outcome, event.words);
}

function drawStage(number, stage, outcome, words) {
  const eyebrow = byId("eyebrow");
  if (number == null) setText(eyebrow, "No round yet");
  else if (eyebrow.dataset.round !== String(number)) {
    eyebrow.replaceChildren(element("a", { href: `#round-${number}` }, `Round ${count(number)}`));
  }
  setData(eyebrow, "round", number);
  const reached = STAGES.indexOf(stage);
  const current = reached >= 0 ? stage : null;
  for (const [index, item] of [...byId("stages").children].entries()) {
    const here = index === reached;
    setData(item, "standing", here ? "current" : index < reached ? "before" : "ahead");
    if (here) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  const list = byId("stages");
  setData(list, "outcome", outcome ?? null);
  setData(list, "round", number);
  setData(list, "stage", current);
  document.title = current ? `Round ${number}: ${capital(current)} · Headwater` : "Headwater";
  const key = `${number} ${stage}`;
  if (current && told && told !== key) announce(stage === "completed" ? words : `Round ${number}, ${words}`);
  told = key;
}

function drawCounts() {
  if (!round) return;
  const counts = round.counts;
  const pairs = [
    ["Goal", count(counts.goal_count)],
    ["Admitted", `${count(counts.admitted)} of ${count(counts.admit_limit)}`],
    ["Configured", count(counts.configured)],
    ["Reported", count(counts.folded + counts.reported)],
  ];
  if (counts.pending) pairs.push(["Pending", count(counts.pending)]);
  for (const name of PROBLEMS) if (counts[name]) pairs.push([capital(name), count(counts[name])]);
  for (const [reason, number] of Object.entries(round.rejected ?? {})) {
    pairs.push([`Rejected, ${reason}`, count(number)]);
  }
  fillTerms(byId("counts"), pairs);
}

/** How far a stage is, from 0 to 1, by what it waits for. */
function progress(stage) {
  const { admitted, admit_limit, configured, folded, reported, goal_count } = round.counts;
  const share = (part, all) => (all > 0 ? Math.min(1, part / all) : 0);
  if (stage === "selection") return share(admitted, admit_limit);
  if (stage === "configuration") return share(configured, admitted);
  if (stage === "reporting") return share(folded + reported, goal_count);
  return 1;
}

/** Say anew how long each stage has lasted, and how long the running one may. */
export function tick() {
  for (const item of byId("stages").children) {
    const stage = item.dataset.stage;
    const current = round?.stage === stage;
    const [bar, , time, deadline] = item.children;
    setText(time, timeOf(stage, current));
    setText(deadline, deadlineOf(current));
    bar.firstElementChild.style.width = current && round ? `${100 * progress(stage)}%` : "";
  }
}

function timeOf(stage, current) {
  if (!round) return "";
  if (stage === "completed") {
    if (!current) return "";
    const word = round.outcome ?? "";
    return round.reason ? `${word}: ${round.reason}` : word;
  }
  const ended = round.phase_seconds?.[stage];
  if (ended != null) return span(ended);
  const entered = round.entered?.[stage];
  return current && entered != null ? wholeSpan(coordinatorNow() - entered) : "";
}

function deadlineOf(current) {
  if (!current || round.stage === "completed" || round.deadline_at_s == null) return "";
  const leftS = round.deadline_at_s - coordinatorNow();
  return leftS >= 0 ? `${wholeSpan(leftS)} left at most` : "deadline reached";
}

/** A client's standing in words, for lists of clients. */
export const standingText = (client) =>
  client.reason ? `${standingWord(client.standing)}, ${client.reason}` : standingWord(client.standing);
