// What the address bar says: which page, which thing, which anomaly. Links and the back button work.

export type Address =
  | { page: "ledger" }
  | { page: "plant"; tenant?: string; thing?: string; episode?: string };

export function parseAddress(hash: string): Address {
  const parts = hash.replace(/^#\/?/, "").split("/").map(decode);
  if (parts[0] === "ledger") return { page: "ledger" };
  const [kind, tenant, thing, episode] = parts;
  if (kind !== "things" || !tenant || !thing) return { page: "plant" };
  return { page: "plant", tenant, thing, ...(episode ? { episode } : {}) };
}

export function thingAddress(tenant: string, thing: string, episode?: string): string {
  const parts = ["things", tenant, thing, ...(episode ? [episode] : [])];
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}
