/**
 * Plays the outage for as long as one says, ten minutes unless told otherwise, and prints what it came to:
 * `node test/mesh/main.ts [minutes]`. Ends with 1 if a call failed or something was downloaded twice.
 */
import { playOutage } from "./outage.ts";

const minutes = Number(process.argv[2] ?? 10);
const report = await playOutage(minutes * 60_000, 4, 20);
const { told, killed, spoilt } = report.restarts;
console.log(
  `${minutes} min without control: ${report.calls} calls, ${report.failures.length} failed, ${report.torn} saw two policies. ` +
    `${told + killed + spoilt} restarts (${told} told, ${killed} killed, ${spoilt} killed with the newest slot spoilt), ${report.fromDisk} from disk, ` +
    `${report.usedOther} from the other slot. Back: all converged in ${Math.round(report.convergedMs)} ms, ${report.downloadedTwice} snapshots downloaded twice.`,
);
for (const failure of report.failures.slice(0, 10)) console.log(`  ${failure}`);
process.exitCode = report.failures.length + report.torn + report.downloadedTwice === 0 ? 0 : 1;
