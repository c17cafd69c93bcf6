/** The properties of scopes again, over many more policies. */
import { scopeProperties } from "./scopeProperties.ts";

scopeProperties(10_000);
