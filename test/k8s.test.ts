/**
 * The manifests, as far as they can be held to account without a cluster: every object is what the Kubernetes API takes, every pod passes
 * the restricted Pod Security profile, and every flag, port, path and name in them is one that the program and the other objects have.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DockerfileParser, type From } from "dockerfile-ast";
import { Deployment, StatefulSet } from "kubernetes-models/apps/v1";
import { NetworkPolicy } from "kubernetes-models/networking.k8s.io/v1";
import { PodDisruptionBudget } from "kubernetes-models/policy/v1";
import { ClusterRole, ClusterRoleBinding } from "kubernetes-models/rbac.authorization.k8s.io/v1";
import { ConfigMap, Namespace, Service, ServiceAccount } from "kubernetes-models/v1";
import { expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { z } from "zod";
import { check } from "../control/cli/check.ts";
import { problemText, readResources } from "../proto/resources.ts";

const root = join(import.meta.dirname, "../k8s");
const folders = ["control", "example"] as const;

const manifest = z
  .object({ version: z.string(), bin: z.object({ outrigger: z.string() }), devDependencies: z.object({ node: z.string() }) })
  .parse(JSON.parse(readFileSync(join(root, "../package.json"), "utf8")));

const kinds = {
  ClusterRole,
  ClusterRoleBinding,
  ConfigMap,
  Deployment,
  Namespace,
  NetworkPolicy,
  PodDisruptionBudget,
  Service,
  ServiceAccount,
  StatefulSet,
} as const;

const kustomization = z.strictObject({
  apiVersion: z.literal("kustomize.config.k8s.io/v1beta1"),
  kind: z.literal("Kustomization"),
  namespace: z.string(),
  resources: z.array(z.string()),
  images: z.array(z.strictObject({ name: z.string(), newName: z.string(), newTag: z.string() })),
});

const securityContext = z.object({
  allowPrivilegeEscalation: z.literal(false),
  readOnlyRootFilesystem: z.literal(true),
  capabilities: z.strictObject({ drop: z.tuple([z.literal("ALL")]) }),
});

/** As much of a container as is looked at, held to the restricted profile. */
const container = z.object({
  name: z.string(),
  image: z.literal("outrigger"),
  command: z.array(z.string()).optional(),
  args: z.array(z.string()).default([]),
  restartPolicy: z.string().optional(),
  env: z.array(z.object({ name: z.string(), value: z.string().optional() })).default([]),
  ports: z.array(z.object({ name: z.string(), containerPort: z.number() })).default([]),
  startupProbe: z.object({ httpGet: z.object({ path: z.string(), port: z.string() }) }).optional(),
  readinessProbe: z.object({ httpGet: z.object({ path: z.string(), port: z.string() }) }).optional(),
  livenessProbe: z.object({ httpGet: z.object({ path: z.string(), port: z.string() }) }).optional(),
  resources: z.object({ requests: z.object({ cpu: z.string(), memory: z.string() }), limits: z.object({ memory: z.string() }) }),
  securityContext,
  volumeMounts: z.array(z.object({ name: z.string(), mountPath: z.string() })).default([]),
});

const podTemplate = z.object({
  metadata: z.object({ labels: z.record(z.string(), z.string()) }),
  spec: z.object({
    serviceAccountName: z.string(),
    terminationGracePeriodSeconds: z.number(),
    securityContext: z.object({
      runAsNonRoot: z.literal(true),
      runAsUser: z.number().min(1),
      runAsGroup: z.number().min(1),
      fsGroup: z.number(),
      seccompProfile: z.strictObject({ type: z.literal("RuntimeDefault") }),
    }),
    initContainers: z.array(container).default([]),
    containers: z.array(container),
    volumes: z.array(z.object({ name: z.string() })).default([]),
  }),
});

interface KubernetesObject {
  readonly file: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace: string | undefined;
  readonly json: Record<string, unknown>;
}

const identity = z.object({
  kind: z.string(),
  metadata: z.object({ name: z.string(), namespace: z.string().optional() }),
});

function objectsOf(folder: string): KubernetesObject[] {
  const { resources } = kustomization.parse(parse(readFileSync(join(root, folder, "kustomization.yaml"), "utf8")));
  return resources.flatMap((file) =>
    parseAllDocuments(readFileSync(join(root, folder, file), "utf8")).map((document) => {
      expect(document.errors, file).toEqual([]);
      const json = document.toJS() as Record<string, unknown>;
      const { kind, metadata } = identity.parse(json);
      return { file: `${folder}/${file}`, kind, name: metadata.name, namespace: metadata.namespace, json };
    }),
  );
}

const objects = folders.flatMap(objectsOf);

function only(kind: string, name: string): KubernetesObject {
  const found = objects.filter((object) => object.kind === kind && object.name === name);
  expect(found, `${kind} ${name}`).toHaveLength(1);
  return found[0] as KubernetesObject;
}

function podOf(kind: "Deployment" | "StatefulSet", name: string): z.output<typeof podTemplate> {
  const { spec } = z.object({ spec: z.object({ template: podTemplate }) }).parse(only(kind, name).json);
  return spec.template;
}

/** The variables that the command reads, from the one place where its options stand. */
function variablesOfCommand(): Set<string> {
  const texts = ["words.ts", "controlWords.ts"].map((file) => readFileSync(join(root, "../control/cli", file), "utf8"));
  return new Set(texts.flatMap((text) => [...text.matchAll(/"(OUTRIGGER_[A-Z_]+)"/g)].map(([, name]) => name ?? "")));
}

test("every object is one that the Kubernetes API takes", () => {
  expect(objects.length).toBeGreaterThan(10);
  for (const { file, kind, json } of objects) {
    expect(Object.hasOwn(kinds, kind), `${file}: ${kind}`).toBe(true);
    const Model = kinds[kind as keyof typeof kinds];
    const model = new Model(json as never);
    expect(() => model.validate(), `${file}: ${kind}`).not.toThrow();
  }
  // The check can fail.
  expect(() => new Service({ metadata: { name: "x" }, spec: { ports: [{ port: "7411" as never }] } }).validate()).toThrow();
});

test("every file of a folder is listed, and every object stands in the folder's namespace", () => {
  for (const folder of folders) {
    const { namespace, resources, images } = kustomization.parse(parse(readFileSync(join(root, folder, "kustomization.yaml"), "utf8")));
    const files = readdirSync(join(root, folder)).filter((file) => file !== "kustomization.yaml" && file !== "policy.yaml");
    expect([...resources].sort()).toEqual(files.sort());
    expect(images).toEqual([{ name: "outrigger", newName: "outrigger", newTag: manifest.version }]);
    const clusterWide = new Set(["Namespace", "ClusterRole", "ClusterRoleBinding"]);
    for (const object of objects.filter(({ file }) => file.startsWith(`${folder}/`))) {
      expect(object.namespace, `${object.file}: ${object.kind}`).toBe(clusterWide.has(object.kind) ? undefined : namespace);
    }
  }
});

test("kubectl renders both folders to the same objects", ({ skip }) => {
  const kubectl = (() => {
    try {
      execFileSync("kubectl", ["version", "--client"], { stdio: "ignore" });
      return true;
    } catch {
      return false;
    }
  })();
  if (!kubectl) skip("kubectl is not installed: what kustomize makes of the folders is not checked");
  for (const folder of folders) {
    const rendered = execFileSync("kubectl", ["kustomize", join(root, folder)], { encoding: "utf8" });
    const seen = parseAllDocuments(rendered).map((document) => {
      const { kind, metadata } = identity.parse(document.toJS());
      return `${kind} ${metadata.name}`;
    });
    const meant = objects.filter(({ file }) => file.startsWith(`${folder}/`)).map(({ kind, name }) => `${kind} ${name}`);
    expect(seen.sort()).toEqual(meant.sort());
    expect(rendered).toContain(`image: outrigger:${manifest.version}`);
  }
});

test("the program knows every command and every variable that pods give it", () => {
  const known = variablesOfCommand();
  expect(known.size).toBeGreaterThan(20);
  for (const template of [podOf("StatefulSet", "outrigger-control"), podOf("Deployment", "chat")]) {
    for (const { name, args, command, env } of [...template.spec.initContainers, ...template.spec.containers]) {
      if (command !== undefined) continue;
      expect([["control"], ["sidecar"]], name).toContainEqual(args);
      for (const variable of env) expect(known, `${name}: ${variable.name}`).toContain(variable.name);
    }
  }
});

test("the sidecar is native: first, always restarted, and probed where operations are", () => {
  const { spec } = podOf("Deployment", "chat");
  const [sidecar] = spec.initContainers;
  expect(sidecar?.args).toEqual(["sidecar"]);
  expect(sidecar?.restartPolicy).toBe("Always");
  expect(sidecar?.ports).toContainEqual({ name: "operations", containerPort: 7412 });
  expect(sidecar?.startupProbe?.httpGet).toEqual({ path: "/readyz", port: "operations" });
  expect(sidecar?.readinessProbe?.httpGet).toEqual({ path: "/readyz", port: "operations" });
  expect(sidecar?.livenessProbe?.httpGet).toEqual({ path: "/healthz", port: "operations" });
  const grace = Number(sidecar?.env.find(({ name }) => name === "OUTRIGGER_DRAIN_GRACE")?.value);
  expect(grace).toBeGreaterThan(0);
  expect(grace).toBeLessThanOrEqual(spec.terminationGracePeriodSeconds - 10);
});

test("the sidecar's identity is a token for control alone, and the application gets neither token nor key", () => {
  const { json } = only("Deployment", "chat");
  const text = JSON.stringify(json);
  expect(text).toContain('"audience":"outrigger-control"');
  const { spec } = podOf("Deployment", "chat");
  for (const one of spec.containers) expect(one.volumeMounts).toEqual([]);
  const declared = new Set(spec.volumes.map(({ name }) => name));
  for (const { name } of spec.initContainers.flatMap(({ volumeMounts }) => volumeMounts)) expect(declared).toContain(name);
});

test("names that lead from one object to another lead somewhere", () => {
  const pod = podOf("StatefulSet", "outrigger-control");
  only("ServiceAccount", pod.spec.serviceAccountName);
  only("ServiceAccount", podOf("Deployment", "chat").spec.serviceAccountName);
  const service = z
    .object({
      spec: z.object({
        selector: z.record(z.string(), z.string()),
        ports: z.array(z.object({ port: z.number(), targetPort: z.string() })),
      }),
    })
    .parse(only("Service", "outrigger-control").json);
  expect(service.spec.selector).toEqual(pod.metadata.labels);
  const ports = new Map(pod.spec.containers.flatMap(({ ports }) => ports.map(({ name, containerPort }) => [name, containerPort] as const)));
  for (const { port, targetPort } of service.spec.ports) expect(ports.get(targetPort)).toBe(port);
  const address = podOf("Deployment", "chat").spec.initContainers[0]?.env.find(({ name }) => name === "OUTRIGGER_CONTROL")?.value;
  const { namespace, name } = only("Service", "outrigger-control");
  expect(address).toBe(`https://${name}.${namespace}.svc:${service.spec.ports[0]?.port}`);
  const bound = objects
    .filter(({ kind }) => kind === "ClusterRoleBinding")
    .flatMap(({ json }) => z.object({ subjects: z.array(z.object({ name: z.string(), namespace: z.string() })) }).parse(json).subjects);
  for (const subject of bound) expect(only("ServiceAccount", subject.name).namespace).toBe(subject.namespace);
});

test("the example's policy is policy without a finding, for the account that the pods run as", () => {
  const path = join(root, "example/policy.yaml");
  const read = readResources([{ path: "policy.yaml", text: readFileSync(path, "utf8") }]);
  const findings = check(read, { exposed: false }).map(problemText);
  expect(findings.filter((line) => !line.includes("[policy/unpriced-model]"))).toEqual([]);
  const account = podOf("Deployment", "chat").spec.serviceAccountName;
  expect(read.resources.grants.map(({ spec }) => spec?.sidecars.map((one) => one.account))).toEqual([[account]]);
});

test("the image is built from what is there, runs as nobody, and starts the program", () => {
  const file = DockerfileParser.parse(readFileSync(join(root, "Dockerfile"), "utf8"));
  const instructions = file.getInstructions();
  const words = (keyword: string) =>
    instructions.filter((one) => one.getKeyword() === keyword).map((one) => one.getArguments().map((argument) => argument.getValue()));
  const images = file.getFROMs().map((from: From) => from.getImage());
  // The exact runtime that the tests ran on.
  expect(new Set(images)).toEqual(new Set([`node:${manifest.devDependencies.node}-bookworm-slim`]));
  for (const copied of file.getCOPYs()) {
    if (copied.getFromFlag() !== null) continue;
    for (const argument of copied.getArguments().slice(0, -1)) {
      expect(existsSync(join(root, "..", argument.getValue())), argument.getValue()).toBe(true);
    }
  }
  expect(words("USER")).toEqual([["65532:65532"]]);
  expect(words("ENTRYPOINT")[0]?.join(" ")).toContain("/app/dist/control/cli/main.js");
  expect(`dist/${"control/cli/main.js"}`).toBe(manifest.bin.outrigger);
  expect(words("EXPOSE")).toEqual([["7410", "7411", "7412", "7413"]]);
});
