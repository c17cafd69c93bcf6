import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { ManualClock } from "../../test/kit/clock.ts";
import { steerCollector, tidyAfterStart } from "./tidy.ts";

function start() {
  const clock = new ManualClock();
  const work = { open: 0, begun: 0 };
  const collected: number[] = [];
  const began = clock.monotonicMs();
  const stop = tidyAfterStart(clock, { open: () => work.open, begun: () => work.begun }, () => collected.push(clock.monotonicMs() - began));
  return { clock, work, collected, stop };
}

test("it tidies once after the start, as soon as nothing is asked", () => {
  const { clock, work, collected } = start();
  work.open = 1;
  work.begun = 1;
  clock.advance(5000);
  expect(collected).toEqual([]);
  work.open = 0;
  clock.advance(60_000);
  expect(collected).toEqual([7000]);
  expect(clock.waiting).toBe(0);
});

test("calls that come and go between two looks count as work", () => {
  const { clock, work, collected } = start();
  for (let second = 0; second < 30; second++) {
    clock.advance(1000);
    work.begun++;
  }
  expect(collected).toEqual([]);
});

// A collection after a pause threw away what was compiled: the next calls cost 143 us in place of 54.
test("once the work has begun, it never tidies, whatever pauses there are", () => {
  const { clock, work, collected } = start();
  clock.advance(1000);
  work.begun = 101;
  clock.advance(3_600_000);
  expect(collected).toEqual([]);
  expect(clock.waiting).toBe(0);
});

test("closing stops the waiting", () => {
  const { clock, stop } = start();
  stop();
  expect(clock.waiting).toBe(0);
});

test("V8's own collection makes the heap smaller", () => {
  // In a process of its own: the flag that it needs must not be set for the others, and other tests' garbage would count.
  const program = `
    import { getHeapStatistics } from "node:v8";
    import { tidyAfterStart } from ${JSON.stringify(new URL("tidy.ts", import.meta.url).href)};
    let kept = Array.from({ length: 300_000 }, (_, i) => ({ i, text: "x" + i }));
    const before = getHeapStatistics().total_heap_size;
    kept = undefined;
    let look = () => {};
    const clock = { after: (_, then) => { look = then; return () => {}; } };
    tidyAfterStart(clock, { open: () => 0, begun: () => 0 });
    look(); look();
    console.log(JSON.stringify({ before, after: getHeapStatistics().total_heap_size }));
  `;
  const ended = spawnSync(process.execPath, ["--input-type=module", "--eval", program], { encoding: "utf8" });
  expect(ended.stderr).toBe("");
  const { before, after } = JSON.parse(ended.stdout);
  expect(after).toBeLessThan(before / 2);
});

test("the flags that steer the collector are V8's, and left alone where nobody tried them", () => {
  const module = JSON.stringify(new URL("tidy.ts", import.meta.url).href);
  const program = `import { steerCollector } from ${module}; steerCollector(process.versions.v8);`;
  const ended = spawnSync(process.execPath, ["--input-type=module", "--eval", program], { encoding: "utf8" });
  // Node says here which flag V8 does not know.
  expect(ended.stderr).toBe("");
  expect(ended.status).toBe(0);
  const set: string[] = [];
  steerCollector("12.4.254.21-node.33", (flag) => set.push(flag));
  expect(set).toEqual([]);
  steerCollector("14.6.202.34-node.34", (flag) => set.push(flag));
  expect(set).toEqual(["--memory-reducer-gc-count=0", "--heap-growing-percent=300", "--no-allocation-site-pretenuring"]);
});
