// Small pieces that several pages show: moments, severities, causes, commands.
import type { ComponentChildren } from "preact";
import type { Cause, Severity } from "../api";
import { inWords } from "../model/causes";
import { moment, momentAfter, seconds, utc } from "../model/time";

/** In the viewer's zone; UTC on hover. After `since` the day is left out where it is the same one. */
export function When({ at, since }: { at: string; since?: string }) {
  const time = seconds(at);
  const now = Date.now() / 1000;
  return (
    <time datetime={at} title={utc(time)}>
      {since === undefined ? moment(time, now) : momentAfter(seconds(since), time, now)}
    </time>
  );
}

export function SeverityBadge({ severity }: { severity: Severity }) {
  return (
    <span class="badge" data-severity={severity}>
      {severity}
    </span>
  );
}

export function Causes({ causes, most }: { causes: Cause[]; most: number }) {
  return (
    <ul class="causes">
      {causes.slice(0, most).map((cause) => (
        <li key={cause.signal} title={`seen by ${cause.detector}`}>
          <Unbroken text={inWords(cause)} />
        </li>
      ))}
    </ul>
  );
}

/** Breaks a cause only before what was expected. */
function Unbroken({ text }: { text: string }) {
  const at = text.indexOf(", expected");
  return (
    <>
      <span class="whole">{text.slice(0, at + 1)}</span> <span class="whole">{text.slice(at + 2)}</span>
    </>
  );
}

/** An empty place: what is missing and what to do. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Command({ text }: { text: string }) {
  return (
    <pre class="command" tabIndex={0}>
      {text}
    </pre>
  );
}
