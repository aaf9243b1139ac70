// Numbers, times and counts as people read them.

export const STAGES = ["selection", "configuration", "reporting", "completed"];

const whole = new Intl.NumberFormat("en");

export const count = (number) => whole.format(number);

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);

/** A span of time: 12 ms, 4.25 s, 42 s, 3 min 12 s, 2 h 5 min. */
export function span(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return "–";
  if (seconds < 0.0995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(seconds < 0.995 ? 2 : 1)} s`;
  return wholeSpan(seconds);
}

/** A span of time that ticks: whole seconds. */
export function wholeSpan(seconds) {
  const total = Math.max(0, Math.round(seconds));
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min ${total % 60} s`;
  if (total < 86400) return `${Math.floor(total / 3600)} h ${Math.floor((total % 3600) / 60)} min`;
  return `${Math.floor(total / 86400)} d ${Math.floor((total % 86400) / 3600)} h`;
}

/** A metric's value in at most four digits. */
export function metric(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

/** Metrics in a line; the well-known ones come first. */
export function metrics(values) {
  const names = metricNames(Object.keys(values ?? {}));
  return names.map((name) => `${name} ${metric(values[name])}`).join(", ");
}

/** Names of metrics, accuracy and loss first, then by name. */
export function metricNames(names) {
  const rank = (name) => ["accuracy", "loss"].indexOf(name) >>> 0;
  return [...names].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** A moment in the reader's own time zone; with the day unless it is today. */
export function moment(unixSeconds) {
  if (unixSeconds == null) return "–";
  const at = new Date(unixSeconds * 1000);
  const time = at.toLocaleTimeString("en-GB");
  const today = at.toDateString() === new Date().toDateString();
  return today ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

/** A `time` element's machine-readable value. */
export const machineTime = (unixSeconds) => new Date(unixSeconds * 1000).toISOString();

/** How a standing is said: folded reports have arrived, whatever the round makes of them. */
export const standingWord = (standing) => (standing === "folded" ? "reported" : standing);
