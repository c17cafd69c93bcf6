/** SHA-256 of bytes or of text in UTF-8, as 64 hexadecimal digits. */
import { hash } from "node:crypto";

/** The hash of roots and resources. */
export function sha256(data: Uint8Array | string): string {
  return hash("sha256", data, "hex");
}
