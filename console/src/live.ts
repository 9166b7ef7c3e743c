// The stream of live events: connects, reconnects, rests while nobody looks.
import { api, type LiveEvent } from "./api";

export type Link = "connecting" | "live" | "lost" | "resting";

interface Listener {
  event(event: LiveEvent): void;
  /** `anew`: the link was open before, so that events may have been missed in between. */
  link(link: Link, anew: boolean): void;
}

const RETRY_MS_FIRST = 2_000;
const RETRY_MS_MAX = 30_000;
/** A hidden page gives its connection back after this: browsers allow six to a server, over all tabs. */
const REST_AFTER_MS = 20_000;

/** Follows the stream for as long as the page lives. */
export function follow(listener: Listener): void {
  let source: EventSource | null = null;
  let wasOpen = false;
  let retryMs = RETRY_MS_FIRST;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const connect = () => {
    clearTimeout(timer);
    source?.close();
    listener.link("connecting", false);
    const opened = api.live();
    source = opened;
    opened.onopen = () => {
      retryMs = RETRY_MS_FIRST;
      listener.link("live", wasOpen);
      wasOpen = true;
    };
    opened.onmessage = (message) => listener.event(JSON.parse(message.data as string) as LiveEvent);
    opened.onerror = () => {
      listener.link("lost", false);
      // A dropped connection is taken up again by the browser itself; a refused one (busy, restarting) is not.
      if (opened.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(connect, retryMs);
      retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
    };
  };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.visibilityState === "visible") {
      if (!source || source.readyState !== EventSource.OPEN) connect();
      return;
    }
    timer = setTimeout(() => {
      source?.close();
      source = null;
      listener.link("resting", false);
    }, REST_AFTER_MS);
  });
  connect();
}
