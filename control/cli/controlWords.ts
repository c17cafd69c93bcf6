/** The words of the commands that run a control or ask one. */
import { join } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { port, whole } from "./numbers.ts";
import { stateHome } from "./stateHome.ts";
import type { Terminal } from "./terminal.ts";
import { controlAddress, podFolder, type World } from "./world.ts";

/** Adds them. `finish` takes what a command ends with. */
export function addControlWords(program: Command, world: World, terminal: () => Terminal, finish: (code: number) => void): void {
  addData(program.command("control"), world)
    .description("run the service that holds policy and hands every sidecar what it may use")
    .addOption(
      new Option("--store <store>", "where policy is kept: memory, sqlite:FILE, files:DIR or read-only:DIR").env("OUTRIGGER_STORE"),
    )
    .addOption(new Option("--host <address>", "the address to listen on").default("127.0.0.1").env("OUTRIGGER_CONTROL_HOST"))
    .addOption(port("--port <port>", "the port of all services; 0 takes any free one", 7411).env("OUTRIGGER_CONTROL_PORT"))
    .addOption(port("--ops-port <port>", "the port of health and metrics; 0 takes any free one", 7413).env("OUTRIGGER_CONTROL_OPS_PORT"))
    .addOption(new Option("--socket <path>", "a Unix socket with the same services").env("OUTRIGGER_CONTROL_SOCKET"))
    .addOption(new Option("--no-listen", "no TCP port for the services"))
    .addOption(new Option("--no-ops", "no port for operations"))
    .addOption(new Option("--ops-host <address>", "the address of operations").default("127.0.0.1").env("OUTRIGGER_CONTROL_OPS_HOST"))
    .addOption(new Option("--tls-cert <file>", "a certificate in PEM").env("OUTRIGGER_CONTROL_TLS_CERT"))
    .addOption(new Option("--tls-key <file>", "the certificate's key in PEM").env("OUTRIGGER_CONTROL_TLS_KEY"))
    .addOption(
      new Option("--secrets <folder>", "secrets that control delivers: a folder for each namespace, a file for each secret").env(
        "OUTRIGGER_CONTROL_SECRETS",
      ),
    )
    .addOption(
      new Option("--tls-host <host...>", "names and addresses of control for a certificate of its own authority; then there is TLS").env(
        "OUTRIGGER_CONTROL_TLS_HOST",
      ),
    )
    .addOption(
      new Option("--rollout <way>", "how changes reach sidecars that say nothing about it")
        .choices(["at-once", "staged"])
        .default("at-once")
        .env("OUTRIGGER_CONTROL_ROLLOUT"),
    )
    .addOption(
      new Option(
        "--trust-cluster [api-server]",
        "take sidecars by the service-account tokens of a Kubernetes cluster; of this pod's unless given",
      )
        .preset("https://kubernetes.default.svc")
        .env("OUTRIGGER_CONTROL_TRUST_CLUSTER"),
    )
    .addOption(
      new Option("--cluster-ca <file>", "the certificate of the API server's authority in PEM")
        .default(`${podFolder}/ca.crt`)
        .env("OUTRIGGER_CONTROL_CLUSTER_CA"),
    )
    .addOption(
      new Option("--cluster-token <file>", "the token with which the API server is asked")
        .default(`${podFolder}/token`)
        .env("OUTRIGGER_CONTROL_CLUSTER_TOKEN"),
    )
    .addOption(
      new Option("--cluster-issuer <url>", "who issues the tokens, if it is not whom the API server names").env(
        "OUTRIGGER_CONTROL_CLUSTER_ISSUER",
      ),
    )
    .addOption(
      new Option("--cold-starts <number>", "sidecars a second that are let in and have nothing yet")
        .argParser((text) => whole(text, 1, 2_000))
        .env("OUTRIGGER_CONTROL_COLD_STARTS"),
    )
    .addOption(new Option("--accept-rollback", "let sidecars go back to a store that was restored from a backup").default(false))
    .addOption(new Option("--plaintext", "serve without TLS beyond this machine too").default(false).env("OUTRIGGER_CONTROL_PLAINTEXT"))
    .addOption(new Option("--cors-origin <origin...>", "web origins whose pages may call").env("OUTRIGGER_CONTROL_CORS_ORIGIN"))
    .addOption(new Option("--local-token", "make a token for this machine even if there are others").default(false))
    .addOption(
      new Option("--log-level <level>", "from when on log lines are written")
        .choices(["debug", "info", "warn", "error", "silent"])
        .default("info")
        .env("OUTRIGGER_LOG_LEVEL"),
    )
    .addOption(
      new Option("--drain-grace <seconds>", "how long sidecars may take to leave once it stops").argParser((text) => whole(text, 0)),
    )
    .action(async (options) => {
      const { control } = await import("./commands/control.ts");
      const origins = several(options.corsOrigin);
      const tlsHosts = several(options.tlsHost);
      finish(
        await control(world, terminal(), {
          store: options.store,
          settings: {
            dataFolder: options.data,
            listen: options.listen ? { host: options.host, port: options.port } : null,
            ops: options.ops ? { host: options.opsHost, port: options.opsPort } : null,
            socketPath: options.socket ?? null,
            tls: tlsOf(options.tlsCert, options.tlsKey),
            secretsFolder: options.secrets ?? null,
            plaintext: options.plaintext,
            ...(tlsHosts === undefined ? {} : { tlsHosts: [...tlsHosts] }),
            rollout: options.rollout === "staged" ? "staged" : "at once",
            cluster: clusterOf(options),
            acceptRollback: options.acceptRollback,
            ...(options.coldStarts === undefined ? {} : { coldStartsPerSecond: options.coldStarts }),
            localToken: options.localToken,
            logLevel: options.logLevel,
            ...(origins === undefined ? {} : { corsOrigins: [...origins] }),
            ...(options.drainGrace === undefined ? {} : { drainGraceMs: options.drainGrace * 1000 }),
          },
        }),
      );
    });

  addControl(program.command("apply"))
    .description("make policy from files and folders hold, all of it or nothing")
    .requiredOption("-f, --file <path...>", "files and folders with policy")
    .option("--owner <name>", "whose resources these are, such as a repository", "")
    .option("--prune", "remove what the owner has and the files leave out", false)
    .option("--dry-run", "plan and check, and change nothing", false)
    .addOption(new Option("--staged", "a few sidecars first, each stage watched, and back by itself if it does harm").default(false))
    .addOption(new Option("--at-once", "all sidecars at once, after the dry run").default(false).conflicts("staged"))
    .option("--reason <text>", "why, for the record", "")
    .action(async ({ file, ...options }) => {
      const { apply } = await import("./commands/apply.ts");
      finish(await apply(world, terminal(), { ...options, files: file }));
    });

  addControl(program.command("diff"))
    .description("say what applying files and folders would change; ends with 3 if that is anything")
    .requiredOption("-f, --file <path...>", "files and folders with policy")
    .option("--owner <name>", "whose resources these are", "")
    .option("--prune", "count what the owner has and the files leave out as a difference", false)
    .action(async ({ file, ...options }) => {
      const { diff } = await import("./commands/apply.ts");
      finish(await diff(world, terminal(), { ...options, files: file }));
    });

  addControl(program.command("dump"))
    .description("print the policy that holds, as files for `outrigger apply`")
    .option("--kind <kind>", "resources of this kind", "")
    .option("--namespace <name>", "resources of this namespace", "")
    .option("--owner <name>", "resources of this owner", "")
    .action(async (options) => {
      const { dump } = await import("./commands/dump.ts");
      finish(await dump(world, terminal(), options));
    });

  addControl(program.command("revisions"))
    .description("say who changed policy, when and why")
    .option("--limit <count>", "how many, the newest first", (text) => whole(text, 1, 1000), 20)
    .option("--show <revision>", "what this one changed, field by field", (text) => whole(text, 1))
    .action(async ({ show, ...options }) => {
      const { revisions, showRevision } = await import("./commands/revisions.ts");
      finish(
        await (show === undefined
          ? revisions(world, terminal(), options)
          : showRevision(world, terminal(), { ...options, revision: show })),
      );
    });

  addControl(program.command("rollback"))
    .description("make the policy of an earlier revision hold again; without one, of the revision before the newest")
    .argument("[revision]", "which", (text) => whole(text, 1))
    .option("--dry-run", "plan and check, and change nothing", false)
    .option("--reason <text>", "why, for the record", "")
    .action(async (revision, options) => {
      const { rollback } = await import("./commands/revisions.ts");
      finish(await rollback(world, terminal(), { ...options, revision }));
    });

  addControl(program.command("status"))
    .description(
      "say which sidecar enforces which policy, and why one refused; ends with 3 if one does not enforce what it should, or is not connected",
    )
    .option("--namespace <name>", "sidecars whose accounts are in this namespace", "")
    .option("--behind", "only those that do not enforce what they should, or are not connected", false)
    .option("--connected", "only those that are connected", false)
    .action(async (options) => {
      const { status } = await import("./commands/status.ts");
      finish(await status(world, terminal(), options));
    });

  const rollout = program.command("rollout").description("see and end changes that are on their way to the sidecars in stages");
  addControl(rollout.command("list"))
    .description("list roll-outs, the newest first")
    .action(async (options) => {
      const { listRollouts } = await import("./commands/status.ts");
      finish(await listRollouts(world, terminal(), options));
    });
  for (const [word, promote, description] of [
    ["promote", true, "give the change to everybody at once"],
    ["stop", false, "take the change back"],
  ] as const) {
    addControl(rollout.command(word))
      .description(description)
      .argument("<id>", "which roll-out")
      .action(async (id, options) => {
        const { endRollout } = await import("./commands/status.ts");
        finish(await endRollout(world, terminal(), { ...options, id, promote }));
      });
  }

  const joinToken = program.command("join-token").description("make tokens with which sidecars join");
  addControl(joinToken.command("create"))
    .description("make a token")
    .requiredOption("--account <name>", "the account that those sidecars get")
    .option("--namespace <name>", "the namespace of that account", "default")
    .addOption(new Option("--expires <time>", "how long it can be used, such as 1h or 30d").default(span("1h"), "1h").argParser(span))
    .option("--uses <count>", "how many sidecars may join with it", (text) => whole(text, 1, 100_000), 1)
    .action(async ({ expires: lifetimeMs, ...options }) => {
      const { createJoinToken } = await import("./commands/joinToken.ts");
      finish(await createJoinToken(world, terminal(), { ...options, lifetimeMs }));
    });

  addData(program.command("trust"), world)
    .description("print the certificate by which sidecars and people know control; without its key")
    .action(async ({ data }) => {
      const { trust } = await import("./commands/trust.ts");
      finish(await trust(world, terminal(), data));
    });

  addData(program.command("rotate-key"), world)
    .description("make another key that signs roots, in control's data folder; a control that runs takes it once it starts again")
    .action(async ({ data }) => {
      const { rotateKey } = await import("./commands/rotateKey.ts");
      finish(await rotateKey(terminal(), data));
    });

  const token = program.command("token").description("make, list and revoke tokens of people and pipelines, in control's data folder");
  addData(token.command("create"), world)
    .description("make a token")
    .argument("<name>", "who or what it is for; stands in the record of changes")
    .addOption(new Option("--role <role>", "readers read and plan, editors change").choices(["reader", "editor"]).default("reader"))
    .addOption(
      new Option("--expires <time>", "how long it is good, such as 90d, 12h or never").default(lifetime("90d"), "90d").argParser(lifetime),
    )
    .action(async (name, options) => {
      const { createToken } = await import("./commands/token.ts");
      const { data: dataFolder, role, expires } = options;
      finish(await createToken(world, terminal(), { dataFolder, name, role, lifetimeMs: expires === "never" ? null : expires }));
    });
  addData(token.command("list"), world)
    .description("list tokens")
    .action(async ({ data }) => {
      const { listTokens } = await import("./commands/token.ts");
      finish(await listTokens(world, terminal(), data));
    });
  addData(token.command("revoke"), world)
    .description("take a token back")
    .argument("<name>", "which")
    .action(async (name, { data }) => {
      const { revokeToken } = await import("./commands/token.ts");
      finish(await revokeToken(world, terminal(), data, name));
    });
}

/** The options of commands that ask a control. */
function addControl(command: Command): Command {
  return command
    .addOption(new Option("--control <address>", "where control is").default(controlAddress).env("OUTRIGGER_CONTROL"))
    .addOption(new Option("--control-ca <file>", "the authority of control's certificate, in PEM").env("OUTRIGGER_CONTROL_CA"));
}

/** The option of commands that use control's data folder. */
function addData(command: Command, world: World): Command {
  // A place of the user's own and not the folder one happens to be in: the next command must find the same keys and tokens.
  return command.addOption(
    new Option("--data <folder>", "the folder with control's keys and tokens")
      .default(join(stateHome(world) ?? ".local/state", "outrigger/control"))
      .env("OUTRIGGER_DATA"),
  );
}

function tlsOf(certificatePath: string | undefined, keyPath: string | undefined) {
  if (certificatePath === undefined && keyPath === undefined) return null;
  if (certificatePath !== undefined && keyPath !== undefined) return { certificatePath, keyPath };
  throw new InvalidArgumentError("--tls-cert and --tls-key go together.");
}

/** A time such as 90d in milliseconds, or `never`. */
function lifetime(text: string): number | "never" {
  return text === "never" ? text : span(text);
}

/** A time such as 90d, 12h, 30m or 45s in milliseconds. */
function span(text: string): number {
  const [, amount, unit] = /^([1-9]\d{0,6})(s|m|h|d)$/.exec(text) ?? [];
  const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit ?? ""];
  if (amount === undefined || unitMs === undefined) throw new InvalidArgumentError("Expected a time such as 90d, 12h, 30m or 45s.");
  return Number(amount) * unitMs;
}

/** What a flag gives as several words and the environment as one text. */
function several(given: string | readonly string[] | undefined): readonly string[] | undefined {
  return typeof given === "string" ? given.split(/[\s,]+/).filter((one) => one !== "") : given;
}

/** The cluster that is trusted, as the settings want it. */
function clusterOf(options: {
  readonly trustCluster?: string;
  readonly clusterCa: string;
  readonly clusterToken: string;
  readonly clusterIssuer?: string;
}) {
  const { trustCluster: origin, clusterCa: caPath, clusterToken: tokenPath, clusterIssuer: issuer = null } = options;
  return origin === undefined ? null : { origin, caPath, tokenPath, issuer };
}
