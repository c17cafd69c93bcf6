/** What a model name means: finds the route that answers to it for this consumer, and draws one of its targets. */
import { Fault, FaultReason } from "../../proto/fault.ts";
import { type ModelRoute, UnsupportedParams } from "../../proto/gen/outrigger/policy/v1/model_route_pb.ts";
import { exactness, isPattern, matcher } from "../../proto/pattern.ts";
import type { Resources } from "../../proto/resources.ts";
import type { CallConsumer, CallTarget, Filter, ListedModel, Random } from "../call.ts";

/** How many model names a fault lists: enough to see a typing error, few enough to read. */
const listedNamesMax = 20;

/** The way to one provider; undefined if there is none of that name. `timeoutMs` is the route's, or undefined for the provider's. */
export type SendTo = (provider: string, timeoutMs: number | undefined) => Pick<CallTarget, "send" | "seals"> | undefined;

/** What `compileRoute` makes. */
export interface Route {
  readonly filter: Filter;
  /** The model names that a consumer may ask for, sorted; patterns are not names and are left out. */
  models(consumer: CallConsumer): readonly ListedModel[];
}

/** Compiles the routes. Every provider that a route names must exist: `proto/resources.ts` refuses a policy in which one does not. */
export function compileRoute(resources: Resources, sendTo: (namespace: string) => SendTo, random: Random): Route {
  const tables = new Map<string, RouteTable>();
  for (const route of resources.routes) {
    const namespace = route.metadata?.namespace || "default";
    let table = tables.get(namespace);
    if (table === undefined) {
      table = { exact: new Map(), patterns: [] };
      tables.set(namespace, table);
    }
    const compiled = compileOne(route, sendTo(namespace));
    for (const model of route.spec?.match?.models ?? []) {
      if (isPattern(model)) table.patterns.push({ fits: matcher(model), exactness: exactness(model), route: compiled });
      else {
        const routes = table.exact.get(model);
        if (routes === undefined) table.exact.set(model, [compiled]);
        else routes.push(compiled);
      }
    }
  }
  // A pattern that names more of what it fits goes before one that names less; among equals the name decides, so that the order of files never does.
  for (const table of tables.values()) {
    table.patterns.sort((a, b) => b.exactness - a.exactness || (a.route.name < b.route.name ? -1 : 1));
  }

  function models(consumer: CallConsumer): ListedModel[] {
    const listed: ListedModel[] = [];
    for (const [name, routes] of tables.get(consumer.namespace)?.exact ?? []) {
      const route = routes.find((candidate) => mayUse(consumer, candidate));
      if (route !== undefined) listed.push({ name, route: route.name });
    }
    return listed.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  function find(consumer: CallConsumer, model: string): CompiledRoute {
    const table = tables.get(consumer.namespace);
    let known = false;
    for (const route of table?.exact.get(model) ?? []) {
      if (mayUse(consumer, route)) return route;
      known = true;
    }
    for (const { fits, route } of table?.patterns ?? []) {
      if (!fits(model)) continue;
      if (mayUse(consumer, route)) return route;
      known = true;
    }
    throw refusal(known, model, models(consumer));
  }

  return {
    models,
    filter: function route(call, next) {
      const { consumer } = call;
      if (consumer === undefined) throw new Error("route comes after identify");
      const found = find(consumer, call.request.model);
      const target = found.draw(random, call.request.model);
      call.notes.route = found.name;
      call.notes.decisions?.push({
        filter: "route",
        outcome: `model ${call.request.model} goes by route ${found.name} to provider ${target.provider}`,
        facts: { route: found.name, provider: target.provider, model: target.model, targets: String(found.targetCount) },
      });
      return next({ ...call, target });
    },
  };
}

interface RouteTable {
  readonly exact: Map<string, CompiledRoute[]>;
  readonly patterns: { readonly fits: (model: string) => boolean; readonly exactness: number; readonly route: CompiledRoute }[];
}

interface CompiledRoute {
  readonly name: string;
  /** Names of the consumers that may use it; empty means everyone. */
  readonly consumers: ReadonlySet<string>;
  readonly targetCount: number;
  draw(random: Random, model: string): CallTarget;
}

function mayUse(consumer: CallConsumer, route: CompiledRoute): boolean {
  if (route.consumers.size > 0) return route.consumers.has(consumer.name);
  return consumer.routes.size === 0 || consumer.routes.has(route.name);
}

function compileOne(route: ModelRoute, sendTo: SendTo): CompiledRoute {
  const name = route.metadata?.name ?? "";
  const { timeout } = route.spec ?? {};
  const timeoutMs = timeout === undefined ? undefined : Number(timeout.seconds) * 1000 + timeout.nanos / 1e6;
  const dropUnsupported = route.spec?.unsupportedParams === UnsupportedParams.DROP;
  const targets: { readonly upTo: number; readonly target: CallTarget }[] = [];
  let total = 0;
  for (const { provider, model, weight } of route.spec?.targets ?? []) {
    const way = sendTo(provider, timeoutMs);
    if (way === undefined) throw new Error(`route ${name} names provider ${provider}, which does not exist`);
    total += weight || 1;
    targets.push({ upTo: total, target: Object.freeze({ route: name, provider, model, dropUnsupported, ...way }) });
  }
  return {
    name,
    consumers: new Set(route.spec?.match?.consumers),
    targetCount: targets.length,
    draw(random, model) {
      const at = targets.length === 1 ? 0 : random.next() * total;
      const drawn = targets.find(({ upTo }) => at < upTo) ?? targets.at(-1);
      if (drawn === undefined) throw new Error(`route ${name} has no target`);
      return drawn.target.model === "" ? { ...drawn.target, model } : drawn.target;
    },
  };
}

function refusal(known: boolean, model: string, allowed: readonly ListedModel[]): Fault {
  const names = allowed.slice(0, listedNamesMax).map(({ name }) => name);
  const more = allowed.length > names.length ? ` and ${allowed.length - names.length} more` : "";
  const may = names.length === 0 ? "There is no model that you may use by name." : `You may use: ${names.join(", ")}${more}.`;
  // The name is the caller's own text: shown in part, so that a huge one does not come back whole.
  const asked = model.length > 100 ? `${model.slice(0, 100)}...` : model;
  return known
    ? new Fault(FaultReason.MODEL_NOT_ALLOWED, `You may not use the model '${asked}'. ${may}`, { field: "model", facts: { model: asked } })
    : new Fault(FaultReason.MODEL_NOT_FOUND, `No route answers to the model '${asked}'. ${may}`, {
        field: "model",
        facts: { model: asked },
      });
}
