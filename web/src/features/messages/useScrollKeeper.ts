import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

/** How near to the end still counts as being there, in pixels. */
const END_TOLERANCE = 24;

interface Anchor {
  element: Element;
  /** Where it is in what is scrolled, so that scrolling alone does not change it. */
  offset: number;
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

  /** Undo what a change of the content above did to the view; scrolling itself changes no offset. */
  const settle = useCallback(() => {
    const box = scroller.current;
    if (!box || !anchor.current?.element.isConnected) return;
    const shift = offsetIn(box, anchor.current.element) - anchor.current.offset;
    if (shift !== 0) box.scrollTop += shift;
  }, []);

  const hold = useCallback(() => {
    const box = scroller.current;
    if (box && following.current) box.scrollTop = box.scrollHeight;
    else settle();
    note();
  }, [settle, note]);

  const scrolled = useCallback(() => {
    settle();
    note();
  }, [settle, note]);

  useLayoutEffect(hold, [hold, content]);

  useEffect(() => {
    const box = scroller.current;
    if (!box) return undefined;
    const observer = new ResizeObserver(hold);
    observer.observe(box);
    if (box.firstElementChild) observer.observe(box.firstElementChild);
    box.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      observer.disconnect();
      box.removeEventListener("scroll", scrolled);
    };
  }, [hold, scrolled]);

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

const offsetIn = (box: Element, element: Element) => element.getBoundingClientRect().top + box.scrollTop;

/**
 * The first message that reaches into the view; blocks are skipped whole. The very first message is no hold: it loses
 * its heading, and so its place, when another comes before it.
 */
function firstInView(box: HTMLElement): Anchor | null {
  const { top } = box.getBoundingClientRect();
  const first = box.querySelector(".message");
  for (const block of box.querySelectorAll(".block")) {
    if (block.getBoundingClientRect().bottom <= top) continue;
    for (const element of block.querySelectorAll(".message")) {
      if (element !== first && element.getBoundingClientRect().bottom > top)
        return { element, offset: offsetIn(box, element) };
    }
  }
  return null;
}
