/** A real browser: a page from another origin calls the sidecar with connect-web, over Connect and gRPC-Web, in proto and JSON. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { build } from "esbuild";
import { type Browser, chromium, type Page as Tab } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { chromiumPath } from "./kit/chromium.ts";
import type { Page, PageTransport } from "./kit/page.ts";
import { type Replay, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { openAiBody, openAiStream } from "./kit/wire.ts";

const executablePath = chromiumPath();

/** What keeps Chromium from looking for Google, GPUs and updates, none of which a test machine has. */
const flags = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const pieces = ["Hel", "lo, ", "wörld 🚣"];

if (executablePath === undefined) {
  test("in a browser", (context) => context.skip("there is no Chromium here (CHROMIUM_PATH names one)"));
} else {
  describe("in headless Chromium", () => {
    let replay: Replay;
    let house: TestSidecar;
    let pages: Server;
    let browser: Browser;
    let tab: Tab;

    beforeAll(async () => {
      replay = await startReplay();
      house = await startTestSidecar(policyFor(replay.origin), { open: "a", ant: "b" });
      const bundle = await build({
        entryPoints: [join(import.meta.dirname, "kit/page.ts")],
        bundle: true,
        write: false,
        format: "iife",
        platform: "browser",
      });
      const script = bundle.outputFiles[0]?.text ?? "";
      pages = createServer((request, response) => {
        const isScript = request.url === "/page.js";
        response.setHeader("content-type", isScript ? "text/javascript; charset=utf-8" : "text/html; charset=utf-8");
        response.end(isScript ? script : "<!doctype html><title>test</title><script src=/page.js></script>");
      });
      await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
      browser = await chromium.launch({
        executablePath: executablePath,
        // A name that is not this machine's, as a page on the web has; it leads to the same server.
        args: [...flags, "--host-resolver-rules=MAP pages.example 127.0.0.1"],
      });
      tab = await browser.newPage();
      await tab.goto(`http://127.0.0.1:${(pages.address() as AddressInfo).port}/`);
    }, 60_000);

    afterAll(async () => {
      await browser?.close();
      pages?.close();
      await house?.close();
      await replay?.close();
    });

    beforeEach(() => {
      replay.forget();
      replay.answerWith(({ body }) =>
        JSON.parse(body.toString()).stream === true
          ? { pieces: openAiStream({ pieces }), headers: { "content-type": "text/event-stream" } }
          : { pieces: [openAiBody({ text: pieces.join("") })], headers: { "content-type": "application/json" } },
      );
    });

    /** Has the page do something, and returns what it saw. */
    function inPage(on: Tab, action: keyof Page, how: Omit<PageTransport, "baseUrl">, model: string): Promise<unknown> {
      return on.evaluate(
        (asked): Promise<unknown> => (globalThis as unknown as { page: Page }).page[asked.action](asked.how, asked.model),
        { action, how: { ...how, baseUrl: house.origin }, model },
      );
    }

    const ways = (["connect", "grpc-web"] as const).flatMap((protocol) =>
      [true, false].map((useBinaryFormat) => ({ protocol, useBinaryFormat, named: useBinaryFormat ? "proto" : "JSON" })),
    );

    describe.each(ways)("by $protocol in $named", ({ protocol, useBinaryFormat }) => {
      const how = { protocol, useBinaryFormat };

      test("gets a whole answer", async () => {
        expect(await inPage(tab, "create", how, "open")).toEqual({ text: pieces.join("") });
      });

      test("gets a streamed answer", async () => {
        expect(await inPage(tab, "stream", how, "open")).toEqual({ pieces, complete: true });
      });

      test("hears why a call failed, unary and streaming", async () => {
        for (const action of ["create", "stream"] as const) {
          expect(await inPage(tab, action, how, "nobody")).toEqual({ code: "NotFound", reason: "MODEL_NOT_FOUND" });
        }
      });

      test("hears that a stream broke off", async () => {
        replay.answerWith({
          pieces: openAiStream({ pieces }).slice(0, 3),
          ending: "cut",
          headers: { "content-type": "text/event-stream" },
        });
        expect(await inPage(tab, "stream", how, "open")).toEqual({ code: "Unavailable", reason: "PROVIDER_ANSWER_INCOMPLETE" });
      });

      test("leaves a stream, and the provider's socket closes", async () => {
        replay.answerWith({
          pieces: openAiStream({ pieces }).slice(0, 3),
          ending: "hang",
          headers: { "content-type": "text/event-stream" },
        });
        expect(await inPage(tab, "abort", how, "open")).toMatchObject({ code: "Canceled" });
        expect((await replay.requests[0]?.over)?.finished).toBe(false);
      });
    });

    test("a page of a foreign origin gets nothing, and the provider is not asked", async () => {
      const foreign = await browser.newPage();
      await foreign.goto(`http://pages.example:${(pages.address() as AddressInfo).port}/`);
      const seen = await inPage(foreign, "create", { protocol: "connect", useBinaryFormat: false }, "open");
      expect(seen).not.toHaveProperty("text");
      expect(replay.requests).toHaveLength(0);
      await foreign.close();
    });

    test("a page whose origin the settings name is served", async () => {
      const origin = `http://pages.example:${(pages.address() as AddressInfo).port}`;
      const open = await startTestSidecar(policyFor(replay.origin), { open: "a", ant: "b" }, { corsOrigins: [origin] });
      const named = await browser.newPage();
      await named.goto(`${origin}/`);
      const seen = await named.evaluate((how) => (globalThis as unknown as { page: Page }).page.create(how, "open"), {
        protocol: "connect" as const,
        useBinaryFormat: true,
        baseUrl: open.origin,
      });
      expect(seen).toEqual({ text: pieces.join("") });
      await named.close();
      await open.close();
    });
  });
}
