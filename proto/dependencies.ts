/**
 * Lays out the `.proto` files of others that ours import, under `node_modules/.proto`, so that buf needs no network.
 *
 * protovalidate's npm package carries no `.proto` file, only a descriptor: it is printed back to text here. gRPC's health and
 * reflection protos come from the packages that serve them for grpc-js, the google.rpc ones from Google's own package. None of
 * these files is committed; only the code that is generated from them is.
 *
 * Run as a program by `npm run generate`, before buf.
 */
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type DescField, type DescFile, type DescMessage, type DescOneof, ScalarType } from "@bufbuild/protobuf";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

if (process.argv[1] === fileURLToPath(import.meta.url)) layOut(join(import.meta.dirname, ".."));

/** Writes the files below `root`/node_modules/.proto. */
function layOut(root: string): void {
  const target = join(root, "node_modules/.proto");
  const modules = join(root, "node_modules");
  rmSync(target, { recursive: true, force: true });
  for (const folder of ["buf/validate", "google/rpc", "grpc/health/v1", "grpc/reflection/v1"]) {
    mkdirSync(join(target, folder), { recursive: true });
  }
  writeFileSync(join(target, "buf/validate/validate.proto"), printFile(file_buf_validate_validate));
  for (const name of ["error_details", "status"]) {
    cpSync(join(modules, `google-proto-files/google/rpc/${name}.proto`), join(target, `google/rpc/${name}.proto`));
  }
  cpSync(join(modules, "grpc-health-check/proto/health/v1/health.proto"), join(target, "grpc/health/v1/health.proto"));
  cpSync(
    join(modules, "@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto"),
    join(target, "grpc/reflection/v1/reflection.proto"),
  );
}

/** A proto2 file as text, without options: enough for a compiler that reads the same descriptor from it again. */
function printFile(file: DescFile): string {
  const lines = ['syntax = "proto2";', `package ${file.proto.package};`];
  for (const dependency of file.dependencies) lines.push(`import "${dependency.proto.name}";`);
  for (const enumeration of file.enums) {
    const values = enumeration.values.map((value) => `  ${value.name} = ${value.number};`);
    lines.push(`enum ${enumeration.name} {`, ...values, "}");
  }
  for (const message of file.messages) lines.push(...printMessage(message));
  for (const extension of file.extensions) {
    lines.push(`extend ${extension.extendee.typeName} { ${printField(extension, true)} }`);
  }
  return `${lines.join("\n")}\n`;
}

function printMessage(message: DescMessage): string[] {
  const lines = [`message ${message.name} {`];
  for (const range of message.proto.extensionRange) {
    lines.push(`  extensions ${range.start} to ${range.end >= 536870912 ? "max" : range.end - 1};`);
  }
  for (const enumeration of message.nestedEnums) {
    const values = enumeration.values.map((value) => `    ${value.name} = ${value.number};`);
    lines.push(`  enum ${enumeration.name} {`, ...values, "  }");
  }
  for (const nested of message.nestedMessages) lines.push(...printMessage(nested).map((line) => `  ${line}`));
  for (const member of message.members) lines.push(`  ${member.kind === "oneof" ? printOneof(member) : printField(member, true)}`);
  lines.push("}");
  return lines;
}

function printOneof(oneof: DescOneof): string {
  return `oneof ${oneof.name} { ${oneof.fields.map((field) => printField(field, false)).join(" ")} }`;
}

function printField(field: Pick<DescField, "name" | "number" | "fieldKind" | "proto"> & object, labelled: boolean): string {
  const described = field as DescField;
  if (described.fieldKind === "map") {
    const value =
      described.mapKind === "scalar" ? ScalarType[described.scalar].toLowerCase() : (described.message ?? described.enum).typeName;
    return `map<${ScalarType[described.mapKey].toLowerCase()}, ${value}> ${described.name} = ${described.number};`;
  }
  let type: string;
  if (described.fieldKind === "list") {
    type =
      described.listKind === "scalar" ? ScalarType[described.scalar].toLowerCase() : `.${(described.message ?? described.enum).typeName}`;
  } else {
    type =
      described.fieldKind === "scalar" ? ScalarType[described.scalar].toLowerCase() : `.${(described.message ?? described.enum)?.typeName}`;
  }
  const label = described.fieldKind === "list" ? "repeated " : labelled ? "optional " : "";
  return `${label}${type} ${described.name} = ${described.number};`;
}
