/** Calls a running sidecar for the commands that ask one, and turns what goes wrong into plain words. */
import { request as httpRequest } from "node:http";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.ts";
import { ChatCompletionService } from "../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { Failure } from "./world.ts";

/** Which sidecar, and as whom. */
export interface CallerOptions {
  /** Host and port, an http address, or `unix:` and the path of a socket. */
  readonly address: string;
  readonly key: string | undefined;
}

/** A client of the sidecar at an address. Nothing is connected until it is used. */
export function openCaller({ address, key }: CallerOptions): Client<typeof ChatCompletionService> {
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
  return createClient(ChatCompletionService, transport);
}

/** A failed call as a failure of the command. */
export async function callFailure(error: unknown, address: string): Promise<Failure> {
  const failed = ConnectError.from(error);
  const [info] = failed.findDetails(ErrorInfoSchema);
  if (info !== undefined) {
    const page = `docs/faults.md#${info.reason.toLowerCase()}`;
    return new Failure(`${failed.rawMessage} (${info.reason})`, `What it means and what helps: ${page}`);
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
  const url = /^https?:\/\//.test(address) ? address : `http://${address}`;
  if (URL.canParse(url)) return url.replace(/\/+$/, "");
  throw new Failure(`${address} is no address: expected host:port, http://host:port, or unix:/path.`, undefined, 2);
}
