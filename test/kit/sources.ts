/**
 * Reads our source files to the facts that rules are about: who imports whom, what a file does when it is imported, and which
 * globals and names stand in its code. The reading is the compiler's own, so that no comment and no string is taken for code.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import {
  isBlock,
  isCallExpression,
  isExportDeclaration,
  isIdentifier,
  isImportDeclaration,
  isImportTypeNode,
  isLiteralTypeNode,
  isNewExpression,
  isNoSubstitutionTemplateLiteral,
  isPropertyAccessExpression,
  isStringLiteral,
  isVariableStatement,
  type Node,
  NodeFlags,
  type SourceFile,
  SyntaxKind,
} from "typescript/unstable/ast";
import { createVirtualFileSystem } from "typescript/unstable/fs";
import { API } from "typescript/unstable/sync";

/** What a rule may know of one file. */
export interface Source {
  /** Below the repository's root, with forward slashes. */
  readonly path: string;
  readonly imports: readonly Import[];
  /** What happens when the file is imported, beside making constants and functions. */
  readonly effects: readonly Finding[];
  /** Reads of globals, as `Date.now` or `process`, each once for each line. */
  readonly globals: readonly Finding[];
  /** Identifiers and the contents of string literals. */
  readonly words: readonly Finding[];
}

/** One import, export-from, dynamic import or import type. */
export interface Import {
  /** As written. */
  readonly specifier: string;
  /** The file below the root for a relative one, the package's name or the `node:` module otherwise. */
  readonly target: string;
  /** Whether it vanishes when types are stripped. */
  readonly typeOnly: boolean;
  readonly dynamic: boolean;
  readonly line: number;
}

/** Something in a file. */
export interface Finding {
  readonly text: string;
  readonly line: number;
}

/** Globals by which a file would reach for time, chance, the process or the network on its own. */
const watchedGlobals = new Set([
  "process",
  "Date",
  "performance",
  "Math",
  "crypto",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "AbortSignal",
  "fetch",
  "WebSocket",
  "EventSource",
  "eval",
  "Function",
]);

/** Constructors of plain holders and readers: making one when a file is imported changes nothing outside it. */
const quietConstructors = new Set([
  "Map",
  "Set",
  "WeakMap",
  "WeakSet",
  "RegExp",
  "TextEncoder",
  "TextDecoder",
  "Uint8Array",
  "Int8Array",
  "Uint16Array",
  "Uint32Array",
  "Int32Array",
  "DataView",
  "ArrayBuffer",
  "Intl.DateTimeFormat",
  // A failure made once, because making one for each call would walk the stack for nothing.
  "Error",
]);

/** Finds every source file of ours below `root`, except generated ones, and returns path and text. */
export function findSources(root: string): Map<string, string> {
  const texts = new Map<string, string>();
  for (const place of ["proto", "sidecar", "control", "test", "k8s"]) gather(root, join(root, place), texts);
  for (const entry of readdirSync(root)) if (/\.[cm]?[jt]s$/.test(entry)) texts.set(entry, readFileSync(join(root, entry), "utf8"));
  return texts;
}

function gather(root: string, folder: string, texts: Map<string, string>): void {
  for (const entry of readEntries(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (entry.name !== "node_modules" && relative(root, path) !== join("proto", "gen")) gather(root, path, texts);
    } else if (/\.[cm]?[jt]sx?$/.test(entry.name)) {
      texts.set(relative(root, path).replaceAll("\\", "/"), readFileSync(path, "utf8"));
    }
  }
}

function readEntries(folder: string) {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}

/** Parses several trees of files in one run of the compiler, each file's path relative to its own tree. */
export function readSources(trees: readonly ReadonlyMap<string, string>[]): Map<string, Source>[] {
  const files: Record<string, string> = {
    "/house/tsconfig.json": JSON.stringify({
      compilerOptions: {
        noLib: true,
        noResolve: true,
        types: [],
        allowJs: true,
        module: "nodenext",
        allowImportingTsExtensions: true,
        noEmit: true,
      },
      include: ["**/*"],
    }),
  };
  trees.forEach((tree, index) => {
    for (const [path, text] of tree) files[`/house/${index}/${path}`] = text;
  });
  const api = new API({ cwd: "/house", fs: createVirtualFileSystem(files) });
  try {
    const [project] = api.updateSnapshot({ openProjects: ["/house/tsconfig.json"] }).getProjects();
    if (project === undefined) throw new Error("the compiler opened no project");
    return trees.map((tree, index) => {
      const sources = new Map<string, Source>();
      for (const path of tree.keys()) {
        const parsed = project.program.getSourceFile(`/house/${index}/${path}`);
        if (parsed === undefined) throw new Error(`the compiler did not read ${path}`);
        sources.set(path, readSource(path, parsed));
      }
      return sources;
    });
  } finally {
    api.close();
  }
}

function readSource(path: string, file: SourceFile): Source {
  const imports: Import[] = [];
  const effects: Finding[] = [];
  const globals: Finding[] = [];
  const words: Finding[] = [];
  const lineOf = (node: Node): number => file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1;

  const addImport = (from: Node | undefined, at: Node, typeOnly: boolean, dynamic: boolean): void => {
    if (from === undefined || !(isStringLiteral(from) || isNoSubstitutionTemplateLiteral(from))) return;
    imports.push({ specifier: from.text, target: resolveTarget(path, from.text), typeOnly, dynamic, line: lineOf(at) });
  };

  const visit = (node: Node): undefined => {
    if (isImportDeclaration(node)) {
      addImport(node.moduleSpecifier, node, isTypeOnlyImport(node), false);
    } else if (isExportDeclaration(node)) {
      addImport(node.moduleSpecifier, node, node.isTypeOnly, false);
    } else if (isImportTypeNode(node)) {
      if (isLiteralTypeNode(node.argument)) addImport(node.argument.literal, node, true, false);
    } else if (isCallExpression(node) && node.expression.kind === SyntaxKind.ImportKeyword) {
      addImport(node.arguments[0], node, false, true);
    } else if (isIdentifier(node)) {
      words.push({ text: node.text, line: lineOf(node) });
      if (watchedGlobals.has(node.text) && isValueUse(node)) {
        const parent = node.parent;
        const member = isPropertyAccessExpression(parent) && parent.expression === node ? `.${parent.name.text}` : "";
        globals.push({ text: `${node.text}${member}`, line: lineOf(node) });
      }
    } else if (isStringLiteral(node) || isNoSubstitutionTemplateLiteral(node) || isTemplatePiece(node)) {
      if (!isModuleSpecifier(node)) words.push({ text: (node as Node & { readonly text: string }).text, line: lineOf(node) });
    }
    node.forEachChild(visit);
    return undefined;
  };
  visit(file);

  for (const statement of file.statements) {
    const effect = effectOf(statement);
    if (effect !== undefined) effects.push({ text: effect, line: lineOf(statement) });
  }
  return { path, imports, effects, globals, words };
}

/** What a top-level statement does beside declaring, or undefined. */
function effectOf(statement: Node): string | undefined {
  switch (statement.kind) {
    case SyntaxKind.ImportDeclaration:
    case SyntaxKind.ExportDeclaration:
    case SyntaxKind.ExportAssignment:
    case SyntaxKind.InterfaceDeclaration:
    case SyntaxKind.TypeAliasDeclaration:
    case SyntaxKind.FunctionDeclaration:
    case SyntaxKind.ModuleDeclaration:
      return undefined;
    case SyntaxKind.ClassDeclaration:
      return findLoud(statement);
  }
  if (isVariableStatement(statement)) {
    const declared = statement.modifiers?.some((modifier) => modifier.kind === SyntaxKind.DeclareKeyword) ?? false;
    if (declared) return undefined;
    if ((statement.declarationList.flags & NodeFlags.Const) === 0) return "a variable that outlives every call";
    return findLoud(statement);
  }
  return isBlock(statement) ? "a block of statements" : `a statement that runs (${SyntaxKind[statement.kind]})`;
}

/** The first thing in the making of a constant that is more than making: a constructor not known to be quiet, or an await. */
function findLoud(node: Node): string | undefined {
  let found: string | undefined;
  const visit = (inner: Node): undefined => {
    if (found !== undefined || isFunctionLike(inner)) return undefined;
    if (inner.kind === SyntaxKind.AwaitExpression) found = "an await";
    else if (isNewExpression(inner)) {
      const name = inner.expression.getText();
      if (!quietConstructors.has(name)) found = `new ${name}`;
    }
    inner.forEachChild(visit);
    return undefined;
  };
  node.forEachChild(visit);
  return found;
}

/** Whether a node holds code that runs later, if at all. */
function isFunctionLike(node: Node): boolean {
  switch (node.kind) {
    case SyntaxKind.ArrowFunction:
    case SyntaxKind.FunctionExpression:
    case SyntaxKind.FunctionDeclaration:
    case SyntaxKind.MethodDeclaration:
    case SyntaxKind.Constructor:
    case SyntaxKind.GetAccessor:
    case SyntaxKind.SetAccessor:
      return true;
    case SyntaxKind.PropertyDeclaration:
      // A field is made with each instance; only a static one is made with the class.
      return !/\bstatic\b/.test(node.getText().split("=")[0] ?? "");
    default:
      return false;
  }
}

/** Whether an identifier reads the global: not a member's name, a declared name, a key or a type. */
function isValueUse(node: Node): boolean {
  const { parent } = node;
  if (isPropertyAccessExpression(parent)) return (parent.expression as Node) === node;
  switch (parent.kind) {
    case SyntaxKind.PropertyAssignment:
    case SyntaxKind.PropertyDeclaration:
    case SyntaxKind.PropertySignature:
    case SyntaxKind.MethodDeclaration:
    case SyntaxKind.MethodSignature:
    case SyntaxKind.Parameter:
    case SyntaxKind.VariableDeclaration:
    case SyntaxKind.BindingElement:
      return "initializer" in parent && parent.initializer === node;
    case SyntaxKind.TypeReference:
    case SyntaxKind.QualifiedName:
    case SyntaxKind.ExpressionWithTypeArguments:
    case SyntaxKind.ImportSpecifier:
    case SyntaxKind.ImportClause:
    case SyntaxKind.TypeQuery:
    case SyntaxKind.FunctionDeclaration:
    case SyntaxKind.InterfaceDeclaration:
    case SyntaxKind.TypeAliasDeclaration:
    case SyntaxKind.ClassDeclaration:
      return false;
    case SyntaxKind.BinaryExpression:
      // `x instanceof Date` asks what a value is; it reads no clock.
      return !("operatorToken" in parent && (parent.operatorToken as Node).kind === SyntaxKind.InstanceOfKeyword);
    default:
      return true;
  }
}

function isTypeOnlyImport(node: Node): boolean {
  return /^import\s+type\b/.test(node.getText());
}

function isTemplatePiece(node: Node): boolean {
  return node.kind === SyntaxKind.TemplateHead || node.kind === SyntaxKind.TemplateMiddle || node.kind === SyntaxKind.TemplateTail;
}

function isModuleSpecifier(node: Node): boolean {
  const { kind } = node.parent;
  return kind === SyntaxKind.ImportDeclaration || kind === SyntaxKind.ExportDeclaration || kind === SyntaxKind.LiteralType;
}

/** A specifier's target: a path below the root, a package's name, or a `node:` module. */
function resolveTarget(from: string, specifier: string): string {
  if (specifier.startsWith(".")) {
    const parts = from.split("/").slice(0, -1);
    for (const part of specifier.split("/")) {
      if (part === "..") parts.pop();
      else if (part !== ".") parts.push(part);
    }
    return parts.join("/");
  }
  if (specifier.startsWith("node:")) return specifier;
  const [first = "", second = ""] = specifier.split("/");
  return first.startsWith("@") ? `${first}/${second}` : first;
}
