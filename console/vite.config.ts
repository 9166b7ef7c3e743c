// Builds the console into the crate that serves it. The same sources give the same bytes.
import { readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

/** What is bundled into the files that the browser loads; their licences ask to be passed on. */
const BUNDLED = ["preact", "uplot"];

function licences(): Plugin {
  return {
    name: "licences",
    apply: "build",
    generateBundle() {
      const texts = BUNDLED.map((name) => {
        const folder = `node_modules/${name}`;
        const { version } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8")) as { version: string };
        return `${name} ${version}\n\n${readFileSync(`${folder}/LICENSE`, "utf8").trim()}\n`;
      });
      this.emitFile({ type: "asset", fileName: "licences.txt", source: texts.join(`\n${"-".repeat(72)}\n\n`) });
    },
  };
}

export default defineConfig({
  plugins: [licences()],
  build: {
    outDir: "../crates/door-console/dist",
    emptyOutDir: true,
    target: "es2022",
    // The page's policy allows files of our own only: nothing may become a data: address.
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: false,
  },
  server: { host: "127.0.0.1", port: 5173, proxy: { "/api": "http://127.0.0.1:8090", "/readyz": "http://127.0.0.1:8090" } },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
} as Parameters<typeof defineConfig>[0]);
