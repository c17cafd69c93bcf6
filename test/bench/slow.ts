/**
 * What 200 callers that stop reading a 20 MiB answer cost: memory for each, and how much slower another caller's calls become.
 * `npm run bench:slow`. Provider and callers share this process; the sidecar has its own.
 */
import { spread } from "../kit/leaving.ts";
import { startReplay } from "../kit/replay.ts";
import { policyFor } from "../kit/sidecar.ts";
import { startSidecarProcess } from "../kit/sidecarProcess.ts";
import { measureSlowReaders } from "../kit/slowReaders.ts";

const replay = await startReplay();
const sidecar = await startSidecarProcess(policyFor(replay.origin), { open: "a", ant: "b" });
try {
  const found = await measureSlowReaders(sidecar, replay, 200, 2000);
  const before = spread(found.otherBeforeMs);
  const during = spread(found.otherDuringMs);
  console.log(`callers that stopped reading: ${found.callers}`);
  console.log(
    `resident memory each:         ${(found.rssEach / 1024).toFixed(0)} KiB (limit 256); ${(found.rssEachCold / 1024).toFixed(0)} from a cold start`,
  );
  console.log(`  held by the runtime:        ${(found.heldEach / 1024).toFixed(0)} KiB`);
  console.log(`sent by the provider at most: ${(found.sentMaxBytes / 1024).toFixed(0)} KiB of 20480, socket buffers included`);
  console.log(`another caller's calls, ms:   before p50 ${before.p50.toFixed(2)} p99 ${before.p99.toFixed(2)}`);
  console.log(`                              during p50 ${during.p50.toFixed(2)} p99 ${during.p99.toFixed(2)}`);
  console.log(
    `slower by:                    p50 x${(during.p50 / before.p50).toFixed(2)} p99 x${(during.p99 / before.p99).toFixed(2)} (limit 1.5)`,
  );
} finally {
  await sidecar.close();
  await replay.close();
}
