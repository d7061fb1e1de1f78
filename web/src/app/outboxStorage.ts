import type { OutgoingMessage } from "@/features/messages/messageEvents";

type Entries = Record<string, OutgoingMessage>;

/** Keeps what was not accepted yet over a reload, apart for each user. */
export interface OutboxStorage {
  load: (userId: string) => OutgoingMessage[];
  /** Write down the difference between two states of the outbox. */
  save: (userId: string, before: Entries, after: Entries) => void;
}

/** One item per message, so that two tabs of one person never overwrite each other's. */
export function outboxIn(storage: Storage): OutboxStorage {
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
          // Storage is full or forbidden: the message is still sent, only a reload would lose it.
        }
      }
    },
  };
}
