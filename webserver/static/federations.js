// Which federation is shown, and the choice of another where coordinators of several report here.

import { byId, element, keyed, setText } from "./dom.js";

/** Go to the page of the federation that was chosen. */
export function begin() {
  byId("federation-choice").addEventListener("change", ({ target }) => {
    location.search = new URLSearchParams({ federation: target.value });
  });
}

/** Show an overview. */
export function render(overview) {
  const shown = overview.federation?.federation_id ?? "";
  const several = overview.federations.length > 1;
  const choice = byId("federation-choice");
  byId("federation").hidden = !shown;
  byId("federation-id").hidden = several;
  choice.hidden = !several;
  setText(byId("federation-id"), shown);
  if (!several) return;
  keyed(choice, overview.federations, (id) => id, (id) => element("option", { value: id }, id), () => {});
  if (document.activeElement !== choice) choice.value = shown;
}
