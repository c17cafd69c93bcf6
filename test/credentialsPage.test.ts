/** The examples on the page of credentials are policy without a finding, and there is one for every source that policy knows. */
import { readFileSync } from "node:fs";
import type { DescMessage } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CredentialSchema } from "../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { problemText, readResources } from "../proto/resources.ts";

const page = readFileSync(new URL("../docs/credentials.md", import.meta.url), "utf8");
const blocks = [...page.matchAll(/^```yaml\n(.*?)^```/gms)].map(([, block]) => block ?? "");

test("the examples are policy without a finding", () => {
  const { problems, resources } = readResources(blocks.map((text, index) => ({ path: `block-${index}.yaml`, text })));
  expect(problems.map(problemText)).toEqual([]);
  expect(resources.providers.length).toBeGreaterThan(blocks.length);
});

/** Names of the members of a message's choices, and of the choices of those that are forms of a credential. */
function choices(desc: DescMessage): string[] {
  return desc.oneofs.flatMap(({ fields }) => fields.map(({ name }) => name));
}

const forms = CredentialSchema.oneofs.flatMap(({ fields }) => fields);

test.each(forms.map(({ name, message }) => [name, message] as const))(
  "%s has a section, and each of its sources an example",
  (form, message) => {
    expect(page).toContain(`| [\`${form}\`](#`);
    const examples = blocks.join("\n");
    expect(examples).toContain(`${form}:`);
    const sources = message === undefined ? [] : choices(message);
    expect(sources.filter((source) => !examples.includes(`${source}: {`) && !examples.includes(`${source}:\n`))).toEqual([]);
  },
);
