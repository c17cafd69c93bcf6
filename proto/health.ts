/**
 * gRPC's health service (https://github.com/grpc/grpc/blob/master/doc/health-checking.md): whether new calls are taken here.
 */
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import {
  type Health,
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "./gen/grpc/health/v1/health_pb.ts";

/** Who serves. */
export interface Serving {
  readonly clock: {
    /** Calls `then` after a time; the function returned takes that back. */
    after(delayMs: number, then: () => void): () => void;
  };
  /** Whether it is about to stop and takes nothing new. */
  draining(): boolean;
}

/** How often a watcher's status is looked at: later than this no client hears that the server stops. */
const watchEveryMs = 1_000;

/**
 * Answers for the services of these names, and under the empty name for all of them together. A service that is not named is not found.
 */
export function healthService(house: Serving, names: readonly string[]): ServiceImpl<typeof Health> {
  const known = new Set(["", ...names]);

  function serving(): ServingStatus {
    return house.draining() ? ServingStatus.NOT_SERVING : ServingStatus.SERVING;
  }

  return {
    check({ service }) {
      if (!known.has(service)) throw unknown(service);
      return answer(serving());
    },

    list() {
      const status = serving();
      return {
        $typeName: "grpc.health.v1.HealthListResponse",
        statuses: Object.fromEntries([...known].map((name) => [name, answer(status)])),
      };
    },

    async *watch({ service }, { signal }) {
      let last: ServingStatus | undefined;
      while (!signal.aborted) {
        const status = known.has(service) ? serving() : ServingStatus.SERVICE_UNKNOWN;
        if (status !== last) yield answer(status);
        last = status;
        // Having heard that the server stops, a watcher has nothing more to learn, and must not be what it waits for.
        if (status === ServingStatus.NOT_SERVING) return;
        await pause(house, watchEveryMs, signal);
      }
      throw signal.reason;
    },
  };
}

function answer(status: ServingStatus): HealthCheckResponse {
  return { $typeName: "grpc.health.v1.HealthCheckResponse", status };
}

/** The health service has a status of its own for this, which is no failure of a call and so none of our faults. */
function unknown(service: string): ConnectError {
  return new ConnectError(`There is no service '${service.slice(0, 200)}' here.`, Code.NotFound);
}

/** Waits, or until the signal is aborted. */
function pause({ clock }: Serving, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(delayMs, done);
    function done(): void {
      cancel();
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}
