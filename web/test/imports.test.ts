import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";

const SRC = fileURLToPath(new URL("../src", import.meta.url));

/** The files that each file imports, types included. */
type ImportGraph = ReadonlyMap<string, readonly string[]>;

/** Read the imports between the source files in a folder. */
function readImports(root: string): ImportGraph {
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((path) => /\.tsx?$/.test(path));
  return new Map(
    files.map((path) => {
      const { importedFiles } = ts.preProcessFile(readFileSync(join(root, path), "utf8"));
      const imported = importedFiles.flatMap(({ fileName }) => resolveImport(root, path, fileName) ?? []);
      return [path, imported];
    }),
  );
}

/** The source file that an import names, or nothing when it names a package or a style sheet. */
function resolveImport(root: string, importer: string, specifier: string): string | undefined {
  const base = specifier.startsWith("@/")
    ? join(root, specifier.slice(2))
    : specifier.startsWith(".")
      ? join(root, dirname(importer), specifier)
      : undefined;
  if (base === undefined) return undefined;
  const candidates = [".ts", ".tsx", "/index.ts", "/index.tsx"].map((ending) => base + ending);
  const file = candidates.find((path) => existsSync(path));
  return file && relative(root, file);
}

/** The first import cycle found, as the list of its files, or nothing. */
function findCycle(graph: ImportGraph): string[] | undefined {
  const finished = new Set<string>();
  const path: string[] = [];

  function visit(file: string): string[] | undefined {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (finished.has(file)) return undefined;
    path.push(file);
    for (const imported of graph.get(file) ?? []) {
      const cycle = visit(imported);
      if (cycle) return cycle;
    }
    path.pop();
    finished.add(file);
    return undefined;
  }

  for (const file of graph.keys()) {
    const cycle = visit(file);
    if (cycle) return cycle;
  }
  return undefined;
}

describe("imports", () => {
  const graph = readImports(SRC);

  it("are read from relative paths and from the @ alias", () => {
    expect(graph.get("main.tsx")).toContain("app/App.tsx");
    expect(graph.get("app/App.tsx")).toContain("features/auth/SignIn.tsx");
  });

  it("form no cycle", () => {
    expect(findCycle(graph)?.join(" → ")).toBeUndefined();
  });
});

describe("findCycle", () => {
  it("names the files of a cycle", () => {
    const graph = new Map([
      ["main", ["root"]],
      ["root", ["slice", "other"]],
      ["slice", ["root"]],
      ["other", []],
    ]);
    expect(findCycle(graph)).toEqual(["root", "slice", "root"]);
  });

  it("accepts a file that is imported twice", () => {
    const graph = new Map([
      ["a", ["b", "c"]],
      ["b", ["d"]],
      ["c", ["d"]],
      ["d", []],
    ]);
    expect(findCycle(graph)).toBeUndefined();
  });
});
