/**
 * Control's messages as the bytes that travel, in their envelopes: what many streams are sent is encoded once, and what each stream is
 * sent all the time is written by hand.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type Heartbeat,
  type SubscribeRequest,
  SubscribeRequestSchema,
  type SubscribeResponse,
  SubscribeResponseSchema,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import {
  fieldSize,
  fits,
  lengthDelimited,
  longSize,
  tag,
  textSize,
  writeLong,
  writeText,
  writeVarint,
} from "../../proto/protobufFields.ts";
import { envelopeHead, writeEnvelopeHead } from "../serve/rpcStream.ts";

/** Encodes messages. */
export interface MessageEncoder {
  /** A message in its envelope. The same bytes for the same message object. */
  envelope(message: SubscribeResponse): Uint8Array;
}

/** Makes an encoder; what it remembers goes with the messages. */
export function makeMessageEncoder(): MessageEncoder {
  // A delta of one scope is one object for all its streams; nothing else is worth remembering.
  const deltas = new WeakMap<SubscribeResponse, Uint8Array>();
  return {
    envelope(message) {
      switch (message.message.case) {
        case "heartbeat":
          return heartbeatEnvelope(message.message.value) ?? envelopeOf(message);
        case "delta": {
          const known = deltas.get(message);
          if (known !== undefined) return known;
          const fresh = envelopeOf(message);
          deltas.set(message, fresh);
          return fresh;
        }
        default:
          return envelopeOf(message);
      }
    },
  };
}

/** Reads a sidecar's message. Throws if the bytes are none. */
export function readRequest(bytes: Uint8Array): SubscribeRequest {
  return fromBinary(SubscribeRequestSchema, bytes);
}

function envelopeOf(message: SubscribeResponse): Uint8Array {
  const bytes = toBinary(SubscribeResponseSchema, message);
  const enveloped = new Uint8Array(envelopeHead + bytes.length);
  writeEnvelopeHead(enveloped, bytes.length);
  enveloped.set(bytes, envelopeHead);
  return enveloped;
}

/** The number of `SubscribeResponse.heartbeat`. */
const heartbeatField = 5;

/** A heartbeat in its envelope; undefined if it has a number that only the general way can write. */
function heartbeatEnvelope({ root, revision, sequence, $unknown }: Heartbeat): Uint8Array | undefined {
  if (!fits(revision) || !fits(sequence) || $unknown !== undefined) return undefined;
  const size = textSize(root) + longSize(revision) + longSize(sequence);
  const length = fieldSize(size);
  const bytes = new Uint8Array(envelopeHead + length);
  writeEnvelopeHead(bytes, length);
  bytes[envelopeHead] = tag(heartbeatField, lengthDelimited);
  let at = writeVarint(bytes, envelopeHead + 1, size);
  at = writeText(bytes, at, 1, root);
  if (revision !== 0n) at = writeLong(bytes, at, 2, revision);
  if (sequence !== 0n) writeLong(bytes, at, 3, sequence);
  return bytes;
}
