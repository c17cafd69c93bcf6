/** `outrigger trust`: the certificate by which sidecars and people know a control. */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { authorityPath } from "../../mesh/authority.ts";
import type { Terminal } from "../terminal.ts";
import { ExitCode, Failure, type World } from "../world.ts";

/** Prints the certificate of the authority in a data folder in PEM, and never its key, which stands in the same file. */
export async function trust(_world: World, terminal: Terminal, dataFolder: string): Promise<number> {
  const path = authorityPath(dataFolder);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    const [what, next] =
      code === "ENOENT"
        ? ["is not there yet", "Start control with this data folder once: `outrigger control` makes it."]
        : ["cannot be read", "Run this as the user that control runs as."];
    throw new Failure(`${path} ${what}.`, next);
  }
  const begin = text.indexOf("-----BEGIN CERTIFICATE-----");
  if (begin === -1) throw new Failure(`${path} holds no certificate.`, "Restore the data folder from a backup.");
  const certificate = new X509Certificate(text.slice(begin));
  const pem = certificate.toString();
  const sha256 = certificate.fingerprint256.replaceAll(":", "").toLowerCase();
  await terminal.result({ certificate: pem, sha256, notAfter: certificate.validToDate.toISOString() }, pem);
  return ExitCode.ok;
}
