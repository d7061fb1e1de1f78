import { Fragment, memo, useEffect, useState, type ReactNode } from "react";
import type { Highlighted } from "./highlighter";

/** Code in a message. It is plain until the highlighter is loaded, which happens with the first code block. */
export const CodeBlock = memo(function CodeBlock({ code, language }: { code: string; language: string }) {
  const [highlighted, setHighlighted] = useState<Highlighted | null>(null);
  const [copied, setCopied] = useState(false);

  useEffect(() => {
    let mounted = true;
    import("./highlighter")
      .then(({ highlight }) => {
        if (mounted) setHighlighted(highlight(code, language));
      })
      .catch(() => undefined); // The code stays plain.
    return () => {
      mounted = false;
    };
  }, [code, language]);

  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code);
    } catch {
      return; // The browser denies clipboard access. The user can still select the code.
    }
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };

  return (
    <figure className="code" aria-label={language ? `Code, ${language}` : "Code"}>
      <figcaption className="code__bar">
        <span>{language || "text"}</span>
        <button type="button" className="code__copy" onClick={() => void copy()}>
          {copied ? "Copied" : "Copy"}
        </button>
      </figcaption>
      <pre tabIndex={0} aria-label="Source">
        <code>{highlighted ? elements(highlighted) : code}</code>
      </pre>
    </figure>
  );
});

function elements(nodes: Highlighted): ReactNode {
  return nodes.map((node, index) => {
    if (node.type === "text") return <Fragment key={index}>{node.value}</Fragment>;
    if (node.type !== "element") return null;
    const names = node.properties["className"];
    return (
      <span key={index} className={Array.isArray(names) ? names.join(" ") : undefined}>
        {elements(node.children)}
      </span>
    );
  });
}
