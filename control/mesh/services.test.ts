import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ListSidecarsRequestSchema, ListSidecarsResponseSchema } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { createSidecarService, type ServiceParts } from "./services.ts";

/** The times of some sidecars could not be written to the wire, and with one of them nobody could be listed any more. */
test("whatever time a sidecar took, it can be told", async () => {
  const times = Array.from({ length: 5000 }, (_, index) => 1 + index * 977);
  const record = {
    namespace: "default",
    account: "chat",
    instance: "one",
    wanted: { root: "", revision: 0 },
    lastHeardMs: 0,
    connected: true,
  };
  const mesh = { sidecars: () => times.map((applyUs) => ({ ...record, applyUs, root: "", revision: 0 })), revision: 1 };
  const parts = { mesh, clock: new ManualClock() } as unknown as ServiceParts;
  const page = await createSidecarService(parts).listSidecars(create(ListSidecarsRequestSchema, { pageSize: 1000 }), undefined as never);
  const answer = create(ListSidecarsResponseSchema, page);
  expect(answer.sidecars).toHaveLength(1000);
  expect(() => toBinary(ListSidecarsResponseSchema, answer)).not.toThrow();
  expect(answer.sidecars[1]?.applyTime).toMatchObject({ seconds: 0n, nanos: 978_000 });
});
