// Writes src/protocol.ts from the contracts' JSON Schema (docs/schema/protocol.json, written by `make docs`).
// With --check it writes nothing, and fails if the file is out of date.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";

const SCHEMA = fileURLToPath(new URL("../../docs/schema/protocol.json", import.meta.url));
const TARGET = fileURLToPath(new URL("../src/protocol.ts", import.meta.url));
const BANNER = `/* Written by \`npm run protocol\` from docs/schema/protocol.json; not to be edited. */
/* eslint-disable */`;

/** Remove titles of nested schemas, which would become type aliases, and array bounds, which would become tuples. */
function simplify(node, inDefinitions = false) {
  if (Array.isArray(node)) return node.map((item) => simplify(item));
  if (node === null || typeof node !== "object") return node;
  const kept = Object.entries(node).filter(
    ([key]) => !["minItems", "maxItems"].includes(key) && (inDefinitions || key !== "title"),
  );
  return Object.fromEntries(
    kept.map(([key, value]) => [key, simplify(value, key === "$defs" || key === "properties")]),
  );
}

const schema = JSON.parse(readFileSync(SCHEMA, "utf8"));
const text = await compile(simplify(schema), "Protocol", {
  bannerComment: BANNER,
  additionalProperties: false,
  format: true,
  style: { printWidth: 110 },
});

if (!process.argv.includes("--check")) {
  writeFileSync(TARGET, text);
  console.log("Wrote src/protocol.ts.");
} else if (readFileSync(TARGET, "utf8") !== text) {
  console.error("src/protocol.ts is out of date: run `npm run protocol`.");
  process.exit(1);
}
