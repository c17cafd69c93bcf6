import { create, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.ts";
import {
  type ApplyResourcesResponse,
  ChangeKind,
  ListRevisionsResponseSchema,
  type PlannedChange,
  PolicyService,
  RolloutMode,
} from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { ResourceSchema } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import { makeRules, type Problem, readResources } from "../../proto/resources.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { consumerOf, routeOf } from "../../test/kit/policy.ts";
import { check } from "../cli/check.ts";
import { openMemory } from "../store/memory.ts";
import type { PolicyStore } from "../store/store.ts";
import type { PolicyRecord, Proposal } from "./policyChanges.ts";
import { createPolicyService } from "./policyService.ts";

const rules = makeRules();
const clock = new ManualClock();
let store: PolicyStore;
let client: Client<typeof PolicyService>;
let records: PolicyRecord[];
let proposals: Proposal[];
let commits: number[];
let objections: Problem[];
let stopping: AbortController;

beforeEach(() => serve(openMemory()));
afterEach(() => store.close());

function serve(on: PolicyStore): void {
  [store, records, proposals, commits, objections] = [on, [], [], [], []];
  stopping = new AbortController();
  const service = createPolicyService({
    store,
    rules,
    clock,
    hooks: {
      beforeCommit: async (proposal) => {
        proposals.push(proposal);
        return objections;
      },
      committed: (revision) => {
        commits.push(revision);
        return `rollout-${revision}`;
      },
    },
    review: (policy) => check(policy, { exposed: false }),
    recorded: (record) => records.push(record),
    stopping: stopping.signal,
  });
  client = createClient(
    PolicyService,
    createRouterTransport((router) => router.service(PolicyService, service)),
  );
}

const head = (kind: string, name: string, labels = "") =>
  `apiVersion: outrigger.dev/v1alpha1\nkind: ${kind}\nmetadata: {name: ${name}${labels}}\nspec:\n`;
const consumer = (name = "anyone") => `${head("Consumer", name)}  identities: [{anonymous: {}}]\n`;
const provider = (name: string, endpoint = "http://127.0.0.1:1/v1") =>
  `${head("Provider", name)}  openai: {row: compatible}\n  endpoint: ${endpoint}\n`;
const route = (name: string, target: string, model = name) =>
  `${head("ModelRoute", name)}  match: {models: [${model}]}\n  targets: [{provider: ${target}}]\n`;
const text = (path: string, ...documents: string[]) => ({ path, text: documents.join("---\n") });
const base = () => text("base.yaml", consumer(), provider("near"), route("fast", "near"));

const changeName = new Map<ChangeKind, string>(Object.entries(ChangeKind).map(([name, kind]) => [kind, name]));

/** A plan as short texts. */
function said(changes: readonly PlannedChange[] | undefined): string[] {
  return (changes ?? []).map(({ name, change, fields }) =>
    [
      `${changeName.get(change)} ${name?.kind} ${name?.namespace}/${name?.name}`,
      ...fields.map((one) => `${one.field}: ${one.before} -> ${one.after}`),
    ].join("; "),
  );
}

function problems({ problems: told }: Pick<ApplyResourcesResponse, "problems">): string[] {
  return told.map(({ path, line, column, kind, name, field, id }) => `${path}:${line}:${column} ${kind} ${name} ${field} ${id}`);
}

async function fault(call: Promise<unknown>): Promise<{ code: Code; reason: string | undefined; message: string }> {
  const error = await call.then(
    () => undefined,
    (caught: unknown) => ConnectError.from(caught),
  );
  if (error === undefined) throw new Error("the call passed");
  return { code: error.code, reason: error.findDetails(ErrorInfoSchema)[0]?.reason, message: error.rawMessage };
}

async function nothingChanged(act: () => Promise<unknown>): Promise<void> {
  const before = await store.read();
  await act();
  expect(await store.read()).toEqual(before);
  expect(await store.revisions(10)).toHaveLength(before.revision);
}

describe("apply", () => {
  test("makes a set hold and tells what that changed", async () => {
    const first = await client.applyResources({ texts: [base()], reason: "begin" });
    expect(said(first.plan?.changes)).toEqual([
      "CREATE Consumer default/anyone",
      "CREATE ModelRoute default/fast",
      "CREATE Provider default/near",
    ]);
    expect(first).toMatchObject({ applied: true, revision: 1n, problems: [], rollout: "rollout-1" });
    const second = await client.applyResources({
      texts: [text("b.yaml", provider("near", "http://127.0.0.1:2/v1"), route("fast", "near"))],
    });
    expect(said(second.plan?.changes)).toEqual([
      "UNCHANGED ModelRoute default/fast",
      'UPDATE Provider default/near; spec.endpoint: "http://127.0.0.1:1/v1" -> "http://127.0.0.1:2/v1"',
    ]);
    expect(second).toMatchObject({ applied: true, revision: 2n });
    expect(records).toEqual([
      { action: "apply", author: "local", reason: "begin", revision: 1, created: 3, updated: 0, deleted: 0 },
      { action: "apply", author: "local", reason: "", revision: 2, created: 0, updated: 1, deleted: 0 },
    ]);
    expect(commits).toEqual([1, 2]);
  });

  test("changes nothing and tries nothing out when there is nothing to change", async () => {
    await client.applyResources({ texts: [base()] });
    const again = await client.applyResources({ texts: [base()] });
    expect(again).toMatchObject({ applied: false, revision: 1n, problems: [] });
    expect(again.plan?.changes.map(({ change }) => change)).toEqual([ChangeKind.UNCHANGED, ChangeKind.UNCHANGED, ChangeKind.UNCHANGED]);
    expect(proposals).toHaveLength(1);
    expect(commits).toEqual([1]);
  });

  test("plans without changing anything", async () => {
    await nothingChanged(async () => {
      const plan = await client.applyResources({ texts: [base()], validateOnly: true, rollout: RolloutMode.STAGED });
      expect(plan).toMatchObject({ applied: false, revision: 0n, problems: [] });
      expect(plan.plan?.changes).toHaveLength(3);
    });
    // What sidecars would say is asked for plans too.
    expect(proposals.map(({ rollout, resources }) => [rollout, resources.length])).toEqual([[RolloutMode.STAGED, 3]]);
    expect(records).toEqual([]);
  });

  test("takes messages as it takes texts", async () => {
    const resources = [consumerOf("anyone", { identities: [{ kind: { case: "anonymous", value: {} } }] })].map((value) =>
      create(ResourceSchema, { kind: { case: "consumer", value } }),
    );
    const answer = await client.applyResources({ resources, texts: [text("a.yaml", provider("near"), route("fast", "near"))] });
    expect(answer).toMatchObject({ applied: true, problems: [] });
  });

  test("refuses malformed policy with every problem at its place, and a plan in which nothing changes", async () => {
    await client.applyResources({ texts: [base()] });
    await nothingChanged(async () => {
      const answer = await client.applyResources({
        texts: [
          text("good.yaml", provider("other")),
          text(
            "bad.yaml",
            route("fast", "nobody"),
            `${head("ModelRoute", "slow")}  match: {models: [slow]}\n  targts: [{provider: near}]\n`,
          ),
          { path: "worse.yaml", text: "kind: [" },
        ],
      });
      expect(answer).toMatchObject({ applied: false, revision: 1n, rollout: "" });
      expect(answer.plan?.changes).toEqual([]);
      expect(problems(answer)).toEqual([
        "bad.yaml:13:3 ModelRoute default/slow spec.targts policy/unknown-field",
        "worse.yaml:1:8    policy/syntax",
      ]);
    });
    expect(proposals).toHaveLength(1);
  });

  test("looks for names among what stands and what is given, and nowhere else", async () => {
    const alone = await client.applyResources({ texts: [text("a.yaml", route("fast", "near"))] });
    expect(problems(alone)).toEqual(["a.yaml:6:24 ModelRoute default/fast spec.targets[0].provider policy/unknown-reference"]);
    await client.applyResources({ texts: [base()] });
    const beside = await client.applyResources({ texts: [text("b.yaml", route("slow", "near"))] });
    expect(beside).toMatchObject({ applied: true, problems: [] });
    // What is given takes the place of what stands: two routes for one model are no conflict if one of them becomes another.
    const swapped = await client.applyResources({ texts: [text("c.yaml", route("slow", "near", "fast"), route("fast", "near", "slow"))] });
    expect(swapped).toMatchObject({ applied: true, problems: [] });
    const both = await client.applyResources({ texts: [text("c.yaml", route("slow", "near", "slow"))] });
    expect(problems(both)).toEqual(["c.yaml:5:20 ModelRoute default/slow spec.match.models[0] policy/ambiguous-route"]);
  });

  test("tells of messages without a place, and refuses what it does not know in them", async () => {
    const strange = routeOf("fast", { match: { models: ["m"] }, targets: [{ provider: "near" }] });
    strange.$unknown = [{ no: 999, wireType: 0, data: Uint8Array.of(1) }];
    const answer = await client.applyResources({
      resources: [create(ResourceSchema, { kind: { case: "modelRoute", value: strange } }), create(ResourceSchema)],
    });
    expect(problems(answer).sort()).toEqual([":0:0   kind policy/unknown-kind", ":0:0 ModelRoute default/fast #999 policy/unknown-field"]);
    expect(answer.applied).toBe(false);
  });

  test("never shows a secret that was written into policy", async () => {
    const answer = await client.applyResources({
      texts: [text("a.yaml", provider("near").replace("row: compatible", "row: sk-live-12345678901234567890AB"))],
    });
    expect(answer.problems.map(({ id }) => id)).toContain("policy/inline-secret");
    expect(JSON.stringify(answer.problems.map(({ message, hint, field }) => [message, hint, field]))).not.toContain(
      "12345678901234567890AB",
    );
  });

  test("is refused by whoever tries it out", async () => {
    objections = [
      {
        id: "policy/not-compiled",
        severity: "error",
        kind: "Provider",
        name: "default/near",
        field: "spec.openai.row",
        message: "No.",
        hint: "",
      },
    ];
    await nothingChanged(async () => {
      const answer = await client.applyResources({ texts: [base()] });
      expect(answer.applied).toBe(false);
      expect(answer.plan?.changes).toEqual([]);
      expect(problems(answer)).toEqual([":0:0 Provider default/near spec.openai.row policy/not-compiled"]);
    });
    expect(commits).toEqual([]);
  });

  test("prunes what the owner has and the set leaves out, and nothing of others", async () => {
    await client.applyResources({ texts: [base()], owner: "platform" });
    await client.applyResources({ texts: [text("t.yaml", provider("a"), provider("b"))], owner: "team/chat" });
    const pruned = await client.applyResources({ texts: [text("t.yaml", provider("b"))], owner: "team/chat", prune: true });
    expect(said(pruned.plan?.changes)).toEqual(["DELETE Provider default/a", "UNCHANGED Provider default/b"]);
    expect((await store.read()).resources).toHaveLength(4);
    // What somebody else still needs stays, and so does everything else of this set.
    await client.applyResources({ texts: [text("r.yaml", route("mine", "b"))] });
    await nothingChanged(async () => {
      const needed = await client.applyResources({ texts: [text("t.yaml", provider("c"))], owner: "team/chat", prune: true });
      expect(problems(needed)).toEqual([":0:0 ModelRoute default/mine spec.targets[0].provider policy/unknown-reference"]);
    });
  });

  // A route was granted, applied and current everywhere, and every call was refused: nobody had said that no consumer may use it.
  test("a grant that gives nothing is told of when it is written or becomes so, and only then", async () => {
    const grant = `${head("SidecarGrant", "chat")}  sidecars: [{account: chat}]\n  routes: [fast]\n`;
    const granted = await client.applyResources({ texts: [text("a.yaml", provider("near"), route("fast", "near"), grant)] });
    expect(granted.applied).toBe(true);
    const empty = (answer: Parameters<typeof problems>[0]) => problems(answer).filter((one) => one.endsWith("policy/empty-grant"));
    expect(empty(granted)).toEqual([expect.stringMatching(/^a\.yaml:\d+:\d+ SidecarGrant default\/chat spec\.routes policy/)]);
    const elsewhere = provider("far").replace("{name: far}", "{name: far, namespace: shop}");
    expect(empty(await client.applyResources({ texts: [text("b.yaml", elsewhere)] }))).toEqual([]);
    expect(problems(await client.applyResources({ texts: [text("c.yaml", consumer())] }))).toEqual([]);
    expect(empty(await client.deleteResource({ name: { kind: "Consumer", name: "anyone" } }))).toEqual([
      ":0:0 SidecarGrant default/chat spec.routes policy/empty-grant",
    ]);
  });

  test("a set without an owner leaves owners as they are, and another owner takes over with a word", async () => {
    await client.applyResources({ texts: [text("a.yaml", provider("a"))], owner: "one" });
    await client.applyResources({ texts: [text("a.yaml", provider("a", "http://127.0.0.1:7/v1"))] });
    expect((await store.read()).resources[0]?.owner).toBe("one");
    const taken = await client.applyResources({ texts: [text("a.yaml", provider("a", "http://127.0.0.1:7/v1"))], owner: "two" });
    expect(said(taken.plan?.changes)).toEqual(['UPDATE Provider default/a; owner: "one" -> "two"']);
    expect(taken.problems.map(({ id }) => id)).toEqual(["policy/other-owner", "policy/unused-provider"]);
    expect(taken.applied).toBe(true);
  });

  test("refuses as a conflict what was made for another state", async () => {
    await client.applyResources({ texts: [base()] });
    const { resource } = await client.getResource({ name: { kind: "Provider", name: "near" } });
    const etag = resource?.etag ?? "";
    const name = { kind: "Provider", name: "near", namespace: "" };
    const change = (port: number) => [text("p.yaml", provider("near", `http://127.0.0.1:${port}/v1`))];
    expect((await client.applyResources({ texts: change(5), preconditions: [{ name, etag }] })).applied).toBe(true);
    await nothingChanged(async () => {
      const { code, reason, message } = await fault(client.applyResources({ texts: change(6), preconditions: [{ name, etag }] }));
      expect([code, reason]).toEqual([Code.Aborted, "CONFLICT"]);
      expect(message).toContain("Provider default/near");
      const absent = fault(client.applyResources({ texts: change(6), preconditions: [{ name, etag: "" }] }));
      expect((await absent).code).toBe(Code.Aborted);
      const gone = { kind: "Provider", name: "gone", namespace: "" };
      expect((await fault(client.applyResources({ texts: change(6), preconditions: [{ name: gone, etag: "x" }] }))).code).toBe(
        Code.Aborted,
      );
    });
  });

  test("plans again when somebody else wrote meanwhile, and gives up when that goes on", async () => {
    let meddling = 1;
    const inner = store;
    const meddled: PolicyStore = {
      ...inner,
      async write(change) {
        if (meddling > 0) {
          meddling -= 1;
          const { revision } = await inner.read();
          const resource = routeOf(`other${revision}`, { match: { models: [`o${revision}`] }, targets: [{ provider: "near" }] });
          await inner.write({ ...change, base: revision, upserts: [{ resource, owner: "" }], removals: [] });
        }
        return inner.write(change);
      },
    };
    serve(meddled);
    expect(await client.applyResources({ texts: [base()] })).toMatchObject({ applied: true, revision: 2n });
    meddling = Number.POSITIVE_INFINITY;
    const { code, reason } = await fault(client.applyResources({ texts: [text("a.yaml", provider("a"))] }));
    expect([code, reason]).toEqual([Code.Aborted, "CONFLICT"]);
    expect((await store.read()).resources.some(({ resource }) => resource.metadata?.name === "a")).toBe(false);
  });

  test("tells of as many problems and fields as every client takes, and how many there are more", async () => {
    const bad = Array.from({ length: 60 }, (_, at) =>
      text(`${at}.yaml`, ...Array.from({ length: 40 }, (_, name) => provider(`Bad${name}`))),
    );
    const refused = await client.applyResources({ texts: bad });
    expect(refused.problems).toHaveLength(1001);
    expect(refused.problems.at(-1)?.message).toBe("1400 more problems are left out.");
    const labels = (word: string) => `, labels: {${Array.from({ length: 60 }, (_, at) => `l${at}: ${word}`).join(", ")}}`;
    const many = (word: string) =>
      text(
        "m.yaml",
        ...Array.from(
          { length: 100 },
          (_, at) => `${head("Provider", `p${at}`, labels(word))}  openai: {row: compatible}\n  endpoint: http://h:1/v1\n`,
        ),
      );
    await client.applyResources({ texts: [many("a")] });
    const plan = (await client.applyResources({ texts: [many("b")], validateOnly: true })).plan?.changes ?? [];
    const told = plan.reduce((sum, { fields }) => sum + fields.length, 0);
    expect([plan.length, told, told + plan.reduce((sum, { fieldsLeftOut }) => sum + fieldsLeftOut, 0)]).toEqual([100, 5_000, 6_000]);
  });

  test("two at once are made one after the other", async () => {
    const answers = await Promise.all([1, 2, 3, 4].map((port) => client.applyResources({ texts: [text("p.yaml", provider(`p${port}`))] })));
    expect(answers.map(({ revision }) => revision).sort()).toEqual([1n, 2n, 3n, 4n]);
    expect((await store.read()).resources).toHaveLength(4);
  });

  test("tells what is wrong with a request", async () => {
    expect(await fault(client.applyResources({ texts: [base()], prune: true }))).toMatchObject({
      code: Code.InvalidArgument,
      reason: "REQUEST_INVALID",
    });
    expect(await fault(client.applyResources({}))).toMatchObject({ code: Code.InvalidArgument, reason: "REQUEST_INVALID" });
    const owner = await fault(client.applyResources({ texts: [base()], owner: "-" }));
    expect(owner).toMatchObject({ code: Code.InvalidArgument, reason: "REQUEST_INVALID" });
    expect(owner.message).toMatch(/^owner /);
  });

  test("says that the store cannot be written to, and not why", async () => {
    const inner = store;
    serve({ ...inner, write: () => Promise.reject(new Error("disk /secret/path is full")) });
    const { code, reason, message } = await fault(client.applyResources({ texts: [base()] }));
    expect([code, reason]).toEqual([Code.Unavailable, "STORE_UNAVAILABLE"]);
    expect(message).not.toContain("/secret/path");
  });
});

test("a store that is only read takes plans and no changes", async () => {
  serve({ ...store, readOnly: true });
  expect(await fault(client.applyResources({ texts: [base()] }))).toMatchObject({
    code: Code.FailedPrecondition,
    reason: "STORE_READ_ONLY",
  });
  expect(await fault(client.rollBack({}))).toMatchObject({ code: Code.FailedPrecondition, reason: "STORE_READ_ONLY" });
  expect((await client.applyResources({ texts: [base()], validateOnly: true })).plan?.changes).toHaveLength(3);
});

describe("get, list and delete", () => {
  test("a resource comes with its etag, owner and revision, and is not found in words", async () => {
    await client.applyResources({ texts: [base()], owner: "platform" });
    const { resource } = await client.getResource({ name: { kind: "ModelRoute", namespace: "default", name: "fast" } });
    expect(resource).toMatchObject({ owner: "platform", revision: 1n, resource: { kind: { case: "modelRoute" } } });
    expect(resource?.etag).toMatch(/^[0-9a-f]{32}$/);
    expect(await fault(client.getResource({ name: { kind: "ModelRoute", name: "slow" } }))).toMatchObject({
      code: Code.NotFound,
      reason: "RESOURCE_NOT_FOUND",
    });
    expect(await fault(client.getResource({ name: { kind: "Route", name: "slow" } }))).toMatchObject({
      code: Code.InvalidArgument,
      reason: "REQUEST_INVALID",
    });
  });

  test("pages show one revision, whatever changes meanwhile", async () => {
    const all = Array.from({ length: 25 }, (_, at) => provider(`p${String(at).padStart(2, "0")}`));
    await client.applyResources({ texts: [text("a.yaml", ...all)] });
    const names: string[] = [];
    for (let pageToken = "", first = true; first || pageToken !== ""; first = false) {
      const page = await client.listResources({ pageSize: 10, pageToken, kind: "Provider" });
      names.push(
        ...page.resources.map(({ resource }) => (resource?.kind.value === undefined ? "" : (resource.kind.value.metadata?.name ?? ""))),
      );
      expect(page.revision).toBe(1n);
      pageToken = page.nextPageToken;
      await client.applyResources({ texts: [text("b.yaml", provider(`p05-${names.length}`))] });
    }
    expect(names).toEqual(Array.from({ length: 25 }, (_, at) => `p${String(at).padStart(2, "0")}`));
    const { nextPageToken } = await client.listResources({ pageSize: 1 });
    expect(await fault(client.listResources({ pageToken: nextPageToken, kind: "Consumer" }))).toMatchObject({
      code: Code.InvalidArgument,
      reason: "REQUEST_INVALID",
    });
    expect(await fault(client.listResources({ pageToken: "x" }))).toMatchObject({ code: Code.InvalidArgument, reason: "REQUEST_INVALID" });
    expect(await fault(client.listResources({ kind: "Nope" }))).toMatchObject({ code: Code.InvalidArgument, reason: "REQUEST_INVALID" });
  });

  test("filters by kind, namespace, label and owner", async () => {
    const labelled = `${head("Provider", "near", ", labels: {team: a}, namespace: apart")}  openai: {row: compatible}\n  endpoint: http://h:1/v1\n`;
    await client.applyResources({ texts: [text("a.yaml", labelled)], owner: "one" });
    await client.applyResources({ texts: [base()] });
    const count = async (filter: object) => (await client.listResources(filter)).resources.length;
    expect(await count({})).toBe(4);
    expect(await count({ kind: "Provider" })).toBe(2);
    expect(await count({ namespace: "apart" })).toBe(1);
    expect(await count({ labels: { team: "a" } })).toBe(1);
    expect(await count({ labels: { team: "b" } })).toBe(0);
    expect(await count({ owner: "one" })).toBe(1);
  });

  // A route with two targets at one provider was named twice.
  test("what needs a thing that would go is named once each, however many of its fields need it", async () => {
    const twice = routeOf("twice", { match: { models: ["twice"] }, targets: [{ provider: "near" }, { provider: "near", model: "m" }] });
    await client.applyResources({ texts: [base()], resources: [{ kind: { case: "modelRoute", value: twice } }] });
    const needed = await client.deleteResource({ name: { kind: "Provider", name: "near" } });
    expect(problems(needed)).toEqual([
      ":0:0 ModelRoute default/fast spec.targets[0].provider policy/unknown-reference",
      ":0:0 ModelRoute default/twice spec.targets[0].provider policy/unknown-reference",
    ]);
  });

  test("what is probably not meant is told as `outrigger check` tells it, once, where it stands, and not for what others left", async () => {
    const lonely = [consumer("anyone"), provider("near"), provider("idle"), route("fast", "near")].join("---\n");
    const [checked, planned, applied] = [
      check(readResources([{ path: "a.yaml", text: lonely }], rules), { exposed: false }),
      await client.applyResources({ texts: [text("a.yaml", lonely)], validateOnly: true }),
      await client.applyResources({ texts: [text("a.yaml", lonely)] }),
    ];
    const told = checked.map((one) => `${one.file}:${one.line}:${one.column} ${one.kind} ${one.name} ${one.field} ${one.id}`);
    expect(told).toEqual([expect.stringMatching(/^a\.yaml:\d+:\d+ Provider default\/idle metadata\.name policy\/unused-provider$/)]);
    expect([problems(planned), problems(applied)]).toEqual([told, told]);
    expect(applied.applied).toBe(true);
    // What was there before is not this caller's, what the change makes of it is.
    expect(problems(await client.applyResources({ texts: [text("b.yaml", route("more", "near"))] }))).toEqual([]);
    const gone = await client.deleteResource({ name: { kind: "Consumer", name: "anyone" } });
    expect(gone.applied).toBe(true);
    expect(gone.problems.map(({ id, name }) => `${id} ${name}`)).toEqual(["policy/no-consumer default/fast"]);
  });

  test("a resource goes unless another one needs it", async () => {
    await client.applyResources({ texts: [base()] });
    await nothingChanged(async () => {
      const needed = await client.deleteResource({ name: { kind: "Provider", name: "near" } });
      expect(needed.applied).toBe(false);
      expect(problems(needed)).toEqual([":0:0 ModelRoute default/fast spec.targets[0].provider policy/unknown-reference"]);
      expect(needed.problems[0]?.hint).toMatch(/If it is to go/);
      expect(await client.deleteResource({ name: { kind: "ModelRoute", name: "fast" }, validateOnly: true })).toMatchObject({
        applied: false,
        problems: [{ id: "policy/idle-consumer" }, { id: "policy/unused-provider" }],
      });
      expect(await fault(client.deleteResource({ name: { kind: "ModelRoute", name: "fast" }, etag: "old" }))).toMatchObject({
        code: Code.Aborted,
        reason: "CONFLICT",
      });
      expect(await fault(client.deleteResource({ name: { kind: "ModelRoute", name: "slow" } }))).toMatchObject({
        code: Code.NotFound,
        reason: "RESOURCE_NOT_FOUND",
      });
    });
    expect(await client.deleteResource({ name: { kind: "ModelRoute", name: "fast" } })).toMatchObject({ applied: true, revision: 2n });
    expect(records.at(-1)).toMatchObject({ action: "delete", deleted: 1 });
  });
});

describe("revisions", () => {
  beforeEach(async () => {
    await client.applyResources({ texts: [base()], reason: "begin" });
    await client.applyResources({ texts: [text("b.yaml", provider("near", "http://127.0.0.1:2/v1"), provider("far"))], owner: "team" });
    await client.deleteResource({ name: { kind: "Provider", name: "far" } });
  });

  test("are listed with who, when, why and what", async () => {
    const { revisions, nextPageToken } = await client.listRevisions({ pageSize: 2 });
    expect(revisions.map(({ revision, changes }) => [revision, ...said(changes)])).toEqual([
      [3n, "DELETE Provider default/far"],
      [2n, "CREATE Provider default/far", "UPDATE Provider default/near"],
    ]);
    const rest = await client.listRevisions({ pageSize: 2, pageToken: nextPageToken });
    expect(rest.revisions).toMatchObject([{ revision: 1n, author: "local", reason: "begin", rolledBackTo: 0n }]);
    expect(rest.nextPageToken).toBe("");
  });

  test("that tell of very many resources come in pages that every client takes", async () => {
    // Long names, so that one revision is more than a megabyte.
    const names = Array.from({ length: 5_000 }, (_, at) => `${"n".repeat(240)}-${at}`);
    for (const port of [1, 2, 3]) {
      const { revision } = await store.read();
      const upserts = names.map((name) => ({ resource: routeOf(name, { match: { models: [`${name}-${port}`] } }), owner: "" }));
      await store.write({ base: revision, upserts, removals: [], author: "a", reason: "", atMs: 0, rolledBackTo: 0 });
    }
    const seen: bigint[] = [];
    let pages = 0;
    for (let pageToken = "", first = true; first || pageToken !== ""; first = false) {
      const page = await client.listRevisions({ pageSize: 1000, pageToken });
      expect(toBinary(ListRevisionsResponseSchema, page).length).toBeLessThan(4 * 1024 * 1024);
      seen.push(...page.revisions.map(({ revision }) => revision));
      pageToken = page.nextPageToken;
      pages += 1;
    }
    expect(seen).toEqual([6n, 5n, 4n, 3n, 2n, 1n]);
    expect(pages).toBeGreaterThan(1);
  });

  test("are told apart", async () => {
    const { plan } = await client.diffRevisions({ from: 1n });
    expect(said(plan?.changes)).toEqual([
      'UPDATE Provider default/near; spec.endpoint: "http://127.0.0.1:1/v1" -> "http://127.0.0.1:2/v1"; owner:  -> "team"',
    ]);
    expect(said((await client.diffRevisions({ from: 3n, to: 2n })).plan?.changes)).toEqual(["CREATE Provider default/far"]);
    expect((await client.diffRevisions({ from: 0n, to: 1n })).plan?.changes).toHaveLength(3);
    expect(await fault(client.diffRevisions({ from: 9n }))).toMatchObject({ code: Code.NotFound, reason: "REVISION_NOT_FOUND" });
  });

  test("are rolled back to as a new revision, all of them or none", async () => {
    const planned = await client.rollBack({ revision: 1n, validateOnly: true });
    expect(planned).toMatchObject({ applied: false, revision: 3n });
    const back = await client.rollBack({ revision: 1n, reason: "it broke" });
    expect(back.plan).toEqual(planned.plan);
    expect(back).toMatchObject({ applied: true, revision: 4n });
    const [newest] = (await client.listRevisions({ pageSize: 1 })).revisions;
    expect(newest).toMatchObject({ revision: 4n, rolledBackTo: 1n, reason: "it broke" });
    expect((await client.diffRevisions({ from: 1n, to: 4n })).plan?.changes).toEqual([]);
    // Without a number it is the one before, so that twice is where one was.
    await client.rollBack({});
    expect((await client.diffRevisions({ from: 3n, to: 5n })).plan?.changes).toEqual([]);
    expect(await fault(client.rollBack({ revision: 77n }))).toMatchObject({ code: Code.NotFound, reason: "REVISION_NOT_FOUND" });
  });
});

test("a watcher gets all there is, then each change of what it watches", async () => {
  await client.applyResources({ texts: [base()] });
  const abort = new AbortController();
  const told: string[] = [];
  const first = Promise.withResolvers<void>();
  const third = Promise.withResolvers<void>();
  const ended = (async () => {
    for await (const { upserts, removals, revision, synchronized } of client.watchResources(
      { kind: "Provider" },
      { signal: abort.signal },
    )) {
      const names = upserts.map(({ resource }) => (resource?.kind.value === undefined ? "?" : resource.kind.value.metadata?.name));
      told.push(`${revision}: +${names.join(",")} -${removals.map(({ name }) => name).join(",")} ${synchronized}`);
      if (told.length === 1) first.resolve();
      if (told.length === 3) third.resolve();
    }
  })().catch((error: unknown) => ConnectError.from(error).code);
  await first.promise;
  await client.applyResources({ texts: [text("a.yaml", provider("far"))] });
  // A change of another kind is no news for this watcher.
  await client.applyResources({ texts: [text("a.yaml", route("slow", "far"))] });
  await client.deleteResource({ name: { kind: "ModelRoute", name: "slow" } });
  await client.deleteResource({ name: { kind: "Provider", name: "far" } });
  await third.promise;
  abort.abort();
  expect(await ended).toBe(Code.Canceled);
  expect(told).toEqual(["1: +near - true", "2: +far - true", "5: + -far true"]);
});

test("a watcher is sent away when control stops", async () => {
  await client.applyResources({ texts: [base()] });
  const begun = Promise.withResolvers<void>();
  const watching = (async () => {
    for await (const _ of client.watchResources({})) begun.resolve();
  })();
  await begun.promise;
  stopping.abort();
  expect(await fault(watching)).toMatchObject({ code: Code.Unavailable, reason: "STOPPING" });
});
