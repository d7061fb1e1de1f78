import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

/** Within this many pixels of the end, the view counts as being at the end. */
const END_TOLERANCE = 24;

interface Anchor {
  element: Element;
  /** Its position in the scrolled content, which scrolling does not change. */
  offset: number;
}

/**
 * Keeps the scroll position stable while the content changes. At the end, the view follows new messages. Anywhere else,
 * the first visible message stays in place when content above or below it is added or resized.
 */
export function useScrollAnchor(content: unknown) {
  const scroller = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const anchor = useRef<Anchor | null>(null);
  const [atEnd, setAtEnd] = useState(true);

  const updateAnchor = useCallback(() => {
    const box = scroller.current;
    if (!box) return;
    following.current = box.scrollHeight - box.scrollTop - box.clientHeight <= END_TOLERANCE;
    anchor.current = following.current ? null : firstInView(box);
    setAtEnd(following.current);
  }, []);

  /** Scroll by the distance that the anchor has moved because of a change above it. */
  const restoreAnchor = useCallback(() => {
    const box = scroller.current;
    if (!box || !anchor.current?.element.isConnected) return;
    const shift = offsetIn(box, anchor.current.element) - anchor.current.offset;
    if (shift !== 0) box.scrollTop += shift;
  }, []);

  const adjust = useCallback(() => {
    const box = scroller.current;
    if (box && following.current) box.scrollTop = box.scrollHeight;
    else restoreAnchor();
    updateAnchor();
  }, [restoreAnchor, updateAnchor]);

  const onScroll = useCallback(() => {
    restoreAnchor();
    updateAnchor();
  }, [restoreAnchor, updateAnchor]);

  useLayoutEffect(adjust, [adjust, content]);

  useEffect(() => {
    const box = scroller.current;
    if (!box) return undefined;
    const observer = new ResizeObserver(adjust);
    observer.observe(box);
    if (box.firstElementChild) observer.observe(box.firstElementChild);
    box.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      observer.disconnect();
      box.removeEventListener("scroll", onScroll);
    };
  }, [adjust, onScroll]);

  const scrollToEnd = useCallback(() => {
    following.current = true;
    adjust();
  }, [adjust]);

  /** Scroll an element into the upper part of the view. */
  const scrollToElement = useCallback(
    (element: Element) => {
      const box = scroller.current;
      if (!box) return;
      box.scrollTop += element.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 4;
      updateAnchor();
    },
    [updateAnchor],
  );

  return { scroller, atEnd, scrollToEnd, scrollToElement };
}

const offsetIn = (box: Element, element: Element) => element.getBoundingClientRect().top + box.scrollTop;

/**
 * The first visible message. Blocks above the view are skipped without looking at their messages. The very first message
 * is never the anchor, because it loses its day heading, and so moves, when older messages are loaded.
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
