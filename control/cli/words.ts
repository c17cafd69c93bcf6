/** The words of the command line: which commands there are, what they take, and what they end with. Loads only what is asked for. */
import { join } from "node:path";
import { Command, CommanderError, Option } from "commander";
import type { GivenSettings } from "../../sidecar/settings.ts";
import { addControlWords } from "./controlWords.ts";
import { port, whole } from "./numbers.ts";
import type { PolicyApiOptions } from "./policyApi.ts";
import { stateHome } from "./stateHome.ts";
import { type OutputFormat, openTerminal, type Terminal } from "./terminal.ts";
import { controlAddress, ExitCode, Failure, type World } from "./world.ts";

/** Does what the words say. Returns the exit code; what went wrong has been said by then. */
export async function runWords(words: readonly string[], world: World): Promise<number> {
  let code: number = ExitCode.ok;
  const program = commands(world, (result) => {
    code = result;
  });
  try {
    await program.parseAsync(words, { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
    const { noteStyle, note } = openTerminal(world, "table");
    const message = error instanceof Failure ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
    note(`${noteStyle("red", "error:")} ${message}`);
    if (error instanceof Failure && error.next !== undefined) note(error.next);
    return error instanceof Failure ? error.exitCode : ExitCode.error;
  }
}

/** All commands with their options. `finish` takes what a command ends with. */
function commands(world: World, finish: (code: number) => void): Command {
  const program = new Command("outrigger")
    .description("A service mesh for language-model traffic.")
    .version(world.version, "--version", "show the version")
    .addOption(new Option("-o, --output <format>", "how results are written").choices(["table", "json", "yaml"]).default("table"))
    .showHelpAfterError("Run it with --help to see what it takes.")
    .exitOverride();
  const terminal = (): Terminal => openTerminal(world, program.opts<{ output: OutputFormat }>().output);

  addApi(addListening(program.command("demo")))
    .description("answer at once: a sidecar with the demo provider and whatever is found on this machine")
    .option("--smart <provider/model>", "where calls for the model smart go")
    .option("--export <file>", "write the policy that runs to a new file, for `outrigger run -f`")
    .option("--seed <text>", "decides everything the demo provider makes up", "outrigger")
    .addOption(port("--provider-port <port>", "the demo provider's own port; 0 takes any free one", 0))
    .option("--provider-only", "start the demo provider without a sidecar", false)
    .option("--quiet", "show no line for each call", false)
    .action(async (options, command) => {
      const { demo } = await import("./commands/demo.ts");
      finish(await demo(world, terminal(), { ...options, policyApi: apiOf(command, options, [], options.quiet ? "silent" : "info") }));
    });

  addApi(addServing(program.command("run")))
    .description("run a sidecar with policy from files and folders, which are watched")
    .requiredOption("-f, --file <path...>", "files and folders with policy")
    .action(async (options, command) => {
      const { run } = await import("./commands/run.ts");
      const settings = settingsOf(options);
      finish(
        await run(world, terminal(), {
          files: options.file,
          settings,
          logFormat: logFormat(world, options.logFormat),
          api: apiOf(command, options, settings.corsOrigins ?? [], options.logLevel),
        }),
      );
    });

  addServing(program.command("sidecar"))
    .description("run a sidecar that gets its policy from control, and goes on with it while control is away")
    .addOption(
      new Option("--control <url>", "where control is: https://HOST:PORT, HOST:PORT on this machine, or unix:/PATH")
        .default(controlAddress)
        .env("OUTRIGGER_CONTROL"),
    )
    .addOption(new Option("--join-token <token>", "what lets it in; better given as a file").env("OUTRIGGER_JOIN_TOKEN"))
    .addOption(new Option("--join-token-file <file>", "a file with that token").env("OUTRIGGER_JOIN_TOKEN_FILE").conflicts("joinToken"))
    .addOption(new Option("--token-file <file>", "a token of the platform, such as a projected one").env("OUTRIGGER_TOKEN_FILE"))
    .addOption(new Option("--control-ca <file>", "the authority of control's certificate, in PEM").env("OUTRIGGER_CONTROL_CA"))
    .addOption(
      new Option("--namespace <name>", "the namespace of its account; a certificate or token says it better").env("OUTRIGGER_NAMESPACE"),
    )
    .addOption(
      new Option("--account <name>", "the account that it runs as; a certificate or token says it better").env("OUTRIGGER_ACCOUNT"),
    )
    .addOption(new Option("--instance <name>", "its own name; drawn at the first start otherwise").env("OUTRIGGER_INSTANCE"))
    .addOption(new Option("--state <folder>", "where the last good policy and the certificate are kept").env("OUTRIGGER_STATE"))
    .addOption(new Option("--no-state", "keep nothing: it cannot start while control is away"))
    .addOption(new Option("--plaintext", "speak http to another machine too").default(false).env("OUTRIGGER_CONTROL_PLAINTEXT"))
    .addOption(count("--boot-grace <seconds>", "how long control is waited for before the disk is used").env("OUTRIGGER_BOOT_GRACE"))
    .addOption(count("--max-stale <seconds>", "how old a policy on the disk may be to start with").env("OUTRIGGER_MAX_STALE"))
    .addOption(
      count("--capability-level <level>", "what policy may ask of it, as if it were an older build").env("OUTRIGGER_CAPABILITY_LEVEL"),
    )
    .action(async (options) => {
      const { sidecar } = await import("./commands/sidecar.ts");
      finish(
        await sidecar(world, terminal(), {
          settings: {
            ...settingsOf(options),
            ...(options.capabilityLevel === undefined ? {} : { capabilityLevel: options.capabilityLevel }),
          },
          logFormat: logFormat(world, options.logFormat),
          mesh: {
            control: options.control,
            stateFolder: options.state === false ? null : (options.state ?? stateFolder(world, options.port)),
            joinToken: options.joinToken ?? null,
            tokenFile: options.tokenFile ?? null,
            authorityFile: options.controlCa ?? null,
            namespace: options.namespace ?? null,
            account: options.account ?? null,
            instance: options.instance ?? null,
            plaintext: options.plaintext,
            ...(options.bootGrace === undefined ? {} : { bootGraceMs: options.bootGrace * 1000 }),
            ...(options.maxStale === undefined ? {} : { maxStaleMs: options.maxStale * 1000 }),
          },
          joinTokenFile: options.joinTokenFile,
        }),
      );
    });

  addCaller(program.command("chat"))
    .description("ask a running sidecar, and see the answer as it arrives")
    .argument("[prompt...]", "what to ask; without it, standard input or a conversation")
    .option("--system <text>", "instructions for the model")
    .option("--max-tokens <count>", "the most tokens of an answer", (text) => whole(text, 1))
    .action(async (prompt, options) => {
      const { chat } = await import("./commands/chat.ts");
      finish(await chat(world, terminal(), { ...options, prompt: prompt.join(" ") }));
    });

  program
    .command("check")
    .description("say what is wrong with policy, without running it")
    .requiredOption("-f, --file <path...>", "files and folders with policy")
    .option("--exposed", "the sidecar will be reachable from other machines", false)
    .action(async (options) => {
      const { check } = await import("./commands/check.ts");
      finish(await check(world, terminal(), { files: options.file, exposed: options.exposed }));
    });

  addCaller(program.command("explain"))
    .description("say what would be decided about a call, without sending it")
    .argument("[prompt...]", "what would be asked", ["hello"])
    .option("-f, --file <path...>", "policy to ask, in place of a running sidecar")
    .action(async (prompt, options) => {
      const { explain } = await import("./commands/explain.ts");
      finish(await explain(world, terminal(), { ...options, files: options.file, prompt: prompt.join(" ") }));
    });

  const keys = program.command("keys").description("make API keys for consumers, and the hashes that policy holds");
  keys
    .command("create")
    .description("make a key")
    .action(async () => {
      const { createKey } = await import("./commands/keys.ts");
      finish(await createKey(world, terminal()));
    });
  keys
    .command("hash")
    .description("give the hash of a key that is read from standard input")
    .action(async () => {
      const { hashKey } = await import("./commands/keys.ts");
      finish(await hashKey(world, terminal()));
    });
  addControlWords(program, world, terminal, finish);
  return program;
}

/** Where a sidecar keeps what outlives it, unless told otherwise: a folder for each port, since each sidecar has its own. */
function stateFolder(world: World, doors: number): string {
  const home = stateHome(world);
  if (home === undefined)
    throw new Failure("There is no home folder to keep state in.", "Say where with --state, or use --no-state.", ExitCode.usage);
  return join(home, "outrigger", `sidecar-${doors}`);
}

function logFormat(world: World, wanted: "auto" | "text" | "json"): "text" | "json" {
  if (wanted !== "auto") return wanted;
  return world.stderr.isTTY === true ? "text" : "json";
}

/** The options of commands that start a sidecar. */
function addListening(command: Command): Command {
  return command
    .addOption(new Option("--host <address>", "the address to listen on").default("127.0.0.1").env("OUTRIGGER_HOST"))
    .addOption(port("--port <port>", "the port of all doors; 0 takes any free one", 7410).env("OUTRIGGER_PORT"))
    .addOption(port("--ops-port <port>", "the port of health, metrics and drain; 0 takes any free one", 7412).env("OUTRIGGER_OPS_PORT"));
}

/** The options of commands that run a sidecar for others than whoever tries it out. */
function addServing(command: Command) {
  return addListening(command)
    .addOption(new Option("--socket <path>", "a Unix socket with the same doors").env("OUTRIGGER_SOCKET"))
    .addOption(new Option("--no-listen", "no TCP port for the doors"))
    .addOption(new Option("--no-ops", "no port for operations"))
    .addOption(new Option("--ops-host <address>", "the address of operations; that of the doors unless given").env("OUTRIGGER_OPS_HOST"))
    .addOption(
      new Option("--cors-origin <origin...>", "web origins that may call, beside pages of this machine").env("OUTRIGGER_CORS_ORIGIN"),
    )
    .addOption(
      new Option("--log-level <level>", "from when on log lines are written")
        .choices(["debug", "info", "warn", "error", "silent"])
        .default("info")
        .env("OUTRIGGER_LOG_LEVEL"),
    )
    .addOption(
      new Option("--log-format <format>", "lines for people, or JSON for machines; auto looks at whether they go to a terminal")
        .choices(["auto", "text", "json"])
        .default("auto")
        .env("OUTRIGGER_LOG_FORMAT"),
    )
    .addOption(count("--log-one-in <count>", "log one of this many calls that went well; every failed one is").env("OUTRIGGER_LOG_ONE_IN"))
    .addOption(count("--calls-max <count>", "calls in flight at most").env("OUTRIGGER_CALLS_MAX"))
    .addOption(count("--request-bytes-max <bytes>", "the most bytes of one request").env("OUTRIGGER_REQUEST_BYTES_MAX"))
    .addOption(
      count("--sealed-bytes-max <bytes>", "the most bytes of sealed thinking kept for callers who cannot carry it").env(
        "OUTRIGGER_SEALED_BYTES_MAX",
      ),
    )
    .addOption(count("--drain-grace <seconds>", "how long running calls may take to end once it stops").env("OUTRIGGER_DRAIN_GRACE"))
    .addOption(new Option("--no-reflection", "gRPC clients may not ask which services there are"));
}

/** The options of commands that are control and sidecar at once. */
function addApi<Given extends Command>(command: Given): Given {
  command
    .addOption(
      port("--api-port <port>", "the port of the Policy API on this machine; 0 takes any free one", 7411).env("OUTRIGGER_API_PORT"),
    )
    .addOption(new Option("--no-api", "no Policy API"));
  return command;
}

/** The Policy API as the options have it. Only whoever names a port insists on it: two that are started plainly are not in each other's way. */
function apiOf(
  command: Command,
  { api, apiPort }: { readonly api: boolean; readonly apiPort: number },
  corsOrigins: readonly string[],
  logLevel: PolicyApiOptions["logLevel"],
): PolicyApiOptions | null {
  return api ? { port: apiPort, isWanted: command.getOptionValueSource("apiPort") !== "default", corsOrigins, logLevel } : null;
}

/** The options of commands that call a sidecar. */
function addCaller(command: Command): Command {
  return command
    .addOption(new Option("--address <address>", "where the sidecar is").default("127.0.0.1:7410").env("OUTRIGGER_ADDRESS"))
    .addOption(new Option("--key <key>", "the API key of a consumer; better set as OUTRIGGER_API_KEY").env("OUTRIGGER_API_KEY"))
    .addOption(new Option("-m, --model <name>", "the model to ask").default("smart").env("OUTRIGGER_MODEL"));
}

function count(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text) => whole(text, 0));
}

/** The settings of a sidecar from the options of `run`. What was not given is left to the settings' own defaults. */
function settingsOf(options: {
  readonly host: string;
  readonly port: number;
  readonly opsPort: number;
  readonly opsHost?: string;
  readonly listen: boolean;
  readonly ops: boolean;
  readonly socket?: string;
  readonly corsOrigin?: string | readonly string[];
  readonly logLevel: NonNullable<GivenSettings["logLevel"]>;
  readonly logOneIn?: number;
  readonly callsMax?: number;
  readonly requestBytesMax?: number;
  readonly sealedBytesMax?: number;
  readonly drainGrace?: number;
  readonly reflection: boolean;
}): GivenSettings {
  const origins = typeof options.corsOrigin === "string" ? options.corsOrigin.split(/[\s,]+/) : options.corsOrigin;
  return {
    listen: options.listen ? { host: options.host, port: options.port } : null,
    ops: options.ops ? { host: options.opsHost ?? options.host, port: options.opsPort } : null,
    socketPath: options.socket ?? null,
    logLevel: options.logLevel,
    reflection: options.reflection,
    ...(origins === undefined ? {} : { corsOrigins: origins.filter((origin) => origin !== "") }),
    ...(options.logOneIn === undefined ? {} : { logOneIn: options.logOneIn }),
    ...(options.callsMax === undefined ? {} : { callsMax: options.callsMax }),
    ...(options.requestBytesMax === undefined ? {} : { requestBytesMax: options.requestBytesMax }),
    ...(options.sealedBytesMax === undefined ? {} : { sealedBytesMax: options.sealedBytesMax }),
    ...(options.drainGrace === undefined ? {} : { drainGraceMs: options.drainGrace * 1000 }),
  };
}
