/** What operators and probes ask of a running control: health, readiness, metrics. Never on the port of the services. */
import { createServer } from "node:http";

/** What operations may ask. */
export interface OpsOptions {
  /** Why control cannot serve, or undefined if it can. */
  readonly notReady: () => string | undefined;
  /** The counters, in the text format that Prometheus reads, version 0.0.4. */
  readonly metrics: () => Promise<string>;
  /** Hears of what fails. */
  readonly warn: (message: string, error: unknown) => void;
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
      keepAliveTimeout: 75_000, // longer than the usual minute between two scrapes
    },
    (request, response) => {
      request.resume();
      const reply = (status: number, text: string, type = "text/plain; charset=utf-8"): void => {
        response.writeHead(status, { "content-type": type, "cache-control": "no-store", "content-length": Buffer.byteLength(text) });
        response.end(text);
      };
      if (request.method !== "GET" && request.method !== "HEAD") {
        response.setHeader("allow", "GET, HEAD");
        reply(405, "Use GET.\n");
        return;
      }
      switch (request.url?.split("?", 1)[0]) {
        case "/healthz":
          reply(200, "ok\n");
          return;
        case "/readyz": {
          const reason = options.notReady();
          reply(reason === undefined ? 200 : 503, reason === undefined ? "ready\n" : `not ready: ${reason}\n`);
          return;
        }
        case "/metrics":
          options.metrics().then(
            (text) => reply(200, text, "text/plain; version=0.0.4; charset=utf-8"),
            (error: unknown) => {
              options.warn("The counters could not be read.", error);
              reply(500, "Control failed to answer this. Its log has the cause.\n");
            },
          );
          return;
        default:
          reply(404, "There is /healthz, /readyz and /metrics.\n");
      }
    },
  );
  server.maxConnections = 256; // probes, scrapers and a person or two; more is an attack or a mistake
  return {
    listen(host, port) {
      return new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, host, () => {
          server.off("error", reject);
          server.on("error", (error) => options.warn("Operations could not take a connection.", error));
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
