import { create } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Fault } from "../../../proto/fault.ts";
import { ListModelsRequestSchema, ModelService } from "../../../proto/gen/outrigger/chat/v1/model_service_pb.ts";
import { FakeHouse } from "../../../test/kit/house.ts";
import { type OpenDoor, openDoor, toldFault, transports } from "../../../test/kit/rpc.ts";
import { request1 } from "../../../test/kit/sockets.ts";
import { rpcDoor } from "../connect.ts";
import { listModels } from "./models.ts";

function request(pageSize: number, pageToken = "") {
  return create(ListModelsRequestSchema, { pageSize, pageToken });
}

describe("listModels", () => {
  test("pages hold every model once, in order, whatever their size", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.string({ minLength: 1, maxLength: 12 }), { maxLength: 40 }),
        fc.integer({ min: 1, max: 12 }),
        (names, size) => {
          const models = names.sort().map((name) => ({ name, route: `${name}-route` }));
          const listed: string[] = [];
          let token = "";
          let pages = 0;
          do {
            const page = listModels(models, request(size, token));
            expect(page.models.length).toBeLessThanOrEqual(size);
            listed.push(...page.models.map(({ name }) => name));
            token = page.nextPageToken;
            pages++;
          } while (token !== "");
          expect(listed).toEqual(names);
          expect(pages).toBe(Math.max(1, Math.ceil(names.length / size)));
        },
      ),
    );
  });

  test("a list that changes between pages neither repeats nor skips what stayed", () => {
    const models = ["a", "b", "c", "d"].map((name) => ({ name, route: "r" }));
    const first = listModels(models, request(2));
    const second = listModels(
      [models[0], { name: "aa", route: "r" }, ...models.slice(2)] as typeof models,
      request(2, first.nextPageToken),
    );
    expect(second.models.map(({ name }) => name)).toEqual(["c", "d"]);
  });

  test.each([
    ["a negative size", request(-1)],
    ["a size beyond the limit", request(1_001)],
    ["a token that is not ours", request(0, "abc")],
    ["a token that is none", request(0, "\u0000")],
    ["a token beyond the limit", request(0, "x".repeat(1_025))],
  ])("%s is refused", (_, asked) => {
    expect(() => listModels([], asked)).toThrow(Fault);
  });
});

describe("ModelService", () => {
  let house: FakeHouse;
  let opened: OpenDoor;

  beforeEach(async () => {
    house = new FakeHouse();
    house.models = Array.from({ length: 100 }, (_, index) => ({ name: `model-${String(index).padStart(3, "0")}`, route: "some-route" }));
    opened = await openDoor(house, rpcDoor(house, { requestBytesMax: 100_000, reflection: false, generic: false }));
  });

  afterEach(() => opened.close());

  test.each(Object.entries(transports))("lists page by page over %s", async (_, transport) => {
    const client = createClient(ModelService, transport(opened.port));
    const first = await client.listModels({ pageSize: 60 }, { headers: { authorization: "Bearer right" } });
    const second = await client.listModels({ pageSize: 60, pageToken: first.nextPageToken }, { headers: { "x-api-key": "right" } });
    expect([...first.models, ...second.models].map(({ name, route }) => ({ name, route }))).toEqual(house.models);
    expect(second.nextPageToken).toBe("");
  });

  test.each(Object.entries(transports))("tells faults whole over %s", async (_, transport) => {
    const client = createClient(ModelService, transport(opened.port));
    expect(await toldFault(client.listModels({}, { headers: { "x-api-key": "wrong" } }))).toMatchObject({
      code: Code.Unauthenticated,
      reason: "CREDENTIAL_INVALID",
      requestId: "id-1",
    });
    expect(await toldFault(client.listModels({ pageSize: 2_000 }))).toMatchObject({ code: Code.InvalidArgument, fields: ["page_size"] });
    expect(house.refusals.map(({ fault }) => fault.kind.name)).toEqual(["CREDENTIAL_INVALID", "REQUEST_INVALID"]);
  });

  test("can be read with GET, which caches keep, compressed if they like", async () => {
    const query = `message=${encodeURIComponent('{"pageSize":2}')}&encoding=json&connect=v1`;
    const answer = await request1(opened.port, "GET", `/outrigger.chat.v1.ModelService/ListModels?${query}`);
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.body)).toMatchObject({ models: [{ name: "model-000" }, { name: "model-001" }] });
    expect(house.refusals).toEqual([]);
    const broken = await request1(opened.port, "GET", "/outrigger.chat.v1.ModelService/ListModels?message=%7B&encoding=json");
    expect(broken.status).toBe(400);
    expect(house.refusals.map(({ fault }) => fault.kind.name)).toEqual(["REQUEST_INVALID"]);
    const client = createClient(
      ModelService,
      createConnectTransport({ baseUrl: `http://127.0.0.1:${opened.port}`, httpVersion: "1.1", useHttpGet: true }),
    );
    expect((await client.listModels({})).models).toHaveLength(100);
  });
});
