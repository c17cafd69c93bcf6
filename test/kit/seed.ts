/**
 * Gives every property the same seed in every ordinary run, so that a change is red for what it did and never for the day's luck. The
 * long run draws a new seed each time and says it; OUTRIGGER_SEED repeats one.
 */
import fc from "fast-check";

const { OUTRIGGER_SEED: given, OUTRIGGER_LONG: long } = process.env;

fc.configureGlobal({
  ...fc.readConfigureGlobal(),
  ...(given !== undefined ? { seed: Number(given) } : long === undefined ? { seed: 20_261_122 } : {}),
});
