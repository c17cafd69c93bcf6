import { randomFillSync } from "node:crypto";
import type { Random } from "../call.ts";

/** Identifiers are drawn from the operating system in blocks of this many bytes, since a single draw costs more than an identifier. */
const blockBytes = 16 * 256;

/** The machine's own randomness. */
export function systemRandom(): Random {
  const block = Buffer.alloc(blockBytes);
  let used = blockBytes;
  return {
    next: () => Math.random(),
    id() {
      if (used === blockBytes) {
        randomFillSync(block);
        used = 0;
      }
      const id = block.toString("hex", used, used + 16);
      used += 16;
      return id;
    },
  };
}
