/**
 * The rules that a resource must keep on its own: those that stand in its proto, and those that a proto cannot say.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { Path } from "@bufbuild/protobuf/reflect";
import { createValidator, type Validator, type Violation } from "@bufbuild/protovalidate";
import type { Consumer } from "../gen/outrigger/policy/v1/consumer_pb.ts";
import type { Provider } from "../gen/outrigger/policy/v1/provider_pb.ts";
import type { Tree } from "./document.ts";
import { apiVersion, type Resource } from "./kinds.ts";
import type { ProblemId } from "./problem.ts";
import { type RememberedDocuments, rememberDocuments } from "./remembered.ts";
import { isSensitive, isShowable, shown } from "./secrecy.ts";
import { entryPath, itemPath, memberPath, shownName } from "./shape.ts";

/** A rule that was broken. */
export interface Breach {
  readonly id: ProblemId;
  readonly field: string;
  readonly message: string;
  readonly hint: string;
}

/**
 * Knows the rules that stand in protos, and texts that keep them. It plans the rules of each kind once, which takes tens of milliseconds:
 * keep one and use it again.
 */
export interface Rules {
  readonly validator: Validator;
  /** Undefined if nothing is remembered: then every text is read as a whole. */
  readonly remembered: RememberedDocuments | undefined;
}

/** Characters of documents that are remembered, unless said otherwise: some ten thousand resources, in 16 MB. */
const rememberedCharacters = 16 * 1024 * 1024;

/** Makes what knows the rules, and remembers documents of so many characters; 0 for none. */
export function makeRules(charactersMax: number = rememberedCharacters): Rules {
  return { validator: createValidator(), remembered: charactersMax === 0 ? undefined : rememberDocuments(charactersMax) };
}

/**
 * The rules of its proto that a message breaks. `givenAt` tells what the text has at a path. Only one rule is told of a field that
 * is missing, since every rule of it is broken then.
 */
export function brokenRules(rules: Rules, schema: DescMessage, message: Message, givenAt: (field: string) => Tree | undefined): Breach[] {
  const result = rules.validator.validate(schema, message);
  // A rule that cannot be evaluated is a fault of the proto, which its tests find; it must not let a resource pass.
  if (result.kind === "error") {
    const hint = "Please report this: it is a fault of Outrigger.";
    return [{ id: "policy/rule", field: "", message: "A rule of this kind could not be evaluated.", hint }];
  }
  const breaches: Breach[] = [];
  const missing = new Set<string>();
  for (const violation of result.violations ?? []) {
    const field = pathText(violation.field);
    const given = givenAt(field);
    if (given !== undefined) breaches.push(breachOf(violation, field, given));
    else if (!missing.has(field)) {
      missing.add(field);
      breaches.push(missingField(violation, field));
    }
  }
  return breaches;
}

/** Checks of one resource that its proto cannot say. */
export function furtherBreaches(resource: Resource): Breach[] {
  switch (resource.$typeName) {
    case "outrigger.policy.v1.Provider":
      return [...headerBreaches(resource), ...accessKeyBreaches(resource)];
    case "outrigger.policy.v1.Consumer":
      return hashBreaches(resource);
    default:
      return [];
  }
}

/** Hashes that a shell computes when the variable with the key is not set: whoever shows an empty key would be this consumer. */
function hashBreaches(consumer: Consumer): Breach[] {
  return (consumer.spec?.identities ?? []).flatMap(({ kind }, index): Breach[] => {
    if (kind.case !== "apiKey" || !hashesOfNothing.has(kind.value.sha256)) return [];
    const message = "This is the hash of an empty text or an empty line, and not of a key.";
    const hint = 'Set the variable first, then: printf %s "$KEY" | sha256sum.';
    return [{ id: "policy/hash-of-nothing", field: `spec.identities[${index}].api_key.sha256`, message, hint }];
  });
}

const hashesOfNothing: ReadonlySet<string> = new Set([
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b",
]);

/** Of keys that sign: they stand in the credential, whole, or come from a source, and not both. */
function accessKeyBreaches(resource: Provider): Breach[] {
  const form = resource.spec?.credential?.form;
  if (form?.case !== "aws") return [];
  const { source, accessKeyId, secretAccessKey, sessionToken } = form.value;
  const field = "spec.credential.aws";
  const parts = { access_key_id: accessKeyId, secret_access_key: secretAccessKey, session_token: sessionToken };
  const given = Object.entries(parts).flatMap(([name, part]) => (part === undefined ? [] : [name]));
  const sources = "chain, profile, web_identity, container or instance";
  if (source.case !== undefined) {
    return given.map((name) => ({
      id: "policy/more-than-one",
      field: memberPath(field, name),
      message: "An access key stands beside a source of keys, and only one of the two can sign.",
      hint: "Remove one of the two.",
    }));
  }
  if (given.length === 0) {
    const message = "Neither an access key nor a source of keys is given.";
    return [{ id: "policy/missing-field", field, message, hint: `Add access_key_id and secret_access_key, or one of ${sources}.` }];
  }
  const missing = ["access_key_id", "secret_access_key"].filter((name) => !given.includes(name));
  return missing.map((name) => ({
    id: "policy/missing-field",
    field: memberPath(field, name),
    message: `An access key needs its ${name}, too.`,
    hint: `Add it, or give one of ${sources} in place of the key.`,
  }));
}

function headerBreaches(resource: Provider): Breach[] {
  const breaches: Breach[] = [];
  for (const name of Object.keys(resource.spec?.headers ?? {})) {
    const field = entryPath("spec.headers", name);
    if (framingHeaders.has(name)) {
      const message = `The header ${name} belongs to the transport or the dialect and cannot be set.`;
      breaches.push({ id: "policy/reserved-header", field, message, hint: "Remove it." });
    } else if (credentialHeaders.has(name)) {
      const message = `The header ${name} carries a credential and cannot be written here.`;
      breaches.push({
        id: "policy/reserved-header",
        field,
        message,
        hint: "Give it as spec.credential.header, with the secret by reference.",
      });
    }
  }
  const credential = resource.spec?.credential?.form;
  if (credential?.case === "header" && framingHeaders.has(credential.value.name)) {
    const message = `The header ${credential.value.name} belongs to the transport or the dialect and cannot carry a credential.`;
    breaches.push({
      id: "policy/reserved-header",
      field: "spec.credential.header.name",
      message,
      hint: "Name the header that the provider documents.",
    });
  }
  return breaches;
}

/** Headers that decide where a message ends or how it is coded (RFC 9110, section 7.6.1; RFC 9112, section 6), or that a dialect sets. */
const framingHeaders: ReadonlySet<string> = new Set([
  "accept",
  "accept-encoding",
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "expect",
  "host",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Headers that carry credentials. */
const credentialHeaders: ReadonlySet<string> = new Set([
  "api-key",
  "authorization",
  "cookie",
  "x-api-key",
  "x-auth-token",
  "x-goog-api-key",
]);

function breachOf(violation: Violation, field: string, given: Tree): Breach {
  const subject = violation.forKey ? "The key" : `The ${given.is === "list" ? "list" : given.is === "mapping" ? "mapping" : "value"}`;
  const seen = violation.forKey
    ? ""
    : seenText(
        given,
        violation.field.some((part) => part.kind === "field" && isSensitive(part)),
      );
  const id = field === "apiVersion" ? "policy/unknown-api-version" : "policy/rule";
  return { id, field, message: `${subject}${seen} ${violation.message}.`, hint: ruleHint(violation, field) };
}

/** A scalar's own text with a blank before, if it may be shown. */
function seenText(given: Tree, sensitive: boolean): string {
  switch (given.is) {
    case "text":
      return isShowable(given.value, sensitive) ? ` ${shown(given.value)}` : "";
    case "whole":
    case "fraction":
    case "truth":
      return ` ${given.value}`;
    default:
      return "";
  }
}

function missingField(violation: Violation, field: string): Breach {
  const last = violation.field.at(-1);
  if (last?.kind === "oneof") {
    const names = last.fields.map(shownName).join(", ");
    const message = last.fields.length === 1 ? `${names} is missing.` : `One of these is missing: ${names}.`;
    return { id: "policy/missing-field", field, message, hint: `Add ${last.fields.length === 1 ? "it" : "exactly one of them"}.` };
  }
  const rule = violation.ruleId === "required" ? "" : ` It ${violation.message}.`;
  return { id: "policy/missing-field", field, message: `${lastName(violation.field)} is missing.${rule}`, hint: "Add it." };
}

/** What to do, for rules whose own words leave one guessing. */
function ruleHint(violation: Violation, field: string): string {
  if (field.endsWith("sha256")) return 'Hash the key: printf %s "$KEY" | sha256sum. Never write the key itself.';
  if (field === "metadata.name" || field === "metadata.namespace") {
    return "Use small letters, digits and hyphens, with a letter or digit at both ends; names may also have dots.";
  }
  if (field === "apiVersion") return `Write ${apiVersion}.`;
  if (field === "spec.endpoint") return "Write an address such as https://api.example.com/v1, without user, query or fragment.";
  if (violation.ruleId.endsWith(".min_items")) return "Add one.";
  if (violation.ruleId.endsWith(".pattern")) return "Write it in that form.";
  if (/[.](gte?|lte?)(_lte?|_gte?)?$/.test(violation.ruleId)) return "Write a value in that range.";
  return "Write a value that keeps the rule.";
}

function lastName(path: Path): string {
  for (const part of path.toReversed()) {
    if (part.kind === "field") return shownName(part);
    if (part.kind === "oneof") return part.name;
  }
  return "A field";
}

/** A violation's path as the text that the walk made of it. */
function pathText(path: Path): string {
  let text = "";
  for (const part of path) {
    switch (part.kind) {
      case "field":
        text = memberPath(text, shownName(part));
        break;
      case "oneof":
        text = memberPath(text, part.name);
        break;
      case "list_sub":
        text = itemPath(text, part.index);
        break;
      case "map_sub":
        text = entryPath(text, String(part.key));
        break;
      default:
        throw new Error("policy has no extensions");
    }
  }
  return text;
}
