/** One question to whoever gives credentials: a short request, and the whole of a short answer. No redirect is followed. */
import type { Clock, Upstream, UpstreamExchange, UpstreamHeaders } from "../../call.ts";
import { isObject, type JsonObject, parseObject } from "../../framing/json.ts";
import { CredentialFailure, nameShown } from "./failure.ts";

/** What is asked. */
export interface Question {
  readonly method?: "GET" | "POST" | "PUT";
  /** A whole address. */
  readonly url: string;
  /** Names in lower case and values, in turn. */
  readonly headers?: readonly string[];
  /** The kind of answer that is wanted; JSON unless given. */
  readonly accept?: string;
  /** A form, or text. */
  readonly body?: string | URLSearchParams;
}

/** What came back. */
export interface Reply {
  readonly status: number;
  header(name: string): string | undefined;
  readonly body: string;
}

/** Asks. Rejects with a `CredentialFailure` if no whole answer comes in time; an answer of any status is one. */
export type Ask = (question: Question, signal: AbortSignal) => Promise<Reply>;

/** From the question to the end of the answer; a metadata service takes milliseconds, a token endpoint rarely a second. */
const answerMsMax = 5_000;

/** For a connection: addresses of metadata services outside of their cloud lead nowhere, and nothing tells so. */
const connectMs = 2_000;

/** The most of an answer that is read: tokens with many groups in them take some 10 KiB. */
const bytesMax = 128 * 1024;

/** Makes what asks. */
export function asker(upstream: Upstream, clock: Clock): Ask {
  return (question, signal) =>
    new Promise((resolve, reject) => {
      const url = new URL(question.url);
      const at = nameShown(url.host);
      const { method = "POST", body = "", headers = [], accept = "application/json" } = question;
      const form = body instanceof URLSearchParams;
      const pieces: Uint8Array[] = [];
      let bytes = 0;
      let head: { readonly status: number; readonly headers: UpstreamHeaders } | undefined;
      let exchange: UpstreamExchange | undefined;
      let finished = false;

      function finish(outcome: Reply | string): void {
        if (finished) return;
        finished = true;
        cancelTimer();
        signal.removeEventListener("abort", onAbort);
        if (typeof outcome !== "string") resolve(outcome);
        else {
          exchange?.abort();
          reject(new CredentialFailure(outcome));
        }
      }
      const onAbort = (): void => finish("the sidecar is stopping");
      const cancelTimer = clock.after(answerMsMax, () => finish(`${at} gave no whole answer within ${answerMsMax} ms`));
      signal.addEventListener("abort", onAbort, { once: true });
      if (signal.aborted) {
        onAbort();
        return;
      }
      exchange = upstream(
        {
          method,
          origin: url.origin,
          path: url.pathname + url.search,
          headers: [...(form ? formHeaders : []), "accept", accept, "user-agent", "outrigger", ...headers],
          body: form ? body.toString() : body,
          connectTimeoutMs: connectMs,
          // One provider's credential is asked for once at a time, so these are for many providers.
          connections: 8,
        },
        {
          begun() {},
          wanting: true,
          head(status, answered) {
            head = { status, headers: answered };
          },
          data(piece) {
            bytes += piece.byteLength;
            if (bytes > bytesMax) finish(`${at} answered with more than ${bytesMax} bytes`);
            else pieces.push(piece);
          },
          end() {
            const answered = head;
            if (answered === undefined) finish(`${at} answered with nothing`);
            else {
              const { status, headers } = answered;
              finish({ status, header: (name) => headers.get(name), body: Buffer.concat(pieces).toString() });
            }
          },
          error(error) {
            const code = "code" in error ? nameShown(String(error.code)) : nameShown(error.name);
            finish(`${at} could not be reached or closed the connection (${code})`);
          },
        },
      );
      // It may have failed while it was called.
      if (finished) exchange.abort();
    });
}

const formHeaders = ["content-type", "application/x-www-form-urlencoded"] as const;

/** The JSON object that a reply is; an empty one if it is none, so that whoever looks for a member finds it missing. */
export function objectOf(reply: Reply): JsonObject {
  try {
    return parseObject(reply.body);
  } catch {
    return {};
  }
}

/** A member that is text of a kind that a header can carry, or undefined. */
export function textIn(object: unknown, name: string): string | undefined {
  const value = isObject(object) && Object.hasOwn(object, name) ? object[name] : undefined;
  return typeof value === "string" && value.length <= 64 * 1024 && /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value)
    ? value
    : undefined;
}

/** A member that is a number, or digits as some services write numbers, or undefined. */
export function numberIn(object: JsonObject, name: string): number | undefined {
  const value = Object.hasOwn(object, name) ? object[name] : undefined;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  return typeof value === "string" && /^[0-9]{1,15}$/.test(value) ? Number(value) : undefined;
}

/** The failure of a reply that is none of what was asked for. `code` is the server's word for it. */
export function refusedBy(question: Question, { status }: Reply, code: string): CredentialFailure {
  const at = nameShown(new URL(question.url).host);
  if (status >= 200 && status < 300) return new CredentialFailure(`${at} answered ${status} with something else than a credential`);
  return new CredentialFailure(`${at} answered ${status}${code}`);
}
