import fc from "fast-check";
import { expect, test } from "vitest";
import { StampScanner } from "./scan.ts";

const stamped = Buffer.from('~t0000000000001000 {"a":"~tnot ~~t0000000000002000 x~t00000000000 ~t0000000000000000 "}~t0000000000003000');

test("finds every stamp however the payload is cut", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: stamped.length - 1 })), (cuts) => {
      const scanner = new StampScanner();
      const delays: number[] = [];
      let from = 0;
      for (const to of [...cuts.sort((a, b) => a - b), stamped.length]) {
        scanner.scan(stamped, from, to, 5000, (delay) => delays.push(delay));
        from = to;
      }
      expect(scanner.count).toBe(4);
      expect(scanner.bytes).toBe(stamped.length);
      expect(scanner.firstAtUs).toBe(5000);
      // The stamp of zeros tells no time.
      expect(delays).toEqual([4000, 3000, 2000]);
    }),
  );
});
