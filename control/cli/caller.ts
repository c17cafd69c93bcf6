/** Calls a running sidecar for the commands that ask one, and turns what goes wrong into plain words. */
import { request as httpRequest } from "node:http";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { type ChatClient, createChatClient, faultIn } from "../../proto/client.ts";
import { Failure } from "./world.ts";

/** Which sidecar, and as whom. */
export interface CallerOptions {
  /** Host and port, an http address, or `unix:` and the path of a socket. */
  readonly address: string;
  readonly key: string | undefined;
}

/** A client of the sidecar at an address. Nothing is connected until it is used. */
export function openCaller({ address, key }: CallerOptions): ChatClient {
  const withKey: Interceptor = (next) => (request) => {
    if (key !== undefined) request.header.set("authorization", `Bearer ${key}`);
    return next(request);
  };
  const socketPath = address.startsWith("unix:") ? address.slice("unix:".length) : undefined;
  const transport = createConnectTransport({
    httpVersion: "1.1",
    baseUrl: socketPath === undefined ? baseUrl(address) : "http://localhost",
    interceptors: [withKey],
    ...(socketPath === undefined ? {} : { nodeOptions: { socketPath } }),
  });
  return createChatClient(transport);
}

/** A failed call as a failure of the command. */
export async function callFailure(error: unknown, address: string): Promise<Failure> {
  const failed = ConnectError.from(error);
  const told = faultIn(failed);
  if (told !== undefined) {
    return new Failure(
      `${failed.rawMessage} (${told.reason})`,
      `What it means and what helps: docs/faults.md#${told.reason.toLowerCase()}`,
    );
  }
  if (failed.code === Code.Canceled) return new Failure("The call was cancelled.");
  if (!(await answers(address))) {
    return new Failure(
      `Nothing listens at ${address}: expected a sidecar.`,
      "Start one with `outrigger demo` or `outrigger run -f FILE`, or say where it is with --address.",
    );
  }
  return new Failure(
    `What listens at ${address} is no sidecar, or of another version: ${failed.rawMessage}.`,
    "Say where the sidecar is with --address.",
  );
}

/** Whether anything at all answers HTTP there. */
function answers(address: string): Promise<boolean> {
  return new Promise((done) => {
    const request = address.startsWith("unix:")
      ? httpRequest({ socketPath: address.slice("unix:".length), path: "/" })
      : httpRequest(baseUrl(address));
    request.on("response", (response) => {
      response.resume();
      done(true);
    });
    request.on("error", () => done(false));
    request.end();
  });
}

function baseUrl(address: string): string {
  const url = address.includes("://") ? address : `http://${address}`;
  if (/^https?:\/\//.test(url) && URL.canParse(url)) return url.replace(/\/+$/, "");
  throw new Failure(`${address} is no address: expected host:port, http://host:port, or unix:/path.`, undefined, 2);
}
