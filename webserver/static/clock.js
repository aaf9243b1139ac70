// The servers' clocks, as far as this page can know them, and what ticks by them.

let pageAtAnswer = performance.now();
let serverAtAnswer = Date.now() / 1000;
let coordinatorBehind = 0;
let known = false;

/** Learn the time from an overview, which the webserver has made just now. */
export function learn(overview) {
  pageAtAnswer = performance.now();
  serverAtAnswer = overview.now_s;
  const federation = overview.federation;
  if (!federation || federation.coordinator_time_s == null) return;
  // An update that waited in an outbox says nothing about clocks: the smallest gap is nearest.
  const behind = federation.heard_s - federation.coordinator_time_s;
  if (!known || Math.abs(behind) < Math.abs(coordinatorBehind)) coordinatorBehind = behind;
  known = true;
}

/** Unix seconds by the webserver's clock. */
export const now = () => serverAtAnswer + (performance.now() - pageAtAnswer) / 1000;

/** Unix seconds by the coordinator's clock. */
export const coordinatorNow = () => now() - coordinatorBehind;

/** Call back now and each second. */
export function everySecond(callback) {
  callback();
  setInterval(callback, 1000);
}
