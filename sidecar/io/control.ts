/**
 * The connection to control: the mesh's stream over HTTP/2, the same in single requests where only HTTP/1.1 passes, and the join that
 * buys a certificate. The one place of the sidecar that dials control.
 */
import { hash, X509Certificate } from "node:crypto";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type ClientSessionRequestOptions,
  connect as connectHttp2,
  type OutgoingHttpHeaders,
  type SecureClientSessionOptions,
} from "node:http2";
import { connect as connectNet, isIP } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { RetryInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.ts";
import {
  type JoinRequestSchema,
  type JoinResponse,
  MeshService,
  PollRequestSchema,
  type SubscribeRequest,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import type { Dial, Link, LinkEnd, LinkEvents } from "../mesh/link.ts";

/** Where control is and what proves either side to the other. */
export interface ControlAddress {
  /** `https://host:port`, `http://host:port` or `unix:/path`. */
  readonly url: string;
  /** The authority whose certificates are believed, in PEM; undefined for those of the system. */
  readonly authority: string | undefined;
  /** This sidecar's certificate, with those up to the authority, and its key; both in PEM. */
  readonly own: { readonly certificate: string; readonly key: string } | undefined;
}

/** Bytes of one of control's messages at most: content travels in pieces of 256 KiB, so a few of them are plenty. */
const messageBytesMax = 4 * 1024 * 1024;
/** How long one poll may wait: what has to be said meanwhile waits as long. */
const pollWaitMs = 5_000;
/** How long a connection may take before it counts as failed. */
const connectMs = 5_000;

/** Makes what opens streams to control. `address` is asked anew for each one, since certificates are renewed. */
export function dialControl(address: () => ControlAddress): Dial {
  // Whether the last stream ended before control said a word, in a way that a proxy which knows no HTTP/2 would end it.
  let polling = false;
  return (events) => {
    const polled = polling;
    polling = false;
    let heard = false;
    const watched: LinkEvents = {
      received(message) {
        heard = true;
        events.received(message);
      },
      ended(end) {
        polling = !polled && !heard && mayBeProxy(end);
        events.ended(end);
      },
    };
    return polled ? pollLink(address(), watched) : streamLink(address(), watched);
  };
}

/** Asks control for a certificate. Rejects with a `ConnectError` or with the network's error. */
export async function joinControl(address: ControlAddress, request: MessageInitShape<typeof JoinRequestSchema>): Promise<JoinResponse> {
  const { transport, close } = http2Transport(address);
  try {
    return await createClient(MeshService, transport).join(request, { timeoutMs: 2 * connectMs });
  } finally {
    close();
  }
}

/**
 * Fetches the certificate of control's authority, known by its SHA-256 alone, from the chain that control shows. Nothing is said on this
 * connection; those after it are checked in full against what it brought. Rejects if the chain has no such certificate.
 */
export function fetchAuthority(url: string, sha256: string): Promise<Uint8Array> {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "");
  return new Promise((found, failed) => {
    // The chain is not believed here: it is only searched for the one certificate that is known beforehand.
    const name = isIP(host) === 0 ? { servername: host } : {};
    const socket: TLSSocket = connectTls({ host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ["h2"], ...name });
    socket.setTimeout(connectMs, () => socket.destroy(new Error("control did not answer in time")));
    socket.on("error", failed);
    socket.on("secureConnect", () => {
      const seen = new Set<string>();
      let certificate = socket.getPeerX509Certificate();
      for (; certificate !== undefined && !seen.has(certificate.fingerprint256); certificate = certificate.issuerCertificate) {
        seen.add(certificate.fingerprint256);
        if (hash("sha256", certificate.raw, "hex") === sha256) break;
      }
      socket.destroy();
      if (certificate === undefined || seen.size === 0 || hash("sha256", certificate.raw, "hex") !== sha256) {
        failed(new Error("control shows another authority than the one that the join token names"));
      } else found(new Uint8Array(certificate.raw));
    });
  });
}

/** A certificate in DER, in PEM. */
export function certificatePem(der: Uint8Array): string {
  return new X509Certificate(der).toString();
}

function streamLink(address: ControlAddress, events: LinkEvents): Link {
  const { transport, close } = http2Transport(address);
  return openStream(transport, events, close);
}

/** One stream. `released` is called once at its end. */
function openStream(transport: Transport, events: LinkEvents, released: () => void): Link {
  const outbox = new Outbox();
  const left = new AbortController();
  void (async () => {
    let end: LinkEnd;
    try {
      for await (const message of createClient(MeshService, transport).subscribe(outbox, { signal: left.signal })) {
        if (left.signal.aborted) return;
        events.received(message);
      }
      end = { code: "unavailable", message: "control ended the stream", retryAfterMs: undefined };
    } catch (error) {
      end = endOf(error);
    } finally {
      outbox.close();
      released();
    }
    if (!left.signal.aborted) {
      left.abort();
      events.ended(end);
    }
  })();
  return {
    send: (message) => outbox.put(message),
    close() {
      left.abort();
      outbox.close();
      released();
    },
  };
}

/** The same in single requests: each takes what there is to say, and brings what control has said until then. */
function pollLink(address: ControlAddress, events: LinkEvents): Link {
  const client = createClient(MeshService, http1Transport(address));
  const left = new AbortController();
  const waiting: SubscribeRequest[] = [];
  let session = "";
  void (async () => {
    // The opening is said at once by whoever dialled, in the same turn.
    await Promise.resolve();
    try {
      while (!left.signal.aborted) {
        const request = create(PollRequestSchema, { session, messages: waiting.splice(0), wait: durationFromMs(pollWaitMs) });
        const answer = await client.poll(request, { signal: left.signal, timeoutMs: pollWaitMs + 2 * connectMs });
        session = answer.session;
        for (const message of answer.messages) if (!left.signal.aborted) events.received(message);
      }
    } catch (error) {
      if (left.signal.aborted) return;
      left.abort();
      events.ended(endOf(error));
    }
  })();
  return {
    send: (message) => {
      waiting.push(message);
    },
    close: () => left.abort(),
  };
}

/** Messages on their way out, as the RPC library wants them. */
class Outbox implements AsyncIterable<SubscribeRequest> {
  readonly #waiting: SubscribeRequest[] = [];
  #closed = false;
  #wake: (() => void) | undefined;

  put(message: SubscribeRequest): void {
    if (this.#closed) return;
    this.#waiting.push(message);
    this.#wake?.();
  }

  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SubscribeRequest> {
    for (;;) {
      const next = this.#waiting.shift();
      if (next !== undefined) yield next;
      else if (this.#closed) return;
      else
        await new Promise<void>((wake) => {
          this.#wake = wake;
        });
    }
  }
}

/**
 * One connection for one stream, opened by its first request. Whatever Node says of it after its end is heard and let go: an error that
 * nobody listens to would end the process.
 */
class Connection {
  readonly authority: string;
  readonly #options: SecureClientSessionOptions;
  #session: Promise<ClientHttp2Session> | undefined;
  #opened: ClientHttp2Session | undefined;

  constructor(url: string, options: SecureClientSessionOptions) {
    this.authority = url;
    this.#options = options;
  }

  async request(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders,
    options: ClientSessionRequestOptions,
  ): Promise<ClientHttp2Stream> {
    this.#session ??= new Promise((connected, failed) => {
      const session = connectHttp2(this.authority, this.#options);
      this.#opened = session;
      session.on("error", failed);
      session.on("close", () => failed(new Error("the connection was closed")));
      session.on("connect", () => connected(session));
    });
    const session = await this.#session;
    return session.request({ ...headers, ":method": method, ":path": path }, options);
  }

  notifyResponseByteRead(): void {
    // Heartbeats of the mesh's own say whether the stream lives; this connection needs no pings.
  }

  close(): void {
    this.#opened?.destroy();
  }
}

function http2Transport(address: ControlAddress): { readonly transport: Transport; readonly close: () => void } {
  const { url, socketPath } = targetOf(address.url);
  const socket = socketPath === undefined ? {} : { createConnection: () => connectNet(socketPath) };
  const connection = new Connection(url, { ...tlsOf(address), ...socket });
  const transport = createConnectTransport({
    baseUrl: url,
    httpVersion: "2",
    sessionManager: connection,
    readMaxBytes: messageBytesMax,
    acceptCompression: [], // what is worth it is compressed once for all sidecars
  });
  return { transport, close: () => connection.close() };
}

function http1Transport(address: ControlAddress): Transport {
  const { url, socketPath } = targetOf(address.url);
  return createConnectTransport({
    baseUrl: url,
    httpVersion: "1.1",
    nodeOptions: { ...tlsOf(address), ...(socketPath === undefined ? {} : { socketPath }) },
    readMaxBytes: messageBytesMax,
    acceptCompression: [],
  });
}

function targetOf(url: string): { readonly url: string; readonly socketPath: string | undefined } {
  return url.startsWith("unix:") ? { url: "http://control", socketPath: url.slice("unix:".length) } : { url, socketPath: undefined };
}

function tlsOf({ authority, own }: ControlAddress): { readonly ca?: string; readonly cert?: string; readonly key?: string } {
  return {
    ...(authority === undefined ? {} : { ca: authority }),
    ...(own === undefined ? {} : { cert: own.certificate, key: own.key }),
  };
}

/** How a stream ended, in the words of the mesh. What the network says may hold addresses and no secrets. */
export function endOf(error: unknown): LinkEnd {
  const fault = ConnectError.from(error);
  const retry = fault.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const cause = systemCode(error);
  // What the system says is about the way to control, and no word of control itself.
  const known = fault.code === Code.Unknown && cause !== undefined ? Code.Unavailable : fault.code;
  const code = Code[known].replace(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
  const message = `${fault.rawMessage}${cause === undefined || fault.rawMessage.includes(cause) ? "" : ` (${cause})`}`;
  return { code, message, retryAfterMs: retry === undefined ? undefined : durationMs(retry) };
}

/** The system's code below an error, such as ECONNREFUSED. */
function systemCode(error: unknown): string | undefined {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && typeof cause.code === "string") return cause.code;
  }
  return undefined;
}

/** Whether an end may be that of a proxy without HTTP/2: not if nobody listens there, nor if control itself has said no. */
function mayBeProxy({ code, message }: LinkEnd): boolean {
  return (
    ["unavailable", "internal", "unknown", "aborted", "canceled", "unimplemented"].includes(code) &&
    !/ECONNREFUSED|ENOENT|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|CERT|SELF_SIGNED/.test(message)
  );
}
