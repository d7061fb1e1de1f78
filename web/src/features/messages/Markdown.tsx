import { lexer, type MarkedToken, type Token, type Tokens } from "marked";
import { Fragment, memo, type ReactNode } from "react";
import { CodeBlock } from "./CodeBlock";

/**
 * Renders a message's Markdown as React elements and never sets HTML. The lexer's tokens become only the elements named
 * here: HTML tags are shown as text, images become links and load nothing, and only http, https and mailto URLs become
 * links.
 */
export const Markdown = memo(function Markdown({ source }: { source: string }) {
  return <div className="markdown">{blocks(tokensOf(source))}</div>;
});

function tokensOf(source: string): Token[] {
  try {
    return lexer(source, { gfm: true, breaks: true });
  } catch {
    return [{ type: "paragraph", raw: source, text: source, tokens: [{ type: "text", raw: source, text: source }] }];
  }
}

/** The URL if its protocol is safe to follow, otherwise null. */
export function safeHref(href: string): string | null {
  try {
    const url = new URL(href.trim());
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const blocks = (tokens: Token[]): ReactNode[] =>
  tokens.map((token, index) => <Fragment key={index}>{block(token as MarkedToken)}</Fragment>);
const inlines = (tokens: Token[] | undefined): ReactNode[] =>
  (tokens ?? []).map((token, index) => <Fragment key={index}>{inline(token as MarkedToken)}</Fragment>);

function block(token: MarkedToken): ReactNode {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading":
      // A heading in a message must not become part of the page's outline.
      return <p className="markdown__heading">{inlines(token.tokens)}</p>;
    case "paragraph":
      return <p>{inlines(token.tokens)}</p>;
    case "blockquote":
      return <blockquote>{blocks(token.tokens)}</blockquote>;
    case "code":
      return <CodeBlock code={token.text} language={(token.lang ?? "").split(/\s/)[0] ?? ""} />;
    case "hr":
      return <hr />;
    case "list":
      return list(token);
    case "table":
      return table(token);
    case "text":
      return token.tokens ? inlines(token.tokens) : token.text;
    case "checkbox":
      return checkbox(token.checked);
    case "html":
      return <p>{token.text.trim()}</p>;
    default:
      return inline(token);
  }
}

function list(token: Tokens.List): ReactNode {
  const items = token.items.map((item, index) => (
    <li key={index} className={item.task ? "markdown__task" : undefined}>
      {blocks(item.tokens)}
    </li>
  ));
  if (!token.ordered) return <ul>{items}</ul>;
  return <ol start={typeof token.start === "number" ? token.start : 1}>{items}</ol>;
}

function table(token: Tokens.Table): ReactNode {
  const cell = (Cell: "th" | "td", { tokens, align }: Tokens.TableCell, index: number) => (
    <Cell key={index} style={align ? { textAlign: align } : undefined}>
      {inlines(tokens)}
    </Cell>
  );
  return (
    <div className="markdown__table" role="region" aria-label="Table" tabIndex={0}>
      <table>
        <thead>
          <tr>{token.header.map((head, index) => cell("th", head, index))}</tr>
        </thead>
        <tbody>
          {token.rows.map((row, index) => (
            <tr key={index}>{row.map((data, column) => cell("td", data, column))}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const checkbox = (checked: boolean) => (
  <span role="img" aria-label={checked ? "Done" : "To do"}>
    {checked ? "☑" : "☐"}{" "}
  </span>
);

function inline(token: MarkedToken): ReactNode {
  switch (token.type) {
    case "strong":
      return <strong>{inlines(token.tokens)}</strong>;
    case "em":
      return <em>{inlines(token.tokens)}</em>;
    case "del":
      return <del>{inlines(token.tokens)}</del>;
    case "codespan":
      return <code>{token.text}</code>;
    case "br":
      return <br />;
    case "link":
      return link(token.href, token.raw, inlines(token.tokens));
    case "image":
      return link(token.href, token.raw, token.text || token.href);
    case "escape":
    case "text":
      return "tokens" in token && token.tokens ? inlines(token.tokens) : token.text;
    case "checkbox":
      return checkbox(token.checked);
    default:
      // Show HTML tags and unknown tokens as they were written.
      return token.raw;
  }
}

function link(href: string, raw: string, content: ReactNode): ReactNode {
  const safe = safeHref(href);
  if (safe === null) return raw;
  return (
    <a href={safe} target="_blank" rel="noopener noreferrer nofollow" title={safe}>
      {content}
    </a>
  );
}
