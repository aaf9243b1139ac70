// What reason words mean and what helps, as docs/errors.md has it.

import { ask } from "./api.js";
import { byId, fillTerms } from "./dom.js";

let known = null;

/** Explain the words that a round has, as far as they are known ones. */
export async function explain(words) {
  const wanted = [...new Set(words.filter(Boolean))];
  if (wanted.length > 0 && known === null) {
    try {
      const { reasons } = await ask("reasons");
      known = new Map(reasons.map(({ word, means, to_do }) => [word, `${means} ${to_do}`]));
    } catch {
      // The words stand there all the same; the next round that is looked at asks again.
    }
  }
  const pairs = wanted.filter((word) => known?.has(word)).map((word) => [word, known.get(word)]);
  fillTerms(byId("round-reasons"), pairs);
  byId("round-reasons-part").hidden = pairs.length === 0;
}
