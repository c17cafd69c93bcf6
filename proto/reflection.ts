/**
 * gRPC's server reflection (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md): tells clients such as grpcurl which
 * services there are and how their messages look. Only the services it is given exist for it.
 */
import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { GrpcCode } from "./fault.ts";
import type { ServerReflection, ServerReflectionRequest, ServerReflectionResponse } from "./gen/grpc/reflection/v1/reflection_pb.ts";

type Answer = ServerReflectionResponse["messageResponse"];

/** Answers about these services and all that their messages are made of. */
export function reflectionService(services: readonly DescService[]): ServiceImpl<typeof ServerReflection> {
  const index = indexOf(services);
  return {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) yield response(request, answerTo(index, request));
    },
  };
}

/** All that can be asked for, by what it is asked by. */
interface Index {
  readonly services: readonly string[];
  readonly byName: ReadonlyMap<string, DescFile>;
  readonly bySymbol: ReadonlyMap<string, DescFile>;
  /** The files of extensions, by the message that is extended and the extension's number. */
  readonly byExtension: ReadonlyMap<string, ReadonlyMap<number, DescFile>>;
}

function answerTo(index: Index, { messageRequest: asked }: ServerReflectionRequest): Answer {
  switch (asked.case) {
    case "listServices": {
      const service = index.services.map((name) => ({ $typeName: "grpc.reflection.v1.ServiceResponse" as const, name }));
      return { case: "listServicesResponse", value: { $typeName: "grpc.reflection.v1.ListServiceResponse", service } };
    }
    case "fileByFilename":
      return fileAnswer(index.byName.get(asked.value), `no file ${asked.value}`);
    case "fileContainingSymbol":
      return fileAnswer(index.bySymbol.get(asked.value), `no symbol ${asked.value}`);
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = asked.value;
      const file = index.byExtension.get(containingType)?.get(extensionNumber);
      return fileAnswer(file, `no extension ${extensionNumber} of ${containingType}`);
    }
    case "allExtensionNumbersOfType": {
      const extensions = index.byExtension.get(asked.value);
      // A message without extensions has an empty list; what is no message has none.
      if (extensions === undefined && !index.bySymbol.has(asked.value)) return errorAnswer(`no message ${asked.value}`);
      const extensionNumber = [...(extensions?.keys() ?? [])].sort((a, b) => a - b);
      const value = { $typeName: "grpc.reflection.v1.ExtensionNumberResponse" as const, baseTypeName: asked.value, extensionNumber };
      return { case: "allExtensionNumbersResponse", value };
    }
    case undefined: {
      const errorMessage = "The request asks for nothing.";
      return {
        case: "errorResponse",
        value: { $typeName: "grpc.reflection.v1.ErrorResponse", errorCode: GrpcCode.INVALID_ARGUMENT, errorMessage },
      };
    }
  }
}

/** A file with all that it needs, since a client would ask for the rest one by one. */
function fileAnswer(file: DescFile | undefined, missing: string): Answer {
  if (file === undefined) return errorAnswer(missing);
  const files = new Map<string, DescFile>();
  addWithDependencies(files, file);
  const fileDescriptorProto = [...files.values()].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: "fileDescriptorResponse", value: { $typeName: "grpc.reflection.v1.FileDescriptorResponse", fileDescriptorProto } };
}

function errorAnswer(missing: string): Answer {
  // What was asked for came from outside and may be long.
  const errorMessage = `There is ${missing.slice(0, 200)} here.`;
  return {
    case: "errorResponse",
    value: { $typeName: "grpc.reflection.v1.ErrorResponse", errorCode: GrpcCode.NOT_FOUND, errorMessage },
  };
}

function response(request: ServerReflectionRequest, messageResponse: Answer): ServerReflectionResponse {
  return {
    $typeName: "grpc.reflection.v1.ServerReflectionResponse",
    validHost: request.host,
    originalRequest: request,
    messageResponse,
  };
}

function indexOf(services: readonly DescService[]): Index {
  const byName = new Map<string, DescFile>();
  for (const { file } of services) addWithDependencies(byName, file);
  const bySymbol = new Map<string, DescFile>();
  const byExtension = new Map<string, Map<number, DescFile>>();
  const public_ = new Set(services);
  for (const file of byName.values()) {
    for (const service of file.services) {
      if (!public_.has(service)) continue;
      bySymbol.set(service.typeName, file);
      for (const method of service.methods) bySymbol.set(`${service.typeName}.${method.name}`, file);
    }
    const messages = [...file.messages];
    for (const message of messages) {
      bySymbol.set(message.typeName, file);
      for (const member of message.proto.field) bySymbol.set(`${message.typeName}.${member.name}`, file);
      for (const nested of message.nestedEnums) bySymbol.set(nested.typeName, file);
      messages.push(...message.nestedMessages);
    }
    for (const enumeration of file.enums) bySymbol.set(enumeration.typeName, file);
    for (const extension of file.extensions) {
      bySymbol.set(extension.typeName, file);
      const numbers = byExtension.get(extension.extendee.typeName) ?? new Map<number, DescFile>();
      numbers.set(extension.number, file);
      byExtension.set(extension.extendee.typeName, numbers);
    }
  }
  return { services: services.map(({ typeName }) => typeName).sort(), byName, bySymbol, byExtension };
}

/** Adds a file after everything that it imports. Their names are those in `import` lines, endings included. */
function addWithDependencies(files: Map<string, DescFile>, file: DescFile): void {
  if (files.has(file.proto.name)) return;
  for (const dependency of file.dependencies) addWithDependencies(files, dependency);
  files.set(file.proto.name, file);
}
