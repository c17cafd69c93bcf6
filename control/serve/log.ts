/** Control's log: one line of JSON for each thing that happened, and never a secret or the content of a resource. */
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { type Logger, pino } from "pino";
import { type Clock, isoTime } from "../clock.ts";
import { controlFault, controlFaultName } from "./fault.ts";
import { peerKey } from "./listener.ts";

/** From when on lines are written. */
export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** Opens the log. `write` takes whole lines. */
export function openLog(level: LogLevel, lines: { write(line: string): void }, clock: Pick<Clock, "wallMs">): Logger {
  return pino(
    {
      level,
      messageKey: "message",
      base: null,
      formatters: { level: (label) => ({ severity: label }) },
      timestamp: () => `,"time":"${isoTime(clock.wallMs())}"`,
    },
    lines,
  );
}

/** What requests are counted by. */
export type CountRequest = (service: string, method: string, code: string) => void;

/** Which method a request was for, and from where it came. */
export interface RequestFacts {
  readonly service: string;
  readonly method: string;
  readonly peer: string;
}

/** Takes note of a request's end. Returns what its caller may hear; undefined, as `error`, is a good end. */
export type EndRequest = (facts: RequestFacts, error: unknown) => ConnectError | undefined;

/**
 * Counts every request, logs those that failed here, and lets nothing out that is no fault: callers hear that it failed, and the log has
 * the cause.
 */
export function endRequests(log: Logger, count: CountRequest): EndRequest {
  return ({ service, method, peer }, error) => {
    if (error === undefined) {
      count(service, method, "OK");
      return undefined;
    }
    const fault = faultOf(error);
    count(service, method, Code[fault.code]);
    const facts = { service, method, code: Code[fault.code], reason: controlFaultName(fault), peer };
    if (fault.cause !== undefined)
      log.error({ ...facts, cause: fault.cause instanceof Error ? fault.cause.stack : String(fault.cause) }, "A request failed here.");
    // One line for each bad token, and none for those beyond the limit: nobody fills the log from outside.
    else if (fault.code === Code.Unauthenticated || fault.code === Code.PermissionDenied) log.warn(facts, "A request was refused.");
    else log.debug(facts, "A request was refused.");
    return fault;
  };
}

/** The same for what Connect's stack serves. */
export function watchRequests(ended: EndRequest): Interceptor {
  return (next) => async (request) => {
    const facts = (): RequestFacts => ({
      service: request.service.typeName,
      method: request.method.name,
      peer: request.contextValues.get(peerKey).address,
    });
    const failed = (error: unknown): unknown => ended(facts(), error);
    try {
      const response = await next(request);
      if (!response.stream) {
        ended(facts(), undefined);
        return response;
      }
      return { ...response, message: watched(response.message, failed, () => ended(facts(), undefined)) };
    } catch (error) {
      throw failed(error);
    }
  };
}

async function* watched<Message>(messages: AsyncIterable<Message>, failed: (error: unknown) => unknown, ended: () => void) {
  try {
    yield* messages;
  } catch (error) {
    throw failed(error);
  }
  ended();
}

function faultOf(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  return controlFault("INTERNAL", "Control failed at this request. Its log has the cause.", { cause: error });
}
