import fc from "fast-check";
import { expect, test } from "vitest";
import { readProfiles } from "./profiles.ts";

const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9 ._-]{0,18}[A-Za-z0-9]$/);
const setting = fc.stringMatching(/^[a-z_]{1,12}$/);
const value = fc.stringMatching(/^[A-Za-z0-9+/=:.]{1,24}$/);
const blank = fc.constantFrom("", " ", "\t", "  ");

test("what is written in any of the ways that files are written in is read again", () => {
  const written = fc.record({ name, settings: fc.dictionary(setting, value, { maxKeys: 5 }), quoted: fc.boolean() });
  fc.assert(
    fc.property(
      fc.uniqueArray(written, { selector: (profile) => profile.name, maxLength: 6 }),
      fc.boolean(),
      blank,
      (profiles, inConfig, space) => {
        const lines = profiles.flatMap(({ name: profile, settings, quoted }) => [
          "# a comment",
          `[${inConfig ? "profile " : ""}${quoted ? `"${profile}"` : profile}]${space}`,
          ...Object.entries(settings).map(([key, text]) => `${key}${space}=${space}${text}${space === "" ? "" : " ; why"}`),
          `${space}`,
          "  indented = below another",
        ]);
        const text = lines.join(space === "\t" ? "\r\n" : "\n");
        const read = inConfig ? readProfiles(text, "") : readProfiles("", text);
        for (const { name: profile, settings } of profiles) {
          expect(read.has(profile)).toBe(true);
          expect(Object.fromEntries(read.settings(profile))).toEqual(settings);
        }
      },
    ),
  );
});

test("no text is too odd to be read", () => {
  const line = fc.oneof(fc.string(), fc.constantFrom("[", "]", "[]", "[profile ]", "=", "[a", "[[a]]", "x=[a]", "\u0000"));
  fc.assert(
    fc.property(fc.array(line), fc.array(line), (config, credentials) => {
      const read = readProfiles(config.join("\n"), credentials.join("\n"));
      expect(read.settings("constructor").size).toBe(read.has("constructor") ? read.settings("constructor").size : 0);
    }),
  );
});

test("a line that was made to take time takes none", () => {
  const long = " ".repeat(500_000);
  expect(readProfiles(`[${long}\n[profile a]\nx =${long}1\n`, `[a${long}]\ny = 2`).settings("a")).toEqual(
    new Map([
      ["x", "1"],
      ["y", "2"],
    ]),
  );
});
