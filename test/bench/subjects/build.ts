/** Compiles a checkout as its package ships it: JavaScript made by tsc. Node's own type stripping costs memory and start-up that no user pays. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Compiles the checkout at `root` into `folder`, and returns where the compiled bench's subjects are. */
export function buildSubjects(root: string, folder: string): string {
  mkdirSync(folder, { recursive: true });
  const config = {
    extends: join(root, "tsconfig.json"),
    compilerOptions: {
      noEmit: false,
      rootDir: root,
      outDir: folder,
      rewriteRelativeImportExtensions: true,
      typeRoots: [join(root, "node_modules/@types")],
    },
    include: ["proto", "sidecar", "test/bench/subjects"].map((part) => join(root, part)),
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  const built = spawnSync(join(root, "node_modules/.bin/tsc"), ["-p", join(folder, "tsconfig.json")], { encoding: "utf8" });
  const subjects = join(folder, "test/bench/subjects");
  // Code with a wrong type is compiled all the same, and runs if it can.
  if (!existsSync(join(subjects, "outrigger/main.js"))) throw new Error(`${root} could not be compiled: ${built.stdout}${built.stderr}`);
  return subjects;
}
