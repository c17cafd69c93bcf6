/** The properties of the client again, in many more storms. */
import { clientProperties } from "./clientProperties.ts";

clientProperties(10_000);
