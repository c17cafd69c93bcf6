/** Who may use which route, looked up instead of searched: whoever checks or divides a policy asks it of every route. */
import type { Consumer } from "../gen/outrigger/policy/v1/consumer_pb.ts";
import type { ModelRoute } from "../gen/outrigger/policy/v1/model_route_pb.ts";
import { nameOf, namespaceOf } from "./kinds.ts";

/** The consumers of a route's namespace that may use it: what both the route and the consumer say, where an empty list means all. */
export type UsersOf = (route: ModelRoute) => readonly Consumer[];

/** Makes the lookup. Consumers of one namespace have different names. */
export function indexUsers(consumers: readonly Consumer[]): UsersOf {
  const namespaces = new Map<string, Namespace>();
  for (const consumer of consumers) {
    const name = namespaceOf(consumer);
    let namespace = namespaces.get(name);
    if (namespace === undefined) {
      namespace = { byName: new Map(), open: [], byRoute: new Map() };
      namespaces.set(name, namespace);
    }
    const routes = new Set(consumer.spec?.routes);
    namespace.byName.set(nameOf(consumer), { consumer, routes });
    if (routes.size === 0) namespace.open.push(consumer);
    for (const route of routes) {
      const listed = namespace.byRoute.get(route);
      if (listed === undefined) namespace.byRoute.set(route, [consumer]);
      else listed.push(consumer);
    }
  }
  const known = new Map<ModelRoute, readonly Consumer[]>();
  return (route) => {
    const found = known.get(route);
    if (found !== undefined) return found;
    const namespace = namespaces.get(namespaceOf(route));
    const users = namespace === undefined ? [] : usersIn(namespace, route);
    known.set(route, users);
    return users;
  };
}

interface Namespace {
  readonly byName: Map<string, { readonly consumer: Consumer; readonly routes: ReadonlySet<string> }>;
  /** Those whose list of routes is empty. */
  readonly open: Consumer[];
  readonly byRoute: Map<string, Consumer[]>;
}

function usersIn({ byName, open, byRoute }: Namespace, route: ModelRoute): readonly Consumer[] {
  const name = nameOf(route);
  const named = route.spec?.match?.consumers ?? [];
  if (named.length === 0) return [...open, ...(byRoute.get(name) ?? [])];
  return [...new Set(named)].flatMap((one) => {
    const found = byName.get(one);
    return found !== undefined && (found.routes.size === 0 || found.routes.has(name)) ? found.consumer : [];
  });
}
