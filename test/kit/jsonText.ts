/** JSON as text, for properties about what is kept byte for byte: order of members, spelling of numbers, blanks, escapes. */
import fc from "fast-check";

/** Numbers in spellings that do not survive being parsed and printed. */
const numbers = ["0", "-0", "1.0", "0.10", "1e5", "1E+2", "12345678901234567890", "3.141592653589793238462643", "-1.5e-7"];

/** Strings in spellings that do not survive it either. */
const strings = [
  '""',
  '"plain"',
  '"\\u0041"',
  '"\\/slash"',
  '"gr\u00fcn \u{1F6A3}"',
  '"\\ud83d\\udea3"',
  '"a\\nb\\t\\"c\\""',
  '"</script>"',
];

const blank = fc.constantFrom("", " ", "\n  ", "\t");

/** Members whose names no format knows, so that nothing but passing them on can keep them. */
const unknownName = fc.constantFrom("x_trace", "x_custom", "x-dashed", "X_Upper", "x_ünïcode", "__proto__x", "constructor_x");

/** Any JSON value as text, at most a few levels deep. */
export const jsonText: fc.Arbitrary<string> = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, depthIdentifier: "json" },
    fc.constantFrom(...numbers, ...strings, "true", "false", "null"),
    fc.array(tie("value"), { maxLength: 3, depthIdentifier: "json" }).map((items) => `[${items.join(", ")}]`),
    unknownMembers(tie("value")).map((members) => `{${members.join(",")}}`),
  ),
})).value;

/** Some members that no format knows, each as `"name": value`. */
export function unknownMembers(value: fc.Arbitrary<string> = jsonText): fc.Arbitrary<string[]> {
  return fc
    .uniqueArray(fc.record({ name: unknownName, before: blank, after: blank, value }), { selector: ({ name }) => name, maxLength: 3 })
    .map((members) =>
      members.map(({ name, before, after, value: text }) => `${before}${JSON.stringify(name)}${after}:${after}${text}${before}`),
    );
}

/** An object of known members and unknown ones beside them, in any order. */
export function objectText(known: readonly fc.Arbitrary<string>[]): fc.Arbitrary<string> {
  return fc
    .tuple(fc.tuple(...known), unknownMembers())
    .chain(([fixed, unknown]) => fc.shuffledSubarray([...fixed, ...unknown], { minLength: fixed.length + unknown.length }))
    .map((members) => `{${members.join(",")}}`);
}
