/**
 * The control that is measured, in a process of its own. Its parent tells it where its data is, on which port to listen, and how many
 * sidecars a second to let in that have nothing; without that it is set up as ever.
 */
import { randomBytes } from "node:crypto";
import { startControl } from "../../../../control/main.ts";
import { controlSettings } from "../../../../control/settings.ts";
import { systemClock } from "../../../../sidecar/io/clock.ts";

const [dataFolder = "", port = "0", coldStarts] = process.argv.slice(2);
const settings = controlSettings({
  dataFolder,
  listen: { port: Number(port) },
  ops: null,
  localToken: true,
  logLevel: "silent",
  ...(coldStarts === undefined ? {} : { coldStartsPerSecond: Number(coldStarts) }),
});
const control = await startControl(settings, { version: "bench", clock: systemClock, randomBytes, log: { write: () => undefined } });
process.send?.({ port: control.port, token: control.localToken });
process.on("message", ({ collect }: { readonly collect: boolean }) => {
  // What is garbage is no memory that a stream needs.
  if (collect) globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  process.send?.({ rssBytes: rss, heapBytes: heapUsed, cpuMs: (user + system) / 1000 });
});
process.on("disconnect", () => process.exit());
