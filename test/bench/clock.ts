/** A reader of the machine's monotonic clock, in microseconds with fractions. All processes of a run share that clock, so that a stamp
 * made in one can be read in another. `performance.now` is cheaper than `hrtime`, which makes an array or a bigint each time. */
export function monotonicClock(): () => number {
  const [seconds, nanoseconds] = process.hrtime();
  const offsetUs = seconds * 1e6 + nanoseconds / 1e3 - performance.now() * 1e3;
  return () => offsetUs + performance.now() * 1e3;
}
