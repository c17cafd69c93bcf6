import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { runCommand } from "../../../test/kit/command.ts";
import { openAuthority } from "../../mesh/authority.ts";
import { openPrivateFolder } from "../../mesh/privateFolder.ts";

const folder = mkdtempSync(join(tmpdir(), "outrigger-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("trust prints the certificate of control's authority, and not its key", async () => {
  const authority = await openAuthority(openPrivateFolder(folder), Date.UTC(2026, 10, 22));
  const { code, stdout, stderr } = await runCommand(["trust", "--data", folder]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout.trim()).toBe(authority.pem.trim());
  const { stdout: json } = await runCommand(["-o", "json", "trust", "--data", folder]);
  expect(JSON.parse(json)).toMatchObject({ sha256: authority.sha256 });
  expect(stdout + json).not.toContain("PRIVATE");
});

test("trust says what to do where control never ran", async () => {
  const { code, stderr } = await runCommand(["trust", "--data", join(folder, "none")]);
  expect(code).toBe(1);
  expect(stderr).toContain("authority.pem is not there yet.\nStart control with this data folder once");
});
