// @vitest-environment jsdom
import { cleanup, render } from "@testing-library/react";
import { afterEach, describe, expect, it } from "vitest";
import { Markdown, safeHref } from "./Markdown";

afterEach(cleanup);

const shown = (source: string) => render(<Markdown source={source} />).container;

describe("hostile Markdown", () => {
  it.each([
    "<script>window.hacked = true</script>",
    "<img src=x onerror=alert(1)>",
    "![beacon](https://evil.example/pixel.png)",
    "<iframe src='https://evil.example'></iframe>",
    "<svg onload=alert(1)>",
    "<style>* { display: none }</style>",
    "text <b onclick='alert(1)'>bold</b>",
    "- <object data='x'>\n- <form action='x'><input>",
  ])("creates no HTML element: %s", (source) => {
    expect(
      shown(source).querySelector("script, img, iframe, svg, style, object, form, input, b, [onclick], [onerror]"),
    ).toBeNull();
  });

  it("shows tags as text", () => {
    expect(shown("a <b>bold</b> move").textContent).toBe("a <b>bold</b> move");
  });

  it.each([
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:x)",
    "[x][r]\n\n[r]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "![x](javascript:alert(1))",
  ])("creates no unsafe link: %s", (source) => {
    for (const link of shown(source).querySelectorAll("a")) expect(link.protocol).toMatch(/^(https?|mailto):$/);
  });

  it("renders deep nesting", () => {
    expect(shown(">".repeat(3000) + " deep").textContent).toContain("deep");
  });
});

describe("Markdown", () => {
  it("creates links without referrer and opener", () => {
    const link = shown("see https://example.org/a").querySelector("a");
    expect(link?.href).toBe("https://example.org/a");
    expect(link?.rel).toContain("noopener noreferrer");
  });

  it("renders line breaks, lists, quotes, code and tables", () => {
    const page = shown("one\ntwo\n\n- a\n- b\n\n> q\n\n```ts\nlet x\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |");
    for (const element of ["br", "ul > li", "blockquote", "pre > code", "table td"])
      expect(page.querySelector(element), element).not.toBeNull();
  });
});

it("allows only http, https and mailto links", () => {
  expect(safeHref("https://example.org")).toBe("https://example.org/");
  expect(safeHref("mailto:a@example.org")).toBe("mailto:a@example.org");
  expect(safeHref("javascript:alert(1)")).toBeNull();
  expect(safeHref("/relative")).toBeNull();
});
