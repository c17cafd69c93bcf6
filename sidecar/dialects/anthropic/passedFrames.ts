/**
 * What the frames of a provider that went out as they came leave behind, so that writing can go on in the middle of a block.
 *
 * Only the names of events are looked at, and the start of the block that is open is kept; nothing is parsed unless someone takes over.
 */
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject } from "../../framing/json.ts";
import { Block } from "./blockWriter.ts";

/** Follows frames that are passed on. */
export class PassedFrames {
  /** Whether the answer has begun. */
  begun = false;
  /** Whether it was said why the answer ended. */
  told = false;
  /** Whether the answer is over. */
  ended = false;
  /** The index of the open block, or of the next one. */
  index = 0;
  #openStart: Uint8Array | undefined;
  #lastNumber = 0;

  /** Takes in whole frames and the events that they stand for. */
  pass(frames: Uint8Array, events: readonly ChatEvent[]): void {
    for (const { event } of events) {
      if (event.case === "toolCall") this.#lastNumber = event.value.index;
      else if (event.case === "reasoning") this.#lastNumber = event.value.block;
    }
    for (let lineStart = 0; lineStart < frames.length; ) {
      const lf = frames.indexOf(LF, lineStart);
      const lineEnd = lf === -1 ? frames.length : lf;
      if (frames[lineStart] === LETTER_E && frames[lineStart + 5] === COLON) this.#event(frames, lineStart, lineEnd);
      lineStart = lineEnd + 1;
    }
  }

  /** The block that is open, ready to go on with. */
  openBlock(): Block | undefined {
    if (this.#openStart === undefined) return undefined;
    const head = headOf(decoder.decode(this.#openStart));
    const facts = { number: this.#lastNumber, id: head.id, name: head.name };
    switch (head.type) {
      case "text":
        return new Block("text");
      case "thinking":
        return new Block("thinking", facts);
      case "tool_use":
        return new Block("tool", facts);
      default:
        return new Block("raw");
    }
  }

  #event(frames: Uint8Array, lineStart: number, lineEnd: number): void {
    const nameStart = lineStart + (frames[lineStart + 6] === SPACE ? 7 : 6);
    // Nearly all are called content_block_delta, and leave nothing behind.
    if (frames[nameStart + deltaAt] === LETTER_D && lineEnd - nameStart > deltaAt) return;
    switch (decoder.decode(frames.subarray(nameStart, lineEnd)).trim()) {
      case "message_start":
        this.begun = true;
        break;
      case "content_block_start": {
        const dataEnd = frames.indexOf(LF, lineEnd + 1);
        // A copy, because the whole read would be kept alive otherwise.
        this.#openStart = frames.slice(lineEnd + 1, dataEnd === -1 ? frames.length : dataEnd);
        break;
      }
      case "content_block_stop":
        this.#openStart = undefined;
        this.index++;
        break;
      case "message_delta":
        this.told = true;
        break;
      case "message_stop":
        this.ended = true;
        break;
      default:
        break;
    }
  }
}

/** What the data line of a block's start says of the block. */
function headOf(line: string): { readonly type: string; readonly id: string; readonly name: string } {
  try {
    const data: unknown = JSON.parse(line.slice(line.indexOf("{")));
    const block = isObject(data) && isObject(data.content_block) ? data.content_block : {};
    return { type: String(block.type ?? ""), id: String(block.id ?? ""), name: String(block.name ?? "") };
  } catch {
    return { type: "", id: "", name: "" };
  }
}

const LF = 0x0a;
const COLON = 0x3a;
const SPACE = 0x20;
const LETTER_E = 0x65;
const LETTER_D = 0x64;
/** Where `content_block_delta` differs from the names of the other frames that are as long: at its third word. */
const deltaAt = "content_block_".length;
const decoder = new TextDecoder("utf-8");
