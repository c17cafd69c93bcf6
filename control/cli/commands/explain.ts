/** `outrigger explain`: what each filter would decide about a call, from a running sidecar or from policy in files. Nothing is sent. */
import { user } from "../../../proto/client.ts";
import { callFailure, openCaller } from "../caller.ts";
import { listening, refuseWrong, startWithPolicy } from "../sidecar.ts";
import { type Terminal, table } from "../terminal.ts";
import { Failure, type World } from "../world.ts";

/** What the command line says. */
export interface ExplainOptions {
  readonly address: string;
  readonly key: string | undefined;
  readonly model: string;
  readonly prompt: string;
  /** Policy to ask in place of a running sidecar, or undefined. */
  readonly files: readonly string[] | undefined;
}

/** Explains. Ends with 1 if the call would be refused. */
export async function explain(world: World, terminal: Terminal, options: ExplainOptions): Promise<number> {
  if (options.files === undefined) return explainAt(terminal, options, options.address);
  const { openFiles } = await import("../../store/files.ts");
  const store = openFiles(options.files, world.clock.after);
  refuseWrong((await store.read()).problems);
  // A sidecar of our own that nobody else can find; it sends nothing, because nobody asks it to.
  const settings = { listen: { host: "127.0.0.1", port: 0 }, ops: null, logLevel: "silent", drainGraceMs: 0 } as const;
  const sidecar = await startWithPolicy(world, settings, store);
  try {
    return await explainAt(terminal, options, listening("127.0.0.1", sidecar.port));
  } finally {
    await sidecar.close();
  }
}

async function explainAt(terminal: Terminal, options: ExplainOptions, address: string): Promise<number> {
  try {
    const told = await openCaller({ ...options, address }).explain({ model: options.model, messages: [user(options.prompt)] });
    const decisions = told.map(({ filter, outcome, facts }) => ({ filter, outcome, facts: { ...facts } }));
    await terminal.result({ allowed: true, decisions }, decisionTable(decisions));
    return 0;
  } catch (error) {
    const failure = await callFailure(error, address);
    if (terminal.format === "table") throw new Failure(`The call would be refused: ${failure.message}`, failure.next);
    await terminal.result({ allowed: false, reason: failure.message }, "");
    return 1;
  }
}

function decisionTable(
  decisions: readonly { readonly filter: string; readonly outcome: string; readonly facts: Readonly<Record<string, string>> }[],
): string {
  const rows = decisions.map(({ filter, outcome, facts }) => [
    filter,
    outcome,
    Object.entries(facts)
      .filter(([, value]) => value !== "")
      .map(([name, value]) => `${name}=${value}`)
      .join(" "),
  ]);
  return `${table(["FILTER", "DECIDED", "FACTS"], rows)}Nothing was sent.\n`;
}
