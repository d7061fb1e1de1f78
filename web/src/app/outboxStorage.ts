import type { OutgoingMessage } from "@/features/messages/messageEvents";

type Entries = Record<string, OutgoingMessage>;

/** Saves the messages that the server has not stored yet, per user, so that they survive a reload. */
export interface OutboxStorage {
  load: (userId: string) => OutgoingMessage[];
  /** Save the difference between two states of the outbox. */
  save: (userId: string, before: Entries, after: Entries) => void;
}

/** Uses one storage item per message, so that two tabs of one user never overwrite each other's messages. */
export function createOutboxStorage(storage: Storage): OutboxStorage {
  const prefix = (userId: string) => `warren.outbox.${userId}.`;

  return {
    load(userId) {
      const keys = Object.keys(storage).filter((key) => key.startsWith(prefix(userId)));
      return keys
        .flatMap((key) => {
          try {
            return [JSON.parse(storage.getItem(key) ?? "") as OutgoingMessage];
          } catch {
            storage.removeItem(key);
            return [];
          }
        })
        .sort((a, b) => (a.composed_at < b.composed_at ? -1 : 1));
    },

    save(userId, before, after) {
      for (const id of Object.keys(before)) if (!after[id]) storage.removeItem(prefix(userId) + id);
      for (const [id, entry] of Object.entries(after)) {
        if (entry === before[id]) continue;
        try {
          storage.setItem(prefix(userId) + id, JSON.stringify(entry));
        } catch {
          // Storage is full or blocked: the message is still sent, unless the page is reloaded first.
        }
      }
    },
  };
}
