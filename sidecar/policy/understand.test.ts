import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ProviderSchema } from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { groupResources } from "../../proto/resources.ts";
import { findForeign } from "./understand.ts";

const provider = create(ProviderSchema, {
  metadata: { name: "fast" },
  spec: { credential: { form: { case: "header", value: { secret: { source: { case: "delivered", value: "key" } } } } } },
});

test("what is above the level is a problem that names resource, field and both levels", () => {
  expect(findForeign(groupResources([provider]), 1)).toEqual([
    expect.objectContaining({
      id: "policy/not-understood",
      severity: "error",
      kind: "Provider",
      name: "default/fast",
      field: "spec.credential.header.secret.delivered",
      message: expect.stringContaining("needs capability level 2, this sidecar has 1"),
    }),
  ]);
});

test("what is not above the level is none", () => {
  expect(findForeign(groupResources([provider]), 2)).toEqual([]);
});
