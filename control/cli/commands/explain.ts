/** `outrigger explain`: what each filter would decide about a call, from a running sidecar or from policy in files. Nothing is sent. */
import { Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { callFailure, openCaller } from "../caller.ts";
import { listening, refuseWrong, startOrFail } from "../sidecar.ts";
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
  const sidecar = await startOrFail(world, settings, store);
  try {
    return await explainAt(terminal, options, listening("127.0.0.1", sidecar.port));
  } finally {
    await sidecar.close();
  }
}

async function explainAt(terminal: Terminal, options: ExplainOptions, address: string): Promise<number> {
  const messages = [{ role: Role.USER, parts: [{ content: { case: "text" as const, value: { text: options.prompt } } }] }];
  try {
    const { chat } = await openCaller({ ...options, address }).createChatCompletion({
      chat: { model: options.model, messages },
      validateOnly: true,
    });
    const decisions = (chat?.decisions ?? []).map(({ filter, outcome, facts }) => ({ filter, outcome, facts: { ...facts } }));
    const warnings = (chat?.warnings ?? []).map(({ code, field, message }) => ({ code, field, message }));
    await terminal.result({ allowed: true, decisions, warnings }, decisionTable(terminal, decisions, warnings));
    return 0;
  } catch (error) {
    const failure = await callFailure(error, address);
    if (terminal.format === "table") throw new Failure(`The call would be refused: ${failure.message}`, failure.next);
    await terminal.result({ allowed: false, reason: failure.message }, "");
    return 1;
  }
}

function decisionTable(
  terminal: Terminal,
  decisions: readonly { readonly filter: string; readonly outcome: string; readonly facts: Readonly<Record<string, string>> }[],
  warnings: readonly { readonly message: string }[],
): string {
  const rows = decisions.map(({ filter, outcome, facts }) => [
    filter,
    outcome,
    Object.entries(facts)
      .map(([name, value]) => `${name}=${value}`)
      .join(" "),
  ]);
  const told = warnings.map(({ message }) => `${terminal.style("yellow", "warning:")} ${message}\n`).join("");
  return `${table(["FILTER", "DECIDED", "FACTS"], rows)}${told}Nothing was sent.\n`;
}
