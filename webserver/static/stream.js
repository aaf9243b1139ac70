// The server-sent events: opened once, opened again when they end, never polled.

import { address } from "./api.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15000;

/**
 * Follow the stream from an event on, so that no stage is missed, whatever breaks meanwhile.
 *
 * @param {number} after - id of the last event that is known.
 * @param {object} on
 * @param {(message: {event: object|null, overview: object|null}) => void} on.update
 * @param {(again: boolean) => void} on.open - again: it had been open before.
 * @param {() => void} on.lost - it ended, or could not be opened; it is being tried again.
 */
export function follow(after, on) {
  let source = null;
  let pauseMs = FIRST_PAUSE_MS;
  let openedBefore = false;
  let lastId = after;

  function open() {
    source = new EventSource(address("stream", { after: lastId }));
    source.addEventListener("open", () => {
      pauseMs = FIRST_PAUSE_MS;
      on.open(openedBefore);
      openedBefore = true;
    });
    source.addEventListener("update", (message) => {
      lastId = message.lastEventId || lastId;
      on.update(JSON.parse(message.data));
    });
    source.addEventListener("error", () => {
      on.lost();
      // After a cut the browser tries by itself; after an HTTP error it has given up.
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(open, pauseMs);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    });
  }

  open();
  window.addEventListener("pagehide", () => source.close());
  window.addEventListener("pageshow", (event) => event.persisted && open());
}
