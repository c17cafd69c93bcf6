/** What operators and probes ask of a running sidecar: health, readiness, metrics, drain. Never on the port of the doors. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { House } from "../call.ts";
import { createServer } from "./nodeHttp.ts";

/** What operations may ask. */
export interface OpsOptions {
  /** Why the sidecar cannot take calls, or undefined if it can: `draining`, `no policy`. */
  readonly notReady: () => string | undefined;
  /** The counters, in the text format that Prometheus reads, version 0.0.4. */
  readonly metrics: () => Promise<string>;
  /** Begins to stop. Returns at once. */
  readonly drain: () => void;
  readonly house: Pick<House, "warn">;
}

/** The running server of operations. */
export interface Ops {
  /** Listens; port 0 takes a free one. Resolves to the port. */
  listen(host: string, port: number): Promise<number>;
  close(): Promise<void>;
}

/** Makes a server of operations that listens nowhere yet. */
export function createOps(options: OpsOptions): Ops {
  const server = createServer(
    {
      headersTimeout: 5_000, // probes come from the same machine or pod network
      requestTimeout: 5_000, // nothing that is asked here has a body
      connectionsCheckingInterval: 1_000, // a second late is early enough
      keepAliveTimeout: 75_000, // longer than the usual minute between two scrapes
    },
    (request, response) => {
      request.resume();
      answer(options, request, response).catch((error: unknown) => {
        options.house.warn("Operations could not answer.", { path: pathOf(request) }, error);
        if (response.headersSent) response.destroy();
        else reply(response, 500, "Outrigger failed to answer this. The log has the cause.\n");
      });
    },
  );
  server.maxConnections = 256; // probes, scrapers and a person or two; more is an attack or a mistake
  return {
    listen(host, port) {
      return new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, host, () => {
          server.off("error", reject);
          // A connection that cannot be taken, for want of descriptors say, is an error of the server, and must not end the process.
          server.on("error", (error) => options.house.warn("Operations could not take a connection.", {}, error));
          const address = server.address();
          if (address !== null && typeof address !== "string") resolve(address.port);
        });
      });
    },
    close() {
      return new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

async function answer(options: OpsOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = pathOf(request);
  switch (path) {
    case "/healthz":
      if (allows(request, response, "GET")) reply(response, 200, "ok\n");
      return;
    case "/readyz": {
      if (!allows(request, response, "GET")) return;
      const reason = options.notReady();
      reply(response, reason === undefined ? 200 : 503, reason === undefined ? "ready\n" : `not ready: ${reason}\n`);
      return;
    }
    case "/metrics": {
      if (!allows(request, response, "GET")) return;
      reply(response, 200, await options.metrics(), "text/plain; version=0.0.4; charset=utf-8");
      return;
    }
    case "/drain":
      if (!allows(request, response, "POST")) return;
      // The port may be open to the pod's network for probes; stopping the sidecar is for the machine itself. Any page in a browser can
      // post to the machine that it is shown on, and always says so.
      if (!isLoopback(request.socket.remoteAddress) || "origin" in request.headers || "sec-fetch-site" in request.headers) {
        reply(response, 403, "Only a program on the same machine may drain.\n");
        return;
      }
      options.drain();
      reply(response, 202, "draining\n");
      return;
    default:
      reply(response, 404, "There is /healthz, /readyz, /metrics, and POST /drain.\n");
  }
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? "/").split("?", 1)[0] ?? "/";
}

function allows(request: IncomingMessage, response: ServerResponse, method: "GET" | "POST"): boolean {
  if (request.method === method || (method === "GET" && request.method === "HEAD")) return true;
  response.setHeader("allow", method === "GET" ? "GET, HEAD" : method);
  reply(response, 405, `Use ${method}.\n`);
  return false;
}

function reply(response: ServerResponse, status: number, text: string, type = "text/plain; charset=utf-8"): void {
  response.writeHead(status, ["content-type", type, "cache-control", "no-store", "content-length", String(Buffer.byteLength(text))]);
  response.end(text);
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && (address === "::1" || address.startsWith("127.") || address.startsWith("::ffff:127."));
}
