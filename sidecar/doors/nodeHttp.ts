/**
 * Node's server for HTTP/1.1, without what an import of it would bring along.
 *
 * Who imports a module of Node's reads all that it exports, and one member of `node:http` is a getter that loads Node's own copy of undici
 * for a `WebSocket` that nobody here asks for: a program of nothing else starts 30 ms earlier and 16 MB smaller without it. `require` reads nothing.
 * `test/starts.test.ts` holds the sidecar to it. Types may be imported as ever, since nothing is left of such an import.
 */
import { createRequire } from "node:module";

export const { createServer } = createRequire(import.meta.url)("node:http") as typeof import("node:http");
