import { request } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readEventStream } from "./eventStream.ts";
import { cutAtRandom, cutEverywhere, seededRandom } from "./random.ts";
import { type Replay, startReplay } from "./replay.ts";

let replay: Replay;
beforeAll(async () => {
  replay = await startReplay();
});
afterAll(() => replay.close());

/** Posts and returns what came, and whether it ended well. */
function post(body: string): Promise<{ status: number; pieces: Buffer[]; whole: boolean }> {
  return new Promise((resolve, reject) => {
    const outgoing = request(`${replay.origin}/v1/x`, { method: "POST", agent: false }, (incoming) => {
      const pieces: Buffer[] = [];
      incoming.on("data", (piece: Buffer) => pieces.push(piece));
      incoming.on("error", () => {});
      incoming.on("close", () => resolve({ status: incoming.statusCode ?? 0, pieces, whole: incoming.complete }));
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

test("a body arrives as it was given, whatever the pieces", async () => {
  const bytes = Buffer.from("data: grün 🚣\n\ndata: [DONE]\n\n");
  for (const pieces of [[bytes], cutEverywhere(bytes), cutAtRandom(bytes, 9, seededRandom(7))]) {
    replay.answerWith({ status: 201, pieces });
    const answer = await post("hello");
    expect(answer).toMatchObject({ status: 201, whole: true });
    expect(Buffer.concat(answer.pieces)).toEqual(bytes);
  }
});

test("requests are remembered, and how each ended", async () => {
  replay.forget();
  replay.answerWith({ pieces: ["some"], ending: "cut" });
  expect((await post("first")).whole).toBe(false);
  replay.answerWith({ pieces: ["all"] });
  await post("second");
  expect(replay.requests.map(({ method, path, body }) => `${method} ${path} ${body}`)).toEqual(["POST /v1/x first", "POST /v1/x second"]);
  expect(await Promise.all(replay.requests.map(async ({ over }) => (await over).finished))).toEqual([false, true]);
});

test("cuts are the same for the same seed and lose nothing", () => {
  const bytes = Buffer.from("0123456789".repeat(20));
  const first = cutAtRandom(bytes, 30, seededRandom(3));
  expect(first).toEqual(cutAtRandom(bytes, 30, seededRandom(3)));
  expect(first).not.toEqual(cutAtRandom(bytes, 30, seededRandom(4)));
  expect(Buffer.concat(first)).toEqual(bytes);
  expect(first.every((piece) => piece.length > 0)).toBe(true);
});

test("events are read as the standard says", () => {
  expect(readEventStream("\ufeff: comment\r\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\ndata\n\ndata: unfinished")).toEqual([
    { event: "a", data: "1\n2" },
    { event: "message", data: "" },
  ]);
});
