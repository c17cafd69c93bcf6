/** Asks a Kubernetes API server: a few small requests, with its own authority and this pod's token. */
import { readFile } from "node:fs/promises";
import { request as requestPlain } from "node:http";
import { request } from "node:https";

/** How long an answer may take: a sidecar that waits for it is told to come again. */
const answerMs = 5_000;
/** Bytes of an answer at most; keys and reviews have some thousand. */
const answerBytesMax = 1024 * 1024;

/** Where an API server is. */
export interface ApiServer {
  /** Such as https://kubernetes.default.svc. */
  readonly origin: string;
  /** The file with the certificate of its authority in PEM; null for those that Node trusts. */
  readonly caPath: string | null;
  /** The file with the token that it is asked with; null for none. */
  readonly tokenPath: string | null;
}

/** Asks for a path, or posts a body to it. Resolves to what the answer's JSON says; rejects if there is none or it is no success. */
export type AskApi = (path: string, body?: unknown) => Promise<unknown>;

/** Makes what asks. Files are read each time, since they are renewed. */
export function askApiServer({ origin, caPath, tokenPath }: ApiServer): AskApi {
  return async (path, body) => {
    const [ca, token] = await Promise.all([readOptional(caPath), readOptional(tokenPath)]);
    const url = new URL(path, origin);
    const options = {
      method: body === undefined ? "GET" : "POST",
      headers: {
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(token === undefined ? {} : { authorization: `Bearer ${token.trim()}` }),
      },
      timeout: answerMs,
      ...(ca === undefined ? {} : { ca }),
    };
    return new Promise((resolve, reject) => {
      const sent = (url.protocol === "http:" ? requestPlain : request)(url, options, (response) => {
        const pieces: Buffer[] = [];
        let bytes = 0;
        response.on("data", (piece: Buffer) => {
          bytes += piece.length;
          if (bytes > answerBytesMax) response.destroy(new Error(`the API server's answer has more than ${answerBytesMax} bytes`));
          else pieces.push(piece);
        });
        response.on("error", reject);
        response.on("end", () => {
          const status = response.statusCode ?? 0;
          if (status < 200 || status > 299) return reject(new Error(`the API server answered ${status} to ${path}`));
          try {
            resolve(JSON.parse(Buffer.concat(pieces).toString("utf8")));
          } catch {
            reject(new Error(`the API server answered no JSON to ${path}`));
          }
        });
      });
      sent.on("timeout", () => sent.destroy(new Error(`the API server did not answer within ${answerMs} ms`)));
      sent.on("error", reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  };
}

async function readOptional(path: string | null): Promise<string | undefined> {
  return path === null ? undefined : readFile(path, "utf8");
}
