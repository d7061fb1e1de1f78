import { useEffect, useLayoutEffect, useRef, type KeyboardEvent } from "react";
import { useAppDispatch, useAppSelector } from "@/app/hooks";
import { Icon } from "@/ui/Icon";
import { selectBodyLimit, selectOnline } from "../connection/connectionSlice";
import { draftChanged, selectDraft } from "./draftsSlice";
import { messageComposed } from "./messageEvents";

/** The number of characters left is shown when it falls to this. */
const NEAR_LIMIT = 200;
const COMPOSER_ID = "composer";

export const focusComposer = () => document.getElementById(COMPOSER_ID)?.focus();
const isTouchDevice = () => window.matchMedia("(pointer: coarse)").matches;

export function Composer({ conversationId, name }: { conversationId: string; name: string }) {
  const dispatch = useAppDispatch();
  const text = useAppSelector((state) => selectDraft(state, conversationId));
  const limit = useAppSelector(selectBodyLimit);
  const online = useAppSelector(selectOnline);
  const field = useRef<HTMLTextAreaElement>(null);

  const length = Array.from(text.trim()).length;
  const left = limit > 0 ? limit - length : Infinity;
  const sendable = length > 0 && left >= 0;

  // Focus the composer when the user opens a conversation, except on a phone, where it would open the keyboard.
  useEffect(() => {
    if (!isTouchDevice()) field.current?.focus();
  }, [conversationId]);

  useLayoutEffect(() => {
    const box = field.current;
    if (!box || CSS.supports("field-sizing", "content")) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }, [text]);

  const send = () => {
    if (!sendable) return;
    dispatch(messageComposed(conversationId, text));
    field.current?.focus();
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing || isTouchDevice()) return;
    event.preventDefault();
    send();
  };

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="composer__box">
        <textarea
          id={COMPOSER_ID}
          ref={field}
          className="composer__field"
          rows={1}
          value={text}
          placeholder={`Message ${name}`}
          aria-label={`Message ${name}`}
          aria-describedby="composer-hint"
          aria-invalid={left < 0}
          autoComplete="off"
          onChange={(event) => dispatch(draftChanged({ conversationId, text: event.target.value }))}
          onKeyDown={onKeyDown}
        />
        <button type="submit" className="composer__send" aria-label="Send" disabled={!sendable}>
          <Icon name="send" />
        </button>
      </div>
      <div className="composer__foot">
        <span id="composer-hint">
          {online ? (
            <span className="composer__keys">
              <kbd>Enter</kbd> to send, <kbd>Shift</kbd>+<kbd>Enter</kbd> for a new line. Markdown is supported.
            </span>
          ) : (
            "Messages will send when you’re back online."
          )}
        </span>
        <span className={left < 0 ? "composer__left composer__left--over" : "composer__left"} aria-live="polite">
          {left < 0
            ? `${-left} ${left === -1 ? "character" : "characters"} over the limit`
            : left <= NEAR_LIMIT
              ? `${left} ${left === 1 ? "character" : "characters"} left`
              : ""}
        </span>
      </div>
    </form>
  );
}
