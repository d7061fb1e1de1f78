import type { KeyboardEvent } from "react";

/** Arrow keys, Home and End move the focus among the buttons of a list. */
export function moveFocus(event: KeyboardEvent<HTMLElement>): void {
  const buttons = Array.from(
    event.currentTarget.querySelectorAll<HTMLElement>("button[data-conversation], button[data-person]"),
  );
  const at = buttons.indexOf(document.activeElement as HTMLElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  buttons[Math.max(0, Math.min(buttons.length - 1, to))]?.focus();
}
