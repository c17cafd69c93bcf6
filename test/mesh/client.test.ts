import { clientProperties } from "./clientProperties.ts";

clientProperties(400);
