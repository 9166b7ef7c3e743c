// Moments as people read them: the viewer's own zone, with UTC at hand.

/** Seconds since the epoch, as the charts count. */
export function seconds(rfc3339: string): number {
  return Date.parse(rfc3339) / 1000;
}

export function iso(secondsSinceEpoch: number): string {
  return new Date(secondsSinceEpoch * 1000).toISOString();
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

/** `14:03:21` today, `2 Dec 2013 14:03:21` on any other day. */
export function moment(at: number, now: number): string {
  const date = new Date(at * 1000);
  const today = day.format(date) === day.format(new Date(now * 1000));
  return today ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
}

export function utc(at: number): string {
  return `${iso(at).slice(0, 19).replace("T", " ")} UTC`;
}

/** The end of a span that began at `since`: without the day where it is the same one. */
export function momentAfter(since: number, at: number, now: number): string {
  const same = day.format(new Date(since * 1000)) === day.format(new Date(at * 1000));
  return same ? clock.format(new Date(at * 1000)) : moment(at, now);
}

/** How long ago. */
export function ago(age: number): string {
  return age < 2 ? "now" : `${span(age)} ago`;
}

/** A span in the largest unit that keeps two digits or more of meaning: `4 s`, `12 min`, `3 h`, `5 d`. */
export function span(length: number): string {
  if (length < 1) return "0 s";
  if (length < 120) return `${Math.round(length)} s`;
  if (length < 120 * 60) return `${Math.round(length / 60)} min`;
  if (length < 48 * 3600) return `${Math.round(length / 3600)} h`;
  return `${Math.round(length / 86400)} d`;
}
