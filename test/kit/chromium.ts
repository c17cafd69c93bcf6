/** Where a Chromium is that tests can drive. */
import { existsSync } from "node:fs";

/** The program's path: what CHROMIUM_PATH names, or where distributions put it; undefined if there is none. */
export function chromiumPath(): string | undefined {
  const named = process.env.CHROMIUM_PATH;
  const candidates = named !== undefined ? [named] : ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  return candidates.find((path) => existsSync(path));
}
