/**
 * All services of the RPC door on Connect's generic stack. Loaded when first one of them is called that is not driven by hand: it takes some
 * 5 % of a sidecar's whole start, and most sidecars never need it.
 */
import { Health } from "../../../proto/gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../../proto/gen/grpc/reflection/v1/reflection_pb.ts";
import { ChatCompletionService } from "../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { EmbeddingService } from "../../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { ModelService } from "../../../proto/gen/outrigger/chat/v1/model_service_pb.ts";
import { healthService } from "../../../proto/health.ts";
import { reflectionService } from "../../../proto/reflection.ts";
import type { House } from "../../call.ts";
import { chatService, embeddingService, modelService } from "./chatService.ts";
import { type GenericStack, genericStack } from "./generic.ts";

/** Questions about health and reflection are names. */
const questionBytesMax = 16 * 1024;

/** What the stack is told beside its house. */
export interface ServicesOptions {
  /** The most bytes of one message. */
  readonly requestBytesMax: number;
  /** Whether clients may ask which services there are. */
  readonly reflection: boolean;
}

/** Builds the stack. */
export function rpcServices(house: House, options: ServicesOptions): GenericStack {
  const services = [ChatCompletionService, EmbeddingService, ModelService];
  return genericStack(house, options.requestBytesMax, (router, callerOf) => {
    router.service(ChatCompletionService, chatService(house, callerOf));
    router.service(EmbeddingService, embeddingService(house, callerOf));
    router.service(ModelService, modelService(house, callerOf));
    const small = { readMaxBytes: questionBytesMax };
    router.service(
      Health,
      healthService(
        house,
        services.map(({ typeName }) => typeName),
      ),
      small,
    );
    if (options.reflection) router.service(ServerReflection, reflectionService([...services, Health, ServerReflection]), small);
  });
}
