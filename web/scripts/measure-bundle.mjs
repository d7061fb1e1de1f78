// Prints the gzipped size of the first load of the built page, and fails if it exceeds the budget.
// The first load is index.html, its scripts and styles, and the font for Latin text.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const BUDGET = 250_000;
const dist = new URL("../dist/", import.meta.url).pathname;

const html = readFileSync(join(dist, "index.html"), "utf8");
const referenced = [...html.matchAll(/(?:src|href)="\/([^"]+)"/g)].map(([, path]) => path);
const fonts = readdirSync(join(dist, "assets"))
  .filter((name) => /^inter-latin-wght-normal.*woff2$/.test(name))
  .map((name) => `assets/${name}`);

let total = 0;
for (const path of new Set(["index.html", ...referenced, ...fonts])) {
  const size = gzipSync(readFileSync(join(dist, path))).length;
  total += size;
  console.log(`${(size / 1000).toFixed(1).padStart(8)} kB  ${path}`);
}
console.log(`${(total / 1000).toFixed(1).padStart(8)} kB  first load, gzipped; the budget is ${BUDGET / 1000} kB`);
if (total > BUDGET) process.exit(1);
