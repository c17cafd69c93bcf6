/** Calls a running control for the commands that ask one, and turns what goes wrong into plain words. */
import { readFileSync } from "node:fs";
import { createConnection } from "node:net";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.ts";
import { PolicyService } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { type PolicyProblem, ProblemSeverity } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { SidecarService } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import type { Problem } from "../../proto/resources/problem.ts";
import { type FoundToken, findLocalToken, isToken } from "./localToken.ts";
import { ExitCode, Failure, type World } from "./world.ts";

/** Which control, and as whom. */
export interface ControlOptions {
  /** Host and port, an http or https address, or `unix:` and the path of a socket. */
  readonly control: string;
  /** A file with the authority that control's certificate is from, in PEM; undefined for those that the machine trusts. */
  readonly controlCa?: string;
}

/** The services of a control. Calls reject with a `Failure`. */
export interface ControlClient {
  readonly policy: Client<typeof PolicyService>;
  readonly sidecars: Client<typeof SidecarService>;
}

/** A client of the control at an address, with the token that the environment has. Nothing is connected until it is used. */
export function openControl(world: World, { control, controlCa }: ControlOptions): ControlClient {
  const kept = tokenOf(world) === undefined ? findLocalToken(world, control) : undefined;
  const token = tokenOf(world) ?? kept?.token;
  const inPlainWords: Interceptor = (next) => async (request) => {
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    try {
      return await next(request);
    } catch (error) {
      throw new ConnectError("", Code.Unknown, undefined, undefined, await controlFailure(error, control, kept));
    }
  };
  const socketPath = control.startsWith("unix:") ? control.slice("unix:".length) : undefined;
  const ca = controlCa === undefined ? undefined : readText(controlCa, "--control-ca");
  const transport = createConnectTransport({
    httpVersion: "1.1",
    baseUrl: socketPath === undefined ? (kept?.address ?? urlOf(control)) : "http://localhost",
    interceptors: [inPlainWords],
    nodeOptions: { ...(socketPath === undefined ? {} : { socketPath }), ...(ca === undefined ? {} : { ca }) },
  });
  return { policy: createClient(PolicyService, transport), sidecars: createClient(SidecarService, transport) };
}

/** Calls, and throws what went wrong as a `Failure`. */
export async function asked<Answer>(call: Promise<Answer>): Promise<Answer> {
  try {
    return await call;
  } catch (error) {
    throw error instanceof ConnectError && error.cause instanceof Failure ? error.cause : error;
  }
}

/** A problem that control told, as the commands show problems. */
export function problemOfMessage(told: PolicyProblem): Problem {
  const { kind, name, field, message, hint, path, line, column } = told;
  const severity = told.severity === ProblemSeverity.WARNING ? "warning" : "error";
  const place = path === "" ? {} : { file: path, ...(line === 0 ? {} : { line, column }) };
  // A later control may tell of problems that this build has no name for; they are shown by the name that they came with.
  return { id: told.id as Problem["id"], severity, kind, name, field, message, hint, ...place };
}

function tokenOf({ environment }: World): string | undefined {
  const given = environment.OUTRIGGER_CONTROL_TOKEN;
  if (given !== undefined && given !== "") return tokenIn(given, "OUTRIGGER_CONTROL_TOKEN");
  const path = environment.OUTRIGGER_CONTROL_TOKEN_FILE;
  if (path === undefined || path === "") return undefined;
  return tokenIn(readText(path, "OUTRIGGER_CONTROL_TOKEN_FILE"), `${path}, which OUTRIGGER_CONTROL_TOKEN_FILE names,`);
}

/** The token that a text holds. One that cannot stand in a header is refused here, since who refuses it there says all of it aloud. */
function tokenIn(text: string, whence: string): string {
  const token = text.trim();
  if (isToken(token)) return token;
  throw new Failure(
    `${whence} holds no token: expected one word, without blanks and line breaks.`,
    "Leave out what else `outrigger token create` says: the token is its standard output.",
    ExitCode.usage,
  );
}

function readText(path: string, whence: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    throw new Failure(`${path}, which ${whence} names, cannot be read (${code}).`, "Name a file that this user may read.", 2);
  }
}

function urlOf(address: string): string {
  const url = address.includes("://") ? address : `http://${address}`;
  if (/^https?:\/\//.test(url) && URL.canParse(url)) return url.replace(/\/+$/, "");
  throw new Failure(`${address} is no address: expected host:port, https://host:port, or unix:/path.`, undefined, 2);
}

async function controlFailure(error: unknown, address: string, kept: FoundToken | undefined): Promise<Failure> {
  const failed = ConnectError.from(error);
  const reason = failed.findDetails(ErrorInfoSchema)[0]?.reason;
  if (reason !== undefined) {
    return new Failure(`${failed.rawMessage} (${reason})`, nextOf(reason, kept));
  }
  if (failed.code === Code.Canceled) return new Failure("The call was cancelled.");
  if (/certificate|self.signed|unable to verify/i.test(failed.rawMessage)) {
    return new Failure(
      `The certificate of ${address} is not believed: ${failed.rawMessage}.`,
      "Name the authority's certificate with --control-ca; `outrigger trust` prints it where control runs.",
    );
  }
  if (!(await answers(address))) {
    return new Failure(
      `Nothing listens at ${address}: expected control.`,
      "Start one with `outrigger control`, or say where it is with --control or OUTRIGGER_CONTROL.",
    );
  }
  return new Failure(
    `What listens at ${address} is no control, or of another version: ${plainly(failed.rawMessage)}.`,
    "Say where control is with --control; with https:// if it has a certificate, and with http:// if it has none.",
  );
}

/** What went wrong, without the places in OpenSSL's sources and the line breaks that its words have. */
function plainly(message: string): string {
  return message.replace(/^.*:SSL routines:[^:]*:([^:]+):[\s\S]*$/, "it does not speak TLS ($1)").trim();
}

function nextOf(reason: string, kept: FoundToken | undefined): string | undefined {
  const set = "OUTRIGGER_CONTROL_TOKEN, or OUTRIGGER_CONTROL_TOKEN_FILE to the path of a file that holds it";
  if (reason === "CREDENTIAL_MISSING") return `Set ${set}; \`run\` and \`demo\` are asked without, as the user who started them.`;
  // It was killed and left its token behind, and another process listens there now.
  if (reason === "CREDENTIAL_UNKNOWN" && kept !== undefined) return `The token in ${kept.path} is one of before. Set ${set}.`;
  if (reason === "REQUEST_TOO_LARGE")
    return "Nothing was changed. Apply fewer files at a time; without --prune the others stay as they are.";
  return undefined;
}

/** Whether anything takes connections there. */
function answers(address: string): Promise<boolean> {
  const where = address.startsWith("unix:") ? { path: address.slice("unix:".length) } : hostAndPort(new URL(urlOf(address)));
  return new Promise((done) => {
    const socket = createConnection(where);
    socket.on("connect", () => {
      socket.destroy();
      done(true);
    });
    socket.on("error", () => done(false));
  });
}

function hostAndPort(url: URL): { host: string; port: number } {
  return { host: url.hostname.replace(/^\[|\]$/g, ""), port: url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port) };
}
