// A stand-in for the server, for work on the console alone: a simulated plant behind the same API.
//   node dev/mock-server.mjs [full|empty|nothings|noreadings|warming|replay] [port]
// It also serves the built files under the door's own content security policy.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { Simulation } from "./plant.mjs";

const scenario = process.argv[2] ?? "full";
const port = Number(process.argv[3] ?? 8090);
const dist = fileURLToPath(new URL("../../crates/door-console/dist/", import.meta.url));
const simulation = new Simulation(scenario);
const readers = new Set();

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain" };

const routes = [
  [/^\/api\/v1\/overview$/, () => simulation.overview()],
  [/^\/readyz$/, () => simulation.readiness()],
  [/^\/api\/v1\/tenants$/, () => simulation.tenants()],
  [/^\/api\/v1\/tenants\/([^/]+)\/things\/([^/]+)\/readings$/, (m, q) => simulation.readings(m[2], q.get("before"), Number(q.get("limit") ?? 600))],
  [/^\/api\/v1\/anomalies$/, (_, q) => simulation.anomalies().slice(0, Number(q.get("limit") ?? 600))],
  [/^\/api\/v1\/alerts$/, (_, q) => simulation.alerts().slice(0, Number(q.get("limit") ?? 600))],
  [/^\/api\/v1\/ledger$/, () => simulation.ledger()],
];

createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/api/v1/live") {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write(": live events follow\nretry: 2000\n\n");
    readers.add(response);
    response.on("close", () => readers.delete(response));
    return;
  }
  for (const [pattern, answer] of routes) {
    const match = pattern.exec(url.pathname);
    if (!match) continue;
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(answer(match, url.searchParams)));
    return;
  }
  const file = join(dist, normalize(url.pathname === "/" ? "/index.html" : url.pathname));
  if (!file.startsWith(dist) || !existsSync(file) || !statSync(file).isFile()) {
    response.writeHead(404, { "content-type": "application/problem+json" });
    response.end(JSON.stringify({ error: "not_found", message: `There is nothing at ${url.pathname}.` }));
    return;
  }
  response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-security-policy": POLICY });
  createReadStream(file).pipe(response);
}).listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port} (${scenario})`));

setInterval(() => {
  for (const event of simulation.step(Date.now() / 1000)) {
    for (const reader of readers) reader.write(`data: ${JSON.stringify(event)}\n\n`);
  }
}, 1000);
