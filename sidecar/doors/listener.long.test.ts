import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { RawConnection, request2, until } from "../../test/kit/sockets.ts";
import { systemClock } from "../io/clock.ts";
import { createListener, usualLimits } from "./listener.ts";

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

test("half a million streams that are opened to be reset leave nothing behind, and the next caller is served", {
  timeout: 300_000,
}, async () => {
  let begun = 0;
  const listener = createListener({
    doors: [
      {
        accepts: () => true,
        open(exchange) {
          begun += 1;
          if (exchange.path === "/hold") return;
          exchange.head(200, []);
          exchange.end("served");
        },
      },
    ],
    turnAway: (exchange) => exchange.reset(),
    corsOrigins: [],
    house: { clock: systemClock, warn: () => {} },
  });
  const port = await listener.listen("127.0.0.1", 0);

  // `:method GET`, `:scheme http`, `:path /hold`, and a header of one letter.
  const block = Buffer.concat([Buffer.from([0x82, 0x86, 0x04, 5]), Buffer.from("/hold"), Buffer.from([0x01, 1]), Buffer.from("x")]);
  const perConnection = usualLimits.resetsBurst + 500;
  const attack: Buffer[] = [Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, Buffer.alloc(0))];
  for (let stream = 1; stream < 2 * perConnection; stream += 2) {
    attack.push(frame(1, 5, stream, block), frame(3, 0, stream, Buffer.from([0, 0, 0, 8])));
  }
  const bytes = Buffer.concat(attack);
  const heaps: number[] = [];
  for (let round = 0; round < 350; round += 1) {
    const connection = new RawConnection(port);
    connection.send(bytes);
    await connection.end();
    if (round % 50 !== 0) continue;
    expect((await request2(port, "GET", "/")).body).toBe("served");
    await until(() => listener.openCount === 0);
    collect();
    heaps.push(process.memoryUsage().heapUsed);
  }
  expect(begun).toBeGreaterThan(350 * (usualLimits.resetsBurst / 2));
  const [, second = 0] = heaps;
  // The first round warms up; from the second on it must not grow by more than the caches of a few thousand streams.
  expect((heaps.at(-1) ?? Number.POSITIVE_INFINITY) - second).toBeLessThan(8 * 1024 * 1024);
  await listener.close(0);
});
