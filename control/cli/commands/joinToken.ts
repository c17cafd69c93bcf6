/** `outrigger join-token create`: a token with which sidecars join. */
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { isoTime } from "../../clock.ts";
import { asked, type ControlOptions, openControl } from "../policyClient.ts";
import type { Terminal } from "../terminal.ts";
import { controlAddress, ExitCode, type World } from "../world.ts";

/** What the command line says. */
export interface JoinTokenOptions extends ControlOptions {
  readonly namespace: string;
  readonly account: string;
  /** For how long it can be used, in milliseconds. */
  readonly lifetimeMs: number;
  /** How many sidecars may join with it. */
  readonly uses: number;
}

/** Makes one. It is shown once. */
export async function createJoinToken(world: World, terminal: Terminal, options: JoinTokenOptions): Promise<number> {
  const { namespace, account, lifetimeMs, uses } = options;
  const { token, notAfter } = await asked(
    openControl(world, options).sidecars.createJoinToken({ namespace, account, lifetime: durationFromMs(lifetimeMs), uses }),
  );
  const until = notAfter === undefined ? null : isoTime(timestampMs(notAfter)).replace(/\.\d+Z$/, "Z");
  await terminal.result({ token, namespace, account, uses, expires: until }, `${token}\n`);
  if (terminal.format === "table") {
    const who = uses === 1 ? "One sidecar may join" : `${uses} sidecars may join`;
    terminal.note(`${who} with it as ${namespace}/${account}${until === null ? "" : ` until ${until}`}. It is shown this once.`);
    const where = options.control === controlAddress ? "" : ` --control ${options.control}`;
    terminal.note(`outrigger sidecar${where} --join-token-file FILE`);
  }
  return ExitCode.ok;
}
