import type { Message } from "@/protocol";

/** Messages that are rendered together: a new message redraws one block, however many there are. */
export interface Block {
  key: number;
  messages: Message[];
  /** The message before the block's first, which decides on headings. */
  previous: Message | null;
}

const BLOCK_SIZE = 40;

/**
 * Cuts a conversation into blocks by `seq`, so that a message stays in its block whatever is loaded before or after.
 * Unchanged blocks are the very objects of the last cut.
 */
export function createCutter(): (messages: Message[]) => Block[] {
  let held = new Map<number, Block>();

  return (messages) => {
    const cut: Block[] = [];
    let previous: Message | null = null;
    for (const message of messages) {
      const key = Math.floor((message.seq - 1) / BLOCK_SIZE);
      const last = cut.at(-1);
      if (last?.key === key) last.messages.push(message);
      else cut.push({ key, messages: [message], previous });
      previous = message;
    }
    const kept = cut.map((block) => {
      const former = held.get(block.key);
      return former && same(former, block) ? former : block;
    });
    held = new Map(kept.map((block) => [block.key, block]));
    return kept;
  };
}

const same = (a: Block, b: Block) =>
  a.previous === b.previous &&
  a.messages.length === b.messages.length &&
  a.messages.every((message, index) => message === b.messages[index]);
