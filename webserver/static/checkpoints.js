// The last and the best checkpoint: of which round, how good, its digest, and the file.

import { byId, element, fillTerms, keyed, setText } from "./dom.js";
import { count, metrics } from "./format.js";

const COPIED_MS = 2000;

/** Show an overview. */
export function render(overview) {
  const { last, best } = overview.checkpoints ?? {};
  const shown = [];
  const bestTitle = best ? `Best${best.by ? ` by ${best.by}` : ""}` : "";
  if (last && best && last.round_number === best.round_number) {
    shown.push({ key: "last", title: `Last, and ${bestTitle.toLowerCase()}`, checkpoint: last });
  } else {
    if (last) shown.push({ key: "last", title: "Last", checkpoint: last });
    if (best) shown.push({ key: "best", title: bestTitle, checkpoint: best });
  }
  keyed(byId("checkpoints"), shown, (item) => item.key, make, update);
  byId("checkpoints-none").hidden = shown.length > 0;
}

function make() {
  const digest = element("code", { class: "digest" });
  const copy = element("button", { class: "quiet small", type: "button" }, "Copy digest");
  copy.addEventListener("click", () => copyText(digest, copy));
  return element(
    "li",
    { class: "card checkpoint" },
    element("h3"),
    element("dl", { class: "facts" }),
    digest,
    element("p", { class: "verbs" }, copy, element("a", { class: "button", download: true })),
  );
}

function update(card, { title, checkpoint }) {
  const [heading, facts, digest, verbs] = card.children;
  const [copy, link] = verbs.children;
  const round = checkpoint.round_number;
  setText(heading, title);
  const href = `#round-${round}`;
  fillTerms(facts, [
    ["Round", element("a", { href }, count(round))],
    ["Metrics", metrics(checkpoint.metrics) || "none reported"],
  ]);
  setText(digest, checkpoint.digest);
  digest.title = "SHA-256 of the checkpoint's wire form";
  copy.setAttribute("aria-label", `Copy the digest of round ${round}'s checkpoint`);
  link.hidden = !checkpoint.url;
  if (checkpoint.url) link.href = checkpoint.url;
  setText(link, "Download");
  link.setAttribute("aria-label", `Download the checkpoint of round ${round}`);
}

/** Copy; where the browser has no clipboard for us, select, so that a key does it. */
async function copyText(target, button) {
  try {
    await navigator.clipboard.writeText(target.textContent);
    setText(button, "Copied");
  } catch {
    getSelection().selectAllChildren(target);
    setText(button, "Selected");
  }
  setTimeout(() => setText(button, "Copy digest"), COPIED_MS);
}
