import type { Request } from "./requests";
import type { Timing } from "./timing";

/** Tells the server that this user is typing. It limits how often, and never retries. */
export function createTypingNotifier(request: Request, timing: Timing) {
  let lastSent: { conversationId: string; at: number } | null = null;
  let idleTimer: ReturnType<typeof setTimeout> | undefined;

  const send = (conversation_id: string, typing: boolean) =>
    void request("typing", { conversation_id, typing }).catch(() => undefined);

  function stop(conversationId: string): void {
    if (lastSent?.conversationId !== conversationId) return;
    reset();
    send(conversationId, false);
  }

  function draftChanged(conversationId: string, text: string): void {
    if (text.trim() === "") {
      stop(conversationId);
      return;
    }
    if (lastSent && lastSent.conversationId !== conversationId) stop(lastSent.conversationId);
    clearTimeout(idleTimer);
    idleTimer = setTimeout(() => stop(conversationId), timing.typingIdle);
    if (lastSent && Date.now() - lastSent.at < timing.typingInterval) return;
    lastSent = { conversationId, at: Date.now() };
    send(conversationId, true);
  }

  /** Forget what was sent, without telling the server. */
  function reset(): void {
    clearTimeout(idleTimer);
    lastSent = null;
  }

  return { draftChanged, stop, reset };
}
