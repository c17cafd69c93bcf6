import { create, createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  type ServerReflectionResponse,
  ServerReflectionResponseSchema,
} from "../../proto/gen/grpc/reflection/v1/reflection_pb.ts";
import { FakeHouse } from "../../test/kit/house.ts";
import { GrpcClient, type OpenDoor, openDoor } from "../../test/kit/rpc.ts";
import { rpcDoor } from "./connect.ts";

const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

type Asked = ServerReflectionRequest["messageRequest"];

describe("reflection", () => {
  let house: FakeHouse;
  let opened: OpenDoor;
  let client: GrpcClient;

  const open = async (reflection: boolean) => {
    house = new FakeHouse();
    opened = await openDoor(house, rpcDoor(house, { requestBytesMax: 1_000_000, reflection, generic: false }));
    client = new GrpcClient(opened.port);
  };

  beforeEach(() => open(true));

  afterEach(async () => {
    client.close();
    await opened.close();
  });

  /** Asks one thing after the other, each after the answer to the one before, as clients do. */
  async function ask(...questions: readonly Asked[]): Promise<ServerReflectionResponse[]> {
    const call = client.both(path, ServerReflectionRequestSchema, ServerReflectionResponseSchema);
    const answers: ServerReflectionResponse[] = [];
    const next = () => {
      const messageRequest = questions[answers.length];
      if (messageRequest === undefined) call.end();
      else call.write(create(ServerReflectionRequestSchema, { host: "h", messageRequest }));
    };
    await new Promise<void>((resolve, reject) => {
      call.on("data", (answer: ServerReflectionResponse) => {
        answers.push(answer);
        next();
      });
      call.on("error", reject);
      call.on("end", resolve);
      next();
    });
    return answers;
  }

  test("lists the public services, and no others", async () => {
    const [answer] = await ask({ case: "listServices", value: "*" });
    const listed = answer?.messageResponse;
    expect(listed?.case === "listServicesResponse" && listed.value.service.map(({ name }) => name)).toEqual([
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "outrigger.chat.v1.ChatCompletionService",
      "outrigger.chat.v1.EmbeddingService",
      "outrigger.chat.v1.ModelService",
    ]);
    expect(answer?.originalRequest?.host).toBe("h");
  });

  test("gives files that a client can build everything from, over one stream", async () => {
    const questions: Asked[] = [
      { case: "fileContainingSymbol", value: "outrigger.chat.v1.ChatCompletionService" },
      { case: "fileContainingSymbol", value: "outrigger.chat.v1.ChatCompletionService.StreamChatCompletion" },
      { case: "fileContainingSymbol", value: "outrigger.chat.v1.ChatRequest.temperature" },
      { case: "fileContainingSymbol", value: "outrigger.chat.v1.FinishReason" },
      { case: "fileByFilename", value: "grpc/health/v1/health.proto" },
      {
        case: "fileContainingExtension",
        value: { $typeName: "grpc.reflection.v1.ExtensionRequest", containingType: "google.protobuf.FieldOptions", extensionNumber: 1159 },
      },
    ];
    const answers = await ask(...questions);
    expect(answers).toHaveLength(questions.length);
    const last = answers.map((answer) => filesIn(answer).at(-1)?.name);
    expect(last).toEqual([
      "outrigger/chat/v1/chat_completion_service.proto",
      "outrigger/chat/v1/chat_completion_service.proto",
      "outrigger/chat/v1/conversation.proto",
      "outrigger/chat/v1/conversation.proto",
      "grpc/health/v1/health.proto",
      "buf/validate/validate.proto",
    ]);
    const [first] = answers;
    if (first === undefined) throw new Error("there should be an answer");
    const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: filesIn(first) }));
    const service = registry.getService("outrigger.chat.v1.ChatCompletionService");
    expect(service?.methods.map(({ name, output }) => [name, output.typeName])).toEqual([
      ["CreateChatCompletion", "outrigger.chat.v1.CreateChatCompletionResponse"],
      ["StreamChatCompletion", "outrigger.chat.v1.StreamChatCompletionResponse"],
    ]);
  });

  test("tells the numbers of extensions", async () => {
    const [some, none] = await ask(
      { case: "allExtensionNumbersOfType", value: "google.protobuf.FieldOptions" },
      { case: "allExtensionNumbersOfType", value: "outrigger.chat.v1.ChatRequest" },
    );
    expect(some?.messageResponse).toMatchObject({ case: "allExtensionNumbersResponse", value: { extensionNumber: [1159, 1160] } });
    expect(none?.messageResponse).toMatchObject({ case: "allExtensionNumbersResponse", value: { extensionNumber: [] } });
  });

  test("does not know what is not public, and goes on", async () => {
    const answers = await ask(
      { case: "fileContainingSymbol", value: "outrigger.policy.v1.Provider" },
      { case: "fileByFilename", value: "outrigger/policy/v1/provider.proto" },
      { case: "allExtensionNumbersOfType", value: "x.Y" },
      {
        case: "fileContainingExtension",
        value: { $typeName: "grpc.reflection.v1.ExtensionRequest", containingType: "x.Y", extensionNumber: 1 },
      },
      { case: undefined },
      { case: "listServices", value: "" },
    );
    expect(answers.map(({ messageResponse }) => (messageResponse.case === "errorResponse" ? messageResponse.value.errorCode : 0))).toEqual([
      5, 5, 5, 5, 3, 0,
    ]);
  });

  test("can be switched off", async () => {
    client.close();
    await opened.close();
    await open(false);
    await expect(ask({ case: "listServices", value: "*" })).rejects.toMatchObject({ code: 12 });
    expect(house.refusals.map(({ fault }) => fault.kind.name)).toEqual(["PATH_NOT_FOUND"]);
  });
});

function filesIn({ messageResponse }: ServerReflectionResponse): FileDescriptorProto[] {
  if (messageResponse.case !== "fileDescriptorResponse") throw new Error(`answered with ${messageResponse.case}`);
  return messageResponse.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
}
