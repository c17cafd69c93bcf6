/**
 * The kinds of resources, each with its schema. A new kind is a new row.
 */
import type { DescMessage } from "@bufbuild/protobuf";
import { type Consumer, ConsumerSchema } from "../gen/outrigger/policy/v1/consumer_pb.ts";
import { type ModelRoute, ModelRouteSchema } from "../gen/outrigger/policy/v1/model_route_pb.ts";
import { type PriceBook, PriceBookSchema } from "../gen/outrigger/policy/v1/price_book_pb.ts";
import { type Provider, ProviderSchema } from "../gen/outrigger/policy/v1/provider_pb.ts";
import { type SidecarGrant, SidecarGrantSchema } from "../gen/outrigger/policy/v1/sidecar_grant_pb.ts";

/** What a platform decides, one message for each thing. */
export type Resource = Provider | ModelRoute | Consumer | PriceBook | SidecarGrant;

/** The name of a kind, as it stands at `kind`. */
export type KindName = "Provider" | "ModelRoute" | "Consumer" | "PriceBook" | "SidecarGrant";

/** A set of resources, by kind. The order of each list is that of namespace and name. */
export interface Resources {
  readonly providers: readonly Provider[];
  readonly routes: readonly ModelRoute[];
  readonly consumers: readonly Consumer[];
  readonly priceBooks: readonly PriceBook[];
  /** What control reads to decide which sidecar gets what; a sidecar itself never gets one. */
  readonly grants: readonly SidecarGrant[];
}

/** The version of the schema, as it stands at `apiVersion`. */
export const apiVersion = "outrigger.dev/v1alpha1";

/** The namespace of resources that name none. */
export const defaultNamespace = "default";

const schemas: Readonly<Record<KindName, DescMessage>> = Object.freeze({
  Provider: ProviderSchema,
  ModelRoute: ModelRouteSchema,
  Consumer: ConsumerSchema,
  PriceBook: PriceBookSchema,
  SidecarGrant: SidecarGrantSchema,
});

/** The names of all kinds. */
export const kindNames: readonly KindName[] = Object.freeze(Object.keys(schemas) as KindName[]);

/** The schema of a kind. */
export function schemaOf(kind: KindName): DescMessage {
  return schemas[kind];
}

/** Whether a text names a kind. */
export function isKindName(text: string): text is KindName {
  return Object.hasOwn(schemas, text);
}

/** The kind of a resource, as a name. */
export function kindOf(resource: Resource): KindName {
  switch (resource.$typeName) {
    case "outrigger.policy.v1.Provider":
      return "Provider";
    case "outrigger.policy.v1.ModelRoute":
      return "ModelRoute";
    case "outrigger.policy.v1.Consumer":
      return "Consumer";
    case "outrigger.policy.v1.PriceBook":
      return "PriceBook";
    case "outrigger.policy.v1.SidecarGrant":
      return "SidecarGrant";
  }
}

/** The namespace that a resource is in: `default` if it names none. */
export function namespaceOf(resource: Pick<Resource, "metadata">): string {
  const namespace = resource.metadata?.namespace ?? "";
  return namespace === "" ? defaultNamespace : namespace;
}

/** A resource's own name. */
export function nameOf(resource: Pick<Resource, "metadata">): string {
  return resource.metadata?.name ?? "";
}

/** Namespace and name, such as `default/fast`. */
export function fullNameOf(resource: Pick<Resource, "metadata">): string {
  return `${namespaceOf(resource)}/${nameOf(resource)}`;
}

/** Sorts a mixed list into a set. */
export function groupResources(list: readonly Resource[]): Resources {
  const groups = {
    providers: [] as Provider[],
    routes: [] as ModelRoute[],
    consumers: [] as Consumer[],
    priceBooks: [] as PriceBook[],
    grants: [] as SidecarGrant[],
  };
  for (const resource of list) {
    switch (resource.$typeName) {
      case "outrigger.policy.v1.Provider":
        groups.providers.push(resource);
        break;
      case "outrigger.policy.v1.ModelRoute":
        groups.routes.push(resource);
        break;
      case "outrigger.policy.v1.Consumer":
        groups.consumers.push(resource);
        break;
      case "outrigger.policy.v1.PriceBook":
        groups.priceBooks.push(resource);
        break;
      case "outrigger.policy.v1.SidecarGrant":
        groups.grants.push(resource);
        break;
    }
  }
  for (const group of Object.values(groups)) group.sort(byFullName);
  return groups;
}

/** Every resource of a set, kind by kind. */
export function listResources(resources: Resources): Resource[] {
  return [...resources.providers, ...resources.routes, ...resources.consumers, ...resources.priceBooks, ...resources.grants];
}

function byFullName(a: Resource, b: Resource): number {
  const [left, right] = [fullNameOf(a), fullNameOf(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}
