import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

/** How near to the end still counts as being there, in pixels. */
const END_TOLERANCE = 24;

interface Anchor {
  element: Element;
  top: number;
}

/**
 * Keeps what the person reads where it is. At the end the view follows the conversation; anywhere else the first
 * message in view stays put, whatever is loaded above it, arrives below it, or changes size.
 */
export function useScrollKeeper(content: unknown) {
  const scroller = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const anchor = useRef<Anchor | null>(null);
  const [atEnd, setAtEnd] = useState(true);

  const note = useCallback(() => {
    const box = scroller.current;
    if (!box) return;
    following.current = box.scrollHeight - box.scrollTop - box.clientHeight <= END_TOLERANCE;
    anchor.current = following.current ? null : firstInView(box);
    setAtEnd(following.current);
  }, []);

  const hold = useCallback(() => {
    const box = scroller.current;
    if (!box) return;
    if (following.current) box.scrollTop = box.scrollHeight;
    else if (anchor.current?.element.isConnected)
      box.scrollTop += anchor.current.element.getBoundingClientRect().top - anchor.current.top;
    note();
  }, [note]);

  useLayoutEffect(hold, [hold, content]);

  useEffect(() => {
    const box = scroller.current;
    if (!box) return undefined;
    const observer = new ResizeObserver(hold);
    observer.observe(box);
    if (box.firstElementChild) observer.observe(box.firstElementChild);
    box.addEventListener("scroll", note, { passive: true });
    return () => {
      observer.disconnect();
      box.removeEventListener("scroll", note);
    };
  }, [hold, note]);

  const toEnd = useCallback(() => {
    following.current = true;
    hold();
  }, [hold]);

  /** Bring an element into the upper part of the view. */
  const toElement = useCallback(
    (element: Element) => {
      const box = scroller.current;
      if (!box) return;
      box.scrollTop += element.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 4;
      note();
    },
    [note],
  );

  return { scroller, atEnd, toEnd, toElement };
}

/** The first row that reaches into the view; blocks are skipped whole. */
function firstInView(box: HTMLElement): Anchor | null {
  const { top } = box.getBoundingClientRect();
  for (const block of box.querySelectorAll(".block")) {
    if (block.getBoundingClientRect().bottom <= top) continue;
    for (const element of block.children) {
      const bounds = element.getBoundingClientRect();
      if (bounds.bottom > top) return { element, top: bounds.top };
    }
  }
  return null;
}
