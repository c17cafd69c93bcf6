/** Builds control's end of the mesh from its parts: keys and authority of the data folder, the mesh, and its services. */
import type { ContextValues, ServiceImpl } from "@connectrpc/connect";
import type { Registry } from "prom-client";
import type { MeshService } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import type { SidecarService } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import type { Clock } from "../clock.ts";
import type { PolicyStore } from "../store/store.ts";
import { type ApiServer, askApiServer } from "./apiServer.ts";
import { type Authority, openAuthority } from "./authority.ts";
import { openDelivery } from "./delivery.ts";
import { identifyBy } from "./identity.ts";
import { openJoining } from "./joining.ts";
import { type Mesh, type MeshParts, type MeshPeer, openMesh } from "./mesh.ts";
import { countMesh } from "./metrics.ts";
import { openPrivateFolder } from "./privateFolder.ts";
import { readServiceAccounts } from "./serviceAccounts.ts";
import { createMeshService, createSidecarService } from "./services.ts";
import { openSigner } from "./signing.ts";

/** What the mesh is built with. */
export interface CreateMeshParts extends Pick<MeshParts, "log" | "server" | "rollout" | "rolloutRules" | "admission" | "acceptRollback"> {
  readonly store: PolicyStore;
  /** Where keys, authority and join tokens are kept. */
  readonly dataFolder: string;
  /** The folder with the secrets that control delivers. */
  readonly secretsFolder: string;
  readonly clock: Clock;
  /** That many unguessable bytes. */
  readonly randomBytes: (count: number) => Uint8Array;
  readonly registry: Registry;
  /** The cluster whose service accounts are trusted; null for none. `issuer` null stands for the one that its API server names. */
  readonly cluster: (ApiServer & { readonly issuer: string | null }) | null;
  /** What is known of the connection of a call. */
  readonly peerOf: (values: ContextValues) => MeshPeer;
  /** The name of the token with which somebody calls. */
  readonly callerOf: (values: ContextValues) => string;
}

/** Control's end of the mesh, with all that is served of it. */
export interface CreatedMesh {
  readonly mesh: Mesh;
  readonly meshService: ServiceImpl<typeof MeshService>;
  readonly sidecarService: ServiceImpl<typeof SidecarService>;
  /** Ends all streams, and looks at no file any more. Resolves when the store may be closed. */
  close(): Promise<void>;
  /** Vouches for control's own address, and for sidecars that have joined. */
  readonly authority: Authority;
}

/** Builds it. Rejects if a file of the data folder or the store cannot be read. */
export async function createMesh(parts: CreateMeshParts): Promise<CreatedMesh> {
  const { store, clock, randomBytes, registry, peerOf, callerOf } = parts;
  const folder = openPrivateFolder(parts.dataFolder);
  const signer = openSigner(folder);
  const authority = await openAuthority(folder, clock.wallMs());
  const joining = openJoining({ folder, authority, signer, clock, randomBytes });
  const { cluster } = parts;
  const serviceAccounts = cluster === null ? undefined : readServiceAccounts({ ask: askApiServer(cluster), issuer: cluster.issuer, clock });
  const newId = (): string => Buffer.from(randomBytes(8)).toString("hex");
  const random = { next: () => Buffer.from(randomBytes(4)).readUInt32BE() / 2 ** 32, id: newId };
  const delivery = openDelivery({ folder: parts.secretsFolder, clock, log: parts.log });
  const mesh = await openMesh({
    ...parts,
    store,
    signer,
    clock,
    random,
    identify: identifyBy({ authority, joining, clock, serviceAccounts }),
    metrics: countMesh(registry),
    secretsOf: delivery.secretsOf,
  });
  const unwatch = delivery.watch(mesh.deliverAgain);
  const close = (): Promise<void> => {
    unwatch();
    return mesh.close();
  };
  const serviceParts = { mesh, joining, clock, newId: () => Buffer.from(randomBytes(16)).toString("hex"), peerOf, callerOf };
  return { mesh, meshService: createMeshService(serviceParts), sidecarService: createSidecarService(serviceParts), authority, close };
}
