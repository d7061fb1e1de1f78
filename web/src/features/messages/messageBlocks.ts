import type { Message } from "@/protocol";

/** Messages that are rendered together, so that a new message re-renders one block only. */
export interface Block {
  key: number;
  messages: Message[];
  /** The message before the first one of the block: it decides whether a heading is shown. */
  previous: Message | null;
}

const BLOCK_SIZE = 40;

/**
 * Returns a function that splits messages into blocks by `seq`, so that a message always belongs to the same block. It
 * returns the same object for a block that has not changed since the last call, so that memoized components skip it.
 */
export function createBlockSplitter(): (messages: Message[]) => Block[] {
  let previousBlocks = new Map<number, Block>();

  return (messages) => {
    const blocks: Block[] = [];
    let previous: Message | null = null;
    for (const message of messages) {
      const key = Math.floor((message.seq - 1) / BLOCK_SIZE);
      const last = blocks.at(-1);
      if (last?.key === key) last.messages.push(message);
      else blocks.push({ key, messages: [message], previous });
      previous = message;
    }
    const result = blocks.map((block) => {
      const former = previousBlocks.get(block.key);
      return former && isSameBlock(former, block) ? former : block;
    });
    previousBlocks = new Map(result.map((block) => [block.key, block]));
    return result;
  };
}

const isSameBlock = (a: Block, b: Block) =>
  a.previous === b.previous &&
  a.messages.length === b.messages.length &&
  a.messages.every((message, index) => message === b.messages[index]);
