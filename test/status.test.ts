/** `outrigger status` over a control whose sidecars a test makes up: what people and machines are shown of each state. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type ControlListener, createControlListener } from "../control/serve/listener.ts";
import { PolicyService } from "../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { PolicyProblemSchema, ProblemSeverity } from "../proto/gen/outrigger/policy/v1/resource_pb.ts";
import {
  type ListSidecarsRequest,
  RolloutState,
  SidecarService,
  type SidecarStatusSchema,
} from "../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { ManualClock } from "./kit/clock.ts";
import { runCommand } from "./kit/command.ts";

type Sidecar = MessageInitShape<typeof SidecarStatusSchema>;

const ago = (seconds: number) => timestampFromMs(Date.now() - seconds * 1000);
const sidecar = (instance: string, rest: Sidecar = {}): Sidecar => ({
  instance,
  namespace: "default",
  account: "chat",
  connected: true,
  lastHeard: ago(1),
  root: "a".repeat(64),
  revision: 41n,
  enforcedSince: ago(3 * 3600),
  wantedRoot: "a".repeat(64),
  wantedRevision: 41n,
  ...rest,
});
const refused = sidecar("old-one", {
  wantedRoot: "b".repeat(64),
  wantedRevision: 42n,
  refusedRoot: "b".repeat(64),
  behind: durationFromMs(95_000),
  capabilityLevel: 1,
  refusal: [
    create(PolicyProblemSchema, {
      id: "policy/unknown-field",
      severity: ProblemSeverity.ERROR,
      kind: "Provider",
      name: "default/near",
      field: "spec.credential.header.secret.delivered",
      message: "This field needs capability level 2, this sidecar has 1.",
    }),
  ],
});

let listener: ControlListener;
let address: string;
let sidecars: readonly Sidecar[];
let asked: ListSidecarsRequest[];

beforeAll(async () => {
  listener = createControlListener({
    routes: (router) => {
      router.service(PolicyService, { listResources: () => ({}) });
      router.service(SidecarService, {
        listSidecars(request) {
          asked.push(request);
          // Two pages, so that whoever reads only the first is found out.
          const first = request.pageToken === "";
          const half = Math.ceil(sidecars.length / 2);
          return {
            sidecars: first ? sidecars.slice(0, half) : sidecars.slice(half),
            nextPageToken: first && sidecars.length > half ? "more" : "",
            revision: 42n,
            total: sidecars.length,
            current: sidecars.filter(({ behind, connected }) => behind === undefined && connected).length,
            away: sidecars.filter(({ connected }) => connected !== true).length,
          };
        },
        listRollouts: () => ({
          rollouts: [
            {
              id: "r42",
              revision: 42n,
              fromRevision: 41n,
              state: RolloutState.STAGED,
              shareMillionths: 333_333,
              enforced: 1,
              refused: 1,
              begun: ago(60),
            },
            {
              id: "r41",
              revision: 41n,
              fromRevision: 40n,
              state: RolloutState.ROLLED_BACK,
              shareMillionths: 333_333,
              enforced: 1,
              reason: "9 of 9 calls failed under it",
              begun: ago(90),
            },
          ],
        }),
        createJoinToken: ({ namespace, account, uses }) => ({
          token: `join-${namespace}-${account}-${uses}`,
          notAfter: timestampFromMs(1_800_000_000_000),
        }),
      });
    },
    interceptors: [],
    tls: undefined,
    corsOrigins: [],
    clock: new ManualClock(),
    warn: () => undefined,
  });
  address = `127.0.0.1:${await listener.listen("127.0.0.1", 0)}`;
});

afterAll(() => listener.close(0));

beforeEach(() => {
  [sidecars, asked] = [[], []];
});

const outrigger = (...words: string[]) => runCommand([...words, "--control", address]);

test("says of each what it enforces since when, and of one that refused which field and why", async () => {
  sidecars = [
    sidecar("a"),
    sidecar("b", { connected: false, lastHeard: ago(180), behind: durationFromMs(3_000) }),
    refused,
    sidecar("none", { root: "" }),
  ];
  const { code, stdout } = await outrigger("status");
  expect(code).toBe(3);
  const lines = stdout.split("\n");
  expect(lines[0]).toMatch(/^ACCOUNT +INSTANCE +ROOT +REVISION +SINCE +STATE$/);
  expect(lines[1]).toMatch(/^default\/chat +a +a{12} +41 +3h ago +current$/);
  expect(lines[2]).toMatch(/^default\/chat +b +a{12} +41 +3h ago +behind for 3s; not connected for 3m$/);
  expect(lines[3]).toMatch(/^default\/chat +old-one +a{12} +41 +3h ago +refused for 95s$/);
  expect(lines[4]).toMatch(/^default\/chat +none +none +3h ago +current$/);
  expect(stdout).toContain(
    "default/chat old-one refused bbbbbbbbbbbb and keeps aaaaaaaaaaaa:\n  error: Provider default/near: spec.credential.header.secret.delivered: This field needs capability level 2, this sidecar has 1. [policy/unknown-field]",
  );
  expect(stdout).toContain("Roll-out r42 of revision 42 (before: 41): staged at 33.3 %; 1 enforce it, 1 refused it");
  // Nobody is counted any longer for what is over: "taken back; 1 enforce it" was told of a sidecar that had gone back.
  expect((await outrigger("rollout", "list")).stdout).toContain(
    "Roll-out r41 of revision 41 (before: 40): taken back. 9 of 9 calls failed under it\n",
  );
  expect(stdout).toContain("2 of 4 sidecars enforce what they should; 1 is not connected. The newest revision is 42.");
});

test("ends with 0 when all enforce what they should, and gives machines everything", async () => {
  sidecars = [sidecar("a")];
  const { code, stdout } = await outrigger("-o", "json", "status", "--namespace", "default", "--behind");
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    revision: 42,
    total: 1,
    current: 1,
    sidecars: [{ instance: "a", root: "a".repeat(64) }],
    problems: [],
  });
  expect(asked).toMatchObject([{ namespace: "default", behindOnly: true }]);
});

// Right after control had restarted, one sidecar of a hundred was there, and all was said to be well.
test("does not end with 0 while one that was there is not connected, unless only those that are were asked for", async () => {
  sidecars = [sidecar("a"), sidecar("b", { connected: false, lastHeard: ago(7 * 3600) }), sidecar("c", { connected: false })];
  const { code, stdout } = await outrigger("status");
  expect(code).toBe(3);
  expect(stdout).toMatch(/^default\/chat +b +a{12} +41 +3h ago +not connected for 7h$/m);
  expect(stdout).toContain("1 of 3 sidecars enforces what it should; 2 are not connected. The newest revision is 42.");
  sidecars = [sidecar("a")];
  expect((await outrigger("status", "--connected")).code).toBe(0);
  expect(asked.map(({ connectedOnly }) => connectedOnly)).toEqual([false, false, true]);
});

test("makes a join token, and says who may use it how long", async () => {
  const made = await outrigger("join-token", "create", "--account", "chat", "--uses", "3", "--expires", "2h");
  expect(made).toEqual({
    code: 0,
    stdout: "join-default-chat-3\n",
    stderr: expect.stringContaining("3 sidecars may join with it as default/chat until 2027-01-15T08:00:00Z"),
  });
  expect((await outrigger("join-token", "create")).code).toBe(2);
});
