/** `outrigger rotate-key`: another key that signs roots, in control's data folder. */
import { openPrivateFolder } from "../../mesh/privateFolder.ts";
import { rotateSigningKey } from "../../mesh/signing.ts";
import type { Terminal } from "../terminal.ts";
import { ExitCode } from "../world.ts";

/** Makes one, endorsed by the key before it. A control that runs signs with it once it starts again. */
export async function rotateKey(terminal: Terminal, dataFolder: string): Promise<number> {
  const { keyId, keys } = rotateSigningKey(openPrivateFolder(dataFolder));
  const before = keys.slice(1).map(({ id }) => id);
  await terminal.result(
    { key: keyId, before },
    before.length === 0
      ? `The first key is ${keyId}.\n`
      : `Roots are signed with ${keyId} once control starts again; ${before[0]} has endorsed it, so sidecars follow.\n`,
  );
  return ExitCode.ok;
}
