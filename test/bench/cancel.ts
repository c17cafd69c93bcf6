/**
 * How fast the provider's socket closes once a caller leaves: 1,200 seeded points over every door, of which more than 1,000 find the provider asked, streaming and unary.
 * `node test/bench/cancel.ts [points]`. Provider and callers share this process; the sidecar has its own.
 */
import { callers } from "../kit/callers.ts";
import { leaveOnce, spread } from "../kit/leaving.ts";
import { seededRandom } from "../kit/random.ts";
import { startReplay } from "../kit/replay.ts";
import { policyFor } from "../kit/sidecar.ts";
import { startSidecarProcess } from "../kit/sidecarProcess.ts";

const points = Number(process.argv[2] ?? 1200);
const replay = await startReplay();
const sidecar = await startSidecarProcess(policyFor(replay.origin), { open: "a", ant: "b" });
try {
  const random = seededRandom(5);
  // The first calls pay for compiling; a sidecar that has run for a second does not.
  for (let warm = 0; warm < 200; warm++) {
    const caller = callers[warm % callers.length];
    if (caller !== undefined) await leaveOnce(caller, sidecar.port, replay, random, 5_000);
  }
  const times = new Map<string, number[]>(callers.map(({ name }) => [name, []]));
  let unasked = 0;
  let open = 0;
  for (let point = 0; point < points; point++) {
    const caller = callers[point % callers.length];
    if (caller === undefined) continue;
    const { closedAfterMs, cutShort } = await leaveOnce(caller, sidecar.port, replay, random, 5_000);
    if (closedAfterMs === undefined) unasked++;
    else times.get(caller.name)?.push(closedAfterMs);
    if (!cutShort) open++;
  }
  const row = (name: string, values: readonly number[]): void => {
    const { p50, p99, max } = spread(values);
    console.log(
      `${name.padEnd(26)} ${String(values.length).padStart(5)} ${p50.toFixed(2).padStart(8)} ${p99.toFixed(2).padStart(8)} ${max.toFixed(2).padStart(8)}`,
    );
  };
  console.log(`${"left by".padEnd(26)} ${"times".padStart(5)} ${"p50 ms".padStart(8)} ${"p99 ms".padStart(8)} ${"max ms".padStart(8)}`);
  for (const [name, values] of times) row(name, values);
  const all = [...times.values()].flat();
  row("all", all);
  console.log("\nhow many closed within");
  for (const limit of [0.5, 1, 2, 5, 10, 20, 50]) {
    const within = all.filter((time) => time <= limit).length;
    console.log(
      `${String(limit).padStart(6)} ms  ${((within / all.length) * 100).toFixed(1).padStart(6)} %  ${"#".repeat(Math.round((within / all.length) * 50))}`,
    );
  }
  console.log(`\nleft before the provider was asked: ${unasked}; not cut short: ${open} (must be 0); limit for p99: 10 ms`);
  process.exitCode = open === 0 && spread(all).p99 <= 10 ? 0 : 1;
} finally {
  await sidecar.close();
  await replay.close();
}
