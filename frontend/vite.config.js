import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import tailwindcss from "@tailwindcss/vite";
import { defineConfig } from "vite";

/** Beside every text of the bundle, the same packed: the server sends what the browser understands (web/assets.py). */
function packed() {
  const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } };
  return {
    name: "packed",
    apply: "build",
    // from the folder: until the files are written, Vite still changes them
    writeBundle({ dir }, bundle) {
      for (const name of Object.keys(bundle).filter((name) => /\.(js|css|svg)$/.test(name))) {
        const text = readFileSync(join(dir, name));
        writeFileSync(join(dir, `${name}.br`), brotliCompressSync(text, quality));
        writeFileSync(join(dir, `${name}.gz`), gzipSync(text, { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  // wherever the server stands: everything finds its neighbours by its own address
  base: "./",
  plugins: [tailwindcss(), packed()],
  build: {
    outDir: process.env.FAIRWAY_DIST ?? "../src/fairway/web/static/dist",
    emptyOutDir: true,
    manifest: "manifest.json",
    // two years of browsers: light-dark() and :has() as they are written
    target: ["chrome123", "firefox128", "safari17.5"],
    assetsInlineLimit: 0, // what is inlined would need data: in font-src
    modulePreload: { polyfill: false },
    rollupOptions: { input: { theme: "src/theme.js", fairway: "src/fairway.js", style: "src/fairway.css" } },
    reportCompressedSize: false,
  },
});
